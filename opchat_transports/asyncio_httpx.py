"""httpx: `HttpxTransport` drives calls on an `AsyncClient`, its own or yours, on asyncio or trio.

It uses no `isinstance` with httpx's classes and knows its exceptions by name, so
clients of httpx2 work too. Scopes and events are anyio's, which both libraries need.
"""

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from typing import Any, Unpack, final
from urllib.parse import urlsplit

from ._extras import missing

try:
    import anyio
    import anyio.lowlevel
    import anyio.to_thread
except ModuleNotFoundError as _error:
    raise missing(_error, "httpx") from None

from opchat_proto import Endpoint, HTTPCall, Reason, Receive, Request, Wait

from ._async import AsyncReplyBase, AsyncTransportBase
from ._asyncio import AsyncioScope, in_thread
from ._common import Options
from ._httpx import Progress, end, ending_tls, give_whole, own_client, unused_context

__all__ = ["HttpxReply", "HttpxTransport"]

_REST = 64 * 1024  # bytes of a body read after the last event, so that the connection can be reused
_REST_WITHIN = 1.0  # seconds
_CLOSE_WITHIN = 2.0


def _current_loop() -> object:
    """The running event loop. asyncio is asked first: this runs for each piece, and anyio makes new objects."""
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return anyio.lowlevel.current_token()


def _is_on_asyncio() -> bool:
    """Whether the task is asyncio's, and not trio's in a loop that asyncio hosts."""
    try:
        return asyncio.current_task() is not None
    except RuntimeError:  # asyncio has no running loop
        return False


def _in_thread(work: Callable[..., Any], *arguments: Any) -> Awaitable[Any]:
    if _is_on_asyncio():
        return in_thread(work, *arguments)
    return anyio.to_thread.run_sync(work, *arguments, abandon_on_cancel=True)  # trio's threads are daemons


