"""The interface of everything that a flow can ask: the request of each kind, and how its answer is judged."""

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import ClassVar

from ._events import Broken, End
from ._session import Session

__all__: list[str] = []

JSON = "application/json"
SESSION_ROUTE = "/mwai/v1/start_session"


@dataclass(frozen=True, slots=True)
class Draft:
    """A request before the site, the session and the caller add their part to it."""

    route: str
    """The route, perhaps with a query: "/wp/v2/users/me?context=edit"."""
    body: bytes | None = field(default=None, repr=False)
    """None for a request without a body, such as a GET."""
    method: str = "POST"
    accept: str = JSON
    content_type: str = JSON

    @property
    def size(self) -> int:
        """The length of the body."""
        return len(self.body or b"")

    @property
    def fields(self) -> dict[str, str]:
        """The header fields that describe the body."""
        return {} if self.body is None else {"Content-Type": self.content_type, "Content-Length": str(self.size)}


START_SESSION = Draft(SESSION_ROUTE, b"")


class Askable(ABC):
    """The interface between `Flow` and a kind of question. `Submit`, `Upload`, `Query` and others implement it."""

    __slots__ = ()

    _is_question: ClassVar[bool] = False
    """Whether it may cost the site's owner money, so that it must never be sent twice by itself."""
    _needs_session: ClassVar[bool] = True
    """Whether it is sent with nonce and cookies: after start_session, and again if the nonce is refused."""
    _limit: ClassVar[str] = "request_bytes"
    """The field of `Limits` that bounds the body."""

    def _before(self) -> "Askable | None":
        """A query to send first. This is asked only if that ends with `End`."""
        return None

    @abstractmethod
    def _draft(self, session: Session | None) -> Draft:
        """The request in this session. None: the session is not known yet."""

    def _judge(self, last: End | Broken) -> End | Broken:
        """Return the last event, given the one of `ReplyDecoder`."""
        return last
