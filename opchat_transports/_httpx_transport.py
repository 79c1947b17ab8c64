"""An HTTP client of our own with httpx's interface: HTTP/1.1 and the way through proxies are `opchat_proto`'s.

So the bytes that come are judged as on every other transport. It reports how far it
is as httpcore does (the extension "trace"), and raises httpx's exceptions, or
`Failed` where it has a verdict already.

The sockets are plain ones that anyio waits for, and TLS is anyio's, so it runs on asyncio
and on trio. A connection belongs to one object from its first call on and closes
without waiting: whichever await is cancelled, nothing is left open.
"""

import asyncio
import math
import os
import socket
import ssl
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, Self, final

import anyio
import anyio.abc
import anyio.lowlevel
import httpx
from anyio.streams.tls import TLSAttribute, TLSStream

from opchat_proto import Limits, Proxy, Reason, Request
from opchat_proto._exchange import EndOfBody, Exchange, Fault, Head, Received
from opchat_proto._tunnel import UNASKED, HTTPTunnel, SOCKSTunnel

from ._common import RanOut, Target, tcp_options, words

__all__: list[str] = []

_READ = 64 * 1024
_KEPT = 3.0  # seconds that an idle connection is kept; Apache closes its side after 5
_KEPT_MOST = 20
_NEXT_ATTEMPT = 0.25  # seconds until the next address of a name is tried beside the one before (RFC 8305, 5)


@final
class Failed(httpx.TransportError):
    """What has gone wrong, in words for a person, and what that means for the reply."""

    def __init__(self, detail: str, reason: Reason = Reason.LOST) -> None:
        """LOST where no byte of an answer had come."""
        super().__init__(detail)
        self.reason = reason


@final
class Connections:
    """Connections to one site, through its proxy if there is one, for any number of requests at once.

    What is used of an `httpx.AsyncClient`, without what nobody uses here: cookies, auth, redirects, header fields.
    """

    def __init__(self, target: Target, ssl_context: ssl.SSLContext | None) -> None:
        """Nothing is connected yet."""
        self._target = target
        self._ssl_context = ssl_context
        self._idle: deque[_Connection] = deque()  # the one that was used last at the right
        self._closed = False

    def build_request(
        self, method: str, url: str, *, content: bytes, headers: list[tuple[bytes, bytes]], extensions: dict[str, Any]
    ) -> httpx.Request:
        """A request with these header fields and no others."""
        return httpx.Request(method, url, content=content, headers=headers, extensions=extensions)

    async def send(self, request: httpx.Request, *, stream: bool, follow_redirects: bool) -> httpx.Response:
        """The response, when its head has come: always a stream, never redirected. Cancelled, it closes the connection.

        Besides "timeout" and "trace" it looks at two extensions: "interim" is called
        with status and header fields of each 1xx, and says whether to go on; and
        "repeatable" says that a request may be repeated which a kept connection has
        swallowed.
        """
        while (kept := self._take_idle()) is not None:
            with suppress(_Stale):
                return await self._ask(kept, request)
        return await self._ask(await self._connect(request), request)

    async def aclose(self) -> None:
        """Close the connections that nobody uses; the others close when their body does. It does not wait."""
        self._closed = True
        while self._idle:
            self._idle.pop().close()

    def release(self, connection: "_Connection") -> None:
        """Keep a connection whose response is over, if it can be used again."""
        if self._closed or not connection.reusable:
            connection.close()
            return
        connection.plain.rest()
        connection.kept_until = time.monotonic() + _KEPT
        self._idle.append(connection)
        if len(self._idle) > _KEPT_MOST:
            self._idle.popleft().close()

    def _take_idle(self) -> "_Connection | None":
        while self._idle:
            connection = self._idle.pop()
            # Whatever has come since, be it the end: it is no answer to what will be asked now.
            if connection.kept_until > time.monotonic() and not connection.has_unread:
                return connection
            connection.close()
        return None

    async def _connect(self, request: httpx.Request) -> "_Connection":
        proxy, site, limits = self._target.proxy, self._target.endpoint, self._target.limits
        peer = proxy or site
        connection = _Connection(limits, request)
        with connection.closed_on_failure():
            await connection.connect(peer.host, peer.port)
            if proxy is not None and proxy.scheme == "https":
                await connection.start_tls(proxy.host, self._ssl_context)
            if proxy is not None and not self._target.is_relayed:
                await connection.open_tunnel(
                    SOCKSTunnel(proxy, site) if proxy.is_socks else HTTPTunnel(proxy, site, limits)
                )
            if site.scheme == "https":
                await connection.start_tls(site.host, self._ssl_context)
        return connection

    async def _ask(self, connection: "_Connection", request: httpx.Request) -> httpx.Response:
        with connection.closed_on_failure():
            head = await connection.ask(request, self._target.proxy if self._target.is_relayed else None)
        body = _ResponseBody(self, connection)
        # httpx wraps the stream in generators; who wants to do without takes it from the extension.
        return httpx.Response(head.status, headers=head.headers, stream=body, extensions={"opchat_body": body})


