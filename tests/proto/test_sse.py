"""Server-sent events: the WHATWG rules under every way of cutting."""

from collections.abc import Callable
from dataclasses import FrozenInstanceError, fields
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opchat_proto import Limits, ServerSentEvent, SSEDecoder
from opchat_proto._sse import encode_event  # the encoder is not public
from tests.proto.cuts import byte_by_byte, copies, in_pieces
from tests.proto.streams import BOM, RULES, data, outcome, under_every_cut

# ------------------------------------------------------------------------------ the rules


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


def test_each_event_keeps_its_retry_and_the_stream_the_last_one() -> None:
    ended = under_every_cut(
        b"retry: 1\nretry: 2\nretry: x\ndata: a\n\ndata: b\n\nretry: 3\n\ndata: c\n\nretry:4\nretry:5"
    )
    assert ended.events == (ServerSentEvent(data="a", retry=2), *data("b", "c"))
    assert ended.retry == 4


def test_a_retry_counts_before_its_event_is_complete() -> None:
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
def test_the_last_event_id_is_the_one_of_the_last_complete_event(stream: bytes, last_event_id: str) -> None:
    assert under_every_cut(stream).last_event_id == last_event_id


def test_a_cr_ends_its_line_at_once() -> None:
    decoder = SSEDecoder()
    assert decoder.receive_data(b"data: a\r") == []
    assert decoder.receive_data(b"\r") == [ServerSentEvent(data="a")]
    assert decoder.receive_data(b"\ndata: b\r\n\r") == [ServerSentEvent(data="b")]
    assert decoder.receive_data(b"\n") == []
    assert decoder.receive_data(b"data: c\n\n") == [ServerSentEvent(data="c")]


def test_an_empty_read_between_cr_and_lf_makes_no_difference() -> None:
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
def test_any_bytes_like_object_is_accepted(kind: Callable[[bytes], Any]) -> None:
    assert SSEDecoder().receive_data(kind(b"data: a\n\ndata: b\n\n")) == [*data("a", "b")]


def test_the_callers_buffer_is_released_at_once() -> None:
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


def test_one_read_of_several_blocks_gives_all_events() -> None:
    stream = b"data: a\n\n" * 20_000  # of 64 KiB each
    assert SSEDecoder().receive_data(stream) == [*data("a")] * 20_000


def test_a_line_feed_long_after_a_carriage_return_is_a_separate_line_end() -> None:
    assert outcome([b":c\r", b"data: b", b"\n\r\n"]).events == (*data("b"),)


@pytest.mark.parametrize("limits", [None, 5, {"event_bytes": 5}, Limits])
def test_limits_are_limits(limits: Any) -> None:
    with pytest.raises(TypeError, match=f"^limits: expected Limits, got {type(limits).__name__}$"):
        SSEDecoder(limits)


def test_after_the_end_there_are_no_more_events() -> None:
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


def test_repr_shows_how_much_is_waiting_and_no_content() -> None:
    decoder = SSEDecoder()
    assert repr(decoder) == "<SSEDecoder holding 0 bytes>"
    assert decoder.receive_data(b"data: secret\nid: ") == []
    assert repr(decoder) == "<SSEDecoder holding 17 bytes>"


# ------------------------------------------------------------------------------ for error messages


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
def test_the_first_line_that_is_not_a_field_is_remembered(stream: bytes, line: str | None) -> None:
    for pieces in ([stream], byte_by_byte(stream), *(in_pieces(stream, size) for size in (2, 3, 7))):
        assert outcome(pieces).first_ignored_line == line


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


def test_an_event_of_the_plugin_is_one_line_and_a_blank_line() -> None:
    assert encode_event('{"type":"live","data":"é"}') == b'data: {"type":"live","data":"\xc3\xa9"}\n\n'
    assert encode_event("") == b"data: \n\n"


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\n"))))
def test_an_encoded_event_is_decoded_again(texts: list[str]) -> None:
    assert outcome([b"".join(map(encode_event, texts))]).events == data(*texts)
