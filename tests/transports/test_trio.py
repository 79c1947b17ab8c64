import gc
import socket
import ssl
import threading
from collections.abc import Awaitable, Callable, Generator, Iterator
from contextlib import suppress
from typing import Any

import pytest
import trio
import trio.lowlevel
import trio.testing
import trustme

from opchat_proto import Broken, Call, DataReceived, End, Endpoint, HTTPCall, Limits, Live, Reason, Session, Submit
from opchat_transports import AsyncTransport
from opchat_transports.blocking_server import serve
from opchat_transports.testing import ANSWER, Close, Delay, Expect, FaultServer, Write
from opchat_transports.trio_streams import TrioTransport

from .asking import linux
from .scripted import (
    LAST,
    PATIENCE,
    SESSION,
    STREAM,
    Peer,
    Scripted,
    answers,
    chunk,
    end,
    live,
    object_,
    tells,
)
from .tls import tls_server, trusting, without_close_notify

GOOD_SUBMIT = (Expect(), Write(ANSWER))


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    yield
    gc.collect()  # what was not closed is a ResourceWarning, which is an error


def ask(url: str | Endpoint, question: Any = "Hi", **options: Any) -> list[Any]:
    async def main() -> list[Any]:
        async with TrioTransport(url, **options) as transport, transport.ask(question) as reply:
            return [event async for event in reply]

    return trio.run(main)


async def read(transport: TrioTransport, question: Any = "Hi") -> list[Any]:
    async with transport.ask(question) as reply:
        return [event async for event in reply]


class Steps:
    """Awaits something, counts how often it lets others run, and cancels a scope when it does so for the nth time."""

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


# ------------------------------------------------------------------------------------------------ questions


def test_the_librarys_own_server_answers() -> None:
    with serve(lambda submit: [submit.new_message, "!"]) as server:
        assert ask(server.url) == [Live("Hi"), Live("!"), End("Hi!", ask(server.url)[-1].raw)]


def test_what_is_given_goes_out() -> None:
    with Scripted(tells("a")) as server:
        submit = Submit(new_message="Hi", chat_id="mine", bot_id="parrot")
        ask(Endpoint.parse(server.url), submit, headers={"X-Extra": "1"}, session=Session())
    assert server.routes == ["submit"]
    request = server.requests[0]
    assert b"\r\nX-Extra: 1\r\n" in request
    assert b'"botId":"parrot"' in request
    assert b'"chatId":"mine"' in request


def test_each_piece_is_there_before_the_server_sends_the_next() -> None:
    seen = threading.Event()

    def play(peer: Peer) -> None:
        peer.read()
        peer.send(STREAM, live("first"))
        assert seen.wait(PATIENCE)
        peer.send(end("first"), LAST)

    async def main(url: str) -> None:
        async with TrioTransport(url, session=Session()) as transport, transport.ask("Hi") as reply:
            assert await anext(reply) == Live("first")
            seen.set()
            assert [type(event) async for event in reply] == [End]
            with pytest.raises(StopAsyncIteration):
                await anext(reply)

    with Scripted(play) as server:
        trio.run(main, server.url)


def test_it_meets_the_protocol() -> None:
    transport: AsyncTransport = TrioTransport("http://h")
    assert transport.session is None


def test_what_cannot_be_used_is_refused_at_once() -> None:
    with pytest.raises(ValueError, match="expected a site"):
        TrioTransport("nowhere")
    with pytest.raises(ValueError, match="Host is not yours"):
        TrioTransport("http://h", headers={"Host": "x"})
    with pytest.raises(ValueError, match="belongs to http://other"):
        TrioTransport("http://h", session=Session(origin="http://other"))
    with pytest.raises(TypeError, match="timeouts"):
        TrioTransport("http://h", timeouts=3)  # type: ignore[arg-type]  # wrong on purpose
    transport = TrioTransport("http://h", limits=Limits(request_bytes=200))
    with pytest.raises(ValueError, match="at most 200 bytes"):
        transport.ask("x" * 200)
    assert repr(transport) == "<TrioTransport to http://h>"
    assert repr(transport.ask("x")) == "<TrioReply of <Call to http://h SESSION after 0 events>>"


