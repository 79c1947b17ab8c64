"""Test your own client against a bad network: a scripted server on loopback, and the same without sockets.

It runs in a thread of its own, so the same `with` serves blocking code, trio and asyncio:

    def test_a_cut_answer_is_reported_once():
        with FaultServer(FAULTS["cut after an event"]) as server, BlockingTransport(server.url) as transport:
            with transport.ask("Hello!") as reply:
                assert [type(event) for event in reply] == [Live, Broken]
        assert len(server.questions) == 1

    def test_the_same_on_trio():
        async def main():
            with FaultServer(FAULTS["cut after an event"]) as server:
                async with TrioTransport(server.url) as transport, transport.ask("Hello!") as reply:
                    assert [type(event) async for event in reply] == [Live, Broken]
            assert len(server.questions) == 1

        trio.run(main)

    def test_the_same_on_asyncio():
        async def main():
            with FaultServer(FAULTS["cut after an event"]) as server:
                async with AsyncioTransport(server.url) as transport, transport.ask("Hello!") as reply:
                    assert [type(event) async for event in reply] == [Live, Broken]
            assert len(server.questions) == 1

        asyncio.run(main())

A script is a tuple of steps, a value: `(Write(ANSWER[:200]), Close())` is what
`cut(200)` gives. It says what follows a submit; start_session is answered with a
good session before, over the same connection or another. `FAULTS` has a script for
each fault that is worth a test:

    @pytest.mark.parametrize("script", FAULTS.values(), ids=FAULTS)

As a fixture: `with FaultServer(...) as server: yield server`.

    what is answered            answer(*events), response(*pieces, status=..., headers=..., framing=...): bytes
    how the bytes are changed   slices, `+`, `replace`: they are bytes
    how they are sent           Write(data, size, gap), Repeat(data), Delay(seconds)
    how it ends                 Close(), Reset(), Stall()
    when                        Expect("submit"), Expect("start_session"), Accept()

Scripts follow the requests: the first submit takes the first script, the second the
second, and so on; the last one goes on for all others. What stands behind `Close()`
or `Reset()` is for another connection, as for a question whose nonce is refused:

    (*refused(403, "No.", "rest_cookie_invalid_nonce"), Close(), Expect("submit"), Write(ANSWER))

`MemoryServer` plays the same scripts without sockets, with a clock that costs no
time: against one `Call`, or many side by side. `pair` lets one talk to a `Server` and
its bot.
"""

import gzip
import json
import math
import selectors
import socket
import ssl
import struct
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from http import HTTPStatus
from itertools import chain, cycle
from types import TracebackType
from typing import Any, Literal, Protocol, Self, TypeAlias, cast, final

import h11

from opchat_proto import (
    Answer,
    Broken,
    Connect,
    Done,
    End,
    Event,
    Live,
    Question,
    Reason,
    Receive,
    Send,
    Server,
    Site,
    StartTLS,
    Submit,
    Wait,
)

from ._serving import events_of
from .blocking_server import Bot

__all__ = [
    "ANSWER",
    "EVENTS",
    "FAULTS",
    "GOOD",
    "Accept",
    "CallLike",
    "ClientLike",
    "Close",
    "Cut",
    "Delay",
    "Expect",
    "FaultServer",
    "Framing",
    "Journal",
    "MemoryServer",
    "Received",
    "Repeat",
    "Reset",
    "Script",
    "ServerLike",
    "Stall",
    "Step",
    "Visit",
    "Write",
    "answer",
    "chunk",
    "cut",
    "delayed",
    "dripped",
    "encode",
    "json_object",
    "pair",
    "refused",
    "replay",
    "reset",
    "response",
    "stale_nonce",
    "stalled",
]

# ---------------------------------------------------------------- steps


@final
@dataclass(frozen=True, slots=True)
class Accept:
    """Take the next connection as soon as it is open, before any request. Only as the first step of a script."""


@final
@dataclass(frozen=True, slots=True)
class Expect:
    """Wait for the next request to this route. Until then others get their usual answers.

    Those are a good session, `EVENTS`, and 404 for a route that there is not. As the
    first step, and behind `Close` or `Reset`, it waits for a request over any
    connection that plays nothing; elsewhere, for one over the same connection.
    """

    route: str = "submit"
    """The last segment of the route: "submit" or "start_session"."""

    def __post_init__(self) -> None:
        """Check the type."""
        _check(self, "route", self.route, str)


@final
@dataclass(frozen=True, slots=True)
class Write:
    """Send these bytes, whole or in pieces. A client that reads slowly holds them back."""

    data: bytes
    size: int | None = None
    """Bytes in one piece, each a call of `send` with Nagle's algorithm off; None is all of them."""
    gap: float = 0.0
    """Seconds after each piece but the last."""

    def __post_init__(self) -> None:
        """Check the types and the numbers."""
        _check(self, "data", self.data, bytes)
        _check_count(self, "size", self.size)
        _check_seconds(self, "gap", self.gap)


@final
@dataclass(frozen=True, slots=True)
class Repeat:
    """Send these bytes again and again, until the client leaves."""

    data: bytes
    times: int | None = None
    """How often, None for ever."""
    gap: float = 0.0
    """Seconds after each time."""

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
    """Do nothing for so long. It ends early only with the connection."""

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
    """Close with FIN, after all bytes before it. A script that ends without an ending step ends so.

    An `Expect` behind it goes on with the script over another connection.
    """

    notify: bool = True
    """Whether TLS says farewell (close_notify) before; without, it looks like an attacker's cut (RFC 8446, 6.1)."""

    def __post_init__(self) -> None:
        """Check the type."""
        _check(self, "notify", self.notify, bool)


@final
@dataclass(frozen=True, slots=True)
class Reset:
    """Close with RST. As on a real network, it takes with it what the client's side has not taken up yet.

    An `Expect` behind it goes on with the script over another connection.
    """


Step: TypeAlias = Accept | Expect | Write | Repeat | Delay | Stall | Close | Reset
_STEPS = (Accept, Expect, Write, Repeat, Delay, Stall, Close, Reset)

