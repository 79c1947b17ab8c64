"""Limits, memory, and bodies made to be slow."""

import json
import tracemalloc
from collections.abc import Callable

import pytest

from opchat_proto import Broken, End, Event, Limits, Live, Reason, ReplyDecoder
from tests.proto.cuts import byte_by_byte
from tests.proto.replies import BOM, CLOSED, END, ENDED, HI, KIB, PAGE, STALE, check, judge, line, live, page, too_large

MIB = 1024 * 1024


@pytest.mark.parametrize("before", [b"", BOM, b"\n\n\n", BOM + b" "])
def test_the_limit_of_an_event_applies_to_a_json_body_from_its_brace_on(before: bytes) -> None:
    for after in (b"", b"\n" * 40, b"<!-- cached by a plugin of the site -->"):
        body = HI.encode() + after
        check(before + body, [ENDED], limits=Limits(event_bytes=len(body)))
        less = len(body) - 1
        check(
            before + body, [too_large("event_bytes", less, "bytes in one JSON body")], limits=Limits(event_bytes=less)
        )


def test_an_event_may_be_as_long_as_its_limit() -> None:
    data = json.dumps({"type": "live", "data": "x" * 50})
    size = len("data: " + data)
    check(line(data) + END[:20], [Live("x" * 50), Broken(Reason.TRUNCATED, CLOSED)], limits=Limits(event_bytes=size))
    broken = too_large("event_bytes", size - 1, "bytes in one event")
    check(line(data) + line(data), [broken], limits=Limits(event_bytes=size - 1))
    check(live("a") + line(data), [Live("a"), broken], limits=Limits(event_bytes=size - 1))


def test_a_line_in_pieces_is_bounded_by_the_limit() -> None:
    decoder = ReplyDecoder(Limits(event_bytes=100))
    decoder.receive_head(200, [])
    assert decoder.receive_data(b": comment\n") == []
    assert [decoder.receive_data(b"x" * size) for size in (10, 60)] == [[], []]
    assert decoder.receive_data(b"x" * 31) == [too_large("event_bytes", 100, "bytes in one event")]


@pytest.mark.parametrize("wrap", [bytes, bytearray])
def test_pieces_kept_back_count_for_the_whole_reply(wrap: Callable[[bytes], bytes | bytearray]) -> None:
    pieces = [b": comment\n", b": one", b" piece", b" more"]
    size = len(b"".join(pieces)) + 20
    for more in (0, 1):
        decoder = ReplyDecoder(Limits(reply_bytes=size))
        decoder.receive_head(200, [])
        assert [decoder.receive_data(piece) for piece in pieces] == [[]] * 4
        broken = [too_large("reply_bytes", size, "bytes in the whole reply")]
        assert decoder.receive_data(wrap(b"\n" * (20 + more))) == broken * more


def test_marks_and_blanks_before_the_body_count_only_for_the_whole_reply() -> None:
    before = b" " * 40 + BOM + b"\n" * 70_000
    size = len(before) + len(HI)
    check(before + HI.encode(), [ENDED], limits=Limits(event_bytes=len(HI), reply_bytes=size))
    broken = too_large("reply_bytes", size - 1, "bytes in the whole reply")
    check(before + HI.encode(), [broken], limits=Limits(reply_bytes=size - 1))


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (live("a") + END, [Live("a"), ENDED]),
        (BOM + b"\n" + HI.encode(), [ENDED]),
        (b"<br />\n" + live("a") + END, [Live("a"), ENDED]),
        (PAGE, [page("Café & more", PAGE)]),
        (live("a"), [Live("a"), Broken(Reason.TRUNCATED, CLOSED)]),
    ],
    ids=["stream", "JSON", "notice", "page", "truncated"],
)
def test_a_whole_reply_may_be_as_long_as_its_limit(body: bytes, expected: list[Event]) -> None:
    check(body, expected, limits=Limits(reply_bytes=len(body)))
    less = len(body) - 1
    short = judge([body[:less]], limits=Limits(reply_bytes=less))[:-1]
    check(body, [*short, too_large("reply_bytes", less, "bytes in the whole reply")], limits=Limits(reply_bytes=less))


def test_bytes_after_the_terminal_event_count_for_no_limit() -> None:
    body = live("a") + END
    check(body + b"x" * 400, [Live("a"), ENDED], limits=Limits(reply_bytes=len(body), event_bytes=len(body)))


