"""uvicorn with our bounds, in this process and over loopback: what it closes, refuses and logs."""

import socket
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import anyio
import pytest
import uvicorn

from opchat_proto import End, Limits, Server, Site, Submit
from opchat_transports.asgi import application
from opchat_transports.blocking_sockets import BlockingTransport
from opchat_transports.uvicorn_protocol import BoundedProtocol

from .peer import PATIENCE

SECRET = b"a secret of this site"


async def bot(submit: Submit) -> AsyncIterator[str]:
    if submit.new_message == "think":
        yield "thinking"
        await anyio.sleep_forever()
    while submit.new_message == "flood":
        yield "x" * 65536
    yield submit.new_message


APP = application(bot, secret=SECRET)


@contextmanager
def serving(loop: str = "asyncio", app: Any = APP, **bounds: float) -> Iterator[int]:
    """Run a server with these bounds in a thread, and yield its port."""
    config = uvicorn.Config(
        app,
        http=type("Protocol", (BoundedProtocol,), bounds),
        ws="none" if app is APP else "wsproto",
        loop=loop,
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=0,
    )
    server = uvicorn.Server(config)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            server.should_exit = True
            thread.join()


def connect(stack: ExitStack, port: int) -> socket.socket:
    return stack.enter_context(socket.create_connection(("127.0.0.1", port), PATIENCE))


def rest(connection: socket.socket) -> bytes:
    """All bytes that arrive before the server closes."""
    received = b""
    try:
        while data := connection.recv(65536):
            received += data
    except ConnectionResetError:
        pass
    return received


def until(connection: socket.socket, what: bytes) -> None:
    received = b""
    while what not in received:
        data = connection.recv(65536)
        assert data, received
        received += data


def question(text: str) -> bytes:
    body = b'{"botId":"default","stream":true,"newMessage":"%s"}' % text.encode()
    return (
        b"POST /wp-json/mwai-ui/v1/chats/submit HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
        b"X-WP-Nonce: %s\r\nContent-Length: %d\r\n\r\n%s" % (Site(SECRET).nonce(time.time()).encode(), len(body), body)
    )


def answers(port: int) -> bool:
    with BlockingTransport(f"http://127.0.0.1:{port}") as transport, transport.ask("Hi") as reply:
        return isinstance(list(reply)[-1], End)


HEAD = b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n"


# ---------------------------------------------------------------- connections


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"G",
        b"POST / HTTP/1.1\r\nHost: a\r\nX: ",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nx",
        HEAD,
        HEAD + b"GET",
    ],
    ids=["silent", "a byte", "half a head", "half a body", "kept", "kept and half a head"],
)
def test_one_connection_too_many_closes_the_one_that_waited_longest(sent: bytes, loop: str) -> None:
    with serving(loop, connections_at_most=3) as port, ExitStack() as stack:
        first = connect(stack, port)
        first.sendall(sent)
        if sent.startswith(HEAD):
            assert first.recv(12) == b"HTTP/1.1 200"
        others = [connect(stack, port) for _ in range(2)]
        for connection in others:
            connection.sendall(HEAD)
            assert connection.recv(12) == b"HTTP/1.1 200"
        first_still = connect(stack, port)
        first_still.sendall(HEAD)
        assert first_still.recv(12) == b"HTTP/1.1 200"
        assert rest(first).count(b"HTTP/1.1") == 0
        others[1].sendall(HEAD)
        until(others[1], b"HTTP/1.1 200")
        assert answers(port)


def test_a_connection_that_is_being_answered_is_not_closed() -> None:
    with serving(connections_at_most=2) as port, ExitStack() as stack:
        thinking = [connect(stack, port) for _ in range(2)]
        for connection in thinking:
            connection.sendall(question("think"))
            until(connection, b"thinking")
        refused = rest(connect(stack, port))
        assert refused.startswith(b"HTTP/1.1 503 Service Unavailable\r\n")
        assert b"\r\nConnection: close\r\n" in refused
        thinking[0].close()
        end = time.monotonic() + PATIENCE
        while not rest_of_head(port).startswith(b"HTTP/1.1 200"):
            assert time.monotonic() < end
        thinking[1].setblocking(False)
        with pytest.raises(BlockingIOError):
            thinking[1].recv(1)


