"""Requests and their responses: whole dialogues, however they are cut."""

import json

import pytest

from opchat_proto import Server, Site, Submit
from tests.proto.cuts import every_cut
from tests.proto.servers import (
    ANSWERED,
    ANSWERED_WHOLE,
    CHUNKED,
    CLOSE,
    EVENTS,
    HI,
    HI_WHOLE,
    IN_CHUNKS,
    LAST_CHUNK,
    LONG_HEAD,
    SMALL,
    START_REQUEST,
    STARTED,
    SUBMIT_REQUEST,
    TOO_LARGE,
    UNSTREAMED_REQUEST,
    WITH_NONCE,
    bad_request,
    chunk,
    closing,
    converse,
    http,
    refused,
    request,
)
from tests.proto.sites import (
    FORBIDDEN,
    NO_ROUTE,
    NONCE,
    QUESTION,
    REJECTED,
    SECRET,
    SITE,
    START,
    STREAMED,
    SUBMIT,
    begun,
    json_response,
)


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
    "any method": (
        request("/elsewhere", method="!") + START_REQUEST,
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
    "a long bad request line": (
        b"GET " + b"x" * 99 + b"\r\n\r\n",
        bad_request(f"The request cannot be read: illegal request line: bytearray(b'GET {'x' * 62}."),
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
        bad_request("Content-Length and Transfer-Encoding are both present."),
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
        refused(505, "http_version_not_supported", "Only HTTP 1.1 is supported.", "HTTP Version Not Supported"),
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
def test_a_request_gets_the_same_response_however_it_is_cut(
    given_bytes: bytes, sent: bytes, questions: list[Submit]
) -> None:
    for pieces in every_cut(given_bytes):
        assert converse(Server(SITE), pieces) == (sent, questions)


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


def test_a_chunk_line_may_be_longer_than_h11_reads_by_default() -> None:
    line = b"%x;%s\r\n" % (len(QUESTION), b"x" * 20_000)
    assert converse(Server(SITE), [CHUNKED, line, QUESTION, b"\r\n" + LAST_CHUNK]) == (ANSWERED, [HI])


def test_a_large_body_is_read_whole() -> None:
    body = json.dumps({"botId": "default", "newMessage": "x" * 100_000}).encode()
    submit = Submit(new_message="x" * 100_000, stream=False)
    for piece in (1 << 20, 5000):
        data = request(SUBMIT, WITH_NONCE, body=body) + START_REQUEST
        pieces = [data[start : start + piece] for start in range(0, len(data), piece)]
        assert converse(Server(SITE), pieces) == (ANSWERED_WHOLE + STARTED, [submit])
