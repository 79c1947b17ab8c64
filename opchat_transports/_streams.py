"""asyncio's streams: connections, and TLS over them, that close without waiting and tell a cut from an end."""

import asyncio
import errno
import math
import os
import socket
import ssl
import weakref
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeAlias, final

from ._common import tcp_options

__all__ = ["PlainStream", "Stream", "TLSStream", "connect", "reset"]

_READ = 64 * 1024
_NEXT_ATTEMPT = 0.25  # seconds until the next address of a name is tried beside the one before (RFC 8305, 5)


@final
class _Reader(asyncio.StreamReader):
    """Gives first what came before the connection failed."""

    failure: Exception | None = None

    def set_exception(self, exc: Exception) -> None:
        self.failure = exc
        self.feed_eof()


@final
class PlainStream:
    """A connection. One timer serves all reads, since setting one for each takes as long as to parse what comes."""

    def __init__(self, reader: _Reader, writer: asyncio.StreamWriter, loop: asyncio.AbstractEventLoop) -> None:
        self._reader = reader
        self._writer = writer
        self._loop = loop
        self._timer: asyncio.TimerHandle | None = None
        self._until = math.inf  # the read in progress, or the last one
        self._is_read = False

    async def read(self, until: float = math.inf) -> bytes:
        """Some bytes; none at the end. Raises `OSError` for a failure; a `TimeoutError`, after which it is closed."""
        self._until = until
        if self._timer is None or self._timer.when() > until:
            self._set_timer()
        self._is_read = True
        data = await self._reader.read(_READ)
        self._is_read = False
        if not data and self._reader.failure is not None:
            raise self._reader.failure
        return data

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        # Weakly, or the loop would keep a connection open that is forgotten.
        self._timer = None
        if self._until < math.inf:
            self._timer = self._loop.call_at(self._until, _ring, weakref.ref(self))

    def ring(self) -> None:
        self._timer = None
        if self._is_read and self._until > self._loop.time():
            self._set_timer()
        elif self._is_read:
            self.abort()
            self._reader.set_exception(TimeoutError())

    async def write(self, data: bytes) -> None:
        """Raises `OSError` if not all of it can be sent: what has come may still be read."""
        if self._writer.is_closing():  # where uvloop would raise a RuntimeError
            raise self._reader.failure or reset()
        self._writer.write(data)
        try:
            await self._writer.drain()
        except ConnectionError as error:  # which does not say why
            raise self._reader.failure or error from None

    def abort(self) -> None:
        """Close it; asyncio does so before any task runs again."""
        if self._timer is not None:
            self._timer.cancel()
        self._writer.transport.abort()


def _ring(reference: "weakref.ref[PlainStream]") -> None:
    stream = reference()
    if stream is not None:
        stream.ring()


@final
class TLSStream:
    """TLS over a connection, or over TLS with a proxy.

    asyncio's own gives a cut as an end, though only that is announced (RFC 8446,
    6.1), and reads as if inside TLS what had come before it began.
    """

    def __init__(self, outer: "Stream", context: ssl.SSLContext, server_name: str) -> None:
        self._outer = outer
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=server_name)

    async def do_handshake(self) -> None:
        await self._run(self._tls.do_handshake)

    async def read(self, until: float = math.inf) -> bytes:
        data: bytes = await self._run(self._tls.read, _READ, until=until)
        return data

    async def write(self, data: bytes) -> None:
        await self._run(self._tls.write, data)

    async def _run(self, call: Callable[..., Any], *arguments: Any, until: float = math.inf) -> Any:
        while True:
            try:
                result = call(*arguments)
            except ssl.SSLWantReadError:
                await self._flush()
            except ssl.SSLError:
                with suppress(OSError):
                    await self._flush()  # an alert
                raise
            else:
                await self._flush()
                return result
            data = await self._outer.read(until)
            if data:
                self._incoming.write(data)
            else:
                self._incoming.write_eof()  # which is a cut, unless the peer has ended its TLS before

    async def _flush(self) -> None:
        if self._outgoing.pending:
            await self._outer.write(self._outgoing.read())

    def abort(self) -> None:
        self._outer.abort()


Stream: TypeAlias = PlainStream | TLSStream


def reset() -> OSError:
    """What a connection fails with that is closed already."""
    return ConnectionResetError(errno.ECONNRESET, os.strerror(errno.ECONNRESET))


async def connect(host: str, port: int) -> PlainStream:
    """A connection to the first address of a name that gives one (RFC 8305). Cancelled, it leaves none open.

    uvloop does not try several addresses side by side, and asyncio forgets to close
    one that it had when it was cancelled.
    """
    loop = asyncio.get_running_loop()
    try:
        found = socket.getaddrinfo(host.encode("ascii"), port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
    except OSError:
        found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    attempts: list[asyncio.Task[PlainStream]] = []
    winner = None
    for family, _, _, _, address in found:
        attempt = _attempt(family, str(address[0]), port, attempts[-1:], _NEXT_ATTEMPT * len(attempts))
        attempts.append(loop.create_task(attempt))
    try:
        running = set(attempts)
        while running and winner is None:
            ended, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
            winner = next((task for task in ended if task.exception() is None), None)
        return (winner or attempts[-1]).result()
    finally:
        for task in attempts:
            if task is not winner:
                task.cancel()
                task.add_done_callback(_discard)


async def _attempt(
    family: int, address: str, port: int, previous: list[asyncio.Task[PlainStream]], delay: float
) -> PlainStream:
    """Connect to an address when the attempt before has failed, or takes long."""
    if previous:
        await asyncio.wait(previous, timeout=delay)
    loop = asyncio.get_running_loop()
    reader = _Reader(limit=_READ, loop=loop)
    protocol = asyncio.StreamReaderProtocol(reader, loop=loop)
    transport, _ = await loop.create_connection(lambda: protocol, address, port, family=family)
    transport.set_write_buffer_limits(0)  # what was sent is with the system
    for option in tcp_options(socket):
        transport.get_extra_info("socket").setsockopt(*option)
    return PlainStream(reader, asyncio.StreamWriter(transport, protocol, reader, loop), loop)


def _discard(attempt: asyncio.Task[PlainStream]) -> None:
    if not attempt.cancelled() and attempt.exception() is None:
        attempt.result().abort()
