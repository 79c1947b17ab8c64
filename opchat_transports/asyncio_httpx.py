"""httpx: `HttpxTransport` drives calls on an `AsyncClient`, its own or yours, on asyncio or trio.

Nothing is an `isinstance` of httpx's classes, and its exceptions are known by name,
so a client of httpx2 does as well. Scopes and events are anyio's, which both bring.
"""

import ssl
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, suppress
from typing import Any, Self, Unpack, final
from urllib.parse import urlsplit

from ._extras import missing

try:
    import anyio
    import anyio.lowlevel
except ModuleNotFoundError as error:
    raise missing(error, "httpx") from None

from opchat_proto import (
    Done,
    Endpoint,
    Event,
    HTTPCall,
    Reason,
    Receive,
    Request,
    Wait,
)

from ._base import AsyncContext, AsyncTransportBase, ReplyBase
from ._common import Options
from ._httpx import Progress, end, give_whole, own_client, unused_context
from ._text import AsyncText

__all__ = ["HttpxReply", "HttpxTransport"]

_REST = 64 * 1024  # bytes of a body after the last event that are read, so that the connection can be used again
_REST_WITHIN = 1.0  # seconds
_CLOSE_WITHIN = 2.0


@final
class HttpxTransport(AsyncTransportBase["HttpxReply"]):
    """Asks one site, through httpx, from any number of tasks.

        async with HttpxTransport("https://site.example") as transport, transport.ask("Hi") as reply:
            async for event in reply:
                ...

    All questions share one session: the first starts it, those of other tasks wait
    for that. There is no task behind it, and nothing is connected before a reply is
    read. It belongs to the event loop in which a reply was read first.

    The client is its own: no environment variables, no redirects, HTTP/1.1, one
    connection per request. Or it is yours, with its proxies, TLS, auth, header fields,
    mounts, event hooks and HTTP version; it is not closed with the transport. Its
    timeouts, redirects and cookies do not hold here. An auth that answers a challenge
    sends a question again that was refused with 401. After the last event the rest of
    the body is read, 64 KiB at most and for a second, so that your client can keep the
    connection.

    httpx tells neither how far a request is (so it has one clock, of connect, write and
    first_event together; within that httpx's own for connect and write run), nor interim
    responses, nor a close inside of a head from one before it (both are LOST), nor, where
    a body ends with its connection, a cut of TLS from its end. Limits of heads are its
    own. In the tunnel of an http proxy it asks for a server name with its trailing dot.
    A silent proxy is waited for as long as for the whole request; a SOCKS proxy's reply
    must come in one piece; an IPv6 address goes to an http proxy without brackets.
    httpcore cannot end one stream of an HTTP/2 connection: what is left of a reply that
    was left early still comes, and is dropped.
    """

    def __init__(
        self,
        endpoint: Endpoint | str,
        client: Any = None,
        *,
        ssl_context: ssl.SSLContext | None = None,
        **options: Unpack[Options],
    ) -> None:
        """Nothing is connected yet; no event loop need run yet.

        `client` is an `AsyncClient` of httpx or httpx2; `ssl_context` and `proxy`
        beside one are a `ValueError`, since it has its own. All else is as with
        `asyncio_streams.AsyncioTransport`.
        """
        if client is not None:
            if not (hasattr(client, "build_request") and hasattr(client, "aclose")):
                raise TypeError(f"client: expected an AsyncClient, got {type(client).__name__}")
            for name, given in (("proxy", "proxy" in options), ("ssl_context", ssl_context is not None)):
                if given:
                    raise ValueError(f"{name}: expected none, since the client has its own")
            options["proxy"] = None
            ssl_context = unused_context()  # rather than load a trust store
        super().__init__(endpoint, ssl_context, options, signal=anyio.Event)
        self._is_own = client is None
        self._spare_context = unused_context()  # of our own client, where no question is encrypted
        context = self._ssl_context or self._spare_context
        self._client = own_client(self._channel, context) if client is None else client

    def _reply(self, *question: Any, **options: Any) -> "HttpxReply":
        return HttpxReply(self, self._channel.http_call(*question, **options))

    def _visit(self, url: str, fresh: str | None) -> "HttpxReply":
        if self._is_own and self._ssl_context is None:
            self._spare_context.load_default_certs()  # since a redirect may lead to https
        return HttpxReply(self, self._channel.http_visit(url, fresh=fresh))

    async def aclose(self) -> None:
        """Close all open replies, and the client if it is our own: a task that waits gets `Broken`. Idempotent.

        Cancelled, it still closes them all.
        """
        if self._replies:
            self._enter(anyio.lowlevel.current_token())
        replies = self._close_calls()
        async with AsyncExitStack() as stack:  # which calls each of them whatever the others raise
            if self._is_own:
                stack.push_async_callback(self._client.aclose)
                stack.enter_context(_shield())
            for reply in replies:
                stack.push_async_callback(reply._close)
        await anyio.lowlevel.checkpoint()