Script: TypeAlias = tuple[Step, ...]
"""What happens to one question: a value, equal, hashed, pickled and shown by its steps.

It begins with `Expect("submit")` unless it begins with another `Expect` or
with `Accept()`, and ends with `Close()` unless it ends otherwise. What stands
between two ends happens on one connection.
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


def _check_scripts(scripts: tuple[Script, ...]) -> tuple[Script, ...]:
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


def _split(script: Script) -> list[Script]:
    """The parts of a script, each for a connection."""
    ends = [index for index, step in enumerate(script[:-1], 1) if isinstance(step, Close | Reset)]
    return [script[start:end] for start, end in zip([0, *ends], [*ends, len(script)], strict=True)]


def _awaited_route(part: Script) -> str | None:
    """The route of the request that takes this part; None if a new connection does."""
    match part:
        case (Accept(), *_):
            return None
        case (Expect(route), *_):
            return route
        case _:
            return "submit"


# ---------------------------------------------------------------- what is answered

_QUESTION = Question(Submit(new_message="?", stream=True), "0")
_STREAM = (("Content-Type", "text/event-stream;charset=UTF-8"), ("Cache-Control", "no-cache"))
_JSON = (("Content-Type", "application/json; charset=UTF-8"),)
_HTML = (("Content-Type", "text/html; charset=UTF-8"),)

Framing: TypeAlias = Literal["chunked", "length", "close"]
"""How a body is delimited (RFC 9112, 6.3)."""


def encode(event: Event | str | bytes) -> bytes:
    """One event as the plugin writes it (WIRE 5.2); a str is a piece of the answer, bytes stay as they are."""
    if isinstance(event, bytes):
        return event
    return _QUESTION.encode(Live(event) if isinstance(event, str) else event)


def response(
    *pieces: bytes,
    status: int = 200,
    headers: Iterable[tuple[str, str]] = (),
    framing: Framing = "chunked",
    keep_alive: bool = False,
) -> bytes:
    """A whole HTTP response whose body is these pieces.

    `framing` is "chunked" with a chunk for each piece, "length" with a
    Content-Length, or "close", where the end of the connection is that of the
    body. Unless `keep_alive`, it says that the connection will be closed, as a
    script does at its end: so a client with a pool of connections does not send its
    next question into one that is closing. Raises `ValueError` for what HTTP cannot
    write.
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
    headers: Iterable[tuple[str, str]] = _STREAM,
    framing: Framing = "chunked",
    keep_alive: bool = False,
) -> bytes:
    """A streamed answer of these events (see `encode`), each in a chunk of its own; see `response`."""
    return response(*map(encode, events), headers=headers, framing=framing, keep_alive=keep_alive)


def json_object(
    *, status: int = 200, headers: Iterable[tuple[str, str]] = (), keep_alive: bool = False, **payload: Any
) -> bytes:
    """A response that is one JSON object: an answer without streaming, a session, a refusal (WIRE 3.1, 6)."""
    body = json.dumps(payload, separators=(",", ":")).encode()
    return response(body, status=status, headers=(*_JSON, *headers), framing="length", keep_alive=keep_alive)


def chunk(data: bytes) -> bytes:
    """One chunk of a chunked body (RFC 9112, 7.1), for bodies that do not end; no bytes end the body."""
    return b"%x\r\n%b\r\n" % (len(data), data)


_PAYLOAD = (
    '{"success":true,"reply":"Hello, world!","images":null,"actions":[],"shortcuts":[],"blocks":[],'
    '"usage":{"total_tokens":7},"responseId":"resp_1"}'
)
EVENTS: tuple[Event, ...] = (Live("Hello, "), Live("world!"), End("Hello, world!", _PAYLOAD))
"""The good answer, as a client has to report it."""
ANSWER: bytes = answer(*EVENTS)
"""Its bytes, an HTTP response with a chunk for each event."""
GOOD: Script = (Write(ANSWER),)
"""The script without a fault."""

_HEAD = ANSWER[: ANSWER.index(b"\r\n\r\n") + 4]
_BODY = b"".join(map(encode, EVENTS))
_FIRST = _HEAD + chunk(encode(EVENTS[0]))
_USUAL = answer(*EVENTS, keep_alive=True)
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_NO_ROUTE = json_object(
    status=404,
    keep_alive=True,
    code="rest_no_route",
    message="No route was found matching the URL and request method.",
    data={"status": 404},
)
_UNREADABLE = json_object(status=400, code="bad_request", message="The request cannot be read.", data={"status": 400})


def _session(number: int) -> bytes:
    """The usual answer to the n-th start_session: each has a nonce of its own."""
    return json_object(keep_alive=True, success=True, sessionId="64f1c0ffee123", restNonce=f"{number:010x}")


# ---------------------------------------------------------------- faults


def delayed(seconds: float = 0.05, data: bytes = ANSWER) -> Script:
    """The answer comes late."""
    return Delay(seconds), Write(data)


def dripped(gap: float = 0.001, size: int = 1, data: bytes = ANSWER) -> Script:
    """The answer comes in pieces of a byte or more, with a pause after each."""
    return (Write(data, size, gap),)


def cut(at: int, data: bytes = ANSWER) -> Script:
    """So many bytes of the answer, then FIN."""
    return Write(data[:at]), Close()


def reset(at: int, data: bytes = ANSWER) -> Script:
    """So many bytes of the answer, then RST."""
    return Write(data[:at]), Reset()


def stalled(at: int = 0, data: bytes = ANSWER) -> Script:
    """So many bytes of the answer, and nothing more, on a connection that stays open."""
    return Write(data[:at]), Stall()


def refused(
    status: int,
    message: str = "No.",
    code: str | None = None,
    *,
    headers: Iterable[tuple[str, str]] = (),
) -> Script:
    """The plugin's own refusal (WIRE 6.2), or with a code WordPress's (6.3)."""
    if code is None:
        return (Write(json_object(status=status, headers=headers, success=False, message=message)),)
    return (Write(json_object(status=status, headers=headers, code=code, message=message, data={"status": status})),)


