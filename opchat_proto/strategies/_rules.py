"""State machines that make any calls in any order, and check the promises of `Client`, `Channel` and `Call`."""

import math
import threading
from collections.abc import Callable
from typing import Any, NamedTuple

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from hypothesis.strategies import SearchStrategy

from .._channel import Channel
from .._clocks import Timeouts
from .._errors import LocalProtocolError
from .._events import Event, Live, Reason
from .._flow import Flow
from .._http import Endpoint
from .._limits import Limits
from .._messages import Submit
from .._session import Session
from .._steps import Connect, Done, Receive, Send, StartTLS, Wait
from .._tunnel import Proxy
from ._bodies import HTTPResponse, responses
from ._values import cuts, texts

__all__ = ["call_rules", "client_rules"]

_SESSION_ANSWER = (
    b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 49\r\n\r\n"
    b'{"success":true,"sessionId":"s1","restNonce":"n"}'
)
_CONNECTED = b"HTTP/1.1 200 Connection established\r\n\r\n"
_REPLIES_OF_PROXIES = (_CONNECTED, b"\5\2", b"\5\0", b"\1\0", b"\5\0\0\1\x7f\0\0\1\0\x50", b"\5\1\0\1\0\0\0\0\0\0")
_REFUSALS = (
    b'HTTP/1.1 401 No\r\nContent-Length: 25\r\n\r\n{"code":"rest_forbidden"}',
    b'HTTP/1.1 403 No\r\nContent-Length: 37\r\n\r\n{"code":"rest_cookie_invalid_nonce"} ',
    b'HTTP/1.1 404 No\r\nContent-Length: 24\r\n\r\n{"code":"rest_no_route"}',
    b"HTTP/1.1 503 No\r\nRetry-After: 7\r\nContent-Length: 0\r\n\r\n",
)
_BITS = (
    b"",
    b"HTTP/1.1 200 OK\r\n\r\n",
    b"HTTP/1.1 100 Continue\r\n\r\n",
    b"\r\n\r\n",
    b'data: {"type":"live","data":"Hi"}\n\n',
)
_PROXIES = (None, None, "http://proxy.example:3128", "https://u:p@proxy.example", "socks5://u:p@[::1]")


def _pieces_of_answers() -> SearchStrategy[bytes]:
    """Bytes that may come over a connection, in answer to any request."""
    known = st.sampled_from((_SESSION_ANSWER, *_REPLIES_OF_PROXIES, *_REFUSALS, *_BITS))
    return known | responses().map(lambda response: response.data) | st.binary(max_size=9)


def _reasons() -> SearchStrategy[Reason]:
    return st.just(Reason.LOST) | st.sampled_from(Reason)


def _kinds_of_steps() -> SearchStrategy[type[Any]]:
    return st.sampled_from([Receive, Receive, Connect, StartTLS, Send, Send])


class _Start(NamedTuple):
    session: Session | None
    restarts: int
    endpoint: Endpoint
    proxy: Proxy | None


def _starts() -> SearchStrategy[_Start]:
    return st.builds(
        _Start,
        st.sampled_from([None, Session(), Session("n0", "s0")]),
        st.integers(0, 1),
        st.sampled_from(["http://site.example", "https://site.example"]).map(Endpoint.parse),
        st.sampled_from(_PROXIES).map(lambda url: url and Proxy.parse(url)),
    )


class _ChannelStart(NamedTuple):
    start: _Start
    retries: int
    longest_wait: float
    timeouts: Timeouts
    has_signals: bool
    calls: int


def _channel_starts() -> SearchStrategy[_ChannelStart]:
    return st.builds(
        _ChannelStart,
        _starts(),
        st.sampled_from([0, 0, 1, 2]),
        st.sampled_from([5, 30]),  # shorter and longer than the Retry-After
        st.sampled_from([Timeouts(), Timeouts(connect=4, write=3, first_event=2, idle=1)]),
        st.booleans(),
        st.integers(1, 3),
    ).map(lambda it: it._replace(start=it.start._replace(session=None)) if it.calls > 1 else it)


def _is_submit(step: Send | None) -> bool:
    return step is not None and b"/chats/submit HTTP/1.1\r\n" in step.data


def _is_start(step: Send | None) -> bool:
    return step is not None and b"/start_session HTTP/1.1\r\n" in step.data


