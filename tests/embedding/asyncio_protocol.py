"""`asyncio.Protocol`: `await ask(client, print, tls)`. What is true of `on_event` leaves early, as cancelling does."""

import asyncio
import ssl
from collections.abc import Callable
from typing import Any

from opchat_proto import Client, Connect, Done, Event, Reason, Receive, Send, StartTLS


class Inbox(asyncio.Protocol):
    def __init__(self) -> None:
        self.queue: asyncio.Queue[bytes | Exception] = asyncio.Queue()

    def data_received(self, data: bytes) -> None:
        self.queue.put_nowait(data)

    def eof_received(self) -> None:
        self.queue.put_nowait(b"")

    def connection_lost(self, error: Exception | None) -> None:
        self.queue.put_nowait(error or b"")


async def ask(client: Client, on_event: Callable[[Event], object], tls: ssl.SSLContext, seconds: float = 120.0) -> None:
    transport: Any = None
    loop, inbox = asyncio.get_running_loop(), Inbox()
    look, awaiting, deadline = False, client.awaiting, loop.time() + seconds
    try:
        while (step := Receive() if look else client.next_step()) != Done():
            events: list[Event] = []
            try:
                async with asyncio.timeout_at(loop.time() + 0.001 if look else deadline):
                    match step:
                        case Connect(host, port):
                            transport = transport and transport.abort()
                            transport, inbox = await loop.create_connection(Inbox, host, port)
                        case StartTLS(name):
                            transport = await loop.start_tls(transport, inbox, tls, server_hostname=name)
                        case Send(data):
                            transport.write(data)  # what goes wrong with it comes to the inbox
                        case Receive():
                            came = await inbox.queue.get()
                            if isinstance(came, Exception):
                                raise came
                            events = client.receive_data(came) if came else client.receive_eof()
                    if step != Receive():
                        client.step_done()
            except TimeoutError:
                events = [] if look else client.receive_failure(f"nothing for {seconds} seconds", Reason.TIMEOUT)
            except (OSError, UnicodeError) as error:  # UnicodeError: a name that the DNS cannot have
                events = client.receive_failure(str(error))
            if any(map(on_event, events)):
                break
            look = not events and client.awaiting is not awaiting  # is it closed, before the next Send goes out?
            if look or events:
                awaiting, deadline = client.awaiting, loop.time() + seconds
    finally:
        if transport:
            transport.abort()
