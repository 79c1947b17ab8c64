"""The outer ring: the life of a question, from waiting for the session to its last event. Time is an argument."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Generic, TypeVar

from ._askable import Askable
from ._call_table import TABLE, Input, State
from ._client import Client
from ._clocks import Clock
from ._conversation import Conversation
from ._events import Broken, End, Event, Live, Reason
from ._flow import Flow, TooLarge
from ._flow_table import Awaiting
from ._member import is_usable
from ._messages import Submit
from ._observer import Outbox
from ._opening import Opening, Signal
from ._pages import Page
from ._reports import Closed, DataReceived, EOFReceived, Report, TimedOut
from ._session import Session, is_anothers
from ._steps import Done, Wait
from ._upload import Upload
from ._visit import Visit

if TYPE_CHECKING:
    from ._channel import Channel

__all__: list[str] = []

_S = TypeVar("_S")
_ASK = State.ASK  # a global is looked up much faster than the member of an enum
_OVER = State.OVER
_EVENT = Awaiting.EVENT
_SESSION = Awaiting.SESSION
_WORKING = (State.START, State.UPLOAD, State.ASK)
_ENDED = (State.LAST, State.OVER)
_ANY_DONE = Done()


class CallBase(ABC, Generic[_S]):
    """The common part of `Call` and `HTTPCall`."""

    __slots__ = (
        "__weakref__",
        "_channel",
        "_clock",
        "_conversation",
        "_count",
        "_files",
        "_flow",
        "_last",
        "_next_events",
        "_opening",
        "_outbox",
        "_pause",
        "_queue",
        "_resume_at",
        "_retries",
        "_session",
        "_signal",
        "_state",
        "_texts",
        "_what",
    )

    _flow: Flow | Visit
    _machine: Client | Flow | Visit  # the client of the flow, or the flow itself

    def __init__(
        self,
        channel: "Channel",
        what: Askable | Callable[[], Visit],
        conversation: Conversation | None = None,
        files: tuple[Upload, ...] = (),
    ) -> None:
        """Made by `Channel`, from a question and its files or from a function that makes a visit."""
        self._channel = channel
        self._what = what
        self._files = files  # not uploaded yet
        self._conversation = conversation
        self._state = State.SESSION
        self._clock = Clock(channel.timeouts)
        self._session: Session | None = None  # the flow's session when the channel last adopted it
        self._opening: Opening | None = None  # at WAIT and START
        self._signal: Signal | None = None  # at WAIT and PAUSE
        self._pause = 0.0  # seconds, at PAUSE
        self._resume_at: float | None = None  # when the pause is over, once a step was asked for
        self._retries = 0
        self._queue: list[Event] = []  # pieces not taken yet
        self._next_events: list[Event] = []  # earlier events, the next one last
        # The pieces of the answer, kept only for a conversation.
        self._texts: list[str] | None = None if conversation is None else []
        self._last: End | Broken | None = None  # at PAUSE: the failure to be retried; at LAST and OVER: the last event
        self._count = 0
        observer = channel._observer
        self._outbox: Outbox | None = None if observer is None else Outbox(observer, channel._lock)
        session = channel._session
        if session is None and conversation is not None:
            session = conversation.session
        self._begin(session)
        if conversation is not None:
            with channel._lock:
                given, current = conversation.session, channel._session
                if given is not None and current is not None and is_anothers(given, current):
                    raise ValueError(
                        "conversation: its session is a member's, and the channel's is another's or a guest's; "
                        "use another channel, or set conversation.session to None"
                    )
                conversation._begin(self, self.submit)
                if channel._session is None:
                    channel._session = self._flow.session

    def __repr__(self) -> str:
        """The site, the state, and the number of events."""
        return f"<{type(self).__name__} to {self._channel.endpoint.origin} {self._state} after {self._count} events>"

    @property
    def channel(self) -> "Channel":
        """The channel that made it."""
        return self._channel

    @property
    def submit(self) -> Submit:
        """The question, with the ids of its files uploaded so far.

        Raises `AttributeError` if the call asks anything but a `Submit`.
        """
        if not isinstance(self._what, Submit):
            raise AttributeError("this call asks no Submit")
        return self._what

    @property
    def upload(self) -> Upload | None:
        """The file that is due or being sent: one of the question's, or the call's own upload."""
        if self._files:
            return self._files[0]
        return self._what if isinstance(self._what, Upload) else None

    @property
    def page(self) -> Page | None:
        """The visited page, once `End` was returned; None for a question."""
        return self._flow.page if isinstance(self._flow, Visit) else None

    @property
    def content(self) -> bytes | None:
        """The downloaded file, once `End` was returned; None for a question or a page."""
        return self._flow.content if isinstance(self._flow, Visit) else None

    @property
    def retries(self) -> int:
        """How often the question was repeated."""
        return self._retries

    @property
    def has_event(self) -> bool:
        """Whether `next_event` would return an event."""
        return bool(self._queue or self._next_events)

    @property
    def events_given(self) -> int:
        """How many events `next_event` has returned."""
        is_held_back = self._state is State.LAST  # the last event is already counted
        return self._count - len(self._queue) - len(self._next_events) - is_held_back

    @property
    def outcome(self) -> End | Broken | None:
        """The last event, once `next_event` has returned it."""
        return self._last if self._state is _OVER and not (self._queue or self._next_events) else None

    # ---------------------------------------------------------------- where the two kinds of calls differ

    def _new_flow(self, session: Session | None) -> Flow | Visit:
        if callable(self._what):
            return self._what()
        asked = self._files[0] if self._files else self._what
        try:
            return self._channel._flow(asked, session)
        except TooLarge:
            # If only the session's id makes the question too large, the reply is `Broken`, whenever the session
            # arrives.
            return self._channel._flow(asked)

    @abstractmethod
    def _begin(self, session: Session | None) -> None:
        """Make a new flow with this session, and its client."""

    @abstractmethod
    def _work(self) -> tuple[_S, type[object] | Awaiting]:
        """The next step of the machine, and the phase for its clock."""

    @abstractmethod
    def _fail(self, detail: str, reason: Reason, limit: str | None) -> list[Event]:
        """Tell the machine that its step failed."""

    # ---------------------------------------------------------------- output

    def next_event(self) -> Event | None:
        """Return the next event, or None if nothing has come yet or the reply is over.

        The last event is returned only after `next_step` has returned `Done`, so whoever
        has it holds no connection.
        """
        if not (self._next_events or self._queue):
            return None  # needs no lock
        with self._channel._lock:
            if self._next_events:
                return self._next_events.pop()
            if len(self._queue) > 1:
                self._next_events, self._queue = self._queue[::-1], []
                return self._next_events.pop()
            return self._queue.pop() if self._queue else None

    def next_step(self, now: float) -> tuple[_S | Wait | Done, float]:
        """Return what to do next, and until when. Both stay the same until you report on the step.

        `now` and the second value are in monotonic seconds; infinity means no bound.
        Asking at or after that time is the same as `timed_out`.
        """
        with self._channel._lock:
            step, until = self._choose_step(now)
            if self._outbox is not None:
                self._outbox.put_step(step)
        if self._outbox is not None:
            self._outbox.tell(self)
        return step, until

    def _choose_step(self, now: float) -> tuple[_S | Wait | Done, float]:
        while True:
            if self._state is _ASK or self._state in _WORKING:
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
                    assert self._last is not None
                    self._queue.append(self._last)
                case State.OVER:
                    return _ANY_DONE, math.inf

    # ---------------------------------------------------------------- inputs

    def attach(self, files: Iterable[Upload]) -> None:
        """Upload these too, after the files of `Channel.call`: for a driver that reads files only when a call is asked.

        Use it before the first `next_step`; later it may raise `LocalProtocolError`. A
        call that is over ignores it. Raises the `TypeError` and `ValueError` of `Channel.call`.
        """
        with self._channel._lock:
            if self._state not in _ENDED:
                attached = self._channel._check_files(files, self._what)
                self._move(Input.ATTACH)
                self._files += attached
                self._begin(self._channel._session)

    def receive_data(self, data: bytes | bytearray | memoryview) -> None:
        """Take bytes; see `Client.receive_data` and `Flow.receive_data`. Ignored while no connection is wanted.

        Raises `LocalProtocolError` if the step does not expect bytes, `TypeError` if
        they are not bytes-like.
        """
        with self._channel._lock:
            if (self._state is _ASK and type(data) is bytes) or self._takes(Input.DATA):
                events = self._machine.receive_data(data)
                if self._outbox is not None:
                    self._outbox.put_report(DataReceived(bytes(data)))
                self._take(events)
            else:
                memoryview(data)
        if self._outbox is not None:
            self._outbox.tell(self)

    def receive_eof(self) -> None:
        """The peer has closed, or the body has ended. Ignored while no connection is wanted."""
        with self._channel._lock:
            if self._takes(Input.EOF):
                events = self._machine.receive_eof()
                self._report(EOFReceived())
                self._take(events)
        self._tell()

    def timed_out(self) -> None:
        """The timer of a step fired, at the time that `next_step` returned.

        Its meaning depends on the step. A timer of an earlier step changes nothing.
        """
        with self._channel._lock:
            if self._state is State.PAUSE:
                self._resume_at = -math.inf if self._resume_at is not None else None
            elif self._opening is not None and self._state is State.WAIT and self._opening.is_settled:
                pass  # the wait succeeded in time, and the next step uses its result
            elif self._clock.deadline not in (None, math.inf):
                self._run_out()
        self._tell()

    def close(self) -> None:
        """Leave early: close the connection and cancel the current step. Later reports are ignored. Idempotent.

        May be called from any task or thread, at any time. Queued events are still
        returned, and then one `Broken`: TRUNCATED once the answer has begun, else LOST;
        during the pause before a retry, the `Broken` that would have been retried.
        """
        with self._channel._lock:
            if self._state not in _ENDED:
                last = self._last if self._state is State.PAUSE else self._machine.close()[-1]
                assert isinstance(last, Broken)
                self._leave_opening(None)
                self._wake()
                self._report(Closed())
                self._end(last, Input.CLOSE)
        self._tell()

    def _takes(self, given: Input) -> bool:
        """Whether to pass a report to the machine. Raises `LocalProtocolError` if it does not fit the state."""
        if self._state in _ENDED:
            return False
        self._move(given)
        return self._state in _WORKING

    def _report(self, report: Report) -> None:
        if self._outbox is not None:
            self._outbox.put_report(report)

    def _tell(self) -> None:
        if self._outbox is not None:
            self._outbox.tell(self)

    # ---------------------------------------------------------------- consequences

    def _move(self, given: Input) -> None:
        self._state = TABLE.next(self._state, given)

    def _take(self, events: list[Event]) -> None:
        """Process the events of an input."""
        flow, clock, session = self._flow, self._clock, self._flow.session
        last = events[-1] if events else None
        if type(last) is Live and session is self._session and self._state is _ASK:
            clock.deadline = None
            self._queue += events  # nearly always
            self._count += len(events)
            if self._texts is not None or self._outbox is not None:
                self._hear(events)
            return
        if events or (type(clock.phase) is Awaiting and clock.phase is not self._machine.awaiting):
            clock.stop()  # the next step has its own deadline
        if isinstance(last, End | Broken):
            if self._state is State.START:
                assert isinstance(last, Broken)  # a flow with a question does not end with its session
                # The session is there, but makes the question too large.
                if session is not None and session.nonce is not None and is_usable(session):
                    self._share(session)
                    self._leave_opening(session)
                else:
                    self._leave_opening(last)
            else:
                self._share(session)
            if self._state is State.UPLOAD:
                self._judge_upload(last)
            else:
                self._put(events[:-1])
                self._finish(last)
        elif flow.awaiting is not _SESSION:
            if (
                events or self._state is State.START
            ):  # the head may belong to a refusal, after which the session is renewed
                self._share(session)
            if self._state is State.START:
                clock.stop()
                self._leave_opening(session)
                self._move(Input.STARTED)
                self._look_for_files()
            if self._state is _ASK:  # the answer to an upload is not part of the question's
                self._put(events)
        elif self._state in (_ASK, State.UPLOAD):
            clock.stop()
            self._move(Input.REFUSED)

    def _look_for_files(self) -> None:
        if self._files:
            self._move(Input.FILE_DUE)

    def _judge_upload(self, last: End | Broken) -> None:
        """Continue after a file was uploaded: with the next file, or with the question."""
        name = self._files[0].name
        file_id = last.file_id if isinstance(last, End) else None
        if file_id is not None:
            self._files = self._files[1:]
            self._what = replace(self.submit, file_ids=(*self.submit.file_ids, file_id))
            try:
                self._begin(self._channel._session)
            except ValueError as error:  # the ids have made the question too large
                last = Broken(Reason.TOO_LARGE, str(error), limit="request_bytes")
            else:
                self._clock.stop()
                self._session = None
                self._move(Input.UPLOADED)
                return
        elif isinstance(last, End):
            last = Broken(Reason.MALFORMED, "the site took the file and gave no id", raw=last.raw)
        if not last.in_session and last.limit != "request_bytes":
            last = replace(last, detail=f"file {name!r}: {last.detail}")
        self._finish(last)

    def _put(self, events: list[Event]) -> None:
        self._queue += events
        self._count += len(events)
        self._hear(events)

    def _hear(self, events: list[Event]) -> None:
        if self._texts is not None:
            self._texts += [event.text for event in events if isinstance(event, Live) and event.kind == "content"]
        if self._outbox is not None:
            self._outbox.put_events(events)

    def _finish(self, last: End | Broken) -> None:
        """End the reply, unless the question may be repeated."""
        # A request whose answer has begun is not repeated, even if it is not a question.
        pause = None
        if isinstance(last, Broken) and not self._count:
            pause = self._channel._retries.pause(last, self._retries)
        if pause is None:
            self._end(last, Input.TERMINAL)
        else:
            self._clock.stop()
            self._last, self._pause, self._resume_at = last, pause, None
            self._move(Input.POSTPONED)

    def _resume(self) -> None:
        self._last = self._signal = self._session = None
        self._retries += 1
        self._begin(self._channel._session)
        self._move(Input.RESUMED)

    def _end(self, last: End | Broken, given: Input) -> None:
        self._clock.stop()
        self._last = last
        self._count += 1
        self._move(given)
        if self._outbox is not None:
            self._outbox.put_events([last])
        if self._conversation is not None and self._texts is not None:
            self._conversation._finish(self.submit, last, "".join(self._texts), self._session)

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
        """Whether a session is needed because the nonce of the first submit was refused."""
        return isinstance(self._flow, Flow) and self._flow.refusal is not None

    def _find_session(self) -> None:
        if callable(self._what) or not self._what._needs_session:
            self._session = self._flow.session  # not for the channel
            self._move(Input.FOUND)
            return
        channel = self._channel
        current, opening = channel._session, channel._opening
        useless = (None, self._session and self._session.nonce) if self._is_refused else ()
        if current is not None and is_usable(current) and current.nonce not in useless:
            self._use(current)
        elif opening is not None and not opening.is_abandoned:
            self._opening = opening
            self._signal = self._new_signal()
            if self._signal is not None:
                opening.signals.append(self._signal)
            self._move(Input.ANOTHER_STARTS)
        else:
            self._opening = channel._opening = Opening(self)
            self._move(Input.TO_START)
            if current is not None and not self._is_refused:  # a member's session, which must be proved
                self._give(current)
                self._session = current

    def _look_at_opening(self) -> None:
        """Continue if the other call has a session, has failed, or has left."""
        opening = self._opening
        assert opening is not None
        outcome = opening.outcome
        if not opening.is_settled:
            return
        self._opening = self._signal = None
        own = self._flow.session
        if isinstance(outcome, Session) and own is not None and is_anothers(own, outcome):
            self._move(Input.ABANDONED)  # a guest's question started it, and this is a member's
        elif isinstance(outcome, Session) and is_usable(outcome):
            self._use(outcome)
        elif isinstance(outcome, Broken):
            self._do_without(outcome)
        else:
            self._move(Input.ABANDONED)

    def _use(self, session: Session) -> None:
        events = self._give(session)
        self._move(Input.FOUND)
        self._look_for_files()
        self._session = self._flow.session
        if events:  # a refused question is not repeated without a nonce
            (refusal,) = events
            assert isinstance(refusal, Broken)
            self._finish(refusal)

    def _give(self, session: Session) -> list[Event]:
        assert isinstance(self._flow, Flow)
        if self._flow.session is session:
            return []
        if self._flow.awaiting is not _SESSION:  # it has a session that another question has since replaced
            self._begin(None)
            assert isinstance(self._flow, Flow)
        return self._flow.use_session(session)

    def _do_without(self, broken: Broken) -> None:
        """There is no session: end with this, or with the refusal that made one necessary."""
        if self._is_refused:
            assert isinstance(self._flow, Flow)
            (refusal,) = self._flow.use_session(None)
            assert isinstance(refusal, Broken)
            broken = refusal
        self._finish(broken)

    def _leave_opening(self, outcome: Session | Broken | None) -> None:
        """Stop starting a session, or waiting for one."""
        opening, self._opening = self._opening, None
        if opening is None:
            return
        if self._state is State.START:
            self._channel._opening = None
            opening.settle(outcome)
        elif self._signal is not None:
            opening.signals.remove(self._signal)

    def _share(self, session: Session | None) -> None:
        """Give the channel this flow's session, unless another call has provided a newer one."""
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
