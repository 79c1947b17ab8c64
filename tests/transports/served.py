"""The application that real servers run in tests, and those servers as processes."""

import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import anyio

from opchat_proto import End, Event, Live, Submit
from opchat_transports.asgi import application

from .peer import free_port

ROOT = Path(__file__).resolve().parents[2]
SECRET = b"a secret that all processes share"
STARTS_WITHIN = 60.0  # seconds
LEFT = "OPCHAT_TEST_LEFT"
"""The application adds a line to this file when a bot is closed early."""

SERVERS = {
    # The application runs in one or two processes behind one address.
    "uvicorn": "uvicorn {app} --host 127.0.0.1 --port {port} --log-level warning --workers 2 --http h11",
    "uvicorn-httptools": "uvicorn {app} --host 127.0.0.1 --port {port} --log-level warning --http httptools",
    "hypercorn-asyncio": "hypercorn {app} --bind 127.0.0.1:{port} --worker-class asyncio --log-level warning",
    "hypercorn-trio": "hypercorn {app} --bind 127.0.0.1:{port} --worker-class trio --log-level warning",
    "granian": "granian {app} --interface asgi --host 127.0.0.1 --port {port} --workers 2 --no-ws --log-level warning",
}


async def bot(submit: Submit) -> AsyncIterator[str | Event]:
    """Do what the question says."""
    what, _, rest = submit.new_message.partition(" ")
    match what:
        case "echo":
            for character in rest:
                yield character
        case "count":
            for number in range(int(rest)):
                yield f"{number} "
        case "end":
            yield Live("Thinking...", "thinking")
            yield "a"
            yield End("A", '{"responseId":"r"}')
        case "fail":
            yield "a"
            raise LookupError("the password is 1234")
        case "think" | "flood":
            piece = "x" * 65536
            try:
                yield "thinking"
                while what == "flood":
                    yield piece
                await anyio.sleep_forever()
            finally:
                with open(os.environ[LEFT], "a") as file:  # noqa: ASYNC230  # a line; and nothing can be awaited in a cancelled bot
                    file.write(f"{rest}\n")
        case "slow":
            await anyio.sleep(1)  # this bot's purpose: it thinks for longer than a server may stay silent
            yield "at last"


def thread(submit: Submit) -> Iterator[str]:
    """Yield the name of its thread, twice."""
    for _ in range(2):
        yield f"{threading.get_ident()} "


plain = application(bot, secret=SECRET)
app = application(
    bots={"default": bot, "thread": thread},
    secret=SECRET,
    origins=["https://shop.example"],
    allowed_hosts=["a", "site.example", "127.0.0.1", "localhost"],
    keep_alive=0.2,
    request_timeout=1,
)


async def strict(scope: Any, receive: Any, send: Any) -> None:
    """The same page under the strictest policy that allows its own script."""

    async def and_policy(message: Any) -> None:
        if message["type"] == "http.response.start":
            policy = (b"content-security-policy", b"default-src 'self'; base-uri 'none'; form-action 'self'")
            message["headers"].append(policy)
        await send(message)

    await app(scope, receive, and_policy)


@contextmanager
def running(name: str, left: Path, where: str = "tests.transports.served:app") -> Iterator[int]:
    """Start one of the servers, and yield its port once it answers."""
    port = free_port()
    module, *arguments = SERVERS[name].format(app=where, port=port).split()
    with started(port, "-m", module, *arguments, left=left):
        yield port


@contextmanager
def started(port: int, *arguments: str, left: Path | None = None) -> Iterator[subprocess.Popen[bytes]]:
    """Run Python with these arguments, which start a server, and wait until it answers."""
    environment = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    process = subprocess.Popen([sys.executable, *arguments], cwd=ROOT, env={**environment, LEFT: str(left)})
    try:
        end = time.monotonic() + STARTS_WITHIN
        while not _answers(port):
            assert time.monotonic() < end, f"{arguments} does not answer"
            with suppress(subprocess.TimeoutExpired):
                raise AssertionError(f"{arguments} has ended: {process.wait(0.05)}")
        yield process
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _answers(port: int) -> bool:
    with suppress(OSError), closing(socket.create_connection(("127.0.0.1", port), 5)) as connection:
        connection.sendall(b"HEAD / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        return connection.recv(12) == b"HTTP/1.1 200"
    return False
