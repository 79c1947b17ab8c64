"""The client's identity for a server: nonce, session id and cookies (WIRE 3)."""

import re
from base64 import b64decode, b64encode
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, final
from urllib.parse import unquote

from ._cookies import domain_matches, path_matches, read_cookies
from ._http import Endpoint, read_cookie_date, read_date
from ._json import decode
from ._value import Value

__all__ = ["Session"]

SESSION_COOKIE = "mwai_session_id"
_LOGIN_COOKIE = "wordpress_logged_in"  # the beginning of the name of WordPress's login cookie (WIRE 3.3)

# A peer's values are sent back in a header, a cookie and JSON, so they must be safe in all three.
_TOKEN = re.compile(r"[!-+\--:<-~]{1,256}")  # printable ASCII without space, comma and semicolon
_FIELD_VALUE = re.compile(r"[!-~](?:[ -~]*[!-~])?")
_SESSION_IN_HEADER = rf"(?:^|;)[ \t]*{SESSION_COOKIE}[ \t]*=[^;]*"

# Some libraries join fields with commas. A new cookie begins before a name and "=", which no date contains. Quoted
# values are matched first, so that their commas do not count.
_QUOTED_OR_COMMA = r'="[^";]*"(?=[ \t]*(?:[;,]|$))|,(?=[ \t]*[!#$%&\'*+.^_`|~0-9A-Za-z-]+=)'
_CONTROLS = r"[\0-\x1f\x7f\ud800-\udfff]"
_BLANK = " \t"
_MAX_AGE = "-?[0-9]+"
_DELETED = "deleted"  # PHP writes this for an empty value
_LONGEST_QUOTATION = 2000  # characters of a text that may have been cut; longer ones are whole messages
_SHORTEST_SECRET = 6  # characters; shorter values occur in texts by chance
_BEFORE_THE_PLUGIN = datetime(2023, 1, 1)


@final
@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Session(Value):
    """A nonce, a session id and cookies. Read it from `flow.session`, and pass it to the next flow.

    `Session()` is for sites that need no session: none is started. Once a server has
    answered, the session remembers the origin and is sent nowhere else. A session with
    `authorization`, or with cookies other than `mwai_session_id`, is a signed-in
    member's: its nonce is never replaced by a guest's.

    Raises `ValueError` for a text that could break out of its header, `TypeError` for
    wrong types.
    """

    nonce: str | None = None
    """Sent as X-WP-Nonce. A member's comes from a page of the site (WIRE 3.3)."""
    session_id: str | None = None
    """Sent in the body as "session"."""
    cookie: str = ""
    """The whole Cookie header."""
    origin: str | None = field(default=None, compare=False)
    """The origin of the session, such as "https://site.example"; None until a flow has used it."""
    authorization: str = ""
    """The Authorization field, which signs a member in: see `from_application_password` and `from_token`."""
    member: str | None = field(default=None, compare=False)
    """The member's name, as the site gave it with this nonce (`GET users/me`, WIRE 3.3), before the first question. If
    the site takes the member for a guest, nothing is asked. "" for a member who is not proved yet, such as in the
    session of a bot on a page. None for a guest, and for a member before the first question."""

    def __post_init__(self) -> None:
        """Check that no text can break out of its place."""
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
        if not isinstance(self.authorization, str):
            raise TypeError(f"Session.authorization: expected a str, got {type(self.authorization).__name__}")
        if not isinstance(self.member, str | None):
            raise TypeError(f"Session.member: expected a str or None, got {type(self.member).__name__}")
        if self.cookie and not _FIELD_VALUE.fullmatch(self.cookie):
            raise ValueError("Session.cookie: expected a Cookie header of printable ASCII")
        if self.authorization and not _FIELD_VALUE.fullmatch(self.authorization):
            raise ValueError("Session.authorization: expected an Authorization header of printable ASCII")

    @classmethod
    def from_application_password(cls, name: str, password: str) -> "Session":
        """Make the session of a member with an application password from WordPress's profile page.

        `name` is the user's name or e-mail address. WordPress shows the password with
        blanks; they make no difference. The password is sent with each request, so only
        over https or to this machine: a flow to any other site raises `ValueError`.
        WordPress offers application passwords over https only.

        Raises `ValueError` for a name or password that the Basic scheme cannot carry
        (RFC 7617, 2), `TypeError` for wrong types.
        """
        if not isinstance(name, str) or not isinstance(password, str):
            raise TypeError("expected name and password as str")
        for what, text, forbidden in (("name", name, rf"{_CONTROLS}|:"), ("password", password, _CONTROLS)):
            if not text.strip() or re.search(forbidden, text):
                raise ValueError(f"{what}: expected at least one character, no control characters, no colon in a name")
        return cls(authorization=f"Basic {b64encode(f'{name}:{password}'.encode()).decode()}")

    @classmethod
    def from_cookies(cls, text: str, endpoint: Endpoint | str, *, now: float) -> "Session":
        """Make the session of a member who is signed in with a browser, from the browser's cookies.

        `text` is a file in Netscape's format (cookies.txt, also with `#HttpOnly_` lines)
        or the value of a Cookie header. From a file it takes the cookies that the browser
        would send to `endpoint` at `now`, in Unix seconds: by domain, path, `Secure` and
        expiry (0 is the end of the browser's session). The nonce comes later: see `Flow`.
        Until the site has named the member, nothing is asked.

        Raises `ValueError`, whose text shows no cookie, for any other text or if no cookie
        is left; `TypeError` for wrong types.
        """
        if not isinstance(text, str):
            raise TypeError(f"text: expected a str, got {type(text).__name__}")
        if isinstance(now, bool) or not isinstance(now, int | float):
            raise TypeError(f"now: expected Unix seconds, got {type(now).__name__}")
        if isinstance(endpoint, str):
            endpoint = Endpoint.parse(endpoint)
        if not isinstance(endpoint, Endpoint):
            raise TypeError(f"endpoint: expected an Endpoint or a str, got {type(endpoint).__name__}")
        target = endpoint.target("/").partition("?")[0]
        cookie = read_cookies(text, endpoint.host, target, now, is_https=endpoint.scheme == "https")
        return cls(cookie=cookie, origin=endpoint.origin, member="")

    @classmethod
    def from_token(cls, token: str) -> "Session":
        """Make the session of a site's owner, for a `Query`, from the bearer token in the plugin's settings (WIRE 7.8).

        The token asks as the site's first administrator. It is sent with each request,
        so only over https or to this machine, like an application password.

        Raises `ValueError` unless the token is printable ASCII without blanks,
        `TypeError` for a wrong type.
        """
        if not isinstance(token, str):
            raise TypeError(f"token: expected a str, got {type(token).__name__}")
        if not re.fullmatch("[!-~]+", token):
            raise ValueError("token: expected printable ASCII without blanks")  # not shown
        return cls(authorization=f"Bearer {token}")

    def __repr__(self) -> str:
        """Which parts it has, without their values."""
        parts = [name for name in ("nonce", "session_id", "cookie", "authorization") if getattr(self, name)]
        return f"<Session {'with ' + ', '.join(parts) if parts else 'empty'}>"

    @property
    def is_member(self) -> bool:
        """Whether it is a member's: it has `authorization`, a cookie other than the chat's, or `member`."""
        return bool(self.authorization) or self.member is not None or has_other_cookies(self)


