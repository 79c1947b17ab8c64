"""`HttpxTransport`'s own: clients of httpx and httpx2, on asyncio and trio, and what they raise and leave behind."""

import asyncio
import gc
import gzip
import logging
import re
import ssl
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import anyio
import anyio.lowlevel
import anyio.to_thread
import httpx
import httpx2
import pytest
import trio
import trustme

from opchat_proto import Broken, Call, End, Endpoint, HTTPCall, Limits, Live, Reason, Session
from opchat_transports import AsyncTransport, Timeouts, asyncio_httpx
from opchat_transports.asyncio_httpx import HttpxTransport
from opchat_transports.blocking_server import serve

from .asking import CancelledAt, full_queue, linux
from .scripted import (
    LAST,
    PATIENCE,
    SESSION,
    STREAM,
    Peer,
    Script,
    Scripted,
    answer,
    answers,
    body_size,
    chunk,
    end,
    live,
    object_,
    tells,
)
from .tls import tls_server, trusting

NO_TRUST = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


@dataclass(frozen=True)
class Way:
    """An event loop, and whose client."""

    loop: str
    module: ModuleType | None = None

    def run(self, main: Callable[[], Awaitable[Any]]) -> Any:
        if self.loop == "trio":
            return trio.run(main)

        async def alone() -> Any:
            asyncio.get_running_loop().slow_callback_duration = PATIENCE
            result = await main()
            assert asyncio.all_tasks() == {asyncio.current_task()}
            return result

        return asyncio.run(alone(), debug=True)

    @asynccontextmanager
    async def opened(self, url: str | Endpoint, **options: Any) -> AsyncIterator[HttpxTransport]:
        if self.module is None:
            async with HttpxTransport(url, **options) as transport:
                yield transport
        else:
            context = options.pop("ssl_context", NO_TRUST)
            async with self.module.AsyncClient(verify=context, trust_env=False) as client:
                async with HttpxTransport(url, client, **options) as transport:
                    yield transport
                assert not client.is_closed

    def ask(self, url: str | Endpoint, question: Any = "Hi", **options: Any) -> list[Any]:
        async def main() -> list[Any]:
            async with self.opened(url, **options) as transport:
                return await read(transport, question)

        events: list[Any] = self.run(main)
        return events


OWN = Way("asyncio")
CALLERS = [Way("asyncio", httpx), Way("asyncio", httpx2), Way("trio", httpx2)]
WAYS = [OWN, Way("trio"), *CALLERS]


def named(way: Way) -> str:
    return f"{way.loop} {way.module.__name__ if way.module else 'own'}"


ways = pytest.mark.parametrize("way", WAYS, ids=named)
callers = pytest.mark.parametrize("way", CALLERS, ids=named)
owns = pytest.mark.parametrize("way", [OWN, Way("trio")], ids=named)


