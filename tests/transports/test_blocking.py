import queue
import socket
import ssl
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
import trustme

from opchat_proto import Broken, End, Endpoint, Limits, Live, Reason, Session, Submit
from opchat_transports import Timeouts, collect
from opchat_transports.blocking_sockets import BlockingTransport

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

STALE = object_(403, code="rest_cookie_invalid_nonce", message="Cookie check failed", data={"status": 403})
linux = pytest.mark.skipif(sys.platform != "linux", reason="needs a TCP that is known")


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    assert set(threading.enumerate()) <= before


def in_thread(work: Callable[[], Any]) -> Callable[[], Any]:
    """Start it; what is returned waits for the result."""
    results: queue.Queue[Any] = queue.Queue()

    def run() -> None:
        try:
            results.put(work())
        except BaseException as error:
            results.put(error)

    thread = threading.Thread(target=run)
    thread.start()

    def join() -> Any:
        result = results.get(timeout=PATIENCE)
        thread.join(PATIENCE)
        return result

    return join


def ask(url: str | Endpoint, question: Any = "Hi", **options: Any) -> list[Any]:
    with BlockingTransport(url, **options) as transport, transport.ask(question) as reply:
        return list(reply)


# ------------------------------------------------------------------------------------------------ questions


def test_a_question_takes_one_connection_from_session_to_end() -> None:
    with Scripted(tells("Hel", "lo")) as server:
        events = ask(server.url)
    assert events[:-1] == [Live("Hel"), Live("lo")]
    assert events[-1].reply == "Hello"
    assert (server.routes, server.connections) == (["start_session", "submit"], 1)


def test_the_next_question_goes_on_with_the_session() -> None:
    with Scripted(tells("a")) as server, BlockingTransport(server.url) as transport:
        assert transport.session is None
        assert collect(transport.ask("one")) == "a"
        assert transport.session == Session("0123456789", "64f1c0ffee123")
        assert collect(transport.ask("two")) == "a"
    assert server.routes == ["start_session", "submit", "submit"]
    assert b"\r\nX-WP-Nonce: 0123456789\r\n" in server.requests[2]


def test_a_session_from_before_is_used() -> None:
    with Scripted(tells("a")) as server:
        ask(server.url, session=Session("abcdef0123"))
    assert server.routes == ["submit"]


def test_what_is_given_goes_out() -> None:
    with Scripted(tells("a")) as server:
        submit = Submit(new_message="Hi", chat_id="mine", bot_id="parrot")
        ask(Endpoint.parse(server.url), submit, headers={"X-Extra": "1"}, session=Session())
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


# ------------------------------------------------------------------------------------------------ sessions


def test_a_hundred_threads_start_one_session() -> None:
    with Scripted(tells("a")) as server, BlockingTransport(server.url) as transport:
        joins = [in_thread(lambda: collect(transport.ask("Hi"))) for _ in range(100)]
        assert [join() for join in joins] == ["a"] * 100
    assert sorted(server.routes) == ["start_session"] + ["submit"] * 100
    assert server.connections == 100


def test_where_the_session_fails_the_next_question_tries_itself() -> None:
    asked = threading.Event()
    go_on = threading.Event()

    def fail(peer: Peer) -> None:
        peer.read()
        asked.set()
        assert go_on.wait(PATIENCE)
        peer.send(object_(500, success=False, message="No."))

    with Scripted(fail, tells("a")) as server, BlockingTransport(server.url) as transport:
        first = in_thread(lambda: list(transport.ask("one")))
        assert asked.wait(PATIENCE)
        second = in_thread(lambda: list(transport.ask("two")))
        go_on.set()
        [broken] = first()
        assert (broken.reason, broken.detail) == (Reason.REFUSED, "start_session: No.")
        assert second()[-1].reply == "a"
    assert server.routes == ["start_session", "start_session", "submit"]


