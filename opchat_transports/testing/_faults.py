"""A script for each fault worth a test, and functions that make scripts."""

import gzip
import json
from collections.abc import Iterable, Mapping
from typing import Literal

from opchat_proto import Broken, End, Event, Live, Reason

from ._scripts import (
    ANSWER,
    CONTINUE,
    EVENTS,
    HTML,
    PAYLOAD,
    STREAM,
    Accept,
    Close,
    Delay,
    Expect,
    Repeat,
    Reset,
    Script,
    Stall,
    Step,
    Write,
    answer,
    chunk,
    encode,
    json_object,
    response,
    session_answer,
)

__all__ = ["FAULTS", "cut", "delayed", "dripped", "refused", "replay", "reset", "stale_nonce", "stalled"]

_HEAD = ANSWER[: ANSWER.index(b"\r\n\r\n") + 4]
_BODY = b"".join(map(encode, EVENTS))
_FIRST = _HEAD + chunk(encode(EVENTS[0]))


def delayed(seconds: float = 0.05, data: bytes = ANSWER) -> Script:
    """The answer, late."""
    return Delay(seconds), Write(data)


def dripped(gap: float = 0.001, size: int = 1, data: bytes = ANSWER) -> Script:
    """The answer in pieces of `size` bytes, with a pause of `gap` seconds after each."""
    return (Write(data, size, gap),)


def cut(at: int, data: bytes = ANSWER) -> Script:
    """The first `at` bytes of the answer, then FIN."""
    return Write(data[:at]), Close()


def reset(at: int, data: bytes = ANSWER) -> Script:
    """The first `at` bytes of the answer, then RST."""
    return Write(data[:at]), Reset()


def stalled(at: int = 0, data: bytes = ANSWER) -> Script:
    """The first `at` bytes of the answer, then nothing, on a connection that stays open."""
    return Write(data[:at]), Stall()


def refused(
    status: int,
    message: str = "No.",
    code: str | None = None,
    *,
    headers: Iterable[tuple[str, str]] = (),
) -> Script:
    """A refusal by the plugin (WIRE 6.2), or with a `code`, by WordPress (6.3)."""
    if code is None:
        return (Write(json_object(status=status, headers=headers, success=False, message=message)),)
    return (Write(json_object(status=status, headers=headers, code=code, message=message, data={"status": status})),)


def stale_nonce(status: Literal[401, 403] = 403) -> Script:
    """The nonce is refused, once (WIRE 3.5). Then come a fresh session and a good answer."""
    code = {401: "rest_forbidden", 403: "rest_cookie_invalid_nonce"}[status]
    return *refused(status, "No.", code), Close(), Expect(), Write(ANSWER)


def replay(data: bytes, reads: Iterable[tuple[float, int]], speed: float = 1.0) -> Script:
    """A recorded response with its timing: `reads` are pairs of milliseconds since the first byte, and a length.

    `speed` 2 is twice as fast, `math.inf` without waiting. Append `Stall()` for a
    connection that was kept open. Raises `ValueError` if the lengths do not add up
    to the data, times decrease, or the speed is not above 0.
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
    return (Write(response(body.encode(), status=status, headers=(*HTML, *headers), framing="length")),)


def _with_headers(*headers: tuple[str, str]) -> Script:
    return (Write(answer(*EVENTS, headers=headers)),)


def _between(*pieces: Event | str | bytes) -> Script:
    """The good answer, with this inserted after its first piece."""
    return (Write(answer(EVENTS[0], *pieces, *EVENTS[1:])),)


_NOTICE = b"<br />\n<b>Warning</b>:  Undefined variable $a in <b>/srv/plugin.php</b> on line <b>7</b><br />\n"
_DATABASE = b'<div id="error"><p class="wpdberror"><strong>WordPress database error:</strong> [No table]</p></div>'
_CRITICAL = "<p>There has been a critical error on this website.</p>"
_LATER = ("Retry-After", "600")

FAULTS: Mapping[str, Script] = {
    # timing and framing: not errors
    "delay": delayed(),
    "one byte at a time": (Write(ANSWER, size=1),),
    "slow drip": dripped(),
    "glued events": (Write(answer(_BODY)),),
    "split events": (Write(answer(*(_BODY[at : at + 7] for at in range(0, len(_BODY), 7)))),),
    "split writes": (Write(ANSWER, size=7),),
    "length": (Write(answer(*EVENTS, framing="length")),),
    "no length": (Write(answer(*EVENTS, framing="close")),),
    "interim responses": (Write(CONTINUE + b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n" + ANSWER),),
    # noise in the body: not errors either
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
    "one JSON object": (Write(json_object(**json.loads(PAYLOAD))),),
    # events that are lost or broken
    "glued HTML": (Write(answer(EVENTS[0], _DATABASE + encode(EVENTS[1]), EVENTS[2])),),
    "error event": _between(Broken(Reason.REMOTE, "Overloaded")),
    "empty error event": (Write(answer(EVENTS[0], Broken(Reason.REMOTE))),),
    "failure object": (Write(json_object(success=False, message="Overloaded")),),
    "broken event": _between(b'data: {"type":"live","da\n\n'),
    "HTML page": _page(200, "A site with plain permalinks"),
    "gzip": (Write(response(gzip.compress(_BODY, mtime=0), headers=(*STREAM, ("Content-Encoding", "gzip")))),),
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
    # answers without an end
    "stall": stalled(),
    "stall in the head": stalled(20),
    "stall after the head": stalled(len(_HEAD)),
    "stall after an event": stalled(len(_FIRST)),
    "nothing but comments": (Write(_FIRST), Repeat(chunk(b": keepalive\n\n"), gap=0.02)),
    "endless head": (Write(_HEAD[:-2] + b"X-Long: "), Repeat(b"x" * 1024)),
    "endless line": (Write(_FIRST + chunk(b"data: ")), Repeat(chunk(b"x" * 65536))),
    "endless answer": (Write(_HEAD), Repeat(chunk(encode("x" * 100_000)))),
    "endless page": (Write(_HEAD + chunk(b"<!DOCTYPE html>")), Repeat(chunk(b"x" * 1024))),
    "1xx flood": (Repeat(CONTINUE, times=100), Write(ANSWER)),
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
    "session cut": (Expect("start_session"), *cut(20, session_answer(1))),
    "session stall": (Expect("start_session"), Stall()),
    "no start_session": (
        Expect("start_session"),
        *refused(404, "No route was found matching the URL and request method.", "rest_no_route"),
        Close(),
        Expect(),
        Write(ANSWER),
    ),
    "closed between session and submit": (Expect("start_session"), Write(session_answer(1)), Close()),
}
"""A script for each fault, by name. Most are quick; endless ones last until a clock or a limit of the client ends them.

To use one for start_session instead of a submit: `(Expect("start_session"), *FAULTS["HTML page"])`.
The events that a client should give: `list(MemoryServer(script).run(call))`.
"""
