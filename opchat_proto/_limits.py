"""How much a peer may make us hold or read."""

import sys
from dataclasses import dataclass, fields
from typing import final

from ._json import DEEPEST
from ._value import Value

__all__ = ["Limits"]

_RANGES = {"interim_responses": (0, sys.maxsize), "json_depth": (1, DEEPEST), "restarts": (0, 1)}


@final
@dataclass(frozen=True, slots=True, eq=False, repr=False, kw_only=True)
class Limits(Value):
    """The bounds on what a peer can send. All are finite and can be set.

    Every limit is exact and independent of how the bytes are cut: exactly the
    limit passes, one more does not. Beyond it the reply is `Broken(TOO_LARGE)`, and
    `detail` names the limit. The fields below name the exceptions.

    Raises `TypeError` for a value that is not an int, `ValueError` for one out of
    range.
    """

    head_bytes: int = 64 * 1024
    """Status line and header fields of one response, line ends included; also
    one line of chunked framing, or the trailers (there: TRUNCATED). Precedents:
    nginx 32 KiB, node 16 KiB, h11 16 KiB of an unfinished head."""

    headers: int = 128
    """Header fields of one response. Precedent: Apache's 100."""

    interim_responses: int = 8
    """1xx responses before the final one. 0 allows none."""

    event_bytes: int = 16 * 1024 * 1024
    """One server-sent event: the unfinished line plus the data lines of the
    unfinished event. A JSON body counts as one event from its opening brace."""

    reply_bytes: int = 64 * 1024 * 1024
    """The whole body of a reply, including comments and noise."""

    refusal_bytes: int = 64 * 1024
    """How much of a refusal or of a page is read before it is judged. Not an
    error: the rest is ignored."""

    page_bytes: int = 2 * 1024 * 1024
    """The HTML of a visited page, and the body of each redirect."""

    request_bytes: int = 1024 * 1024
    """The JSON body of a question. A client raises `ValueError`, or if only the
    session id makes it too large, the reply is TOO_LARGE; a server answers 413."""

    upload_bytes: int = 32 * 1024 * 1024
    """The body of an `Upload`, including the lines of its form. Beyond: `ValueError`. Also a downloaded file."""

    json_depth: int = 64
    """Arrays and objects inside one another, at most 512 (the interpreter's stack
    bounds it). Deeper is MALFORMED."""

    restarts: int = 1
    """How often a submit that is refused for its nonce is repeated with a fresh one:
    1, or 0 for never. More would send a question more than twice."""

    def __post_init__(self) -> None:
        """Check each field."""
        for field in fields(self):
            value = getattr(self, field.name)
            if type(value) is not int:
                raise TypeError(f"Limits.{field.name}: expected an int, got {type(value).__name__}")
            least, most = _RANGES.get(field.name, (1, sys.maxsize))
            if not least <= value <= most:
                raise ValueError(f"Limits.{field.name}: expected {least} to {most}, got {value}")
