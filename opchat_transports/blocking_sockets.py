"""Blocking sockets: `BlockingTransport` asks, `serve` answers. Works unchanged under gevent's patched sockets."""

import logging
import math
import secrets
import selectors
import socket
import ssl
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import Self, TypeAlias, TypeVar, final
from weakref import WeakSet

from opchat_proto import (
    Answer,
    Awaiting,
    Connect,
    Done,
    End,
    Endpoint,
    Event,
    Limits,
    Live,
    Proxy,
    Reason,
    Receive,
    Send,
    Server,
    Session,
    Site,
    StartTLS,
    Submit,
)

from ._common import (
    Clocks,
    QuestionLike,
    RandomSource,
    Retries,
    Target,
    Timeouts,
    tcp_options,
    to_submit,
    where,
    words,
)
from ._proxies import ProxyLike
from ._serving import broken_bot, server_url, to_event

__all__ = ["BlockingReply", "BlockingServer", "BlockingTransport", "Bot", "serve"]

_T = TypeVar("_T")
_READ = 64 * 1024
_IMMATERIAL = 0.001  # seconds by which a timeout may be off: each change is a call to the system
_CLOSED = "closed by the caller"
_WAIT_FOR_READER = 5.0  # seconds, for a reader that was woken to let go: only a lookup of a name can take as long


