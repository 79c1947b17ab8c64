import gc
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
import trustme

from opchat_proto import (
    Broken,
    Call,
    Connect,
    DataReceived,
    End,
    Endpoint,
    HTTPCall,
    Limits,
    Live,
    Reason,
    Session,
    StartTLS,
    Submit,
)
from opchat_transports import Timeouts, Transport
from opchat_transports.blocking_server import serve
from opchat_transports.blocking_sockets import BlockingReply, BlockingTransport
from opchat_transports.testing import ANSWER, Close, Delay, Expect, FaultServer, Write

from .asking import in_thread, linux
from .scripted import LAST, PATIENCE, SESSION, STREAM, Peer, Scripted, answers, end, live, object_, tells
from .tls import tls_server, trusting, without_close_notify

LARGE = Limits(request_bytes=64 * 1024 * 1024)


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    assert set(threading.enumerate()) <= before
    gc.collect()  # what was not closed is a ResourceWarning, which is an error


def ask(url: str | Endpoint, question: Any = "Hi", **options: Any) -> list[Any]:
    with BlockingTransport(url, **options) as transport, transport.ask(question) as reply:
        return list(reply)


# ------------------------------------------------------------------------------------------------ questions


def test_the_librarys_own_server_answers() -> None:
    with serve(lambda submit: [submit.new_message, "!"]) as server:
        events = ask(server.url)
    assert events == [Live("Hi"), Live("!"), End("Hi!", events[-1].raw)]


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

    with (
        Scripted(play) as server,
        BlockingTransport(server.url, session=Session()) as transport,
        transport.ask("Hi") as reply,
    ):
        assert next(reply) == Live("first")
        seen.set()
        assert [type(event) for event in reply] == [End]
        with pytest.raises(StopIteration):
            next(reply)


def test_it_meets_the_protocol() -> None:
    transport: Transport = BlockingTransport("http://h")
    assert transport.session is None


def test_what_cannot_be_used_is_refused_at_once() -> None:
    with pytest.raises(ValueError, match="expected a site"):
        BlockingTransport("nowhere")
    with pytest.raises(ValueError, match="Host is not yours"):
        BlockingTransport("http://h", headers={"Host": "x"})
    with pytest.raises(ValueError, match="belongs to http://other"):
        BlockingTransport("http://h", session=Session(origin="http://other"))
    with pytest.raises(TypeError, match="timeouts"):
        BlockingTransport("http://h", timeouts=3)  # type: ignore[arg-type]  # wrong on purpose
    transport = BlockingTransport("http://h", limits=Limits(request_bytes=200))
    with pytest.raises(ValueError, match="at most 200 bytes"):
        transport.ask("x" * 200)
    assert repr(transport) == "<BlockingTransport to http://h>"
    assert repr(transport.ask("x")) == "<BlockingReply of <Call to http://h SESSION after 0 events>>"


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

    with Scripted(play) as server, BlockingTransport(server.url, session=Session()) as transport:
        reply = transport.ask("Hi")
        assert next(reply) == Live("a")
        got.set()
        assert next(reply) == Broken(Reason.TRUNCATED, "the connection failed: Connection reset by peer", asked=True)


@pytest.mark.parametrize("secure", [False, True], ids=["plain", "TLS"])
def test_a_send_that_fails_is_lost(secure: bool, authority: trustme.CA) -> None:
    def play(peer: Peer) -> None:
        peer.read_head()
        peer.reset()

    tls = tls_server(authority) if secure else None
    with Scripted(play, tls=tls, session=False) as server:
        [broken] = ask(server.url, "x" * 16_000_000, session=Session(), limits=LARGE, ssl_context=trusting(authority))
    assert (broken.reason, broken.asked) == (Reason.LOST, True)
    assert broken.detail.startswith("the connection")


