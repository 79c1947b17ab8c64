"""Trio: `TrioTransport` drives the machine on trio's streams. No nursery, no background task: it reads when asked."""

import math
import socket
import ssl
from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import Self, final
from weakref import WeakSet

import trio

from opchat_proto import (
    Awaiting,
    Connect,
    Endpoint,
    Event,
    Limits,
    Live,
    Proxy,
    Reason,
    Receive,
    Send,
    Session,
    StartTLS,
    Submit,
)

from ._common import (
    Clocks,
    QuestionLike,
    RandomSource,
    Retries,
    SharedSession,
    Target,
    Timeouts,
    first_cause,
    tcp_options,
    to_submit,
    where,
    words,
)
from ._proxies import ProxyLike

__all__ = ["TrioReply", "TrioTransport"]

_READ = 64 * 1024
_MOMENT = 0.05  # seconds, for a TLS record that has begun to come
_CLOSED = "closed by the caller"
_GONE = (trio.BrokenResourceError, trio.ClosedResourceError)


@final
class TrioTransport:
    """Asks one site, over trio's streams, from any number of tasks.

        async with TrioTransport("https://site.example") as transport, transport.ask("Hi") as reply:
            async for event in reply:
                ...

    All questions share one session: the first starts it, those of other tasks wait
    for that. Each question has a connection of its own, which is closed with the
    last event. There is no task behind it, and nothing is connected before a reply
    is read.
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
        """Nothing is connected yet; trio need not run yet.

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
        self._shared = SharedSession(session, trio.Event)
        if ssl_context is None and self._target.uses_tls:
            ssl_context = ssl.create_default_context()
        self._ssl_context = ssl_context
        self._replies: WeakSet[TrioReply] = WeakSet()
        self._closed = False

    def __repr__(self) -> str:
        """Where it asks."""
        return f"<TrioTransport to {self._target.endpoint.origin}>"

    @property
    def session(self) -> Session | None:
        """The session as it stands, for the next transport; None until a question has started one."""
        return self._shared.current

    @property
    def proxy(self) -> Proxy | None:
        """The proxy that it goes through, if there is one."""
        return self._target.proxy

    def ask(self, question: QuestionLike) -> "TrioReply":
        """The reply to a question: a text, a list of messages or a `Submit`. It is sent when the reply is first read.

        A submit without a chat id gets a random one. Raises `InvalidMessages` or
        another `ValueError` for what cannot be sent, `RuntimeError` if the
        transport is closed.
        """
        if self._closed:
            raise RuntimeError("the transport is closed")
        reply = TrioReply(self, to_submit(question))
        self._replies.add(reply)
        return reply

    async def aclose(self) -> None:
        """Close all open replies: a task that waits for one gets `Broken`. Idempotent.

        Cancelled, it still closes them all.
        """
        self._closed = True
        for reply in list(self._replies):
            await reply._close()
        await trio.lowlevel.checkpoint()

    async def __aenter__(self) -> Self:
        """The transport itself. It does not wait, so it cannot be cancelled."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        """`aclose()`: all is closed, also when cancelled."""
        await self.aclose()


@final
class TrioReply:
    """The answer to one question, made by `TrioTransport.ask`: `Live` events, then one `End` or `Broken`.

    An async iterator that reads only when it is asked, and then does so at one
    checkpoint, as it does for an event that had come before. What goes wrong on the
    way is the event `Broken`. Leaving early, by `aclose()` or the end of the
    `async with` block, closes the connection at once.
    """

    # Of which a thousand may wait at a time.
    __slots__ = (
        "__weakref__",
        "_asked_with",
        "_began_with",
        "_begun",
        "_client",
        "_clocks",
        "_closed",
        "_events",
        "_pause",
        "_reading",
        "_retries",
        "_scope",
        "_shared",
        "_stream",
        "_submit",
        "_transport",
    )

    def __init__(self, transport: TrioTransport, submit: Submit) -> None:
        """For `TrioTransport.ask`."""
        self._transport = transport
        self._submit = submit
        self._began_with = transport.session
        self._client = transport._target.client(submit, self._began_with)
        self._asked_with = self._began_with
        self._shared: Session | None = None  # what the transport was given last
        self._begun = False
        self._retries = 0
        self._pause: float | None = None  # seconds, before the question is asked again
        self._clocks = Clocks(transport._target.timeouts)
        self._events: list[Event] = []  # the next one last; a deque would take 700 bytes for the one that mostly waits
        self._stream: trio.abc.Stream | None = None
        self._scope = trio.CancelScope()  # of the I/O call that is made, or was made last
        self._reading = False
        self._closed = False

    def __repr__(self) -> str:
        """Where it comes from and how far it is."""
        return f"<TrioReply of {self._transport._target.endpoint.origin} after {self._clocks.events} events>"

    @property
    def retries(self) -> int:
        """How often the question was asked again."""
        return self._retries

    def __aiter__(self) -> Self:
        """The reply itself."""
        return self

    async def __anext__(self) -> Event:
        """The next event. Once the reply was closed: what had been read before, then `Broken`.

        Cancelled, it closes the connection first: a question may have been asked
        that is answered to nobody. Raises `trio.BusyResourceError` while another
        task is in here.
        """
        if self._reading:
            raise trio.BusyResourceError("another task is reading this reply")
        self._reading = True
        try:
            if self._events:
                await trio.lowlevel.checkpoint()
            else:
                await self._fill()
        except BaseException:  # it may have cut a request in two
            self._closed = True
            await self._disconnect()
            raise
        finally:
            self._reading = False
        if not self._events:
            raise StopAsyncIteration
        return self._events.pop()

    async def aclose(self) -> None:
        """Close the connection at once if it is still open. Idempotent, from any task, also when cancelled.

        A task that waits for an event gets `Broken`: LOST, or TRUNCATED once the
        answer had begun.
        """
        await self._close()
        await trio.lowlevel.checkpoint()

    async def __aenter__(self) -> Self:
        """The reply itself. It does not wait, so it cannot be cancelled."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        """`aclose()`: the connection is closed, also when cancelled."""
        await self.aclose()

    # ---------------------------------------------------------------- the loop

    async def _fill(self) -> None:
        """Go on until there is an event, or until there is none any more."""
        awaiting = self._client.awaiting
        try:
            if self._closed or awaiting is None:
                await trio.lowlevel.checkpoint()  # there is nothing to wait for
            while not self._events:
                if self._pause is not None:
                    await self._begin_again(self._pause)
                elif awaiting is None:
                    break
                elif self._closed:
                    self._fail(_CLOSED)
                elif not self._begun:
                    await self._begin()
                else:
                    match self._client.next_step():
                        case Receive():  # as nearly always
                            await self._receive(awaiting)
                        case Connect(host, port):
                            await self._connect(host, port)
                        case StartTLS(server_name):
                            await self._start_tls(server_name)
                        case Send(data):
                            await self._send(data)
                awaiting = self._client.awaiting
                if awaiting is None:
                    await self._disconnect()
        finally:
            self._share_session(over=True)

    async def _begin(self) -> None:
        """Wait for the session that another reply is starting, if one is."""
        shared = self._transport._shared
        if (settled := shared.in_the_way()) is not None:
            with self._within(self._clocks.timeouts.first_event) as scope:
                while settled is not None:
                    await settled.wait()
                    settled = shared.in_the_way()
            if scope.cancelled_caught:
                self._fail(self._clocks.no_session(), Reason.TIMEOUT)
                return
        self._begun = True
        session = shared.begin(self)
        if session != self._began_with:
            self._began_with = session
            try:
                self._client = self._transport._target.client(self._submit, session)
            except ValueError as error:  # the session's id is part of what is sent
                self._fail(str(error), Reason.TOO_LARGE)

    async def _begin_again(self, seconds: float) -> None:
        self._pause = None
        self._began_with = self._asked_with
        self._client = self._transport._target.client(self._submit, self._began_with)
        self._begun = False
        self._clocks.forget()
        if not self._closed:
            with self._within(None):
                await trio.sleep(seconds)  # the back-off; `aclose` cancels it
        if not self._closed:
            self._retries += 1

    async def _connect(self, host: str, port: int) -> None:
        await self._disconnect()
        try:
            with self._within(self._clocks.timeouts.connect) as scope:
                stream = self._stream = await trio.open_tcp_stream(host, port)
                if isinstance(stream, trio.SocketStream):
                    for option in tcp_options(trio.socket):
                        stream.setsockopt(*option)
                    self._stream = _Socket(stream)
        except (OSError, UnicodeError) as error:  # UnicodeError: a name that the DNS cannot have
            self._fail(f"could not connect to {where(host, port)}: {words(error)}")
            await trio.lowlevel.checkpoint()  # which that may not have been
        else:
            if scope.cancelled_caught:
                self._fail(self._clocks.no_connection(where(host, port)), Reason.TIMEOUT)
            else:
                self._client.step_done()

    async def _start_tls(self, server_name: str) -> None:
        context = self._transport._ssl_context
        assert context is not None
        try:
            # Not https_compatible, which would take a cut for an end: only one of them is announced (RFC 8446, 6.1).
            stream = trio.SSLStream(self._connection, context, server_hostname=server_name)
            self._stream = stream
            with self._within(self._clocks.timeouts.connect) as scope:
                await stream.do_handshake()
        except (*_GONE, ValueError) as error:  # ValueError: a name that no certificate can have
            cause = first_cause(error)
            if isinstance(cause, ssl.SSLCertVerificationError):
                self._fail(f"the certificate of {server_name} is not trusted: {cause.verify_message}")
            else:
                self._fail(f"TLS with {server_name} failed: {words(error)}")
        else:
            if scope.cancelled_caught:
                self._fail(self._clocks.no_connection(f"{server_name} with TLS"), Reason.TIMEOUT)
            else:
                self._client.step_done()

    async def _send(self, data: bytes) -> None:
        try:
            with self._within(self._clocks.timeouts.write) as scope:
                await self._connection.send_all(data)
        except _GONE as error:
            if isinstance(self._stream, trio.SSLStream):  # which reads nothing more after that
                self._fail(f"the connection failed: {words(error)}")
            else:
                self._client.send_failed()
        else:
            if not scope.cancelled_caught:
                self._client.step_done()
                return
            if answer := await self._look():  # a server that has answered need not read on
                self._take(self._client.receive_data(answer))
            self._fail(self._clocks.not_sent(), Reason.TIMEOUT)

    async def _receive(self, awaiting: Awaiting) -> None:
        now = trio.current_time()
        deadline = self._clocks.deadline(awaiting, now)
        if deadline <= now:  # a read that need not wait would not notice
            self._fail(self._clocks.no_event(), Reason.TIMEOUT)
            await trio.lowlevel.checkpoint()
            return
        try:
            with self._until(deadline) as scope:
                data = await self._connection.receive_some(_READ)
        except _GONE as error:
            self._fail(f"the connection failed: {words(error)}")
            return
        if scope.cancelled_caught:
            self._fail(self._clocks.no_event(), Reason.TIMEOUT)
            return
        events = self._client.receive_data(data) if data else self._client.receive_eof()
        self._take(events)
        if data and not events and self._client.awaiting not in (awaiting, Awaiting.EVENT, None):
            # A new request is due on a used connection, which the server may have closed.
            there = await self._look()
            if there is not None:
                self._take(self._client.receive_data(there) if there else self._client.receive_eof())

    async def _look(self) -> bytes | bytearray | None:
        """What is there without waiting: None if nothing is, b"" if the connection is over."""
        with trio.CancelScope() as scope:
            # Set inside: a scope that begins when its time is over does not even try. Trio looks at deadlines when it
            # schedules, which a plain stream does after its first attempt and TLS before, so that one needs a moment
            # where there is something to read. A receive that is cancelled has taken nothing.
            scope.deadline = trio.current_time() + (_MOMENT if self._is_readable else 0)
            try:
                return await self._connection.receive_some(_READ)
            except _GONE:
                return b""
        return None

    @property
    def _is_readable(self) -> bool:
        stream = self._stream
        while isinstance(stream, trio.SSLStream):
            stream = stream.transport_stream
        return isinstance(stream, _Socket) and stream.is_readable

    # ---------------------------------------------------------------- what the steps have in common

    def _within(self, seconds: float | None) -> trio.CancelScope:
        return self._until(math.inf if seconds is None else trio.current_time() + seconds)

    def _until(self, deadline: float) -> trio.CancelScope:
        """Around one call, so that its clock, or `aclose` in another task, ends it."""
        self._scope = trio.CancelScope(deadline=deadline)
        return self._scope

    def _fail(self, detail: str, reason: Reason = Reason.LOST) -> None:
        if self._closed:
            detail, reason = _CLOSED, Reason.LOST  # which is why
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

    def _share_session(self, *, over: bool = False) -> None:
        """Give the transport the session that we have, and let those go on that wait for it."""
        session = self._client.session
        if session is not None and session is self._shared:
            return  # nothing is new, as after nearly every read
        if self._client.awaiting is not Awaiting.SESSION:
            self._began_with = self._transport._shared.replace(self._began_with, session)
            self._shared = session
        elif not over:
            return
        self._transport._shared.settle(self)

    @property
    def _connection(self) -> trio.abc.Stream:
        if self._stream is None:
            raise trio.ClosedResourceError  # another task has closed it while we were about to use it
        return self._stream

    async def _close(self) -> None:
        self._closed = True
        self._transport._replies.discard(self)
        self._scope.cancel()
        await self._disconnect()

    async def _disconnect(self) -> None:
        stream, self._stream = self._stream, None
        if stream is not None:
            with trio.CancelScope(shield=True):  # it does not wait
                await trio.aclose_forcefully(stream)


@final
class _Socket(trio.abc.Stream):
    """The socket of a `trio.SocketStream`, for one reader.

    That one tries to read before it waits, which nearly always fails: an answer
    comes more slowly than it is read. This one waits first, and reads once.
    """

    __slots__ = ("_socket",)

    def __init__(self, opened: trio.SocketStream) -> None:
        """The socket belongs to this object from now on."""
        self._socket = socket.socket(fileno=opened.socket.detach())
        self._socket.setblocking(False)

    @property
    def is_readable(self) -> bool:
        try:
            self._socket.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return False
        except OSError:
            pass  # which reading will tell
        return True

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        while True:
            await trio.lowlevel.wait_readable(self._open)
            try:
                return self._open.recv(max_bytes or _READ)
            except BlockingIOError:
                pass  # as the system may be wrong about that
            except OSError as error:
                raise trio.BrokenResourceError from error

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await trio.lowlevel.checkpoint()
        rest = memoryview(data)
        while rest:
            try:
                rest = rest[self._open.send(rest) :]
            except BlockingIOError:
                await self.wait_send_all_might_not_block()
            except OSError as error:
                raise trio.BrokenResourceError from error

    async def wait_send_all_might_not_block(self) -> None:
        await trio.lowlevel.wait_writable(self._open)

    async def aclose(self) -> None:
        trio.lowlevel.notify_closing(self._socket)
        self._socket.close()
        await trio.lowlevel.checkpoint()

    @property
    def _open(self) -> socket.socket:
        if self._socket.fileno() < 0:
            raise trio.ClosedResourceError
        return self._socket
