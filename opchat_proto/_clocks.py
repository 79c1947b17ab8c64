"""How long to wait for the peer. Time is an argument: any monotonic number of seconds."""

import math
from dataclasses import dataclass, fields
from typing import final

from ._flow_table import Awaiting
from ._http import Request
from ._steps import Connect, Send, StartTLS, Wait
from ._value import Value

__all__ = ["Timeouts"]

_LONGEST = 1_000_000  # seconds, eleven days: poll() counts milliseconds in 32 bits, which overflow after 24 days


@final
@dataclass(frozen=True, slots=True, eq=False, repr=False, kw_only=True)
class Timeouts(Value):
    """How long to wait for the peer, in seconds. None switches a clock off.

    The clocks measure the network and the server, never the caller: a reply that is not
    being read does not time out. If a clock runs out, the reply ends with
    `Broken(TIMEOUT)`, and `limit` is its name.

    Raises `TypeError` for a value that is not a number, `ValueError` unless it is above 0
    and at most a million.
    """

    connect: float | None = 10
    """To connect, including the name lookup; the same again for TLS, and for each reply of a proxy."""
    write: float | None = 30
    """To send a request, or each 256 KiB of a large one."""
    first_event: float | None = 300
    """For the answer to start_session, and then for the first event: a model may think for long."""
    idle: float | None = 120
    """Between two events of an answer. Keep-alive comments do not count."""

    def __post_init__(self) -> None:
        """Check each field."""
        for field in fields(self):
            value = getattr(self, field.name)
            if value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise TypeError(f"Timeouts.{field.name}: expected seconds or None, got {type(value).__name__}")
            if not 0 < value <= _LONGEST:
                raise ValueError(f"Timeouts.{field.name}: expected above 0 and at most {_LONGEST} seconds, got {value}")


# For each phase (a kind of step, or what the server owes at `Receive`): the name of its clock, and what is missing.
_CLOCKS: dict[type[object] | Awaiting, tuple[str, str]] = {
    Connect: ("connect", "no connection"),
    StartTLS: ("connect", "no handshake"),
    Awaiting.PROXY: ("connect", "no reply"),
    Send: ("write", "not all of it was taken"),
    Request: ("first_event", "no answer"),
    Wait: ("first_event", "no session from the question before"),
    Awaiting.SESSION: ("first_event", "no answer"),
    Awaiting.FIRST_EVENT: ("first_event", "no event of the answer"),
    Awaiting.EVENT: ("idle", "no further event of the answer"),
}


@final
class Clock:
    """The clock of a question's current step. It runs from `start` to `stop`."""

    __slots__ = ("_seconds", "_timeouts", "deadline", "phase")

    def __init__(self, timeouts: Timeouts) -> None:
        self._timeouts = timeouts
        self.phase: type[object] | Awaiting = Connect
        self._seconds = timeouts.connect
        self.deadline: float | None = None
        """The deadline: infinity if the clock is switched off, None if none is running."""

    def start(self, phase: type[object] | Awaiting, now: float) -> float:
        """Return the deadline of this phase. It stays the same for the same phase, until `stop`."""
        if phase is not self.phase:
            self.phase = phase
            self._seconds = self._choose(phase)
            self.deadline = None
        if self.deadline is None:
            self.deadline = math.inf if self._seconds is None else now + self._seconds
        return self.deadline

    def stop(self) -> None:
        """The step is over, or gave an event: the next `start` sets a new deadline."""
        self.deadline = None

    @property
    def limit(self) -> str:
        """The name of the clock in `Timeouts`."""
        return _CLOCKS[self.phase][0]

    def words(self, events: int) -> str:
        """What is missing, for a person, after this many events."""
        limit, what = _CLOCKS[self.phase]
        after = f"{events} event{'' if events == 1 else 's'}"
        return f"{what} within {self._seconds:g} s (timeout {limit!r}), after {after}"

    def _choose(self, phase: type[object] | Awaiting) -> float | None:
        timeouts = self._timeouts
        if phase is Request or phase is Wait:
            # The library connects, sends and reads the head without a report in between. To the calls that wait, the
            # call that starts the session looks the same.
            if timeouts.connect is None or timeouts.write is None or timeouts.first_event is None:
                return None
            return timeouts.connect + timeouts.write + timeouts.first_event
        seconds: float | None = getattr(timeouts, _CLOCKS[phase][0])
        return seconds
