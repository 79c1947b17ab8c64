"""urllib3 drives a `Flow`: `ask(flow, print, urllib3.PoolManager())`.

What is true of `on_event` leaves early. `seconds` bound each wait, or with comments twice that.
"""

from collections.abc import Callable
from time import monotonic

from urllib3 import PoolManager
from urllib3.exceptions import HTTPError, NewConnectionError, TimeoutError

from opchat_proto import Event, Flow, Reason


def ask(flow: Flow, on_event: Callable[[Event], object], pool: PoolManager, seconds: float = 120.0) -> None:
    while request := flow.next_request():
        deadline = monotonic() + seconds
        try:
            response = pool.request(
                request.method,
                request.url,
                headers=dict(request.headers),
                body=request.body,
                timeout=seconds,
                redirect=False,
                retries=False,  # a question is asked once
                preload_content=False,
            )
            try:
                if any(map(on_event, flow.receive_head(response.status, response.headers.items()))):
                    return
                while flow.awaiting and (data := response.read1(65536, decode_content=False)):
                    events = flow.receive_data(data)
                    if any(map(on_event, events)):
                        return
                    if events:
                        deadline = monotonic() + seconds
                    elif monotonic() > deadline:  # comments, or a piece of an event now and then
                        raise TimeoutError
                events = flow.receive_eof()
            finally:
                response.close()
        except NewConnectionError as error:  # urllib3 calls it a TimeoutError, too
            events = flow.receive_failure(str(error))
        except TimeoutError:
            events = flow.receive_failure(f"nothing for {seconds} seconds", Reason.TIMEOUT)
        except HTTPError as error:
            events = flow.receive_failure(str(error))
        if any(map(on_event, events)):
            return
