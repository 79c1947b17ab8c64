"""HTTP/1.1 responses, right and wrong, cut everywhere: what an answer's bytes come to."""

import array
import copy
import pickle
import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st

from opchat_proto import Broken, End, Event, Limits, Live, Reason, Request, strategies
from opchat_proto._exchange import EndOfBody, Exchange, Fault, Head, Received  # HTTP/1.1 alone is not public
from tests.proto.asking import (
    ANSWER,
    ANSWERED,
    CHUNKED,
    END,
    HI,
    NO_RESTART,
    answered,
    asked,
    chunks,
    content_length,
    is_reply,
)
from tests.proto.cuts import byte_by_byte, every_cut, in_pieces

JSON = b'{"success":true,"reply":"Hi"}'
JSON_ANSWERED: list[Event] = [End("Hi", JSON.decode())]


def outcome_of(data: bytes, *, limits: Limits = NO_RESTART, close: bool = True) -> list[Event]:
    """The events of these bytes, the same for every cut."""
    cuttings = every_cut(data)
    events = answered(next(cuttings), limits=limits, close=close)
    for pieces in cuttings:
        assert answered(pieces, limits=limits, close=close) == events, pieces
    return events


def truncated(detail: str, *, limit: str | None = None) -> list[Event]:
    return [Broken(Reason.TRUNCATED, detail, limit=limit, asked=True)]


# ------------------------------------------------------------------------------------------------ what is accepted


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(content_length(ANSWER), id="Content-Length"),
        pytest.param(CHUNKED + chunks(ANSWER) + b"0\r\n\r\n", id="one chunk"),
        pytest.param(CHUNKED + chunks(HI[:-2], b"\n\n", END) + b"0\r\n\r\n", id="an event in two chunks"),
        pytest.param(CHUNKED + chunks(*byte_by_byte(ANSWER)) + b"0\r\n\r\n", id="chunks of one byte"),
        pytest.param(CHUNKED + b'66;name="v";x\r\n' + ANSWER + b"\r\n00;y\r\n\r\n", id="extensions, capital, zeros"),
        pytest.param(CHUNKED + b"66  \r\n" + ANSWER + b"\r\n0 \r\n\r\n", id="blanks behind a chunk size"),
        pytest.param(CHUNKED + chunks(ANSWER) + b"0\r\nA: b\r\n c\r\nD: e\r\n\r\n", id="trailers, one of them folded"),
        pytest.param(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: ChunkED\r\n\r\n" + chunks(ANSWER), id="capitals"),
        pytest.param(b"HTTP/1.1 200 OK\r\n\r\n" + ANSWER, id="until the close"),
        pytest.param(b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\n\r\n" + ANSWER, id="HTTP/1.0, until the close"),
        pytest.param(b"HTTP/1.0 200 OK\r\nContent-Length: 102\r\n\r\n" + ANSWER, id="HTTP/1.0"),
        pytest.param(b"HTTP/1.7 200 OK\r\n\r\n" + ANSWER, id="HTTP/1.7"),
        pytest.param(b"HTTP/1.1 200\r\n\r\n" + ANSWER, id="no reason"),
        pytest.param(b"HTTP/1.1 200 \xc3\xa4 \t!\r\n\r\n" + ANSWER, id="a reason that is not ASCII"),
        pytest.param(b"HTTP/1.1 200 OK\nA: b\n\n" + ANSWER, id="line feeds alone"),
        pytest.param(b"HTTP/1.1 200 OK\r\nA: b\n\r\n" + ANSWER, id="one line feed alone"),
        pytest.param(b"HTTP/1.1 200 OK\r\nA:\r\nB: \xff\x01\r\nA: \tb\t\r\n\r\n" + ANSWER, id="odd header fields"),
        pytest.param(content_length(ANSWER, b"Content-Length: 102"), id="the same length twice"),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 102, 102\r\n\r\n" + ANSWER, id="the same length in a list"),
        pytest.param(b"HTTP/1.1 200 OK\r\n\r\n \n\t\n" + ANSWER, id="a body that looks like folded lines"),
        pytest.param(b"HTTP/1.1 100 Continue\r\n\r\n" + content_length(ANSWER), id="100 first"),
        pytest.param(
            b"HTTP/1.1 103 Early Hints\r\nLink: <a>\r\nContent-Length: 9\r\n\r\nHTTP/1.1 100\n\n"
            + content_length(ANSWER),
            id="103 and 100 first",
        ),
        pytest.param(content_length(ANSWER) + b"what follows is not looked at\r\n\r\n", id="bytes after the answer"),
        pytest.param(content_length(ANSWER) + content_length(b"{}"), id="a second answer"),
        pytest.param(CHUNKED + chunks(ANSWER) + b"zz", id="a bad chunk after the end event"),
    ],
)
def test_an_answer_that_http_allows_is_read(data: bytes) -> None:
    assert len(ANSWER) == 102
    assert outcome_of(data) == ANSWERED


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(content_length(JSON), id="Content-Length"),
        pytest.param(content_length(JSON) + b"HTTP/1.1 500 no\r\n\r\n", id="bytes after the answer"),
        pytest.param(CHUNKED + chunks(JSON[:9], JSON[9:]) + b"0\r\n\r\n", id="chunked"),
        pytest.param(CHUNKED + chunks(JSON) + b"0\r\nA: b\r\n\r\nmore", id="trailers, and bytes after the answer"),
    ],
)
def test_an_object_is_judged_at_the_end_of_the_body_and_not_at_the_close(data: bytes) -> None:
    assert outcome_of(data, close=False) == JSON_ANSWERED


