"""asyncio through httpx: `AsyncioTransport` drives the flow on its own client or on an `httpx.AsyncClient` of yours.

Its own is this library's (`_httpx_transport`), so that its HTTP/1.1 and its way
through proxies are those of every transport. Of a client of yours nothing is an
`isinstance` of httpx's classes, and its exceptions are known by name, so that an
`httpx2.AsyncClient` does as well. Scopes and events are anyio's, which httpx
brings: so it works wherever the client does, on trio too.
"""

import math
import re
import ssl
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import AsyncExitStack, suppress
from types import TracebackType
from typing import Any, Protocol, Self, final
from weakref import WeakSet

import anyio
import anyio.lowlevel

from opchat_proto import Awaiting, Endpoint, Event, Headers, Limits, Live, Proxy, Reason, Request, Session, Submit

from ._common import (
    Clocks,
    QuestionLike,
    RandomSource,
    RanOut,
    Retries,
    SharedSession,
    Target,
    Timeouts,
    first_cause,
    to_submit,
    where,
    words,
)
from ._proxies import ENVIRONMENT, ProxyLike

__all__ = ["AsyncHTTPClient", "AsyncioReply", "AsyncioTransport"]

_CLOSED = "closed by the caller"
_REST = 64 * 1024  # bytes of a body after the last event that are read, so that the connection can be used again
_REST_WITHIN = 1.0  # seconds
_CLOSE_WITHIN = 2.0
_PIECES_HELD = 16 * 1024  # more than a client can have read and not given, at a piece for each chunk of a byte
_CONNECTING = ("connect_tcp", "connect_unix_socket", "start_tls")  # as httpcore names what it does
_SENDING = ("send_request_headers", "send_request_body")
_PROXY = ("setup_socks5_connection", "setup_tunnel")  # the second is our own client's
_RECEIVING = "receive_response_headers"
_NO_ANSWER = "Server disconnected without sending a response."  # httpcore's words for a close before the whole head


class AsyncHTTPClient(Protocol):
    """What is used of an `AsyncClient` of httpx or httpx2."""

    def build_request(
        self, method: str, url: str, *, content: bytes, headers: list[tuple[bytes, bytes]], extensions: dict[str, Any]
    ) -> Any:
        """A request with the client's own header fields."""

    async def send(self, request: Any, *, stream: bool, follow_redirects: bool) -> Any:
        """The response, when its head has come. Cancelled, it closes the connection that it has made or used."""

    async def aclose(self) -> None:
        """Close the connections. Called for a client of our own only, and shielded: it is never cancelled."""


class _OwnBody(Protocol):
    """The body of a response that comes over a connection of our own, which has its own clock."""

    def __aiter__(self) -> Self: ...

    async def __anext__(self) -> bytes: ...

    def now(self) -> float: ...

    async def receive_until(self, deadline: float) -> bytes | None: ...

    def interrupt(self) -> None: ...


