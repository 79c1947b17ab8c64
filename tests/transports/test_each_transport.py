"""Rules for every transport beyond a single answer, also on uvloop. Single answers are in scenarios.py."""

import inspect
import ssl
import threading
from collections.abc import Callable
from typing import Any

import pytest
import trustme

from opchat_proto import Broken, Closed, End, Endpoint, Limits, Live, Reason, Send, Session, Submit
from opchat_transports.blocking_server import serve
from opchat_transports.testing import ANSWER, Close, Delay, Expect, FaultServer, Reset, Script, Write

from .asking import EACH, TRANSPORTS, Ask, linux, on_asyncio
from .peer import PATIENCE, Peer, plays, takes
from .tls import tls_server, trusting, without_close_notify
from .wire import SESSION, STREAM, live, object_, tells

LARGE = Limits(request_bytes=64 * 1024 * 1024)


OURS = {name: each for name, each in EACH.items() if not each.is_httpx}
ASYNC = {name: each for name, each in EACH.items() if each.run is not None}
secured = pytest.mark.parametrize("secure", [False, True], ids=["plain", "TLS"])


pytestmark = pytest.mark.usefixtures("nothing_is_left", "no_thread_is_left")


@pytest.mark.parametrize("ask", EACH.values(), ids=EACH)
def test_the_librarys_own_server_answers(ask: Ask) -> None:
    with serve(lambda submit: [submit.new_message, "!"]) as server:
        events = ask(server.url)
    assert events == [Live("Hi"), Live("!"), End("Hi!", events[-1].raw)]


@pytest.mark.parametrize("ask", EACH.values(), ids=EACH)
def test_the_arguments_reach_the_server(ask: Ask) -> None:
    submit = Submit(new_message="Hi", chat_id="mine", bot_id="parrot")
    with FaultServer(tells("a")) as server:
        ask(Endpoint.parse(server.url), question=submit, headers={"X-Extra": "\xe9"}, session=Session())
    [request] = server.requests
    assert b"\r\nX-Extra: \xe9\r\n" in request.raw
    assert b'"botId":"parrot"' in request.raw
    assert b'"chatId":"mine"' in request.raw
    assert b"\r\nAccept-Encoding: identity\r\n" in request.raw
    assert b"\r\nUser-Agent: opchat/" in request.raw


@pytest.mark.parametrize("kind", TRANSPORTS)
def test_an_unusable_argument_is_refused_at_once(kind: Any) -> None:
    with pytest.raises(ValueError, match="expected a site"):
        kind("nowhere")
    with pytest.raises(ValueError, match="Host cannot be set"):
        kind("http://h", headers={"Host": "x"})
    with pytest.raises(ValueError, match="belongs to http://other"):
        kind("http://h", session=Session(origin="http://other"))
    with pytest.raises(TypeError, match="timeouts"):
        kind("http://h", timeouts=3)
    transport = kind("http://h", limits=Limits(request_bytes=200))
    with pytest.raises(ValueError, match="at most 200 bytes"):
        transport.ask("x" * 200)
    assert repr(transport) == f"<{kind.__name__} to http://h>"


@pytest.mark.parametrize("kind", TRANSPORTS)
def test_the_default_trust_store_is_the_systems(kind: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[ssl.SSLContext] = []

    def make() -> ssl.SSLContext:
        made.append(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))
        return made[-1]

    monkeypatch.setattr(ssl, "create_default_context", make)
    kind("http://h")
    assert made == []
    kind("https://h")
    assert len(made) == 1


@pytest.mark.parametrize("ask", EACH.values(), ids=EACH)
def test_tls_works_from_session_to_end(ask: Ask, authority: trustme.CA) -> None:
    with FaultServer(tells("Hel", "lo"), ssl_context=tls_server(authority)) as server:
        assert ask(server.url, ssl_context=trusting(authority))[-1].reply == "Hello"
    assert (server.routes, len(server.visits)) == (("start_session", "submit"), 2)


@linux
@pytest.mark.parametrize("milliseconds", [0, 2, 20])
@pytest.mark.parametrize("ask", EACH.values(), ids=EACH)
def test_no_question_is_lost_if_the_server_says_keep_alive_and_closes(ask: Ask, milliseconds: int) -> None:
    """The server closes this long after start_session without announcing it, as proxies do."""
    keep_alive = SESSION.replace(b"\r\n", b"\r\nConnection: keep-alive\r\n", 1)
    session = (Expect("start_session"), Write(keep_alive), Delay(milliseconds / 1000), Close())
    with FaultServer((*session, Expect(), Write(ANSWER))) as server:
        assert [type(ask(server.url)[-1]) for _ in range(20)] == [End] * 20
    assert server.routes == ("start_session", "submit") * 20


