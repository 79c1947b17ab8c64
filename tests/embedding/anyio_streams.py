"""anyio on asyncio or trio: `await ask(call, print, tls)`. Leaves early if `on_event` returns true or if cancelled."""

import ssl
import sys
from collections.abc import Callable
from contextlib import AsyncExitStack, closing

import anyio.streams.tls

from opchat_proto import Call, Channel, Connect, Done, Event, Live, Receive, Send, StartTLS, Wait


async def ask(call: Call, on_event: Callable[[Event], object], tls: ssl.SSLContext) -> None:
    with closing(call):
        async with AsyncExitStack() as connection:
            while not (event := call.next_event()) or (not on_event(event) and isinstance(event, Live)):
                if event:
                    continue
                step, until = call.next_step(anyio.current_time())
                if isinstance(step, Connect | Wait | Done):
                    await connection.aclose()
                try:
                    with anyio.fail_after(until - anyio.current_time()) as clock:
                        match step:
                            case Connect(host, port):
                                tcp = await connection.enter_async_context(await anyio.connect_tcp(host, port))
                                stream: anyio.abc.ByteStream = tcp
                            case StartTLS(name):
                                stream = await anyio.streams.tls.TLSStream.wrap(stream, hostname=name, ssl_context=tls)
                            case Send(data):
                                await stream.send(data)
                            case Receive():
                                call.receive_data(await stream.receive())
                            case Wait(signal):
                                await signal.wait()
                    if isinstance(step, Connect | StartTLS | Send):
                        call.step_done()
                except anyio.EndOfStream:
                    call.receive_eof()
                except (anyio.BrokenResourceError, OSError, ValueError) as error:  # ValueError: name not for DNS or TLS
                    call.timed_out() if clock.cancelled_caught else call.step_failed(str(error.__cause__ or error))


if __name__ == "__main__":
    anyio.run(ask, Channel(sys.argv[1], signal=anyio.Event).call("Hello!"), print, ssl.create_default_context())
