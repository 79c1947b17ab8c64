"""Trio: `TrioTransport` drives calls on trio's streams. No nursery, no background task: it reads when asked."""

import socket
import ssl
from typing import Any, Self, Unpack, final

from ._extras import missing

try:
    import trio
except ModuleNotFoundError as error:
    raise missing(error, "trio") from None

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
from ._common import Options, tcp_options, words
from ._text import AsyncText

__all__ = ["TrioReply", "TrioTransport"]

_READ = 64 * 1024
# UnicodeError: a name that the DNS cannot have. ValueError: one that no certificate can have.
_FAILURES = (OSError, UnicodeError, ValueError, trio.BrokenResourceError, trio.ClosedResourceError)


@final
class TrioTransport(AsyncTransportBase["TrioReply"]):
    """Asks one site, over trio's streams, from any number of tasks.

        async with TrioTransport("https://site.example") as transport, transport.ask("Hi") as reply:
            async for event in reply:
                ...

    All questions share one session: the first starts it, those of other tasks wait
    for that. Each request has a connection of its own, which is closed before the
    last event is given. There is no task behind it, and nothing is connected before
    a reply is read.
    """

    def __init__(
        self, endpoint: Endpoint | str, *, ssl_context: ssl.SSLContext | None = None, **options: Unpack[Options]
    ) -> None:
        """Nothing is connected yet; trio need not run yet.

        `endpoint` is an `Endpoint` or what `Endpoint.parse` takes. `ssl_context`
        replaces the system's trust store, for the site and for an https proxy. The
        other options are those of every transport (`Options`).

        Raises `ValueError` for an address, a session, headers or a proxy that cannot
        be used, `TypeError` for values of wrong types, `OSError` for a file that
        OpenSSL is told to use and cannot.
        """
        super().__init__(endpoint, ssl_context, options, signal=trio.Event)

    def _reply(self, *question: Any, **options: Any) -> "TrioReply":
        return TrioReply(self, self._channel.call(*question, **options))

    def _visit(self, url: str, fresh: str | None) -> "TrioReply":
        return TrioReply(self, self._channel.visit(url, fresh=fresh))

    async def aclose(self) -> None:
        """Close all open replies: a task that waits for one gets `Broken`. Idempotent.

        Cancelled, it still closes them all.
        """
        for reply in self._close_calls():
            await reply._close()
        await trio.lowlevel.checkpoint()


