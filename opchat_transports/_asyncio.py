"""asyncio, under any of its loops: scopes with one timer, connections, and threads."""

import _thread
import asyncio
import errno
import math
import socket
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any, Self, TypeVar

from ._common import READ, tune

__all__ = ["AsyncioScope", "PlainStream", "connect", "in_thread"]

_T = TypeVar("_T")
_MOST_HELD = 16 * 1024 * 1024  # more bytes than a system buffers for a connection
_NEXT_ATTEMPT = 0.25  # seconds until the next address of a name is tried in parallel (RFC 8305, 5)


class AsyncioScope:
    """Like `trio.CancelScope`: ends the wait of its task at a deadline or on request.

    One scope with one timer serves all waits of a reply, one after the other: a timer for
    each wait would take as long as parsing the data.
    """

    __slots__ = (
        "_cancelled_before",
        "_loop",
        "_rings_at",
        "_task",
        "_timer",
        "_until",
        "cancel_called",
        "cancelled_caught",
    )

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.cancelled_caught = False
        self._loop = loop
        self._timer: asyncio.TimerHandle | None = None
        self._rings_at = self._until = math.inf
        self._task: asyncio.Task[Any] | None = None  # the task in the scope
        self._cancelled_before = 0  # how often others have cancelled the task
        self.cancel_called = False

    def within(self, until: float) -> Self:
        """The same scope, with this deadline."""
        self.cancelled_caught, self._until = False, until
        if until < self._rings_at:
            self._set_timer(until)
        return self

    @property
    def deadline(self) -> float:
        """When the wait ends, on the loop's clock."""
        return self._until

    @deadline.setter
    def deadline(self, until: float) -> None:
        self.within(until)

    def __enter__(self) -> Self:
        self._task = task = asyncio.current_task(self._loop)
        if task is None:
            raise RuntimeError("this reply belongs to another event loop")
        self._cancelled_before = task.cancelling()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> bool:
        task, self._task = self._task, None
        if not self.cancel_called or task is None:
            return False
        self.cancel_called = False
        is_ours = task.uncancel() <= self._cancelled_before
        self.cancelled_caught = is_ours and kind is asyncio.CancelledError
        return self.cancelled_caught

    def cancel(self) -> None:
        """End the current wait, if there is one."""
        if self._task is not None and not self.cancel_called:
            self.cancel_called = True
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


class PlainStream(asyncio.Protocol):
    """A connection, for one task at a time. After a failure it first returns the data that arrived before.

    asyncio's `StreamReader` and `StreamWriter` would hold 2 KiB more for each stream that waits,
    and drop what arrived before a failure.
    """

    __slots__ = (
        "_data",
        "_failure",
        "_is_full",
        "_is_lost",
        "_is_over",
        "_is_paused",
        "_loop",
        "_transport",
        "_waiter",
    )
    _transport: asyncio.Transport

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._data = b""  # arrived and not yet returned
        self._is_over = False  # nothing more will arrive
        self._is_paused = False  # nothing more is read until some of it is returned
        self._is_lost = False  # closed, by either side or by a failure
        self._is_full = False  # not all that was written has reached the system
        self._failure: Exception | None = None
        self._waiter: asyncio.Future[None] | None = None  # of the task that waits for a change

    # ---------------------------------------------------------------- called by the event loop

    def connection_made(self, transport: Any) -> None:  # uvloop's have no base class of asyncio's
        self._transport = transport
        transport.set_write_buffer_limits(0)  # so it is full until all has reached the system
        tune(transport.get_extra_info("socket"))

    def data_received(self, data: bytes) -> None:
        self._data += data
        if len(self._data) > READ:
            self._is_paused = True
            self._transport.pause_reading()
        self._wake()

    def eof_received(self) -> bool:
        self._is_over = True
        self._wake()
        return True  # keeps it open for writing

    def connection_lost(self, exc: Exception | None) -> None:
        self._failure = exc
        self._is_over = self._is_lost = True
        self._wake()

    def pause_writing(self) -> None:
        self._is_full = True

    def resume_writing(self) -> None:
        self._is_full = False
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    # ---------------------------------------------------------------- called by the reply

    def _changes(self) -> "asyncio.Future[None]":
        self._waiter = self._loop.create_future()
        return self._waiter

    async def receive_some(self) -> bytes:
        """Return some bytes; b"" at the end. Raises `OSError` for a failure."""
        while not (self._data or self._is_over):
            await self._changes()
        data, self._data = self._data[:READ], self._data[READ:]
        if not data and self._failure is not None:
            raise self._failure
        if self._is_paused and len(self._data) <= READ:
            self._is_paused = False
            self._transport.resume_reading()
        return data

    async def send_all(self, data: bytes) -> None:
        """Send all of it. Raises `OSError` otherwise; received data can still be read.

        After a failed write asyncio reads nothing more and closes the socket. A duplicate
        stays open until then, so that an answer which came with the reset is not lost.
        """
        transport = self._transport
        if transport.is_closing():  # uvloop would raise RuntimeError
            raise self._failure or ConnectionResetError(errno.ECONNRESET, "closed")
        transport.write(data)
        if not (self._is_full or transport.is_closing()):
            return
        of_loop = transport.get_extra_info("socket")
        with socket.fromfd(of_loop.fileno(), of_loop.family, of_loop.type) as duplicate:
            while not self._is_lost and (self._is_full or transport.is_closing()):
                await self._changes()
            if self._is_lost:
                self._data += _arrived(duplicate)
                raise self._failure or ConnectionResetError(errno.ECONNRESET, "closed")

    def abort(self) -> None:
        """Close it; asyncio does it before any task runs again."""
        self._transport.abort()


def _arrived(connection: socket.socket) -> bytes:
    """The bytes that can be read without waiting."""
    with suppress(OSError):
        return connection.recv(_MOST_HELD)
    return b""


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
    if len(found) == 1:
        family, _, _, _, address = found[0]
        return await _attempt(family, address, [])
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
    _, stream = await loop.create_connection(lambda: PlainStream(loop), *address[:2], family=family)
    return stream


def _discard(attempt: asyncio.Task[PlainStream]) -> None:
    if not attempt.cancelled() and attempt.exception() is None:
        attempt.result().abort()


async def in_thread(work: Callable[..., _T], *arguments: Any) -> _T:
    """Like `asyncio.to_thread`, in a daemon thread: reading a pipe may never end, and nothing must wait for that.

    `asyncio.run` waits for the threads of `to_thread`, and Python's exit for those of anyio.
    """
    loop = asyncio.get_running_loop()
    result: asyncio.Future[_T] = loop.create_future()

    def run() -> None:
        try:
            report = partial(result.set_result, work(*arguments))
        except BaseException as error:
            report = partial(result.set_exception, error)
        with suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(lambda: None if result.done() else report())

    _thread.start_new_thread(run, ())
    return await result
