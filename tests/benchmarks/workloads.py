"""The workloads: the same events as a body and as HTTP, in reads of several sizes."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from tests.proto.cuts import in_pieces

READ = 64 * 1024

Pair: TypeAlias = tuple[str, str]
"""The expected events, the same for all candidates: ("content" or a subtype, text), then ("end", reply)."""

_WORDS = [
    "The",
    " station",
    " is",
    " straight",
    " ahead",
    ",",
    " \u00e0",
    " c\u00f4t\u00e9",
    ".\n",
    ' "so"',
    " we",
    " say",
]
_SUBTYPES = ("status", "thinking", "tool_call", "content")


@dataclass(frozen=True)
class Workload:
    """One stream, cut in one way."""

    name: str
    """Its name in the tables."""
    pieces: list[bytes]
    """The bytes of each read."""
    expected: list[Pair]
    """The expected events."""

    @property
    def events(self) -> int:
        return len(self.expected)


def as_pair(event: dict[str, Any]) -> Pair:
    """An event's JSON, from libraries that do not decode it themselves."""
    if event["type"] == "end":
        return "end", json.loads(event["data"])["reply"]
    return event.get("subtype") or "content", event["data"]


def encode(event: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(event, separators=(",", ":")).encode() + b"\n\n"


def short(count: int) -> list[dict[str, Any]]:
    """Pieces of text as a model writes them, with an accent now and then, and the end event."""
    texts = [_WORDS[index % len(_WORDS)] for index in range(count)]
    return [*({"type": "live", "data": text} for text in texts), end("".join(texts))]


def with_subtype(count: int) -> list[dict[str, Any]]:
    """Event objects as the plugin sends them with event logs on (WIRE 5.4)."""
    more = {"visibility": "visible", "metadata": {"count": 2}}
    events = [
        {"type": "live", "data": word, "timestamp": 1751412345.125 + index, "subtype": kind, **more}
        for index in range(count)
        for word, kind in [(_WORDS[index % len(_WORDS)], _SUBTYPES[index % len(_SUBTYPES)])]
    ]
    return [*events, end("Done")]


def end(reply: str) -> dict[str, Any]:
    usage = {"prompt_tokens": 21, "completion_tokens": 9, "total_tokens": 30, "price": None, "queries": 1}
    payload = {
        "success": True,
        "reply": reply,
        "images": None,
        "actions": [],
        "shortcuts": [],
        "blocks": [],
        "usage": usage,
    }
    return {"type": "end", "data": json.dumps({**payload, "responseId": "resp_abc", "new_token": "0b2576d756"})}


def one_to_seven(data: bytes) -> Iterator[bytes]:
    start = 0
    while start < len(data):
        size = start * 31 % 7 + 1
        yield data[start : start + size]
        start += size


def bodies(count: int) -> list[Workload]:
    """The body of an answer, without HTTP."""
    workloads = []
    for name, events in (("short", short(count)), ("with subtype", with_subtype(count))):
        expected = [as_pair(event) for event in events]
        lines = [encode(event) for event in events]
        workloads += [
            Workload(f"{name}, 64-KiB reads", in_pieces(b"".join(lines), READ), expected),
            Workload(f"{name}, one event per read", lines, expected),
        ]
    few = short(count // 10)
    tiny = list(one_to_seven(b"".join(map(encode, few))))
    return [*workloads, Workload("short, 1 to 7 bytes", tiny, [as_pair(event) for event in few])]


HEAD = (
    b"HTTP/1.1 200 OK\r\nServer: nginx\r\nDate: Wed, 02 Jul 2025 10:00:00 GMT\r\nTransfer-Encoding: chunked\r\n"
    b"Content-Type: text/event-stream; charset=utf-8\r\nConnection: close\r\nCache-Control: no-cache\r\n\r\n"
)


def chunks(events: Sequence[dict[str, Any]]) -> list[bytes]:
    """A response, one event in each chunk: its head, each chunk, and the last one."""
    lines = [encode(event) for event in events]
    return [HEAD, *(b"%x\r\n%b\r\n" % (len(line), line) for line in lines), b"0\r\n\r\n"]


def responses(count: int) -> list[Workload]:
    """A whole response, as read from a socket."""
    events = short(count)
    expected = [as_pair(event) for event in events]
    pieces = chunks(events)
    return [
        Workload("wire, 64-KiB reads", in_pieces(b"".join(pieces), READ), expected),
        Workload("wire, one chunk per read", pieces, expected),
    ]
