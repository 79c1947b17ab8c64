"""SIGTERM and SIGHUP end the command as Ctrl-C does: connections are closed, and files are written."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["ending_signal", "signals_end_as_ctrl_c"]

_received: list[int] = []


def ending_signal() -> int | None:
    """The signal that is ending this process, or None."""
    return _received[0] if _received else None


@contextmanager
def signals_end_as_ctrl_c() -> Iterator[None]:
    """Active during the block, in the main thread. Signals that are ignored (`nohup`) or handled stay so."""
    names = [name for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    numbers = [number for name in names if signal.getsignal(number := getattr(signal, name)) == signal.SIG_DFL]
    if threading.current_thread() is not threading.main_thread():
        numbers = []
    _received.clear()
    for number in numbers:
        signal.signal(number, _interrupt)
    try:
        yield
    finally:
        for number in numbers:
            signal.signal(number, signal.SIG_DFL)


def _interrupt(number: int, frame: Any) -> None:
    if _received:
        return  # it is ending already
    _received.append(number)
    if not callable(signal.getsignal(signal.SIGINT)):  # ignored, as in background jobs of a shell
        raise KeyboardInterrupt
    signal.raise_signal(signal.SIGINT)  # event loops handle SIGINT in their own way