# ------------------------------------------------------------------------------------------------ faults


def test_a_name_that_cannot_be_is_lost() -> None:
    [broken] = ask(f"http://{'a' * 64}", session=Session())
    assert broken.reason is Reason.LOST
    assert broken.detail.startswith(f"could not connect to {'a' * 64}:80: ")


def test_a_reset_is_truncated_with_the_reason() -> None:
    got = threading.Event()

    def play(peer: Peer) -> None:
        peer.read()
        peer.send(STREAM, live("a"))
        assert got.wait(PATIENCE)
        peer.reset()

    async def main(url: str) -> None:
        async with TrioTransport(url, session=Session()) as transport, transport.ask("Hi") as reply:
            assert await anext(reply) == Live("a")
            got.set()
            assert await anext(reply) == Broken(
                Reason.TRUNCATED, "the connection failed: Connection reset by peer", asked=True
            )

    with Scripted(play) as server:
        trio.run(main, server.url)


@pytest.mark.parametrize("secure", [False, True], ids=["plain", "TLS"])
def test_a_send_that_fails_is_lost(secure: bool, authority: trustme.CA) -> None:
    def play(peer: Peer) -> None:
        peer.read_head()
        peer.reset()

    limits = Limits(request_bytes=64 * 1024 * 1024)
    with Scripted(play, tls=tls_server(authority) if secure else None, session=False) as server:
        [broken] = ask(server.url, "x" * 16_000_000, session=Session(), limits=limits, ssl_context=trusting(authority))
    assert (broken.reason, broken.asked) == (Reason.LOST, True)
    assert broken.detail.startswith("the connection")


def test_an_answer_before_the_question_was_read_counts() -> None:
    def play(peer: Peer) -> None:
        peer.read_head()
        peer.send(object_(413, success=False, message="Too large."))
        assert peer.is_left()

    limits = Limits(request_bytes=64 * 1024 * 1024)
    with Scripted(play, session=False) as server:
        [broken] = ask(server.url, "x" * 16_000_000, session=Session(), limits=limits)
    assert (broken.status, broken.detail) == (413, "Too large.")


# ------------------------------------------------------------------------------------------------ clocks


class Site:
    """Its connections end in memory, where a `MockClock` can tell the time."""

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
        """Take the request, which comes at once, and send this."""
        await trio.testing.wait_all_tasks_blocked()
        await self.peers[-1].receive_some()
        for piece in pieces:
            await self.peers[-1].send_all(piece)


def mocked(main: Callable[[], Awaitable[Any]]) -> Any:
    """The outcome on a clock that jumps to whatever is waited for: sleeping takes no time."""
    return trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


def test_comments_that_never_stop_do_not_stop_the_idle_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    site = Site(monkeypatch)
    clock = trio.testing.MockClock()

    async def chatter() -> bytes:
        clock.jump(1)
        return chunk(b": keepalive\n\n")  # and it never lets others run

    async def main() -> None:
        async with TrioTransport("http://h", session=Session()) as transport, trio.open_nursery() as nursery:
            nursery.start_soon(site.answer, STREAM, live("a"))
            async with transport.ask("Hi") as reply:
                await anext(reply)
                monkeypatch.setattr(reply, "_read", chatter)
                assert [event.reason async for event in reply if isinstance(event, Broken)] == [Reason.TIMEOUT]
        assert clock.current_time() == pytest.approx(120, abs=2)

    trio.run(main, clock=clock)


def test_the_connect_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    async def connect(host: str, port: int) -> Any:
        await trio.sleep_forever()

    monkeypatch.setattr(trio, "open_tcp_stream", connect)
    detail = "could not connect to h:80: no connection within 10 s (timeout 'connect'), after 0 events"
    expected = [Broken(Reason.TIMEOUT, detail, limit="connect")]
    assert mocked(lambda: read(TrioTransport("http://h", session=Session()))) == expected


