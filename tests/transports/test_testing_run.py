"""`Run`: a function with the socket of a connection."""

import re
import socket
import ssl
import threading

import pytest
import trustme

from opchat_transports.testing import ANSWER, EVENTS, Accept, Close, FaultServer, MemoryServer, Run, Script, Write

from .faulted import QUESTION, REQUEST, Ask, blocking, on_asyncio, on_trio, talk
from .peer import PATIENCE
from .tls import tls_server


@pytest.mark.parametrize("ask", [blocking, on_trio, on_asyncio])
def test_the_next_step_follows_when_the_function_returns(ask: Ask) -> None:
    function = Run(lambda connection: connection.sendall(ANSWER[100:110]))
    with FaultServer((Write(ANSWER[:100]), function, Write(ANSWER[110:]))) as server:
        assert ask(server.url) == list(EVENTS)
    assert server.visits[-1].sent == len(ANSWER) - 10  # from its own steps
    assert len(server.questions) == 1


def test_after_accept_it_reads_everything_and_the_journal_is_empty() -> None:
    received = []
    with FaultServer(
        (Accept(), Run(lambda connection: received.append(connection.recv(65536))), Write(b"a"))
    ) as server:
        assert talk(server.port, REQUEST) == b"a"
        assert talk(server.port, REQUEST) == b"a"
    assert received == [REQUEST] * 2
    assert [(visit.requests, visit.rest, visit.finished) for visit in server.visits] == [((), b"", True)] * 2


def test_the_requests_before_and_after_it_are_in_the_journal() -> None:
    with FaultServer((Run(lambda _: None), Write(ANSWER))) as server:
        assert talk(server.port, REQUEST + REQUEST) == ANSWER
    assert server.questions == (QUESTION, QUESTION)


def test_the_server_serves_other_connections_meanwhile() -> None:
    came = threading.Event()

    def wait(_: socket.socket) -> None:
        assert came.wait(PATIENCE)

    with (
        FaultServer((Run(wait), Write(b"a")), (Write(b"b"),)) as server,
        socket.create_connection(("127.0.0.1", server.port)) as first,
    ):
        first.sendall(REQUEST)
        while not server.questions:
            pass
        assert talk(server.port, REQUEST) == b"b"
        came.set()
        assert first.recv(1) == b"a"


def test_the_function_may_close_the_socket() -> None:
    with FaultServer((Run(socket.socket.close), Write(b"a"))) as server:
        assert talk(server.port, REQUEST) == b""
    assert [(visit.finished, visit.left) for visit in server.visits] == [(True, None)]


def test_over_tls_it_gets_decrypted_bytes(authority: trustme.CA) -> None:
    received = []
    script = (Accept(), Run(lambda connection: received.append(connection.recv(65536))), Write(b"a"))
    trust = ssl.create_default_context()
    authority.configure_trust(trust)
    with (
        FaultServer(script, ssl_context=tls_server(authority)) as server,
        socket.create_connection(("127.0.0.1", server.port)) as connection,
        trust.wrap_socket(connection, server_hostname="localhost") as secure,
    ):
        secure.sendall(b"Hello")
        assert secure.recv(1) == b"a"
    assert received == [b"Hello"]


@pytest.mark.parametrize("script", [(), (Close(),)])
def test_an_exception_of_the_function_is_raised_at_the_end(script: Script) -> None:
    def fail(_: socket.socket) -> None:
        raise LookupError("something else")

    def ask() -> None:
        with FaultServer((Run(fail), *script)) as server:
            assert talk(server.port, REQUEST) == b""

    with pytest.raises(LookupError, match="something else"):
        ask()


def test_an_exception_of_the_block_takes_precedence() -> None:
    def fail(_: socket.socket) -> None:
        raise LookupError

    def ask() -> None:
        with FaultServer((Run(fail),)) as server:
            talk(server.port, REQUEST)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        ask()


def test_a_client_that_leaves_is_not_an_error() -> None:
    def read_on(connection: socket.socket) -> None:
        while connection.recv(1):
            pass
        raise ConnectionError("the client left")

    with FaultServer((Run(read_on),)) as server, socket.create_connection(("127.0.0.1", server.port)) as client:
        client.sendall(REQUEST)
        while not server.questions:
            pass
    [visit] = server.visits
    assert (visit.finished, visit.left is not None) == (False, True)


def test_the_end_of_the_block_waits_for_the_function() -> None:
    begun, ended = threading.Event(), []

    def wait(connection: socket.socket) -> None:
        begun.set()
        ended.append(connection.recv(1))

    with FaultServer((Accept(), Run(wait))) as server, socket.create_connection(("127.0.0.1", server.port)):
        assert begun.wait(PATIENCE)
    assert ended == [b""]


def test_wrong_arguments_are_refused() -> None:
    with pytest.raises(TypeError, match=re.escape("Run.function: expected a function, got bytes")):
        Run(b"a")  # type: ignore[arg-type]  # wrong on purpose
    with pytest.raises(ValueError, match="Run needs a socket: use FaultServer"):
        MemoryServer((Run(print),))