@final
class _ResponseBody(httpx.AsyncByteStream):
    """The rest of a response: what each read brings, joined. At its end the connection goes back."""

    def __init__(self, owner: Connections, connection: "_Connection") -> None:
        self._owner = owner
        self._connection: _Connection | None = connection

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        """Some bytes. Raises `Failed` for a response that breaks off or cannot be followed."""
        data = await self.receive_until(math.inf)
        if data is None:
            raise StopAsyncIteration
        return data

    def now(self) -> float:
        """The time that `receive_until` goes by; at the end, where it does not wait, any."""
        return 0.0 if self._connection is None else self._connection.plain.reader.now()

    async def receive_until(self, deadline: float) -> bytes | None:
        """As `anext`, but None at the end. Raises `RanOut` at the deadline, and when it is interrupted."""
        connection = self._connection
        if connection is None:
            return None
        connection.plain.reader.deadline = deadline
        match await connection.next():
            case bytes(data):
                return data
            case _:  # EndOfBody
                self._connection = None
                self._owner.release(connection)
                return None

    def interrupt(self) -> None:
        """Let a task that waits for bytes do so no longer."""
        if self._connection is not None:
            self._connection.plain.reader.interrupt()

    async def aclose(self) -> None:
        """Close the connection, unless the body is at its end. It does not wait."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()


class _Stale(Exception):
    """A kept connection was closed by the server before it had seen this request, or before it can have mattered."""


@final
class _Connection:
    """One connection, from its first call on. Its methods report what goes wrong as httpx's exceptions or `Failed`."""

    def __init__(self, limits: Limits, request: httpx.Request) -> None:
        self._exchange = Exchange(limits)
        self._received: deque[Received] = deque()
        self._request = request  # the one that is answered, or made this connection
        self._plain: _Socket | None = None
        self._stream: anyio.abc.ByteStream | None = None  # the same, or TLS over it
        self._is_broken = False  # sending has failed
        self.kept_until = 0.0

    @property
    def reusable(self) -> bool:
        return self._exchange.reusable and not self._is_broken

    @property
    def has_unread(self) -> bool:
        """Whether bytes have come, or the end. What TLS had there is gone then, and so is its connection."""
        stream: object = self._stream
        while isinstance(stream, TLSStream):  # which may hold records that came with the ones it has given
            try:
                stream.extra(TLSAttribute.ssl_object).read(1)
            except ssl.SSLWantReadError:
                stream = stream.transport_stream
            except ssl.SSLError:
                return True
            else:
                return True
        return self._plain is None or self._plain.peek() is not None

    def close(self) -> None:
        if self._plain is not None:
            self._plain.close()

    @contextmanager
    def closed_on_failure(self) -> Iterator[None]:
        try:
            yield
        except BaseException:
            self.close()
            raise

    # ---------------------------------------------------------------- before the request

    async def connect(self, host: str, port: int) -> None:
        await self._tell("connection.connect_tcp.started", host=host, port=port)
        try:
            with self._within("connect", httpx.ConnectTimeout):
                self._stream = self._plain = await _connect(host, port)
        except (OSError, UnicodeError) as error:  # UnicodeError: a name that the DNS cannot have
            raise httpx.ConnectError(words(error)) from error

    async def start_tls(self, server_name: str, context: ssl.SSLContext | None) -> None:
        await self._tell("connection.start_tls.started", server_hostname=server_name)
        try:
            with self._within("connect", httpx.ConnectTimeout):
                # Standard compatible, by default: a cut is no end, as only that is announced (RFC 8446, 6.1).
                self._stream = await TLSStream.wrap(self._opened, hostname=server_name, ssl_context=context)
        except (OSError, anyio.BrokenResourceError, ValueError) as error:  # ValueError: no certificate has such a name
            raise httpx.ConnectError(words(error)) from error

    async def open_tunnel(self, tunnel: HTTPTunnel | SOCKSTunnel) -> None:
        while not tunnel.is_open:
            if tunnel.out:
                await self._send(tunnel.out)
                tunnel.sent()
                await self._tell("connection.setup_tunnel.started")
            data = await self._receive()
            if not data:
                raise Failed("the connection was closed before any answer")
            if fault := tunnel.receive_data(data):
                raise Failed(fault.detail, fault.reason)
        if self.plain.peek():  # which would become an answer of the site's
            raise Failed(UNASKED.detail, UNASKED.reason)
        await self._tell("connection.setup_tunnel.complete")

    # ---------------------------------------------------------------- request and response

    async def ask(self, request: httpx.Request, relay: Proxy | None) -> Head:
        """Send a request, and read the head of its response. Raises `_Stale` only on a connection used before."""
        self._request = request
        is_used = self._exchange.begun
        headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in request.headers.raw]
        target = request.url.raw_path.decode()
        if relay is not None:
            headers += relay.authorization
            target = str(request.url)  # RFC 9112, 3.2.2
        asked = Request(request.method, str(request.url), tuple(headers), request.content)
        before = self.plain.sent
        await self._tell("http11.send_request_headers.started", request=request)
        try:
            await self._send(self._exchange.send(asked, target))
            await self._tell("http11.receive_response_headers.started", request=request)
            while True:
                head = await self.next()
                assert isinstance(head, Head)  # nothing else comes first
                if head.status >= 200:
                    return head
                if not request.extensions["interim"](head.status, head.headers):
                    raise Failed("nothing more is wanted", Reason.TRUNCATED)
        except Failed as failed:
            harmless = request.extensions["repeatable"] or self.plain.sent == before
            if is_used and failed.reason is Reason.LOST and harmless:
                raise _Stale from None
            raise

    async def next(self) -> Head | bytes | EndOfBody:
        """What comes next in the response."""
        while not self._received:
            try:
                data = await self._receive()
            except Failed as failed:
                raise Failed(str(failed), Reason.TRUNCATED if self._exchange.begun else Reason.LOST) from failed
            if not data and not self._exchange.begun:
                raise Failed("the connection was closed before any answer")
            self._received += self._exchange.receive_data(data) if data else self._exchange.receive_eof()
        item = self._received.popleft()
        if isinstance(item, Fault):
            raise Failed(item.detail, item.reason)
        return item

    # ---------------------------------------------------------------- bytes

    async def _send(self, data: bytes) -> None:
        """Send it all, or as much as is taken: who has stopped reading may have answered."""
        try:
            with self._within("write", httpx.WriteTimeout):
                await self._opened.send(data)
        except httpx.WriteTimeout:
            self._is_broken = True
            if self._stream is not self._plain or not self.has_unread:
                raise
        except (OSError, anyio.BrokenResourceError) as error:
            self._is_broken = True
            if self._stream is not self._plain:  # TLS reads nothing more after that
                raise Failed(f"the connection failed: {words(error)}") from error

    async def _receive(self) -> bytes:
        """Some bytes; none at the end."""
        try:
            return await self._opened.receive(_READ)
        except anyio.EndOfStream:
            return b""
        except (OSError, anyio.BrokenResourceError) as error:
            raise Failed(f"the connection failed: {words(error)}") from error

    @property
    def _opened(self) -> anyio.abc.ByteStream:
        assert self._stream is not None
        return self._stream

    @property
    def plain(self) -> "_Socket":
        assert self._plain is not None
        return self._plain

    async def _tell(self, name: str, **info: Any) -> None:
        await self._request.extensions["trace"](name, info)

    @contextmanager
    def _within(self, clock: str, timeout: type[httpx.TimeoutException]) -> Iterator[None]:
        with anyio.move_on_after(self._request.extensions["timeout"][clock]) as scope:
            yield
        if scope.cancelled_caught:
            raise timeout("")


