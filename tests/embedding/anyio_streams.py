"""anyio, on asyncio or trio: `await ask(client, print, tls)`.

What is true of `on_event` leaves early, as does a cancellation. `seconds` bound each wait.
"""

import ssl
from collections.abc import Callable

import anyio
from anyio.abc import ByteStream
from anyio.streams.tls import TLSStream

from opchat_proto import Client, Connect, Done, Event, Reason, Receive, Send, StartTLS

BROKEN = (anyio.BrokenResourceError, OSError, UnicodeError)  # UnicodeError: a name that the DNS cannot have


async def ask(client: Client, on_event: Callable[[Event], object], tls: ssl.SSLContext, seconds: float = 120.0) -> None:
    stream: ByteStream | None = None
    look, awaiting, deadline = False, client.awaiting, anyio.current_time() + seconds
    try:
        while (step := Receive() if look else client.next_step()) != Done():
            events: list[Event] = []
            try:
                with anyio.fail_after(0.001 if look else max(0, deadline - anyio.current_time())):
                    if isinstance(step, Connect):
                        if stream:
                            await anyio.aclose_forcefully(stream)
                        stream = await anyio.connect_tcp(step.host, step.port)
                    assert stream  # the first step is to connect
                    if isinstance(step, StartTLS):
                        stream = await TLSStream.wrap(stream, hostname=step.server_name, ssl_context=tls)
                    elif isinstance(step, Send):
                        await stream.send(step.data)
                    if step == Receive():
                        events = client.receive_data(await stream.receive())
                    else:
                        client.step_done()
            except TimeoutError:
                events = [] if look else client.receive_failure(f"nothing for {seconds} seconds", Reason.TIMEOUT)
            except anyio.EndOfStream:
                events = client.receive_eof()
            except BROKEN as error:
                if isinstance(step, Send):
                    client.send_failed()  # there may be an answer all the same
                else:
                    events = client.receive_failure(str(error.__cause__ or error))
            if any(map(on_event, events)):
                break
            look = not events and client.awaiting is not awaiting  # is it closed, before the next Send goes out?
            if look or events:
                awaiting, deadline = client.awaiting, anyio.current_time() + seconds
    finally:
        if stream:
            await anyio.aclose_forcefully(stream)
