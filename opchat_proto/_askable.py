"""The interface of everything that a flow can ask: the request of each kind, and how its answer is judged."""

from abc import abstractmethod
from typing import ClassVar, NamedTuple

from ._events import Broken, End
from ._http import Endpoint, Request
from ._session import Session
from ._version import __version__

__all__: list[str] = []

JSON = "application/json"
_USER_AGENT = f"opchat/{__version__}"
SESSION_ROUTE = "/mwai/v1/start_session"


class Draft(NamedTuple):
    """A request before the site, the session and the caller add their part to it."""

    route: str
    """The route under the REST root, perhaps with a query: "/wp/v2/users/me?context=edit". Without a leading slash, it
    is under the site's front page."""
    body: bytes | None = None
    """None for a request without a body, such as a GET."""
    method: str = "POST"
    accept: str = JSON
    content_type: str = JSON

    def __repr__(self) -> str:
        """Without the body, which has the question or a file."""
        return f"Draft({self.method} {self.route})"

    @property
    def size(self) -> int:
        """The length of the body."""
        return len(self.body or b"")

    def to_request(self, endpoint: Endpoint, session: Session, headers: tuple[tuple[str, str], ...]) -> Request:
        """The request to this site, in this session. The caller's `headers` replace ours."""
        own = [
            ("Host", endpoint.authority),
            ("User-Agent", _USER_AGENT),
            ("Accept", self.accept),
            ("Accept-Encoding", "identity"),
        ]
        if self.body is not None:
            own += [("Content-Type", self.content_type), ("Content-Length", str(self.size))]
        own += [("Origin", endpoint.origin), ("Referer", endpoint.origin + endpoint.site)]
        if session.nonce is not None:
            own.append(("X-WP-Nonce", session.nonce))
        if session.cookie:
            own.append(("Cookie", session.cookie))
        if session.authorization:
            own.append(("Authorization", session.authorization))
        if headers:
            if self.content_type != JSON:  # the type of a file's form contains its boundary
                headers = tuple((name, value) for name, value in headers if name.lower() != "content-type")
            replaced = {name.lower() for name, _ in headers}
            own = [(name, value) for name, value in own if name.lower() not in replaced]
        target = endpoint.target(self.route) if self.route.startswith("/") else endpoint.site + self.route
        return Request(self.method, endpoint.origin + target, (*own, *headers), self.body or b"")


START_SESSION = Draft(SESSION_ROUTE, b"")


class Askable:
    """The interface between `Flow` and a kind of question. `Submit`, `Upload`, `Query` and others implement it.

    Not an `ABC`: each question is checked with `isinstance`, which calls Python code for an `ABC`.
    """

    __slots__ = ()

    _is_question: ClassVar[bool] = False
    """Whether it may cost the site's owner money. Such a question is never repeated on its own."""
    _needs_session: ClassVar[bool] = True
    """Whether it is sent with the nonce and the cookies: after start_session, and again if the nonce is refused."""
    _limit: ClassVar[str] = "request_bytes"
    """The field of `Limits` that bounds the body."""

    def _before(self) -> "Askable | None":
        """A query to send first. This question follows only if that one ends with `End`."""
        return None

    @abstractmethod
    def _draft(self, session: Session | None) -> Draft:
        """The request in this session; None while the session is not known."""

    def _judge(self, last: End | Broken) -> End | Broken:
        """Return the reply's last event, given the last event of `ReplyDecoder`."""
        return last
