"""One HTTP/1.1 connection of a site."""

import json
import pickle
from collections.abc import Callable, Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opchat_proto import (
    Answer,
    Broken,
    Done,
    End,
    Event,
    Limits,
    Live,
    LocalProtocolError,
    Reason,
    Receive,
    Response,
    Send,
    Server,
    Site,
    Submit,
)
from opchat_proto._server import TABLE, Input, State  # the table itself is not public, and is walked over here
from tests.proto.cuts import copies, cut_at, every_cut
from tests.proto.sites import (
    DATE,
    FORBIDDEN,
    NO_ROUTE,
    NONCE,
    NOW,
    QUESTION,
    REJECTED,
    SECRET,
    SESSION_ID,
    SITE,
    START,
    STREAMED,
    SUBMIT,
    UNSTREAMED,
    begun,
    json_response,
    response_of,
    start,
    wrong,
)


def request(target: str, *headers: str, body: bytes = b"", method: str = "POST", version: str = "1.1") -> bytes:
    lines = [f"{method} {target} HTTP/{version}", "Host: site.example", *headers]
    if body:
        lines += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
    return "\r\n".join([*lines, "", ""]).encode() + body


def http(response: Response, *headers: str, reason: str = "OK", body: bytes | None = None) -> bytes:
    """The response on the wire."""
    lines = [f"HTTP/1.1 {response.status} {reason}", f"Date: {DATE}"]
    lines += [f"{name}: {value}" for name, value in response.headers]
    return "\r\n".join([*lines, *headers, "", ""]).encode() + (response.body if body is None else body)


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


LAST_CHUNK = b"0\r\n\r\n"
CLOSE = "Connection: close"
WITH_NONCE = f"X-WP-Nonce: {NONCE}"
START_REQUEST = request(START)
SUBMIT_REQUEST = request(SUBMIT, WITH_NONCE, body=QUESTION)
UNSTREAMED_REQUEST = request(SUBMIT, WITH_NONCE, body=b'{"botId":"default","newMessage":"hi"}')
EVENTS: list[Event] = [Live("a"), Live("b", "status"), End("ab")]


def streamed(*events: Event) -> bytes:
    """A streamed answer on the wire, in chunks."""
    head = http(begun(STREAMED, events[0]), "Transfer-Encoding: chunked", body=b"")
    return head + b"".join(chunk(STREAMED.encode(event)) for event in events) + LAST_CHUNK


STARTED = http(response_of(start()))
ANSWERED = streamed(*EVENTS)
ANSWERED_WHOLE = http(begun(UNSTREAMED, End("ab")))


def refused(status: int, code: str, message: str, reason: str) -> bytes:
    body = json.dumps({"code": code, "message": message, "data": {"status": status}}, separators=(",", ":")).encode()
    return http(json_response(status, body), CLOSE, reason=reason)


def bad_request(message: str) -> bytes:
    return refused(400, "bad_request", message, "Bad Request")


def converse(
    server: Server,
    pieces: Iterable[bytes],
    events: Iterable[Event] = EVENTS,
    between: Callable[[Server], Server] = lambda server: server,
) -> tuple[bytes, list[Submit]]:
    """Drive the server until it is done, with the same answer to each question: what it sent, and the questions."""
    sent = bytearray()
    questions: list[Submit] = []
    pieces = iter(pieces)
    answer: list[Event] = []
    while True:
        server = between(server)
        match server.next_step():
            case Receive():
                piece = next(pieces, None)
                if piece is None:
                    server.receive_eof()
                else:
                    server.receive_data(piece, now=NOW)
            case Send(data):
                sent += data
                server.step_done()
            case Answer(submit):
                if not answer:
                    questions.append(submit)
                    answer = list(events)
                server.send(answer.pop(0))
            case Done():
                return bytes(sent), questions


HI = Submit(new_message="hi", stream=True)
HI_WHOLE = Submit(new_message="hi", stream=False)
CHUNKED = request(SUBMIT, WITH_NONCE, "Content-Type: application/json", "Transfer-Encoding: chunked")
IN_CHUNKS = CHUNKED + chunk(QUESTION[:20]) + b"1f;ext=1\r\n" + QUESTION[20:] + b"\r\n0\r\nTrailer: x\r\n\r\n"
LONG_HEAD = request(START, "X: " + "x" * 100)
SMALL = Limits(head_bytes=len(LONG_HEAD), headers=3, request_bytes=len(QUESTION))


