"""A site as an ASGI 3 application: `application(bot, secret=...)`, for uvicorn, hypercorn, granian and others.

It uses anyio, so it runs on asyncio and trio. It needs no framework, but can be
mounted in one.
"""

import asyncio
import math
import time
from collections.abc import AsyncGenerator, AsyncIterable, Awaitable, Callable, Iterable, Mapping, MutableMapping
from contextlib import nullcontext, suppress
from dataclasses import replace
from typing import Any, TypeAlias, final
from urllib.parse import quote

from ._extras import missing

try:
    import anyio
    import anyio.lowlevel
    import anyio.to_thread
except ModuleNotFoundError as _error:
    raise missing(_error, "serve") from None

from opchat_proto import Event, Headers, IncomingFile, Limits, Live, OutgoingFile, Question, Response, Site, Submit

from ._bot_events import BlockingBot, Items
from ._bot_kinds import Threads, as_async, with_files
from ._serving import (
    BODY_BYTES,
    NOT_KEPT,
    REJECTED,
    SLOWEST_UPLOAD,
    Bodies,
    as_mapping,
    bots_own,
    by_name,
    failed,
    failed_when_closed,
    log_access,
    make_site,
    open_file,
    read_file,
    store_failed,
)
from .file_store import BotWithFiles, FileStore, FileWriter

__all__ = ["Application", "AsyncBot", "application"]

AsyncBot: TypeAlias = Callable[[Submit], AsyncIterable[str | Event] | Awaitable[AsyncIterable[str | Event]]]
"""Answers a question in pieces: a str is a piece of the answer. May end with `End` or `Broken`.
An async generator function, or a callable that returns an async iterable or an awaitable of one."""

_Message: TypeAlias = MutableMapping[str, Any]
_Receive: TypeAlias = Callable[[], Awaitable[_Message]]
_Send: TypeAlias = Callable[[_Message], Awaitable[None]]

_TURN = 8  # pieces


def application(
    bot: AsyncBot | BlockingBot | BotWithFiles | None = None,
    *,
    bots: Mapping[str, AsyncBot | BlockingBot | BotWithFiles] | None = None,
    secret: bytes,
    limits: Limits = Limits(),
    origins: Iterable[str] = (),
    allowed_hosts: Iterable[str] = (),
    body_bytes: int = BODY_BYTES,
    files: FileStore | None = None,
    threads: int = 40,
    request_timeout: float | None = 60.0,
    keep_alive: float | None = None,
    debug: bool = False,
    title: str = "Chat",
    greeting: str = "",
    suggestions: Iterable[str] = (),
) -> "Application":
    """Return an ASGI application that serves a site with this bot.

    `bot` is called with each question and yields pieces of the answer, or events. The
    next piece is requested when the server has taken the previous one. If it ends
    without `End`, the joined pieces are the reply. If it raises, the traceback is
    logged, and the client gets the plugin's general error (WIRE 5.6). If the client
    leaves, it is cancelled where it waits, and its generator is closed: its `finally`
    runs, but can wait only in a shielded `anyio.CancelScope`.

    A blocking bot answers a question in one thread and one context (`contextvars`).
    There are at most `threads`; further questions wait. If the client leaves, the bot is
    closed after its next piece.

    `bots` are several bots by the names in questions (WIRE 4.2: customId, or else
    botId); an unknown name is an error, as in the plugin up to 2.9.9. A single `bot`
    answers to every name.

    Nothing is stored between requests: nonces are computed from `secret`, preferably
    32 random bytes. All processes and machines with the same secret serve the same
    clients, even after a restart.

    With `files` the site takes uploads and gives the plugin's answers (WIRE 7.5). A bot is
    then called as `bot(submit, files)`: a tuple of `StoredFile`, one for each id in the
    question. An unknown id makes the answer an error. An upload has one second more than
    `request_timeout` for each 64 KiB, and is written as it arrives, in threads of anyio.
    Anyone who knows the URL in the answer can fetch the file. Without `files` there are
    no such routes.

    `origins` are other origins whose pages may ask, such as "https://shop.example".
    `allowed_hosts` are the host names that requests may use, such as "site.example",
    without a port. Other names get status 421, so that DNS rebinding cannot reach a
    site in a private network. () allows any. A request whose body does not arrive within
    `request_timeout` seconds gets status 408, one larger than `limits.request_bytes` 413.
    All request bodies of this process together hold at most `body_bytes`; beyond that,
    the largest incomplete one gets status 503. A head is refused if it has both
    Content-Length and Transfer-Encoding, or a version other than HTTP/1.x, 2 and 3. The
    server bounds the number of connections, the time of a head, and slow readers.

    After `keep_alive` seconds without a piece, a streamed answer gets a comment, so that
    proxies do not drop it; None switches this off. With `debug` clients see the bot's
    exceptions. The logger "opchat_transports.access" writes a line for each request at
    INFO.

    The chat page at `/` has this `title`. `greeting`, in Markdown, is the first message
    of each chat, and is sent along with the messages as the plugin does (WIRE 4.4).
    `suggestions` are questions that the reader can ask with a click.

    Raises `TypeError` for a bot that cannot be called like this and unless there is
    either `bot` or `bots`, `TypeError` and `ValueError` for arguments that `Site` refuses,
    and `ValueError` for a time that is not above zero or a number of threads below one.
    """
    for name, seconds in (("request_timeout", request_timeout), ("keep_alive", keep_alive)):
        if seconds is not None and not seconds > 0:
            raise ValueError(f"{name}: expected seconds above 0, or None, got {seconds!r}")
    if threads < 1:
        raise ValueError(f"threads: expected at least 1, got {threads}")
    named = with_files(as_mapping(bot, bots), files)
    site = make_site(secret, limits, origins, allowed_hosts, named, title, greeting, suggestions, files)
    pool = Threads(threads)
    ask = by_name({name: as_async(each, pool) for name, each in named.items()}, _rejected)
    names = ", ".join(name or _name_of(each) for name, each in named.items())
    return Application(ask, names, site, request_timeout, keep_alive, Bodies(body_bytes), files, debug)


