"""The items that an observer receives, and what it may do."""

import math
from collections import Counter
from typing import Any

import pytest

from opchat_proto import (
    Broken,
    Channel,
    DataReceived,
    Done,
    EOFReceived,
    Event,
    Live,
    Reason,
    Session,
    TimedOut,
    Timeouts,
)
from tests.proto.asking import ANSWERED, END, HI
from tests.proto.calls import CLOSED, CUT, AnyCall, Make, asks, begin, both, channel, ended, kinds, reach_nobody, taken


class Sick:
    """An observer that raises at the first items of some types."""

    def __init__(self, *names: str) -> None:
        self.names = list(names)
        self.seen: list[str] = []

    def __call__(self, call: object, item: object) -> None:
        self.seen += kinds([item])
        if self.names and self.seen[-1] == self.names[0]:
            raise RuntimeError(self.names.pop(0))


@both
def test_an_exception_of_an_observer_propagates_and_no_event_is_lost_or_reordered(make: Make) -> None:
    observer = Sick("DataReceived", "Live", "End", "Done")
    call = make(channel(session=Session(), observer=observer), "Hi?")
    asks(call)
    before = len(observer.seen)
    with pytest.raises(RuntimeError, match=r"^DataReceived$"):
        begin(call, HI + HI)
    with pytest.raises(RuntimeError, match=r"^Live$"):
        call.next_step(0)
    with pytest.raises(RuntimeError, match=r"^End$"):
        call.receive_data(HI + END)
    with pytest.raises(RuntimeError, match=r"^Done$"):
        call.next_step(0)
    assert call.next_step(0) == (Done(), math.inf)
    assert taken(call) == [Live("Hi"), Live("Hi"), *ANSWERED]
    head = [] if make is Channel.call else ["HeadReceived"]
    pieces = ["DataReceived", "Live", "Live", "Receive", "DataReceived", "Live", "End", "Done"]
    assert observer.seen[before:] == head + pieces


@pytest.mark.parametrize(
    ("make", "name", "expected"),
    [
        (Channel.call, "Connect", [Broken(Reason.LOST, CLOSED)]),
        (Channel.call, "DataReceived", [Live("Hi"), CUT]),
        (Channel.call, "Live", [Live("Hi"), CUT]),
        (Channel.http_call, "Request", [Broken(Reason.LOST, CLOSED, asked=True)]),
        (Channel.http_call, "HeadReceived", [CUT]),
        (Channel.http_call, "Live", [Live("Hi"), CUT]),
    ],
)
def test_an_observer_may_close_and_take_steps_and_events(make: Make, name: str, expected: list[Event]) -> None:
    seen: list[str] = []
    events: list[Event] = []

    def observe(call: AnyCall, item: object) -> None:
        if kinds([item]) == [name]:
            call.close()
            events.extend(ended(call))
        seen.extend(kinds([item]))  # at the end, since it is not called again before

    call = make(channel(session=Session(), observer=observe), "Hi?")
    call.next_step(0)
    if CUT in expected:
        asks(call)
        begin(call, HI)
    assert events == expected
    assert seen[-3:] == ["Closed", "Broken", "Done"]
    assert seen.count(name) == seen.count("Closed") == seen.count("Broken") == seen.count("Done") == 1


class Watched:
    """A lock that knows whether it is held."""

    def __init__(self) -> None:
        self.depth = 0

    def __enter__(self) -> None:
        self.depth += 1

    def __exit__(self, *_: object) -> None:
        self.depth -= 1


@both
def test_the_lock_is_held_during_changes_but_not_while_the_observer_runs(make: Make) -> None:
    lock = Watched()
    changing: list[tuple[str, int]] = []
    observing: list[int] = []

    class Bell:
        def __init__(self) -> None:
            changing.append(("new signal", lock.depth))

        def set(self) -> None:
            changing.append(("set", lock.depth))

    def draw() -> float:
        changing.append(("draw", lock.depth))
        return 0.0

    options: dict[str, Any] = {"lock": lock, "signal": Bell, "random": draw, "retries": 1}
    site = channel(observer=lambda _, __: observing.append(lock.depth), **options)
    starter, waiting, leaving = (make(site, "Hi?") for _ in range(3))
    starter.next_step(0)
    assert [asks(call) for call in (waiting, leaving)] == ["Wait", "Wait"]
    leaving.close()
    reach_nobody(starter)
    assert (asks(waiting), asks(starter)) == ("Wait", "Wait")
    assert Counter(changing) == {("new signal", 1): 4, ("set", 1): 2, ("draw", 1): 2}
    assert set(observing) == {0}
    assert lock.depth == 0


@both
def test_an_observer_gets_what_was_reported(make: Make) -> None:
    seen: list[Any] = []
    site = channel(session=Session(), timeouts=Timeouts(idle=1), observer=lambda _, item: seen.append(item))
    for report in ("receive_eof", "timed_out"):
        call = make(site, "Hi?")
        asks(call)
        begin(call, HI)
        call.next_step(0)
        getattr(call, report)()
        ended(call)
    data = HI if make is Channel.http_call else b"HTTP/1.1 200 -\r\n\r\n" + HI
    reports = [item for item in seen if isinstance(item, DataReceived | EOFReceived | TimedOut)]
    assert reports == [DataReceived(data), EOFReceived(), DataReceived(data), TimedOut("idle")]
