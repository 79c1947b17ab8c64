"""What is particular to `AsyncioTransport`: its streams, on asyncio's loop and on uvloop's."""

import asyncio
import gc
import itertools
import socket
import threading
from contextlib import ExitStack, suppress
from typing import Any

import pytest
import trustme

from opchat_proto import Broken, Endpoint, Limits, Live, Reason, Session
from opchat_transports import Timeouts
from opchat_transports.asyncio_streams import AsyncioTransport
from opchat_transports.testing import ANSWER, FaultServer, reset

from .asking import linux
from .on_asyncio import Run, read, secured, wait_for
from .peer import PATIENCE, Peer, plays, refusing_port, takes
from .tls import tls_server, trusting, without_close_notify
from .wire import LAST, STREAM, answers, end, live, tells

pytestmark = pytest.mark.usefixtures("asyncio_is_silent")


def ask(run: Run, url: str | Endpoint, question: Any = "Hi", **options: Any) -> list[Any]:
    async def main() -> list[Any]:
        async with AsyncioTransport(url, **options) as transport:
            return await read(transport, question)

    events: list[Any] = run(main)
    return events


# ------------------------------------------------------------------------------ connecting


def ask_by_name(run: Run, port: int, *addresses: str, **options: Any) -> list[Any]:
    """Ask a site whose name resolves to these addresses."""

    async def look_up(host: Any, port: int, **options: Any) -> Any:
        assert host == "site.example"
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in addresses]

    async def main() -> list[Any]:
        loop: Any = asyncio.get_running_loop()
        loop.getaddrinfo = look_up
        async with AsyncioTransport(f"http://site.example:{port}", session=Session(), **options) as transport:
            return await read(transport)

    events: list[Any] = run(main)
    return events


@linux
def test_after_a_refusing_address_the_next_one_is_tried(run: Run) -> None:
    with FaultServer(tells("a")) as server:
        assert ask_by_name(run, server.port, "127.0.0.2", "127.0.0.1", "127.0.0.3")[-1].reply == "a"
    assert len(server.visits) == 1


@linux
def test_a_silent_address_does_not_delay_the_next_one(run: Run) -> None:
    with (
        FaultServer(tells("a")) as server,
        socket.create_server(("127.0.0.2", server.port), backlog=0) as silent,
        ExitStack() as waiting,
    ):
        for _ in range(8):  # so that its backlog is full
            connection = waiting.enter_context(socket.socket())
            connection.setblocking(False)
            connection.connect_ex(silent.getsockname())
        timeouts = Timeouts(connect=PATIENCE)
        assert ask_by_name(run, server.port, "127.0.0.2", "127.0.0.1", timeouts=timeouts)[-1].reply == "a"
    assert len(server.visits) == 1


@linux
def test_the_connection_fails_if_all_addresses_refuse(run: Run) -> None:
    with refusing_port() as port:
        events = ask_by_name(run, port, "127.0.0.1", "127.0.0.2")
    assert events == [Broken(Reason.LOST, f"could not connect to site.example:{port}: Connection refused")]


# ------------------------------------------------------------------------------ faults


@secured
def test_data_that_arrived_before_a_reset_is_read(run: Run, secure: bool, authority: trustme.CA) -> None:
    was_reset = threading.Event()

    @plays
    def play(peer: Peer) -> None:
        peer.send(STREAM, live("a"))
        assert got.wait(PATIENCE)
        peer.send(live("b"))
        peer.reset()
        was_reset.set()

    async def main() -> list[Any]:
        options: dict[str, Any] = {"session": Session(), "ssl_context": trusting(authority)}
        async with AsyncioTransport(server.url, **options) as transport, transport.ask("Hi") as reply:
            first = await anext(reply)
            got.set()
            await wait_for(was_reset)
            return [first, *[event async for event in reply]]

    got = threading.Event()
    with FaultServer(play, ssl_context=tls_server(authority) if secure else None) as server:
        events = run(main)
    assert events[:-1] == [Live("a"), Live("b")]
    assert events[-1].reason is Reason.TRUNCATED


# ------------------------------------------------------------------------------ loops and tasks


