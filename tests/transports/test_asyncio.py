import asyncio
import gc
import logging
import socket
import ssl
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import anyio
import anyio.lowlevel
import httpx
import httpx2
import pytest
import trio
import trustme

from opchat_proto import Broken, End, Endpoint, Limits, Live, Reason, Session, Submit
from opchat_transports import AsyncTransport, Timeouts, asyncio_httpx
from opchat_transports.asyncio_httpx import AsyncioTransport
from opchat_transports.blocking_sockets import serve

from .scripted import (
    LAST,
    PATIENCE,
    SESSION,
    STREAM,
    Peer,
    Scripted,
    answer,
    answers,
    chunk,
    end,
    live,
    object_,
    tells,
)
from .test_blocking import STALE, full_port, linux, tls_server, trusting, without_close_notify

__all__ = ["full_port"]  # a fixture

NO_TRUST = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


@dataclass(frozen=True)
class Way:
    """An event loop, and whose client."""

    loop: str
    module: ModuleType | None

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
    async def opened(self, url: str | Endpoint, **options: Any) -> AsyncIterator[AsyncioTransport]:
        if self.module is None:
            async with AsyncioTransport(url, **options) as transport:
                yield transport
        else:
            context = options.pop("ssl_context", NO_TRUST)
            async with self.module.AsyncClient(verify=context) as client:
                async with AsyncioTransport(url, client, **options) as transport:
                    yield transport
                assert not client.is_closed

    def ask(self, url: str | Endpoint, question: Any = "Hi", **options: Any) -> list[Any]:
        async def main() -> list[Any]:
            async with self.opened(url, **options) as transport:
                return await read(transport, question)

        events: list[Any] = self.run(main)
        return events


OWN = Way("asyncio", None)
WAYS = [OWN, Way("asyncio", httpx), Way("asyncio", httpx2), Way("trio", None), Way("trio", httpx2)]
ways = pytest.mark.parametrize(
    "way", WAYS, ids=[f"{way.loop} {way.module.__name__ if way.module else 'own'}" for way in WAYS]
)
loops = pytest.mark.parametrize("way", [OWN, Way("trio", None)], ids=["asyncio", "trio"])


