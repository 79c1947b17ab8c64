"""The scripted fault server, and what all transports make of every fault."""

import asyncio
import copy
import gc
import json
import math
import pickle
import re
import socket
import ssl
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import trio
import trustme
from hypothesis import given
from hypothesis import strategies as st

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
    Server,
    Session,
    Site,
    Submit,
    Timeouts,
)
from opchat_proto.strategies import cuts
from opchat_transports import AsyncTransport, collect, testing
from opchat_transports.asyncio_streams import AsyncioTransport
from opchat_transports.blocking_sockets import BlockingTransport
from opchat_transports.bots import small_talk
from opchat_transports.testing import (
    ANSWER,
    EVENTS,
    FAULTS,
    GOOD,
    Accept,
    Close,
    Connection,
    Delay,
    Expect,
    FaultServer,
    Journal,
    MemoryServer,
    Repeat,
    Reset,
    Script,
    Stall,
    Step,
    Write,
    answer,
    chunk,
    cut,
    delayed,
    dripped,
    encode,
    json_object,
    pair,
    refused,
    replay,
    reset,
    response,
    stale_nonce,
    stalled,
)
from opchat_transports.trio_streams import TrioTransport
from tests.captures import CAPTURES

from .scenarios import without_details
from .scripted import PATIENCE

SOON = 0.3  # seconds of a clock that is to run out
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
PLAIN = "a page, not an answer of the chat: A site with plain permalinks"
NO_EVENT = f"no event of the answer within {SOON} s (timeout 'first_event'), after 0 events"
NO_FURTHER = f"no further event of the answer within {SOON} s (timeout 'idle'), after 1 event"
FORBIDDEN = "Sorry, you are not allowed to do that."