@final
class TrioReply(AsyncText, AsyncContext, ReplyBase[Call]):
    """The answer to one question, made by `TrioTransport.ask`: `Live` events, then one `End` or `Broken`.

    An async iterator that reads only when it is asked, with one checkpoint for each
    event. What goes wrong on the way is the event `Broken`. Leaving early, by
    `aclose()` or the end of the `async with` block, closes the connection at once.
    """

    __slots__ = ("_reading", "_scope", "_stream", "_transport")

    def __init__(self, transport: TrioTransport, call: Call) -> None:
        """For `TrioTransport.ask`."""
        super().__init__(call)
        self._transport = transport
        self._stream: trio.abc.Stream | None = None
        self._scope: trio.CancelScope | None = None  # of the step in progress, or of the last one
        self._reading = False

    def __aiter__(self) -> Self:
        """The reply itself."""
        return self

    async def __anext__(self) -> Event:
        """The next event. Once the reply was closed: what had been read before, then `Broken`.

        Cancelled, it closes the connection first: a question may have been asked
        that is answered to nobody. Raises `trio.BusyResourceError` while another
        task is in here, `RuntimeError` in another event loop than the first.
        """
        if self._reading:
            raise trio.BusyResourceError("another task is reading this reply")
        if self._scope is None:
            self._transport._enter(trio.lowlevel.current_trio_token())
        self._reading = True
        call = self._call
        try:
            event = call.next_event()
            if event is not None:
                await trio.lowlevel.checkpoint()
            while event is None:
                step, until = call.next_step(trio.current_time())
                if isinstance(step, Done):
                    if self._stream is None:
                        await trio.lowlevel.checkpoint()
                    await self._disconnect()
                    event = call.next_event()
                    break
                await self._take(step, until)
                event = call.next_event()
        except BaseException:  # it may have cut a request in two
            call.close()
            await self._disconnect()
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
        await self._close()
        await trio.lowlevel.checkpoint()

    # ---------------------------------------------------------------- the steps

    async def _take(self, step: Connect | StartTLS | Send | Receive | Wait, until: float) -> None:
        """Do what a step says, until then, and report it."""
        data: bytes | bytearray = b""
        failure: BaseException | None = None
        with trio.CancelScope(deadline=until) as self._scope:
            try:
                match step:
                    case Receive():
                        data = await self._opened.receive_some(_READ)
                    case Connect(host, port):
                        await self._connect(host, port)
                    case StartTLS(server_name):
                        await self._start_tls(server_name)
                    case Send(out):
                        await self._opened.send_all(out)
                    case Wait(signal):
                        await self._disconnect()
                        await signal.wait()
            except _FAILURES as error:
                failure = error
        call = self._call
        if self._scope.cancelled_caught:
            call.timed_out()
        elif failure is not None:
            call.step_failed(words(failure))
        elif isinstance(step, Receive):
            call.receive_data(data) if data else call.receive_eof()
        elif not isinstance(step, Wait):
            call.step_done()

    async def _connect(self, host: str, port: int) -> None:
        await self._disconnect()
        self._stream = stream = await trio.open_tcp_stream(host, port)
        if isinstance(stream, trio.SocketStream):
            for option in tcp_options(trio.socket):
                stream.setsockopt(*option)
            self._stream = _Socket(stream)

    async def _start_tls(self, server_name: str) -> None:
        context = self._transport._tls
        # Not https_compatible, which would take a cut for an end: only one of them is announced (RFC 8446, 6.1).
        stream = trio.SSLStream(self._opened, context, server_hostname=server_name)
        self._stream = stream
        await stream.do_handshake()

    @property
    def _opened(self) -> trio.abc.Stream:
        if self._stream is None:
            raise trio.ClosedResourceError  # another task has closed it while we were about to use it
        return self._stream

    async def _close(self) -> None:
        self._call.close()
        self._transport._forget(self)
        if self._scope is not None:
            self._scope.cancel()
        await self._disconnect()

    async def _disconnect(self) -> None:
        stream, self._stream = self._stream, None
        if stream is not None:
            with trio.CancelScope(shield=True):  # it does not wait
                await trio.aclose_forcefully(stream)


@final
class _Socket(trio.abc.Stream):
    """The socket of a `trio.SocketStream`, for one reader.

    That one tries to read before it waits, which nearly always fails: an answer
    comes more slowly than it is read. This one waits first, and reads once.
    """

    __slots__ = ("_socket",)

    def __init__(self, opened: trio.SocketStream) -> None:
        """The socket belongs to this object from now on."""
        self._socket = socket.socket(fileno=opened.socket.detach())
        self._socket.setblocking(False)

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        while True:
            await trio.lowlevel.wait_readable(self._open)
            try:
                return self._open.recv(max_bytes or _READ)
            except BlockingIOError:
                pass  # as the system may be wrong about that
            except OSError as error:
                raise trio.BrokenResourceError from error

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await trio.lowlevel.checkpoint()
        rest = memoryview(data)
        while rest:
            try:
                rest = rest[self._open.send(rest) :]
            except BlockingIOError:
                await self.wait_send_all_might_not_block()
            except OSError as error:
                raise trio.BrokenResourceError from error

    async def wait_send_all_might_not_block(self) -> None:
        await trio.lowlevel.wait_writable(self._open)

    async def aclose(self) -> None:
        trio.lowlevel.notify_closing(self._socket)
        self._socket.close()
        await trio.lowlevel.checkpoint()

    @property
    def _open(self) -> socket.socket:
        if self._socket.fileno() < 0:
            raise trio.ClosedResourceError
        return self._socket