def test_the_connect_clock_in_the_handshake(monkeypatch: pytest.MonkeyPatch) -> None:
    Site(monkeypatch)
    detail = "TLS with h failed: no handshake within 10 s (timeout 'connect'), after 0 events"
    expected = [Broken(Reason.TIMEOUT, detail, limit="connect")]
    assert mocked(lambda: read(TrioTransport("https://h", session=Session()))) == expected


def test_the_write_clock(monkeypatch: pytest.MonkeyPatch) -> None:
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
                    if text == "d":  # those before have come with the first
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


def asked_and_cancelled(url: str, nth: int, submitted: list[str], **options: Any) -> bool:
    """Cancel a question when it waits for the nth time; then ask again. Returns whether it came so far."""

    async def main() -> bool:
        async with TrioTransport(url, **options) as transport:
            reply = transport.ask(f"question {nth}")
            with trio.CancelScope() as scope:
                await Steps(read_all(reply), scope, nth)
                assert [type(event) for event in events] == [Live, Live, End]
                return False
            assert scope.cancelled_caught
            assert reply._stream is None
            assert submitted.count(f"question {nth}") <= 1
            await read_all(reply)  # what had come before, and how it ended
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
    submitted: list[str] = []
    context = tls_server(authority)
    options = {"ssl_context": trusting(authority)}

    def play(peer: Peer) -> None:
        with suppress(OSError):  # it is cancelled
            if secure:
                peer.socket = context.wrap_socket(peer.socket, server_side=True)
            with peer.socket:
                if b"start_session" in peer.read_head():
                    peer.send(SESSION)
                    return
                submitted.append(peer._buffer.partition(b'"newMessage":"')[2].partition(b'"')[0].decode())
                peer.send(STREAM, live("Hel"), live("lo"), end("Hello"), LAST)

    with Scripted(play, session=False) as server:
        url = server.url.replace("http://127.0.0.1", "https://localhost") if secure else server.url
        nth = 1
        while asked_and_cancelled(url, nth, submitted, **options):
            nth += 1
    assert nth > 10
    assert all(submitted.count(question) == 1 for question in set(submitted) - {"again"})


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


def test_leaving_early_closes_the_connection_at_once() -> None:
    left = threading.Event()

    def play(peer: Peer) -> None:
        peer.read()
        peer.send(STREAM, live("a"))
        assert peer.is_left()
        left.set()

    async def main(url: str) -> None:
        async with TrioTransport(url, session=Session()) as transport:
            async with transport.ask("Hi") as reply:
                async for _ in reply:
                    break
            assert left.wait(PATIENCE)
            await reply.aclose()

    with Scripted(play) as server:
        trio.run(main, server.url)


def test_a_closed_reply_is_broken_and_then_over() -> None:
    async def main(url: str) -> None:
        async with TrioTransport(url, session=Session()) as transport:
            reply = transport.ask("Hi")
            await anext(reply)
            await reply.aclose()
            rest = [event async for event in reply]
            assert rest[-1] == Broken(Reason.TRUNCATED, "closed by the caller", asked=True)
            assert [event async for event in reply] == []
            unread = transport.ask("Hi")
            await unread.aclose()
            expected = Broken(Reason.LOST, "closed by the caller", in_session=True)
            assert [event async for event in unread] == [expected]
            assert [event async for event in unread] == []

    with Scripted(answers(STREAM, live("a"), live("b"))) as server:
        trio.run(main, server.url)


@pytest.mark.parametrize("sent", [b"", STREAM, STREAM + live("a")], ids=["nothing", "head", "event"])
@pytest.mark.parametrize("secure", [False, True], ids=["plain", "TLS"])
def test_closing_the_transport_ends_a_waiting_read(sent: bytes, secure: bool, authority: trustme.CA) -> None:
    waiting = threading.Event()

    def play(peer: Peer) -> None:
        peer.read()
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
                while taken < len(sent):  # it is on its way
                    await trio.lowlevel.checkpoint()
            await transport.aclose()
        assert events[-1].reason is (Reason.TRUNCATED if sent else Reason.LOST)
        assert events[-1].detail.startswith("closed by the caller")
        await transport.aclose()
        with pytest.raises(RuntimeError, match="closed"):
            transport.ask("Hi")

    with Scripted(play, tls=tls_server(authority) if secure else None) as server:
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


