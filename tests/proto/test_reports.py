"""The driver's reports, as an observer receives them."""

import dataclasses
from collections.abc import Callable
from typing import Any, get_args

import pytest

import opchat_proto
from opchat_proto import (
    Broken,
    Channel,
    Closed,
    Connect,
    DataReceived,
    Done,
    EOFReceived,
    HeadReceived,
    Live,
    Reason,
    Receive,
    Report,
    Session,
    StepDone,
    StepFailed,
    TimedOut,
    Wait,
)
from tests.proto.asking import HI
from tests.proto.calls import CLOSED, OPENED, Make, asks, at_once, both, channel, ended, kinds, tell
from tests.proto.cuts import copies

SECRET = "s3cr3t"
REPORTS: list[tuple[Report, str]] = [
    (StepDone(), "StepDone()"),
    (StepFailed("refused", Reason.LOST), "StepFailed(detail='refused', reason=<Reason.LOST: 'lost'>)"),
    (HeadReceived(200, (("Set-Cookie", SECRET),)), "HeadReceived(status=200)"),
    (DataReceived(SECRET.encode()), "DataReceived()"),
    (EOFReceived(), "EOFReceived()"),
    (TimedOut("idle"), "TimedOut(limit='idle')"),
    (Closed(), "Closed()"),
]


def test_every_report_is_public() -> None:
    assert {type(report) for report, _ in REPORTS} == set(get_args(Report))
    assert all(getattr(opchat_proto, kind.__name__) is kind for kind in get_args(Report))


@pytest.mark.parametrize(("report", "shown"), REPORTS)
def test_a_report_is_a_value_that_shows_no_secret(report: Report, shown: str) -> None:
    assert repr(report) == shown
    for copied in copies(report):
        assert copied == report
        assert hash(copied) == hash(report)
    assert all(report != other for other, _ in REPORTS if other is not report)
    names = [field.name for field in dataclasses.fields(report)]
    assert names == list(type(report).__match_args__)
    for name in [*names, "more"]:
        with pytest.raises((AttributeError, TypeError)):  # a frozen class with slots raises either one for a new name
            setattr(report, name, None)


def test_each_report_is_named_after_its_method() -> None:
    seen: list[Any] = []
    site = channel(session=Session(), retries=9, observer=lambda _, item: seen.append(item))
    calls: list[tuple[Callable[[Any], object], Report]] = [
        (lambda call: call.step_done(), StepDone()),
        (lambda call: call.step_failed("refused"), StepFailed("refused", Reason.LOST)),
        (lambda call: call.receive_data(memoryview(b"H")), DataReceived(b"H")),
        (lambda call: call.receive_eof(), EOFReceived()),
        (lambda call: call.timed_out(), TimedOut("connect")),
        (lambda call: call.close(), Closed()),
    ]
    for report, expected in calls:
        call = site.call("Hi?")
        call.next_step(0)
        seen.clear()
        report(call)
        assert seen[0] == expected
    asking = site.http_call("Hi?")
    asking.next_step(0)
    seen.clear()
    asking.receive_head(200, iter([(b"A", "b")]))
    assert seen == [HeadReceived(200, ((b"A", "b"),))]


def test_an_ignored_or_refused_report_is_not_observed() -> None:
    seen: list[Any] = []
    call = channel(session=Session(), observer=lambda _, item: seen.append(item)).http_call("Hi?")
    call.next_step(0)
    seen.clear()
    with pytest.raises(opchat_proto.LocalProtocolError):
        call.receive_data(b"H")
    assert seen == []
    call.close()
    seen.clear()
    call.receive_head(200, [])
    call.receive_data(b"H")
    call.receive_eof()
    call.step_failed("reset")
    call.timed_out()
    call.close()
    assert seen == []


# ------------------------------------------------------------------------------------------------ order


def test_the_observer_gets_steps_once_and_reports_and_events_in_order() -> None:
    seen: list[Any] = []
    call = channel(session=Session(), retries=1, observer=lambda who, item: seen.append((who, item))).call("Hi?")
    call.next_step(0)
    call.step_failed("refused", Reason.PROXY)
    for now in (0, 0, 1, 1):
        call.next_step(now)
    call.step_done()
    send = call.next_step(1)[0]
    call.receive_data(b"HTTP")  # an early answer
    call.next_step(2)
    call.step_done()
    call.next_step(3)
    call.receive_data(bytearray(b"/1.1 200 -\r\n\r\n"))
    for now in (4, 4):
        call.next_step(now)
    call.receive_data(HI + HI)
    call.next_step(5)
    call.receive_eof()
    call.step_failed("late")
    broken = Broken(Reason.TRUNCATED, "the answer ended without its end event", asked=True)
    assert ended(call) == [Live("Hi"), Live("Hi"), broken]
    assert [item for _, item in seen] == [
        Connect("site.example", 80),
        StepFailed("refused", Reason.PROXY),
        Wait(None),
        Connect("site.example", 80),
        StepDone(),
        send,
        DataReceived(b"HTTP"),
        StepDone(),
        Receive(),
        DataReceived(b"/1.1 200 -\r\n\r\n"),
        Receive(),
        DataReceived(HI + HI),
        Live("Hi"),
        Live("Hi"),
        Receive(),
        EOFReceived(),
        broken,
        Done(),
    ]
    assert {who for who, _ in seen} == {call}


def test_the_observer_of_an_http_library_gets_heads_and_clocks() -> None:
    seen: list[Any] = []
    call = channel(session=Session(), observer=lambda _, item: seen.append(item)).http_call("Hi?")
    request = call.next_step(0)[0]
    call.receive_head(100, iter([(b"A", b"b")]))
    call.next_step(1)
    call.receive_head(200, [("C", "d")])
    call.next_step(2)
    words = "no event of the answer within 300 s (timeout 'first_event'), after 0 events"
    broken = Broken(Reason.TIMEOUT, words, limit="first_event", asked=True)
    assert ended(call, 302) == [broken]
    heads = [HeadReceived(100, ((b"A", b"b"),)), HeadReceived(200, (("C", "d"),))]
    assert seen == [request, *heads, Receive(), TimedOut("first_event"), broken, Done()]


@both
def test_the_observer_gets_waits_and_a_close(make: Make) -> None:
    seen: list[Any] = []
    _, (starter, call) = at_once(make, 2, observer=lambda who, item: seen.append((who, item)))
    tell(starter, OPENED)
    asks(call)
    call.close()
    assert ended(call) == [Broken(Reason.LOST, CLOSED, asked=True)]
    mine = kinds(item for who, item in seen if who is call)
    steps = ["Connect", "StepDone", "Send", "StepDone"] if make is Channel.call else ["Request"]
    assert mine == ["Wait", *steps, "Closed", "Broken", "Done"]