@pytest.mark.parametrize("nth", range(1, 9))
def test_a_reset_is_not_logged_whenever_garbage_is_collected(run: Run, nth: int) -> None:
    """A collection before the connection's own future exists lets a later one delete the future before its owner."""

    async def main() -> list[Any]:
        loop: Any = asyncio.get_running_loop()
        create_future, count = loop.create_future, itertools.count(1)

        def collect_and_create() -> Any:
            if next(count) == nth:
                gc.collect(0)
            return create_future()

        loop.create_future = collect_and_create
        async with AsyncioTransport(server.url, session=Session()) as transport:
            return await read(transport)

    with FaultServer(reset(len(ANSWER) // 2)) as server:
        [*_, broken] = run(main)
    assert (broken.reason, broken.detail) == (Reason.TRUNCATED, "the connection failed: Connection reset by peer")


def test_the_events_of_one_read_are_returned_without_a_turn_of_the_loop(run: Run) -> None:
    """A read that has to wait lets other tasks run."""
    pieces = 20_000
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)  # one turn of the loop
            turns += 1

    async def main() -> int:
        async with AsyncioTransport(server.url, session=Session()) as transport, transport.ask("Hi") as reply:
            counting = asyncio.create_task(count())
            events = [event async for event in reply]
            counting.cancel()
            await asyncio.wait([counting])
            return len(events)

    with FaultServer(answers(STREAM, live("a") * pieces + end("") + LAST)) as server:
        assert run(main) == pieces + 1
    assert turns >= 4


def test_a_question_waits_while_the_server_does_not_read(run: Run) -> None:
    """The question exceeds the system's buffers. The server reads only after other tasks have run for a long time."""
    may_read = threading.Event()
    sizes: list[int] = []

    @takes
    def play(peer: Peer) -> None:
        assert may_read.wait(PATIENCE)
        sizes.append(len(peer.read()))
        peer.send(STREAM, end("Yes."), LAST)

    async def main() -> list[Any]:
        options: Any = {"session": Session(), "limits": Limits(request_bytes=2 * size)}
        async with AsyncioTransport(server.url, **options) as transport:
            asking = asyncio.create_task(read(transport, "x" * size))
            for _ in range(2000):
                await asyncio.sleep(0)  # one turn of the loop
            assert not asking.done()
            may_read.set()
            return await asking

    size = 20 * 1024 * 1024
    with FaultServer(play) as server:
        [last] = run(main)
    assert last.reply == "Yes."
    assert sizes[0] > size


# ------------------------------------------------------------------------------ TLS


def test_bytes_in_the_clear_before_tls_are_not_read_as_if_inside_it(run: Run, authority: trustme.CA) -> None:
    """The peer sends an answer in the clear, and then a valid handshake."""

    @takes
    def play(peer: Peer) -> None:
        peer.socket.sendall(STREAM + live("forged") + end("forged") + LAST)
        with suppress(OSError), tls_server(authority).wrap_socket(peer.socket, server_side=True) as secure:
            peer.socket = secure
            assert peer.is_left()

    with FaultServer(play) as server:
        url = server.url.replace("http://127.0.0.1", "https://localhost")
        [broken] = ask(run, url, session=Session(), ssl_context=trusting(authority))
    assert (broken.reason, broken.asked) == (Reason.LOST, False)
    assert broken.detail.startswith("TLS with localhost failed: ")


@pytest.mark.parametrize(
    "body", [b'data: {"type":"live","data":"a"}\n\n', b"<p>No.", b'{"success":'], ids=["stream", "page", "object"]
)
def test_a_cut_without_close_notify_before_the_end_is_truncated(run: Run, body: bytes, authority: trustme.CA) -> None:
    head = b"HTTP/1.1 200 OK\r\n\r\n"  # without a length, so the end of the connection ends it
    with FaultServer(without_close_notify(head + body), ssl_context=tls_server(authority)) as server:
        events = ask(run, server.url, ssl_context=trusting(authority))
    assert [type(event) for event in events] == [Live] * (b"live" in body) + [Broken]
    assert events[-1].reason is Reason.TRUNCATED
