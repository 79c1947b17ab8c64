"""A server that runs a function for each question, for what the steps of `opchat_transports.testing` do not say.

A script here may wait for the test, count what it could send, be a proxy. Where a
tuple of steps will do, use `FaultServer`.
"""

import re
import socket
import ssl
import struct
import threading
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Self, TypeAlias

from opchat_transports import testing
from opchat_transports.testing import Received, Write

from .wire import SESSION

PATIENCE = 20.0  # seconds; only a test that fails waits that long


def body_size(head: bytes) -> int:
    """The Content-Length in a request's head, which all requests here have."""
    found = re.search(rb"(?i)\r\ncontent-length: *(\d+)", head)
    assert found is not None, head
    return int(found[1])


def received(request: bytes) -> Received:
    head, _, body = request.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    method, target, _ = first.split(" ")
    fields = (line.partition(":") for line in lines)
    return Received(method, target, tuple((name.lower(), value.strip()) for name, _, value in fields), body, request)


class Peer:
    """One accepted connection, for a script."""

    def __init__(self, connection: socket.socket, requests: list[Received]) -> None:
        self.socket = connection
        self._requests = requests
        self._buffer = b""
        self._unread = False

    def read_head(self) -> bytes:
        while b"\r\n\r\n" not in self._buffer:
            data = self.socket.recv(65536)
            if not data:
                raise ConnectionError("the client left")
            self._buffer += data
        head, _, self._buffer = self._buffer.partition(b"\r\n\r\n")
        return head

    def read(self) -> bytes:
        """The next request, whole: its head, a blank line, its body."""
        head = self.read_head()
        length = body_size(head)
        while len(self._buffer) < length:
            data = self.socket.recv(65536)
            if not data:
                raise ConnectionError("the client left")
            self._buffer += data
        request = head + b"\r\n\r\n" + self._buffer[:length]
        self._buffer = self._buffer[length:]
        if self._unread:
            self._unread = False
        else:
            self._requests.append(received(request))
        return request

    def unread(self, request: bytes) -> None:
        """Let the next `read` or `read_head` give this request again."""
        self._buffer = request + self._buffer
        self._unread = True

    def answer(self, *pieces: bytes) -> None:
        """Read a request and send these."""
        self.read()
        self.send(*pieces)

    def send(self, *pieces: bytes) -> None:
        for piece in pieces:
            self.socket.sendall(piece)

    def send_and_close(self, data: bytes) -> None:
        """The end arrives with the data, not after it."""
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
Script: TypeAlias = Play | testing.Script


class Scripted:
    """Listens on a port; the first question gets the first script and so on, the last script goes on for ever.

    It answers start_session itself, on any connection, and gives a script to a
    connection whose first other request has come: `Peer.read()` gives that one. With
    `session=False` each connection gets its script as soon as it is open.

    Port 0 is a free one. What a script raises is raised again when the `with`
    block ends, unless the test itself failed.
    """

    def __init__(
        self, *scripts: Script, tls: ssl.SSLContext | None = None, port: int = 0, session: bool = True
    ) -> None:
        self.requests: list[Received] = []
        self.connections = 0
        self._scripts = scripts
        self._tls = tls
        self._answers_session = session
        self._given = 0  # scripts
        self._guard = threading.Lock()
        self._errors: list[BaseException] = []
        self._threads: list[threading.Thread] = []
        self._listener = socket.create_server(("127.0.0.1", port), backlog=128)
        self._closing = False
        self.port: int = self._listener.getsockname()[1]
        self.url = f"{'https' if tls else 'http'}://{'localhost' if tls else '127.0.0.1'}:{self.port}"

    @property
    def routes(self) -> tuple[str, ...]:
        """The routes that were asked for, in order."""
        return tuple(request.route for request in self.requests)

    def __enter__(self) -> Self:
        self._acceptor = threading.Thread(target=self._accept)
        self._acceptor.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._closing = True
        socket.create_connection(("127.0.0.1", self.port)).close()
        for thread in (self._acceptor, *self._threads):
            thread.join(PATIENCE)
            assert not thread.is_alive()
        self._listener.close()
        if error is None and self._errors:
            raise self._errors[0]

    def _accept(self) -> None:
        while True:
            connection, _ = self._listener.accept()
            if self._closing:
                connection.close()
                return
            self.connections += 1
            thread = threading.Thread(target=self._play, args=(connection,))
            self._threads.append(thread)
            thread.start()

    def _play(self, connection: socket.socket) -> None:
        connection.settimeout(PATIENCE)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            if self._tls is not None:
                try:
                    connection = self._tls.wrap_socket(connection, server_side=True)
                except ConnectionResetError:
                    return  # the client has left
            peer = Peer(connection, self.requests)
            if not self._answers_session or self._answer_sessions(peer):
                script = self._next_script()
                if isinstance(script, tuple):
                    peer.answer(*(step.data for step in script if isinstance(step, Write)))
                else:
                    script(peer)
        except ssl.SSLError:
            pass  # the client did not like our certificate
        except BaseException as error:
            self._errors.append(error)
        finally:
            connection.close()

    def _answer_sessions(self, peer: Peer) -> bool:
        """Whether another request has come, before the client has left."""
        with suppress(ConnectionError):
            while b"start_session" in (request := peer.read()).split(b"\r\n", 1)[0]:
                peer.send(SESSION)
            peer.unread(request)
            return True
        return False

    def _next_script(self) -> Script:
        with self._guard:
            self._given += 1
            return self._scripts[min(self._given, len(self._scripts)) - 1]