@final
class BlockingTransport:
    """Asks one site, over blocking sockets, from any number of threads.

        with BlockingTransport("https://site.example") as transport, transport.ask("Hi") as reply:
            for event in reply:
                ...

    All questions share one session: the first starts it, those of other threads
    wait for that. Each question has a connection of its own, which is closed with
    the last event. There is no thread behind it, and nothing is connected before a
    reply is read.
    """

    def __init__(
        self,
        endpoint: Endpoint | str,
        *,
        session: Session | None = None,
        headers: Mapping[str, str] | Iterable[tuple[str, str]] = (),
        limits: Limits = Limits(),
        timeouts: Timeouts = Timeouts(),
        ssl_context: ssl.SSLContext | None = None,
        proxy: ProxyLike = "environment",
        retries: int = 0,
        random_source: RandomSource | None = None,
    ) -> None:
        """Nothing is connected yet.

        `endpoint` is an `Endpoint` or what `Endpoint.parse` takes. `session` is
        one from before (`transport.session`). `headers` go with each request.
        `ssl_context` replaces the system's trust store, for the site and for an
        https proxy. `proxy` is a `Proxy` or its URL, None for none, by default what
        the environment variables say now. `retries` is how often a question is asked
        again that reached nobody, after up to 0.5 to 8 seconds as
        `random_source.random()` says, or that the server has put off with 429 or 503
        and a Retry-After, after that, but not more than 30 seconds. Raises
        `ValueError` for an address, a session, headers or a proxy that cannot be used.
        """
        self._target = Target(endpoint, session, headers, limits, timeouts, proxy)
        self._retries = Retries(retries, random_source)
        self._session = session
        if ssl_context is None and self._target.uses_tls:
            ssl_context = ssl.create_default_context()
        self._ssl_context = ssl_context
        self._changed = threading.Condition()  # guards and announces changes of all that follows, and of _session
        self._starter: BlockingReply | None = None  # the reply that starts the session for all
        self._replies: WeakSet[BlockingReply] = WeakSet()
        self._closed = False

    def __repr__(self) -> str:
        """Where it asks."""
        return f"<BlockingTransport to {self._target.endpoint.origin}>"

    @property
    def session(self) -> Session | None:
        """The session as it stands, for the next transport; None until a question has started one."""
        return self._session

    @property
    def proxy(self) -> Proxy | None:
        """The proxy that it goes through, if there is one."""
        return self._target.proxy

    def ask(self, question: QuestionLike) -> "BlockingReply":
        """The reply to a question: a text, a list of messages or a `Submit`. It is sent when the reply is first read.

        A submit without a chat id gets a random one. Raises `InvalidMessages` or
        another `ValueError` for what cannot be sent, `RuntimeError` if the
        transport is closed.
        """
        reply = BlockingReply(self, to_submit(question))
        with self._changed:
            if self._closed:
                raise RuntimeError("the transport is closed")
            self._replies.add(reply)
        return reply

    def close(self) -> None:
        """Close all open replies: a thread that waits for one gets `Broken`. Idempotent, from any thread."""
        with self._changed:
            self._closed = True
            replies = list(self._replies)
            for reply in replies:
                reply._closed = True  # all before the first is woken, or the next would start the session in its place
        for reply in replies:
            reply.close()

    def __enter__(self) -> Self:
        """The transport itself."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """`close()`."""
        self.close()


@final
class BlockingReply:
    """The answer to one question, made by `BlockingTransport.ask`: `Live` events, then one `End` or `Broken`.

    An iterator that reads only when it is asked; what goes wrong on the way is the
    event `Broken`. Leaving early, by `close()` or the end of the `with` block,
    closes the connection at once, and so does an exception such as
    KeyboardInterrupt that comes out of `next`.
    """

    def __init__(self, transport: BlockingTransport, submit: Submit) -> None:
        """For `BlockingTransport.ask`."""
        self._transport = transport
        self._submit = submit
        self._began_with = transport.session  # what the transport's session must still be to be replaced by ours
        self._client = transport._target.client(submit, self._began_with)
        self._asked_with = self._began_with
        self._shared: Session | None = None  # what the transport was given last
        self._begun = False
        self._retries = 0
        self._pause: float | None = None  # seconds, before the question is asked again
        self._clocks = Clocks(transport._target.timeouts)
        self._events: list[Event] = []  # the next one last; a deque would take 700 bytes for the one that mostly waits
        self._reading = threading.RLock()  # held while in `next`
        self._guard = threading.RLock()  # between those who open, shut down and close the socket
        self._socket: socket.socket | None = None
        self._inner: _InnerTLS | None = None  # around that socket
        self._closed = False

    def __repr__(self) -> str:
        """Where it comes from and how far it is."""
        return f"<BlockingReply of {self._transport._target.endpoint.origin} after {self._clocks.events} events>"

    @property
    def retries(self) -> int:
        """How often the question was asked again."""
        return self._retries

    def __iter__(self) -> Self:
        """The reply itself."""
        return self

    def __next__(self) -> Event:
        """The next event. Once the reply was closed: what had been read before, then `Broken`."""
        with self._reading:
            try:
                while not self._events:
                    self._step()
            except StopIteration:
                raise
            except BaseException:  # it may have cut a request in two
                self._closed = True
                self._disconnect()
                raise
            finally:
                self._let_others_start()
            return self._events.pop()

    def close(self) -> None:
        """Close the connection if it is still open. Idempotent, from any thread.

        A thread that waits in `next` gets `Broken`: LOST, or TRUNCATED once the
        answer had begun.
        """
        with self._guard:
            self._closed = True
            if self._socket is not None:
                _shut_down(self._socket)
        with self._transport._changed:
            self._transport._changed.notify_all()
            self._transport._replies.discard(self)
        # Only who reads may close what is read, or its number could be another's socket by then.
        if self._reading.acquire(timeout=_WAIT_FOR_READER):
            try:
                self._disconnect()
            finally:
                self._reading.release()

    def __enter__(self) -> Self:
        """The reply itself."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """`close()`."""
        self.close()

    # ---------------------------------------------------------------- the loop

    def _step(self) -> None:
        if self._pause is not None:
            self._begin_again(self._pause)
            return
        if self._closed:
            if self._client.awaiting is None:
                raise StopIteration
            self._fail(_CLOSED)
            return
        if not self._begun:
            self._begun = True
            self._begin()
            return
        match self._client.next_step():
            case Receive():  # as nearly always
                self._receive()
            case Connect(host, port):
                self._connect(host, port)
            case StartTLS(server_name):
                self._start_tls(server_name)
            case Send(data):
                self._send(data)
            case Done():
                raise StopIteration

    def _begin(self) -> None:
        """Wait for the session that another reply is starting, if one is."""
        transport = self._transport

        def is_settled() -> bool:
            return self._closed or transport._session is not None or transport._starter is None

        with transport._changed:
            if not transport._changed.wait_for(is_settled, self._clocks.timeouts.first_event):
                self._fail(self._clocks.no_session(), Reason.TIMEOUT)
                return
            if self._closed:
                return
            session = transport._session
            if session is None:
                transport._starter = self
        if session != self._began_with:
            self._began_with = session
            try:
                self._client = transport._target.client(self._submit, session)
            except ValueError as error:  # the session's id is part of what is sent
                self._fail(str(error), Reason.TOO_LARGE)

    def _begin_again(self, seconds: float) -> None:
        transport = self._transport
        self._pause = None
        self._began_with = self._asked_with
        self._client = transport._target.client(self._submit, self._began_with)
        self._begun = False
        self._clocks.forget()
        with transport._changed:
            transport._changed.wait_for(lambda: self._closed, seconds)
        if not self._closed:
            self._retries += 1

    def _connect(self, host: str, port: int) -> None:
        self._disconnect()
        try:
            self._open(host, port)
        except (OSError, UnicodeError) as error:  # UnicodeError: a name that the DNS cannot have
            if _ran_out(error):
                self._fail(self._clocks.no_connection(where(host, port)), Reason.TIMEOUT)
            else:
                self._fail(f"could not connect to {where(host, port)}: {words(error)}")
        else:
            self._client.step_done()

    def _open(self, host: str, port: int) -> None:
        end = _deadline(self._clocks.timeouts.connect)
        # As bytes, since for text Python would import its IDNA codec, which an ASCII name has no need of.
        addresses = socket.getaddrinfo(host.encode("ascii"), port, type=socket.SOCK_STREAM)
        for index, (family, kind, protocol, _, address) in enumerate(addresses):
            last = index == len(addresses) - 1
            try:
                opened = socket.socket(family, kind, protocol)
                self._hold(opened)
                _set_timeout(opened, end, share=len(addresses) - index)
                opened.connect(address)
                _tune(opened)
                return
            except OSError:
                self._disconnect()
                if last or self._closed:
                    raise

    def _start_tls(self, server_name: str) -> None:
        plain, context = self._socket, self._transport._ssl_context
        assert plain is not None
        assert context is not None
        secure: ssl.SSLSocket | _InnerTLS
        try:
            if isinstance(plain, ssl.SSLSocket):  # with the proxy: a socket can be wrapped once only
                self._inner = secure = _InnerTLS(plain, context, server_name)
            else:
                with self._guard:  # wrapping moves the connection from one object to the other
                    self._socket = secure = context.wrap_socket(
                        plain, server_hostname=server_name, do_handshake_on_connect=False, suppress_ragged_eofs=False
                    )
            _set_timeout(secure, _deadline(self._clocks.timeouts.connect))
            secure.do_handshake()
        except (OSError, ValueError) as error:  # ValueError: a name that no certificate can have
            if _ran_out(error):
                self._fail(self._clocks.no_connection(f"{server_name} with TLS"), Reason.TIMEOUT)
            elif isinstance(error, ssl.SSLCertVerificationError):
                self._fail(f"the certificate of {server_name} is not trusted: {error.verify_message}")
            else:
                self._fail(f"TLS with {server_name} failed: {words(error)}")
        else:
            self._client.step_done()

    def _send(self, data: bytes) -> None:
        end = _deadline(self._clocks.timeouts.write)
        try:
            _send_all(self._connection, data, end)
        except OSError as error:
            if not _ran_out(error):
                self._client.send_failed()
            elif not self._look():  # a server that has answered need not read on
                self._fail(self._clocks.not_sent(), Reason.TIMEOUT)
        else:
            self._client.step_done()

    def _receive(self) -> None:
        awaiting = self._client.awaiting
        end = self._clocks.deadline(awaiting, time.monotonic())
        try:
            _set_timeout(self._connection, end)
            data = self._connection.recv(_READ)
        except OSError as error:
            if self._closed:
                return
            if _ran_out(error):
                self._fail(self._clocks.no_event(), Reason.TIMEOUT)
            else:
                self._fail(f"the connection failed: {words(error)}")
            return
        if self._closed:  # this may be the end that `close` made
            return
        events = self._client.receive_data(data) if data else self._client.receive_eof()
        self._take(events)
        if data and not events and self._client.awaiting not in (awaiting, Awaiting.EVENT, None):
            self._look()  # a new request is due on a used connection, which the server may have closed

    def _look(self) -> bool:
        """Report what is there without waiting. Returns whether the reply is over."""
        try:
            self._connection.settimeout(0)
            data = self._connection.recv(_READ)
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return False
        except OSError:
            data = b""
        self._take(self._client.receive_data(data) if data else self._client.receive_eof())
        return self._client.awaiting is None

    # ---------------------------------------------------------------- what the steps have in common

    def _fail(self, detail: str, reason: Reason = Reason.LOST) -> None:
        self._take(self._client.receive_failure(detail, reason))

    def _take(self, events: list[Event]) -> None:
        if events and not isinstance(events[-1], Live) and not self._closed:
            started = self._client.submit_started
            again_in = self._transport._retries.decide(events, self._retries, submit_started=started)
            if again_in is not None:
                self._pause, events = again_in, []
        self._clocks.count(events)
        self._events = events[::-1] + self._events
        self._share_session()
        if self._client.awaiting is None:
            self._disconnect()

    def _share_session(self) -> None:
        """Give the transport the session that we have, unless it went on to another meanwhile."""
        transport, session = self._transport, self._client.session
        if session is not None and session is self._shared:
            return  # nothing is new, as after nearly every read
        if self._client.awaiting is Awaiting.SESSION:
            return
        self._shared = session
        if session is not None and session != self._began_with:
            with transport._changed:
                if transport._session == self._began_with:
                    transport._session = session
            self._began_with = session
        self._let_others_start()

    def _let_others_start(self) -> None:
        transport = self._transport
        if transport._starter is self:
            with transport._changed:
                transport._starter = None
                transport._changed.notify_all()

    @property
    def _connection(self) -> "socket.socket | _InnerTLS":
        connection = self._inner or self._socket
        if connection is None:
            raise OSError("there is no connection")  # closed while we were about to use it
        return connection

    def _hold(self, opened: socket.socket) -> None:
        with self._guard:
            self._socket = opened
        if self._closed:
            raise OSError(_CLOSED)

    def _disconnect(self) -> None:
        with self._guard:
            if self._socket is not None:
                self._socket.close()
                self._socket = self._inner = None


# -------------------------------------------------------------------- the server


Bot: TypeAlias = Callable[[Submit], Iterable[str | Event]]
"""Answers a question, in pieces: a str is one of the answer. May end with `End` or `Broken`."""

_REQUEST_WITHIN = 60.0  # seconds for a whole request, from the connect or the answer before
_PIECE_SENT_WITHIN = 30.0
_LINGER = 2.0
_LINGER_READS = 256  # of at most _READ bytes
_BACKLOG = 1024
_BOT_STOPS_WITHIN = 5.0
_log = logging.getLogger(__name__)


def serve(
    bot: Bot,
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
    return BlockingServer(bot, host, port, Site(key, limits=limits, origins=tuple(origins)), connections)


@final
class BlockingServer:
    """A server that runs, made by `serve`: a daemon thread that accepts, and one for each connection."""

    def __init__(self, bot: Bot, host: str, port: int, site: Site, connections: int) -> None:
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
                _shut_down(connection)
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
                    _shut_down(self._leaving)
                self._guard.wait()

    def _talk(self, connection: socket.socket) -> None:
        server = Server(self._site)
        events: Generator[Event] | None = None
        end = _deadline(_REQUEST_WITHIN)
        try:
            _tune(connection)
            while True:
                match server.next_step():
                    case Receive():
                        if events is not None:
                            events.close()
                            events = None
                        self._wait_idly(connection)
                        _set_timeout(connection, end)
                        _report(server, connection)
                    case Send(data):
                        self._no_longer_idle(connection)
                        _send_all(connection, data, _deadline(_PIECE_SENT_WITHIN))
                        server.step_done()
                        end = _deadline(_REQUEST_WITHIN)
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
    data = connection.recv(_READ)
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
    end = _deadline(_LINGER)
    connection.shutdown(socket.SHUT_WR)
    for _ in range(_LINGER_READS):
        _set_timeout(connection, end)
        if not connection.recv(_READ):
            break


def _answer(bot: Bot, submit: Submit) -> Generator[Event]:
    """The events of a bot's answer: ends with `End` or `Broken`, whatever the bot does."""
    pieces = []
    try:
        with _closing(iter(bot(submit))) as items:
            for item in items:
                event = to_event(item)
                yield event
                if not isinstance(event, Live):
                    return
                if event.kind == "content":
                    pieces.append(event.text)
    except (Exception, SystemExit) as error:  # the second: a bot that calls what was a program
        _log.exception("the bot failed")
        yield broken_bot(error)
    else:
        yield End("".join(pieces))


