"""One HTTP response -> Live* (End | Broken): the rules of judgement.

The order is HTTP first, then status, then coding, then the body by its bytes
and never by its Content-Type, because servers lie in that field (WIRE 5.1).
"""

import html
import json
import re
from dataclasses import replace
from enum import StrEnum
from typing import Any, TypeVar, final

from ._events import Broken, End, Event, Live, Reason, check_failure
from ._http import Headers, decode_head, read_date
from ._json import Unfinished, decode, decode_prefix, encodable, scan_string, skip_short
from ._limits import Limits
from ._sse import SSEDecoder
from ._table import Table

__all__ = ["ReplyDecoder"]

_BOM = b"\xef\xbb\xbf"
_BLANK = b" \t\r\n\v\f"
_LF, _CR = b"\n\r"
_BLOCK = 64 * 1024  # bytes looked at in one go, so that a huge read is never copied whole
_PIECES = 1024  # bytes of a line that may wait for its next piece before they are looked at
_SHOWN = 200  # characters of a line or a text that stand in a detail
_FIELDS = ("content-encoding", "date", "location", "retry-after")  # of a refusal's head, what is read in the end
# The content codings that change bytes (RFC 9110, 8.4.1; IANA's registry). Servers write other words into the field,
# such as "none" or "utf-8", over bodies that are plain.
_CODINGS = {"gzip", "x-gzip", "deflate", "br", "zstd", "compress", "x-compress", "dcb", "dcz"}
_EVENT_KEYS = ("type", "data", "subtype")
_PLAIN_LIVE = '{"type":"live","data":"'  # what nearly all events begin with (WIRE 5.3)
_PLAIN_START = len(_PLAIN_LIVE)
# What then follows in an event object (WIRE 5.4), up to the value of its metadata.
_PLAIN_OBJECT = re.compile(
    r',"timestamp":[1-9][0-9]{0,9}(?:\.[0-9]{1,9})?,"subtype":"([a-z_]+)","visibility":"[a-z]+"(,"metadata":)?'
)
_PLAIN_END = '{"type":"end","data":"'  # and the one that can be large

_E = TypeVar("_E", bound=Event)


@final
class State(StrEnum):
    """Where in a response we are."""

    HEAD = "HEAD"  # no final response yet
    START = "START"  # status 200, nothing but blank space so far
    STREAM = "STREAM"  # the body is an event stream, or a page
    JSON = "JSON"  # the body is one JSON object
    REFUSAL = "REFUSAL"  # another status: its text is collected
    DONE = "DONE"  # the terminal event was given


@final
class Input(StrEnum):
    """What can happen to a response."""

    INTERIM = "1xx head"
    HEAD = "200 head"
    REFUSAL = "other head"
    BRACE = "first byte is a brace"
    OTHER = "first byte is another"
    DATA = "data"
    TERMINAL = "terminal event"


TABLE: Table[State, Input] = Table(
    "ReplyDecoder",
    (State.HEAD,),
    {
        State.HEAD: {
            Input.INTERIM: State.HEAD,
            Input.HEAD: State.START,
            Input.REFUSAL: State.REFUSAL,
            Input.TERMINAL: State.DONE,
        },
        State.START: {
            Input.DATA: State.START,
            Input.BRACE: State.JSON,
            Input.OTHER: State.STREAM,
            Input.TERMINAL: State.DONE,
        },
        State.STREAM: {Input.DATA: State.STREAM, Input.TERMINAL: State.DONE},
        State.JSON: {Input.DATA: State.JSON, Input.TERMINAL: State.DONE},
        State.REFUSAL: {Input.DATA: State.REFUSAL, Input.TERMINAL: State.DONE},
        State.DONE: {},
    },
)


