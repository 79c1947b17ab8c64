"""The conversations that a site keeps for a signed-in member (WIRE 7.7)."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, final

from ._askable import Askable, Draft
from ._conversation import LONGEST_ID, Conversation
from ._events import Broken, End, Reason
from ._json import decode
from ._limits import Limits
from ._messages import COMPACT, Message, Scalar, check_scalar, check_text, read_sent
from ._quote import SHOWN
from ._session import Session
from ._value import Value

__all__ = ["DeleteDiscussions", "Discussion", "DiscussionPage", "ListDiscussions", "RenameDiscussion"]

DISCUSSIONS_ROUTE = "/mwai-ui/v1/discussions"
_DEPTH = Limits().json_depth  # limit on JSON texts inside a row
_MOST = 2**31 - 1  # what PHP and MySQL accept on any machine


@final
@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Discussion(Value):
    """One conversation as the site keeps it (WIRE 7.7). Everything in it comes from the site: untrusted."""

    chat_id: str
    bot_id: str | None = None
    title: str | None = None
    """Chosen by the member or by the site's AI; None until then."""
    messages: tuple[Message, ...] = field(default=(), repr=False)
    previous_response_id: str | None = field(default=None, repr=False)
    """The id of the last answer, if the site's provider remembers it."""
    created: str = ""
    """Date and time in UTC, such as "2026-11-28 14:03:36"; "" if the site gives none."""
    updated: str = ""

    def conversation(self, session: Session | None = None) -> Conversation:
        """Make a conversation that continues this one, with the same chat id and bot.

        `session` must be the same member's, such as `transport.session`. With another
        session, the site adds nothing to this discussion.
        """
        return Conversation(
            messages=self.messages,
            chat_id=self.chat_id,
            bot_id=self.bot_id,
            session=session,
            previous_response_id=self.previous_response_id,
        )


@final
@dataclass(frozen=True, slots=True, eq=False, repr=False)
class DiscussionPage(Value):
    """One page of a member's discussions, most recently updated first."""

    discussions: tuple[Discussion, ...]
    total: int
    """The number of discussions with this bot on all pages."""

    def __iter__(self) -> Iterator[Discussion]:
        """The discussions of this page."""
        return iter(self.discussions)

    def __len__(self) -> int:
        """The number of discussions on this page."""
        return len(self.discussions)

    @classmethod
    def from_end(cls, end: End) -> "DiscussionPage":
        """Read the answer to a `ListDiscussions`. Raises `ValueError` for the end of any other answer."""
        payload = end.payload()
        rows, total = payload.get("chats"), payload.get("total")
        if not isinstance(rows, list):
            raise ValueError("no list of discussions")
        discussions = tuple(_read_row(row) for row in rows)
        if total is None:
            return cls(discussions, len(discussions))
        if not re.fullmatch("[0-9]{1,18}", str(total)):  # a number or its text
            raise ValueError("a total that is not a number")
        return cls(discussions, int(total))


@final
@dataclass(frozen=True, slots=True, eq=False, repr=False, kw_only=True)
class ListDiscussions(Askable, Value):
    """Ask for a member's discussions with one bot. `DiscussionPage.from_end` reads the answer.

    It costs no question, but a site may ask its AI for missing titles, which takes
    time. For a guest the reply is `Broken(REMOTE)`, "You need to be connected."
    Anything but a list of discussions is `Broken(MALFORMED)`.

    Raises `ValueError` for numbers out of range and for ids that cannot be sent,
    `TypeError` for values of other types.
    """

    bot_id: Scalar | None = "default"
    custom_id: Scalar | None = None
    """The id of a customised bot, in place of `bot_id`."""
    offset: int = 0
    """How many to skip, counted from the most recently updated."""
    limit: int = 10
    """The size of the page, at least 1."""

    def __post_init__(self) -> None:
        """Check each field."""
        for name in ("bot_id", "custom_id"):
            check_scalar(getattr(self, name), f"ListDiscussions.{name}")
        for name, least in (("offset", 0), ("limit", 1)):
            value = getattr(self, name)
            if type(value) is not int:
                raise TypeError(f"ListDiscussions.{name}: expected an int, got {type(value).__name__}")
            if not least <= value <= _MOST:
                raise ValueError(f"ListDiscussions.{name}: expected {least} to {_MOST}, got {value}")

    def _draft(self, session: Session | None) -> Draft:
        custom = {} if self.custom_id is None else {"customId": self.custom_id}
        return _draft("list", {"botId": self.bot_id, **custom, "offset": self.offset, "limit": self.limit})

    def _judge(self, last: End | Broken) -> End | Broken:
        if isinstance(last, End):
            try:
                DiscussionPage.from_end(last)
            except ValueError as error:
                return Broken(Reason.MALFORMED, f"discussions/list: {error}", raw=last.raw)
        return last


