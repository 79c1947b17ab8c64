"""Who the server takes us for: nonce, session id and cookies (WIRE 3)."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, final

from ._json import decode

__all__ = ["Session"]

SESSION_COOKIE = "mwai_session_id"

# What a peer gives is sent back in a header, in a cookie and in JSON, so it must be harmless in all three.
_TOKEN = re.compile(r"[!-+\--:<-~]{1,256}")  # printable ASCII without space, comma and semicolon
_COOKIE_HEADER = re.compile(r"[!-~](?:[ -~]*[!-~])?")
_SESSION_IN_HEADER = re.compile(rf"(?:^|;) *{SESSION_COOKIE}=[^;]*")
_SESSION_IN_SET_COOKIE = re.compile(rf"(?:^|, ?){SESSION_COOKIE}=([^;,]*)")  # some libraries join fields with commas


@final
@dataclass(frozen=True, slots=True, repr=False)
class Session:
    """A nonce, a session id and cookies. Read it back from `flow.session` and give it to the next flow.

    `Session()` is the session of a site that needs none: nothing is started.
    A session that a server has answered remembers the origin and goes nowhere
    else. A session with other cookies than `mwai_session_id` is a signed-in
    member's: its nonce is never replaced by a guest's.

    Raises `ValueError` for a text that could break out of its header,
    `TypeError` for a value of another type.
    """

    nonce: str | None = None
    """Sent as X-WP-Nonce. A member's comes from a page of the site (WIRE 3.3)."""
    session_id: str | None = None
    """Sent in the body as "session"."""
    cookie: str = ""
    """The whole Cookie header."""
    origin: str | None = field(default=None, compare=False)
    """Where this session belongs, such as "https://site.example"; None until a flow has used it."""

    def __post_init__(self) -> None:
        """Check that the texts stay in their places."""
        for name in ("nonce", "session_id"):
            value = getattr(self, name)
            if value is not None and not isinstance(value, str):
                raise TypeError(f"Session.{name}: expected a str or None, got {type(value).__name__}")
            if value is not None and not is_token(value):
                raise ValueError(
                    f"Session.{name}: expected 1 to 256 printable ASCII characters, no space, comma or semicolon"
                )
        if not isinstance(self.cookie, str) or not isinstance(self.origin, str | None):
            raise TypeError("Session: expected a str as cookie, and a str or None as origin")
        if self.cookie and not _COOKIE_HEADER.fullmatch(self.cookie):
            raise ValueError("Session.cookie: expected a Cookie header of printable ASCII")

    def __repr__(self) -> str:
        """Which parts there are, never their values."""
        parts = [name for name in ("nonce", "session_id", "cookie") if getattr(self, name)]
        return f"<Session {'with ' + ', '.join(parts) if parts else 'empty'}>"

    @property
    def is_member(self) -> bool:
        """Whether there are cookies that are not the chat's own."""
        names = {cookie.split("=", 1)[0].strip() for cookie in self.cookie.split(";")}
        return not names <= {SESSION_COOKIE, ""}


def is_token(value: object) -> bool:
    """Whether this is safe to be sent back as a nonce or a session id."""
    return isinstance(value, str) and _TOKEN.fullmatch(value) is not None


def adopt_headers(session: Session, headers: list[tuple[str, str]]) -> Session:
    """The session after a response with these header fields (names in lower case)."""
    for name, value in headers:
        if name == "x-wp-nonce" and is_token(value):
            session = replace(session, nonce=value)
        elif name == "set-cookie" and (match := _SESSION_IN_SET_COOKIE.search(value)) and is_token(match[1]):
            others = _SESSION_IN_HEADER.sub("", session.cookie).strip("; ")
            cookie = f"{SESSION_COOKIE}={match[1]}"
            session = replace(session, cookie=f"{others}; {cookie}" if others else cookie)
    return session


def adopt_token(session: Session, raw: str, depth: int) -> Session:
    """The session after a payload, as JSON text, that may carry a fresh nonce (WIRE 3.4)."""
    if "new_token" not in raw:
        return session  # spares most payloads, which can be large, a second parsing
    try:
        payload = decode(raw, depth)
    except ValueError:
        return session  # the text of a refusal that is no JSON
    token = payload.get("new_token") if isinstance(payload, dict) else None
    return replace(session, nonce=token) if is_token(token) else session


def open_session(session: Session, payload: Mapping[str, Any]) -> Session | None:
    """The session that start_session gave (WIRE 3.1), or None if its nonce or session id cannot be used."""
    nonce = payload.get("new_token") if is_token(payload.get("new_token")) else payload.get("restNonce")
    session_id: Any = payload.get("sessionId")
    if isinstance(session_id, int) and not isinstance(session_id, bool):
        session_id = str(session_id)
    if session_id in (None, False, "", "N/A"):
        session_id = None
    elif not is_token(session_id):
        return None
    return replace(session, nonce=nonce, session_id=session_id) if is_token(nonce) else None