EXPECTED: dict[str, list[Event]] = {
    **{
        name: list(EVENTS)
        for name in (
            *("delay", "one byte at a time", "slow drip", "glued events", "split events", "split writes", "length"),
            *("no length", "interim responses", "byte order mark", "blank lines first", "PHP notice first"),
            *("PHP notice between", "comments", "CRLF", "more after the end", "wrong content type", "no content type"),
            *("cut after the end event", "stale nonce 401", "stale nonce 403", "no start_session"),
            "closed between session and submit",
        )
    },
    "empty data line": [FIRST, Live("", "unreadable"), SECOND, LAST],
    "status event": [FIRST, Live("Thinking...", "status"), SECOND, LAST],
    "unknown event": [FIRST, Live("pong", "unknown", '{"type":"ping","data":"pong"}'), SECOND, LAST],
    "unreadable end": [FIRST, SECOND, End(None)],
    "one JSON object": [LAST],
    "glued HTML": [FIRST, LAST],
    "error event": broken(Reason.REMOTE, "Overloaded", FIRST),
    "empty error event": broken(Reason.REMOTE, "", FIRST),
    "failure object": broken(Reason.REMOTE, "Overloaded"),
    "broken event": broken(Reason.MALFORMED, 'an event that is no JSON: {"type":"live","da', FIRST),
    "HTML page": broken(Reason.MALFORMED, PLAIN),
    "gzip": broken(Reason.MALFORMED, "the body is coded as gzip, though identity was asked for"),
    "no end": truncated(UNENDED, FIRST, SECOND),
    "no events": truncated(UNENDED),
    "PHP dies": truncated(f"{UNENDED}; a line that is no event: PHP Fatal error:  Out of memory", FIRST),
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
    "endless page": broken(Reason.MALFORMED, f"a page, not an answer of the chat: {'x' * 200}"),
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
    "500 critical error": no_answer(
        500, "<p>There has been a critical error on this website.</p>", "internal_server_error"
    ),
    "500 database": no_answer(500, "<h1>Error establishing a database connection</h1>", "wp_die"),
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
    """One that is there, where the clock that runs out could as well run out in start_session on a busy machine."""
    return Session("0123456789") if expected == timeout("first_event", NO_EVENT) else None


def clocks(expected: Sequence[Event]) -> Timeouts:
    """Long ones, but for what is to run out."""
    match expected:
        case [Broken(Reason.TIMEOUT)]:
            return Timeouts(first_event=SOON)
        case [_, Broken(Reason.TIMEOUT)]:
            return Timeouts(idle=SOON)
        case _:
            return Timeouts()


def without_words(events: list[Event], url: str) -> list[Event]:
    """The events without what is h11's to say, or depends on what the system reports first."""
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
        assert journal.routes in ((), ("start_session",))  # it may be noticed before or after the request is sent
    else:
        assert journal.routes == ROUTES.get(name, BOTH)
    assert without_words(events, url) == expected
    # At most once, and once more only for a refused nonce, with another one.
    asked = [(request.nonce, request.submit) for request in journal.requests if request.submit is not None]
    assert len(set(asked)) == len(asked)
    assert set(journal.questions) <= {QUESTION}
    assert journal.repeated == ((QUESTION,) if ROUTES.get(name) == BOTH * 2 else ())
    assert all(not visit.rest for visit in journal.visits)


def test_every_fault_has_its_outcome() -> None:
    assert EXPECTED.keys() == FAULTS.keys()


@pytest.mark.parametrize("ask", [blocking, on_trio, on_asyncio])
@pytest.mark.parametrize("name", FAULTS)
def test_a_fault(name: str, ask: Ask) -> None:
    expected = EXPECTED[name]
    with FaultServer(FAULTS[name]) as server:
        events = ask(server.url, limits=LIMITS, timeouts=clocks(expected), session=session_for(expected))
    check(name, events, expected, server, server.url)


def play_in_memory(name: str, *, cut: testing.Cut = lambda data: (data,)) -> None:
    expected = EXPECTED[name]
    server = MemoryServer(FAULTS[name], cut=cut)
    call = a_call(limits=LIMITS, timeouts=clocks(expected), session=session_for(expected))
    check(name, list(server.run(call)), expected, server, SITE)


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_in_memory(name: str) -> None:
    play_in_memory(name)


@pytest.mark.parametrize("size", [1, 7])
@pytest.mark.parametrize("name", [name for name in FAULTS if name not in ("endless line", "endless answer")])
def test_a_fault_in_memory_in_small_pieces(name: str, size: int) -> None:
    play_in_memory(name, cut=lambda data: (data[at : at + size] for at in range(0, len(data), size)))


# ---------------------------------------------------------------- scripts are values

STEPS = (
    *(Accept(), Expect(), Expect("start_session"), Write(b"a"), Write(b"", 1, 0.5), Repeat(b"a"), Repeat(b"a", 2, 1)),
    *(Delay(0), Delay(1.5), Stall(), Close(), Close(notify=False), Reset()),
)
SCRIPTS: dict[str, Script] = {**FAULTS, "steps": STEPS, "good": GOOD}


@pytest.mark.parametrize("script", SCRIPTS.values(), ids=SCRIPTS)
def test_a_script_is_a_value(script: Script) -> None:
    assert eval(repr(script), vars(testing)) == script
    again = pickle.loads(pickle.dumps(script))
    assert (again, copy.deepcopy(script)) == (script, script)
    assert len({script, again}) == 1


def test_no_two_steps_are_equal() -> None:
    assert len(set(STEPS)) == len(STEPS)


def wrong(value: object) -> Any:
    """For a type checker, which would see it too."""
    return value


BEHIND_AN_END = "only Expect can follow Close or Reset, and nothing Stall"


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda: Write(wrong("a")), TypeError, "Write.data: expected bytes, got str"),
        (lambda: Write(b"a", 0), ValueError, "Write.size: expected 1 or more, or None, got 0"),
        (lambda: Write(b"a", wrong(1.5)), TypeError, "Write.size: expected int, got float"),
        (lambda: Write(b"a", gap=-1), ValueError, "Write.gap: expected 0 or more seconds, got -1"),
        (lambda: Repeat(b""), ValueError, "Repeat.data: expected at least one byte"),
        (lambda: Repeat(b"a", times=0), ValueError, "Repeat.times: expected 1 or more, or None, got 0"),
        (lambda: Repeat(b"a", gap=wrong("1")), TypeError, "Repeat.gap: expected seconds, got str"),
        (lambda: Delay(math.inf), ValueError, "Delay.seconds: expected 0 or more seconds, got inf"),
        (lambda: Delay(math.nan), ValueError, "Delay.seconds: expected 0 or more seconds, got nan"),
        (lambda: Delay(True), TypeError, "Delay.seconds: expected seconds, got bool"),
        (lambda: Expect(wrong(None)), TypeError, "Expect.route: expected str, got NoneType"),
        (lambda: Close(wrong(None)), TypeError, "Close.notify: expected bool, got NoneType"),
        (lambda: FaultServer(wrong(Write(b"a"))), TypeError, "expected scripts, which are tuples of steps, got Write"),
        (
            lambda: MemoryServer(wrong((b"a",))),
            TypeError,
            "script[0]: expected a step such as Write or Close, got bytes",
        ),
        (lambda: FaultServer((Write(b"a"), Accept())), ValueError, "script[1]: Accept can only be the first step"),
        (lambda: FaultServer((Close(), Expect(), Close(), Write(b"a"))), ValueError, f"script[3]: {BEHIND_AN_END}"),
        (lambda: MemoryServer(GOOD, (Reset(), Close())), ValueError, f"script[1]: {BEHIND_AN_END}"),
        (lambda: FaultServer((Stall(), Expect())), ValueError, f"script[1]: {BEHIND_AN_END}"),
        (
            lambda: response(framing=wrong("none")),
            ValueError,
            "framing: expected 'chunked', 'length' or 'close', got 'none'",
        ),
        (lambda: response(headers=[("a b", "c")]), ValueError, "no HTTP response: "),
        (lambda: replay(b"abc", [(0, 2)]), ValueError, "reads: expected lengths that add up to 3 bytes, got 2"),
        (lambda: replay(b"abc", [(5, 2), (4, 1)]), ValueError, "reads: expected times that do not go back"),
        (lambda: replay(b"abc", [(0, 3)], 0), ValueError, "speed: expected more than 0, got 0"),
    ],
)
def test_what_a_caller_does_wrong(make: Callable[[], object], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=re.escape(words)):
        make()


# ---------------------------------------------------------------- the pieces


