"""asyncio's streams: `await ask(call, print, tls)`. Leaves early if `on_event` returns true, or when cancelled.
In old CPythons (issue 142352), bytes before TLS appear to come from inside it; not so in `asyncio_protocol`."""

import asyncio
import ssl
import sys
from collections.abc import Callable
from contextlib import ExitStack, closing

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
                            reader, writer = await asyncio.open_connection(host, port)
                            connection.callback(writer.transport.abort)
                        case StartTLS(name):
                            await writer.start_tls(tls, server_hostname=name)
                            connection.callback(writer.transport.abort)  # another one
                        case Send(data):
                            writer.write(data)
                            await writer.drain()
                        case Receive():
                            call.receive_data(data) if (data := await reader.read(65536)) else call.receive_eof()
                        case Wait(signal):
                            await signal.wait()
                if isinstance(step, Connect | StartTLS | Send):
                    call.step_done()
            except (OSError, ValueError) as error:  # ValueError: not a name for DNS or TLS
                call.timed_out() if clock.expired() else call.step_failed(str(error))


if __name__ == "__main__":
    asyncio.run(ask(Channel(sys.argv[1], signal=asyncio.Event).call("Hello!"), print, ssl.create_default_context()))