@pytest.mark.parametrize("ask", ASYNC.values(), ids=ASYNC)
def test_a_forgotten_async_is_named(ask: Ask) -> None:
    transport: Any = ask.kind("http://h")
    name = ask.kind.__name__.replace("Transport", "Reply")
    for it in (transport, transport.ask("Hi")):
        with pytest.raises(TypeError, match=r"^\w+: use `async with` instead of `with`$"), it:
            pass
    with pytest.raises(TypeError, match=rf"^{name}: use `async for` instead of `for`, or `await reply\.text\(\)`$"):
        list(transport.ask("Hi"))


@pytest.mark.parametrize("ask", ASYNC.values(), ids=ASYNC)
def test_a_reply_outside_an_event_loop_names_its_transport(ask: Ask) -> None:
    reply = ask.kind("http://h").ask("Hi")
    with pytest.raises(RuntimeError, match=f"^{ask.kind.__name__} does not run in this event loop, or outside one: "):
        anext(reply).send(None)


@pytest.mark.parametrize("ask", ASYNC.values(), ids=ASYNC)
def test_a_reply_cannot_continue_in_another_event_loop(ask: Ask) -> None:
    async def first() -> None:
        replies.append(transport.ask("Hi"))
        assert [type(event) async for event in replies[0]] == [Live, End]  # closes the connection

    async def then() -> None:
        with pytest.raises(RuntimeError, match="belongs to another event loop"):
            await anext(replies[0])

    assert ask.run is not None
    replies: list[Any] = []
    with FaultServer(tells("a")) as server:
        transport = ask.kind(server.url)
        ask.run(first)
        ask.run(then)


@pytest.mark.parametrize("ask", EACH.values(), ids=EACH)
@pytest.mark.parametrize("closes", ["transport", "reply"])
def test_an_observer_that_raises_during_close_leaves_no_connection_open(ask: Ask, closes: str) -> None:
    async def main() -> None:
        for reply in replies:
            assert await result_of(reply, "next") == Live("a")
        for each in [transport] if closes == "transport" else replies:
            with pytest.raises(ObserverError, match="Closed"):
                await result_of(each, "close")

    left = threading.Semaphore(0)
    with FaultServer(stays(left)) as server:
        transport = ask.kind(server.url, session=Session(), observer=raises_at(Closed))
        replies = [transport.ask("Hi"), transport.ask("Hi")]
        (ask.run or on_asyncio)(main)
        assert [left.acquire(timeout=PATIENCE) for _ in replies] == [True, True]


@pytest.mark.parametrize("ask", EACH.values(), ids=EACH)
def test_an_observer_that_raises_at_every_event_leaves_no_connection_open(ask: Ask) -> None:
    async def main() -> None:
        with pytest.raises(ObserverError, match="Closed"):
            await result_of(reply, "next")

    left = threading.Semaphore(0)
    with FaultServer(stays(left)) as server:
        reply = ask.kind(server.url, session=Session(), observer=raises_at(Live, Closed)).ask("Hi")
        (ask.run or on_asyncio)(main)
        assert left.acquire(timeout=PATIENCE)


class ObserverError(Exception):
    """Raised by an observer."""


def raises_at(*kinds: type) -> Callable[[Any, Any], None]:
    """An observer."""

    def observe(call: Any, item: Any) -> None:
        if isinstance(item, kinds):
            raise ObserverError(type(item).__name__)

    return observe


def stays(left: threading.Semaphore) -> Script:
    """Send one event and wait for the client to leave."""

    @plays
    def play(peer: Peer) -> None:
        peer.send(STREAM, live("a"))
        if peer.is_left():
            left.release()

    return play


async def result_of(each: Any, name: str) -> Any:
    """Call `next` or `close`, or its asynchronous counterpart."""
    names = {"next": ("__next__", "__anext__"), "close": ("close", "aclose")}[name]
    result = next(getattr(each, name) for name in names if hasattr(each, name))()
    return await result if inspect.isawaitable(result) else result


# ---------------------------------------------------------------- faults that HTTP libraries report differently


@pytest.mark.parametrize("ask", OURS.values(), ids=OURS)
def test_an_impossible_host_name_is_lost(ask: Ask) -> None:
    [broken] = ask(f"http://{'a' * 64}", session=Session())
    assert broken.reason is Reason.LOST
    assert broken.detail.startswith(f"could not connect to {'a' * 64}:80: ")


