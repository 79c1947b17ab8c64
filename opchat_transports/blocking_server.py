"""A server on blocking sockets: `serve` runs a bot in threads. Works unchanged under gevent's patched sockets."""

import logging
import secrets
import selectors
import socket
import threading
import time
from collections.abc import Callable, Generator, Iterable
from contextlib import suppress
from types import TracebackType
from typing import Self, TypeAlias, final

from opchat_proto import Answer, Done, Event, Limits, Receive, Send, Server, Site, Submit

from ._serving import broken_bot, events_of, server_url
from ._sockets import READ, deadline, send_all, set_timeout, shut_down, tune
from .page import chat_page

__all__ = ["BlockingBot", "BlockingServer", "serve"]

BlockingBot: TypeAlias = Callable[[Submit], Iterable[str | Event]]
"""Answers a question, in pieces: a str is one of the answer. May end with `End` or `Broken`."""

_REQUEST_WITHIN = 60.0  # seconds for a whole request, from the connect or the answer before
_PIECE_SENT_WITHIN = 30.0
_LINGER = 2.0
_LINGER_READS = 256  # of at most READ bytes
_BACKLOG = 1024
_BOT_STOPS_WITHIN = 5.0
_log = logging.getLogger(__name__)


def serve(
    bot: BlockingBot,
    host: str = "127.0.0.1",
    port: int = 0,
    *,
    secret: bytes | None = None,
    limits: Limits = Limits(),
    origins: Iterable[str] = (),
    connections: int = 500,
) -> "BlockingServer":
    """Serve a site whose bot this is, until `close()`. Port 0 takes a free one.

    `bot` is called with each question, in a thread of its connection, and gives
    pieces of the answer, or events. If it ends without `End`, the joined pieces
    are the reply. If it raises, the client gets the plugin's general error and the
    traceback is logged. If the client leaves, its iterator is closed.

    The same `secret` keeps nonces valid beyond a restart; by default it is random.
    `origins` are other origins whose pages may ask, such as "https://shop.example".

    A request must arrive within a minute and each piece be taken within half a
    minute, or the connection is closed. A connection is a thread, so there are at
    most so many `connections`: for one more the one is closed that has waited
    longest for a request, and if all are being answered, it waits. Raises
    `OSError` if the address cannot be listened on, `ValueError` if `connections`
    is less than 1.
    """
    if connections < 1:
        raise ValueError(f"connections: expected at least 1, got {connections}")
    key = secrets.token_bytes() if secret is None else secret
    return BlockingServer(
        bot, host, port, Site(key, limits=limits, origins=tuple(origins), page=chat_page), connections
    )


