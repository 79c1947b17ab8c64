"""One HTTP/1.1 request and its response: values on one side, bytes on the other.

h11 does the framing. This module adds limits that hold however the bytes are
cut, a check for folded header lines, and faults as values.
"""

from collections.abc import Iterable
from typing import NamedTuple, TypeAlias, final

import h11

from ._events import Reason
from ._http import FOLDED_LINE, Request
from ._limits import Limits

__all__: list[str] = []


class Head(NamedTuple):
    """The head of a response, final or interim."""

    status: int
    headers: list[tuple[bytes, bytes]]

    def __repr__(self) -> str:
        """Without the headers, which can contain a cookie."""
        return f"Head(status={self.status})"


class EndOfBody(NamedTuple):
    """The response is complete."""


class Fault(NamedTuple):
    """The response cannot be read any further. Nothing comes after this."""

    detail: str
    reason: Reason
    limit: str | None = None
    """The name of the limit that was exceeded."""


Received: TypeAlias = Head | bytes | EndOfBody | Fault
"""Bytes are a piece of the body."""

# The most bytes passed to h11 at once while it reads heads. The rest of a read is copied to find the length of a head,
# and a read can contain many 1xx heads.
_BLOCK = 4 * 1024

# A chunk's line and its end are rarely longer. Only if they are, h11's buffer is examined.
_FRAMING = 32
_CHUNK_ENDS = (b"\r\n", b"", b"\r")
_ONE_CHUNK = b"%x\r\n%b\r\n"
_Data = h11.Data
_HEADS = (h11.Response, h11.InformationalResponse)


