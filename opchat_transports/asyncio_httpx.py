"""httpx: `HttpxTransport` drives calls on an `AsyncClient`, its own or yours, on asyncio or trio.

Nothing is an `isinstance` of httpx's classes, and its exceptions are known by name,
so a client of httpx2 does as well. Scopes and events are anyio's, which both bring.
"""

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable
from contextlib import suppress
from typing import Any, Unpack, final
from urllib.parse import urlsplit

from ._extras import missing

try:
    import anyio
    import anyio.lowlevel
except ModuleNotFoundError as _error:
    raise missing(_error, "httpx") from None

from opchat_proto import Endpoint, HTTPCall, Reason, Receive, Request, Wait

from ._async import AsyncReplyBase, AsyncTransportBase
from ._asyncio import AsyncioScope
from ._common import Options
from ._httpx import Progress, end, give_whole, own_client, unused_context

__all__ = ["HttpxReply", "HttpxTransport"]

_REST = 64 * 1024  # bytes of a body after the last event that are read, so that the connection can be used again
_REST_WITHIN = 1.0  # seconds
_CLOSE_WITHIN = 2.0


def _current_loop() -> object:
    """The event loop that runs. asyncio's is asked first: anyio makes objects anew, and this is done for each piece."""
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return anyio.lowlevel.current_token()


@final
class HttpxTransport(AsyncTransportBase["HttpxReply"]):
    """Asks one site, through httpx, from any number of tasks.

    There is no task behind it, and nothing is connected before a reply is read. It
    belongs to the event loop in which a reply was read first.

    The client is its own: no environment variables, no redirects, HTTP/1.1, one
    connection per request. Or it is yours, with its proxies, TLS, auth, header fields,
    mounts, event hooks and HTTP version; it is not closed with the transport. Its
    timeouts, redirects and cookies do not hold here. An auth that answers a challenge
    sends a question again that was refused with 401. A reply that is iterated to its
    end reads the rest of the body after the last event, 64 KiB at most and for a second,
    so that your client can keep the connection; one that is closed before does not.

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

    _signal = anyio.Event
    _current_loop = staticmethod(_current_loop)
    _checkpoint = staticmethod(anyio.lowlevel.checkpoint)

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
        super().__init__(endpoint, ssl_context=ssl_context, **options)
        self._is_own = client is None
        self._new_call, self._new_visit = self._channel.http_call, self._channel.http_visit
        self._spare_context = unused_context()  # of our own client, where no question is encrypted
        self._spare_is_loaded = False
        context = self._ssl_context or self._spare_context
        self._client = own_client(self._channel, context) if client is None else client

    def _reply(self, call: HTTPCall) -> "HttpxReply":
        return HttpxReply(self, call)

    def _prepare(self, url: str) -> None:
        """Load the trust store if a visit of a site without TLS leads to one with it."""
        if url.startswith("https:") and self._is_own and self._ssl_context is None and not self._spare_is_loaded:
            self._spare_context.load_default_certs()
            self._spare_is_loaded = True

    async def aclose(self) -> None:
        """Close all open replies, and the client if it is our own: a task that waits gets `Broken`. Idempotent.

        Cancelled, it still closes them all.
        """
        try:
            await super().aclose()
        finally:
            if self._is_own:
                with _shield():
                    await self._client.aclose()


@final
class HttpxReply(AsyncReplyBase[HTTPCall]):
    """The answer to one question, made by `HttpxTransport.ask`: `Live` events, then one `End` or `Broken`.

    What goes wrong on the way is the event `Broken`, also in a hook or the auth of the caller's client.
    """

    _FAILURES = (Exception,)
    _END = None
    _transport: HttpxTransport
    _response: Any = None
    _body: AsyncIterator[bytes] | None = None  # of that response
    _progress: Progress  # of the request
    _is_over = False  # though its body may not be, whose rest is read after the last event was given

    def _begin(self) -> None:
        self._now, self._within = anyio.current_time, lambda until: anyio.CancelScope(deadline=until)
        with suppress(RuntimeError):  # no loop of asyncio's is running
            if asyncio.current_task() is not None:  # else it is the host of trio's
                loop = asyncio.get_running_loop()
                self._now, self._within = loop.time, AsyncioScope(loop).within

    def _read(self) -> Awaitable[bytes | None]:
        assert self._body is not None
        return anext(self._body, None)

    async def _take(self, step: Request | Wait) -> None:
        await self._disconnect()
        if isinstance(step, Wait):
            await step.signal.wait()
            return
        transport = self._transport
        transport._prepare(step.url)
        self._progress = Progress(transport._channel, urlsplit(step.url).hostname or "")
        headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in step.headers]
        if transport._is_own:
            headers.append((b"Connection", b"close"))
        try:
            request = transport._client.build_request(
                step.method, step.url, content=step.body, headers=headers, extensions=self._progress.extensions
            )
            if not any(name.lower() == "cookie" for name, _ in step.headers):
                request.headers.pop("Cookie", None)  # from the client's jar
            give_whole(request, step.body)
            self._response = response = await transport._client.send(request, stream=True, follow_redirects=False)
            # A hook may have read it.
            self._body = response.aiter_bytes() if response.is_stream_consumed else response.aiter_raw()
        finally:
            await self._progress.close()

    def _report(self, step: Request | Wait | Receive, failure: Exception | None) -> None:
        call, channel, response = self._call, self._transport._channel, self._response
        if failure is not None:
            refusal = getattr(failure, "response", None)
            if refusal is not None and self._body is None:  # response hooks raise it for the status
                call.receive_head(refusal.status_code, refusal.headers.raw)
            said, reason, sent, limit = self._progress.explain(failure)
            call.step_failed(said, reason, sent=sent, limit=limit)
        elif isinstance(step, Request):
            headers = response.headers.raw
            if response.is_stream_consumed:  # and inflated
                headers = [each for each in headers if each[0].lower() not in (b"content-encoding", b"content-length")]
            is_relayed = channel.proxy is not None and channel.proxy.relays(response.url.scheme)
            if response.status_code == 407 and is_relayed:
                call.step_failed("the proxy refused: status 407", Reason.PROXY)
                return
            call.receive_head(response.status_code, headers)
            if response.status_code < 200:  # after which the call would have the request sent again
                call.step_failed("HTTP: an interim response is no answer", Reason.TRUNCATED)

    async def _finish(self) -> None:
        is_own = self._transport._is_own
        if not is_own and not self._is_over:
            self._is_over = True
            return
        try:
            if not is_own and self._body is not None:
                left = _REST
                with self._within(self._now() + _REST_WITHIN) as self._scope, suppress(Exception):
                    while left > 0 and (data := await anext(self._body, None)) is not None:
                        left -= len(data)
        finally:
            await self._disconnect()

    async def _close(self) -> None:
        try:
            self._call.close()
        finally:  # an observer may raise
            self._transport._forget(self)
            if self._reading:
                self._scope.cancel()
                self._left = self._left or anyio.Event()
                with _shield():
                    await self._left.wait()  # only who reads can close what is read
            await self._disconnect()

    async def _disconnect(self) -> bool:
        response, body = self._response, self._body
        self._response = self._body = None
        if isinstance(self._scope, AsyncioScope):
            self._scope.rest()
        if body is None:
            return False
        with _shield():
            try:
                await end(body)
            finally:
                with suppress(Exception):
                    await response.aclose()
        return True


def _shield() -> anyio.CancelScope:
    return anyio.CancelScope(shield=True, deadline=anyio.current_time() + _CLOSE_WITHIN)
