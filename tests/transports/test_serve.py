"""`serve`: questions, connections, addresses, and the log."""

import logging
import re
import socket
import sys
import threading
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any

import pytest

from opchat_proto import Broken, End, Limits, Live, Message, Reason, Submit
from opchat_transports import collect
from opchat_transports._serving import OncePerSecond  # shared by the servers, not public
from opchat_transports.blocking_server import serve
from opchat_transports.blocking_sockets import BlockingTransport
from opchat_transports.bots import small_talk

from .asked import SECRET, all_of, ask, asking, echo, received, replies
from .peer import PATIENCE, free_port

pytestmark = pytest.mark.usefixtures("no_thread_is_left", "no_file_is_left")


def test_the_pieces_of_a_bot_arrive_and_are_the_reply() -> None:
    with serve(echo) as server:
        events = ask(server, "abc")
    assert events[:3] == [Live("a"), Live("b"), Live("c")]
    assert [event.reply for event in events[3:]] == ["abc"]


def test_a_bot_may_return_a_list_or_nothing() -> None:
    with serve(lambda submit: ["x"] if submit.new_message == "x" else []) as server:
        assert ask(server, "x")[-1].reply == "x"
        assert [event.reply for event in ask(server, "y")] == [""]


def test_a_character_may_be_split_between_two_pieces() -> None:
    with serve(lambda submit: ["a\ud83d", "\ude00b"]) as server:
        *pieces, end = ask(server)
    assert (pieces, end.reply) == ([Live("a"), Live("\N{GRINNING FACE}b")], "a\N{GRINNING FACE}b")


def test_a_bot_may_yield_events() -> None:
    events: list[Any] = [Live("Thinking...", "thinking"), Live("a"), End("A", '{"responseId":"r"}')]
    with serve(lambda submit: [*events, "ignored"]) as server:
        answer = ask(server)
    assert answer[:2] == events[:2]
    assert (answer[2].reply, answer[2].response_id) == ("A", "r")


def test_a_bot_sees_the_whole_question() -> None:
    seen: list[Submit] = []

    def bot(submit: Submit) -> list[str]:
        seen.append(submit)
        return ["ok"]

    with serve(bot) as server:
        ask(server, [Message("user", "a"), Message("assistant", "b"), Message("user", "c")])
    assert (seen[0].new_message, seen[0].messages) == ("c", (Message("user", "a"), Message("assistant", "b")))
    assert len(seen[0].chat_id or "") == 10


def test_a_question_without_streaming_gets_the_whole_answer() -> None:
    with serve(echo) as server:
        [end] = ask(server, Submit(new_message="abc", stream=False))
    assert end.reply == "abc"


def test_a_bot_may_refuse() -> None:
    def bot(submit: Submit) -> list[str | Broken]:
        return ["a", Broken(Reason.REMOTE, "No more.")]

    with serve(bot) as server:
        assert [type(event) for event in ask(server)] == [Live, Broken]
        assert ask(server)[-1].detail == "No more."


@pytest.mark.parametrize("fault", ["at once", "later", "exits", "no event", "no iterable"])
def test_a_failing_bot_becomes_an_error_event_and_a_logged_traceback(
    fault: str, caplog: pytest.LogCaptureFixture
) -> None:
    def failing(submit: Submit) -> Iterator[Any]:
        yield "a"
        if fault == "later":
            raise ZeroDivisionError
        if fault == "exits":
            sys.exit(1)
        yield 5

    def bot(submit: Submit) -> Any:
        if fault == "at once":
            raise ZeroDivisionError
        return 5 if fault == "no iterable" else failing(submit)

    with serve(bot) as server, caplog.at_level(logging.ERROR):
        broken = ask(server)[-1]
        assert ask(server)[-1] == broken
    assert broken.reason is Reason.REMOTE
    assert broken.detail.startswith("Oops! Something went wrong on the server.")
    assert caplog.records[0].exc_info is not None


@pytest.mark.parametrize("stream", [True, False])
def test_a_bot_is_closed_when_the_client_leaves(stream: bool) -> None:
    begun, closed = threading.Event(), threading.Event()

    def bot(submit: Submit) -> Iterator[str]:
        try:
            while True:
                yield "and "
                begun.set()
        finally:
            closed.set()

    with serve(bot) as server:
        transport = BlockingTransport(server.url)
        reply = transport.ask(Submit(new_message="Hi", stream=stream))
        reader = threading.Thread(target=collect_quietly, args=(reply,))
        reader.start()
        assert begun.wait(PATIENCE)
        transport.close()
        reader.join(PATIENCE)
        assert closed.wait(PATIENCE)


def collect_quietly(reply: Any) -> None:
    for _ in reply:
        pass


