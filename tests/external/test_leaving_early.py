"""Ten thousand streams that are left at any step, over each transport: nothing leaks, nothing is asked twice.

The plain suite leaves hundreds, and at every single await. This one finds what accumulates.
"""

import asyncio
import gc
import logging
import os
import random
import re
import threading
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from types import TracebackType
from typing import Any, Self

import anyio
import pytest
import trio

from opchat_proto import Broken, End, Live, Submit
from opchat_transports.asyncio_httpx import HttpxTransport
from opchat_transports.asyncio_streams import AsyncioTransport
from opchat_transports.blocking_sockets import BlockingTransport
from opchat_transports.trio_streams import TrioTransport

from ..transports.asking import CancelledAt
from ..transports.peer import PATIENCE
from ..transports.wire import LAST, SESSION, STREAM, end, live

STREAMS = 10_000
AT_ONCE = 50
STEPS = 16  # longer than a whole question takes
SEED = 20_240_607
PIECES = (STREAM, live("Hel"), live("lo"), end("Hello"), LAST)


class Site:
    """A server in its own thread, which lets the client run between pieces."""

    def __init__(self) -> None:
        self.journal: Counter[str] = Counter()
        self._talks: set[Any] = set()  # tasks
        self._ready = threading.Event()

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=asyncio.run, args=(self._serve(),))
        self._thread.start()
        assert self._ready.wait(PATIENCE)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive()

    async def _serve(self) -> None:
        self._loop, self._over = asyncio.get_running_loop(), asyncio.Event()
        server = await asyncio.start_server(self._answer, "127.0.0.1", 0, backlog=1024)
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        self._ready.set()
        async with server:
            await self._over.wait()
            if self._talks:  # each one ends when the client has closed its side
                _, left = await asyncio.wait(self._talks, timeout=PATIENCE)
                assert not left

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._talks.add(asyncio.current_task())
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                size = re.search(rb"(?i)\r\ncontent-length: *(\d+)", head)
                assert size is not None
                body = await reader.readexactly(int(size[1]))
                if b"/start_session" in head:
                    self.journal["a session"] += 1
                    pieces: tuple[bytes, ...] = (SESSION,)
                else:
                    asked = re.search(rb'"chatId":"(.*?)"', body)
                    assert asked is not None
                    self.journal[asked[1].decode()] += 1
                    pieces = PIECES
                for piece in pieces:
                    writer.write(piece)
                    await asyncio.sleep(0)  # other tasks run, so that a stream can be left between two pieces
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # the client has left
        finally:
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()
            self._talks.discard(asyncio.current_task())


def question(number: int | str) -> Submit:
    return Submit(new_message="Hi", chat_id=f"question{number}")


def check_the_last(events: list[Any]) -> None:
    assert [type(event) for event in events] == [Live, Live, End]
    assert events[-1].reply == "Hello"


# ------------------------------------------------------------------------------------------------ the transports


def with_blocking(url: str, numbers: random.Random) -> None:
    """Leave by break, by an exception, or by `close` from another thread at any time."""

    def leave(number: int, read: int, seconds: float) -> None:
        reply = transport.ask(question(number))
        timer = threading.Timer(seconds, reply.close) if read > 3 else None
        if timer is not None:
            timer.start()
        with suppress(ZeroDivisionError), reply:
            for count, event in enumerate(reply):
                assert isinstance(event, Live | End | Broken)
                if count == read:
                    break
                if count + 4 == read:
                    raise ZeroDivisionError
        if timer is not None:
            timer.cancel()
            timer.join()

    with BlockingTransport(url) as transport:
        with ThreadPoolExecutor(8) as threads:
            steps = [(numbers.randrange(8), numbers.random() * 0.003) for _ in range(STREAMS)]
            list(threads.map(leave, range(STREAMS), *zip(*steps, strict=True)))
        with transport.ask(question("last")) as reply:
            check_the_last(list(reply))


Kind = Callable[[str], Any]
Leave = Callable[[Awaitable[None], int], Coroutine[Any, Any, None]]


async def ask_and_leave(kind: Kind, url: str, numbers: random.Random, leave: Leave) -> None:
    async def follow(number: int) -> None:
        async with transport.ask(question(number)) as reply:
            async for event in reply:
                assert isinstance(event, Live | End | Broken)

    async with kind(url) as transport:
        for first in range(0, STREAMS, AT_ONCE):
            async with anyio.create_task_group() as tasks:
                for number in range(first, first + AT_ONCE):
                    tasks.start_soon(leave, follow(number), numbers.randrange(STEPS))
        async with transport.ask(question("last")) as reply:
            check_the_last([event async for event in reply])


async def by_scope(work: Awaitable[None], nth: int) -> None:
    with anyio.CancelScope() as scope:
        await CancelledAt(work, nth, scope.cancel)


async def natively(work: Awaitable[None], nth: int) -> None:
    """Cancel as asyncio does; half of the time one turn of the loop later, when the wait may be over."""

    async def run() -> None:
        task = asyncio.current_task()
        assert task is not None
        loop = asyncio.get_running_loop()
        cancel = task.cancel if nth % 2 else lambda: loop.call_soon(task.cancel)
        await CancelledAt(work, nth, cancel)

    with suppress(asyncio.CancelledError):
        await asyncio.create_task(run())


def on_asyncio(kind: Kind, leave: Leave) -> Callable[[str, random.Random], None]:
    def run(url: str, numbers: random.Random) -> None:
        async def alone() -> None:
            await ask_and_leave(kind, url, numbers, leave)
            assert asyncio.all_tasks() == {asyncio.current_task()}

        asyncio.run(alone())

    return run


def on_trio(kind: Kind) -> Callable[[str, random.Random], None]:
    def run(url: str, numbers: random.Random) -> None:
        async def alone() -> None:
            before = trio.lowlevel.current_statistics().tasks_living
            await ask_and_leave(kind, url, numbers, by_scope)
            assert trio.lowlevel.current_statistics().tasks_living == before

        trio.run(alone)

    return run


WAYS = {
    "blocking": with_blocking,
    "trio": on_trio(TrioTransport),
    "asyncio, cancelled natively": on_asyncio(AsyncioTransport, natively),
    "asyncio, cancelled by anyio": on_asyncio(AsyncioTransport, by_scope),
    "httpx, cancelled natively": on_asyncio(HttpxTransport, natively),
    "httpx, cancelled by anyio": on_asyncio(HttpxTransport, by_scope),
    "httpx on trio": on_trio(HttpxTransport),
}


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_ten_thousand_abandoned_streams_leave_nothing_behind(
    way: Callable[[str, random.Random], None], caplog: pytest.LogCaptureFixture
) -> None:
    gc.collect()
    before = sorted(os.listdir("/proc/self/fd"))
    with Site() as site:
        way(site.url, random.Random(SEED))
    gc.collect()  # an unclosed resource raises ResourceWarning, which is an error here
    assert sorted(os.listdir("/proc/self/fd")) == before
    assert [record for record in caplog.records if record.levelno > logging.INFO] == []
    questions = {name: count for name, count in site.journal.items() if name != "a session"}
    assert questions["questionlast"] == 1
    assert max(questions.values()) == 1
    assert len(questions) > STREAMS / 10  # some were left after the question was sent
