"""What a flow can be given to ask: each kind says what its request is and how its answer is judged."""

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
    """A request without what the site, the session and the caller add to it."""

    route: str
    """With a query, if there is one: "/wp/v2/users/me?context=edit"."""
    body: bytes | None = field(default=None, repr=False)
    """None for a request that has no body, such as a GET."""
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
    """The interface that `Flow` runs on."""

    __slots__ = ()

    _is_question: ClassVar[bool] = False
    """Whether the site's owner pays for it, so that it must never be sent twice unasked."""
    _needs_session: ClassVar[bool] = True
    """Whether nonce and cookies go with it: start_session comes before it, and a refused nonce is renewed once."""
    _limit: ClassVar[str] = "request_bytes"
    """The field of `Limits` that bounds the body."""

    def _before(self) -> "Askable | None":
        """What is asked first, and only if that ends with `End` is this asked."""
        return None

    @abstractmethod
    def _draft(self, session: Session | None) -> Draft:
        """The request in this session, None for one that is to come."""

    def _judge(self, last: End | Broken) -> End | Broken:
        """The last event, after the rules of `ReplyDecoder` gave this one."""
        return last