@pytest.fixture(autouse=True)
def nothing_is_left(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    yield
    gc.collect()  # what was not closed is a ResourceWarning, which is an error
    assert [record for record in caplog.records if record.name == "asyncio" and record.levelno > logging.INFO] == []


async def read(transport: AsyncioTransport, question: Any = "Hi") -> list[Any]:
    async with transport.ask(question) as reply:
        return [event async for event in reply]


async def wait_for(happened: threading.Event) -> None:
    assert await anyio.to_thread.run_sync(happened.wait, PATIENCE)


class CancelledAt:
    """Awaits something and cancels it when it waits for the nth time."""

    def __init__(self, work: Awaitable[Any], nth: int, cancel: Callable[[], object]) -> None:
        self._work = work
        self._nth = nth
        self._cancel = cancel

    def __await__(self) -> Generator[Any, Any, Any]:
        steps = self._work.__await__()
        resume: Callable[[Any], Any] = steps.send
        value: Any = None
        count = 0
        while True:
            try:
                yielded = resume(value)
            except StopIteration as stop:
                return stop.value
            count += 1
            if count == self._nth:
                self._cancel()
            try:
                value = yield yielded
                resume = steps.send
            except BaseException as error:
                value = error
                resume = steps.throw


# ------------------------------------------------------------------------------------------------ questions


@ways
def test_a_question_takes_one_connection_from_session_to_end(way: Way) -> None:
    with Scripted(tells("Hel", "lo")) as server:
        events = way.ask(server.url)
    assert [event.text for event in events[:-1]] == ["Hel", "lo"]
    assert events[-1].reply == "Hello"
    assert (server.routes, server.connections) == (["start_session", "submit"], 1)


@ways
def test_the_next_question_goes_on_with_the_session_and_the_connection(way: Way) -> None:
    async def main() -> None:
        async with way.opened(server.url) as transport:
            assert transport.session is None
            assert (await read(transport))[-1].reply == "abc"
            assert transport.session is not None
            ports.append(await opened_ports(transport))
            assert (await read(transport))[-1].reply == "abc"
            ports.append(await opened_ports(transport))

    async def opened_ports(transport: AsyncioTransport) -> int:
        return len(server._talks)

    ports: list[int] = []
    with serve(lambda _: "abc") as server:
        way.run(main)
    assert ports == [1, 1]


def test_what_is_given_goes_out() -> None:
    with Scripted(tells("a")) as server:
        submit = Submit(new_message="Hi", chat_id="mine", bot_id="parrot")
        OWN.ask(Endpoint.parse(server.url), submit, headers={"X-Extra": "\xe9"}, session=Session())
    assert server.routes == ["submit"]
    request = server.requests[0]
    assert b"\r\nX-Extra: \xe9\r\n" in request
    assert b'"botId":"parrot"' in request
    assert b'"chatId":"mine"' in request
    assert b"\r\nAccept-Encoding: identity\r\n" in request
    assert b"\r\nUser-Agent: opchat/" in request


def test_plain_permalinks_go_out_as_they_are() -> None:
    with Scripted(tells("a")) as server:
        OWN.ask(f"{server.url}/blog/?rest_route=/", session=Session())
    assert server.requests[0].startswith(b"POST /blog/?rest_route=/mwai-ui/v1/chats/submit HTTP/1.1\r\n")


@ways
def test_each_piece_is_there_before_the_server_sends_the_next(way: Way) -> None:
    seen = threading.Event()

    def play(peer: Peer) -> None:
        peer.read()
        peer.send(STREAM, live("first"))
        assert seen.wait(PATIENCE)
        peer.send(end("first"), LAST)

    async def main() -> None:
        async with way.opened(server.url, session=Session()) as transport, transport.ask("Hi") as reply:
            assert await anext(reply) == Live("first")
            seen.set()
            assert [type(event) async for event in reply] == [End]
            with pytest.raises(StopAsyncIteration):
                await anext(reply)

    with Scripted(play) as server:
        way.run(main)


def test_it_meets_the_protocol_with_clients_of_both_libraries() -> None:
    transports: list[AsyncTransport] = [
        AsyncioTransport("http://h"),
        AsyncioTransport("http://h", httpx.AsyncClient(verify=NO_TRUST)),
        AsyncioTransport("http://h", httpx2.AsyncClient(verify=NO_TRUST)),
    ]
    assert [transport.session for transport in transports] == [None] * 3


def test_what_cannot_be_used_is_refused_at_once() -> None:
    with pytest.raises(ValueError, match="expected a site"):
        AsyncioTransport("nowhere")
    with pytest.raises(ValueError, match="Host is not yours"):
        AsyncioTransport("http://h", headers={"Host": "x"})
    with pytest.raises(TypeError, match="timeouts"):
        AsyncioTransport("http://h", timeouts=3)  # type: ignore[arg-type]  # wrong on purpose
    with pytest.raises(TypeError, match="client: expected an AsyncClient, got Client"):
        AsyncioTransport("http://h", httpx.Client(verify=NO_TRUST))  # type: ignore[arg-type]  # wrong on purpose
    with pytest.raises(ValueError, match="the client has its own"):
        AsyncioTransport("http://h", httpx.AsyncClient(verify=NO_TRUST), ssl_context=NO_TRUST)
    transport = AsyncioTransport("http://h", limits=Limits(request_bytes=200))
    with pytest.raises(ValueError, match="at most 200 bytes"):
        transport.ask("x" * 200)
    assert repr(transport) == "<AsyncioTransport to http://h>"
    assert repr(transport.ask("x")) == "<AsyncioReply of http://h after 0 events>"


# ------------------------------------------------------------------------------------------------ sessions


@ways
def test_a_hundred_tasks_start_one_session(way: Way) -> None:
    async def main() -> None:
        async with way.opened(server.url) as transport, anyio.create_task_group() as group:
            for _ in range(100):
                group.start_soon(check, transport)

    async def check(transport: AsyncioTransport) -> None:
        assert (await read(transport))[-1].reply == "Hello"

    asked: list[str] = []
    with Scripted(patient(asked)) as server:
        way.run(main)
    assert sorted(asked) == ["Hi"] * 100 + ["a session"]


@loops
@pytest.mark.parametrize("how", ["fails", "is cancelled", "is closed"])
def test_where_the_starter_stops_the_next_one_starts(way: Way, how: str) -> None:
    asked = threading.Event()
    go_on = threading.Event()

    def stop(peer: Peer) -> None:
        peer.read()
        asked.set()
        if how == "fails":
            assert go_on.wait(PATIENCE)
            peer.send(object_(500, success=False, message="No.").replace(b"\r\n", b"\r\nConnection: close\r\n", 1))
        assert peer.is_left()

    async def main() -> list[Any]:
        first: list[Any] = []
        others: list[Any] = []

        async def start() -> None:
            async with transport.ask("one") as reply:
                opened.append(reply)
                with scope:
                    async for event in reply:
                        first.append(event)

        async def follow() -> None:
            others.extend(await read(transport, "two"))

        opened: list[Any] = []
        scope = anyio.CancelScope()
        async with way.opened(server.url) as transport, anyio.create_task_group() as group:
            group.start_soon(start)
            await wait_for(asked)
            for _ in range(5):
                group.start_soon(follow)
            await anyio.wait_all_tasks_blocked()
            go_on.set()
            if how == "is cancelled":
                scope.cancel()
            elif how == "is closed":
                await opened[0].aclose()
        assert [event.reply for event in others if isinstance(event, End)] == ["a"] * 5
        return first

    with Scripted(stop, tells("a")) as server:
        first = way.run(main)
    assert sorted(server.routes) == ["start_session"] * 2 + ["submit"] * 5
    details = {"fails": ["No."], "is cancelled": [], "is closed": ["closed by the caller"]}
    assert [event.detail for event in first] == [f"start_session: {detail}" for detail in details[how]]


def test_a_stale_nonce_is_renewed_for_all() -> None:
    def play(peer: Peer) -> None:
        peer.read()
        peer.send(STALE)
        peer.read()
        peer.send(SESSION)
        peer.read()
        peer.send(STREAM, end("a"), LAST)

    async def main() -> None:
        async with OWN.opened(server.url, session=Session("0000000000")) as transport:
            assert (await read(transport))[-1].reply == "a"
            assert transport.session == Session("0123456789", "64f1c0ffee123")

    with Scripted(play) as server:
        OWN.run(main)
    assert (server.routes, server.connections) == (["submit", "start_session", "submit"], 1)


def test_a_session_that_makes_the_question_too_large_is_an_event() -> None:
    async def main() -> list[Any]:
        async with OWN.opened(server.url, limits=Limits(request_bytes=300)) as transport:
            size = len(Submit(new_message="", chat_id="c").encode())
            large = transport.ask(Submit(new_message="x" * (300 - size), chat_id="c"))
            await read(transport, Submit(new_message="x", chat_id="c"))
            return [event async for event in large]

    with Scripted(tells("a")) as server:
        [broken] = OWN.run(main)
    assert (broken.reason, server.routes) == (Reason.TOO_LARGE, ["start_session", "submit"])


# ------------------------------------------------------------------------------------------------ faults


@ways
def test_a_refused_connection_is_lost(way: Way) -> None:
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    [broken] = way.ask(f"http://127.0.0.1:{port}", session=Session())
    assert broken == Broken(Reason.LOST, f"could not connect to 127.0.0.1:{port}: Connection refused")


def test_a_name_that_cannot_be_is_lost() -> None:
    [broken] = OWN.ask(f"http://{'a' * 64}", session=Session())
    assert broken.reason is Reason.LOST


@ways
def test_an_answer_that_is_cut_is_truncated(way: Way) -> None:
    with Scripted(answers(STREAM, live("a"))) as server:
        events = way.ask(server.url)
    assert [type(event) for event in events] == [Live, Broken]
    assert events[-1].reason is Reason.TRUNCATED
    assert events[-1].detail.startswith("HTTP: peer closed connection")


@ways
def test_a_reset_is_truncated_with_the_reason(way: Way) -> None:
    got = threading.Event()

    def play(peer: Peer) -> None:
        peer.read()
        peer.send(STREAM, live("a"))
        assert got.wait(PATIENCE)
        peer.reset()

    async def main() -> None:
        async with way.opened(server.url, session=Session()) as transport, transport.ask("Hi") as reply:
            assert await anext(reply) == Live("a")
            got.set()
            assert await anext(reply) == Broken(Reason.TRUNCATED, "the connection failed: Connection reset by peer")

    with Scripted(play) as server:
        way.run(main)


@ways
def test_no_answer_is_lost_and_the_question_is_not_repeated(way: Way) -> None:
    with Scripted(lambda peer: peer.read() and None) as server:
        [broken] = way.ask(server.url, session=Session())
    assert (broken.reason, server.routes) == (Reason.LOST, ["submit"])
    assert broken.detail == "the connection was closed before any answer; not repeated"


@linux
def test_a_connection_that_the_server_gave_up_after_the_session_is_replaced() -> None:
    def play(peer: Peer) -> None:
        peer.read()
        peer.send_and_close(SESSION)

    with Scripted(play, tells("a")) as server:
        assert OWN.ask(server.url)[-1].reply == "a"
    assert (server.routes, server.connections) == (["start_session", "submit"], 2)


def test_an_answer_that_ends_its_connection_is_followed_by_another() -> None:
    def play(peer: Peer) -> None:
        peer.read()
        peer.send(SESSION.replace(b"\r\n", b"\r\nConnection: close\r\n", 1))

    with Scripted(play, tells("a")) as server:
        assert OWN.ask(server.url)[-1].reply == "a"
    assert server.connections == 2


def test_http_that_cannot_be_followed_is_truncated() -> None:
    with Scripted(answers(b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n")) as server:
        [broken] = OWN.ask(server.url, session=Session())
    assert broken.reason is Reason.TRUNCATED
    assert broken.detail.startswith("HTTP: ")


def test_a_redirect_is_not_followed() -> None:
    with Scripted(answers(answer(b"", 302, Location="http://elsewhere.example/"))) as server:
        [broken] = OWN.ask(server.url, session=Session())
    assert (broken.reason, broken.status, server.connections) == (Reason.REFUSED, 302, 1)
    assert "http://elsewhere.example/" in broken.detail


def test_an_answer_with_a_length_is_read() -> None:
    with Scripted(answers(answer(b'{"success":true,"reply":"a"}'))) as server:
        assert OWN.ask(server.url) == [End("a", '{"success":true,"reply":"a"}')]


def test_our_own_client_keeps_no_cookies() -> None:
    def play(peer: Peer) -> None:
        peer.read()
        peer.send(SESSION.replace(b"\r\n", b"\r\nSet-Cookie: a=b; Path=/\r\nSet-Cookie: mwai_session_id=me\r\n", 1))
        peer.read()
        peer.send(STREAM, end("a"), LAST)

    with Scripted(play) as server:
        assert OWN.ask(server.url)[-1].reply == "a"
    assert b"\r\nCookie: mwai_session_id=me\r\n" in server.requests[1]


# ------------------------------------------------------------------------------------------------ the caller's client


def mocked(handle: Callable[[Any], Any], module: ModuleType = httpx, **options: Any) -> list[Any]:
    """Ask with a client whose answers come from a function."""

    async def main() -> list[Any]:
        transport = module.MockTransport(handle)
        async with module.AsyncClient(transport=transport, **options) as client:
            asking = AsyncioTransport("http://h", client, session=Session("n"), timeouts=Timeouts(first_event=0.1))
            return await read(asking)

    events: list[Any] = OWN.run(main)
    return events


def telling(request: Any) -> Any:
    return httpx.Response(200, content=b'data: {"type":"end","data":"{\\"success\\":true,\\"reply\\":\\"a\\"}"}\n\n')


class TimeoutException(Exception):
    pass


class ReadTimeout(TimeoutException):
    pass


class ProxyError(Exception):
    pass


@pytest.mark.parametrize(
    ("error", "broken"),
    [
        (httpx.RemoteProtocolError("odd"), Broken(Reason.TRUNCATED, "HTTP: odd")),
        (httpx2.RemoteProtocolError("odd"), Broken(Reason.TRUNCATED, "HTTP: odd")),
        (httpx.ReadError("gone"), Broken(Reason.LOST, "the connection failed: gone; not repeated")),
        (BrokenPipeError(32, "x"), Broken(Reason.LOST, "the connection failed: Broken pipe; not repeated")),
        (httpx2.ConnectError("no"), Broken(Reason.LOST, "could not connect to h:80: no")),
        (httpx.ProxyError("407"), Broken(Reason.PROXY, "the proxy failed: 407")),
        (ProxyError("407"), Broken(Reason.PROXY, "the proxy failed: 407")),
        (httpx.PoolTimeout("full"), Broken(Reason.TIMEOUT, "the client gave up: full")),
        (ReadTimeout("slow"), Broken(Reason.TIMEOUT, "the client gave up: slow")),
        (
            httpx.ConnectTimeout(""),
            Broken(Reason.TIMEOUT, "no connection to h:80 within 10 s (timeout 'connect'), after 0 events"),
        ),
        (
            httpx.WriteTimeout(""),
            Broken(Reason.TIMEOUT, "the request could not be sent within 30 s (timeout 'write'), after 0 events"),
        ),
        (KeyError("bug"), Broken(Reason.LOST, "the client failed: KeyError: 'bug'")),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)  # fmt: skip
def test_what_the_client_raises_is_an_event(error: Exception, broken: Broken) -> None:
    def fail(request: Any) -> Any:
        raise error

    assert mocked(fail) == [broken]


def test_a_client_that_does_not_answer_is_given_up() -> None:
    async def hang(request: Any) -> Any:
        await asyncio.Event().wait()

    detail = "no event of the answer within 0.1 s (timeout 'first_event'), after 0 events"
    assert mocked(hang) == [Broken(Reason.TIMEOUT, detail)]


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
    headers = asked[0].headers
    assert (headers["X-Hook"], headers["X-Mine"], headers["Authorization"][:6]) == ("1", "2", "Basic ")
    assert (headers["X-WP-Nonce"], headers["Accept-Encoding"]) == ("n", "identity")
    assert answered == [200]


def test_a_hook_that_raises_for_the_status_does_not_hide_it() -> None:
    async def hook(response: Any) -> None:
        response.raise_for_status()

    [broken] = mocked(lambda _: httpx.Response(429, headers={"Retry-After": "7"}), event_hooks={"response": [hook]})
    assert (broken.reason, broken.status, broken.retry_after) == (Reason.REFUSED, 429, 7)


def test_the_callers_cookies_do_not_go_out() -> None:
    asked: list[Any] = []

    def handle(request: Any) -> Any:
        asked.append(request)
        return telling(request)

    assert mocked(handle, cookies={"wordpress_logged_in": "me"})[-1].reply == "a"
    assert "Cookie" not in asked[0].headers


def test_a_closed_client_is_an_event() -> None:
    async def main() -> list[Any]:
        client = httpx.AsyncClient(verify=NO_TRUST)
        await client.aclose()
        return await read(AsyncioTransport("http://h", client, session=Session()))

    [broken] = OWN.run(main)
    assert broken.detail.startswith("the client failed: RuntimeError: Cannot send a request")


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
        async with client, AsyncioTransport("http://h", client, session=Session()) as transport:
            async with transport.ask("Hi") as reply:
                assert await anext(reply) == Live("a")
            assert closed

    OWN.run(main)


# ------------------------------------------------------------------------------------------------ clocks


@ways
def test_the_first_event_clock(way: Way) -> None:
    with Scripted(lambda peer: peer.read() and peer.is_left() and None) as server:
        assert way.ask(server.url, session=Session(), timeouts=Timeouts(first_event=0.2)) == [
            Broken(Reason.TIMEOUT, "no event of the answer within 0.2 s (timeout 'first_event'), after 0 events")
        ]


@loops
def test_comments_do_not_move_the_idle_clock(way: Way) -> None:
    def play(peer: Peer) -> None:
        peer.read()
        peer.send(STREAM, live("a"), live("b"))
        while not peer.is_left(within=0.02):
            with suppress(OSError):
                peer.send(chunk(b": keepalive\n\n"))

    with Scripted(play) as server:
        assert way.ask(server.url, session=Session(), timeouts=Timeouts(idle=0.2)) == [
            Live("a"),
            Live("b"),
            Broken(Reason.TIMEOUT, "no further event of the answer within 0.2 s (timeout 'idle'), after 2 events"),
        ]


@linux
@loops
def test_the_connect_clock(way: Way, full_port: int) -> None:
    assert way.ask(f"http://127.0.0.1:{full_port}", session=Session(), timeouts=Timeouts(connect=0.2)) == [
        Broken(
            Reason.TIMEOUT, f"no connection to 127.0.0.1:{full_port} within 0.2 s (timeout 'connect'), after 0 events"
        )
    ]


@loops
def test_the_connect_clock_in_the_handshake(way: Way, authority: trustme.CA) -> None:
    with Scripted(lambda peer: peer.is_left() and None) as server:
        url = server.url.replace("http:", "https:")
        [broken] = way.ask(url, session=Session(), ssl_context=trusting(authority), timeouts=Timeouts(connect=0.2))
    detail = "no connection to 127.0.0.1 with TLS within 0.2 s (timeout 'connect'), after 0 events"
    assert broken == Broken(Reason.TIMEOUT, detail)


@loops
def test_the_write_clock_is_not_the_clock_of_the_answer(way: Way) -> None:
    over = threading.Event()
    limits = Limits(request_bytes=64 * 1024 * 1024)
    timeouts = Timeouts(write=0.4, first_event=0.1)
    with Scripted(lambda peer: peer.read_head() and over.wait(PATIENCE) and None) as server:
        [broken] = way.ask(server.url, "x" * 32_000_000, session=Session(), limits=limits, timeouts=timeouts)
        over.set()
    assert broken == Broken(
        Reason.TIMEOUT, "the request could not be sent within 0.4 s (timeout 'write'), after 0 events"
    )


def test_comments_that_never_stop_do_not_stop_the_idle_clock() -> None:
    class Chatter(httpx.AsyncByteStream):
        async def __aiter__(self) -> AsyncIterator[bytes]:
            yield b'data: {"type":"live","data":"a"}\n\n'
            while True:
                yield b": keepalive\n\n"  # and it never lets others run

    async def main() -> list[Any]:
        client = httpx.AsyncClient(transport=httpx.MockTransport(lambda _: httpx.Response(200, stream=Chatter())))
        return await read(AsyncioTransport("http://h", client, session=Session(), timeouts=Timeouts(idle=0.1)))

    detail = "no further event of the answer within 0.1 s (timeout 'idle'), after 1 event"
    assert OWN.run(main) == [Live("a"), Broken(Reason.TIMEOUT, detail)]


def test_the_wait_for_a_session_is_bounded() -> None:
    async def main() -> list[Any]:
        async with AsyncioTransport("http://h", timeouts=Timeouts(first_event=0.1)) as transport:
            transport._shared.begin("somebody who never comes back")
            return await read(transport)

    detail = "start_session: no session from the question before within 0.1 s (timeout 'first_event'), after 0 events"
    assert OWN.run(main) == [Broken(Reason.TIMEOUT, detail)]


def test_the_wait_for_a_free_connection_is_bounded() -> None:
    async def main() -> None:
        limits = httpx.Limits(max_connections=1)
        async with httpx.AsyncClient(verify=NO_TRUST, limits=limits) as client:
            first = AsyncioTransport(server.url, client, session=Session())
            second = AsyncioTransport(server.url, client, session=Session(), timeouts=Timeouts(first_event=0.1))
            async with first.ask("Hi") as reply:
                await anext(reply)
                [broken] = await read(second)
            assert broken.reason is Reason.TIMEOUT

    with Scripted(answers(STREAM, live("a"))) as server:
        OWN.run(main)


# ------------------------------------------------------------------------------------------------ the rest of a body


@ways
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


@loops
@pytest.mark.parametrize("rest", [b"", chunk(b"x" * 65536)], ids=["silence", "endless"])
def test_the_rest_is_not_waited_for(way: Way, rest: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asyncio_httpx, "_REST_WITHIN", 0.05 if not rest else PATIENCE)

    def play(peer: Peer) -> None:
        peer.read()
        with suppress(OSError):
            peer.send(STREAM, end("a"))
            while rest:
                peer.send(rest)
        assert peer.is_left()

    with Scripted(play) as server:
        assert way.ask(server.url, session=Session())[-1].reply == "a"


def test_an_error_event_ends_the_reply_and_not_the_connection() -> None:
    said = chunk(b'data: {"type":"error","data":"No."}\n\n')
    with Scripted(answers(STREAM, said, LAST)) as server:
        assert OWN.ask(server.url)[-1] == Broken(Reason.REMOTE, "No.")


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
            assert left.wait(PATIENCE)
            await reply.aclose()

    with Scripted(play) as server:
        way.run(main)


@loops
def test_a_closed_reply_is_broken_and_then_over(way: Way) -> None:
    async def main() -> None:
        async with way.opened(server.url, session=Session()) as transport:
            reply = transport.ask("Hi")
            await anext(reply)
            await reply.aclose()
            rest = [event async for event in reply]
            assert rest[-1] == Broken(Reason.TRUNCATED, "closed by the caller")
            assert [event async for event in reply] == []
            unread = transport.ask("Hi")
            await unread.aclose()
            assert [event async for event in unread] == [Broken(Reason.LOST, "closed by the caller")]
            assert [event async for event in unread] == []

    with Scripted(answers(STREAM, live("a"), live("b"))) as server:
        way.run(main)


@ways
@pytest.mark.parametrize("sent", [b"", STREAM, STREAM + live("a")], ids=["nothing", "head", "event"])
def test_closing_the_transport_ends_a_waiting_read(way: Way, sent: bytes) -> None:
    waiting = threading.Event()

    def play(peer: Peer) -> None:
        peer.read()
        peer.send(sent)
        waiting.set()
        assert peer.is_left()

    async def main() -> None:
        events: list[Any] = []

        async def follow() -> None:
            async for event in reply:
                events.append(event)

        async with way.opened(server.url, session=Session()) as transport:
            reply = transport.ask("Hi")
            async with anyio.create_task_group() as group:
                group.start_soon(follow)
                await wait_for(waiting)
                with anyio.fail_after(PATIENCE):
                    while (reply._response is not None) != bool(sent):  # it is on its way
                        await anyio.lowlevel.checkpoint()
                with pytest.raises(RuntimeError, match="another task"):
                    await anext(reply)
                await transport.aclose()
            assert events[-1].reason is (Reason.TRUNCATED if sent else Reason.LOST)
            assert events[-1].detail == "closed by the caller"
            await transport.aclose()
            with pytest.raises(RuntimeError, match="closed"):
                transport.ask("Hi")

    with Scripted(play) as server:
        way.run(main)


def patient(asked: list[str], tls: ssl.SSLContext | None = None) -> Callable[[Peer], None]:
    """Answers for as long as the client stays, and does not mind how it leaves."""

    def play(peer: Peer) -> None:
        with suppress(OSError):
            if tls is not None:
                peer.socket = tls.wrap_socket(peer.socket, server_side=True)
            with peer.socket:
                while True:
                    head = peer.read_head()
                    length = int(head.lower().partition(b"\r\ncontent-length: ")[2].split(b"\r\n")[0])
                    while len(peer._buffer) < length:
                        data = peer.socket.recv(65536)
                        if not data:
                            return
                        peer._buffer += data
                    body, peer._buffer = peer._buffer[:length], peer._buffer[length:]
                    if b"start_session" in head:
                        asked.append("a session")
                        peer.send(SESSION)
                    else:
                        asked.append(body.partition(b'"newMessage":"')[2].partition(b'"')[0].decode())
                        peer.send(STREAM, live("Hel"), live("lo"), end("Hello"), LAST)

    return play


def asked_and_cancelled(way: Way, url: str, nth: int, submitted: list[str], **options: Any) -> bool:
    """Cancel a question when it waits for the nth time; then ask again. Returns whether it came so far."""

    async def main() -> bool:
        async with way.opened(url, **options) as transport:
            reply = transport.ask(f"question {nth}")
            if not await cut(reply):
                assert [type(event) for event in events] == [Live, Live, End]
                return False
            assert reply._response is None
            assert submitted.count(f"question {nth}") <= 1
            await read_all(reply)  # what had come before, and how it ended
            assert [type(event) for event in events[:-1]] == [Live] * (len(events) - 1)
            assert isinstance(events[-1], Broken | End)
            assert (await read(transport, "again"))[-1].reply == "Hello"
            return True

    async def cut(reply: Any) -> bool:
        if way.loop == "trio":
            with anyio.CancelScope() as scope:
                await CancelledAt(read_all(reply), nth, scope.cancel)
            return scope.cancelled_caught
        task = asyncio.current_task()
        assert task is not None
        try:
            await CancelledAt(read_all(reply), nth, task.cancel)
        except asyncio.CancelledError:
            task.uncancel()
            return True
        return False

    async def read_all(reply: Any) -> None:
        async for event in reply:
            events.append(event)

    events: list[Any] = []
    was_cut: bool = way.run(main)
    return was_cut


@pytest.mark.parametrize("secure", [False, True], ids=["plain", "TLS"])
@loops
def test_cancelled_at_any_await_it_closes_and_the_transport_goes_on(
    way: Way, secure: bool, authority: trustme.CA
) -> None:
    submitted: list[str] = []
    options = {"ssl_context": trusting(authority)}
    with Scripted(patient(submitted, tls_server(authority) if secure else None)) as server:
        url = server.url.replace("http://127.0.0.1", "https://localhost") if secure else server.url
        nth = 1
        while asked_and_cancelled(way, url, nth, submitted, **options):
            nth += 1
    assert nth > 5
    assert all(submitted.count(question) == 1 for question in set(submitted) - {"again", "a session"})


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

    async def leave(transport: AsyncioTransport, number: int) -> None:
        with anyio.CancelScope() as scope:
            async with transport.ask("Hi") as reply:
                await CancelledAt(anext(reply), number % 13, scope.cancel)

    with serve(lambda _: "abc") as server:
        way.run(main)


def test_a_timeout_of_asyncio_closes_and_comes_out() -> None:
    async def main() -> None:
        async with OWN.opened(server.url, session=Session()) as transport:
            reply = transport.ask("Hi")
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(follow(reply), 0.1)
            assert reply._response is None
            assert events == [Live("a")]

    async def follow(reply: Any) -> None:
        async with asyncio.timeout(PATIENCE):
            async for event in reply:
                events.append(event)

    events: list[Any] = []

    def play(peer: Peer) -> None:
        peer.read()
        peer.send(STREAM, live("a"))
        assert peer.is_left()

    with Scripted(play) as server:
        OWN.run(main)


def test_in_a_task_group_the_failure_of_one_closes_the_others() -> None:
    async def main() -> None:
        async with OWN.opened(server.url, session=Session()) as transport:
            with pytest.raises(ExceptionGroup):
                await all_of(transport)
            assert not transport._replies

    async def all_of(transport: AsyncioTransport) -> None:
        async with asyncio.TaskGroup() as group:
            for _ in range(5):
                group.create_task(follow(transport))
            await wait_for(asked)
            raise ValueError("something else")

    async def follow(transport: AsyncioTransport) -> None:
        async with transport.ask("Hi") as reply:
            async for _ in reply:
                pass

    asked = threading.Event()

    def play(peer: Peer) -> None:
        peer.read()
        asked.set()
        assert peer.is_left()

    def quiet(peer: Peer) -> None:
        with suppress(OSError):
            play(peer)

    with Scripted(quiet) as server:
        OWN.run(main)


@loops
def test_closing_closes_also_when_cancelled(way: Way) -> None:
    async def main() -> None:
        transport = AsyncioTransport(server.url, session=Session())
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


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@ways
def test_tls_from_session_to_end(way: Way, authority: trustme.CA) -> None:
    with Scripted(tells("Hel", "lo"), tls=tls_server(authority)) as server:
        assert way.ask(server.url, ssl_context=trusting(authority))[-1].reply == "Hello"
    assert (server.routes, server.connections) == (["start_session", "submit"], 1)


@ways
def test_a_certificate_that_nobody_vouches_for(way: Way, authority: trustme.CA) -> None:
    with Scripted(tells("a"), tls=tls_server(authority)) as server:
        [broken] = way.ask(server.url, ssl_context=ssl.create_default_context())
    assert broken.reason is Reason.LOST
    assert "the certificate of localhost is not trusted: " in broken.detail
    assert server.requests == []


def test_a_certificate_for_another_name(authority: trustme.CA) -> None:
    with Scripted(tells("a"), tls=tls_server(authority, "other.example")) as server:
        [broken] = OWN.ask(server.url, ssl_context=trusting(authority))
    assert broken.reason is Reason.LOST
    assert "not trusted: Hostname mismatch" in broken.detail
    assert server.requests == []


@loops
def test_a_server_without_tls(way: Way, authority: trustme.CA) -> None:
    def play(peer: Peer) -> None:
        peer.send(b"HTTP/1.1 400 What is this?\r\n\r\n")
        assert peer.is_left()

    with Scripted(play) as server:
        [broken] = way.ask(server.url.replace("http:", "https:"), ssl_context=trusting(authority))
    assert broken.reason is Reason.LOST
    assert "TLS with 127.0.0.1 failed: " in broken.detail


@loops
def test_a_cut_without_close_notify_before_the_end_is_truncated(way: Way, authority: trustme.CA) -> None:
    body = b"HTTP/1.1 200 OK\r\n\r\n" + b'data: {"type":"live","data":"a"}\n\n'
    with Scripted(without_close_notify(body), tls=tls_server(authority)) as server:
        events = way.ask(server.url, ssl_context=trusting(authority))
    assert [type(event) for event in events] == [Live, Broken]
    assert events[-1].reason is Reason.TRUNCATED


@loops
def test_a_cut_without_close_notify_after_the_end_does_no_harm(way: Way, authority: trustme.CA) -> None:
    with Scripted(without_close_notify(STREAM, end("a")), tls=tls_server(authority)) as server:
        assert way.ask(server.url, ssl_context=trusting(authority))[-1].reply == "a"
