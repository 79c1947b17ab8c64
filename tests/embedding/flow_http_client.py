"""`http.client` of the standard library drives a `Flow`: `ask(flow, print, tls)`, with a connection for each request.

What is true of `on_event` leaves early. `seconds` bound each wait, or with comments twice that.
"""

import ssl
from collections.abc import Callable
from http.client import HTTPConnection, HTTPException, HTTPSConnection, IncompleteRead
from time import monotonic

from opchat_proto import Event, Flow, Reason


def ask(flow: Flow, on_event: Callable[[Event], object], tls: ssl.SSLContext, seconds: float = 120.0) -> None:
    host, port = flow.endpoint.host, flow.endpoint.port
    while request := flow.next_request():
        connection = HTTPConnection(host, port, timeout=seconds)
        if flow.endpoint.scheme == "https":
            connection = HTTPSConnection(host, port, timeout=seconds, context=tls)
        deadline = monotonic() + seconds
        try:
            connection.request(request.method, request.target, request.body, dict(request.headers))
            response = connection.getresponse()
            if any(map(on_event, flow.receive_head(response.status, response.getheaders()))):
                return
            while flow.awaiting and (data := response.read1(65536)):
                events = flow.receive_data(data)
                if any(map(on_event, events)):
                    return
                if events:
                    deadline = monotonic() + seconds
                elif monotonic() > deadline:  # comments, or a piece of an event now and then
                    raise TimeoutError("no event in time")
            if flow.awaiting and response.length:  # http.client says nothing
                raise IncompleteRead(b"", response.length)
            events = flow.receive_eof()
        except TimeoutError:
            events = flow.receive_failure(f"nothing for {seconds} seconds", Reason.TIMEOUT)
        except (OSError, UnicodeError) as error:  # UnicodeError: a name that the DNS cannot have
            events = flow.receive_failure(str(error))
        except HTTPException as error:
            events = flow.receive_failure(f"HTTP: {error!r}", Reason.TRUNCATED)
        finally:
            connection.close()
        if any(map(on_event, events)):
            return