@pytest.mark.parametrize(
    "whole", [content_length(ANSWER), CHUNKED + chunks(ANSWER), b"HTTP/1.1 200 OK\r\n\r\n" + ANSWER]
)
def test_the_end_event_needs_no_close(whole: bytes) -> None:
    assert outcome_of(whole, close=False) == ANSWERED


# ------------------------------------------------------------------------------------------------ what is refused


@pytest.mark.parametrize(
    ("head", "detail"),
    [
        (b"SSH-2.0-OpenSSH_9.2\r\n\r\n", "HTTP: illegal status line"),
        (b"data: hello\n\n", "HTTP: illegal status line"),
        (b"!\r\n\r\n", "HTTP: illegal status line"),
        (b"HTTP/1.1 200OK\r\n\r\n", "HTTP: illegal status line"),
        (b"HTTP/1.1  200 OK\r\n\r\n", "HTTP: illegal status line"),
        (b"HTTP/1.1 2000 OK\r\n\r\n", "HTTP: illegal status line"),
        (b"HTTP/11 200 OK\r\n\r\n", "HTTP: illegal status line"),
        (b"http/1.1 200 OK\r\n\r\n", "HTTP: illegal status line"),
        (b"HTTP/1.1 200 \x00\r\n\r\n", "HTTP: illegal status line"),
        (b"HTTP/1.1 200 O\rK\r\n\r\n", "HTTP: illegal status line"),
        (b"HTTP/1.1 000 No\r\n\r\n", "HTTP: InformationalResponse status_code should be in range [100, 200), not 0"),
        (b"\r\n" + content_length(ANSWER), "HTTP: no status line"),
        (b"\n", "HTTP: no status line"),
        (b"\r", "HTTP: no status line"),
        (b" HTTP/1.1 200 OK\r\n\r\n", "HTTP: no status line"),
        (b"\x00", "HTTP: no status line"),
        (b"\x16\x03\x01 is how TLS begins\r\n\r\n", "HTTP: no status line"),
        (b"HTTP/1.1 100 Continue\r\n\r\n\r\nHTTP/1.1 200 OK\r\n\r\n", "HTTP: no status line"),
        (b"HTTP/0.9 200 OK\r\n\r\n", "HTTP: a version that is not 1.x: 0.9"),
        (b"HTTP/2.0 200 OK\r\n\r\n", "HTTP: a version that is not 1.x: 2.0"),
        (b"HTTP/5.6 200 OK\r\n\r\n", "HTTP: a version that is not 1.x: 5.6"),
        (b"HTTP/5.6 100 Continue\r\n\r\n", "HTTP: a version that is not 1.x: 5.6"),
        (b"HTTP/1.1 200 OK\r\nNo colon\r\n\r\n", "HTTP: illegal header line"),
        (b"HTTP/1.1 200 OK\r\nSet-Cookie : a secret\r\n\r\n", "HTTP: illegal header line"),
        (b"HTTP/1.1 200 OK\r\n: no name\r\n\r\n", "HTTP: illegal header line"),
        (b"HTTP/1.1 200 OK\r\nA: NUL \x00 NUL\r\n\r\n", "HTTP: illegal header line"),
        (b"HTTP/1.1 200 OK\r\nA: b\rC: d\r\n\r\n", "HTTP: illegal header line"),
        (b"HTTP/1.1 200 OK\r\n folded\r\n\r\n", "HTTP: continuation line at start of headers"),
        (b"HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\n", "HTTP: a folded header line"),
        (b"HTTP/1.1 200 OK\nA: b\n\tc\n\n", "HTTP: a folded header line"),
        (b"HTTP/1.1 200 OK\r\nA: b\r\n \r\n\r\n", "HTTP: a folded header line"),
        (b"HTTP/1.1 100 Go\r\nA: b\r\n c\r\n\r\n" + content_length(ANSWER), "HTTP: a folded header line"),
        (content_length(ANSWER, b"Content-Length: 5"), "HTTP: conflicting Content-Length headers"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5, 6\r\n\r\n", "HTTP: conflicting Content-Length headers"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", "HTTP: bad Content-Length"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: +1\r\n\r\n", "HTTP: bad Content-Length"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 0x1\r\n\r\n", "HTTP: bad Content-Length"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 1_0\r\n\r\n", "HTTP: bad Content-Length"),
        (b"HTTP/1.1 200 OK\r\nContent-Length:\r\n\r\n", "HTTP: bad Content-Length"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: \xb2\r\n\r\n", "HTTP: bad Content-Length"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: " + 21 * b"1" + b"\r\n\r\n", "HTTP: bad Content-Length"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n", "HTTP: Only Transfer-Encoding: chunked is supported"),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
            "HTTP: Only Transfer-Encoding: chunked is supported",
        ),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
            "HTTP: multiple Transfer-Encoding headers",
        ),
        (
            CHUNKED.replace(b"\r\n\r\n", b"\r\nContent-Length: 5\r\n\r\n") + chunks(ANSWER),
            "Content-Length together with Transfer-Encoding",
        ),
        (
            content_length(ANSWER, b"transfer-encoding:chunked"),
            "Content-Length together with Transfer-Encoding",
        ),
        (
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n" + content_length(ANSWER),
            "HTTP: Received server _SWITCH_UPGRADE event without a pending proposal",
        ),
    ],
)
def test_a_head_that_cannot_be_followed_is_truncated(head: bytes, detail: str) -> None:
    assert outcome_of(head) == truncated(detail)


