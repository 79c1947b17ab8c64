"""HTTP/1.1 responses, valid and malformed, cut everywhere: the events of an answer's bytes."""

from dataclasses import replace

import pytest

from opchat_proto import Broken, Event, Live, Reason
from tests.proto.asking import ANSWER, ANSWERED, CHUNKED, END, HI, answered, chunks, content_length, is_reply
from tests.proto.cuts import byte_by_byte, in_pieces
from tests.proto.exchanges import JSON, JSON_ANSWERED, outcome_of, truncated

# ------------------------------------------------------------------------------ what is accepted


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
def test_a_valid_http_answer_is_read(data: bytes) -> None:
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


# ------------------------------------------------------------------------------ what is refused


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
def test_a_malformed_head_is_truncated(head: bytes, detail: str) -> None:
    assert outcome_of(head) == truncated(detail)


@pytest.mark.parametrize("digits", [20, 21, 5000])
def test_a_content_length_of_many_digits_never_completes_or_is_a_fault(digits: int) -> None:
    data = b"HTTP/1.1 200 OK\r\nContent-Length: " + digits * b"9" + b"\r\n\r\n" + HI
    detail = (
        f"HTTP: peer closed connection without sending complete message body (received 35 bytes, expected {'9' * 20})"
    )
    expected: list[Event] = [Live("Hi"), *truncated(detail)] if digits == 20 else truncated("HTTP: bad Content-Length")
    for pieces in ([data], byte_by_byte(data), in_pieces(data, 7)):
        assert answered(pieces) == expected


@pytest.mark.parametrize("first", [b"\n", b" ", b"\r\n"])
def test_a_body_without_a_chunk_is_not_reported_as_a_missing_status_line(first: bytes) -> None:
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
def test_a_malformed_chunk_truncates_the_answer_after_its_pieces(framed: bytes, detail: str) -> None:
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


# ------------------------------------------------------------------------------ the close


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
def test_a_close_at_every_byte_of_a_plain_body_is_truncated(head: bytes, body: bytes, cut_detail: str) -> None:
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
            # A line that the close has cut is named if it is not a field of an event stream: "d", "dat", ...
            detail = got[-1].detail.partition("; a line that is not an event: ")[0]
            got = [*got[:-1], replace(got[-1], detail=detail)]
        assert got == expected, count


def test_a_close_at_every_byte_of_a_chunked_body_is_truncated() -> None:
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
def test_a_close_says_what_is_unfinished(data: bytes, detail: str) -> None:
    assert outcome_of(data) == truncated(detail)