def outcome(*scripts: Script, **options: Any) -> list[Event]:
    """Of a call without a network, its verdict's raw text left out."""
    return without_words(list(MemoryServer(*scripts).run(a_call(**options))), SITE)


def test_any_response_can_be_composed() -> None:
    page = response(b"<title>a</title>", status=418, headers=[("X-A", "b")], framing="length", keep_alive=True)
    assert page == b"HTTP/1.1 418 I'm a Teapot\r\nX-A: b\r\nContent-Length: 16\r\n\r\n<title>a</title>"
    assert response(b"a", b"bc") == (
        b"HTTP/1.1 200 OK\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n2\r\nbc\r\n0\r\n\r\n"
    )
    assert response(b"a", status=299, framing="close") == b"HTTP/1.1 299 \r\nConnection: close\r\n\r\na"
    assert chunk(b"abc") + chunk(b"") == b"3\r\nabc\r\n0\r\n\r\n"


def test_any_answer_can_be_composed() -> None:
    assert encode("a/\N{PILE OF POO}") == b'data: {"type":"live","data":"a\\/\\ud83d\\udca9"}\n\n'
    assert encode(b": as it is\n") == b": as it is\n"
    assert outcome((Write(answer("a\ud83d", "\ude00", End("c"))),))[:2] == [Live("a"), Live("\N{GRINNING FACE}")]
    answered = answer("a", Live("b", "status"), Broken(Reason.REMOTE, "c"), headers=(), framing="length")
    assert outcome((Write(answered),)) == broken(Reason.REMOTE, "c", Live("a"), Live("b", "status"))
    whole = json_object(success=True, reply="a")
    assert outcome((Write(whole),)) == [End("a", '{"success":true,"reply":"a"}')]


def test_the_faults_with_other_numbers() -> None:
    assert delayed(2, b"a") == (Delay(2), Write(b"a"))
    assert dripped(2, 3, b"a") == (Write(b"a", 3, 2),)
    assert cut(2, b"abc") == (Write(b"ab"), Close())
    assert reset(2, b"abc") == (Write(b"ab"), Reset())
    assert stalled(2, b"abc") == (Write(b"ab"), Stall())
    assert outcome(refused(418, "Tea.", headers=[("Retry-After", "7")])) == no_answer(418, "Tea.", None, 7)


def test_a_fault_can_be_put_on_start_session() -> None:
    script = (Expect("start_session"), *refused(403, "No.", "rest_disabled"))
    assert outcome(script) == no_session(Reason.REFUSED, "No.", status=403, code="rest_disabled")


def test_what_follows_a_stale_nonce_is_for_another_connection() -> None:
    stale = refused(401, "No.", "rest_forbidden")
    assert stale_nonce(401) == (*stale, Close(), Expect(), Write(ANSWER))
    server = MemoryServer(stale_nonce(401))
    assert list(server.run(a_call())) == list(EVENTS)
    assert server.repeated == (QUESTION,)
    assert [request.nonce for request in server.requests if request.submit] == ["0000000001", "0000000002"]
    assert [visit.script for visit in server.visits] == [(), (*stale, Close()), (), (Expect(), Write(ANSWER))]


# ---------------------------------------------------------------- the journal

START = b"POST /wp-json/mwai/v1/start_session HTTP/1.1\r\nHost: a\r\n\r\n"
REQUEST = (
    b"POST /wp-json/mwai-ui/v1/chats/submit HTTP/1.1\r\nHost: a\r\nX-WP-Nonce: 7\r\nContent-Length: %d\r\n\r\n%b"
    % (len(QUESTION.encode()), QUESTION.encode())
)


def talk(port: int, *sent: bytes) -> bytes:
    """What a client gets that sends this and reads to the end."""
    with socket.create_connection(("127.0.0.1", port), PATIENCE) as connection:
        for data in sent:
            connection.sendall(data)
        received = b""
        while data := connection.recv(65536):
            received += data
        return received


def test_a_request_is_kept_whole() -> None:
    with FaultServer() as server:
        assert talk(server.port, REQUEST[:50], REQUEST[50:]) == ANSWER
    [request] = server.requests
    assert (request.method, request.target) == ("POST", "/wp-json/mwai-ui/v1/chats/submit")
    assert (request.raw, request.body, request.submit) == (REQUEST, QUESTION.encode(), QUESTION)
    assert (request.route, request.nonce) == ("submit", "7")
    assert request.headers == (("host", "a"), ("x-wp-nonce", "7"), ("content-length", str(len(request.body))))
    [visit] = server.visits
    assert visit.left is not None
    assert replace(visit, left=None) == Connection(GOOD, (request,), b"", len(ANSWER), finished=True)


def test_what_comes_after_is_kept_too() -> None:
    with FaultServer() as server:
        assert talk(server.port, REQUEST + REQUEST + b"POST") == ANSWER
    assert server.questions == (QUESTION, QUESTION)
    assert server.repeated == (QUESTION,)
    assert [visit.rest for visit in server.visits] == [b"POST"]


def test_a_request_to_somewhere_else() -> None:
    with FaultServer() as server:
        received = talk(server.port, REQUEST.replace(b"submit", b"nowhere"), REQUEST)
    assert received.startswith(b"HTTP/1.1 404 Not Found\r\n")
    assert received.endswith(ANSWER)
    assert server.routes == ("nowhere", "submit")
    assert [request.submit for request in server.requests] == [None, QUESTION]