def closing(response: bytes) -> bytes:
    """The response with "Connection: close" at the end of its head."""
    head, end, body = response.partition(b"\r\n\r\n")
    return head + b"\r\n" + CLOSE.encode() + end + body


def with_head(lines: bytes) -> bytes:
    return b"POST " + START.encode() + b" HTTP/1.1\r\nHost: a\r\n" + lines + b"\r\n\r\n"


CASES: dict[str, tuple[bytes, bytes, list[Submit]]] = {
    # what the client sends, what the server sends, the questions that it hands out
    "nothing": (b"", b"", []),
    "start_session": (START_REQUEST, STARTED, []),
    "plain permalinks": (request("/index.php?rest_route=%2Fmwai%2Fv1%2Fstart_session"), STARTED, []),
    "absolute form": (request(f"http://site.example{START}"), STARTED, []),
    "line ends before the request": (b"\r\n\r\n" + START_REQUEST, STARTED, []),
    "bare line feeds": (START_REQUEST.replace(b"\r\n", b"\n"), STARTED, []),
    "a question": (SUBMIT_REQUEST, ANSWERED, [HI]),
    "a question, not streamed": (UNSTREAMED_REQUEST, ANSWERED_WHOLE, [HI_WHOLE]),
    "a question in chunks": (IN_CHUNKS, ANSWERED, [HI]),
    "session, then question": (START_REQUEST + SUBMIT_REQUEST, STARTED + ANSWERED, [HI]),
    "questions one after another": (
        SUBMIT_REQUEST + IN_CHUNKS + UNSTREAMED_REQUEST + START_REQUEST,
        ANSWERED + ANSWERED + ANSWERED_WHOLE + STARTED,
        [HI, HI, HI_WHOLE],
    ),
    "a refused question": (
        request(SUBMIT, body=QUESTION) + START_REQUEST,
        http(json_response(401, FORBIDDEN), reason="Unauthorized") + STARTED,
        [],
    ),
    "another route": (
        request("/elsewhere", method="GET") + START_REQUEST,
        http(json_response(404, NO_ROUTE), reason="Not Found") + STARTED,
        [],
    ),
    "HEAD has no body": (
        request("/elsewhere", method="HEAD") + START_REQUEST,
        http(json_response(404, NO_ROUTE), reason="Not Found", body=b"") + STARTED,
        [],
    ),
    "CONNECT is nothing special": (
        request("site.example:443", method="CONNECT") + START_REQUEST,
        http(json_response(404, NO_ROUTE), reason="Not Found") + STARTED,
        [],
    ),
    "an upgrade is not taken": (request(START, "Upgrade: h2c", "Connection: upgrade") * 2, STARTED * 2, []),
    "close asked for": (request(START, CLOSE) + START_REQUEST, closing(STARTED), []),
    "HTTP/1.0": (request(START, version="1.0") + START_REQUEST, closing(STARTED), []),
    "a stream over HTTP/1.0 ends with the connection": (
        request(SUBMIT, WITH_NONCE, body=QUESTION, version="1.0"),
        http(begun(STREAMED, EVENTS[0]), CLOSE, body=b"".join(map(STREAMED.encode, EVENTS))),
        [HI],
    ),
    "no HTTP at all": (b"\x16\x03\x01\0", bad_request("The request is not HTTP: expected a method."), []),
    "a line that begins with CR": (b"\rX", bad_request("The request is not HTTP: expected a method."), []),
    "a bad request line": (
        b"GET x\r\n\r\n",
        bad_request("The request cannot be read: illegal request line: bytearray(b'GET x')."),
        [],
    ),
    "no Host": (
        b"GET / HTTP/1.1\r\n\r\n",
        bad_request("The request cannot be read: Missing mandatory Host: header."),
        [],
    ),
    "a folded header": (with_head(b"A: b\r\n c"), bad_request("A header field is folded."), []),
    "both framings": (
        with_head(b"Content-Length: 5\r\nTransfer-Encoding: chunked") + b"0\r\n\r\n",
        bad_request("There are both Content-Length and Transfer-Encoding."),
        [],
    ),
    "two lengths": (
        with_head(b"Content-Length: 5\r\nContent-Length: 6") + b"12345",
        bad_request("The request cannot be read: conflicting Content-Length headers."),
        [],
    ),
    "another transfer coding": (
        with_head(b"Transfer-Encoding: gzip"),
        refused(
            501,
            "not_implemented",
            "The request cannot be read: Only Transfer-Encoding: chunked is supported.",
            "Not Implemented",
        ),
        [],
    ),
    "another version of HTTP": (
        request("/").replace(b"HTTP/1.1", b"HTTP/2.0"),
        refused(505, "http_version_not_supported", "Only HTTP 1.1 is spoken here.", "HTTP Version Not Supported"),
        [],
    ),
    "a bad chunk": (CHUNKED + b"zz\r\n", bad_request("The chunked framing cannot be read."), []),
    "a chunk without its end": (CHUNKED + b"2\r\nabcd", bad_request("The chunked framing cannot be read."), []),
    "a HEAD that is refused": (
        request("/", "Transfer-Encoding: chunked", method="HEAD") + b"zz\r\n",
        bad_request("The chunked framing cannot be read.").partition(b"{")[0],
        [],
    ),
    "a good request, then a bad one": (
        START_REQUEST + b" ",
        STARTED + bad_request("The request is not HTTP: expected a method."),
        [],
    ),
    "a head that breaks off": (START_REQUEST[:-1], b"", []),
    "a body that breaks off": (SUBMIT_REQUEST[:-1], b"", []),
    "chunks that break off": (IN_CHUNKS[:-1], b"", []),
}


