"""The outer ring: questions to one site, from waiting for the session to the last event. Time is an argument."""

import math
import weakref
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import replace
from enum import StrEnum
from threading import RLock
from typing import Any, Generic, Protocol, TypeAlias, TypeVar, final

from ._client import ANY_RECEIVE, Client
from ._clocks import Clock, Timeouts
from ._conversation import Conversation
from ._events import Broken, End, Event, Live, Reason, check_failure
from ._flow import Awaiting, Flow
from ._http import Endpoint, Headers, Request, decode_head
from ._limits import Limits
from ._messages import Message, Submit
from ._reports import Closed, DataReceived, EOFReceived, HeadReceived, Report, StepDone, StepFailed, TimedOut
from ._retries import RandomSource, Retries
from ._session import Session
from ._steps import Connect, Done, Receive, Send, StartTLS, Wait
from ._table import Table
from ._tunnel import Proxy

__all__ = ["Call", "Channel", "HTTPCall", "Observer", "QuestionLike", "Signal"]

QuestionLike: TypeAlias = Submit | str | Iterable[Message | Mapping[str, Any]]
"""What can be asked: a text, a list of messages that ends with the user's, or a whole `Submit`."""

Step: TypeAlias = Connect | StartTLS | Send | Receive | Wait | Done
HTTPStep: TypeAlias = Request | Receive | Wait | Done


class Signal(Protocol):
    """`trio.Event`, `asyncio.Event` or `threading.Event`: what a driver waits for at `Wait`."""

    def set(self) -> None:
        """Let the driver go on."""


Observer: TypeAlias = Callable[["Call | HTTPCall", Step | HTTPStep | Report | Event], object]
"""Receives each step, report and event of a call as a value, in order."""


@final
class State(StrEnum):
    """Where a question is."""

    SESSION = "SESSION"  # it needs a session, and looks for one with the next step
    WAIT = "WAIT"  # another call starts or renews the session
    START = "START"  # this call does
    ASK = "ASK"  # it has a session, and asks
    PAUSE = "PAUSE"  # before it is asked again
    LAST = "LAST"  # it is over, and the connection is to be closed
    OVER = "OVER"  # the last event may be taken


@final
class Input(StrEnum):
    """What a driver reports; then what that leads to."""

    STEP_DONE = "step_done"
    STEP_FAILED = "step_failed"
    HEAD = "receive_head"
    DATA = "receive_data"
    EOF = "receive_eof"
    CLOSE = "close"
    FOUND = "session found"
    ANOTHER_STARTS = "another call starts the session"
    TO_START = "session to be started"
    ABANDONED = "the other call has left"
    STARTED = "session started"
    REFUSED = "nonce refused"
    POSTPONED = "to be asked again"
    RESUMED = "pause over"
    TERMINAL = "terminal event"
    DONE = "done"


