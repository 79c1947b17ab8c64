"""A question by the site's official REST API, with the token of the site's owner (WIRE 7.8)."""

from dataclasses import dataclass, replace
from typing import Any, ClassVar, final

from ._askable import Askable, Draft
from ._events import Broken, End, Reason
from ._messages import COMPACT, Scalar, check_scalar, check_text
from ._quote import SHOWN
from ._session import Session

__all__ = ["Query"]

_QUERY_ROUTE = "/mwai/v1/simpleChatbotQuery"
_BOTS_ROUTE = "/mwai/v1/listChatbots"


@final
@dataclass(frozen=True, slots=True)
class Query(Askable):
    """A question by the official REST API: asked like a `Submit`, but as the site's owner.

    It needs `Session.from_token`, and **runs as the site's first administrator**: what
    the bot may do for an administrator, it does. The site's owner switches the API on
    and chooses the token in the plugin's settings (2.2.1 and later). Nothing else is
    needed: no nonce, no page, no start_session.

    The answer comes in one piece: `End.reply`, with `End.actions` and `End.chat_id`
    since 2.4.8. There are no `Live` events. A failure of the bot is REFUSED with status
    500 and the site's message; a wrong token is REFUSED with 401, and final.

    A bot that is named is looked up first, since 3.6.2 answers an unknown one as the
    default one: REFUSED, and nothing is asked. The list costs no question. A site older
    than 2.8.5 has none, and is asked at once.

    Raises `InvalidMessages` (a `ValueError`) for a text that cannot be encoded,
    `TypeError` for a value of another type.
    """

    _is_question: ClassVar[bool] = True
    _needs_session: ClassVar[bool] = False

    text: str
    bot_id: Scalar | None = None
    """Which of the site's bots; None is the default one, which is not looked up."""
    chat_id: str | None = None
    """Names the conversation, which the site then remembers, if discussions are switched
    on there. `End.chat_id` has it for the next question; None begins a new one."""

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


@dataclass(frozen=True, slots=True)
class _Lookup(Askable):
    """The list of the site's bots, which has to have this one."""

    _needs_session: ClassVar[bool] = False

    bot_id: Scalar

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
        detail = f"listChatbots: no bot {str(self.bot_id)!r}; there are: {', '.join(ids)[:SHOWN]}"
        return Broken(Reason.REFUSED, detail, raw=last.raw)
