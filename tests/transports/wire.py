"""The bytes of answers, and scripts of `FaultServer` that send them."""

import json
from typing import Any

from opchat_transports.testing import Expect, Script, Write, chunk, response

__all__ = [
    "LAST",
    "SESSION",
    "STREAM",
    "answer",
    "answers",
    "chunk",
    "end",
    "event",
    "live",
    "object_",
    "serves",
    "tells",
]


def answer(body: bytes, status: int = 200, **headers: str) -> bytes:
    """A response with a length."""
    fields = [(name.replace("_", "-"), value) for name, value in headers.items()]
    return response(body, status=status, headers=fields, framing="length", keep_alive=True)


def object_(status: int = 200, /, **payload: Any) -> bytes:
    """A response that is a JSON object."""
    return answer(json.dumps(payload).encode(), status, Content_Type="application/json")


SESSION = object_(success=True, sessionId="64f1c0ffee123", restNonce="0123456789")
STREAM = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
LAST = chunk(b"")


def event(**fields: Any) -> bytes:
    """One server-sent event in its own chunk."""
    return chunk(b"data: " + json.dumps(fields).encode() + b"\n\n")


def live(text: str) -> bytes:
    return event(type="live", data=text)


def end(reply: str, **more: Any) -> bytes:
    return event(type="end", data=json.dumps({"success": True, "reply": reply, **more}))


def answers(*pieces: bytes) -> Script:
    """Answer the submit with this."""
    return (Write(b"".join(pieces)),)


def serves(*pieces: bytes) -> Script:
    """Answer each question of a connection with these."""
    return answers(*pieces) + (Expect(), *answers(*pieces)) * 400


def tells(*texts: str) -> Script:
    """A stream of these pieces."""
    return answers(STREAM, *map(live, texts), end("".join(texts)), LAST)