@pytest.mark.parametrize(("given_bytes", "sent", "questions"), CASES.values(), ids=CASES)
def test_a_request_is_answered_alike_however_it_is_cut(
    given_bytes: bytes, sent: bytes, questions: list[Submit]
) -> None:
    for pieces in every_cut(given_bytes):
        assert converse(Server(SITE), pieces) == (sent, questions)


TOO_LARGE = refused(413, "content_too_large", f"The body is larger than {len(QUESTION)} bytes.", "Content Too Large")
LONG_LINE = bad_request(f"The chunked framing has a line of more than {SMALL.head_bytes} bytes.")
HEAD_TOO_LARGE, TOO_MANY_FIELDS = (
    refused(431, "request_header_fields_too_large", message, "Request Header Fields Too Large")
    for message in (f"The head is larger than {SMALL.head_bytes} bytes.", "There are more than 3 header fields.")
)
LIMITED = request(SUBMIT, WITH_NONCE, "Transfer-Encoding: chunked")  # not declared as JSON, so rejected once it is read
REFUSED_WHOLE = http(json_response(403, REJECTED, ("X-WP-Nonce", NONCE)), reason="Forbidden")
EXTENSION = b"x" * (SMALL.head_bytes - 4)

LIMIT_CASES: dict[str, tuple[bytes, bytes]] = {
    "head_bytes pass": (LONG_HEAD * 2, STARTED * 2),
    "one byte more of head": (LONG_HEAD.replace(b"xx", b"xxx", 1) + START_REQUEST, HEAD_TOO_LARGE),
    "a head without an end": (b"x" * SMALL.head_bytes, HEAD_TOO_LARGE),
    "not yet a head too large": (b"x" * (SMALL.head_bytes - 1), b""),
    "headers pass": (request(START, "A: a", "B: b"), STARTED),
    "one header more": (request(START, "A: a", "B: b", "C: c"), TOO_MANY_FIELDS),
    "request_bytes pass": (request(START, body=QUESTION), STARTED),
    "one byte more of body": (request(START, body=QUESTION + b" "), TOO_LARGE),
    "a length beyond": (with_head(b"Content-Length: 99999999999999999999"), TOO_LARGE),
    "request_bytes in chunks pass": (LIMITED + chunk(QUESTION[:9]) + chunk(QUESTION[9:]) + LAST_CHUNK, REFUSED_WHOLE),
    "one byte more in chunks": (LIMITED + chunk(QUESTION[:9]) + chunk(QUESTION[9:] + b" ") + LAST_CHUNK, TOO_LARGE),
    "a chunk line as long as a head passes": (LIMITED + b"1;" + EXTENSION + b"\r\na\r\n" + LAST_CHUNK, REFUSED_WHOLE),
    "one byte more of chunk line": (LIMITED + b"1;" + EXTENSION + b"x\r\na\r\n" + LAST_CHUNK, LONG_LINE),
    "trailers as long as a head pass": (LIMITED + b"0\r\nA:" + EXTENSION[2:] + b"\r\n\r\n", REFUSED_WHOLE),
    "one byte more of trailers": (LIMITED + b"0\r\nA:" + EXTENSION[1:] + b"\r\n\r\n", LONG_LINE),
}