async def _rejected(submit: Submit) -> AsyncGenerator[str | Event]:
    yield REJECTED


def _name_of(bot: object) -> str:
    return str(getattr(bot, "__qualname__", type(bot).__qualname__))


@final
class Application:
    """An ASGI 3 application, made by `application`."""

    def __init__(
        self,
        bot: Callable[[Submit], AsyncGenerator[str | Event]],
        names: str,
        site: Site,
        request_timeout: float | None,
        keep_alive: float | None,
        bodies: Bodies,
        files: FileStore | None,
        debug: bool,
    ) -> None:
        """Made by `application`."""
        self._files = files
        self._bot = bot
        self._names = names
        self._bodies = bodies
        self._reading: dict[object, anyio.CancelScope] = {}  # by the key of the body
        self._site = site
        self._secure_site = replace(site, https=True)
        self._request_timeout = request_timeout
        self._keep_alive = keep_alive
        self._debug = debug

    def __repr__(self) -> str:
        """The names of its bots."""
        return f"<Application {self._names}>"

    async def __call__(self, scope: MutableMapping[str, Any], receive: _Receive, send: _Send) -> None:
        """Serve one request, as ASGI calls it. Raises `ValueError` for a protocol that ASGI 3 does not name.

        If cancelled, the bot is cancelled, and the answer stays unfinished.
        """
        match scope["type"]:
            case "http":
                await self._serve(scope, receive, send)
            case "lifespan":
                await _live(receive, send)
            case "websocket":
                await send({"type": "websocket.close"})  # before it is accepted: the server refuses with status 403
            case kind:
                raise ValueError(f"expected http, lifespan or websocket, got {kind!r}")

    async def _serve(self, scope: MutableMapping[str, Any], receive: _Receive, send: _Send) -> None:
        site = self._secure_site if scope.get("scheme") == "https" else self._site
        reply = _Reply(send, is_head=scope["method"] == "HEAD")
        key = object()  # for its body
        begin = time.monotonic()
        try:
            outcome = await self._receive_request(site, scope, receive, key)
            if isinstance(outcome, Question):
                await _Answer(outcome, reply, self._keep_alive).run(self, receive)
            elif isinstance(outcome, OutgoingFile):
                await self._send_file(outcome, reply)
            elif outcome is not None:
                with suppress(OSError):  # ASGI, "HTTP": the client has left
                    await reply.begin(outcome, more=False)
        finally:
            self._bodies.drop(key)
            client = scope.get("client") or ("-", 0)
            request = scope["method"], _target(scope)
            seconds = time.monotonic() - begin
            log_access(f"{client[0]}:{client[1]}", request, reply.status, seconds, left=not reply.is_over)

    async def _receive_request(
        self, site: Site, scope: MutableMapping[str, Any], receive: _Receive, key: object
    ) -> Response | Question | OutgoingFile | None:
        """Read and judge a request. None if the client left before it was complete."""
        headers: list[tuple[bytes, bytes]] = [(bytes(name), bytes(value)) for name, value in scope["headers"]]
        version = scope.get("http_version", "1.1")
        root = scope.get("root_path", "").rstrip("/")
        upload = site.receive_upload(scope["method"], _target(scope), headers, now=time.time(), root=root)
        refusal = site.check_head(
            headers, version=version, upload=upload is not None
        )  # before the client is told to continue
        if upload is not None and refusal is None:
            assert self._files is not None  # for which the site takes uploads
            return await self._receive_file(upload, self._files, receive, version)
        body = refusal or await self._read(site, headers, receive, key)
        if isinstance(body, Response):
            return _last(body, version)
        if body is None:
            return None
        return site.receive_request(scope["method"], _target(scope), headers, body, now=time.time(), root=root)

    async def _receive_file(
        self, file: IncomingFile, store: FileStore, receive: _Receive, version: str
    ) -> Response | None:
        """Store a file as it arrives. Returns the response, or None if the client left."""
        writer: FileWriter | None = None
        seconds = math.inf if self._request_timeout is None else self._request_timeout
        try:
            with anyio.CancelScope(deadline=anyio.current_time() + seconds) as scope:
                more = True
                while more and not file.is_over:
                    message = await receive()
                    if message["type"] != "http.request":
                        return None
                    body, more = message.get("body", b""), message.get("more_body", False)
                    pieces = file.receive_data(body)
                    if file.name is not None and writer is None:
                        writer = await anyio.to_thread.run_sync(store.begin, file.name, file.content_type)
                    if writer is not None and pieces:
                        await anyio.to_thread.run_sync(writer.write, b"".join(pieces))
                    scope.deadline += len(body) / SLOWEST_UPLOAD
                refusal = file.receive_eof()
                if refusal is not None:
                    return _last(refusal, version) if more else refusal
                assert writer is not None  # a complete file has a name
                stored = await anyio.to_thread.run_sync(writer.keep)
                return file.kept(stored.file_id)
            return _last(file.failed("The file took too long.", 408), version)
        except OSError as error:
            store_failed(error)
            return _last(file.failed(NOT_KEPT), version)
        finally:
            if writer is not None:
                writer.discard()  # unless it was kept

    async def _send_file(self, wanted: OutgoingFile, reply: "_Reply") -> None:
        """Send a stored file piece by piece. If it cannot be read to its end, the response stays unfinished."""
        assert self._files is not None  # for which the site takes uploads
        response, file = await anyio.to_thread.run_sync(open_file, self._files, wanted)
        left = 0 if file is None or reply.is_head else response.file_bytes
        with file or nullcontext(), suppress(OSError):  # the file has become shorter, or the client has left
            await reply.begin(response, more=left > 0)
            while left:
                assert file is not None
                piece = await anyio.to_thread.run_sync(read_file, file, left)
                left -= len(piece)
                await reply.go_on(piece, more=left > 0)

    async def _read(self, site: Site, headers: Headers, receive: _Receive, key: object) -> bytes | Response | None:
        """Return the body of a request, a refusal, or None if the client left."""
        pieces: list[bytes] = []
        size = 0
        given_up = anyio.CancelScope()
        with anyio.move_on_after(self._request_timeout), given_up:
            self._reading[key] = given_up
            try:
                while True:
                    message = await receive()
                    if message["type"] != "http.request":
                        return None
                    if given_up.cancel_called:
                        break
                    piece = bytes(message.get("body", b""))
                    size += len(piece)
                    if size > site.limits.request_bytes:
                        self._bodies.drop(key)
                        return site.refuse(413, headers)
                    pieces.append(piece)
                    largest = self._bodies.resize(key, size)
                    if largest is not None:
                        self._reading[largest].cancel()
                    if not message.get("more_body", False) and largest is not key:
                        self._bodies.complete(key)
                        return b"".join(pieces)
            finally:
                del self._reading[key]
        self._bodies.drop(key)
        return site.refuse(503 if given_up.cancel_called else 408, headers)


