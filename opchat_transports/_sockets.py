"""Blocking sockets with deadlines, for the transport and the server."""

import _thread
import math
import socket
import threading
import time
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, TypeVar, final

from ._common import READ, tune

__all__ = ["Flag", "SocketStream", "at_once", "connect", "look_up", "send_all", "set_timeout", "shut_down"]

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


@final
class Flag:
    """What the transport needs of `threading.Event`, on a bare lock.

    An interrupt such as Ctrl-C can leave the lock inside an `Event` taken, or come out
    of its `wait` as a RuntimeError. `set` also works in a weakref's callback, which may
    run in the middle of `wait`.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lock.acquire()

    def set(self) -> None:
        with suppress(RuntimeError):  # it was set before
            self._lock.release()

    def wait(self, until: float) -> None:
        """Wait until it is set. Raises `TimeoutError` at `until`."""
        if not self._lock.acquire(timeout=-1 if until == math.inf else max(0.0, until - time.monotonic())):
            raise TimeoutError("timed out")
        self.set()


def look_up(host: str, port: int, end: float, over: Flag) -> list[Any]:
    """Return the addresses of a name. Raises `OSError`, `UnicodeError`, and `TimeoutError` if `end` passes.

    The system's lookup cannot be interrupted, so it runs in a daemon thread. Setting
    `over` ends the wait with an `OSError`.
    """
    found: list[list[Any]] = []
    failed: list[Exception] = []

    def run() -> None:
        try:  # with bytes, since for a str Python would import its IDNA codec
            found.append(socket.getaddrinfo(host.encode("ascii"), port, type=socket.SOCK_STREAM))
        except Exception as error:
            failed.append(error)
        over.set()

    try:
        _thread.start_new_thread(run, ())  # Thread.start waits for an Event
    except RuntimeError as error:  # the system has no more threads
        raise OSError(str(error)) from None
    over.wait(end)
    if failed:
        raise failed.pop()  # a traceback refers to this frame, so the frame must not refer to the exception
    if not found:
        raise OSError("the lookup was given up")
    return found[0]


def connect(
    addresses: list[Any], end: float, opened: Callable[[socket.socket], object] = lambda _: None
) -> socket.socket:
    """Connect to the first address that accepts, each with its share of the time.

    `opened` gets each socket before it connects. Raises the `OSError` of the last address.
    """
    for index, (family, kind, protocol, _, address) in enumerate(addresses):
        connection: socket.socket | None = None
        try:
            connection = socket.socket(family, kind, protocol)
            opened(connection)
            set_timeout(connection, end, share=len(addresses) - index)
            connection.connect(address)
            tune(connection)
            return connection
        except BaseException as error:
            if connection is not None:
                connection.close()
            if index == len(addresses) - 1 or not isinstance(error, OSError):
                raise
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


def at_once(work: Callable[..., Coroutine[Any, Any, _T]], *arguments: Any) -> _T:
    """Run a coroutine function that never suspends, and return its result."""
    try:
        work(*arguments).send(None)  # on one line: a coroutine that an interrupt drops before it begins is warned of
    except StopIteration as stop:
        result: _T = stop.value
        return result
    raise AssertionError("a blocking stream has waited")


def shut_down(connection: socket.socket) -> None:
    """Wake everything that waits for this connection. It stays open, so that its descriptor is not reused."""
    with suppress(OSError):  # not connected
        socket.socket.shutdown(connection, socket.SHUT_RDWR)  # SSLSocket's would drop TLS while another thread reads
