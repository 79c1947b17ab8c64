"""Prove that a question is asked as a member: WordPress's answer to `GET users/me`, and its nonce (WIRE 3.3)."""

import re
from dataclasses import replace
from typing import final

from ._askable import Draft
from ._events import Broken, End, Event, Reason
from ._json import decode, find_last
from ._limits import Limits
from ._reply import ReplyDecoder
from ._session import Session, signs_in

__all__: list[str] = []

WHO_ASKS = Draft("/wp/v2/users/me", method="GET")
FETCH_NONCE = Draft("wp-admin/admin-ajax.php?action=rest-nonce", method="GET", accept="*/*")

_USER = re.compile(r'\{\s*+"id"\s*+:')  # also after PHP notices
_NOTHING_MORE = re.compile(r"(?s)(?:(?>\s|<!--(?>.*?-->)))*+")  # cache plugins add comments
_SLUG = re.compile("[!-~]{1,64}")
_NONCE = re.compile(rb"(?:\A|[\s>\xbf])([0-9a-f]{10})\s*\Z")  # also after PHP notices or a byte order mark
_NOBODY = (b"0", b"-1")  # WordPress's answers to unknown users

_GUEST = "the site takes you for a guest, so nothing was asked"
_PASSWORD = (
    "are the name and the application password right, and are such passwords on (they need https)? A security plugin, "
    "or a server that runs PHP as CGI, may drop the Authorization field"
)
_COOKIES = "the cookies have expired, or were not taken from a browser that is signed in there: export them again"
_ELSEWHERE = "wp-admin may be closed or elsewhere; a page with the chat has a nonce too, so give its address"
_HIDDEN = "a security plugin may hide who is signed in: nothing was asked, since the answer could be a guest's"


def is_usable(session: Session) -> bool:
    """Whether a question may be asked with this session at once.

    A member's session may, if the site has named the member with this nonce: it would refuse
    the nonce from any other user. Without a nonce, the member is proved each time.
    """
    return not signs_in(session) or (bool(session.member) and session.nonce is not None)


def read_member(answer: Event, depth: int) -> str | None:
    """The member's name in the answer to `WHO_ASKS`, or None."""
    if not isinstance(answer, Broken) or answer.reason is not Reason.MALFORMED:
        return None  # another status, or an object with "success"
    try:
        user = decode(answer.raw, depth)
    except ValueError:
        user, text = find_last(answer.raw, _USER, depth) or (None, "")
        if not _NOTHING_MORE.fullmatch(answer.raw, answer.raw.rindex(text) + len(text)):
            return None  # a page, whose scripts name posts and authors like this
    number = user.get("id") if isinstance(user, dict) else None
    if type(number) is not int or number <= 0:
        return None
    slug = user.get("slug")
    return slug if isinstance(slug, str) and _SLUG.fullmatch(slug) else f"user {number % 10**9}"


def explain_guest(answer: Event, session: Session) -> Broken:
    """Why a member's question is not asked, given an answer to `WHO_ASKS` that names nobody."""
    if not isinstance(answer, Broken):
        answer = Broken(Reason.MALFORMED, "no user")
    detail = f"users/me: {answer.detail}"
    match answer:
        case Broken(Reason.REFUSED, status=404) | Broken(Reason.MALFORMED):
            detail = f"{detail}; {_HIDDEN}"
        case Broken(Reason.REFUSED, status=401 | 403):
            detail = f"{detail}; {_GUEST}: {_PASSWORD if session.authorization else _COOKIES}"
    return replace(answer, detail=detail)


def explain_nonce(where: str) -> Broken:
    """Why a member's question is not asked, if no nonce for a member can be had except the refused one."""
    return Broken(Reason.REFUSED, f"{where}: no nonce for a member; {_GUEST}: {_COOKIES}")


@final
class NonceDecoder:
    """The response to `FETCH_NONCE`: the text of a nonce, or "0". It is never quoted.

    There is one event: `End`, after which `nonce` is set, or `Broken`.
    """

    def __init__(self, limits: Limits) -> None:
        self._head = ReplyDecoder(limits)  # judges the head; it gets no body
        self._room = limits.refusal_bytes
        self._status = 0
        self._text = bytearray()
        self.nonce: str | None = None

    def _receive_head(self, status: int, fields: list[tuple[str, str]]) -> list[Event]:
        """See `ReplyDecoder.receive_head`. `fields` are already decoded."""
        events = self._head._receive_head(status, fields)
        if status >= 200:
            self._status = status
        return events

    def receive_data(self, data: bytes | bytearray | memoryview) -> list[Event]:
        """Bytes of the body. A body of more than `Limits.refusal_bytes` is not a nonce."""
        self._text += memoryview(data).tobytes()
        return [self._refused()] if len(self._text) > self._room else []

    def receive_eof(self) -> list[Event]:
        """The body has ended. Before the head: the connection was closed."""
        if not self._status:
            return self._head.receive_eof()
        if self._status == 200 and (found := _NONCE.search(self._text)):
            self.nonce = found[1].decode()
            return [End(None)]
        return [self._refused()]

    def receive_failure(self, detail: str, reason: Reason = Reason.LOST, *, limit: str | None = None) -> list[Event]:
        """The response cannot go on. Its beginning is not used, since a nonce may be cut."""
        if self._status and reason is Reason.LOST:
            reason = Reason.TRUNCATED
        return [Broken(reason, detail, limit=limit)]

    def _refused(self) -> Broken:
        if bytes(self._text).strip() in _NOBODY:
            return Broken(Reason.REFUSED, f"not signed in: {_COOKIES}", self._status)
        if self._status == 200:
            return Broken(Reason.MALFORMED, f"the answer is not a nonce; {_COOKIES}")
        return Broken(Reason.REFUSED, f"status {self._status}; {_ELSEWHERE}", self._status)
