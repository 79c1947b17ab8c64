"""The connections under `AsyncioTransport`'s own client: which are kept, which are replaced, and how one is made."""

import asyncio
import gc
import socket
import ssl
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import suppress
from typing import Any

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest
import trio
import trustme

from opchat_proto import Broken, End, Event, Live, Reason, Session
from opchat_transports import Timeouts, _httpx_transport
from opchat_transports._common import RanOut
from opchat_transports.asyncio_httpx import AsyncioTransport

from .scripted import LAST, PATIENCE, SESSION, STREAM, Peer, Scripted, end, live
from .test_blocking import STALE, full_port, linux, tls_server, trusting

__all__ = ["full_port"]  # a fixture

HELLO = STREAM + live("a") + end("a") + LAST
Main = Callable[[], Coroutine[Any, Any, Any]]


@pytest.fixture(params=[asyncio.run, trio.run], ids=["asyncio", "trio"])
def run(request: pytest.FixtureRequest) -> Callable[[Main], Any]:
    if request.param is trio.run:
        return lambda main: trio.run(main)
    return lambda main: asyncio.run(main())


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    yield
    gc.collect()  # what was not closed is a ResourceWarning, which is an error


async def read(transport: AsyncioTransport) -> list[Any]:
    async with transport.ask("Hi") as reply:
        return [event async for event in reply]


async def wait_for(happened: threading.Event) -> None:
    assert await anyio.to_thread.run_sync(happened.wait, PATIENCE)


def answers_all(peer: Peer) -> None:
    with suppress(ConnectionError):
        while True:
            peer.read()
            peer.send(HELLO)


# ------------------------------------------------------------------------------------------------ reading


def test_the_loop_is_not_told_for_each_read_to_watch_the_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    was_read = threading.Semaphore(0)
    told: list[object] = []

    def play(peer: Peer) -> None:
        peer.read()
        peer.send(STREAM)
        for _ in range(20):
            peer.send(live("a"))
            assert was_read.acquire(timeout=PATIENCE)
        peer.send(end("a"), LAST)

    async def main() -> None:
        loop = asyncio.get_running_loop()
        watch = loop.add_reader

        def add_reader(opened: Any, call: Callable[..., object], *arguments: object) -> Any:
            told.append(opened)
            return watch(opened, call, *arguments)

        monkeypatch.setattr(loop, "add_reader", add_reader)
        async with AsyncioTransport(server.url, session=Session()) as transport, transport.ask("Hi") as reply:
            async for _ in reply:
                was_read.release()

    with Scripted(play) as server:
        asyncio.run(main())
    assert 0 < len(told) < 5


def test_what_nobody_reads_does_not_keep_the_loop_busy(monkeypatch: pytest.MonkeyPatch) -> None:
    all_sent = threading.Event()
    calls: list[None] = []
    readable = _httpx_transport._LoopReader._readable

    def count(reader: Any) -> None:
        calls.append(None)
        readable(reader)

    def play(peer: Peer) -> None:
        peer.read()
        peer.send(STREAM, live("a"))
        for _ in range(20):
            peer.send(live("a"))
        all_sent.set()
        peer.send(end("a"), LAST)

    async def main() -> None:
        async with AsyncioTransport(server.url, session=Session()) as transport, transport.ask("Hi") as reply:
            await anext(reply)
            before = len(calls)
            await wait_for(all_sent)
            for _ in range(100):
                await anyio.lowlevel.checkpoint()
            assert len(calls) - before <= 1
            assert len([event async for event in reply]) == 21

    monkeypatch.setattr(_httpx_transport._LoopReader, "_readable", count)
    with Scripted(play) as server:
        asyncio.run(main())


def test_a_read_that_is_interrupted_before_it_waits_does_not_wait(run: Callable[[Main], Any]) -> None:
    async def main() -> None:
        opened = _httpx_transport._Socket(socket.AF_INET, socket.SOCK_STREAM, 0)
        try:
            await opened.connect(listener.getsockname())
            opened.reader.interrupt()
            with anyio.fail_after(PATIENCE), pytest.raises(RanOut):
                await opened.receive()
        finally:
            opened.close()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        run(main)


