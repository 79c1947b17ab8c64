"""Run async and blocking bots on async and threaded servers, and load bots by name."""

import contextvars
import importlib
import inspect
import queue
import threading
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterable, Awaitable, Callable, Iterator, Mapping
from contextlib import suppress
from typing import Any, NamedTuple, cast, final

from opchat_proto import Broken, Event, Reason, Submit

from ._serving import bots_own, failed_when_closed
from .file_store import BotWithFiles, FileStore, StoredFile

__all__ = ["Threads", "WithFiles", "as_async", "as_sync", "load_bot", "with_files"]

_OVER: Any = object()
_GONE = Broken(Reason.REMOTE, "A file of this question does not exist, or no longer.")


def load_bot(name: str) -> Callable[[Submit], Any]:
    """Import the bot named `module:callable`, as an ASGI server would.

    Raises `ValueError`, with a text for a person, whatever the import raises.
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


def as_sync(bot: Callable[..., Any]) -> Callable[..., Iterator[str | Event]]:
    """Adapt any bot to a server with a thread for each question. An async bot gets its own event loop.

    The loop runs only while the next piece is awaited, each time in another asyncio
    task: a context that must begin and end in one task cannot span a `yield`.
    """

    def answer(*asked: Any) -> Iterator[str | Event]:
        items = bot(*asked)
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
    """Adapt any bot to a server with an event loop. A blocking bot gets a thread for each question.

    If the client leaves while the bot works, the bot is closed after its next piece;
    nothing waits for that.
    """

    async def answer(submit: Submit) -> AsyncGenerator[str | Event]:
        if isinstance(bot, WithFiles) and is_async(bot) and submit.file_ids:
            from anyio import to_thread

            items = bot.ask(submit, await to_thread.run_sync(bot.find, submit))
        elif is_async(bot):
            items = bot(submit)
        else:
            worker = _Worker(bot, submit)
            threads.run(worker.run)
            try:
                while (item := await worker.next()) is not _OVER and not isinstance(item, _Async):
                    yield item
            finally:
                threads.forget(worker.run)
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


@final
class WithFiles:
    """Adapt a bot that takes a question and its files to one that takes only a question."""

    def __init__(self, bot: BotWithFiles, store: FileStore) -> None:
        self.bot = bot
        self.__qualname__ = getattr(bot, "__qualname__", type(bot).__qualname__)
        self._store = store

    def __call__(self, submit: Submit) -> Any:
        return self.ask(submit, self.find(submit))

    def find(self, submit: Submit) -> tuple[StoredFile, ...] | None:
        """The files of a question, or None if one is missing. Reads the disk."""
        return self._store.find_all(submit.file_ids)

    def ask(self, submit: Submit, files: tuple[StoredFile, ...] | None) -> Any:
        """Call the bot with a question and its files."""
        if files is not None:
            return self.bot(submit, files)
        return _gone() if is_async(self.bot) else (_GONE,)


async def _gone() -> AsyncGenerator[Event]:
    yield _GONE


def with_files(
    bots: Mapping[str | None, Callable[..., Any]], store: FileStore | None
) -> dict[str | None, Callable[[Submit], Any]]:
    """The same bots, each called with the question alone. Raises `TypeError` for a bot that takes no files."""
    if store is None:
        return dict(bots)
    for name, bot in bots.items():
        with suppress(ValueError):  # its signature is unknown
            try:
                inspect.signature(bot).bind(None, ())
            except TypeError:
                called = "the bot" if name is None else f"the bot {name!r}"
                raise TypeError(f"files: {called} must take a question and a tuple of its files") from None
    return {name: WithFiles(bot, store) for name, bot in bots.items()}


def is_async(bot: object) -> bool:
    """Whether calling this bot certainly returns an awaitable or an async iterable."""
    if isinstance(bot, WithFiles):
        bot = bot.bot
    call = bot if inspect.isroutine(bot) else getattr(bot, "__call__", bot)  # noqa: B004  # for its call, not to test whether it is callable
    return inspect.isasyncgenfunction(call) or inspect.iscoroutinefunction(call)


async def _wait_for(what: Awaitable[Any]) -> Any:
    return await what


@final
class Threads:
    """A pool of at most `number` threads. Further jobs wait for their turn.

    The threads are daemons, so a bot that never returns does not keep the process alive.
    """

    def __init__(self, number: int) -> None:
        self._number = number
        self._lock = threading.Lock()
        self._waiting: deque[Callable[[], None]] = deque()
        self._running = 0

    def run(self, job: Callable[[], None]) -> None:
        """Run this job as soon as a thread is free."""
        with self._lock:
            self._waiting.append(job)
            if self._running == self._number:
                return
            self._running += 1
        threading.Thread(target=self._work, name="opchat bot", daemon=True).start()

    def forget(self, job: Callable[[], None]) -> None:
        """Do not run this job if it still waits, and do not hold it any longer."""
        with self._lock, suppress(ValueError):
            self._waiting.remove(job)

    def _work(self) -> None:
        while True:
            with self._lock:
                if not self._waiting:
                    self._running -= 1
                    return
                job = self._waiting.popleft()
            job()


class _Async(NamedTuple):
    """The result of a bot's call that must be iterated over in the event loop."""

    items: Any


@final
class _Worker:
    """Runs a blocking bot for one question: from its call to its close in one thread and one context."""

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
        """Close the bot's iterator, and wait for it unless the bot is working."""
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
        """Run the bot; this is the job of the thread."""
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
                close = getattr(items, "close", None)  # generators have it
                if close is not None:
                    close()
            except BaseException as error:
                failed_when_closed(error)
            self._tell(self._closed.set)

    def _tell(self, call: Callable[..., None], *args: Any) -> None:
        import anyio.from_thread

        with suppress(RuntimeError):  # the event loop has ended meanwhile
            anyio.from_thread.run_sync(call, *args, token=self._token)
