"""Turn the items of a bot into events, for every server and for `opchat_transports.testing.pair`."""

from collections.abc import Callable, Generator, Iterable
from typing import TypeAlias, final

from opchat_proto import Broken, End, Event, Live, Submit

__all__ = ["BlockingBot", "Items", "events_of"]

BlockingBot: TypeAlias = Callable[[Submit], Iterable[str | Event]]
"""Answers a question in pieces: a str is a piece of the answer. May end with `End` or `Broken`."""


@final
class Items:
    """Turns the items of a bot for one question into events."""

    def __init__(self) -> None:
        self._pieces: list[str] = []

    def event(self, item: object) -> Event:
        """Return an item as an event; a str is a piece of the answer. Raises `TypeError` for anything else."""
        event = Live(item) if isinstance(item, str) else item
        if not isinstance(event, Live | End | Broken):
            raise TypeError(f"a bot gives str, Live, End or Broken, not {type(event).__name__}")
        if isinstance(event, Live) and event.kind == "content":
            self._pieces.append(event.text)
        return event

    def end(self) -> End:
        """The last event if the bot gave none: the joined pieces are the reply."""
        return End("".join(self._pieces))


def events_of(bot: BlockingBot, submit: Submit) -> Generator[Event]:
    """The events of a blocking bot: any number of `Live`, then `End` or `Broken`.

    Raises the bot's exceptions, and `TypeError` for an item of a wrong type. The end,
    and closing it, close the bot's iterator.
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
        close = getattr(given, "close", None)  # generators have it
        if close is not None:
            close()
