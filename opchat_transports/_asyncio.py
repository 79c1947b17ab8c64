"""What is particular about asyncio, under any of its loops: scopes with one timer, and connections."""

import asyncio
import errno
import math
import socket
from typing import Any, Self

from ._common import READ, tune

__all__ = ["AsyncioScope", "PlainStream", "connect"]

_NEXT_ATTEMPT = 0.25  # seconds until the next address of a name is tried beside the one before (RFC 8305, 5)


class AsyncioScope:
    """As `trio.CancelScope`: ends what its task waits for, at a time or when it is told to.

    One serves all waits of a reply, one after the other, with one timer: to set a timer
    for each takes as long as to parse what comes.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.cancelled_caught = False
        self._loop = loop
        self._timer: asyncio.TimerHandle | None = None
        self._rings_at = self._until = math.inf
        self._task: asyncio.Task[Any] | None = None  # that is in the scope
        self._cancelled_before = 0  # how often that task was, by others
        self._is_cancelled = False

    def within(self, until: float) -> Self:
        """The same scope, for what may take until then."""
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
        """End the wait in progress, if there is one."""
        if self._task is not None and not self._is_cancelled:
            self._is_cancelled = True
            self._task.cancel()

    def rest(self) -> None:
        """Leave no timer behind, unless something is waited for."""
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
    """A connection. Gives first what came before it failed."""

    writer: asyncio.StreamWriter
    failure: Exception | None = None

    def set_exception(self, exc: Exception) -> None:
        self.failure = exc
        self.feed_eof()

    async def receive_some(self) -> bytes:
        """Some bytes; none at the end. Raises `OSError` for a failure."""
        data = await self.read(READ)
        if not data and self.failure is not None:
            raise self.failure
        return data

    async def send_all(self, data: bytes) -> None:
        """Raises `OSError` if not all of it can be sent: what has come may still be read.

        A failed write ends all reading. So the loop reads first, which takes it two turns,
        or an answer would be lost that came, with a reset, while the loop was busy.
        """
        await asyncio.sleep(0)  # the first turn
        await asyncio.sleep(0)  # the second
        if self.writer.is_closing():  # where uvloop would raise a RuntimeError
            raise self.failure or ConnectionResetError(errno.ECONNRESET, "closed")
        self.writer.write(data)
        try:
            await self.writer.drain()
        except ConnectionError as error:  # which does not say why
            raise self.failure or error from None

    def abort(self) -> None:
        """Close it; asyncio does so before any task runs again."""
        self.writer.transport.abort()


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
    """Connect to an address when the attempt before has failed, or takes long."""
    if previous:
        await asyncio.wait(previous[-1:], timeout=_NEXT_ATTEMPT * len(previous))
    loop = asyncio.get_running_loop()
    stream = PlainStream(limit=READ, loop=loop)
    protocol = asyncio.StreamReaderProtocol(stream, loop=loop)
    transport, _ = await loop.create_connection(lambda: protocol, *address[:2], family=family)
    transport.set_write_buffer_limits(0)  # what was sent is with the system
    tune(transport.get_extra_info("socket"))
    stream.writer = asyncio.StreamWriter(transport, protocol, None, loop)  # which it has no need of
    return stream


def _discard(attempt: asyncio.Task[PlainStream]) -> None:
    if not attempt.cancelled() and attempt.exception() is None:
        attempt.result().abort()