@final
class ReplyDecoder:
    """The response to one submit as a machine: HTTP as values goes in, events come out.

    Whatever goes in, the events are `Live* (End | Broken)`; after the terminal
    event every input returns []. What the peer does wrong is a `Broken`.
    """

    def __init__(self, limits: Limits = Limits()) -> None:
        self._sse = SSEDecoder(limits)
        self._limits = limits
        self._state = State.HEAD
        self._interim = 0
        self._status = 0
        self._headers: list[tuple[str, str]] = []  # of a refusal
        self._room = limits.reply_bytes  # for more bytes of the body
        self._is_stream = False  # the state is STREAM, and this is no page
        self._pieces: list[bytes] = []  # of a line of the stream, which are looked at together
        self._pieces_room = 0  # for more bytes in there, before a limit can be met; 0 where none may wait
        self._judged = 0  # server-sent events
        self._start: bytes | None = b""  # what may become a byte order mark; None once that is settled
        self._text = bytearray()  # a JSON body; the beginning of a refusal or a page
        self._is_page = False  # the body began with "<", and no data line has been seen
        self.new_token: Any = None
        """The fresh nonce of an end payload (WIRE 3.4), so that nobody parses it again for that."""
        self._error_pending = False  # an error event without a message came: a later one may bring it

    def __repr__(self) -> str:
        """The state."""
        return f"<ReplyDecoder {self._state}>"

    @property
    def _over(self) -> bool:
        return self._state is State.DONE

    # ---------------------------------------------------------------- inputs

    def receive_head(self, status: int, headers: Headers) -> list[Event]:
        """The status and header fields of a response; 1xx ones may come first.

        They must describe the bytes that will be given: whoever inflates the
        body leaves out Content-Encoding and Content-Length. Raises
        `LocalProtocolError` if there was a final head already, `TypeError` for
        wrong types.
        """
        fields = decode_head(status, headers)
        if self._state is State.DONE:
            return []
        interim = 100 <= status < 200
        given = Input.INTERIM if interim else Input.HEAD if status == 200 else Input.REFUSAL
        state = TABLE.next(self._state, given)
        if len(fields) > self._limits.headers:
            return [self._too_large("headers", "header fields")]
        if status == 101:
            return [self._end(Broken(Reason.TRUNCATED, "status 101: the server switched protocols, unasked"))]
        if interim:
            self._interim += 1
            if self._interim > self._limits.interim_responses:
                return [self._too_large("interim_responses", "1xx responses before the answer")]
            return []
        self._state = state
        self._status = status
        if status != 200:  # some libraries decode with surrogates
            self._headers = [(name, encodable(value)) for name, value in fields if name in _FIELDS]
        names = [name for name, _ in fields]
        if "transfer-encoding" in names and "content-length" in names:
            # RFC 9112, 6.3: what smuggling is made of.
            return [self._failed("Content-Length together with Transfer-Encoding", Reason.TRUNCATED)]
        if status == 200 and (coding := _coding(fields)):
            # We asked for identity. Nothing is inflated: bodies that claim gzip were seen to be plain text (WIRE 13).
            return [self._malformed(f"the body is coded as {coding}, though identity was asked for")]
        return []

    def receive_data(self, data: bytes | bytearray | memoryview) -> list[Event]:
        """Bytes of the body. Raises `LocalProtocolError` before the head, `TypeError` if not bytes-like."""
        if type(data) is bytes:
            # The shortest ways through what follows, for the reads that a stream mostly consists of.
            size = len(data)
            if not size:
                return []
            if size < self._pieces_room and _LF not in data and _CR not in data:
                # A piece of a line. It means nothing before the rest has come.
                self._pieces_room -= size
                self._pieces.append(data)
                return []
            if self._is_stream and size <= _BLOCK:
                was_cut = self._pieces_room  # so the next line may be as well
                if self._pieces_room:
                    data = self._take_pieces(data)
                    size = len(data)
                if size <= self._room:
                    self._room -= size
                    sse = self._sse
                    texts = sse.receive_texts(data)
                    events = self._judge(texts, []) if texts or sse.overflowed else []
                    if (was_cut or data[-1] != _LF) and self._is_stream:
                        self._pieces_room = min(_PIECES, self._room, self._limits.event_bytes - sse.held)
                    return events
        events = []
        self._feed_pieces()
        view = memoryview(data)
        if not view.nbytes or self._over:
            return events
        TABLE.next(self._state, Input.DATA)
        rest = view.cast("B") if view.c_contiguous else memoryview(view.tobytes())  # items of several bytes, gaps
        while rest and not self._over:
            if self._state is State.REFUSAL:
                count = self._read_refusal(rest, events)
            else:
                if not self._room:
                    events.append(self._too_large("reply_bytes", "bytes in the whole reply"))
                    break
                count = self._read_body(rest[: min(self._room, _BLOCK)], events)
                self._room -= count
            rest = rest[count:]
        return events

    def receive_eof(self) -> list[Event]:
        """The body has ended as HTTP says it should; before the head: the connection was closed."""
        self._feed_pieces()
        match self._state:
            case State.DONE:
                return []
            case State.HEAD:
                return [self._end(Broken(Reason.LOST, "the connection was closed before any answer"))]
            case State.REFUSAL:
                return [self._refused()]
            case State.JSON:
                return [self._judge_object("the answer breaks off inside its JSON object", Reason.TRUNCATED)]
            case _:
                return [self._unended("the answer ended without its end event", Reason.TRUNCATED)]

    def receive_failure(self, detail: str, reason: Reason = Reason.LOST, *, limit: str | None = None) -> list[Event]:
        """The response cannot go on: `detail` says what happened, for a person; `limit` becomes `Broken.limit`.

        With the reason LOST it becomes TRUNCATED once the answer has begun. A
        refusal stays one, with whatever text came; a JSON object that is whole
        is judged as if nothing had happened. Always legal; raises `TypeError`
        for wrong types.
        """
        check_failure(detail, reason)
        if self._state is State.DONE:
            return []
        self._feed_pieces()
        if reason is Reason.LOST and self._state is not State.HEAD:
            reason = Reason.TRUNCATED
        event = self._failed(encodable(detail), reason)
        # A refusal, or an object that is whole, has not failed.
        return [replace(event, limit=limit) if isinstance(event, Broken) and event.reason is reason else event]

    def _failed(self, detail: str, reason: Reason) -> Event:
        if self._state is State.HEAD:
            return self._end(Broken(reason, detail))
        match self._state:
            case State.REFUSAL:
                return self._refused(detail)
            case State.JSON:
                return self._judge_object(detail, reason)
            case _:
                return self._unended(detail, reason, cut=True)

    # ---------------------------------------------------------------- reading: each returns how much it has looked at

    def _take_pieces(self, more: bytes = b"") -> bytes:
        """The pieces that waited, and what has come now."""
        self._pieces.append(more)
        whole, self._pieces, self._pieces_room = b"".join(self._pieces), [], 0
        return whole

    def _feed_pieces(self) -> None:
        """Nothing comes of it: they end no line, and there was room for them."""
        pieces = self._take_pieces()
        if pieces:
            self._room -= len(pieces)
            self._sse.receive_texts(pieces)

    def _read_refusal(self, data: memoryview, events: list[Event]) -> int:
        piece = data[: self._limits.refusal_bytes - len(self._text)]
        self._text += piece
        if len(self._text) == self._limits.refusal_bytes:
            events.append(self._refused())
        return len(piece)

    def _read_body(self, data: memoryview, events: list[Event]) -> int:
        match self._state:
            case State.START:
                return self._read_start(data, events)
            case State.JSON:
                self._text += data
                if len(self._text) > self._limits.event_bytes:
                    events.append(self._too_large("event_bytes", "bytes in one JSON body"))
                return len(data)
            case _:
                return self._read_stream(data, events)

    def _read_start(self, data: memoryview, events: list[Event]) -> int:
        # Up to the first byte that is not blank. What comes before it is given to the event stream, where blank lines
        # mean nothing, so that nothing has to be kept here.
        seen = bytes(data)
        if self._start is not None:
            seen = self._start + seen
            if len(seen) < len(_BOM) and _BOM.startswith(seen):
                self._start = seen
                self._feed(bytes(data), events)
                return len(data)
            self._start = None
            seen = seen.removeprefix(_BOM)
        begun = seen.lstrip(_BLANK)
        if not begun:
            self._feed(bytes(data), events)
            return len(data)
        # If the beginning of a mark turns out to be something else, it was fed before, and nothing here is blank.
        count = max(0, len(data) - len(begun))
        self._feed(bytes(data[:count]), events)
        if self._state is State.START:
            self._state = TABLE.next(self._state, Input.BRACE if begun.startswith(b"{") else Input.OTHER)
            self._is_page = begun.startswith(b"<")
            self._is_stream = self._state is State.STREAM and not self._is_page
        return count

    def _read_stream(self, data: memoryview, events: list[Event]) -> int:
        if not self._is_page:
            self._feed(bytes(data), events)
            return len(data)
        # A page, or PHP's notices before the first event: decided after a fixed number of bytes, however they were cut.
        piece = data[: self._limits.refusal_bytes - len(self._text)]
        self._text += piece
        self._feed(bytes(piece), events)
        if self._sse.data_seen:
            self._is_page = False
            self._is_stream = self._state is State.STREAM  # and not over already
            self._text = bytearray()
        elif len(self._text) == self._limits.refusal_bytes and self._state is not State.DONE:
            events.append(self._unended("", Reason.MALFORMED))
        return len(piece)

    def _feed(self, data: bytes, events: list[Event]) -> None:
        self._judge(self._sse.receive_texts(data), events)

    def _judge(self, texts: list[str], events: list[Event]) -> list[Event]:
        for text in texts:
            self._judged += 1
            if text.startswith(_PLAIN_LIVE):
                # The fast path gives what `_judge_event` makes of an event as the plugin writes it.
                try:
                    piece, end = scan_string(text, _PLAIN_START)
                except ValueError:
                    piece, end = "", 0
                if not piece.isascii():
                    piece = encodable(piece)
                if text[end:] == "}":
                    events.append(Live(piece))
                    continue
                if subtype := _plain_subtype(text, end, self._limits.json_depth):
                    events.append(Live(piece, subtype))
                    continue
            judged = self._judge_event(text)
            if judged is not None:
                events.append(judged)
                if type(judged) is not Live:
                    return events
        if self._sse.overflowed:
            events.append(self._too_large("event_bytes", "bytes in one event"))
        return events

    # ---------------------------------------------------------------- judging

    def _judge_event(self, data: str) -> Event | None:
        if not data.strip("\n"):
            return Live("", "unreadable")  # json_encode failed on the server (WIRE 5.7)
        if (payload := _plain_end(data)) is not None:
            return self._judge_end({"data": payload}, data)
        try:
            event = decode(data, self._limits.json_depth, unique=_EVENT_KEYS)
        except ValueError:
            return self._malformed(f"an event that is no JSON: {data[:_SHOWN]}")
        kind = event.get("type") if isinstance(event, dict) else None
        if not isinstance(kind, str):
            return self._malformed(f"an event without a type: {data[:_SHOWN]}")
        content = event.get("data")
        if kind == "live":
            if not isinstance(content, str):
                return self._malformed(f"a live event without text: {data[:_SHOWN]}")
            subtype = event.get("subtype")
            if subtype is None or subtype == "":
                return Live(content)
            return Live(content, subtype) if isinstance(subtype, str) else Live(content, "unknown", data)
        if kind == "error":
            message = _message(content)
            if message:
                return self._end(Broken(Reason.REMOTE, message))
            self._error_pending = True  # WIRE 5.7: the first of two error events can be empty
            return None
        if kind == "end":
            return self._judge_end(event, data)
        return Live(content if isinstance(content, str) else "", "unknown", data)

    def _judge_end(self, event: dict[str, Any], line: str) -> Event:
        content = event.get("data")
        if content is False or (content is None and "data" in event):
            return self._end(End(None))  # json_encode failed on the server (WIRE 5.7)
        if isinstance(content, str):
            raw = content
            try:
                content = decode(raw, self._limits.json_depth)
            except ValueError:
                return self._malformed(f"an end event whose payload is no JSON: {line[:_SHOWN]}")
        else:
            raw = json.dumps(content)
        if not isinstance(content, dict):
            return self._malformed(f"an end event without a payload: {line[:_SHOWN]}")
        return self._judge_payload(content, raw)

    def _judge_object(self, detail: str, reason: Reason) -> Event:
        text, self._text = self._text.decode("utf-8", "replace"), bytearray()
        try:
            payload, raw = decode_prefix(text, self._limits.json_depth)
        except Unfinished:
            return self._end(Broken(reason, detail))
        except ValueError:
            return self._malformed(f"a body that is no JSON: {text[:_SHOWN]}")
        return self._judge_payload(payload, raw)

    def _judge_payload(self, payload: dict[str, Any], raw: str) -> Event:
        match payload.get("success"):
            case True:
                reply = payload.get("reply")
                self.new_token = payload.get("new_token")
                return self._end(End(reply if isinstance(reply, str) else None, raw))
            case False:
                return self._end(Broken(Reason.REMOTE, _message(payload.get("message")), raw=raw))
            case _:
                said = _message(payload.get("message"))
                code = payload.get("code")
                return self._malformed(
                    f"a JSON object without success: {said or raw[:_SHOWN]}",
                    code=code if isinstance(code, str) else None,
                    raw=raw,
                )

    def _unended(self, detail: str, reason: Reason, *, cut: bool = False) -> Event:
        """The body is over and brought no terminal event."""
        self._sse.receive_eof()
        if self._error_pending:
            return self._end(Broken(Reason.REMOTE))
        if self._is_page:
            page = f"a page, not an answer of the chat: {_beginning(self._text)}"
            raw = self._text.decode("utf-8", "replace")
            if cut:
                return self._end(Broken(reason, f"{detail}; it began as {page}", raw=raw))
            return self._end(Broken(Reason.MALFORMED, page, raw=raw))
        return self._end(Broken(reason, detail + self._hint(self._judged)))

    def _refused(self, failure: str = "") -> Event:
        coding = _coding(self._headers)
        raw = "" if coding else self._text.decode("utf-8", "replace").removeprefix("\ufeff").lstrip()
        detail, code = _beginning(self._text) if raw else "", None
        if raw.startswith("{"):
            try:
                payload, raw = decode_prefix(raw, self._limits.json_depth)
            except ValueError:
                pass
            else:
                detail = _message(payload.get("message")) or detail
                code = payload.get("code")
        location = self._header("location")
        if location and 300 <= self._status < 400:
            detail = f"redirected to {location[:_SHOWN]}, which is not followed{f': {detail}' if detail else ''}"
        what = f"a body coded as {coding}" if coding else "no text"
        detail = detail or f"status {self._status} and {what}{f' ({failure})' if failure else ''}"
        return self._end(
            Broken(
                Reason.REFUSED,
                detail,
                self._status,
                code if isinstance(code, str) else None,
                _retry_after(self._header("retry-after"), self._header("date")),
                raw,
            )
        )

    def _malformed(self, detail: str, *, code: str | None = None, raw: str = "") -> Broken:
        return self._end(Broken(Reason.MALFORMED, detail + self._hint(self._judged - 1), code=code, raw=raw))

    def _too_large(self, limit: str, what: str) -> Broken:
        detail = f"more than {getattr(self._limits, limit)} {what} (Limits.{limit})"
        return self._end(Broken(Reason.TOO_LARGE, detail, limit=limit))

    def _end(self, event: _E) -> _E:
        self._state = TABLE.next(self._state, Input.TERMINAL)
        self._is_stream = False
        self._text = bytearray()
        return event

    def _hint(self, events: int) -> str:
        # Only what came before the fault, which does not depend on how much came in the same read.
        line = self._sse.first_ignored_line
        seen = line is not None and self._sse.events_before_ignored_line <= events
        return f"; a line that is no event: {line}" if seen else ""

    def _header(self, name: str) -> str:
        return next((value for key, value in self._headers if key == name), "")