@pytest.mark.parametrize("digits", [20, 21, 5000])
def test_a_length_of_many_digits_is_a_length_that_never_comes_or_a_fault(digits: int) -> None:
    data = b"HTTP/1.1 200 OK\r\nContent-Length: " + digits * b"9" + b"\r\n\r\n" + HI
    detail = (
        f"HTTP: peer closed connection without sending complete message body (received 35 bytes, expected {'9' * 20})"
    )
    expected: list[Event] = [Live("Hi"), *truncated(detail)] if digits == 20 else truncated("HTTP: bad Content-Length")
    for pieces in ([data], byte_by_byte(data), in_pieces(data, 7)):
        assert answered(pieces) == expected


@pytest.mark.parametrize("first", [b"\n", b" ", b"\r\n"])
def test_a_body_that_begins_with_no_chunk_is_not_a_head_without_a_status_line(first: bytes) -> None:
    assert outcome_of(CHUNKED + first + b"5\r\ndata:") == truncated("HTTP: illegal chunk header")


@pytest.mark.parametrize(
    ("framed", "detail"),
    [
        (b"\r\n", "HTTP: illegal chunk header"),
        (b" 5\r\ndata:", "HTTP: illegal chunk header"),
        (b"-5\r\ndata:", "HTTP: illegal chunk header"),
        (b"+5\r\ndata:", "HTTP: illegal chunk header"),
        (b"0x5\r\ndata:", "HTTP: illegal chunk header"),
        (b"5_0\r\ndata:", "HTTP: illegal chunk header"),
        (b"5 x\r\ndata:", "HTTP: illegal chunk header"),
        (b"\xb2\r\ndata:", "HTTP: illegal chunk header"),
        (b"5\x00\r\ndata:", "HTTP: illegal chunk header"),
        (b"5;a\nb\r\ndata:", "HTTP: illegal chunk header"),
        (b"000000000000000000005\r\ndata:", "HTTP: illegal chunk header"),
        (5000 * b"1" + b"\r\ndata:", "HTTP: illegal chunk header"),
        (b"5\r\ndata:XY", "HTTP: malformed chunk footer"),
        (b"5\r\ndata:\n", "HTTP: malformed chunk footer"),
        (b"5\r\ndata:\rX", "HTTP: malformed chunk footer"),
        (b"5\r\ndata:\r\rX", "HTTP: malformed chunk footer"),
        (b"5\r\ndata: 0\r\n\r\n", "HTTP: malformed chunk footer"),
        (b"0\r\nno colon\r\n\r\n", "HTTP: illegal header line"),
        (b"0\r\n folded: b\r\n\r\n", "HTTP: continuation line at start of headers"),
        (b"0\r\nA: \x00\r\n\r\n", "HTTP: illegal header line"),
        (b"0\r\nContent-Length: x\r\n\r\n", "HTTP: bad Content-Length"),
    ],
)
def test_chunks_that_cannot_be_followed_break_the_answer_and_keep_what_came_before(framed: bytes, detail: str) -> None:
    data = CHUNKED + chunks(HI) + framed
    expected = [Live("Hi"), *truncated(detail)]
    if len(data) < 500:
        assert outcome_of(data) == expected
    for pieces in ([data], byte_by_byte(data), in_pieces(data, 7)):
        assert answered(pieces) == expected


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (content_length(b"", status=b"500 No"), Broken(Reason.REFUSED, "status 500 and no text", 500)),
        (content_length(b"why", status=b"500 No"), Broken(Reason.REFUSED, "why", 500, raw="why")),
        (b"HTTP/1.1 204 No Content\r\n\r\n" + ANSWER, Broken(Reason.REFUSED, "status 204 and no text", 204)),
        (content_length(ANSWER, status=b"204 -"), Broken(Reason.REFUSED, "status 204 and no text", 204)),
        (content_length(ANSWER, status=b"304 -"), Broken(Reason.REFUSED, "status 304 and no text", 304)),
        (
            content_length(b"too long", status=b"413 -")[:-3],
            Broken(Reason.REFUSED, "too l", 413, raw="too l"),
        ),
        (
            content_length(b"", b"Transfer-Encoding: chunked", status=b"403 -"),
            Broken(Reason.REFUSED, "status 403 and no text (Content-Length together with Transfer-Encoding)", 403),
        ),
        (
            b"HTTP/1.1 502 -\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nwhyXX",
            Broken(Reason.REFUSED, "why", 502, raw="why"),
        ),
        (
            b"HTTP/1.1 502 -\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n",
            Broken(Reason.REFUSED, "status 502 and no text (HTTP: illegal chunk header)", 502),
        ),
        (b"HTTP/1.1 999 -\r\n\r\n", Broken(Reason.REFUSED, "status 999 and no text", 999)),
        (b"HTTP/1.1 500 -\r\nA: b\r\n c\r\n\r\n", Broken(Reason.TRUNCATED, "HTTP: a folded header line")),
        (b"HTTP/2.0 500 -\r\n\r\n", Broken(Reason.TRUNCATED, "HTTP: a version that is not 1.x: 2.0")),
    ],
)
def test_another_status_is_a_refusal_once_its_head_was_read_whatever_its_framing(data: bytes, expected: Broken) -> None:
    assert outcome_of(data) == [replace(expected, asked=True)]


