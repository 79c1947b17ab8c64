"""A connection, for functions of `opchat_transports.testing.Run` that wait for the test, count, or act as a proxy."""

import re
import socket
import struct
from collections.abc import Callable
from typing import TypeAlias

from opchat_transports.testing import Accept, Run, Script

PATIENCE = 20.0  # seconds; reached only by a failing test


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