@final
class _Socket(anyio.abc.ByteStream):
    """A non-blocking socket as anyio's TLS takes it. It has no task and no buffer, and no await can lose it."""

    def __init__(self, family: int, kind: int, protocol: int) -> None:
        self._reader: _Reader | None = None
        self._socket = socket.socket(family, kind, protocol)
        self._socket.setblocking(False)
        self.sent = 0
        """How many bytes the system has taken."""

    async def connect(self, address: Any) -> None:
        for option in tcp_options(socket):
            self._socket.setsockopt(*option)
        with suppress(BlockingIOError):
            self._socket.connect(address)
        await anyio.wait_writable(self._socket)
        if number := self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            raise OSError(number, os.strerror(number))

    @property
    def reader(self) -> "_Reader":
        """Who reads, until `rest`."""
        if self._reader is None:
            # Elsewhere asyncio's loops mostly cannot watch sockets.
            is_loop = os.name == "posix" and _runs_asyncio()
            self._reader = _LoopReader(self._socket) if is_loop else _Reader(self._socket)
        return self._reader

    async def receive(self, max_bytes: int = _READ) -> bytes:
        """Raises `RanOut` besides what a stream of anyio's does."""
        data = await self.reader.read(max_bytes)
        if not data:
            raise anyio.EndOfStream
        return data

    async def send(self, item: bytes) -> None:
        await anyio.lowlevel.checkpoint()
        rest = memoryview(item)
        while rest:
            try:
                count = self._socket.send(rest)
            except BlockingIOError:
                await anyio.wait_writable(self._socket)
            else:
                self.sent += count
                rest = rest[count:]

    def peek(self) -> bytes | None:
        """The next byte, which stays there; b"" at the end, None if nothing has come."""
        try:
            return self._socket.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return None
        except OSError:
            return b""

    def rest(self) -> None:
        """Nobody reads for now. Who reads next may do so in another loop."""
        if self._reader is not None:
            self._reader.stop()
            self._reader = None

    def close(self) -> None:
        self.rest()
        self._socket.close()

    def __del__(self) -> None:
        self.rest()  # or the loop would keep it open where somebody forgets to close a reply

    async def aclose(self) -> None:
        self.close()

    async def send_eof(self) -> None:
        raise NotImplementedError("HTTP/1.1 needs none")