@final
class AsyncioTransport:
    """Asks one site, through httpx, from any number of tasks.

        async with AsyncioTransport("https://site.example") as transport, transport.ask("Hi") as reply:
            async for event in reply:
                ...

    All questions share one session: the first starts it, those of other tasks wait
    for that. There is no task behind it, and nothing is connected before a reply is
    read. A connection whose answer came to its end is kept for the next question,
    at most 20 of them for 3 seconds.

    The client is its own: no environment variables, no redirects, HTTP/1.1, no
    cookie jar. Or it is yours, with its proxies, TLS, auth, header fields, mounts and
    event hooks; it is not closed with the transport. Of its settings these do not
    hold here: timeouts and redirects, and the Cookie header, which is the `Session`'s
    only. (What the site sets goes into its jar as with any request; nothing here
    reads that.) An auth that answers a challenge sends a question again that was
    refused with 401.
    """

    def __init__(
        self,
        endpoint: Endpoint | str,
        client: AsyncHTTPClient | None = None,
        *,
        session: Session | None = None,
        headers: Mapping[str, str] | Iterable[tuple[str, str]] = (),
        limits: Limits = Limits(),
        timeouts: Timeouts = Timeouts(),
        ssl_context: ssl.SSLContext | None = None,
        proxy: ProxyLike = ENVIRONMENT,
        retries: int = 0,
        random_source: RandomSource | None = None,
    ) -> None:
        """Nothing is connected yet; no event loop need run yet.

        `endpoint` is an `Endpoint` or what `Endpoint.parse` takes. `client` is an
        `AsyncClient` of httpx or httpx2. `session` is one from before
        (`transport.session`). `headers` go with each request. `ssl_context`
        replaces the system's trust store, for the site and for an https proxy.
        `proxy` is a `Proxy` or its URL, None for none, by default what the
        environment variables say now. `retries` is how often a question is asked
        again that reached nobody, after up to 0.5 to 8 seconds as
        `random_source.random()` says, or that the server has put off with 429 or 503
        and a Retry-After, after that, but not more than 30 seconds.

        Raises `ValueError` for an address, a session, headers or a proxy that cannot
        be used, for an `ssl_context` or a `proxy` (or None) beside a client, which
        has its own; `TypeError` for a client of another kind.
        """
        if client is not None:
            if proxy != ENVIRONMENT:
                raise ValueError("proxy: expected none, since the client has its own")
            proxy = None
        self._target = Target(endpoint, session, headers, limits, timeouts, proxy)
        self._retries = Retries(retries, random_source)
        self._shared = SharedSession(session, anyio.Event)
        if client is not None and ssl_context is not None:
            raise ValueError("ssl_context: expected none, since the client has its own")
        if client is not None and not (hasattr(client, "build_request") and hasattr(client, "aclose")):
            raise TypeError(f"client: expected an AsyncClient, got {type(client).__name__}")
        self._is_own = client is None
        self._client = _own_client(self._target, ssl_context) if client is None else client
        self._replies: WeakSet[AsyncioReply] = WeakSet()
        self._closed = False

    def __repr__(self) -> str:
        """Where it asks."""
        return f"<AsyncioTransport to {self._target.endpoint.origin}>"

    @property
    def session(self) -> Session | None:
        """The session as it stands, for the next transport; None until a question has started one."""
        return self._shared.current

    @property
    def proxy(self) -> Proxy | None:
        """The proxy that it goes through, if there is one; None beside a client of yours, which has its own."""
        return self._target.proxy

    def ask(self, question: QuestionLike) -> "AsyncioReply":
        """The reply to a question: a text, a list of messages or a `Submit`. It is sent when the reply is first read.

        A submit without a chat id gets a random one. Raises `InvalidMessages` or
        another `ValueError` for what cannot be sent, `RuntimeError` if the
        transport is closed.
        """
        if self._closed:
            raise RuntimeError("the transport is closed")
        reply = AsyncioReply(self, to_submit(question))
        self._replies.add(reply)
        return reply

    async def aclose(self) -> None:
        """Close all open replies, and the client if it is our own: a task that waits gets `Broken`. Idempotent.

        Cancelled, it still closes them all.
        """
        self._closed = True
        async with AsyncExitStack() as stack:  # which calls each of them whatever the others raise
            if self._is_own:
                stack.push_async_callback(self._close_client)
            for reply in list(self._replies):
                stack.push_async_callback(reply._close)
        await anyio.lowlevel.checkpoint()

    async def _close_client(self) -> None:
        with anyio.CancelScope(shield=True, deadline=anyio.current_time() + _CLOSE_WITHIN):
            await self._client.aclose()

    async def __aenter__(self) -> Self:
        """The transport itself. It does not wait, so it cannot be cancelled."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        """`aclose()`: all is closed, also when cancelled."""
        await self.aclose()


def _own_client(target: Target, ssl_context: ssl.SSLContext | None) -> AsyncHTTPClient:
    from ._httpx_transport import Connections  # here, as it needs httpx, and a client of the caller's may be another's

    if ssl_context is None and target.uses_tls:
        ssl_context = ssl.create_default_context()
    return Connections(target, ssl_context)


@final
class AsyncioReply:
    """The answer to one question, made by `AsyncioTransport.ask`: `Live` events, then one `End` or `Broken`.

    An async iterator that reads only when it is asked. What goes wrong on the way
    is the event `Broken`, also where it is a hook or the auth of the caller's client.
    Leaving early, by `aclose()` or the end of the `async with` block, closes the
    connection at once.
    """

    def __init__(self, transport: AsyncioTransport, submit: Submit) -> None:
        """For `AsyncioTransport.ask`."""
        self._transport = transport
        self._submit = submit
        self._began_with = transport.session
        self._flow = transport._target.flow(submit, self._began_with)
        self._asked_with = self._began_with
        self._given: Session | None = None  # what the transport was given last
        self._begun = False
        self._retries = 0
        self._pause: float | None = None  # seconds, before the question is asked again
        self._clocks = Clocks(transport._target.timeouts)
        self._events: list[Event] = []  # the next one last; a deque would take 700 bytes for the one that mostly waits
        self._response: Any = None
        self._body: AsyncIterator[bytes] | None = None  # of that response
        self._own_body: _OwnBody | None = None  # the same, if it came over a connection of our own
        self._rest_is_wanted = False
        self._scope: anyio.CancelScope | None = None  # of the call that is made, or was made last
        self._phase = ""  # of the sending, as httpcore names it
        self._opened: Any = None  # the connection that was opened for it
        self._peer = ""  # to whom: an address, for TLS a name
        self._at_proxy = False  # and that is our proxy, which has not let us through yet
        self._is_sending = False  # the request itself, as far as the client tells
        self._reached_nobody = False  # the request, it is certain
        self._submitted = False  # before that request: a submit was handed out
        self._is_reading = False  # some task is in `__anext__`
        self._left: anyio.Event | None = None  # set when it has left, for one that closes meanwhile
        self._closed = False

    def __repr__(self) -> str:
        """Where it comes from and how far it is."""
        return f"<AsyncioReply of {self._transport._target.endpoint.origin} after {self._clocks.events} events>"

    @property
    def retries(self) -> int:
        """How often the question was asked again."""
        return self._retries

    def __aiter__(self) -> Self:
        """The reply itself."""
        return self

    async def __anext__(self) -> Event:
        """The next event. Once the reply was closed: what had been read before, then `Broken`.

        Events that came with one read (64 KiB) are given without letting other
        tasks run between them. Cancelled, it closes the connection first: a question
        may have been asked that is answered to nobody; the next call gives `Broken`.
        Raises `RuntimeError` while another task is in here.
        """
        if self._is_reading:
            raise RuntimeError("another task is reading this reply")
        if self._events:
            return self._events.pop()
        self._is_reading = True
        try:
            if self._closed or self._flow.awaiting is None:
                await anyio.lowlevel.checkpoint()  # there is nothing to wait for
            while not self._events and (self._flow.awaiting is not None or self._pause is not None):
                if self._body is not None and not self._closed and self._pause is None:
                    await self._receive(self._body)  # as nearly always
                else:
                    await self._step()
                if self._flow.awaiting is None and not self._rest_is_wanted:
                    await self._disconnect()
            if not self._events:
                await self._read_rest()
        except BaseException:  # it may have cut a request in two
            self._closed = True
            await self._disconnect()
            raise
        finally:
            self._is_reading = False
            if self._left is not None:
                self._left.set()
            self._share_session(over=True)
        if not self._events:
            raise StopAsyncIteration
        return self._events.pop()

    async def aclose(self) -> None:
        """Close the connection at once if the answer is not over. Idempotent, from any task, also when cancelled.

        A task that waits for an event gets `Broken`: LOST, or TRUNCATED once the
        answer had begun. After the last event what is left of the body is read, up
        to 64 KiB and for a second, so that the client can keep the connection.
        """
        try:
            if not self._is_reading:
                await self._read_rest()
        finally:
            await self._close()
        await anyio.lowlevel.checkpoint()

    async def __aenter__(self) -> Self:
        """The reply itself. It does not wait, so it cannot be cancelled."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        """`aclose()`: the connection is closed, also when cancelled."""
        await self.aclose()

    # ---------------------------------------------------------------- the loop

    async def _step(self) -> None:
        if self._pause is not None:
            await self._begin_again(self._pause)
        elif self._closed:
            self._fail(_CLOSED)
        elif not self._begun:
            await self._begin()
        else:
            self._submitted = self._flow.submit_started
            request = self._flow.next_request()
            assert request is not None
            await self._send(request)

    async def _begin(self) -> None:
        """Wait for the session that another reply is starting, if one is."""
        shared = self._transport._shared
        if (settled := shared.in_the_way()) is not None:
            limit = self._clocks.timeouts.first_event
            with self._until(math.inf if limit is None else anyio.current_time() + limit) as scope:
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
                self._flow = self._transport._target.flow(self._submit, session)
            except ValueError as error:  # the session's id is part of what is sent
                self._fail(str(error), Reason.TOO_LARGE)

    async def _begin_again(self, seconds: float) -> None:
        await self._read_rest()
        self._pause = None
        self._began_with = self._asked_with
        self._flow = self._transport._target.flow(self._submit, self._began_with)
        self._begun = self._submitted = False
        self._clocks.forget()
        if not self._closed:
            with self._until(math.inf):
                await anyio.sleep(seconds)  # the back-off; `aclose` cancels it
        if not self._closed:
            self._retries += 1

    async def _send(self, request: Request) -> None:
        client, endpoint = self._transport._client, self._transport._target.endpoint
        self._phase, self._opened = "", None
        self._is_sending = self._reached_nobody = False
        self._peer, self._at_proxy = where(endpoint.host, endpoint.port), False
        self._clocks.forget()
        try:
            # So long has a client that does not tell how far it is, or that keeps us waiting for a free connection.
            with self._until(self._clocks.deadline(self._flow.awaiting, anyio.current_time())) as scope:
                response = await client.send(self._build(request), stream=True, follow_redirects=False)
                self._response = response
                self._body = self._own_body = response.extensions.get("opchat_body")
                if self._body is None:
                    # A hook may have read it.
                    self._body = response.aiter_bytes() if response.is_stream_consumed else response.aiter_raw()
        except Exception as error:
            self._explain(error)
        else:
            if scope.cancelled_caught:
                self._reached_nobody = self._at_proxy and not self._is_sending
                self._fail(self._clocks.no_event(), Reason.TIMEOUT)
            elif response.status_code == 407 and self._transport._target.is_relayed:
                self._fail("the proxy refused: status 407", Reason.PROXY)
            else:
                self._take(self._flow.receive_head(response.status_code, response.headers.raw))
        finally:
            if self._opened is not None and self._phase in (*_CONNECTING, *_PROXY):
                with anyio.CancelScope(shield=True), suppress(Exception):
                    await self._opened.aclose()
            self._opened = None

    def _build(self, request: Request) -> Any:
        timeouts = self._clocks.timeouts
        built = self._transport._client.build_request(
            request.method,
            request.url,
            content=request.body,
            headers=[(name.encode("latin-1"), value.encode("latin-1")) for name, value in request.headers],
            extensions={
                "timeout": {"connect": timeouts.connect, "write": timeouts.write, "read": None, "pool": None},
                "trace": self._watch,
                "interim": self._receive_interim,
                "repeatable": self._flow.awaiting is Awaiting.SESSION,
            },
        )
        if not any(name.lower() == "cookie" for name, _ in request.headers):
            built.headers.pop("Cookie", None)  # from the client's jar
        _give_whole(built, request.body)
        return built

    async def _watch(self, name: str, info: Mapping[str, Any]) -> None:
        """How far httpcore is with the request ("connection.start_tls.started"), as each phase has its own clock."""
        step, _, state = name.rpartition(".")
        phase = step.rpartition(".")[2]
        is_tunnel = getattr(info.get("request"), "method", b"") == b"CONNECT"
        if state == "started" and phase in (*_CONNECTING, *_SENDING):
            self._phase = phase
            self._until_head(math.inf)  # its own timeouts run
            if phase == "connect_tcp":
                self._peer, self._at_proxy = where(info["host"], info["port"]), self._transport.proxy is not None
            elif phase == "start_tls":
                self._peer = info["server_hostname"]
            elif not is_tunnel:
                self._at_proxy, self._is_sending = False, True
        elif state == "started" and phase in (*_PROXY, _RECEIVING):
            if phase != self._phase:  # a proxy has one clock for all its replies
                self._clocks.forget()
            self._phase = phase
            awaiting = Awaiting.PROXY if is_tunnel or phase in _PROXY else self._flow.awaiting
            self._until_head(self._clocks.deadline(awaiting, anyio.current_time()))
        elif state == "complete" and phase in _PROXY:
            self._at_proxy = False
        elif state == "complete" and phase in _CONNECTING:
            if phase != "start_tls":
                self._opened = info["return_value"]
            # A connection that is cancelled between its opening and its first write stays in the pool for ever.
            await anyio.lowlevel.checkpoint()  # so rather here, where httpcore forgets it and `_send` closes it

    def _receive_interim(self, status: int, headers: Headers) -> bool:
        """A head before the response; httpcore gives none. Returns whether there is more to come."""
        self._take(self._flow.receive_head(status, headers))
        return self._flow.awaiting is not None

    def _until_head(self, deadline: float) -> None:
        if self._scope is not None:
            self._scope.deadline = deadline

    async def _receive(self, body: AsyncIterator[bytes]) -> None:
        own = self._own_body
        now = anyio.current_time() if own is None else own.now()
        deadline = self._clocks.deadline(self._flow.awaiting, now)
        if deadline <= now:  # a read that need not wait would not notice
            self._fail(self._clocks.no_event(), Reason.TIMEOUT)
            await anyio.lowlevel.checkpoint()
            return
        data: bytes | None = None
        try:
            if own is None:
                data = await self._next(body, deadline)
            else:
                data = await own.receive_until(deadline)  # which takes half as long
        except RanOut:
            self._fail(self._clocks.no_event(), Reason.TIMEOUT)
        except Exception as error:
            self._explain(error)
        else:
            if data is None:
                self._take(self._flow.receive_eof())
            else:
                self._take(self._flow.receive_data(data))
                self._rest_is_wanted = self._flow.awaiting is None
        if data is None:
            await self._disconnect()

    async def _next(self, body: AsyncIterator[bytes], deadline: float) -> bytes | None:
        with self._until(deadline) as scope:
            return await anext(body, None)
        assert scope.cancelled_caught
        raise RanOut

    async def _read_rest(self) -> None:
        if not self._rest_is_wanted or self._body is None:
            return
        self._rest_is_wanted = False
        left = _REST
        with self._until(anyio.current_time() + _REST_WITHIN), suppress(Exception):
            while left > 0 and (data := await anext(self._body, None)) is not None:
                left -= len(data)
        await self._disconnect()

    # ---------------------------------------------------------------- what the steps have in common

    def _until(self, deadline: float) -> anyio.CancelScope:
        """Around one call, so that its clock, or `aclose` in another task, ends it."""
        self._scope = anyio.CancelScope(deadline=deadline)
        return self._scope

    def _explain(self, error: Exception) -> None:
        """Report what the client raised. Its classes are known by their names, which httpx and httpx2 share."""
        names = {base.__name__ for base in type(error).__mro__}
        said = words(error)
        reason = getattr(error, "reason", None)  # which our own client knows
        not_connected = self._at_proxy or bool(names & {"ConnectError", "ConnectTimeout", "ProxyError"})
        self._reached_nobody = not_connected and not self._is_sending
        if "HTTPStatusError" in names and self._response is None:  # as response hooks raise it
            status_error: Any = error  # whose class has a response
            response = status_error.response
            self._take(self._flow.receive_head(response.status_code, response.headers.raw))
        if "ConnectTimeout" in names:
            to = self._peer if self._phase != "start_tls" else f"{self._peer} with TLS"
            self._fail(self._clocks.no_connection(to), Reason.TIMEOUT)
        elif "WriteTimeout" in names:
            self._fail(self._clocks.not_sent(), Reason.TIMEOUT)
        elif "TimeoutException" in names:  # we asked for no other
            self._fail(f"the client gave up: {said}", Reason.TIMEOUT)
        elif "ProxyError" in names:
            # What follows a status are words of the proxy's, and it knows the password.
            refused = f"refused: status {said[:3]}" if re.match("[0-9]{3} ", said) else f"failed: {said}"
            self._fail(f"the proxy {refused}", Reason.PROXY)
        elif isinstance(reason, Reason) and reason is not Reason.LOST:
            self._fail(str(error), reason)
        elif self._at_proxy:
            why = self._why_not_connected(error) if "ConnectError" in names else str(error)
            self._fail(f"the proxy {self._transport.proxy}: {why}", Reason.PROXY)
        elif "ConnectError" in names:
            self._fail(self._why_not_connected(error))
        elif reason is Reason.LOST:
            self._fail(f"{error}{self._not_repeated}")
        elif said == _NO_ANSWER:
            self._fail(f"the connection was closed before any answer{self._not_repeated}")
        elif "RemoteProtocolError" in names:
            self._fail(f"HTTP: {said}", Reason.TRUNCATED)
        elif names & {"NetworkError", "OSError"}:
            self._fail(f"the connection failed: {said}{self._not_repeated}")
        else:
            self._fail(f"the client failed: {type(error).__name__}: {error}")

    def _why_not_connected(self, error: Exception) -> str:
        cause = first_cause(error)
        if isinstance(cause, ssl.SSLCertVerificationError):
            return f"the certificate of {self._peer} is not trusted: {cause.verify_message}"
        if self._phase == "start_tls":
            return f"TLS with {self._peer} failed: {words(error)}"
        return f"could not connect to {self._peer}: {words(error)}"

    @property
    def _not_repeated(self) -> str:
        return "" if self._response is not None or self._flow.awaiting is Awaiting.SESSION else "; not repeated"

    def _fail(self, detail: str, reason: Reason = Reason.LOST) -> None:
        if self._closed:
            detail, reason = _CLOSED, Reason.LOST  # which is why
        self._take(self._flow.receive_failure(detail, reason))

    def _take(self, events: list[Event]) -> None:
        # A flow that has handed out a request does not know how far that went.
        if events and not isinstance(events[-1], Live) and not self._closed:
            submitted = self._submitted or (self._flow.submit_started and not self._reached_nobody)
            again_in = self._transport._retries.decide(events, self._retries, submit_started=submitted)
            if again_in is not None:
                self._pause, events = again_in, []
        self._clocks.count(events)
        self._events = events[::-1] + self._events
        self._share_session()

    def _share_session(self, *, over: bool = False) -> None:
        """Give the transport the session that we have, and let those go on that wait for it."""
        session = self._flow.session
        if session is not None and session is self._given:
            return  # nothing is new, as after nearly every read
        if self._flow.awaiting is not Awaiting.SESSION:
            self._began_with = self._transport._shared.replace(self._began_with, session)
            self._given = session
        elif not over:
            return
        self._transport._shared.settle(self)

    async def _close(self) -> None:
        self._closed = True
        self._transport._replies.discard(self)
        if not self._is_reading:
            await self._disconnect()
        else:
            if self._scope is not None:
                self._scope.cancel()
            if self._own_body is not None:
                self._own_body.interrupt()
            self._left = self._left or anyio.Event()
            with anyio.CancelScope(shield=True, deadline=anyio.current_time() + _CLOSE_WITHIN):
                await self._left.wait()  # only who reads can close what is read

    async def _disconnect(self) -> None:
        response, body = self._response, self._body
        self._response = self._body = self._own_body = None
        if body is None:
            return
        with anyio.CancelScope(shield=True, deadline=anyio.current_time() + _CLOSE_WITHIN):
            try:
                if not self._transport._is_own:
                    await _end(body)
            finally:
                with suppress(Exception):
                    await response.aclose()


def _give_whole(request: Any, body: bytes) -> None:
    """Let a request give its body without a generator, which would be left behind where sending is cancelled."""
    for base in type(request.stream).__mro__:
        if base.__name__ == "AsyncByteStream":
            request.stream = type("Body", (base,), {"__aiter__": lambda _: _Once(body)})()
            return


@final
class _Once:
    """Iterates over one piece."""

    def __init__(self, piece: bytes) -> None:
        self._pieces = [piece]

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        if not self._pieces:
            raise StopAsyncIteration
        return self._pieces.pop()


async def _end(body: AsyncIterator[bytes]) -> None:
    """End the generators of a body.

    A generator that is closed leaves those it reads from to the garbage collector
    (httpx has five, one inside the other). So the innermost is cancelled, which
    ends them all, and closes the connection unless the body was at its end.
    """
    with anyio.CancelScope() as scope, suppress(Exception):
        scope.cancel()
        for _ in range(_PIECES_HELD):
            if await anext(body, None) is None:
                return
