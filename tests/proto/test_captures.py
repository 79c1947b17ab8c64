"""Recorded answers of real sites. The outcomes match the README of the recordings, however the bytes are cut."""

import random
import re

import pytest

from opchat_proto import Broken, Client, Done, End, Event, Flow
from tests.captures import (
    FOUND_AGAIN,
    NAMES,
    OTHER_CALLS,
    OWN,
    RECORDED,
    RECORDED_AGAIN,
    SESSIONS,
    Outcome,
    Recording,
    check,
    recorded_again,
    recording_of,
)
from tests.proto.asking import CHUNKED, END, ENDPOINT, HI, answered, ask, asked, chunks, is_reply
from tests.proto.cuts import byte_by_byte, cut_at


def cuttings(recording: Recording) -> list[list[bytes]]:
    data, dice = recording.data, random.Random(len(recording.data))
    reads = [sum(recording.reads[:count]) for count in range(1, len(recording.reads))]
    return [
        [data],
        cut_at(data, reads),
        byte_by_byte(data),
        *(cut_at(data, [dice.randrange(len(data) + 1) for _ in range(dice.choice((1, 2, 5, 40)))]) for _ in range(20)),
    ]


def feed(asking: Client, pieces: list[bytes]) -> list[Event]:
    return [event for piece in pieces for event in asking.receive_data(piece)]


def check_every_cut(recording: Recording, expected: Outcome) -> None:
    assert sum(recording.reads) == len(recording.data)
    first: list[Event] | None = None
    for pieces in cuttings(recording):
        asking = asked()
        events = feed(asking, pieces)
        if recording.server_closed:
            events += asking.receive_eof()
        assert first is None or events == first
        first = events
        assert asking.next_step() == Done()
    assert first is not None
    check(first, expected)


@pytest.mark.parametrize("name", NAMES)
def test_a_recording_has_its_documented_outcome_under_every_cut(name: str) -> None:
    check_every_cut(*recording_of(name))


@pytest.mark.parametrize("name", FOUND_AGAIN)
def test_a_recording_of_the_second_set_has_its_documented_outcome_under_every_cut(name: str) -> None:
    check_every_cut(recorded_again(name), RECORDED_AGAIN[name])


@pytest.mark.parametrize("name", sorted(set(SESSIONS) & set(FOUND_AGAIN)))
def test_a_recording_of_start_session_gives_a_session_under_every_cut(name: str) -> None:
    expected = SESSIONS[name]
    for pieces in cuttings(recorded_again(name)):
        asking = Client(Flow(ENDPOINT, None))
        ask(asking)
        events = feed(asking, pieces) + asking.receive_eof()
        if isinstance(expected, str):
            [broken] = events
            assert isinstance(broken, Broken)
            assert broken.detail.startswith(expected)
            assert asking.session is None
        else:
            assert events == [End(None)]
            assert asking.session is not None
            assert (asking.session.nonce, asking.session.session_id) == expected


def test_no_detail_of_a_recording_shows_its_secrets() -> None:
    for name in FOUND_AGAIN:
        recording = recorded_again(name)
        last = (feed(asked(), [recording.data]) or [End(None)])[-1]
        secrets = re.findall(rb'"(?:restNonce|new_token|sessionId)":"(\w{5,})"', recording.data)
        assert not any(secret.decode() in repr(last) for secret in secrets), name


@pytest.mark.parametrize("name", NAMES)
def test_a_recording_cut_anywhere_and_closed_is_still_one_reply(name: str) -> None:
    recording, _ = recording_of(name)
    dice = random.Random(0)
    for _ in range(30):
        pieces = cut_at(recording.data, [dice.randrange(len(recording.data)) for _ in range(2)])[:2]
        events = answered(pieces)
        assert is_reply(events)
        assert answered([b"".join(pieces)]) == events


BLANK_LINE_APART = CHUNKED + chunks(HI, END[:-2], b"\n\n") + b"0\r\n\r\n"
RECORDED_ENDING = [name for name in ("3.6.2/stream_ascii",) if name in NAMES]


@pytest.mark.parametrize(
    "data", [OWN["own/whole"][0].data, BLANK_LINE_APART, *(Recording.load(name).data for name in RECORDED_ENDING)]
)
def test_a_cut_at_every_byte_is_an_end_only_after_the_blank_line_of_the_end_event(data: bytes) -> None:
    blank_line = data.index(b"\r\n0\r\n\r\n")
    assert data[:blank_line].endswith(b"\n\n")
    for count in range(len(data) + 1):
        events = answered([data[:count]])
        assert is_reply(events)
        assert isinstance(events[-1], End) == (count >= blank_line), count


@pytest.mark.parametrize("name", ["own/whole", *(name for name in ("3.6.2/stream_slow",) if name in NAMES)])
def test_an_event_is_given_by_the_read_that_contains_its_blank_line(name: str) -> None:
    recording, _ = recording_of(name)
    asking, given, position = asked(), 0, 0
    for length in recording.reads:
        position += length
        given += len(asking.receive_data(recording.data[position - length : position]))
        body = recording.data[:position].partition(b"\r\n\r\n")[2]
        # Each chunk holds whole events, or a blank line.
        assert given == body.count(b"}\n\n") + body.count(b"}\r\n2\r\n\n\n")
    assert given == len(answered([recording.data]))


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (OWN["own/whole"][0].data, OWN["own/refused"][0].data),
        *(
            (Recording.load(name).data[:1157], Recording.load(name).data[1157:])
            for name in ("3.6.2/keepalive_two_streams",)
            if name in NAMES
        ),
    ],
)
def test_the_second_answer_on_a_connection_is_not_part_of_the_first(first: bytes, second: bytes) -> None:
    for pieces in ([first], [first + second], byte_by_byte(first + second)):
        asking = asked()
        events = feed(asking, pieces)
        assert events == feed(asked(), [first])
        assert asking.next_step() == Done()
    last = feed(asked(), [second])[-1]
    assert last == feed(asked(), byte_by_byte(second))[-1]
    if isinstance(last, End):
        assert last.reply == "second on this connection"


@pytest.mark.parametrize("name", NAMES)
def test_the_payload_of_a_recorded_end_has_its_other_fields(name: str) -> None:
    recording, expected = recording_of(name)
    asking = asked()
    last = feed(asking, [recording.data])[-1] if expected.reason is None else None
    assert isinstance(last, End) == (expected.reason is None)
    if not isinstance(last, End):
        return
    assert asking.session is not None
    match name:
        case "3.6.2/stream_unicode":
            assert len(last.reply or "") == 299
        case "3.6.2/old_nonce":
            assert last.new_token == asking.session.nonce is not None
        case "3.6.2/x_images_bot_stream":
            assert (last.reply or "").endswith("\n")
        case "3.6.2/stream_takeover":
            assert last.usage is None
        case "1.9.97/stream_ascii":
            assert last.response_id is None
        case "3.6.2/stream_ascii":
            assert last.response_id == "resp_labb5deac5c5caedb68"


def test_every_recording_found_has_an_outcome_in_the_table() -> None:
    assert {name for name in NAMES if name not in OWN} <= set(RECORDED)
    assert set(FOUND_AGAIN) in ({"own/session"}, set(RECORDED_AGAIN))
    assert not set(RECORDED) & OTHER_CALLS