def has_other_cookies(session: Session) -> bool:
    """Whether it has cookies other than the chat's."""
    return bool(session.cookie) and not _cookie_names(session) <= {SESSION_COOKIE, ""}


def signs_in(session: Session) -> bool:
    """Whether the site must name the user before the first question: the session has a WordPress login.

    Other cookies may be a guest's, for a firewall.
    """
    if session.authorization or session.member is not None:
        return True
    return _LOGIN_COOKIE in session.cookie and any(name.startswith(_LOGIN_COOKIE) for name in _cookie_names(session))


def is_anothers(session: Session, other: Session) -> bool:
    """Whether `session` is a member's, and `other` is a guest's or recognisably another member's."""
    if not signs_in(session):
        return False
    if not signs_in(other):
        return True
    if session.member and other.member:
        return session.member != other.member
    own, given = _login(session), _login(other)
    return any(own) and own != given


def _login(session: Session) -> tuple[str, str]:
    """The credentials. They stay the same when nonce and session id are renewed."""
    return session.authorization, re.sub(_SESSION_IN_HEADER, "", session.cookie).strip("; ")


def _cookie_names(session: Session) -> set[str]:
    return {cookie.partition("=")[0].strip() for cookie in session.cookie.split(";")}


def is_token(value: object) -> bool:
    """Whether this can safely be sent back as a nonce or session id."""
    return isinstance(value, str) and _TOKEN.fullmatch(value) is not None


def check_login(session: Session, endpoint: Endpoint, headers: Iterable[tuple[str, str]]) -> None:
    """Raise `ValueError` if a member's login is missing, must not be sent to this site, or would be replaced."""
    if not session.authorization:
        if session.is_member and not has_other_cookies(session):
            raise ValueError("session: a member's session needs cookies or authorization")
        return
    if not endpoint.is_secure:
        raise ValueError("session: credentials are sent only over https or to this machine")
    if any(name.lower() == "authorization" for name, _ in headers):
        raise ValueError("headers: Authorization is already set by the session")


def hide_login(session: Session | None, text: str) -> str:
    """The text with *** for credentials that a site has repeated: the nonce, cookies and Authorization."""
    secrets = () if session is None else dict.fromkeys(_secrets(session))
    for secret in secrets:
        if len(secret) >= _SHORTEST_SECRET:
            text = text.replace(secret, "***")
            if len(text) <= _LONGEST_QUOTATION:
                text = _hide_beginning(secret, text)
    return text


