"""Replies that are read slowly, abandoned or closed, and many at once."""

import socket
import threading
from collections.abc import Awaitable, Callable
from contextlib import suppress

import pytest

from opchat_proto import Broken, End, Event, Live, Reason, Session
from opchat_transports import AsyncReply, AsyncTransport
from opchat_transports.testing import FaultServer, Run

from .peer import PATIENCE, Peer, plays, takes
from .scenarios_answered import broken
from .serving import (
    BOTH,
    HELLO,
    SAID,
    STALE,
    STALE_SESSION,
    Way,
    ended,
    read,
    serving,
    stalls,
    without_details,
)
from .wire import LAST, SESSION, STREAM, answers, end, live, serves


async def each_piece_comes_before_the_next_is_sent(way: Way) -> None:
    seen = threading.Event()

    def wait(_: socket.socket) -> None:
        assert seen.wait(PATIENCE)

    script = (*answers(STREAM, live("first")), Run(wait), *answers(end("first"), LAST))
    with serving(script) as server:
        async with way.opened(server.url, session=Session()) as transport, transport.ask("Hi") as reply:
            assert await anext(reply) == Live("first")
            seen.set()
            assert [event async for event in reply] == [ended("first")]
            with pytest.raises(StopAsyncIteration):
                await anext(reply)


async def left_early(way: Way, leave: Callable[[AsyncTransport, AsyncReply], Awaitable[None]]) -> None:
    left = threading.Event()

    @plays
    def play(peer: Peer) -> None:
        peer.send(STREAM, live("a"), live("b"))
        assert peer.is_left()
        left.set()

    with serving(play, answers(HELLO)) as server:
        async with way.opened(server.url) as transport:
            await leave(transport, transport.ask("Hi"))
            assert left.wait(PATIENCE)  # no other task runs in between
            assert await read(transport) == SAID
    assert server.routes == (*BOTH, "submit")


async def left_by_break(way: Way) -> None:
    async def leave(_: AsyncTransport, reply: AsyncReply) -> None:
        async with reply:
            async for got in reply:
                assert got == Live("a")
                break

    await left_early(way, leave)


async def left_by_exception(way: Way) -> None:
    async def leave(_: AsyncTransport, reply: AsyncReply) -> None:
        async def fail() -> None:
            async with reply:
                async for _event in reply:
                    raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            await fail()

    await left_early(way, leave)


async def left_by_close(way: Way) -> None:
    async def leave(_: AsyncTransport, reply: AsyncReply) -> None:
        await anext(reply)
        await reply.aclose()
        await reply.aclose()  # harmless
        rest = [event async for event in reply]
        assert isinstance(rest[-1], Broken)
        assert rest[-1].reason is Reason.TRUNCATED
        assert all(isinstance(event, Live) for event in rest[:-1])
        with pytest.raises(StopAsyncIteration):
            await anext(reply)

    await left_early(way, leave)


async def closed_while_it_waits(way: Way) -> None:
    begun = threading.Event()

    with serving(stalls(STREAM, live("a"))) as server:
        async with way.opened(server.url) as transport:

            async def wait() -> list[Event]:
                async with transport.ask("Hi") as reply:
                    assert await anext(reply) == Live("a")
                    begun.set()
                    return [event async for event in reply]

            async def close() -> None:
                await way.wait_for(begun)
                await transport.aclose()

            events, _ = await way.together(wait, close)
            assert without_details(events) == [broken(Reason.TRUNCATED)]
            await transport.aclose()
            with pytest.raises(RuntimeError, match="closed"):
                transport.ask("Hi")
    assert server.routes == BOTH


async def closed_unread(way: Way) -> None:
    with serving(answers(HELLO)) as server:
        async with way.opened(server.url) as transport:
            reply = transport.ask("Hi")
            await reply.aclose()
            assert without_details([event async for event in reply]) == [Broken(Reason.LOST, in_session=True)]
            assert len(server.visits) == 0
            assert await read(transport) == SAID


async def a_slow_reader(way: Way) -> None:
    """Blocks the server: its bytes stay in TCP's buffers."""
    full = threading.Event()
    sent = 0
    pieces = 256
    data = memoryview(live("x" * 65536) * pieces)

    @plays
    def pour(peer: Peer) -> None:
        nonlocal sent
        peer.send(STREAM)
        peer.socket.settimeout(0.3)
        with suppress(TimeoutError):
            while sent < len(data):
                sent += peer.socket.send(data[sent : sent + 65536])
        held.append(sent)
        full.set()
        peer.socket.settimeout(PATIENCE)
        peer.send(bytes(data[sent:]), end(""), LAST)

    held: list[int] = []
    with serving(pour) as server:
        async with way.opened(server.url) as transport, transport.ask("Hi") as reply:
            await anext(reply)
            await way.wait_for(full)
            events = [event async for event in reply]
    assert held[0] < len(data) / 2
    assert [type(event) for event in events] == [Live] * (pieces - 1) + [End]


async def a_hundred_at_once(way: Way) -> None:
    with serving(serves(HELLO)) as server:
        async with way.opened(server.url) as transport:
            results = await way.together(*[lambda: read(transport)] * 100)
    assert results == [SAID] * 100
    assert sorted(server.routes) == ["start_session"] + ["submit"] * 100


async def a_hundred_at_once_with_an_expired_nonce(way: Way) -> None:
    requests: list[bytes] = []

    @takes
    def refuses_the_expired(peer: Peer) -> None:
        while True:
            requests.append(peer.read())
            is_expired = b"9876543210" in requests[-1]
            is_session = b"start_session" in requests[-1]
            peer.send(SESSION if is_session else STALE[403] if is_expired else HELLO)

    with FaultServer(refuses_the_expired) as server:
        async with way.opened(server.url, session=STALE_SESSION) as transport:
            results = await way.together(*[lambda: read(transport)] * 100)
    assert results == [SAID] * 100
    submits = [request for request in requests if b"start_session" not in request]
    assert len(requests) - len(submits) == 1
    assert len(set(submits)) == len(submits)
    # A call that starts after the session was renewed is not refused first.
    refused = sum(b"9876543210" in request for request in submits)
    assert 1 <= refused <= 100
    assert len(submits) - refused == 100


async def two_in_turns(way: Way) -> None:
    with serving(answers(HELLO)) as server:
        async with (
            way.opened(server.url, session=Session()) as transport,
            transport.ask("one") as one,
            transport.ask("two") as two,
        ):
            both = [(await anext(one), await anext(two)) for _ in SAID]
    assert both == [(event, event) for event in SAID]


async def one_after_the_other(way: Way) -> None:
    with serving(serves(HELLO)) as server:
        async with way.opened(server.url) as transport:
            assert transport.session is None
            for _ in range(3):
                assert await read(transport) == SAID
            assert transport.session == Session("0000000001", "64f1c0ffee123")
    assert server.routes == ("start_session", *["submit"] * 3)
