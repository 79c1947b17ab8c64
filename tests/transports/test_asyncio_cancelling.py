"""`AsyncioTransport` cancelled, abandoned and closed: nothing is left open."""

import asyncio
import gc
import threading
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any

import pytest
import trustme

from opchat_proto import Broken, Call, DataReceived, End, HTTPCall, Live, Reason, Session
from opchat_transports.asyncio_streams import AsyncioTransport
from opchat_transports.blocking_server import serve
from opchat_transports.testing import FaultServer

from .asking import CancelledAt, full_queue, linux
from .on_asyncio import Run, read, secured, wait_for
from .peer import PATIENCE, Peer, plays, takes
from .tls import tls_server, trusting
from .wire import LAST, STREAM, answers, end, live

pytestmark = pytest.mark.usefixtures("asyncio_is_silent")


# ------------------------------------------------------------------------------ cancelling


async def turns_later(count: int, then: Callable[[], object]) -> None:
    for _ in range(count):
        await asyncio.sleep(0)  # one turn of the loop
    then()


async def cut_at(what: str, nth: int, work: Coroutine[Any, Any, None]) -> bool:
    """Cancel it at its nth wait, or at the nth turn of the loop. Returns whether it got that far."""
    task: asyncio.Task[Any]

    async def run() -> None:
        await CancelledAt(work, nth, lambda: task.cancel())

    if what == "await":
        task = asyncio.create_task(run())
    else:
        task = asyncio.create_task(work)
        await turns_later(nth, task.cancel)
    await asyncio.wait([task])
    if not task.cancelled():
        task.result()
    return task.cancelled()


@linux
@secured
@pytest.mark.parametrize("what", ["await", "turn"])
@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"], ids=["two addresses", "one address"])
def test_cancelled_at_any_time_it_leaves_nothing_open_and_the_transport_goes_on(
    run: Run, host: str, what: str, secure: bool, authority: trustme.CA
) -> None:
    trust = trusting(authority)

    async def cut(nth: int) -> bool:
        events: list[Any] = []

        async def follow() -> None:
            async for event in reply:
                events.append(event)

        async with AsyncioTransport(url, ssl_context=trust) as transport:
            reply = transport.ask(f"question {nth}")
            if not await cut_at(what, nth, follow()):
                assert [type(event) for event in events] == [Live, Live, End]
                return False
            assert reply._stream is None
            await follow()  # the events that had arrived, and the last one
            assert [type(event) for event in events[:-1]] == [Live] * (len(events) - 1)
            assert isinstance(events[-1], Broken | End)
            return True

    async def main() -> int:
        nth = 1
        while await cut(nth):
            # There are many turns; most pass while it waits for the server.
            nth += 1 if what == "await" or nth < 60 else nth // 6
        return nth

    with FaultServer(
        answers(STREAM, live("Hel"), live("lo"), end("Hello"), LAST),
        ssl_context=tls_server(authority, host) if secure else None,
    ) as server:
        # Of the name's two addresses the first one refuses.
        url = f"http{'s' if secure else ''}://{host}:{server.port}"
        assert run(main) > 5
    assert server.repeated == ()


def test_hundreds_of_cancelled_streams_leave_nothing_behind(run: Run) -> None:
    async def main() -> None:
        async with AsyncioTransport(server.url) as transport:
            await read(transport)
            async with asyncio.TaskGroup() as group:
                for number in range(200):
                    group.create_task(leave(transport, number))
            assert not transport._replies
            assert (await read(transport))[-1].reply == "abc"

    async def leave(transport: AsyncioTransport, number: int) -> None:
        async def follow() -> None:
            async with transport.ask("Hi") as reply:
                await anext(reply)

        await cut_at("await", number % 13, follow())

    with serve(lambda _: "abc") as server:
        run(main)


def test_asyncio_timeout_closes_the_connection_and_propagates(run: Run) -> None:
    async def main() -> None:
        async with AsyncioTransport(server.url, session=Session()) as transport:
            reply = transport.ask("Hi")
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(follow(reply), 0.1)
            assert reply._stream is None
            assert events == [Live("a")]

    async def follow(reply: Any) -> None:
        async with asyncio.timeout(PATIENCE):
            async for event in reply:
                events.append(event)

    events: list[Any] = []

    @plays
    def play(peer: Peer) -> None:
        peer.send(STREAM, live("a"))
        assert peer.is_left()

    with FaultServer(play) as server:
        run(main)


def test_in_a_task_group_one_failure_closes_the_other_replies(run: Run) -> None:
    async def main() -> None:
        async with AsyncioTransport(server.url, session=Session()) as transport:
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

    @plays
    def play(peer: Peer) -> None:
        with suppress(OSError):
            asked.set()
            assert peer.is_left()

    with FaultServer(play) as server:
        run(main)


