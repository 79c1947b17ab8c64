"""Every scenario with every way of asking."""

import asyncio
import gc
import ssl
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from types import ModuleType, TracebackType
from typing import Any, Self

import anyio
import anyio.to_thread
import httpx
import httpx2
import pytest
import trio
import uvloop

from opchat_proto import Event, Session
from opchat_transports import AsyncTransport, QuestionLike
from opchat_transports.asyncio_httpx import HttpxTransport
from opchat_transports.asyncio_streams import AsyncioTransport
from opchat_transports.blocking_sockets import BlockingReply, BlockingTransport
from opchat_transports.trio_streams import TrioTransport

from .peer import PATIENCE
from .scenarios import SCENARIOS

Main = Callable[[], Coroutine[Any, Any, Any]]


class UnwaitingReply:
    """A blocking reply with async methods. Its coroutines never let another task run."""

    def __init__(self, reply: BlockingReply) -> None:
        self._reply = reply

    @property
    def retries(self) -> int:
        return self._reply.retries

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event:
        try:
            return next(self._reply)
        except StopIteration:
            raise StopAsyncIteration from None

    async def aclose(self) -> None:
        self._reply.close()

    async def __aenter__(self) -> Self:
        self._reply.__enter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        self._reply.__exit__(kind, error, at)


class UnwaitingTransport:
    """A blocking transport with async methods."""

    def __init__(self, transport: BlockingTransport) -> None:
        self._transport = transport

    @property
    def session(self) -> Session | None:
        return self._transport.session

    def ask(self, question: QuestionLike) -> UnwaitingReply:
        return UnwaitingReply(self._transport.ask(question))

    async def aclose(self) -> None:
        self._transport.close()

    async def __aenter__(self) -> Self:
        self._transport.__enter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        self._transport.__exit__(kind, error, at)


class Blocking:
    head_is_ours = True
    keeps_connections = False

    def run(self, main: Main) -> Any:
        coroutine = main()
        try:
            coroutine.send(None)
        except StopIteration as stop:
            return stop.value
        raise AssertionError("a blocking transport has waited for another task")

    def opened(self, url: str, **options: Any) -> UnwaitingTransport:
        return UnwaitingTransport(BlockingTransport(url, **options))

    async def together(self, *works: Main) -> list[Any]:
        with ThreadPoolExecutor(len(works)) as threads:
            return list(threads.map(self.run, works))

    async def wait_for(self, happened: threading.Event) -> None:
        assert happened.wait(PATIENCE)


class Async:
    async def together(self, *works: Main) -> list[Any]:
        results: list[Any] = [None] * len(works)

        async def work(index: int) -> None:
            results[index] = await works[index]()

        async with anyio.create_task_group() as tasks:
            for index in range(len(works)):
                tasks.start_soon(work, index)
        return results

    async def wait_for(self, happened: threading.Event) -> None:
        assert await anyio.to_thread.run_sync(happened.wait, PATIENCE)


class Asyncio(Async):
    head_is_ours = True
    keeps_connections = False

    def __init__(self, new_loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
        self._new_loop = new_loop

    def run(self, main: Main) -> Any:
        with asyncio.Runner(loop_factory=self._new_loop) as runner:
            return runner.run(alone(main))

    def opened(self, url: str, **options: Any) -> AsyncioTransport:
        return AsyncioTransport(url, **options)


class Trio(Async):
    head_is_ours = True
    keeps_connections = False

    def run(self, main: Main) -> Any:
        return trio.run(main)

    def opened(self, url: str, **options: Any) -> TrioTransport:
        return TrioTransport(url, **options)


class Httpx(Async):
    """With its own client, or a caller's."""

    head_is_ours = False

    def __init__(self, run: Callable[[Main], Any], module: ModuleType | None) -> None:
        self.run = run
        self.keeps_connections = module is not None
        self._module = module

    @asynccontextmanager
    async def opened(self, url: str, **options: Any) -> AsyncIterator[AsyncTransport]:
        if self._module is None:
            async with HttpxTransport(url, **options) as transport:
                yield transport
            return
        async with self._module.AsyncClient(verify=ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), trust_env=False) as client:
            async with HttpxTransport(url, client, **options) as transport:
                yield transport
            assert not client.is_closed


async def alone(main: Main) -> Any:
    result = await main()
    assert asyncio.all_tasks() == {asyncio.current_task()}
    return result


def on_asyncio(main: Main) -> Any:
    return asyncio.run(alone(main))


def on_trio(main: Main) -> Any:
    return trio.run(main)


WAYS: dict[str, Blocking | Trio | Asyncio | Httpx] = {
    "blocking": Blocking(),
    "trio": Trio(),
    "asyncio": Asyncio(asyncio.new_event_loop),
    "uvloop": Asyncio(uvloop.new_event_loop),
    "httpx": Httpx(on_asyncio, None),
    "httpx, a caller's": Httpx(on_asyncio, httpx),
    "httpx2": Httpx(on_asyncio, httpx2),
    "httpx on trio": Httpx(on_trio, httpx),
}


@pytest.fixture(scope="module", autouse=True)
def what_was_there() -> Iterator[None]:
    """Not watched repeatedly: that would take longer than the tests."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


pytestmark = pytest.mark.usefixtures("nothing_is_left")


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
@pytest.mark.parametrize("scenario", SCENARIOS.values(), ids=SCENARIOS)
def test_each_scenario_has_its_outcome(
    way: Blocking | Trio | Asyncio | Httpx, scenario: Callable[[Any], Coroutine[Any, Any, None]]
) -> None:
    way.run(lambda: scenario(way))