# ------------------------------------------------------------------------------------------------ the close


@pytest.mark.parametrize(
    ("head", "body", "cut_detail"),
    [
        pytest.param(
            b"HTTP/1.1 200 OK\r\nContent-Length: 102\r\n\r\n",
            ANSWER,
            "HTTP: peer closed connection without sending complete message body (received {} bytes, expected 102)",
            id="Content-Length",
        ),
        pytest.param(b"HTTP/1.1 200 OK\r\n\r\n", ANSWER, "the answer ended without its end event", id="no length"),
    ],
)
def test_a_close_at_every_byte_of_a_plain_body(head: bytes, body: bytes, cut_detail: str) -> None:
    data = head + body
    for count in range(len(data) + 1):
        got = answered([data[:count]])
        assert got == answered(byte_by_byte(data[:count]))
        if count == 0:
            expected: list[Event] = [Broken(Reason.LOST, "the connection was closed before any answer", asked=True)]
        elif count < len(head):
            expected = truncated("the connection was closed inside the head of the answer")
        elif count < len(data):
            lives = [Live("Hi")] if count - len(head) >= len(HI) else []
            expected = [*lives, *truncated(cut_detail.format(count - len(head)))]
        else:
            expected = ANSWERED
        if expected is not ANSWERED and isinstance(got[-1], Broken) and isinstance(expected[-1], Broken):
            # A line that the close cut is named when it is no field of an event stream: "d", "dat", ...
            detail = got[-1].detail.partition("; a line that is not an event: ")[0]
            got = [*got[:-1], replace(got[-1], detail=detail)]
        assert got == expected, count


def test_a_close_at_every_byte_of_a_chunked_body() -> None:
    data = CHUNKED + chunks(HI[:-2], b"\n\n", END[:7], END[7:]) + b"0\r\n\r\n"
    last = data.index(b"\n\n\r\n0\r\n\r\n") + 2
    for count in range(len(data) + 1):
        got = answered([data[:count]])
        assert got == answered(byte_by_byte(data[:count])), count
        assert is_reply(got)
        if count >= last:
            assert got == ANSWERED, count
        else:
            assert isinstance(got[-1], Broken), count
            assert got[-1].reason is (Reason.TRUNCATED if count else Reason.LOST), count


@pytest.mark.parametrize(
    ("data", "detail"),
    [
        (b"HTTP/1.1 100 Continue\r\n\r\n", "the connection was closed inside the head of the answer"),
        (b"H", "the connection was closed inside the head of the answer"),
        (CHUNKED, "HTTP: peer closed connection without sending complete message body (incomplete chunked read)"),
        (CHUNKED + b"5", "HTTP: peer unexpectedly closed connection"),
        (CHUNKED + b"5\r", "HTTP: peer unexpectedly closed connection"),
        (
            CHUNKED + b"5\r\n",
            "HTTP: peer closed connection without sending complete message body (incomplete chunked read)",
        ),
        (
            CHUNKED + chunks(b"data:"),
            "HTTP: peer closed connection without sending complete message body (incomplete chunked read)",
        ),
        (
            CHUNKED + chunks(b"data:") + b"0\r\n",
            "HTTP: peer closed connection without sending complete message body (incomplete chunked read)",
        ),
        (CHUNKED + chunks(b"data:") + b"0\r\n\r", "HTTP: peer unexpectedly closed connection"),
        (CHUNKED + chunks(b"data:") + b"0\r\n\r\n", "the answer ended without its end event"),
        (CHUNKED + b"0\r\n\r\n", "the answer ended without its end event"),
        (content_length(b""), "the answer ended without its end event"),
        (content_length(b"data:"), "the answer ended without its end event"),
    ],
)
def test_what_a_close_says_of_an_unfinished_answer(data: bytes, detail: str) -> None:
    assert outcome_of(data) == truncated(detail)


# ------------------------------------------------------------------------------------------------ limits


def too_large(detail: str) -> list[Event]:
    return [Broken(Reason.TOO_LARGE, detail, limit=detail.rpartition(".")[2][:-1], asked=True)]


