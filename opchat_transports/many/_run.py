"""Carry out a plan on any event loop. The loops differ only in the few functions of `Loop`."""

import math
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Mapping
from types import TracebackType
from typing import Any, Protocol, Self, TypeAlias, final

from opchat_proto import Broken, End, Endpoint, Live, Reason, Submit

from .. import AsyncReply, AsyncTransport
from ._plan import Answer, Plan, Turn
from ._questions import BatchQuestion, Result, to_question

__all__ = ["Asker", "Loop", "QuestionSource", "Results", "Run", "Spawn", "TransportAsker"]

QuestionSource: TypeAlias = (
    Iterable[BatchQuestion | Mapping[str, Any] | str] | AsyncIterable[BatchQuestion | Mapping[str, Any] | str]
)
_MOST_TRANSPORTS = 100  # idle transports kept for their sessions


class Event(Protocol):
    """`trio.Event`, `asyncio.Event`."""

    def set(self) -> object:
        """Wake the waiting tasks."""

    async def wait(self) -> object:
        """Wait until it is set."""


class Loop(Protocol):
    """The differences between trio and asyncio."""

    def new_event(self) -> Event:
        """An event that is not set."""

    def new_transport(self, endpoint: Endpoint, options: Mapping[str, Any]) -> AsyncTransport:
        """A transport to a site."""

    def now(self) -> float:
        """Monotonic seconds."""

    async def wait(self, event: Event, until: float) -> None:
        """Wait until the event is set or the time has come."""

    def start(self, run: "Run") -> Callable[[], object]:
        """Call `run.main(spawn)` in the background, and then `run.end(error)`. Returns a function that cancels it."""


Spawn: TypeAlias = Callable[..., Callable[[], object]]
"""`spawn(function, *arguments)` starts a task inside the run, and returns a function that cancels it."""


class Asker(Protocol):
    """Asks one question, and returns the outcome."""

    async def ask(self, endpoint: Endpoint, submit: Submit) -> Answer:
        """Ask once, and return the outcome."""

    async def close(self) -> None:
        """Close all open questions: their answers become `Broken`."""


@final
class TransportAsker:
    """Asks over transports, one for each site, which keeps its session."""

    def __init__(
        self, loop: Loop, options: Mapping[str, Any], for_own_site: tuple[Endpoint, dict[str, Any]] | None
    ) -> None:
        self._loop = loop
        self._options = options
        self._own_site: Endpoint | None = None
        self._for_own_site: dict[str, Any] = {}
        if for_own_site is not None:
            self._own_site, self._for_own_site = for_own_site
        self._transports: dict[Endpoint, AsyncTransport] = {}  # the least recently used first
        self._replies: set[AsyncReply] = set()
        self._is_closed = False

    async def ask(self, endpoint: Endpoint, submit: Submit) -> Answer:
        began = self._loop.now()
        first: float | None = None
        pieces: list[str] = []
        has_begun = False
        if self._is_closed:
            return Answer(Broken(Reason.LOST, "closed by the caller"))
        transport = self._transport(endpoint)
        try:
            reply = transport.ask(submit)
        except ValueError as error:  # a conversation has grown too large; everything else was checked before
            return Answer(Broken(Reason.TOO_LARGE, str(error), limit="request_bytes"))
        self._replies.add(reply)
        try:
            async with reply:
                async for event in reply:
                    match event:
                        case Live(text, kind):
                            has_begun = True
                            if kind == "content":
                                first = self._loop.now() - began if first is None else first
                                pieces.append(text)
                        case End() | Broken():
                            last = event
        finally:
            self._replies.discard(reply)
        seconds = self._loop.now() - began
        if first is None and isinstance(last, End):
            first = seconds  # the answer came in one piece
        return Answer(last, "".join(pieces), first, seconds, has_begun)

    async def close(self) -> None:
        self._is_closed = True
        for reply in list(self._replies):
            await reply.aclose()

    def _transport(self, endpoint: Endpoint) -> AsyncTransport:
        transport = self._transports.pop(endpoint, None)
        if transport is None:
            own = self._for_own_site if endpoint == self._own_site else {}
            transport = self._loop.new_transport(endpoint, {**self._options, **own})
        self._transports[endpoint] = transport
        if len(self._transports) > _MOST_TRANSPORTS:  # a transport without open replies holds no connection
            del self._transports[next(iter(self._transports))]
        return transport