def test_the_wait_for_a_session_is_bounded() -> None:
    asked = threading.Event()

    def stall(peer: Peer) -> None:
        peer.read()
        asked.set()
        assert peer.is_left()

    timeouts = Timeouts(first_event=0.3)
    with Scripted(stall) as server, BlockingTransport(server.url, timeouts=timeouts) as transport:
        starter = transport.ask("one")
        transport._starter = starter  # as if it were at it and never came back
        assert list(transport.ask("two")) == [
            Broken(
                Reason.TIMEOUT,
                "start_session: no session from the question before within 0.3 s"
                " (timeout 'first_event'), after 0 events",
            )
        ]
        transport._starter = None
        assert list(starter) == [
            Broken(Reason.TIMEOUT, "start_session: no answer within 0.3 s (timeout 'first_event'), after 0 events")
        ]


def test_a_stale_nonce_is_renewed_for_all() -> None:
    def play(peer: Peer) -> None:
        peer.read()
        peer.send(STALE)
        peer.read()
        peer.send(SESSION)
        peer.read()
        peer.send(STREAM, end("a"), LAST)

    with (
        Scripted(play, tells("b")) as server,
        BlockingTransport(server.url, session=Session("0000000000")) as transport,
    ):
        assert collect(transport.ask("one")) == "a"
        assert collect(transport.ask("two")) == "b"
    assert server.routes == ["submit", "start_session", "submit", "submit"]
    assert server.connections == 2


def test_a_session_is_taken_back_only_from_a_reply_that_began_with_the_current_one() -> None:
    with (
        Scripted(answers(STREAM, end("a", new_token="1111111111"), LAST)) as server,
        BlockingTransport(server.url, session=Session("0000000000")) as transport,
    ):
        late = transport.ask("one")
        assert isinstance(next(late), End)
        assert transport.session == Session("1111111111")
        other = transport.ask("two")
        transport._session = Session("2222222222")
        other._begun = True  # it has begun with 1111111111
        assert isinstance(next(other), End)
        assert transport.session == Session("2222222222")


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

    with Scripted(play) as server, BlockingTransport(server.url, session=Session()) as transport:
        reply = transport.ask("Hi")
        assert next(reply) == Live("a")
        got.set()
        assert next(reply) == Broken(Reason.TRUNCATED, "the connection failed: Connection reset by peer")


def test_no_answer_is_lost_and_the_question_is_not_repeated() -> None:
    with Scripted(lambda peer: peer.read()) as server:
        [broken] = ask(server.url, session=Session())
    assert (broken.reason, server.routes) == (Reason.LOST, ["submit"])
    assert broken.detail == "the connection was closed before any answer; not repeated"


@linux
@pytest.mark.parametrize("after", [b"", b"HTTP/1.1 408 Too Late\r\n\r\n"], ids=["closed", "closed with words"])
def test_a_connection_that_the_server_gave_up_after_the_session_is_replaced(after: bytes) -> None:
    def play(peer: Peer) -> None:
        peer.read()
        peer.send_and_close(SESSION + after)

    with Scripted(play, tells("a")) as server:
        assert ask(server.url)[-1].reply == "a"
    assert (server.routes, server.connections) == (["start_session", "submit"], 2)


def test_an_answer_that_ends_its_connection_is_followed_by_another() -> None:
    def play(peer: Peer) -> None:
        peer.read()
        peer.send(object_(success=True, sessionId="s", restNonce="n").replace(b"\r\n", b"\r\nConnection: close\r\n", 1))

    with Scripted(play, tells("a")) as server:
        assert ask(server.url)[-1].reply == "a"
    assert server.connections == 2


def test_an_answer_before_the_question_was_read_counts() -> None:
    def play(peer: Peer) -> None:
        peer.read_head()
        peer.send(object_(413, success=False, message="Too large."))
        assert peer.is_left()

    limits = Limits(request_bytes=64 * 1024 * 1024)
    with Scripted(play) as server:
        [broken] = ask(
            server.url, "x" * 16_000_000, session=Session(), limits=limits, timeouts=Timeouts(write=PATIENCE)
        )
    assert (broken.status, broken.detail) == (413, "Too large.")


# ------------------------------------------------------------------------------------------------ clocks


