"""Tornado's IOStream: `await ask(client, print, tls)`. What is true of `on_event` leaves early, as cancelling does."""

import ssl
from asyncio import Future
from collections.abc import Awaitable, Callable

from tornado.gen import with_timeout
from tornado.ioloop import IOLoop
from tornado.iostream import IOStream, SSLIOStream, StreamClosedError
from tornado.tcpclient import TCPClient
from tornado.util import TimeoutError

from opchat_proto import Awaiting, Client, Connect, Done, Event, Reason, Receive, Send, StartTLS


async def ask(client: Client, on_event: Callable[[Event], object], tls: ssl.SSLContext, seconds: float = 120.0) -> None:
    stream: IOStream | None = None
    reading: Awaitable[bytes] | None = None
    starting = Future[SSLIOStream]()  # TLS
    now = IOLoop.current().time
    look, awaiting, deadline = False, client.awaiting, now() + seconds
    try:
        while (step := Receive() if look else client.next_step()) != Done():
            events: list[Event] = []
            try:
                if isinstance(step, Connect):
                    if stream:
                        stream.close()
                    stream = await TCPClient().connect(step.host, step.port, timeout=deadline)
                assert stream  # the first step is to connect
                match step:
                    case StartTLS(name):
                        starting = stream.start_tls(False, tls, name)
                        stream = await with_timeout(deadline, starting, StreamClosedError)
                    case Send(data):
                        await with_timeout(deadline, stream.write(data), StreamClosedError)
                    case Receive():
                        reading = reading or stream.read_bytes(65536, partial=True)  # one that ran out of time goes on
                        data = await with_timeout(now() + 0.001 if look else deadline, reading, StreamClosedError)
                        reading = None
                        events = client.receive_data(data)
                if step != Receive():
                    client.step_done()
            except TimeoutError:
                events = [] if look else client.receive_failure(f"nothing for {seconds} seconds", Reason.TIMEOUT)
            except (OSError, UnicodeError) as error:  # UnicodeError: a name that the DNS cannot have
                reading, cause = None, getattr(error, "real_error", error)
                if isinstance(step, Send):
                    client.send_failed()  # there may be an answer all the same
                else:
                    events = client.receive_failure(str(cause)) if cause else client.receive_eof()
            if any(map(on_event, events)):
                break
            look = not events and client.awaiting is not awaiting  # is it closed, before the next Send goes out?
            if look or events:  # after a proxy's answer TLS may begin, which no read may disturb
                look, awaiting, deadline = look and awaiting is not Awaiting.PROXY, client.awaiting, now() + seconds
    finally:
        starting.cancel()  # which closes a connection whose handshake is not over
        if stream and stream.socket:  # which start_tls takes away
            stream.close()
