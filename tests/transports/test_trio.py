import socket
import threading
from collections.abc import Awaitable, Callable, Generator
from typing import Any

import pytest
import trio
import trio.lowlevel
import trio.testing
import trustme

from opchat_proto import Broken, Call, DataReceived, End, Endpoint, HTTPCall, Live, Reason, Receive, Session
from opchat_transports.blocking_server import serve
from opchat_transports.testing import FaultServer
from opchat_transports.trio_streams import TrioTransport

from .peer import PATIENCE, Peer, plays
from .tls import tls_server, trusting
from .wire import LAST, STREAM, answers, chunk, end, live

pytestmark = pytest.mark.usefixtures("nothing_is_left")


def ask(url: str | Endpoint, question: Any = "Hi", **options: Any) -> list[Any]:
    async def main() -> list[Any]:
        async with TrioTransport(url, **options) as transport, transport.ask(question) as reply:
            return [event async for event in reply]

    return trio.run(main)


async def read(transport: TrioTransport, question: Any = "Hi") -> list[Any]:
    async with transport.ask(question) as reply:
        return [event async for event in reply]


class Steps:
    """Await something, count its checkpoints, and cancel a scope at the nth one."""

    def __init__(self, work: Awaitable[Any], scope: trio.CancelScope | None = None, nth: int = 0) -> None:
        self.count = 0
        self._work = work
        self._scope = scope
        self._nth = nth

    def __await__(self) -> Generator[Any, Any, Any]:
        steps = self._work.__await__()
        resume: Callable[[Any], Any] = steps.send
        value: Any = None
        while True:
            try:
                yielded = resume(value)
            except StopIteration as stop:
                return stop.value
            self.count += 1
            if self._scope is not None and self.count == self._nth:
                self._scope.cancel()
            try:
                value = yield yielded
                resume = steps.send
            except BaseException as error:
                value = error
                resume = steps.throw


# ------------------------------------------------------------------------------------------------ clocks