# ------------------------------------------------------------------------------ leaving


@secured
def test_leaving_early_closes_the_connection_at_once(run: Run, secure: bool, authority: trustme.CA) -> None:
    left = threading.Event()

    @plays
    def play(peer: Peer) -> None:
        peer.send(STREAM, live("a"))
        assert peer.is_left()
        left.set()

    async def main() -> None:
        options: dict[str, Any] = {"session": Session(), "ssl_context": trusting(authority)}
        async with AsyncioTransport(server.url, **options) as transport:
            async with transport.ask("Hi") as reply:
                async for _ in reply:
                    break
            assert left.wait(PATIENCE)  # without letting any task run
            await reply.aclose()

    with FaultServer(play, ssl_context=tls_server(authority) if secure else None) as server:
        run(main)


@secured
@pytest.mark.parametrize("sent", [b"", STREAM, STREAM + live("a")], ids=["nothing", "head", "event"])
def test_closing_the_transport_ends_a_waiting_read(run: Run, sent: bytes, secure: bool, authority: trustme.CA) -> None:
    asked = threading.Event()

    @plays
    def play(peer: Peer) -> None:
        peer.send(sent)
        asked.set()
        assert peer.is_left()

    async def main() -> None:
        events: list[Any] = []
        has_come = asyncio.Event()

        def observe(call: Call | HTTPCall, item: object) -> None:
            if isinstance(item, DataReceived):
                has_come.set()

        async def follow() -> None:
            async for event in reply:
                events.append(event)

        options: dict[str, Any] = {"session": Session(), "ssl_context": trusting(authority), "observer": observe}
        async with AsyncioTransport(server.url, **options) as transport:
            reply = transport.ask("Hi")
            task = asyncio.create_task(follow())
            await (has_come.wait() if sent else wait_for(asked))
            with pytest.raises(RuntimeError, match="another task"):
                await anext(reply)
            await transport.aclose()
            await asyncio.wait_for(task, PATIENCE)
            reason = Reason.TRUNCATED if sent else Reason.LOST
            assert events == [*[Live("a")] * (b"live" in sent), Broken(reason, "closed by the caller", asked=True)]
            await transport.aclose()
            with pytest.raises(RuntimeError, match="closed"):
                transport.ask("Hi")

    with FaultServer(play, ssl_context=tls_server(authority) if secure else None) as server:
        run(main)


@linux
@pytest.mark.parametrize("scheme", ["http", "https"], ids=["connect", "handshake"])
def test_closing_the_transport_ends_a_connect_and_a_wait_for_the_session(run: Run, scheme: str) -> None:
    async def main(port: int) -> None:
        async def follow() -> None:
            events.extend([event async for event in transport.ask("Hi")])

        events: list[Any] = []
        transport = AsyncioTransport(f"{scheme}://127.0.0.1:{port}")
        tasks = [asyncio.create_task(follow()) for _ in range(5)]
        if scheme == "https":
            await wait_for(connected)
        await turns_later(20, lambda: None)
        await transport.aclose()
        await asyncio.wait(tasks, timeout=PATIENCE)
        assert events == [Broken(Reason.LOST, "closed by the caller", in_session=True)] * 5

    connected = threading.Event()

    @takes
    def play(peer: Peer) -> None:
        connected.set()
        assert peer.is_left()

    with full_queue() as port, FaultServer(play) as server:
        run(lambda: main(port if scheme == "http" else server.port))


def test_closing_completes_even_when_cancelled(run: Run) -> None:
    async def main() -> None:
        transport = AsyncioTransport(server.url, session=Session())
        replies = [transport.ask("Hi") for _ in range(3)]
        for reply in replies:
            await anext(reply)
        assert await cut_at("await", 1, leave(replies[0]))
        assert await cut_at("await", 1, transport.aclose())
        assert [reply._stream for reply in replies] == [None] * 3

    async def leave(reply: Any) -> None:
        async with reply:
            pass

    @plays
    def play(peer: Peer) -> None:
        peer.send(STREAM, live("a"))
        assert peer.is_left()

    with FaultServer(play) as server:
        run(main)


def test_a_garbage_collected_reply_closes_its_connection(run: Run) -> None:
    was_left = threading.Event()

    @plays
    def play(peer: Peer) -> None:
        peer.send(STREAM, live("a"))
        if peer.is_left():
            was_left.set()

    async def main() -> None:
        async with AsyncioTransport(server.url, session=Session()) as transport:
            with pytest.warns(ResourceWarning, match="unclosed"):
                await read_and_forget(transport)
            await wait_for(was_left)

    async def read_and_forget(transport: AsyncioTransport) -> None:
        assert await anext(transport.ask("Hi")) == Live("a")
        gc.collect()

    with FaultServer(play) as server:
        run(main)