@pytest.fixture(autouse=True)
def nothing_is_left(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    yield
    gc.collect()  # what was not closed is a ResourceWarning, which is an error
    assert [record for record in caplog.records if record.name == "asyncio" and record.levelno > logging.INFO] == []


async def read(transport: HttpxTransport, question: Any = "Hi") -> list[Any]:
    async with transport.ask(question) as reply:
        return [event async for event in reply]


async def wait_for(happened: threading.Event) -> None:
    assert await anyio.to_thread.run_sync(happened.wait, PATIENCE)


def mocked(handle: Callable[[Any], Any], module: ModuleType = httpx, **options: Any) -> list[Any]:
    """Ask with a client whose answers come from a function."""

    async def main() -> list[Any]:
        transport = module.MockTransport(handle)
        async with module.AsyncClient(transport=transport, **options) as client:
            timeouts = Timeouts(connect=0.05, write=0.05, first_event=0.1)
            return await read(HttpxTransport("http://h", client, session=Session("n"), timeouts=timeouts))

    events: list[Any] = OWN.run(main)
    return events


TOLD = b'data: {"type":"end","data":"{\\"success\\":true,\\"reply\\":\\"a\\"}"}\n\n'


def telling(request: Any) -> Any:
    return httpx.Response(200, content=TOLD)


# ------------------------------------------------------------------------------------------------ questions


@owns
def test_its_own_client_has_a_connection_for_each_request_and_says_so(way: Way) -> None:
    with Scripted(tells("Hel", "lo")) as server:
        assert way.ask(server.url)[-1].reply == "Hello"
    assert (server.routes, server.connections) == (["start_session", "submit"], 2)
    assert [request.count(b"\r\nConnection: close\r\n") for request in server.requests] == [1, 1]
    assert all(request.lower().count(b"\r\nconnection:") == 1 for request in server.requests)


@callers
def test_a_callers_client_keeps_its_connection(way: Way) -> None:
    def play(peer: Peer) -> None:
        with suppress(ConnectionError):
            while True:
                peer.read()
                peer.send(STREAM, live("a"), end("a"), LAST)

    async def main() -> None:
        async with way.opened(server.url) as transport:
            for _ in range(3):
                assert (await read(transport))[-1].reply == "a"

    with Scripted(play) as server:
        way.run(main)
    assert (server.routes, server.connections) == (["start_session", *["submit"] * 3], 1)


def test_plain_permalinks_go_out_as_they_are() -> None:
    with Scripted(tells("a")) as server:
        OWN.ask(f"{server.url}/blog/?rest_route=/", session=Session())
    assert server.requests[0].startswith(b"POST /blog/?rest_route=/mwai-ui/v1/chats/submit HTTP/1.1\r\n")


def test_its_own_client_follows_no_redirect_and_keeps_no_cookie() -> None:
    def play(peer: Peer) -> None:
        peer.read()
        fields = b"\r\nSet-Cookie: a=b; Path=/\r\nSet-Cookie: mwai_session_id=me\r\n"
        peer.send(SESSION.replace(b"\r\n", fields, 1))

    with Scripted(play, answers(answer(b"", 302, Location="http://elsewhere.example/")), session=False) as server:
        [broken] = OWN.ask(server.url)
    assert (broken.reason, broken.status, server.connections) == (Reason.REFUSED, 302, 2)
    assert "http://elsewhere.example/" in broken.detail
    assert b"\r\nCookie: mwai_session_id=me\r\n" in server.requests[1]


def test_its_own_client_takes_nothing_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    with Scripted(tells("a")) as server:
        transport = HttpxTransport(server.url, proxy=None, session=Session())
        monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")

        async def main() -> list[Any]:
            async with transport:
                return await read(transport)

        assert OWN.run(main)[-1].reply == "a"


def test_it_meets_the_protocol_with_clients_of_both_libraries() -> None:
    transports: list[AsyncTransport] = [
        HttpxTransport("http://h"),
        HttpxTransport("http://h", httpx.AsyncClient(verify=NO_TRUST)),
        HttpxTransport("http://h", httpx2.AsyncClient(verify=NO_TRUST)),
    ]
    assert [transport.session for transport in transports] == [None] * 3


def test_a_client_that_cannot_be_used_is_refused_at_once() -> None:
    client = httpx.AsyncClient(verify=NO_TRUST)
    with pytest.raises(TypeError, match="client: expected an AsyncClient, got Client"):
        HttpxTransport("http://h", httpx.Client(verify=NO_TRUST))
    with pytest.raises(ValueError, match="ssl_context: expected none, since the client has its own"):
        HttpxTransport("http://h", client, ssl_context=NO_TRUST)
    with pytest.raises(ValueError, match="proxy: expected none, since the client has its own"):
        HttpxTransport("http://h", client, proxy=None)
    assert repr(HttpxTransport("http://h").ask("x")) == "<HttpxReply of <HTTPCall to http://h SESSION after 0 events>>"


def test_the_trust_store_is_loaded_where_it_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[ssl.SSLContext] = []

    def make(*arguments: Any, **options: Any) -> ssl.SSLContext:
        made.append(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))
        return made[-1]

    client = httpx.AsyncClient(verify=NO_TRUST)
    monkeypatch.setattr(ssl, "create_default_context", make)
    HttpxTransport("http://h")
    HttpxTransport("https://h", client)
    assert made == []
    HttpxTransport("https://h")
    assert len(made) == 1