async def _live(receive: _Receive, send: _Send) -> None:
    """The lifespan protocol. There is nothing to start or stop."""
    while True:
        kind = (await receive())["type"]
        await send({"type": f"{kind}.complete"})
        if kind == "lifespan.shutdown":
            return


def _last(response: Response, version: str) -> Response:
    """The response to a request whose rest will not be read."""
    close = () if version in ("2", "3") else (("Connection", "close"),)
    return replace(response, headers=(*response.headers, *close))


def _target(scope: MutableMapping[str, Any]) -> str:
    """The request target as it was sent, if the server knows it."""
    raw: bytes | None = scope.get("raw_path")
    path = quote(scope["path"]) if raw is None else raw.decode("latin-1").partition("?")[0]
    query: bytes = scope.get("query_string", b"")
    return f"{path}?{query.decode('latin-1')}" if query else path


class _Reply:
    """Sends the response to one request to the server."""

    def __init__(self, send: _Send, *, is_head: bool) -> None:
        self._send = send
        self.is_head = is_head
        self.status: int | None = None
        """The status; None before the response has begun."""
        self.is_over = False
        """Whether the server has taken the whole response."""

    async def begin(self, response: Response, *, more: bool) -> None:
        headers = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in response.headers]
        self.status = response.status
        await self._send({"type": "http.response.start", "status": response.status, "headers": headers})
        await self.go_on(b"" if self.is_head else response.body, more=more)

    async def go_on(self, body: bytes, *, more: bool) -> None:
        await self._send({"type": "http.response.body", "body": body, "more_body": more})
        self.is_over = not more


