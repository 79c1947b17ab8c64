"""trio, streams that race: the first answer that is complete leaves the others behind.
`await race([client, another], on_event, tls)`; what is true of `on_event(client, event)` leaves that stream early.
"""

import ssl
from collections.abc import Callable, Iterable

import trio

from opchat_proto import Client, Connect, Done, End, Event, Reason, Receive, Send, StartTLS

OnEvent = Callable[[Client, Event], object]


async def ask(client: Client, on_event: OnEvent, tls: ssl.SSLContext, seconds: float, won: trio.CancelScope) -> None:
    stream: trio.abc.Stream | None = None
    look, awaiting, deadline = False, client.awaiting, trio.current_time() + seconds
    try:
        while (step := Receive() if look else client.next_step()) != Done():
            events: list[Event] = []
            try:
                with trio.fail_at(trio.current_time() + 0.001 if look else deadline):
                    if isinstance(step, Connect):
                        if stream:
                            await trio.aclose_forcefully(stream)
                        stream = await trio.open_tcp_stream(step.host, step.port)
                    assert stream  # the first step is to connect
                    if isinstance(step, StartTLS):
                        stream = trio.SSLStream(stream, tls, server_hostname=step.server_name)
                        await stream.do_handshake()
                    elif isinstance(step, Send):
                        await stream.send_all(step.data)
                    if step == Receive():
                        data = await stream.receive_some()
                        events = client.receive_data(data) if data else client.receive_eof()
                    else:
                        client.step_done()
            except trio.TooSlowError:
                events = [] if look else client.receive_failure(f"nothing for {seconds} seconds", Reason.TIMEOUT)
            except (trio.BrokenResourceError, OSError, UnicodeError) as error:  # UnicodeError: no name for the DNS
                if isinstance(step, Send):
                    client.send_failed()  # there may be an answer all the same
                else:
                    events = client.receive_failure(str(error.__cause__ or error))
            if any(on_event(client, event) for event in events):
                break
            if any(isinstance(event, End) for event in events):
                won.cancel()
            look = not events and client.awaiting is not awaiting  # is it closed, before the next Send goes out?
            if look or events:
                awaiting, deadline = client.awaiting, trio.current_time() + seconds
    finally:
        if stream:
            await trio.aclose_forcefully(stream)


async def race(clients: Iterable[Client], on_event: OnEvent, tls: ssl.SSLContext, seconds: float = 120.0) -> None:
    async with trio.open_nursery() as nursery:
        for client in clients:
            nursery.start_soon(ask, client, on_event, tls, seconds, nursery.cancel_scope)
