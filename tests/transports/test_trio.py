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

from opchat_proto import Broken, End, Endpoint, Limits, Live, Reason, Session, Submit
from opchat_transports import AsyncTransport, Timeouts
from opchat_transports.blocking_sockets import serve
from opchat_transports.trio_streams import TrioTransport

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
from .test_blocking import STALE, linux, tls_server, trusting, without_close_notify


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


def test_a_question_takes_one_connection_from_session_to_end() -> None:
    with Scripted(tells("Hel", "lo")) as server:
        events = ask(server.url)
    assert [event.text for event in events[:-1]] == ["Hel", "lo"]
    assert events[-1].reply == "Hello"
    assert (server.routes, server.connections) == (["start_session", "submit"], 1)


def test_the_librarys_own_server_answers() -> None:
    with serve(lambda submit: [submit.new_message, "!"]) as server:
        assert ask(server.url) == [Live("Hi"), Live("!"), End("Hi!", ask(server.url)[-1].raw)]


def test_the_next_question_goes_on_with_the_session() -> None:
    async def main(url: str) -> None:
        async with TrioTransport(url) as transport:
            assert transport.session is None
            await read(transport)
            assert transport.session == Session("0123456789", "64f1c0ffee123")
            await read(transport)

    with Scripted(tells("a")) as server:
        trio.run(main, server.url)
    assert server.routes == ["start_session", "submit", "submit"]
    assert b"\r\nX-WP-Nonce: 0123456789\r\n" in server.requests[2]


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
    assert repr(transport.ask("x")) == "<TrioReply of http://h after 0 events>"


# ------------------------------------------------------------------------------------------------ sessions


def test_a_hundred_tasks_start_one_session() -> None:
    async def main(url: str) -> None:
        async with TrioTransport(url) as transport, trio.open_nursery() as nursery:
            for _ in range(100):
                nursery.start_soon(check, transport)

    async def check(transport: TrioTransport) -> None:
        assert (await read(transport))[-1].reply == "a"

    with Scripted(tells("a")) as server:
        trio.run(main, server.url)
    assert sorted(server.routes) == ["start_session"] + ["submit"] * 100
    assert server.connections == 100


@pytest.mark.parametrize("how", ["fails", "is cancelled", "is closed"])
def test_where_the_starter_stops_the_next_one_starts(how: str) -> None:
    asked = threading.Event()
    go_on = threading.Event()

    def stop(peer: Peer) -> None:
        peer.read()
        asked.set()
        if how == "fails":
            assert go_on.wait(PATIENCE)
            peer.send(object_(500, success=False, message="No."))
        assert peer.is_left()

    async def main(url: str) -> list[Any]:
        first: list[Any] = []
        others: list[Any] = []

        async def start() -> None:
            async with transport.ask("one") as reply:
                opened.append(reply)
                with scope:
                    first.extend([event async for event in reply])

        async def follow() -> None:
            others.extend(await read(transport, "two"))

        opened: list[Any] = []
        scope = trio.CancelScope()
        async with TrioTransport(url) as transport, trio.open_nursery() as nursery:
            nursery.start_soon(start)
            await trio.to_thread.run_sync(asked.wait, PATIENCE)
            for _ in range(5):
                nursery.start_soon(follow)
            await trio.testing.wait_all_tasks_blocked()
            go_on.set()
            if how == "is cancelled":
                scope.cancel()
            elif how == "is closed":
                await opened[0].aclose()
        assert [event.reply for event in others if isinstance(event, End)] == ["a"] * 5
        return first

    with Scripted(stop, tells("a")) as server:
        first = trio.run(main, server.url)
    assert sorted(server.routes) == ["start_session"] * 2 + ["submit"] * 5
    details = {
        "fails": ["start_session: No."],
        "is cancelled": [],
        "is closed": ["start_session: closed by the caller"],
    }
    assert [event.detail for event in first] == details[how]


def test_a_stale_nonce_is_renewed_for_all() -> None:
    def play(peer: Peer) -> None:
        peer.read()
        peer.send(STALE)
        peer.read()
        peer.send(SESSION)
        peer.read()
        peer.send(STREAM, end("a"), LAST)

    async def main(url: str) -> None:
        async with TrioTransport(url, session=Session("0000000000")) as transport:
            assert (await read(transport))[-1].reply == "a"
            assert (await read(transport))[-1].reply == "b"

    with Scripted(play, tells("b")) as server:
        trio.run(main, server.url)
    assert server.routes == ["submit", "start_session", "submit", "submit"]
    assert server.connections == 2


