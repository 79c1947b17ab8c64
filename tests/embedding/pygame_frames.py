"""pygame: `for _ in ask(call, print, tls)`, with a frame drawn each time. Leaves early if `on_event` returns true.
A thread connects. Everything else is tried once a frame: a step stays the same until its report or deadline."""

import socket
import ssl
import sys
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from time import monotonic

import pygame

from opchat_proto import Call, Channel, Connect, Done, Event, Live, Receive, Send, StartTLS, Wait


def ask(call: Call, on_event: Callable[[Event], object], tls: ssl.SSLContext) -> Generator[None, None, None]:
    with closing(call), ExitStack() as connection:
        while not (event := call.next_event()) or (not on_event(event) and isinstance(event, Live)):
            if event:
                continue
            step, until = call.next_step(monotonic())
            if isinstance(step, Connect | Wait | Done):
                connection.close()
            try:
                match step:
                    case Connect(host, port):
                        seconds, sent = min(until - monotonic(), 1e6), 0
                        opening = ThreadPoolExecutor(1).submit(socket.create_connection, (host, port), seconds)
                        while not opening.done():
                            yield
                        (wire := connection.enter_context(opening.result())).setblocking(False)
                    case StartTLS(name):
                        if not isinstance(wire, ssl.SSLSocket):
                            wire = tls.wrap_socket(wire, server_hostname=name, do_handshake_on_connect=False)
                            connection.callback(wire.close)
                        wire.do_handshake()
                    case Send(data):
                        while sent < len(data):
                            sent += wire.send(data[sent:])
                    case Receive():
                        call.receive_data(data) if (data := wire.recv(65536)) else call.receive_eof()
                    case Wait():
                        yield
                if isinstance(step, Connect | StartTLS | Send):
                    call.step_done()
                    sent = 0
            except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
                yield
            except (OSError, ValueError) as error:  # ValueError: not a name for DNS or TLS
                call.timed_out() if monotonic() >= until else call.step_failed(str(error))


if __name__ == "__main__":
    for _ in ask(Channel(sys.argv[1]).call("Hello!"), print, ssl.create_default_context()):
        pygame.time.wait(16)  # or draw, handle events, and keep your own pace
