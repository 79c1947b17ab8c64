"""Which questions are retried, how often, and after how long."""

import math
import random
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from opchat_proto import Broken, Call, Channel, HTTPCall, Reason, Receive, Session, Wait
from tests.proto.asking import ANSWERED, HI
from tests.proto.calls import (
    DOWN,
    GOOD,
    NO_CONNECTION,
    OPENED,
    STALE,
    AnyCall,
    Make,
    Reply,
    asks,
    begin,
    both,
    channel,
    ended,
    put_off,
    reach_nobody,
    refused,
    signal_of,
    taken,
    tell,
)

# ------------------------------------------------------------------------------------------------ the numbers


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        ({"retries": True}, TypeError, r"^retries: expected an int, got bool$"),
        ({"retries": "1"}, TypeError, r"^retries: expected an int, got str$"),
        ({"retries": -1}, ValueError, r"^retries: expected 0 or more, got -1$"),
        ({"longest_wait": True}, TypeError, r"^longest_wait: expected seconds, got bool$"),
        ({"longest_wait": None}, TypeError, r"^longest_wait: expected seconds, got NoneType$"),
        ({"longest_wait": -0.5}, ValueError, r"^longest_wait: expected 0 or more seconds, got -0.5$"),
        ({"longest_wait": math.nan}, ValueError, r"^longest_wait: expected 0 or more seconds, got nan$"),
        ({"random": 0.5}, TypeError, r"^random: expected a random.Random, got float$"),
    ],
)
def test_invalid_numbers_are_named(options: dict[str, Any], error: type[Exception], match: str) -> None:
    with pytest.raises(error, match=match):
        channel(**options)


# ------------------------------------------------------------------------------------------------ pauses


def pauses(make: Make, **options: Any) -> list[float]:
    """The pauses before each retry of a question that does not reach the server."""
    call = make(channel(session=Session(), **options), "Hi?")
    seconds: list[float] = []
    now = 0.0
    while not asks_nobody(call, now):
        step, until = call.next_step(now)
        assert isinstance(step, Wait)
        seconds.append(until - now)
        now = until
    assert call.retries == len(seconds)
    assert ended(call, now) == [NO_CONNECTION[type(call)]]
    return seconds


def asks_nobody(call: AnyCall, now: float) -> bool:
    """Start to ask, and fail to connect. Returns whether the call is over."""
    call.next_step(now)
    reach_nobody(call)
    return " LAST " in repr(call)


@both
@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, []),
        ({"retries": 1}, [1]),
        ({"retries": 6}, [1, 2, 4, 8, 8, 8]),
        ({"retries": 3, "longest_wait": 1.5}, [1, 1.5, 1.5]),
        ({"retries": 2, "longest_wait": 0.25}, [0.25, 0.25]),
        ({"retries": 5, "random": lambda: 0.0}, [0.5] * 5),
        ({"retries": 5, "random": lambda: 0.5}, [0.75, 1.25, 2.25, 4.25, 4.25]),
    ],
)
def test_the_pause_grows_up_to_a_bound_and_jitter_shortens_it(
    make: Make, options: dict[str, Any], expected: list[float]
) -> None:
    assert pauses(make, **options) == expected


def test_a_long_series_of_retries_ends_too() -> None:
    assert pauses(Channel.http_call, retries=2000)[-1] == 8


@pytest.mark.parametrize("source", [random.Random(7), random.Random(7).random, random])
def test_jitter_comes_from_a_random_source_or_its_method(source: Any) -> None:
    seconds = pauses(Channel.call, retries=20, random=source)
    assert all(0.5 <= pause < bound for pause, bound in zip(seconds, [1, 2, 4, *[8] * 17], strict=True))
    assert len(set(seconds)) > 1


def test_calls_that_failed_together_are_not_retried_together() -> None:
    site = channel(retries=1, random=random.Random(7))
    calls = [site.call("Hi?") for _ in range(20)]
    for call in calls:
        call.next_step(0)
    calls[0].step_failed("refused")
    assert len({call.next_step(0)[1] for call in calls}) == 20


# ------------------------------------------------------------------------------------------------ Retry-After


@both
@pytest.mark.parametrize("status", [429, 503])
def test_a_retry_after_is_followed_and_never_shortened(make: Make, status: int) -> None:
    call = make(channel(session=Session(), retries=1, random=lambda: 0.0, signal=threading.Event), "Hi?")
    asks(call)
    tell(call, Reply(b"later", status, (("Retry-After", "5"),)))
    step, until = call.next_step(100)
    assert (type(step), until, call.retries) == (Wait, 105, 0)
    assert (asks(call, 104.999), taken(call)) == ("Wait", [])
    assert (asks(call, 105), call.retries) == ("submit None", 1)
    tell(call, GOOD)
    assert ended(call) == ANSWERED


