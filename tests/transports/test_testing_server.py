"""The fault server: its journal, which request gets which script, and its lifetime."""

import asyncio
import gc
import socket
import ssl
import threading
from contextlib import suppress
from dataclasses import replace

import pytest

from opchat_proto import (
    Broken,
    End,
    Live,
    Reason,
    Session,
    Timeouts,
)
from opchat_transports.asyncio_streams import AsyncioTransport
from opchat_transports.testing import (
    ANSWER,
    EVENTS,
    FAULTS,
    GOOD,
    Accept,
    Close,
    Connection,
    Delay,
    Expect,
    FaultServer,
    MemoryServer,
    Repeat,
    Reset,
    Script,
    Step,
    Write,
    cut,
    delayed,
    dripped,
    stalled,
)

from .faulted import (
    BOTH,
    EXPECTED,
    LIMITS,
    QUESTION,
    REQUEST,
    SOON,
    START,
    Ask,
    Sender,
    blocking,
    check,
    clocks,
    on_asyncio,
    on_trio,
    talk,
    wait_until_asked,
)
from .peer import PATIENCE, free_port
from .serving import without_details

# ---------------------------------------------------------------- the journal


def test_the_journal_keeps_a_request_whole() -> None:
    with FaultServer() as server:
        assert talk(server.port, REQUEST[:50], REQUEST[50:]) == ANSWER
    [request] = server.requests
    assert (request.method, request.target) == ("POST", "/wp-json/mwai-ui/v1/chats/submit")
    assert (request.raw, request.body, request.submit) == (REQUEST, QUESTION.encode(), QUESTION)
    assert (request.route, request.nonce) == ("submit", "7")
    assert request.headers == (("host", "a"), ("x-wp-nonce", "7"), ("content-length", str(len(request.body))))
    [visit] = server.visits
    assert visit.left is not None
    assert replace(visit, left=None) == Connection(GOOD, (request,), b"", len(ANSWER), finished=True)


def test_bytes_after_a_request_are_kept_too() -> None:
    with FaultServer() as server:
        assert talk(server.port, REQUEST + REQUEST + b"POST") == ANSWER
    assert server.questions == (QUESTION, QUESTION)
    assert server.repeated == (QUESTION,)
    assert [visit.rest for visit in server.visits] == [b"POST"]


def test_a_request_to_another_path_is_404() -> None:
    with FaultServer() as server:
        received = talk(server.port, REQUEST.replace(b"submit", b"nowhere"), REQUEST)
    assert received.startswith(b"HTTP/1.1 404 Not Found\r\n")
    assert received.endswith(ANSWER)
    assert server.routes == ("nowhere", "submit")
    assert [request.submit for request in server.requests] == [None, QUESTION]


def test_a_malformed_question_is_not_among_the_questions() -> None:
    with FaultServer() as server:
        assert talk(server.port, REQUEST.replace(b'{"', b'["')) == ANSWER
    assert server.questions == ()
    assert server.routes == ("submit",)


def test_bytes_that_are_not_a_request_are_kept() -> None:
    with FaultServer() as server:
        assert talk(server.port, b"HELO you\r\n\r\n").startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert [(visit.rest, visit.finished) for visit in server.visits] == [(b"HELO you\r\n\r\n", False)]


def test_a_request_without_an_end_is_bounded() -> None:
    server = MemoryServer()
    head = REQUEST.replace(b"Content-Length: ", b"Content-Length: 99999")
    client = Sender(head, *[b"x" * 1024 * 1024] * 17)
    [answered] = server.run(client)
    assert answered == Live("HTTP/1.1 400 Bad Request")
    assert [len(visit.rest) for visit in server.visits] == [16 * 1024 * 1024]