def stale_nonce(status: Literal[401, 403] = 403) -> Script:
    """The nonce is refused, once (WIRE 3.5). Then come a fresh session and a good answer."""
    code = {401: "rest_forbidden", 403: "rest_cookie_invalid_nonce"}[status]
    return *refused(status, "No.", code), Close(), Expect(), Write(ANSWER)


def replay(data: bytes, reads: Iterable[tuple[float, int]], speed: float = 1.0) -> Script:
    """A recorded response again, as it came: `reads` are pairs of milliseconds from the first byte and length.

    `speed` 2 plays it twice as fast, `math.inf` without waiting. Append `Stall()`
    for a connection that was kept open. Raises `ValueError` if the lengths do not add
    up to the data, times go back, or the speed is not above 0.
    """
    if not speed > 0:
        raise ValueError(f"speed: expected more than 0, got {speed}")
    steps: list[Step] = []
    now, position = 0.0, 0
    for milliseconds, length in reads:
        if length < 0 or milliseconds < now:
            raise ValueError("reads: expected times that do not go back, and lengths of 0 or more")
        if (pause := (milliseconds - now) / 1000 / speed) > 0:
            steps.append(Delay(pause))
        steps.append(Write(data[position : position + length]))
        now, position = milliseconds, position + length
    if position != len(data):
        raise ValueError(f"reads: expected lengths that add up to {len(data)} bytes, got {position}")
    return tuple(steps)


def _page(status: int, title: str, headers: Iterable[tuple[str, str]] = ()) -> Script:
    body = f"<!DOCTYPE html><html><head><title>{title}</title></head><body><h1>{title}</h1></body></html>"
    return (Write(response(body.encode(), status=status, headers=(*_HTML, *headers), framing="length")),)


def _with_headers(*headers: tuple[str, str]) -> Script:
    return (Write(answer(*EVENTS, headers=headers)),)


def _between(*pieces: Event | str | bytes) -> Script:
    """The good answer, with this after its first piece."""
    return (Write(answer(EVENTS[0], *pieces, *EVENTS[1:])),)


_NOTICE = b"<br />\n<b>Warning</b>:  Undefined variable $a in <b>/srv/plugin.php</b> on line <b>7</b><br />\n"
_DATABASE = b'<div id="error"><p class="wpdberror"><strong>WordPress database error:</strong> [No table]</p></div>'
_CRITICAL = "<p>There has been a critical error on this website.</p>"
_LATER = ("Retry-After", "600")