class Site:
    """A transport whose connections are in memory, so that a `MockClock` controls time."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, pair: Any = trio.testing.memory_stream_pair) -> None:
        self.peers: list[trio.StapledStream[Any, Any]] = []
        self.taken = 0

        async def connect(host: str, port: int) -> Any:
            await trio.lowlevel.checkpoint()
            ours, peer = pair()
            self.peers.append(peer)
            receive_some = ours.receive_some

            async def counted(max_bytes: int | None = None) -> bytes:
                data: bytes = await receive_some(max_bytes)
                self.taken += len(data)
                return data

            ours.receive_some = counted
            return ours

        monkeypatch.setattr(trio, "open_tcp_stream", connect)

    async def answer(self, *pieces: bytes) -> None:
        """Read the request, which arrives at once, and send this."""
        await trio.testing.wait_all_tasks_blocked()
        await self.peers[-1].receive_some()
        for piece in pieces:
            await self.peers[-1].send_all(piece)


def mocked(main: Callable[[], Awaitable[Any]]) -> Any:
    """The outcome on a clock that jumps to the next deadline: sleeping takes no time."""
    return trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


def test_endless_comments_do_not_stop_the_idle_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    site = Site(monkeypatch)
    clock = trio.testing.MockClock()

    async def chatter() -> bytes:
        clock.jump(1)
        return chunk(b": keepalive\n\n")  # never lets others run

    async def main() -> None:
        async with TrioTransport("http://h", session=Session()) as transport, trio.open_nursery() as nursery:
            nursery.start_soon(site.answer, STREAM, live("a"))
            async with transport.ask("Hi") as reply:
                await anext(reply)
                monkeypatch.setattr(reply, "_read", chatter)
                assert [event.reason async for event in reply if isinstance(event, Broken)] == [Reason.TIMEOUT]
        assert clock.current_time() == pytest.approx(120, abs=2)

    trio.run(main, clock=clock)


def test_the_connect_clock_bounds_the_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    async def connect(host: str, port: int) -> Any:
        await trio.sleep_forever()

    monkeypatch.setattr(trio, "open_tcp_stream", connect)
    detail = "could not connect to h:80: no connection within 10 s (timeout 'connect'), after 0 events"
    expected = [Broken(Reason.TIMEOUT, detail, limit="connect")]
    assert mocked(lambda: read(TrioTransport("http://h", session=Session()))) == expected


def test_a_connection_made_as_its_clock_runs_out_is_used_and_the_next_step_has_its_own_clock(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    site = Site(monkeypatch)
    clock = trio.testing.MockClock()
    made = trio.Event()
    make: Callable[[str, int], Awaitable[Any]] = trio.open_tcp_stream

    async def connect(host: str, port: int) -> Any:
        stream = await make(host, port)
        await made.wait()
        return stream

    async def main() -> list[Any]:
        async with TrioTransport("http://h", session=Session()) as transport, trio.open_nursery() as nursery:
            events: list[Any] = []
            nursery.start_soon(follow, transport, events)
            await trio.testing.wait_all_tasks_blocked()
            clock.jump(10)  # the loop looks at clocks before it runs the task that this wakes
            made.set()
            nursery.start_soon(site.answer, STREAM + live("a") + end("a") + LAST)
        return events

    async def follow(transport: TrioTransport, events: list[Any]) -> None:
        events += await read(transport)

    monkeypatch.setattr(trio, "open_tcp_stream", connect)
    events = trio.run(main, clock=clock)
    assert events == [Live("a"), End("a", events[-1].raw)]


def test_the_connect_clock_bounds_the_handshake(monkeypatch: pytest.MonkeyPatch) -> None:
    Site(monkeypatch)
    detail = "TLS with h failed: no handshake within 10 s (timeout 'connect'), after 0 events"
    expected = [Broken(Reason.TIMEOUT, detail, limit="connect")]
    assert mocked(lambda: read(TrioTransport("https://h", session=Session()))) == expected


def test_the_write_clock_bounds_the_request(monkeypatch: pytest.MonkeyPatch) -> None:
    Site(monkeypatch, trio.testing.lockstep_stream_pair)
    detail = "the request could not be sent: not all of it was taken within 30 s (timeout 'write'), after 0 events"
    expected = [Broken(Reason.TIMEOUT, detail, limit="write", asked=True)]
    assert mocked(lambda: read(TrioTransport("http://h", session=Session()))) == expected


# ------------------------------------------------------------------------------------------------ checkpoints


def socket_pair() -> tuple[trio.SocketStream, trio.SocketStream]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        one = socket.create_connection(listener.getsockname())
        other, _ = listener.accept()
    return (
        trio.SocketStream(trio.socket.from_stdlib_socket(one)),
        trio.SocketStream(trio.socket.from_stdlib_socket(other)),
    )


def test_each_event_costs_one_checkpoint(monkeypatch: pytest.MonkeyPatch) -> None:
    site = Site(monkeypatch, socket_pair)

    async def main() -> None:
        async with TrioTransport("http://h", session=Session()) as transport, trio.open_nursery() as nursery:
            nursery.start_soon(site.answer, STREAM + live("a") + live("b") + live("c"))
            async with transport.ask("Hi") as reply:
                assert await anext(reply) == Live("a")
                for text in "bcde":
                    if text == "d":  # the earlier ones came with the first
                        await site.peers[0].send_all(live("d"))
                    if text == "e":
                        nursery.start_soon(site.peers[0].send_all, live("e"))
                    steps = Steps(anext(reply))
                    assert await steps == Live(text)
                    assert steps.count == 1
                await trio.testing.wait_all_tasks_blocked()
                await site.peers[0].send_all(end("abcde"))
                assert isinstance(await anext(reply), End)
                for _ in range(2):
                    with trio.testing.assert_checkpoints(), pytest.raises(StopAsyncIteration):
                        await anext(reply)
            await site.peers[0].aclose()
            closed = transport.ask("Hi")
            with trio.testing.assert_checkpoints():
                await closed.aclose()
            with trio.testing.assert_checkpoints():
                await anext(closed)

    trio.run(main)


def test_each_event_under_tls_is_a_checkpoint_even_if_one_read_brought_them_all(authority: trustme.CA) -> None:
    sent = threading.Event()

    @plays
    def play(peer: Peer) -> None:
        peer.send(STREAM, live("a"), live("b"), live("c"), end("abc"))  # a record each
        sent.set()

    def observe(_: Call | HTTPCall, item: object) -> None:
        if isinstance(item, Receive):
            assert sent.wait(PATIENCE)

    async def main() -> list[Any]:
        options: dict[str, Any] = {"session": Session(), "ssl_context": trusting(authority), "observer": observe}
        events: list[Any] = []
        async with TrioTransport(server.url, **options) as transport, transport.ask("Hi") as reply:
            while not events or isinstance(events[-1], Live):
                with trio.testing.assert_checkpoints():
                    events.append(await anext(reply))
        return events

    with FaultServer(play, ssl_context=tls_server(authority)) as server:
        events = trio.run(main)
    assert events == [Live("a"), Live("b"), Live("c"), End("abc", events[-1].raw)]


def test_a_cancelled_read_loses_no_event_that_had_arrived(monkeypatch: pytest.MonkeyPatch) -> None:
    site = Site(monkeypatch)

    async def main() -> None:
        async with TrioTransport("http://h", session=Session()) as transport, trio.open_nursery() as nursery:
            nursery.start_soon(site.answer, STREAM + live("a") + live("b") + end("ab"))
            async with transport.ask("Hi") as reply:
                assert await anext(reply) == Live("a")
                with trio.CancelScope() as scope:
                    scope.cancel()
                    await anext(reply)
                assert scope.cancelled_caught
                assert reply._stream is None
                rest = [event async for event in reply]
        assert rest == [Live("b"), End("ab", rest[-1].raw)]

    trio.run(main)


def test_it_reads_only_when_it_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    site = Site(monkeypatch)

    async def main() -> None:
        transport = TrioTransport("http://h", session=Session())
        async with trio.open_nursery() as nursery, transport.ask("Hi") as reply:
            await trio.testing.wait_all_tasks_blocked()
            assert site.peers == []
            nursery.start_soon(site.answer, STREAM, *[live("x" * 1000)] * 1000)
            await anext(reply)
            await trio.testing.wait_all_tasks_blocked()
            assert 0 < site.taken <= 64 * 1024

    trio.run(main)


def asked_and_cancelled(url: str, nth: int, **options: Any) -> bool:
    """Cancel a question at its nth wait, then ask again. Returns whether it got that far."""

    async def main() -> bool:
        async with TrioTransport(url, **options) as transport:
            reply = transport.ask(f"question {nth}")
            with trio.CancelScope() as scope:
                await Steps(read_all(reply), scope, nth)
                assert [type(event) for event in events] == [Live, Live, End]
                return False
            assert scope.cancelled_caught
            assert reply._stream is None
            await read_all(reply)  # the events that had arrived, and the last one
            assert [type(event) for event in events[:-1]] == [Live] * (len(events) - 1)
            assert isinstance(events[-1], Broken | End)
            assert (await read(transport, "again"))[-1].reply == "Hello"
            return True

    async def read_all(reply: Any) -> None:
        async for event in reply:
            events.append(event)

    events: list[Any] = []
    return trio.run(main)


@pytest.mark.parametrize("secure", [False, True], ids=["plain", "TLS"])
def test_cancelled_at_any_checkpoint_it_closes_and_the_transport_goes_on(secure: bool, authority: trustme.CA) -> None:
    options = {"ssl_context": trusting(authority)}
    with FaultServer(
        answers(STREAM, live("Hel"), live("lo"), end("Hello"), LAST),
        ssl_context=tls_server(authority) if secure else None,
    ) as server:
        url = server.url.replace("http://127.0.0.1", "https://localhost") if secure else server.url
        nth = 1
        while asked_and_cancelled(url, nth, **options):
            nth += 1
    assert nth > 10
    assert server.repeated == ()


def test_hundreds_of_cancelled_streams_leave_nothing_behind() -> None:
    async def main(url: str) -> None:
        async with TrioTransport(url) as transport:
            await read(transport)
            async with trio.open_nursery() as nursery:
                for number in range(300):
                    nursery.start_soon(leave, transport, number)
            assert not transport._replies
            assert (await read(transport))[-1].reply == "abc"

    async def leave(transport: TrioTransport, number: int) -> None:
        with trio.CancelScope() as scope:
            async with transport.ask("Hi") as reply:
                await Steps(anext(reply), scope, number % 7)

    with serve(lambda _: "abc") as server:
        trio.run(main, server.url)


# ------------------------------------------------------------------------------------------------ leaving


@pytest.mark.parametrize("sent", [b"", STREAM, STREAM + live("a")], ids=["nothing", "head", "event"])
@pytest.mark.parametrize("secure", [False, True], ids=["plain", "TLS"])
def test_closing_the_transport_ends_a_waiting_read(sent: bytes, secure: bool, authority: trustme.CA) -> None:
    waiting = threading.Event()

    @plays
    def play(peer: Peer) -> None:
        peer.send(sent)
        waiting.set()
        assert peer.is_left()

    async def main(url: str) -> None:
        events: list[Any] = []

        async def follow() -> None:
            events.extend([event async for event in reply])

        taken = 0

        def observe(_: Call | HTTPCall, item: object) -> None:
            nonlocal taken
            if isinstance(item, DataReceived):
                taken += len(item.data)

        transport = TrioTransport(url, session=Session(), ssl_context=trusting(authority), observer=observe)
        reply = transport.ask("Hi")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(follow)
            await trio.to_thread.run_sync(waiting.wait, PATIENCE)
            with trio.fail_after(PATIENCE):
                while taken < len(sent):  # under way
                    await trio.lowlevel.checkpoint()
            await transport.aclose()
        assert events[-1].reason is (Reason.TRUNCATED if sent else Reason.LOST)
        assert events[-1].detail.startswith("closed by the caller")
        await transport.aclose()
        with pytest.raises(RuntimeError, match="closed"):
            transport.ask("Hi")

    with FaultServer(play, ssl_context=tls_server(authority) if secure else None) as server:
        trio.run(main, server.url)


@pytest.mark.parametrize("url", ["http://h", "https://h"], ids=["connect", "handshake"])
def test_closing_the_transport_ends_a_connect_and_a_wait_for_the_session(
    monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    async def connect(host: str, port: int) -> Any:
        if url == "http://h":
            await trio.sleep_forever()
        return trio.testing.memory_stream_pair()[0]

    async def main() -> None:
        events: list[Any] = []

        async def follow() -> None:
            events.extend([event async for event in transport.ask("Hi")])

        transport = TrioTransport(url)
        async with trio.open_nursery() as nursery:
            for _ in range(5):
                nursery.start_soon(follow)
            await trio.testing.wait_all_tasks_blocked()
            await transport.aclose()
        assert events == [Broken(Reason.LOST, "closed by the caller", in_session=True)] * 5

    monkeypatch.setattr(trio, "open_tcp_stream", connect)
    trio.run(main)


def test_closing_completes_even_when_cancelled(monkeypatch: pytest.MonkeyPatch) -> None:
    site = Site(monkeypatch)

    async def main() -> None:
        transport = TrioTransport("http://h", session=Session())
        replies = [transport.ask("Hi") for _ in range(3)]
        for reply in replies:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(site.answer, STREAM + live("a"))
                await anext(reply)
        with trio.CancelScope() as scope:
            scope.cancel()
            async with replies[0]:
                pass
        assert scope.cancelled_caught
        with trio.CancelScope() as scope:
            scope.cancel()
            await transport.aclose()
        assert scope.cancelled_caught
        for peer in site.peers:
            assert await peer.receive_some() == b""

    trio.run(main)


def test_only_one_task_reads_a_reply(monkeypatch: pytest.MonkeyPatch) -> None:
    Site(monkeypatch)

    async def main() -> None:
        async with TrioTransport("http://h", session=Session()) as transport, trio.open_nursery() as nursery:
            reply = transport.ask("Hi")
            nursery.start_soon(anext, reply)
            await trio.testing.wait_all_tasks_blocked()
            with pytest.raises(trio.BusyResourceError):
                await anext(reply)
            await reply.aclose()

    trio.run(main)
