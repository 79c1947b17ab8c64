"""Judge a response with `ReplyDecoder`, and the bytes of responses."""

import json
from collections.abc import Iterator, Sequence
from typing import Any

from opchat_proto import Broken, End, Event, Limits, Reason, ReplyDecoder
from tests.proto.cuts import byte_by_byte, every_cut, in_pieces


def plain(text: str) -> str:
    """A test id without backslashes: pytest doubles them if tests are collected twice, as under mutmut."""
    return ascii(text)[1:-1].replace("\\", "/")


Fields = Sequence[tuple[str | bytes, str | bytes]]

BOM = b"\xef\xbb\xbf"
STREAM: Fields = [("Content-Type", "text/event-stream;charset=UTF-8")]
KIB = 1024


def judge(
    pieces: list[bytes],
    status: int = 200,
    headers: Fields = STREAM,
    limits: Limits = Limits(),
    failure: Reason | None = None,
) -> list[Event]:
    """All events of a response with this body, complete or with a failure."""
    decoder = ReplyDecoder(limits)
    events = decoder.receive_head(status, headers)
    for piece in pieces:
        events += decoder.receive_data(piece)
    return events + (decoder.receive_eof() if failure is None else decoder.receive_failure("cut", failure))


def cuttings(body: bytes) -> Iterator[list[bytes]]:
    """Every cut in two. In long bodies, only cuts near the beginning, the middle and the end."""
    if len(body) <= 700:
        yield from every_cut(body)
        return
    yield [body]
    yield in_pieces(body, 4096)
    yield in_pieces(body, 64) if len(body) > 64 * KIB else byte_by_byte(body)
    for middle in (1, 2, 3, 4, 6, len(body) // 2, len(body) - 3, len(body) - 2, len(body) - 1):
        yield [body[:middle], body[middle:]]


def check(
    body: bytes,
    expected: list[Event],
    status: int = 200,
    headers: Fields = STREAM,
    limits: Limits = Limits(),
    failure: Reason | None = None,
) -> None:
    for pieces in cuttings(body):
        assert judge(pieces, status, headers, limits, failure) == expected


def line(text: str) -> bytes:
    return b"data: " + text.encode() + b"\n\n"


def event(value: object) -> bytes:
    return line(json.dumps(value))


def live(text: object, **more: object) -> bytes:
    return event({"type": "live", "data": text, **more})


def error(message: object) -> bytes:
    return event({"type": "error", "data": message})


def end_of(payload: str) -> bytes:
    return event({"type": "end", "data": payload})


HI = '{"success":true,"reply":"Hi"}'
END = end_of(HI)
ENDED = End("Hi", HI)

HI_PIECE = b'data: {"type":"live","data":"Hi"}\n\n'

CLOSED = "the answer ended without its end event"
HINT = "; a line that is not an event: "
CUT_PAGE = "cut; it began as a web page, not a chat answer: Down"


def nested(depth: int) -> str:
    return "[" * depth + "]" * depth


def remote(raw: str, detail: str) -> Event:
    return Broken(Reason.REMOTE, detail, raw=raw)


PAGE = b"<!DOCTYPE html>\n<html><head>\n<title>Caf\xc3\xa9 &amp; more</title></head>\n<body>Welcome</body></html>\n"


def page(detail: str, raw: bytes) -> Event:
    return Broken(Reason.MALFORMED, f"a web page, not a chat answer: {detail}", raw=raw.decode())


RICH = r'{"success":true,"reply":"\ud83d\ude8c é 🚌 \"","a":[-1.5e+10,0.25,1E5,true,false,null,{"":[]},-0]}'

STALE = '{"code":"rest_cookie_invalid_nonce","message":"Cookie check failed","data":{"status":403}}'

DATE = "Wed, 01 Jul 2026 12:00:00 GMT"


def too_large(limit: str, value: int, what: str) -> Event:
    return Broken(Reason.TOO_LARGE, f"more than {value} {what} (Limits.{limit})", limit=limit)


def call(machine: Any, name: str, arguments: Any) -> list[Event]:
    events: list[Event] = getattr(machine, name)(*arguments)
    return events
