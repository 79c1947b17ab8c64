"""The ASGI application on real servers over loopback, asked by our clients and with raw bytes."""

import json
import re
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest

from opchat_proto import Broken, End, Live, Reason, Session, Site, Submit
from opchat_transports.blocking_sockets import BlockingTransport

from .asking import ASKS, Ask
from .peer import PATIENCE
from .served import SECRET, SERVERS, running

START = "/wp-json/mwai/v1/start_session"
SUBMIT = "/wp-json/mwai-ui/v1/chats/submit"


class Served:
    """A running server, and the file that lists the bots closed early."""

    def __init__(self, name: str, port: int, left: Path) -> None:
        self.name = name
        self.port = port
        self._left = left
        self.url = f"http://127.0.0.1:{port}"

    def is_left(self, what: str) -> bool:
        """Whether the bot of this question is closed in time."""
        end = time.monotonic() + PATIENCE
        waiting = threading.Event()
        while time.monotonic() < end:
            if self._left.exists() and what in self._left.read_text().split():
                return True
            waiting.wait(0.05)
        return False

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), PATIENCE)


@pytest.fixture(scope="module", params=SERVERS)
def served(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    left = tmp_path_factory.mktemp("served") / "left"
    with running(request.param, left) as port:
        yield Served(request.param, port, left)


def test_each_of_our_clients_gets_the_same_events(served: Served, ask: Ask) -> None:
    events = ask(served.url, question="echo aé🚉</script>")
    assert [event.text for event in events[:-1]] == list("aé🚉</script>")
    assert events[-1].reply == "aé🚉</script>"
    events = ask(served.url, question="end")
    assert events[:2] == [Live("Thinking...", "thinking"), Live("a")]
    assert (events[2].reply, events[2].response_id, events[2].payload()["usage"]) == ("A", "r", None)
    [whole] = ask(served.url, question=Submit(new_message="echo abc", stream=False))
    assert whole.reply == "abc"


def test_no_piece_of_a_long_answer_is_lost(served: Served, ask: Ask) -> None:
    events = ask(served.url, question="count 600")
    assert "".join(event.text for event in events[:-1]) == "".join(f"{number} " for number in range(600))
    assert len(events) == 601
    assert isinstance(events[-1], End)


def test_a_failing_bot_becomes_an_error_event(served: Served, ask: Ask) -> None:
    first, broken = ask(served.url, question="fail")
    assert first == Live("a")
    assert (broken.reason, broken.detail[:5]) == (Reason.REMOTE, "Oops!")
    assert "1234" not in broken.raw


def test_a_stale_nonce_is_renewed(served: Served, ask: Ask) -> None:
    stale = Session(nonce="0123456789", session_id="abc")
    assert [type(event) for event in ask(served.url, question="echo a", session=stale)] == [Live, End]


def test_many_questions_share_a_session(served: Served) -> None:
    """The processes of a server are one site: a nonce from one is valid in the others."""
    with BlockingTransport(served.url) as transport:
        for number in range(20):
            with transport.ask(f"echo {number}") as reply:
                assert [event for event in reply if isinstance(event, Broken)] == []


# ---------------------------------------------------------------- raw bytes


def submit(text: str, *headers: str) -> bytes:
    body = json.dumps({"botId": "default", "newMessage": text, "stream": True}).encode()
    lines = [
        f"POST {SUBMIT} HTTP/1.1",
        "Host: a",
        f"X-WP-Nonce: {Site(SECRET).nonce(time.time())}",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
        *headers,
    ]
    return "\r\n".join([*lines, "", ""]).encode() + body


def exchange(served: Served, *pieces: bytes) -> bytes:
    """All bytes that the server sends before it closes."""
    with closing(served.connect()) as connection:
        for piece in pieces:
            connection.sendall(piece)
        received = bytearray()
        while data := connection.recv(65536):
            received += data
        return bytes(received)


def until(connection: socket.socket, what: bytes) -> bytes:
    received = bytearray()
    while what not in received:
        data = connection.recv(65536)
        assert data, f"closed after {bytes(received)!r}"
        received += data
    return bytes(received)


def unchunked(response: bytes) -> tuple[bytes, bytes]:
    head, _, body = response.partition(b"\r\n\r\n")
    if b"chunked" not in head.lower():
        return head, body
    joined = b""
    while match := re.match(rb"([0-9a-fA-F]+)\r\n", body):
        size = int(match[1], 16)
        joined += body[match.end() : match.end() + size]
        body = body[match.end() + size + 2 :]
    return head, joined


def test_the_bytes_match_the_plugins(served: Served) -> None:
    head, body = unchunked(exchange(served, submit("end", "Connection: close", "Origin: https://shop.example")))
    fields = head.lower()
    assert fields.startswith(b"http/1.1 200")
    for field in (
        b"content-type: text/event-stream;charset=utf-8",
        b"cache-control: no-cache",
        b"x-accel-buffering: no",
        b"access-control-allow-origin: https://shop.example",
        b"set-cookie: mwai_session_id=",
    ):
        assert b"\r\n" + field in fields
    first, rest = body.split(b"\n\n", 1)
    assert re.fullmatch(
        rb'data: \{"type":"live","data":"Thinking\.\.\.","timestamp":[0-9.]+,'
        rb'"subtype":"thinking","visibility":"collapsed"\}',
        first,
    )
    assert rest == (
        b'data: {"type":"live","data":"a"}\n\n'
        b'data: {"type":"end","data":"{\\"success\\":true,\\"reply\\":\\"A\\",\\"images\\":null,\\"actions\\":[],'
        b'\\"shortcuts\\":[],\\"blocks\\":[],\\"usage\\":null,\\"responseId\\":\\"r\\"}"}\n\n'
    )


def test_each_piece_arrives_before_the_bot_yields_the_next(served: Served) -> None:
    with closing(served.connect()) as connection:
        connection.sendall(submit("think first"))
        until(connection, b"thinking")
    assert served.is_left("first")


def test_comments_come_while_the_bot_is_silent(served: Served) -> None:
    with closing(served.connect()) as connection:
        connection.sendall(submit("slow", "Connection: close"))
        received = until(connection, b"at last")
    assert received.count(b": keepalive\n\n") >= 1
    assert received.index(b": keepalive\n\n") < received.index(b"at last")


def test_a_client_that_leaves_cancels_a_waiting_bot(served: Served) -> None:
    with closing(served.connect()) as connection:
        connection.sendall(submit("think twice"))
        until(connection, b"thinking")
        assert not served._left.exists() or "twice" not in served._left.read_text().split()
    assert served.is_left("twice")


def test_a_client_that_leaves_cancels_a_streaming_bot(served: Served) -> None:
    with closing(served.connect()) as connection:
        connection.sendall(submit("flood away"))
        until(connection, b"xxxx")
    assert served.is_left("away")


def test_the_page_is_at_the_root(served: Served) -> None:
    fields = b"Host: site.example:8080\r\nX-Forwarded-Host: evil.example\r\nConnection: close\r\n"
    response = exchange(served, b"GET / HTTP/1.1\r\n" + fields + b"\r\n")
    head, body = unchunked(response)
    assert head.startswith(b"HTTP/1.1 200")
    assert b"mwai-chatbot-container" in body
    assert b"&quot;restUrl&quot;:&quot;http:\\/\\/site.example:8080\\/wp-json&quot;" in body
    assert b"evil.example" not in body
    head, body = unchunked(exchange(served, b"HEAD / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"))
    assert (head[:12], body) == (b"HTTP/1.1 200", b"")


def test_the_page_forbids_frames_and_has_no_icon(served: Served) -> None:
    head, _ = unchunked(exchange(served, b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"))
    assert b"frame-ancestors 'none'" in head
    head, body = unchunked(exchange(served, b"GET /favicon.ico HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"))
    assert (head[:12], body) == (b"HTTP/1.1 204", b"")


def test_a_question_is_answered_by_the_bot_that_it_names(served: Served) -> None:
    """A blocking bot keeps one thread for its whole answer."""
    [whole] = ASKS["blocking"](served.url, question=Submit(new_message="hi", bot_id="thread", stream=False))
    first, second = whole.reply.split()
    assert first == second
    [broken] = ASKS["blocking"](served.url, question=Submit(new_message="hi", bot_id="nobody"))
    assert (broken.reason, broken.detail) == (Reason.REMOTE, "Sorry, your query has been rejected.")


def test_the_plugins_script_is_told_that_a_guest_has_no_discussions(served: Served) -> None:
    body = b'{"botId":"default"}'
    head = b"POST /wp-json/mwai-ui/v1/discussions/list HTTP/1.1\r\nHost: a\r\nConnection: close\r\n"
    head, body = unchunked(exchange(served, head + b"Content-Length: %d\r\n\r\n%s" % (len(body), body)))
    assert (head[:12], body) == (b"HTTP/1.1 200", b'{"success":false,"message":"You need to be connected."}')


def test_an_ambiguous_head_reaches_no_bot(served: Served) -> None:
    """The application refuses it if the server shows it both framings, else the server does. granian reads chunks."""
    question = submit("flood smuggled", "Transfer-Encoding: chunked", "Connection: close")
    head, _ = unchunked(exchange(served, question))
    assert head[:12] == (b"HTTP/1.1 500" if served.name == "granian" else b"HTTP/1.1 400")


@pytest.mark.parametrize(
    ("request_", "status", "code"),
    [
        (f"POST {SUBMIT} HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n", 401, "rest_forbidden"),
        (
            f"POST {START} HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nX-WP-Nonce: x\r\n",
            403,
            "rest_cookie_invalid_nonce",
        ),
        ("GET /wp-json/ HTTP/1.1\r\nHost: a\r\n", 404, "rest_no_route"),
        ("GET / HTTP/1.1\r\nHost: evil.example\r\n", 421, "misdirected_request"),
        (f"POST {SUBMIT} HTTP/1.1\r\nHost: evil.example:80\r\nContent-Length: 0\r\n", 421, "misdirected_request"),
        (f"GET {START} HTTP/1.1\r\nHost: a\r\n", 404, "rest_no_route"),
        (f"POST {START} HTTP/1.1\r\nHost: a\r\nContent-Length: 1048577\r\n", 413, "content_too_large"),
        (f"POST {START} HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n", 408, "request_timeout"),
    ],
)
def test_refusals_match_those_of_wordpress(served: Served, request_: str, status: int, code: str) -> None:
    head, body = unchunked(exchange(served, f"{request_}Connection: close\r\n\r\n".encode()))
    assert int(head.split()[1]) == status
    assert json.loads(body)["code"] == code


def test_an_endless_body_is_refused(served: Served) -> None:
    head = f"POST {START} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
    chunk = b"10000\r\n" + b"x" * 65536 + b"\r\n"
    with closing(served.connect()) as connection:
        connection.sendall(head)
        answered = bytearray()
        for _ in range(1024):  # at most 64 MiB
            try:
                connection.sendall(chunk)
            except OSError:
                break
            connection.setblocking(False)
            with suppress(OSError):
                answered += connection.recv(65536)
            connection.settimeout(PATIENCE)
            if b"content_too_large" in answered:
                break
        else:
            raise AssertionError("the server reads without end")
    assert answered.startswith(b"HTTP/1.1 413") or not answered
    assert [type(event) for event in ASKS["blocking"](served.url, question="echo a")] == [Live, End]


@pytest.mark.parametrize("form", ["{}/wp-json", "{}/index.php/wp-json", "{}/?rest_route=", "{}/index.php?rest_route="])
def test_every_form_of_the_rest_root_is_served(served: Served, form: str) -> None:
    root = form.format("")
    request = f"POST {root}/mwai/v1/start_session HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    head, body = unchunked(exchange(served, request.encode()))
    assert head.startswith(b"HTTP/1.1 200")
    assert json.loads(body)["success"] is True
