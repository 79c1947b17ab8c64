"""Blocking sockets: `BlockingTransport` drives calls in threads. Works unchanged under gevent's patched sockets."""

import socket
import threading
import time
from contextlib import AbstractContextManager, ExitStack, suppress
from typing import Any, Self, final

from opchat_proto import Call, Connect, Done, Event, Receive, Send, StartTLS, Wait

from ._base import ReplyBase, TransportBase
from ._common import READ, words
from ._discussions import Discussions
from ._sockets import Flag, SocketStream, at_once, connect, look_up, set_timeout, shut_down
from ._text import Text
from ._tls import TLSStream
from ._uploads import Uploads
from ._visits import Visits

__all__ = ["BlockingReply", "BlockingTransport"]

_CLOSED = "closed by the caller"
_WAIT_FOR_READER = 5.0  # seconds, for a woken reader to leave


@final
class BlockingTransport(
    Visits, Uploads, Discussions, TransportBase["BlockingReply"], AbstractContextManager["BlockingTransport"]
):
    """Asks one site, over blocking sockets, from any number of threads.

    Each request has its own connection, which is closed before the last event is
    returned. It connects only when a reply is read.

    The system's name lookup cannot be interrupted, so it runs in a daemon thread: the
    `connect` clock and `close()` end the wait for it, and the thread ends when the
    system gives up. There are no other threads.
    """

    _signal = Flag

    def _reply(self, call: Call) -> "BlockingReply":
        return BlockingReply(self, call)

    def close(self) -> None:
        """Close all open replies. Waiting threads get `Broken`. Idempotent; from any thread or signal handler."""
        with ExitStack() as stack:
            self._close_all(stack, stack.callback)

    def __exit__(self, *_: object) -> None:
        """Same as `close()`."""
        self.close()


@final
class BlockingReply(Text, ReplyBase[Call], AbstractContextManager["BlockingReply"]):
    """The answer to one question, made by `BlockingTransport.ask`: `Live` events, then one `End` or `Broken`.

    If `next` raises, for example KeyboardInterrupt, the connection is closed.
    """

    def __init__(self, transport: BlockingTransport, call: Call) -> None:
        """Made by `BlockingTransport.ask`."""
        super().__init__(transport, call)
        self._reading = threading.RLock()  # held during `next`
        self._guard = threading.RLock()  # for opening, shutting down and closing the socket
        self._link: SocketStream | None = None
        self._tls: TLSStream | None = None  # whether TLS is in use there
        self._flag: Flag | None = None  # what ends a lookup of a name or a wait
        self._closed = False
        self._is_inside = False  # whether a thread is in `next`

    def __iter__(self) -> Self:
        """Return itself."""
        return self

    def __next__(self) -> Event:
        """Return the next event. After `close()`: the events already read, then `Broken`."""
        with self._reading:
            try:
                self._is_inside = True
                event = self._next_event()
                self._is_inside = False
            except BaseException:  # a request may have been sent in part
                self._is_inside = False
                self._closed = True
                try:
                    self._call.close()
                finally:  # an observer may raise
                    self._disconnect()
                raise
        if event is None:
            raise StopIteration
        return event

    def close(self) -> None:
        """Close the connection if it is still open. Idempotent; from any thread or signal handler.

        A thread that waits in `next` gets `Broken`: LOST, or TRUNCATED once the answer
        has begun.
        """
        try:
            self._close_call()
        finally:  # an observer may raise
            self._close()

    def _close_call(self) -> None:
        if self._is_interrupted():
            self._closed = True  # `next` closes the call when it goes on
        else:
            self._call.close()

    def _is_interrupted(self) -> bool:
        """Whether this is a signal handler or finalizer in the middle of `next`, where the call may be half changed."""
        if not self._reading.acquire(blocking=False):
            return False  # another thread is in `next`
        try:
            return self._is_inside
        finally:
            self._reading.release()

    def _close(self) -> None:
        with self._guard:
            self._closed = True
            link = self._link
            if link is not None:
                shut_down(link.socket)
            if self._flag is not None:
                self._flag.set()
        # Only the reading thread may close the socket: its descriptor could otherwise be reused while it reads.
        if self._reading.acquire(timeout=_WAIT_FOR_READER):
            try:
                self._disconnect()
            finally:
                self._reading.release()
        self._transport._forget(self)  # at the end: until then, closing the transport closes it again

    def __exit__(self, *_: object) -> None:
        """Same as `close()`."""
        self.close()

    # ---------------------------------------------------------------- the loop

    def _next_event(self) -> Event | None:
        call = self._call
        event = call.next_event()
        while event is None:
            if self._closed:
                call.close()
            step, until = call.next_step(time.monotonic())
            if isinstance(step, Done):
                self._disconnect()
                return call.next_event()
            data = b""
            try:
                if isinstance(step, Receive):
                    data = self._receive(until)
                else:
                    self._take(step, until)
            except (OSError, ValueError) as error:  # ValueError: an impossible name for DNS or a certificate
                if self._closed:
                    call.close()
                # A TimeoutError with an errno comes from the system: a lost connection.
                is_ours = isinstance(error, TimeoutError) and error.errno is None
                call.timed_out() if is_ours else call.step_failed(words(error))
            else:
                if self._closed:
                    call.close()
                if isinstance(step, Receive):
                    call.receive_data(data) if data else call.receive_eof()
                elif not isinstance(step, Wait):
                    call.step_done()
            event = call.next_event()
        return event

    def _receive(self, until: float) -> bytes:
        link = self._link
        if link is None or self._tls is not None:
            return at_once(self._stream(until).receive_some)
        set_timeout(link.socket, until)
        return link.socket.recv(READ)

    def _take(self, step: Connect | StartTLS | Send | Wait, until: float) -> None:
        match step:
            case Connect(host, port):
                self._disconnect()
                self._connect(host, port, until)
            case StartTLS(server_name):
                self._tls = tls = TLSStream(self._stream(until), self._transport._tls, server_name)
                at_once(tls.do_handshake)
            case Send(data):
                at_once(self._stream(until).send_all, data)
            case Wait(signal):
                self._disconnect()
                self._await(signal)
                signal.wait(until)

    def _stream(self, until: float) -> SocketStream | TLSStream:
        """The connection, with this deadline for the next call."""
        link = self._link
        if link is None:
            raise OSError(_CLOSED)  # it was closed meanwhile
        link.until = until
        return self._tls or link

    def _connect(self, host: str, port: int, until: float) -> None:
        connect(self._look_up(host, port, until), until, self._hold)

    def _hold(self, opened: socket.socket) -> None:
        with self._guard:
            self._link = SocketStream(opened)
        if self._closed:
            raise OSError(_CLOSED)

    def _look_up(self, host: str, port: int, until: float) -> list[Any]:
        name = host.encode("ascii")
        with suppress(OSError):
            return socket.getaddrinfo(name, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
        over = Flag()
        self._await(over)
        return look_up(host, port, until, over)

    def _await(self, flag: Flag) -> None:
        with self._guard:
            if self._closed:
                raise OSError(_CLOSED)
            self._flag = flag

    def _disconnect(self) -> None:
        with self._guard:
            link = self._link
            if link is not None:
                link.abort()
                self._link = self._tls = None
