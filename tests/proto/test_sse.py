"""Server-sent events: the WHATWG rules under every way of cutting, the limit, and what it all costs."""

import copy
import pickle
import sys
import tracemalloc
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import FrozenInstanceError, dataclass, fields
from itertools import repeat
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opchat_proto import Limits, ServerSentEvent, SSEDecoder
from opchat_proto._sse import encode_event  # the encoder is not public
from tests.proto.cuts import byte_by_byte, copies, every_cut, in_pieces, random_cuts

BOM = b"\xef\xbb\xbf"
KIBI = 1024
MEBI = 1024 * 1024


@dataclass(frozen=True)
class Outcome:
    """Everything that a decoder says about a stream that has ended."""

    events: tuple[ServerSentEvent, ...]
    retry: int | None
    last_event_id: str
    overflowed: bool
    data_seen: bool
    first_ignored_line: str | None


def outcome(pieces: Iterable[bytes], limit: int | None = None) -> Outcome:
    decoder = SSEDecoder() if limit is None else SSEDecoder(Limits(event_bytes=limit))
    events = [event for piece in pieces for event in decoder.receive_data(piece)]
    assert decoder.receive_eof() == []
    return Outcome(
        tuple(events),
        decoder.retry,
        decoder.last_event_id,
        decoder.overflowed,
        decoder.data_seen,
        decoder.first_ignored_line,
    )


def under_every_cut(stream: bytes, limit: int | None = None) -> Outcome:
    """What comes of the stream, having made sure that it is the same however it is cut."""
    whole = outcome([stream], limit)
    for pieces in every_cut(stream):
        assert outcome(pieces, limit) == whole, pieces
    return whole


def data(*texts: str) -> tuple[ServerSentEvent, ...]:
    return tuple(ServerSentEvent(data=text) for text in texts)


# ------------------------------------------------------------------------------ the rules

