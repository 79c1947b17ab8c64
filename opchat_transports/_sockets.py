"""Blocking sockets with deadlines: what the transport and the server share."""

import math
import socket
import time
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any, TypeVar

from ._common import READ

__all__ = ["SocketStream", "at_once", "send_all", "set_timeout", "shut_down"]

_T = TypeVar("_T")
_LONGEST = 1_000_000.0  # seconds, for what may take forever, in place of no timeout
_IMMATERIAL = 0.001  # seconds by which a timeout may be off: each change is a call to the system


def set_timeout(connection: socket.socket, end: float, share: int = 1) -> None:
    """Let the next call take until `end`, or a share of the time that is left. Raises `TimeoutError` if none is.

    The socket always has a timeout. Without one, `connect` would not see that the socket
    was shut down before; with one, Python polls it.
    """
    left = min((end - time.monotonic()) / share, _LONGEST)
    if left <= 0:
        raise TimeoutError("timed out")
    before = connection.gettimeout()
    if not before or abs(before - left) > _IMMATERIAL:
        connection.settimeout(left)


def send_all(connection: socket.socket, data: bytes, end: float) -> None:
    # socket.sendall would start its clock anew with each TLS record.
    rest = memoryview(data)
    while rest:
        set_timeout(connection, end)
        rest = rest[connection.send(rest) :]


class SocketStream:
    """A socket in the shape of an async stream, for `TLSStream`: its coroutines block instead of waiting."""

    def __init__(self, connection: socket.socket) -> None:
        self.socket = connection
        self.until = math.inf  # of what is called next

    async def receive_some(self) -> bytes:
        set_timeout(self.socket, self.until)
        return self.socket.recv(READ)

    async def send_all(self, data: bytes) -> None:
        send_all(self.socket, data, self.until)

    def abort(self) -> None:
        self.socket.close()


def at_once(work: Coroutine[Any, Any, _T]) -> _T:
    """The result of a coroutine that never waits for another."""
    try:
        work.send(None)
    except StopIteration as stop:
        result: _T = stop.value
        return result
    raise AssertionError("a blocking stream has waited")


def shut_down(connection: socket.socket) -> None:
    """End what waits for this connection. It stays open, so that its number is not given to another."""
    with suppress(OSError):  # not connected, or not any more
        socket.socket.shutdown(connection, socket.SHUT_RDWR)  # SSLSocket's own would take TLS from under its reader