def test_a_reply_that_is_forgotten_leaves_the_server(run: Callable[[Main], Any]) -> None:
    was_left = threading.Event()

    def play(peer: Peer) -> None:
        peer.read()
        peer.send(STREAM, live("a"))
        if peer.is_left():
            was_left.set()

    async def read_and_forget(transport: AsyncioTransport) -> Event:
        event = await anext(transport.ask("Hi"))
        gc.collect()
        return event

    async def main() -> None:
        async with AsyncioTransport(server.url, session=Session()) as transport:
            with pytest.warns(ResourceWarning, match="unclosed <socket"):
                assert await read_and_forget(transport) == Live("a")
            await wait_for(was_left)

    with Scripted(play) as server:
        run(main)


# ------------------------------------------------------------------------------------------------ kept connections


def test_a_connection_serves_question_after_question(run: Callable[[Main], Any]) -> None:
    async def main() -> None:
        async with AsyncioTransport(server.url, session=Session()) as transport:
            for _ in range(5):
                assert (await read(transport))[-1].reply == "a"

    with Scripted(answers_all) as server:
        run(main)
    assert server.connections == 1


def test_a_connection_is_kept_for_so_long(run: Callable[[Main], Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_httpx_transport, "_KEPT", 0.0)

    async def main() -> None:
        async with AsyncioTransport(server.url, session=Session()) as transport:
            for _ in range(2):
                assert (await read(transport))[-1].reply == "a"

    with Scripted(answers_all) as server:
        run(main)
    assert server.connections == 2


def test_so_many_connections_are_kept(run: Callable[[Main], Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_httpx_transport, "_KEPT_MOST", 2)
    left: list[bool] = []
    are_left = threading.Event()

    def play(peer: Peer) -> None:
        answers_all(peer)
        left.append(True)
        if len(left) == 3:
            are_left.set()

    async def main() -> None:
        async with AsyncioTransport(server.url, session=Session()) as transport:
            replies = [transport.ask("Hi") for _ in range(5)]
            for reply in replies:
                await anext(reply)  # so that each has a connection
            for reply in replies:
                assert [type(event) async for event in reply] == [End]
            await wait_for(are_left)
            for _ in range(3):
                assert (await read(transport))[-1].reply == "a"

    with Scripted(play) as server:
        run(main)
    assert server.connections == 5


@pytest.mark.parametrize("said", [b"", b"H", HELLO], ids=["the end", "a byte", "an answer"])
def test_what_comes_unasked_answers_nothing(run: Callable[[Main], Any], said: bytes) -> None:
    is_idle, is_said = threading.Event(), threading.Event()

    def play(peer: Peer) -> None:
        peer.read()
        peer.send(HELLO.replace(b'"a"', b'"first"'))
        assert is_idle.wait(PATIENCE)
        if said:
            peer.send(said)
        else:
            peer.socket.shutdown(socket.SHUT_WR)
        is_said.set()
        assert peer.is_left()

    async def main() -> None:
        async with AsyncioTransport(server.url, session=Session()) as transport:
            await read(transport)
            is_idle.set()
            await wait_for(is_said)
            assert (await read(transport))[-1].reply == "a"

    with Scripted(play, answers_all) as server:
        run(main)
    assert (server.routes, server.connections) == (["submit", "submit"], 2)


def test_what_follows_an_answer_is_no_other(run: Callable[[Main], Any]) -> None:
    def play(peer: Peer) -> None:
        peer.read()
        peer.send(HELLO + HELLO)
        assert peer.is_left()

    async def main() -> None:
        async with AsyncioTransport(server.url, session=Session()) as transport:
            for _ in range(2):
                assert (await read(transport))[-1].reply == "a"

    with Scripted(play, answers_all) as server:
        run(main)
    assert server.connections == 2


@pytest.mark.parametrize("said", ["an answer", "the end"])
def test_what_tls_holds_from_before_answers_nothing(run: Callable[[Main], Any], said: str) -> None:
    """It came in one packet with the answer before, so that nothing is left in the socket."""
    authority = trustme.CA()

    def play(peer: Peer) -> None:
        assert isinstance(peer.socket, ssl.SSLSocket)
        peer.read()
        peer.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 1)
        peer.send(HELLO)
        if said == "an answer":
            peer.send(HELLO.replace(b'"a"', b'"forged"'))
        else:
            peer.socket.settimeout(0)
            with suppress(ssl.SSLWantReadError):
                peer.socket.unwrap()  # says farewell, and does not wait for the client's
        peer.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 0)
        peer.socket.settimeout(PATIENCE)
        with suppress(OSError):
            assert peer.socket.recv(1) == b""

    async def main() -> None:
        async with AsyncioTransport(
            server.url, session=Session(), ssl_context=trusting(authority), proxy=None
        ) as transport:
            for _ in range(2):
                assert (await read(transport))[-1].reply == "a"

    with Scripted(play, answers_all, tls=tls_server(authority)) as server:
        run(main)
    assert (server.routes, server.connections) == (["submit", "submit"], 2)


