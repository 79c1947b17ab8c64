import asyncio
import gc
import json
import logging
import os
import re
import select
import socket
import sys
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from contextvars import ContextVar
from typing import Any

import pytest

from opchat_proto import Broken, End, Limits, Live, Message, Reason, Session, Site, Submit
from opchat_transports import collect
from opchat_transports._bot_kinds import as_sync  # how a bot is called and loaded is not public
from opchat_transports._serving import OncePerSecond  # what the servers share is not public
from opchat_transports.blocking_server import BlockingServer, serve
from opchat_transports.blocking_sockets import BlockingTransport
from opchat_transports.bots import small_talk

from .scripted import PATIENCE

SECRET = b"a secret of this site"


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    gc.collect()
    threads, files = set(threading.enumerate()), open_files()
    yield
    assert set(threading.enumerate()) <= threads
    assert open_files() <= files


def open_files() -> int:
    return len(os.listdir("/proc/self/fd")) if sys.platform == "linux" else 0


def ask(server: BlockingServer, question: Any = "Hi", **options: Any) -> list[Any]:
    with BlockingTransport(server.url, **options) as transport, transport.ask(question) as reply:
        return list(reply)


def echo(submit: Submit) -> Iterator[str]:
    yield from submit.new_message


def test_the_pieces_of_a_bot_arrive_and_are_the_reply() -> None:
    with serve(echo) as server:
        events = ask(server, "abc")
    assert events[:3] == [Live("a"), Live("b"), Live("c")]
    assert [event.reply for event in events[3:]] == ["abc"]


def test_a_bot_may_answer_with_a_list_and_with_nothing() -> None:
    with serve(lambda submit: ["x"] if submit.new_message == "x" else []) as server:
        assert ask(server, "x")[-1].reply == "x"
        assert [event.reply for event in ask(server, "y")] == [""]


def test_a_character_may_be_cut_between_two_pieces() -> None:
    with serve(lambda submit: ["a\ud83d", "\ude00b"]) as server:
        *pieces, end = ask(server)
    assert (pieces, end.reply) == ([Live("a"), Live("\N{GRINNING FACE}b")], "a\N{GRINNING FACE}b")


def test_a_bot_may_give_events() -> None:
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


def test_a_question_without_a_stream_gets_the_whole_answer() -> None:
    with serve(echo) as server:
        [end] = ask(server, Submit(new_message="abc", stream=False))
    assert end.reply == "abc"


def test_a_bot_may_refuse() -> None:
    with serve(lambda submit: ["a", Broken(Reason.REMOTE, "No more.")]) as server:
        assert [type(event) for event in ask(server)] == [Live, Broken]
        assert ask(server)[-1].detail == "No more."


@pytest.mark.parametrize("fault", ["at once", "later", "exits", "no event", "no iterable"])
def test_a_bot_that_fails_is_an_error_event_and_a_traceback(fault: str, caplog: pytest.LogCaptureFixture) -> None:
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


def test_a_bot_is_finished_after_its_end() -> None:
    closed = threading.Event()

    def bot(submit: Submit) -> Iterator[Any]:
        try:
            yield End("a")
        finally:
            closed.set()

    with serve(bot) as server, BlockingTransport(server.url) as transport:
        assert collect(transport.ask("Hi")) == "a"
        assert closed.wait(PATIENCE)


def test_many_ask_at_once() -> None:
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


def test_an_idle_client_does_not_hold_up_others_nor_the_close() -> None:
    with serve(echo) as server:
        idle = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(5)]
        idle[0].sendall(b"POST / HT")
        assert ask(server)[-1].reply == "Hi"
    for connection in idle:
        connection.settimeout(PATIENCE)
        assert not received(connection)
        connection.close()


def received(connection: socket.socket) -> bytes:
    try:
        return connection.recv(65536)
    except ConnectionResetError:
        return b""


def test_a_request_that_is_too_large_gets_its_answer() -> None:
    with serve(echo, limits=Limits(request_bytes=1000)) as server:
        [broken] = ask(server, "x" * 900_000, session=Session("0123456789"))
    assert (broken.reason, broken.status) == (Reason.REFUSED, 413)