def test_a_bot_is_closed_when_the_server_closes() -> None:
    begun, closed = threading.Event(), threading.Event()

    def bot(submit: Submit) -> Iterator[str]:
        try:
            while True:
                yield "x" * 100_000
                begun.set()
        finally:
            closed.set()

    server = serve(bot)
    with BlockingTransport(server.url) as transport, transport.ask("Hi") as reply:
        next(reply)
        assert begun.wait(PATIENCE)
        server.close()
        assert closed.is_set()
        assert [event.reason for event in reply if isinstance(event, Broken)] == [Reason.TRUNCATED]


def test_a_bot_is_closed_after_its_end_event() -> None:
    closed = threading.Event()

    def bot(submit: Submit) -> Iterator[Any]:
        try:
            yield End("a")
        finally:
            closed.set()

    with serve(bot) as server, BlockingTransport(server.url) as transport:
        assert collect(transport.ask("Hi")) == "a"
        assert closed.wait(PATIENCE)


def test_many_questions_at_once_are_answered() -> None:
    answers: list[str] = []
    with serve(echo) as server, BlockingTransport(server.url) as transport:
        threads = [
            threading.Thread(target=lambda n=n: answers.append(collect(transport.ask(f"question {n}"))))
            for n in range(50)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENCE)
    assert sorted(answers) == sorted(f"question {n}" for n in range(50))


def test_an_idle_client_delays_neither_others_nor_close() -> None:
    with serve(echo) as server:
        idle = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(5)]
        idle[0].sendall(b"POST / HT")
        assert ask(server)[-1].reply == "Hi"
    for connection in idle:
        connection.settimeout(PATIENCE)
        assert not received(connection)
        connection.close()


def test_the_same_secret_keeps_a_session_valid_after_a_restart() -> None:
    port = free_port()  # which no other test gets meanwhile
    with serve(echo, port=port, secret=b"s") as server, BlockingTransport(server.url) as transport:
        collect(transport.ask("Hi"))
        session = transport.session
    with serve(echo, port=port, secret=b"s") as server:
        assert ask(server, session=session, limits=Limits(restarts=0))[-1].reply == "Hi"
    with serve(echo, port=port) as server:
        [broken] = ask(server, session=session, limits=Limits(restarts=0))
        assert broken.code == "rest_cookie_invalid_nonce"
        assert ask(server, session=session)[-1].reply == "Hi"


def test_a_port_in_use_is_an_error() -> None:
    with serve(echo) as server, pytest.raises(OSError, match="in use"):
        serve(echo, port=server.port)


def test_close_is_idempotent_and_ends_wait() -> None:
    server = serve(echo, port=free_port())
    waiter = threading.Thread(target=server.wait)
    waiter.start()
    server.close()
    server.close()
    waiter.join(PATIENCE)
    assert repr(server) == "<BlockingServer closed>"
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(("127.0.0.1", server.port))


def test_the_url_is_usable_by_a_client() -> None:
    with serve(echo, "0.0.0.0") as server:
        assert server.url == f"http://127.0.0.1:{server.port}"
        assert repr(server) == f"<BlockingServer at {server.url}>"
        assert ask(server)[-1].reply == "Hi"


@pytest.mark.skipif(not socket.has_ipv6, reason="needs IPv6")
def test_it_listens_on_ipv6() -> None:
    try:
        server = serve(echo, "::1")
    except OSError:
        pytest.skip("needs IPv6")
    with server:
        assert server.url == f"http://[::1]:{server.port}"
        assert ask(server)[-1].reply == "Hi"


@pytest.mark.parametrize(
    ("question", "reply"),
    [
        (
            "Hello, who are you?",
            "Hello! I am the small bot that comes with opchat: a few rules, no language model."
            " This is question 1 of our conversation.",
        ),
        ("hi", "Hello! This is question 1 of our conversation."),
        ("It  rains.", 'You said "It rains.". This is question 1 of our conversation.'),
        ("How many words?", "Your question has 3 words and 15 characters. This is question 1 of our conversation."),
        ("x" * 90, f'You said "{"x" * 77}...". This is question 1 of our conversation.'),
        (
            [Message("user", "It rains."), Message("assistant", "Yes."), Message("user", "What did I say before?")],
            'Before this you said "It rains.". This is question 2 of our conversation.',
        ),
        (
            [Message("user", "a"), Message("assistant", "b"), Message("user", "Hello")],
            "Hello again! This is question 2 of our conversation.",
        ),
    ],
)
def test_the_built_in_bot_answers(question: Any, reply: str) -> None:
    with serve(small_talk) as server:
        events = ask(server, question)
    assert events[-1].reply == reply
    assert len(events) > 5