def test_closing_closes_also_when_cancelled(monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_a_transport_belongs_to_the_event_loop_that_used_it_first() -> None:
    async def main() -> None:
        async with transport.ask("Hi") as reply:
            assert isinstance([event async for event in reply][-1], End)

    with Scripted(tells("a")) as server:
        transport = TrioTransport(server.url)
        trio.run(main)
        with pytest.raises(RuntimeError, match="another event loop"):
            trio.run(main)


@linux
@pytest.mark.parametrize("milliseconds", [0, 2, 20])
def test_a_server_that_says_keep_alive_and_closes_loses_no_question(milliseconds: int) -> None:
    """It closes so long after start_session, without announcing it, as proxies do."""
    keep_alive = SESSION.replace(b"\r\n", b"\r\nConnection: keep-alive\r\n", 1)
    session = (Expect("start_session"), Write(keep_alive), Delay(milliseconds / 1000), Close(), *GOOD_SUBMIT)

    async def main() -> list[Any]:
        return [(await read(TrioTransport(server.url)))[-1] for _ in range(20)]

    with FaultServer(session) as server:
        assert [type(event) for event in trio.run(main)] == [End] * 20
    assert server.routes == ("start_session", "submit") * 20


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


# ------------------------------------------------------------------------------------------------ TLS


def test_tls_from_session_to_end(authority: trustme.CA) -> None:
    with Scripted(tells("Hel", "lo"), tls=tls_server(authority)) as server:
        assert ask(server.url, ssl_context=trusting(authority))[-1].reply == "Hello"
    assert (server.routes, server.connections) == (["start_session", "submit"], 2)


def test_a_certificate_that_nobody_vouches_for(authority: trustme.CA) -> None:
    with Scripted(tells("a"), tls=tls_server(authority)) as server:
        [broken] = ask(server.url)
    assert broken.reason is Reason.LOST
    assert "TLS with localhost failed: the certificate is not trusted: " in broken.detail
    assert server.requests == []


def test_a_certificate_for_another_name(authority: trustme.CA) -> None:
    with Scripted(tells("a"), tls=tls_server(authority, "other.example")) as server:
        [broken] = ask(server.url, ssl_context=trusting(authority))
    assert broken.reason is Reason.LOST
    assert "not trusted: Hostname mismatch" in broken.detail
    assert server.requests == []


def test_a_server_without_tls(authority: trustme.CA) -> None:
    def play(peer: Peer) -> None:
        peer.send(b"HTTP/1.1 400 What is this?\r\n\r\n")
        assert peer.is_left()

    with Scripted(play, session=False) as server:
        [broken] = ask(server.url.replace("http:", "https:"), ssl_context=trusting(authority))
    assert broken.reason is Reason.LOST
    assert "TLS with 127.0.0.1 failed: " in broken.detail


def test_a_cut_without_close_notify_before_the_end_is_truncated(authority: trustme.CA) -> None:
    body = b"HTTP/1.1 200 OK\r\n\r\n" + b'data: {"type":"live","data":"a"}\n\n'
    with Scripted(without_close_notify(body), tls=tls_server(authority)) as server:
        events = ask(server.url, ssl_context=trusting(authority))
    assert [type(event) for event in events] == [Live, Broken]
    assert events[-1].reason is Reason.TRUNCATED
    assert events[-1].detail.startswith("the connection failed: ")


def test_a_cut_without_close_notify_after_the_end_does_no_harm(authority: trustme.CA) -> None:
    with Scripted(without_close_notify(STREAM, end("a")), tls=tls_server(authority)) as server:
        assert ask(server.url, ssl_context=trusting(authority))[-1].reply == "a"


def test_the_default_trust_store_is_the_systems(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[ssl.SSLContext] = []

    def make() -> ssl.SSLContext:
        made.append(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))
        return made[-1]

    monkeypatch.setattr(ssl, "create_default_context", make)
    TrioTransport("http://h")
    assert made == []
    TrioTransport("https://h")
    assert len(made) == 1
