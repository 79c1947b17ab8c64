"""A server on blocking sockets: `serve` runs a bot in threads. Works unchanged under gevent's patched sockets."""

import contextvars
import logging
import math
import secrets
import selectors
import socket
import threading
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from types import TracebackType
from typing import BinaryIO, Self, final

from opchat_proto import (
    Answer,
    Done,
    Event,
    Find,
    IncomingFile,
    Keep,
    Kept,
    Limits,
    Live,
    Receive,
    Response,
    Send,
    SendFile,
    Server,
    Site,
    Submit,
)

from ._bot_events import BlockingBot
from ._bot_kinds import with_files
from ._common import READ, tune
from ._lobby import Lobby
from ._serving import (
    BODY_BYTES,
    NOT_KEPT,
    REJECTED,
    SLOWEST_UPLOAD,
    Bodies,
    OncePerSecond,
    answer_of,
    as_mapping,
    by_name,
    log_access,
    make_site,
    open_file,
    read_file,
    server_url,
    store_failed,
)
from ._sockets import Flag, send_all, set_timeout, shut_down
from .file_store import BotWithFiles, FileStore, FileWriter

__all__ = ["BlockingBot", "BlockingServer", "serve"]

_REQUEST_WITHIN = 60.0  # seconds for a whole request, from the connect or the previous answer
_PIECE_SENT_WITHIN = 30.0
_LINGER = 2.0
_LINGER_READS = 256  # of at most READ bytes
_BACKLOG = 1024
_MOST_LEAVING = 32  # connections above the bound, whose threads are about to end
_BOT_STOPS_WITHIN = 5.0
_IDLE_STEPS = (Receive, Done)  # at the latter, a client has time to close
_log = logging.getLogger(__name__)
_log.addFilter(OncePerSecond())


def serve(
    bot: BlockingBot | BotWithFiles | None = None,
    host: str = "127.0.0.1",
    port: int = 0,
    *,
    bots: Mapping[str, BlockingBot | BotWithFiles] | None = None,
    secret: bytes | None = None,
    limits: Limits = Limits(),
    origins: Iterable[str] = (),
    allowed_hosts: Iterable[str] = (),
    body_bytes: int = BODY_BYTES,
    files: FileStore | None = None,
    connections: int = 500,
    debug: bool = False,
    title: str = "Chat",
    greeting: str = "",
    suggestions: Iterable[str] = (),
) -> "BlockingServer":
    """Run a server with this bot in threads, until `close()`. Port 0 chooses a free one.

    `bot` is called with each question, in the thread of its connection and in its own
    context (`contextvars`). It yields pieces of the answer, or events. If it ends
    without `End`, the joined pieces are the reply. If it raises, the traceback is
    logged, and the client gets the plugin's general error, or with `debug` the
    exception. If the client leaves, its iterator is closed. `bots` are several bots by
    the names in questions (WIRE 4.2); an unknown name is an error, as in the plugin up
    to 2.9.9.

    A fixed `secret` keeps nonces valid after a restart; the default is random.
    `origins` are other origins whose pages may ask, such as "https://shop.example".
    `allowed_hosts` are the host names that requests may use, without a port; other
    names get status 421. () allows any.

    A request must arrive within a minute, and the client must read each piece within
    half a minute, or the connection is closed. Each connection that has sent something
    has a thread, so there are at most `connections`. One more closes the connection
    that has waited longest for a request; if all are being answered, it waits. All
    request bodies together hold at most `body_bytes`; beyond that, the connection with
    the largest incomplete body is closed.

    With `files` the site takes uploads and gives the plugin's answers (WIRE 7.5). A bot is
    then called as `bot(submit, files)`: a tuple of `StoredFile`, one for each id in the
    question. An upload has one second more for each 64 KiB. Anyone who knows the URL in
    the answer can fetch the file. Without `files` there are no such routes.

    The logger "opchat_transports.access" writes a line for each request at INFO.

    The chat page at `/` has this `title`. `greeting`, in Markdown, is the first message
    of each chat, and is sent along with the messages as the plugin does (WIRE 4.4).
    `suggestions` are questions that the reader can ask with a click.

    Raises `OSError` if it cannot listen on the address, `TypeError` for a bot that does
    not take files and unless there is either `bot` or `bots`, `ValueError` if
    `connections` is less than 1.
    """
    if connections < 1:
        raise ValueError(f"connections: expected at least 1, got {connections}")
    key = secrets.token_bytes() if secret is None else secret
    named = with_files(as_mapping(bot, bots), files)
    site = make_site(key, limits, origins, allowed_hosts, named, title, greeting, suggestions, files)
    ask = by_name(named, lambda submit: (REJECTED,))
    return BlockingServer(ask, host, port, site, connections, Bodies(body_bytes), files, debug)