def test_a_refusal_is_not_bound_by_the_limits_of_a_reply() -> None:
    limits = Limits(reply_bytes=1, event_bytes=1)
    check(STALE.encode(), judge([STALE.encode()], 403), 403, limits=limits)


@pytest.mark.parametrize(
    ("before", "piece"), [(b"{", b" "), (b"", b" "), (b"data: ", b"x"), (b"data:\n\n", b":"), (b"", b"<a")]
)
def test_memory_is_bounded_by_the_limits_however_much_arrives_at_once(before: bytes, piece: bytes) -> None:
    body = before + piece * (12 * MIB // len(piece))
    decoder = ReplyDecoder(Limits(event_bytes=MIB, refusal_bytes=MIB))
    decoder.receive_head(200, [])
    tracemalloc.start()
    try:
        events = decoder.receive_data(body)
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert [type(decoded) for decoded in events[-1:]] == ([] if body.isspace() else [Broken])
    assert most < 3 * MIB + 256 * KIB, f"{most / MIB:.1f} MiB"


def test_a_large_end_event_is_held_little_more_than_twice() -> None:
    """Its bytes and its text, then its payload and the reply in it; a buffer that grows has an eighth to spare."""
    payload = json.dumps({"success": True, "reply": "x" * 2 * MIB})
    body = line(json.dumps({"type": "end", "data": payload}, separators=(",", ":")))
    pieces = [body[start : start + 64 * KIB] for start in range(0, len(body), 64 * KIB)]
    decoder = ReplyDecoder(Limits(event_bytes=4 * MIB))
    decoder.receive_head(200, [])
    tracemalloc.start()
    try:
        events = [event for piece in pieces for event in decoder.receive_data(piece)]
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert [event.reply for event in events if isinstance(event, End)] == ["x" * 2 * MIB]
    assert most < 2.5 * len(body), f"{most / len(body):.2f} times"


LARGE = 256 * KIB
HOSTILE = [
    b"<title",
    b"<title>",
    b"<title >\n",
    b"<script",
    b"<style></",
    b"<",
    b"<a ",
    b"< ",
    b"&#",
    b"&#9",
    b"&#9999999",
    b"&a",
    b" ",
    b"\n",
    b"\xef\xbb\xbf",
    b"{",
    b'{"',
    b'{"a":',
    b'{"code":',
    b'{"code":"',
    b'{"code":""',
    b'{"code":1}',
    b'{"code":1]',
    b'{"success":[',
    b'{"nonce":"',
    b'"',
    b"\\",
    b"9",
    b'[{"type":',
]


@pytest.mark.parametrize("piece", HOSTILE)
def test_a_large_repetitive_refusal_is_judged_in_linear_time(piece: bytes) -> None:
    # In quadratic time, these would take hours.
    limits = Limits(refusal_bytes=LARGE)
    for before in (b"", b"<", b'{"a":"', b'{"message":'):
        (broken,) = judge([before + piece * (LARGE // len(piece) + 1)], 500, limits=limits)
        assert isinstance(broken, Broken)
        assert broken.reason is Reason.REFUSED


@pytest.mark.parametrize("piece", HOSTILE)
def test_a_large_repetitive_body_is_judged_in_linear_time(piece: bytes) -> None:
    limits = Limits(refusal_bytes=LARGE)
    for before in (b"", b"<", b'{"a":"', b'{"a":', b"data: "):
        body = before + piece * (LARGE // len(piece))
        *lives, last = judge([body + b"\n\n"], limits=limits)
        assert lives in ([], [Live("", "unreadable")])
        assert isinstance(last, Broken)


@pytest.mark.parametrize("before", [b"{", b"<", b"", b"data: "])
def test_bytes_that_arrive_one_by_one_are_not_copied_repeatedly(before: bytes) -> None:
    limits = Limits(refusal_bytes=MIB)
    (broken,) = judge(byte_by_byte(before + b" " * (64 * KIB)), limits=limits)
    assert isinstance(broken, Broken)


def test_very_many_events_in_one_read_take_linear_time() -> None:
    count = 100_000
    events = judge([b"data:\n\n" * count + END])
    assert len(events) == count + 1
    assert events[-2:] == [Live("", "unreadable"), ENDED]
