"""The steps that a machine asks its driver to perform. A driver is a loop around them."""

from dataclasses import dataclass, field
from typing import Any, final

from ._value import Value

__all__ = ["Connect", "Done", "Receive", "Send", "StartTLS", "Wait"]


@final
@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Connect(Value):
    """Open a new connection to this host and port; close the previous one first. Then `step_done()`."""

    host: str
    port: int


@final
@dataclass(frozen=True, slots=True, eq=False, repr=False)
class StartTLS(Value):
    """Start TLS on the connection, and check the certificate for this name. Then `step_done()`."""

    server_name: str


@final
@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Send(Value):
    """Send all of these bytes. Then `step_done()`, or `step_failed()` if they could not be sent."""

    data: bytes = field(repr=False)  # it may contain the nonce and the cookie


@final
@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Receive(Value):
    """Read once, and report the result: `receive_data`, `receive_eof` or `step_failed`."""


@final
@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Wait(Value):
    """Close the connection if there is one, and ask for the next step when `signal` is set or the time is reached.

    It needs no report. `signal` is made by the channel's factory; without a factory it
    is None: then ask again from time to time.
    """

    signal: Any = field(repr=False)


@final
@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Done(Value):
    """The question is over: close the connection."""
