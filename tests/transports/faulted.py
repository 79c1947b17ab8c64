"""The outcome of each fault, and ways to ask a faulty server."""

import asyncio
import socket
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import trio

from opchat_proto import (
    Broken,
    Call,
    Channel,
    Client,
    Connect,
    Done,
    End,
    Event,
    Flow,
    Limits,
    Live,
    Reason,
    Receive,
    Send,
    Session,
    Submit,
    Timeouts,
)
from opchat_transports import AsyncTransport
from opchat_transports.asyncio_streams import AsyncioTransport
from opchat_transports.blocking_sockets import BlockingTransport
from opchat_transports.testing import (
    EVENTS,
    FAULTS,
    FaultServer,
    Journal,
    MemoryServer,
    Script,
)
from opchat_transports.trio_streams import TrioTransport

from .peer import PATIENCE
from .serving import arrived

SOON = 0.3  # seconds, for a clock that must run out
LIMITS = Limits(event_bytes=1_000_000, reply_bytes=3_000_000)
QUESTION = Submit(new_message="Hi", chat_id="k3v9x0q2ab")


# ---------------------------------------------------------------- the table

FIRST, SECOND, LAST = EVENTS
BOTH = ("start_session", "submit")


def broken(reason: Reason, detail: str, *before: Event, **more: Any) -> list[Event]:
    return [*before, Broken(reason, detail, **{"asked": True, **more})]


def no_session(reason: Reason, detail: str, **more: Any) -> list[Event]:
    return [Broken(reason, f"start_session: {detail}", in_session=True, **more)]


def timeout(limit: str, detail: str, *before: Event) -> list[Event]:
    return broken(Reason.TIMEOUT, detail, *before, limit=limit)


def too_large(limit: str, detail: str, *before: Event) -> list[Event]:
    return broken(Reason.TOO_LARGE, detail, *before, limit=limit)


def truncated(detail: str, *before: Event) -> list[Event]:
    return broken(Reason.TRUNCATED, detail, *before)


def no_answer(status: int, detail: str, code: str | None = None, retry_after: int | None = None) -> list[Event]:
    return broken(Reason.REFUSED, detail, status=status, code=code, retry_after=retry_after)


UNENDED = "the answer ended without its end event"
CLOSED = "the connection was closed before any answer"
WAS_RESET = "the connection failed: Connection reset by peer"
PLAIN = "a web page, not a chat answer: A site with plain permalinks"
NO_EVENT = f"no event of the answer within {SOON} s (timeout 'first_event'), after 0 events"
NO_FURTHER = f"no further event of the answer within {SOON} s (timeout 'idle'), after 1 event"
FORBIDDEN = "Sorry, you are not allowed to do that."