@pytest.mark.parametrize(
    "head", [b"HTTP/1.1 200 OK\r\nA: bbbbbbb\r\n\r\n", b"HTTP/1.1 200 OK\nA: b\nC: d\n\n", b"HTTP/1.1 500 -\r\n\r\n"]
)
@pytest.mark.parametrize("first", [b"", b"HTTP/1.1 100\r\n\r\n"])
def test_a_head_passes_at_the_limit_and_not_one_byte_beyond(head: bytes, first: bytes) -> None:
    data = first + head + ANSWER
    read = outcome_of(data)
    assert read[-1] != too_large(f"more than {len(head)} bytes of head (Limits.head_bytes)")[0]
    assert outcome_of(data, limits=Limits(restarts=0, head_bytes=len(head))) == read
    limits = Limits(restarts=0, head_bytes=len(head) - 1)
    assert outcome_of(data, limits=limits) == too_large(f"more than {len(head) - 1} bytes of head (Limits.head_bytes)")
    # The limit is not reached before the byte that exceeds it.
    assert answered([first, head[:-1]], limits=limits, close=False) == []
    assert answered([first, head[:-1]], limits=limits) == truncated(
        "the connection was closed inside the head of the answer"
    )


@pytest.mark.parametrize("excess", [0, 1])
def test_a_head_of_64_kib_passes_by_default(excess: int) -> None:
    start = b"HTTP/1.1 200 OK\r\nA: "
    head = start + (65536 - len(start) - 4 + excess) * b"b" + b"\r\n\r\n"
    expected = too_large("more than 65536 bytes of head (Limits.head_bytes)") if excess else ANSWERED
    data = head + ANSWER
    for pieces in (
        [data],
        in_pieces(data, 1),
        in_pieces(data, 65535),
        in_pieces(data, 65536),
        [head[:-1], b"\n", ANSWER],
    ):
        assert answered(pieces) == expected


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        (128, ANSWERED),
        (129, too_large("more than 128 header fields (Limits.headers)")),
        (15_000, too_large("more than 128 header fields (Limits.headers)")),
        (50_000, too_large("more than 65536 bytes of head (Limits.head_bytes)")),
    ],
)
def test_header_fields_are_counted_also_where_they_come_in_one_read(fields: int, expected: list[Event]) -> None:
    data = b"HTTP/1.1 200 OK\r\n" + fields * b"a:\r\n" + b"\r\n" + ANSWER
    for pieces in ([data], in_pieces(data, 1 if fields < 1000 else 1000), [data[:-1], data[-1:]]):
        assert answered(pieces) == expected


@pytest.mark.parametrize("status", [b"200 OK", b"500 No", b"100 Go"])
def test_header_fields_pass_at_the_limit_and_not_one_beyond(status: bytes) -> None:
    final = b"" if status != b"100 Go" else b"HTTP/1.1 200 OK\r\n\r\n"
    data = b"HTTP/1.1 " + status + b"\r\nA: b\r\nA: b\r\nC: d\r\n\r\n" + final + ANSWER
    assert outcome_of(data, limits=Limits(restarts=0, headers=3)) == outcome_of(data)
    assert outcome_of(data, limits=Limits(restarts=0, headers=2)) == too_large(
        "more than 2 header fields (Limits.headers)"
    )


@pytest.mark.parametrize("limit", [0, 1, 3])
def test_interim_responses_pass_at_the_limit_and_not_one_beyond(limit: int) -> None:
    limits = Limits(restarts=0, interim_responses=limit)
    interim = b"HTTP/1.1 103 x\r\nA: b\r\n\r\n"
    assert outcome_of(limit * interim + content_length(ANSWER), limits=limits) == ANSWERED
    assert outcome_of((limit + 1) * interim + content_length(ANSWER), limits=limits) == too_large(
        f"more than {limit} 1xx responses before the answer (Limits.interim_responses)"
    )


@pytest.mark.parametrize(
    ("count", "expected"),
    [
        (8, ANSWERED),
        (9, too_large("more than 8 1xx responses before the answer (Limits.interim_responses)")),
        (20_000, too_large("more than 8 1xx responses before the answer (Limits.interim_responses)")),
    ],
)
def test_interim_responses_are_counted_also_where_they_come_in_one_read(count: int, expected: list[Event]) -> None:
    data = count * b"HTTP/1.1 100\r\n\r\n" + content_length(ANSWER)
    assert answered([data]) == answered(in_pieces(data, 1000)) == expected


def test_a_limit_that_an_interim_response_uses_up_is_there_again_for_the_next_head() -> None:
    data = 3 * b"HTTP/1.1 100 cccccccccc\r\n\r\n" + b"HTTP/1.1 200 cccccccccc\r\n\r\n" + ANSWER
    assert outcome_of(data, limits=Limits(restarts=0, head_bytes=27)) == ANSWERED
    assert outcome_of(data, limits=Limits(restarts=0, head_bytes=26)) == too_large(
        "more than 26 bytes of head (Limits.head_bytes)"
    )


LIMIT = len(CHUNKED) + 20