@linux
@pytest.mark.parametrize("milliseconds", [0, 2, 20])
def test_a_server_that_says_keep_alive_and_closes_loses_no_question(milliseconds: int) -> None:
    """It closes so long after start_session, without announcing it, as proxies do."""
    keep_alive = SESSION.replace(b"\r\n", b"\r\nConnection: keep-alive\r\n", 1)
    session = (Expect("start_session"), Write(keep_alive), Delay(milliseconds / 1000), Close())
    with FaultServer((*session, Expect(), Write(ANSWER))) as server:
        assert [type(ask(server.url)[-1]) for _ in range(20)] == [End] * 20
    assert server.routes == ("start_session", "submit") * 20


def test_an_answer_before_the_question_was_read_counts() -> None:
    def play(peer: Peer) -> None:
        peer.read_head()
        peer.send(object_(413, success=False, message="Too large."))
        assert peer.is_left()

    with Scripted(play, session=False) as server:
        [broken] = ask(server.url, "x" * 16_000_000, session=Session(), limits=LARGE)
    assert (broken.status, broken.detail) == (413, "Too large.")


# ------------------------------------------------------------------------------------------------ clocks


@linux
def test_the_connect_clock(full_port: int) -> None:
    there = f"127.0.0.1:{full_port}"
    detail = f"could not connect to {there}: no connection within 0.1 s (timeout 'connect'), after 0 events"
    assert ask(f"http://{there}", session=Session(), timeouts=Timeouts(connect=0.1)) == [
        Broken(Reason.TIMEOUT, detail, limit="connect")
    ]