@final
class Exchange:
    """One connection with one request."""

    def __init__(self, limits: Limits) -> None:
        self._limit = limits.head_bytes
        # h11 never holds more than the limit, so its own check, which depends on the cuts, never triggers.
        self._h11 = h11.Connection(h11.CLIENT, max_incomplete_event_size=limits.head_bytes)
        self._held = 0  # bytes in h11's buffer, or a few more (see receive_data); with those after the answer
        self._head = bytearray()  # the received part of the current head
        self.begun: bool = False
        """Whether a byte of the answer has come."""
        self._in_body = False  # the head is complete
        self._ended = False

    def send(self, request: Request, target: str, more: Iterable[tuple[str, str]] = ()) -> bytes:
        """The bytes of the request, with the target and additional fields for this connection. Call it once."""
        fields = (*request.headers, *more)
        headers = [(name.encode(), value.encode("latin-1")) for name, value in fields]
        events = (
            h11.Request(method=request.method, target=target, headers=headers),
            h11.Data(data=request.body),
            h11.EndOfMessage(),
        )
        return b"".join([self._h11.send(event) or b"" for event in events])

    @property
    def holds_more(self) -> bool:
        """Whether bytes have come that do not belong to the answer."""
        return self._held > 0

    def receive_data(self, data: bytes | bytearray | memoryview) -> list[Received]:
        """The items that these bytes complete. `data` must not be empty."""
        received: list[Received] = []
        if self._in_body and type(data) is bytes and (held := self._held + len(data)) <= self._limit:
            # The shortest path, for nearly all reads of a stream.
            self._h11.receive_data(data)
            self._held = held
            self._drain(received, data)
            return received
        self.begun = True
        data = bytes(data)  # a memoryview can have gaps, or items of several bytes
        start = 0
        while start < len(data) and not self._ended:
            # h11 searches its buffer for the end of a line or head. The buffer never exceeds the limit, so an overlong
            # one is noticed equally in one read and in many.
            if self._held == self._limit:
                self._held = len(self._h11.trailing_data[0])  # h11 consumes a chunk's header or footer without an event
            room = self._limit - self._held
            if not room:
                received.append(self._too_long())
                break
            if not self._in_body:
                room = min(room, _BLOCK)
            piece = data[start : start + room]
            start += len(piece)
            self._h11.receive_data(piece)
            self._held += len(piece)
            if not self._in_body:
                self._head += piece
            self._drain(received, piece)
        self._held += len(data) - start
        return received

    def receive_eof(self) -> list[Received]:
        """Return what the end of the connection completes: a body without a length, or a fault."""
        if self._reading_head:
            return [self._fault("the connection was closed inside the head of the answer")]
        received: list[Received] = []
        self._h11.receive_data(b"")
        self._drain(received, b"")
        return received

    @property
    def _reading_head(self) -> bool:
        return not (self._in_body or self._ended)

    def _drain(self, received: list[Received], read: bytes) -> None:
        """Collect the items in the bytes that h11 holds. `read` are the last bytes received."""
        pieces: list[bytes] = []
        progress = False
        outcome: Received | None = None
        left: int | None = None  # bytes in h11's buffer, if known
        most_left = self._held
        next_event = self._h11.next_event
        while not self._ended:
            try:
                event = next_event()
            except h11.RemoteProtocolError as error:
                outcome = self._fault(f"HTTP: {self._what_is_wrong(error)}")
                # h11 keeps the error in a frame of its traceback: a cycle that would keep all callers alive.
                error.__traceback__ = None
            else:
                if type(event) is _Data:
                    data = event.data
                    most_left -= len(data)
                    is_last = most_left < _FRAMING and event.chunk_end  # in most reads
                    if is_last and event.chunk_start and read == _ONE_CHUNK % (len(data), data):
                        # The read is exactly this chunk: only its size can come before its data, so h11's buffer can
                        # hold only its end. Asking h11 for more would cost a quarter more.
                        received.append(bytes(data))
                        self._held = 2
                        return
                    pieces.append(data)
                    if is_last and (rest := self._h11.trailing_data[0]) in _CHUNK_ENDS:
                        left = len(rest)
                        break
                elif event is h11.NEED_DATA or event is h11.PAUSED:
                    break
                elif type(event) is h11.EndOfMessage:
                    self._ended = True
                    outcome = EndOfBody()
                else:
                    assert isinstance(event, _HEADS)
                    received.append(self._read_head(event))
                    most_left = self._held
            progress = True
        if pieces:
            received.append(b"".join(pieces))  # one piece per read: the decoder handles longer pieces faster
        if outcome is not None:
            received.append(outcome)
        if left is not None:
            self._held = left
        elif progress:
            self._held = len(self._h11.trailing_data[0])

    def _read_head(self, event: h11.InformationalResponse | h11.Response) -> Received:
        self._held = len(self._h11.trailing_data[0])
        size = len(self._head) - self._held
        head = self._head[:size]
        self._in_body = type(event) is h11.Response
        self._head = bytearray() if self._in_body else self._head[size:]
        if FOLDED_LINE.search(head):
            return self._fault("HTTP: a folded header line")
        if not event.http_version.startswith(b"1."):
            return self._fault(f"HTTP: a version that is not 1.x: {event.http_version.decode()}")
        return Head(event.status_code, event.headers.raw_items())

    def _what_is_wrong(self, error: h11.RemoteProtocolError) -> str:
        if self._head and self._head[0] <= 0x20:
            return "no status line"  # h11's wording depends on how much of the head has come
        # h11's quotation can be as long as a head, contain a cookie, or depend on the cuts of a chunk's footer.
        return str(error).partition(": bytearray(")[0]

    def _too_long(self) -> Fault:
        if self._reading_head:
            return self._fault(
                f"more than {self._limit} bytes of head (Limits.head_bytes)", Reason.TOO_LARGE, "head_bytes"
            )
        return self._fault(
            f"HTTP: a line of chunked framing of more than {self._limit} bytes (Limits.head_bytes)", limit="head_bytes"
        )

    def _fault(self, detail: str, reason: Reason = Reason.TRUNCATED, limit: str | None = None) -> Fault:
        self._ended = True
        return Fault(detail, reason, limit)
