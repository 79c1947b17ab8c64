"""Ask over any transport, and helpers for tests that run on all of them."""

import asyncio
import os
import queue
import socket
import sys
import threading
from collections.abc import Awaitable, Callable, Coroutine, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest
import trio
import uvloop

from opchat_proto import Endpoint
from opchat_transports import QuestionLike
from opchat_transports.asyncio_httpx import HttpxTransport
from opchat_transports.asyncio_streams import AsyncioTransport
from opchat_transports.blocking_sockets import BlockingTransport
from opchat_transports.trio_streams import TrioTransport

from .peer import PATIENCE

__all__ = [
    "ASKS",
    "EACH",
    "TRANSPORTS",
    "Ask",
    "CancelledAt",
    "full_queue",
    "in_thread",
    "linux",
    "on_asyncio",
    "open_files",
]

Main = Callable[[], Coroutine[Any, Any, Any]]
linux = pytest.mark.skipif(sys.platform != "linux", reason="needs a TCP that is known")


def on_asyncio(main: Main, new_loop: Callable[[], asyncio.AbstractEventLoop] | None = None) -> Any:
    """Run it, and check that no task is left running."""

    async def alone() -> Any:
        result = await main()
        assert asyncio.all_tasks() == {asyncio.current_task()}
        return result

    with asyncio.Runner(loop_factory=new_loop) as runner:
        return runner.run(alone())


@dataclass(frozen=True)
class Ask:
    """Ask once and return all events."""

    kind: Any
    """The transport's class."""
    run: Callable[[Main], Any] | None = None
    """Runs its coroutines; None if it has none."""

    def __call__(self, url: str | Endpoint, *, question: QuestionLike = "Hi", **options: Any) -> list[Any]:
        async def main() -> list[Any]:
            async with self.kind(url, **options) as transport, transport.ask(question) as reply:
                return [event async for event in reply]

        if self.run is None:
            with self.kind(url, **options) as transport, transport.ask(question) as reply:
                return list(reply)
        events: list[Any] = self.run(main)
        return events

    @property
    def is_httpx(self) -> bool:
        """Whether a library makes the connections. This hides some faults."""
        return self.kind is HttpxTransport


ASKS = {
    "blocking": Ask(BlockingTransport),
    "trio": Ask(TrioTransport, trio.run),
    "asyncio": Ask(AsyncioTransport, on_asyncio),
    "httpx": Ask(HttpxTransport, on_asyncio),
}
EACH = {**ASKS, "uvloop": Ask(AsyncioTransport, partial(on_asyncio, new_loop=uvloop.new_event_loop))}
TRANSPORTS = [ask.kind for ask in ASKS.values()]


def in_thread(work: Callable[[], Any]) -> Callable[[], Any]:
    """Start it, and return a function that waits for its result."""
    results: queue.Queue[Any] = queue.Queue()

    def run() -> None:
        try:
            results.put(work())
        except BaseException as error:
            results.put(error)

    thread = threading.Thread(target=run)
    thread.start()

    def join() -> Any:
        result = results.get(timeout=PATIENCE)
        thread.join(PATIENCE)
        return result

    return join


@contextmanager
def full_queue() -> Iterator[int]:
    """A port with a full backlog: a connection attempt gets no answer."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener:
        port = listener.getsockname()[1]
        waiting = [socket.socket() for _ in range(8)]
        for connection in waiting:
            connection.setblocking(False)
            connection.connect_ex(("127.0.0.1", port))
        yield port
        for connection in waiting:
            connection.close()


def open_files() -> list[int]:
    """The descriptors of this process below 1000, on any system. A new one has the lowest free number."""

    def is_open(number: int) -> bool:
        try:
            os.fstat(number)
        except OSError:
            return False
        return True

    return list(filter(is_open, range(1000)))


class CancelledAt:
    """Await something, and cancel it at its nth wait."""

    def __init__(self, work: Awaitable[Any], nth: int, cancel: Callable[[], object]) -> None:
        self._work = work
        self._nth = nth
        self._cancel = cancel

    def __await__(self) -> Generator[Any, Any, Any]:
        steps = self._work.__await__()
        resume: Callable[[Any], Any] = steps.send
        value: Any = None
        count = 0
        while True:
            try:
                yielded = resume(value)
            except StopIteration as stop:
                return stop.value
            count += 1
            if count == self._nth:
                self._cancel()
            try:
                value = yield yielded
                resume = steps.send
            except BaseException as error:
                value = error
                resume = steps.throw
