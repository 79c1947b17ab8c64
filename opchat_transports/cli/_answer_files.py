"""The input of `decode` and `replay`: a recording, a raw response or a bare body, recognised by its bytes."""

import codecs
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import final

import click

from opchat_proto import Reason

from ._fault_location import Answer, LineCounter, judge
from ._recording_format import Exchange, is_recording, read_recording
from ._stdin import read_input
from ._terminal import say
from ._text import NotTextError, decode_text
from ._undone_framing import UndoneBody, undone_body

__all__ = ["Part", "parts", "read"]


@final
@dataclass(frozen=True, slots=True)
class Part:
    """One answer in a file."""

    data: bytes
    """The bytes of its connection, or the whole file: offsets count in these."""
    answer: Answer
    connection: int | None = None
    """The number of its connection in a recording."""
    exchange: Exchange | None = None
    is_http: bool = True
    body: UndoneBody | None = None
    """The body, if the head does not describe it (a tool has undone its framing)."""


def read(name: str) -> bytes:
    """Read a file or standard input. Raises `UsageError`.

    UTF-16 with a byte order mark, as Windows shells write it, is converted to UTF-8.
    """
    try:
        data = read_input() if name == "-" else Path(name).read_bytes()
    except OSError as error:
        raise click.UsageError(f"{name} cannot be read: {error.strerror or error}") from None
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        with suppress(NotTextError):
            data = decode_text(data).encode()
            say(f"{name}: this is UTF-16; offsets count its bytes as UTF-8")
    return data


def parts(name: str, data: bytes) -> Iterator[Part]:
    """Yield the answers in it, in order: at least one. Raises `UsageError` for a damaged recording."""
    if is_recording(data):
        yield from _recorded(name, data)
        return
    lines = LineCounter(data)
    position = len(codecs.BOM_UTF8) if data.startswith(codecs.BOM_UTF8 + b"HTTP/") else 0
    if not data.startswith(b"HTTP/", position):
        yield Part(data, judge(data, lines=lines, http=False), is_http=False)
        return
    is_complete = True
    while is_complete and (data.startswith(b"HTTP/", position)):
        body = undone_body(data, position)
        answer = judge(data, position, lines=lines, body=body)
        yield Part(data, answer, body=body)
        position, is_complete = answer.end, answer.is_complete


def _recorded(name: str, data: bytes) -> Iterator[Part]:
    try:
        connections = read_recording(data)
    except ValueError as error:
        raise click.UsageError(f"{name}: {error}") from None
    for connection in connections:
        received, position = b"".join(exchange.answer for exchange in connection.exchanges), 0
        lines = LineCounter(received)
        for exchange in connection.exchanges:
            end = position + len(exchange.answer)
            failure = "the recording ends here"
            if exchange.end is not None:
                failure = "" if exchange.end.event == "closed" else str(exchange.end.more.get("detail") or "it failed")
            is_timeout = exchange.end is not None and exchange.end.more.get("reason") == Reason.TIMEOUT.value
            reason = Reason.TIMEOUT if is_timeout else Reason.LOST
            answer = judge(received, position, end, lines=lines, failure=failure, reason=reason)
            yield Part(received, answer, connection.number, exchange)
            position = end