def test_a_client_that_waits_for_100_continue_gets_it() -> None:
    head, body = REQUEST.replace(b"Host:", b"Expect: 100-continue\r\nHost:").split(b"\r\n\r\n")
    with FaultServer() as server, socket.create_connection(("127.0.0.1", server.port), PATIENCE) as connection:
        connection.sendall(head + b"\r\n\r\n")
        assert connection.recv(65536) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(body)
        with connection.makefile("rb") as file:
            assert file.read() == ANSWER
    assert server.questions == (QUESTION,)


# ---------------------------------------------------------------- which request gets which script


def test_each_submit_gets_the_next_script_and_the_last_one_repeats() -> None:
    with FaultServer(cut(3), GOOD) as server:
        answers = [talk(server.port, REQUEST) for _ in range(3)]
    assert answers == [ANSWER[:3], ANSWER, ANSWER]
    assert [visit.script for visit in server.visits] == [cut(3), GOOD, GOOD]


def test_a_connection_without_a_submit_uses_no_script() -> None:
    with FaultServer(cut(3)) as server:
        with socket.create_connection(("127.0.0.1", server.port), PATIENCE) as connection:
            connection.sendall(START)
            assert connection.recv(65536).startswith(b"HTTP/1.1 200 OK\r\n")
        assert talk(server.port, REQUEST) == ANSWER[:3]
    started, asked = server.visits
    assert (started.script, started.finished, started.left is not None) == ((), False, True)
    assert (asked.script, asked.finished, asked.left is not None) == (cut(3), True, True)


def test_a_kept_connection_gets_the_next_script() -> None:
    with FaultServer(cut(3), GOOD) as server:
        first = talk(server.port, START, REQUEST)
        second = talk(server.port, START + START + REQUEST)
    assert first.endswith(b"}" + ANSWER[:3])
    assert second.endswith(b"}" + ANSWER)
    assert server.routes == (*BOTH, "start_session", *BOTH)
    assert [(visit.script, len(visit.requests)) for visit in server.visits] == [(cut(3), 2), (GOOD, 3)]


def test_connection_close_is_honoured_after_a_normal_answer() -> None:
    closing = START.replace(b"Host", b"Connection: close\r\nHost")
    with FaultServer((Expect("nothing"),)) as server:
        started = talk(server.port, START + closing)
        old = talk(server.port, REQUEST.replace(b"HTTP/1.1", b"HTTP/1.0"))
    assert started.count(b'"success":true') == 2
    assert old.endswith(ANSWER.partition(b"\r\n\r\n")[2])
    assert [visit.finished for visit in server.visits] == [False, False]


@pytest.mark.parametrize("end", [Close(), Reset()])
def test_steps_after_an_end_are_played_on_the_next_connection(end: Step) -> None:
    script: Script = (Write(b"a"), end, Expect("start_session"), Write(b"b"), Close(), Expect(), Write(b"c"))
    with FaultServer(script, cut(3)) as server:
        with suppress(ConnectionError):
            talk(server.port, REQUEST)
        answers = [talk(server.port, request) for request in (START, REQUEST, REQUEST, REQUEST)]
    assert answers == [b"b", b"c", ANSWER[:3], ANSWER[:3]]
    assert [visit.script for visit in server.visits] == [script[:2], script[2:5], script[5:], cut(3), cut(3)]


def test_the_last_script_repeats_with_all_its_connections() -> None:
    with FaultServer((Write(b"a"), Close(), Expect(), Write(b"b"))) as server:
        assert [talk(server.port, REQUEST) for _ in range(5)] == [b"a", b"b", b"a", b"b", b"a"]


def test_a_script_with_accept_is_for_a_new_connection() -> None:
    with FaultServer((Accept(), Write(b"a"), Close(), Expect(), Write(b"b")), (Accept(), Write(b"c")), GOOD) as server:
        assert talk(server.port) == b"a"
        with socket.create_connection(("127.0.0.1", server.port), PATIENCE) as connection:
            connection.sendall(START)
            assert connection.recv(65536).startswith(b"HTTP/1.1 200 OK\r\n")
            assert talk(server.port, REQUEST) == b"b"
            connection.sendall(REQUEST)  # the next script is not for it
            assert connection.recv(65536).startswith(b"HTTP/1.1 200 OK\r\n")
            assert talk(server.port) == b"c"
            connection.sendall(REQUEST)
            with connection.makefile("rb") as file:
                assert file.read().endswith(ANSWER)
    assert server.visits[1].script == GOOD


