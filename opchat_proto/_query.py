"""A question through the site's official REST API, with its owner's token (WIRE 7.8)."""

from dataclasses import dataclass, replace
from typing import Any, ClassVar, final

from ._askable import Askable, Draft
from ._events import Broken, End, Reason
from ._messages import COMPACT, Scalar, check_scalar, check_text
from ._quote import SHOWN, mask
from ._session import Session
from ._value import Value

__all__ = ["Query"]

_QUERY_ROUTE = "/mwai/v1/simpleChatbotQuery"
_BOTS_ROUTE = "/mwai/v1/listChatbots"


@final
@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Query(Askable, Value):
    """A question through the official REST API (WIRE 7.8): asked like a `Submit`, but as the site's owner.

    It needs the session of `Session.from_token`, and **runs as the site's first
    administrator**: the bot may do whatever it may do for an administrator. The owner
    enables the API and sets the token in the plugin's settings (2.2.1 and later). No
    nonce, page or start_session is needed.

    The answer comes in one piece: `End.reply`, with `End.actions` and `End.chat_id`
    since 2.4.8. There are no `Live` events. A failure of the bot is REFUSED with status
    500 and the site's message. A wrong token is REFUSED with status 401, and final.

    If `bot_id` is given, the site's list of bots is read first, because 3.6.2 answers an
    unknown id with the default bot. The list costs no question. If the bot is not in it,
    the reply is REFUSED and nothing is asked. A site older than 2.8.5 has no list and is
    asked without it.

    Raises `InvalidMessages` (a `ValueError`) for a text that cannot be encoded,
    `TypeError` for a value of another type.
    """

    _is_question: ClassVar[bool] = True
    _needs_session: ClassVar[bool] = False

    text: str
    bot_id: Scalar | None = None
    """One of the site's bots. None is the default bot, and the list is not read."""
    chat_id: str | None = None
    """The name of the conversation. The site remembers its messages if discussions are
    enabled there. None begins a new one; `End.chat_id` is its name, for the next question."""

    def __post_init__(self) -> None:
        """Check the types, and that the texts can be sent."""
        check_text(self.text, "Query.text")
        check_scalar(self.bot_id, "Query.bot_id")
        if self.chat_id is not None:
            check_text(self.chat_id, "Query.chat_id")

    def to_dict(self) -> dict[str, Any]:
        """The JSON object of WIRE 7.8."""
        body: dict[str, Any] = {"botId": "default" if self.bot_id is None else self.bot_id, "message": self.text}
        return body if self.chat_id is None else body | {"chatId": self.chat_id}

    def encode(self) -> bytes:
        """`to_dict` as compact JSON in UTF-8."""
        return COMPACT.encode(self.to_dict()).encode()

    def _draft(self, session: Session | None) -> Draft:
        return Draft(_QUERY_ROUTE, self.encode())

    def _before(self) -> Askable | None:
        return None if self.bot_id is None else _Lookup(self.bot_id)

    def _judge(self, last: End | Broken) -> End | Broken:
        if isinstance(last, Broken) or "data" not in (payload := last.payload()):
            return last
        reply = payload["data"]
        return replace(last, reply=reply if isinstance(reply, str) else None)


class _Lookup(Askable):
    """Read the site's list of bots, which must contain this one."""

    _needs_session: ClassVar[bool] = False

    def __init__(self, bot_id: Scalar) -> None:
        self.bot_id = bot_id

    def _draft(self, session: Session | None) -> Draft:
        return Draft(_BOTS_ROUTE, method="GET")

    def _judge(self, last: End | Broken) -> End | Broken:
        if isinstance(last, Broken):
            if (last.status, last.code) == (404, "rest_no_route"):
                return End(None)  # the site is older than 2.8.5
            return replace(last, detail=f"listChatbots: {last.detail}")
        bots = last.payload().get("data")
        if not isinstance(bots, list):
            return Broken(Reason.MALFORMED, "listChatbots: no list of bots", raw=last.raw)
        ids = [str(bot["id"]) for bot in bots if isinstance(bot, dict) and isinstance(bot.get("id"), str | int)]
        if str(self.bot_id) in ids:
            return last
        detail = f"listChatbots: no bot {str(self.bot_id)!r}; there are: {mask(', '.join(ids))[:SHOWN]}"
        return Broken(Reason.REFUSED, detail, raw=last.raw)