def test_a_client_that_sends_too_slowly_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("opchat_transports.blocking_server._REQUEST_WITHIN", 0.1)
    with serve(echo) as server, socket.create_connection(("127.0.0.1", server.port)) as connection:
        connection.settimeout(PATIENCE)
        connection.sendall(b"POST / HT")
        assert not received(connection)


def test_a_client_that_does_not_read_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_what_is_no_http_is_answered() -> None:
    with serve(echo) as server, socket.create_connection(("127.0.0.1", server.port)) as connection:
        connection.settimeout(PATIENCE)
        connection.sendall(b"\x16\x03\x01\x02\x00")
        assert received(connection).startswith(b"HTTP/1.1 400 ")


def test_the_same_secret_keeps_a_session_beyond_a_restart() -> None:
    with serve(echo, secret=b"s") as server, BlockingTransport(server.url) as transport:
        collect(transport.ask("Hi"))
        session, port = transport.session, server.port
    with serve(echo, port=port, secret=b"s") as server:
        assert ask(server, session=session, limits=Limits(restarts=0))[-1].reply == "Hi"
    with serve(echo, port=port) as server:
        [broken] = ask(server, session=session, limits=Limits(restarts=0))
        assert broken.code == "rest_cookie_invalid_nonce"
        assert ask(server, session=session)[-1].reply == "Hi"


def test_a_port_in_use_is_an_error() -> None:
    with serve(echo) as server, pytest.raises(OSError, match="in use"):
        serve(echo, port=server.port)


def test_closing_twice_and_waiting_for_it() -> None:
    server = serve(echo)
    waiter = threading.Thread(target=server.wait)
    waiter.start()
    server.close()
    server.close()
    waiter.join(PATIENCE)
    assert repr(server) == "<BlockingServer closed>"
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(("127.0.0.1", server.port))


def test_the_address_can_be_asked() -> None:
    with serve(echo, "0.0.0.0") as server:
        assert server.url == f"http://127.0.0.1:{server.port}"
        assert repr(server) == f"<BlockingServer at {server.url}>"
        assert ask(server)[-1].reply == "Hi"


@pytest.mark.skipif(not socket.has_ipv6, reason="needs IPv6")
def test_ipv6() -> None:
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
def test_the_small_bot(question: Any, reply: str) -> None:
    with serve(small_talk) as server:
        events = ask(server, question)
    assert events[-1].reply == reply
    assert len(events) > 5