@pytest.mark.parametrize(("given_bytes", "sent"), LIMIT_CASES.values(), ids=LIMIT_CASES)
def test_a_limit_is_exact_however_the_bytes_are_cut(given_bytes: bytes, sent: bytes) -> None:
    for pieces in every_cut(given_bytes):
        assert converse(Server(Site(SECRET, limits=SMALL)), pieces) == (sent, [])


def test_a_large_body_is_read_whole() -> None:
    body = json.dumps({"botId": "default", "newMessage": "x" * 100_000}).encode()
    submit = Submit(new_message="x" * 100_000, stream=False)
    for piece in (1 << 20, 5000):
        data = request(SUBMIT, WITH_NONCE, body=body) + START_REQUEST
        pieces = [data[start : start + piece] for start in range(0, len(data), piece)]
        assert converse(Server(SITE), pieces) == (ANSWERED_WHOLE + STARTED, [submit])


# ---------------------------------------------------------------- step by step


def test_a_driver_is_told_each_step() -> None:
    server = Server(SITE)
    assert server.next_step() == server.next_step() == Receive()
    server.receive_data(SUBMIT_REQUEST, now=NOW)
    assert server.next_step() == server.next_step() == Answer(HI, SESSION_ID)
    server.send(Live("a"))
    head = http(begun(STREAMED, Live("a")), "Transfer-Encoding: chunked", body=b"")
    assert server.next_step() == server.next_step() == Send(head + chunk(STREAMED.encode(Live("a"))))
    server.step_done()
    assert server.next_step() == Answer(HI, SESSION_ID)
    server.send(Live("b", "status"), now=NOW)
    assert server.next_step() == Send(chunk(STREAMED.encode(Live("b", "status"), now=NOW)))
    server.step_done()
    server.send(Broken(Reason.REMOTE, "No"))
    assert server.next_step() == Send(chunk(STREAMED.encode(Broken(Reason.REMOTE, "No"))) + LAST_CHUNK)
    server.step_done()
    assert server.next_step() == Receive()
    server.receive_eof()
    assert server.next_step() == Done()


def test_a_driver_can_log_what_was_asked_and_how_it_was_answered() -> None:
    server = Server(SITE)
    seen: list[tuple[tuple[str, str] | None, int | None]] = []

    def look() -> None:
        seen.append((server.request, server.status))

    look()
    server.receive_data(SUBMIT_REQUEST + request("/elsewhere", method="GET") + b" NO HTTP", now=NOW)
    look()
    server.send(Live("a"))
    look()
    server.step_done()
    server.send(End("a"))
    look()
    server.step_done()
    look()
    server.step_done()
    look()
    question, other = ("POST", SUBMIT), ("GET", "/elsewhere")
    assert seen == [(None, None), (question, None), (question, 200), (question, 200), (other, 404), (None, 400)]


def test_a_driver_can_count_what_is_held() -> None:
    server = Server(SITE)
    held = [server.held]
    head, body = CHUNKED, chunk(QUESTION[:20])
    for data in (head[:10], head[10:], body, b"1f", b";ext=1\r\n" + QUESTION[20:] + b"\r\n0\r\n\r\nPOST"):
        server.receive_data(data, now=NOW)
        held.append(server.held)
    assert held == [0, 10, 0, 20, 20, len(QUESTION) + 4]
    server.send(End("a"))
    assert server.held == 4


