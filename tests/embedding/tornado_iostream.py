"""Tornado's IOStream: `await ask(call, print, tls)`. Leaves early if `on_event` returns true, or when cancelled."""

import asyncio
import ssl
import sys
from collections.abc import Callable
from contextlib import ExitStack, closing

from tornado.tcpclient import TCPClient

from opchat_proto import Call, Channel, Connect, Done, Event, Live, Receive, Send, StartTLS, Wait


async def ask(call: Call, on_event: Callable[[Event], object], tls: ssl.SSLContext) -> None:
    with closing(call), ExitStack() as connection:
        while True:
            while event := call.next_event():
                if on_event(event) or not isinstance(event, Live):
                    return
            step, until = call.next_step(asyncio.get_running_loop().time())
            if isinstance(step, Connect | Wait | Done):
                connection.close()
            try:
                async with asyncio.timeout_at(until) as clock:
                    match step:
                        case Connect(host, port):
                            connection.callback((stream := await TCPClient().connect(host, port)).close)
                        case StartTLS(name):
                            connection.pop_all()  # Tornado closes it if the handshake fails
                            connection.callback((stream := await stream.start_tls(False, tls, name)).close)
                        case Send(data):
                            await stream.write(data)
                        case Receive():
                            call.receive_data(await stream.read_bytes(65536, partial=True))
                        case Wait(signal):
                            await signal.wait()
                if isinstance(step, Connect | StartTLS | Send):
                    call.step_done()
            except (OSError, ValueError) as error:  # ValueError: not a name for DNS or TLS
                cause = getattr(error, "real_error", error)  # None: the peer has closed the connection
                call.timed_out() if clock.expired() else call.step_failed(str(cause)) if cause else call.receive_eof()


if __name__ == "__main__":
    asyncio.run(ask(Channel(sys.argv[1], signal=asyncio.Event).call("Hello!"), print, ssl.create_default_context()))
