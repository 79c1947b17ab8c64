"""Judge an answer in a file as if it came over a connection, with the offset of each event."""

import re
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, field
from functools import partial
from typing import final

from opchat_proto import Awaiting, Broken, Client, End, Event, Headers, Limits, Live, Reason, ReplyDecoder, Request

from ._undone_framing import UndoneBody

__all__ = ["Answer", "LineCounter", "judge"]

_LINE = re.compile(rb"[^\r\n]*[\r\n]|[^\r\n]+")
_LINE_END = re.compile(rb"\r\n|\r|\n")
_SHOWN = 200


@final
@dataclass(slots=True)
class Answer:
    """One response, or one body, in the bytes of a connection."""

    start: int
    """The offset of its first byte."""
    status: int | None = None
    """None without HTTP, or without a complete head."""
    events: list[tuple[Event, int]] = field(default_factory=list)
    """Each with the offset just after the byte that completed it."""
    end: int = 0
    """The offset just after its last byte."""
    is_complete: bool = False
    """Whether HTTP ended it there, rather than the end of the bytes."""
    fault: tuple[int, str] | None = None
    """The faulty line of a broken answer: its number in the bytes, from 1, and its text, shortened."""


@final
class _Machine:
    """HTTP, if there is any, and `ReplyDecoder`. To its `Client` it is a flow without events until HTTP ends."""

    session = None
    is_ready = True
    submit_started = False

    def __init__(self, body: UndoneBody | None, *, http: bool) -> None:
        self.limits = Limits()
        self.awaiting: Awaiting | None = Awaiting.FIRST_EVENT
        self.status: int | None = None
        self.is_over = False  # the terminal event was returned
        self.is_complete = False
        self.is_lost = False  # HTTP cannot be followed any further
        self.body = b""  # the part of it in the last input
        self._events: list[Event] = []
        self._decoder = ReplyDecoder(self.limits)
        self._client: Client | None = None
        if body is not None:
            self.status = body.status
            self._decoder.receive_head(body.status, body.headers)
        elif http:
            self._client = Client(self)
            self._client.step_done()  # pretend that it connected
            self._client.step_done()  # and that the request was sent
        else:
            self._decoder.receive_head(200, ())

    def feed(self, data: bytes) -> list[Event]:
        """Take bytes, and return their events."""
        self.body = b""
        if self._client is None:
            self.receive_data(data)
        else:
            self._client.receive_data(data)
        return self._take()

    def finish(self, failure: str, reason: Reason) -> list[Event]:
        """The bytes have ended with this failure; "" if the server closed the connection."""
        if failure:
            self.receive_failure(failure, reason)
        elif self._client is None:
            self.receive_eof()
        else:
            self._client.receive_eof()
        return self._take()

    def _take(self) -> list[Event]:
        events, self._events = self._events, []
        return events

    # ---------------------------------------------------------------- for `Client`

    def next_request(self) -> Request:
        return Request("POST", "http://host/", (("Host", "host"), ("Content-Length", "0")))

    def receive_head(self, status: int, headers: Headers) -> list[Event]:
        self.status = status
        return self._note(self._decoder.receive_head(status, headers))

    def receive_data(self, data: bytes) -> list[Event]:
        self.body += data
        return self._note(self._decoder.receive_data(data))

    def receive_eof(self) -> list[Event]:
        self.is_complete = True
        self._note(self._decoder.receive_eof())
        return self.close()

    def receive_failure(self, detail: str, reason: Reason = Reason.LOST, *, limit: str | None = None) -> list[Event]:
        self.is_lost = True
        self._note(self._decoder.receive_failure(detail, reason, limit=limit))
        return self.close()

    def close(self) -> list[Event]:
        self.awaiting = None
        return [End(None)]  # only a signal to the client

    def _note(self, events: list[Event]) -> list[Event]:
        self._events += events
        self.is_over = self.is_over or any(not isinstance(event, Live) for event in events)
        return []


