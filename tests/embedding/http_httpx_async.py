"""The `AsyncClient` of httpx, or of httpx2 by its name, on asyncio: `await ask(call, print, httpx.AsyncClient(...))`.
Leaves early if `on_event` returns true, or when cancelled. The client is closed at the end."""

import asyncio
import sys
from collections.abc import Callable
from contextlib import AsyncExitStack, closing

import httpx

from opchat_proto import Channel, Event, HTTPCall, Live, Receive, Request, Wait


async def ask(call: HTTPCall, on_event: Callable[[Event], object], http: httpx.AsyncClient) -> None:
    with closing(call):
        async with http, AsyncExitStack() as opened:
            while True:
                while event := call.next_event():
                    if on_event(event) or not isinstance(event, Live):
                        return
                step, until = call.next_step(asyncio.get_running_loop().time())
                if not isinstance(step, Receive):
                    await opened.aclose()
                try:
                    async with asyncio.timeout_at(until) as clock:
                        match step:
                            case Request(method, url, headers, body):
                                request = http.build_request(method, url, headers=headers, content=body, timeout=None)
                                response = await http.send(request, stream=True, follow_redirects=False)
                                opened.push_async_callback(response.aclose)
                                call.receive_head(response.status_code, response.headers.multi_items())
                                pieces = response.aiter_raw()
                            case Receive():
                                call.receive_data(data) if (data := await anext(pieces, b"")) else call.receive_eof()
                            case Wait(signal):
                                await signal.wait()
                except (TimeoutError, httpx.HTTPError, httpx.InvalidURL) as error:
                    sent = not isinstance(error, httpx.ConnectError)
                    call.timed_out() if clock.expired() else call.step_failed(str(error) or repr(error), sent=sent)


if __name__ == "__main__":
    client = httpx.AsyncClient(limits=httpx.Limits(max_keepalive_connections=0))
    asyncio.run(ask(Channel(sys.argv[1], signal=asyncio.Event).http_call("Hello!"), print, client))