@linux
def test_a_second_address_is_tried_within_the_same_clock(full_port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    with Scripted(tells("a")) as server:
        addresses = [
            (socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", ("127.0.0.1", port))
            for port in (full_port, server.port)
        ]
        with monkeypatch.context() as patched:
            patched.setattr(socket, "getaddrinfo", lookup(lambda: addresses))
            events = ask("http://h", session=Session(), timeouts=Timeouts(connect=1))
    assert events[-1].reply == "a"


def lookup(names: Callable[[], Any]) -> Callable[..., Any]:
    """Replaces `socket.getaddrinfo`, which is asked for an address first."""

    def look_up(host: Any, *_: Any, flags: int = 0, **__: Any) -> Any:
        if flags & socket.AI_NUMERICHOST:
            raise socket.gaierror(socket.EAI_NONAME, "no address")
        return names()

    return look_up


@pytest.fixture
def stuck_lookup(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """The lookup of any name hangs for as long as the test takes. The event tells that it has begun."""
    begun, ended = threading.Event(), threading.Event()

    def hang() -> list[Any]:
        begun.set()
        assert ended.wait(PATIENCE)
        return []

    monkeypatch.setattr(socket, "getaddrinfo", lookup(hang))
    yield begun
    ended.set()
    for thread in threading.enumerate():
        if thread.name == "opchat lookup":
            thread.join(PATIENCE)


def test_the_connect_clock_bounds_the_lookup_of_a_name(stuck_lookup: threading.Event) -> None:
    detail = "could not connect to h:80: no connection within 0.1 s (timeout 'connect'), after 0 events"
    assert ask("http://h", session=Session(), timeouts=Timeouts(connect=0.1)) == [
        Broken(Reason.TIMEOUT, detail, limit="connect")
    ]


def test_the_connect_clock_in_the_handshake(authority: trustme.CA) -> None:
    with Scripted(lambda peer: peer.is_left(), session=False) as server:
        url = server.url.replace("http:", "https:")
        events = ask(url, session=Session(), ssl_context=trusting(authority), timeouts=Timeouts(connect=0.1))
    detail = "TLS with 127.0.0.1 failed: no handshake within 0.1 s (timeout 'connect'), after 0 events"
    assert events == [Broken(Reason.TIMEOUT, detail, limit="connect")]


@pytest.mark.parametrize("secure", [False, True], ids=["plain", "TLS"])
def test_the_write_clock(secure: bool, authority: trustme.CA) -> None:
    given_up = threading.Event()
    options = {"limits": LARGE, "timeouts": Timeouts(write=0.3), "ssl_context": trusting(authority)}
    tls = tls_server(authority) if secure else None
    with Scripted(lambda peer: peer.read_head() and given_up.wait(PATIENCE), tls=tls, session=False) as server:
        events = ask(server.url, "x" * 32_000_000, session=Session(), **options)
        given_up.set()
    detail = "the request could not be sent: not all of it was taken within 0.3 s (timeout 'write'), after 0 events"
    assert events == [Broken(Reason.TIMEOUT, detail, limit="write", asked=True)]


# ------------------------------------------------------------------------------------------------ leaving


def test_leaving_early_closes_the_connection_at_once() -> None:
    left = threading.Event()

    def play(peer: Peer) -> None:
        peer.read()
        peer.send(STREAM, live("a"))
        assert peer.is_left()
        left.set()

    with Scripted(play) as server, BlockingTransport(server.url, session=Session()) as transport:
        with transport.ask("Hi") as reply:
            for _ in reply:
                break
        assert left.wait(PATIENCE)
        reply.close()


def test_a_closed_reply_is_broken_and_then_over() -> None:
    with (
        Scripted(answers(STREAM, live("a"), live("b"))) as server,
        BlockingTransport(server.url, session=Session()) as transport,
    ):
        reply = transport.ask("Hi")
        next(reply)
        reply.close()
        assert list(reply)[-1] == Broken(Reason.TRUNCATED, "closed by the caller", asked=True)
        assert list(reply) == []
        unread = transport.ask("Hi")
        unread.close()
        assert list(unread) == [Broken(Reason.LOST, "closed by the caller", in_session=True)]
        assert list(unread) == []


@pytest.mark.parametrize("sent", [b"", STREAM, STREAM + live("a")], ids=["nothing", "head", "event"])
@pytest.mark.parametrize("secure", [False, True], ids=["plain", "TLS"])
def test_closing_the_transport_ends_a_waiting_read(sent: bytes, secure: bool, authority: trustme.CA) -> None:
    waiting, taken = threading.Event(), threading.Event()

    def play(peer: Peer) -> None:
        peer.read()
        peer.send(sent)
        waiting.set()
        assert peer.is_left()

    def observe(_: Call | HTTPCall, item: object) -> None:
        if isinstance(item, DataReceived):
            received.extend(item.data)
        if len(received) == len(sent):
            taken.set()

    received = bytearray()
    options: dict[str, Any] = {"ssl_context": trusting(authority), "observer": observe}
    with Scripted(play, tls=tls_server(authority) if secure else None) as server:
        transport = BlockingTransport(server.url, session=Session(), **options)
        join = in_thread(lambda: list(transport.ask("Hi")))
        assert waiting.wait(PATIENCE)
        assert taken.wait(PATIENCE)
        transport.close()
        reason = Reason.TRUNCATED if sent else Reason.LOST
        assert join()[-1] == Broken(reason, "closed by the caller", asked=True)
        transport.close()
        with pytest.raises(RuntimeError, match="closed"):
            transport.ask("Hi")


def test_closing_the_transport_ends_a_wait_for_the_session() -> None:
    asked = threading.Event()

    def play(peer: Peer) -> None:
        peer.read()
        asked.set()
        assert peer.is_left()

    with Scripted(play, session=False) as server, BlockingTransport(server.url) as transport:
        joins = [in_thread(partial(list, transport.ask("Hi"))) for _ in range(5)]
        assert asked.wait(PATIENCE)
        transport.close()
        for join in joins:
            assert join() == [Broken(Reason.LOST, "closed by the caller", in_session=True)]
    assert server.connections == 1


class Begun:
    """An observer that waits for a step of this kind."""

    def __init__(self, step: type[object]) -> None:
        self._step = step
        self._happened = threading.Event()

    def __call__(self, _: Call | HTTPCall, item: object) -> None:
        if isinstance(item, self._step):
            self._happened.set()

    def wait(self) -> None:
        assert self._happened.wait(PATIENCE)


CLOSED = [Broken(Reason.LOST, "closed by the caller")]


@linux
def test_closing_the_transport_ends_a_connect(full_port: int) -> None:
    begun = Begun(Connect)
    timeouts = Timeouts(connect=PATIENCE)
    transport = BlockingTransport(f"http://127.0.0.1:{full_port}", session=Session(), timeouts=timeouts, observer=begun)
    join = in_thread(lambda: list(transport.ask("Hi")))
    begun.wait()
    transport.close()
    assert join() == CLOSED


@pytest.mark.parametrize("ends", ["reply", "transport"])
def test_closing_ends_the_lookup_of_a_name(stuck_lookup: threading.Event, ends: str) -> None:
    transport = BlockingTransport("http://h", session=Session(), timeouts=Timeouts(connect=None))
    reply = transport.ask("Hi")
    join = in_thread(lambda: list(reply))
    assert stuck_lookup.wait(PATIENCE)
    (reply if ends == "reply" else transport).close()
    assert join() == CLOSED


def test_no_lookup_begins_once_the_reply_is_closed(stuck_lookup: threading.Event) -> None:
    """Not even where it is closed between the step and the lookup."""

    def observe(_: Call | HTTPCall, item: object) -> None:
        if isinstance(item, Connect):
            transport.close()

    transport = BlockingTransport("http://h", session=Session(), timeouts=Timeouts(connect=0.5), observer=observe)
    assert list(transport.ask("Hi")) == CLOSED
    assert not stuck_lookup.is_set()


def test_closing_the_transport_ends_a_handshake(authority: trustme.CA) -> None:
    hello, begun = threading.Event(), Begun(StartTLS)

    def play(peer: Peer) -> None:
        peer.socket.recv(1)
        hello.set()
        assert peer.is_left()

    with Scripted(play, session=False) as server:
        url = server.url.replace("http:", "https:")
        options: dict[str, Any] = {"ssl_context": trusting(authority), "observer": begun}
        transport = BlockingTransport(url, session=Session(), **options)
        join = in_thread(lambda: list(transport.ask("Hi")))
        begun.wait()
        assert hello.wait(PATIENCE)
        transport.close()
        assert join() == CLOSED


@pytest.mark.parametrize("secure", [False, True], ids=["plain", "TLS"])
def test_closing_the_transport_ends_a_send(secure: bool, authority: trustme.CA) -> None:
    begun, left = threading.Event(), threading.Event()

    def play(peer: Peer) -> None:
        peer.read_head()
        begun.set()
        assert left.wait(PATIENCE)

    tls = tls_server(authority) if secure else None
    with Scripted(play, tls=tls, session=False) as server:
        options: dict[str, Any] = {"limits": LARGE, "ssl_context": trusting(authority)}
        transport = BlockingTransport(server.url, session=Session(), **options)
        join = in_thread(lambda: list(transport.ask("x" * 32_000_000)))
        assert begun.wait(PATIENCE)
        transport.close()
        assert join() == [Broken(Reason.LOST, "closed by the caller", asked=True)]
        left.set()


def test_an_exception_from_within_closes_the_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    left = threading.Event()

    def play(peer: Peer) -> None:
        peer.read()
        assert peer.is_left()
        left.set()

    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    # Where a signal handler of Python's would raise it.
    monkeypatch.setattr(BlockingReply, "_receive", interrupt)
    with Scripted(play) as server, BlockingTransport(server.url, session=Session()) as transport:
        reply = transport.ask("Hi")
        with pytest.raises(KeyboardInterrupt):
            next(reply)
        assert left.wait(PATIENCE)
        assert list(reply) == [Broken(Reason.LOST, "closed by the caller", asked=True)]


# ------------------------------------------------------------------------------------------------ TLS


def test_tls_from_session_to_end(authority: trustme.CA) -> None:
    with Scripted(tells("a"), tls=tls_server(authority)) as server:
        assert ask(server.url, ssl_context=trusting(authority))[-1].reply == "a"
    assert (server.routes, server.connections) == (["start_session", "submit"], 2)


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
    BlockingTransport("http://h")
    assert made == []
    BlockingTransport("https://h")
    assert len(made) == 1