# ------------------------------------------------------------------------------------------------ what goes wrong


class TimeoutException(Exception):
    pass


class ReadTimeout(TimeoutException):
    pass


class ProxyError(Exception):
    pass


def lost(detail: str, reason: Reason = Reason.LOST, *, asked: bool = True) -> Broken:
    limit = re.search("[(]timeout '(.*)'[)]", detail)
    return Broken(reason, detail, asked=asked, limit=limit and limit[1])


@pytest.mark.parametrize(
    ("error", "broken"),
    [
        (httpx.RemoteProtocolError("odd"), lost("HTTP: odd", Reason.TRUNCATED)),
        (httpx2.RemoteProtocolError("odd"), lost("HTTP: odd", Reason.TRUNCATED)),
        (
            httpx.RemoteProtocolError("Server disconnected without sending a response."),
            lost("the connection was closed before any answer"),
        ),
        (httpx.ReadError("gone"), lost("the connection failed: gone")),
        (BrokenPipeError(32, "x"), lost("the connection failed: Broken pipe")),
        (httpx2.ConnectError("no"), lost("could not connect: no", asked=False)),
        (
            httpx.ConnectTimeout(""),
            lost("could not connect: no connection within 0.05 s (timeout 'connect')", Reason.TIMEOUT, asked=False),
        ),
        (
            httpx.WriteTimeout(""),
            lost("the request could not be sent: not all of it was taken within 0.05 s (timeout 'write')",
                 Reason.TIMEOUT),
        ),
        (httpx.PoolTimeout("full"), lost("the client gave up: full", Reason.TIMEOUT, asked=False)),
        (ReadTimeout("slow"), lost("the client gave up: slow", Reason.TIMEOUT)),
        (httpx.ProxyError("407 No"), lost("the proxy refused: status 407", Reason.PROXY, asked=False)),
        (ProxyError("bad"), lost("the proxy failed: bad", Reason.PROXY, asked=False)),
        (httpx.InvalidURL("odd"), lost("the client failed: InvalidURL: odd")),
        (KeyError("bug"), lost("the client failed: KeyError: 'bug'")),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)  # fmt: skip
def test_what_the_client_raises_is_an_event(error: Exception, broken: Broken) -> None:
    def fail(request: Any) -> Any:
        raise error

    assert mocked(fail) == [broken]


@pytest.mark.parametrize("error", [httpx.ReadError("gone"), KeyError("bug")], ids=["httpx's", "another"])
def test_what_it_raises_in_a_body_truncates_the_answer(error: Exception) -> None:
    class Breaking(httpx.AsyncByteStream):
        async def __aiter__(self) -> AsyncIterator[bytes]:
            yield b'data: {"type":"live","data":"a"}\n\n'
            raise error

    events = mocked(lambda _: httpx.Response(200, stream=Breaking()))
    assert [type(event) for event in events] == [Live, Broken]
    assert events[-1].reason is Reason.TRUNCATED


def test_a_client_that_does_not_answer_is_given_up() -> None:
    async def hang(request: Any) -> Any:
        await asyncio.Event().wait()

    [broken] = mocked(hang)
    assert (broken.reason, broken.limit) == (Reason.TIMEOUT, "first_event")
    assert broken.detail.startswith("no answer within 0.2 s ")


def test_an_interim_response_that_is_given_as_the_last_is_not_asked_for_again() -> None:
    asked: list[Any] = []

    def handle(request: Any) -> Any:
        asked.append(request)
        return httpx.Response(103)

    [broken] = mocked(handle)
    assert (broken.reason, len(asked)) == (Reason.TRUNCATED, 1)


def test_a_closed_client_is_an_event() -> None:
    async def main() -> list[Any]:
        client = httpx.AsyncClient(verify=NO_TRUST)
        await client.aclose()
        return await read(HttpxTransport("http://h", client, session=Session()))

    [broken] = OWN.run(main)
    assert broken.detail.startswith("the client failed: RuntimeError: Cannot send a request")


@linux
@ways
def test_the_connect_clock(way: Way) -> None:
    with full_queue() as port:
        timeouts = Timeouts(connect=0.2, write=PATIENCE)
        [broken] = way.ask(f"http://127.0.0.1:{port}", session=Session(), timeouts=timeouts)
    detail = f"could not connect to 127.0.0.1:{port}: no connection within 0.2 s (timeout 'connect')"
    assert broken == lost(detail, Reason.TIMEOUT, asked=False)


@owns
def test_the_write_clock(way: Way) -> None:
    over = threading.Event()
    options: dict[str, Any] = {"session": Session(), "limits": Limits(request_bytes=64 * 1024 * 1024)}
    with Scripted(lambda peer: peer.read_head() and over.wait(PATIENCE) and None, session=False) as server:
        [broken] = way.ask(server.url, "x" * 32_000_000, timeouts=Timeouts(write=0.4), **options)
        over.set()
    detail = "the request could not be sent: not all of it was taken within 0.4 s (timeout 'write')"
    assert broken == lost(detail, Reason.TIMEOUT)


@ways
def test_comments_do_not_move_the_idle_clock(way: Way) -> None:
    def play(peer: Peer) -> None:
        peer.read()
        peer.send(STREAM, live("a"))
        with suppress(OSError):
            while not peer.is_left(within=0.02):
                peer.send(chunk(b": keepalive\n\n"))

    with Scripted(play) as server:
        events = way.ask(server.url, session=Session(), timeouts=Timeouts(idle=0.2))
    detail = "no further event of the answer within 0.2 s (timeout 'idle'), after 1 event"
    assert events == [Live("a"), Broken(Reason.TIMEOUT, detail, limit="idle", asked=True)]


def test_comments_that_never_let_others_run_do_not_stop_it() -> None:
    class Chatter(httpx.AsyncByteStream):
        async def __aiter__(self) -> AsyncIterator[bytes]:
            yield b'data: {"type":"live","data":"a"}\n\n'
            while True:
                yield b": keepalive\n\n"

    async def main() -> list[Any]:
        client = httpx.AsyncClient(transport=httpx.MockTransport(lambda _: httpx.Response(200, stream=Chatter())))
        timeouts = Timeouts(idle=0.1)
        async with client, HttpxTransport("http://h", client, session=Session(), timeouts=timeouts) as transport:
            return await read(transport)

    detail = "no further event of the answer within 0.1 s (timeout 'idle'), after 1 event"
    assert OWN.run(main) == [Live("a"), Broken(Reason.TIMEOUT, detail, limit="idle", asked=True)]


def test_the_wait_for_a_free_connection_is_bounded() -> None:
    async def main() -> None:
        limits = httpx.Limits(max_connections=1)
        timeouts = Timeouts(connect=0.05, write=0.05, first_event=0.1)
        async with httpx.AsyncClient(verify=NO_TRUST, limits=limits) as client:
            first = HttpxTransport(server.url, client, session=Session())
            second = HttpxTransport(server.url, client, session=Session(), timeouts=timeouts)
            async with first.ask("Hi") as reply:
                await anext(reply)
                [broken] = await read(second)
            assert broken.reason is Reason.TIMEOUT

    with Scripted(answers(STREAM, live("a"))) as server:
        OWN.run(main)


# ------------------------------------------------------------------------------------------------ the caller's client


def test_the_callers_hooks_auth_headers_and_mounts_hold() -> None:
    asked: list[Any] = []
    answered: list[int] = []

    async def before(request: Any) -> None:
        request.headers["X-Hook"] = "1"

    async def after(response: Any) -> None:
        answered.append(response.status_code)
        await response.aread()  # as hooks do that log bodies

    def handle(request: Any) -> Any:
        asked.append(request)
        return telling(request)

    def unused(request: Any) -> Any:
        raise AssertionError("the mount should have been used")

    hooks = {"request": [before], "response": [after]}
    mounts = {"http://h": httpx.MockTransport(handle)}
    events = mocked(unused, auth=("me", "secret"), headers={"X-Mine": "2"}, event_hooks=hooks, mounts=mounts)
    assert events[-1].reply == "a"
    [request] = asked
    assert (request.headers["X-Hook"], request.headers["X-Mine"]) == ("1", "2")
    assert request.headers["Authorization"].startswith("Basic ")
    assert (request.headers["X-WP-Nonce"], request.headers["Accept-Encoding"]) == ("n", "identity")
    assert request.headers["Connection"] == "keep-alive"
    assert answered == [200]


def test_a_hook_that_has_read_and_inflated_the_body_does_no_harm() -> None:
    async def hook(response: Any) -> None:
        await response.aread()

    class Compressed(httpx.AsyncByteStream):
        async def __aiter__(self) -> AsyncIterator[bytes]:
            yield gzip.compress(TOLD)

    def handle(request: Any) -> Any:
        return httpx.Response(200, headers={"Content-Encoding": "gzip"}, stream=Compressed())

    assert mocked(handle, event_hooks={"response": [hook]})[-1].reply == "a"
    assert mocked(handle)[-1].reason is Reason.MALFORMED  # nobody has asked for that


@pytest.mark.parametrize("module", [httpx, httpx2], ids=["httpx", "httpx2"])
def test_a_hook_that_raises_for_the_status_does_not_hide_it(module: ModuleType) -> None:
    async def hook(response: Any) -> None:
        response.raise_for_status()

    def handle(request: Any) -> Any:
        return module.Response(429, headers={"Retry-After": "7"})

    [broken] = mocked(handle, module, event_hooks={"response": [hook]})
    assert (broken.reason, broken.status, broken.retry_after) == (Reason.REFUSED, 429, 7)


def test_the_callers_cookies_do_not_go_out() -> None:
    asked: list[Any] = []

    def handle(request: Any) -> Any:
        asked.append(request)
        return telling(request)

    assert mocked(handle, cookies={"wordpress_logged_in": "me"})[-1].reply == "a"
    assert "Cookie" not in asked[0].headers


@callers
def test_what_follows_the_last_event_is_read_so_that_the_connection_can_be_used_again(way: Way) -> None:
    ended = threading.Event()

    def play(peer: Peer) -> None:
        for _ in range(2):
            peer.read()
            peer.send(STREAM, end("a"))
            assert ended.wait(PATIENCE)
            ended.clear()
            peer.send(chunk(b": bye\n\n"), LAST)

    async def main() -> None:
        async with way.opened(server.url, session=Session()) as transport:
            for _ in range(2):
                async with transport.ask("Hi") as reply:
                    async for event in reply:
                        assert isinstance(event, End)
                        ended.set()

    with Scripted(play) as server:
        way.run(main)
    assert server.connections == 1


@ways
@pytest.mark.parametrize("rest", [b"", chunk(b"x" * 65536)], ids=["silence", "endless"])
def test_the_rest_is_not_waited_for(way: Way, rest: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    # With its own client it is not read at all.
    monkeypatch.setattr(asyncio_httpx, "_REST_WITHIN", 0.05 if not rest and way.module else PATIENCE)

    def play(peer: Peer) -> None:
        peer.read()
        with suppress(OSError):
            peer.send(STREAM, end("a"))
            while rest:
                peer.send(rest)
        assert peer.is_left(PATIENCE / 2)

    with Scripted(play) as server:
        assert way.ask(server.url, session=Session())[-1].reply == "a"


# ------------------------------------------------------------------------------------------------ leaving


@ways
@pytest.mark.parametrize("pieces", [[live("a")], [live("a"), chunk(b":"), chunk(b"\n") * 5000]], ids=["", "more"])
def test_leaving_early_closes_the_connection_at_once(way: Way, pieces: list[bytes]) -> None:
    left = threading.Event()

    def play(peer: Peer) -> None:
        peer.read()
        peer.send(STREAM + b"".join(pieces))
        assert peer.is_left()
        left.set()

    async def main() -> None:
        async with way.opened(server.url, session=Session()) as transport:
            async with transport.ask("Hi") as reply:
                async for _ in reply:
                    break
            assert left.wait(PATIENCE)  # without letting any task run
            await reply.aclose()

    with Scripted(play) as server:
        way.run(main)


@ways
def test_replies_whose_last_event_was_taken_close_at_once_though_their_bodies_are_not_over(
    way: Way, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asyncio_httpx, "_REST_WITHIN", 10 * PATIENCE)
    left = threading.Semaphore(0)

    def play(peer: Peer) -> None:
        peer.read()
        peer.send(STREAM, end("a"))
        if peer.is_left(2 * PATIENCE):
            left.release()

    async def main() -> None:
        async with way.opened(server.url, session=Session()) as transport:
            replies = [transport.ask("Hi") for _ in range(3)]
            for reply in replies:
                assert isinstance(await anext(reply), End)
            with anyio.fail_after(PATIENCE):
                await transport.aclose()
            assert [left.acquire(timeout=PATIENCE) for _ in replies] == [True] * 3

    with Scripted(play) as server:
        way.run(main)


def test_a_body_that_never_waits_is_left() -> None:
    class Endless(httpx.AsyncByteStream):
        async def __aiter__(self) -> AsyncIterator[bytes]:
            while not closed:
                yield b'data: {"type":"live","data":"a"}\n\n'

        async def aclose(self) -> None:
            closed.append(True)

    closed: list[bool] = []

    async def main() -> None:
        client = httpx.AsyncClient(transport=httpx.MockTransport(lambda _: httpx.Response(200, stream=Endless())))
        async with client, HttpxTransport("http://h", client, session=Session()) as transport:
            async with transport.ask("Hi") as reply:
                assert await anext(reply) == Live("a")
            assert closed

    OWN.run(main)


@ways
@pytest.mark.parametrize("sent", [b"", STREAM, STREAM + live("a")], ids=["nothing", "head", "event"])
def test_closing_the_transport_ends_a_waiting_read(way: Way, sent: bytes) -> None:
    asked = threading.Event()

    def play(peer: Peer) -> None:
        peer.read()
        peer.send(sent)
        asked.set()
        assert peer.is_left()

    async def main() -> None:
        events: list[Any] = []
        has_come = anyio.Event()

        def observe(call: Call | HTTPCall, item: object) -> None:
            if type(item).__name__ == ("DataReceived" if b"live" in sent else "HeadReceived"):
                has_come.set()

        async def follow() -> None:
            async for event in reply:
                events.append(event)

        async with way.opened(server.url, session=Session(), observer=observe) as transport:
            reply = transport.ask("Hi")
            async with anyio.create_task_group() as group:
                group.start_soon(follow)
                await (has_come.wait() if sent else wait_for(asked))
                with pytest.raises(RuntimeError, match="another task"):
                    await anext(reply)
                await transport.aclose()
            reason = Reason.TRUNCATED if sent else Reason.LOST
            assert events == [*[Live("a")] * (b"live" in sent), Broken(reason, "closed by the caller", asked=True)]
            await transport.aclose()
            with pytest.raises(RuntimeError, match="closed"):
                transport.ask("Hi")

    with Scripted(play) as server:
        way.run(main)


def patient(submitted: list[str], tls: ssl.SSLContext | None) -> Script:
    """Answers for as long as the client stays, and does not mind how it leaves."""

    def play(peer: Peer) -> None:
        with suppress(OSError):
            if tls is not None:
                peer.socket = tls.wrap_socket(peer.socket, server_side=True)
            with peer.socket:
                while True:
                    head = peer.read_head()
                    body, peer._buffer = peer._buffer, b""
                    while len(body) < body_size(head):
                        data = peer.socket.recv(65536)
                        if not data:
                            return  # it has left between head and body
                        body += data
                    if b"start_session" in head:
                        peer.send(SESSION)
                    else:
                        submitted.append(body.partition(b'"newMessage":"')[2].partition(b'"')[0].decode())
                        peer.send(STREAM, live("Hel"), live("lo"), end("Hello"), LAST)

    return play


async def cut_at(way: Way, nth: int, work: Any) -> bool:
    """Cancel it when it waits for the nth time, natively. Returns whether it came so far."""
    if way.loop == "trio":
        with trio.CancelScope() as scope:
            await CancelledAt(work, nth, scope.cancel)
        return scope.cancelled_caught

    async def run() -> None:
        await CancelledAt(work, nth, lambda: task.cancel())

    task = asyncio.create_task(run())
    await asyncio.wait([task])
    if not task.cancelled():
        task.result()
    return task.cancelled()


@ways
@pytest.mark.parametrize("secure", [False, True], ids=["plain", "TLS"])
def test_cancelled_at_any_await_it_closes_and_the_transport_goes_on(
    way: Way, secure: bool, authority: trustme.CA
) -> None:
    submitted: list[str] = []
    trust = trusting(authority)

    async def cut(nth: int) -> bool:
        events: list[Any] = []

        async def follow() -> None:
            async for event in reply:
                events.append(event)

        async with way.opened(url, ssl_context=trust) as transport:
            reply = transport.ask(f"question {nth}")
            if not await cut_at(way, nth, follow()):
                assert [type(event) for event in events] == [Live, Live, End]
                return False
            assert reply._response is None
            await follow()  # what had come before, and how it ended
            assert [type(event) for event in events[:-1]] == [Live] * (len(events) - 1)
            assert isinstance(events[-1], Broken | End)
            assert (await read(transport, "again"))[-1].reply == "Hello"
            return True

    async def main() -> int:
        nth = 1
        while await cut(nth):
            nth += 1
        return nth

    with Scripted(patient(submitted, tls_server(authority) if secure else None), session=False) as server:
        url = server.url.replace("http://127.0.0.1", "https://localhost") if secure else server.url
        assert way.run(main) > 5
    assert all(submitted.count(question) == 1 for question in set(submitted) - {"again"})


@ways
def test_hundreds_of_cancelled_streams_leave_nothing_behind(way: Way) -> None:
    async def main() -> None:
        async with way.opened(server.url) as transport:
            await read(transport)
            async with anyio.create_task_group() as group:
                for number in range(90):  # of a client's hundred connections
                    group.start_soon(leave, transport, number)
            assert not transport._replies
            assert (await read(transport))[-1].reply == "abc"

    async def leave(transport: HttpxTransport, number: int) -> None:
        with anyio.CancelScope() as scope:
            async with transport.ask("Hi") as reply:
                await CancelledAt(anext(reply), number % 13, scope.cancel)

    with serve(lambda _: "abc") as server:
        way.run(main)


@ways
def test_closing_closes_also_when_cancelled(way: Way) -> None:
    async def main() -> None:
        async with way.opened(server.url, session=Session()) as transport:
            replies = [transport.ask("Hi") for _ in range(3)]
            for reply in replies:
                await anext(reply)
            with anyio.CancelScope() as scope:
                scope.cancel()
                async with replies[0]:
                    pass
            assert scope.cancelled_caught
            with anyio.CancelScope() as scope:
                scope.cancel()
                await transport.aclose()
            assert scope.cancelled_caught
            assert [reply._response for reply in replies] == [None] * 3

    def play(peer: Peer) -> None:
        peer.read()
        peer.send(STREAM, live("a"))
        assert peer.is_left()

    with Scripted(play) as server:
        way.run(main)


# ------------------------------------------------------------------------------------------------ TLS


def test_a_refusal_is_refused_whatever_the_client() -> None:
    with Scripted(answers(object_(429, code="too_many", message="Slow down."))) as server:
        brokens = [way.ask(server.url, session=Session()) for way in WAYS]
    assert [(broken.status, broken.code, broken.detail) for [broken] in brokens] == [
        (429, "too_many", "Slow down.")
    ] * 5