class _Asked:
    """A question, the machine that asks it, and what is known about it."""

    def __init__(self, machine: Any) -> None:
        self.machine = machine  # a client or a call
        self.events: list[Event] = []
        self.step: Any = None  # the step since the last report, or None
        self.until = math.inf
        self.begun = False
        self.done = False
        self.handed_out: Send | None = None  # not reported yet
        self.sent: Send | None = None  # the last Send over this connection
        self.fresh = False  # nothing unexpected has come over this connection
        self.received = b""  # since the question was last sent
        self.submits = 0  # how often it was sent since then
        self.retries = 0
        self.late = 0

    @property
    def over(self) -> bool:
        return bool(self.events) and not isinstance(self.events[-1], Live)

    @property
    def starts(self) -> bool:
        """Whether its start_session seems to be under way."""
        return _is_start(self.sent) and isinstance(self.step, Send | Receive | None)

    @property
    def may_start(self) -> bool:
        """Whether other calls may have to wait for it."""
        return self.begun and not self.done and not _is_submit(self.sent) and not isinstance(self.step, Wait)

    def is_same(self, now: float) -> bool:
        """Whether the next step must be the same as before."""
        if self.step is None or now >= self.until:
            return False
        return not isinstance(self.step, Wait) or (self.step.signal is not None and not self.step.signal.is_set())


_PLACES = st.integers(0, 3)
_asked = precondition(lambda self: self.asked)


class _Rules(RuleBasedStateMachine):
    """The rules that clients and calls share. Subclasses know how to ask and report."""

    asked: list[_Asked]
    restarts: int

    def next_step(self, it: _Asked) -> Any:
        """Ask for the next step, and check what this kind of machine promises about it."""

    def report(self, it: _Asked, method: str, *arguments: object) -> None:
        """Call this method, and take the events."""

    def take(self, it: _Asked) -> None:
        """Take all events."""

    def sends(self, it: _Asked, step: Send) -> None:
        """A new `Send` was handed out."""
        if _is_submit(step):
            it.submits += 1
            refused = b"401" in it.received or b"403" in it.received
            assert it.submits <= (1 + self.restarts if refused else 1), "a question was sent again"

    def ask(self, it: _Asked) -> Any:
        step = self.next_step(it)
        it.begun, it.step, it.done = True, step, isinstance(step, Done)
        if not isinstance(step, Send):
            it.handed_out = None
            if not isinstance(step, Receive):
                it.sent = None
        elif step != it.handed_out:
            it.handed_out = it.sent = step
            self.sends(it, step)
        return step

    def refuse(self, it: _Asked, method: str) -> None:
        """Check that this call is refused and changes nothing."""
        before = self.ask(it)
        try:
            getattr(it.machine, method)()
        except LocalProtocolError:
            pass
        else:
            raise AssertionError(f"a call that is not legal at {before} was accepted")
        assert self.ask(it) == before, "a refused call changed something"

    def at(self, place: int) -> _Asked:
        return self.asked[place % len(self.asked)]

    @rule(place=_PLACES)
    @_asked
    def look(self, place: int) -> None:
        self.ask(self.at(place))

    @rule(place=_PLACES)
    @_asked
    def step_done(self, place: int) -> None:
        it = self.at(place)
        step = self.ask(it)
        if isinstance(step, Receive | Wait):
            self.refuse(it, "step_done")
        else:
            self.done(it, step)

    def done(self, it: _Asked, step: Any) -> None:
        it.fresh = it.fresh or isinstance(step, Connect)
        self.report(it, "step_done")
        it.handed_out = None
        if isinstance(step, Connect):
            it.sent = None

    @rule(place=_PLACES, detail=texts(), reason=_reasons(), ask=st.booleans())
    @_asked
    def step_failed(self, place: int, detail: str, reason: Reason, ask: bool) -> None:
        it = self.at(place)
        step = self.ask(it) if ask else it.step
        self.report(it, "step_failed", detail, reason)
        it.handed_out = None
        if isinstance(step, Send) and reason is Reason.LOST:
            assert self.ask(it) == Receive(), "the server may have answered the part that was sent"

    @rule(place=_PLACES, data=_pieces_of_answers())
    @_asked
    def receive_data(self, place: int, data: bytes) -> None:
        it = self.at(place)
        it.fresh = it.fresh and not data
        self.receive(it, data)

    def receive(self, it: _Asked, data: bytes) -> None:
        it.received += data
        self.report(it, "receive_data", data)

    @rule(place=_PLACES)
    @_asked
    def receive_eof(self, place: int) -> None:
        self.report(self.at(place), "receive_eof")

    @rule(place=_PLACES)
    @_asked
    def close(self, place: int) -> None:
        it = self.at(place)
        self.report(it, "close")
        self.take(it)
        assert self.ask(it) == Done(), "the caller left, but the reply goes on"

    @rule(place=_PLACES, data=st.data(), to=_kinds_of_steps(), everyone=st.booleans())
    @_asked
    def go_on(self, place: int, data: Any, to: type[Any], everyone: bool) -> None:
        for it in [*self.asked] if everyone else [self.at(place)]:
            self.lead(it, data, to)

    def lead(self, it: _Asked, data: Any, to: type[Any] = Receive) -> None:
        """Drive it correctly, up to a step of this type or the answer to the question, unless it fails."""
        count = 0
        while not isinstance(step := self.ask(it), Wait | Done):
            if count and isinstance(step, to) and not isinstance(step, Receive):
                break
            count += 1
            assert count < 50, "it goes on for ever"
            if isinstance(step, Connect | StartTLS | Send):
                self.done(it, step)
            elif not it.fresh or it.sent is None or _is_submit(it.sent):
                break  # the answer is next, or more bytes could be misread
            elif _is_start(it.sent):
                self.receive(it, _SESSION_ANSWER)
            else:
                self.receive(it, data.draw(st.sampled_from(_REPLIES_OF_PROXIES)))

    @rule(place=_PLACES, data=st.data(), response=responses())
    @_asked
    def answer(self, place: int, data: Any, response: HTTPResponse) -> None:
        it = self.at(place)
        self.lead(it, data)
        self.take(it)
        if not isinstance(it.step, Receive) or not _is_submit(it.sent) or not it.fresh:
            return
        assert it.events == []
        for piece in data.draw(cuts(response.data)):
            self.receive(it, piece)
        self.report(it, "receive_eof")
        assert self.ask(it) == Done()
        self.take(it)
        assert it.events == response.events

    def forget_if_late(self, it: _Asked) -> None:
        if it.late > 3 and it in self.asked:  # a finished machine has little left to show
            self.asked.remove(it)


