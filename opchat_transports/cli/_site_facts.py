"""The facts of `opchat doctor` about a site, as values. No I/O."""

import json
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from typing import Any, Literal, final

from opchat_proto import Bot, Broken, End, Endpoint, Page, Session

from ._page_bots import named

__all__ = ["Answer", "Contact", "Exchange", "Facts", "Question", "choose_bot", "is_accepted", "read_index"]

_MOST_OBJECTS = 10  # where the index may begin


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Contact:
    """A connection, complete or not."""

    host: str
    port: int
    addresses: tuple[str, ...] = ()
    """The addresses of the name."""
    failed_at: Literal["", "name", "connection", "tls"] = ""
    certificate: Mapping[str, Any] | None = None
    """The certificate as from `ssl.SSLSocket.getpeercert`, even if untrusted; None without TLS, or if unknown."""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A response, complete or not."""

    url: str
    status: int
    headers: tuple[tuple[str, str], ...] = ()
    """Names in lower case."""
    body: bytes = b""
    at: float = 0.0
    """When its head was read, in Unix seconds."""

    def header(self, name: str) -> str:
        """The first value of this name; "" without one."""
        return next((value for key, value in self.headers if key == name), "")

    @property
    def text(self) -> str:
        """The body as text."""
        return self.body.decode("utf-8", "replace")

    @property
    def is_html(self) -> bool:
        """Whether this is a page."""
        return self.body.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"<")


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """A request, the redirects that were followed, and how it ended."""

    outcome: End | Broken
    answers: tuple[Answer, ...] = ()
    contacts: tuple[Contact, ...] = ()
    page: Page | None = None
    """The visited page."""
    session: Session | None = None
    """The session from start_session, or the member's."""

    @property
    def last(self) -> Answer:
        """The last answer; its status is 0 if none came."""
        return self.answers[-1] if self.answers else Answer(url="", status=0)


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """The outcome of the one question."""

    outcome: End | Broken
    pieces: int = 0
    at_once: bool = False
    """Whether the first piece and the end came in the same read."""
    waited: float = 0.0
    """Seconds until the end."""
    coding: str = ""
    """The Content-Encoding of the answer."""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """The facts about a site. None for anything that was not tried."""

    url: str
    endpoint: Endpoint
    """The endpoint of a question."""
    bot: str | None = None
    """The name in --bot."""
    proxy: str | None = None
    page: Exchange | None = None
    """The visit; None if the address is a REST root."""
    index: Exchange | None = None
    """The answer at the REST root."""
    session: Exchange | None = None
    """start_session; None if the page gives the nonce. For a member: all requests before the question."""
    is_member: bool = False
    """Whether a member is to be signed in."""
    check: Exchange | None = None
    """The index once more, with the nonce."""
    fresh: Exchange | None = None
    """The page once more, past caches, if its nonce was not accepted."""
    question: Question | None = None

    @property
    def chosen(self) -> Bot | None:
        """The bot of the page."""
        return choose_bot(self.page and self.page.page, self.bot)


def choose_bot(page: Page | None, name: str | None) -> Bot | None:
    """The bot with this name, by default the first; None if the page has no such bot that can be asked."""
    bots = [] if page is None else [bot for bot in page.bots if bot.endpoint is not None]
    return next(iter(named(bots, name)), None)


def read_index(exchange: Exchange | None) -> dict[str, Any] | None:
    """The index of a REST API; None if the answer is something else."""
    if exchange is None or exchange.last.status != 200:
        return None
    text = exchange.last.text
    for found in islice(re.finditer(r'\{\s*"', text), _MOST_OBJECTS):  # PHP may print notices before it
        with suppress(ValueError, RecursionError):
            index, _ = json.JSONDecoder().raw_decode(text, found.start())
            if isinstance(index.get("namespaces"), list):
                return dict(index)
    return None


def is_accepted(check: Exchange | None) -> bool:
    """Whether the nonce is good: WordPress then sends one back (WIRE 3.4)."""
    return check is not None and check.last.status == 200 and check.last.header("x-wp-nonce") != ""
