"""The servers under load and under attack, over loopback. Each test prints what it did and how fast.

`pytest tests/external` runs this; plain `pytest` does not. Nothing here asserts on speed.
"""

import json
import random
import re
import resource
import selectors
import socket
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, suppress
from pathlib import Path

import pytest

from opchat_proto import Broken, End, Site
from opchat_transports.blocking_sockets import BlockingTransport

from ..transports.peer import free_port
from ..transports.served import SECRET, started

PATIENCE = 60.0  # seconds
START = "/wp-json/mwai/v1/start_session"
SUBMIT = "/wp-json/mwai-ui/v1/chats/submit"
MEBI = 1024 * 1024

UVICORN = "-m uvicorn tests.transports.served:plain --host 127.0.0.1 --port {port} --http h11 --log-level critical"
SMALL = """
import logging, threading
from opchat_transports.blocking_server import serve
from tests.transports.served import SECRET

def bot(submit):
    yield from submit.new_message

logging.disable()
with serve(bot, port={port}, secret=SECRET) as server:
    server.wait()
"""

Say = Callable[[str], None]


class Served:
    def __init__(self, process: subprocess.Popen[bytes], port: int) -> None:
        self.process = process
        self.port = port
        self.before = self.memory()

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), PATIENCE)

    def memory(self) -> int:
        """Resident bytes."""
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return pages * resource.getpagesize()

    def grown(self) -> int:
        return self.memory() - self.before

    def answers(self) -> bool:
        """Whether a question gets its whole answer."""
        with BlockingTransport(f"http://127.0.0.1:{self.port}") as transport, transport.ask("echo abc") as reply:
            *_, last = reply
        assert not isinstance(last, Broken), last
        return isinstance(last, End) and last.reply in ("abc", "echo abc")