def test_a_session_is_taken_back_only_from_a_reply_that_began_with_the_current_one() -> None:
    async def main(url: str) -> None:
        async with TrioTransport(url, session=Session("0000000000")) as transport:
            slow = transport.ask("slow")
            assert await anext(slow) == Live("a")
            assert isinstance((await read(transport))[-1], End)
            assert transport.session == Session("2222222222")
            assert isinstance(await anext(slow), End)
            assert transport.session == Session("2222222222")

    go_on = threading.Event()

    def play(peer: Peer) -> None:
        peer.read()
        peer.send(STREAM, live("a"))
        assert go_on.wait(PATIENCE)
        peer.send(end("a", new_token="1111111111"), LAST)

    def quick(peer: Peer) -> None:
        peer.read()
        peer.send(STREAM, end("b", new_token="2222222222"), LAST)
        go_on.set()

    with Scripted(play, quick) as server:
        trio.run(main, server.url)


def test_a_session_that_makes_the_question_too_large_is_an_event() -> None:
    async def main(url: str) -> list[Any]:
        async with TrioTransport(url, limits=Limits(request_bytes=300)) as transport:
            async with transport.ask(Submit(new_message="x", chat_id="c")) as small:
                size = len(Submit(new_message="x" * 9, chat_id="c").encode()) - 9
                large = transport.ask(Submit(new_message="x" * (300 - size), chat_id="c"))
                await anext(small)
            return [event async for event in large]

    with Scripted(tells("a")) as server:
        [broken] = trio.run(main, server.url)
    assert (broken.reason, server.routes) == (Reason.TOO_LARGE, ["start_session", "submit"])


# ------------------------------------------------------------------------------------------------ faults


def test_a_refused_connection_is_lost() -> None:
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    [broken] = ask(f"http://127.0.0.1:{port}", session=Session())
    assert broken == Broken(Reason.LOST, f"could not connect to 127.0.0.1:{port}: Connection refused")


def test_a_name_that_cannot_be_is_lost() -> None:
    [broken] = ask(f"http://{'a' * 64}", session=Session())
    assert broken.reason is Reason.LOST
    assert broken.detail.startswith(f"could not connect to {'a' * 64}:80: ")


def test_an_answer_that_is_cut_is_truncated() -> None:
    with Scripted(answers(STREAM, live("a"))) as server:
        assert [type(event) for event in ask(server.url)] == [Live, Broken]
        assert ask(server.url)[-1].reason is Reason.TRUNCATED


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
            assert await anext(reply) == Broken(Reason.TRUNCATED, "the connection failed: Connection reset by peer")

    with Scripted(play) as server:
        trio.run(main, server.url)


def test_no_answer_is_lost_and_the_question_is_not_repeated() -> None:
    with Scripted(lambda peer: peer.read() and None) as server:
        [broken] = ask(server.url, session=Session())
    assert (broken.reason, server.routes) == (Reason.LOST, ["submit"])
    assert broken.detail == "the connection was closed before any answer; not repeated"


def gives_up(tls: ssl.SSLContext | None, after: bytes, *, with_notice: bool) -> Callable[[Peer], None]:
    """Answer start_session, say something more, and close, all of it in one packet."""

    def play(peer: Peer) -> None:
        if tls is not None:
            peer.socket = tls.wrap_socket(peer.socket, server_side=True)
        with peer.socket:
            peer.read()
            peer.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 1)
            peer.send(SESSION + after)
            if with_notice:
                assert isinstance(peer.socket, ssl.SSLSocket)
                peer.socket.setblocking(False)
                with suppress(ssl.SSLWantReadError):
                    peer.socket.unwrap()
            socket.socket.shutdown(peer.socket, socket.SHUT_WR)

    return play


@linux
@pytest.mark.parametrize("after", [b"", b"HTTP/1.1 408 Too Late\r\n\r\n"], ids=["closed", "closed with words"])
@pytest.mark.parametrize("how", ["plain", "TLS", "TLS cut"])
def test_a_connection_that_the_server_gave_up_after_the_session_is_replaced(
    after: bytes, how: str, authority: trustme.CA
) -> None:
    tls = None if how == "plain" else tls_server(authority)

    def again(peer: Peer) -> None:
        if tls is not None:
            peer.socket = tls.wrap_socket(peer.socket, server_side=True)
        with peer.socket:
            tells("a")(peer)

    with Scripted(gives_up(tls, after, with_notice=how == "TLS"), again) as server:
        url = server.url if tls is None else server.url.replace("http://127.0.0.1", "https://localhost")
        assert ask(url, ssl_context=trusting(authority))[-1].reply == "a"
    assert (server.routes, server.connections) == (["start_session", "submit"], 2)


