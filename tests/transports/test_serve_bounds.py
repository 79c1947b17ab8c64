"""The bounds of `serve`: too many connections, too large bodies, slow clients."""

import select
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from opchat_proto import Limits, Reason, Session, Submit
from opchat_transports.blocking_server import BlockingServer, serve
from opchat_transports.blocking_sockets import BlockingTransport

from .asked import SECRET, all_of, ask, asking, echo, received, replies
from .peer import PATIENCE

pytestmark = pytest.mark.usefixtures("no_thread_is_left", "no_file_is_left")


def test_a_request_that_is_too_large_is_answered() -> None:
    with serve(echo, limits=Limits(request_bytes=1000)) as server:
        [broken] = ask(server, "x" * 900_000, session=Session("0123456789"))
    assert (broken.reason, broken.status) == (Reason.REFUSED, 413)


def test_a_client_that_sends_too_slowly_is_disconnected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("opchat_transports.blocking_server._REQUEST_WITHIN", 0.1)
    with serve(echo) as server, socket.create_connection(("127.0.0.1", server.port)) as connection:
        connection.settimeout(PATIENCE)
        connection.sendall(b"POST / HT")
        assert not received(connection)


def test_a_client_that_does_not_read_is_disconnected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("opchat_transports.blocking_server._PIECE_SENT_WITHIN", 0.1)
    closed = threading.Event()

    def bot(submit: Submit) -> Iterator[str]:
        try:
            while True:
                yield "x" * 1_000_000
        finally:
            closed.set()

    with serve(bot) as server, BlockingTransport(server.url) as transport, transport.ask("Hi") as reply:
        next(reply)
        assert closed.wait(PATIENCE)


def test_bytes_that_are_not_http_are_answered() -> None:
    with serve(echo) as server, socket.create_connection(("127.0.0.1", server.port)) as connection:
        connection.settimeout(PATIENCE)
        connection.sendall(b"\x16\x03\x01\x02\x00")
        assert received(connection).startswith(b"HTTP/1.1 400 ")