@pytest.mark.parametrize("excess", [0, 1])
@pytest.mark.parametrize(
    ("before", "start", "end", "after"),
    [
        pytest.param(b"", b"66;", b"\r\n", ANSWER + b"\r\n0\r\n\r\n", id="the first chunk's extension"),
        pytest.param(chunks(HI), b"43;", b"\r\n", END + b"\r\n0\r\n\r\n", id="the second chunk's extension"),
        pytest.param(chunks(JSON), b"0;", b"\r\n", b"\r\n", id="the last chunk's extension"),
        pytest.param(chunks(JSON) + b"0\r\n", b"A: ", b"\r\n\r\n", b"", id="a trailer"),
        pytest.param(chunks(JSON) + b"0\r\n", b"A: b\r\nC: ", b"\n\n", b"more", id="trailers"),
        pytest.param(chunks(JSON) + b"0;" + (LIMIT - 4) * b"a" + b"\r\n", b"A: ", b"\r\n\r\n", b"", id="both"),
    ],
)
def test_a_line_of_framing_and_the_trailers_pass_at_the_limit_and_not_one_byte_beyond(
    before: bytes, start: bytes, end: bytes, after: bytes, excess: int
) -> None:
    limits = Limits(restarts=0, head_bytes=LIMIT)
    line = start + (LIMIT - len(start) - len(end) + excess) * b"x" + end
    assert len(line) == LIMIT + excess
    data = CHUNKED + before + line + after
    expected = outcome_of(CHUNKED + before + start + end + after)
    assert expected in (ANSWERED, JSON_ANSWERED)
    if excess and expected is not JSON_ANSWERED:
        detail = f"HTTP: a line of chunked framing of more than {LIMIT} bytes (Limits.head_bytes)"
        if HI not in before and b'"live"' in before + after:
            expected = truncated(detail, limit="head_bytes")
        elif HI in before:
            expected = [Live("Hi"), *truncated(detail, limit="head_bytes")]
    # An object that is whole counts, however the body ends.
    assert outcome_of(data, limits=limits) == expected
    if JSON in before:
        cut = Exchange(limits)
        cut.send(REQUEST, REQUEST.target)
        last = cut.receive_data(data)[-1]
        detail = f"HTTP: a line of chunked framing of more than {LIMIT} bytes (Limits.head_bytes)"
        assert last == (Fault(detail, Reason.TRUNCATED, "head_bytes") if excess else EndOfBody())


# ------------------------------------------------------------------------------------------------ the exchange itself

REQUEST = Request("POST", "http://site.example/a?b=c", (("Host", "site.example"), ("Content-Length", "4")), b"body")
INTERIM = b"HTTP/1.1 103 x\r\nLink: y\r\n\r\n"


def exchange() -> Exchange:
    begun = Exchange(Limits())
    assert (
        begun.send(REQUEST, REQUEST.target)
        == b"POST /a?b=c HTTP/1.1\r\nHost: site.example\r\nContent-Length: 4\r\n\r\nbody"
    )
    return begun


def received_in_all(pieces: list[bytes], begun: Exchange | None = None) -> list[Received]:
    """Everything of a whole answer; pieces of the body that follow each other are joined."""
    begun = begun or exchange()
    everything: list[Received] = []
    for piece in pieces:
        for item in begun.receive_data(piece):
            last = everything[-1] if everything else None
            if isinstance(item, bytes) and isinstance(last, bytes):
                everything[-1] = last + item
            else:
                everything.append(item)
    return everything


def test_an_answer_is_heads_a_body_and_its_end() -> None:
    data = INTERIM + CHUNKED + chunks(b"a", b"bc") + b"0\r\n\r\n"
    for pieces in every_cut(data):
        assert received_in_all(pieces) == [
            Head(103, [("Link", "y")]),
            Head(200, [("Transfer-Encoding", "chunked")]),
            b"abc",
            EndOfBody(),
        ]


def test_the_pieces_of_a_read_are_one_piece_of_the_body() -> None:
    begun = exchange()
    begun.receive_data(CHUNKED)
    assert begun.receive_data(chunks(*(1000 * [b"x"]))) == [1000 * b"x"]


def test_a_read_may_be_one_chunk_each_time() -> None:
    begun = exchange()
    begun.receive_data(CHUNKED)
    assert [begun.receive_data(chunks(data)) for data in (b"a", b"bc", b"d")] == [[b"a"], [b"bc"], [b"d"]]
    assert begun.receive_data(b"0\r\n\r\n") == [EndOfBody()]


def test_what_follows_an_answer_is_no_fault_however_much_it_is() -> None:
    begun = Exchange(Limits(head_bytes=64))
    begun.send(REQUEST, REQUEST.target)
    assert received_in_all([content_length(b"abc")], begun)[1:] == [b"abc", EndOfBody()]
    for _ in range(3):
        assert begun.receive_data(64 * b"x") == []
        assert begun.holds_more


@given(
    st.lists(
        st.one_of(
            st.sampled_from(
                [b"\r\n", b"\r", b"\n", b"3\r\n", b"03\r\n", b"5;x\r\n", b"3", b"0\r\n\r\n", b"abc", b"a\r\nb"]
            ),
            st.binary(max_size=9).map(chunks),
            st.sampled_from([b"3\r\n3\r\n", b"\r\nabc", b"\nabc\r\nabc", b"8\r\n3\r\nabc"]).map(chunks),
        ),
        max_size=8,
    ).map(b"".join),
    st.data(),
)
def test_no_read_leaves_anything_for_the_next_that_its_bytes_complete(body: bytes, data: st.DataObject) -> None:
    """However much of a body has come, there is the same of it as if it had come byte by byte."""
    in_reads, in_bytes = exchange(), exchange()
    ended = False
    for read in [CHUNKED, *filter(None, data.draw(strategies.cuts(body)))]:
        received = received_in_all([read], in_reads)
        assert received_in_all(byte_by_byte(read), in_bytes) == received
        ended = ended or EndOfBody() in received
        assert not ended or in_reads.holds_more == in_bytes.holds_more


