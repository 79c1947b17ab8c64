import socket
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
    Endpoint,
    HTTPCall,
    Limits,
    Reason,
    Session,
    StartTLS,
)
from opchat_transports import Timeouts
from opchat_transports.blocking_sockets import BlockingReply, BlockingTransport
from opchat_transports.testing import FaultServer

from .asking import in_thread, linux
from .peer import PATIENCE, Peer, plays, takes
from .tls import tls_server, trusting
from .wire import STREAM, live, tells

LARGE = Limits(request_bytes=64 * 1024 * 1024)


pytestmark = pytest.mark.usefixtures("nothing_is_left", "no_thread_is_left")


def ask(url: str | Endpoint, question: Any = "Hi", **options: Any) -> list[Any]:
    with BlockingTransport(url, **options) as transport, transport.ask(question) as reply:
        return list(reply)


# ------------------------------------------------------------------------------------------------ clocks


@linux
def test_a_second_address_is_tried_within_the_same_clock(full_port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    with FaultServer(tells("a")) as server:
        addresses = [
            (socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", ("127.0.0.1", port))
            for port in (full_port, server.port)
        ]
        with monkeypatch.context() as patched:
            patched.setattr(socket, "getaddrinfo", lookup(lambda: addresses))
            events = ask("http://h", session=Session(), timeouts=Timeouts(connect=1))
    assert events[-1].reply == "a"


def test_an_address_of_an_unknown_family_does_not_hide_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a system without IPv6."""
    with FaultServer(tells("a")) as server, monkeypatch.context() as patched:
        good = (socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", ("127.0.0.1", server.port))
        patched.setattr(socket, "getaddrinfo", lookup(lambda: [(9999, *good[1:]), good]))
        assert ask("http://h", session=Session())[-1].reply == "a"


def lookup(names: Callable[[], Any]) -> Callable[..., Any]:
    """Replaces `socket.getaddrinfo`, which runs first."""

    def look_up(host: Any, *_: Any, flags: int = 0, **__: Any) -> Any:
        if flags & socket.AI_NUMERICHOST:
            raise socket.gaierror(socket.EAI_NONAME, "no address")
        return names()

    return look_up


@pytest.fixture
def stuck_lookup(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Name lookups hang until the test ends. The event is set once one has begun."""
    begun, ended = threading.Event(), threading.Event()

    def hang() -> list[Any]:
        begun.set()
        assert ended.wait(PATIENCE)
        return []

    monkeypatch.setattr(socket, "getaddrinfo", lookup(hang))
    yield begun
    ended.set()


def test_the_connect_clock_bounds_the_lookup_of_a_name(stuck_lookup: threading.Event) -> None:
    detail = "could not connect to h:80: no connection within 0.1 s (timeout 'connect'), after 0 events"
    assert ask("http://h", session=Session(), timeouts=Timeouts(connect=0.1)) == [
        Broken(Reason.TIMEOUT, detail, limit="connect")
    ]


# ------------------------------------------------------------------------------------------------ leaving


@pytest.mark.parametrize("sent", [b"", STREAM, STREAM + live("a")], ids=["nothing", "head", "event"])
@pytest.mark.parametrize("secure", [False, True], ids=["plain", "TLS"])
def test_closing_the_transport_ends_a_waiting_read(sent: bytes, secure: bool, authority: trustme.CA) -> None:
    waiting, taken = threading.Event(), threading.Event()

    @plays
    def play(peer: Peer) -> None:
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
    with FaultServer(play, ssl_context=tls_server(authority) if secure else None) as server:
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

    @takes
    def play(peer: Peer) -> None:
        peer.read()
        asked.set()
        assert peer.is_left()

    with FaultServer(play) as server, BlockingTransport(server.url) as transport:
        joins = [in_thread(partial(list, transport.ask("Hi"))) for _ in range(5)]
        assert asked.wait(PATIENCE)
        transport.close()
        for join in joins:
            assert join() == [Broken(Reason.LOST, "closed by the caller", in_session=True)]
    assert len(server.visits) == 1


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


@linux
def test_closing_just_before_a_connect_ends_it_without_a_timeout(
    full_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    connect, shutdown = socket.socket.connect, socket.socket.shutdown
    joins: list[Callable[[], Any]] = []
    is_shut_down = threading.Event()

    def connect_late(connection: socket.socket, address: Any) -> None:
        joins.append(in_thread(transport.close))
        assert is_shut_down.wait(PATIENCE)
        connect(connection, address)

    def tell(connection: socket.socket, how: int) -> None:
        try:
            shutdown(connection, how)
        finally:  # the system reports that it is not connected
            is_shut_down.set()

    monkeypatch.setattr(socket.socket, "connect", connect_late)
    monkeypatch.setattr(socket.socket, "shutdown", tell)
    timeouts = Timeouts(connect=None)
    transport = BlockingTransport(f"http://127.0.0.1:{full_port}", session=Session(), timeouts=timeouts)
    assert in_thread(lambda: list(transport.ask("Hi")))() == CLOSED
    assert [join() for join in joins] == [None]


@pytest.mark.parametrize("ends", ["reply", "transport"])
def test_closing_ends_a_name_lookup(stuck_lookup: threading.Event, ends: str) -> None:
    transport = BlockingTransport("http://h", session=Session(), timeouts=Timeouts(connect=None))
    reply = transport.ask("Hi")
    join = in_thread(lambda: list(reply))
    assert stuck_lookup.wait(PATIENCE)
    (reply if ends == "reply" else transport).close()
    assert join() == CLOSED


def test_no_name_lookup_begins_after_the_reply_is_closed(stuck_lookup: threading.Event) -> None:
    """This includes a close between the step and the lookup."""

    def observe(_: Call | HTTPCall, item: object) -> None:
        if isinstance(item, Connect):
            transport.close()

    transport = BlockingTransport("http://h", session=Session(), timeouts=Timeouts(connect=0.5), observer=observe)
    assert list(transport.ask("Hi")) == CLOSED
    assert not stuck_lookup.is_set()


def test_closing_the_transport_ends_a_handshake(authority: trustme.CA) -> None:
    hello, begun = threading.Event(), Begun(StartTLS)

    @takes
    def play(peer: Peer) -> None:
        peer.socket.recv(1)
        hello.set()
        assert peer.is_left()

    with FaultServer(play) as server:
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

    @takes
    def play(peer: Peer) -> None:
        peer.read_head()
        begun.set()
        assert left.wait(PATIENCE)

    tls = tls_server(authority) if secure else None
    with FaultServer(play, ssl_context=tls) as server:
        options: dict[str, Any] = {"limits": LARGE, "ssl_context": trusting(authority)}
        transport = BlockingTransport(server.url, session=Session(), **options)
        join = in_thread(lambda: list(transport.ask("x" * 32_000_000)))
        assert begun.wait(PATIENCE)
        transport.close()
        assert join() == [Broken(Reason.LOST, "closed by the caller", asked=True)]
        left.set()


def test_an_exception_raised_inside_a_step_closes_the_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    left = threading.Event()

    @takes
    def play(peer: Peer) -> None:
        assert peer.is_left()
        left.set()

    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    # At a place where Python may run a signal handler that raises it.
    monkeypatch.setattr(BlockingReply, "_receive", interrupt)
    with FaultServer(play) as server, BlockingTransport(server.url, session=Session()) as transport:
        reply = transport.ask("Hi")
        with pytest.raises(KeyboardInterrupt):
            next(reply)
        assert left.wait(PATIENCE)
        assert list(reply) == [Broken(Reason.LOST, "closed by the caller", asked=True)]
