"""Recorded answers of real sites, served over loopback. The outcomes match the README of the recordings."""

from collections.abc import Callable

import pytest

from opchat_proto import Limits, Session
from opchat_transports.testing import Close, FaultServer, Stall, Write
from tests.captures import FOUND_AGAIN, NAMES, RECORDED_AGAIN, Recording, check, recorded_again, recording_of
from tests.proto.cuts import byte_by_byte, cut_at

from .asking import Ask

SESSION = Session(nonce="0b2576d756")
LIMITS = Limits(restarts=0)


def whole(recording: Recording) -> list[bytes]:
    return [recording.data]


def by_its_reads(recording: Recording) -> list[bytes]:
    return cut_at(recording.data, [sum(recording.reads[:count]) for count in range(1, len(recording.reads))])


def a_byte_at_a_time(recording: Recording) -> list[bytes]:
    return byte_by_byte(recording.data)


@pytest.mark.parametrize("cut", [whole, by_its_reads, a_byte_at_a_time])
@pytest.mark.parametrize("name", NAMES)
def test_a_recording_served_again_has_its_documented_outcome(
    name: str, ask: Ask, cut: Callable[[Recording], list[bytes]]
) -> None:
    recording, expected = recording_of(name)

    # On a kept connection, the outcome must be known without a close.
    script = (*map(Write, cut(recording)), Close() if recording.server_closed else Stall())
    with FaultServer(script) as server:
        events = ask(server.url, session=SESSION, limits=LIMITS)
    check(events, expected)
    assert len(server.requests) == 1


@pytest.mark.parametrize("name", FOUND_AGAIN)
def test_a_recording_of_the_second_set_has_its_documented_outcome(name: str, ask: Ask) -> None:
    recording = recorded_again(name)
    with FaultServer((Write(recording.data), Close())) as server:
        events = ask(server.url, session=SESSION, limits=LIMITS)
    check(events, RECORDED_AGAIN[name])
    assert len(server.requests) == 1