@contextmanager
def _closing(items: Iterator[str | Event]) -> Iterator[Iterator[str | Event]]:
    try:
        yield items
    finally:
        close = getattr(items, "close", None)  # a generator has it
        if close is not None:
            close()


# -------------------------------------------------------------------- sockets


def _deadline(seconds: float | None) -> float:
    return math.inf if seconds is None else time.monotonic() + seconds


@final
class _InnerTLS:
    """TLS with the site inside of TLS with the proxy: what is used of a socket. It does not close the outer one."""

    def __init__(self, outer: ssl.SSLSocket, context: ssl.SSLContext, server_name: str) -> None:
        self._outer = outer
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=server_name)
        self._end: float | None = math.inf

    def settimeout(self, seconds: float | None) -> None:
        # From now on, since one call here can be several of the outer socket.
        self._end = None if seconds == 0 else _deadline(seconds)

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
            data = self._outer.recv(_READ)
            if data:
                self._incoming.write(data)
            else:
                self._incoming.write_eof()  # which is a cut, unless the site has ended its TLS before

    def _flush(self) -> None:
        if self._end is not None:  # else it goes out with the next call that may wait
            _send_all(self._outer, self._outgoing.read(), self._end)

    def _limit(self) -> None:
        if self._end is None:
            self._outer.settimeout(0)
        else:
            _set_timeout(self._outer, self._end)


