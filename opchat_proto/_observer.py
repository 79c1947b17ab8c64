"""Tell the observer of a call each step, report and event, once and in order."""

from collections import deque
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, TypeAlias, final

from ._events import Event
from ._http import Request
from ._reports import DataReceived, HeadReceived, Report
from ._steps import Connect, Done, Receive, Send, StartTLS, Wait

if TYPE_CHECKING:
    from ._call import Call
    from ._http_call import HTTPCall

__all__ = ["Observer"]

Step: TypeAlias = Connect | StartTLS | Send | Request | Receive | Wait | Done

Observer: TypeAlias = Callable[["Call | HTTPCall", Step | Report | Event], object]
"""Receives each step, report and event of a call as a value, in order."""


@final
class Outbox:
    """The items of one call that its observer has not received yet. Filled under the lock, emptied outside it."""

    __slots__ = ("_is_telling", "_items", "_lock", "_observer", "_step")

    def __init__(self, observer: Observer, lock: AbstractContextManager[Any]) -> None:
        self._observer = observer
        self._lock = lock
        self._items: deque[Step | Report | Event] = deque()
        self._step: Step | None = None  # the step that was told, until it is reported
        self._is_telling = False

    def put_step(self, step: Any) -> None:
        """A step was handed out. It is told once, even if the driver asks again."""
        if step != self._step:
            self._step = step
            self._items.append(step)

    def put_report(self, report: Report) -> None:
        """A report has changed the call."""
        self._items.append(report)
        if type(self._step) is Receive or not isinstance(report, DataReceived | HeadReceived):
            self._step = None  # otherwise it is an early answer, and the step continues

    def put_events(self, events: Sequence[Event]) -> None:
        """Events were queued."""
        self._items += events

    def tell(self, call: Any) -> None:
        """Call the observer with all waiting items in order, in whichever thread is first. Its exceptions propagate."""
        while True:
            with self._lock:
                if self._is_telling or not self._items:
                    return
                self._is_telling = True
                item = self._items.popleft()
            try:
                self._observer(call, item)
            finally:
                self._is_telling = False
