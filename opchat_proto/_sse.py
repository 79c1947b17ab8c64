"""Server-sent events, decoded and encoded by the WHATWG rules ("9.2.6 Interpreting an event stream")."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import starmap
from operator import itemgetter
from typing import TypeAlias, final

from ._limits import Limits
from ._quote import SHOWN, without_tags
from ._value import Value

__all__ = ["SSEDecoder", "ServerSentEvent"]

_BOM = b"\xef\xbb\xbf"
_LF, _CR = b"\n\r"  # `find` is several times as fast for an int
BLOCK = 64 * 1024  # bytes processed at once, so that a huge read is never copied as a whole
_GLUED = b'data: {"type":"'  # how the plugin's events begin (WIRE 5.3)
_DATA_START = len(b"data: ")
_MOST_RETRY_DIGITS = 18


_Fields: TypeAlias = tuple[str, str, str, int | None]  # of a `ServerSentEvent`


@final
@dataclass(frozen=True, slots=True, eq=False, repr=False)
class ServerSentEvent(Value):
    """One event of a text/event-stream."""

    event: str = "message"
    data: str = ""
    id: str = ""
    """The last event id of the stream, at this event."""
    retry: int | None = None
    """Milliseconds, if this event set the reconnection time."""


@final
class SSEDecoder:
    """Decodes a text/event-stream: takes bytes, and returns the events that they complete.

    It follows the standard exactly and reads any stream. LF, CR and CRLF end
    lines wherever the bytes are cut (a CR does so at once). One byte order mark
    is dropped. Bytes are decoded as UTF-8 with replacement. An event without a
    closing blank line is dropped at the end.

    There is one addition: `limits.event_bytes` is the most that an unfinished line and
    the data lines of its unfinished event may have together. One byte more sets
    `overflowed`. The events before it are returned, and nothing after them.

    With `mend` it also reads lines that the standard ignores because PHP has mangled
    them: a field after byte order marks, and an event of the plugin that follows
    a notice without a line end (WIRE 13). `ReplyDecoder` uses this.
    """

    def __init__(self, limits: Limits = Limits(), *, mend: bool = False) -> None:
        if not isinstance(limits, Limits):
            raise TypeError(f"limits: expected Limits, got {type(limits).__name__}")
        self._limit = limits.event_bytes
        self._mends = mend
        self._start: bytes | None = None if mend else b""  # a partial byte order mark; None once that is decided
        # How much the fast path may hold; -1 while more than an unfinished line is held, which needs the exact path.
        self._plain_limit = min(limits.event_bytes, 2 * BLOCK)
        self._plain_room = self._plain_limit if mend else -1
        self._after_cr = False  # an LF now belongs to the CR before it
        self._line = bytearray()  # the unfinished line
        self._data = bytearray()  # of the unfinished event, like the next four; each line is followed by LF
        self._size = 0  # the bytes of its data lines, with their line ends
        self._event = ""
        self._id = ""
        self._event_retry: int | None = None
        self._ended = False
        self._data_seen = False
        self.retry: int | None = None
        """The reconnection time in milliseconds, if the stream set one."""
        self.last_event_id: str = ""
        """The id of the last complete event, for reconnecting."""
        self.overflowed: bool = False
        """Whether an event was larger than the limit."""
        self.first_ignored_line: str | None = None
        """The beginning of the first line that is not a field: a hint at what went wrong.

        With `mend`, the first such line that contains words, without its HTML tags."""

    def __repr__(self) -> str:
        """The number of bytes held."""
        return f"<SSEDecoder holding {self._size + len(self._line)} bytes>"

    @property
    def data_seen(self) -> bool:
        """Whether any line, even an unfinished one, began with "data:", so that this looks like an event stream."""
        return self._data_seen or self._line.startswith(b"data:", _field_at(self._line, self._mends))

    def receive_data(self, data: bytes | bytearray | memoryview) -> list[ServerSentEvent]:
        """Return the events that these bytes complete; [] after the end or an overflow.

        Raises `TypeError` if `data` is not bytes-like.
        """
        data = data if type(data) is bytes else memoryview(data).tobytes()
        events: list[ServerSentEvent] = []
        for start in range(0, len(data), BLOCK):
            if self.overflowed or self._ended:
                break
            block = data[start : start + BLOCK]
            if self._start is not None:
                block = self._begin(block)
            if (texts := self.receive_plain(block)) is not None:
                events += [ServerSentEvent(data=text, id=self._id) for text in texts]
            else:
                events += starmap(ServerSentEvent, self._receive_fields(block))
        return events

    def receive_eof(self) -> list[ServerSentEvent]:
        """The stream has ended. Always [], since an event without a closing blank line is dropped."""
        self._data_seen = self.data_seen
        self._ignore(self._line)
        self._ended = True
        self._line = bytearray()
        self._forget_event()
        return []

    def _begin(self, block: bytes) -> bytes:
        """The bytes without a byte order mark; empty while they may be the beginning of one."""
        assert self._start is not None
        block = self._start + block
        if _BOM.startswith(block):
            self._start = block
            return b""
        self._start = None
        self._plain_room = self._plain_limit
        return block.removeprefix(_BOM)

    def receive_plain(self, block: bytes) -> list[str] | None:
        """The fast path: the data of all completed events, if each is a single line that begins with "data: ".

        One split separates the events, and one count proves that there was no other
        line, so an event costs next to nothing. If there was another line, or a limit
        may be near, it returns None and changes nothing: the exact path must be used.

        Here `_line` may hold a line with its line end, before the blank line has come.
        """
        held = self._line
        if len(held) + len(block) > self._plain_room or _CR in block:
            return None
        if not held:
            whole = block
        elif _LF not in block and held[-1] != _LF:
            held += block
            return []
        else:
            whole = bytes(held) + block
        end = whole.rfind(b"\n\n")
        if end < 0 and whole.find(b"\n", 0, -1) < 0:  # at most one line, and its end
            if whole.endswith(b"\n") and not whole.startswith(b"data: "):
                return None
            self._line = bytearray(whole)
            return []
        if end < 0 or not whole.startswith(b"data: "):
            return None
        # No other character contains a line feed byte, so lines can be decoded together.
        texts = whole[_DATA_START:end].decode("utf-8", "replace").split("\n\ndata: ")
        if whole.count(b"\n") != 2 * len(texts):
            return None
        self._data_seen = True
        self.last_event_id = self._id
        end += 2
        if held or end < len(whole):
            self._line = bytearray(whole[end:])
        return texts

    def receive_exact(self, block: bytes) -> Iterator[str]:
        """The exact path: like `receive_plain`, for any bytes. The caller must exhaust it: see `_receive_fields`."""
        return map(itemgetter(1), self._receive_fields(block))

    def _receive_fields(self, block: bytes) -> Iterator[_Fields]:
        # An event is yielded before the bytes after it are read. The caller must exhaust the iterator.
        if self._line.endswith(b"\n"):
            block = bytes(self._line) + block
            self._line = bytearray()
        if self._after_cr:
            block = block.removeprefix(b"\n")
            self._after_cr = False
        if _CR in block:
            self._after_cr = block.endswith(b"\r")
            block = block.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        *lines, tail = block.split(b"\n") if _LF in block else (block,)  # a split would copy each piece of a long line
        line: bytes | bytearray
        for line in lines:
            if self._line:
                self._line += line
                line, self._line = self._line, bytearray()
            if line:
                self._receive_line(line)
                if self.overflowed:
                    return
                continue
            self.last_event_id = self._id
            if self._data:
                yield self._take_event()  # never in a variable of ours: an event can be large
            else:
                self._forget_event()
        self._line += tail
        # Without an unfinished line there is nothing new to measure. The line end that `_size` already counts may be
        # the last one of the event.
        if self._line and self._size + len(self._line) > self._limit:
            self._overflow(self._line)
            return
        held = self._start is not None or self._after_cr or self._size or self._event or self._event_retry is not None
        self._plain_room = -1 if held else self._plain_limit

    def _take_event(self) -> _Fields:
        data, event, retry = self._data, self._event, self._event_retry
        self._forget_event()
        return event or "message", str(memoryview(data)[:-1], "utf-8", "replace"), self._id, retry

    def _receive_line(self, line: bytes | bytearray) -> None:
        if self._size + len(line) > self._limit:
            self._overflow(line)
            return
        if start := self._ignore(line):
            line = line[start:]
        name, start = _field(line)
        if name == "data":
            self._data_seen = self._data_seen or line.startswith(b"data:")
            self._size += len(line) + 1
            if self._data or isinstance(line, bytes):
                self._data += memoryview(line)[start:]
            else:
                del line[:start]  # does not move the rest: a line can be large, and this saves a copy
                self._data = line
            self._data += b"\n"
        elif name == "event":
            self._event = line[start:].decode("utf-8", "replace")
        elif name == "id":
            if b"\0" not in line:
                self._id = line[start:].decode("utf-8", "replace")
        elif name == "retry":
            # The standard has no limit. With more than 18 digits (30 million years) the field is ignored, like any
            # other value that is not a number: int() of a long text is slow, and an error from 4300 digits on.
            value = bytes(line[start:])
            digits = value.lstrip(b"0")
            if value.isdigit() and len(digits) <= _MOST_RETRY_DIGITS:
                self.retry = self._event_retry = int(digits or b"0")

    def _forget_event(self) -> None:
        self._data = bytearray()
        self._size = 0
        self._event = ""
        self._event_retry = None

    def _ignore(self, line: bytes | bytearray) -> int:
        """Return where the line's field begins, and remember the first text that is outside any field."""
        start = _field_at(line, self._mends)
        if start and self.first_ignored_line is None:
            # A character that is cut at the bound would become a replacement character.
            said = line[: min(start, 4 * SHOWN)].decode("utf-8", "replace")
            if self._mends:
                said = without_tags(said.lstrip("\ufeff"))
            if not self._mends or any(map(str.isalnum, said)):
                self.first_ignored_line = said[:SHOWN]
        return start

    def _overflow(self, line: bytes | bytearray) -> None:
        self.overflowed = True
        self._plain_room = -1
        # Only the bytes within the limit count, so that the size of the read makes no difference.
        room = max(0, self._limit - self._size)
        self._data_seen = self._data_seen or line.startswith(b"data:", 0, room)
        self._line = bytearray()
        self._forget_event()


