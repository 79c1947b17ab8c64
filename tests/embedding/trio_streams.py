"""trio: `await ask(call, print, tls)`. Leaves early if `on_event` returns true, or when cancelled."""

import ssl
import sys
from collections.abc import Callable
from contextlib import ExitStack, closing

import trio

from opchat_proto import Call, Channel, Connect, Done, Event, Live, Receive, Send, StartTLS, Wait


async def ask(call: Call, on_event: Callable[[Event], object], tls: ssl.SSLContext) -> None:
    with closing(call), ExitStack() as connection:
        while True:
            while event := call.next_event():
                if on_event(event) or not isinstance(event, Live):
                    return
            step, until = call.next_step(trio.current_time())
            if isinstance(step, Connect | Wait | Done):
                connection.close()
            try:
                with trio.fail_at(until):
                    match step:
                        case Connect(host, port):
                            stream: trio.abc.Stream = (tcp := await trio.open_tcp_stream(host, port))
                            connection.callback(tcp.socket.close)
                        case StartTLS(name):
                            stream = trio.SSLStream(stream, tls, server_hostname=name)
                            await stream.do_handshake()
                        case Send(out):
                            await stream.send_all(out)
                        case Receive():
                            data = await stream.receive_some()
                            call.receive_data(data) if data else call.receive_eof()
                        case Wait(signal):
                            await signal.wait()
                if isinstance(step, Connect | StartTLS | Send):
                    call.step_done()
            except (trio.TooSlowError, trio.BrokenResourceError, OSError, ValueError) as error:  # the last: bad names
                call.timed_out() if trio.current_time() >= until else call.step_failed(str(error.__cause__ or error))


if __name__ == "__main__":
    trio.run(ask, Channel(sys.argv[1], signal=trio.Event).call("Hello!"), print, ssl.create_default_context())
