"""pygame's frame loop: `play(ask(call, print, tls))`. What is true of `on_event` leaves early.
A thread connects; all else is tried at each frame, and waits for no other frame. A call that waits asks again, too."""

import socket
import ssl
import sys
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from time import monotonic
from typing import Any

import pygame

from opchat_proto import Call, Channel, Connect, Done, Event, Live, Receive, Send, StartTLS, Wait

Asking = Generator[None, None, Any]
threads = ThreadPoolExecutor()


def perform(until: float, do: Callable[..., Any], *given: object) -> Asking:
    while monotonic() < until:
        try:
            return do(*given)
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            yield
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
                            yield
                        (wire := opened.enter_context(opening.result())).setblocking(False)
                    case StartTLS(name):
                        wire = tls.wrap_socket(wire, server_hostname=name, do_handshake_on_connect=False)
                        opened.callback(wire.close)
                        yield from perform(until, wire.do_handshake)
                    case Send(data):
                        while data:
                            data = data[(yield from perform(until, wire.send, data)) :]
                    case Receive():
                        data = yield from perform(until, wire.recv, 65536)
                        call.receive_data(data) if data else call.receive_eof()
                    case Wait():
                        yield
                if isinstance(step, Connect | StartTLS | Send):
                    call.step_done()
            except (OSError, ValueError) as error:  # ValueError: a name that DNS or TLS cannot have
                call.timed_out() if monotonic() >= until else call.step_failed(str(error))


def play(asking: Asking) -> None:
    for _ in asking:
        if pygame.event.get(pygame.QUIT):
            asking.close()
        pygame.time.wait(16)  # or draw, and keep your own time


if __name__ == "__main__":
    pygame.display.set_mode((64, 64))
    play(ask(Channel(sys.argv[1]).call("Hello!"), print, ssl.create_default_context()))
