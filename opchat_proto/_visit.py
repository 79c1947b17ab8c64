"""Fetch a page of a site with GET, and follow its redirects. HTTP as values."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from enum import StrEnum
from typing import final
from urllib.parse import quote, urljoin, urlsplit

from ._events import CLOSED, Broken, End, Event, Reason, check_failure
from ._flow_table import Awaiting
from ._http import PATH_CHARACTERS, Endpoint, Headers, Request, check_headers, decode_head
from ._json import encodable
from ._limits import Limits
from ._pages import Page
from ._quote import mask
from ._reply import ReplyDecoder
from ._session import Session, has_other_cookies, hide_login
from ._table import Table
from ._version import __version__

__all__ = ["Visit"]

_MOST_REDIRECTS = 5
_REDIRECTS = (301, 302, 303, 307, 308)
_SHOWN = 200  # characters of an address that a detail quotes
HARMLESS = ("accept", "accept-language", "user-agent")  # the caller's header fields that any site may see
_TOKEN = "[A-Za-z0-9._~-]{1,64}"


@final
class State(StrEnum):
    """The stage of the visit."""

    GET = "GET"  # a request is due
    HEAD = "HEAD"  # the request was handed out
    PAGE = "PAGE"  # the answer is the page
    REDIRECT = "REDIRECT"  # the answer is a redirect
    REFUSAL = "REFUSAL"  # the answer has another status
    DONE = "DONE"


@final
class Input(StrEnum):
    """What can happen to a visit."""

    REQUEST = "next_request"
    INTERIM = "receive_head (1xx)"
    PAGE = "receive_head (200)"
    REDIRECT = "receive_head (redirect)"
    REFUSAL = "receive_head (another)"
    DATA = "receive_data"
    EOF = "receive_eof"
    FAILURE = "receive_failure"
    CLOSE = "close"
    FOLLOWED = "redirect followed"
    TERMINAL = "terminal event"


_ENDS = {Input.TERMINAL: State.DONE, Input.CLOSE: State.DONE}

TABLE: Table[State, Input] = Table(
    "Visit",
    (State.GET,),
    {
        State.GET: {
            Input.REQUEST: State.HEAD,
            Input.FAILURE: State.GET,
            **_ENDS,
        },
        State.HEAD: {
            Input.INTERIM: State.HEAD,
            Input.PAGE: State.PAGE,
            Input.REDIRECT: State.REDIRECT,
            Input.REFUSAL: State.REFUSAL,
            Input.EOF: State.HEAD,
            Input.FAILURE: State.HEAD,
            **_ENDS,
        },
        State.PAGE: {
            Input.DATA: State.PAGE,
            Input.EOF: State.PAGE,
            Input.FAILURE: State.PAGE,
            **_ENDS,
        },
        State.REDIRECT: {
            Input.DATA: State.REDIRECT,
            Input.EOF: State.REDIRECT,
            Input.FAILURE: State.REDIRECT,
            Input.FOLLOWED: State.GET,
            **_ENDS,
        },
        State.REFUSAL: {
            Input.DATA: State.REFUSAL,
            Input.EOF: State.REFUSAL,
            Input.FAILURE: State.REFUSAL,
            **_ENDS,
        },
        State.DONE: {},
    },
)


@final
class Visit:
    """Fetches one page of a site over any HTTP library. It has the methods of a `Flow`, so a `Client` can drive it.

        while request := visit.next_request():
            response = library.send(request)  # must not follow redirects itself
            visit.receive_head(response.status, response.headers)
            for piece in response:
                visit.receive_data(piece)
            events = visit.receive_eof()  # or receive_failure("what happened")

    There is one event: `End(None)`, after which `page` has the result, or `Broken`.
    After it every input returns [].

    It follows at most five redirects (see `urls`), for a guest to any origin. An
    origin other than `url`'s gets no cookies, and from `headers` only Accept,
    Accept-Language and User-Agent. A visit with cookies or an Authorization field
    is not redirected there at all, because it would see a guest's page.

    `session` has a member's cookies. Its nonce is not sent, nor is an application
    password, which does not sign in on a page. `fresh` is a random text against
    caches (WIRE 2.5): if a cached page had a stale nonce, visit again with it, and
    ask again only if the nonce differs.

    With `file` it fetches a file, such as an image of an answer: `content` has its
    bytes, of any kind, at most `limits.upload_bytes`.

    Raises `ValueError` for a URL that is neither http nor https, a session of
    another origin, headers that the caller must not set, and a `fresh` of anything
    but 1 to 64 letters, digits, ".", "_", "~" and "-". Raises `TypeError` for wrong
    types.
    """

    def __init__(
        self,
        url: str,
        limits: Limits = Limits(),
        *,
        session: Session | None = None,
        headers: Mapping[str, str] | Iterable[tuple[str, str]] = (),
        fresh: str | None = None,
        file: bool = False,
    ) -> None:
        for name, value, expected in (
            ("url", url, str),
            ("file", file, bool),
            ("session", session, Session | None),
            ("fresh", fresh, str | None),
        ):
            if not isinstance(value, expected):
                raise TypeError(f"{name}: expected {expected}, got {type(value).__name__}")
        if fresh is not None and not re.fullmatch(_TOKEN, fresh):
            raise ValueError('fresh: expected 1 to 64 letters, digits, ".", "_", "~" and "-"')
        self._site, self._url = _locate(url)
        if session is not None and session.origin not in (None, self._site.origin):
            raise ValueError(f"session: it belongs to {session.origin}, not to {self._site.origin}")
        self.origin: str = self._site.origin
        """Scheme, host and port of the given URL, the only origin that gets cookies."""
        self._headers = check_headers(headers)
        self.session = session
        """The given session. The session of a bot on the page is `Bot.session`."""
        self._fresh = fresh
        self.limits = limits
        """The given limits."""
        self._decoder = ReplyDecoder(limits)  # judges everything but a page
        self._state = State.GET
        self._urls = [self._url]
        self._location = ""  # of a redirect
        self._fields: list[tuple[str, str]] = []  # the head of a page
        self._text = bytearray()  # its body
        self._limit = "upload_bytes" if file else "page_bytes"
        self._most: int = getattr(limits, self._limit)
        self._room = self._most  # how many more bytes of a body are allowed
        self._is_file = file
        self.submit_started: bool = False
        """False: a visit asks no question."""
        self.page: Page | None = None
        """The page, once `End` was given."""
        self.content: bytes | None = None
        """The file, once `End` was given."""

    def __repr__(self) -> str:
        """The origin and the state."""
        return f"<Visit to {self._site.origin} {self._state}>"

    @property
    def urls(self) -> tuple[str, ...]:
        """The URLs requested, in order. The last one is the page's; the others redirected."""
        return tuple(self._urls)

    @property
    def is_ready(self) -> bool:
        """Whether a request is due."""
        return self._state is State.GET

    @property
    def awaiting(self) -> Awaiting | None:
        """FIRST_EVENT until the page is complete; None after the event."""
        return None if self._state is State.DONE else Awaiting.FIRST_EVENT

    # ---------------------------------------------------------------- output

    def next_request(self) -> Request | None:
        """Return the request to send, once; None while its answer is awaited, and after the end."""
        if self._state is not State.GET:
            return None
        own = {
            "Host": self._site.authority,
            "User-Agent": f"opchat/{__version__}",
            "Accept": "*/*" if self._is_file else "text/html,application/xhtml+xml;q=0.9,*/*;q=0.8",
            "Accept-Encoding": "identity",
        }
        url = self._url
        if self._fresh is not None:
            own["Cache-Control"] = "no-cache"
            if len(self._urls) == 1:
                url += f"{'&' if '?' in url else '?'}opchat={self._fresh}"
        is_own = self._site.origin == self.origin
        if is_own and self.session is not None and self.session.cookie:
            own["Cookie"] = self.session.cookie
        added = [(name, value) for name, value in self._headers if is_own or name.lower() in HARMLESS]
        replaced = {name.lower() for name, _ in added}
        headers = [(name, value) for name, value in own.items() if name.lower() not in replaced]
        self._state = TABLE.next(self._state, Input.REQUEST)
        return Request("GET", url, (*headers, *added))

    # ---------------------------------------------------------------- inputs

    def receive_head(self, status: int, headers: Headers) -> list[Event]:
        """Take the head of the response; see `ReplyDecoder.receive_head`.

        Raises `LocalProtocolError` unless a request waits for it, `TypeError` for
        wrong types.
        """
        return self._receive_head(status, decode_head(status, headers))

    def _receive_head(self, status: int, fields: list[tuple[str, str]]) -> list[Event]:
        """Like `receive_head`, with decoded fields."""
        if self._state is State.DONE:
            return []
        location = next((value for name, value in fields if name == "location"), "") if status in _REDIRECTS else ""
        given = Input.PAGE if status == 200 else Input.REDIRECT if location else Input.REFUSAL
        state = TABLE.next(self._state, Input.INTERIM if 100 <= status < 200 else given)
        events = self._decoder._receive_head(status, fields)
        self._state = state
        self._location, self._fields = location, fields
        return self._judge(events)

    def receive_data(self, data: bytes | bytearray | memoryview) -> list[Event]:
        """Take bytes of the response's body. No bytes are always legal.

        Raises `LocalProtocolError` unless a body is awaited, `TypeError` if not
        bytes-like.
        """
        view = memoryview(data)
        if not view.nbytes or self._state is State.DONE:
            return []
        TABLE.next(self._state, Input.DATA)
        if self._state is State.REFUSAL:
            return self._judge(self._decoder.receive_data(data))
        self._room -= view.nbytes
        if self._room < 0:
            detail = f"more than {self._most} bytes in one {'file' if self._is_file else 'page'} (Limits.{self._limit})"
            return self._judge([Broken(Reason.TOO_LARGE, detail, limit=self._limit)])
        if self._state is State.PAGE:
            self._text += view.tobytes()
        return []

    def receive_eof(self) -> list[Event]:
        """The body has ended. Before the head: the connection was closed without an answer.

        Raises `LocalProtocolError` unless an answer is awaited.
        """
        if self._state is State.DONE:
            return []
        TABLE.next(self._state, Input.EOF)
        if self._state is State.PAGE and self._is_file:
            self.content = bytes(self._text)
            return self._judge([End(None)])
        if self._state is State.PAGE:
            # The plugin's attributes are ASCII (WIRE 2.2), so in another charset only the text around them suffers.
            text = self._text.decode("utf-8", "replace")
            page = Page.parse(text, self._url, self._fields)
            if self._site.origin != self.origin:
                page = replace(page, notes=(*page.notes, f"redirected from {self.origin} to {self._site.origin}"))
            self.page = page
            return self._judge([End(None)])
        if self._state is State.REDIRECT:
            return self._judge(self._follow())
        return self._judge(self._decoder.receive_eof())

    def receive_failure(self, detail: str, reason: Reason = Reason.LOST, *, limit: str | None = None) -> list[Event]:
        """The visit cannot go on; see `ReplyDecoder.receive_failure`. A truncated page is not parsed. Always legal."""
        check_failure(detail, reason)
        return (
            [] if self._state is State.DONE else self._judge(self._decoder.receive_failure(detail, reason, limit=limit))
        )

    def close(self) -> list[Event]:
        """The caller leaves. A visit that is not over ends with `Broken`: TRUNCATED within the page, LOST before."""
        if self._state is State.DONE:
            return []
        reason = Reason.TRUNCATED if self._state is State.PAGE else Reason.LOST
        return self._end([Broken(reason, CLOSED)], Input.CLOSE)

    # ---------------------------------------------------------------- consequences

    def _judge(self, events: list[Event]) -> list[Event]:
        return self._end(events, Input.TERMINAL) if events else events

    def _end(self, events: list[Event], given: Input) -> list[Event]:
        self._state = TABLE.next(self._state, given)
        self._text = bytearray()
        return [
            replace(event, detail=hide_login(self.session, event.detail)) if isinstance(event, Broken) else event
            for event in events
        ]

    def _follow(self) -> list[Event]:
        shown = re.sub("//[^/?#]*@", "//", encodable(self._location))[:_SHOWN]  # without user name and password
        problem = ""
        try:
            site, url = _locate(_as_text(self._location), self._url)
        except ValueError:
            problem = f"redirected to {shown}, which is not an address of a page"
        else:
            if len(self._urls) > _MOST_REDIRECTS:
                # A wall that wants its cookie back guards the REST API too, so a jar for a visit would not help.
                cookie = " with a cookie, which is not kept" if "set-cookie" in dict(self._fields) else ""
                problem = f"more than {_MOST_REDIRECTS} redirects, the last to {shown}{cookie}"
            elif site.origin != self.origin and self._is_member:
                problem = f"redirected to {site.origin}, which must not get the credentials for {self.origin}"
        if problem:
            (refusal,) = self._decoder.receive_eof()
            assert isinstance(refusal, Broken)
            return [replace(refusal, detail=mask(problem))]
        self._site, self._url = site, url
        self._urls.append(url)
        self._decoder = ReplyDecoder(self.limits)
        self._room = self._most
        self._state = TABLE.next(self._state, Input.FOLLOWED)
        return []

    @property
    def _is_member(self) -> bool:
        has_cookies = self.session is not None and has_other_cookies(self.session)
        return has_cookies or any(name.lower() == "authorization" for name, _ in self._headers)


def _as_text(location: str) -> str:
    """A header field that was decoded as Latin-1, although some servers write UTF-8."""
    try:
        return location.encode("latin-1").decode()
    except ValueError:
        return location


def _locate(url: str, base: str = "") -> tuple[Endpoint, str]:
    """The site of a page's URL, and the URL to request. Raises `ValueError` for anything else."""
    try:
        parts = urlsplit(urljoin(base, url.strip()))
        site = Endpoint.parse(f"{parts.scheme}://{parts.netloc}")  # checks them
        path, query = (quote(part, safe=PATH_CHARACTERS + "?") for part in (parts.path, parts.query))
    except ValueError:
        raise ValueError(
            "url: expected the address of a page (https://site.example/contact/), "
            "its host in ASCII (xn--...), without a user name"
        ) from None  # the cause may contain a password
    return site, f"{site.origin}{path or '/'}{f'?{query}' if query else ''}"