def judge(
    data: bytes,
    start: int = 0,
    end: int | None = None,
    *,
    lines: "LineCounter",
    body: UndoneBody | None = None,
    http: bool = True,
    failure: str = "",
    reason: Reason = Reason.LOST,
) -> Answer:
    """Judge the answer between these offsets, by default up to the end.

    `failure` says how the bytes ended; "" means that the server closed. With `body`, or
    with `http` False, there is no HTTP to parse. `lines` numbers the lines of `data`,
    across all its answers.

    A live event completes at a line end, so offsets are checked after each line.
    Anything else that ends an answer happens once, and is located byte by byte.
    """
    answer = Answer(start)
    machine = _Machine(body, http=http)
    http = http and body is None
    first, last = start, len(data) if end is None else end
    if body is not None:
        first, last = body.start, body.end
    position = first
    seen = _Lines()
    for match in _LINE.finditer(data, first, last):
        begin, position = match.span()
        was_over = machine.is_over
        events = machine.feed(match[0])
        if not was_over:
            seen.add(machine.body, begin)
        probe = partial(_first, partial(_Machine, body, http=http), data, first, begin, position)
        for event in events:
            at = position if isinstance(event, Live) else probe(lambda machine: machine.is_over)
            answer.events.append((event, at))
        if machine.is_complete:
            position = probe(lambda machine: machine.is_complete)
            break
        if machine.is_lost or (machine.is_over and not http):
            position = last  # nothing follows the end
            break
    is_complete, is_lost = machine.is_complete or body is not None, machine.is_lost
    if not machine.is_over:
        answer.events += [(event, position) for event in machine.finish(failure, reason)]
    answer.status, answer.is_complete, answer.end = machine.status, is_complete, position
    if answer.events and isinstance(broken := answer.events[-1][0], Broken):
        line = _to_blame(broken, answer, seen, in_http=is_lost)
        if line is None:
            line = answer.events[-1][1]
            while line > start and data[line - 1] in b"\r\n":  # to the end of the last non-blank line
                line -= 1
        answer.fault = lines.line_at(line, start)
    return answer


def _to_blame(broken: Broken, answer: Answer, lines: "_Lines", *, in_http: bool) -> int | None:
    """The offset of the line that broke the answer; None means the last line before the fault."""
    if broken.reason is Reason.REFUSED:
        return answer.start  # the status line
    if in_http:
        return None
    return lines.first if broken.raw.startswith("<") else lines.last


@final
class _Lines:
    """The offsets of the non-blank lines of a body, between its chunks."""

    def __init__(self) -> None:
        self.first: int | None = None
        self.last: int | None = None
        self._inside = False

    def add(self, body: bytes, at: int) -> None:
        """Add a piece of the body that began at this offset. Only its end may be a line end."""
        if not body:
            return
        if not self._inside and body.strip(b"\r\n"):
            self.last = at
            self.first = at if self.first is None else self.first
        self._inside = not body.endswith((b"\r", b"\n"))


def _first(
    make: Callable[[], _Machine], data: bytes, start: int, begin: int, high: int, holds: Callable[[_Machine], bool]
) -> int:
    """Find by bisection the first offset above `begin` at which the condition holds; it holds at `high`."""
    machine = make()
    machine.feed(data[start:begin])
    low = begin + 1
    while low < high:
        middle = (low + high) // 2
        probe = deepcopy(machine)
        probe.feed(data[begin:middle])
        if holds(probe):
            high = middle
        else:
            low = middle + 1
    return high


@final
class LineCounter:
    """Numbers the lines of bytes with many answers, in one pass."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._counted = 0  # lines are counted up to this offset
        self._number = 1  # the number of the line there

    def line_at(self, offset: int, start: int) -> tuple[int, str]:
        """The line that contains this offset or ends there: its number, from 1, and its text, shortened.

        It does not begin before `start`, which must not decrease between calls.
        """
        data = self._data
        begin = max(data.rfind(b"\n", start, offset), data.rfind(b"\r", start, offset), start - 1) + 1
        self._number += sum(1 for _ in _LINE_END.finditer(data, self._counted, begin))
        self._counted = begin
        after = _LINE_END.search(data, begin, begin + 4 * _SHOWN)
        line = data[begin : after.start() if after else begin + 4 * _SHOWN]
        return self._number, line.decode("utf-8", "replace")[:_SHOWN]