TABLE: Table[State, Input] = Table(
    "Call",
    (State.SESSION,),
    {
        State.SESSION: {
            Input.STEP_FAILED: State.SESSION,
            Input.HEAD: State.SESSION,
            Input.DATA: State.SESSION,
            Input.EOF: State.SESSION,
            Input.FOUND: State.ASK,
            Input.ANOTHER_STARTS: State.WAIT,
            Input.TO_START: State.START,
            Input.CLOSE: State.LAST,
        },
        State.WAIT: {
            Input.STEP_FAILED: State.WAIT,
            Input.HEAD: State.WAIT,
            Input.DATA: State.WAIT,
            Input.EOF: State.WAIT,
            Input.FOUND: State.ASK,
            Input.ABANDONED: State.SESSION,
            Input.POSTPONED: State.PAUSE,
            Input.TERMINAL: State.LAST,
            Input.CLOSE: State.LAST,
        },
        State.START: {
            Input.STEP_DONE: State.START,
            Input.STEP_FAILED: State.START,
            Input.HEAD: State.START,
            Input.DATA: State.START,
            Input.EOF: State.START,
            Input.STARTED: State.ASK,
            Input.POSTPONED: State.PAUSE,
            Input.TERMINAL: State.LAST,
            Input.CLOSE: State.LAST,
        },
        State.ASK: {
            Input.STEP_DONE: State.ASK,
            Input.STEP_FAILED: State.ASK,
            Input.HEAD: State.ASK,
            Input.DATA: State.ASK,
            Input.EOF: State.ASK,
            Input.REFUSED: State.SESSION,
            Input.POSTPONED: State.PAUSE,
            Input.TERMINAL: State.LAST,
            Input.CLOSE: State.LAST,
        },
        State.PAUSE: {
            Input.STEP_FAILED: State.PAUSE,
            Input.HEAD: State.PAUSE,
            Input.DATA: State.PAUSE,
            Input.EOF: State.PAUSE,
            Input.RESUMED: State.SESSION,
            Input.CLOSE: State.LAST,
        },
        State.LAST: {Input.DONE: State.OVER},
        State.OVER: {},
    },
)

_S = TypeVar("_S")
_ASK = State.ASK  # a global is looked up much faster than the member of an enum
_OVER = State.OVER
_EVENT = Awaiting.EVENT
_SESSION = Awaiting.SESSION
_WORKING = (State.START, State.ASK)
_ENDED = (State.LAST, State.OVER)
_ANY_DONE = Done()
_NOTHING: deque[Any] = deque(maxlen=0)


@final
class _Opening:
    """A start_session that is under way: which call asks for it, and who waits for it."""

    __slots__ = ("outcome", "signals", "starter")

    def __init__(self, starter: "_Life[Any]") -> None:
        self.outcome: Session | Broken | None = None
        self.signals: list[Signal] = []
        # Weak, so that others go on where somebody forgets to close the reply. The callback may run at any time and in
        # any thread, so it takes no lock: those who are woken look for themselves.
        self.starter: weakref.ref[_Life[Any]] | None = weakref.ref(starter, lambda _: self.wake())

    @property
    def is_abandoned(self) -> bool:
        return self.outcome is None and (self.starter is None or self.starter() is None)

    @property
    def is_settled(self) -> bool:
        return self.outcome is not None or self.is_abandoned

    def settle(self, outcome: Session | Broken | None) -> None:
        """It is over; None means that the starter has left."""
        self.outcome = outcome
        self.starter = None
        self.wake()

    def wake(self) -> None:
        for signal in list(self.signals):
            signal.set()


