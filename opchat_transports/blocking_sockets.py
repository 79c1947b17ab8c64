"""Blocking sockets: `BlockingTransport` drives calls in threads. Works unchanged under gevent's patched sockets."""

import math
import queue
import socket
import ssl
import threading
import time
from contextlib import suppress
from types import TracebackType
from typing import Any, Self, Unpack, final

from opchat_proto import (
    Call,
    Connect,
    Done,
    Endpoint,
    Event,
    Page,
    Receive,
    Send,
    StartTLS,
    Wait,
)

from ._base import ReplyBase, TransportBase
from ._common import Options, new_chat_id, words
from ._sockets import READ, InnerTLS, ran_out, send_all, set_timeout, shut_down, tune
from ._text import Text

__all__ = ["BlockingReply", "BlockingTransport"]

_CLOSED = "closed by the caller"
_WAIT_FOR_READER = 5.0  # seconds, for a reader that was woken to let go


@final
class BlockingTransport(TransportBase["BlockingReply"]):
    """Asks one site, over blocking sockets, from any number of threads.

        with BlockingTransport("https://site.example") as transport, transport.ask("Hi") as reply:
            for event in reply:
                ...

    All questions share one session: the first starts it, those of other threads
    wait for that. Each request has a connection of its own, which is closed before
    the last event is given. Nothing is connected before a reply is read.

    The system's lookup of a name cannot be interrupted, so it runs in a daemon
    thread: the `connect` clock and `close()` end the wait for it, and the thread ends
    when the system gives up. There is no other thread behind it.
    """

    def __init__(
        self, endpoint: Endpoint | str, *, ssl_context: ssl.SSLContext | None = None, **options: Unpack[Options]
    ) -> None:
        """Nothing is connected yet.

        `endpoint` is an `Endpoint` or what `Endpoint.parse` takes. `ssl_context`
        replaces the system's trust store, for the site and for an https proxy. The
        other options are those of every transport (`Options`).

        Raises `ValueError` for an address, a session, headers or a proxy that cannot
        be used, `TypeError` for values of wrong types, `OSError` for a file that
        OpenSSL is told to use and cannot.
        """
        super().__init__(endpoint, ssl_context, options, signal=threading.Event)

    def _reply(self, *question: Any, **options: Any) -> "BlockingReply":
        return BlockingReply(self, self._channel.call(*question, **options))

    def visit(self, url: str, *, fresh: bool = False) -> Page:
        """The page at `url`, of this site or another, and the bots on it.

        The session's cookies and the header fields go along if it is on this site. A
        redirect is followed, see `opchat_proto.Visit`. `fresh` asks for a page that does
        not come out of a cache. For a bot: a transport to `bot.endpoint` with
        `session=bot.session`, asked with `bot.submit("Hi")`.

        Raises `ReplyBroken` if there is no page, `ValueError` for what is no address of
        one, `RuntimeError` if the transport is closed.
        """
        with self._open(self._visit(url, new_chat_id() if fresh else None)) as reply:
            for _ in reply:
                pass
        return reply._page

    def _visit(self, url: str, fresh: str | None) -> "BlockingReply":
        return BlockingReply(self, self._channel.visit(url, fresh=fresh))

    def close(self) -> None:
        """Close all open replies: a thread that waits for one gets `Broken`. Idempotent, from any thread."""
        for reply in self._close_calls():
            reply.close()

    def __enter__(self) -> Self:
        """The transport itself."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """`close()`."""
        self.close()


@final
class BlockingReply(Text, ReplyBase[Call]):
    """The answer to one question, made by `BlockingTransport.ask`: `Live` events, then one `End` or `Broken`.

    An iterator that reads only when it is asked; what goes wrong on the way is the
    event `Broken`. Leaving early, by `close()` or the end of the `with` block,
    closes the connection at once, and so does an exception such as
    KeyboardInterrupt that comes out of `next`.
    """

    def __init__(self, transport: BlockingTransport, call: Call) -> None:
        """For `BlockingTransport.ask`."""
        super().__init__(call)
        self._transport = transport
        self._reading = threading.RLock()  # held while in `next`
        self._guard = threading.RLock()  # between those who open, shut down and close the socket
        self._socket: socket.socket | None = None
        self._inner: InnerTLS | None = None  # around that socket
        self._lookup: queue.SimpleQueue[Any] | None = None  # the addresses of a name, or an exception
        self._closed = False

    def __iter__(self) -> Self:
        """The reply itself."""
        return self

    def __next__(self) -> Event:
        """The next event. Once the reply was closed: what had been read before, then `Broken`."""
        with self._reading:
            try:
                event = self._next_event()
            except BaseException:  # it may have cut a request in two
                self._closed = True
                self._call.close()
                self._disconnect()
                raise
        if event is None:
            raise StopIteration
        return event

    def close(self) -> None:
        """Close the connection if it is still open. Idempotent, from any thread.

        A thread that waits in `next` gets `Broken`: LOST, or TRUNCATED once the
        answer had begun.
        """
        self._call.close()
        with self._guard:
            self._closed = True
            if self._socket is not None:
                shut_down(self._socket)
            if self._lookup is not None:
                self._lookup.put(OSError(_CLOSED))
        self._transport._forget(self)
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

    def _next_event(self) -> Event | None:
        call = self._call
        event = call.next_event()
        while event is None:
            step, until = call.next_step(time.monotonic())
            if isinstance(step, Receive):
                self._receive(until)
            elif isinstance(step, Done):
                self._disconnect()
                return call.next_event()
            else:
                self._take(step, until)
            event = call.next_event()
        return event

    def _receive(self, until: float) -> None:
        try:
            connection = self._opened
            set_timeout(connection, until)
            data = connection.recv(READ)
        except OSError as error:
            self._fail(error)
        else:
            self._call.receive_data(data) if data else self._call.receive_eof()

    def _take(self, step: Connect | StartTLS | Send | Wait, until: float) -> None:
        """Do what a step says, until then, and report it."""
        try:
            match step:
                case Connect(host, port):
                    self._connect(host, port, until)
                case StartTLS(server_name):
                    self._start_tls(server_name, until)
                case Send(out):
                    send_all(self._opened, out, until)
                case Wait(signal):
                    self._disconnect()
                    signal.wait(None if until == math.inf else max(0.0, until - time.monotonic()))
                    return
        except (OSError, ValueError) as error:  # ValueError: a name that the DNS, or a certificate, cannot have
            self._fail(error)
        else:
            self._call.step_done()

    def _fail(self, error: Exception) -> None:
        if ran_out(error):
            self._call.timed_out()
        else:
            self._call.step_failed(words(error))

    def _connect(self, host: str, port: int, until: float) -> None:
        self._disconnect()
        addresses = self._look_up(host, port, until)
        for index, (family, kind, protocol, _, address) in enumerate(addresses):
            try:
                opened = socket.socket(family, kind, protocol)
                self._hold(opened)
                set_timeout(opened, until, share=len(addresses) - index)
                opened.connect(address)
                tune(opened)
                return
            except OSError:
                self._disconnect()
                if index == len(addresses) - 1 or self._closed:
                    raise

    def _look_up(self, host: str, port: int, until: float) -> list[Any]:
        name = host.encode("ascii")  # for text Python would import its IDNA codec
        with suppress(OSError):
            return socket.getaddrinfo(name, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
        found: queue.SimpleQueue[Any] = queue.SimpleQueue()

        def look_up() -> None:
            try:
                found.put(socket.getaddrinfo(name, port, type=socket.SOCK_STREAM))
            except (OSError, UnicodeError) as error:
                found.put(error)

        with self._guard:
            if self._closed:
                raise OSError(_CLOSED)
            self._lookup = found
        threading.Thread(target=look_up, name="opchat lookup", daemon=True).start()
        try:
            addresses = found.get(timeout=None if until == math.inf else max(0.0, until - time.monotonic()))
        except queue.Empty:
            raise TimeoutError("timed out") from None
        if isinstance(addresses, Exception):
            raise addresses
        return list(addresses)

    def _start_tls(self, server_name: str, until: float) -> None:
        plain, context = self._socket, self._transport._tls
        secure: ssl.SSLSocket | InnerTLS
        if isinstance(plain, ssl.SSLSocket):  # with the proxy: a socket can be wrapped once only
            self._inner = secure = InnerTLS(plain, context, server_name)
        else:
            with self._guard:  # wrapping moves the connection from one object to the other
                if plain is None:
                    raise OSError(_CLOSED)
                self._socket = secure = context.wrap_socket(
                    plain, server_hostname=server_name, do_handshake_on_connect=False, suppress_ragged_eofs=False
                )
        set_timeout(secure, until)
        secure.do_handshake()

    @property
    def _opened(self) -> "socket.socket | InnerTLS":
        connection = self._inner or self._socket
        if connection is None:
            raise OSError(_CLOSED)  # while we were about to use it
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
