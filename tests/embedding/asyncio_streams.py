"""asyncio's streams: `await ask(client, print, tls)`.

What is true of `on_event` leaves early, as does a cancellation. `seconds` bound each wait.
"""

import asyncio
import ssl
from collections.abc import Callable

from opchat_proto import Client, Connect, Done, Event, Reason, Receive, Send, StartTLS


async def ask(client: Client, on_event: Callable[[Event], object], tls: ssl.SSLContext, seconds: float = 120.0) -> None:
    now = asyncio.get_running_loop().time
    writer: asyncio.StreamWriter | None = None
    look, awaiting, deadline = False, client.awaiting, now() + seconds
    try:
        while (step := Receive() if look else client.next_step()) != Done():
            events: list[Event] = []
            try:
                async with asyncio.timeout_at(now() + 0.001 if look else deadline):
                    if isinstance(step, Connect):
                        if writer is not None:
                            writer.transport.abort()
                        reader, writer = await asyncio.open_connection(step.host, step.port)
                        client.step_done()
                    assert writer is not None  # the first step is to connect
                    match step:
                        case StartTLS(name):
                            await writer.start_tls(tls, server_hostname=name)
                            client.step_done()
                        case Send(data):
                            writer.write(data)
                            await writer.drain()
                            client.step_done()
                        case Receive():
                            data = await reader.read(65536)
                            events = client.receive_data(data) if data else client.receive_eof()
            except TimeoutError:
                events = [] if look else client.receive_failure(f"nothing for {seconds} seconds", Reason.TIMEOUT)
            except (OSError, UnicodeError) as error:  # UnicodeError: a name that the DNS cannot have
                if isinstance(step, Send):
                    client.send_failed()  # there may be an answer all the same
                else:
                    events = client.receive_failure(str(error))
            if any(map(on_event, events)):
                return
            look = not events and client.awaiting is not awaiting  # is it closed, before the next Send goes out?
            if look or events:
                awaiting, deadline = client.awaiting, now() + seconds
    finally:
        if writer is not None:
            writer.transport.abort()