@both
@pytest.mark.parametrize(
    ("seconds", "options", "is_retried"),
    [
        (5, {}, True),
        (30, {}, True),
        (31, {}, False),
        (600, {}, False),
        (600, {"longest_wait": 600}, True),
        (600, {"longest_wait": math.inf}, True),
        (1, {"longest_wait": 0.5}, False),
        (0, {"longest_wait": 0}, True),
        (5, {"retries": 0}, False),
    ],
)
def test_a_retry_after_beyond_longest_wait_is_not_retried(
    make: Make, seconds: int, options: dict[str, Any], is_retried: bool
) -> None:
    call = make(channel(session=Session(), **{"retries": 1, **options}), "Hi?")
    asks(call)
    tell(call, put_off(seconds))
    if is_retried:
        step, until = call.next_step(100)
        assert (isinstance(step, Wait), until == 100 + seconds) == (seconds > 0, seconds > 0)
        call.next_step(100 + seconds)
        assert call.retries == 1
    else:
        assert ended(call) == [refused(seconds)]


@both
def test_a_question_that_was_postponed_counts_as_asked_though_no_retry_reaches_the_server(make: Make) -> None:
    call = make(channel(session=Session(), retries=2), "Hi?")
    asks(call)
    tell(call, put_off(0))
    call.next_step(0)
    reach_nobody(call)
    assert asks(call) == "Wait"
    call.next_step(100)
    reach_nobody(call)
    assert call.retries == 2
    assert ended(call, 100) == [replace(NO_CONNECTION[type(call)], asked=True)]


@both
def test_a_retry_after_of_zero_is_retried_without_a_pause(make: Make) -> None:
    call = make(channel(session=Session(), retries=2), "Hi?")
    for made in range(3):
        assert (asks(call, 7), call.retries) == ("submit None", made)
        tell(call, put_off(0))
    assert ended(call, 7) == [refused(0)]


@both
def test_a_timer_ends_only_a_pause_that_has_begun(make: Make) -> None:
    call = make(channel(session=Session(), retries=1), "Hi?")
    call.next_step(0)
    reach_nobody(call)
    call.timed_out()
    assert call.next_step(1) == (Wait(None), 2)
    call.timed_out()
    assert asks(call, 1) == "submit None"
    tell(call, put_off(1))
    assert ended(call) == [refused(1)]


@both
@pytest.mark.parametrize("is_waiting", [True, False])
def test_closing_during_the_pause_gives_the_broken_that_led_to_it(make: Make, is_waiting: bool) -> None:
    call = make(channel(session=Session(), retries=1, signal=threading.Event), "Hi?")
    asks(call)
    tell(call, put_off(5))
    signal = signal_of(call) if is_waiting else threading.Event()
    call.close()
    assert signal.is_set() is is_waiting
    assert ended(call) == [refused(5)]


@both
def test_a_postponed_start_session_is_repeated_with_the_question(make: Make) -> None:
    call = make(channel(retries=1), "Hi?")
    assert asks(call) == "start_session"
    tell(call, put_off(5))
    assert [asks(call, now) for now in (0, 4, 5)] == ["Wait", "Wait", "start_session"]
    tell(call, OPENED)
    assert asks(call, 6) == "submit n1"
    tell(call, put_off(5))
    assert ended(call, 6) == [refused(5)]


@both
def test_a_retried_question_may_renew_its_nonce_again(make: Make) -> None:
    call = make(channel(session=Session("n0"), retries=1), "Hi?")
    for reply, asked_for in ((STALE, "submit n0"), (OPENED, "start_session"), (put_off(0), "submit n1")):
        assert asks(call) == asked_for
        tell(call, reply)
    for reply, asked_for in ((STALE, "submit n1"), (OPENED, "start_session"), (GOOD, "submit n1")):
        assert asks(call) == asked_for
        tell(call, reply)
    assert ended(call) == ANSWERED


# ------------------------------------------------------------------------------------------------ unsent questions


def cut_off_page(call: AnyCall) -> None:
    begin(call, b"<html>")
    call.receive_eof()


def cut_off_answer(call: AnyCall) -> None:
    begin(call, HI)
    call.step_failed("reset")


FORBIDDEN = Reply(b"no", 403, (("Retry-After", "5"),))

