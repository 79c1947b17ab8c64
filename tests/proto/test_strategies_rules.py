"""The rules for machines hold for `Client` and `Call`, and find each wrapper that breaks one."""

import contextlib
import copy
import math
from functools import partial
from typing import Any, ClassVar

import pytest
from hypothesis import Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from opchat_proto import (
    Broken,
    Channel,
    Client,
    Done,
    Endpoint,
    Event,
    Flow,
    Live,
    LocalProtocolError,
    Proxy,
    Reason,
    Receive,
    StartTLS,
    strategies,
)

ONE_FAULT = settings(
    max_examples=1000,  # stops at the first fault
    stateful_step_count=20,
    deadline=None,
    database=None,
    phases=[Phase.generate],  # a fault need not be minimised
    report_multiple_bugs=False,
)


def find_fault(rules: type[Any]) -> None:
    run_state_machine_as_test(rules, settings=ONE_FAULT)


class Wrapper:
    """A `Client` in a wrapper that changes nothing. Each subclass below breaks one rule."""

    def __init__(self, flow: Flow, *, proxy: Proxy | None = None) -> None:
        self.client = Client(flow, proxy=proxy)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.client, name)


TestClientRules = strategies.client_rules(Client).TestCase

TestWrapperRules = strategies.client_rules(Wrapper).TestCase


class ForgetsTheEnd(Wrapper):
    def receive_eof(self) -> list[Event]:
        return [event for event in self.client.receive_eof() if isinstance(event, Live)]


class SaysTheEndTwice(Wrapper):
    def step_failed(self, detail: str, reason: Reason = Reason.LOST) -> list[Event]:
        is_over = self.client.next_step() == Done()
        return self.client.step_failed(detail, reason) or ([Broken(reason, detail)] if is_over else [])


class HidesFaultsOfItsCaller(Wrapper):
    def step_done(self) -> None:
        with contextlib.suppress(LocalProtocolError):
            self.client.step_done()


class LosesPieces(Wrapper):
    def receive_data(self, data: bytes) -> list[Event]:
        return [event for event in self.client.receive_data(data) if not isinstance(event, Live)]


class SkipsTLS(Wrapper):
    def next_step(self) -> Any:
        step = self.client.next_step()
        if isinstance(step, StartTLS):
            self.client.step_done()
            step = self.client.next_step()
        return Receive() if isinstance(step, Done) else step


class GivesUpWhatWasCutOff(Wrapper):
    def step_failed(self, detail: str, reason: Reason = Reason.LOST) -> list[Event]:
        return self.client.step_failed(detail, reason) or self.client.close()


class MindsLateNews(Wrapper):
    def receive_eof(self) -> list[Event]:
        return self.client.receive_eof() or self.client.close()


class StaysAfterClose(Wrapper):
    def close(self) -> list[Event]:
        return []


class AsksAgain(Wrapper):
    """Repeat a question that got no answer."""

    def __init__(self, flow: Flow, *, proxy: Proxy | None = None) -> None:
        self.again = copy.deepcopy(flow)
        self.proxy = proxy
        super().__init__(flow, proxy=proxy)

    def receive_eof(self) -> list[Event]:
        events = self.client.receive_eof()
        match events:
            case [Broken(Reason.LOST)]:
                self.client = Client(copy.deepcopy(self.again), proxy=self.proxy)
                return []
        return events


@pytest.mark.parametrize(
    "faulty",
    [
        ForgetsTheEnd,
        SaysTheEndTwice,
        HidesFaultsOfItsCaller,
        LosesPieces,
        SkipsTLS,
        MindsLateNews,
        StaysAfterClose,
        # Finding these takes several seconds, so in a sample one of them is enough.
        pytest.param(GivesUpWhatWasCutOff, marks=pytest.mark.sample(2)),
        pytest.param(AsksAgain, marks=pytest.mark.sample(2)),
    ],
)
def test_the_rules_find_a_wrapper_that_breaks_them(faulty: type[Wrapper]) -> None:
    with pytest.raises((AssertionError, LocalProtocolError)):
        find_fault(strategies.client_rules(faulty))