RULES: dict[str, tuple[bytes, tuple[ServerSentEvent, ...]]] = {
    # dispatch
    "nothing": (b"", ()),
    "one event": (b"data: a\n\n", data("a")),
    "two events": (b"data: a\n\ndata: b\n\n", data("a", "b")),
    "blank lines around": (b"\n\n\ndata: a\n\n\n\ndata: b\n\n\n", data("a", "b")),
    "an unfinished event is dropped": (b"data: a\n\ndata: b\n", data("a")),
    "an unfinished line is dropped": (b"data: a\n\ndata: b", data("a")),
    "an event without data is dropped": (b"event: x\n\ndata: a\n\n", data("a")),
    "empty data are data": (b"data:\n\n", data("")),
    "two empty data lines": (b"data:\ndata:\n\n", data("\n")),
    "data without a colon": (b"data\n\n", data("")),
    "two data without a colon": (b"data\ndata\n\n", data("\n")),
    "several data lines": (b"data: a\ndata:\ndata: b\n\n", data("a\n\nb")),
    "data lines with others between": (b"data: a\n: c\nx\nevent:\ndata: b\n\n", data("a\nb")),
    # line ends
    "LF": (b"data: a\ndata: b\n\ndata: c\n\n", data("a\nb", "c")),
    "CR": (b"data: a\rdata: b\r\rdata: c\r\r", data("a\nb", "c")),
    "CRLF": (b"data: a\r\ndata: b\r\n\r\ndata: c\r\n\r\n", data("a\nb", "c")),
    "mixed line ends": (b"data: a\r\ndata: b\rdata: c\n\r\ndata: d\n\rdata: e\r\n\n", data("a\nb\nc", "d", "e")),
    "CR CR LF is two line ends": (b"data: a\r\r\ndata: b\r\r\n", data("a", "b")),
    "LF CR is two line ends": (b"data: a\n\rdata: b\n\r", data("a", "b")),
    "CRLF is one line end": (b"data: a\r\ndata: b\r\n\n", data("a\nb")),
    "CR at the very end": (b"data: a\n\r", data("a")),
    "only line ends": (b"\r\n\r\r\n\n\n\r", ()),
    "no other character splits": (
        "data: a\u2028b\u2029c\u0085d\x0be\x0cf\x1cg\x1dh\x1ei\x00j\n\n".encode(),
        data("a\u2028b\u2029c\u0085d\x0be\x0cf\x1cg\x1dh\x1ei\x00j"),
    ),
    "no other character ends an event": (b"data: a\n\x0c\n\x85\n\xe2\x80\xa8\ndata: b\n\n", data("a\nb")),
    # the byte order mark
    "BOM": (BOM + b"data: a\n\n", data("a")),
    "only a BOM": (BOM, ()),
    "a second BOM belongs to its line": (BOM + BOM + b"data: a\n\ndata: b\n\n", data("b")),
    "a BOM before a blank line": (BOM + b"\ndata: a\n\n", data("a")),
    "a BOM before a CRLF": (BOM + b"\r\ndata: a\r\n\r\n", data("a")),
    "a later BOM belongs to its line": (b"\n" + BOM + b"data: a\ndata: b\n\n", data("b")),
    "a BOM within data": (b"data: " + BOM + b"a\n\n", data("\ufeffa")),
    "the beginning of a BOM": (BOM[:2] + b"\ndata: a\n\n", data("a")),
    "one byte of a BOM": (BOM[:1] + b"data: a\n\ndata: b\n\n", data("b")),
    "the end of a BOM": (BOM[1:] + b"data: a\n\ndata: b\n\n", data("b")),
    "a BOM of UTF-16": (b"\xff\xfedata: a\n\ndata: b\n\n", data("b")),
    # fields
    "comments": (b": a\n:\ndata: b\n:data: c\n\n:\n\n", data("b")),
    "a comment alone is no event": (b": keepalive\n\n", ()),
    "one leading space is dropped": (b"data:  a \n\n", data(" a ")),
    "no leading space": (b"data:a\n\n", data("a")),
    "only a space": (b"data: \n\n", data("")),
    "two spaces": (b"data:  \n\n", data(" ")),
    "a tab is no space": (b"data:\ta\n\n", data("\ta")),
    "a colon in the value": (b"data: a: b:\n\n", data("a: b:")),
    "a colon first in the value": (b"data::a\n\n", data(":a")),
    "names are exact": (b"Data: a\nDATA: a\n data: a\ndata : a\ndatas: a\ndat: a\nxdata: a\ndata\t: a\n\n", ()),
    "an unknown field": (b"foo: a\ndata: b\nfoo\n\n", data("b")),
    "a name cut by NUL": (b"da\0ta: a\n\0data: a\ndata\0: a\ndata: b\n\n", data("b")),
    "a NUL in data stays": (b"data: a\0b\n\n", data("a\0b")),
    # event
    "a name": (b"event: x\ndata: a\n\n", (ServerSentEvent("x", "a"),)),
    "a name after the data": (b"data: a\nevent: x\n\n", (ServerSentEvent("x", "a"),)),
    "a name lasts for one event": (b"event: x\ndata: a\n\ndata: b\n\n", (ServerSentEvent("x", "a"), *data("b"))),
    "a name lasts for one event without data": (b"event: x\n\ndata: b\n\n", data("b")),
    "the last name counts": (b"event: x\nevent: y\ndata: a\n\n", (ServerSentEvent("y", "a"),)),
    "an empty name is message": (b"event: x\nevent:\ndata: a\n\n", data("a")),
    "a name without a colon": (b"event: x\nevent\ndata: a\n\n", data("a")),
    "a name of one space more": (b"event:  x \ndata: a\n\n", (ServerSentEvent(" x ", "a"),)),
    # id
    "an id stays": (
        b"id: 1\ndata: a\n\ndata: b\n\nid: 2\ndata: c\n\n",
        tuple(ServerSentEvent(data=text, id=number) for text, number in ("a1", "b1", "c2")),
    ),
    "an id after the data": (b"data: a\nid: 1\n\n", (ServerSentEvent(data="a", id="1"),)),
    "an empty id resets": (b"id: 1\ndata: a\n\nid\ndata: b\n\n", (ServerSentEvent(data="a", id="1"), *data("b"))),
    "an id with NUL is ignored": (b"id: 1\nid: 2\0\nid:\0\ndata: a\n\n", (ServerSentEvent(data="a", id="1"),)),
    "an id of an event without data": (b"id: 1\n\ndata: a\n\n", (ServerSentEvent(data="a", id="1"),)),
    "an id is any text": ("id:  é ♥\ndata: a\n\n".encode(), (ServerSentEvent(data="a", id=" é ♥"),)),
    # UTF-8
    "all lengths of UTF-8": ("data: aé€🚉\n\n".encode(), data("aé€🚉")),
    "bytes that are none": (b"data: \xff\xfe\xc0\xc1\xf5\n\n", data("\ufffd" * 5)),
    "continuations alone": (b"data: \x80\xbf\x80a\n\n", data("\ufffd\ufffd\ufffda")),
    "a cut character before ASCII": (b"data: \xe2\x82a\xf0\x9f\x9ab\xc3c\n\n", data("\ufffda\ufffdb\ufffdc")),
    "a cut character before the line's end": (b"data: \xe2\x82\ndata: \xf0\x9f\x9a\r\n\n", data("\ufffd\n\ufffd")),
    "a cut character before another": (b"data: \xf0\x9f\xf0\x9f\x9a\x89\n\n", data("\ufffd🚉")),
    "overlong forms": (b"data: \xc0\x80\ndata:\xe0\x80\x80\n\n", data("\ufffd" * 2 + "\n" + "\ufffd" * 3)),
    "a longer overlong form": (b"data: \xf0\x80\x80\x80\n\n", data("\ufffd" * 4)),
    "surrogates": (b"data: \xed\xa0\x80\xed\xbf\xbf\n\n", data("\ufffd" * 6)),
    "beyond U+10FFFF": (b"data: \xf4\x90\x80\x80 \xf4\x8f\xbf\xbf\n\n", data("\ufffd" * 4 + " \U0010ffff")),
    "a maximal subpart is one replacement": (b"data: \xf1\x80\x80\xe1\x80\xc2\n\n", data("\ufffd" * 3)),
    "an overlong line end is none": (b"data: a\xc0\x8ab\n\n", data("a\ufffd\ufffdb")),
    "bad bytes in names of fields": (b"d\xffata: a\ndata\xff: a\n\xff\ndata: b\n\n", data("b")),
    "bad bytes in event and id": (b"event: \xff\nid: \xe2\ndata: a\n\n", (ServerSentEvent("\ufffd", "a", "\ufffd"),)),
}  # fmt: skip


