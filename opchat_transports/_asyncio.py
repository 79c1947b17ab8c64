"""asyncio, under any of its loops: scopes with one timer, and connections."""

import asyncio
import errno
import math
import socket
import warnings
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Self

from ._common import READ, tune

__all__ = ["AsyncioScope", "PlainStream", "connect"]

_MOST_HELD = 16 * 1024 * 1024  # more bytes than a system buffers for a connection
_NEXT_ATTEMPT = 0.25  # seconds until the next address of a name is tried in parallel (RFC 8305, 5)


class AsyncioScope:
    """Like `trio.CancelScope`: ends the wait of its task at a deadline or on request.

    One scope with one timer serves all waits of a reply, one after the other: a timer for
    each wait would take as long as parsing the data.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.cancelled_caught = False
        self._loop = loop
        self._timer: asyncio.TimerHandle | None = None
        self._rings_at = self._until = math.inf
        self._task: asyncio.Task[Any] | None = None  # the task in the scope
        self._cancelled_before = 0  # how often others have cancelled the task
        self._is_cancelled = False

    def within(self, until: float) -> Self:
        """The same scope, with this deadline."""
        self.cancelled_caught, self._until = False, until
        if until < self._rings_at:
            self._set_timer(until)
        return self

    def __enter__(self) -> Self:
        self._task = task = asyncio.current_task(self._loop)
        if task is None:
            raise RuntimeError("this reply belongs to another event loop")
        self._cancelled_before = task.cancelling()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> bool:
        task, self._task = self._task, None
        if not self._is_cancelled or task is None:
            return False
        self._is_cancelled = False
        is_ours = task.uncancel() <= self._cancelled_before
        self.cancelled_caught = is_ours and kind is asyncio.CancelledError
        return self.cancelled_caught

    def cancel(self) -> None:
        """End the current wait, if there is one."""
        if self._task is not None and not self._is_cancelled:
            self._is_cancelled = True
            self._task.cancel()

    def rest(self) -> None:
        """Cancel the timer, unless a wait is in progress."""
        if self._task is None:
            self._set_timer(math.inf)

    def _set_timer(self, when: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None if when == math.inf else self._loop.call_at(when, self._ring)
        self._rings_at = when

    def _ring(self) -> None:
        is_early = self._task is not None and self._until > self._loop.time()
        self._set_timer(self._until if is_early else math.inf)
        if not is_early:
            self.cancel()


class PlainStream(asyncio.StreamReader):
    """A connection. After a failure it first returns the data that arrived before."""

    writer: asyncio.StreamWriter
    failure: Exception | None = None
    _rest = b""  # the data that had arrived when a write failed

    def set_exception(self, exc: Exception) -> None:
        self.failure = exc
        self.feed_eof()

    async def receive_some(self) -> bytes:
        """Return some bytes; b"" at the end. Raises `OSError` for a failure."""
        data = await self.read(READ)
        if not data:
            data, self._rest = self._rest, b""
        if not data and self.failure is not None:
            raise self.failure
        return data

    async def send_all(self, data: bytes) -> None:
        """Send all of it. Raises `OSError` otherwise; received data can still be read.

        After a failed write asyncio reads nothing more and closes the socket. A duplicate
        stays open until then, so that an answer which came with the reset is not lost.
        """
        if self.writer.is_closing():  # uvloop would raise RuntimeError
            raise self.failure or ConnectionResetError(errno.ECONNRESET, "closed")
        of_loop = self.writer.get_extra_info("socket")
        with socket.fromfd(of_loop.fileno(), of_loop.family, of_loop.type) as duplicate:
            self.writer.write(data)
            try:
                await self.writer.drain()
            except ConnectionError as error:  # it does not say why
                self._rest = _arrived(duplicate)
                raise self.failure or error from None
            if self.writer.is_closing():  # uvloop does not raise at once
                self._rest = _arrived(duplicate)

    def abort(self) -> None:
        """Close it; asyncio does it before any task runs again."""
        self.writer.transport.abort()

    def __del__(self, warn: Callable[..., None] = warnings.warn) -> None:
        # Nobody closed it. asyncio's own streams do this only since CPython 3.11.5.
        writer = getattr(self, "writer", None)  # None if nothing accepted the connection
        if writer is not None and not writer.is_closing():
            warn(f"unclosed {self!r}", ResourceWarning, source=self)
            with suppress(RuntimeError):  # the loop is closed
                self.abort()


def _arrived(connection: socket.socket) -> bytes:
    """The bytes that can be read without waiting."""
    with suppress(OSError):
        return connection.recv(_MOST_HELD)
    return b""


class _Protocol(asyncio.StreamReaderProtocol):
    """Lets asyncio log no lost connection: the stream reports it.

    The base class has a future for it, which nobody awaits, and silences that in
    `__del__`: too late if the garbage collector deletes the future first.
    """

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self.__del__()


async def connect(host: str, port: int) -> PlainStream:
    """Connect to the first address of a name that accepts (RFC 8305). If cancelled, no connection stays open.

    uvloop does not try addresses in parallel, and asyncio, if cancelled, leaks a
    connection that it had opened.
    """
    loop = asyncio.get_running_loop()
    try:
        found = socket.getaddrinfo(host.encode("ascii"), port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
    except OSError:
        found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    attempts: list[asyncio.Task[PlainStream]] = []
    winner = None
    for family, _, _, _, address in found:
        attempts.append(loop.create_task(_attempt(family, address, attempts[:])))
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


async def _attempt(family: int, address: Any, previous: list[asyncio.Task[PlainStream]]) -> PlainStream:
    """Connect to an address once the previous attempt has failed or takes long."""
    if previous:
        await asyncio.wait(previous[-1:], timeout=_NEXT_ATTEMPT * len(previous))
    loop = asyncio.get_running_loop()
    stream = PlainStream(limit=READ, loop=loop)
    protocol = _Protocol(stream, loop=loop)
    transport, _ = await loop.create_connection(lambda: protocol, *address[:2], family=family)
    transport.set_write_buffer_limits(0)  # a drained write has reached the system
    tune(transport.get_extra_info("socket"))
    stream.writer = asyncio.StreamWriter(transport, protocol, None, loop)  # no reader is needed
    return stream


def _discard(attempt: asyncio.Task[PlainStream]) -> None:
    if not attempt.cancelled() and attempt.exception() is None:
        attempt.result().abort()