def test_pieces_of_an_answer_that_is_not_streamed_are_nothing_to_send() -> None:
    server = Server(SITE)
    server.receive_data(UNSTREAMED_REQUEST, now=NOW)
    server.send(Live("a"))
    assert server.next_step() == Answer(HI_WHOLE, SESSION_ID)
    server.send(Broken(Reason.REMOTE, "No"))
    response = begun(UNSTREAMED, Broken(Reason.REMOTE, "No"))
    assert server.next_step() == Send(http(response, reason="Internal Server Error"))


def test_half_a_character_is_nothing_to_send_until_the_other_half_comes() -> None:
    server = Server(SITE)
    server.receive_data(SUBMIT_REQUEST, now=NOW)
    server.send(Live("a"))
    server.step_done()
    server.send(Live("\ud83d"))
    assert server.next_step() == Answer(HI, SESSION_ID)
    server.send(Live("\ude00"))
    assert server.next_step() == Send(chunk(b'data: {"type":"live","data":"\\ud83d\\ude00"}\n\n'))
    sent, _ = converse(Server(SITE), [SUBMIT_REQUEST], [Live("\ud83d"), Live("\ude00"), End("a")])
    head = http(begun(STREAMED, Live("a")), "Transfer-Encoding: chunked", body=b"")
    assert (
        sent == head + chunk(STREAMED.encode(Live("\N{GRINNING FACE}"))) + chunk(STREAMED.encode(End("a"))) + LAST_CHUNK
    )


def test_a_comment_keeps_the_connection_alive_while_the_application_thinks() -> None:
    sent, questions = converse(Server(SITE), [SUBMIT_REQUEST], [wrong(None), Live("a"), wrong(None), End("a")])
    head = http(begun(STREAMED, Live("a")), "Transfer-Encoding: chunked", body=b"")
    comment = chunk(b": keepalive\n\n")
    events = [chunk(STREAMED.encode(event)) for event in (Live("a"), End("a"))]
    assert (sent, questions) == (head + comment + events[0] + comment + events[1] + LAST_CHUNK, [HI])
    sent, _ = converse(Server(SITE), [UNSTREAMED_REQUEST], [wrong(None), Live("a"), wrong(None), End("ab")])
    assert sent == ANSWERED_WHOLE


def test_a_preflight_has_no_body() -> None:
    site = Site(SECRET, origins=("https://shop.example",))
    asks = "Origin: https://shop.example", "Access-Control-Request-Method: POST"
    sent, _ = converse(Server(site), [request(SUBMIT, *asks, method="OPTIONS") + START_REQUEST])
    first, _, second = sent.partition(b"\r\n\r\n")
    assert first.startswith(b"HTTP/1.1 204 No Content\r\n")
    assert b"Access-Control-Allow-Origin: https://shop.example\r\n" in first
    assert second.startswith(b"HTTP/1.1 200 OK\r\n")


def test_the_date_is_that_of_the_answer_where_the_time_is_told() -> None:
    server = Server(SITE)
    server.receive_data(UNSTREAMED_REQUEST, now=NOW)
    server.send(End("ab"), now=NOW + 60)
    assert server.next_step() == Send(ANSWERED_WHOLE.replace(b"14:29:04", b"14:30:04"))


EXPECTING = request(SUBMIT, WITH_NONCE, "Expect: 100-continue", body=QUESTION)
HEAD_SIZE = len(EXPECTING) - len(QUESTION)


def test_a_client_that_waits_is_told_to_go_on() -> None:
    server = Server(SITE)
    server.receive_data(EXPECTING[:HEAD_SIZE], now=NOW)
    assert server.next_step() == Send(b"HTTP/1.1 100 Continue\r\n\r\n")
    server.step_done()
    assert server.next_step() == Receive()
    assert converse(server, [EXPECTING[HEAD_SIZE:]]) == (ANSWERED, [HI])