def client_rules(factory: Callable[..., Any]) -> type[Any]:
    """A `RuleBasedStateMachine` that makes any calls in any order, and checks what `Client` promises.

        TestMyClient = client_rules(MyClient).TestCase

    `factory(flow, proxy=proxy)` makes the object under test, with the methods of
    `Client`: a wrapper around one, or a port. The rules:

    - The step stays the same until it is reported.
    - The events are `Live* (End | Broken)`. After the last one every input returns
      [], the step is `Done`, and `awaiting` is None.
    - A call that is not legal raises `LocalProtocolError` and changes nothing.
    - Data and EOF at `Connect` change nothing.
    - `Receive` follows a `Send` that failed.
    - `close()` ends the reply.
    - A question is handed out once, or twice if the nonce was refused.
    - An answer of `responses()`, in any pieces, gives its events.
    """

    class ClientRules(_Rules):
        @initialize(start=_starts())
        def begin(self, start: _Start) -> None:
            session, self.restarts, endpoint, proxy = start
            flow = Flow(endpoint, Submit(new_message="Hi?"), session=session, limits=Limits(restarts=self.restarts))
            self.asked = [_Asked(factory(flow, proxy=proxy))]

        @rule(start=_starts())
        @precondition(lambda self: not self.asked or self.asked[0].over)
        def another(self, start: _Start) -> None:
            self.teardown()
            self.begin(start)

        def next_step(self, it: _Asked) -> Any:
            step = it.machine.next_step()
            assert it.step in (None, step), "the step changed without a report"
            assert it.machine.next_step() == step
            assert isinstance(step, Done) == it.over
            return step

        def sends(self, it: _Asked, step: Send) -> None:
            super().sends(it, step)
            assert it.machine.submit_started or not _is_submit(step)

        def report(self, it: _Asked, method: str, *arguments: object) -> None:
            events = getattr(it.machine, method)(*arguments) or []
            assert events == [] or not it.over, "events after the last"
            it.late += it.over
            it.events += events
            if isinstance(it.step, Connect) and method in ("receive_data", "receive_eof"):
                assert events == [], "an event from a connection that is not open"  # the step stays the same
            else:
                it.step = None
            self.forget_if_late(it)

        @invariant()
        def one_reply(self) -> None:
            for it in self.asked:
                assert all(isinstance(event, Live) for event in it.events[:-1])
                assert (it.machine.awaiting is None) == it.over

        def teardown(self) -> None:
            for it in [*self.asked]:
                self.report(it, "close")
                assert self.ask(it) == Done()

    return ClientRules


