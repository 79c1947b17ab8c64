"""The connections of the threaded server that have sent nothing yet."""

import math
import selectors
import socket
import time
from types import TracebackType
from typing import Self, final

__all__ = ["Lobby"]


@final
class Lobby:
    """The connections that have sent nothing yet. They have no threads, so there may be many, and closing one is cheap.
    Only the accepting thread uses it."""

    def __init__(self, selector: selectors.BaseSelector, seconds: float) -> None:
        self._selector = selector
        self._seconds = seconds  # that each may be silent
        self._waiting: dict[int, tuple[socket.socket, str, float]] = {}  # by descriptor: socket, client, since when

    def __len__(self) -> int:
        return len(self._waiting)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        while self._waiting:
            self.close_longest()

    def add(self, connection: socket.socket, client: str) -> None:
        self._waiting[connection.fileno()] = connection, client, time.monotonic()
        self._selector.register(connection, selectors.EVENT_READ)

    def take(self, descriptor: int) -> tuple[socket.socket, str] | None:
        """Remove and return a connection with data to read; None if it was closed meanwhile."""
        found = self._waiting.pop(descriptor, None)
        if found is None:
            return None
        self._selector.unregister(found[0])
        return found[:2]

    def longest(self) -> float:
        """Since when the first of them has been waiting."""
        return next((since for _, _, since in self._waiting.values()), math.inf)

    def close_longest(self) -> None:
        found = self.take(next(iter(self._waiting)))
        if found is not None:
            found[0].close()

    def timeout(self) -> float | None:
        """The seconds until the first of them has waited too long."""
        until = self.longest() + self._seconds
        return None if until == math.inf else max(0.0, until - time.monotonic())

    def close_late(self) -> None:
        while self.timeout() == 0:
            self.close_longest()