TestCallRules = strategies.call_rules().TestCase


class CallWrapper:
    """A `Call` in a wrapper that changes nothing. Each subclass below breaks one rule."""

    def __init__(self, channel: Channel) -> None:
        self.channel = channel
        self.call = channel.call("Hi?")

    def __getattr__(self, name: str) -> Any:
        return getattr(self.call, name)


class ChannelWrapper:
    """A `Channel` whose calls are wrapped."""

    def __init__(self, kind: type[CallWrapper], endpoint: Endpoint, **options: Any) -> None:
        self.kind = kind
        self.channel = Channel(endpoint, **options)

    def call(self, question: str) -> CallWrapper:
        return self.kind(self.channel)


TestCallWrapperRules = strategies.call_rules(partial(ChannelWrapper, CallWrapper)).TestCase


class NeverTimesOut(CallWrapper):
    def next_step(self, now: float) -> Any:
        return self.call.next_step(0)


class HasNoClocks(CallWrapper):
    def next_step(self, now: float) -> Any:
        return self.call.next_step(0)[0], math.inf


class StartsItsClockAnew(CallWrapper):
    def next_step(self, now: float) -> Any:
        step, until = self.call.next_step(0)
        return step, until + now


class GivesTheEndBeforeDone(CallWrapper):
    def next_event(self) -> Event | None:
        event = self.call.next_event()
        if event is None:
            self.call.next_step(0)
            event = self.call.next_event()
        return event


class KeepsTheEnd(CallWrapper):
    def next_event(self) -> Event | None:
        event = self.call.next_event()
        return event if isinstance(event, Live) else None


class SendsTwice(CallWrapper):
    """Repeat a question that got no answer."""

    def receive_eof(self) -> None:
        sent = isinstance(self.call.next_step(0)[0], Receive)
        self.call.receive_eof()
        if sent and self.call.next_step(0)[0] == Done():
            self.call = self.channel.call("Hi?")


class HidesFaults(CallWrapper):
    def step_done(self) -> None:
        with contextlib.suppress(LocalProtocolError):
            self.call.step_done()


class Leaks(CallWrapper):
    """It is referenced elsewhere, so dropping it is not enough."""

    held: ClassVar[list[Any]] = []

    def __init__(self, channel: Channel) -> None:
        super().__init__(channel)
        self.held.append(self.call)


class StartsASessionItself(CallWrapper):
    """Has a channel of its own, and so its own start_session."""

    def __init__(self, channel: Channel) -> None:
        options = {"proxy": channel.proxy, "timeouts": channel.timeouts, "limits": channel.limits}
        super().__init__(Channel(channel.endpoint, session=channel.session, **options))  # type: ignore[arg-type]  # any options


@pytest.mark.parametrize(
    "faulty",
    [
        NeverTimesOut,
        HasNoClocks,
        StartsItsClockAnew,
        GivesTheEndBeforeDone,
        KeepsTheEnd,
        SendsTwice,
        HidesFaults,
        Leaks,
        StartsASessionItself,
    ],
)
def test_the_rules_find_a_call_that_breaks_them(faulty: type[CallWrapper]) -> None:
    with pytest.raises(AssertionError):
        find_fault(strategies.call_rules(partial(ChannelWrapper, faulty)))


class Mute:
    """A signal that is never seen."""

    def set(self) -> None:
        pass

    def is_set(self) -> bool:
        return False


def test_the_rules_find_a_channel_that_wakes_no_call() -> None:
    def factory(endpoint: Endpoint, **options: Any) -> Channel:
        return Channel(endpoint, **options | {"signal": options["signal"] and Mute})

    with pytest.raises(AssertionError, match="the step changed"):
        find_fault(strategies.call_rules(factory))