@pytest.fixture(scope="module", autouse=True)
def many_files() -> Iterator[int]:
    """Raise the limit of open files to the maximum; the servers inherit it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    yield hard
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.fixture(scope="module", params=["uvicorn", "small"])
def served(request: pytest.FixtureRequest, many_files: int) -> Iterator[Served]:
    port = free_port()
    command = UVICORN.format(port=port).split() if request.param == "uvicorn" else ["-c", SMALL.format(port=port)]
    with started(port, *command) as process:
        yield Served(process, port)


@pytest.fixture
def say(request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]) -> Say:
    def print_it(line: str) -> None:
        with capsys.disabled():
            print(f"\n{request.node.name}: {line}")

    return print_it


def question(text: str, *headers: str) -> bytes:
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


def unchunked(body: bytes) -> bytes:
    joined = bytearray()
    at = 0
    while match := re.compile(rb"([0-9a-fA-F]+)\r\n").match(body, at):
        size = int(match[1], 16)
        joined += body[match.end() : match.end() + size]
        at = match.end() + size + 2
    return bytes(joined)


def read_all(connections: list[socket.socket]) -> list[bytes]:
    """All bytes that the server sends on each connection before it closes."""
    received = {connection: bytearray() for connection in connections}
    with selectors.DefaultSelector() as selector:
        for connection in connections:
            connection.setblocking(False)
            selector.register(connection, selectors.EVENT_READ, (connection, received[connection]))
        while selector.get_map():
            ready = selector.select(PATIENCE)
            assert ready, "the server has stopped sending"
            for key, _ in ready:
                connection, so_far = key.data
                data = connection.recv(1 << 20)
                so_far += data
                if not data:
                    selector.unregister(connection)
    return [bytes(received[connection]) for connection in connections]


STREAMS = 1000
EVENTS = 600


def test_a_thousand_streams_at_once_lose_no_event(many_files: int, say: Say) -> None:
    port = free_port()
    pieces = [f"{number} " for number in range(EVENTS)]
    expected = b"".join(
        b"data: " + json.dumps({"type": "live", "data": piece}, separators=(",", ":")).encode() + b"\n\n"
        for piece in pieces
    )
    command = UVICORN.format(port=port).replace("--http h11", "--http httptools")
    with started(port, *command.split()) as process, ExitStack() as stack:
        server = Served(process, port)
        connections = [stack.enter_context(server.connect()) for _ in range(STREAMS)]
        begin = time.monotonic()
        for connection in connections:
            connection.sendall(question(f"count {EVENTS}", "Connection: close"))
        answers = read_all(connections)
        seconds = time.monotonic() - begin
        bodies = [unchunked(answer.partition(b"\r\n\r\n")[2]) for answer in answers]
        assert [body for body in bodies if not body.startswith(expected + b'data: {"type":"end"')] == []
        count = sum(body.count(b"\n\n") for body in bodies)
        assert count == STREAMS * (EVENTS + 1)
        say(f"{count:,} events in {seconds:.1f} s, {count / seconds:,.0f} a second, {server.grown() / MEBI:.0f} MiB")
        assert server.grown() < 256 * MEBI
        assert server.answers()


def test_idle_connections_leave_the_server_answering(served: Served, many_files: int, say: Say) -> None:
    count = min(10_000, many_files - 500)
    begin = time.monotonic()
    with ExitStack() as stack:
        for _ in range(count):
            stack.enter_context(served.connect())
        assert served.answers()
        seconds = time.monotonic() - begin
        say(f"{count:,} idle connections in {seconds:.1f} s, {served.grown() / MEBI:.0f} MiB")
        assert served.grown() < 64 * MEBI + count * 32 * 1024
    assert served.answers()


def test_slow_heads_leave_the_server_answering(served: Served, say: Say) -> None:
    head = question("abc")[:40]
    with ExitStack() as stack:
        connections = [stack.enter_context(served.connect()) for _ in range(400)]
        for place in range(len(head)):
            for connection in connections:
                with suppress(OSError):  # the server may have closed the connection
                    connection.sendall(head[place : place + 1])
        assert served.answers()
        say(f"{len(connections)} heads, a byte at a time, {served.grown() / MEBI:.0f} MiB")


def endless(served: Served, beginning: bytes, piece: bytes) -> tuple[int, bytes]:
    """Send endlessly. Returns how many bytes were sent before the server closed, and its response."""
    sent, said = len(beginning), b""
    with closing(served.connect()) as connection:
        connection.sendall(beginning)
        while sent < 128 * MEBI:
            try:
                connection.sendall(piece)
                sent += len(piece)
            except OSError:
                break
        with suppress(OSError):
            said = connection.recv(65536)
    return sent, said


@pytest.mark.parametrize(
    ("beginning", "piece"),
    [
        (b"POST /", b"a" * 65536),
        (b"POST / HTTP/1.1\r\nHost: a\r\nX: ", b"a" * 65536),
        (b"POST / HTTP/1.1\r\nHost: a\r\n", b"X: aaaaaaaaaaaaaaaaaaaaaaaaa\r\n" * 2048),
        (f"POST {START} HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999\r\n\r\n".encode(), b"a" * 65536),
        (
            f"POST {START} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n".encode(),
            b"10000\r\n" + b"a" * 65536 + b"\r\n",
        ),
        (f"POST {START} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1;".encode(), b"a" * 65536),
    ],
    ids=["target", "field", "fields", "body", "chunks", "chunk extension"],
)
def test_a_request_without_an_end_is_refused(served: Served, beginning: bytes, piece: bytes, say: Say) -> None:
    sent, said = endless(served, beginning, piece)
    status = said[:12].decode()
    say(f"{status or 'closed'} after {sent / MEBI:.1f} MiB, {served.grown() / MEBI:.0f} MiB of memory")
    assert sent < 128 * MEBI
    assert status in ("", "HTTP/1.1 400", "HTTP/1.1 413", "HTTP/1.1 431")
    assert served.grown() < 128 * MEBI
    assert served.answers()


# Requests that are not HTTP, which end the connection, and requests that only the site refuses.
NO_HTTP = [
    b"\r\n\r\n\r\nGARBAGE\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 40 + b"\r\n\r\n",
    b"GET / HTTP/9.9\r\nHost: a\r\n\r\n",
    b"GET /\r\n\r\n",
    b"GET  /  HTTP/1.1\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost : a\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\nContent-Length: -1\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n",
    b"G\x00T / HTTP/1.1\r\nHost: a\r\n\r\n",
]
JSON = "Content-Type: application/json\r\n"
NO_QUESTION = [
    ("GET", "/nowhere", "", b"", 404),
    ("BREW", START, "", b"", 404),
    ("POST", "/%ff?rest_route=%00", "", b"", 404),
    ("POST", START, "X-WP-Nonce: 0123456789\r\n", b"", 403),
    ("POST", SUBMIT, "", b"{}", 401),
    ("POST", SUBMIT, JSON, b"{", 401),
    ("POST", SUBMIT, JSON, b"[" * 1000, 401),
    ("POST", SUBMIT, JSON + "X-WP-Nonce: {nonce}\r\n", b"[" * 1000, 400),
    ("POST", SUBMIT, JSON + "X-WP-Nonce: {nonce}\r\n", b'{{"botId":"default","newMessage":[]}}', 400),
    ("POST", SUBMIT, JSON + "X-WP-Nonce: {nonce}\r\n", b'{"botId":"default","newMessage":[]}', 500),
    ("POST", SUBMIT, JSON + "X-WP-Nonce: {nonce}\r\n", b'{"botId":"default","newMessage":" "}', 403),
    ("POST", SUBMIT, JSON + "X-WP-Nonce: {nonce}\r\n", b'{"botId":"default","newMessage":"","shortcutId":"x"}', 400),
    ("POST", SUBMIT, "Content-Type: text/plain\r\nX-WP-Nonce: {nonce}\r\n", b"\xff\xfe", 403),
]
LAST = b"GET /nowhere HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"  # if the connection is still open
REQUESTS = 100_000
BATCH = 50


def test_malformed_requests_are_refused_and_have_no_other_effect(served: Served, say: Say) -> None:
    draw = random.Random(5)
    nonce = Site(SECRET).nonce(time.time())
    refused: Counter[str] = Counter()
    begin = time.monotonic()
    for _ in range(0, REQUESTS, BATCH):
        chosen = [draw.choice(NO_QUESTION) for _ in range(BATCH - 1)]
        batch = b"".join(
            f"{method} {target} HTTP/1.1\r\nHost: a\r\nContent-Length: {len(body)}\r\n{headers}\r\n".replace(
                "{nonce}", nonce
            ).encode()
            + body
            for method, target, headers, body, _ in chosen
        )
        with closing(served.connect()) as connection:
            connection.sendall(batch + draw.choice(NO_HTTP) + LAST)
            [answer] = read_all([connection])
        statuses = [int(status) for status in re.findall(rb"HTTP/1\.1 (\d\d\d) ", answer)]
        assert statuses[: BATCH - 1] == [status for *_, status in chosen]
        assert set(statuses[BATCH - 1 :]) <= {200, 400, 404, 501, 505}
        refused.update(map(str, statuses))
    seconds = time.monotonic() - begin
    told = ", ".join(f"{status}: {count:,}" for status, count in sorted(refused.items()))
    say(f"{REQUESTS:,} requests in {seconds:.1f} s ({told}), {served.grown() / MEBI:.0f} MiB")
    assert served.grown() < 128 * MEBI
    assert served.answers()
