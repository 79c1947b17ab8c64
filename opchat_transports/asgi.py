"""A site as an ASGI 3 application: `application(bot, secret=...)`, for uvicorn, hypercorn, granian and others.

It needs anyio, and so runs on asyncio and on trio. Without a framework: it can
be mounted in one.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable, MutableMapping
from dataclasses import replace
from typing import Any, TypeAlias, final
from urllib.parse import quote

import anyio
import anyio.lowlevel

from opchat_proto import Event, Headers, Limits, Live, Question, Response, Site, Submit

from ._serving import Items, broken_bot
from .page import chat_page

__all__ = ["Application", "AsyncBot", "application"]

AsyncBot: TypeAlias = Callable[[Submit], AsyncIterable[str | Event] | Awaitable[AsyncIterable[str | Event]]]
"""Answers a question, in pieces: a str is one of the answer. May end with `End` or `Broken`.
An async generator function, or anything that gives, or is awaited to give, an async iterable."""

_Message: TypeAlias = MutableMapping[str, Any]
_Receive: TypeAlias = Callable[[], Awaitable[_Message]]
_Send: TypeAlias = Callable[[_Message], Awaitable[None]]

_log = logging.getLogger(__name__)
_TURN = 8  # pieces


def application(
    bot: AsyncBot,
    *,
    secret: bytes,
    limits: Limits = Limits(),
    origins: Iterable[str] = (),
    request_timeout: float | None = 60.0,
    keep_alive: float | None = None,
    debug: bool = False,
) -> "Application":
    """A site whose bot this is.

    `bot` is called with each question and gives pieces of the answer, or events.
    It is asked for the next piece when the server has taken the one before. If it
    ends without `End`, the joined pieces are the reply. If it raises, the client
    gets the plugin's general error (WIRE 5.6) and the traceback is logged. If the
    client leaves, it is cancelled where it waits, and its generator closed: its
    `finally` runs, but waits for nothing there, unless in a shielded
    `anyio.CancelScope`.

    Nothing is kept between requests: nonces are computed from `secret`, best 32
    random bytes, so all processes and machines with the same secret serve the
    same clients, also after a restart.

    `origins` are other origins whose pages may ask, such as "https://shop.example".
    A request whose body does not come within `request_timeout` seconds gets status
    408, one larger than `limits.request_bytes` 413; how long a head may take and a
    client may not read is up to the server. After each `keep_alive` seconds
    without a piece a streamed answer gets a comment, so that no proxy takes it
    for dead; None sends none. With `debug` clients see what the bot raised.

    Raises `TypeError` and `ValueError` for arguments that `Site` does not take, and
    `ValueError` for a time that is not above zero.
    """
    for name, seconds in (("request_timeout", request_timeout), ("keep_alive", keep_alive)):
        if seconds is not None and not seconds > 0:
            raise ValueError(f"{name}: expected seconds above 0, or None, got {seconds!r}")
    site = Site(secret, limits=limits, origins=tuple(origins), page=chat_page)
    return Application(bot, site, request_timeout, keep_alive, debug)


@final
class Application:
    """An ASGI 3 application, made by `application`."""

    def __init__(
        self, bot: AsyncBot, site: Site, request_timeout: float | None, keep_alive: float | None, debug: bool
    ) -> None:
        """For `application`."""
        self._bot = bot
        self._site = site
        self._secure_site = replace(site, https=True)
        self._request_timeout = request_timeout
        self._keep_alive = keep_alive
        self._debug = debug

    def __repr__(self) -> str:
        """The bot's name."""
        return f"<Application {getattr(self._bot, '__qualname__', type(self._bot).__qualname__)}>"

    async def __call__(self, scope: MutableMapping[str, Any], receive: _Receive, send: _Send) -> None:
        """Serve one request, as ASGI calls it. Raises `ValueError` for a protocol that ASGI 3 does not name.

        Cancelled, it has cancelled the bot and left the answer as it is.
        """
        match scope["type"]:
            case "http":
                await self._serve(scope, receive, send)
            case "lifespan":
                await _live(receive, send)
            case "websocket":
                await send({"type": "websocket.close"})  # before it is accepted: refused with status 403
            case kind:
                raise ValueError(f"expected http, lifespan or websocket, got {kind!r}")

    async def _serve(self, scope: MutableMapping[str, Any], receive: _Receive, send: _Send) -> None:
        site = self._secure_site if scope.get("scheme") == "https" else self._site
        headers: list[tuple[bytes, bytes]] = [(bytes(name), bytes(value)) for name, value in scope["headers"]]
        body = await self._read(site, headers, receive)
        if body is None:
            return  # the client has left
        if isinstance(body, Response):
            if scope.get("http_version", "1.1") in ("1.0", "1.1"):  # the rest of it shall not be read
                body = replace(body, headers=(*body.headers, ("Connection", "close")))
            outcome: Response | Question = body
        else:
            root = scope.get("root_path", "").rstrip("/")
            outcome = site.receive_request(scope["method"], _target(scope), headers, body, now=time.time(), root=root)
        if isinstance(outcome, Question):
            await _Answer(outcome, send).run(self, receive)
        else:
            await _put_head(send, outcome)
            await _put_body(send, b"" if scope["method"] == "HEAD" else outcome.body, more=False)

    async def _read(self, site: Site, headers: Headers, receive: _Receive) -> bytes | Response | None:
        """The body of a request, None if the client has left, or what refuses it."""
        limit = site.limits.request_bytes
        for name, value in headers:
            if name == b"content-length" and value.isdigit() and int(value[:20]) > limit:
                return site.refuse(413, headers)  # before a client that waits is told to go on
        pieces: list[bytes] = []
        size = 0
        with anyio.move_on_after(self._request_timeout):
            while True:
                message = await receive()
                if message["type"] != "http.request":
                    return None
                piece = bytes(message.get("body", b""))
                size += len(piece)
                if size > limit:
                    return site.refuse(413, headers)
                pieces.append(piece)
                if not message.get("more_body", False):
                    return b"".join(pieces)
        return site.refuse(408, headers)


