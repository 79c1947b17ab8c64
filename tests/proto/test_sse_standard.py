"""A slow decoder that follows the standard literally, for comparison."""

from collections.abc import Iterator

from hypothesis import given
from hypothesis import strategies as st

from opchat_proto import ServerSentEvent
from tests.proto.cuts import byte_by_byte, random_cuts
from tests.proto.streams import BOM, RULES, STREAMS, outcome, slow_overflow, slow_utf8


def slow_lines(text: str) -> Iterator[str]:
    """The complete lines. CRLF, LF or CR ends a line."""
    line = ""
    for index, character in enumerate(text):
        if character == "\r" or (character == "\n" and text[index - 1 : index] != "\r"):
            yield line
            line = ""
        elif character != "\n":
            line += character


def slow_sse(stream: bytes) -> tuple[tuple[ServerSentEvent, ...], int | None, str]:
    """HTML Standard 9.2.6, sentence by sentence: the events, the reconnection time, the last event id."""
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
            reconnection_time = own_time = int(value)  # the limit of 18 digits is ours
    return tuple(events), reconnection_time, last_event_id


def test_the_slow_decoder_follows_the_rules_too() -> None:
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
def test_the_fast_path_and_the_exact_path_give_the_same_events(stream: bytes, limit: int, draw: st.DataObject) -> None:
    # Only the exact path sees a CR, and CRLF means the same as LF.
    exact = outcome(byte_by_byte(stream.replace(b"\n", b"\r\n")), limit)
    assert outcome([stream], limit) == exact
    assert outcome(draw.draw(random_cuts(stream)), limit) == exact
