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
from ._events import CLOSED, Broken, End, Event, Live, Reason
from ._flow import Flow, TooLarge
from ._flow_table import Awaiting
from ._member import is_usable
from ._messages import Submit
from ._observer import Outbox
from ._opening import Opening, Signal
from ._pages import Page
from ._reports import Closed, DataReceived, EOFReceived, Report, TimedOut
from ._retries import keep_asked
from ._session import Session, is_anothers
from ._steps import Done, Wait
from ._upload import Upload
from ._visit import Visit

if TYPE_CHECKING:
    from ._channel import Channel

__all__: list[str] = []

_S = TypeVar("_S")
# Looking up a global is much faster than a member of an enum.
_SESSION, _WAIT, _START, _UPLOAD, _ASK, _PAUSE, _LAST, _OVER = State
_FOUND, _CLOSE, _SESSION_DUE, _TRUNCATED = Input.FOUND, Input.CLOSE, Awaiting.SESSION, Reason.TRUNCATED
_WORKING = (_START, _UPLOAD, _ASK)
_ENDED = (_LAST, _OVER)


class CallBase(ABC, Generic[_S]):
    """The common part of `Call` and `HTTPCall`."""

    __slots__ = (
        "__weakref__",
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
        "_session",
        "_signal",
        "_state",
        "_texts",
        "_what",
        "channel",
        "retries",
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
        self.channel: Channel = channel
        """The channel that made it."""
        self._what = what
        self._files = files  # not uploaded yet
        self._conversation = conversation
        self._state = _SESSION
        self._clock = Clock(channel.timeouts)
        self._session: Session | None = None  # the flow's session when the channel last adopted it
        self._opening: Opening | None = None  # at WAIT and START
        self._signal: Signal | None = None  # at WAIT and PAUSE
        self._pause = 0.0  # seconds, at PAUSE
        self.retries: int = 0
        """How often the question was repeated."""
        self._queue: list[Event] = []  # pieces not taken yet
        self._next_events: list[Event] = []  # earlier events, the next one last
        self._texts: list[str] | None = None if conversation is None else []  # the pieces of the answer, for it
        self._last: End | Broken | None = None  # at PAUSE: the failure to be retried; at LAST and OVER: the last event
        self._count = 0
        self._outbox = None if channel._observer is None else Outbox(channel._observer, channel._lock)
        self._begin(channel._session or (conversation and conversation.session))
        if conversation is not None:
            with channel._lock:
                conversation._begin(self, self.submit, channel._session)
                channel._session = channel._session or self._flow.session

    def __repr__(self) -> str:
        """The site, the state, and the number of events."""
        return f"<{type(self).__name__} to {self.channel.endpoint.origin} {self._state} after {self._count} events>"

    @property
    def submit(self) -> Submit:
        """The question, with the ids of its files uploaded so far. Raises `AttributeError` if it is no `Submit`."""
        if not isinstance(self._what, Submit):
            raise AttributeError("this call asks no Submit")
        return self._what

    @property
    def upload(self) -> Upload | None:
        """The file that is due or being sent: one of the question's, or the call's own upload."""
        asked = self._files[0] if self._files else self._what
        return asked if isinstance(asked, Upload) else None

    @property
    def page(self) -> Page | None:
        """The visited page, once `End` was returned; None for a question."""
        return self._flow.page if isinstance(self._flow, Visit) else None

    @property
    def content(self) -> bytes | None:
        """The downloaded file, once `End` was returned; None for a question or a page."""
        return self._flow.content if isinstance(self._flow, Visit) else None

    @property
    def has_event(self) -> bool:
        """Whether `next_event` would return an event."""
        return bool(self._queue or self._next_events)

    @property
    def events_given(self) -> int:
        """How many events `next_event` has returned."""
        return self._count - len(self._queue) - len(self._next_events) - (self._state is _LAST)  # it holds one back

    @property
    def outcome(self) -> End | Broken | None:
        """The last event, once `next_event` has returned it."""
        return self._last if self._state is _OVER and not self.has_event else None

    # ---------------------------------------------------------------- where the two kinds of calls differ

    def _new_flow(self, session: Session | None) -> Flow | Visit:
        if callable(self._what):
            return self._what()
        asked = self._files[0] if self._files else self._what
        try:
            return self.channel._flow(asked, session)
        except TooLarge:
            # If only the session's id makes it too large, the reply is `Broken`, whenever the session arrives.
            return self.channel._flow(asked)

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

        The last event is returned only after `next_step` has returned `Done`, so whoever has it holds no connection.
        """
        if not (self._next_events or self._queue):
            return None  # needs no lock
        with self.channel._lock:
            if not self._next_events:
                self._next_events, self._queue = self._queue, self._next_events
                self._next_events.reverse()  # last, since signals are delivered after a call
            return self._next_events.pop() if self._next_events else None

    def next_step(self, now: float) -> tuple[_S | Wait | Done, float]:
        """Return what to do next, and until when. Both stay the same until you report on the step.

        Both times are in monotonic seconds; infinity means no bound. Asking at or after it is the same as `timed_out`.
        """
        if self._outbox is None:
            with self.channel._lock:
                return self._choose_step(now)
        with self.channel._lock:
            step, until = self._choose_step(now)
            self._outbox.put_step(step)
        self._outbox.tell(self)
        return step, until

    def _choose_step(self, now: float) -> tuple[_S | Wait | Done, float]:
        while (state := self._state) is not _OVER:
            if state is _ASK or state in _WORKING:
                step, phase = self._work()
                until = self._clock.start(phase, now)
                if until > now:
                    return step, until
                self._run_out()
            elif state is _SESSION:
                self._find_session()
            elif state is _WAIT and self._opening is not None and self._opening.is_settled:
                self._end_wait(self._opening.outcome)
            elif state is _WAIT:
                until = self._clock.start(Wait, now)
                if until > now:
                    return Wait(self._signal), until
                self._run_out()
            elif state is _PAUSE:
                if self._clock.deadline is None:
                    self._clock.deadline = now + self._pause
                    self._signal = self.channel._new_signal()
                if self._clock.deadline > now:
                    return Wait(self._signal), self._clock.deadline
                self._signal = self._session = None
                self._clock.stop()
                self.retries += 1
                self._begin(self.channel._session)
                self._state = TABLE.next(self._state, Input.RESUMED)
            else:
                self._state = TABLE.next(self._state, Input.DONE)
                assert self._last is not None
                self._queue.append(self._last)
        return Done(), math.inf

    # ---------------------------------------------------------------- inputs

    def attach(self, files: Iterable[Upload]) -> None:
        """Upload these too, after the files of `Channel.call`: for a driver that reads files only when a call is asked.

        Use it before the first `next_step`; later it may raise `LocalProtocolError`. A call that is over ignores it.
        Raises the `TypeError` and `ValueError` of `Channel.call`.
        """
        with self.channel._lock:
            if self._state not in _ENDED:
                attached = self.channel._check_files(files, self._what)
                # After a refusal it is still asking: a new flow would ask as often as the nonce is refused.
                self._state = TABLE.next(_ASK if self._refusal else self._state, Input.ATTACH)
                self._files += attached
                self._begin(self.channel._session)

    def receive_data(self, data: bytes | bytearray | memoryview) -> None:
        """Take bytes; see `Client.receive_data` and `Flow.receive_data`. Ignored while no connection is wanted.

        Raises `LocalProtocolError` if the step does not expect bytes, `TypeError` if they are not bytes-like.
        """
        with self.channel._lock:
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
        with self.channel._lock:
            if self._takes(Input.EOF):
                events = self._machine.receive_eof()
                self._report(EOFReceived())
                self._take(events)
        self._tell()

    def timed_out(self) -> None:
        """The timer of a step fired, at the time that `next_step` returned.

        Its meaning depends on the step. A timer of an earlier step changes nothing.
        """
        with self.channel._lock:
            is_running = self._clock.deadline not in (None, math.inf)
            if is_running and self._state is _PAUSE:
                self._clock.deadline = -math.inf
            elif is_running and (self._opening is None or not self._opening.is_settled):
                self._run_out()  # but if a wait has succeeded in time, the next step uses its result
        self._tell()

    def close(self) -> None:
        """Leave early: close the connection and cancel the current step. Later reports are ignored. Idempotent.

        May be called from any task or thread, at any time; from a signal handler only while no method of the call runs.
        Queued events are still returned, and then one `Broken`: TRUNCATED once the answer has begun, else LOST; during
        the pause before a retry, the one to be retried.
        """
        with self.channel._lock:
            if self._state not in _ENDED:
                # The machine is over if an exception has interrupted this call after the machine's last event.
                reason = _TRUNCATED if self._count else Reason.LOST
                closed = self._machine.close() or [Broken(reason, CLOSED, asked=self._machine.submit_started)]
                last = self._last if self._state is _PAUSE else closed[-1]
                assert isinstance(last, Broken)
                if self._signal is not None:
                    self._signal.set()
                self._leave_opening(None)
                self._report(Closed())
                self._end(last, _CLOSE)
        self._tell()

    def _takes(self, given: Input) -> bool:
        """Whether to pass a report to the machine. Raises `LocalProtocolError` if it does not fit the state."""
        if self._state in _ENDED:
            return False
        self._state = TABLE.next(self._state, given)
        return self._state in _WORKING

    def _report(self, report: Report) -> None:
        if self._outbox is not None:
            self._outbox.put_report(report)

    def _tell(self) -> None:
        if self._outbox is not None:
            self._outbox.tell(self)

    # ---------------------------------------------------------------- consequences

    def _take(self, events: list[Event]) -> None:
        """Process the events of an input."""
        session = self._flow.session
        last = events[-1] if events else None
        if type(last) is Live and self._state is _ASK and session is self._session:  # nearly always
            self._clock.deadline = None
            self._put(events)
            return
        flow, clock = self._flow, self._clock
        if events or (type(clock.phase) is Awaiting and clock.phase is not self._machine.awaiting):
            clock.stop()  # the next step has its own deadline
        if isinstance(last, End | Broken):
            # At START, the session may be there, and have made the question too large.
            if self._state is not _START or (session and session.nonce is not None and is_usable(session)):
                self._share(session)
                self._leave_opening(session)
            else:
                assert isinstance(last, Broken)  # a flow with a question does not end with its session
                self._leave_opening(last)
            if self._state is _UPLOAD:
                self._end_upload(last)
            else:
                self._put(events[:-1])
                self._finish(last)
        elif flow.awaiting is not _SESSION_DUE:
            # Without events, the head may belong to a refusal, after which the session is renewed.
            if events or self._state is _START:
                self._share(session)
            if self._state is _START:
                clock.stop()
                self._leave_opening(session)
                self._ask(Input.STARTED)
            if self._state is _ASK:  # the answer to an upload is not part of the question's
                self._put(events)
        elif self._state in (_ASK, _UPLOAD):
            clock.stop()
            self._state = TABLE.next(self._state, Input.REFUSED)

    def _ask(self, given: Input) -> None:
        self._state = TABLE.next(self._state, given)
        if self._files:
            self._state = TABLE.next(self._state, Input.FILE_DUE)

    def _end_upload(self, last: End | Broken) -> None:
        """Continue after a file was uploaded: with the next file, or with the question."""
        file_id = self._files[0]._file_id(last)
        if isinstance(file_id, Broken):
            self._finish(file_id)
            return
        self._files = self._files[1:]
        self._what = replace(self.submit, file_ids=(*self.submit.file_ids, file_id))
        try:
            self._begin(self.channel._session)
        except TooLarge as error:  # the ids have made it too large
            self._finish(Broken(Reason.TOO_LARGE, str(error), limit="request_bytes"))
        else:
            self._clock.stop()
            self._session = None
            self._state = TABLE.next(self._state, Input.UPLOADED)

    def _put(self, events: list[Event]) -> None:
        self._queue += events
        self._count += len(events)
        if self._texts is not None:
            self._texts += [event.text for event in events if isinstance(event, Live) and event.kind == "content"]
        if self._outbox is not None:
            self._outbox.put_events(events)

    def _finish(self, last: End | Broken) -> None:
        """End the reply, unless the question may be repeated."""
        # A request whose answer has begun is not repeated, even if it is not a question.
        pause = None if self._count else self.channel._retries.pause(last, self.retries)
        if pause is None:
            self._end(last, Input.TERMINAL)
        else:
            self._clock.stop()
            self._last, self._pause = keep_asked(last, self._last), pause
            self._state = TABLE.next(self._state, Input.POSTPONED)

    def _end(self, last: End | Broken, given: Input) -> None:
        self._clock.stop()
        last = keep_asked(last, self._last)
        if self._conversation is not None and self._texts is not None:
            self._conversation._finish(self.submit, last, "".join(self._texts), self._session)
        self._last = last
        self._count += 1
        self._state = TABLE.next(self._state, given)
        if self._outbox is not None:
            self._outbox.put_events([last])

    def _run_out(self) -> None:
        limit, words = self._clock.limit, self._clock.words(self._count)
        self._clock.stop()
        self._report(TimedOut(limit))
        if self._state is _WAIT:
            self._leave_opening(None)
            self._finish(self._refusal or Broken(Reason.TIMEOUT, words, limit=limit, in_session=True))
        else:
            self._take(self._fail(words, Reason.TIMEOUT, limit))

    # ---------------------------------------------------------------- the session

    def _find_session(self) -> None:
        if callable(self._what) or not self._what._needs_session:
            self._session = self._flow.session  # not for the channel
            self._state = TABLE.next(self._state, Input.FOUND)
            return
        channel = self.channel
        current, opening = channel._session, channel._opening
        useless = (None, self._session and self._session.nonce) if self._refusal else ()
        if current is not None and is_usable(current) and current.nonce not in useless:
            self._use(current)
        elif opening is not None and not opening.is_abandoned:
            self._opening = opening
            self._signal = channel._new_signal()
            opening.signals.append(self._signal)
            self._state = TABLE.next(self._state, Input.ANOTHER_STARTS)
        else:
            self._state = TABLE.next(self._state, Input.TO_START)
            self._opening = channel._opening = Opening(self)
            if current is not None and not self._refusal:  # a member's session, which must be proved
                self._give(current)
                self._session = current

    def _end_wait(self, outcome: Session | Broken | None) -> None:
        """Continue with the session that the other call started, or with its failure; None means that it has left."""
        self._opening = self._signal = None
        own = self._flow.session
        if isinstance(outcome, Broken):
            self._finish(self._refusal or outcome)
        elif outcome is None or not is_usable(outcome) or (own is not None and is_anothers(own, outcome)):
            # Also if a guest's question started it, and this is a member's.
            self._state = TABLE.next(self._state, Input.ABANDONED)
        else:
            self._use(outcome)

    def _use(self, session: Session) -> None:
        events = self._give(session)
        self._ask(_FOUND)
        self._session = self._flow.session
        if events:  # a refused question is not repeated without a nonce
            assert isinstance(events[0], Broken)
            self._finish(events[0])

    def _give(self, session: Session) -> list[Event]:
        assert isinstance(self._flow, Flow)
        if self._flow.session is session:
            return []
        if self._flow.awaiting is not _SESSION_DUE:  # it has a session that another question has since replaced
            self._begin(None)
        return self._flow.use_session(session)

    @property
    def _refusal(self) -> Broken | None:
        """The refusal of the first submit's nonce, with which the reply ends if there is no session."""
        return self._flow.refusal if isinstance(self._flow, Flow) else None

    def _leave_opening(self, outcome: Session | Broken | None) -> None:
        """Stop starting a session, or waiting for one."""
        opening = self._opening
        if opening is not None and self._state is _START:
            self.channel._opening = None
            opening.settle(outcome)
        elif opening is not None and self._signal in opening.signals:
            opening.signals.remove(self._signal)
            self._signal = None
        self._opening = None  # last: if this is interrupted, `close` does it again

    def _share(self, session: Session | None) -> None:
        """Give the channel this flow's session, unless another call has provided a newer one."""
        if session is not None and session is not self._session:
            if self.channel._session == self._session:
                self.channel._session = session
            self._session = session
