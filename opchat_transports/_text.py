"""The text of an answer, without its other events."""

from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator
from typing import Any, Self, final

from opchat_proto import Broken, End, Event, Live

from ._broken import ReplyBroken

__all__ = ["AsyncText", "Text", "acollect", "collect"]

_READ_BEFORE = (
    "expected a reply that nothing else has read: its events were read before, so join the texts of their `Live` events"
)


@final
class _Answer:
    """Collects the text of an answer from its events."""

    __slots__ = ("events", "last", "pieces")

    def __init__(self) -> None:
        self.pieces: list[str] = []
        self.last: End | Broken | None = None
        self.events = 0

    def piece(self, event: Event) -> str:
        """The text that an event adds."""
        self.events += 1
        match event:
            case Live(text, kind="content"):
                self.pieces.append(text)
                return text
            case End(reply):
                self.last = event
                if not self.pieces and reply is not None:
                    return reply  # from a site that does not stream
            case Broken():
                self.last = event
        return ""

    def whole(self) -> str:
        """The site's final text, or else the pieces. Raises `ReplyBroken`, and `ValueError` before the end."""
        match self.last:
            case Broken():
                raise ReplyBroken(self.last, "".join(self.pieces))
            case End(str(reply)):
                return reply
            case End():
                return "".join(self.pieces)
            case _:
                raise ValueError(_READ_BEFORE)

    def check(self) -> None:
        """Raise `ReplyBroken` if the reply is broken."""
        if isinstance(self.last, Broken):
            self.whole()


def _answer_of(reply: Any) -> _Answer:
    """The text of a reply so far. Raises `ValueError` if events were read another way."""
    answer: _Answer | None = reply._answer
    if answer is None:
        answer = reply._answer = _Answer()
    if answer.events != reply._call.events_given:
        raise ValueError(_READ_BEFORE)
    return answer


def collect(events: Iterable[Event]) -> str:
    """Return the whole text of an answer, from all its events; for a reply, the same as `Reply.text`.

    Raises `ReplyBroken`, which has the pieces that came, and `ValueError` if the last
    event is missing or events of the reply were read before.
    """
    if isinstance(events, Text):
        return events.text()
    answer = _Answer()
    for event in events:
        answer.piece(event)
    return answer.whole()


async def acollect(events: AsyncIterable[Event]) -> str:
    """Like `collect`, in async code. If cancelled, the reply is closed and the answer is lost."""
    if isinstance(events, AsyncText):
        return await events.text()
    answer = _Answer()
    async for event in events:
        answer.piece(event)
    return answer.whole()


@final
class _Pieces:
    """An iterator over the pieces of a text."""

    __slots__ = ("_answer", "_reply")

    def __init__(self, reply: "Text") -> None:
        self._reply = reply
        self._answer = _answer_of(reply)

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> str:
        for event in self._reply:
            if piece := self._answer.piece(event):
                return piece
        self._answer.check()
        raise StopIteration


@final
class _AsyncPieces:
    """Like `_Pieces`, in async code. Not an async generator, which its user would have to close after leaving early."""

    __slots__ = ("_answer", "_reply")

    def __init__(self, reply: "AsyncText") -> None:
        self._reply = reply
        self._answer = _answer_of(reply)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> str:
        async for event in self._reply:
            if piece := self._answer.piece(event):
                return piece
        self._answer.check()
        raise StopAsyncIteration


class Text(Iterator[Event]):
    """The text of a reply that is an iterator of events."""

    _answer: _Answer | None = None

    def pieces(self) -> Iterator[str]:
        """Iterate over the text of the answer as it comes, without other events.

        An answer that is not streamed is one piece. Calling it again continues at the
        same place. Raises `ReplyBroken` at the end of a broken reply; it has the pieces
        before that. Raises `ValueError` if events of the reply were read another way.
        """
        return _Pieces(self)

    def text(self) -> str:
        """Return the whole text of the answer: the site's final text, or else the joined pieces.

        May be called after some or all pieces. Raises `ReplyBroken` if the reply is
        broken, `ValueError` if events of the reply were read another way.
        """
        answer = _answer_of(self)
        for event in self:
            answer.piece(event)
        return answer.whole()


class AsyncText(AsyncIterator[Event]):
    """The text of a reply that is an async iterator of events."""

    _answer: _Answer | None = None

    def pieces(self) -> AsyncIterator[str]:
        """Like `Text.pieces`, in async code. You may stop at any time, and then close the reply."""
        return _AsyncPieces(self)

    async def text(self) -> str:
        """Like `Text.text`, in async code. If cancelled, the reply is closed and the answer is lost."""
        answer = _answer_of(self)
        async for event in self:
            answer.piece(event)
        return answer.whole()