def head(connection: socket.socket) -> bytes:
    connection.sendall(b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n")
    received = b""
    while not received.endswith(b"\r\n\r\n"):
        data = connection.recv(65536)
        assert data
        received += data
    return received[:12]


def test_for_one_connection_too_many_an_idle_one_is_closed() -> None:
    with serve(echo, connections=2) as server, ExitStack() as stack:
        address = ("127.0.0.1", server.port)
        first, second, third = (stack.enter_context(socket.create_connection(address, PATIENCE)) for _ in range(3))
        assert head(third) == b"HTTP/1.1 200"
        [closed], _, _ = select.select([first, second], [], [], PATIENCE)
        assert closed.recv(1) == b""
        assert head(second if closed is first else first) == b"HTTP/1.1 200"
        assert ask(server, "abc")[-1].reply == "abc"


def test_a_connection_waits_while_all_are_being_answered() -> None:
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


def test_a_server_has_room_for_a_connection() -> None:
    with pytest.raises(ValueError, match="connections: expected at least 1, got 0"):
        serve(echo, connections=0)


def test_pages_of_named_origins_may_ask() -> None:
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


# ---------------------------------------------------------------- requests one after another, and at once


def asking(text: str, *headers: str) -> bytes:
    """A submit with a good nonce, as bytes."""
    body = json.dumps({"botId": "default", "newMessage": text}).encode()
    lines = [
        "POST /wp-json/mwai-ui/v1/chats/submit HTTP/1.1",
        "Host: localhost",
        f"X-WP-Nonce: {Site(SECRET).nonce(time.time())}",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
        *headers,
    ]
    return "\r\n".join([*lines, "", ""]).encode() + body


def all_of(server: BlockingServer, *pieces: bytes) -> bytes:
    """What the server sends until it closes."""
    with socket.create_connection(("127.0.0.1", server.port), PATIENCE) as connection:
        for piece in pieces:
            connection.sendall(piece)
        return b"".join(iter(lambda: connection.recv(65536), b""))


def replies(answer: bytes) -> list[str]:
    return [found.decode() for found in re.findall(rb'"reply":"([^"]*)"', answer)]


def test_questions_that_come_at_once_are_each_answered() -> None:
    with serve(echo, secret=SECRET) as server:
        many = b"".join(asking(text) for text in ("a", "bc", "")) + asking("d", "Connection: close")
        assert replies(all_of(server, many)) == ["a", "bc", "d"]


def test_a_question_has_a_context_of_its_own() -> None:
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


# ---------------------------------------------------------------- bots that fail in stranger ways


async def cancels_itself(submit: Submit) -> AsyncIterator[str]:
    yield "a"
    waiting = asyncio.get_running_loop().create_future()
    waiting.cancel()
    await waiting


async def groups(submit: Submit) -> AsyncIterator[str]:
    yield "a"
    raise BaseExceptionGroup("both", [asyncio.CancelledError(), SystemExit(3)])


class Unprintable(Exception):
    def __str__(self) -> str:
        raise ZeroDivisionError


def raises_what_cannot_be_shown(submit: Submit) -> Iterator[str]:
    yield "a"
    raise Unprintable


@pytest.mark.parametrize("bot", [as_sync(cancels_itself), as_sync(groups), raises_what_cannot_be_shown])
@pytest.mark.parametrize("debug", [False, True])
def test_whatever_a_bot_raises_its_client_gets_the_error_event(
    bot: Any, debug: bool, caplog: pytest.LogCaptureFixture
) -> None:
    with serve(bot, debug=debug) as server:
        first, broken = ask(server)
        assert ask(server) == [first, broken]
    assert first == Live("a")
    assert (broken.reason, broken.detail.startswith("Oops!")) == (Reason.REMOTE, not debug)
    assert [record.message for record in caplog.records] == ["the bot failed"] * 2


def test_a_bot_that_fails_when_it_is_closed_has_answered(caplog: pytest.LogCaptureFixture) -> None:
    def bot(submit: Submit) -> Iterator[Any]:
        try:
            yield End("a")
        finally:
            raise LookupError

    with serve(bot) as server:
        assert ask(server)[-1].reply == ask(server)[-1].reply == "a"
    assert [record.message for record in caplog.records] == ["the bot failed while it was being closed"] * 2


def test_what_a_bot_raised_cannot_command_a_terminal_or_forge_a_line(caplog: pytest.LogCaptureFixture) -> None:
    def bot(submit: Submit) -> Iterator[str]:
        raise LookupError("a\x1b[2J\x07\u202eb\r\nINFO: all is well\x85\u2028INFO: really")
        yield ""

    with serve(bot) as server:
        ask(server)
    [record] = caplog.records
    first, *lines = logging.Formatter("%(message)s").format(record).split("\n")
    assert first == "the bot failed"
    assert all(line.startswith("    ") and line.isprintable() for line in lines)
    assert lines[-2:] == [
        r"    LookupError: a\x1b[2J\x07\u202eb\r",
        r"    INFO: all is well\x85\u2028INFO: really",
    ]


# ---------------------------------------------------------------- several bots


def test_a_question_is_answered_by_the_bot_that_it_names() -> None:
    bots = {"sales": lambda submit: ["buy"], "7": lambda submit: ["seven"], "custom": lambda submit: ["made"]}
    with serve(bots=bots) as server:

        def reply(**names: Any) -> Any:
            return ask(server, Submit(new_message="Hi", **names))[-1]

        assert reply(bot_id="sales").reply == "buy"
        assert reply(bot_id=7).reply == "seven"
        assert reply(bot_id="sales", custom_id="custom").reply == "made"
        assert reply(bot_id="sales", custom_id="gone").reply == "buy"
        for names in ({"bot_id": "default"}, {"bot_id": "Sales"}, {"bot_id": None, "custom_id": "gone"}):
            broken = reply(**names)
            assert (broken.reason, broken.detail) == (Reason.REMOTE, "Sorry, your query has been rejected.")
        page = all_of(server, b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        assert b"{&quot;botId&quot;:&quot;sales&quot;," in page


def test_a_single_bot_answers_to_every_name() -> None:
    with serve(echo) as server:
        assert ask(server, Submit(new_message="Hi", bot_id="anybody", custom_id="x"))[-1].reply == "Hi"


@pytest.mark.parametrize(
    ("bots", "error"),
    [
        ({}, TypeError),
        ({"bot": echo, "bots": {"a": echo}}, TypeError),
        ({"bots": {}}, ValueError),
        ({"bots": {"": echo}}, ValueError),
        ({"bots": {7: echo}}, ValueError),
    ],
)
def test_there_is_one_bot_or_there_are_several_with_names(bots: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match="expected"):
        serve(**bots)


# ---------------------------------------------------------------- names of the site, and what it shows


def test_a_name_that_was_rebound_to_the_server_reaches_nothing() -> None:
    with serve(echo, allowed_hosts=["Localhost", "127.0.0.1"]) as server:
        assert ask(server)[-1].reply == "Hi"
        refused = all_of(server, b"GET / HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n")
        assert refused.startswith(b"HTTP/1.1 421 Misdirected Request\r\n")
        shown = all_of(server, b"GET / HTTP/1.1\r\nHost: localhost:1\r\nConnection: close\r\n\r\n")
        assert shown.startswith(b"HTTP/1.1 200 OK\r\n")
        assert b"frame-ancestors 'none'" in shown
        icon = all_of(server, b"GET /favicon.ico HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        assert icon.startswith(b"HTTP/1.1 204 No Content\r\n")


# ---------------------------------------------------------------- bounds


def test_of_bodies_that_are_too_large_together_the_largest_is_given_up(caplog: pytest.LogCaptureFixture) -> None:
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
    assert caplog.messages == ["the bodies of all requests are too large together: the largest was given up"]


def wait_for_bytes(server: BlockingServer, counts: range) -> None:
    """Until the server holds so many bytes of bodies. Nothing but time shows from outside what it holds."""
    end, waiting = time.monotonic() + PATIENCE, threading.Event()
    while server._bodies._sum not in counts:
        assert time.monotonic() < end
        waiting.wait(0.01)


def test_a_body_that_is_complete_counts_and_is_not_given_up() -> None:
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


# ---------------------------------------------------------------- logs


def test_each_request_has_a_line_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
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
    assert [re.fullmatch(pattern, record.getMessage()).groups() for record in told] == [  # type: ignore[union-attr]
        ("GET /?a=1", "200"),
        ("HEAD /nowhere", "404"),
        ("POST /wp-json/mwai-ui/v1/chats/submit", "200"),
        ("POST /", "404"),
    ]
    assert [record.getMessage() for record in caplog.records if record not in told] == [
        "refused a malformed request: status 400"
    ]


def test_a_client_that_leaves_is_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
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


def test_a_flood_of_what_is_no_request_is_a_line_a_second(caplog: pytest.LogCaptureFixture) -> None:
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


# ---------------------------------------------------------------- connections that send nothing, or not enough


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
def test_for_one_connection_too_many_the_one_that_waits_longest_is_closed(sent: bytes) -> None:
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
    """Until the server has a connection, and a thread for it if it has sent something."""
    end, waiting = time.monotonic() + PATIENCE, threading.Event()
    while has_thread and not server._idle:
        assert time.monotonic() < end
        waiting.wait(0.01)


def test_a_silent_client_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("opchat_transports.blocking_server._REQUEST_WITHIN", 0.1)
    with serve(echo) as server, socket.create_connection(("127.0.0.1", server.port), PATIENCE) as connection:
        assert received(connection) == b""
        assert ask(server)[-1].reply == "Hi"


def test_a_client_that_leaves_at_once_leaves_nothing_behind() -> None:
    with serve(echo, connections=2) as server:
        for _ in range(50):
            socket.create_connection(("127.0.0.1", server.port), PATIENCE).close()
        assert ask(server)[-1].reply == "Hi"


def test_a_connection_for_which_there_is_no_thread_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    with serve(echo) as server:
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", no_thread)
            with socket.create_connection(("127.0.0.1", server.port), PATIENCE) as connection:
                connection.sendall(b"GET")
                assert received(connection) == b""
        assert ask(server)[-1].reply == "Hi"


def no_thread(thread: threading.Thread) -> None:
    raise RuntimeError("can't start new thread")
