"""`HttpxTransport` abandoned, closed and cancelled: nothing is left open."""

import asyncio
import threading
from collections.abc import AsyncIterator
from typing import Any

import anyio
import anyio.lowlevel
import anyio.to_thread
import httpx
import pytest
import trio
import trustme

from opchat_proto import Broken, Call, End, HTTPCall, Live, Reason, Session
from opchat_transports import asyncio_httpx
from opchat_transports.asyncio_httpx import HttpxTransport
from opchat_transports.blocking_server import serve
from opchat_transports.testing import FaultServer

from .asking import CancelledAt
from .on_httpx import OWN, Way, read, ways
from .peer import PATIENCE, Peer, plays
from .tls import tls_server, trusting
from .wire import LAST, STREAM, chunk, end, live, serves

pytestmark = pytest.mark.usefixtures("asyncio_is_silent")


async def wait_for(happened: threading.Event) -> None:
    assert await anyio.to_thread.run_sync(happened.wait, PATIENCE)


@ways
@pytest.mark.parametrize("pieces", [[live("a")], [live("a"), chunk(b":"), chunk(b"\n") * 5000]], ids=["", "more"])
def test_leaving_early_closes_the_connection_at_once(way: Way, pieces: list[bytes]) -> None:
    left = threading.Event()

    @plays
    def play(peer: Peer) -> None:
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

    with FaultServer(play) as server:
        way.run(main)


@ways
def test_a_reply_closes_at_once_after_its_last_event_even_if_its_body_continues(
    way: Way, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asyncio_httpx, "_REST_WITHIN", 10 * PATIENCE)
    left = threading.Semaphore(0)

    @plays
    def play(peer: Peer) -> None:
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

    with FaultServer(play) as server:
        way.run(main)


def test_a_body_that_never_waits_can_be_left() -> None:
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

    @plays
    def play(peer: Peer) -> None:
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

    with FaultServer(play) as server:
        way.run(main)


async def cut_at(way: Way, nth: int, work: Any) -> bool:
    """Cancel it natively at its nth wait. Returns whether it got that far."""
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
            await follow()  # the events that had arrived, and the last one
            assert [type(event) for event in events[:-1]] == [Live] * (len(events) - 1)
            assert isinstance(events[-1], Broken | End)
            assert (await read(transport, "again"))[-1].reply == "Hello"
            return True

    async def main() -> int:
        nth = 1
        while await cut(nth):
            nth += 1
        return nth

    with FaultServer(
        serves(STREAM, live("Hel"), live("lo"), end("Hello"), LAST),
        ssl_context=tls_server(authority) if secure else None,
    ) as server:
        url = server.url.replace("http://127.0.0.1", "https://localhost") if secure else server.url
        assert way.run(main) > 5
    assert server.repeated == ()


@ways
def test_hundreds_of_cancelled_streams_leave_nothing_behind(way: Way) -> None:
    async def main() -> None:
        async with way.opened(server.url) as transport:
            await read(transport)
            async with anyio.create_task_group() as group:
                for number in range(90):  # more than a client's hundred connections
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
def test_closing_completes_even_when_cancelled(way: Way) -> None:
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

    @plays
    def play(peer: Peer) -> None:
        peer.send(STREAM, live("a"))
        assert peer.is_left()

    with FaultServer(play) as server:
        way.run(main)