@final
class Channel:
    """One site, and what the questions to it share: the session, the limits, the clocks.

        channel = Channel("https://site.example")
        call = channel.call([{"role": "user", "content": "Hi"}])

    The first call starts the session, and the others wait for that. A nonce that is
    refused is renewed once for all. If start_session fails, the calls that are
    waiting at that moment end as it did.

    `endpoint` is an `Endpoint` or what `Endpoint.parse` takes. `session` is one
    from before. `headers` go with each request. `proxy` is a `Proxy` or its URL;
    an `HTTPCall` leaves proxies to the library.

    `retries` is how often a question is asked again that reached nobody, or that the
    server put off with 429 or 503 and a Retry-After of at most `longest_wait`
    seconds. The pause before it grows from 0.5 to 8 seconds; `random`, a
    `random.Random` or its method `random`, makes it different for each call.

    `signal` makes what a driver waits for at `Wait`: `trio.Event`,
    `asyncio.Event`, `threading.Event`. Without it, drivers ask again. `lock` is held
    during each change, so that calls may belong to several threads; by default it is
    a `threading.RLock` of the channel's own. `observer(call, item)` receives each step, report and event, in order,
    after the change and outside the lock; what it raises comes out of the method
    that was called, and no event is lost by that.

    Raises `ValueError` for an address, a session, headers, a proxy or numbers that
    cannot be used, `TypeError` for values of wrong types.
    """

    def __init__(
        self,
        endpoint: Endpoint | str,
        *,
        session: Session | None = None,
        headers: Mapping[str, str] | Iterable[tuple[str, str]] = (),
        limits: Limits = Limits(),
        timeouts: Timeouts = Timeouts(),
        proxy: Proxy | str | None = None,
        retries: int = 0,
        longest_wait: float = 30,
        random: RandomSource | Callable[[], float] | None = None,
        signal: Callable[[], Signal] | None = None,
        lock: AbstractContextManager[Any] | None = None,
        observer: Observer | None = None,
    ) -> None:
        if not isinstance(timeouts, Timeouts):
            raise TypeError(f"timeouts: expected Timeouts, got {type(timeouts).__name__}")
        if not isinstance(proxy, Proxy | str | None):
            raise TypeError(f"proxy: expected a Proxy, a str or None, got {type(proxy).__name__}")
        if lock is not None and not hasattr(lock, "__exit__"):
            raise TypeError(f"lock: expected a lock or None, got {type(lock).__name__}")
        for name, function in (("signal", signal), ("observer", observer)):
            if function is not None and not callable(function):
                raise TypeError(f"{name}: expected a callable or None, got {type(function).__name__}")
        self.endpoint: Endpoint = Endpoint.parse(endpoint) if isinstance(endpoint, str) else endpoint
        """Where the questions go."""
        self.limits = limits
        self.timeouts = timeouts
        self.proxy: Proxy | None = Proxy.parse(proxy) if isinstance(proxy, str) else proxy
        """The proxy that calls go through, if there is one."""
        self._headers = tuple(headers.items() if isinstance(headers, Mapping) else headers)
        self._retries = Retries(retries, longest_wait, random)
        self._new_signal = signal
        self._lock: AbstractContextManager[Any] = RLock() if lock is None else lock
        self._observer = observer
        self._opening: _Opening | None = None
        self._flow(Submit(new_message="?"), session)  # raises now what would be raised with each question
        self._session = session

    def __repr__(self) -> str:
        """Where it asks."""
        return f"<Channel to {self.endpoint.origin}>"

    @property
    def session(self) -> Session | None:
        """The session as it stands, for the next channel; None until a call has started one."""
        return self._session

    def call(
        self, question: QuestionLike, conversation: Conversation | None = None, *, chat_id: str | None = None
    ) -> "Call":
        """A question over connections of your own: a text, a list of messages, or a `Submit`.

        With a `conversation`, a text is asked after its messages. A complete answer is
        added to it; a broken one changes nothing, but a response id that the server
        did not accept is dropped. `chat_id` names a question that has no chat id, and a
        new conversation keeps it; the core draws nothing at random.

        Raises `InvalidMessages` or another `ValueError` for what cannot be sent,
        `TypeError` for other types, `RuntimeError` if the conversation is being asked
        another question.
        """
        return Call(self, question, conversation, chat_id)

    def http_call(
        self, question: QuestionLike, conversation: Conversation | None = None, *, chat_id: str | None = None
    ) -> "HTTPCall":
        """As `call`, over an HTTP library."""
        return HTTPCall(self, question, conversation, chat_id)

    def _flow(self, submit: Submit, session: Session | None = None) -> Flow:
        return Flow(self.endpoint, submit, session=session, headers=self._headers, limits=self.limits)


def _to_submit(question: QuestionLike, conversation: Conversation | None, chat_id: str | None) -> Submit:
    if not isinstance(conversation, Conversation | None):
        raise TypeError(f"conversation: expected a Conversation or None, got {type(conversation).__name__}")
    if isinstance(question, Submit):
        submit = question
    elif conversation is None:
        submit = Submit(new_message=question) if isinstance(question, str) else Submit.from_messages(question)
    elif isinstance(question, str):
        submit = conversation.ask(question)
    else:
        raise TypeError("question: expected a str or a Submit, since the conversation has the messages before it")
    if conversation is not None and conversation.chat_id is not None:
        chat_id = conversation.chat_id
    return replace(submit, chat_id=chat_id) if submit.chat_id is None else submit


