"""gevent: `gevent.spawn(ask, call, print, gevent.ssl.create_default_context())`, without monkey-patching.
Leaves early if `on_event` returns true, or when the greenlet is killed."""

import sys
from collections.abc import Callable
from contextlib import ExitStack, closing
from math import inf
from time import monotonic

import gevent.event
from gevent import socket, ssl

from opchat_proto import Call, Channel, Connect, Done, Event, Live, Receive, Send, StartTLS, Wait


def ask(call: Call, on_event: Callable[[Event], object], tls: ssl.SSLContext) -> None:
    with closing(call), ExitStack() as connection:
        while True:
            while event := call.next_event():
                if on_event(event) or not isinstance(event, Live):
                    return
            step, until = call.next_step(monotonic())
            if isinstance(step, Connect | Wait | Done):
                connection.close()
            try:
                with gevent.Timeout(None if until == inf else until - monotonic(), late := TimeoutError()):
                    match step:
                        case Connect(host, port):
                            wire = connection.enter_context(socket.create_connection((host, port)))
                        case StartTLS(name):
                            wire = connection.enter_context(tls.wrap_socket(wire, server_hostname=name))
                        case Send(data):
                            wire.sendall(data)
                        case Receive():
                            call.receive_data(data) if (data := wire.recv(65536)) else call.receive_eof()
                        case Wait(signal):
                            signal.wait()
                if isinstance(step, Connect | StartTLS | Send):
                    call.step_done()
            except (OSError, ValueError) as error:  # ValueError: not a name for DNS or TLS
                call.timed_out() if error is late else call.step_failed(str(error))


if __name__ == "__main__":
    ask(Channel(sys.argv[1], signal=gevent.event.Event).call("Hello!"), print, ssl.create_default_context())
