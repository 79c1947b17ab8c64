"""Blocking sockets with deadlines, for the transport and the server."""

import math
import socket
import threading
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from typing import Any, TypeVar

from ._common import READ, tune

__all__ = ["SocketStream", "at_once", "connect", "look_up", "send_all", "set_timeout", "shut_down"]

_T = TypeVar("_T")
_LONGEST = 1_000_000.0  # seconds, instead of no timeout
_IMMATERIAL = 0.001  # seconds of tolerance, since each change of a timeout is a system call


def set_timeout(connection: socket.socket, end: float, share: int = 1) -> None:
    """Let the next call take until `end`, or a share of the remaining time. Raises `TimeoutError` if `end` has passed.

    The socket always has a timeout: with one, Python polls it, and `connect` notices that
    the socket was shut down.
    """
    left = min((end - time.monotonic()) / share, _LONGEST)
    if left <= 0:
        raise TimeoutError("timed out")
    before = connection.gettimeout()
    if not before or abs(before - left) > _IMMATERIAL:
        connection.settimeout(left)


def look_up(host: str, port: int, end: float, found: "Future[list[Any]]") -> list[Any]:
    """Return the addresses of a name. Raises `OSError`, `UnicodeError`, and `TimeoutError` if `end` passes.

    The system's lookup cannot be interrupted, so it runs in a daemon thread. An exception
    set on `found` ends the wait.
    """

    def run() -> None:
        with suppress(InvalidStateError):  # nobody waits any more
            try:  # with bytes, since for a str Python would import its IDNA codec
                found.set_result(socket.getaddrinfo(host.encode("ascii"), port, type=socket.SOCK_STREAM))
            except (OSError, UnicodeError) as error:
                found.set_exception(error)

    threading.Thread(target=run, name="opchat lookup", daemon=True).start()
    return found.result(None if end == math.inf else max(0.0, end - time.monotonic()))


def connect(
    addresses: list[Any], end: float, opened: Callable[[socket.socket], object] = lambda _: None
) -> socket.socket:
    """Connect to the first address that accepts, each with its share of the time.

    `opened` gets each socket before it connects. Raises the `OSError` of the last address.
    """
    for index, (family, kind, protocol, _, address) in enumerate(addresses):
        connection = socket.socket(family, kind, protocol)
        try:
            opened(connection)
            set_timeout(connection, end, share=len(addresses) - index)
            connection.connect(address)
            tune(connection)
        except OSError:
            connection.close()
            if index == len(addresses) - 1:
                raise
        else:
            return connection
    raise OSError("the name has no address")


def send_all(connection: socket.socket, data: bytes, end: float) -> None:
    # socket.sendall would restart its clock with each TLS record.
    rest = memoryview(data)
    while rest:
        set_timeout(connection, end)
        rest = rest[connection.send(rest) :]


class SocketStream:
    """A socket with the interface of an async stream, for `TLSStream`: its coroutines block instead of awaiting."""

    def __init__(self, connection: socket.socket) -> None:
        self.socket = connection
        self.until = math.inf  # the deadline of the next call

    async def receive_some(self) -> bytes:
        set_timeout(self.socket, self.until)
        return self.socket.recv(READ)

    async def send_all(self, data: bytes) -> None:
        send_all(self.socket, data, self.until)

    def abort(self) -> None:
        self.socket.close()


def at_once(work: Coroutine[Any, Any, _T]) -> _T:
    """Run a coroutine that never suspends, and return its result."""
    try:
        work.send(None)
    except StopIteration as stop:
        result: _T = stop.value
        return result
    raise AssertionError("a blocking stream has waited")


def shut_down(connection: socket.socket) -> None:
    """Wake everything that waits for this connection. It stays open, so that its descriptor is not reused."""
    with suppress(OSError):  # not connected
        socket.socket.shutdown(connection, socket.SHUT_RDWR)  # SSLSocket's would drop TLS while another thread reads