def _set_timeout(connection: socket.socket | _InnerTLS, end: float, share: int = 1) -> None:
    """Let the next call take until `end`, or a share of the time that is left. Raises `TimeoutError` if none is."""
    left = (end - time.monotonic()) / share
    if left <= 0:
        raise TimeoutError("timed out")
    before = connection.gettimeout()
    if not before or abs(before - left) > _IMMATERIAL:
        connection.settimeout(None if left == math.inf else left)


def _send_all(connection: socket.socket | _InnerTLS, data: bytes, end: float) -> None:
    # socket.sendall would start its clock anew with each TLS record.
    rest = memoryview(data)
    while rest:
        _set_timeout(connection, end)
        rest = rest[connection.send(rest) :]


def _ran_out(error: Exception) -> bool:
    """Whether this is our clock, and not the system's (ETIMEDOUT), which is a lost connection."""
    return isinstance(error, TimeoutError) and error.errno is None


def _shut_down(connection: socket.socket) -> None:
    """End what waits for this connection. It stays open, so that its number is not given to another."""
    with suppress(OSError):  # not connected, or not any more
        socket.socket.shutdown(connection, socket.SHUT_RDWR)  # SSLSocket's own would take TLS from under its reader


def _tune(connection: socket.socket) -> None:
    for option in tcp_options(socket):
        connection.setsockopt(*option)
