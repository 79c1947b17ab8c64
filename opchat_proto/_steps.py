"""What a machine that speaks bytes wants done next. A driver is a loop around these."""

from dataclasses import dataclass, field
from typing import final

__all__ = ["Connect", "Done", "Receive", "Send", "StartTLS"]


@final
@dataclass(frozen=True, slots=True)
class Connect:
    """Open a new connection to this host and port, closing the one before if there is one. Then `step_done()`."""

    host: str
    port: int


@final
@dataclass(frozen=True, slots=True)
class StartTLS:
    """Begin TLS on the connection and check the certificate for this name. Then `step_done()`."""

    server_name: str


@final
@dataclass(frozen=True, slots=True)
class Send:
    """Send all of these bytes. Then `step_done()`, or `send_failed()` if they could not be sent."""

    data: bytes = field(repr=False)  # it may hold the nonce and the cookie


@final
@dataclass(frozen=True, slots=True)
class Receive:
    """Read once and report what came: `receive_data`, `receive_eof` or `receive_failure`."""


@final
@dataclass(frozen=True, slots=True)
class Done:
    """It is over: close the connection."""