def test_a_second_question_on_a_connection_gets_the_script_too() -> None:
    script = (Write(ANSWER), Expect(), Write(b"again"))
    with FaultServer(script) as server:
        assert talk(server.port, REQUEST, REQUEST) == ANSWER + b"again"


def test_a_request_that_arrives_during_a_delayed_answer_is_answered() -> None:
    big = b"x" * 16 * 1024 * 1024  # more than the system buffers on both sides
    script = (Write(big), Expect(), Write(b"again"))
    with FaultServer(script) as server, socket.create_connection(("127.0.0.1", server.port), PATIENCE) as connection:
        connection.sendall(REQUEST)
        assert connection.recv(1) == b"x"
        connection.sendall(REQUEST)
        with connection.makefile("rb") as file:
            assert file.read() == big[1:] + b"again"
    assert server.questions == (QUESTION, QUESTION)


def test_a_script_for_start_session_lets_a_submit_through() -> None:
    with FaultServer((Expect("start_session"), Reset())) as server:
        options = {"session": Session("0123456789")}
        assert [ask(server.url, **options) for ask in (blocking, on_trio, on_asyncio)] == [list(EVENTS)] * 3
    assert server.routes == ("submit",) * 3


# ---------------------------------------------------------------- the server's lifetime


def none_is_left(before: set[threading.Thread]) -> bool:
    gc.collect()  # an unclosed resource raises ResourceWarning, which is an error here
    return set(threading.enumerate()) <= before


STALLS = {
    "stall": stalled(20),
    "delay": delayed(1e6),
    "slow drip": dripped(1e6),
    "nobody reads": (Repeat(b"x" * 65536),),
    "nothing is asked": (Expect("nothing"),),
}


@pytest.mark.parametrize("script", STALLS.values(), ids=STALLS)
def test_leaving_the_block_ends_everything_at_once(script: Script) -> None:
    before = set(threading.enumerate())
    with (
        FaultServer(script, port=free_port()) as server,
        socket.create_connection(("127.0.0.1", server.port), PATIENCE) as connection,
    ):
        connection.sendall(REQUEST)
        server.close()  # the end of the block does this too
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", server.port), PATIENCE)
        with suppress(ConnectionError):
            while connection.recv(65536):
                pass
    [visit] = server.visits
    assert (visit.finished, visit.left) == (False, None)
    assert server.questions == (QUESTION,)
    assert none_is_left(before)


@pytest.mark.parametrize("script", STALLS.values(), ids=STALLS)
def test_a_client_that_leaves_early_is_not_a_failure(script: Script) -> None:
    before = set(threading.enumerate())
    with FaultServer(script) as server, socket.create_connection(("127.0.0.1", server.port), PATIENCE) as connection:
        connection.sendall(REQUEST)
        connection.close()
    [visit] = server.visits
    assert not visit.finished
    assert visit.left is not None
    assert none_is_left(before)


@pytest.mark.parametrize("ask", [blocking, on_trio, on_asyncio])
def test_a_client_that_times_out_is_seen_to_leave(ask: Ask) -> None:
    with FaultServer(FAULTS["stall after an event"]) as server:
        ask(server.url, timeouts=Timeouts(idle=SOON))
    last = server.visits[-1]
    assert (last.finished, last.left is not None) == (False, True)


class BrokenContext(ssl.SSLContext):
    """Fails in the server's thread."""

    def wrap_socket(self, *args: object, **options: object) -> ssl.SSLSocket:
        raise ZeroDivisionError


