"""In a browser's page, Pyodide's `fetch`: `await ask(call, print)`. Leaves early if `on_event` returns true, or when
cancelled. Cookies and Origin are the page's. `fetch` does not say whether a failed request was sent."""

import asyncio
from collections.abc import Callable
from contextlib import ExitStack, closing

from js import AbortController, Object, fetch
from pyodide.ffi import JsException, to_js

from opchat_proto import Event, HTTPCall, Live, Receive, Request, Wait

INFLATED = {"content-encoding", "content-length"}  # these describe the bytes on the wire, not those that fetch returns


async def ask(call: HTTPCall, on_event: Callable[[Event], object]) -> None:
    with closing(call), ExitStack() as opened:
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
                            abort = AbortController.new()
                            opened.callback(abort.abort)
                            how = {"method": method, "headers": dict(headers), "body": body, "signal": abort.signal}
                            how |= {"redirect": "error", "cache": "no-store"}
                            response = await fetch(url, to_js(how, dict_converter=Object.fromEntries))
                            head = [(name, value) for name, value in response.headers if name not in INFLATED]
                            call.receive_head(response.status, head)
                            reader = response.body.getReader()
                        case Receive():
                            piece = await reader.read()
                            call.receive_eof() if piece.done else call.receive_data(piece.value.to_bytes())
                        case Wait(signal):
                            await signal.wait()
            except (TimeoutError, JsException) as error:
                call.timed_out() if clock.expired() else call.step_failed(str(error))