EXPECTED: dict[str, list[Event]] = {
    **{
        name: list(EVENTS)
        for name in (
            *("delay", "one byte at a time", "slow drip", "glued events", "split events", "split writes", "length"),
            *("no length", "interim responses", "byte order mark", "blank lines first", "PHP notice first"),
            *(
                "PHP notice between",
                "glued HTML",
                "comments",
                "CRLF",
                "more after the end",
                "wrong content type",
                "no content type",
            ),
            *("cut after the end event", "stale nonce 401", "stale nonce 403", "no start_session"),
            "closed between session and submit",
        )
    },
    "empty data line": [FIRST, Live("", "unreadable"), SECOND, LAST],
    "status event": [FIRST, Live("Thinking...", "status"), SECOND, LAST],
    "unknown event": [FIRST, Live("pong", "unknown", '{"type":"ping","data":"pong"}'), SECOND, LAST],
    "unreadable end": [FIRST, SECOND, End(None)],
    "one JSON object": [LAST],
    "error event": broken(Reason.REMOTE, "Overloaded", FIRST),
    "empty error event": broken(Reason.REMOTE, "", FIRST),
    "failure object": broken(Reason.REMOTE, "Overloaded"),
    "broken event": broken(Reason.MALFORMED, 'an event that is not JSON: {"type":"live","da', FIRST),
    "HTML page": broken(Reason.MALFORMED, PLAIN),
    "gzip": broken(Reason.MALFORMED, "the body is coded as gzip, though identity was asked for"),
    "no end": truncated(UNENDED, FIRST, SECOND),
    "no events": truncated(UNENDED),
    "PHP dies": truncated(f"{UNENDED}; a line that is not an event: PHP Fatal error:  Out of memory", FIRST),
    "cut in the head": truncated("the connection was closed inside the head of the answer"),
    "cut after the head": truncated("HTTP"),
    "cut in an event": truncated("HTTP", FIRST),
    "cut after an event": truncated("HTTP", FIRST),
    "cut in the end event": truncated("HTTP", FIRST, SECOND),
    "cut without close_notify": truncated("HTTP", FIRST),
    "cut of a length": truncated("HTTP", FIRST, SECOND),
    "cut without a length": truncated(UNENDED, FIRST, SECOND),
    "reset in the head": truncated(WAS_RESET),
    "reset after an event": truncated(WAS_RESET, FIRST),
    "no answer": broken(Reason.LOST, CLOSED),
    "reset instead of an answer": broken(Reason.LOST, WAS_RESET),
    "closed when opened": no_session(Reason.LOST, ""),
    "reset when opened": no_session(Reason.LOST, ""),
    "stall": timeout("first_event", NO_EVENT),
    "stall in the head": timeout("first_event", NO_EVENT),
    "stall after the head": timeout("first_event", NO_EVENT),
    "stall after an event": timeout("idle", NO_FURTHER, FIRST),
    "nothing but comments": timeout("idle", NO_FURTHER, FIRST),
    "endless head": too_large("head_bytes", "more than 65536 bytes of head (Limits.head_bytes)"),
    "endless line": too_large("event_bytes", "more than 1000000 bytes in one event (Limits.event_bytes)", FIRST),
    "endless answer": too_large(
        "reply_bytes",
        "more than 3000000 bytes in the whole reply (Limits.reply_bytes)",
        *[Live("x" * 100_000)] * 29,
    ),
    "endless page": broken(Reason.MALFORMED, f"a web page, not a chat answer: {'x' * 200}"),
    "1xx flood": too_large(
        "interim_responses", "more than 8 1xx responses before the answer (Limits.interim_responses)"
    ),
    "header flood": too_large("headers", "more than 128 header fields (Limits.headers)"),
    "not HTTP": truncated("HTTP"),
    "broken chunk": truncated("HTTP", FIRST),
    "two framings": truncated("Content-Length together with Transfer-Encoding"),
    "unasked upgrade": truncated("HTTP"),
    "400 expired shortcut": no_answer(400, "Invalid or expired shortcut."),
    "403 rejected": no_answer(403, "Sorry, your query has been rejected."),
    "500 exception": no_answer(500, "You have reached the limit."),
    "400 invalid JSON": no_answer(400, "Invalid JSON body passed.", "rest_invalid_json"),
    "401 forbidden": no_answer(401, FORBIDDEN, "rest_forbidden"),
    "401 not logged in": no_answer(401, "You are not currently logged in.", "rest_not_logged_in"),
    "401 REST disabled": no_answer(401, "The REST API is for members.", "rest_disabled"),
    "403 forbidden": no_answer(403, FORBIDDEN, "rest_forbidden"),
    "403 invalid nonce": no_answer(403, "Cookie check failed", "rest_cookie_invalid_nonce"),
    "404 no route": no_answer(404, "No route was found matching the URL and request method.", "rest_no_route"),
    "500 critical error": no_answer(500, "There has been a critical error on this website.", "internal_server_error"),
    "500 database": no_answer(500, "Error establishing a database connection", "wp_die"),
    "503 maintenance": no_answer(503, "Briefly unavailable.", "wp_die", 600),
    "301 redirect": no_answer(
        301, "redirected to https://other.example/, which is not followed: 301 Moved Permanently"
    ),
    "403 firewall": no_answer(403, "Just a moment..."),
    "413 too large": no_answer(413, "413 Request Entity Too Large"),
    "429 too many": no_answer(429, "429 Too Many Requests", retry_after=600),
    "502 bad gateway": no_answer(502, "502 Bad Gateway"),
    "503 unavailable": no_answer(503, "503 Service Temporarily Unavailable", retry_after=600),
    "504 timeout": no_answer(504, "504 Gateway Time-out"),
    "session refused": no_session(Reason.REFUSED, "No.", status=500),
    "session without a nonce": no_session(Reason.MALFORMED, "no nonce and session id that could be sent back"),
    "session page": no_session(
        Reason.MALFORMED, f"{PLAIN}; no REST API here; with plain permalinks the root is URL/index.php?rest_route="
    ),
    "session cut": no_session(Reason.TRUNCATED, "the connection was closed inside the head of the answer"),
    "session stall": no_session(
        Reason.TIMEOUT, f"no answer within {SOON} s (timeout 'first_event'), after 0 events", limit="first_event"
    ),
}
ROUTES: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(
        ["stale nonce 401", "stale nonce 403", "401 forbidden", "403 forbidden", "403 invalid nonce"], BOTH * 2
    ),
    **dict.fromkeys([name for name in FAULTS if name.startswith("session ")], ("start_session",)),
    **dict.fromkeys(["stall", "stall in the head", "stall after the head"], ("submit",)),
}