def test_it_has_begun_with_the_first_byte_of_an_answer() -> None:
    begun = Exchange(Limits())
    assert begun.begun is False
    begun.send(REQUEST, REQUEST.target)
    assert begun.begun is False
    begun.receive_data(b"H")
    assert begun.begun is True
    begun.receive_data(content_length(b"")[1:])
    assert begun.begun is True


@pytest.mark.parametrize(
    ("method", "target"),
    [(b"POST", b"/a?b=c"), (b"POST", b"http://site.example/a?b=c"), (b"CONNECT", b"site.example:443")],
)
def test_a_request_goes_out_with_the_target_that_is_due(method: bytes, target: bytes) -> None:
    request = Request(method.decode(), "http://site.example/a?b=c", (("Host", "site.example"),))
    assert Exchange(Limits()).send(request, target.decode()) == (
        method + b" " + target + b" HTTP/1.1\r\nHost: site.example\r\n\r\n"
    )


@pytest.mark.parametrize(
    ("method", "data", "holds_more"),
    [
        ("CONNECT", b"", False),
        ("CONNECT", b"HTTP/1.1 200 -\r\n\r\n", False),
        ("CONNECT", b"HTTP/1.1 100 -\r\n\r\nHTTP/1.1 200 -\r\nContent-Length: 3\r\n\r\n", False),
        ("CONNECT", b"HTTP/1.1 200 -\r\n\r\nx", True),
        ("CONNECT", b"HTTP/1.1 200 -\r\n\r\n" + 200_000 * b"x", True),
        ("POST", content_length(b"abc"), False),
        ("POST", content_length(b"abc") + b"x", True),
        ("POST", CHUNKED + chunks(b"abc") + b"0\r\n\r\n", False),
        ("POST", CHUNKED + chunks(b"abc") + b"0\r\n\r\n\n", True),
    ],
)
def test_bytes_after_an_answer_are_noticed(method: str, data: bytes, holds_more: bool) -> None:
    for size in (1, 7, len(data) or 1):
        begun = Exchange(Limits())
        begun.send(Request(method, REQUEST.url, (("Host", "site.example"), ("Content-Length", "0"))), "/")
        assert not begun.holds_more
        for piece in in_pieces(data, size):
            begun.receive_data(piece)
        assert begun.holds_more is holds_more


def test_a_body_without_a_length_ends_at_the_close() -> None:
    begun = exchange()
    begun.receive_data(b"HTTP/1.1 200 OK\r\n\r\nabc")
    assert begun.receive_eof() == [EndOfBody()]


def test_nothing_comes_after_a_fault() -> None:
    begun = exchange()
    assert begun.receive_data(b"\x00") == [Fault("HTTP: no status line", Reason.TRUNCATED)]
    assert begun.receive_data(content_length(b"")) == []


def test_values_do_not_show_header_fields() -> None:
    assert repr(Head(200, [("set-cookie", "secret")])) == "Head(status=200)"


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(bytearray(content_length(JSON)), id="bytearray"),
        pytest.param(memoryview(content_length(JSON)), id="memoryview"),
        pytest.param(memoryview(bytes(2 * n % 256 for n in b"")).cast("B"), id="empty view"),
        pytest.param(memoryview(array.array("I", content_length(JSON))), id="items of four bytes"),
        pytest.param(memoryview(b"".join(bytes((n, 0)) for n in content_length(JSON)))[::2], id="a view with gaps"),
    ],
)
def test_any_buffer_of_bytes_is_taken(data: Any) -> None:
    whole = bytes(data)
    events = asked().receive_data(data)
    assert events == asked().receive_data(whole)
    assert events in (JSON_ANSWERED, [], truncated("HTTP: illegal status line"))


def test_a_buffer_may_be_used_again_by_the_caller() -> None:
    client, buffer, events = asked(), bytearray(3), []
    data = content_length(ANSWER)
    for start in range(0, len(data), 3):
        piece = data[start : start + 3]
        buffer[: len(piece)] = piece
        events += client.receive_data(memoryview(buffer)[: len(piece)])
        buffer[:] = b"???"
    assert events == ANSWERED


def test_it_goes_on_as_a_copy_and_as_a_pickle_from_every_byte_on() -> None:
    data = INTERIM + CHUNKED + chunks(b"a", b"bc") + b"0\r\nA: b\r\n\r\nx"
    for middle in range(len(data)):
        begun = exchange()
        begun.receive_data(data[:middle])
        twins = [copy.deepcopy(begun), *(pickle.loads(pickle.dumps(begun, protocol)) for protocol in range(2, 6))]
        rest = begun.receive_data(data[middle:])
        for twin in twins:
            assert twin.receive_data(data[middle:]) == rest
            assert (twin.begun, twin.holds_more) == (begun.begun, begun.holds_more)


