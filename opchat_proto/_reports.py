"""What a driver reported, as values for an observer. Each is named after the method that was called."""

from dataclasses import dataclass, field
from typing import TypeAlias, final

from ._events import Reason

__all__ = ["Closed", "DataReceived", "EOFReceived", "HeadReceived", "Report", "StepDone", "StepFailed", "TimedOut"]


@final
@dataclass(frozen=True, slots=True)
class StepDone:
    """`step_done()`: the Connect, StartTLS or Send before it is done."""


@final
@dataclass(frozen=True, slots=True)
class StepFailed:
    """`step_failed()`: the step before it failed. `detail` is the I/O library's message."""

    detail: str
    reason: Reason


@final
@dataclass(frozen=True, slots=True)
class HeadReceived:
    """`receive_head()` of an `HTTPCall`."""

    status: int
    headers: tuple[tuple[str | bytes, str | bytes], ...] = field(repr=False)  # they may hold a cookie


@final
@dataclass(frozen=True, slots=True)
class DataReceived:
    """`receive_data()`."""

    data: bytes = field(repr=False)  # it may hold a nonce


@final
@dataclass(frozen=True, slots=True)
class EOFReceived:
    """`receive_eof()`."""


@final
@dataclass(frozen=True, slots=True)
class TimedOut:
    """A clock ran out: `limit` is its name in `Timeouts`."""

    limit: str


@final
@dataclass(frozen=True, slots=True)
class Closed:
    """`close()`: the caller left before the reply was over."""


Report: TypeAlias = StepDone | StepFailed | HeadReceived | DataReceived | EOFReceived | TimedOut | Closed