@final
class BlockingServer:
    """A running server, made by `serve`: a daemon thread that accepts, and a thread for each connection."""

    def __init__(
        self,
        bot: BlockingBot,
        host: str,
        port: int,
        site: Site,
        connections: int,
        bodies: Bodies,
        files: FileStore | None,
        debug: bool,
    ) -> None:
        """Made by `serve`."""
        self._files = files
        self._bot = bot
        self._site = site
        self._bodies = bodies
        self._debug = debug
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
        self._left = Flag()  # also set by `close`; a Ctrl-C does not break its `wait`
        self._guard = threading.Condition()  # notified when a connection ends or turns idle
        self._talks: dict[threading.Thread, socket.socket] = {}
        self._idle: dict[socket.socket, float] = {}  # those that wait for a request, and since when; the longest first
        self._leaving: set[socket.socket] = set()  # closed to make room; their threads have not ended yet
        self._acceptor = threading.Thread(target=self._accept, name="opchat server", daemon=True)
        self._acceptor.start()

    def __repr__(self) -> str:
        """The address."""
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
        """Wait until `close()` is called."""
        self._left.wait(math.inf)

    def close(self) -> None:
        """Stop listening and end all connections and threads. Idempotent, from any thread.

        A bot that does not return within five seconds is abandoned in its daemon thread.
        """
        self._closing.set()
        self._left.set()
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
        """Return itself."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Same as `close()`."""
        self.close()

    def _accept(self) -> None:
        with (
            self._listener,
            self._woken,
            self._wake,
            selectors.DefaultSelector() as selector,
            Lobby(selector, _REQUEST_WITHIN) as lobby,
        ):
            selector.register(self._listener, selectors.EVENT_READ)
            selector.register(self._woken, selectors.EVENT_READ)
            while not self._closing.is_set():
                for key, _ in selector.select(lobby.timeout()):
                    if key.fileobj is self._listener:
                        self._let_in(lobby)
                    elif key.fileobj is not self._woken and (found := lobby.take(key.fd)) is not None:
                        self._start(*found)
                lobby.close_late()

    def _let_in(self, lobby: Lobby) -> None:
        self._make_room(lobby)
        try:
            connection, address = self._listener.accept()
        except BlockingIOError:
            return  # the client has already left
        except OSError:
            self._closing.wait(0.1)  # for example no free file descriptor: that takes a while to pass
            return
        lobby.add(connection, f"{address[0]}:{address[1]}")

    def _start(self, connection: socket.socket, client: str) -> None:
        thread = threading.Thread(target=self._talk, args=(connection, client), name="opchat connection", daemon=True)
        with self._guard:
            self._talks[thread] = connection
            try:
                thread.start()
            except RuntimeError:  # too many threads
                del self._talks[thread]
                connection.close()

    def _make_room(self, lobby: Lobby) -> None:
        """Make room for one more: close the connection that has waited longest for a request, or wait for an end."""
        with self._guard:
            while len(self._talks) - len(self._leaving) + len(lobby) >= self._connections:
                silent = lobby.longest()
                longest, since = next(iter(self._idle.items()), (None, math.inf))
                if silent < math.inf and (silent <= since or len(self._leaving) == _MOST_LEAVING):
                    lobby.close_longest()
                elif longest is not None and len(self._leaving) < _MOST_LEAVING:
                    del self._idle[longest]
                    self._leaving.add(longest)
                    shut_down(longest)
                elif self._closing.is_set():
                    return
                else:
                    self._guard.wait()
                    continue
                _log.warning("all connections are taken: the one that waited longest for a request was closed")

    def _talk(self, connection: socket.socket, client: str) -> None:
        server = Server(self._site)
        answer: _Answering | None = None
        file: _Keeping | None = None
        found: BinaryIO | None = None  # to be sent
        begin: float | None = None  # when the answer began, until it is logged
        end = time.monotonic() + _REQUEST_WITHIN
        try:
            tune(connection)
            while True:
                step = server.next_step()
                self._set_idle(connection, type(step) in _IDLE_STEPS)
                match step:
                    case Receive():
                        set_timeout(connection, end)
                        if _report(server, connection):
                            self._hold(connection, server.held)
                    case Keep(incoming, data):
                        assert self._files is not None  # for which the site takes uploads
                        file = file or _Keeping(self._files)
                        file.write(incoming, data)
                        end += len(data) / SLOWEST_UPLOAD
                        server.step_done()
                        self._hold(connection, server.held)
                    case Kept(incoming):
                        assert self._files is not None
                        server.respond((file or _Keeping(self._files)).keep(incoming))
                    case Find(wanted):
                        assert self._files is not None
                        response, found = open_file(self._files, wanted)
                        server.respond(response)
                    case Send(data) | SendFile(data):
                        if file is not None:
                            file.discard()  # unless it was kept
                            file = None
                        if server.status is not None:
                            begin = begin or time.monotonic()
                        send_all(connection, data, time.monotonic() + _PIECE_SENT_WITHIN)
                        if found is not None:
                            with found:
                                _send_file(connection, found, step.size if isinstance(step, SendFile) else 0)
                            found = None
                        if begin is not None and answer is None:
                            _log_request(client, server, begin)
                            self._bodies.drop(connection)
                            begin = None
                            end = time.monotonic() + _REQUEST_WITHIN
                        server.step_done()
                        self._hold(connection, server.held)  # perhaps of the next request
                    case Answer(submit):
                        if answer is None:
                            self._bodies.complete(connection)
                            answer = _Answering(self._bot, submit, self._debug)
                            begin = time.monotonic()
                        event = answer.next()
                        _look_for_leaver(server, connection)
                        server.send(event, now=time.time())
                        if not isinstance(event, Live):
                            answer.close()
                            answer = None
                    case Done():
                        _hang_up(connection)
                        break
        except OSError:
            pass  # the client has left or is too slow
        finally:
            if answer is not None:
                answer.close()
            if file is not None:
                file.discard()
            if found is not None:
                found.close()
            if begin is not None:
                _log_request(client, server, begin, left=True)
            with self._guard:
                self._idle.pop(connection, None)
                self._leaving.discard(connection)
                del self._talks[threading.current_thread()]
                self._bodies.drop(connection)
                connection.close()
                self._guard.notify_all()

    def _hold(self, connection: socket.socket, size: int) -> None:
        largest = self._bodies.resize(connection, size)
        if largest is not None:
            _log.warning("the bodies of all requests are too large together: the largest was dropped")
            shut_down(largest)

    def _set_idle(self, connection: socket.socket, is_idle: bool) -> None:
        with self._guard:
            if not is_idle:
                self._idle.pop(connection, None)
            elif connection not in self._idle:
                self._idle[connection] = time.monotonic()
                self._guard.notify_all()