def test_an_answer_that_ends_its_connection_is_followed_by_another() -> None:
    def play(peer: Peer) -> None:
        peer.read()
        peer.send(SESSION.replace(b"\r\n", b"\r\nConnection: close\r\n", 1))

    with Scripted(play, tells("a")) as server:
        assert ask(server.url)[-1].reply == "a"
    assert server.connections == 2


@pytest.mark.parametrize("secure", [False, True], ids=["plain", "TLS"])
def test_a_send_that_fails_is_lost(secure: bool, authority: trustme.CA) -> None:
    def play(peer: Peer) -> None:
        peer.read_head()
        peer.reset()

    limits = Limits(request_bytes=64 * 1024 * 1024)
    with Scripted(play, tls=tls_server(authority) if secure else None) as server:
        [broken] = ask(server.url, "x" * 16_000_000, session=Session(), limits=limits, ssl_context=trusting(authority))
    assert broken.reason is Reason.LOST
    assert broken.detail.startswith("the connection")
    assert broken.detail.endswith("; not repeated")


def test_an_answer_before_the_question_was_read_counts() -> None:
    def play(peer: Peer) -> None:
        peer.read_head()
        peer.send(object_(413, success=False, message="Too large."))
        assert peer.is_left()

    limits = Limits(request_bytes=64 * 1024 * 1024)
    with Scripted(play) as server:
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


def test_the_first_event_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    Site(monkeypatch)

    async def main() -> tuple[list[Any], float]:
        begun = trio.current_time()
        async with TrioTransport("http://h", session=Session()) as transport:
            return await read(transport), trio.current_time() - begun

    detail = "no event of the answer within 300 s (timeout 'first_event'), after 0 events"
    assert mocked(main) == ([Broken(Reason.TIMEOUT, detail)], pytest.approx(300))


def test_comments_do_not_move_the_idle_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    site = Site(monkeypatch)

    async def main() -> list[Any]:
        async with TrioTransport("http://h", session=Session()) as transport, trio.open_nursery() as nursery:

            async def comment() -> None:
                await site.answer(STREAM, live("a"), live("b"))
                with suppress(trio.BrokenResourceError):  # in the end it is left
                    while True:
                        await site.peers[0].send_all(chunk(b": keepalive\n\n"))
                        await trio.sleep(50)  # of the mocked clock

            nursery.start_soon(comment)
            events = await read(transport)
            return [*events, trio.current_time() - begun]

    clock = trio.testing.MockClock(autojump_threshold=0)
    begun = clock.current_time()
    *events, seconds = trio.run(main, clock=clock)
    assert events == [
        Live("a"),
        Live("b"),
        Broken(Reason.TIMEOUT, "no further event of the answer within 120 s (timeout 'idle'), after 2 events"),
    ]
    assert seconds == pytest.approx(120)


def test_comments_that_never_stop_do_not_stop_the_idle_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    site = Site(monkeypatch)
    clock = trio.testing.MockClock()

    async def chatter(max_bytes: int | None = None) -> bytes:
        clock.jump(1)
        return chunk(b": keepalive\n\n")  # and it never lets others run

    async def main() -> None:
        async with TrioTransport("http://h", session=Session()) as transport, trio.open_nursery() as nursery:
            nursery.start_soon(site.answer, STREAM, live("a"))
            async with transport.ask("Hi") as reply:
                await anext(reply)
                monkeypatch.setattr(reply._stream, "receive_some", chatter)
                assert [event.reason async for event in reply if isinstance(event, Broken)] == [Reason.TIMEOUT]
        assert clock.current_time() == pytest.approx(120, abs=2)

    trio.run(main, clock=clock)


def test_a_caller_who_takes_long_uses_up_no_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    site = Site(monkeypatch)

    async def main() -> list[Any]:
        async with TrioTransport("http://h", session=Session()) as transport, trio.open_nursery() as nursery:
            nursery.start_soon(site.answer, STREAM, live("a"))
            async with transport.ask("Hi") as reply:
                events = [await anext(reply)]
                await trio.sleep(50_000)  # of the mocked clock
                nursery.start_soon(site.peers[0].send_all, end("a"))
                return [*events, await anext(reply)]

    assert [type(event) for event in mocked(main)] == [Live, End]


def test_the_connect_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    async def connect(host: str, port: int) -> Any:
        await trio.sleep_forever()

    monkeypatch.setattr(trio, "open_tcp_stream", connect)
    detail = "no connection to h:80 within 10 s (timeout 'connect'), after 0 events"
    assert mocked(lambda: read(TrioTransport("http://h", session=Session()))) == [Broken(Reason.TIMEOUT, detail)]


