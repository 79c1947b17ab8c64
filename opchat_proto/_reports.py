"""A driver's reports as values for an observer. Each is named after its method."""

from dataclasses import dataclass, field
from typing import TypeAlias, final

from ._events import Reason
from ._value import Value

__all__ = ["Closed", "DataReceived", "EOFReceived", "HeadReceived", "Report", "StepDone", "StepFailed", "TimedOut"]


@final
@dataclass(frozen=True, slots=True, eq=False, repr=False)
class StepDone(Value):
    """`step_done()`: the previous Connect, StartTLS or Send is done."""


@final
@dataclass(frozen=True, slots=True, eq=False, repr=False)
class StepFailed(Value):
    """`step_failed()`: the previous step failed. `detail` is the I/O library's message."""

    detail: str
    reason: Reason


@final
@dataclass(frozen=True, slots=True, eq=False, repr=False)
class HeadReceived(Value):
    """`receive_head()` of an `HTTPCall`."""

    status: int
    headers: tuple[tuple[str | bytes, str | bytes], ...] = field(repr=False)  # they may contain a cookie


@final
@dataclass(frozen=True, slots=True, eq=False, repr=False)
class DataReceived(Value):
    """`receive_data()`."""

    data: bytes = field(repr=False)  # it may contain a nonce


@final
@dataclass(frozen=True, slots=True, eq=False, repr=False)
class EOFReceived(Value):
    """`receive_eof()`."""


@final
@dataclass(frozen=True, slots=True, eq=False, repr=False)
class TimedOut(Value):
    """A clock ran out: `limit` is its name in `Timeouts`."""

    limit: str


@final
@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Closed(Value):
    """`close()`: the caller left before the reply was over."""


Report: TypeAlias = StepDone | StepFailed | HeadReceived | DataReceived | EOFReceived | TimedOut | Closed
