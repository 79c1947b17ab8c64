"""httpx, or httpx2 by its name: `with httpx.Client(...) as http: ask(call, print, http)`. Leaves early if `on_event`
returns true. A stalled read ends at the deadline of its request, since httpx has one timeout for all reads."""

import sys
import threading
from collections.abc import Callable
from contextlib import ExitStack, closing
from time import monotonic

import httpx

from opchat_proto import Channel, Event, HTTPCall, Live, Receive, Request, Wait


def ask(call: HTTPCall, on_event: Callable[[Event], object], http: httpx.Client) -> None:
    with closing(call), ExitStack() as opened:
        while True:
            while event := call.next_event():
                if on_event(event) or not isinstance(event, Live):
                    return
            step, until = call.next_step(monotonic())
            within = max(0.001, min(until - monotonic(), 1e6))
            if not isinstance(step, Receive):
                opened.close()
            try:
                match step:
                    case Request(method, url, headers, body):
                        request = http.build_request(method, url, headers=headers, content=body, timeout=within)
                        response = http.send(request, stream=True, follow_redirects=False)
                        opened.callback(response.close)
                        call.receive_head(response.status_code, response.headers.multi_items())
                        pieces = response.iter_raw()
                    case Receive():
                        call.receive_data(data) if (data := next(pieces, b"")) else call.receive_eof()
                    case Wait(signal):
                        signal.wait(within)
            except httpx.TimeoutException:
                call.timed_out()
            except (httpx.HTTPError, httpx.InvalidURL) as error:
                call.step_failed(str(error) or repr(error), sent=not isinstance(error, httpx.ConnectError))


if __name__ == "__main__":
    with httpx.Client(limits=httpx.Limits(max_keepalive_connections=0)) as client:
        ask(Channel(sys.argv[1], signal=threading.Event).http_call("Hello!"), print, client)
