"""Any bytes on the connections of one `Call`, or of many over one `Channel`."""

import math
import random
import threading
from dataclasses import replace
from typing import Any

from opchat_proto import (
    Call,
    Channel,
    Connect,
    Done,
    Event,
    Limits,
    Live,
    LocalProtocolError,
    Query,
    Receive,
    Response,
    Send,
    StartTLS,
    Submit,
    Timeouts,
    Upload,
    Visit,
    Wait,
)
from tests.fuzz.drawing import ENDPOINTS, MOST_CALLS, PROXIES, QUESTION, SESSIONS, UPLOAD, as_bytes, draw_plan
from tests.fuzz.oracles import Again, Choices, Cut, check_all_ways, check_events, check_reply, check_secrets

_TIMEOUTS = (Timeouts(), Timeouts(connect=4, write=3, first_event=2, idle=1))
_SECONDS = (0.25, 1, 2, 7, 30, 120, 300, 1000)


def call(data: bytes) -> None:
    """Several questions at a time and any reports in any order: each has one reply, and is never sent twice."""
    choices = Choices(data)
    limits = choices.limits()
    session = choices.one_of(SESSIONS)
    endpoint = choices.one_of(ENDPOINTS)
    proxy = choices.one_of(PROXIES)
    retries = choices.number(3)
    timeouts = choices.one_of(_TIMEOUTS)
    signal = choices.one_of((None, threading.Event))
    count = 1 + choices.number(3)
    chance = random.Random(choices.number(256))
    has_file = [chance.random() < 0.3 for _ in range(count)]
    plan = [(chance.randrange(count), chance.choice(_SECONDS), action) for action in draw_plan(choices)]

    def run(cut: Cut, _: Again) -> tuple[Any, ...]:
        channel = Channel(
            endpoint, session=session, limits=limits, proxy=proxy, retries=retries, timeouts=timeouts, signal=signal
        )
        calls = _ManyCalls(channel, retries, limits, has_file)
        for place, seconds, action in plan:
            calls.act(calls.all[place], seconds, action, cut)
        calls.end()
        return [(it.events, it.sent) for it in calls.all], channel.session

    check_all_ways(choices, run)


class _OneCall:
    """A call, its steps and its events."""

    def __init__(self, call: Call) -> None:
        self.call = call
        self.step: Any = None
        self.until = math.inf
        self.is_reported = True  # whether that step was reported
        self.events: list[Event] = []
        self.sent: list[bytes] = []  # over all connections
        self.starts = False  # start_session was sent over this connection
        self.handed_out = False  # a Send that was not reported
        self.done = False
        self.submits = self.retries = 0
        self.refused = self.put_off = False  # by bytes that arrived since the question was last asked

    @property
    def over(self) -> bool:
        return bool(self.events) and not isinstance(self.events[-1], Live)


class _ManyCalls:
    """The calls of one channel, and the time."""

    def __init__(self, channel: Channel, retries: int, limits: Limits, has_file: list[bool]) -> None:
        self.retries = retries
        self.limits = limits
        self.now = 1000.0
        self.all = [_OneCall(channel.call(QUESTION, files=[UPLOAD] if has else [])) for has in has_file]

    def act(self, it: _OneCall, seconds: float, action: tuple[Any, ...], cut: Cut) -> None:
        match action:
            case ("answer", _, _, given, ends):
                for _ in range(MOST_CALLS):
                    if not isinstance(self.ask(it), Connect | StartTLS | Send):
                        break
                    self.report(it, "step_done")
                if given is not None:
                    self.receive(it, given, cut)
                if ends == 1:
                    self.report(it, "receive_eof")
                elif ends == 2:
                    self.report(it, "timed_out")
            case ("data", given):
                self.receive(it, given, cut)
            case ("eof",):
                self.report(it, "receive_eof")
            case ("failure", reason):
                self.report(it, "step_failed", "cut", reason)
            case ("close",):
                self.report(it, "close")
                assert self.ask(it) == Done()
            case ("interim", _):
                self.now += seconds
            case ("head", _, _):
                self.take(it)
            case ("step",):
                self.ask(it)
            case _:
                step = self.ask(it)
                if not isinstance(step, Receive | Wait):
                    self.report(it, "step_done")
                    return
                legal = True
                try:
                    it.call.step_done()
                except LocalProtocolError:
                    legal = False
                assert not legal, "an illegal report was taken"
                assert self.ask(it) == step, "an illegal report has changed something"

    def ask(self, it: _OneCall) -> Any:
        step, until = it.call.next_step(self.now)
        assert it.call.next_step(self.now) == (step, until)
        assert self.now < until, "a step whose time is over"
        assert (until == math.inf) == isinstance(step, Done), "a step without an end"
        if not it.is_reported and self.now < it.until and not self._is_woken(it.step):
            assert (step, until) == (it.step, it.until), "another step, though nothing was reported"
        check_secrets(it.call, step)
        if it.call.retries > it.retries:
            assert it.call.retries <= self.retries
            assert not it.submits or it.put_off, "a question was asked again that had been sent"
            it.retries, it.submits, it.refused, it.put_off = it.call.retries, 0, False, False
        it.step, it.until, it.is_reported, it.done = step, until, False, isinstance(step, Done)
        if not isinstance(step, Send | Receive):
            it.starts = False
        if isinstance(step, Send) and not it.handed_out:
            it.sent.append(step.data)
            if step.data.startswith(b"POST "):
                self.note(it, as_bytes(step.data))
        it.handed_out = isinstance(step, Send)
        return step

    @staticmethod
    def _is_woken(step: Any) -> bool:
        return isinstance(step, Wait) and (step.signal is None or step.signal.is_set())

    def note(self, it: _OneCall, asked: Response | Submit | Upload | Query | Visit) -> None:
        if isinstance(asked, Response):
            for other in self.all:
                if other.starts:
                    self.ask(other)  # it may have gone on
                    assert not other.starts, "two sessions are started at a time"
            it.starts = True
            return
        if isinstance(asked, Upload):
            assert it.call.upload == UPLOAD, "a file was sent that nobody attached, or after it was kept"
            assert not it.submits, "a file was sent after its question"
            return
        assert isinstance(asked, Submit)
        assert replace(asked, file_ids=()) == QUESTION
        assert it.call.upload is None, "a question was asked before its file was kept"
        it.submits += 1
        assert it.submits <= (1 + self.limits.restarts if it.refused else 1), "a question was sent again"

    def receive(self, it: _OneCall, given: bytes, cut: Cut) -> None:
        it.refused = it.refused or b" 401" in given or b" 403" in given
        it.put_off = it.put_off or b" 429" in given or b" 503" in given
        for piece in cut(given):
            self.report(it, "receive_data", piece)

    def report(self, it: _OneCall, method: str, *arguments: Any) -> None:
        getattr(it.call, method)(*arguments)
        it.is_reported = True
        if method in ("step_done", "step_failed"):
            it.handed_out = False

    def take(self, it: _OneCall) -> None:
        while (event := it.call.next_event()) is not None:
            assert not it.over, "an event after the last"
            assert isinstance(event, Live) or it.done, "the last event came before Done"
            it.events.append(event)
        check_events(it.events)
        assert it.over == it.done

    def end(self) -> None:
        """No more reports arrive, and time passes."""
        for _ in range(MOST_CALLS):
            for it in self.all:
                self.ask(it)
                self.take(it)
            if all(it.over for it in self.all):
                break
            self.now = min(it.until for it in self.all)
        else:
            raise AssertionError("it never ends")
        for it in self.all:
            check_reply(it.events)