@final
class HttpxReply(AsyncText, AsyncContext, ReplyBase[HTTPCall]):
    """The answer to one question, made by `HttpxTransport.ask`: `Live` events, then one `End` or `Broken`.

    An async iterator that reads only when it is asked. What goes wrong on the way
    is the event `Broken`, also where it is a hook or the auth of the caller's client.
    Leaving early, by `aclose()` or the end of the `async with` block, closes the
    connection at once.
    """

    def __init__(self, transport: HttpxTransport, call: HTTPCall) -> None:
        """For `HttpxTransport.ask`."""
        super().__init__(call)
        self._transport = transport
        self._response: Any = None
        self._body: AsyncIterator[bytes] | None = None  # of that response
        self._has_read = False  # just now, from a connection that is worth being kept
        self._rest_is_wanted = False  # since the reply is over, and the body is not
        self._scope: anyio.CancelScope | None = None  # of the step in progress, or of the last one
        self._progress = Progress(transport._channel)  # of the request
        self._reading = False
        self._left: anyio.Event | None = None  # set when the reader has left, for one that closes meanwhile

    def __aiter__(self) -> Self:
        """The reply itself."""
        return self

    async def __anext__(self) -> Event:
        """The next event. Once the reply was closed: what had been read before, then `Broken`.

        Cancelled, it closes the connection first: a question may have been asked
        that is answered to nobody. Raises `RuntimeError` while another task is in
        here, and in another event loop than the first.
        """
        if self._reading:
            raise RuntimeError("another task is reading this reply")
        event = self._call.next_event()
        if event is not None:
            return event
        if self._scope is None:
            self._transport._enter(anyio.lowlevel.current_token())
        self._reading = True
        try:
            event = await self._next_event()
        except BaseException:  # it may have cut a request in two
            self._call.close()
            await self._disconnect()
            raise
        finally:
            self._reading = False
            if self._left is not None:
                self._left.set()
        if event is None:
            raise StopAsyncIteration
        return event

    async def aclose(self) -> None:
        """Close the connection at once if the answer is not over. Idempotent, from any task, also when cancelled.

        A task that waits for an event gets `Broken`: LOST, or TRUNCATED once the
        answer had begun.
        """
        self._transport._enter(anyio.lowlevel.current_token())
        try:
            if not self._reading:
                await self._read_rest()
        finally:
            await self._close()
        await anyio.lowlevel.checkpoint()

    # ---------------------------------------------------------------- the loop

    async def _next_event(self) -> Event | None:
        call, event = self._call, None
        while event is None:
            step, until = call.next_step(anyio.current_time())
            if isinstance(step, Done):
                self._rest_is_wanted |= self._has_read
                self._has_read = False
                if not self._rest_is_wanted:
                    await self._disconnect()
                if (event := call.next_event()) is None:
                    await self._read_rest()
                return event
            await self._take(step, until)
            event = call.next_event()
        return event

    async def _take(self, step: Request | Receive | Wait, until: float) -> None:
        """Do what a step says, until then, and report it."""
        call = self._call
        data: bytes | None = None
        failure: Exception | None = None
        self._has_read = False
        with anyio.CancelScope(deadline=until) as self._scope:
            try:
                match step:
                    case Receive():
                        assert self._body is not None
                        data = await anext(self._body, None)
                    case Request():
                        await self._disconnect()
                        await self._send(step)
                    case Wait(signal):
                        await self._disconnect()
                        await signal.wait()
            except Exception as error:
                failure = error
        if self._scope.cancelled_caught:
            call.timed_out()
        elif failure is not None:
            self._report_failure(failure)
        elif isinstance(step, Request):
            self._report_head(self._response)
        elif data is not None:
            call.receive_data(data)
            self._has_read = not self._transport._is_own
        elif isinstance(step, Receive):
            call.receive_eof()

    async def _send(self, request: Request) -> None:
        transport, host = self._transport, urlsplit(request.url).hostname or ""
        progress = Progress(transport._channel, host)
        headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in request.headers]
        if transport._is_own:
            headers.append((b"Connection", b"close"))
        self._progress = progress
        try:
            built = transport._client.build_request(
                request.method, request.url, content=request.body, headers=headers, extensions=progress.extensions
            )
            if not any(name.lower() == "cookie" for name, _ in request.headers):
                built.headers.pop("Cookie", None)  # from the client's jar
            give_whole(built, request.body)
            self._response = response = await transport._client.send(built, stream=True, follow_redirects=False)
            # A hook may have read it.
            self._body = response.aiter_bytes() if response.is_stream_consumed else response.aiter_raw()
        finally:
            await progress.close()

    def _report_head(self, response: Any) -> None:
        channel, headers = self._transport._channel, response.headers.raw
        if response.is_stream_consumed:  # and inflated
            headers = [field for field in headers if field[0].lower() not in (b"content-encoding", b"content-length")]
        is_relayed = channel.proxy is not None and channel.proxy.relays(response.url.scheme)
        if response.status_code == 407 and is_relayed:
            self._call.step_failed("the proxy refused: status 407", Reason.PROXY)
        else:
            self._call.receive_head(response.status_code, headers)
            if response.status_code < 200:  # after which the call would have the request sent again
                self._call.step_failed("HTTP: an interim response is no answer", Reason.TRUNCATED)

    def _report_failure(self, error: Any) -> None:
        response = getattr(error, "response", None)
        if response is not None and self._body is None:  # response hooks raise it for the status
            self._call.receive_head(response.status_code, response.headers.raw)
        said, reason, sent, limit = self._progress.explain(error)
        self._call.step_failed(said, reason, sent=sent, limit=limit)

    # ---------------------------------------------------------------- leaving

    async def _read_rest(self) -> None:
        if not self._rest_is_wanted or self._body is None:
            return
        self._rest_is_wanted = False
        left, deadline = _REST, anyio.current_time() + _REST_WITHIN
        with anyio.CancelScope(deadline=deadline) as self._scope, suppress(Exception):
            while left > 0 and (data := await anext(self._body, None)) is not None:
                left -= len(data)
        await self._disconnect()

    async def _close(self) -> None:
        self._call.close()
        self._transport._forget(self)
        if not self._reading:
            await self._disconnect()
            return
        if self._scope is not None:
            self._scope.cancel()
        self._left = self._left or anyio.Event()
        with _shield():
            await self._left.wait()  # only who reads can close what is read

    async def _disconnect(self) -> None:
        response, body = self._response, self._body
        self._response = self._body = None
        if body is None:
            return
        with _shield():
            try:
                await end(body)
            finally:
                with suppress(Exception):
                    await response.aclose()


def _shield() -> anyio.CancelScope:
    return anyio.CancelScope(shield=True, deadline=anyio.current_time() + _CLOSE_WITHIN)