def test_pages_of_allowed_origins_may_ask() -> None:
    with (
        serve(echo, origins=["https://shop.example"]) as server,
        socket.create_connection(("127.0.0.1", server.port), PATIENCE) as connection,
    ):
        connection.sendall(
            b"OPTIONS /wp-json/mwai-ui/v1/chats/submit HTTP/1.1\r\nHost: a\r\nOrigin: https://shop.example\r\n"
            b"Access-Control-Request-Method: POST\r\nConnection: close\r\n\r\n"
        )
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    assert answer.startswith(b"HTTP/1.1 204 No Content\r\n")
    assert b"Access-Control-Allow-Origin: https://shop.example\r\n" in answer


# ------------------------------------------------------------------------------ pipelined and concurrent requests


def test_pipelined_questions_are_each_answered() -> None:
    with serve(echo, secret=SECRET) as server:
        many = b"".join(asking(text) for text in ("a", "bc", "")) + asking("d", "Connection: close")
        assert replies(all_of(server, many)) == ["a", "bc", "d"]


def test_each_question_runs_in_its_own_context() -> None:
    who: ContextVar[str] = ContextVar("who", default="nobody")
    seen: list[tuple[str, str]] = []

    def bot(submit: Submit) -> Iterator[str]:
        before = who.get()
        who.set(submit.new_message)
        try:
            yield "a"
            yield who.get()
        finally:
            seen.append((before, who.get()))

    with serve(bot, secret=SECRET) as server:
        answer = all_of(server, asking("one") + asking("two", "Connection: close"))
    assert replies(answer) == ["aone", "atwo"]
    assert seen == [("nobody", "one"), ("nobody", "two")]


# ------------------------------------------------------------------------------ host names, and the page


def test_a_rebound_host_name_gets_status_421() -> None:
    with serve(echo, allowed_hosts=["Localhost", "127.0.0.1"]) as server:
        assert ask(server)[-1].reply == "Hi"
        refused = all_of(server, b"GET / HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n")
        assert refused.startswith(b"HTTP/1.1 421 Misdirected Request\r\n")
        shown = all_of(server, b"GET / HTTP/1.1\r\nHost: localhost:1\r\nConnection: close\r\n\r\n")
        assert shown.startswith(b"HTTP/1.1 200 OK\r\n")
        assert b"frame-ancestors 'none'" in shown
        icon = all_of(server, b"GET /favicon.ico HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        assert icon.startswith(b"HTTP/1.1 204 No Content\r\n")


# ------------------------------------------------------------------------------ logs


def test_each_request_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "opchat_transports.access")
    lines = (
        b"GET /?a=1 HTTP/1.1\r\nHost: a\r\n\r\n",
        b"HEAD /nowhere HTTP/1.1\r\nHost: a\r\n\r\n",
        asking("Hi"),
        b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\n",
        b"x",
        b"NO HTTP\r\n\r\n",
    )
    with serve(echo, secret=SECRET) as server:
        all_of(server, *lines)
        told = [record for record in caplog.records if record.name == "opchat_transports.access"]
    pattern = r'127\.0\.0\.1:\d+ "(.*)" (\S+) \d+\.\d{3} s'
    assert [re.fullmatch(pattern, record.getMessage()).groups() for record in told] == [  # type: ignore[union-attr]  # fails if it is None
        ("GET /?a=1", "200"),
        ("HEAD /nowhere", "404"),
        ("POST /wp-json/mwai-ui/v1/chats/submit", "200"),
        ("POST /", "404"),
    ]
    assert [record.getMessage() for record in caplog.records if record not in told] == [
        "refused a malformed request: status 400"
    ]


def test_a_client_that_leaves_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "opchat_transports.access")
    begun = threading.Event()

    def bot(submit: Submit) -> Iterator[str]:
        while True:
            yield "a"
            begun.set()

    with serve(bot, secret=SECRET) as server:
        connection = socket.create_connection(("127.0.0.1", server.port), PATIENCE)
        connection.sendall(asking("Hi"))
        assert begun.wait(PATIENCE)
        connection.close()
    [line] = caplog.messages
    assert " - left " in line


def test_a_flood_of_malformed_requests_logs_one_line_a_second(caplog: pytest.LogCaptureFixture) -> None:
    clock = [0.0]
    once = OncePerSecond(lambda: clock[0])
    log = logging.getLogger("test of a flood")
    caplog.set_level(logging.DEBUG, log.name)
    log.addFilter(once)
    for second in (0.0, 0.5, 0.9, 1.0, 1.1, 5.0):
        clock[0] = second
        log.warning("status %d", 400)
        log.warning("another")
        log.error("worse")
        log.debug("details")
    assert caplog.messages == [
        *("status 400", "worse", "details", "details", "details"),
        *("status 400 (and 5 more lines)", "worse (and 2 more lines)", "details", "details"),
        *("status 400 (and 3 more lines)", "worse (and 1 more lines)", "details"),
    ]
