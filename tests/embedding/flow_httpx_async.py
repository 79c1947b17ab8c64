"""httpx's `AsyncClient` drives a `Flow` on asyncio: `await ask(flow, print, http)`; httpx2 by its name.

What is true of `on_event` leaves early, as does a cancellation. `seconds` bound each wait.
"""

import asyncio
from collections.abc import Callable

import httpx

from opchat_proto import Event, Flow, Reason


async def ask(flow: Flow, on_event: Callable[[Event], object], http: httpx.AsyncClient, seconds: float = 120.0) -> None:
    while request := flow.next_request():
        try:
            async with asyncio.timeout(seconds) as clock:
                async with http.stream(
                    request.method,
                    request.url,
                    headers=request.headers,
                    content=request.body,
                    timeout=None,
                    follow_redirects=False,
                ) as response:
                    if any(map(on_event, flow.receive_head(response.status_code, response.headers.multi_items()))):
                        return
                    async for data in response.aiter_raw():
                        events = flow.receive_data(data)
                        if any(map(on_event, events)):
                            return
                        if not flow.awaiting:
                            break
                        if events:
                            clock.reschedule(asyncio.get_running_loop().time() + seconds)
                    events = flow.receive_eof()
        except TimeoutError:
            events = flow.receive_failure(f"nothing for {seconds} seconds", Reason.TIMEOUT)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            events = flow.receive_failure(str(error) or repr(error))
        if any(map(on_event, events)):
            return
