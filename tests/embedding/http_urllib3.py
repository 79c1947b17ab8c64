"""urllib3: `ask(call, print, tls)`, with a pool for each request. Leaves early if `on_event` returns true.
A stalled read ends at the deadline of its request, since urllib3 has one timeout for all reads."""

import ssl
import sys
import threading
from collections.abc import Callable
from contextlib import ExitStack, closing
from time import monotonic

from urllib3 import PoolManager
from urllib3.exceptions import HTTPError, NewConnectionError, TimeoutError

from opchat_proto import Channel, Event, HTTPCall, Live, Receive, Request, Wait


def ask(call: HTTPCall, on_event: Callable[[Event], object], tls: ssl.SSLContext) -> None:
    with closing(call), ExitStack() as opened:
        while not (event := call.next_event()) or (not on_event(event) and isinstance(event, Live)):
            if event:
                continue
            step, until = call.next_step(monotonic())
            within = max(0.001, min(until - monotonic(), 1e6))
            if not isinstance(step, Receive):
                opened.close()
            try:
                match step:
                    case Request(method, url, headers, body):
                        pools = PoolManager(ssl_context=tls, timeout=within, retries=False)
                        opened.callback((pool := pools.connection_from_url(url)).close)
                        response = pool.urlopen(method, step.target, body, dict(headers), preload_content=False)
                        opened.callback(response.close)
                        call.receive_head(response.status, response.headers.items())
                    case Receive():
                        data = response.read1(65536, decode_content=False)
                        call.receive_data(data) if data else call.receive_eof()
                    case Wait(signal):
                        signal.wait(within)
            except HTTPError as error:
                out = not isinstance(error, NewConnectionError)  # urllib3 reports it as a TimeoutError too
                call.timed_out() if out and isinstance(error, TimeoutError) else call.step_failed(str(error), sent=out)


if __name__ == "__main__":
    ask(Channel(sys.argv[1], signal=threading.Event).http_call("Hello!"), print, ssl.create_default_context())