@pytest.mark.parametrize("rule", RULES)
def test_the_rules_hold_under_every_cut(rule: str) -> None:
    stream, events = RULES[rule]
    assert under_every_cut(stream).events == events


@pytest.mark.parametrize(
    ("value", "retry"),
    [
        *((value, int(value)) for value in (b"0", b"5", b"3000", b"007", b"9" * 18, b"0" * 17 + b"1")),
        *((b"0" * 30 + b"12", 12), (b"0" * 5000, 0), (b"0" * 5000 + b"7", 7)),
        *((value, None) for value in (b"", b" ", b" 5", b"5 ", b"+5", b"-5", b"5.0", b"1e3", b"0x5", b"5,", b"1_0")),
        *((value, None) for value in (b"5\0", b"\xd9\xa3", "५".encode(), "\uff15".encode(), b"\xb2", b"x", b"\xff5")),
        *((value, None) for value in (b"1" + b"0" * 18, b"9" * 19, b"9" * 5000, b"0" * 30 + b"1" * 19)),
    ],
)
@pytest.mark.parametrize("before", [None, 1])
def test_retry_takes_ascii_digits_only(value: bytes, retry: int | None, before: int | None) -> None:
    expected = before if retry is None else retry
    stream = (b"" if before is None else b"retry: 1\n\n") + b"retry: %b\ndata: a\n\n" % value
    for pieces in ([stream], byte_by_byte(stream), in_pieces(stream, 2)):
        ended = outcome(pieces)
        assert (ended.retry, ended.events) == (expected, (ServerSentEvent(data="a", retry=retry),))


def test_a_retry_belongs_to_its_event_and_the_streams_is_the_last() -> None:
    ended = under_every_cut(
        b"retry: 1\nretry: 2\nretry: x\ndata: a\n\ndata: b\n\nretry: 3\n\ndata: c\n\nretry:4\nretry:5"
    )
    assert ended.events == (ServerSentEvent(data="a", retry=2), *data("b", "c"))
    assert ended.retry == 4


def test_a_retry_counts_before_its_event_is_closed() -> None:
    decoder = SSEDecoder()
    assert (decoder.receive_data(b"retry: 10\n"), decoder.retry) == ([], 10)


@pytest.mark.parametrize(
    ("stream", "last_event_id"),
    [
        (b"", ""),
        (b"id: 1\ndata: a\n\n", "1"),
        (b"id: 1\n\n", "1"),
        (b"id: 1\n", ""),
        (b"id: 1\ndata: a\n\nid: 2\ndata: b\n", "1"),
        (b"id: 1\ndata: a\n\nid: 2", "1"),
        (b"id: 1\ndata: a\n\nid:\n\n", ""),
        (b"id: 1\ndata: a\n\nid: \0\n\n", "1"),
    ],
)
def test_the_id_to_reconnect_with_is_that_of_the_last_event_that_was_closed(stream: bytes, last_event_id: str) -> None:
    assert under_every_cut(stream).last_event_id == last_event_id


def test_a_cr_ends_its_line_at_once() -> None:
    decoder = SSEDecoder()
    assert decoder.receive_data(b"data: a\r") == []
    assert decoder.receive_data(b"\r") == [ServerSentEvent(data="a")]
    assert decoder.receive_data(b"\ndata: b\r\n\r") == [ServerSentEvent(data="b")]
    assert decoder.receive_data(b"\n") == []
    assert decoder.receive_data(b"data: c\n\n") == [ServerSentEvent(data="c")]


def test_nothing_between_a_cr_and_its_lf_makes_a_difference() -> None:
    decoder = SSEDecoder()
    assert decoder.receive_data(b"data: a\r") == []
    assert decoder.receive_data(b"") == []
    assert decoder.receive_data(b"\n") == []
    assert decoder.receive_data(b"\n") == [ServerSentEvent(data="a")]


def test_an_event_is_given_with_the_bytes_that_complete_it() -> None:
    decoder = SSEDecoder()
    given = [
        decoder.receive_data(piece) for piece in (b"data: a\n\nda", b"ta: b\n", b"\ndata: c\n\ndata: d\n\n", b"\n")
    ]
    assert given == [[*data("a")], [], [*data("b", "c", "d")], []]


def every_second(given: bytes) -> memoryview:
    return memoryview(bytes(byte for byte in given for _ in range(2)))[::2]


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview, every_second])
def test_anything_like_bytes_is_taken(kind: Callable[[bytes], Any]) -> None:
    assert SSEDecoder().receive_data(kind(b"data: a\n\ndata: b\n\n")) == [*data("a", "b")]


