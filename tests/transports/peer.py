"""A connection, for functions of `opchat_transports.testing.Run` that wait for the test, count, or act as a proxy."""

import os
import re
import socket
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import count
from typing import TypeAlias

from opchat_transports.testing import Accept, Run, Script

PATIENCE = 60.0  # seconds; reached only by a failing test
_BELOW_EPHEMERAL = 20_000, 12_000  # the first port, and how many: the system gives out none of these
_taken = count(101 * os.getpid())  # the processes of one run have neighbouring numbers


def free_port() -> int:
    """A port for a server that is about to start. A port chosen by the system could go to another test first."""
    first, many = _BELOW_EPHEMERAL
    for number in _taken:
        with suppress(OSError), socket.create_server(("127.0.0.1", port := first + number % many)):
            return port
    raise AssertionError("unreachable")


@contextmanager
def refusing_port() -> Iterator[int]:
    """A port that refuses connections during the block: it is taken, but nobody listens."""
    with socket.socket() as owner:
        owner.bind(("127.0.0.1", 0))
        yield owner.getsockname()[1]


def body_size(head: bytes) -> int:
    """The Content-Length in a request's head. Every request here has one."""
    found = re.search(rb"(?i)\r\ncontent-length: *(\d+)", head)
    assert found is not None, head
    return int(found[1])


class Peer:
    """The server's side of a connection."""

    def __init__(self, connection: socket.socket) -> None:
        self.socket = connection
        self._buffer = b""

    def read_head(self) -> bytes:
        while b"\r\n\r\n" not in self._buffer:
            data = self.socket.recv(65536)
            if not data:
                raise ConnectionError("the client left")
            self._buffer += data
        head, _, self._buffer = self._buffer.partition(b"\r\n\r\n")
        return head

    def read(self) -> bytes:
        """The whole next request: head, blank line and body."""
        head = self.read_head()
        length = body_size(head)
        while len(self._buffer) < length:
            data = self.socket.recv(65536)
            if not data:
                raise ConnectionError("the client left")
            self._buffer += data
        request = head + b"\r\n\r\n" + self._buffer[:length]
        self._buffer = self._buffer[length:]
        return request

    def send(self, *pieces: bytes) -> None:
        for piece in pieces:
            self.socket.sendall(piece)

    def send_and_close(self, data: bytes) -> None:
        """Send the data and FIN together."""
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 1)
        self.socket.sendall(data)
        self.socket.close()

    def reset(self) -> None:
        """Close with RST instead of FIN."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    def is_left(self, within: float = PATIENCE) -> bool:
        """Whether the client closes within this many seconds."""
        self.socket.settimeout(within)
        try:
            while self.socket.recv(65536):
                pass
        except TimeoutError:
            return False
        except OSError:
            pass
        finally:
            self.socket.settimeout(PATIENCE)
        return True


Play: TypeAlias = Callable[[Peer], object]


def plays(play: Play) -> Script:
    """Run it after the server has read a submit."""
    return (Run(lambda connection: play(Peer(connection))),)


def takes(play: Play) -> Script:
    """Run it at the start of a connection, before anything is read."""
    return Accept(), *plays(play)