def test_a_question_that_is_none() -> None:
    with FaultServer() as server:
        assert talk(server.port, REQUEST.replace(b'{"', b'["')) == ANSWER
    assert server.questions == ()
    assert server.routes == ("submit",)


def test_what_is_no_request() -> None:
    with FaultServer() as server:
        assert talk(server.port, b"HELO you\r\n\r\n").startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert [(visit.rest, visit.finished) for visit in server.visits] == [(b"HELO you\r\n\r\n", False)]


def test_a_request_without_an_end_is_not_kept_for_ever() -> None:
    server = MemoryServer()
    head = REQUEST.replace(b"Content-Length: ", b"Content-Length: 99999")
    client = Sender(head, *[b"x" * 1024 * 1024] * 17)
    [answered] = server.run(client)
    assert answered == Live("HTTP/1.1 400 Bad Request")
    assert [len(visit.rest) for visit in server.visits] == [16 * 1024 * 1024]


class Sender:
    """Sends what it was given, and shows the first line that comes back."""

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


def test_a_client_that_waits_for_100_continue() -> None:
    head, body = REQUEST.replace(b"Host:", b"Expect: 100-continue\r\nHost:").split(b"\r\n\r\n")
    with FaultServer() as server, socket.create_connection(("127.0.0.1", server.port), PATIENCE) as connection:
        connection.sendall(head + b"\r\n\r\n")
        assert connection.recv(65536) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(body)
        with connection.makefile("rb") as file:
            assert file.read() == ANSWER
    assert server.questions == (QUESTION,)


# ---------------------------------------------------------------- which request takes which script


def test_each_submit_takes_the_next_script_and_the_last_goes_on() -> None:
    with FaultServer(cut(3), GOOD) as server:
        answers = [talk(server.port, REQUEST) for _ in range(3)]
    assert answers == [ANSWER[:3], ANSWER, ANSWER]
    assert [visit.script for visit in server.visits] == [cut(3), GOOD, GOOD]


def test_a_connection_without_a_script_takes_none() -> None:
    with FaultServer(cut(3)) as server:
        with socket.create_connection(("127.0.0.1", server.port), PATIENCE) as connection:
            connection.sendall(START)
            assert connection.recv(65536).startswith(b"HTTP/1.1 200 OK\r\n")
        assert talk(server.port, REQUEST) == ANSWER[:3]
    started, asked = server.visits
    assert (started.script, started.finished, started.left is not None) == ((), False, True)
    assert (asked.script, asked.finished, asked.left is not None) == (cut(3), True, True)


def test_a_client_that_keeps_its_connection_finds_the_script_there() -> None:
    with FaultServer(cut(3), GOOD) as server:
        first = talk(server.port, START, REQUEST)
        second = talk(server.port, START + START + REQUEST)
    assert first.endswith(b"}" + ANSWER[:3])
    assert second.endswith(b"}" + ANSWER)
    assert server.routes == (*BOTH, "start_session", *BOTH)
    assert [(visit.script, len(visit.requests)) for visit in server.visits] == [(cut(3), 2), (GOOD, 3)]


def test_a_client_that_wants_the_connection_closed_has_it_closed_after_a_usual_answer() -> None:
    closing = START.replace(b"Host", b"Connection: close\r\nHost")
    with FaultServer((Expect("nothing"),)) as server:
        started = talk(server.port, START + closing)
        old = talk(server.port, REQUEST.replace(b"HTTP/1.1", b"HTTP/1.0"))
    assert started.count(b'"success":true') == 2
    assert old.endswith(ANSWER.partition(b"\r\n\r\n")[2])
    assert [visit.finished for visit in server.visits] == [False, False]


@pytest.mark.parametrize("end", [Close(), Reset()])
def test_what_stands_behind_an_end_is_taken_by_the_next_connection(end: Step) -> None:
    script: Script = (Write(b"a"), end, Expect("start_session"), Write(b"b"), Close(), Expect(), Write(b"c"))
    with FaultServer(script, cut(3)) as server:
        with suppress(ConnectionError):
            talk(server.port, REQUEST)
        answers = [talk(server.port, request) for request in (START, REQUEST, REQUEST, REQUEST)]
    assert answers == [b"b", b"c", ANSWER[:3], ANSWER[:3]]
    assert [visit.script for visit in server.visits] == [script[:2], script[2:5], script[5:], cut(3), cut(3)]


def test_the_last_script_goes_on_with_all_its_connections() -> None:
    with FaultServer((Write(b"a"), Close(), Expect(), Write(b"b"))) as server:
        assert [talk(server.port, REQUEST) for _ in range(5)] == [b"a", b"b", b"a", b"b", b"a"]


def test_a_script_that_accepts_is_for_a_new_connection() -> None:
    with FaultServer((Accept(), Write(b"a"), Close(), Expect(), Write(b"b")), (Accept(), Write(b"c")), GOOD) as server:
        assert talk(server.port) == b"a"
        with socket.create_connection(("127.0.0.1", server.port), PATIENCE) as connection:
            connection.sendall(START)
            assert connection.recv(65536).startswith(b"HTTP/1.1 200 OK\r\n")
            assert talk(server.port, REQUEST) == b"b"
            connection.sendall(REQUEST)  # which finds a script that is not for it
            assert connection.recv(65536).startswith(b"HTTP/1.1 200 OK\r\n")
            assert talk(server.port) == b"c"
            connection.sendall(REQUEST)
            with connection.makefile("rb") as file:
                assert file.read().endswith(ANSWER)
    assert server.visits[1].script == GOOD