@final
class BlockingServer:
    """A server that runs, made by `serve`: a daemon thread that accepts, and one for each connection."""

    def __init__(self, bot: BlockingBot, host: str, port: int, site: Site, connections: int) -> None:
        """For `serve`."""
        self._bot = bot
        self._site = site
        self._connections = connections
        self._listener = socket.create_server(
            (host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET, backlog=_BACKLOG
        )
        self._host: str
        self._port: int
        self._host, self._port = self._listener.getsockname()[:2]
        self._listener.setblocking(False)
        self._woken, self._wake = socket.socketpair()
        self._closing = threading.Event()
        self._guard = threading.Condition()  # notified when a connection ends or turns idle
        self._talks: dict[threading.Thread, socket.socket] = {}
        self._idle: dict[socket.socket, None] = {}  # those that wait for a request, the longest first
        self._leaving: socket.socket | None = None  # it was closed to make room, and its thread has not ended yet
        self._acceptor = threading.Thread(target=self._accept, name="opchat server", daemon=True)
        self._acceptor.start()

    def __repr__(self) -> str:
        """Where it listens."""
        return f"<BlockingServer {'closed' if self._closing.is_set() else f'at {self.url}'}>"

    @property
    def port(self) -> int:
        """The port that it listens on."""
        return self._port

    @property
    def url(self) -> str:
        """The site's address, as `Endpoint.parse` takes it."""
        return server_url(self._host, self._port)

    def wait(self) -> None:
        """Wait until somebody calls `close()`."""
        self._closing.wait()

    def close(self) -> None:
        """Stop listening and end all connections and threads. Idempotent, from any thread.

        A bot that does not come back within five seconds is left behind, in a
        daemon thread.
        """
        self._closing.set()
        with suppress(OSError):  # closed before
            self._wake.send(b"!")
        with self._guard:
            self._guard.notify_all()
        self._acceptor.join()
        with self._guard:
            talks = [thread for thread in self._talks if thread is not threading.current_thread()]
            for connection in self._talks.values():
                shut_down(connection)
        end = time.monotonic() + _BOT_STOPS_WITHIN
        for thread in talks:
            thread.join(max(0.0, end - time.monotonic()))

    def __enter__(self) -> Self:
        """The server itself."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """`close()`."""
        self.close()

    def _accept(self) -> None:
        with self._listener, self._woken, self._wake, selectors.DefaultSelector() as selector:
            selector.register(self._listener, selectors.EVENT_READ)
            selector.register(self._woken, selectors.EVENT_READ)
            while True:
                selector.select()
                self._make_room()
                if self._closing.is_set():
                    return
                try:
                    connection, _ = self._listener.accept()
                except BlockingIOError:
                    continue  # it has left already
                except OSError:
                    self._closing.wait(0.1)  # no file descriptor is free, for one: that does not pass at once
                    continue
                thread = threading.Thread(target=self._talk, args=(connection,), name="opchat connection", daemon=True)
                with self._guard:
                    self._talks[thread] = connection
                    try:
                        thread.start()
                    except RuntimeError:  # too many
                        del self._talks[thread]
                        connection.close()

    def _make_room(self) -> None:
        """Wait until there is room for one more connection, and help if one is idle."""
        with self._guard:
            while len(self._talks) >= self._connections and not self._closing.is_set():
                if self._idle and self._leaving is None:
                    self._leaving = next(iter(self._idle))
                    del self._idle[self._leaving]
                    shut_down(self._leaving)
                self._guard.wait()

    def _talk(self, connection: socket.socket) -> None:
        server = Server(self._site)
        events: Generator[Event] | None = None
        end = deadline(_REQUEST_WITHIN)
        try:
            tune(connection)
            while True:
                match server.next_step():
                    case Receive():
                        if events is not None:
                            events.close()
                            events = None
                        self._wait_idly(connection)
                        set_timeout(connection, end)
                        _report(server, connection)
                    case Send(data):
                        self._no_longer_idle(connection)
                        send_all(connection, data, deadline(_PIECE_SENT_WITHIN))
                        server.step_done()
                        end = deadline(_REQUEST_WITHIN)
                    case Answer(submit):
                        self._no_longer_idle(connection)
                        events = events or _answer(self._bot, submit)
                        event = next(events)
                        _look_for_leaver(server, connection)
                        server.send(event, now=time.time())
                    case Done():
                        _hang_up(connection)
                        break
        except OSError:
            pass  # the client has left, or is too slow
        finally:
            if events is not None:
                events.close()
            with self._guard:
                self._idle.pop(connection, None)
                if self._leaving is connection:
                    self._leaving = None
                del self._talks[threading.current_thread()]
                connection.close()
                self._guard.notify_all()

    def _wait_idly(self, connection: socket.socket) -> None:
        with self._guard:
            if connection not in self._idle:
                self._idle[connection] = None
                self._guard.notify_all()

    def _no_longer_idle(self, connection: socket.socket) -> None:
        with self._guard:
            self._idle.pop(connection, None)


def _report(server: Server, connection: socket.socket) -> None:
    data = connection.recv(READ)
    if data:
        server.receive_data(data, now=time.time())
    else:
        server.receive_eof()


def _look_for_leaver(server: Server, connection: socket.socket) -> None:
    connection.setblocking(False)
    with suppress(BlockingIOError):
        _report(server, connection)


def _hang_up(connection: socket.socket) -> None:
    # Closing over bytes that were not read is a reset, in which the client may lose our answer (RFC 9112, 9.6).
    end = deadline(_LINGER)
    connection.shutdown(socket.SHUT_WR)
    for _ in range(_LINGER_READS):
        set_timeout(connection, end)
        if not connection.recv(READ):
            break


def _answer(bot: BlockingBot, submit: Submit) -> Generator[Event]:
    """The events of a bot's answer: ends with `End` or `Broken`, whatever the bot does."""
    try:
        yield from events_of(bot, submit)
    except (Exception, SystemExit) as error:  # the second: a bot that calls what was a program
        _log.exception("the bot failed")
        yield broken_bot(error)
