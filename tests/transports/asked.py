"""Ask a `BlockingServer`, or send it hand-written requests."""

import json
import re
import socket
import time
from collections.abc import Iterator
from typing import Any

from opchat_proto import Site, Submit
from opchat_transports.blocking_server import BlockingServer
from opchat_transports.blocking_sockets import BlockingTransport

from .peer import PATIENCE

SECRET = b"a secret of this site"


def ask(server: BlockingServer, question: Any = "Hi", **options: Any) -> list[Any]:
    with BlockingTransport(server.url, **options) as transport, transport.ask(question) as reply:
        return list(reply)


def echo(submit: Submit) -> Iterator[str]:
    yield from submit.new_message


def received(connection: socket.socket) -> bytes:
    try:
        return connection.recv(65536)
    except ConnectionResetError:
        return b""


def asking(text: str, *headers: str) -> bytes:
    """The bytes of a submit with a valid nonce."""
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
    """All bytes that the server sends before it closes."""
    with socket.create_connection(("127.0.0.1", server.port), PATIENCE) as connection:
        for piece in pieces:
            connection.sendall(piece)
        return b"".join(iter(lambda: connection.recv(65536), b""))


def replies(answer: bytes) -> list[str]:
    return [found.decode() for found in re.findall(rb'"reply":"([^"]*)"', answer)]
