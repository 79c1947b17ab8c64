"""What the servers have in common: bots and their answers."""

import importlib
import inspect
import sys
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Generator, Iterable, Iterator
from typing import Any, cast, final

from opchat_proto import Broken, End, Event, Live, Reason, Submit

__all__ = ["Items", "as_async", "as_sync", "broken_bot", "events_of", "load_bot", "server_url"]

_OOPS = (  # WIRE 5.6
    "Oops! Something went wrong on the server. Please try again, and if you are the site developer, "
    "check the PHP Error Logs for details."
)


@final
class Items:
    """What one bot gives for one question, as events."""

    def __init__(self) -> None:
        self._pieces: list[str] = []

    def event(self, item: object) -> Event:
        """An item as an event: a str is a piece of the answer. Raises `TypeError` for what is neither."""
        event = Live(item) if isinstance(item, str) else item
        if not isinstance(event, Live | End | Broken):
            raise TypeError(f"a bot gives str, Live, End or Broken, not {type(event).__name__}")
        if isinstance(event, Live) and event.kind == "content":
            self._pieces.append(event.text)
        return event

    def end(self) -> End:
        """The last event of a bot that gave none: the joined pieces are the reply."""
        return End("".join(self._pieces))


def events_of(bot: Callable[[Submit], Iterable[str | Event]], submit: Submit) -> Generator[Event]:
    """The events of a bot that is not async: any number of `Live`, then `End` or `Broken`.

    Raises what the bot raises, and `TypeError` for an item of a wrong type. Closing
    it closes the bot's iterator, and so does its end.
    """
    items = Items()
    given = iter(bot(submit))
    try:
        for item in given:
            event = items.event(item)
            yield event
            if not isinstance(event, Live):
                return
        yield items.end()
    finally:
        close = getattr(given, "close", None)  # a generator has it
        if close is not None:
            close()


def broken_bot(error: BaseException, *, debug: bool = False) -> Broken:
    """What a client is told about a bot that raised: the plugin's general error, or what was raised."""
    return Broken(Reason.REMOTE, f"{type(error).__name__}: {error}" if debug else _OOPS)


def server_url(host: str, port: int) -> str:
    """The address of a site that listens there."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # bound to all: one that can be asked
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def load_bot(name: str) -> Callable[[Submit], Any]:
    """The bot that `module:callable` names, as a server of ASGI would find it. Raises `ValueError`, in words."""
    module, _, path = name.partition(":")
    if not module or not path:
        raise ValueError(f"expected module:callable, got {name!r}")
    if "" not in sys.path:
        sys.path.insert(0, "")  # a file where the command was called
    try:
        found: Any = importlib.import_module(module)
        for part in path.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"cannot load {name}: {error}") from error
    if not callable(found):
        raise ValueError(f"{name} is not callable")
    return cast("Callable[[Submit], Any]", found)


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


def as_async(bot: Callable[[Submit], Any]) -> Callable[[Submit], AsyncIterator[str | Event]]:
    """Any bot, for a server that has an event loop: one that is not async runs in threads, a piece at a time.

    A client that leaves closes it after its next piece.
    """

    async def answer(submit: Submit) -> AsyncIterator[str | Event]:
        import anyio
        import anyio.to_thread

        if _is_async(bot):
            items = bot(submit)
        else:
            items = await anyio.to_thread.run_sync(bot, submit)
        if isinstance(items, Awaitable):
            items = await items
        if isinstance(items, AsyncIterable):
            items = aiter(items)
            try:
                async for item in items:
                    yield item
            finally:
                close = getattr(items, "aclose", None)
                if close is not None:
                    await close()
            return
        items = iter(items)
        try:
            while (item := await anyio.to_thread.run_sync(next, items, _OVER)) is not _OVER:
                yield item
        finally:
            close = getattr(items, "close", None)
            if close is not None:
                with anyio.CancelScope(shield=True):
                    await anyio.to_thread.run_sync(close)

    return answer


_OVER: Any = object()


async def _wait_for(what: Awaitable[Any]) -> Any:
    return await what


def _is_async(bot: object) -> bool:
    call = bot if inspect.isroutine(bot) else getattr(bot, "__call__", bot)  # noqa: B004  # not whether it is callable: what its call is
    return inspect.isasyncgenfunction(call) or inspect.iscoroutinefunction(call)
