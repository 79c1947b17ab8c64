"""Recordings: the bytes of an exchange with timestamps, in a file that any language can read.

A text file in UTF-8, one JSON object a line (NDJSON). The first is the header:

    {"format": "opchat recording", "version": 1, "url": "https://site.example", "secrets": false}

`secrets` says whether nonces, session ids, cookies and credentials were kept. If
not, each is replaced by as many letters x (or digits 1), so all lengths are
original. `"rebuilt": true` means that an HTTP library did not show the bytes: they
are made from its values, and an answer has no length but ends with its connection.
Each further line is something that happened, in order:

    {"time": 0.104, "connection": 1, "event": "sent", "data": "UE9TVCAvd3AtanNvbi8..."}

    time        seconds since the recording began
    connection  the number of the connection, from 1; it begins with "connected", a rebuilt one with "sent"
    event       connected   host, port
                tls         server_name: TLS has begun; the recorded bytes are inside it
                sent        data, in base64: one whole HTTP request, when its sending began
                received    data, in base64: the bytes of one read
                closed      the server has closed the connection
                failed      detail, reason: the connection failed ("lost"), or a clock ran out ("timeout")

The exchange with a proxy before the site is reached is not recorded. Readers ignore
unknown keys and events, and refuse other versions.
"""

import base64
import codecs
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, final

__all__ = ["FORMAT", "Connection", "Exchange", "Happening", "is_recording", "read_recording", "write_recording"]

FORMAT = "opchat recording"
_VERSION = 1
_LATEST = 1e9  # seconds: thirty years


@final
@dataclass(slots=True)
class Happening:
    """One line of a recording after its header."""

    time: float
    connection: int
    event: str
    data: bytes = b""
    more: Mapping[str, Any] = field(default_factory=dict)
    """The fields that only this event has."""


@final
@dataclass(slots=True)
class Exchange:
    """A request and the events after it on its connection."""

    sent: Happening
    received: list[Happening] = field(default_factory=list)
    end: Happening | None = None
    """"closed" or "failed"."""

    @property
    def route(self) -> str:
        """The last segment of the request's route: "start_session" or "submit"."""
        target = self.sent.data.split(b"\r\n", 1)[0].split(b" ")[1:2]
        return target[0].rsplit(b"/", 1)[-1].decode("ascii", "replace") if target else ""

    @property
    def answer(self) -> bytes:
        """All received bytes."""
        return b"".join(happening.data for happening in self.received)


@final
@dataclass(slots=True)
class Connection:
    """The exchanges of one connection."""

    number: int
    exchanges: list[Exchange] = field(default_factory=list)


def write_recording(url: str, happenings: Iterable[Happening], *, secrets: bool, rebuilt: bool = False) -> str:
    """The text of a recording."""
    header = {"format": FORMAT, "version": _VERSION, "url": url, "secrets": secrets}
    header |= {"rebuilt": True} if rebuilt else {}
    return "".join(json.dumps(line) + "\n" for line in (header, *map(_line, happenings)))


def _line(happening: Happening) -> dict[str, Any]:
    line = {"time": round(happening.time, 6), "connection": happening.connection, "event": happening.event}
    if happening.event in ("sent", "received"):
        line["data"] = base64.b64encode(happening.data).decode("ascii")
    return line | dict(happening.more)


def is_recording(data: bytes) -> bool:
    """Whether a file that begins like this is a recording: no server's answer begins with such an object."""
    try:
        header = json.loads(data.split(b"\n", 1)[0].removeprefix(codecs.BOM_UTF8))
    except (ValueError, RecursionError):
        return False
    return isinstance(header, dict) and header.get("format") == FORMAT


def read_recording(data: bytes) -> list[Connection]:
    """Return the connections of a recording. Raises `ValueError`, which names the line, for anything else."""
    header, *lines = data.removeprefix(codecs.BOM_UTF8).split(b"\n")
    if json.loads(header).get("version") != _VERSION:
        raise ValueError(f"line 1: expected version {_VERSION}")
    connections: dict[int, Connection] = {}
    for happening in _happenings(lines):
        connection = connections.setdefault(happening.connection, Connection(happening.connection))
        if happening.event == "sent":
            connection.exchanges.append(Exchange(happening))
        elif connection.exchanges and happening.event == "received":
            connection.exchanges[-1].received.append(happening)
        elif connection.exchanges and happening.event in ("closed", "failed"):
            connection.exchanges[-1].end = happening
    return list(connections.values())


def _happenings(lines: list[bytes]) -> Iterator[Happening]:
    for number, line in enumerate(lines, 2):
        if not line.strip():
            continue
        try:
            values = json.loads(line)
            data = base64.b64decode(values.pop("data", ""), validate=True)
            time, connection, event = values.pop("time"), values.pop("connection"), values.pop("event")
            if not isinstance(time, int | float) or not isinstance(connection, int) or not isinstance(event, str):
                raise TypeError
            if isinstance(time, bool) or not 0 <= time <= _LATEST:
                raise TypeError
        except (ValueError, TypeError, AttributeError, KeyError, RecursionError):
            if line is lines[-1]:
                return  # without a line end: the file was cut there
            raise ValueError(
                f'line {number}: expected an object with "time" in seconds, "connection" and "event"'
            ) from None
        yield Happening(float(time), connection, event, data, values)
