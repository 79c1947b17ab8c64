"""Trio: `TrioTransport` drives calls on trio's streams, without nursery or background task."""

import socket
from functools import partial
from typing import ClassVar, final

from ._extras import missing

try:
    import trio
except ModuleNotFoundError as _error:
    raise missing(_error, "trio") from None

from opchat_proto import Call

from ._async import AsyncTransportBase, StreamReply
from ._common import READ, tune
from ._tls import TLSStream

__all__ = ["TrioReply", "TrioTransport"]


class _Socket(trio.abc.AsyncResource):
    """The socket of a `trio.SocketStream`, which waits before it reads, and then reads once.

    Reading first nearly always fails, because an answer arrives more slowly than it is
    read. Programs read a thousand answers at once, so this does as little as possible.
    """

    __slots__ = ("_socket",)

    def __init__(self, opened: trio.SocketStream) -> None:
        self._socket = socket.socket(fileno=opened.socket.detach())
        self._socket.setblocking(False)
        tune(self._socket)

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        while True:
            if self._socket.fileno() < 0:
                raise trio.ClosedResourceError
            await trio.lowlevel.wait_readable(self._socket)
            try:
                return self._socket.recv(max_bytes or READ)
            except BlockingIOError:
                continue  # the system was wrong: not readable

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await trio.lowlevel.checkpoint()
        rest = memoryview(data)
        while rest:
            try:
                rest = rest[self._socket.send(rest) :]
            except BlockingIOError:
                await trio.lowlevel.wait_writable(self._socket)

    def abort(self) -> None:
        trio.lowlevel.notify_closing(self._socket)
        self._socket.close()

    async def aclose(self) -> None:
        self.abort()
        await trio.lowlevel.checkpoint()


class _TLS(TLSStream):
    """TLS that can be read after a failed write, since a server may answer early. `trio.SSLStream` cannot."""

    async def receive_some(self) -> bytes:
        if self.has_data:  # otherwise reading the connection is a checkpoint
            await trio.lowlevel.checkpoint()
        return await super().receive_some()

    async def aclose(self) -> None:
        await self._outer.aclose()


async def _connect(host: str, port: int) -> _Socket | trio.abc.Stream:
    stream = await trio.open_tcp_stream(host, port)
    return _Socket(stream) if isinstance(stream, trio.SocketStream) else stream


@final
class TrioTransport(AsyncTransportBase["TrioReply"]):
    """Asks one site, over trio's streams, from any number of tasks.

    Each request has its own connection, which is closed before the last event is
    returned. It has no background task, and connects only when a reply is read.
    """

    _signal = trio.Event
    _current_loop = staticmethod(trio.lowlevel.current_trio_token)
    _checkpoint = staticmethod(trio.lowlevel.checkpoint)
    _in_thread = staticmethod(partial(trio.to_thread.run_sync, abandon_on_cancel=True))

    def _reply(self, call: Call) -> "TrioReply":
        return TrioReply(self, call)


@final
class TrioReply(StreamReply):
    """The answer to one question, made by `TrioTransport.ask`: `Live` events, then one `End` or `Broken`.

    Each event is a checkpoint.
    """

    _BUSY = trio.BusyResourceError
    _YIELDS = True
    _FAILURES: ClassVar[tuple[type[Exception], ...]] = (
        *StreamReply._FAILURES,
        trio.BrokenResourceError,
        trio.ClosedResourceError,
    )

    _connect = staticmethod(_connect)
    _wrap = _TLS
    _now = staticmethod(trio.current_time)
    _within = staticmethod(lambda until: trio.CancelScope(deadline=until))

    def _begin(self) -> None:
        """Nothing to prepare."""

    async def _disconnect(self) -> bool:
        stream, self._stream = self._stream, None
        if isinstance(stream, _Socket):
            stream.abort()
        elif stream is not None:
            with trio.CancelScope(shield=True) as scope:
                scope.cancel()  # so closing does not wait
                await stream.aclose()
            return True
        return False
