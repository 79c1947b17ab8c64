"""aiohttp: `await ask(call, print, tls)`. Leaves early if `on_event` returns true, or when cancelled."""

import asyncio
import ssl
import sys
from collections.abc import Callable
from contextlib import ExitStack, closing

import aiohttp

from opchat_proto import Channel, Event, HTTPCall, Live, Receive, Request, Wait


async def ask(call: HTTPCall, on_event: Callable[[Event], object], tls: ssl.SSLContext | bool = True) -> None:
    wires, forever = aiohttp.TCPConnector(force_close=True), aiohttp.ClientTimeout(total=None)
    with closing(call), ExitStack() as opened:
        async with aiohttp.ClientSession(connector=wires, timeout=forever, cookie_jar=aiohttp.DummyCookieJar()) as http:
            while True:
                while event := call.next_event():
                    if on_event(event) or not isinstance(event, Live):
                        return
                step, until = call.next_step(asyncio.get_running_loop().time())
                if not isinstance(step, Receive):
                    opened.close()
                try:
                    async with asyncio.timeout_at(until) as clock:
                        match step:
                            case Request(method, url, headers, body):
                                request = http.request(
                                    method, url, headers=dict(headers), data=body, allow_redirects=False, ssl=tls
                                )
                                opened.callback((response := await request).close)
                                call.receive_head(response.status, response.raw_headers)
                            case Receive():
                                data = await response.content.readany()
                                call.receive_data(data) if data else call.receive_eof()
                            case Wait(signal):
                                await signal.wait()
                except (TimeoutError, aiohttp.ClientError) as error:
                    sent = not isinstance(error, aiohttp.ClientConnectorError)
                    call.timed_out() if clock.expired() else call.step_failed(str(error) or repr(error), sent=sent)


if __name__ == "__main__":
    asyncio.run(ask(Channel(sys.argv[1], signal=asyncio.Event).http_call("Hello!"), print))