def test_a_client_that_does_not_wait_is_not_told() -> None:
    for size in (HEAD_SIZE + 1, len(EXPECTING)):
        assert converse(Server(SITE), [EXPECTING[:size], EXPECTING[size:]]) == (ANSWERED, [HI])
    old = EXPECTING.replace(b"HTTP/1.1", b"HTTP/1.0")
    assert converse(Server(SITE), [old[:HEAD_SIZE]]) == (b"", [])


def test_a_body_that_comes_before_it_was_asked_for_is_read() -> None:
    server = Server(SITE)
    server.receive_data(EXPECTING[:HEAD_SIZE], now=NOW)
    server.receive_data(EXPECTING[HEAD_SIZE:], now=NOW)
    assert converse(server, []) == (b"HTTP/1.1 100 Continue\r\n\r\n" + ANSWERED, [HI])


def test_a_body_that_will_be_too_large_is_not_asked_for() -> None:
    head = request(SUBMIT, "Expect: 100-continue", f"Content-Length: {len(QUESTION) + 1}")
    assert converse(Server(Site(SECRET, limits=SMALL)), [head]) == (TOO_LARGE, [])


def test_requests_that_come_during_an_answer_wait_for_their_turn() -> None:
    server = Server(SITE)
    server.receive_data(UNSTREAMED_REQUEST, now=NOW)
    server.receive_data(START_REQUEST[:10], now=NOW)
    server.send(End("ab"))
    server.receive_data(START_REQUEST[10:], now=NOW)
    assert converse(server, []) == (ANSWERED_WHOLE + STARTED, [])


def test_a_client_that_sends_too_much_ahead_is_cut_off() -> None:
    server = Server(Site(SECRET, limits=Limits(head_bytes=1000, request_bytes=100)))
    server.receive_data(SUBMIT_REQUEST, now=NOW)
    server.receive_data(b"x" * 1100, now=NOW)
    assert server.next_step() == Answer(HI, SESSION_ID)
    server.receive_data(b"x", now=NOW)
    assert server.next_step() == Done()


def test_line_ends_before_a_request_are_no_part_of_its_head_wherever_they_are_cut() -> None:
    site = Site(SECRET, limits=Limits(head_bytes=1))
    for pieces in ([b"\r\n\r\n "], [b"\r", b"\n\r\n", b" "], [b"\r\n\r", b"\n ", b""]):
        expected = bad_request("The request is not HTTP: expected a method.")
        assert converse(Server(site), pieces) == (expected, [])


def test_what_follows_a_refusal_is_not_read() -> None:
    server = Server(SITE)
    server.receive_data(b" ", now=NOW)
    for _ in range(10):
        server.receive_data(b"x" * 1_000_000, now=NOW)
    assert repr(server) == "<Server CLOSING, 1 bytes unread>"
    assert converse(server, []) == (bad_request("The request is not HTTP: expected a method."), [])
    server.receive_data(START_REQUEST, now=NOW)
    assert server.next_step() == Done()


def test_events_that_come_after_the_client_has_gone_are_ignored() -> None:
    server = Server(SITE)
    server.receive_data(SUBMIT_REQUEST, now=NOW)
    server.step_failed("timed out")
    server.send(Live("a"))
    server.send(End("a"))
    assert server.next_step() == Done()


def test_no_bytes_change_nothing() -> None:
    for state, make in MAKE.items():
        server = make()
        before = pickle.dumps(server)
        server.receive_data(b"", now=NOW + 1)
        assert pickle.dumps(server) == before, state


@pytest.mark.parametrize(
    "data", [bytearray(SUBMIT_REQUEST), memoryview(SUBMIT_REQUEST)], ids=lambda data: type(data).__name__
)
def test_anything_like_bytes_is_taken(data: Any) -> None:
    assert converse(Server(SITE), [data]) == (ANSWERED, [HI])


def test_a_servers_repr_shows_no_secret() -> None:
    server = Server(SITE)
    server.receive_data(SUBMIT_REQUEST + b"secret", now=NOW)
    assert repr(server) == "<Server ANSWERING, 6 bytes unread>"
    assert repr(server.next_step()) == f"Answer(submit={HI!r})"


# ---------------------------------------------------------------- the table


def after(*data: bytes) -> Server:
    server = Server(SITE)
    for piece in data:
        server.receive_data(piece, now=NOW)
    return server


