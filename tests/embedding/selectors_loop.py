"""`selectors`, many on one thread: `run(ask(call, print, tls), ...)`. Leaves early if `on_event` returns true.
Only `select` waits. Threads connect. Every 0.05 s it checks them, and the calls that wait for each other."""

import selectors
import socket
import ssl
import sys
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from math import inf
from time import monotonic
from typing import Any

from opchat_proto import Call, Channel, Connect, Done, Event, Live, Receive, Send, StartTLS, Wait

Asking = Generator[Any, None, Any]  # (socket, events, deadline), or None: ask again soon
threads = ThreadPoolExecutor()


def perform(wire: socket.socket, event: int, until: float, do: Callable[..., Any], *given: object) -> Asking:
    while monotonic() < until:
        try:
            return do(*given)
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError) as error:
            yield wire, selectors.EVENT_WRITE if isinstance(error, ssl.SSLWantWriteError) else event, until
    raise TimeoutError


def ask(call: Call, on_event: Callable[[Event], object], tls: ssl.SSLContext) -> Asking:
    with closing(call), ExitStack() as opened:
        while not (event := call.next_event()) or (not on_event(event) and isinstance(event, Live)):
            if event:
                continue
            step, until = call.next_step(monotonic())
            if isinstance(step, Connect | Wait | Done):
                opened.close()
            try:
                match step:
                    case Connect(host, port):
                        opening = threads.submit(socket.create_connection, (host, port), min(until - monotonic(), 1e6))
                        while not opening.done():
                            yield None
                        (wire := opened.enter_context(opening.result())).setblocking(False)
                    case StartTLS(name):
                        wire = tls.wrap_socket(wire, server_hostname=name, do_handshake_on_connect=False)
                        opened.callback(wire.close)
                        yield from perform(wire, selectors.EVENT_READ, until, wire.do_handshake)
                    case Send(data):
                        while data:
                            data = data[(yield from perform(wire, selectors.EVENT_WRITE, until, wire.send, data)) :]
                    case Receive():
                        data = yield from perform(wire, selectors.EVENT_READ, until, wire.recv, 65536)
                        call.receive_data(data) if data else call.receive_eof()
                    case Wait():
                        yield None
                if isinstance(step, Connect | StartTLS | Send):
                    call.step_done()
            except (OSError, ValueError) as error:  # ValueError: not a name for DNS or TLS
                call.timed_out() if monotonic() >= until else call.step_failed(str(error))


def run(*questions: Asking) -> None:
    selector, due = selectors.DefaultSelector(), list(questions)
    while due or selector.get_map():
        wishes: dict[Asking, Any] = {question: wish for question in due if (wish := next(question, False)) is not False}
        for question, wish in wishes.items():
            if wish:
                selector.register(wish[0], wish[1], (wish[2], question))
        soon = [question for question, wish in wishes.items() if not wish]
        keys = list(selector.get_map().values())
        first = min([key.data[0] for key in keys], default=inf)
        seconds = min(first - monotonic(), 0.05 if soon else 1e6 if keys else 0)
        ready = [key for key, _ in selector.select(seconds)]
        over = [key for key in keys if key in ready or key.data[0] <= monotonic()]
        due = soon + [selector.unregister(key.fileobj).data[1] for key in over]


if __name__ == "__main__":
    run(ask(Channel(sys.argv[1]).call("Hello!"), print, ssl.create_default_context()))