_NAMES = {b"data": "data", b"event": "event", b"id": "id", b"retry": "retry", b"": "comment"}


def _field(line: bytes | bytearray) -> tuple[str | None, int]:
    """The field's name, "comment", or None for a line that is not a field; and where its value starts."""
    if line.startswith(b"data: "):
        return "data", 6
    colon = line.find(b":", 0, 6)  # the longest name has five letters
    if colon < 0:
        return (None if len(line) > 5 else _NAMES.get(bytes(line))), len(line)
    start = colon + 1
    return _NAMES.get(bytes(line[:colon])), start + 1 if line[start : start + 1] == b" " else start


def _field_at(line: bytes | bytearray, mends: bool) -> int:
    """Where the line's field begins: usually 0; the line's end if there is no field."""
    if _field(line)[0] is not None:
        return 0
    if mends:
        start = 0
        while line.startswith(_BOM, start):
            start += len(_BOM)
        if 0 < start < len(line) and _field(line[start : start + 6])[0] is not None:
            return start
        if (start := line.find(_GLUED)) >= 0:
            return start
    return len(line)


def encode_event(data: str) -> bytes:
    """One event as the plugin writes it (WIRE 5.2): `data: `, the text, a blank line.

    `data` must not contain a line end, which would end the event early. JSON has none.
    """
    return b"data: " + data.encode() + b"\n\n"