def _runs_asyncio() -> bool:
    try:
        return asyncio.current_task() is not None
    except RuntimeError:  # no loop of asyncio's is running
        return False


class _Reader:
    """Reads from a socket when there is something to read, in any loop that anyio knows."""

    def __init__(self, opened: socket.socket) -> None:
        self._socket = opened
        self._scope: anyio.CancelScope | None = None  # in which it waits, or has waited last
        self.deadline = math.inf
        """When to give up, in the time of `now`."""

    def now(self) -> float:
        return anyio.current_time()

    async def read(self, most: int) -> bytes:
        """Some bytes, none at the end. Raises `RanOut` at the deadline, and when it is interrupted."""
        while True:
            # To read first would mostly fail, and a peer that is always ready must not keep others from running.
            with anyio.CancelScope(deadline=self.deadline) as self._scope:
                await anyio.wait_readable(self._socket)
            if self._scope.cancelled_caught:
                raise RanOut
            with suppress(BlockingIOError):
                return self._socket.recv(most)

    def interrupt(self) -> None:
        """Let `read` wait no longer, also if it has not begun to."""
        self.deadline = -math.inf
        if self._scope is not None:
            self._scope.cancel()

    def stop(self) -> None:
        """It is not used any more."""


@final
class _LoopReader(_Reader):
    """The same in asyncio's loop, where anyio registers the socket anew for each read, and sets a timer for each scope.

    That takes longer than to parse what comes. Here the loop goes on watching while
    somebody goes on reading, and one timer is set anew when it rings.
    """

    def __init__(self, opened: socket.socket) -> None:
        super().__init__(opened)
        self._loop = asyncio.get_running_loop()
        self._waiter: asyncio.Future[bytes] | None = None  # of the task that reads
        self._most = 0
        self._is_watched = False
        self._timer: asyncio.TimerHandle | None = None

    def now(self) -> float:
        return self._loop.time()

    async def read(self, most: int) -> bytes:
        self._most = most
        self._waiter = self._loop.create_future()
        if not self._is_watched:
            self._loop.add_reader(self._socket, self._readable)
            self._is_watched = True
        if self._timer is None or self._timer.when() > self.deadline:
            self._set_timer(self.deadline)
        try:
            return await self._waiter
        finally:
            self._waiter = None

    def _readable(self) -> None:
        if self._waiter is None or self._waiter.done():
            self._watch_no_longer()  # until somebody reads on
            return
        try:
            data = self._socket.recv(self._most)
        except BlockingIOError:
            pass
        except OSError as error:
            self._waiter.set_exception(error)
        else:
            self._waiter.set_result(data)

    def _watch_no_longer(self) -> None:
        if self._is_watched and not self._loop.is_closed():
            self._loop.remove_reader(self._socket)
        self._is_watched = False

    def _set_timer(self, when: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None if when == math.inf else self._loop.call_at(when, self._ring)

    def _ring(self) -> None:
        self._timer = None
        if self._waiter is not None:
            if self.now() >= self.deadline:
                self.interrupt()
            else:
                self._set_timer(self.deadline)

    def interrupt(self) -> None:
        super().interrupt()
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_exception(RanOut())

    def stop(self) -> None:
        self._watch_no_longer()
        self._set_timer(math.inf)


async def _connect(host: str, port: int) -> _Socket:
    """A connection to the first address of a name that gives one (RFC 8305)."""
    try:
        # As bytes, since for text Python would import its IDNA codec, here on the event loop.
        found: Sequence[Any] = socket.getaddrinfo(
            host.encode("ascii"), port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST
        )
    except (OSError, UnicodeError):  # a name, to be looked up without keeping others from running
        found = await anyio.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    sockets: list[_Socket] = []
    connected: list[_Socket] = []
    errors: list[OSError] = []
    chosen: _Socket | None = None

    async def attempt(opened: _Socket, address: Any, over: anyio.Event) -> None:
        try:
            await opened.connect(address)
        except OSError as error:
            errors.append(error)
        else:
            connected.append(opened)
            attempts.cancel_scope.cancel()
        over.set()

    try:
        async with anyio.create_task_group() as attempts:
            for family, kind, protocol, _, address in found:
                try:
                    sockets.append(_Socket(family, kind, protocol))
                except OSError as error:  # a family that this machine does not have
                    errors.append(error)
                    continue
                over = anyio.Event()
                attempts.start_soon(attempt, sockets[-1], address, over)
                with anyio.move_on_after(_NEXT_ATTEMPT):
                    await over.wait()
        if not connected:
            raise errors[-1]
        chosen = connected[0]
    finally:
        for opened in sockets:
            if opened is not chosen:
                opened.close()
    return chosen
