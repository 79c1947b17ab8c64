"""GLib's main loop, and so GTK: `run(ask(call, print, tls))`. Leaves early if `on_event` returns true.
Only GLib waits. Threads connect. Every 0.05 s it checks them, and the calls that wait for each other."""

import socket
import ssl
import sys
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from time import monotonic
from typing import Any

from gi.repository import GLib

from opchat_proto import Call, Channel, Connect, Done, Event, Live, Receive, Send, StartTLS, Wait

Asking = Generator[Any, None, Any]  # (socket, events, deadline), or None: ask again soon
READ, WRITE, threads = GLib.IO_IN | GLib.IO_HUP, GLib.IO_OUT | GLib.IO_ERR, ThreadPoolExecutor()


def perform(wire: socket.socket, event: int, until: float, do: Callable[..., Any], *given: object) -> Asking:
    while monotonic() < until:
        try:
            return do(*given)
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError) as error:
            yield wire, WRITE if isinstance(error, ssl.SSLWantWriteError) else event, until
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
                        yield from perform(wire, READ, until, wire.do_handshake)
                    case Send(data):
                        while data:
                            data = data[(yield from perform(wire, WRITE, until, wire.send, data)) :]
                    case Receive():
                        data = yield from perform(wire, READ, until, wire.recv, 65536)
                        call.receive_data(data) if data else call.receive_eof()
                    case Wait():
                        yield None
                if isinstance(step, Connect | StartTLS | Send):
                    call.step_done()
            except (OSError, ValueError) as error:  # ValueError: not a name for DNS or TLS
                call.timed_out() if monotonic() >= until else call.step_failed(str(error))


def run(asking: Asking, over: Callable[[], object] = lambda: None) -> None:
    def proceed(*_: object) -> bool:
        list(map(GLib.source_remove, sources))
        run(asking, over)
        return bool(GLib.SOURCE_REMOVE)

    for wish in asking:
        sources = [GLib.timeout_add(1 + int(1000 * min(wish[2] - monotonic(), 1e6)) if wish else 50, proceed)]
        if wish:
            sources.append(GLib.io_add_watch(wish[0].fileno(), GLib.PRIORITY_DEFAULT, wish[1], proceed))
        return
    over()


if __name__ == "__main__":
    loop = GLib.MainLoop()
    run(ask(Channel(sys.argv[1]).call("Hello!"), print, ssl.create_default_context()), lambda: GLib.idle_add(loop.quit))
    loop.run()