class _Life(ABC, Generic[_S]):
    """The life of one question, whatever carries it."""

    __slots__ = (
        "__weakref__",
        "_channel",
        "_clock",
        "_conversation",
        "_count",
        "_flow",
        "_is_telling",
        "_last",
        "_next_events",
        "_opening",
        "_pause",
        "_queue",
        "_resume_at",
        "_retries",
        "_session",
        "_signal",
        "_state",
        "_submit",
        "_texts",
        "_to_tell",
        "_told",
    )

    _flow: Flow
    _machine: Client | Flow  # what drives the flow, or the flow itself
    _to_tell: deque[Any]

    def __init__(
        self, channel: Channel, question: QuestionLike, conversation: Conversation | None, chat_id: str | None
    ) -> None:
        """For `Channel`."""
        self._channel = channel
        self._submit = _to_submit(question, conversation, chat_id)
        self._conversation = conversation
        self._state = State.SESSION
        self._clock = Clock(channel.timeouts)
        self._session: Session | None = None  # what the flow had when the channel was told last
        self._opening: _Opening | None = None  # at WAIT and START
        self._signal: Signal | None = None  # at WAIT and PAUSE
        self._pause = 0.0  # seconds, at PAUSE
        self._resume_at: float | None = None  # when the pause is over, once a step was asked for
        self._retries = 0
        self._queue: list[Event] = []  # pieces that nobody has taken yet
        self._next_events: list[Event] = []  # those before them, the next one last
        # The pieces of the answer, for the conversation. Without one, nobody needs them.
        self._texts: list[str] | None = None if conversation is None else []
        self._last: End | Broken | None = None  # at PAUSE: what may still be repaired; at LAST and OVER: the last event
        self._count = 0
        self._to_tell = _NOTHING if channel._observer is None else deque()  # for the observer
        self._told: Any = None  # the step that it has seen, until that is reported
        self._is_telling = False
        self._begin()
        if conversation is not None:
            with channel._lock:
                is_new = channel._session is None and conversation.session is not None
                if is_new:
                    channel._flow(self._submit, conversation.session)  # raises if it belongs to another site
                conversation._begin(self, self._submit)
                if is_new:
                    channel._session = conversation.session

    def __repr__(self) -> str:
        """Where it goes, and how far it is."""
        return f"<{type(self).__name__} to {self._channel.endpoint.origin} {self._state} after {self._count} events>"

    @property
    def channel(self) -> Channel:
        """The channel that it was made by."""
        return self._channel

    @property
    def submit(self) -> Submit:
        """The question."""
        return self._submit

    @property
    def retries(self) -> int:
        """How often the question was asked again."""
        return self._retries

    # ---------------------------------------------------------------- what the two kinds of call differ in

    @abstractmethod
    def _begin(self) -> None:
        """Make a new flow, and what drives it."""

    @abstractmethod
    def _work(self) -> tuple[_S, type[object] | Awaiting]:
        """The next step of the machine, and which clock bounds it."""

    @abstractmethod
    def _fail(self, detail: str, reason: Reason, limit: str | None) -> list[Event]:
        """Tell the machine that its step failed."""

    @abstractmethod
    def _close_machine(self) -> list[Event]:
        """Tell the machine that the caller leaves."""

    @property
    @abstractmethod
    def _awaiting(self) -> Awaiting | None:
        """See `Client.awaiting`."""

    # ---------------------------------------------------------------- output

    def next_event(self) -> Event | None:
        """The next event, or None if nothing has come yet or the reply is over.

        The last one is given after `next_step` has given `Done`: so whoever has it
        holds no connection.
        """
        if not (self._next_events or self._queue or self._state is _OVER):
            return None  # which needs no lock
        with self._channel._lock:
            if self._next_events:
                return self._next_events.pop()
            if len(self._queue) > 1:
                self._next_events, self._queue = self._queue[::-1], []
                return self._next_events.pop()
            if self._queue:
                return self._queue.pop()
            last, self._last = self._last, None
            return last

    def next_step(self, now: float) -> tuple[_S | Wait | Done, float]:
        """What to do next, and until when: always the same until it is reported.

        `now` is in monotonic seconds, and so is the second value; infinity if there is
        no bound. To ask at or after that time is as good as `timed_out`.
        """
        channel = self._channel
        with channel._lock:
            step, until = self._choose_step(now)
            if channel._observer is not None and step != self._told:
                self._told = step
                self._to_tell.append(step)
        if channel._observer is not None:
            self._tell()
        return step, until

    def _choose_step(self, now: float) -> tuple[_S | Wait | Done, float]:
        while True:
            if self._state is _ASK or self._state is State.START:
                step, phase = self._work()
                until = self._clock.start(phase, now)
                if until > now:
                    return step, until
                self._run_out()
            match self._state:
                case State.SESSION:
                    self._find_session()
                case State.WAIT:
                    self._look_at_opening()
                    if self._state is State.WAIT:
                        until = self._clock.start(Wait, now)
                        if until > now:
                            return Wait(self._signal), until
                        self._run_out()
                case State.PAUSE:
                    if self._resume_at is None:
                        self._resume_at = now + self._pause
                        self._signal = self._new_signal()
                    if self._resume_at > now:
                        return Wait(self._signal), self._resume_at
                    self._resume()
                case State.LAST:
                    self._move(Input.DONE)
                case State.OVER:
                    return _ANY_DONE, math.inf

    # ---------------------------------------------------------------- reports

    def receive_data(self, data: bytes | bytearray | memoryview) -> None:
        """Bytes came; see `Client.receive_data` and `Flow.receive_data`. Ignored while no connection is wanted.

        Raises `LocalProtocolError` where the step has no use for bytes, `TypeError`
        if not bytes-like.
        """
        channel = self._channel
        with channel._lock:
            if (self._state is _ASK and type(data) is bytes) or self._takes(Input.DATA):
                events = self._machine.receive_data(data)
                if channel._observer is not None:
                    self._report(DataReceived(bytes(data)))
                self._take(events)
            else:
                memoryview(data)
        if channel._observer is not None:
            self._tell()

    def receive_eof(self) -> None:
        """The peer has closed, or the body is over. Ignored while no connection is wanted."""
        with self._channel._lock:
            if self._takes(Input.EOF):
                events = self._machine.receive_eof()
                self._report(EOFReceived())
                self._take(events)
        self._tell()

    def timed_out(self) -> None:
        """A timer fired that was set to the time which came with a step.

        What that means depends on the step. A timer that belongs to an earlier step
        changes nothing.
        """
        with self._channel._lock:
            if self._state is State.PAUSE:
                self._resume_at = -math.inf if self._resume_at is not None else None
            elif self._opening is not None and self._state is State.WAIT and self._opening.is_settled:
                pass  # what it waited for came in time, and the next step goes on with that
            elif self._clock.deadline not in (None, math.inf):
                self._run_out()
        self._tell()

    def close(self) -> None:
        """Leave: close the connection and cancel the step in progress; later reports are ignored. Idempotent.

        From any task or thread, at any time. Events that came before are still given,
        and then one `Broken`: TRUNCATED once the answer has begun, else LOST; during
        the pause before the question is asked again, the one that led to it.
        """
        with self._channel._lock:
            if self._state not in _ENDED:
                last = self._last if self._state is State.PAUSE else self._close_machine()[-1]
                assert isinstance(last, Broken)
                self._leave_opening(None)
                self._wake()
                self._report(Closed())
                self._end(last, Input.CLOSE)
        self._tell()

    def _takes(self, given: Input) -> bool:
        """Whether a report goes to the machine. Raises `LocalProtocolError` if it does not fit the state."""
        if self._state in _ENDED:
            return False
        self._move(given)
        return self._state in _WORKING

    def _report(self, report: Report) -> None:
        if self._channel._observer is not None:
            self._to_tell.append(report)
            if type(self._told) is Receive or not isinstance(report, DataReceived | HeadReceived):
                self._told = None  # else it is an early answer, and the step goes on

    def _tell(self) -> None:
        """Hand what has happened to the observer, outside of the lock and in order, whichever thread comes first."""
        observer = self._channel._observer
        if observer is None:
            return
        while True:
            with self._channel._lock:
                if self._is_telling or not self._to_tell:
                    return
                self._is_telling = True
                item = self._to_tell.popleft()
            try:
                observer(self, item)  # type: ignore[arg-type]  # mypy does not know that there are two kinds only
            finally:
                self._is_telling = False

    # ---------------------------------------------------------------- consequences

    def _move(self, given: Input) -> None:
        self._state = TABLE.next(self._state, given)

    def _take(self, events: list[Event]) -> None:
        """Go on after what the machine has made of an input."""
        flow, clock, session = self._flow, self._clock, self._flow.session
        last = events[-1] if events else None
        if type(last) is Live and session is self._session and self._state is _ASK:
            clock.deadline = None
            self._queue += events  # as nearly always
            self._count += len(events)
            if self._texts is not None or self._channel._observer is not None:
                self._hear(events)
            return
        if events or (type(clock.phase) is Awaiting and clock.phase is not self._awaiting):
            clock.stop()  # what is due now has a deadline of its own
        if isinstance(last, End | Broken):
            if self._state is State.START:
                assert isinstance(last, Broken)  # a flow with a question does not end with its session
                if session is not None and session.nonce is not None:  # but this question is too large for it
                    self._share(session)
                    self._leave_opening(session)
                else:
                    self._leave_opening(last)
            else:
                self._share(session)
            self._put(events[:-1])
            self._finish(last)
        elif flow.awaiting is not _SESSION:
            self._share(session)
            if self._state is State.START:
                clock.stop()
                self._leave_opening(session)
                self._move(Input.STARTED)
            self._put(events)
        elif self._state is _ASK:
            clock.stop()
            self._move(Input.REFUSED)

    def _put(self, events: list[Event]) -> None:
        self._queue += events
        self._count += len(events)
        self._hear(events)

    def _hear(self, events: list[Event]) -> None:
        if self._texts is not None:
            self._texts += [event.text for event in events if isinstance(event, Live) and event.kind == "content"]
        if self._channel._observer is not None:
            self._to_tell += events

    def _finish(self, last: End | Broken) -> None:
        """The reply is over, unless the question may be asked again."""
        pause = self._channel._retries.pause(last, self._retries) if isinstance(last, Broken) else None
        if pause is None:
            self._end(last, Input.TERMINAL)
        else:
            self._clock.stop()
            self._last, self._pause, self._resume_at = last, pause, None
            self._move(Input.POSTPONED)

    def _resume(self) -> None:
        self._last = self._signal = self._session = None
        self._retries += 1
        self._begin()
        self._move(Input.RESUMED)

    def _end(self, last: End | Broken, given: Input) -> None:
        self._clock.stop()
        self._last = last
        self._count += 1
        self._move(given)
        if self._channel._observer is not None:
            self._to_tell.append(last)
        if self._conversation is not None and self._texts is not None:
            self._conversation._finish(self._submit, last, "".join(self._texts), self._session)

    def _run_out(self) -> None:
        limit, words = self._clock.limit, self._clock.words(self._count)
        self._clock.stop()
        self._report(TimedOut(limit))
        if self._state is State.WAIT:
            self._leave_opening(None)
            self._signal = None
            self._do_without(Broken(Reason.TIMEOUT, words, limit=limit, in_session=True))
        else:
            self._take(self._fail(words, Reason.TIMEOUT, limit))

    # ---------------------------------------------------------------- the session

    @property
    def _is_refused(self) -> bool:
        """Whether a session is wanted since the nonce of the first submit was refused."""
        return self._flow.submit_started

    def _find_session(self) -> None:
        channel = self._channel
        current, opening = channel._session, channel._opening
        useless = (None, self._session and self._session.nonce) if self._is_refused else ()
        if current is not None and current.nonce not in useless:
            self._use(current)
        elif opening is not None and not opening.is_abandoned:
            self._opening = opening
            self._signal = self._new_signal()
            if self._signal is not None:
                opening.signals.append(self._signal)
            self._move(Input.ANOTHER_STARTS)
        else:
            self._opening = channel._opening = _Opening(self)
            self._move(Input.TO_START)

    def _look_at_opening(self) -> None:
        """Go on if the other call has a session, or none, or has left."""
        opening = self._opening
        assert opening is not None
        outcome = opening.outcome
        if not opening.is_settled:
            return
        self._opening = self._signal = None
        if isinstance(outcome, Session):
            self._use(outcome)
        elif isinstance(outcome, Broken):
            self._do_without(outcome)
        else:
            self._move(Input.ABANDONED)

    def _use(self, session: Session) -> None:
        events = self._flow.use_session(session)
        self._move(Input.FOUND)
        self._session = self._flow.session
        if events:  # a refused question is not asked again without a nonce
            (refusal,) = events
            assert isinstance(refusal, Broken)
            self._finish(refusal)

    def _do_without(self, broken: Broken) -> None:
        """No session can be had: end with this, or with the refusal that made it necessary."""
        if self._is_refused:
            (refusal,) = self._flow.use_session(None)
            assert isinstance(refusal, Broken)
            broken = refusal
        self._finish(broken)

    def _leave_opening(self, outcome: Session | Broken | None) -> None:
        """Start no session any more, or wait for none."""
        opening, self._opening = self._opening, None
        if opening is None:
            return
        if self._state is State.START:
            self._channel._opening = None
            opening.settle(outcome)
        elif self._signal is not None:
            opening.signals.remove(self._signal)

    def _share(self, session: Session | None) -> None:
        """Give the channel what this flow has, unless another call has brought something newer."""
        if session is self._session or session is None:
            return
        if self._channel._session == self._session:
            self._channel._session = session
        self._session = session

    def _new_signal(self) -> Signal | None:
        return None if self._channel._new_signal is None else self._channel._new_signal()

    def _wake(self) -> None:
        signal, self._signal = self._signal, None
        if signal is not None:
            signal.set()