# What happens to a call that has asked or only begun to, whether it has a session, and whether it is retried.
ENDS: list[tuple[bool, Callable[[Any], None], bool, bool]] = [
    (False, lambda call: call.timed_out(), False, True),
    (False, lambda call: call.step_failed("no way", Reason.PROXY), False, True),
    (True, lambda call: call.step_failed("reset"), False, True),
    (True, lambda call: call.receive_eof(), False, True),
    (True, lambda call: tell(call, DOWN), False, False),
    (True, cut_off_page, False, False),
    (True, lambda call: call.step_failed("reset"), True, False),
    (True, lambda call: call.step_failed("no way", Reason.PROXY), True, False),
    (True, lambda call: call.receive_eof(), True, False),
    (True, lambda call: call.timed_out(), True, False),
    (True, cut_off_answer, True, False),
    (True, lambda call: tell(call, DOWN), True, False),
    (True, lambda call: tell(call, FORBIDDEN), True, False),
]


@both
@pytest.mark.parametrize(("has_asked", "end", "has_session", "is_retried"), ENDS)
def test_a_question_is_retried_only_if_the_server_cannot_have_read_it(
    make: Make, has_asked: bool, end: Callable[[AnyCall], None], has_session: bool, is_retried: bool
) -> None:
    call = make(channel(session=Session() if has_session else None, retries=1), "Hi?")
    if has_asked:
        asks(call)
    call.next_step(0)
    end(call)
    if is_retried:
        assert call.next_step(0) == (Wait(None), 1)
        assert (asks(call, 1), call.retries) == ("start_session", 1)
    else:
        [*_, last] = ended(call)
        assert isinstance(last, Broken)
        assert (last.asked, last.in_session, call.retries) == (has_session, not has_session, 0)


@pytest.mark.parametrize("steps", [0, 1])
@pytest.mark.parametrize("reason", [Reason.LOST, Reason.TIMEOUT, Reason.PROXY])
def test_a_failed_connection_is_retried(steps: int, reason: Reason) -> None:
    call = Channel("https://site.example", session=Session(), retries=1).call("Hi?")
    for _ in range(steps):
        call.next_step(0)
        call.step_done()
    call.next_step(0)
    call.step_failed("no way", reason)
    assert call.next_step(0) == (Wait(None), 1)
    assert (asks(call, 1), call.retries) == ("submit None", 1)


@pytest.mark.parametrize("sending", ["late", "failed", "lost"])
def test_a_partly_sent_question_is_not_retried(sending: str) -> None:
    call = channel(session=Session(), retries=1).call("Hi?")
    call.next_step(0)
    call.step_done()
    call.next_step(0)
    if sending == "late":
        call.timed_out()
    elif sending == "failed":
        call.step_failed("no way", Reason.PROXY)
    else:
        call.step_failed("broken pipe")
        assert call.next_step(0)[0] == Receive()
        call.receive_eof()
    [last] = ended(call)
    assert isinstance(last, Broken)
    assert (last.asked, call.retries) == (True, 0)


@pytest.mark.parametrize(
    ("heads", "sent", "asked"),
    [([], False, False), ([], True, True), ([100], False, True), ([200], False, True)],
)
def test_a_request_was_not_sent_if_the_library_says_so_and_no_head_has_come(
    heads: list[int], sent: bool, asked: bool
) -> None:
    call = channel(session=Session(), retries=1).http_call("Hi?")
    asks(call)
    for status in heads:
        call.receive_head(status, [])
    call.step_failed("no way", sent=sent)
    if asked:
        assert ended(call) == [Broken(Reason.TRUNCATED if heads == [200] else Reason.LOST, "no way", asked=True)]
    else:
        assert (asks(call), call.retries) == ("Wait", 0)
        assert (asks(call, 1), call.retries) == ("submit None", 1)


def test_a_second_submit_may_have_been_read_like_the_first() -> None:
    call: Call | HTTPCall
    for make in (Channel.call, Channel.http_call):
        call = make(channel(session=Session("n0"), retries=1), "Hi?")
        for asked_for, reply in (("submit n0", STALE), ("start_session", OPENED)):
            assert asks(call) == asked_for
            tell(call, reply)
        call.next_step(0)
        reach_nobody(call)
        [last] = ended(call)
        assert isinstance(last, Broken)
        assert (last.reason, last.asked, call.retries) == (Reason.LOST, True, 0)


def test_an_unsent_start_session_is_retried() -> None:
    call = channel(retries=1).http_call("Hi?")
    assert asks(call) == "start_session"
    call.step_failed("no way", Reason.PROXY, sent=False)
    assert [asks(call), asks(call, 1)] == ["Wait", "start_session"]
    call.step_failed("no way", Reason.PROXY)
    assert ended(call) == [Broken(Reason.PROXY, "start_session: no way", in_session=True)]