def head(connection: socket.socket) -> bytes:
    connection.sendall(b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n")
    received = b""
    while not received.endswith(b"\r\n\r\n"):
        data = connection.recv(65536)
        assert data
        received += data
    return received[:12]


def test_one_connection_too_many_closes_an_idle_one() -> None:
    with serve(echo, connections=2) as server, ExitStack() as stack:
        address = ("127.0.0.1", server.port)
        first, second, third = (stack.enter_context(socket.create_connection(address, PATIENCE)) for _ in range(3))
        assert head(third) == b"HTTP/1.1 200"
        [closed], _, _ = select.select([first, second], [], [], PATIENCE)
        assert closed.recv(1) == b""
        assert head(second if closed is first else first) == b"HTTP/1.1 200"
        assert ask(server, "abc")[-1].reply == "abc"


def test_a_new_connection_waits_while_all_others_are_being_answered() -> None:
    answering, goes_on = threading.Event(), threading.Event()

    def bot(submit: Submit) -> Iterator[str]:
        yield "a"
        answering.set()
        assert goes_on.wait(PATIENCE)

    with serve(bot, connections=1) as server:
        first = threading.Thread(target=ask, args=(server,))
        first.start()
        assert answering.wait(PATIENCE)
        with socket.create_connection(("127.0.0.1", server.port), 0.2) as second:
            second.sendall(b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n")
            with pytest.raises(TimeoutError):
                second.recv(1)
            goes_on.set()
            second.settimeout(PATIENCE)
            assert second.recv(12) == b"HTTP/1.1 200"
        first.join()


def test_a_server_that_waits_for_room_can_be_closed() -> None:
    answering = threading.Event()

    def bot(submit: Submit) -> Iterator[str]:
        answering.set()
        while True:
            yield "a"

    server = serve(bot, connections=1)
    first = threading.Thread(target=ask, args=(server,))
    first.start()
    assert answering.wait(PATIENCE)
    with socket.create_connection(("127.0.0.1", server.port), PATIENCE):
        server.close()
    first.join(PATIENCE)
    assert not first.is_alive()


def test_a_server_without_connections_is_refused() -> None:
    with pytest.raises(ValueError, match="connections: expected at least 1, got 0"):
        serve(echo, connections=0)


# ------------------------------------------------------------------------------ bounds


def test_the_largest_body_is_dropped_when_all_bodies_together_exceed_the_bound(
    caplog: pytest.LogCaptureFixture,
) -> None:
    head = b"POST /wp-json/mwai/v1/start_session HTTP/1.1\r\nHost: a\r\nContent-Length: 65000\r\n\r\n"
    address = "127.0.0.1"
    with serve(echo, body_bytes=70_000) as server, ExitStack() as stack:
        large, small = (
            stack.enter_context(socket.create_connection((address, server.port), PATIENCE)) for _ in range(2)
        )
        large.sendall(head + b"x" * 40_000)
        wait_for_bytes(server, range(40_000, 70_000))
        small.sendall(head + b"x" * 31_000)
        assert large.recv(1) == b""  # closed
        small.sendall(b"x" * 30_000)
        assert ask(server)[-1].reply == "Hi"
        small.sendall(b"x" * 4_000)
        assert small.recv(12) == b"HTTP/1.1 200"
        wait_for_bytes(server, range(1))
    assert caplog.messages == ["the bodies of all requests are too large together: the largest was dropped"]


def wait_for_bytes(server: BlockingServer, counts: range) -> None:
    """Wait until the server holds this many bytes of bodies, which can only be polled from outside."""
    end, waiting = time.monotonic() + PATIENCE, threading.Event()
    while server._bodies._sum not in counts:
        assert time.monotonic() < end
        waiting.wait(0.01)


def test_a_complete_body_counts_but_is_not_dropped() -> None:
    goes_on = threading.Event()

    def bot(submit: Submit) -> Iterator[str]:
        yield "a"
        assert goes_on.wait(PATIENCE)
        yield "b"

    answers: list[bytes] = []
    with serve(bot, secret=SECRET, body_bytes=5000) as server:
        question = asking("x" * 4000, "Connection: close")
        thread = threading.Thread(target=lambda: answers.append(all_of(server, question)))
        thread.start()
        wait_for_bytes(server, range(4000, 5000))
        assert all_of(server, asking("y" * 4000)) == b""
        goes_on.set()
        thread.join(PATIENCE)
    assert replies(answers[0]) == ["ab"]


# ------------------------------------------------------------------------------ slow and silent connections


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"G",
        b"POST / HTTP/1.1\r\nHost: a\r\nX: ",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nx",
        b"NO HTTP\r\n\r\n",
    ],
    ids=["silent", "a byte", "half a head", "half a body", "refused, and not closed"],
)
def test_one_connection_too_many_closes_the_one_that_waited_longest(sent: bytes) -> None:
    with serve(echo, connections=3) as server, ExitStack() as stack:
        address = ("127.0.0.1", server.port)
        first = stack.enter_context(socket.create_connection(address, PATIENCE))
        first.sendall(sent)
        if sent.startswith(b"NO HTTP"):
            assert first.recv(12) == b"HTTP/1.1 400"
        wait_for_idle(server, bool(sent))
        second, third = (stack.enter_context(socket.create_connection(address, PATIENCE)) for _ in range(2))
        assert [head(connection) for connection in (second, third)] == [b"HTTP/1.1 200"] * 2
        fourth = stack.enter_context(socket.create_connection(address, PATIENCE))
        assert head(fourth) == b"HTTP/1.1 200"
        assert b"HTTP/1.1" not in b"".join(iter(lambda: received(first), b""))  # closed
        assert [head(connection) for connection in (second, third)] == [b"HTTP/1.1 200"] * 2


def wait_for_idle(server: BlockingServer, has_thread: bool) -> None:
    """Wait until the server has accepted a connection, and started a thread for it if it has sent something."""
    end, waiting = time.monotonic() + PATIENCE, threading.Event()
    while has_thread and not server._idle:
        assert time.monotonic() < end
        waiting.wait(0.01)


def test_a_silent_client_is_disconnected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("opchat_transports.blocking_server._REQUEST_WITHIN", 1.0)  # also for the question
    with serve(echo) as server, socket.create_connection(("127.0.0.1", server.port), PATIENCE) as connection:
        assert received(connection) == b""
        assert ask(server)[-1].reply == "Hi"


def test_a_client_that_leaves_at_once_leaves_nothing_behind() -> None:
    with serve(echo, connections=2) as server:
        for _ in range(50):
            socket.create_connection(("127.0.0.1", server.port), PATIENCE).close()
        assert ask(server)[-1].reply == "Hi"


def test_a_connection_without_a_free_thread_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    with serve(echo) as server:
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", no_thread)
            with socket.create_connection(("127.0.0.1", server.port), PATIENCE) as connection:
                connection.sendall(b"GET")
                assert received(connection) == b""
        assert ask(server)[-1].reply == "Hi"


def no_thread(thread: threading.Thread) -> None:
    raise RuntimeError("can't start new thread")
