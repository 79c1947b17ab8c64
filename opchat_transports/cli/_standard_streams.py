"""Standard streams that wait even if their descriptor is non-blocking.

O_NONBLOCK belongs to the open file, which other programs share and may change at
any time. Python's own streams then read part of the input, or lose the rest of the
output.
"""

import io
import selectors
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, final

__all__ = ["discard", "waiting_streams"]

_PAUSE = 0.01  # seconds, on systems that can wait only for sockets


@contextmanager
def waiting_streams() -> Iterator[None]:
    """Replace this process's standard streams during the block.

    Streams that were already replaced stay.
    """
    before = (sys.stdin, sys.stdout, sys.stderr)
    for name in ("stdin", "stdout", "stderr"):
        stream = getattr(sys, name)
        raw = _raw(stream) if stream is getattr(sys, f"__{name}__") else None
        if raw is None:
            continue
        file = _WaitingFile(raw)
        buffer: Any = io.BufferedReader(file) if name == "stdin" else io.BufferedWriter(file)
        errors = "replace" if name == "stdin" else "backslashreplace"  # no character makes it fail
        setattr(sys, name, io.TextIOWrapper(buffer, stream.encoding, errors, line_buffering=True))
    try:
        yield
    finally:
        for stream in (sys.stdout, sys.stderr):
            if stream not in before and stream is not None:
                with suppress(OSError):
                    stream.flush()
                discard(stream)
        sys.stdin, sys.stdout, sys.stderr = before


def discard(stream: Any) -> None:
    """Drop the buffered output, which would be written again when the stream is closed."""
    raw = _raw(stream)
    if isinstance(raw, _WaitingFile):
        raw.is_open = False


def _raw(stream: Any) -> Any:
    buffer = getattr(stream, "buffer", None)
    # With `python -u` there is no buffer.
    return buffer if isinstance(buffer, io.RawIOBase) else getattr(buffer, "raw", None)


@final
class _WaitingFile(io.RawIOBase):
    """Reads and writes like the given file, but waits where that would not block."""

    def __init__(self, raw: Any) -> None:
        self._raw = raw
        self.is_open = True

    def fileno(self) -> int:
        return int(self._raw.fileno())

    def isatty(self) -> bool:
        return bool(self._raw.isatty())

    def readable(self) -> bool:
        return bool(self._raw.readable())

    def writable(self) -> bool:
        return bool(self._raw.writable())

    def readinto(self, buffer: Any, /) -> int:
        while (count := self._raw.readinto(buffer)) is None:
            _wait(self.fileno(), selectors.EVENT_READ)
        return int(count)

    def write(self, data: Any, /) -> int:
        if not self.is_open:
            return len(data)
        while (count := self._raw.write(data)) is None:
            _wait(self.fileno(), selectors.EVENT_WRITE)
        return int(count)


def _wait(descriptor: int, event: int) -> None:
    selector = getattr(selectors, "PollSelector", selectors.SelectSelector)()
    try:
        with selector:
            selector.register(descriptor, event)
            selector.select()
    except OSError:
        time.sleep(_PAUSE)  # what a selector does not accept, such as a file, can only be retried
