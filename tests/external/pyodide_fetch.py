"""In a browser's page, Pyodide's `fetch` drives a `Flow`: `await ask(flow, print)`. Cookies and Origin are the page's.

What is true of `on_event` leaves early, as does a cancellation. `seconds` bound each wait.
"""

import asyncio
from collections.abc import Callable

from js import AbortController, Object, fetch
from pyodide.ffi import JsException, to_js

from opchat_proto import Event, Flow, Reason

INFLATED = {"content-encoding", "content-length"}  # these describe what came, not what fetch gives


async def ask(flow: Flow, on_event: Callable[[Event], object], seconds: float = 120.0) -> None:
    while request := flow.next_request():
        abort = AbortController.new()
        how = {
            "method": request.method,
            "headers": dict(request.headers),  # of which fetch leaves out what is the browser's to say
            "body": request.body,
            "redirect": "error",
            "cache": "no-store",
            "signal": abort.signal,
        }
        try:
            async with asyncio.timeout(seconds) as clock:
                response = await fetch(request.url, to_js(how, dict_converter=Object.fromEntries))
                head = [(name, value) for name, value in response.headers if name not in INFLATED]
                if any(map(on_event, flow.receive_head(response.status, head))):
                    return
                reader = response.body.getReader()
                while flow.awaiting and not (piece := await reader.read()).done:
                    events = flow.receive_data(piece.value.to_bytes())
                    if any(map(on_event, events)):
                        return
                    if events:
                        clock.reschedule(asyncio.get_running_loop().time() + seconds)
                events = flow.receive_eof()
        except TimeoutError:
            events = flow.receive_failure(f"nothing for {seconds} seconds", Reason.TIMEOUT)
        except JsException as error:
            events = flow.receive_failure(str(error))
        finally:
            abort.abort()
        if any(map(on_event, events)):
            return
