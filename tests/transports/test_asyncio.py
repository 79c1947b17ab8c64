"""`AsyncioTransport`'s own: its streams, on asyncio's loop and on uvloop's."""

import asyncio
import gc
import logging
import socket
import ssl
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import ExitStack, suppress
from typing import Any

import pytest
import trustme
import uvloop

from opchat_proto import Broken, Call, DataReceived, End, Endpoint, HTTPCall, Limits, Live, Reason, Send, Session
from opchat_transports import Timeouts
from opchat_transports.asyncio_streams import AsyncioTransport
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
    answers,
    end,
    live,
    object_,
    tells,
)
from .tls import tls_server, trusting, without_close_notify

Main = Callable[[], Coroutine[Any, Any, Any]]
Run = Callable[[Main], Any]


@pytest.fixture(params=[asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Run:
    """Run it. Whatever it does, it must leave no task behind."""

    async def alone(main: Main) -> Any:
        asyncio.get_running_loop().slow_callback_duration = PATIENCE
        result = await main()
        assert asyncio.all_tasks() == {asyncio.current_task()}
        return result

    def run_alone(main: Main) -> Any:
        with asyncio.Runner(loop_factory=request.param, debug=True) as runner:
            return runner.run(alone(main))

    return run_alone


@pytest.fixture(autouse=True)
def nothing_is_left(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    yield
    gc.collect()  # what was not closed is a ResourceWarning, which is an error
    assert [record for record in caplog.records if record.name == "asyncio" and record.levelno > logging.INFO] == []


secured = pytest.mark.parametrize("secure", [False, True], ids=["plain", "TLS"])


async def read(transport: AsyncioTransport, question: Any = "Hi") -> list[Any]:
    async with transport.ask(question) as reply:
        return [event async for event in reply]


def ask(run: Run, url: str | Endpoint, question: Any = "Hi", **options: Any) -> list[Any]:
    async def main() -> list[Any]:
        async with AsyncioTransport(url, **options) as transport:
            return await read(transport, question)

    events: list[Any] = run(main)
    return events


async def wait_for(happened: threading.Event) -> None:
    assert await asyncio.to_thread(happened.wait, PATIENCE)


# ------------------------------------------------------------------------------------------------ connecting


def ask_by_name(run: Run, port: int, *addresses: str, **options: Any) -> list[Any]:
    """Ask a site whose name has these addresses."""

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
def test_an_address_that_refuses_is_followed_by_the_next(run: Run) -> None:
    with Scripted(tells("a")) as server:
        assert ask_by_name(run, server.port, "127.0.0.2", "127.0.0.1", "127.0.0.3")[-1].reply == "a"
    assert server.connections == 1


@linux
def test_an_address_that_is_silent_does_not_hold_up_the_next(run: Run) -> None:
    with (
        Scripted(tells("a")) as server,
        socket.create_server(("127.0.0.2", server.port), backlog=0) as silent,
        ExitStack() as waiting,
    ):
        for _ in range(8):  # so that its queue of new connections is full
            connection = waiting.enter_context(socket.socket())
            connection.setblocking(False)
            connection.connect_ex(silent.getsockname())
        timeouts = Timeouts(connect=PATIENCE)
        assert ask_by_name(run, server.port, "127.0.0.2", "127.0.0.1", timeouts=timeouts)[-1].reply == "a"
    assert server.connections == 1


@linux
def test_where_all_refuse_nobody_is_reached(run: Run) -> None:
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    assert ask_by_name(run, port, "127.0.0.1", "127.0.0.2") == [
        Broken(Reason.LOST, f"could not connect to site.example:{port}: Connection refused")
    ]


# ------------------------------------------------------------------------------------------------ faults


@linux
@secured
def test_an_answer_counts_that_comes_with_a_reset_between_two_sends(
    run: Run, secure: bool, authority: trustme.CA
) -> None:
    sends = 0
    begun, was_reset = threading.Event(), threading.Event()

    def observe(call: Any, item: Any) -> None:
        nonlocal sends
        sends += isinstance(item, Send)
        if sends == 2:  # as if the event loop were busy with something else
            begun.set()
            assert was_reset.wait(PATIENCE)

    def play(peer: Peer) -> None:
        peer.read_head()
        read = 0
        while read < 150_000:  # so that the system takes all of the first
            read += len(peer.socket.recv(65536))
        assert begun.wait(PATIENCE)
        peer.send(object_(503, success=False, message="Too busy."))
        peer.reset()
        was_reset.set()

    options: dict[str, Any] = {
        "session": Session(),
        "limits": Limits(request_bytes=1_000_000),
        "ssl_context": trusting(authority),
    }
    with Scripted(play, tls=tls_server(authority) if secure else None, session=False) as server:
        [broken] = ask(run, server.url, "x" * 600_000, observer=observe, **options)
    assert (broken.status, broken.detail) == (503, "Too busy.")


@secured
def test_what_came_before_a_reset_counts(run: Run, secure: bool, authority: trustme.CA) -> None:
    was_reset = threading.Event()

    def play(peer: Peer) -> None:
        peer.read()
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
    with Scripted(play, tls=tls_server(authority) if secure else None) as server:
        events = run(main)
    assert events[:-1] == [Live("a"), Live("b")]
    assert events[-1].reason is Reason.TRUNCATED


# ------------------------------------------------------------------------------------------------ cancelling


def patient(submitted: list[str], tls: ssl.SSLContext | None) -> Script:
    """Answers, and does not mind whatever moment the client leaves at."""

    def play(peer: Peer) -> None:
        with suppress(OSError):
            if tls is not None:
                peer.socket = tls.wrap_socket(peer.socket, server_side=True)
            with peer.socket:
                request = peer.read()
                if b"start_session" in request:
                    peer.send(SESSION)
                else:
                    submitted.append(request.partition(b'"newMessage":"')[2].partition(b'"')[0].decode())
                    peer.send(STREAM, live("Hel"), live("lo"), end("Hello"), LAST)

    return play


async def turns_later(count: int, then: Callable[[], object]) -> None:
    for _ in range(count):
        await asyncio.sleep(0)  # one turn of the loop
    then()


async def cut_at(what: str, nth: int, work: Coroutine[Any, Any, None]) -> bool:
    """Cancel it when it waits for the nth time, or at the nth turn of the loop. Returns whether it came so far."""
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
def test_cancelled_at_any_time_it_leaves_nothing_open_and_the_transport_goes_on(
    run: Run, what: str, secure: bool, authority: trustme.CA
) -> None:
    submitted: list[str] = []
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
            await follow()  # what had come before, and how it ended
            assert [type(event) for event in events[:-1]] == [Live] * (len(events) - 1)
            assert isinstance(events[-1], Broken | End)
            return True

    async def main() -> int:
        nth = 1
        while await cut(nth):
            # There are many turns; most are spent waiting for the server.
            nth += 1 if what == "await" or nth < 60 else nth // 6
        return nth

    with Scripted(patient(submitted, tls_server(authority) if secure else None), session=False) as server:
        # A name with two addresses; the first one refuses.
        url = server.url.replace("http://127.0.0.1", f"http{'s' if secure else ''}://localhost")
        assert run(main) > 5
    assert all(submitted.count(question) == 1 for question in submitted)


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


def test_a_timeout_of_asyncio_closes_and_comes_out(run: Run) -> None:
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

    def play(peer: Peer) -> None:
        peer.read()
        peer.send(STREAM, live("a"))
        assert peer.is_left()

    with Scripted(play) as server:
        run(main)


def test_in_a_task_group_the_failure_of_one_closes_the_others(run: Run) -> None:
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

    def play(peer: Peer) -> None:
        with suppress(OSError):
            peer.read()
            asked.set()
            assert peer.is_left()

    with Scripted(play) as server:
        run(main)


# ------------------------------------------------------------------------------------------------ leaving


@secured
def test_leaving_early_closes_the_connection_at_once(run: Run, secure: bool, authority: trustme.CA) -> None:
    left = threading.Event()

    def play(peer: Peer) -> None:
        peer.read()
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

    with Scripted(play, tls=tls_server(authority) if secure else None) as server:
        run(main)


@secured
@pytest.mark.parametrize("sent", [b"", STREAM, STREAM + live("a")], ids=["nothing", "head", "event"])
def test_closing_the_transport_ends_a_waiting_read(run: Run, sent: bytes, secure: bool, authority: trustme.CA) -> None:
    asked = threading.Event()

    def play(peer: Peer) -> None:
        peer.read()
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

    with Scripted(play, tls=tls_server(authority) if secure else None) as server:
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

    def play(peer: Peer) -> None:
        connected.set()
        assert peer.is_left()

    with full_queue() as port, Scripted(play, session=False) as server:
        run(lambda: main(port if scheme == "http" else server.port))


def test_closing_closes_also_when_cancelled(run: Run) -> None:
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

    def play(peer: Peer) -> None:
        peer.read()
        peer.send(STREAM, live("a"))
        assert peer.is_left()

    with Scripted(play) as server:
        run(main)


def test_a_reply_that_is_forgotten_leaves_the_server(run: Run) -> None:
    was_left = threading.Event()

    def play(peer: Peer) -> None:
        peer.read()
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

    with Scripted(play) as server:
        run(main)


# ------------------------------------------------------------------------------------------------ loops and tasks


def test_the_events_of_one_read_are_given_without_letting_others_run(run: Run) -> None:
    """And what has not been read waits for the loop, so that others run again and again."""
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

    with Scripted(answers(STREAM, live("a") * pieces + end("") + LAST)) as server:
        assert run(main) == pieces + 1
    assert turns >= 4


# ------------------------------------------------------------------------------------------------ TLS


def test_what_comes_before_tls_begins_is_not_read_as_if_inside(run: Run, authority: trustme.CA) -> None:
    """An answer in the clear, and then a handshake as it should be."""

    def play(peer: Peer) -> None:
        peer.socket.sendall(STREAM + live("forged") + end("forged") + LAST)
        with suppress(OSError), tls_server(authority).wrap_socket(peer.socket, server_side=True) as secure:
            peer.socket = secure
            assert peer.is_left()

    with Scripted(play, session=False) as server:
        url = server.url.replace("http://127.0.0.1", "https://localhost")
        [broken] = ask(run, url, session=Session(), ssl_context=trusting(authority))
    assert (broken.reason, broken.asked) == (Reason.LOST, False)
    assert broken.detail.startswith("TLS with localhost failed: ")


@pytest.mark.parametrize(
    "body", [b'data: {"type":"live","data":"a"}\n\n', b"<p>No.", b'{"success":'], ids=["stream", "page", "object"]
)
def test_a_cut_without_close_notify_before_the_end_is_truncated(run: Run, body: bytes, authority: trustme.CA) -> None:
    head = b"HTTP/1.1 200 OK\r\n\r\n"  # without a length: the end of the connection ends it
    with Scripted(without_close_notify(head + body), tls=tls_server(authority)) as server:
        events = ask(run, server.url, ssl_context=trusting(authority))
    assert [type(event) for event in events] == [Live] * (b"live" in body) + [Broken]
    assert events[-1].reason is Reason.TRUNCATED