def sending() -> Server:
    server = after(SUBMIT_REQUEST)
    server.send(Live("a"))
    return server


def done() -> Server:
    server = after()
    server.receive_eof()
    return server


MAKE: dict[State, Callable[[], Server]] = {
    State.RECEIVING: lambda: after(SUBMIT_REQUEST[:-9]),
    State.CONTINUING: lambda: after(EXPECTING[:HEAD_SIZE]),
    State.ANSWERING: lambda: after(SUBMIT_REQUEST),
    State.SENDING: sending,
    State.FINISHING: lambda: after(START_REQUEST),
    State.CLOSING: lambda: after(b" "),
    State.DONE: done,
}

REPORTS: dict[Input, Callable[[Server], None]] = {
    Input.RECEIVE_DATA: lambda server: server.receive_data(b"P", now=NOW),
    Input.RECEIVE_EOF: Server.receive_eof,
    Input.STEP_FAILED: lambda server: server.step_failed("reset"),
    Input.STEP_DONE: Server.step_done,
    Input.SEND: lambda server: server.send(Live("a")),
}
LARGE = b"x" * (Limits().head_bytes + Limits().request_bytes + 1)


def lead(state: State, given: Input) -> Server:
    """A server that was in this state and has met this input."""
    server = MAKE[state]()
    match given:
        case Input.FLOOD:
            server.receive_data(LARGE, now=NOW)
        case Input.PART:
            server.send(Live("a"))
        case Input.RESPONSE if state is State.ANSWERING:
            server.send(End("a"))
        case Input.LAST_RESPONSE if state is State.ANSWERING:
            server = after(request(SUBMIT, WITH_NONCE, CLOSE, body=QUESTION))
            server.send(End("a"))
        case Input.EXPECTATION | Input.QUESTION | Input.RESPONSE | Input.LAST_RESPONSE:
            data = {
                Input.EXPECTATION: EXPECTING[:HEAD_SIZE],
                Input.QUESTION: SUBMIT_REQUEST,
                Input.RESPONSE: START_REQUEST,
                Input.LAST_RESPONSE: b" ",
            }
            server = after(data[given])
        case Input.SEND:
            server = after(UNSTREAMED_REQUEST)
            server.send(Live("a"))
        case _:
            REPORTS[given](server)
    return server


def state_of(server: Server) -> str:
    return repr(server).removeprefix("<Server ").partition(",")[0]


STEPS = {
    State.RECEIVING: Receive,
    State.ANSWERING: Answer,
    State.DONE: Done,
}


def test_the_table_has_every_state_and_uses_every_input() -> None:
    assert list(TABLE.rows) == list(State) == list(MAKE)
    assert {given for row in TABLE.rows.values() for given in row} == set(Input)
    assert TABLE.start == (State.RECEIVING,)


@pytest.mark.parametrize("state", State)
def test_every_state_gives_its_step(state: State) -> None:
    server = MAKE[state]()
    assert state_of(server) == state
    assert type(server.next_step()) is STEPS.get(state, Send)


@pytest.mark.parametrize(
    ("state", "given", "target"),
    [(state, given, target) for state, row in TABLE.rows.items() for given, target in row.items()],
)
def test_every_transition_of_the_table_is_made(state: State, given: Input, target: State) -> None:
    assert state_of(lead(state, given)) == target


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("report", REPORTS)
def test_a_report_that_the_state_does_not_allow_changes_nothing(state: State, report: Input) -> None:
    if report in TABLE.rows[state]:
        return
    server = MAKE[state]()
    before = pickle.dumps(server)
    ignored = set(REPORTS) - {Input.STEP_DONE} if state is State.DONE else {Input.RECEIVE_DATA}
    if report in ignored:
        REPORTS[report](server)
    else:
        with pytest.raises(LocalProtocolError, match=f"Server: {report} is not legal in state {state}"):
            REPORTS[report](server)
    assert pickle.dumps(server) == before


