"""Answers with their original head but decoded framing or coding, as `curl -i` writes them."""

import re
from dataclasses import dataclass
from typing import final

__all__ = ["UndoneBody", "undone_body"]

_HEAD = re.compile(rb"HTTP/([0-9])(?:\.[0-9])? ([0-9]{3})(?:[ \t][^\r\n]*)?\r?\n((?:[^\r\n]+\r?\n)*)\r?\n")
# A line of an event stream, an object, a page or a PHP notice, after the bytes that `ReplyDecoder` ignores.
_LIKE_AN_ANSWER = re.compile(rb"(?:\xef\xbb\xbf|[ \t\r\n])*(?:[{<:]|(?:data|event|id|retry):)")
_NEXT_HEAD = re.compile(rb"(?<=[\n}>])HTTP/[0-9](?:\.[0-9])? [0-9]{3}[^\r\n]*\r?\n[!-9;-~]+:")
_LONGEST_HEAD = 64 * 1024


@final
@dataclass(frozen=True, slots=True)
class UndoneBody:
    """The body of an answer, with its framing or coding already decoded."""

    start: int
    end: int
    status: int
    headers: tuple[tuple[bytes, bytes], ...]
    """The header fields without those that no longer apply."""
    why: str
    """The framing or coding in the head that no longer applies."""


def undone_body(data: bytes, start: int) -> UndoneBody | None:
    """Return the body of the response at `start` if its head does not describe it, else None.

    That is so for HTTP/2 and HTTP/3, and if the head announces chunks or a coding but the
    body begins like an answer.
    """
    while True:
        head = _HEAD.match(data, start, start + _LONGEST_HEAD)
        if head is None:
            return None
        is_followed = data.startswith(b"HTTP/", head.end())
        if not (is_followed and (head[2].startswith(b"1") or head[2] == b"200")):
            break
        start = head.end()  # an interim answer, or a proxy's answer to CONNECT
    fields = [_field(line) for line in head[3].splitlines()]
    chunked = [field for field in fields if field[0].lower() == b"transfer-encoding"]
    coded = [f for f in fields if f[0].lower() == b"content-encoding" and f[1].lower() not in (b"", b"identity")]
    is_newer = head[1] not in (b"0", b"1")
    undone = chunked + coded if _LIKE_AN_ANSWER.match(data, head.end()) else []
    if not undone and not is_newer:
        return None
    why = [f"{name.decode('latin-1')}: {value.decode('latin-1')}" for name, value in undone]
    following = _NEXT_HEAD.search(data, head.end())
    end = following.start() if following else len(data)
    lengths = [
        value for name, value in fields if name.lower() == b"content-length" and re.fullmatch(rb"[0-9]{1,18}", value)
    ]
    if lengths and not undone:
        end = min(head.end() + int(lengths[0]), len(data))
    kept = tuple(field for field in fields if field not in undone and field[0].lower() != b"content-length")
    return UndoneBody(head.end(), end, int(head[2]), kept, ", ".join(why) or f"HTTP/{head[1].decode()}")


def _field(line: bytes) -> tuple[bytes, bytes]:
    name, _, value = line.partition(b":")
    return name.strip(), value.strip()