def test_the_first_event_clock() -> None:
    with Scripted(lambda peer: peer.read() and peer.is_left()) as server:
        assert ask(server.url, session=Session(), timeouts=Timeouts(first_event=0.2)) == [
            Broken(Reason.TIMEOUT, "no event of the answer within 0.2 s (timeout 'first_event'), after 0 events")
        ]


def test_comments_do_not_move_the_idle_clock() -> None:
    def play(peer: Peer) -> None:
        peer.read()
        peer.send(STREAM, live("a"), live("b"))
        while not peer.is_left(within=0.02):
            peer.send(chunk(b": keepalive\n\n"))

    with Scripted(play) as server:
        assert ask(server.url, session=Session(), timeouts=Timeouts(idle=0.3)) == [
            Live("a"),
            Live("b"),
            Broken(Reason.TIMEOUT, "no further event of the answer within 0.3 s (timeout 'idle'), after 2 events"),
        ]


def test_a_caller_who_takes_long_uses_up_no_clock() -> None:
    with (
        Scripted(tells("a", "b")) as server,
        BlockingTransport(server.url, session=Session(), timeouts=Timeouts(idle=0.05)) as transport,
    ):
        reply = transport.ask("Hi")
        next(reply)
        assert not threading.Event().wait(0.2)
        assert [type(event) for event in reply] == [Live, End]