def test_a_failure_of_the_server_is_raised_at_the_end() -> None:
    context = BrokenContext(ssl.PROTOCOL_TLS_SERVER)

    def ask() -> None:
        with FaultServer(ssl_context=context) as server, suppress(ConnectionError):
            talk(server.port, REQUEST)

    def ask_and_fail() -> None:
        with FaultServer(ssl_context=context) as server:
            with suppress(ConnectionError):
                talk(server.port, REQUEST)
            raise KeyError

    before = set(threading.enumerate())
    with pytest.raises(ZeroDivisionError):
        ask()
    with pytest.raises(KeyError):  # not hidden
        ask_and_fail()
    assert none_is_left(before)


def test_a_server_is_opened_once() -> None:
    server = FaultServer()
    for ask_early in (lambda: server.port, lambda: server.url):
        with pytest.raises(RuntimeError, match="not open yet"):
            ask_early()
    server.close()
    with server:
        assert talk(server.port, REQUEST) == ANSWER
        assert repr(server) == f"<FaultServer at port {server.port}, 1 connections>"
        with pytest.raises(RuntimeError, match="opened once"):
            server.__enter__()
    server.close()


def test_a_server_may_have_a_fixed_port() -> None:
    with FaultServer(port=free_port()) as first, pytest.raises(OSError, match="in use"), FaultServer(port=first.port):
        pass
    with FaultServer(port=first.port) as second:
        assert second.port == first.port


def test_many_questions_at_once_are_answered() -> None:
    async def main(url: str) -> list[str | None]:
        async with AsyncioTransport(url) as transport:

            async def one() -> str | None:
                async with transport.ask("Hi") as reply:
                    *_, last = [event async for event in reply]
                    assert isinstance(last, End)
                    return last.reply

            return await asyncio.gather(*(one() for _ in range(100)))

    with FaultServer((Delay(0.1), *GOOD)) as server:
        assert asyncio.run(main(server.url)) == ["Hello, world!"] * 100
    assert len(server.questions) == 100
    assert server.repeated == ()
    assert server.routes.count("start_session") == 1


# ---------------------------------------------------------------- TLS


@pytest.fixture
def server_context(certificates: dict[str, ssl.SSLContext]) -> ssl.SSLContext:
    return certificates["good"]


@pytest.mark.parametrize("ask", [blocking, on_trio, on_asyncio])
@pytest.mark.parametrize(
    "name",
    [
        *("one byte at a time", "stale nonce 403", "cut after an event", "cut without close_notify", "no length"),
        *("stall after an event", "endless answer", "reset after an event", "no answer", "closed when opened"),
    ],
)
def test_a_fault_is_played_inside_tls(
    name: str, ask: Ask, server_context: ssl.SSLContext, trust: ssl.SSLContext
) -> None:
    expected = EXPECTED[name]
    with FaultServer(FAULTS[name], ssl_context=server_context) as server:
        events = ask(server.url, limits=LIMITS, timeouts=clocks(expected), ssl_context=trust)
        wait_until_asked(name, server)
    assert server.url.startswith("https://localhost:")
    if name in ("cut without close_notify", "reset after an event"):
        # The wording is OpenSSL's.
        events, expected = without_details(events), without_details(expected)
    check(name, events, expected, server, server.url)


def test_a_client_without_trust_is_not_a_failure(server_context: ssl.SSLContext) -> None:
    with FaultServer(ssl_context=server_context) as server:
        [event] = blocking(server.url)
    assert isinstance(event, Broken)
    assert event.reason is Reason.LOST
    assert [(visit.requests, visit.finished) for visit in server.visits] == [((), False)]


def test_a_client_without_tls_is_not_a_failure(server_context: ssl.SSLContext) -> None:
    with FaultServer(ssl_context=server_context) as server, suppress(ConnectionError):
        talk(server.port, REQUEST)
    assert [visit.requests for visit in server.visits] == [()]