@pytest.mark.parametrize("ask", OURS.values(), ids=OURS)
def test_a_reset_is_truncated_with_the_reason(ask: Ask) -> None:
    with FaultServer((Expect(), Write(ANSWER[:-60]), Delay(0.1), Reset())) as server:
        events = ask(server.url)
    assert events[-1] == Broken(Reason.TRUNCATED, "the connection failed: Connection reset by peer", asked=True)


@secured
@pytest.mark.parametrize("ask", OURS.values(), ids=OURS)
def test_a_send_that_fails_is_lost(ask: Ask, secure: bool, authority: trustme.CA) -> None:
    @takes
    def play(peer: Peer) -> None:
        peer.read_head()
        peer.reset()

    options: dict[str, Any] = {"session": Session(), "limits": LARGE, "ssl_context": trusting(authority)}
    with FaultServer(play, ssl_context=tls_server(authority) if secure else None) as server:
        [broken] = ask(server.url, question="x" * 16_000_000, **options)
    assert (broken.reason, broken.asked) == (Reason.LOST, True)
    assert broken.detail.startswith("the connection")


@secured
@pytest.mark.parametrize("ask", OURS.values(), ids=OURS)
def test_an_answer_that_arrives_before_the_question_was_read_counts(
    ask: Ask, secure: bool, authority: trustme.CA
) -> None:
    @takes
    def play(peer: Peer) -> None:
        peer.read_head()
        peer.send(object_(413, success=False, message="Too large."))
        assert peer.is_left()

    options: dict[str, Any] = {"session": Session(), "limits": LARGE, "ssl_context": trusting(authority)}
    with FaultServer(play, ssl_context=tls_server(authority) if secure else None) as server:
        [broken] = ask(server.url, question="x" * 16_000_000, **options)
    assert (broken.status, broken.detail) == (413, "Too large.")


@linux
@secured
@pytest.mark.parametrize("ask", OURS.values(), ids=OURS)
def test_an_answer_that_comes_with_a_reset_between_two_sends_is_read(
    ask: Ask, secure: bool, authority: trustme.CA
) -> None:
    sends = 0
    begun, was_reset = threading.Event(), threading.Event()

    def observe(call: Any, item: Any) -> None:
        nonlocal sends
        sends += isinstance(item, Send)
        if sends == 2:  # as if the program were busy
            begun.set()
            assert was_reset.wait(PATIENCE)

    @takes
    def play(peer: Peer) -> None:
        peer.read_head()
        read = 0
        while read < 150_000:  # so that the system accepts the whole first one
            read += len(peer.socket.recv(65536))
        assert begun.wait(PATIENCE)
        peer.send(object_(503, success=False, message="Too busy."))
        peer.reset()
        was_reset.set()

    options: dict[str, Any] = {"session": Session(), "limits": LARGE, "ssl_context": trusting(authority)}
    with FaultServer(play, ssl_context=tls_server(authority) if secure else None) as server:
        [broken] = ask(server.url, question="x" * 600_000, observer=observe, **options)
    assert (broken.status, broken.detail) == (503, "Too busy.")


@linux
@secured
@pytest.mark.parametrize("ask", OURS.values(), ids=OURS)
def test_an_answer_that_comes_with_a_reset_while_sending_is_read(ask: Ask, secure: bool, authority: trustme.CA) -> None:
    @takes
    def play(peer: Peer) -> None:
        peer.read_head()
        peer.send(object_(413, success=False, message="Too large."))
        peer.reset()

    options: dict[str, Any] = {"session": Session(), "limits": LARGE, "ssl_context": trusting(authority)}
    with FaultServer(play, ssl_context=tls_server(authority) if secure else None) as server:
        [broken] = ask(server.url, question="x" * 16_000_000, **options)
    assert (broken.status, broken.detail) == (413, "Too large.")


@pytest.mark.parametrize("ask", EACH.values(), ids=EACH)
def test_a_cut_is_noticed_even_if_the_context_reports_an_end(ask: Ask) -> None:
    authority = trustme.CA()
    context = trusting(authority)
    context.options |= ssl.OP_IGNORE_UNEXPECTED_EOF  # as early versions of CPython 3.11 do
    page = b"HTTP/1.1 200 OK\r\n\r\n<p>No."  # without a length, so the end of the connection ends it
    with FaultServer(without_close_notify(page), ssl_context=tls_server(authority)) as server:
        [last] = ask(server.url, ssl_context=context, session=Session())
    assert isinstance(last, Broken)
    assert last.reason is Reason.TRUNCATED