@pytest.mark.parametrize(
    ("error", "call"),
    [
        (TypeError, lambda server: server.receive_data("text", now=NOW)),
        (TypeError, lambda server: server.receive_data(5, now=NOW)),
        (TypeError, lambda server: server.receive_data(b"P", now=None)),
        (ValueError, lambda server: server.receive_data(b"P", now=-1)),
        (TypeError, lambda server: server.step_failed(OSError())),
    ],
)
@pytest.mark.parametrize("state", State)
def test_a_wrong_argument_changes_nothing(error: type[Exception], call: Callable[[Server], None], state: State) -> None:
    server = MAKE[state]()
    before = pickle.dumps(server)
    with pytest.raises(error):
        call(server)
    assert pickle.dumps(server) == before


@pytest.mark.parametrize("make", [MAKE[State.ANSWERING], lambda: after(UNSTREAMED_REQUEST)], ids=["stream", "whole"])
def test_a_wrong_event_changes_nothing(make: Callable[[], Server]) -> None:
    server = make()
    before = pickle.dumps(server)
    with pytest.raises(TypeError, match="expected Live, End or Broken, got str"):
        server.send(wrong("text"))
    with pytest.raises(ValueError, match="now: expected Unix seconds"):
        server.send(Live("a", "status"), now=-1)
    assert pickle.dumps(server) == before


# ---------------------------------------------------------------- copies, and anything at all

EVERYTHING = START_REQUEST + SUBMIT_REQUEST + IN_CHUNKS + UNSTREAMED_REQUEST + request(START, CLOSE)
EVERYTHING_SENT = STARTED + ANSWERED + ANSWERED + ANSWERED_WHOLE + closing(STARTED)


@pytest.mark.parametrize("kind", range(6))
def test_a_server_can_be_copied_between_any_two_calls(kind: int) -> None:
    def copied(server: Server) -> Server:
        return list(copies(server))[kind]

    pieces = [EVERYTHING[start : start + 50] for start in range(0, len(EVERYTHING), 50)]
    assert converse(Server(SITE), pieces, between=copied) == (EVERYTHING_SENT, [HI, HI, HI_WHOLE])
    pieces = [EXPECTING[:HEAD_SIZE], EXPECTING[HEAD_SIZE:]]
    assert converse(Server(SITE), pieces, between=copied)[1] == [HI]


def test_a_copy_goes_its_own_way() -> None:
    server = after(SUBMIT_REQUEST)
    twin = pickle.loads(pickle.dumps(server))
    server.receive_eof()
    assert server.next_step() == Done()
    assert converse(twin, []) == (ANSWERED, [HI])


FRAGMENTS = st.sampled_from(
    [
        START_REQUEST,
        SUBMIT_REQUEST,
        IN_CHUNKS,
        UNSTREAMED_REQUEST,
        CHUNKED,
        QUESTION,
        b"POST / HTTP/1.1\r\n",
        b"GET /?rest_route=%ff HTTP/1.0\r\n",
        b"Host: a\r\n",
        b"Content-Length: 5\r\n",
        b"Content-Length: +5\r\n",
        b"Transfer-Encoding: chunked\r\n",
        b"Connection: close\r\n",
        b"Upgrade: a\r\n",
        b"Cookie: mwai_session_id=\xff\r\n",
        b"\r\n",
        b"\r",
        b"\n",
        b" ",
        b"5\r\nabcde\r\n",
        b"ffffffffffffffffffff\r\n",
        b"0\r\n",
        b"0\r\n\r\n",
    ]
)
CONVERSATIONS = st.lists(FRAGMENTS | st.binary(max_size=20), max_size=12).map(b"".join)


@given(CONVERSATIONS, st.data())
def test_any_bytes_in_any_cuts_are_answered_alike(given_bytes: bytes, data: st.DataObject) -> None:
    site = Site(SECRET, limits=data.draw(st.sampled_from([SMALL, Limits()])))
    expected = converse(Server(site), [given_bytes])
    places = data.draw(st.lists(st.integers(0, len(given_bytes)), max_size=10))
    assert converse(Server(site), cut_at(given_bytes, places)) == expected
    assert converse(Server(site), [given_bytes[i : i + 1] for i in range(len(given_bytes))]) == expected


def test_a_site_is_needed() -> None:
    with pytest.raises(TypeError, match="site: expected a Site, got bytes"):
        Server(wrong(b"a"))
