"""One session for all calls of a channel: which call starts it, and which ones wait, take over and renew it."""

import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from opchat_proto import (
    Broken,
    Channel,
    Connect,
    Reason,
    Session,
    TimedOut,
    Wait,
)
from tests.proto.asking import ANSWERED
from tests.proto.calls import (
    DOWN,
    GOOD,
    LEFT,
    NO_SESSION,
    OPENED,
    STALE,
    WAITED,
    AnyCall,
    Make,
    Reply,
    asks,
    at_once,
    both,
    channel,
    close_it,
    drop_it,
    ended,
    put_off,
    refused,
    signal_of,
    taken,
    tell,
)


@both
def test_a_hundred_calls_at_once_need_one_session(make: Make) -> None:
    site, calls = at_once(make, 100)
    signals = [signal_of(call) for call in calls[1:]]
    assert not any(signal.is_set() for signal in signals)
    tell(calls[0], OPENED)
    assert all(signal.is_set() for signal in signals)
    assert len(set(signals)) == 99
    assert site.session == Session("n1", "s1")
    assert [asks(call) for call in calls] == ["submit n1"] * 100
    for call in calls:
        tell(call, GOOD)
        assert ended(call) == ANSWERED


@both
def test_without_signals_asking_again_is_enough(make: Make) -> None:
    site = channel()
    starter, call = make(site, "1?"), make(site, "2?")
    asks(starter)
    assert [call.next_step(now) for now in (5, 6)] == [(Wait(None), 345)] * 2
    tell(starter, OPENED)
    assert asks(call, 7) == "submit n1"


@both
def test_if_start_session_fails_the_waiting_calls_end_with_the_starters_broken(make: Make) -> None:
    site, calls = at_once(make, 100)
    signals = [signal_of(call) for call in calls[1:]]
    tell(calls[0], DOWN)
    assert all(signal.is_set() for signal in signals)
    later = make(site, "Later?")
    assert asks(later) == "start_session"  # the earlier ones have not even looked
    assert [ended(call) for call in calls] == [[NO_SESSION]] * 100
    assert (site.session, asks(later)) == (None, "Receive" if make is Channel.call else "start_session")


@both
def test_if_start_session_is_postponed_all_wait_and_then_one_starts_again(make: Make) -> None:
    site, calls = at_once(make, 3, retries=1)
    tell(calls[0], put_off(5))
    assert [call.next_step(10)[1] for call in calls] == [15] * 3
    assert [asks(call, 15) for call in calls[::-1]] == ["start_session", "Wait", "Wait"]
    assert [call.next_step(16)[1] for call in calls[:2]] == [355, 355]
    assert [call.retries for call in calls] == [1] * 3
    tell(calls[2], put_off(5))
    assert [ended(call, 16) for call in calls] == [[refused(5, in_session=True)]] * 3
    assert asks(make(site, "Later?"), 17) == "start_session"


@both
@pytest.mark.parametrize("leave", [close_it, drop_it])
def test_the_next_call_takes_over_from_a_closed_starter(make: Make, leave: Callable[[list[AnyCall]], object]) -> None:
    _, calls = at_once(make, 4)
    waiting = calls[1:]
    signals = [signal_of(call) for call in waiting]
    leave(calls)
    assert all(signal.is_set() for signal in signals)
    assert [asks(call, 1) for call in waiting] == ["start_session", "Wait", "Wait"]
    assert not any(signal_of(call, 1).is_set() for call in waiting[1:])
    tell(waiting[0], OPENED)
    assert [asks(call, 2) for call in waiting] == ["submit n1"] * 3


@both
def test_a_later_call_may_take_over_before_the_waiting_ones(make: Make) -> None:
    site, (starter, waiting) = at_once(make, 2)
    starter.close()
    later = make(site, "Later?")
    assert (asks(later), asks(waiting)) == ("start_session", "Wait")
    assert ended(starter) == [replace(LEFT, asked=False)]


@both
def test_a_starter_that_times_out_ends_all_waiting_calls(make: Make) -> None:
    _, calls = at_once(make, 3)
    until = calls[0].next_step(0)[1]
    words = "start_session: no answer within 300 s (timeout 'first_event'), after 0 events"
    expected = Broken(Reason.TIMEOUT, words, limit="first_event", in_session=True)
    if make is Channel.http_call:
        expected = replace(expected, detail=words.replace("300", "340"))
    assert ended(calls[0], until) == [expected]
    assert [ended(call, 1) for call in calls] == [[], [expected], [expected]]


@both
def test_a_waiting_call_may_be_closed_and_the_others_go_on(make: Make) -> None:
    _, (starter, leaving, waiting) = at_once(make, 3)
    signals = [signal_of(call) for call in (leaving, waiting)]
    leaving.close()
    assert [signal.is_set() for signal in signals] == [True, False]
    assert ended(leaving) == [LEFT]
    tell(starter, OPENED)
    assert asks(waiting) == "submit n1"


@both
@pytest.mark.parametrize("is_told", [True, False])
@pytest.mark.parametrize("signal", [threading.Event, None])
def test_a_waiting_call_that_times_out_ends_and_the_others_go_on(make: Make, is_told: bool, signal: Any) -> None:
    site = channel(signal=signal)
    starter, patient, late = (make(site, "Hi?") for _ in range(3))
    asks(starter)
    assert late.next_step(7)[1] == 347
    assert patient.next_step(100)[1] == 440
    if is_told:
        late.timed_out()
    assert ended(late, 347) == [Broken(Reason.TIMEOUT, WAITED, limit="first_event", in_session=True)]
    tell(starter, OPENED)
    assert (asks(patient, 400), asks(starter, 400)) == ("submit n1", "submit n1")


@both
@pytest.mark.parametrize("timers", [0, 1, 2])
@pytest.mark.parametrize(
    ("happens", "expected"),
    [
        (lambda starter: tell(starter, OPENED), "submit n1"),
        (lambda starter: starter.close(), "start_session"),
        (lambda starter: tell(starter, DOWN), "Done"),
    ],
)
def test_a_waiting_call_that_times_out_acts_on_what_came_before(
    make: Make, timers: int, happens: Callable[[AnyCall], object], expected: str
) -> None:
    seen: list[object] = []
    _, (starter, waiting) = at_once(make, 2, observer=lambda _, item: seen.append(item))
    happens(starter)
    for _ in range(timers):
        waiting.timed_out()
    assert asks(waiting, 300) == expected
    assert TimedOut("first_event") not in seen
    assert taken(waiting) == ([NO_SESSION] if expected == "Done" else [])


@pytest.mark.parametrize("timers", [0, 1])
@pytest.mark.parametrize(("session", "reply"), [(None, OPENED), (Session("n0"), STALE)])
def test_an_early_answer_ends_the_clock_of_its_send(timers: int, session: Session | None, reply: Reply) -> None:
    call = channel(session=session).call("Hi?")
    call.next_step(0)
    call.step_done()
    assert call.next_step(0)[1] == 30
    call.receive_data(reply.data)
    for _ in range(timers):
        call.timed_out()  # an old timer
    assert call.next_step(29) == (Connect("site.example", 80), 39)