@final
class Call(_Life[Connect | StartTLS | Send | Receive]):
    """One question over connections of your own, made by `Channel.call`.

        while True:
            while (event := call.next_event()) is not None:
                ...
            step, until = call.next_step(now())
            # take the step until then, and report it

    The steps are those of `Client`, and `Wait`. Nothing happens before the first
    `next_step`. Reports return nothing: their events are queued.
    """

    __slots__ = ("_machine",)

    _machine: Client

    def step_done(self) -> None:
        """The connection is open, TLS is up, or all bytes were sent. Raises `LocalProtocolError` at any other step."""
        with self._channel._lock:
            if self._takes(Input.STEP_DONE):
                self._machine.step_done()
                self._clock.stop()
                self._report(StepDone())
        self._tell()

    def step_failed(self, detail: str, reason: Reason = Reason.LOST) -> None:
        """The step failed; see `Client.step_failed`. Ignored while no connection is wanted."""
        check_failure(detail, reason)
        with self._channel._lock:
            if self._takes(Input.STEP_FAILED):
                events = self._fail(detail, reason, None)
                self._clock.stop()
                self._report(StepFailed(detail, reason))
                self._take(events)
        self._tell()

    def _begin(self) -> None:
        self._flow = self._channel._flow(self._submit)
        self._machine = Client(self._flow, proxy=self._channel.proxy)

    def _work(self) -> tuple[Connect | StartTLS | Send | Receive, type[object] | Awaiting]:
        step: Any = self._machine.next_step()
        if step is not ANY_RECEIVE:
            return step, type(step)
        awaiting = _EVENT if self._count else self._machine.awaiting
        assert awaiting is not None
        return step, awaiting

    def _fail(self, detail: str, reason: Reason, limit: str | None) -> list[Event]:
        return self._machine.step_failed(detail, reason, limit=limit)

    def _close_machine(self) -> list[Event]:
        return self._machine.close()

    @property
    def _awaiting(self) -> Awaiting | None:
        return self._machine.awaiting


