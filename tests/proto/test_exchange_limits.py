"""The limits of heads, fields, interim responses and framing, exact to the byte."""

import pytest

from opchat_proto import Broken, Event, Limits, Live, Reason
from opchat_proto._exchange import EndOfBody, Exchange, Fault  # HTTP/1.1 alone is not public
from tests.proto.asking import ANSWER, ANSWERED, CHUNKED, END, HI, answered, chunks, content_length
from tests.proto.cuts import in_pieces
from tests.proto.exchanges import JSON, JSON_ANSWERED, REQUEST, outcome_of, truncated


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
def test_header_fields_in_one_read_are_counted_too(fields: int, expected: list[Event]) -> None:
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
def test_interim_responses_in_one_read_are_counted_too(count: int, expected: list[Event]) -> None:
    data = count * b"HTTP/1.1 100\r\n\r\n" + content_length(ANSWER)
    assert answered([data]) == answered(in_pieces(data, 1000)) == expected


def test_the_final_head_has_the_full_limit_after_an_interim_response() -> None:
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
    # A complete object counts, however the body ends.
    assert outcome_of(data, limits=limits) == expected
    if JSON in before:
        cut = Exchange(limits)
        cut.send(REQUEST, REQUEST.target)
        last = cut.receive_data(data)[-1]
        detail = f"HTTP: a line of chunked framing of more than {LIMIT} bytes (Limits.head_bytes)"
        assert last == (Fault(detail, Reason.TRUNCATED, "head_bytes") if excess else EndOfBody())