@final
class HttpxTransport(AsyncTransportBase["HttpxReply"]):
    """Asks one site, through httpx, from any number of tasks.

    It has no background task, and connects only when a reply is read. It belongs to
    the event loop in which it first read a reply.

    Its own client uses no environment variables, follows no redirects, and has HTTP/1.1
    with one connection per request. Your client keeps its proxies, TLS, auth, header
    fields, mounts, event hooks and HTTP version, and is not closed with the transport;
    its timeouts, redirects and cookies are not used. An auth that answers a challenge
    repeats a question that was refused with 401. If you iterate over a reply to its end,
    the rest of the body after the last event is read (at most 64 KiB and a second), so
    that your client can reuse the connection.

    httpx hides some things. It does not show the progress of a request, so one clock
    bounds connect, write and first_event together (httpx's own clocks for connect and
    write run within it). It does not show interim responses. A close inside the head
    looks like a close before it (both are LOST). If your own client's context has
    `ssl.OP_IGNORE_UNEXPECTED_EOF`, as early versions of CPython 3.11 set it, a TLS
    truncation ends a body without a length. The limits on heads are httpx's. In the
    tunnel of an http proxy it keeps a trailing dot in the server name. A silent proxy is
    waited for as long as the whole request; a SOCKS proxy's reply must come in one piece;
    an IPv6 address goes to an http proxy without brackets. httpcore cannot end a single
    stream of an HTTP/2 connection: the rest of a reply that you leave early still
    arrives, and is dropped.
    """

    _signal = anyio.Event
    _current_loop = staticmethod(_current_loop)
    _checkpoint = staticmethod(anyio.lowlevel.checkpoint)
    _in_thread = staticmethod(_in_thread)

    def __init__(
        self,
        endpoint: Endpoint | str,
        client: Any = None,
        *,
        ssl_context: ssl.SSLContext | None = None,
        **options: Unpack[Options],
    ) -> None:
        """Check the options, without connecting. No event loop needs to run yet.

        `client` is an `AsyncClient` of httpx or httpx2. `ssl_context` and `proxy` with
        a client raise `ValueError`, because it has its own; so does a client with an auth
        and a session with an Authorization field. The other arguments are the same as
        for `asyncio_streams.AsyncioTransport`.
        """
        if client is not None:
            if not (hasattr(client, "build_request") and hasattr(client, "aclose")):
                raise TypeError(f"client: expected an AsyncClient, got {type(client).__name__}")
            for name, given in (("proxy", "proxy" in options), ("ssl_context", ssl_context is not None)):
                if given:
                    raise ValueError(f"{name}: expected none, since the client has its own")
            options["proxy"] = None
            ssl_context = unused_context()  # avoids loading a trust store
        super().__init__(endpoint, ssl_context=ssl_context, **options)
        session = self._channel.session
        if session is not None and session.authorization and getattr(client, "auth", None) is not None:
            raise ValueError("client: expected none with an auth, since the session has its own Authorization")
        self._is_own = client is None
        self._new_call, self._new_visit = self._channel.http_call, self._channel.http_visit
        self._spare_context = unused_context()  # the context of our own client, if no question is encrypted
        self._spare_is_loaded = False
        context = self._ssl_context or self._spare_context
        self._client = own_client(self._channel, context) if client is None else client

    def _reply(self, call: HTTPCall) -> "HttpxReply":
        return HttpxReply(self, call)

    def _prepare(self, url: str) -> None:
        """Load the trust store if a visit leads from a site without TLS to one with it."""
        if url.startswith("https:") and self._is_own and self._ssl_context is None and not self._spare_is_loaded:
            self._spare_context.load_default_certs()
            self._spare_is_loaded = True

    async def aclose(self) -> None:
        """Close all open replies, and the transport's own client. Waiting tasks get `Broken`. Idempotent.

        Closes everything even if cancelled.
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

    Faults are `Broken`, not exceptions, even in a hook or the auth of the caller's client.
    """

    _FAILURES = (Exception,)
    _END = None
    _transport: HttpxTransport
    _response: Any = None
    _body: AsyncIterator[bytes] | None = None  # of the response
    _tls: ssl.SSLObject | None = None  # its end is the end of the body
    _progress: Progress  # of the request
    _is_over = False  # the reply is over, except for the rest of its body, which is read after the last event

    def _begin(self) -> None:
        self._now, self._within = anyio.current_time, lambda until: anyio.CancelScope(deadline=until)
        if _is_on_asyncio():
            loop = asyncio.get_running_loop()
            self._now, self._within = loop.time, AsyncioScope(loop).within

    def _read(self) -> Awaitable[bytes | None]:
        assert self._body is not None
        return anext(self._body, None) if self._tls is None else self._read_until_close_notify(self._tls)

    async def _read_until_close_notify(self, tls: ssl.SSLObject) -> bytes | None:
        assert self._body is not None
        data = await anext(self._body, None)
        if data is None:
            try:
                tls.unwrap()  # succeeds only after the peer's close_notify
            except ssl.SSLError:
                raise ConnectionError("TLS ended without close_notify") from None
        return data

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
            # A hook may have read the body.
            self._body = response.aiter_bytes() if response.is_stream_consumed else response.aiter_raw()
            self._tls = ending_tls(response)
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
            if response.is_stream_consumed:  # and decompressed
                headers = [each for each in headers if each[0].lower() not in (b"content-encoding", b"content-length")]
            is_relayed = channel.proxy is not None and channel.proxy.relays(response.url.scheme)
            if response.status_code == 407 and is_relayed:
                call.step_failed("the proxy refused: status 407", Reason.PROXY)
                return
            call.receive_head(response.status_code, headers)
            if response.status_code < 200:  # otherwise the call would repeat the request
                call.step_failed("HTTP: an interim response is not an answer", Reason.TRUNCATED)

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
                    await self._left.wait()  # only the reading task can close the body
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
