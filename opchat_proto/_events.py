"""The events of a reply: any number of `Live`, then exactly one `End` or `Broken`."""

import re
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, TypeAlias, final

from ._json import DEEPEST, decode
from ._value import Value

__all__ = ["Broken", "End", "Event", "Live", "Reason"]

_FILE_ID = r"[!-~]{1,256}"


@final
class Reason(StrEnum):
    """Why a reply is `Broken`."""

    REMOTE = "remote"
    """The server reported an error in its answer (WIRE 5.6, 6.2)."""
    REFUSED = "refused"
    """The server refused the request with its HTTP status (WIRE 6.2, 6.3)."""
    MALFORMED = "malformed"
    """What arrived is not this protocol: bad JSON in an event, a web page."""
    TRUNCATED = "truncated"
    """The answer was cut before its end event, or its HTTP framing cannot be followed."""
    TOO_LARGE = "too large"
    """A limit was reached; the detail names the limit and its value."""
    LOST = "lost"
    """No connection, or it failed before any answer."""
    TIMEOUT = "timeout"
    """A clock of the transport ran out."""
    PROXY = "proxy"
    """The proxy could not be reached, refused, or closed the connection."""


@final
@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Live(Value):
    """A piece of the answer as it is written (WIRE 5.3, 5.4)."""

    text: str
    """Text to append to the answer so far, if `kind` is "content"; may be empty."""
    kind: str = "content"
    """"content": a piece of the answer. Anything else is not part of it: a
    subtype of WIRE 5.4 ("status", "tool_call", ...), "unreadable" for a piece
    that the server could not encode, "unknown" for an event of a type that this
    version does not know."""
    raw: str = field(default="", repr=False)
    """The event's own JSON, for kind "unknown"; else empty."""

    def __init__(self, text: str, kind: str = "content", raw: str = "") -> None:
        # An answer has one for every few letters. The __init__ of a frozen dataclass takes twice as long as this one,
        # which is as long as parsing the event's JSON.
        _set_text(self, text)
        _set_kind(self, kind)
        _set_raw(self, raw)


_set_text, _set_kind, _set_raw = (getattr(Live, name).__set__ for name in ("text", "kind", "raw"))


@final
@dataclass(frozen=True, slots=True, eq=False, repr=False)
class End(Value):
    """The server's end event arrived whole (WIRE 5.5). Always the last event.

    Everything but `reply` is parsed from `raw` when it is read. It is data from the
    server and must never be executed (WIRE 9).
    """

    reply: str | None
    """The server's final text. It replaces the pieces and may differ from them. None if the
    server sent no readable text: the joined pieces are then the answer."""
    raw: str = field(default="", repr=False)
    """The payload's own JSON text."""

    def payload(self) -> dict[str, Any]:
        """The end payload of WIRE 5.5 as a new dict; empty if there is no `raw`.

        Raises `ValueError` if `raw` was not made by a decoder and is not a JSON object.
        """
        if not self.raw:
            return {}
        payload = decode(self.raw, DEEPEST)  # a decoder has checked the depth against its own limit
        if not isinstance(payload, dict):
            raise ValueError("End.raw: expected the text of a JSON object")
        return payload

    @property
    def images(self) -> tuple[str, ...]:
        """URLs of images, from an image bot."""
        return tuple(item for item in self._list("images") if isinstance(item, str))

    @property
    def actions(self) -> tuple[dict[str, Any], ...]:
        """Functions that the site wants called in the browser (WIRE 7.1). Untrusted."""
        return self._objects("actions")

    @property
    def chat_id(self) -> str | None:
        """The conversation that the answer to a `Query` belongs to, for the next one."""
        return self._text("chatId")

    @property
    def shortcuts(self) -> tuple[dict[str, Any], ...]:
        """Quick replies to offer (WIRE 7.2). Untrusted."""
        return self._objects("shortcuts")

    @property
    def blocks(self) -> tuple[dict[str, Any], ...]:
        """HTML to show (WIRE 7.3). Untrusted."""
        return self._objects("blocks")

    @property
    def usage(self) -> dict[str, Any] | None:
        """Tokens and price; every key is optional."""
        usage = self.payload().get("usage")
        return usage if isinstance(usage, dict) else None

    @property
    def response_id(self) -> str | None:
        """The provider's id of this answer, to send as the next question's previous response id."""
        return self._text("responseId")

    @property
    def file_id(self) -> str | None:
        """The id of the file that was uploaded, for `Submit.file_ids` (WIRE 7.5).

        None unless it has 1 to 256 printable ASCII characters. Plugin 1.9.94 sends a number.
        """
        kept = self.payload().get("data")
        file_id = kept.get("id") if isinstance(kept, dict) else None
        if type(file_id) is int:
            file_id = str(file_id)
        return file_id if isinstance(file_id, str) and re.fullmatch(_FILE_ID, file_id) else None

    @property
    def new_token(self) -> str | None:
        """A fresh nonce (WIRE 3.4). `Flow` has already adopted it."""
        return self._text("new_token")

    def _value(self, key: str) -> Any:
        payload = self.payload()
        extra = payload.get("extra")  # "extra" of the official API (WIRE 7.8)
        return extra.get(key) if key not in payload and isinstance(extra, dict) else payload.get(key)

    def _list(self, key: str) -> list[Any]:
        value = self._value(key)
        return value if isinstance(value, list) else []

    def _objects(self, key: str) -> tuple[dict[str, Any], ...]:
        return tuple(item for item in self._list(key) if isinstance(item, dict))

    def _text(self, key: str) -> str | None:
        value = self._value(key)
        return value if isinstance(value, str) else None


@final
@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Broken(Value):
    """There is no complete answer. Always the last event."""

    reason: Reason
    detail: str = ""
    """What happened, for a person; the server's own words if it sent any. Untrusted text."""
    status: int | None = None
    """The HTTP status, if the server refused with it; None with status 200."""
    code: str | None = None
    """The WordPress error code, such as "rest_forbidden" (WIRE 6.3)."""
    retry_after: int | None = None
    """Seconds that the server asks to wait. A date is counted from the answer's own Date."""
    raw: str = field(default="", repr=False)
    """The server's full text: a payload's JSON, or the text of a refusal or page; empty for a single event."""
    limit: str | None = field(default=None, kw_only=True)
    """The name of the exceeded limit in `Limits` or `Timeouts`, such as "event_bytes" or "idle"."""
    in_session: bool = field(default=False, kw_only=True)
    """Whether it happened before the question: in start_session, or when the site was to say who asks."""
    asked: bool = field(default=False, kw_only=True)
    """Whether the question may have reached the server. Always False from `ReplyDecoder`, which reads only answers."""


Event: TypeAlias = Live | End | Broken

CLOSED = "closed by the caller"


def check_failure(detail: object, reason: object) -> None:
    """Check the arguments of a driver's report of a failure. Raises `TypeError`."""
    if not isinstance(detail, str) or not isinstance(reason, Reason):
        raise TypeError(f"expected a str and a Reason, got {type(detail).__name__}, {type(reason).__name__}")