def _secrets(session: Session) -> Iterator[str]:
    """Each secret, in each spelling in which a site may repeat it."""
    own = session.authorization.rpartition(" ")[2]
    yield own
    with suppress(ValueError):  # it may have a scheme other than Basic
        password = b64decode(own).decode().partition(":")[2]
        yield from (password, password.replace(" ", ""))
    cookies = [cookie.partition("=")[2].strip(' "') for cookie in session.cookie.split(";")]
    for value in (session.nonce, *cookies):
        if value and re.search("[0-9]", value):  # otherwise it may be a word
            yield from (value, unquote(value))


def _hide_beginning(secret: str, text: str) -> str:
    """The text without this secret if a quotation ends within it. The beginning of a secret elsewhere may be a word."""
    begin, rest = secret[:_SHORTEST_SECRET], secret[_SHORTEST_SECRET:]
    first, *others = text.split(begin)
    shown = [first]
    for piece in others:
        pairs = enumerate(zip(piece, rest, strict=False))
        after = piece[next((place for place, (one, other) in pairs if one != other), len(rest)) :]
        shown += ["***", after] if after[:1] in ("", ";") else [begin, piece]
    return "".join(shown)


def adopt_headers(session: Session, headers: list[tuple[str, str]], endpoint: Endpoint, route: str) -> Session:
    """Return the session after a response with these header fields (names in lower case).

    A cookie is adopted if it would be sent with a request to `route` of this endpoint
    (RFC 6265, 5.4), and dropped if it has expired.
    """
    date: datetime | None = None
    for name, value in headers:
        if name == "x-wp-nonce" and is_token(value):
            session = replace(session, nonce=value)
        elif name == "set-cookie" and SESSION_COOKIE in value:
            # Once only: there may be many fields.
            date = (
                date or read_date(next((value for name, value in headers if name == "date"), "")) or _BEFORE_THE_PLUGIN
            )
            for cookie in _split_set_cookie(value):
                session = _adopt_cookie(session, cookie, date, endpoint, route)
    return session


def _split_set_cookie(field: str) -> Iterator[str]:
    start = 0
    for match in re.finditer(_QUOTED_OR_COMMA, field):
        if match[0] == ",":
            yield field[start : match.start()]
            start = match.end()
    yield field[start:]


def _adopt_cookie(session: Session, cookie: str, now: datetime, endpoint: Endpoint, route: str) -> Session:
    """The session after one cookie (RFC 6265, 5.2 to 5.4). The last of equal attributes counts."""
    pair, *attributes = cookie.split(";")
    name, is_pair, value = pair.partition("=")
    value = value.strip(_BLANK)
    if name.strip(_BLANK) != SESSION_COOKIE or not is_pair:
        return session
    domain = path = ""
    is_secure = False
    max_age: str | None = None
    expires: datetime | None = None
    for attribute in attributes:
        key, _, content = (part.strip(_BLANK) for part in attribute.partition("="))
        match key.lower():
            case "domain" if content:
                domain = content.removeprefix(".").lower()
            case "path":
                path = content if content.startswith("/") else ""
            case "secure":
                is_secure = True
            case "max-age" if re.fullmatch(_MAX_AGE, content):
                max_age = content
            case "expires":
                expires = read_cookie_date(content) or expires
    if (
        not domain_matches(endpoint.host, domain)
        or not path_matches(endpoint.target(route).partition("?")[0], path)
        or (is_secure and endpoint.scheme != "https")
    ):
        return session
    if max_age is not None:
        is_over = re.fullmatch("-.+|0+", max_age) is not None
    else:
        is_over = expires is not None and expires <= now
    others = re.sub(_SESSION_IN_HEADER, "", session.cookie).strip("; ")
    if is_over or value == _DELETED:
        return replace(session, cookie=others)
    if not is_token(value):
        return session
    own = f"{SESSION_COOKIE}={value}"
    return replace(session, cookie=f"{others}; {own}" if others else own)


def adopt_token(session: Session, raw: str, depth: int) -> Session:
    """The session after a payload, as JSON text, which may have a fresh nonce (WIRE 3.4)."""
    if "new_token" not in raw:
        return session  # most payloads, which can be large, are not parsed twice
    try:
        payload = decode(raw, depth)
    except ValueError:
        return session  # the text of a refusal that is not JSON
    token = payload.get("new_token") if isinstance(payload, dict) else None
    return replace(session, nonce=token) if is_token(token) else session


def open_session(session: Session, payload: Mapping[str, Any]) -> Session | None:
    """The session from start_session's answer (WIRE 3.1), or None if its nonce or session id is unusable."""
    nonce = payload.get("new_token") if is_token(payload.get("new_token")) else payload.get("restNonce")
    session_id: Any = payload.get("sessionId")
    if isinstance(session_id, int) and not isinstance(session_id, bool):
        session_id = str(session_id)
    if session_id in (None, False, "", "N/A"):
        session_id = None
    elif not is_token(session_id):
        return None
    return replace(session, nonce=nonce, session_id=session_id) if is_token(nonce) else None
