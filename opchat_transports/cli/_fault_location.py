"""An answer from a file, judged as it would have been on a connection, with the place of each event."""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import final

from opchat_proto import Awaiting, Broken, Client, End, Event, Headers, Limits, Live, Reason, ReplyDecoder, Request

__all__ = ["Answer", "judge"]

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

    def __init__(self, *, http: bool) -> None:
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
        if http:
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


def judge(data: bytes, start: int = 0, *, http: bool = True, failure: str = "", reason: Reason = Reason.LOST) -> Answer:
    """The answer that begins at this offset. `failure` says how the bytes ended, "" where the server closed.

    A live event is complete with a line end, so it is enough to look after each.
    Whatever else ends an answer happens once, and is then looked for byte by byte.
    """
    answer = Answer(start)
    machine = _Machine(http=http)
    position = start
    lines = _Lines()
    for match in _LINE.finditer(data, start):
        begin, position = match.span()
        was_over = machine.is_over
        events = machine.feed(match[0])
        if not was_over:
            lines.add(machine.body, begin)
        for event in events:
            at = position
            if not isinstance(event, Live):
                at = _first(data, start, begin, position, lambda probe: probe.is_over, http=http)
            answer.events.append((event, at))
        if machine.is_complete:
            position = _first(data, start, begin, position, lambda probe: probe.is_complete, http=http)
            break
        if machine.is_lost or (machine.is_over and not http):
            position = len(data)  # nothing can follow
            break
    is_complete, is_lost = machine.is_complete, machine.is_lost
    if not machine.is_over:
        answer.events += [(event, position) for event in machine.finish(failure, reason)]
    answer.status, answer.is_complete, answer.end = machine.status, is_complete, position
    if answer.events and isinstance(broken := answer.events[-1][0], Broken):
        line = _to_blame(broken, answer, lines, in_http=is_lost)
        last = len(data[: answer.events[-1][1]].rstrip(b"\r\n"))  # the end of the last line that is not blank
        answer.fault = _line_at(data, last if line is None else line)
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


def _first(data: bytes, start: int, low: int, high: int, holds: Callable[[_Machine], bool], *, http: bool) -> int:
    """The first offset above `low` at which that is so: it is at `high`, and the cuts do not matter."""
    low += 1
    while low < high:
        middle = (low + high) // 2
        probe = _Machine(http=http)
        probe.feed(data[start:middle])
        if holds(probe):
            high = middle
        else:
            low = middle + 1
    return high


def _line_at(data: bytes, offset: int) -> tuple[int, str]:
    """The line that this offset is in, or at the end of: its number, from 1, and its text, cut."""
    begin = max(data.rfind(b"\n", 0, offset), data.rfind(b"\r", 0, offset)) + 1
    after = _LINE_END.search(data, begin)
    line = data[begin : after.start() if after else len(data)]
    return len(_LINE_END.findall(data, 0, begin)) + 1, line[: 4 * _SHOWN].decode("utf-8", "replace")[:_SHOWN]