def rest_of_head(port: int) -> bytes:
    with ExitStack() as stack:
        connection = connect(stack, port)
        try:
            connection.sendall(HEAD.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
        except ConnectionError:
            return b""
        return rest(connection)


# ---------------------------------------------------------------- clocks


@pytest.mark.parametrize("beginning", [b"", b"GET / HT", HEAD, HEAD + b"GET / HTTP/1.1\r\nA: "])
def test_a_head_must_arrive_in_time(beginning: bytes, caplog: pytest.LogCaptureFixture) -> None:
    with serving(head_within=1.0) as port, ExitStack() as stack:
        connection = connect(stack, port)
        connection.sendall(beginning)
        received = rest(connection)
        assert received.startswith(b"HTTP/1.1 200") == beginning.startswith(HEAD)
        assert answers(port)
    assert "a client sent no request in time: its connection was closed" in caplog.messages


def test_a_slow_head_gets_no_extra_time(caplog: pytest.LogCaptureFixture) -> None:
    with serving(head_within=0.3) as port, ExitStack() as stack:
        connection = connect(stack, port)
        connection.settimeout(0.02)
        connection.sendall(b"GET / HTTP/1.1\r\nX: ")
        end = time.monotonic() + PATIENCE
        while True:
            assert time.monotonic() < end
            try:
                connection.sendall(b"x")
                if not connection.recv(1):
                    break
            except TimeoutError:
                pass
            except ConnectionError:
                break
    assert "a client sent no request in time: its connection was closed" in caplog.messages


def test_an_answer_may_take_longer_than_a_head() -> None:
    with serving(head_within=0.5) as port, ExitStack() as stack:
        connection = connect(stack, port)
        connection.sendall(question("think"))
        connection.settimeout(1.0)
        with pytest.raises(TimeoutError):
            rest(connection)


def test_a_client_that_does_not_read_its_answer_is_disconnected(caplog: pytest.LogCaptureFixture) -> None:
    with serving(write_within=0.2) as port, ExitStack() as stack:
        connection = connect(stack, port)
        connection.sendall(question("flood"))
        end = time.monotonic() + PATIENCE
        while "a client did not read its answer: its connection was closed" not in caplog.messages:
            assert time.monotonic() < end
            threading.Event().wait(0.01)
        assert not rest(connection).endswith(b"0\r\n\r\n")


def test_a_websocket_of_another_application_has_no_clock() -> None:
    async def echo(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        await receive()
        await send({"type": "websocket.send", "text": "still here"})
        await receive()

    upgrade = (
        b"\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: %s\r\n\r\n"
    )
    with serving(app=echo, head_within=0.3) as port, ExitStack() as stack:
        connection = connect(stack, port)
        connection.sendall(HEAD.replace(b"HEAD", b"GET").replace(b"\r\n\r\n", upgrade % b"AAAAAAAAAAAAAAAAAAAAAA=="))
        until(connection, b"\r\n\r\n")
        assert rest(connect(stack, port)) == b""  # the clock of a later connection has run out
        connection.sendall(b"\x81\x80\0\0\0\0")  # an empty text
        until(connection, b"still here")


# ---------------------------------------------------------------- heads


def lines(*fields: bytes, first: bytes = b"POST /wp-json/mwai/v1/start_session HTTP/1.1") -> bytes:
    return b"\r\n".join([first, b"Host: a", *fields, b"", b""])


REFUSED = {
    "both framings": lines(b"Content-Length: 3", b"Transfer-Encoding: chunked"),
    "a folded field": lines(b"A: b", b" c"),
    "a folded field, bare line ends": lines(b"A: b", b"\tc").replace(b"\r\n", b"\n"),
    "version 2": lines(first=b"GET / HTTP/2.0"),
    "version 9": lines(first=b"GET / HTTP/9.9"),
    "a length beyond": lines(b"Content-Length: 99999999"),
    "two lengths": lines(b"Content-Length: 1", b"Content-Length: 2"),
    "many fields": lines(*[b"A: b"] * 128),
    "a head larger than the limit in one read": lines(b"A: " + b"b" * 65536),
    "no HTTP": b"\x16\x03\x01\x02\x00\r\n\r\n",
    "no version": b"GET /\r\n\r\n",
    "another coding": lines(b"Transfer-Encoding: gzip"),
}


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with serving() as port:
        yield port


@pytest.mark.parametrize("sent", REFUSED.values(), ids=REFUSED)
def test_a_head_that_our_own_server_refuses_is_refused(port: int, sent: bytes) -> None:
    with ExitStack() as stack:
        connection = connect(stack, port)
        connection.sendall(sent)
        received = rest(connection)
    ours = Server(Site(SECRET))
    ours.receive_data(sent, now=time.time())
    assert ours.status is not None
    assert received[:12] == f"HTTP/1.1 {ours.status}".encode()
    assert b"\r\nconnection: close\r\n" in received.lower()
    assert b"HTTP/1.1" not in received[12:]


@pytest.mark.parametrize(
    "fields", [[b"A: b", b" c"], [b"Transfer-Encoding: chunked", b"", b"zz"]], ids=["head", "body"]
)
def test_a_refused_head_request_gets_no_body(port: int, fields: list[bytes], caplog: pytest.LogCaptureFixture) -> None:
    with ExitStack() as stack:
        connection = connect(stack, port)
        connection.sendall(lines(*fields, first=b"HEAD / HTTP/1.1"))
        head, nothing = rest(connection).split(b"\r\n\r\n")
    assert (head[:12], nothing) == (b"HTTP/1.1 400", b"")
    assert [record.exc_info for record in caplog.records if record.exc_info] == []


def test_a_request_after_a_head_request_is_refused_with_a_body(port: int) -> None:
    with ExitStack() as stack:
        connection = connect(stack, port)
        connection.sendall(HEAD + b"NO HTTP\r\n\r\n")
        assert rest(connection).endswith(b'"The request cannot be read.","data":{"status":400}}')


def test_a_valid_head_is_answered(port: int) -> None:
    with ExitStack() as stack:
        connection = connect(stack, port)
        connection.sendall(lines(b"A: b\tc", b"Content-Length: 0", *[b"A: b"] * 100) * 3 + lines(b"Connection: close"))
        assert rest(connection).count(b"HTTP/1.1 200") == 4


def test_the_application_bounds_bodies_itself() -> None:
    site = application(bot, secret=SECRET, limits=Limits(request_bytes=3 * 2**20))
    with serving(app=site) as port, ExitStack() as stack:
        connection = connect(stack, port)
        connection.sendall(lines(b"Content-Length: %d" % (2 * 2**20), b"Connection: close") + bytes(2 * 2**20))
        assert rest(connection).startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize("body", [b"zz\r\n", b"1\r\nab\r\n"])
def test_an_unreadable_body_only_ends_its_connection(port: int, body: bytes, caplog: pytest.LogCaptureFixture) -> None:
    with ExitStack() as stack:
        connection = connect(stack, port)
        connection.sendall(lines(b"Transfer-Encoding: chunked"))
        connection.sendall(body)
        assert rest(connection)[:12] in (b"HTTP/1.1 400", b"")
    assert answers(port)
    assert [record.exc_info for record in caplog.records if record.exc_info] == []


def test_a_flood_of_unreadable_requests_logs_one_line_a_second(port: int, caplog: pytest.LogCaptureFixture) -> None:
    begin = time.monotonic()
    for _ in range(100):
        with ExitStack() as stack:
            connection = connect(stack, port)
            connection.sendall(b"NO HTTP\r\n\r\n")
            assert rest(connection).startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert len(caplog.records) <= time.monotonic() - begin + 1


def test_uvicorn_can_be_told_its_name() -> None:
    config = uvicorn.Config(application(bot, secret=SECRET), http="opchat_transports.uvicorn_protocol:BoundedProtocol")
    config.load()
    assert config.http_protocol_class is BoundedProtocol