def test_the_connect_clock_in_the_handshake(monkeypatch: pytest.MonkeyPatch) -> None:
    Site(monkeypatch)
    detail = "no connection to h with TLS within 10 s (timeout 'connect'), after 0 events"
    assert mocked(lambda: read(TrioTransport("https://h", session=Session()))) == [Broken(Reason.TIMEOUT, detail)]


def test_the_write_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    Site(monkeypatch, trio.testing.lockstep_stream_pair)
    detail = "the request could not be sent within 30 s (timeout 'write'), after 0 events"
    assert mocked(lambda: read(TrioTransport("http://h", session=Session()))) == [Broken(Reason.TIMEOUT, detail)]


def test_what_was_answered_before_the_write_clock_ran_out_counts() -> None:
    over = threading.Event()

    def play(peer: Peer) -> None:
        peer.read_head()
        peer.send(object_(413, success=False, message="Too large."))
        assert over.wait(PATIENCE)  # and reads nothing more

    limits = Limits(request_bytes=64 * 1024 * 1024)
    with Scripted(play) as server:
        [broken] = ask(server.url, "x" * 32_000_000, session=Session(), limits=limits, timeouts=Timeouts(write=0.3))
        over.set()
    assert (broken.status, broken.detail) == (413, "Too large.")


def test_the_wait_for_a_session_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    Site(monkeypatch)

    async def main() -> list[Any]:
        second: list[Any] = []

        async def follow() -> None:
            second.extend(await read(transport))

        async with TrioTransport("http://h", timeouts=Timeouts(first_event=7)) as transport:
            transport._shared.begin("somebody who never comes back")
            async with trio.open_nursery() as nursery:
                nursery.start_soon(follow)
        return second

    detail = "start_session: no session from the question before within 7 s (timeout 'first_event'), after 0 events"
    assert mocked(main) == [Broken(Reason.TIMEOUT, detail)]


@pytest.mark.parametrize("clocks", [Timeouts(connect=None, write=None, first_event=None, idle=None)])
def test_clocks_that_are_off_never_run_out(monkeypatch: pytest.MonkeyPatch, clocks: Timeouts) -> None:
    site = Site(monkeypatch)

    async def main() -> list[Any]:
        async with TrioTransport("http://h", timeouts=clocks) as transport, trio.open_nursery() as nursery:

            async def late() -> None:
                await trio.sleep(50_000)  # of the mocked clock
                await site.answer(SESSION)
                await trio.sleep(50_000)  # of the mocked clock
                await site.answer(STREAM, live("a"))
                await trio.sleep(50_000)  # of the mocked clock
                await site.peers[0].send_all(end("a"))

            nursery.start_soon(late)
            return await read(transport)

    assert [type(event) for event in mocked(main)] == [Live, End]


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
                    peer.read_head()
                submitted.append(peer._buffer.partition(b'"newMessage":"')[2].partition(b'"')[0].decode())
                peer.send(STREAM, live("Hel"), live("lo"), end("Hello"), LAST)

    with Scripted(play) as server:
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
            assert rest[-1] == Broken(Reason.TRUNCATED, "closed by the caller")
            assert [event async for event in reply] == []
            unread = transport.ask("Hi")
            await unread.aclose()
            assert [event async for event in unread] == [Broken(Reason.LOST, "closed by the caller")]
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

        transport = TrioTransport(url, session=Session(), ssl_context=trusting(authority))
        reply = transport.ask("Hi")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(follow)
            await trio.to_thread.run_sync(waiting.wait, PATIENCE)
            with trio.fail_after(PATIENCE):
                while reply._client._answer_begun != bool(sent):  # it is on its way
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
        assert events == [Broken(Reason.LOST, "start_session: closed by the caller")] * 5

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


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


def test_tls_from_session_to_end(authority: trustme.CA) -> None:
    with Scripted(tells("Hel", "lo"), tls=tls_server(authority)) as server:
        assert ask(server.url, ssl_context=trusting(authority))[-1].reply == "Hello"
    assert (server.routes, server.connections) == (["start_session", "submit"], 1)


def test_a_certificate_that_nobody_vouches_for(authority: trustme.CA) -> None:
    with Scripted(tells("a"), tls=tls_server(authority)) as server:
        [broken] = ask(server.url)
    assert broken.reason is Reason.LOST
    assert "the certificate of localhost is not trusted: " in broken.detail
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

    with Scripted(play) as server:
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


def test_an_answer_with_a_length_is_read() -> None:
    with Scripted(answers(answer(b'{"success":true,"reply":"a"}'))) as server:
        assert ask(server.url) == [End("a", '{"success":true,"reply":"a"}')]


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
