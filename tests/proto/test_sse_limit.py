"""The limit of an event, exact to the byte."""

from itertools import repeat

import pytest

from opchat_proto import Limits, ServerSentEvent, SSEDecoder
from tests.proto.cuts import in_pieces
from tests.proto.streams import BOM, Outcome, data, outcome, slow_overflow, under_every_cut

LIMIT = 24
EXACT: dict[str, tuple[bytes, bytes, bytes, int]] = {
    # the bytes before, the byte at the limit, the bytes after, and the number of events then
    "one data line": (b"data: " + b"x" * 17, b"x", b"\n\n", 1),
    "one data line without a space": (b"data:" + b"x" * 18, b"x", b"\n\n", 1),
    "an unfinished data line": (b"data: " + b"x" * 17, b"x", b"", 0),
    "several data lines": (b"data: 7\ndata: 7\ndata: x", b"x", b"\n\n", 1),
    "several data lines, the last unfinished": (b"data: 7\ndata: 7\ndata: x", b"x", b"", 0),
    "several empty data lines": (b"data\ndata\ndata\ndata\ndat", b"a", b"\n\n", 1),
    "a data line after others": (b"event: 89\nid: 5\n: 3\ndata: " + b"x" * 17, b"x", b"\n\n", 1),
    "a comment": (b":" + b"x" * 22, b"x", b"\n\n", 0),
    "a comment after a data line": (b"data: 7\n:" + b"x" * 14, b"x", b"\n\n", 1),
    "an unfinished comment": (b":" + b"x" * 22, b"x", b"", 0),
    "a name": (b"event: " + b"x" * 16, b"x", b"\ndata: a\n\n", 1),
    "an id after a data line": (b"data: 7\nid: " + b"x" * 11, b"x", b"\n\n", 1),
    "a retry": (b"retry: " + b"0" * 16, b"1", b"\ndata: a\n\n", 1),
    "a line that is not a field": (b"x" * 23, b"x", b"\ndata: a\n\n", 1),
    "no line end at all": (b"x" * 23, b"x", b"", 0),
    "NULs": (b"\0" * 23, b"\0", b"", 0),
    "bad UTF-8": (b"\xff" * 23, b"\xff", b"\n\n", 0),
    "half of the limit before": (b"data: 789ab\n\ndata: " + b"x" * 17, b"x", b"\n\n", 2),
    "a byte order mark does not count": (BOM + b"data: " + b"x" * 17, b"x", b"\n\n", 1),
    "a second byte order mark counts": (BOM + BOM + b"x" * 20, b"x", b"\n\n", 0),
    "the beginning of a byte order mark counts": (BOM[:2] + b"x" * 21, b"x", b"\n\n", 0),
}


@pytest.mark.parametrize("line_end", [b"\n", b"\r", b"\r\n"])
@pytest.mark.parametrize("name", EXACT)
def test_the_limit_is_exact_under_every_cut(name: str, line_end: bytes) -> None:
    first, last, rest, events = EXACT[name]
    first, rest = first.replace(b"\n", line_end), rest.replace(b"\n", line_end)
    exact = under_every_cut(first + last + rest, LIMIT)
    assert exact == outcome([first + last + rest])  # as without a limit
    assert (len(exact.events), exact.overflowed) == (events, False)
    more = under_every_cut(first + last * 2 + rest, LIMIT)
    assert (more.events, more.overflowed) == (outcome([first]).events, True)


def test_the_line_end_of_the_last_data_line_is_not_counted() -> None:
    # It lies between the limit and the blank line, exactly where the bytes may stop.
    decoder = SSEDecoder(Limits(event_bytes=7))
    assert decoder.receive_data(b"data: x") == []
    assert decoder.receive_data(b"\n") == []
    assert not decoder.overflowed
    assert decoder.receive_data(b"\n") == [*data("x")]
    assert decoder.receive_data(b"data: x\n:") == []
    assert decoder.overflowed


@pytest.mark.parametrize("limit", [1, 2, 3, 4, 5, 6, 7])
def test_a_tiny_limit_gives_the_same_under_every_cut(limit: int) -> None:
    for stream in (
        b"data\ndata:y\n\n",
        b"data: xyz\n\n",
        b"\n\ndata\n\n:\n",
        BOM + b"a\n",
        BOM[:2],
        b"d",
        b"data\n\ndatax",
    ):
        assert under_every_cut(stream, limit).overflowed is (slow_overflow(stream, limit) is not None)


def test_after_an_overflow_there_are_no_more_events() -> None:
    decoder = SSEDecoder(Limits(event_bytes=10))
    given = decoder.receive_data(b"id: 1\nretry: 1\ndata: a\n\n<br>\ndata: 789ab\ndata: b\n\nid: 2\n\nretry: 2\n<p>\n")
    assert given == [ServerSentEvent(data="a", id="1", retry=1)]
    assert decoder.overflowed
    for late in (b"\n\n", b"data: c\n\nid: 9\n\nretry: 9\n\n", b"x" * 100):
        assert decoder.receive_data(late) == []
    assert decoder.receive_eof() == []
    assert decoder.receive_data(b"data: d\n\n") == []
    assert (decoder.retry, decoder.last_event_id, decoder.first_ignored_line) == (1, "1", "<br>")
    assert decoder.overflowed
    assert decoder.data_seen
    assert repr(decoder) == "<SSEDecoder holding 0 bytes>"


def test_events_before_the_overflow_are_given_even_in_the_same_bytes() -> None:
    many = b"".join(b"data: %d\n\n" % number for number in range(20_000))  # more than a block
    ended = outcome([many + b"data: " + b"x" * 20 + b"\n\n" + many], 20)
    assert ended.events == data(*map(str, range(20_000)))
    assert ended.overflowed


def test_lines_outside_events_may_be_endless() -> None:
    ended = outcome(repeat(b": keepalive\n\nid: 1\nevent: x\nretry: 1\nfoo\n\n\r", 20_000), 12)
    assert ended == Outcome((), 1, "1", False, False, "foo")


def test_lines_other_than_data_do_not_add_up() -> None:
    ended = outcome([b"event: x\n: c\nid: 1\n" * 1000 + b"data: a\n\n"], 10)
    assert ended.events == (ServerSentEvent("x", "a", "1"),)


def test_the_default_limit_is_exact_for_a_line_that_crosses_blocks() -> None:
    limit = Limits().event_bytes
    line = b"data: " + b"x" * (limit - 6)
    for end in (b"\n\n", b"\r\r", b"\r\n\r\n"):
        ended = outcome([line + end])
        assert [len(event.data) for event in ended.events] == [limit - 6]
        assert not ended.overflowed
    assert outcome([*in_pieces(line + b"\n", 99_991), b"\n"]).events == ended.events
    assert outcome([line + b"x\n\n"]) == Outcome((), None, "", True, True, None)