@final
@dataclass(frozen=True, slots=True, eq=False, repr=False)
class RenameDiscussion(Askable, Value):
    """Give a discussion another title. The site confirms it even for an unknown discussion.

    Raises `ValueError` for texts that cannot be sent and for an empty chat id,
    `TypeError` for values of other types.
    """

    chat_id: str
    title: str

    def __post_init__(self) -> None:
        """Check each field."""
        check_text(self.title, "RenameDiscussion.title")
        _check_id(self.chat_id, "RenameDiscussion.chat_id")

    def _draft(self, session: Session | None) -> Draft:
        return _draft("edit", {"chatId": self.chat_id, "title": self.title})


@final
@dataclass(frozen=True, slots=True, eq=False, repr=False)
class DeleteDiscussions(Askable, Value):
    """Delete discussions for good. If one of them is another user's, the site refuses and deletes none.

    Raises `ValueError` for an empty chat id or none at all, `TypeError` for values of
    other types.
    """

    chat_ids: tuple[str, ...]

    def __post_init__(self) -> None:
        """Check each id."""
        if type(self.chat_ids) is not tuple:
            raise TypeError("DeleteDiscussions.chat_ids: expected a tuple of str")
        if not self.chat_ids:
            raise ValueError("DeleteDiscussions.chat_ids: expected at least one")
        for chat_id in self.chat_ids:
            _check_id(chat_id, "DeleteDiscussions.chat_ids")

    def _draft(self, session: Session | None) -> Draft:
        return _draft("delete", {"chatIds": list(self.chat_ids)})


def _draft(action: str, body: dict[str, Any]) -> Draft:
    return Draft(f"{DISCUSSIONS_ROUTE}/{action}", COMPACT.encode(body).encode())


def _check_id(value: str, name: str) -> None:
    check_text(value, name)
    if not value:
        raise ValueError(f"{name}: expected a chat id, got ''")


def _read_row(row: Any) -> Discussion:
    """Check a text or an id. Raises `ValueError`."""
    chat_id = row.get("chatId") if isinstance(row, dict) else None
    if not isinstance(chat_id, str) or not chat_id:
        raise ValueError("a discussion without a chat id")
    try:
        turns = _inner(row, "messages", [])
        messages = tuple(read_sent(place, turn) for place, turn in enumerate(turns))
        extra = _inner(row, "extra", {})
    except ValueError as error:
        raise ValueError(f"discussion {chat_id[:SHOWN]!r}: {error}") from None
    response_id = extra.get("previousResponseId")
    bot_id, title = row.get("botId"), row.get("title")
    return Discussion(
        chat_id,
        bot_id if isinstance(bot_id, str) else None,
        title if isinstance(title, str) else None,
        messages,
        response_id if isinstance(response_id, str) and 0 < len(response_id) <= LONGEST_ID else None,
        *(value if isinstance(value := row.get(name), str) else "" for name in ("created", "updated")),
    )


def _inner(row: dict[str, Any], name: str, empty: Any) -> Any:
    """Return the value of a column that holds JSON as text. A site may have decoded it already."""
    value = row.get(name)
    if value is None or value == "":
        return empty
    value = decode(value, _DEPTH) if isinstance(value, str) else value
    if value == []:  # PHP writes an empty object like this
        return empty
    if type(value) is not type(empty):
        raise ValueError(f"{name} that cannot be read")
    return value
