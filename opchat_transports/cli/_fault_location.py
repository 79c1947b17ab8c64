"""An answer from a file, judged as it would have been on a connection, with the place of each event."""

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
    """One response, or one body, in the bytes that came over a connection."""

    start: int
    """The offset of its first byte."""
    status: int | None = None
    """None without HTTP, or without a whole head."""
    events: list[tuple[Event, int]] = field(default_factory=list)
    """Each with the offset behind the byte that completed it."""
    end: int = 0
    """The offset behind its last byte."""
    is_complete: bool = False
    """Whether HTTP says that it ended there, and not only the bytes."""
    fault: tuple[int, str] | None = None
    """The line that is to blame, if the answer is broken: its number in the bytes, from 1, and its text, cut."""


@final
class _Machine:
    """HTTP, if there is any, and the rules of judgement. For `Client` it is a flow without events until HTTP ends."""

    session = None
    is_ready = True
    submit_started = False

    def __init__(self, body: UndoneBody | None, *, http: bool) -> None:
        self.limits = Limits()
        self.awaiting: Awaiting | None = Awaiting.FIRST_EVENT
        self.status: int | None = None
        self.is_over = False  # the terminal event was given
        self.is_complete = False
        self.is_lost = False  # HTTP cannot be followed any further
        self.body = b""  # what the last input has brought of it
        self._events: list[Event] = []
        self._decoder = ReplyDecoder(self.limits)
        self._client: Client | None = None
        if body is not None:
            self.status = body.status
            self._decoder.receive_head(body.status, body.headers)
        elif http:
            self._client = Client(self)
            self._client.step_done()  # as if it had connected
            self._client.step_done()  # and sent its request
        else:
            self._decoder.receive_head(200, ())

    def feed(self, data: bytes) -> list[Event]:
        """Bytes came."""
        self.body = b""
        if self._client is None:
            self.receive_data(data)
        else:
            self._client.receive_data(data)
        return self._take()

    def finish(self, failure: str, reason: Reason) -> list[Event]:
        """The bytes are over, in that way; "" if the server has closed."""
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
        return [End(None)]  # no more than a sign for the client

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
    """The answer between these offsets, by default up to the end.

    `failure` says how the bytes ended, "" where the server closed.

    With `body`, or with `http` False, there is no HTTP that can be followed. `lines`
    counts the lines of `data`, of all its answers.

    A live event is complete with a line end, so it is enough to look after each.
    Whatever else ends an answer happens once, and is then looked for byte by byte.
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
            position = last  # nothing can follow
            break
    is_complete, is_lost = machine.is_complete or body is not None, machine.is_lost
    if not machine.is_over:
        answer.events += [(event, position) for event in machine.finish(failure, reason)]
    answer.status, answer.is_complete, answer.end = machine.status, is_complete, position
    if answer.events and isinstance(broken := answer.events[-1][0], Broken):
        line = _to_blame(broken, answer, seen, in_http=is_lost)
        if line is None:
            line = answer.events[-1][1]
            while line > start and data[line - 1] in b"\r\n":  # to the end of the last line that is not blank
                line -= 1
        answer.fault = lines.line_at(line, start)
    return answer


def _to_blame(broken: Broken, answer: Answer, lines: "_Lines", *, in_http: bool) -> int | None:
    """Where the line begins that made an answer broken; None: it is the last before the fault, whatever it is."""
    if broken.reason is Reason.REFUSED:
        return answer.start  # its status
    if in_http:
        return None
    return lines.first if broken.raw.startswith("<") else lines.last


@final
class _Lines:
    """Where the lines of a body that are not blank begin, among the chunks."""

    def __init__(self) -> None:
        self.first: int | None = None
        self.last: int | None = None
        self._inside = False

    def add(self, body: bytes, at: int) -> None:
        """A piece of the body, which has no line end but at its end, began there."""
        if not body:
            return
        if not self._inside and body.strip(b"\r\n"):
            self.last = at
            self.first = at if self.first is None else self.first
        self._inside = not body.endswith((b"\r", b"\n"))


def _first(
    make: Callable[[], _Machine], data: bytes, start: int, begin: int, high: int, holds: Callable[[_Machine], bool]
) -> int:
    """The first offset above `begin` at which that is so: it is at `high`, and the cuts do not matter."""
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
    """Numbers the lines of bytes that hold many answers, each line once."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._counted = 0  # up to this offset
        self._number = 1  # of the line that begins there

    def line_at(self, offset: int, start: int) -> tuple[int, str]:
        """The line that this offset is in, or at the end of: its number, from 1, and its text, cut.

        It does not begin before `start`, which must not be less than the time before.
        """
        data = self._data
        begin = max(data.rfind(b"\n", start, offset), data.rfind(b"\r", start, offset), start - 1) + 1
        self._number += sum(1 for _ in _LINE_END.finditer(data, self._counted, begin))
        self._counted = begin
        after = _LINE_END.search(data, begin, begin + 4 * _SHOWN)
        line = data[begin : after.start() if after else begin + 4 * _SHOWN]
        return self._number, line.decode("utf-8", "replace")[:_SHOWN]