def test_the_callers_buffer_is_his_again_at_once() -> None:
    decoder = SSEDecoder()
    buffer = bytearray(b"data: a")
    assert decoder.receive_data(buffer) == []
    buffer[:] = b"x" * 1000
    assert decoder.receive_data(b"\n\n") == [*data("a")]


@pytest.mark.parametrize("wrong", ["data: a\n\n", None, 5, [100]])
def test_anything_else_is_a_type_error_that_changes_nothing(wrong: Any) -> None:
    decoder = SSEDecoder()
    assert decoder.receive_data(b"data: a\n") == []
    with pytest.raises(TypeError):
        decoder.receive_data(wrong)
    assert decoder.receive_data(b"\n") == [*data("a")]
    assert decoder.receive_eof() == []
    with pytest.raises(TypeError):
        decoder.receive_data(wrong)


def test_a_read_of_several_blocks_gives_the_events_of_all() -> None:
    stream = b"data: a\n\n" * 20_000  # of 64 KiB each
    assert SSEDecoder().receive_data(stream) == [*data("a")] * 20_000


def test_a_line_feed_far_behind_a_carriage_return_is_a_line_end_of_its_own() -> None:
    assert outcome([b":c\r", b"data: b", b"\n\r\n"]).events == (*data("b"),)


@pytest.mark.parametrize("limits", [None, 5, {"event_bytes": 5}, Limits])
def test_limits_are_limits(limits: Any) -> None:
    with pytest.raises(TypeError, match=f"^limits: expected Limits, got {type(limits).__name__}$"):
        SSEDecoder(limits)


def test_after_the_end_there_is_nothing_more() -> None:
    decoder = SSEDecoder()
    assert decoder.receive_data(b"retry: 1\nid: 1\ndata: a\n\ndata: b\nid: 2\n<p>") == [
        ServerSentEvent("message", "a", "1", 1)
    ]
    assert decoder.receive_eof() == []
    for late in (b"\n", b"data: c\n\nretry: 9\n\nid: 9\n\n<b>\n", BOM):
        assert decoder.receive_data(late) == []
        assert decoder.receive_eof() == []
    assert (decoder.retry, decoder.last_event_id, decoder.first_ignored_line) == (1, "1", "<p>")
    assert repr(decoder) == "<SSEDecoder holding 0 bytes>"


def test_the_repr_says_how_much_is_waiting_and_not_what() -> None:
    decoder = SSEDecoder()
    assert repr(decoder) == "<SSEDecoder holding 0 bytes>"
    assert decoder.receive_data(b"data: secret\nid: ") == []
    assert repr(decoder) == "<SSEDecoder holding 17 bytes>"


# ------------------------------------------------------------------------------ what an error message needs


@pytest.mark.parametrize(
    ("stream", "data_seen"),
    [
        (b"data:", True),
        (b"data: a", True),
        (b"data:\n", True),
        (BOM + b"data:", True),
        (b"<br>\r\ndata:", True),
        (b": a\n\ndata: b\n\nc", True),
        (b"", False),
        (b"data", False),
        (b"data\n\n", False),
        (b" data:", False),
        (b"Data: a\n", False),
        (b"x data: a\n", False),
        (b"event: a\nid: b\nretry: 1\n: data:\n", False),
        (BOM + BOM + b"data:", False),
    ],
)
def test_a_data_line_is_seen_even_unfinished(stream: bytes, data_seen: bool) -> None:
    assert under_every_cut(stream).data_seen is data_seen
    decoder = SSEDecoder()
    assert [*decoder.receive_data(stream)] == [*outcome([stream]).events]
    assert decoder.data_seen is data_seen  # before the end as well


@pytest.mark.parametrize(
    ("stream", "line"),
    [
        (b"", None),
        (b"\n\r\n\r", None),
        (b": a\n:\ndata\ndata: a\nevent: b\nevent\nid\nretry: x\nid: \0\n\n", None),
        (b"data: a", None),
        (b":", None),
        (b"dat", "dat"),
        (b"<html>\n<body>\n", "<html>"),
        (b"<html>", "<html>"),
        (b"data: a\n\n<br />\n<b>Warning</b>: x\ndata: b\n\n", "<br />"),
        (b"foo: bar\nbaz\n", "foo: bar"),
        (b" data: a\n", " data: a"),
        (b"Data: a\n", "Data: a"),
        (b"datas\n", "datas"),
        (b"eventual\n", "eventual"),
        (BOM + BOM + b"data: a\n", "\ufeffdata: a"),
        (b"\xff<\0>\n", "\ufffd<\0>"),
        (b"x" * 200 + b"\n", "x" * 200),
        (b"x" * 201 + b"\n", "x" * 200),
        (b"a" + "🚉".encode() * 300, "a" + "🚉" * 199),
        ("é".encode() * 300, "é" * 200),
        (b"\xff" * 900, "\ufffd" * 200),
    ],
)
def test_the_first_line_that_is_no_field_is_remembered(stream: bytes, line: str | None) -> None:
    for pieces in ([stream], byte_by_byte(stream), *(in_pieces(stream, size) for size in (2, 3, 7))):
        assert outcome(pieces).first_ignored_line == line


# ------------------------------------------------------------------------------ the limit

