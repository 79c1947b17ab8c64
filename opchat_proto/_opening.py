"""A start_session that several calls share: one of them asks for it, and the others wait."""

import weakref
from typing import Protocol, final

from ._events import Broken
from ._session import Session

__all__ = ["Signal"]


class Signal(Protocol):
    """`trio.Event`, `asyncio.Event` or `threading.Event`: what a driver waits for at `Wait`."""

    def set(self) -> None:
        """Let the driver go on."""


@final
class Opening:
    """A start_session that is under way: which call asks for it, and the signals of those that wait."""

    __slots__ = ("outcome", "signals", "starter")

    def __init__(self, starter: object) -> None:
        self.outcome: Session | Broken | None = None
        self.signals: list[Signal] = []
        # Weak, so that others go on where somebody forgets to close the reply. The callback may run at any time and in
        # any thread, so it takes no lock: those who are woken look for themselves.
        self.starter: weakref.ref[object] | None = weakref.ref(starter, lambda _: self.wake())

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