@final
class HTTPCall(_Life[Request | Receive]):
    """One question over an HTTP library, made by `Channel.http_call`.

    The steps: `Request`, to be sent and then reported with `receive_head`;
    `Receive`, for the next piece of the body, or its end, reported with
    `receive_data` and `receive_eof`; `Wait`; `Done`, at which the response is to be
    closed. The library sees to connections, proxies and TLS. A `Request` may take as
    long as connect, write and first_event of `Timeouts` together.
    """

    __slots__ = ("_is_reached", "_machine", "_request")

    _machine: Flow
    _request: Request | None  # from when it is due until its head has come
    _is_reached: bool  # whether the server has begun to answer a submit

    def receive_head(self, status: int, headers: Headers) -> None:
        """The head of the response to the request, interim ones included; see `ReplyDecoder.receive_head`.

        Raises `LocalProtocolError` unless a request waits for it, `TypeError` for
        wrong types.
        """
        with self._channel._lock:
            if self._takes(Input.HEAD):
                fields = tuple(headers)
                events = self._machine.receive_head(status, fields)
                self._is_reached = self._machine.submit_started
                if not 100 <= status < 200:
                    self._request = None
                    self._clock.stop()
                self._report(HeadReceived(status, fields))
                self._take(events)
            else:
                decode_head(status, headers)
        self._tell()

    def step_failed(
        self, detail: str, reason: Reason = Reason.LOST, *, sent: bool = True, limit: str | None = None
    ) -> None:
        """The request or the reading of its response failed: `detail` is what the library says of it.

        `sent=False` says that it is certain that no byte of the request has left.
        `limit` names the clock that ran out in the library, with the reason TIMEOUT.
        Ignored while no connection is wanted.
        """
        check_failure(detail, reason)
        with self._channel._lock:
            if self._takes(Input.STEP_FAILED):
                events = self._fail(detail, reason, limit)
                last = events[-1] if events else None
                if not sent and not self._is_reached and isinstance(last, Broken):
                    events = [*events[:-1], replace(last, asked=False)]
                self._clock.stop()
                self._report(StepFailed(detail, reason))
                self._take(events)
        self._tell()

    def _begin(self) -> None:
        self._flow = self._machine = self._channel._flow(self._submit)
        self._request = None
        self._is_reached = False

    def _work(self) -> tuple[Request | Receive, type[object] | Awaiting]:
        if self._request is None:
            self._request = self._flow.next_request()
        if self._request is not None:
            return self._request, Request
        awaiting = self._flow.awaiting
        assert awaiting is not None
        return ANY_RECEIVE, awaiting

    def _fail(self, detail: str, reason: Reason, limit: str | None) -> list[Event]:
        return self._flow.receive_failure(detail, reason, limit=limit)

    def _close_machine(self) -> list[Event]:
        return self._flow.close()

    @property
    def _awaiting(self) -> Awaiting | None:
        return self._flow.awaiting