LIMIT = 24
EXACT: dict[str, tuple[bytes, bytes, bytes, int]] = {
    # what comes first, the byte with which the limit is reached, what follows, and how many events there are then
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
def test_the_limit_passes_and_one_byte_more_does_not_under_every_cut(name: str, line_end: bytes) -> None:
    first, last, rest, events = EXACT[name]
    first, rest = first.replace(b"\n", line_end), rest.replace(b"\n", line_end)
    exact = under_every_cut(first + last + rest, LIMIT)
    assert exact == outcome([first + last + rest])  # as without a limit
    assert (len(exact.events), exact.overflowed) == (events, False)
    more = under_every_cut(first + last * 2 + rest, LIMIT)
    assert (more.events, more.overflowed) == (outcome([first]).events, True)


def test_the_line_end_of_the_last_data_line_is_not_counted() -> None:
    # It lies between the limit and the blank line, and bytes may stop coming just there.
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


def test_after_an_overflow_there_is_nothing_more() -> None:
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


def test_what_is_no_part_of_an_event_may_go_on_for_ever() -> None:
    ended = outcome(repeat(b": keepalive\n\nid: 1\nevent: x\nretry: 1\nfoo\n\n\r", 20_000), 12)
    assert ended == Outcome((), 1, "1", False, False, "foo")


def test_lines_of_one_event_other_than_data_do_not_add_up() -> None:
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


# ------------------------------------------------------------------------------ the standard, slowly


def slow_utf8(stream: bytes) -> str:
    """The UTF-8 decoder of the Encoding Standard, byte by byte."""
    text: list[str] = []
    code_point = needed = seen = 0
    lower, upper = 0x80, 0xBF
    for byte in stream:
        if needed and not lower <= byte <= upper:
            needed = seen = 0
            lower, upper = 0x80, 0xBF
            text.append("\ufffd")  # and the byte is looked at again, below
        if needed:
            lower, upper = 0x80, 0xBF
            code_point = code_point << 6 | byte & 0x3F
            seen += 1
            if seen == needed:
                text.append(chr(code_point))
                needed = seen = 0
        elif byte <= 0x7F:
            text.append(chr(byte))
        elif 0xC2 <= byte <= 0xDF:
            needed, code_point = 1, byte & 0x1F
        elif 0xE0 <= byte <= 0xEF:
            lower, upper = (0xA0 if byte == 0xE0 else 0x80), (0x9F if byte == 0xED else 0xBF)
            needed, code_point = 2, byte & 0xF
        elif 0xF0 <= byte <= 0xF4:
            lower, upper = (0x90 if byte == 0xF0 else 0x80), (0x8F if byte == 0xF4 else 0xBF)
            needed, code_point = 3, byte & 0x7
        else:
            text.append("\ufffd")
    return "".join(text) + ("\ufffd" if needed else "")


def slow_lines(text: str) -> Iterator[str]:
    """The lines that an end closes: CRLF, LF, or CR."""
    line = ""
    for index, character in enumerate(text):
        if character == "\r" or (character == "\n" and text[index - 1 : index] != "\r"):
            yield line
            line = ""
        elif character != "\n":
            line += character


def slow_sse(stream: bytes) -> tuple[tuple[ServerSentEvent, ...], int | None, str]:
    """9.2.6 of the HTML Standard, sentence by sentence: the events, the reconnection time, the last event id."""
    events: list[ServerSentEvent] = []
    reconnection_time: int | None = None
    own_time: int | None = None
    last_event_id = ""
    data_buffer = event_type_buffer = last_event_id_buffer = ""
    for line in slow_lines(slow_utf8(stream.removeprefix(BOM))):
        if line == "":
            last_event_id = last_event_id_buffer
            if data_buffer != "":
                if data_buffer[-1] == "\n":
                    data_buffer = data_buffer[:-1]
                events.append(ServerSentEvent(event_type_buffer or "message", data_buffer, last_event_id, own_time))
            data_buffer = event_type_buffer = ""
            own_time = None
            continue
        if line[0] == ":":
            continue
        name, value = line, ""
        if ":" in line:
            name, value = line[: line.index(":")], line[line.index(":") + 1 :]
            if value[:1] == " ":
                value = value[1:]
        if name == "event":
            event_type_buffer = value
        elif name == "data":
            data_buffer += value
            data_buffer += "\n"
        elif name == "id":
            if "\0" not in value:
                last_event_id_buffer = value
        elif name == "retry" and value and set(value) <= set("0123456789") and len(value.lstrip("0")) <= 18:
            reconnection_time = own_time = int(value)  # the bound of 18 digits is ours
    return tuple(events), reconnection_time, last_event_id


def slow_overflow(stream: bytes, limit: int) -> int | None:
    """Where the byte stands that is too much: the unfinished line and the data lines of the unfinished event."""
    offset = len(BOM) if stream.startswith(BOM) else 0
    if not offset and BOM.startswith(stream):
        return None  # it may still become one
    line, size = b"", 0
    for index in range(offset, len(stream)):
        byte = stream[index : index + 1]
        if byte == b"\n" and stream[offset:index].endswith(b"\r"):
            continue
        if byte not in b"\r\n":
            line += byte
            if size + len(line) > limit:
                return index
            continue
        if line == b"":
            size = 0
        elif line.split(b":")[0] == b"data":
            size += len(line) + 1
        line = b""
    return None


PIECES = [
    *(b"\n", b"\n", b"\n\n", b"\r", b"\r\n", b"\r\n\r\n", b":", b" ", b"", b"a", b"0", b"12", b"+", b"\0", b"x" * 20),
    *(b"data", b"data:", b"data: ", b"data: a\n", b"data: b\n\n", b"data\n", b"\rdata:c\r\r", b"dat", b"Data:"),
    *(b"event", b"event:", b"event: x\n", b"id", b"id:", b"id: 1\n", b"id: \0\n", b"retry", b"retry: ", b"retry:5\n"),
    *(BOM, BOM[:1], BOM[:2], BOM[1:], BOM[2:], b"\xff", b"\xc0", b"\x80", b"\xed\xa0\x80", b"\xf4\x90", b"\xe0\x80"),
    *(text.encode() for text in "é€🚉\u2028\u2029\u0085\u0663\x0b\x0c\x1e"),
    *("🚉".encode()[:3], "🚉".encode()[:2], "🚉".encode()[1:], "€".encode()[:2], "€".encode()[2:]),
]
STREAMS = st.lists(st.sampled_from(PIECES) | st.binary(max_size=3), max_size=30).map(b"".join)


def test_the_slow_decoder_keeps_the_rules_too() -> None:
    assert [slow_sse(stream)[0] for stream, _ in RULES.values()] == [events for _, events in RULES.values()]


@given(STREAMS, st.data())
def test_any_stream_under_any_cut_gives_what_the_standard_says(stream: bytes, draw: st.DataObject) -> None:
    expected = slow_sse(stream)
    whole = outcome([stream])
    assert (whole.events, whole.retry, whole.last_event_id) == expected
    assert not whole.overflowed
    assert outcome(byte_by_byte(stream)) == whole
    for _ in range(3):
        assert outcome(draw.draw(random_cuts(stream))) == whole


@given(STREAMS, st.integers(1, 40), st.data())
def test_any_stream_under_any_cut_reaches_the_limit_at_the_same_byte(
    stream: bytes, limit: int, draw: st.DataObject
) -> None:
    place = slow_overflow(stream, limit)
    whole = outcome([stream], limit)
    assert whole.overflowed is (place is not None)
    assert (whole.events, whole.retry, whole.last_event_id) == slow_sse(stream[:place])
    assert outcome(byte_by_byte(stream), limit) == whole
    for _ in range(3):
        assert outcome(draw.draw(random_cuts(stream)), limit) == whole


PLAIN_PIECES = [
    b"data: ",
    b"data: a",
    b"a",
    b"\xc3",
    b"\xa9",
    b"\xff",
    b"\n",
    b"\n\n",
    b"data:",
    b"data",
    b": c",
    b"id: 7",
]
PLAIN_STREAMS = st.lists(st.sampled_from(PLAIN_PIECES), max_size=14).map(b"".join)


@given(PLAIN_STREAMS, st.integers(1, 40), st.data())
def test_the_fast_path_and_the_exact_one_give_the_same(stream: bytes, limit: int, draw: st.DataObject) -> None:
    # A CR is looked at by the exact path alone, and CRLF means what LF means.
    exact = outcome(byte_by_byte(stream.replace(b"\n", b"\r\n")), limit)
    assert outcome([stream], limit) == exact
    assert outcome(draw.draw(random_cuts(stream)), limit) == exact


# ------------------------------------------------------------------------------ lines that are mended


def mended(pieces: Iterable[bytes], limit: int = 200) -> tuple[list[str], bool, bool, str | None]:
    """The events' data, whether there was too much, whether a data line was seen, what was ignored first."""
    decoder = SSEDecoder(Limits(event_bytes=limit), mend=True)
    events = [event for piece in pieces for event in decoder.receive_data(piece)]
    seen = decoder.data_seen
    decoder.receive_eof()
    assert decoder.data_seen is seen
    return [event.data for event in events], decoder.overflowed, seen, decoder.first_ignored_line


HI = b'data: {"type":"x"}\n\n'
MENDED: dict[str, tuple[bytes, list[str], bool, str | None]] = {
    "a stream as the plugin writes it": (HI + HI, ['{"type":"x"}'] * 2, True, None),
    "marks first": (BOM + BOM + b"data: a\n\n", ["a"], True, None),
    "marks before fields": (b"data: a\n" + BOM + b"event: x\n" + BOM + BOM + b"data: b\n\n", ["a\nb"], True, None),
    "a mark before a comment": (BOM + b": c\n", [], False, None),
    "a mark before data without a colon": (BOM + b"data\n\n", [""], False, None),
    "a mark before a longer name": (BOM + b"datas\n\n", [], False, "datas"),
    "a mark alone": (b"data: a\n" + BOM + b"\n\n", ["a"], True, None),
    "a mark before an unfinished field": (BOM + b"data:", [], True, None),
    "glued": (b"<p>x</p>" + HI, ['{"type":"x"}'], True, "x"),
    "glued after a data line": (b"data: a\n</div>" + HI, ['a\n{"type":"x"}'], True, None),
    "glued and unfinished": (b"x:" + HI[:15], [], True, "x:"),
    "glued and cut too early": (b"x:" + HI[:14], [], False, 'x:data: {"type":'),
    "glued behind marks and words": (BOM + b"x" + HI, ['{"type":"x"}'], True, "x"),
    "twice in one line": (b"x" + HI[:-2] + HI, ['{"type":"x"}data: {"type":"x"}'], True, "x"),
    "in a comment": (b":" + HI, [], False, None),
    "in another field": (b"event:" + HI, [], False, None),
    "no event of the plugin": (b"x" + b"data: a\n\n", [], False, "xdata: a"),
    "tags alone are no words": (b"<br />\n<hr>\n--\n<b>Oh</b>:  no &amp;\nx\n", [], False, "Oh: no &"),
    "CRLF": (b"x" + HI.replace(b"\n", b"\r\n"), ['{"type":"x"}'], True, "x"),
}


@pytest.mark.parametrize(("stream", "texts", "seen", "ignored"), MENDED.values(), ids=MENDED)
def test_lines_that_php_spoils_are_mended_if_that_is_asked_for(
    stream: bytes, texts: list[str], seen: bool, ignored: str | None
) -> None:
    for pieces in every_cut(stream):
        assert mended(pieces) == (texts, False, seen, ignored)


def test_a_spoilt_line_counts_whole_until_it_ends_and_then_its_field_alone() -> None:
    stream = b"xxxxxxxxxx" + HI[:-1]
    size = len(stream) - 1
    for pieces in every_cut(stream + b"\n" + HI):
        assert mended(pieces, size)[:2] == (['{"type":"x"}'] * 2, False)
        assert mended(pieces, size - 1)[:2] == ([], True)
    for pieces in every_cut(stream + b"data: 456\n\n"):
        assert mended(pieces, size)[:2] == (['{"type":"x"}\n456'], False)
    for pieces in every_cut(stream + b"data: 4567\n\n"):
        assert mended(pieces, size)[:2] == ([], True)


@pytest.mark.parametrize(
    ("pieces", "texts", "seen", "ignored"),
    [
        ([b"data: a\n\ndata: b\n\n"], ["a", "b"], True, None),
        ([b"data: a", b"\n\ndata: b\n", b"\n"], ["a", "b"], True, None),
        ([b"data: a\n\n", b"da", b"ta", b": b", b"c\n", b"d", b"ata: e\n\n"], ["a", "bc\ne"], True, None),
        ([b"data: a\n\n", b"data: b\n", b"data: c\n\n"], ["a", "b\nc"], True, None),
        ([b"data: a\n\n", b"data: b\n", b"no field\n\n"], ["a", "b"], True, "no field"),
        ([b"data: a\n\n", b"x: b\n", b"\n"], ["a"], True, "x: b"),
        ([b"\xef\xbb", b"\xbfdata: a\n\n"], ["a"], True, None),
    ],
)
@pytest.mark.parametrize("mend", [False, True])
def test_the_two_paths_give_the_data_alone(
    mend: bool, pieces: list[bytes], texts: list[str], seen: bool, ignored: str | None
) -> None:
    decoder = SSEDecoder(mend=mend)
    given_texts: list[str] = []
    for piece in pieces if mend else [b"".join(pieces).removeprefix(BOM)]:
        plain = decoder.receive_plain(piece)
        given_texts += decoder.receive_exact(piece) if plain is None else plain
    assert (given_texts, decoder.data_seen, decoder.first_ignored_line) == (texts, seen, ignored)


def test_an_event_is_given_before_what_follows_it_is_looked_at() -> None:
    decoder = SSEDecoder(mend=True)
    texts = decoder.receive_exact(b"data: a\n\nx\ndata: b\n\n")
    assert (next(texts), decoder.first_ignored_line) == ("a", None)
    assert (list(texts), decoder.first_ignored_line) == (["b"], "x")


@given(st.binary(max_size=12))
def test_python_and_the_encoding_standard_agree_on_replacement(raw: bytes) -> None:
    assert slow_utf8(raw) == raw.decode("utf-8", "replace")


@given(STREAMS, st.data())
def test_a_decoder_can_be_copied_between_any_two_pieces(stream: bytes, draw: st.DataObject) -> None:
    pieces = draw.draw(random_cuts(stream))
    place = draw.draw(st.integers(0, len(pieces)))
    decoder = SSEDecoder(Limits(event_bytes=20))
    for piece in pieces[:place]:
        decoder.receive_data(piece)
    twins = [decoder, copy.deepcopy(decoder), *(pickle.loads(pickle.dumps(decoder, protocol)) for protocol in range(6))]
    rests = []
    for twin in twins:
        events = [twin.receive_data(piece) for piece in pieces[place:]] + [twin.receive_eof()]
        rests.append((events, vars(twin)))
    assert rests == [rests[0]] * 8


# ------------------------------------------------------------------------------ memory and work


@contextmanager
def at_most(most: int) -> Iterator[None]:
    """No more than so many bytes are held by Python at any moment, beyond those held before."""
    tracemalloc.start()
    try:
        yield
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak <= most


@pytest.mark.parametrize("beginning", [b"", b"data: ", b": ", b"id: ", b"retry: ", BOM + b"data: a\ndata: "])
def test_256_mebibytes_without_a_line_end_are_not_kept(beginning: bytes) -> None:
    decoder = SSEDecoder()
    piece = b"1" * (64 * KIBI)
    with at_most(2 * Limits().event_bytes + MEBI):
        assert decoder.receive_data(beginning) == []
        for _ in range(4096):
            assert decoder.receive_data(piece) == []
        assert decoder.overflowed
        assert decoder.receive_eof() == []


@pytest.mark.parametrize("beginning", [b"", b"data: ", b"x\n: "])
def test_64_mebibytes_in_one_read_are_not_copied(beginning: bytes) -> None:
    decoder = SSEDecoder()
    huge = beginning + b"x" * (64 * MEBI)
    with at_most(2 * Limits().event_bytes + MEBI):
        assert decoder.receive_data(huge) == []
        assert decoder.overflowed


@pytest.mark.parametrize("line", [b"data: ab\n", b"data\r"])
@pytest.mark.parametrize("size", [1000, 4 * MEBI])
def test_many_small_data_lines_are_held_in_as_little_as_a_long_one(line: bytes, size: int) -> None:
    decoder = SSEDecoder(Limits(event_bytes=MEBI // 2))
    piece = line * (size // len(line))
    with at_most(2 * MEBI // 2 + MEBI):
        while not decoder.overflowed:
            assert decoder.receive_data(piece) == []


def test_what_no_event_needs_any_more_is_not_kept() -> None:
    decoder = SSEDecoder()
    piece = b": keepalive\n\nevent: x\n\n<br>\ndata\n\n" * 30
    with at_most(MEBI):
        for _ in range(200):
            assert decoder.receive_data(piece) == [*data(*[""] * 30)]


def calls(stream: bytes, size: int) -> int:
    """How many functions, Python's and C's, are called for a stream in pieces of this size."""
    count = 0
    decoder = SSEDecoder()
    pieces = in_pieces(stream, size)

    def profile(_frame: object, event: str, _argument: object) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    before = sys.getprofile()
    sys.setprofile(profile)
    try:
        for piece in pieces:
            decoder.receive_data(piece)
        decoder.receive_eof()
    finally:
        sys.setprofile(before)
    return count


@pytest.mark.parametrize(
    "unit", [b"x", b"\r", b"data: a\n", b"data: a\r\n\r\n", b": ", b"id: 1\n", b"\xff", b"<br>\n\n"]
)
@pytest.mark.parametrize(("size", "length"), [(1, 4 * KIBI), (64, 16 * KIBI), (64 * KIBI, 128 * KIBI)])
def test_twice_the_input_is_at_most_two_and_a_half_times_the_calls(unit: bytes, size: int, length: int) -> None:
    stream = unit * (length // len(unit))
    once, twice = calls(stream, size), calls(stream * 2, size)
    assert 0 < once < twice <= 2.5 * once
    assert once <= 16 * len(stream)


@pytest.mark.parametrize("beginning", [b"", b"data: ", b": "])
def test_sixteen_mebibytes_in_small_pieces_are_not_copied_for_each(beginning: bytes) -> None:
    # 131,072 pieces: a decoder that copied the unfinished line for each would move a terabyte.
    decoder = SSEDecoder()
    assert decoder.receive_data(beginning) == []
    piece = b"x" * 128
    for _ in range(16 * MEBI // 128 - 1):
        decoder.receive_data(piece)
    assert not decoder.overflowed
    assert repr(decoder) == f"<SSEDecoder holding {16 * MEBI - 128 + len(beginning)} bytes>"


# ------------------------------------------------------------------------------ values


def test_an_event_is_a_frozen_slotted_hashable_value() -> None:
    event = ServerSentEvent("x", "a", "1", 5)
    assert repr(event) == "ServerSentEvent(event='x', data='a', id='1', retry=5)"
    assert list(copies(event)) == [event] * 6
    assert {hash(twin) for twin in copies(event)} == {hash(event)}
    assert len({event, ServerSentEvent(), ServerSentEvent("x"), ServerSentEvent(id="1"), ServerSentEvent(retry=0)}) == 5
    assert not hasattr(event, "__dict__")
    for field in fields(event):
        with pytest.raises(FrozenInstanceError):
            setattr(event, field.name, None)
    match event:
        case ServerSentEvent(name, text, number, retry):
            assert (name, text, number, retry) == ("x", "a", "1", 5)


def test_an_event_of_the_plugin_is_one_line_and_a_blank_one() -> None:
    assert encode_event('{"type":"live","data":"é"}') == b'data: {"type":"live","data":"\xc3\xa9"}\n\n'
    assert encode_event("") == b"data: \n\n"


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\n"))))
def test_what_is_encoded_is_decoded(texts: list[str]) -> None:
    assert outcome([b"".join(map(encode_event, texts))]).events == data(*texts)
