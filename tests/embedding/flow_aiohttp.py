"""aiohttp drives a `Flow`: `await ask(flow, print, tls)`.

What is true of `on_event` leaves early, as does a cancellation. `seconds` bound each wait.
"""

import asyncio
import ssl
from collections.abc import Callable

import aiohttp

from opchat_proto import Event, Flow, Reason


async def ask(flow: Flow, on_event: Callable[[Event], object], tls: ssl.SSLContext, seconds: float = 120.0) -> None:
    async with aiohttp.ClientSession(
        auto_decompress=False,
        connector=aiohttp.TCPConnector(force_close=True),  # it does not look whether a kept connection was closed
        cookie_jar=aiohttp.DummyCookieJar(),  # those of the flow are enough
        timeout=aiohttp.ClientTimeout(total=None),  # ours is enough
    ) as http:
        while request := flow.next_request():
            try:
                async with asyncio.timeout(seconds) as clock:
                    async with http.request(
                        request.method,
                        request.url,
                        headers=dict(request.headers),
                        data=request.body,
                        allow_redirects=False,
                        ssl=tls,
                    ) as response:
                        if any(map(on_event, flow.receive_head(response.status, response.raw_headers))):
                            return
                        async for data in response.content.iter_any():
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
            except aiohttp.ClientResponseError as error:
                events = flow.receive_failure(f"HTTP: {error.message}", Reason.TRUNCATED)
            except aiohttp.ClientError as error:
                events = flow.receive_failure(str(error) or repr(error))
            if any(map(on_event, events)):
                return