def call_rules(factory: Callable[..., Any] = Channel) -> type[Any]:
    """A `RuleBasedStateMachine` that asks several questions at a time, and checks what `Channel` and `Call` promise.

        TestMyChannel = call_rules(MyChannel).TestCase

    `factory(endpoint, **options)` makes the object under test, with the options and
    the method `call` of `Channel`; its calls have the methods of `Call` and
    `retries`. Time is virtual, and all clocks are on. The rules:

    - The step stays the same until it is reported, its time has come or its signal
      is set.
    - A call waits only for one that starts a session.
    - The events are `Live* (End | Broken)`. The last one comes once, after `Done`.
    - A report that is not legal raises `LocalProtocolError` and changes nothing.
    - `Receive` follows a `Send` that failed.
    - A question is sent once, or twice if the nonce was refused, and once more for
      each retry that the server asked for.
    - At most one start_session is under way at a time, even if calls are dropped.
    - An answer of `responses()`, in any pieces, gives its events.
    - Without further reports every call ends in time.
    """

    class CallRules(_Rules):
        @initialize(start=_channel_starts())
        def begin(self, start: _ChannelStart) -> None:
            (session, self.restarts, endpoint, proxy), self.retries, longest_wait, timeouts, has_signals, calls = start
            self.channel = factory(
                endpoint,
                session=session,
                limits=Limits(restarts=self.restarts),
                timeouts=timeouts,
                proxy=proxy,
                retries=self.retries,
                longest_wait=longest_wait,
                signal=threading.Event if has_signals else None,
            )
            self.asked = []
            self.now = 1000.0
            for _ in range(calls):
                self.call()

        @rule()
        @precondition(lambda self: len(self.asked) < 4)
        def call(self) -> None:
            self.asked.append(_Asked(self.channel.call("Hi?")))

        @rule(seconds=st.sampled_from([0.25, 1, 2, 7, 30, 120, 300]))
        @_asked
        def let_time_pass(self, seconds: float) -> None:
            self.now += seconds

        def take(self, it: _Asked) -> None:
            while (event := it.machine.next_event()) is not None:
                assert not it.over, "an event after the last"
                assert isinstance(event, Live) or it.done, "the last event came before Done"
                it.events.append(event)
            assert it.over == it.done, "it is done without a last event"

        @rule(place=_PLACES)
        @_asked
        def next_event(self, place: int) -> None:
            self.take(self.at(place))

        def next_step(self, it: _Asked) -> Any:
            same = it.is_same(self.now)
            step, until = it.machine.next_step(self.now)
            assert not same or (step, until) == (it.step, it.until), "the step changed without a report"
            assert it.machine.next_step(self.now) == (step, until)
            assert self.now < until, "a step whose time has passed"
            assert it.done <= isinstance(step, Done)
            assert until < math.inf or isinstance(step, Done), "a step without a time limit"
            it.until = until
            if it.machine.retries > it.retries:
                assert it.machine.retries <= self.retries
                assert not it.submits or b"503" in it.received, "a question that had been sent was asked again"
                it.retries = it.machine.retries
                it.submits, it.received = 0, b""
            if isinstance(step, Wait):
                may_start = any(other.may_start for other in self.asked if other is not it)
                assert may_start or self.retries, "it waits, but no other call starts a session"
            return step

        def sends(self, it: _Asked, step: Send) -> None:
            super().sends(it, step)
            for other in self.asked if _is_start(step) else []:
                if other is not it and other.starts:
                    self.ask(other)  # it may have advanced meanwhile
                    assert not other.starts, "two calls start a session at the same time"

        def report(self, it: _Asked, method: str, *arguments: object) -> None:
            assert getattr(it.machine, method)(*arguments) is None
            it.late += it.over
            it.step = None
            self.forget_if_late(it)

        @rule(place=_PLACES)
        @_asked
        def timed_out(self, place: int) -> None:
            self.report(self.at(place), "timed_out")

        @rule(place=_PLACES)
        @_asked
        def drop(self, place: int) -> None:
            self.asked.remove(self.at(place))
            for other in self.asked:
                if isinstance(other.step, Wait):
                    self.ask(other)

        def teardown(self) -> None:
            """Without further reports, let time pass: every call must end."""
            count = 0
            while self.asked:
                count += 1
                assert count < 100, "it never ends"
                for it in [*self.asked]:
                    if isinstance(self.ask(it), Done):
                        self.take(it)
                        assert it.over
                        self.asked.remove(it)
                self.now = min((it.until for it in self.asked), default=self.now)

    return CallRules