def test_a_second_question_on_a_connection_is_for_the_script_too() -> None:
    script = (Write(ANSWER), Expect(), Write(b"again"))
    with FaultServer(script) as server:
        assert talk(server.port, REQUEST, REQUEST) == ANSWER + b"again"


def test_a_request_that_comes_while_an_answer_is_held_back() -> None:
    big = b"x" * 16 * 1024 * 1024  # more than the system holds for both sides
    script = (Write(big), Expect(), Write(b"again"))
    with FaultServer(script) as server, socket.create_connection(("127.0.0.1", server.port), PATIENCE) as connection:
        connection.sendall(REQUEST)
        assert connection.recv(1) == b"x"
        connection.sendall(REQUEST)
        with connection.makefile("rb") as file:
            assert file.read() == big[1:] + b"again"
    assert server.questions == (QUESTION, QUESTION)


def test_a_script_for_start_session_lets_a_submit_through() -> None:
    with FaultServer((Expect("start_session"), Reset())) as server:
        options = {"session": Session("0123456789")}
        assert [ask(server.url, **options) for ask in (blocking, on_trio, on_asyncio)] == [list(EVENTS)] * 3
    assert server.routes == ("submit",) * 3


# ---------------------------------------------------------------- the server's life


def none_is_left(before: set[threading.Thread]) -> bool:
    gc.collect()  # what was not closed is a ResourceWarning, which is an error
    return set(threading.enumerate()) <= before


STALLS = {
    "stall": stalled(20),
    "delay": delayed(1e6),
    "slow drip": dripped(1e6),
    "nobody reads": (Repeat(b"x" * 65536),),
    "nothing is asked": (Expect("nothing"),),
}


@pytest.mark.parametrize("script", STALLS.values(), ids=STALLS)
def test_leaving_ends_everything_at_once(script: Script) -> None:
    before = set(threading.enumerate())
    with FaultServer(script) as server, socket.create_connection(("127.0.0.1", server.port), PATIENCE) as connection:
        connection.sendall(REQUEST)
        server.close()  # as the end of the block does
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", server.port), PATIENCE)
        with suppress(ConnectionError):
            while connection.recv(65536):
                pass
    [visit] = server.visits
    assert (visit.finished, visit.left) == (False, None)
    assert server.questions == (QUESTION,)
    assert none_is_left(before)


@pytest.mark.parametrize("script", STALLS.values(), ids=STALLS)
def test_a_client_that_leaves_early_is_no_failure(script: Script) -> None:
    before = set(threading.enumerate())
    with FaultServer(script) as server, socket.create_connection(("127.0.0.1", server.port), PATIENCE) as connection:
        connection.sendall(REQUEST)
        connection.close()
    [visit] = server.visits
    assert not visit.finished
    assert visit.left is not None
    assert none_is_left(before)


@pytest.mark.parametrize("ask", [blocking, on_trio, on_asyncio])
def test_a_client_that_gives_up_is_seen_to_leave(ask: Ask) -> None:
    with FaultServer(FAULTS["stall after an event"]) as server:
        ask(server.url, timeouts=Timeouts(idle=SOON))
    last = server.visits[-1]
    assert (last.finished, last.left is not None) == (False, True)


class BrokenContext(ssl.SSLContext):
    """What fails in the thread of a server."""

    def wrap_socket(self, *args: object, **options: object) -> ssl.SSLSocket:
        raise ZeroDivisionError


def test_a_failure_of_the_server_is_raised_at_the_end() -> None:
    context = BrokenContext(ssl.PROTOCOL_TLS_SERVER)

    def ask() -> None:
        with FaultServer(ssl_context=context) as server, suppress(ConnectionError):
            talk(server.port, REQUEST)

    def ask_and_fail() -> None:
        with FaultServer(ssl_context=context) as server:
            with suppress(ConnectionError):
                talk(server.port, REQUEST)
            raise KeyError

    before = set(threading.enumerate())
    with pytest.raises(ZeroDivisionError):
        ask()
    with pytest.raises(KeyError):  # which is not hidden
        ask_and_fail()
    assert none_is_left(before)


def test_a_server_is_opened_once() -> None:
    server = FaultServer()
    for ask_early in (lambda: server.port, lambda: server.url):
        with pytest.raises(RuntimeError, match="not open yet"):
            ask_early()
    server.close()
    with server:
        assert talk(server.port, REQUEST) == ANSWER
        assert repr(server) == f"<FaultServer at port {server.port}, 1 connections>"
        with pytest.raises(RuntimeError, match="opened once"):
            server.__enter__()
    server.close()


def test_a_server_at_a_port_of_ones_own() -> None:
    with FaultServer() as first, pytest.raises(OSError, match="in use"), FaultServer(port=first.port):
        pass
    with FaultServer(port=first.port) as second:
        assert second.port == first.port


