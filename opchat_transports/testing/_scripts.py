"""The steps of scripts, and the responses that a server writes."""

import json
import math
import socket
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Literal, TypeAlias, final

import h11

from opchat_proto import End, Event, Live, Question, Submit

__all__ = [
    "ANSWER",
    "EVENTS",
    "GOOD",
    "Accept",
    "Close",
    "Delay",
    "Expect",
    "Framing",
    "Repeat",
    "Reset",
    "Run",
    "Script",
    "Stall",
    "Step",
    "Write",
    "answer",
    "chunk",
    "encode",
    "json_object",
    "response",
]


@final
@dataclass(frozen=True, slots=True)
class Accept:
    """Take the next connection as soon as it is open, before any request. Only as the first step of a script."""


@final
@dataclass(frozen=True, slots=True)
class Expect:
    """Wait for the next request to this route. Requests to other routes get their usual answers meanwhile.

    The usual answers are a good session, `EVENTS`, and 404 for an unknown route. As
    the first step and after `Close` or `Reset`, it waits for a request over any
    connection without a script; elsewhere, over the same connection.
    """

    route: str = "submit"
    """The last segment of the route: "submit" or "start_session"."""

    def __post_init__(self) -> None:
        """Check the type."""
        _check(self, "route", self.route, str)


@final
@dataclass(frozen=True, slots=True)
class Write:
    """Send these bytes, at once or in pieces. A slow reader delays them."""

    data: bytes
    size: int | None = None
    """Bytes in each piece. Each is one `send`, with Nagle's algorithm off; None sends everything at once."""
    gap: float = 0.0
    """Seconds between two pieces."""

    def __post_init__(self) -> None:
        """Check the types and the numbers."""
        _check(self, "data", self.data, bytes)
        _check_count(self, "size", self.size)
        _check_seconds(self, "gap", self.gap)


@final
@dataclass(frozen=True, slots=True)
class Repeat:
    """Send these bytes repeatedly, until the client leaves."""

    data: bytes
    times: int | None = None
    """How often; None means forever."""
    gap: float = 0.0
    """Seconds after each repetition."""

    def __post_init__(self) -> None:
        """Check the types and the numbers."""
        _check(self, "data", self.data, bytes)
        if not self.data:
            raise ValueError("Repeat.data: expected at least one byte")
        _check_count(self, "times", self.times)
        _check_seconds(self, "gap", self.gap)


@final
@dataclass(frozen=True, slots=True)
class Delay:
    """Do nothing for this many seconds, unless the connection ends."""

    seconds: float

    def __post_init__(self) -> None:
        """Check the number."""
        _check_seconds(self, "seconds", self.seconds)


@final
@dataclass(frozen=True, slots=True)
class Stall:
    """Do nothing more, and keep the connection open until the client leaves."""


@final
@dataclass(frozen=True, slots=True)
class Close:
    """Close with FIN, after all earlier bytes. This is the default end of a script.

    An `Expect` after it continues the script over another connection.
    """

    notify: bool = True
    """Whether TLS sends close_notify first. Without it, the end looks like a truncation attack (RFC 8446, 6.1)."""

    def __post_init__(self) -> None:
        """Check the type."""
        _check(self, "notify", self.notify, bool)


@final
@dataclass(frozen=True, slots=True)
class Reset:
    """Close with RST. As on a real network, bytes that the client has not read yet are lost.

    An `Expect` after it continues the script over another connection.
    """


@final
@dataclass(frozen=True, slots=True)
class Run:
    """Call this function with the connection's socket, in a thread of its own. The next step follows its return.

    Only for `FaultServer`, and for what no other step does: wait for the test, be a
    proxy, look at the socket. The function may send, receive and close, but the journal
    has none of that. The socket blocks, at most 20 seconds at a time. After
    `Accept()` the function reads everything that the client sends.

    A `ConnectionError` or `ssl.SSLError` means that the client left. Any other exception
    also ends the connection, and is raised when the `with` block of the server ends.
    That end waits for the function.
    """

    function: Callable[[socket.socket], object]

    def __post_init__(self) -> None:
        """Check the type."""
        if not callable(self.function):
            raise TypeError(f"Run.function: expected a function, got {type(self.function).__name__}")


Step: TypeAlias = Accept | Expect | Write | Repeat | Delay | Stall | Run | Close | Reset
_STEPS = (Accept, Expect, Write, Repeat, Delay, Stall, Run, Close, Reset)

Script: TypeAlias = tuple[Step, ...]
"""What happens to one question: a tuple of steps, so it can be compared, hashed and pickled.

It begins with `Expect("submit")` unless it begins with another `Expect` or with
`Accept()`. It ends with `Close()` unless it has another end. The steps between
two ends are played on one connection.
"""


def _check(step: object, name: str, value: object, expected: type) -> None:
    if not isinstance(value, expected):
        raise TypeError(f"{type(step).__name__}.{name}: expected {expected.__name__}, got {type(value).__name__}")


def _check_count(step: object, name: str, value: int | None) -> None:
    if value is None:
        return
    _check(step, name, value, int)
    if value < 1:
        raise ValueError(f"{type(step).__name__}.{name}: expected 1 or more, or None, got {value}")


def _check_seconds(step: object, name: str, value: float) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{type(step).__name__}.{name}: expected seconds, got {type(value).__name__}")
    if not 0 <= value < math.inf:
        raise ValueError(f"{type(step).__name__}.{name}: expected 0 or more seconds, got {value}")


