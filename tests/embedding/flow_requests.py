"""requests drives a `Flow`: `with requests.Session() as http: ask(flow, print, http)`.

What is true of `on_event` leaves early. `seconds` bound each wait, or with comments twice that.
"""

from collections.abc import Callable
from time import monotonic

import requests
from urllib3.exceptions import HTTPError, TimeoutError

from opchat_proto import Event, Flow, Reason


def ask(flow: Flow, on_event: Callable[[Event], object], http: requests.Session, seconds: float = 120.0) -> None:
    while request := flow.next_request():
        deadline = monotonic() + seconds
        try:
            with http.request(
                request.method,
                request.url,
                headers=dict(request.headers),
                data=request.body,
                timeout=seconds,
                allow_redirects=False,
                stream=True,
            ) as response:
                if any(map(on_event, flow.receive_head(response.status_code, response.raw.headers.items()))):
                    return
                while flow.awaiting and (data := response.raw.read1(65536, decode_content=False)):
                    events = flow.receive_data(data)
                    if any(map(on_event, events)):
                        return
                    if events:
                        deadline = monotonic() + seconds
                    elif monotonic() > deadline:  # comments, or a piece of an event now and then
                        raise TimeoutError
                events = flow.receive_eof()
        except (requests.Timeout, TimeoutError):
            events = flow.receive_failure(f"nothing for {seconds} seconds", Reason.TIMEOUT)
        except (requests.RequestException, HTTPError) as error:
            events = flow.receive_failure(str(error))
        if any(map(on_event, events)):
            return
