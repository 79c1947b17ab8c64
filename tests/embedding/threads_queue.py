"""Threads: `Thread(target=ask, args=(call, queue.put, tls)).start()`, `call.close()` leaves (with `lock=RLock()`)."""

import socket
import ssl
import sys
import threading
from collections.abc import Callable
from contextlib import ExitStack, closing
from time import monotonic

from opchat_proto import Call, Channel, Connect, Done, Event, Live, Receive, Send, StartTLS, Wait


def ask(call: Call, on_event: Callable[[Event], object], tls: ssl.SSLContext) -> None:
    with closing(call), ExitStack() as connection, socket.socket() as wire:
        while not (event := call.next_event()) or (not on_event(event) and isinstance(event, Live)):
            if event:
                continue
            step, until = call.next_step(monotonic())
            seconds = max(0.001, min(until - monotonic(), 0.1 if step == Receive() else 1e6))  # closed?
            if isinstance(step, Connect | Wait | Done):
                connection.close()
            else:
                wire.settimeout(seconds)
            try:
                match step:
                    case Connect(host, port):
                        wire = connection.enter_context(socket.create_connection((host, port), seconds))
                    case StartTLS(name):
                        wire = connection.enter_context(tls.wrap_socket(wire, server_hostname=name))
                    case Send(data):
                        wire.sendall(data)
                    case Receive():
                        call.receive_data(data) if (data := wire.recv(65536)) else call.receive_eof()
                    case Wait(signal):
                        signal.wait(seconds)
                if isinstance(step, Connect | StartTLS | Send):
                    call.step_done()
            except (OSError, ValueError) as error:  # ValueError: not a name for DNS or TLS
                if not isinstance(error, TimeoutError) or error.errno:  # `next_step` looks at the clock itself
                    call.step_failed(str(error))


if __name__ == "__main__":
    ask(Channel(sys.argv[1], signal=threading.Event).call("Hello!"), print, ssl.create_default_context())
