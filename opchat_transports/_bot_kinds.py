"""Bots of any kind for servers of any kind, and bots by the names of their modules."""

import contextvars
import importlib
import inspect
import queue
import threading
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterable, Awaitable, Callable, Iterator
from contextlib import suppress
from typing import Any, NamedTuple, cast, final

from opchat_proto import Event, Submit

from ._serving import bots_own, failed_when_closed

__all__ = ["Threads", "as_async", "as_sync", "load_bot"]

_OVER: Any = object()


def load_bot(name: str) -> Callable[[Submit], Any]:
    """The bot that `module:callable` names, as a server of ASGI would find it.

    Raises `ValueError`, in words, whatever the module does when it is imported.
    """
    module, _, path = name.partition(":")
    if not module or not path:
        raise ValueError(f"expected module:callable, got {name!r}")
    try:
        found: Any = importlib.import_module(module)
        for part in path.split("."):
            found = getattr(found, part)
    except BaseException as error:
        if not bots_own(error):
            raise
        raise ValueError(f"cannot load {name}: {_in_words(error)}") from error
    if not callable(found):
        raise ValueError(f"{name} is not callable")
    return cast("Callable[[Submit], Any]", found)


def _in_words(error: BaseException) -> str:
    if isinstance(error, ImportError | AttributeError):
        return str(error)
    return f"{type(error).__name__}: {error}"


def as_sync(bot: Callable[[Submit], Any]) -> Callable[[Submit], Iterator[str | Event]]:
    """Any bot, for a server that has a thread for each question: an async one gets an event loop of its own.

    It runs while its next piece is waited for, and each time in another task of
    asyncio: what must begin and end in one task cannot be held over a `yield`.
    """

    def answer(submit: Submit) -> Iterator[str | Event]:
        items = bot(submit)
        if not isinstance(items, Awaitable | AsyncIterable):
            yield from items
            return
        import asyncio

        with asyncio.Runner() as runner:
            if isinstance(items, Awaitable):
                items = runner.run(_wait_for(items))
            items = aiter(items)
            try:
                while (item := runner.run(_wait_for(anext(items, _OVER)))) is not _OVER:
                    yield item
            finally:
                close = getattr(items, "aclose", None)
                if close is not None:
                    runner.run(_wait_for(close()))

    return answer


def as_async(bot: Callable[[Submit], Any], threads: "Threads") -> Callable[[Submit], AsyncGenerator[str | Event]]:
    """Any bot, for a server that has an event loop: one that is not async has a thread for each question.

    If the client leaves while it thinks, it is closed when it has given its next
    piece; nobody waits for that.
    """

    async def answer(submit: Submit) -> AsyncGenerator[str | Event]:
        if is_async(bot):
            items = bot(submit)
        else:
            worker = _Worker(bot, submit)
            threads.run(worker.run)
            try:
                while (item := await worker.next()) is not _OVER and not isinstance(item, _Async):
                    yield item
            finally:
                await worker.close()
            if item is _OVER:
                return
            items = item.items
        if isinstance(items, Awaitable):
            items = await items
        items = aiter(items)
        try:
            async for item in items:
                yield item
        finally:
            close = getattr(items, "aclose", None)
            if close is not None:
                await close()

    return answer


def is_async(bot: object) -> bool:
    """Whether a call of this bot can be seen to give something that is awaited or iterated over in an event loop."""
    call = bot if inspect.isroutine(bot) else getattr(bot, "__call__", bot)  # noqa: B004  # not whether it is callable: what its call is
    return inspect.isasyncgenfunction(call) or inspect.iscoroutinefunction(call)


async def _wait_for(what: Awaitable[Any]) -> Any:
    return await what


@final
class Threads:
    """At most so many threads, each with one job at a time. A job for which there is none waits for its turn.

    They are daemons: a bot that never comes back keeps no process alive.
    """

    def __init__(self, number: int) -> None:
        self._number = number
        self._lock = threading.Lock()
        self._waiting: deque[Callable[[], None]] = deque()
        self._running = 0

    def run(self, job: Callable[[], None]) -> None:
        """Run this as soon as there is a thread."""
        with self._lock:
            self._waiting.append(job)
            if self._running == self._number:
                return
            self._running += 1
        threading.Thread(target=self._work, name="opchat bot", daemon=True).start()

    def _work(self) -> None:
        while True:
            with self._lock:
                if not self._waiting:
                    self._running -= 1
                    return
                job = self._waiting.popleft()
            job()


class _Async(NamedTuple):
    """What the call of a bot gave that is to be iterated over in the event loop."""

    items: Any


@final
class _Worker:
    """A bot that is not async, at work on one question: from its call to its close in one thread and one context."""

    def __init__(self, bot: Callable[[Submit], Any], submit: Submit) -> None:
        import anyio
        import anyio.lowlevel

        self._bot = bot
        self._submit = submit
        self._context = contextvars.copy_context()
        self._token = anyio.lowlevel.current_token()
        self._orders: queue.SimpleQueue[bool] = queue.SimpleQueue()  # True: the next item; False: no more
        self._given = anyio.Event()
        self._closed = anyio.Event()
        self._outcome: tuple[Any, BaseException | None] = _OVER, None
        self._is_asked = False
        self._is_left = False

    # in the event loop

    async def next(self) -> Any:
        """The bot's next item, `_OVER` after the last, or an `_Async`. Raises what the bot raises."""
        import anyio

        self._given = anyio.Event()
        self._is_asked = True
        self._orders.put(True)
        await self._given.wait()
        self._is_asked = False
        item, error = self._outcome
        if error is not None:
            raise error
        return item

    async def close(self) -> None:
        """Close the bot's iterator, and wait for that unless the bot is thinking."""
        import anyio

        self._is_left = True
        self._orders.put(False)
        if not self._is_asked:
            with anyio.CancelScope(shield=True):
                await self._closed.wait()

    def _take(self, item: Any, error: BaseException | None) -> None:
        self._outcome = item, error
        self._given.set()

    # in the thread

    def run(self) -> None:
        """The job."""
        self._context.run(self._work)

    def _work(self) -> None:
        items: Any = None
        try:
            while self._orders.get() and not self._is_left:
                try:
                    if items is None:
                        given = self._bot(self._submit)
                        is_async = isinstance(given, Awaitable | AsyncIterable)
                        items = iter((_Async(given),) if is_async else given)
                    item, error = next(items, _OVER), None
                except BaseException as raised:
                    item, error = _OVER, raised
                self._tell(self._take, item, error)
        finally:
            try:
                close = getattr(items, "close", None)  # a generator has it
                if close is not None:
                    close()
            except BaseException as error:
                failed_when_closed(error)
            self._tell(self._closed.set)

    def _tell(self, call: Callable[..., None], *args: Any) -> None:
        import anyio.from_thread

        with suppress(RuntimeError):  # the event loop has ended meanwhile
            anyio.from_thread.run_sync(call, *args, token=self._token)
