"""The text of an answer, without the events beside it."""

from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator
from typing import Self, final

from opchat_proto import Broken, End, Event, Live

from ._broken import ReplyBroken

__all__ = ["AsyncText", "Text", "acollect", "collect"]

_READ_BEFORE = "expected a reply that has not been read to its end"


@final
class _Answer:
    """Takes an answer's events and gives its text."""

    __slots__ = ("end", "pieces")

    def __init__(self) -> None:
        self.pieces: list[str] = []
        self.end: End | None = None

    def piece(self, event: Event) -> str:
        """What an event adds to the text. Raises `ReplyBroken` for a `Broken`."""
        match event:
            case Live(text, kind="content"):
                self.pieces.append(text)
                return text
            case End(reply):
                self.end = event
                if not self.pieces and reply is not None:
                    return reply  # as from a site that does not stream
            case Broken():
                raise ReplyBroken(event, "".join(self.pieces))
        return ""

    def whole(self) -> str:
        """The site's final text, or the pieces if it sent none. Raises `ValueError` where no end has come."""
        if self.end is None:
            raise ValueError(_READ_BEFORE)
        return "".join(self.pieces) if self.end.reply is None else self.end.reply


def collect(events: Iterable[Event]) -> str:
    """The whole text of an answer, from its events: what `Reply.text` gives.

    Raises `ReplyBroken`, which holds the pieces that came, and `ValueError` for a
    reply that has been read to its end before.
    """
    answer = _Answer()
    for event in events:
        answer.piece(event)
    return answer.whole()


async def acollect(events: AsyncIterable[Event]) -> str:
    """As `collect`, in async code. Cancelled, it leaves a reply that is closed, and nothing of the answer."""
    answer = _Answer()
    async for event in events:
        answer.piece(event)
    return answer.whole()


@final
class _Pieces:
    """An iterator over the pieces of a text."""

    __slots__ = ("_answer", "_events")

    def __init__(self, events: Iterable[Event]) -> None:
        self._events = events
        self._answer = _Answer()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> str:
        for event in self._events:
            if piece := self._answer.piece(event):
                return piece
        raise StopIteration


@final
class _AsyncPieces:
    """As `_Pieces`, in async code. An async generator would have to be closed by whoever leaves it early."""

    __slots__ = ("_answer", "_events")

    def __init__(self, events: AsyncIterable[Event]) -> None:
        self._events = events
        self._answer = _Answer()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> str:
        async for event in self._events:
            if piece := self._answer.piece(event):
                return piece
        raise StopAsyncIteration


class Text(Iterator[Event]):
    """The text of a reply that is an iterator of events."""

    __slots__ = ()

    def pieces(self) -> Iterator[str]:
        """The text of the answer in pieces, as they come; nothing else that the site says.

        An answer that did not come in pieces is one. Raises `ReplyBroken` where the
        reply is broken: it holds the pieces before that.
        """
        return _Pieces(self)

    def text(self) -> str:
        """The whole text of the answer: the site's final text, or the pieces if it sent none.

        Raises `ReplyBroken` if the reply is broken, `ValueError` if it was read to its
        end before.
        """
        return collect(self)


class AsyncText(AsyncIterator[Event]):
    """The text of a reply that is an async iterator of events."""

    __slots__ = ()

    def pieces(self) -> AsyncIterator[str]:
        """As `Text.pieces`, in async code. There is nothing to close: leave it when you like."""
        return _AsyncPieces(self)

    async def text(self) -> str:
        """As `Text.text`, in async code. Cancelled, it leaves a reply that is closed, and nothing of the answer."""
        return await acollect(self)