def test_a_session_is_asked_for_again_where_a_kept_connection_has_swallowed_that(run: Callable[[Main], Any]) -> None:
    def play(peer: Peer) -> None:
        peer.read()
        peer.send(STALE)
        peer.read()  # and hangs up

    def again(peer: Peer) -> None:
        peer.read()
        peer.send(SESSION)
        answers_all(peer)

    async def main() -> None:
        async with AsyncioTransport(server.url, session=Session("0000000000")) as transport:
            assert (await read(transport))[-1].reply == "a"

    with Scripted(play, again) as server:
        run(main)
    assert server.routes == ["submit", "start_session", "start_session", "submit"]


def test_a_question_is_not(run: Callable[[Main], Any]) -> None:
    def play(peer: Peer) -> None:
        peer.read()
        peer.send(SESSION)
        peer.read()  # and hangs up

    async def main() -> None:
        async with AsyncioTransport(server.url) as transport:
            assert await read(transport) == [
                Broken(Reason.LOST, "the connection was closed before any answer; not repeated")
            ]

    with Scripted(play, answers_all) as server:
        run(main)
    assert (server.routes, server.connections) == (["start_session", "submit"], 1)


def test_the_transport_goes_on_in_another_loop() -> None:
    with Scripted(answers_all) as server:
        transport = AsyncioTransport(server.url, session=Session())
        for _ in range(2):
            assert asyncio.run(read(transport))[-1].reply == "a"
        assert trio.run(read, transport)[-1].reply == "a"
        asyncio.run(transport.aclose())


# ------------------------------------------------------------------------------------------------ a new connection


def leads_to(monkeypatch: pytest.MonkeyPatch, *ports: int) -> None:
    """Let a name have an address for each of these ports."""

    async def look_up(host: str, port: int, **options: Any) -> Any:
        assert host == "site.example"
        return [(socket.AF_INET, socket.SOCK_STREAM, 0, "", ("127.0.0.1", port)) for port in ports]

    monkeypatch.setattr(anyio, "getaddrinfo", look_up)


def ask_by_name(run: Callable[[Main], Any], **options: Any) -> list[Any]:
    async def main() -> list[Any]:
        async with AsyncioTransport("http://site.example", session=Session(), **options) as transport:
            return await read(transport)

    events: list[Any] = run(main)
    return events


def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
    return port


def test_an_address_that_refuses_is_followed_by_the_next(
    run: Callable[[Main], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    with Scripted(answers_all) as server:
        leads_to(monkeypatch, closed_port(), server.port, closed_port())
        assert ask_by_name(run)[-1].reply == "a"
    assert server.connections == 1


@linux
def test_an_address_that_is_silent_does_not_hold_up_the_next(
    run: Callable[[Main], Any], monkeypatch: pytest.MonkeyPatch, full_port: int
) -> None:
    with Scripted(answers_all) as server:
        leads_to(monkeypatch, full_port, server.port)
        assert ask_by_name(run, timeouts=Timeouts(connect=PATIENCE))[-1].reply == "a"
    assert server.connections == 1


def test_where_all_refuse_nobody_is_reached(run: Callable[[Main], Any], monkeypatch: pytest.MonkeyPatch) -> None:
    leads_to(monkeypatch, closed_port(), closed_port())
    assert ask_by_name(run) == [Broken(Reason.LOST, "could not connect to site.example:80: Connection refused")]


def test_a_family_that_the_machine_does_not_have_is_passed_over(
    run: Callable[[Main], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def look_up(host: str, port: int, **options: Any) -> Any:
        there = (socket.AF_INET, socket.SOCK_STREAM, 0, "", ("127.0.0.1", server.port))
        return [(-1, socket.SOCK_STREAM, 0, "", ("nowhere", 1)), there]

    monkeypatch.setattr(anyio, "getaddrinfo", look_up)
    with Scripted(answers_all) as server:
        assert ask_by_name(run)[-1].reply == "a"