@pytest.fixture
def full_port() -> Iterator[int]:
    """A port whose queue of new connections is full, so that nothing answers."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener:
        port = listener.getsockname()[1]
        waiting = [socket.socket() for _ in range(8)]
        for connection in waiting:
            connection.setblocking(False)
            connection.connect_ex(("127.0.0.1", port))
        yield port
        for connection in waiting:
            connection.close()


@linux
def test_the_connect_clock(full_port: int) -> None:
    assert ask(f"http://127.0.0.1:{full_port}", session=Session(), timeouts=Timeouts(connect=0.2)) == [
        Broken(
            Reason.TIMEOUT, f"no connection to 127.0.0.1:{full_port} within 0.2 s (timeout 'connect'), after 0 events"
        )
    ]


def test_the_write_clock() -> None:
    given_up = threading.Event()
    limits = Limits(request_bytes=64 * 1024 * 1024)
    with Scripted(lambda peer: peer.read_head() and given_up.wait(PATIENCE)) as server:
        [broken] = ask(server.url, "x" * 32_000_000, session=Session(), limits=limits, timeouts=Timeouts(write=0.3))
        given_up.set()
    assert broken == Broken(
        Reason.TIMEOUT, "the request could not be sent within 0.3 s (timeout 'write'), after 0 events"
    )


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
        assert list(reply)[-1] == Broken(Reason.TRUNCATED, "closed by the caller")
        assert list(reply) == []
        unread = transport.ask("Hi")
        unread.close()
        assert list(unread) == [Broken(Reason.LOST, "closed by the caller")]
        assert list(unread) == []


@pytest.mark.parametrize("sent", [b"", STREAM, STREAM + live("a")], ids=["nothing", "head", "event"])
def test_closing_the_transport_ends_a_waiting_read(sent: bytes) -> None:
    waiting = threading.Event()

    def play(peer: Peer) -> None:
        peer.read()
        peer.send(sent)
        waiting.set()
        assert peer.is_left()

    with Scripted(play) as server:
        transport = BlockingTransport(server.url, session=Session())
        join = in_thread(lambda: list(transport.ask("Hi")))
        assert waiting.wait(PATIENCE)
        transport.close()
        broken = join()[-1]
        assert broken.reason in ((Reason.LOST, Reason.TRUNCATED) if sent else (Reason.LOST,))
        assert broken.detail.startswith("closed by the caller")
        transport.close()
        with pytest.raises(RuntimeError, match="closed"):
            transport.ask("Hi")


def test_closing_the_transport_ends_a_wait_for_the_session() -> None:
    asked = threading.Event()

    def play(peer: Peer) -> None:
        peer.read()
        asked.set()
        assert peer.is_left()

    with Scripted(play) as server, BlockingTransport(server.url) as transport:
        joins = [in_thread(partial(list, transport.ask("Hi"))) for _ in range(5)]
        assert asked.wait(PATIENCE)
        transport.close()
        for join in joins:
            assert [event.reason for event in join()] == [Reason.LOST]
    assert server.connections == 1


@linux
def test_closing_the_transport_ends_a_connect(full_port: int) -> None:
    with BlockingTransport(
        f"http://127.0.0.1:{full_port}", session=Session(), timeouts=Timeouts(connect=PATIENCE)
    ) as transport:
        reply = transport.ask("Hi")
        join = in_thread(lambda: list(reply))
        until(lambda: reply._socket is not None)
        transport.close()
        assert [event.reason for event in join()] == [Reason.LOST]


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end
        threading.Event().wait(0.005)


def test_an_exception_from_within_closes_the_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    with (
        Scripted(lambda peer: peer.read() and peer.is_left()) as server,
        BlockingTransport(server.url, session=Session()) as transport,
    ):
        reply = transport.ask("Hi")

        def interrupt(*_: Any) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr(reply, "_receive", interrupt)
        with pytest.raises(KeyboardInterrupt):
            next(reply)
        assert reply._socket is None
        assert list(reply) == [Broken(Reason.LOST, "closed by the caller; not repeated")]


# ------------------------------------------------------------------------------------------------ TLS


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


def tls_server(authority: trustme.CA, name: str = "localhost") -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(name).configure_cert(context)
    return context


def trusting(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


def without_close_notify(*pieces: bytes) -> Callable[[Peer], None]:
    def play(peer: Peer) -> None:
        answers(*pieces)(peer)
        socket.socket.shutdown(peer.socket, socket.SHUT_WR)
        assert peer.is_left()

    return play


def test_a_question_over_tls(authority: trustme.CA) -> None:
    with Scripted(tells("a"), tls=tls_server(authority)) as server:
        assert ask(server.url, ssl_context=trusting(authority))[-1].reply == "a"
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


def test_a_server_that_stalls_in_the_handshake(authority: trustme.CA) -> None:
    with Scripted(lambda peer: peer.is_left()) as server:
        url = server.url.replace("http:", "https:")
        [broken] = ask(url, session=Session(), ssl_context=trusting(authority), timeouts=Timeouts(connect=0.2))
    assert broken == Broken(
        Reason.TIMEOUT, "no connection to 127.0.0.1 with TLS within 0.2 s (timeout 'connect'), after 0 events"
    )


def test_closing_the_transport_ends_a_handshake(authority: trustme.CA) -> None:
    hello = threading.Event()

    def play(peer: Peer) -> None:
        peer.socket.recv(1)
        hello.set()
        assert peer.is_left()

    with Scripted(play) as server:
        url = server.url.replace("http:", "https:")
        timeouts = Timeouts(connect=PATIENCE)
        transport = BlockingTransport(url, session=Session(), ssl_context=trusting(authority), timeouts=timeouts)
        join = in_thread(lambda: list(transport.ask("Hi")))
        assert hello.wait(PATIENCE)
        transport.close()
        assert [event.reason for event in join()] == [Reason.LOST]


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


def test_closing_the_transport_ends_a_waiting_read_inside_tls(authority: trustme.CA) -> None:
    waiting = threading.Event()

    def play(peer: Peer) -> None:
        peer.read()
        waiting.set()
        assert peer.is_left()

    with Scripted(play, tls=tls_server(authority)) as server:
        transport = BlockingTransport(server.url, session=Session(), ssl_context=trusting(authority))
        join = in_thread(lambda: list(transport.ask("Hi")))
        assert waiting.wait(PATIENCE)
        transport.close()
        assert [event.reason for event in join()] == [Reason.LOST]


def test_an_answer_with_a_length_is_read(authority: trustme.CA) -> None:
    with Scripted(answers(answer(b'{"success":true,"reply":"a"}'))) as server:
        assert ask(server.url) == [End("a", '{"success":true,"reply":"a"}')]