class _Answer:
    """Sends the answer to one question."""

    def __init__(self, question: Question, reply: _Reply, keep_alive: float | None) -> None:
        self._question = question
        self._reply = reply
        self._keep_alive = keep_alive
        self._ends = False
        self._count = 0  # of events sent
        # Keeps comments from coming between the head and the body. A lock is a quarter of the cost of an event.
        self._sending = nullcontext() if keep_alive is None else anyio.Lock(fast_acquire=True)

    async def run(self, application: Application, receive: _Receive) -> None:
        """Let the bot answer until its last event, or until the client leaves."""
        async with anyio.create_task_group() as tasks:
            scope = tasks.cancel_scope
            tasks.start_soon(self._watch, receive, scope)
            if self._keep_alive is not None:
                tasks.start_soon(self._comment, self._keep_alive, scope)
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
        if not self._ends:  # at the end, a server may report the disconnect that it causes itself
            scope.cancel()

    async def _comment(self, seconds: float, scope: anyio.CancelScope) -> None:
        while True:
            count = self._count
            await anyio.sleep(seconds)  # the silence; the answer's task group cancels it
            if count == self._count:
                await self._put(None, scope)

    async def _put(self, event: Event | None, scope: anyio.CancelScope) -> None:
        if self._count % _TURN == 0:
            # A bot that always has a piece and a server whose client has left do not let other tasks run.
            await anyio.lowlevel.checkpoint()
        async with self._sending:
            try:
                await self._encode(event)
            except OSError:  # ASGI, "HTTP": the client has left
                scope.cancel()

    async def _encode(self, event: Event | None) -> None:
        if self._ends:
            return  # a comment that waited while the last event was sent
        more = isinstance(event, Live | None)
        self._ends = not more
        self._count += 1
        if self._reply.status is not None:
            await self._reply.go_on(self._question.encode(event, now=time.time()), more=more)
        elif response := self._question.response(event, now=time.time()):
            await self._reply.begin(response, more=more)


class _Bot:
    """A bot working on one question. Its answer always ends with `End` or `Broken`."""

    def __init__(self, bot: Callable[[Submit], AsyncGenerator[str | Event]], submit: Submit, debug: bool) -> None:
        self._given = bot(submit)
        self._items = Items()
        self._debug = debug

    async def next(self) -> Event:
        """Return the next event. If cancelled, the bot is cancelled."""
        try:
            return self._items.event(await anext(self._given))
        except StopAsyncIteration:
            return self._items.end()
        except BaseException as error:
            if _is_cancellation(error) or not bots_own(error):
                raise
            return failed(error, debug=self._debug)

    async def aclose(self) -> None:
        """Close its generator."""
        try:
            await self._given.aclose()
        except BaseException as error:
            rest: BaseException | None = error
            if isinstance(error, BaseExceptionGroup):
                # A task group that is open in a generator wraps the exception that closes it.
                rest = error.split(GeneratorExit)[1]
            if rest is None:
                return
            if _is_cancellation(rest) or not bots_own(rest):
                raise rest from None
            failed_when_closed(rest)


def _is_cancellation(error: BaseException) -> bool:
    """Whether a bot raised this because the task is cancelled."""
    try:
        task = asyncio.current_task()
    except RuntimeError:  # on trio, asyncio's exception has no special meaning
        return False
    if task is None or not task.cancelling():
        return False
    if isinstance(error, BaseExceptionGroup):
        return error.subgroup(asyncio.CancelledError) is not None
    return isinstance(error, asyncio.CancelledError)