@final
class Run:
    """Reads questions and asks them according to a plan."""

    def __init__(
        self,
        plan: Plan,
        questions: QuestionSource,
        loop: Loop,
        asker: Asker,
        concurrency: Callable[[], int],
        before_ask: Callable[[BatchQuestion], object] | None,
    ) -> None:
        self.plan = plan
        self.loop = loop
        self.is_over = False
        self.error: BaseException | None = None
        self.changed = loop.new_event()  # replaced after each change
        self._asker = asker
        self._concurrency = concurrency
        self._before_ask = before_ask
        self._questions: Any = iter(questions) if isinstance(questions, Iterable) else aiter(questions)
        self._is_async = not isinstance(questions, Iterable)
        self._number = 0
        self._wants_question = False  # whether a question is wanted from an async source
        self._is_closing = False

    async def main(self, spawn: Spawn) -> None:
        """Ask until there is nothing left to ask."""
        stop_reading = spawn(self._read) if self._is_async else None
        while True:
            changed, count = self.changed, len(self.plan.results)
            if self._is_closing:
                await self._asker.close()
            turn = self._next_turn()
            if len(self.plan.results) > count:
                self.wake()  # some were skipped
            if turn is None:
                break
            if isinstance(turn, Turn):
                spawn(self._ask, turn)
            else:
                await self.loop.wait(changed, turn)
        if stop_reading is not None:
            stop_reading()

    def end(self, error: BaseException | None) -> None:
        """`main` has ended, with this error or None."""
        while isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        self.error = error
        self.is_over = True
        self.wake()

    def close(self) -> None:
        """Ask no more, and close all open questions."""
        self.plan.stop()
        self._is_closing = True
        self.wake()

    def wake(self) -> None:
        """Wake `main`: something has changed."""
        changed, self.changed = self.changed, self.loop.new_event()
        changed.set()

    def _next_turn(self) -> Turn | float | None:
        most = self._concurrency()
        while True:
            if self.plan.under_way >= most or len(self.plan.results) >= most:
                return math.inf
            turn = self.plan.next_turn(self.loop.now())
            if turn is None or isinstance(turn, Turn) or not self.plan.has_room:
                return turn
            if self._is_async:
                if not self._wants_question:
                    self._wants_question = True
                    self.wake()
                return turn
            question = next(self._questions, None)
            if question is None:
                self.plan.end_input()
            else:
                self._add(question)

    async def _read(self) -> None:
        """Read questions from an async source, one at a time, when they are wanted."""
        while True:
            while not self._wants_question:
                await self.loop.wait(self.changed, math.inf)
            question = await anext(self._questions, None)
            if question is None:
                self.plan.end_input()
                self.wake()
                return
            self._add(question)
            self._wants_question = False
            self.wake()

    def _add(self, question: BatchQuestion | Mapping[str, Any] | str) -> None:
        self._number += 1
        self.plan.add(to_question(question, self._number))

    async def _ask(self, turn: Turn) -> None:
        if self._before_ask is not None:
            self._before_ask(turn.question)
        answer = await self._asker.ask(turn.endpoint, turn.submit)
        self.plan.finish(turn, answer, self.loop.now())
        self.wake()


@final
class Results:
    """An async iterator over the results in the order in which they come; made by `ask`.

    Nothing is asked until the first result is awaited. `aclose()`, leaving an `async
    with` block, or dropping the iterator closes all connections.
    """

    def __init__(self, make_run: Callable[[], Run]) -> None:
        """Made by `ask`."""
        self._make_run = make_run
        self._run: Run | None = None
        self._cancel: Callable[[], object] | None = None
        self._is_closed = False

    def __aiter__(self) -> AsyncIterator[Result]:
        """Return itself."""
        return self

    async def __anext__(self) -> Result:
        """Return the next result, with any outcome.

        If cancelled, nothing is lost: open questions continue. Raises the exceptions of
        the source of questions, and `ValueError` for a question that cannot be asked;
        all open questions have then been closed.
        """
        if self._run is None:
            if self._is_closed:
                raise StopAsyncIteration
            self._run = self._make_run()
            self._cancel = self._run.loop.start(self._run)
        run = self._run
        while not run.plan.results:
            if run.error is not None:
                error, run.error = run.error, None
                raise error
            if run.is_over:
                raise StopAsyncIteration
            await run.loop.wait(run.changed, math.inf)
        result = run.plan.results.popleft()
        run.wake()
        return result

    def stop(self) -> None:
        """Ask no more, and close all open questions, whose results still come, as `Broken`. Idempotent."""
        if self._run is None:
            self._is_closed = True
        else:
            self._run.close()

    async def aclose(self) -> None:
        """Close all connections, and yield no more results. Idempotent, and effective even if cancelled."""
        self._is_closed = True
        if self._run is not None:
            cancel, self._cancel = self._cancel, None  # once: a second cancel would cut the end of the run short
            if cancel is not None:
                cancel()
            self._run.plan.results.clear()
            while not self._run.is_over:
                await self._run.loop.wait(self._run.changed, math.inf)
            self._run.error = None
            self._run.plan.results.clear()

    async def __aenter__(self) -> Self:
        """Return itself, without waiting."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        """Same as `aclose()`."""
        await self.aclose()

    def __del__(self) -> None:
        if self._cancel is not None and self._run is not None and not self._run.is_over:
            self._cancel()
