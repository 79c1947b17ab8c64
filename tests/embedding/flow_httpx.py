"""httpx drives a `Flow`: `with httpx.Client(...) as http: ask(flow, print, http)`; httpx2 by its name.

What is true of `on_event` leaves early. `seconds` bound each wait, or with comments twice that.
"""

from collections.abc import Callable
from time import monotonic

import httpx

from opchat_proto import Event, Flow, Reason


def ask(flow: Flow, on_event: Callable[[Event], object], http: httpx.Client, seconds: float = 120.0) -> None:
    while request := flow.next_request():
        deadline = monotonic() + seconds
        try:
            with http.stream(
                request.method,
                request.url,
                headers=request.headers,
                content=request.body,
                timeout=seconds,
                follow_redirects=False,
            ) as response:
                if any(map(on_event, flow.receive_head(response.status_code, response.headers.multi_items()))):
                    return
                for data in response.iter_raw():
                    events = flow.receive_data(data)
                    if any(map(on_event, events)):
                        return
                    if not flow.awaiting:
                        break
                    if events:
                        deadline = monotonic() + seconds
                    elif monotonic() > deadline:  # comments, or a piece of an event now and then
                        raise httpx.ReadTimeout("no event in time")
                events = flow.receive_eof()
        except httpx.TimeoutException:
            events = flow.receive_failure(f"nothing for {seconds} seconds", Reason.TIMEOUT)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            events = flow.receive_failure(str(error) or repr(error))
        if any(map(on_event, events)):
            return
