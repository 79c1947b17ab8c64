"""One question over connections: TCP, TLS and HTTP/1.1 as steps."""

from typing import Any, final

from ._call_base import CallBase
from ._call_table import Input
from ._client import ANY_RECEIVE, Client
from ._events import Event, Reason, check_failure
from ._flow_table import Awaiting
from ._reports import StepDone, StepFailed
from ._session import Session
from ._steps import Connect, Receive, Send, StartTLS

__all__ = ["Call"]

_EVENT, _STEP_DONE = Awaiting.EVENT, Input.STEP_DONE  # looking up a global is much faster than a member of an enum


@final
class Call(CallBase[Connect | StartTLS | Send | Receive]):
    """One question over your own connections, made by `Channel.call`.

        while True:
            while (event := call.next_event()) is not None:
                ...
            step, until = call.next_step(now())
            # perform the step until then, and report it

    The steps are those of `Client`, and `Wait`. Nothing happens before the first
    `next_step`. Reports return nothing: their events are queued.
    """

    __slots__ = ("_machine",)

    _machine: Client

    @property
    def sent(self) -> tuple[int, int]:
        """How many bytes of the request were sent, and its size; (0, 0) before and after sending.

        An observer receives each `Send` of at most 256 KiB, so it can show the progress of
        a large file (`upload`).
        """
        return self._machine.sent

    def step_done(self) -> None:
        """The connection is open, TLS is up, or the bytes were sent. Raises `LocalProtocolError` at any other step."""
        with self.channel._lock:
            if self._takes(_STEP_DONE):
                self._machine.step_done()
                self._clock.stop()
                if self._outbox is not None:
                    self._outbox.put_report(StepDone())
        self._tell()

    def step_failed(self, detail: str, reason: Reason = Reason.LOST) -> None:
        """The step failed; see `Client.step_failed`. Ignored while no connection is wanted."""
        check_failure(detail, reason)
        with self.channel._lock:
            if self._takes(Input.STEP_FAILED):
                events = self._fail(detail, reason, None)
                self._clock.stop()
                self._report(StepFailed(detail, reason))
                self._take(events)
        self._tell()

    def _begin(self, session: Session | None) -> None:
        self._flow = self._new_flow(session)
        self._machine = Client(self._flow, proxy=self.channel.proxy)

    def _work(self) -> tuple[Connect | StartTLS | Send | Receive, type[object] | Awaiting]:
        step: Any = self._machine.next_step()
        if step is not ANY_RECEIVE:
            return step, type(step)
        awaiting = _EVENT if self._count else self._machine.awaiting
        assert awaiting is not None
        return step, awaiting

    def _fail(self, detail: str, reason: Reason, limit: str | None) -> list[Event]:
        return self._machine.step_failed(detail, reason, limit=limit)