def test_many_at_once() -> None:
    async def main(url: str) -> list[str | None]:
        async with AsyncioTransport(url) as transport:

            async def one() -> str | None:
                async with transport.ask("Hi") as reply:
                    *_, last = [event async for event in reply]
                    assert isinstance(last, End)
                    return last.reply

            return await asyncio.gather(*(one() for _ in range(100)))

    with FaultServer((Delay(0.1), *GOOD)) as server:
        assert asyncio.run(main(server.url)) == ["Hello, world!"] * 100
    assert len(server.questions) == 100
    assert server.repeated == ()
    assert server.routes.count("start_session") == 1


# ---------------------------------------------------------------- TLS


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def server_context(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    return context


@pytest.fixture(scope="module")
def client_context(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


@pytest.mark.parametrize("ask", [blocking, on_trio, on_asyncio])
@pytest.mark.parametrize(
    "name",
    [
        *("one byte at a time", "stale nonce 403", "cut after an event", "cut without close_notify", "no length"),
        *("stall after an event", "endless answer", "reset after an event", "no answer", "closed when opened"),
    ],
)
def test_a_fault_inside_tls(
    name: str, ask: Ask, server_context: ssl.SSLContext, client_context: ssl.SSLContext
) -> None:
    expected = EXPECTED[name]
    with FaultServer(FAULTS[name], ssl_context=server_context) as server:
        events = ask(server.url, limits=LIMITS, timeouts=clocks(expected), ssl_context=client_context)
    assert server.url.startswith("https://localhost:")
    if name in ("cut without close_notify", "reset after an event"):
        # What the system's TLS calls it is its own.
        events, expected = without_details(events), without_details(expected)
    check(name, events, expected, server, server.url)


def test_a_client_without_trust_is_no_failure(server_context: ssl.SSLContext) -> None:
    with FaultServer(ssl_context=server_context) as server:
        [event] = blocking(server.url)
    assert isinstance(event, Broken)
    assert event.reason is Reason.LOST
    assert [(visit.requests, visit.finished) for visit in server.visits] == [((), False)]


def test_a_client_without_tls_is_no_failure(server_context: ssl.SSLContext) -> None:
    with FaultServer(ssl_context=server_context) as server, suppress(ConnectionError):
        talk(server.port, REQUEST)
    assert [visit.requests for visit in server.visits] == [()]


# ---------------------------------------------------------------- replay

RECORDED = [(0.0, 100), (250.0, 200), (250.0, 0), (1250.0, len(ANSWER) - 300)]


def test_a_recording_is_played_with_its_timing() -> None:
    assert replay(ANSWER, RECORDED) == (
        Write(ANSWER[:100]),
        Delay(0.25),
        Write(ANSWER[100:300]),
        Write(b""),
        Delay(1.0),
        Write(ANSWER[300:]),
    )
    server = MemoryServer(replay(ANSWER, RECORDED, speed=2))
    assert [(event, server.now) for event in server.run(a_call())] == [(FIRST, 0.125), (SECOND, 0.125), (LAST, 0.625)]
    assert server.visits[-1].left == 0.625
    assert all(isinstance(step, Write) for step in replay(ANSWER, RECORDED, math.inf))


@pytest.mark.parametrize("ask", [blocking, on_trio, on_asyncio])
def test_a_recording_over_loopback(ask: Ask) -> None:
    with FaultServer(replay(ANSWER, RECORDED, speed=10)) as server:
        assert ask(server.url) == list(EVENTS)
    left = server.visits[-1].left
    assert left is not None
    assert left >= 0.125


@pytest.mark.parametrize(
    "path", [None, *sorted(CAPTURES.glob("*/*.chunks.json"))], ids=lambda path: path.name if path else "ours"
)
def test_what_real_sites_sent(path: Path | None) -> None:
    data, reads = ANSWER, RECORDED
    if path is not None:
        data = path.with_name(path.name.replace("chunks.json", "response.bin")).read_bytes()
        reads = [(milliseconds, length) for milliseconds, length in json.loads(path.read_text())]
    script = (*replay(data, reads), Stall())
    timeouts = Timeouts(idle=3)
    assert outcome(script, timeouts=timeouts) == outcome((Write(data), Stall()), timeouts=timeouts)


# ---------------------------------------------------------------- in memory


def test_time_passes_without_waiting() -> None:
    server = MemoryServer((Delay(200), *stalled(-5, answer("a"))))
    events = list(server.run(a_call()))
    detail = "no further event of the answer within 120 s (timeout 'idle'), after 1 event"
    assert events == timeout("idle", detail, Live("a"))
    assert (server.now, server.visits[-1].left) == (320, 320)
    assert list(server.run(a_call(timeouts=Timeouts(first_event=7)))) == timeout(
        "first_event", "no event of the answer within 7 s (timeout 'first_event'), after 0 events"
    )
    assert (server.now, server.visits[-1].left) == (327, 7)


def test_without_clocks_a_stall_is_noticed_all_the_same() -> None:
    nothing = "nothing will come any more"
    timeouts = Timeouts(first_event=None)
    assert outcome(stalled(), timeouts=timeouts) == broken(Reason.TIMEOUT, nothing)
    assert outcome(FAULTS["session stall"], timeouts=timeouts) == no_session(Reason.TIMEOUT, nothing)


def test_a_reader_that_stops_leaves() -> None:
    server = MemoryServer()
    call = a_call()
    events = server.run(call)
    assert next(events) == FIRST
    visit = server.visits[-1]
    assert (visit.script, visit.left) == (GOOD, None)
    events.close()
    assert server.visits[-1] == replace(visit, left=0.0)
    assert call.next_step(server.now) == (Done(), math.inf)


class Stubborn:
    """A client that is never done."""

    def __init__(self) -> None:
        self._client = a_client()

    def __getattr__(self, name: str) -> Any:
        if name == "next_event":
            raise AttributeError
        return getattr(self._client, name)

    def next_step(self) -> Any:
        step = self._client.next_step()
        return Receive() if isinstance(step, Done) else step


def test_a_client_that_is_never_done_is_an_error() -> None:
    with pytest.raises(RuntimeError, match="a connection that has ended"):
        list(MemoryServer().run(Stubborn()))
    with pytest.raises(RuntimeError, match="a connection that has ended"):
        list(pair(Stubborn(), small_talk))


def test_a_reset_connection_is_not_seen_to_be_left() -> None:
    server = MemoryServer((Accept(), Reset()))
    assert list(server.run(a_call())) == no_session(Reason.LOST, WAS_RESET)
    assert [(visit.finished, visit.left) for visit in server.visits] == [(True, None)]


def test_in_memory_with_tls() -> None:
    server = MemoryServer()
    assert list(server.run(a_call("https://site.example"))) == list(EVENTS)
    assert [len(visit.requests) for visit in server.visits] == [1, 1]


@pytest.mark.parametrize(
    "name", ["delay", "stale nonce 403", "cut after an event", "reset after an event", "no answer"]
)
def test_a_client_alone_will_do(name: str) -> None:
    server = MemoryServer(FAULTS[name])
    check(name, list(server.run(a_client())), EXPECTED[name], server, SITE)


def test_a_client_alone_does_not_stall_for_ever() -> None:
    events = list(MemoryServer(FAULTS["stall after an event"]).run(a_client()))
    assert events == broken(Reason.TIMEOUT, "nothing will come any more", FIRST)


def test_a_pause_before_a_retry_passes() -> None:
    later = refused(503, "Later.", headers=[("Retry-After", "7")])
    server = MemoryServer((Accept(), Reset()), later, GOOD)
    assert list(server.run(a_call(retries=2))) == list(EVENTS)
    assert server.now == 1 + 7
    assert server.routes == ("start_session", "start_session", "submit", "submit")


# ---------------------------------------------------------------- many in memory


class Flag:
    """A signal that counts how often it was set."""

    made: list["Flag"]

    def __init__(self) -> None:
        self.count = 0
        self.made.append(self)

    def set(self) -> None:
        self.count += 1

    def is_set(self) -> bool:
        return self.count > 0


@pytest.mark.parametrize("signal", [None, threading.Event, asyncio.Event])
def test_many_questions_share_a_session_start(signal: Any) -> None:
    channel = Channel(SITE, signal=signal)
    server = MemoryServer(
        (Expect("start_session"), Delay(3), Write(json_object(success=True, restNonce="7"))), dripped(1, 100)
    )
    assert server.play(*[channel.call("Hi") for _ in range(100)]) == [list(EVENTS)] * 100
    assert server.routes == ("start_session", *["submit"] * 100)
    pauses = (len(ANSWER) - 1) // 100
    assert server.now == 3 + pauses  # all at the same time
    assert {visit.left for visit in server.visits} == {3, pauses}


def test_a_call_that_waits_goes_on_when_its_signal_is_set() -> None:
    Flag.made = []
    channel = Channel(SITE, signal=Flag)
    server = MemoryServer((Expect("start_session"), Delay(3), *GOOD))
    asked = server.play(*[channel.call("Hi") for _ in range(3)])
    assert [[type(event) for event in events] for events in asked] == [[Broken]] * 3
    assert [flag.count for flag in Flag.made] == [1, 1]
    assert server.routes == ("start_session",)


@pytest.mark.parametrize("signal", [None, threading.Event])
def test_a_nonce_that_is_stale_for_many_is_renewed_once(signal: Any) -> None:
    channel = Channel(SITE, session=Session("0123456789"), signal=signal)
    stale = stale_nonce()[:1]
    server = MemoryServer(stale, stale, stale, GOOD)
    assert server.play(*[channel.call("Hi") for _ in range(3)]) == [list(EVENTS)] * 3
    assert server.routes == (*["submit"] * 3, "start_session", *["submit"] * 3)


@pytest.mark.parametrize("signal", [None, threading.Event])
@pytest.mark.parametrize("first_event", [5, None])
def test_a_session_that_does_not_come_ends_all(signal: Any, first_event: float | None) -> None:
    channel = Channel(SITE, signal=signal, timeouts=Timeouts(first_event=first_event))
    server = MemoryServer(FAULTS["session stall"])
    first, *others = server.play(*[channel.call("Hi") for _ in range(3)])
    assert [type(event) for event in first] == [Broken]
    assert others == [first, first]
    assert (server.now, server.routes) == (first_event or 0, ("start_session",))


def test_a_call_that_waits_for_one_that_is_not_played_is_an_error() -> None:
    channel = Channel(SITE, signal=threading.Event, timeouts=Timeouts(first_event=None))
    starter = channel.call("Hi")
    starter.next_step(0)
    with pytest.raises(RuntimeError, match="waits for another one, which is not played"):
        MemoryServer().play(channel.call("Hi"))
    assert starter.next_event() is None


def test_runs_may_be_read_in_turn() -> None:
    half = ANSWER[: ANSWER.index(encode(SECOND))]
    server = MemoryServer((Write(half), Delay(2), Write(ANSWER[len(half) :])))
    one, other = server.run(a_call()), server.run(a_call())
    assert [next(one), next(other), *other, *one] == [FIRST, FIRST, SECOND, LAST, SECOND, LAST]


# ---------------------------------------------------------------- a pair


@given(st.data())
def test_a_pair_talks_however_the_bytes_are_cut(data: st.DataObject) -> None:
    events = list(pair(a_client(), small_talk, cut=lambda sent: data.draw(cuts(sent))))
    whole = list(pair(a_client(), small_talk))
    assert events == whole
    assert collect(events) == "".join(small_talk(QUESTION))


def test_a_bot_may_give_events() -> None:
    def bot(submit: Submit) -> Iterator[str | Event]:
        assert submit == QUESTION
        yield Live("Thinking", "status")
        yield "a"
        yield Broken(Reason.REMOTE, "Enough.")
        raise AssertionError("nobody asks for more")

    events = list(pair(a_client("https://site.example"), bot))
    assert events == broken(Reason.REMOTE, "Enough.", Live("Thinking", "status"), Live("a"))


def test_what_a_bot_raises_comes_out() -> None:
    def bot(submit: Submit) -> Iterator[str]:
        yield "a"
        raise ZeroDivisionError

    events = pair(a_client(), bot)
    assert next(events) == Live("a")
    with pytest.raises(ZeroDivisionError):
        next(events)
    with pytest.raises(TypeError, match="a bot gives str, Live, End or Broken, not int"):
        list(pair(a_client(), lambda submit: [7]))  # type: ignore[list-item]  # wrong on purpose


def test_a_bot_is_closed_when_nobody_reads_on() -> None:
    closed = []

    def bot(submit: Submit) -> Iterator[str]:
        try:
            while True:
                yield "a"
        finally:
            closed.append(submit)

    events = pair(a_client(), bot)
    assert [next(events), next(events)] == [Live("a"), Live("a")]
    events.close()
    assert closed == [QUESTION]


def test_a_pair_has_a_server_for_each_connection() -> None:
    made: list[Server] = []

    def server() -> Server:
        made.append(Server(Site(b"a")))
        return made[-1]

    assert collect(pair(a_client(), small_talk, server=server)) == "".join(small_talk(QUESTION))
    assert [peer.next_step() for peer in made] == [Done(), Done()]


def test_a_call_talks_to_a_server_too() -> None:
    assert list(pair(a_call(), small_talk)) == list(pair(a_client(), small_talk))


def test_a_pair_in_which_both_wait_is_an_error() -> None:
    with pytest.raises(RuntimeError, match="both wait"):
        list(pair(Sender(REQUEST[:-1]), small_talk))


# ---------------------------------------------------------------- for its users

README = (Path(__file__).resolve().parents[2] / "README.md").read_text()
EXAMPLES = [example for example in re.findall(r"```python\n(.*?)```", README, re.DOTALL) if "FaultServer" in example]
IMPORTS = EXAMPLES[0].partition("\n\n\n")[0]
"""Which the examples in the docstring have in common with that of README."""
IN_DOCSTRING = textwrap.dedent(
    "".join(re.findall(r"^(?:    .*)?\n", str(testing.__doc__).split("A script is")[0], re.MULTILINE))
)


@pytest.mark.parametrize("example", [*EXAMPLES, f"{IMPORTS}\n\n{IN_DOCSTRING}"], ids=["README", "docstring"])
def test_the_examples_pass_as_they_stand(example: str, tmp_path: Path) -> None:
    tests = re.findall(r"^def test_.*\n(?:(?:    .*)?\n)+", example, re.MULTILINE)
    assert all(len(test.strip().splitlines()) <= 8 for test in tests), tests
    for word in ("BlockingTransport", "TrioTransport", "AsyncioTransport"):
        assert sum(word in test for test in tests) == 1
    path = tmp_path / "test_example.py"
    path.write_text(example)
    options = ["-q", "-W", "error", "-p", "no:cacheprovider", f"--rootdir={tmp_path}"]
    command = [sys.executable, "-m", "pytest", *options, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert f"{len(tests)} passed" in done.stdout, done.stdout + done.stderr


def test_importing_it_imports_no_extra() -> None:
    extras = ["anyio", "asyncio", "click", "httpx", "hypothesis", "pytest", "trio", "uvicorn"]
    code = f"import sys, opchat_transports.testing; print([name for name in {extras} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_it_exports_what_it_defines() -> None:
    assert sorted(testing.__all__) == sorted(set(testing.__all__))
    assert all(hasattr(testing, name) for name in testing.__all__)