FAULTS: Mapping[str, Script] = {
    # how it comes: none of these is an error
    "delay": delayed(),
    "one byte at a time": (Write(ANSWER, size=1),),
    "slow drip": dripped(),
    "glued events": (Write(answer(_BODY)),),
    "split events": (Write(answer(*(_BODY[at : at + 7] for at in range(0, len(_BODY), 7)))),),
    "split writes": (Write(ANSWER, size=7),),
    "length": (Write(answer(*EVENTS, framing="length")),),
    "no length": (Write(answer(*EVENTS, framing="close")),),
    "interim responses": (Write(_CONTINUE + b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n" + ANSWER),),
    # what else is in the body: none of these is an error either
    "byte order mark": (Write(answer(b"\xef\xbb\xbf", *EVENTS)),),
    "blank lines first": (Write(answer(b"\n\n", *EVENTS)),),
    "PHP notice first": (Write(answer(_NOTICE, *EVENTS)),),
    "PHP notice between": _between(_NOTICE),
    "comments": _between(b": keepalive\n\n"),
    "CRLF": (Write(answer(*(encode(event).replace(b"\n", b"\r\n") for event in EVENTS))),),
    "empty data line": _between(b"data: \n\n"),
    "status event": _between(Live("Thinking...", "status")),
    "unknown event": _between(b'data: {"type":"ping","data":"pong"}\n\n'),
    "more after the end": (Write(answer(*EVENTS, "too late", b"data: {oops\n\n")),),
    "wrong content type": _with_headers(("Content-Type", "application/json; charset=UTF-8")),
    "no content type": _with_headers(),
    "unreadable end": (Write(answer(*EVENTS[:2], End(None))),),
    "one JSON object": (Write(json_object(**json.loads(_PAYLOAD))),),
    # events that are lost or broken
    "glued HTML": (Write(answer(EVENTS[0], _DATABASE + encode(EVENTS[1]), EVENTS[2])),),
    "error event": _between(Broken(Reason.REMOTE, "Overloaded")),
    "empty error event": (Write(answer(EVENTS[0], Broken(Reason.REMOTE))),),
    "failure object": (Write(json_object(success=False, message="Overloaded")),),
    "broken event": _between(b'data: {"type":"live","da\n\n'),
    "HTML page": _page(200, "A site with plain permalinks"),
    "gzip": (Write(response(gzip.compress(_BODY, mtime=0), headers=(*_STREAM, ("Content-Encoding", "gzip")))),),
    # the end is missing
    "no end": (Write(answer(*EVENTS[:2])),),
    "no events": (Write(answer()),),
    "PHP dies": (Write(answer(EVENTS[0], b"PHP Fatal error:  Out of memory\n")),),
    "cut in the head": cut(20),
    "cut after the head": cut(len(_HEAD)),
    "cut in an event": cut(len(_FIRST) + 20),
    "cut after an event": cut(len(_FIRST)),
    "cut in the end event": cut(len(ANSWER) - 20),
    "cut after the end event": cut(len(ANSWER) - 5),
    "cut without close_notify": (Write(_FIRST), Close(notify=False)),
    "cut of a length": cut(len(answer(*EVENTS, framing="length")) - 20, answer(*EVENTS, framing="length")),
    "cut without a length": cut(len(answer(*EVENTS, framing="close")) - 20, answer(*EVENTS, framing="close")),
    "reset in the head": reset(20),
    "reset after an event": reset(len(_FIRST)),
    "no answer": (Close(),),
    "reset instead of an answer": (Reset(),),
    "closed when opened": (Accept(), Close()),
    "reset when opened": (Accept(), Reset()),
    # no end in sight
    "stall": stalled(),
    "stall in the head": stalled(20),
    "stall after the head": stalled(len(_HEAD)),
    "stall after an event": stalled(len(_FIRST)),
    "nothing but comments": (Write(_FIRST), Repeat(chunk(b": keepalive\n\n"), gap=0.02)),
    "endless head": (Write(_HEAD[:-2] + b"X-Long: "), Repeat(b"x" * 1024)),
    "endless line": (Write(_FIRST + chunk(b"data: ")), Repeat(chunk(b"x" * 65536))),
    "endless answer": (Write(_HEAD), Repeat(chunk(encode("x" * 100_000)))),
    "endless page": (Write(_HEAD + chunk(b"<!DOCTYPE html>")), Repeat(chunk(b"x" * 1024))),
    "1xx flood": (Repeat(_CONTINUE, times=100), Write(ANSWER)),
    "header flood": (Write(_HEAD[:-2]), Repeat(b"X-Flood: 1\r\n", times=1000), Write(b"\r\n" + ANSWER[len(_HEAD) :])),
    # HTTP that cannot be followed
    "not HTTP": (Write(b"SSH-2.0-OpenSSH_9.2\r\n\r\n"),),
    "broken chunk": (Write(_FIRST + b"zz\r\n"),),
    "two framings": (Write(ANSWER.replace(b"\r\n\r\n", b"\r\nContent-Length: 5\r\n\r\n", 1)),),
    "unasked upgrade": (Write(b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n"),),
    # refusals of the plugin (WIRE 6.2) and of WordPress (6.3, 6.4, 13)
    "400 expired shortcut": refused(400, "Invalid or expired shortcut."),
    "403 rejected": refused(403, "Sorry, your query has been rejected."),
    "500 exception": refused(500, "You have reached the limit."),
    "400 invalid JSON": refused(400, "Invalid JSON body passed.", "rest_invalid_json"),
    "401 forbidden": refused(401, "Sorry, you are not allowed to do that.", "rest_forbidden"),
    "401 not logged in": refused(401, "You are not currently logged in.", "rest_not_logged_in"),
    "401 REST disabled": refused(401, "The REST API is for members.", "rest_disabled"),
    "403 forbidden": refused(403, "Sorry, you are not allowed to do that.", "rest_forbidden"),
    "403 invalid nonce": refused(403, "Cookie check failed", "rest_cookie_invalid_nonce"),
    "404 no route": refused(404, "No route was found matching the URL and request method.", "rest_no_route"),
    "500 critical error": refused(500, _CRITICAL, "internal_server_error"),
    "500 database": refused(500, "<h1>Error establishing a database connection</h1>", "wp_die"),
    "503 maintenance": refused(503, "Briefly unavailable.", "wp_die", headers=[_LATER]),
    # refusals of proxies and firewalls
    "301 redirect": _page(301, "301 Moved Permanently", [("Location", "https://other.example/")]),
    "403 firewall": _page(403, "Just a moment..."),
    "413 too large": _page(413, "413 Request Entity Too Large"),
    "429 too many": _page(429, "429 Too Many Requests", [_LATER]),
    "502 bad gateway": _page(502, "502 Bad Gateway"),
    "503 unavailable": _page(503, "503 Service Temporarily Unavailable", [_LATER]),
    "504 timeout": _page(504, "504 Gateway Time-out"),
    # sessions
    "stale nonce 401": stale_nonce(401),
    "stale nonce 403": stale_nonce(403),
    "session refused": (Expect("start_session"), *refused(500, "No.")),
    "session without a nonce": (Expect("start_session"), Write(json_object(success=True, sessionId="N/A"))),
    "session page": (Expect("start_session"), *_page(200, "A site with plain permalinks")),
    "session cut": (Expect("start_session"), *cut(20, _session(1))),
    "session stall": (Expect("start_session"), Stall()),
    "no start_session": (
        Expect("start_session"),
        *refused(404, "No route was found matching the URL and request method.", "rest_no_route"),
        Close(),
        Expect(),
        Write(ANSWER),
    ),
    "closed between session and submit": (Expect("start_session"), Write(_session(1)), Close()),
}
"""A script for each fault, by name; most are quick, and those without an end wait for a clock or a limit of the client.

To put one that follows a submit on start_session: `(Expect("start_session"), *FAULTS["HTML page"])`.
What is right for a client: `list(MemoryServer(script).run(call))` says what the machine makes of it.
"""


# ---------------------------------------------------------------- the journal


@final
@dataclass(frozen=True, slots=True)
class Received:
    """A request that came whole."""

    method: str
    target: str
    headers: tuple[tuple[str, str], ...] = field(repr=False)
    """Names in lower case."""
    body: bytes
    raw: bytes = field(repr=False)
    """Every byte of it, the head included."""

    @property
    def route(self) -> str:
        """The last segment of the route: "submit", "start_session" or another."""
        return self.target.rpartition("/")[2]

    @property
    def nonce(self) -> str | None:
        """Its X-WP-Nonce."""
        return next((value for name, value in self.headers if name == "x-wp-nonce"), None)

    @property
    def submit(self) -> Submit | None:
        """The question in its body, None if it holds none."""
        if self.route != "submit":
            return None
        try:
            return Submit.from_dict(json.loads(self.body))
        except (ValueError, TypeError, RecursionError):
            return None


@final
@dataclass(frozen=True, slots=True)
class Visit:
    """One connection, as it stands."""

    script: Script = ()
    """The script that it took, or the part of one that was for this connection; () if it took none (yet)."""
    requests: tuple[Received, ...] = ()
    rest: bytes = b""
    """What came and is no whole request, up to 16 MiB; with TLS, the plain bytes."""
    sent: int = 0
    """How many bytes the server sent: the client may not have read them all."""
    finished: bool = False
    """Whether the server played `script` to its end before the client left. Never so for one without an end, or ()."""
    left: float | None = None
    """When the client closed its side, in seconds from the connect. None if it has not (yet), or if the server has
    ended the connection before: with a `Reset`, or at the end of the `with` block."""


class Journal:
    """What a scripted server received. All of it are values, as they stand when you ask; they stay after the end."""

    def __init__(self, scripts: tuple[Script, ...]) -> None:
        """For the servers."""
        *first, last = map(_split, _check_scripts(scripts))
        self._parts = chain(*first, cycle(last))
        self._part = next(self._parts)  # to be taken next
        self._lock = threading.Lock()
        self._talks: list[_Talk] = []
        self._came: list[Received] = []
        self._sessions = 0

    @property
    def visits(self) -> tuple[Visit, ...]:
        """The connections, in the order in which they were opened."""
        with self._lock:
            return tuple(talk.visit() for talk in self._talks)

    @property
    def requests(self) -> tuple[Received, ...]:
        """The requests of all connections, in the order in which they were complete."""
        with self._lock:
            return tuple(self._came)

    @property
    def routes(self) -> tuple[str, ...]:
        """Of those, the routes: ("start_session", "submit") is what a client's first question asks for."""
        return tuple(request.route for request in self.requests)

    @property
    def questions(self) -> tuple[Submit, ...]:
        """Of those, the questions."""
        return tuple(submit for request in self.requests if (submit := request.submit) is not None)

    @property
    def repeated(self) -> tuple[Submit, ...]:
        """The questions that came again, whatever for: `assert server.repeated == ()`.

        Equal submits are one question: a transport gives each its own chat id. After a
        refused nonce one repeat is right (WIRE 3.5).
        """
        questions = self.questions
        return tuple(question for index, question in enumerate(questions) if question in questions[:index])

    def _begin(self) -> "_Talk":
        with self._lock:
            talk = _Talk(self)
            self._talks.append(talk)
        return talk

    def _take(self, route: str | None) -> Script | None:
        """The next part if it waits for this: a request to a route, or with None a new connection."""
        if route != _awaited_route(self._part):
            return None
        part, self._part = self._part, next(self._parts)
        return part

    def _usual_answer(self, route: str) -> bytes:
        if route == "start_session":
            self._sessions += 1
            return _session(self._sessions)
        return _USUAL if route == "submit" else _NO_ROUTE


_MOST_KEPT = 16 * 1024 * 1024
_Action: TypeAlias = Write | Delay | Stall | Close | Reset


class _Talk:
    """One connection: what came, and what a script does about it. No I/O."""

    def __init__(self, journal: Journal) -> None:
        self.script = journal._take(None)
        self.sent = 0
        self.finished = False
        self.left: float | None = None
        self.is_unreadable = False
        self.actions = self._play()
        """What to do, one thing at a time, up to `Close` or `Reset`; at a Stall, wait for more bytes."""
        self._journal = journal
        self._requests: list[Received] = []
        self._answered = 0  # of those
        self._last: int | None = None  # which of them is the last that the client sends here (RFC 9112, 9.6)
        self._expect_request(b"")

    def _expect_request(self, data: bytes) -> None:
        self._raw = bytearray()  # of the request that is coming
        self._h11 = h11.Connection(h11.SERVER, max_incomplete_event_size=_MOST_KEPT)
        self._head: h11.Request | None = None
        self._body = bytearray()
        self._continued = False
        if data:
            self._read(data)

    def visit(self) -> Visit:
        return Visit(self.script or (), tuple(self._requests), bytes(self._raw), self.sent, self.finished, self.left)

    def receive_data(self, data: bytes) -> None:
        with self._journal._lock:
            self._read(data)

    def _read(self, data: bytes) -> None:
        self._raw += data
        if len(self._raw) > _MOST_KEPT:
            del self._raw[_MOST_KEPT:]
            self.is_unreadable = True
        if self.is_unreadable:
            return
        try:
            self._h11.receive_data(data)
            while True:
                match self._h11.next_event():
                    case h11.Request() as request:
                        self._head = request
                    case h11.Data(data=piece):
                        self._body += piece
                    case h11.EndOfMessage():
                        self._keep()
                        return
                    case _:
                        return
        except h11.RemoteProtocolError:
            self.is_unreadable = True

    def _keep(self) -> None:
        assert self._head is not None
        after, _ = self._h11.trailing_data
        raw = bytes(self._raw[: len(self._raw) - len(after)])
        headers = tuple((name.decode("latin-1"), value.decode("latin-1")) for name, value in self._head.headers)
        method, target = self._head.method.decode("latin-1"), self._head.target.decode("latin-1")
        request = Received(method, target, headers, bytes(self._body), raw)
        self._requests.append(request)
        self._journal._came.append(request)
        if self._last is None and self._h11.their_state is h11.MUST_CLOSE:
            self._last = len(self._requests)
        self._expect_request(after)

    def end(self) -> None:
        """The last step was done."""
        self.finished = self.script is not None and not self.is_unreadable

    def _play(self) -> Generator["_Action"]:
        while self.script is None:
            route = yield from self._next_route()
            self.script = self._journal._take(route)
            if self.script is None:
                yield from self._answer(route)
        for index, step in enumerate(self.script):
            match step:
                case Expect(route) if index:
                    while (other := (yield from self._next_route())) != route:
                        yield from self._answer(other)
                case Accept() | Expect():  # by which it was taken
                    pass
                case Write(data, size, gap):
                    for start in range(0, len(data), size or len(data) or 1):
                        if start and gap:
                            yield Delay(gap)
                        yield Write(data[start : start + size] if size else data)
                case Repeat(data, times, gap):
                    count = 0
                    while times is None or count < times:
                        count += 1
                        yield Write(data)
                        if gap:
                            yield Delay(gap)
                case Stall():
                    while True:
                        yield step
                case _:
                    yield step
        yield Close()

    def _next_route(self) -> Generator["_Action", None, str]:
        """Wait for the next request, and say which route it is for."""
        while self._answered == len(self._requests):
            if self.is_unreadable:
                yield Write(_UNREADABLE)
                yield Close()
            if self._h11.they_are_waiting_for_100_continue and not self._continued:
                self._continued = True
                yield Write(_CONTINUE)
            yield Stall()
        self._answered += 1
        return self._requests[self._answered - 1].route

    def _answer(self, route: str) -> Generator["_Action"]:
        yield Write(self._journal._usual_answer(route))
        if self._answered == self._last:
            yield Close()


# ---------------------------------------------------------------- over sockets

_READ = 64 * 1024
_TURN = 64  # steps of one connection before another has its turn
_RESET = struct.pack("ii", 1, 0)  # SO_LINGER: on, no seconds


@final
class FaultServer(Journal):
    """A server on a free loopback port that follows scripts.

        with FaultServer(cut(100), GOOD) as server:
            ...ask server.url...
        assert server.repeated == ()

    A connection has the usual answers (see `Expect`) until a request comes to the
    route for which the next script waits; then it takes that one. So the first submit
    follows the first script and so on; the last one goes on for all others, and
    without any it is `GOOD`. What stands behind `Close` or `Reset` is taken like a
    script of its own, before the next one.

    One thread serves all connections, so that the same `with` is for blocking, trio
    and asyncio code. A client that leaves early is no failure. Leaving the block ends
    all connections at once, stalled ones too: no thread and no socket is left, and the
    journal is complete.
    """

    def __init__(self, *scripts: Script, ssl_context: ssl.SSLContext | None = None, port: int = 0) -> None:
        """Nothing is opened yet.

        `ssl_context`, with a certificate for "localhost", makes it an https server.
        Port 0 is a free one. Raises `TypeError` or `ValueError` for what is no script.
        """
        super().__init__(scripts)
        self._ssl_context = ssl_context
        self._port = port
        self._closing = False
        self._failure: BaseException | None = None
        self._thread: threading.Thread | None = None

    def __repr__(self) -> str:
        """Where it listens, and how many have come."""
        return f"<FaultServer at port {self._port}, {len(self._talks)} connections>"

    @property
    def port(self) -> int:
        """The port that it listens on."""
        if self._thread is None:
            raise RuntimeError("the server is not open yet: use it in a with statement")
        return self._port

    @property
    def url(self) -> str:
        """The site's address, for a transport or `Endpoint.parse`."""
        return f"http://127.0.0.1:{self.port}" if self._ssl_context is None else f"https://localhost:{self.port}"

    def __enter__(self) -> Self:
        """Listen. Raises `OSError` if the port is taken, `RuntimeError` if it was open before."""
        if self._thread is not None:
            raise RuntimeError("a server can be opened once")
        self._listener = socket.create_server(("127.0.0.1", self._port), backlog=1024)
        self._listener.setblocking(False)
        self._port = self._listener.getsockname()[1]
        self._woken, self._wake = socket.socketpair()
        self._thread = threading.Thread(target=self._run, name="opchat fault server", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """End all connections at once and wait for the thread. Raises what failed in it, unless the block failed."""
        self.close()
        if error is None and self._failure is not None:
            raise self._failure

    def close(self) -> None:
        """End all connections at once. Idempotent; leaving the `with` block does it too."""
        if self._thread is None:
            return
        self._closing = True
        with suppress(OSError):  # closed before
            self._wake.send(b"!")
        self._thread.join()

    def _run(self) -> None:
        with self._listener, self._woken, self._wake, selectors.DefaultSelector() as selector:
            connections: set[_Connection] = set()
            selector.register(self._listener, selectors.EVENT_READ)
            selector.register(self._woken, selectors.EVENT_READ)
            try:
                while not self._closing:
                    wake_at = min((connection.wake_at for connection in connections), default=math.inf)
                    timeout = None if wake_at == math.inf else max(0.0, wake_at - time.monotonic())
                    ready = {key.fileobj for key, _ in selector.select(timeout)}
                    if self._listener in ready:
                        self._accept(selector, connections)
                    now = time.monotonic()
                    for connection in list(connections):
                        if connection.socket in ready or connection.wake_at <= now:
                            connection.go_on(now)
                        if connection.is_over:
                            connections.remove(connection)
            except BaseException as failure:
                self._failure = failure
            finally:
                with suppress(OSError):
                    self._accept(selector, connections)  # for the journal
                for connection in connections:
                    connection.end(time.monotonic())

    def _accept(self, selector: selectors.BaseSelector, connections: set["_Connection"]) -> None:
        while True:
            try:
                accepted, _ = self._listener.accept()
            except (BlockingIOError, ConnectionError):  # there are no more, or one has left already
                return
            talk = self._begin()
            try:
                connections.add(_Connection(talk, accepted, self._ssl_context, selector))
            except ConnectionError:  # it has left
                talk.left = 0.0
                accepted.close()
            except BaseException:
                accepted.close()
                raise


class _Connection:
    """One socket of a `FaultServer`: does what its talk wants, as far as that goes without waiting."""

    def __init__(
        self,
        talk: _Talk,
        accepted: socket.socket,
        ssl_context: ssl.SSLContext | None,
        selector: selectors.BaseSelector,
    ) -> None:
        accepted.setblocking(False)
        accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.is_over = False
        self.wake_at = 0.0
        self._talk = talk
        self._began = time.monotonic()
        self._out = memoryview(b"")
        self._ahead: _Action | None = None
        self._heard = True  # whether there is something new for a script that waits
        self._waits = False
        self._closed = False  # our side
        self._shaking = ssl_context is not None
        if ssl_context is not None:
            accepted = ssl_context.wrap_socket(accepted, server_side=True, do_handshake_on_connect=False)
        self.socket = accepted
        self._selector = selector
        self._interest = selectors.EVENT_READ
        selector.register(accepted, self._interest)

    def go_on(self, now: float) -> None:
        try:
            if self._shaking:
                self._shake_hands()
            if not self._shaking:
                self._read(now)
                self._write(now)
        except OSError:  # the client has left, or does not like our certificate
            self._leave(now)

    def end(self, now: float) -> None:
        """Look once more at what came, and close."""
        with suppress(OSError):
            if not self._shaking:
                self._read(now)
        self._drop()

    def _shake_hands(self) -> None:
        assert isinstance(self.socket, ssl.SSLSocket)
        self.wake_at = math.inf
        try:
            self.socket.do_handshake()
        except ssl.SSLWantReadError:
            self._watch(selectors.EVENT_READ)
        except ssl.SSLWantWriteError:
            self._watch(selectors.EVENT_READ | selectors.EVENT_WRITE)
        else:
            self._shaking = False

    def _read(self, now: float) -> None:
        while not self.is_over:
            try:
                data = self.socket.recv(_READ)
            except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
                return
            except OSError:  # reset
                data = b""
            if not data:
                self._leave(now)
                return
            self._heard = True
            self._talk.receive_data(data)

    def _write(self, now: float) -> None:
        self._waits = self._waits and not self._heard
        for _ in range(_TURN):
            if self.is_over:
                return
            if self._out:
                try:
                    count = self.socket.send(self._out)
                except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
                    self.wake_at = math.inf
                    self._watch(selectors.EVENT_READ | selectors.EVENT_WRITE)
                    return
                self._talk.sent += count
                self._out = self._out[count:]
            elif self._closed or self._waits:
                self.wake_at = math.inf
                break
            elif self.wake_at > now and self.wake_at != math.inf:
                break
            else:
                self.wake_at = 0.0
                self._step(now)
        self._watch(selectors.EVENT_READ)

    def _step(self, now: float) -> None:
        action, self._ahead = self._ahead or self._next(), None
        match action:
            case Write(data):
                self._out = memoryview(data)
                self._ahead = self._next()
                if isinstance(self._ahead, Close):
                    self._cork()
            case Delay(seconds):
                self.wake_at = now + seconds
            case Stall():
                self._waits = not self._heard  # something may have come since this was decided
            case Reset():
                self._talk.end()
                self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                self._drop()
            case Close(notify):
                self._talk.end()
                self._closed = True
                if notify and isinstance(self.socket, ssl.SSLSocket):
                    with suppress(OSError, ValueError):  # it does not wait for the client's own farewell
                        self.socket.unwrap()
                # Not SSLSocket's own, which would take TLS from under what is still to be read.
                socket.socket.shutdown(self.socket, socket.SHUT_WR)

    def _next(self) -> _Action:
        self._heard = False
        return next(self._talk.actions)  # not beyond Close and Reset

    def _cork(self) -> None:
        """Let the end arrive with the bytes before it, and not at some time after them, where the system can."""
        with suppress(AttributeError):
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 1)

    def _watch(self, interest: int) -> None:
        if interest != self._interest:
            self._interest = interest
            self._selector.modify(self.socket, interest)

    def _leave(self, now: float) -> None:
        self._talk.left = now - self._began
        self._drop()

    def _drop(self) -> None:
        if not self.is_over:
            self.is_over = True
            self._selector.unregister(self.socket)
            self.socket.close()


# ---------------------------------------------------------------- in memory


class CallLike(Protocol):
    """What `Call` is to a driver: also a wrapper around one, or another implementation."""

    def next_event(self) -> Event | None:
        """See `Call.next_event`."""

    def next_step(self, now: float, /) -> tuple[Connect | StartTLS | Send | Receive | Wait | Done, float]:
        """See `Call.next_step`."""

    def step_done(self) -> None:
        """See `Call.step_done`."""

    def step_failed(self, detail: str, reason: Reason = Reason.LOST, /) -> None:
        """See `Call.step_failed`."""

    def receive_data(self, data: bytes, /) -> None:
        """See `Call.receive_data`."""

    def receive_eof(self) -> None:
        """See `Call.receive_eof`."""

    def close(self) -> None:
        """See `Call.close`."""


class ClientLike(Protocol):
    """What `Client` is to a driver: a call without a clock."""

    def next_step(self) -> Connect | StartTLS | Send | Receive | Done:
        """See `Client.next_step`."""

    def step_done(self) -> None:
        """See `Client.step_done`."""

    def step_failed(self, detail: str, reason: Reason = Reason.LOST, /) -> list[Event]:
        """See `Client.step_failed`."""

    def receive_data(self, data: bytes, /) -> list[Event]:
        """See `Client.receive_data`."""

    def receive_eof(self) -> list[Event]:
        """See `Client.receive_eof`."""

    def close(self) -> list[Event]:
        """See `Client.close`."""


class _Untimed:
    """A `Client` as a call whose clocks are off."""

    def __init__(self, client: ClientLike) -> None:
        self._client = client
        self._events: deque[Event] = deque()
        self.step_done = client.step_done

    def next_event(self) -> Event | None:
        return self._events.popleft() if self._events else None

    def next_step(self, now: float) -> tuple[Connect | StartTLS | Send | Receive | Done, float]:
        return self._client.next_step(), math.inf

    def step_failed(self, detail: str, reason: Reason = Reason.LOST) -> None:
        self._events += self._client.step_failed(detail, reason)

    def receive_data(self, data: bytes) -> None:
        self._events += self._client.receive_data(data)

    def receive_eof(self) -> None:
        self._events += self._client.receive_eof()

    def close(self) -> None:
        self._events += self._client.close()


class ServerLike(Protocol):
    """What `Server` is to a driver."""

    def next_step(self) -> Receive | Send | Answer | Done:
        """See `Server.next_step`."""

    def step_done(self) -> None:
        """See `Server.step_done`."""

    def receive_data(self, data: bytes, /, *, now: float) -> None:
        """See `Server.receive_data`."""

    def receive_eof(self) -> None:
        """See `Server.receive_eof`."""

    def send(self, event: Event, /, *, now: float | None = None) -> None:
        """See `Server.send`."""


Cut: TypeAlias = Callable[[bytes], Iterable[bytes]]
"""Cuts bytes into the pieces in which they arrive."""


def _whole(data: bytes) -> Iterable[bytes]:
    return (data,)


@final
class MemoryServer(Journal):
    """Plays scripts against calls without sockets, threads and waiting: the same outcome every time.

        server = MemoryServer(stalled(300))
        events = list(server.run(Channel("http://h", timeouts=Timeouts(idle=5)).call("Hi")))

    The scripts are taken as those of a `FaultServer`. Time passes only in its own
    count: when all calls wait, the clock jumps to the next moment at which something
    happens, such as the end of a delay or of a call's clock. `left` of its visits
    counts so too. If nothing can happen any more, since all clocks are off, the calls
    that read end with `Broken(TIMEOUT)`.
    """

    def __init__(self, *scripts: Script, cut: Cut = _whole) -> None:
        """`cut` cuts what is written once more."""
        super().__init__(scripts)
        self._world = _World(self._begin, cut)

    @property
    def now(self) -> float:
        """The seconds that have passed in all runs."""
        return self._world.now

    def run(self, call: CallLike | ClientLike) -> Generator[Event]:
        """The events of this call, driven to its end as far as they are asked for; then it is closed.

        A `Client` is driven as a call whose clocks are off. Raises `RuntimeError` for
        one that wants to read where there is no connection any more, and for a call that
        waits without a bound for a session which a call that is not played has to start.
        """
        return self._world.run(call)

    def play(self, *calls: CallLike | ClientLike) -> list[list[Event]]:
        """The events of each of these calls, driven side by side: one step of each in turn. Raises as `run` does.

        server.play(*[channel.call("Hi") for _ in range(100)])
        """
        players = [_Player(self._world, call) for call in calls]
        for _ in self._world.go_on(players):
            pass
        return [list(iter(player.call.next_event, None)) for player in players]


class _Peer(Protocol):
    """The other side of one connection."""

    sent: int
    left: float | None
    actions: Generator["_Action"]

    def receive_data(self, data: bytes) -> None: ...

    def end(self) -> None: ...


class _World:
    """A clock that costs no time, and the connections that can be had."""

    def __init__(self, connect: Callable[[], _Peer], cut: Cut) -> None:
        self.connect = connect
        self.cut = cut
        self.now = 0.0

    def run(self, call: CallLike | ClientLike) -> Generator[Event]:
        player = _Player(self, call)
        for _ in self.go_on([player]):
            while (event := player.call.next_event()) is not None:
                yield event

    def go_on(self, players: list["_Player"]) -> Generator[None]:
        """Drive them to their end, one step of each at a time."""
        try:
            while players:
                come_again = min([player.go_on() for player in players])
                players = [player for player in players if not player.is_over]
                yield
                if come_again < math.inf:
                    self.now = max(self.now, come_again)
                elif readers := [player for player in players if player.peer is not None]:
                    for player in readers:
                        player.call.step_failed("nothing will come any more", Reason.TIMEOUT)
                else:
                    raise RuntimeError("the call waits for another one, which is not played")
        finally:
            for player in players:
                player.call.close()
                player.disconnect()


class _Player:
    """One call, with its connection."""

    def __init__(self, world: _World, call: CallLike | ClientLike) -> None:
        self.call: CallLike = cast(CallLike, call) if hasattr(call, "next_event") else _Untimed(call)
        self.peer: _Peer | None = None
        self.is_over = False
        self._world = world
        self._began = self._resume_at = 0.0
        self._signal: Any = None
        self._until = 0.0  # it waits for the signal

    def go_on(self) -> float:
        """Do what is possible now. Returns when to come again: now, later, or infinity where only others can help."""
        now, call = self._world.now, self.call
        if self._signal is not None and not self._signal.is_set() and now < self._until:
            return self._until
        step, until = call.next_step(now)
        self._signal = None
        match step:
            case Connect():
                self.disconnect()
                self.peer = self._world.connect()
                self._began = self._resume_at = now
                call.step_done()
            case StartTLS():
                call.step_done()
            case Send(data):
                assert self.peer is not None
                self.peer.receive_data(data)
                call.step_done()
            case Receive() if self._resume_at > now:
                return min(self._resume_at, until)
            case Receive():
                return self._receive(until)
            case Wait(signal):
                self.disconnect()
                self._signal, self._until = signal, until
                return until
            case Done():
                self.disconnect()
                self.is_over = True
        return now

    def disconnect(self) -> None:
        if self.peer is not None:
            self.peer.left = self._world.now - self._began
            self.peer.actions.close()
            self.peer = None

    def _receive(self, until: float) -> float:
        peer, now = self.peer, self._world.now
        action = None if peer is None else next(peer.actions, None)
        if peer is None or action is None:
            raise RuntimeError("the client wants to read from a connection that has ended")
        match action:
            case Write(data):
                peer.sent += len(data)
                for piece in self._world.cut(data):
                    self.call.receive_data(piece)
            case Delay(seconds):
                self._resume_at = now + seconds
            case Stall():
                return until
            case Close():
                peer.end()
                peer.actions.close()
                self.call.receive_eof()
            case Reset():
                peer.end()
                self.disconnect()
                peer.left = None
                self.call.step_failed("Connection reset by peer")
        return now


def _new_server() -> ServerLike:
    return Server(Site(b"for tests"))


def pair(
    client: CallLike | ClientLike,
    bot: Bot,
    *,
    server: Callable[[], ServerLike] = _new_server,
    now: float = 0.0,
    cut: Cut = _whole,
) -> Generator[Event]:
    """The events of a client or call that talks to a server in memory, whose answers are this bot's.

        events = list(pair(Client(Flow("http://h", question)), my_bot))

    `server` makes one for each connection, `now` is its time in Unix seconds, `cut`
    cuts the bytes of both directions. What the bot raises comes out here; its iterator
    is closed when the client is done or you stop reading. Raises `RuntimeError` if
    both sides wait for the other.
    """
    return _World(lambda: _Served(server(), bot, now, cut), cut).run(client)


class _Served:
    """One connection to a server with a bot."""

    sent = 0
    left: float | None = None

    def __init__(self, server: ServerLike, bot: Bot, now: float, cut: Cut) -> None:
        self._server = server
        self._bot = bot
        self._now = now
        self._cut = cut
        self.actions = self._play()

    def receive_data(self, data: bytes) -> None:
        for piece in self._cut(data):
            self._server.receive_data(piece, now=self._now)

    def _play(self) -> Generator[_Action]:
        server = self._server
        answer: Generator[Event] | None = None
        try:
            while True:
                match server.next_step():
                    case Send(data):
                        server.step_done()
                        yield Write(data)
                    case Answer(submit):
                        answer = answer or events_of(self._bot, submit)
                        server.send(next(answer), now=self._now)
                    case Done():
                        yield Close()
                    case Receive():
                        raise RuntimeError("client and server both wait for the other")
        finally:
            server.receive_eof()
            if answer is not None:
                answer.close()

    def end(self) -> None:
        """There is no journal to be told."""