@final
class _Answering:
    """A bot working on one question, in its own context."""

    def __init__(self, bot: BlockingBot, submit: Submit, debug: bool) -> None:
        self._context = contextvars.copy_context()
        self._events = answer_of(bot, submit, debug=debug)

    def next(self) -> Event:
        return self._context.run(next, self._events)

    def close(self) -> None:
        self._context.run(self._events.close)


@final
class _Keeping:
    """A file on its way into the store. A failure there is logged once, and reported to the client at the end."""

    def __init__(self, store: FileStore) -> None:
        self._store = store
        self._writer: FileWriter | None = None
        self._has_failed = False

    def write(self, file: IncomingFile, data: bytes) -> None:
        if not self._has_failed:
            try:
                self._begin(file).write(data)
            except OSError as error:
                self._has_failed = True
                store_failed(error)

    def keep(self, file: IncomingFile) -> Response:
        if not self._has_failed:
            try:
                return file.kept(self._begin(file).keep().file_id)
            except OSError as error:
                store_failed(error)
        return file.failed(NOT_KEPT)

    def discard(self) -> None:
        if self._writer is not None:
            self._writer.discard()

    def _begin(self, file: IncomingFile) -> FileWriter:
        if self._writer is None:
            self._writer = self._store.begin(file.name or "", file.content_type)
        return self._writer


def _log_request(client: str, server: Server, begin: float, *, left: bool = False) -> None:
    if server.request is None:
        _log.warning("refused a malformed request: status %s", server.status)
    else:
        log_access(client, server.request, server.status, time.monotonic() - begin, left=left)


def _report(server: Server, connection: socket.socket) -> bool:
    """Read once, and return whether data came."""
    data = connection.recv(READ)
    if data:
        server.receive_data(data, now=time.time())
    else:
        server.receive_eof()
    return bool(data)


def _send_file(connection: socket.socket, file: BinaryIO, left: int) -> None:
    while left:
        data = read_file(file, left)
        send_all(connection, data, time.monotonic() + _PIECE_SENT_WITHIN)
        left -= len(data)


def _look_for_leaver(server: Server, connection: socket.socket) -> None:
    connection.setblocking(False)
    with suppress(BlockingIOError):
        _report(server, connection)


def _hang_up(connection: socket.socket) -> None:
    # Closing with unread bytes sends a reset, and the client may lose our answer (RFC 9112, 9.6).
    end = time.monotonic() + _LINGER
    connection.shutdown(socket.SHUT_WR)
    for _ in range(_LINGER_READS):
        set_timeout(connection, end)
        if not connection.recv(READ):
            break
