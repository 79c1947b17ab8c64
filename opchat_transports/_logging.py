"""The logger "opchat": one line for each finished question, and at DEBUG one for each step. No texts, no secrets.

Silent unless the application sets the level of the logger, or of the root logger,
before it makes the transport:

    logging.basicConfig()
    logging.getLogger("opchat").setLevel(logging.INFO)
"""

import logging
import time
from weakref import WeakKeyDictionary

from opchat_proto import (
    Broken,
    Call,
    Connect,
    Done,
    End,
    HTTPCall,
    Live,
    Observer,
    Receive,
    Request,
    Send,
    StartTLS,
    Wait,
)

__all__ = ["LOGGER", "with_log"]

LOGGER = logging.getLogger("opchat")
LOGGER.addHandler(logging.NullHandler())


def with_log(observer: Observer | None) -> Observer | None:
    """An observer that logs and calls `observer`. If the log is off, `observer` itself, so that it costs nothing."""
    if not LOGGER.isEnabledFor(logging.INFO) or not (observer is None or callable(observer)):
        return observer
    begun: WeakKeyDictionary[Call | HTTPCall, list[float]] = WeakKeyDictionary()  # start time, and number of events

    def log(call: Call | HTTPCall, item: object) -> None:
        known = begun.setdefault(call, [time.monotonic(), 0])
        match item:
            case Send(data):
                LOGGER.debug("%s: Send(%d bytes)", call.channel.endpoint.origin, len(data))
            case Connect() | StartTLS() | Request() | Receive() | Wait() | Done():
                LOGGER.debug("%s: %r", call.channel.endpoint.origin, item)
            case Live() | End() | Broken():
                known[1] += 1
                if not isinstance(item, Live):
                    _log_end(call, item, time.monotonic() - known[0], known[1])
        if observer is not None:
            observer(call, item)  # type: ignore[arg-type]  # `object` is what `match` needs

    return log


def _log_end(call: Call | HTTPCall, last: End | Broken, seconds: float, events: float) -> None:
    outcome = "complete"
    if isinstance(last, Broken):
        status = f"status {last.status}" if last.status is not None else None
        about = ", ".join(word for word in (status, last.limit) if word)
        outcome = f"broken, {last.reason.value}{f' ({about})' if about else ''}"
    site = call.channel.endpoint.origin
    LOGGER.info("%s: %s; events: %d, seconds: %.3f, retries: %d", site, outcome, events, seconds, call.retries)