# ------------------------------------------------------------------------------------------------ work


class Work:
    """Bytes that were handed to h11 or copied out of it, and questions that it was asked."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.done = 0
        receive, ask, trailing = h11.Connection.receive_data, h11.Connection.next_event, h11.Connection.trailing_data

        def receive_data(connection: h11.Connection, data: bytes) -> None:
            self.done += len(data)
            receive(connection, data)

        def next_event(connection: h11.Connection) -> Any:
            self.done += 1
            return ask(connection)

        def trailing_data(connection: h11.Connection) -> tuple[bytes, bool]:
            value: tuple[bytes, bool] = trailing.__get__(connection)
            self.done += 1 + len(value[0])
            return value

        monkeypatch.setattr(h11.Connection, "receive_data", receive_data)
        monkeypatch.setattr(h11.Connection, "next_event", next_event)
        monkeypatch.setattr(h11.Connection, "trailing_data", property(trailing_data))

    def of(self, pieces: Iterator[bytes] | list[bytes], limits: Limits) -> int:
        """The work for an answer in these pieces."""
        self.done = 0
        begun = Exchange(limits)
        begun.send(REQUEST, REQUEST.target)
        for piece in pieces:
            begun.receive_data(piece)
        return self.done


def tiny_chunks(size: int) -> bytes:
    return CHUNKED + size // 6 * b"1\r\nx\r\n"


def long_extension(size: int) -> bytes:
    return CHUNKED + b"1;" + size * b"x" + b"\r\ny\r\n"


def long_extensions(size: int) -> bytes:
    return CHUNKED + 20 * (b"1;" + size // 20 * b"x" + b"\r\ny\r\n")


def long_trailers(size: int) -> bytes:
    return CHUNKED + b"0\r\n" + size // 6 * b"A: b\r\n" + b"\r\n"


def large_chunks(size: int) -> bytes:
    return CHUNKED + size // 1000 * chunks(1000 * b"x")


def long_head(size: int) -> bytes:
    return b"HTTP/1.1 200 OK\r\nA: " + size * b"b" + b"\r\n\r\n"


def interim_responses(size: int) -> bytes:
    return size // 40 * b"HTTP/1.1 100 cccccccccccccccccccccccc\r\n\r\n"


def no_length(size: int) -> bytes:
    return b"HTTP/1.1 200 OK\r\n\r\n" + size * b"x"


@pytest.mark.parametrize("feed", [1, 64, 65536])
@pytest.mark.parametrize(
    "made",
    [
        tiny_chunks,
        large_chunks,
        long_extension,
        long_extensions,
        long_trailers,
        long_head,
        interim_responses,
        no_length,
    ],
)
def test_twice_the_bytes_are_at_most_two_and_a_half_times_the_work(
    monkeypatch: pytest.MonkeyPatch, made: Any, feed: int
) -> None:
    work = Work(monkeypatch)
    size = 6_000 if feed == 1 else 30_000
    once, twice = made(size), made(2 * size)
    for limits in (Limits(), Limits(head_bytes=512)):  # some are too long for the second
        assert work.of(in_pieces(twice, feed), limits) <= 2.5 * work.of(in_pieces(once, feed), limits) + 2000


@pytest.mark.parametrize(
    ("data", "feed", "most"),
    [
        pytest.param(tiny_chunks(600_000), 600_000, 3, id="100,000 chunks in one read"),
        pytest.param(tiny_chunks(30_000), 1, 6, id="chunks of one byte, byte by byte"),
        pytest.param(chunks(*(8 * [4000 * b"x"])), 1, 6, id="larger chunks, byte by byte"),
        pytest.param(long_extension(60 * 1024)[len(CHUNKED) :], 1, 6, id="an extension of 60 KiB, byte by byte"),
        pytest.param(long_extensions(60 * 1024)[len(CHUNKED) :], 7, 6, id="many extensions"),
    ],
)
def test_the_work_for_a_body_is_a_few_times_its_size(
    monkeypatch: pytest.MonkeyPatch, data: bytes, feed: int, most: int
) -> None:
    data = CHUNKED + data.removeprefix(CHUNKED)
    assert Work(monkeypatch).of(in_pieces(data, feed), Limits()) <= most * len(data)


def test_lines_at_the_limit_do_not_cost_more_than_others(monkeypatch: pytest.MonkeyPatch) -> None:
    # h11 takes each of these lines without saying so; to ask it after every byte would be quadratic.
    line = b"1;" + 508 * b"x" + b"\r\n"
    assert len(line) == 512
    data = CHUNKED + 40 * (line + b"y\r\n")
    assert Work(monkeypatch).of(byte_by_byte(data), Limits(head_bytes=512)) <= 6 * len(data)


def test_what_h11_says_is_not_repeated_at_length() -> None:
    secret = b"HTTP/1.1 200 OK\r\nSet-Cookie: " + 60_000 * b"s" + b"\x00\r\n\r\n"
    [event] = answered([secret])
    assert [event] == truncated("HTTP: illegal header line")
    assert not re.search("sss|bytearray", repr(event))
