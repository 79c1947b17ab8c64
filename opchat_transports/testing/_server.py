"""Scripts over sockets on loopback: one thread serves all connections."""

import math
import selectors
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Self, final

from ._journal import Action, Journal, Talk
from ._scripts import Close, Delay, Reset, Run, Script, Stall, Write

__all__ = ["FaultServer"]

_READ = 64 * 1024
_TURN = 64  # steps of one connection before the next one's turn
_PATIENCE = 20.0  # seconds that a function of `Run` waits for its socket
_RESET = struct.pack("ii", 1, 0)  # SO_LINGER: on, no seconds


@final
class FaultServer(Journal):
    """A server on a free loopback port that follows scripts.

        with FaultServer(cut(100), GOOD) as server:
            ...ask server.url...
        assert server.repeated == ()

    A connection gives the usual answers (see `Expect`) until a request comes to the
    route that the next script waits for; then it takes that script. So the first
    submit takes the first script, and so on; the last script serves all later ones.
    The default is `GOOD`. Steps after `Close` or `Reset` act like a script of
    their own before the next one.

    One thread serves all connections, so the same `with` works in blocking, trio and
    asyncio code. A client may leave early. Leaving the block ends all connections at
    once, even stalled ones, and waits for the functions of `Run`: no thread or socket is
    left, and the journal is complete.
    """

    def __init__(self, *scripts: Script, ssl_context: ssl.SSLContext | None = None, port: int = 0) -> None:
        """Check the scripts; `with` opens the server.

        `ssl_context`, with a certificate for "localhost", makes it an https server.
        Port 0 chooses a free one. Raises `TypeError` or `ValueError` for a wrong script.
        """
        super().__init__(scripts)
        self._ssl_context = ssl_context
        self._port = port
        self._closing = False
        self._failure: BaseException | None = None
        self._thread: threading.Thread | None = None

    def __repr__(self) -> str:
        """The port, and the number of connections so far."""
        return f"<FaultServer at port {self._port}, {len(self._talks)} connections>"

    @property
    def port(self) -> int:
        """The port that it listens on."""
        if self._thread is None:
            raise RuntimeError("the server is not open yet: use it in a with statement")
        return self._port

    @property
    def url(self) -> str:
        """The site's address, for a transport or `Endpoint.parse`."""
        return f"http://127.0.0.1:{self.port}" if self._ssl_context is None else f"https://localhost:{self.port}"

    def __enter__(self) -> Self:
        """Listen. Raises `OSError` if the port is taken, `RuntimeError` if it was open before."""
        if self._thread is not None:
            raise RuntimeError("a server can be opened once")
        self._listener = socket.create_server(("127.0.0.1", self._port), backlog=1024)
        self._listener.setblocking(False)
        self._port = self._listener.getsockname()[1]
        self._woken, self._wake = socket.socketpair()
        self._thread = threading.Thread(target=self._run, name="opchat fault server", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """End all connections. Raises the exception of a `Run` or of the thread, unless the block raised."""
        self.close()
        if error is None and self._failure is not None:
            raise self._failure

    def close(self) -> None:
        """End all connections at once. Idempotent; leaving the `with` block does it too."""
        if self._thread is None:
            return
        self._closing = True
        self._wake_up()
        self._thread.join()

    def _wake_up(self) -> None:
        with suppress(OSError):  # closed before
            self._wake.send(b"!")

    def _run(self) -> None:
        with self._listener, self._woken, self._wake, selectors.DefaultSelector() as selector:
            connections: set[_Connection] = set()
            selector.register(self._listener, selectors.EVENT_READ)
            selector.register(self._woken, selectors.EVENT_READ)
            try:
                while not self._closing:
                    wake_at = min((connection.wake_at for connection in connections), default=math.inf)
                    timeout = None if wake_at == math.inf else max(0.0, wake_at - time.monotonic())
                    ready = {key.fileobj for key, _ in selector.select(timeout)}
                    if self._woken in ready:
                        self._woken.recv(_READ)
                    if self._listener in ready:
                        self._accept(selector, connections)
                    now = time.monotonic()
                    for connection in list(connections):
                        if connection.socket in ready or connection.wake_at <= now:
                            connection.go_on(now)
                        if connection.is_over:
                            connections.remove(connection)
                            self._failure = self._failure or connection.failure
            except BaseException as failure:
                self._failure = failure
            finally:
                with suppress(OSError):
                    self._accept(selector, connections)  # for the journal
                for connection in connections:
                    connection.end(time.monotonic())
                    self._failure = self._failure or connection.failure

    def _accept(self, selector: selectors.BaseSelector, connections: set["_Connection"]) -> None:
        while True:
            try:
                accepted, _ = self._listener.accept()
            except (BlockingIOError, ConnectionError):  # no more connections, or the client has left already
                return
            talk = self._begin()
            try:
                connections.add(_Connection(talk, accepted, self._ssl_context, selector, self._wake_up))
            except ConnectionError:  # the client has left
                talk.left = 0.0
                accepted.close()
            except BaseException:
                accepted.close()
                raise


class _Connection:
    """One socket of a `FaultServer`: performs the actions of its talk, without blocking."""

    def __init__(
        self,
        talk: Talk,
        accepted: socket.socket,
        ssl_context: ssl.SSLContext | None,
        selector: selectors.BaseSelector,
        wake_up: Callable[[], None],
    ) -> None:
        accepted.setblocking(False)
        accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.is_over = False
        self.wake_at = 0.0
        self.failure: BaseException | None = None  # of a function
        self._talk = talk
        self._wake_up = wake_up
        self._function: threading.Thread | None = None
        self._has_left = False  # whether the function noticed that the client left
        self._is_new = True
        self._began = time.monotonic()
        self._out = memoryview(b"")
        self._ahead: Action | None = None
        self._heard = True  # whether there is news for a waiting script
        self._waits = False
        self._closed = False  # whether our side is closed
        self._shaking = ssl_context is not None
        if ssl_context is not None:
            accepted = ssl_context.wrap_socket(accepted, server_side=True, do_handshake_on_connect=False)
        self.socket = accepted
        self._selector = selector
        self._interest = selectors.EVENT_READ
        selector.register(accepted, self._interest)

    def go_on(self, now: float) -> None:
        try:
            if self._shaking:
                self._shake_hands()
            if self._function is not None:
                self._take_back(now)
            if self._is_new and not self._shaking:
                self._is_new = False
                self._write(now)  # a function after `Accept` reads everything itself
            if not self._shaking:
                self._read(now)
                self._write(now)
        except OSError:  # the client has left, or refuses our certificate
            self._leave(now)

    def end(self, now: float) -> None:
        """Read the last bytes that arrived, and close."""
        if self._function is not None:
            self._take_back(now)
        with suppress(OSError):
            if not self._shaking:
                self._read(now)
        self._drop()

    def _shake_hands(self) -> None:
        assert isinstance(self.socket, ssl.SSLSocket)
        self.wake_at = math.inf
        try:
            self.socket.do_handshake()
        except ssl.SSLWantReadError:
            self._watch(selectors.EVENT_READ)
        except ssl.SSLWantWriteError:
            self._watch(selectors.EVENT_READ | selectors.EVENT_WRITE)
        else:
            self._shaking = False

    def _read(self, now: float) -> None:
        while not self.is_over and self._function is None:
            try:
                data = self.socket.recv(_READ)
            except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
                return
            except OSError:  # reset
                data = b""
            if not data:
                self._leave(now)
                return
            self._heard = True
            self._talk.receive_data(data)

    def _write(self, now: float) -> None:
        self._waits = self._waits and not self._heard
        for _ in range(_TURN):
            if self.is_over or self._function is not None:
                return
            if self._out:
                try:
                    count = self.socket.send(self._out)
                except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
                    self.wake_at = math.inf
                    self._watch(selectors.EVENT_READ | selectors.EVENT_WRITE)
                    return
                self._talk.sent += count
                self._out = self._out[count:]
            elif self._closed or self._waits:
                self.wake_at = math.inf
                break
            elif self.wake_at > now and self.wake_at != math.inf:
                break
            else:
                self.wake_at = 0.0
                self._step(now)
        self._watch(selectors.EVENT_READ)

    def _step(self, now: float) -> None:
        action, self._ahead = self._ahead or self._next(), None
        match action:
            case Write(data):
                self._out = memoryview(data)
                self._ahead = self._next()
                if isinstance(self._ahead, Close):
                    self._cork()
            case Delay(seconds):
                self.wake_at = now + seconds
            case Stall():
                self._waits = not self._heard  # data may have arrived meanwhile
            case Run(function):
                self.wake_at = math.inf
                self._selector.unregister(self.socket)
                self._function = threading.Thread(target=self._run, args=(function,), daemon=True)
                self._function.start()
            case Reset():
                self._talk.end()
                self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                self._drop()
            case Close(notify):
                self._talk.end()
                self._closed = True
                if notify and isinstance(self.socket, ssl.SSLSocket):
                    with suppress(OSError, ValueError):  # it does not wait for the client's close_notify
                        self.socket.unwrap()
                # SSLSocket.shutdown would drop TLS while there is more to read.
                socket.socket.shutdown(self.socket, socket.SHUT_WR)

    def _run(self, function: Callable[[socket.socket], object]) -> None:
        try:
            self.socket.settimeout(_PATIENCE)
            function(self.socket)
        except (ConnectionError, ssl.SSLError):
            self._has_left = True
        except BaseException as error:
            self.failure = error
        self.wake_at = 0.0
        self._wake_up()

    def _take_back(self, now: float) -> None:
        """Continue after the function has returned, with its socket."""
        assert self._function is not None
        self._function.join()
        self._function = None
        is_closed = self.socket.fileno() < 0
        if not is_closed:
            self.socket.setblocking(False)
            self._selector.register(self.socket, self._interest)
        if self._has_left:
            self._talk.left = now - self._began
        elif is_closed and self.failure is None:
            self._talk.end()
        if is_closed or self._has_left or self.failure is not None:
            self._drop()

    def _next(self) -> Action:
        self._heard = False
        return next(self._talk.actions)  # not after Close and Reset

    def _cork(self) -> None:
        """Where the system supports it, let the end arrive together with the last bytes."""
        with suppress(AttributeError):
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 1)

    def _watch(self, interest: int) -> None:
        if interest != self._interest:
            self._interest = interest
            self._selector.modify(self.socket, interest)

    def _leave(self, now: float) -> None:
        self._talk.left = now - self._began
        self._drop()

    def _drop(self) -> None:
        if not self.is_over:
            self.is_over = True
            if self.socket.fileno() >= 0:
                self._selector.unregister(self.socket)
            self.socket.close()