Ask = Callable[..., list[Event]]


def blocking(url: str, **options: Any) -> list[Event]:
    with BlockingTransport(url, **options) as transport, transport.ask(QUESTION) as reply:
        return list(reply)


async def read(transport: AsyncTransport) -> list[Event]:
    async with transport, transport.ask(QUESTION) as reply:
        return [event async for event in reply]


def on_trio(url: str, **options: Any) -> list[Event]:
    return trio.run(lambda: read(TrioTransport(url, **options)))


def on_asyncio(url: str, **options: Any) -> list[Event]:
    return asyncio.run(read(AsyncioTransport(url, **options)))


SITE = "http://site.example"


def a_call(url: str = SITE, **options: Any) -> Call:
    return Channel(url, **options).call("Hi", chat_id="k3v9x0q2ab")


def a_client(url: str = SITE) -> Client:
    return Client(Flow(url, QUESTION))


def session_for(expected: list[Event]) -> Session | None:
    """An existing session. Otherwise the clock could run out during start_session on a busy machine."""
    return Session("0123456789") if expected == timeout("first_event", NO_EVENT) else None


def clocks(expected: Sequence[Event]) -> Timeouts:
    """Long timeouts, except for the clock that must run out."""
    match expected:
        case [Broken(Reason.TIMEOUT)]:
            return Timeouts(first_event=SOON)
        case [_, Broken(Reason.TIMEOUT)]:
            return Timeouts(idle=SOON)
        case _:
            return Timeouts()


def wait_until_asked(name: str, server: FaultServer) -> None:
    """If a clock ran out, it may have done so before the server has read the request."""
    last = EXPECTED[name][-1]
    if isinstance(last, Broken) and last.reason is Reason.TIMEOUT:
        arrived(server, len(ROUTES.get(name, BOTH)))


def without_words(events: list[Event], url: str) -> list[Event]:
    """The events without h11's wording, and without anything that depends on the order of the system's reports."""
    *before, last = events
    if isinstance(last, Broken):
        detail = last.detail.replace(url, "URL")
        if detail.startswith("HTTP: "):
            detail = "HTTP"
        if last.reason is Reason.LOST and last.in_session:
            detail = "start_session: "
        last = replace(last, detail=detail, raw="")
    return [*before, last]


def check(name: str, events: list[Event], expected: list[Event], journal: Journal, url: str) -> None:
    if name in ("closed when opened", "reset when opened"):
        assert journal.routes in ((), ("start_session",))  # noticed before or after the request is sent
    else:
        assert journal.routes == ROUTES.get(name, BOTH)
    assert without_words(events, url) == expected
    # At most once, or twice if the nonce was refused and the second one differs.
    asked = [(request.nonce, request.submit) for request in journal.requests if request.submit is not None]
    assert len(set(asked)) == len(asked)
    assert set(journal.questions) <= {QUESTION}
    assert journal.repeated == ((QUESTION,) if ROUTES.get(name) == BOTH * 2 else ())
    assert all(not visit.rest for visit in journal.visits)


def outcome(*scripts: Script, **options: Any) -> list[Event]:
    """The events of a call without a network; `raw` is dropped."""
    return without_words(list(MemoryServer(*scripts).run(a_call(**options))), SITE)


START = b"POST /wp-json/mwai/v1/start_session HTTP/1.1\r\nHost: a\r\n\r\n"
REQUEST = (
    b"POST /wp-json/mwai-ui/v1/chats/submit HTTP/1.1\r\nHost: a\r\nX-WP-Nonce: 7\r\nContent-Length: %d\r\n\r\n%b"
    % (len(QUESTION.encode()), QUESTION.encode())
)


def talk(port: int, *sent: bytes) -> bytes:
    """The bytes that a server sends to a client that sends this and reads to the end."""
    with socket.create_connection(("127.0.0.1", port), PATIENCE) as connection:
        for data in sent:
            connection.sendall(data)
        received = b""
        while data := connection.recv(65536):
            received += data
        return received


class Sender:
    """Send the given bytes, and print the first line of the response."""

    def __init__(self, *pieces: bytes) -> None:
        self._steps: list[Any] = [Connect("h", 80), *map(Send, pieces), Receive(), Done()]

    def next_step(self) -> Any:
        return self._steps[0]

    def step_done(self) -> None:
        del self._steps[0]

    def receive_data(self, data: bytes) -> list[Event]:
        del self._steps[0]
        return [Live(data.split(b"\r\n")[0].decode())]

    def receive_eof(self) -> list[Event]:
        raise AssertionError("never")

    def step_failed(self, detail: str, reason: Reason = Reason.LOST) -> list[Event]:
        raise AssertionError(detail)

    def close(self) -> list[Event]:
        return []
