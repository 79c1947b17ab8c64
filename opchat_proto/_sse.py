"""Server-sent events: bytes -> events, by the WHATWG rules ("9.2.6 Interpreting an event stream"), and back."""

from dataclasses import dataclass
from itertools import starmap
from typing import TypeAlias, final

from ._limits import Limits

__all__ = ["SSEDecoder", "ServerSentEvent"]

_BOM = b"\xef\xbb\xbf"
_LF, _CR = b"\n\r"  # as numbers they are found several times as fast
_BLOCK = 64 * 1024  # bytes looked at in one go, so that a huge read is never copied whole
_MOST_RETRY_DIGITS = 18
_SHOWN = 200  # of a line that is remembered for an error message


_Fields: TypeAlias = tuple[str, str, str, int | None]  # of a `ServerSentEvent`


@final
@dataclass(frozen=True, slots=True)
class ServerSentEvent:
    """One event of a text/event-stream."""

    event: str = "message"
    data: str = ""
    id: str = ""
    """The last event id of the stream, as it stood at this event."""
    retry: int | None = None
    """Milliseconds, if this event set the reconnection time."""


@final
class SSEDecoder:
    """A text/event-stream as a machine: bytes go in, the events that they complete come out.

    It follows the standard to the letter and serves any stream: LF, CR and CRLF
    end lines wherever the bytes are cut (a CR does so at once), one byte order
    mark is dropped, bytes are UTF-8 decoded with replacement, an event without a
    closing blank line is dropped at the end.

    The one addition is `limits.event_bytes`: an unfinished line together with
    the data lines of its unfinished event may be as long as that. One byte more
    sets `overflowed`; the events before are given, and nothing after them.
    """

    def __init__(self, limits: Limits = Limits()) -> None:
        if not isinstance(limits, Limits):
            raise TypeError(f"limits: expected Limits, got {type(limits).__name__}")
        self._limit = limits.event_bytes
        self._start: bytes | None = b""  # what may become a byte order mark; None once that is settled
        self._after_cr = False  # a LF now belongs to the CR before it
        self._line = bytearray()  # the unfinished line
        self._data = bytearray()  # of the unfinished event, as are the next four; a LF after each line
        self._size = 0  # its data lines in bytes, each with its line end
        self._event = ""
        self._id = ""
        self._event_retry: int | None = None
        self._is_plain = False  # nothing is held but an unfinished line: the fast path may go on from here
        self._plain_limit = min(limits.event_bytes, 2 * _BLOCK)
        self._ended = False
        self._data_seen = False
        self._given = 0  # events so far
        self.retry: int | None = None
        """The reconnection time in milliseconds, if the stream set one."""
        self.last_event_id: str = ""
        """The id to reconnect with: that of the last event that was closed."""
        self.overflowed: bool = False
        """Whether an event was larger than the limit."""
        self.first_ignored_line: str | None = None
        """The beginning of the first line that is no field of an event stream, which hints at what went wrong."""
        self.events_before_ignored_line: int = 0
        """How many events came before that line: one read can bring events and what follows them."""

    def __repr__(self) -> str:
        """How much is waiting."""
        return f"<SSEDecoder holding {self.held} bytes>"

    @property
    def held(self) -> int:
        """Bytes of the unfinished line and of the data lines of the unfinished event, which `event_bytes` bounds."""
        return self._size + len(self._line)

    @property
    def data_seen(self) -> bool:
        """Whether a line began with "data:", be it unfinished: whether this looks like an event stream at all."""
        return self._data_seen or self._line.startswith(b"data:")

    def receive_data(self, data: bytes | bytearray | memoryview) -> list[ServerSentEvent]:
        """The events that these bytes complete. After the end or an overflow: none.

        Raises `TypeError` if `data` is not bytes-like.
        """
        view = memoryview(data)
        events: list[ServerSentEvent] = []
        for start in range(0, len(view), _BLOCK):
            if self.overflowed or self._ended:
                break
            block = bytes(view[start : start + _BLOCK])
            if self._start is not None:
                block = self._begin(block)
            texts = self._receive_plain(block) if self._is_plain else None
            if texts is None:
                fields: list[_Fields] = []
                self._receive_block(block, fields)
                events += starmap(ServerSentEvent, fields)
            else:
                events += [ServerSentEvent(data=text, id=self._id) for text in texts]
        return events

    def receive_texts(self, block: bytes) -> list[str]:
        """As `receive_data`, for not much more than 64 KiB, before the end: only what stands in each event as data."""
        if self._start is not None:
            block = self._begin(block)
        if self._is_plain and (texts := self._receive_plain(block)) is not None:
            return texts
        fields: list[_Fields] = []
        if not self.overflowed:
            self._receive_block(block, fields)
        return [data for _, data, _, _ in fields]

    def receive_eof(self) -> list[ServerSentEvent]:
        """The stream has ended. Always [], since an event that no blank line has closed is dropped."""
        if not self._ended and self._line and _field(self._line)[0] is None:
            self._ignore(self._line)
        self._ended = True
        self._data_seen = self.data_seen
        self._line = bytearray()
        self._forget_event()
        return []

    def _begin(self, block: bytes) -> bytes:
        """The bytes without a byte order mark; none while they may be the beginning of one."""
        assert self._start is not None
        block = self._start + block
        if _BOM.startswith(block):
            self._start = block
            return b""
        self._start = None
        self._is_plain = True
        return block.removeprefix(_BOM)

    def _receive_plain(self, block: bytes) -> list[str] | None:
        """The fast path: the data of all events that the bytes complete, if each is one line that begins with "data: ".

        One split cuts the events, and one count proves that there was no other line,
        so that an event costs next to nothing. None, with nothing changed, where that
        is not so, or where a limit may be near: then the exact path below must look.

        Here `_line` may be such a line with its end, whose blank line is still to come.
        """
        held = self._line
        if len(held) + len(block) > self._plain_limit or _CR in block:
            return None
        whole = block
        if held:
            if _LF not in block and held[-1] != _LF:
                held += block
                return []
            whole = bytes(held) + block
        end = whole.rfind(b"\n\n")
        if end < 0 and whole.find(b"\n", 0, -1) < 0:  # at most one line, and its end
            if whole.endswith(b"\n") and not whole.startswith(b"data: "):
                return None
            self._line = bytearray(whole)
            return []
        if end < 0 or not whole.startswith(b"data: "):
            return None
        # A line feed is part of no other character, so lines can be decoded together.
        texts = whole[:end].decode("utf-8", "replace").split("\n\ndata: ")
        if whole.count(b"\n") != 2 * len(texts):
            return None
        texts[0] = texts[0][len("data: ") :]
        self._data_seen = True
        self._given += len(texts)
        self.last_event_id = self._id
        end += 2
        if held or end < len(whole):
            self._line = bytearray(whole[end:])
        return texts

    def _receive_block(self, block: bytes, events: list[_Fields]) -> None:
        """The exact path."""
        if self._line and self._line[-1] == _LF:
            block = bytes(self._line) + block
            self._line = bytearray()
        self._receive_lines(block, events)
        held = self._start is not None or self._after_cr or self._size or self._event or self._event_retry is not None
        self._is_plain = not held and not self.overflowed

    def _receive_lines(self, block: bytes, events: list[_Fields]) -> None:
        if self._after_cr:
            self._after_cr = False
            block = block.removeprefix(b"\n")
        if _CR in block:
            self._after_cr = block.endswith(b"\r")
            block = block.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        if _LF not in block:
            self._receive_tail(block)
            return
        *lines, tail = block.split(b"\n")
        line: bytes | bytearray
        for line in lines:
            if self._line:
                self._line += line
                line, self._line = self._line, bytearray()
            self._receive_line(line, events)
            if self.overflowed:
                return
        self._receive_tail(tail)

    def _receive_tail(self, tail: bytes) -> None:
        self._line += tail
        # Without an unfinished line there is nothing new to measure: the line end that `_size` counts already may be
        # the event's last.
        if self._line and self._size + len(self._line) > self._limit:
            self._overflow(self._line)

    def _receive_line(self, line: bytes | bytearray, events: list[_Fields]) -> None:
        if not line:
            self._dispatch(events)
            return
        if self._size + len(line) > self._limit:
            self._overflow(line)
            return
        name, start = _field(line)
        if name == "data":
            self._data_seen = self._data_seen or line.startswith(b"data:")
            self._size += len(line) + 1
            if self._data or isinstance(line, bytes):
                self._data += memoryview(line)[start:]
            else:
                del line[:start]  # which moves nothing: a line can be large, and this spares a copy of it
                self._data = line
            self._data += b"\n"
        elif name == "event":
            self._event = line[start:].decode("utf-8", "replace")
        elif name == "id":
            if b"\0" not in line:
                self._id = line[start:].decode("utf-8", "replace")
        elif name == "retry":
            # The standard has no bound. Beyond 18 digits (30 million years) the field is ignored like any other that
            # is no time to wait: int() of a long text would be slow, and from 4300 digits on an error.
            value = bytes(line[start:])
            digits = value.lstrip(b"0")
            if value.isdigit() and len(digits) <= _MOST_RETRY_DIGITS:
                self.retry = self._event_retry = int(digits or b"0")
        elif name is None:
            self._ignore(line)

    def _dispatch(self, events: list[_Fields]) -> None:
        self.last_event_id = self._id
        if self._data:
            data = str(memoryview(self._data)[:-1], "utf-8", "replace")
            self._given += 1
            events.append((self._event or "message", data, self._id, self._event_retry))
        self._forget_event()

    def _forget_event(self) -> None:
        self._data = bytearray()
        self._size = 0
        self._event = ""
        self._event_retry = None

    def _ignore(self, line: bytes | bytearray) -> None:
        if self.first_ignored_line is None:
            self.events_before_ignored_line = self._given
            # A character cut at the bound would show as a replacement character.
            self.first_ignored_line = line[: 4 * _SHOWN].decode("utf-8", "replace")[:_SHOWN]

    def _overflow(self, line: bytes | bytearray) -> None:
        self.overflowed = True
        # Only what there was room for counts, so that it does not matter how much of the line came at once.
        room = max(0, self._limit - self._size)
        self._data_seen = self._data_seen or line.startswith(b"data:", 0, room)
        self._line = bytearray()
        self._forget_event()


_NAMES = {b"data": "data", b"event": "event", b"id": "id", b"retry": "retry", b"": "comment"}


def _field(line: bytes | bytearray) -> tuple[str | None, int]:
    """The field's name, "comment", or None for a line that is no field; and where its value starts."""
    if line.startswith(b"data: "):
        return "data", 6
    colon = line.find(b":", 0, 6)  # no name is longer than five letters
    if colon < 0:
        return (None if len(line) > 5 else _NAMES.get(bytes(line))), len(line)
    start = colon + 1
    return _NAMES.get(bytes(line[:colon])), start + 1 if line[start : start + 1] == b" " else start


def encode_event(data: str) -> bytes:
    """One event as the plugin writes it (WIRE 5.2): `data: `, the text, a blank line.

    A line end in `data` would end the event early; JSON has none.
    """
    return b"data: " + data.encode() + b"\n\n"