async def _live(receive: _Receive, send: _Send) -> None:
    """The lifespan protocol: there is nothing to start, and nothing to stop."""
    while True:
        kind = (await receive())["type"]
        await send({"type": f"{kind}.complete"})
        if kind == "lifespan.shutdown":
            return


def _target(scope: MutableMapping[str, Any]) -> str:
    """The request target as it was sent, as far as the server tells."""
    raw: bytes | None = scope.get("raw_path")
    path = quote(scope["path"]) if raw is None else raw.decode("latin-1").partition("?")[0]
    query: bytes = scope.get("query_string", b"")
    return f"{path}?{query.decode('latin-1')}" if query else path


async def _put_head(send: _Send, response: Response) -> None:
    headers = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in response.headers]
    await send({"type": "http.response.start", "status": response.status, "headers": headers})


async def _put_body(send: _Send, body: bytes, *, more: bool) -> None:
    await send({"type": "http.response.body", "body": body, "more_body": more})


class _Answer:
    """The answer to one question, on its way."""

    def __init__(self, question: Question, send: _Send) -> None:
        self._question = question
        self._send = send
        self._begun = False
        self._ends = False
        self._count = 0  # of what was sent
        self._sending = anyio.Lock(fast_acquire=True)  # a comment never comes between the head and its body

    async def run(self, application: Application, receive: _Receive) -> None:
        """Let the bot answer until its last event, or until the client leaves."""
        async with anyio.create_task_group() as tasks:
            scope = tasks.cancel_scope
            tasks.start_soon(self._watch, receive, scope)
            if application._keep_alive is not None:
                tasks.start_soon(self._keep_alive, application._keep_alive, scope)
            bot = _Bot(application._bot, self._question.submit, application._debug)
            try:
                while not scope.cancel_called:
                    event = await bot.next()
                    await self._put(event, scope)
                    if not isinstance(event, Live):
                        break
            finally:
                # In the task and the scopes that the bot ran in.
                await bot.aclose()
                scope.cancel()

    async def _watch(self, receive: _Receive, scope: anyio.CancelScope) -> None:
        """Cancel the answer when the client leaves."""
        while (await receive())["type"] == "http.request":
            pass  # an empty rest of the body
        if not self._ends:  # else a server may tell of the end while it sends, and closes the connection
            scope.cancel()

    async def _keep_alive(self, seconds: float, scope: anyio.CancelScope) -> None:
        while True:
            count = self._count
            await anyio.sleep(seconds)  # the silence itself; the answer's task group cancels it
            if count == self._count:
                await self._put(None, scope)

    async def _put(self, event: Event | None, scope: anyio.CancelScope) -> None:
        if self._count % _TURN == 0:
            # Neither a bot that always has a piece nor a server whose client has left lets others run.
            await anyio.lowlevel.checkpoint()
        async with self._sending:
            try:
                await self._encode(event)
            except OSError:  # ASGI, "HTTP": the client has left
                scope.cancel()

    async def _encode(self, event: Event | None) -> None:
        if self._ends:
            return  # a comment that waited for the last event
        more = isinstance(event, Live | None)
        self._ends = not more
        self._count += 1
        if self._begun:
            await _put_body(self._send, self._question.encode(event, now=time.time()), more=more)
        elif response := self._question.response(event, now=time.time()):
            self._begun = True
            await _put_head(self._send, response)
            await _put_body(self._send, response.body, more=more)


class _Bot:
    """A bot at work on one question: whatever it does, its answer ends with `End` or `Broken`."""

    def __init__(self, bot: AsyncBot, submit: Submit, debug: bool) -> None:
        self._bot = bot
        self._submit = submit
        self._debug = debug
        self._items: AsyncIterator[str | Event] | None = None
        self._given = Items()

    async def next(self) -> Event:
        """The next event. Cancelled, it has cancelled the bot."""
        try:
            if self._items is None:
                answer = self._bot(self._submit)
                self._items = aiter(await answer if isinstance(answer, Awaitable) else answer)
            return self._given.event(await anext(self._items))
        except StopAsyncIteration:
            return self._given.end()
        except asyncio.CancelledError as error:
            if _is_cancelled():
                raise
            return self._failed(error)  # what the bot waited for was cancelled, and not the bot
        except (Exception, SystemExit) as error:  # the second: a bot that calls what was a program
            return self._failed(error)

    def _failed(self, error: BaseException) -> Event:
        _log.error("the bot failed", exc_info=error)
        return broken_bot(error, debug=self._debug)

    async def aclose(self) -> None:
        """Close its generator."""
        close = getattr(self._items, "aclose", None)
        if close is None:
            return
        try:
            await close()
        except Exception:
            _log.exception("the bot failed while it was closed")
        except BaseExceptionGroup as group:
            # A task group that a generator holds open wraps what closes it.
            rest = group.split(GeneratorExit)[1]
            if rest is not None:
                raise rest from None


def _is_cancelled() -> bool:
    """Whether somebody has cancelled this task."""
    try:
        task = asyncio.current_task()
    except RuntimeError:  # on trio asyncio's exception is one like any other
        return False
    return task is not None and task.cancelling() > 0
