"""Blocking sockets with deadlines: what the transport and the server share."""

import math
import socket
import ssl
import time
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar, final

from ._common import tcp_options

__all__ = ["READ", "InnerTLS", "deadline", "ran_out", "send_all", "set_timeout", "shut_down", "tune"]

_T = TypeVar("_T")
READ = 64 * 1024
_IMMATERIAL = 0.001  # seconds by which a timeout may be off: each change is a call to the system


def deadline(seconds: float | None) -> float:
    """The instant so many seconds from now; infinity for None."""
    return math.inf if seconds is None else time.monotonic() + seconds


@final
class InnerTLS:
    """TLS with the site inside of TLS with the proxy: what is used of a socket. It does not close the outer one."""

    def __init__(self, outer: ssl.SSLSocket, context: ssl.SSLContext, server_name: str) -> None:
        self._outer = outer
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=server_name)
        self._end: float | None = math.inf

    def settimeout(self, seconds: float | None) -> None:
        # From now on, since one call here can be several of the outer socket.
        self._end = None if seconds == 0 else deadline(seconds)

    def gettimeout(self) -> float | None:
        if self._end is None:
            return 0.0
        return None if self._end == math.inf else self._end - time.monotonic()

    def do_handshake(self) -> None:
        self._run(self._tls.do_handshake)

    def send(self, data: memoryview) -> int:
        return self._run(lambda: self._tls.write(data))

    def recv(self, size: int) -> bytes:
        return self._run(lambda: self._tls.read(size))

    def _run(self, call: Callable[[], _T]) -> _T:
        while True:
            try:
                result = call()
            except ssl.SSLWantReadError:
                self._flush()
            except ssl.SSLError:
                with suppress(OSError):
                    self._flush()  # an alert
                raise
            else:
                self._flush()
                return result
            self._limit()
            data = self._outer.recv(READ)
            if data:
                self._incoming.write(data)
            else:
                self._incoming.write_eof()  # which is a cut, unless the site has ended its TLS before

    def _flush(self) -> None:
        if self._end is not None:  # else it goes out with the next call that may wait
            send_all(self._outer, self._outgoing.read(), self._end)

    def _limit(self) -> None:
        if self._end is None:
            self._outer.settimeout(0)
        else:
            set_timeout(self._outer, self._end)


def set_timeout(connection: socket.socket | InnerTLS, end: float, share: int = 1) -> None:
    """Let the next call take until `end`, or a share of the time that is left. Raises `TimeoutError` if none is."""
    left = (end - time.monotonic()) / share
    if left <= 0:
        raise TimeoutError("timed out")
    before = connection.gettimeout()
    if not before or abs(before - left) > _IMMATERIAL:
        connection.settimeout(None if left == math.inf else left)


def send_all(connection: socket.socket | InnerTLS, data: bytes, end: float) -> None:
    # socket.sendall would start its clock anew with each TLS record.
    rest = memoryview(data)
    while rest:
        set_timeout(connection, end)
        rest = rest[connection.send(rest) :]


def ran_out(error: Exception) -> bool:
    """Whether this is our clock, and not the system's (ETIMEDOUT), which is a lost connection."""
    return isinstance(error, TimeoutError) and error.errno is None


def shut_down(connection: socket.socket) -> None:
    """End what waits for this connection. It stays open, so that its number is not given to another."""
    with suppress(OSError):  # not connected, or not any more
        socket.socket.shutdown(connection, socket.SHUT_RDWR)  # SSLSocket's own would take TLS from under its reader


def tune(connection: socket.socket) -> None:
    for option in tcp_options(socket):
        connection.setsockopt(*option)
