"""asyncio: `AsyncioTransport` drives calls on asyncio's own streams, under any of its loops (uvloop too)."""

import asyncio
import math
import ssl
from typing import Any, Self, Unpack, final

from opchat_proto import (
    Call,
    Connect,
    Done,
    Endpoint,
    Event,
    Receive,
    Send,
    StartTLS,
    Wait,
)

from ._base import AsyncContext, AsyncTransportBase, ReplyBase
from ._common import Options, words
from ._streams import Stream, TLSStream, connect, reset
from ._text import AsyncText

__all__ = ["AsyncioReply", "AsyncioTransport"]

_FAILURES = (OSError, ValueError)  # ValueError: a name that the DNS, or a certificate, cannot have


@final
class AsyncioTransport(AsyncTransportBase["AsyncioReply"]):
    """Asks one site, over asyncio's streams, from any number of tasks.

        async with AsyncioTransport("https://site.example") as transport, transport.ask("Hi") as reply:
            async for event in reply:
                ...

    All questions share one session: the first starts it, those of other tasks wait
    for that. Each request has a connection of its own, which is closed before the
    last event is given. There is no task behind it, and nothing is connected before
    a reply is read.

    It belongs to the event loop in which a reply was read first. asyncio looks up
    names in threads: the `connect` clock and `aclose()` end the wait for them, but
    `asyncio.run` ends only when the system has given up.
    """

    def __init__(
        self, endpoint: Endpoint | str, *, ssl_context: ssl.SSLContext | None = None, **options: Unpack[Options]
    ) -> None:
        """Nothing is connected yet; no event loop need run yet.

        `endpoint` is an `Endpoint` or what `Endpoint.parse` takes. `ssl_context`
        replaces the system's trust store, for the site and for an https proxy. The
        other options are those of every transport (`Options`).

        Raises `ValueError` for an address, a session, headers or a proxy that cannot
        be used, `TypeError` for values of wrong types, `OSError` for a file that
        OpenSSL is told to use and cannot.
        """
        super().__init__(endpoint, ssl_context, options, signal=asyncio.Event)

    def _reply(self, *question: Any, **options: Any) -> "AsyncioReply":
        return AsyncioReply(self, self._channel.call(*question, **options))

    def _visit(self, url: str, fresh: str | None) -> "AsyncioReply":
        return AsyncioReply(self, self._channel.visit(url, fresh=fresh))

    async def aclose(self) -> None:
        """Close all open replies: a task that waits for one gets `Broken`. Idempotent.

        Cancelled, it still closes them all.
        """
        if self._replies:
            self._enter(asyncio.get_running_loop())
        for reply in self._close_calls():
            reply._close()
        await asyncio.sleep(0)  # in which asyncio closes them


@final
class AsyncioReply(AsyncText, AsyncContext, ReplyBase[Call]):
    """The answer to one question, made by `AsyncioTransport.ask`: `Live` events, then one `End` or `Broken`.

    An async iterator that reads only when it is asked. What goes wrong on the way is
    the event `Broken`. Leaving early, by `aclose()` or the end of the `async with`
    block, closes the connection at once.

    Events that have come already are given without letting other tasks run: at most
    those of some 200 KiB, since reading more waits for the loop.
    """

    __slots__ = ("_reading", "_scope", "_stream", "_transport")

    def __init__(self, transport: AsyncioTransport, call: Call) -> None:
        """For `AsyncioTransport.ask`."""
        super().__init__(call)
        self._transport = transport
        self._stream: Stream | None = None
        self._scope: asyncio.Timeout | None = None  # of the step in progress, which `aclose` ends
        self._reading = False

    def __aiter__(self) -> Self:
        """The reply itself."""
        return self

    async def __anext__(self) -> Event:
        """The next event. Once the reply was closed: what had been read before, then `Broken`.

        Cancelled, it closes the connection first: a question may have been asked
        that is answered to nobody. Raises `RuntimeError` while another task is in
        here, and in another event loop than the first.
        """
        if self._reading:
            raise RuntimeError("another task is reading this reply")
        event = self._call.next_event()
        if event is not None:
            return event
        loop = asyncio.get_running_loop()
        self._transport._enter(loop)
        self._reading = True
        try:
            event = await self._next_event(loop)
        except BaseException:  # it may have cut a request in two
            self._call.close()
            self._disconnect()
            raise
        finally:
            self._reading = False
        if event is None:
            raise StopAsyncIteration
        return event

    async def aclose(self) -> None:
        """Close the connection at once if it is still open. Idempotent, from any task, also when cancelled.

        A task that waits for an event gets `Broken`: LOST, or TRUNCATED once the
        answer had begun.
        """
        self._transport._enter(asyncio.get_running_loop())
        self._close()
        await asyncio.sleep(0)  # in which asyncio closes it

    # ---------------------------------------------------------------- the loop

    async def _next_event(self, loop: asyncio.AbstractEventLoop) -> Event | None:
        call, event = self._call, None
        while event is None:
            step, until = call.next_step(loop.time())
            if isinstance(step, Receive):
                try:
                    data = await self._opened.read(until)
                except _FAILURES as error:
                    self._report(error)
                else:
                    call.receive_data(data) if data else call.receive_eof()
            elif isinstance(step, Done):
                if self._stream is not None:
                    self._disconnect()
                    await asyncio.sleep(0)  # in which asyncio closes it
                return call.next_event()
            else:
                await self._take(step, until)
            event = call.next_event()
        return event

    async def _take(self, step: Connect | StartTLS | Send | Wait, until: float) -> None:
        """Do what a step says, until then, and report it."""
        try:
            async with asyncio.timeout_at(None if until == math.inf else until) as self._scope:
                match step:
                    case Connect(host, port):
                        await self._connect(host, port)
                    case StartTLS(server_name):
                        await self._start_tls(server_name)
                    case Send(out):
                        await self._opened.write(out)
                    case Wait(signal):
                        self._disconnect()
                        await signal.wait()
        except _FAILURES as error:
            self._report(error)
        else:
            if not isinstance(step, Wait):
                self._call.step_done()
        finally:
            self._scope = None

    def _report(self, error: Exception) -> None:
        if isinstance(error, TimeoutError) and error.errno is None:  # not the system's, which is a lost connection
            self._call.timed_out()
        else:
            self._call.step_failed(words(error))

    async def _connect(self, host: str, port: int) -> None:
        self._disconnect()
        self._stream = await connect(host, port)

    async def _start_tls(self, server_name: str) -> None:
        context = self._transport._tls
        self._stream = secure = TLSStream(self._opened, context, server_name)
        await secure.do_handshake()

    @property
    def _opened(self) -> Stream:
        if self._stream is None:
            raise reset()  # another task has closed it while we were about to use it
        return self._stream

    def _close(self) -> None:
        self._call.close()
        self._transport._forget(self)
        if self._scope is not None and not self._scope.expired():
            self._scope.reschedule(-math.inf)
        self._disconnect()

    def _disconnect(self) -> None:
        stream, self._stream = self._stream, None
        if stream is not None:
            stream.abort()