def check_scripts(scripts: tuple[Script, ...]) -> tuple[Script, ...]:
    for script in scripts:
        if not isinstance(script, tuple):
            raise TypeError(f"expected scripts, which are tuples of steps, got {type(script).__name__}")
        for index, step in enumerate(script):
            if not isinstance(step, _STEPS):
                raise TypeError(f"script[{index}]: expected a step such as Write or Close, got {type(step).__name__}")
            if isinstance(step, Accept) and index:
                raise ValueError(f"script[{index}]: Accept can only be the first step")
            before = script[index - 1] if index else None
            if isinstance(before, Stall) or (isinstance(before, Close | Reset) and not isinstance(step, Expect)):
                raise ValueError(f"script[{index}]: only Expect can follow Close or Reset, and nothing Stall")
    return scripts or (GOOD,)


def split(script: Script) -> list[Script]:
    """The parts of a script, one for each connection."""
    ends = [index for index, step in enumerate(script[:-1], 1) if isinstance(step, Close | Reset)]
    return [script[start:end] for start, end in zip([0, *ends], [*ends, len(script)], strict=True)]


def awaited_route(part: Script) -> str | None:
    """The route that this part waits for; None if it waits for a new connection."""
    match part:
        case (Accept(), *_):
            return None
        case (Expect(route), *_):
            return route
        case _:
            return "submit"


STREAM = (("Content-Type", "text/event-stream;charset=UTF-8"), ("Cache-Control", "no-cache"))
_JSON = (("Content-Type", "application/json; charset=UTF-8"),)
HTML = (("Content-Type", "text/html; charset=UTF-8"),)

Framing: TypeAlias = Literal["chunked", "length", "close"]
"""How a body is delimited (RFC 9112, 6.3)."""


def encode(event: Event | str | bytes) -> bytes:
    """Encode one event as the plugin does (WIRE 5.2). A str is a piece of the answer; bytes are unchanged."""
    return _encode(event, _question())


def _question() -> Question:
    return Question(Submit(new_message="?", stream=True), "0")


def _encode(event: Event | str | bytes, question: Question) -> bytes:
    if isinstance(event, bytes):
        return event
    return question.encode(Live(event) if isinstance(event, str) else event)


def response(
    *pieces: bytes,
    status: int = 200,
    headers: Iterable[tuple[str, str]] = (),
    framing: Framing = "chunked",
    keep_alive: bool = False,
) -> bytes:
    """A complete HTTP response with these pieces as its body.

    `framing` is "chunked" with a chunk for each piece, "length" with a
    Content-Length, or "close", where the end of the connection ends the body.
    Unless `keep_alive`, it has `Connection: close`, because a script closes the
    connection at its end; otherwise a client with a pool might send its next
    question over a closing connection. Raises `ValueError` for anything that HTTP
    cannot express.
    """
    if framing not in ("chunked", "length", "close"):
        raise ValueError(f"framing: expected 'chunked', 'length' or 'close', got {framing!r}")
    connection = h11.Connection(h11.SERVER)
    connection.receive_data(b"POST / HTTP/1.%d\r\nHost: localhost\r\n\r\n" % (framing != "close"))
    connection.next_event()
    connection.next_event()
    fields = list(headers)
    if framing == "length":
        fields.append(("Content-Length", str(sum(map(len, pieces)))))
    if not keep_alive:
        fields.append(("Connection", "close"))
    reason = HTTPStatus(status).phrase.encode() if status in list(HTTPStatus) else b""
    try:
        data = connection.send(h11.Response(status_code=status, headers=fields, reason=reason)) or b""
        for piece in pieces:
            data += connection.send(h11.Data(data=piece)) or b""
        return data + (connection.send(h11.EndOfMessage()) or b"")
    except h11.LocalProtocolError as error:
        raise ValueError(f"no HTTP response: {error}") from None


def answer(
    *events: Event | str | bytes,
    headers: Iterable[tuple[str, str]] = STREAM,
    framing: Framing = "chunked",
    keep_alive: bool = False,
) -> bytes:
    """A streamed answer with these events (see `encode`), each in its own chunk; see `response`."""
    question = _question()  # one for all events: a surrogate pair may be cut between two pieces
    return response(
        *(_encode(event, question) for event in events), headers=headers, framing=framing, keep_alive=keep_alive
    )


def json_object(
    *, status: int = 200, headers: Iterable[tuple[str, str]] = (), keep_alive: bool = False, **payload: Any
) -> bytes:
    """A response with one JSON object: an answer without streaming, a session, or a refusal (WIRE 3.1, 6)."""
    body = json.dumps(payload, separators=(",", ":")).encode()
    return response(body, status=status, headers=(*_JSON, *headers), framing="length", keep_alive=keep_alive)


def chunk(data: bytes) -> bytes:
    """One chunk of a chunked body (RFC 9112, 7.1), for endless bodies; an empty one ends the body."""
    return b"%x\r\n%b\r\n" % (len(data), data)


PAYLOAD = (
    '{"success":true,"reply":"Hello, world!","images":null,"actions":[],"shortcuts":[],"blocks":[],'
    '"usage":{"total_tokens":7},"responseId":"resp_1"}'
)
EVENTS: tuple[Event, ...] = (Live("Hello, "), Live("world!"), End("Hello, world!", PAYLOAD))
"""The events of the good answer."""
ANSWER: bytes = answer(*EVENTS)
"""The good answer as an HTTP response, with a chunk for each event."""
GOOD: Script = (Write(ANSWER),)
"""The script without a fault."""

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


def session_answer(number: int) -> bytes:
    """The usual answer to the n-th start_session. Each has its own nonce."""
    return json_object(keep_alive=True, success=True, sessionId="64f1c0ffee123", restNonce=f"{number:010x}")