def _coding(headers: list[tuple[str, str]]) -> str:
    codings = [value.lower() for key, value in headers if key == "content-encoding"]
    codings = [coding.strip() for coding in ",".join(codings).split(",")]
    return ", ".join(coding for coding in codings if coding in _CODINGS)


def _plain_subtype(text: str, start: int, depth: int) -> str | None:
    """That of a live event object as the plugin writes it, from behind its text on."""
    rest = _PLAIN_OBJECT.match(text, start)
    if rest is None:
        return None
    subtype, metadata = rest.groups()
    end = skip_short(text, rest.end(), depth - 1) if metadata else rest.end()
    return subtype if end == len(text) - 1 and text[end] == "}" else None


def _plain_end(text: str) -> str | None:
    """The payload of an end event, which spares a large one the search for keys that are there twice."""
    if not text.startswith(_PLAIN_END):
        return None
    try:
        payload, end = scan_string(text, len(_PLAIN_END))
    except ValueError:
        return None
    return encodable(payload) if text[end:] == "}" else None


def _message(value: Any) -> str:
    """An error message of any JSON type as text."""
    if value is None or value is False:
        return ""
    return value if isinstance(value, str) else json.dumps(value)


def _beginning(body: bytearray) -> str:
    """A page's title, or how a text begins without its tags: on one line."""
    text = body.decode("utf-8", "replace").removeprefix("\ufeff")
    title = re.search(r"<title(?:\s[^<>]*)?>\s*([^<\s][^<]*)", text, re.IGNORECASE)
    if title or text.lstrip().startswith("<"):
        # What scripts and styles hold, which may be cut off, is no text of the page.
        text = title[1] if title else re.sub(r"(?is)<(script|style)\b(?:(?!</\1).)*|<[^<>]*>", " ", text)
        # int(), which unescape uses, refuses numbers of many digits. None of those is a character.
        text = html.unescape(re.sub("&#[0-9]{8,};?", "\ufffd", text))
    return " ".join(text[: 10 * _SHOWN].split())[:_SHOWN]


def _retry_after(value: str, date: str) -> int | None:
    """Retry-After in seconds (RFC 9110, 10.2.3)."""
    if re.fullmatch("[0-9]{1,9}", value):
        return int(value)
    now = read_date(date)
    until = read_date(value, now)
    return None if until is None or now is None else max(0, int((until - now).total_seconds()))
