"""A start_session that several calls share: one of them sends it, and the others wait."""

import weakref
from typing import Protocol, final

from ._events import Broken
from ._session import Session

__all__ = ["Signal"]


class Signal(Protocol):
    """`trio.Event`, `asyncio.Event` or `threading.Event`: a driver waits for it at `Wait`."""

    def set(self) -> None:
        """Wake the driver."""


@final
class Opening:
    """A start_session under way: the call that sends it, and the signals of the calls that wait."""

    __slots__ = ("outcome", "signals", "starter")

    def __init__(self, starter: object) -> None:
        self.outcome: Session | Broken | None = None
        self.signals: list[Signal | None] = []
        # Weak, so that the others continue if a reply is dropped without closing. The callback may run at any time in
        # any thread, so it takes no lock: the calls that it wakes check for themselves.
        self.starter: weakref.ref[object] | None = weakref.ref(starter, lambda _: self.wake())

    @property
    def is_abandoned(self) -> bool:
        return self.outcome is None and (self.starter is None or self.starter() is None)

    @property
    def is_settled(self) -> bool:
        return self.outcome is not None or self.is_abandoned

    def settle(self, outcome: Session | Broken | None) -> None:
        """The start_session is over; None means that its call has left."""
        self.outcome = outcome
        self.starter = None
        self.wake()

    def wake(self) -> None:
        for signal in list(self.signals):
            if signal is not None:
                signal.set()
