"""One HTTP response -> Live* (End | Broken): the rules of judgement.

HTTP is judged first, then the status, then the content coding, then the body.
The body is judged by its bytes, never by its Content-Type, because servers set
that field wrongly (WIRE 5.1).
"""

import json
import re
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace
from enum import StrEnum
from typing import Any, TypeVar, final

from ._events import Broken, End, Event, Live, Reason, check_failure
from ._http import Headers, decode_head, read_date
from ._json import Unfinished, decode, decode_prefix, encodable, find_last, scan_string, skip_short
from ._limits import Limits
from ._quote import SHOWN, beginning, mask, without_tags
from ._sse import BLOCK, SSEDecoder
from ._table import Table

__all__ = ["ReplyDecoder"]

_BOM = b"\xef\xbb\xbf"
_FRONT = re.compile(rb"(?:(?>[ \t\n\r\v\f]++|\xef\xbb\xbf))*+")  # marks and blanks that PHP files print by mistake
_OBJECT = re.compile(r'\{\s*+"(?:success|code)"\s*+:')  # an answer from the plugin, or an error from WordPress
_FIELDS = ("content-encoding", "date", "location", "retry-after")  # the fields of a refusal that are kept
# The content codings that change bytes (RFC 9110, 8.4.1; IANA's registry). Servers also write other words,
# such as "none" or "utf-8", although the body is plain.
_CODINGS = {"gzip", "x-gzip", "deflate", "br", "zstd", "compress", "x-compress", "dcb", "dcz"}
_EVENT_KEYS = ("type", "data", "subtype")
_PLAIN_LIVE = '{"type":"live","data":"'  # how nearly all events begin (WIRE 5.3)
_PLAIN_START = len(_PLAIN_LIVE)
# The rest of such an event object (WIRE 5.4), up to the value of its metadata.
_PLAIN_OBJECT = re.compile(
    r',"timestamp":[1-9][0-9]{0,9}(?:\.[0-9]{1,9})?,"subtype":"([a-z_]+)","visibility":"[a-z]+"(,"metadata":)?'
)
_PLAIN_END = '{"type":"end","data":"'  # how a potentially large event begins

_E = TypeVar("_E", bound=Event)


@final
class State(StrEnum):
    """The part of a response that is being read."""

    HEAD = "HEAD"  # no final response yet
    START = "START"  # status 200, nothing but byte order marks and blank space so far
    TEXT = "TEXT"  # the body has begun, without a data line so far
    PAGE = "PAGE"  # the same, and it began with "<"
    STREAM = "STREAM"  # the body is an event stream
    JSON = "JSON"  # the body is one JSON object
    REFUSAL = "REFUSAL"  # a status other than 200: its text is collected
    DONE = "DONE"  # the terminal event was given


@final
class Input(StrEnum):
    """What can happen to a response."""

    INTERIM = "1xx head"
    HEAD = "200 head"
    REFUSAL = "other head"
    BRACE = "body begins with a brace"
    TAG = "body begins with <"
    OTHER = "body begins with another byte"
    DATA = "data"
    DATA_LINE = "data line"
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
            Input.TAG: State.PAGE,
            Input.OTHER: State.TEXT,
            Input.TERMINAL: State.DONE,
        },
        State.TEXT: {Input.DATA: State.TEXT, Input.DATA_LINE: State.STREAM, Input.TERMINAL: State.DONE},
        State.PAGE: {Input.DATA: State.PAGE, Input.DATA_LINE: State.STREAM, Input.TERMINAL: State.DONE},
        State.STREAM: {Input.DATA: State.STREAM, Input.TERMINAL: State.DONE},
        State.JSON: {Input.DATA: State.JSON, Input.TERMINAL: State.DONE},
        State.REFUSAL: {Input.DATA: State.REFUSAL, Input.TERMINAL: State.DONE},
        State.DONE: {},
    },
)
# Looking up a global is much faster than looking up a member of an enum.
_HEAD, _START, _TEXT, _PAGE, _STREAM, _JSON, _REFUSAL, _DONE = State
_OK_HEAD, _DATA, _DATA_LINE, _OTHER = Input.HEAD, Input.DATA, Input.DATA_LINE, Input.OTHER
_BEGINNINGS = {ord("{"): Input.BRACE, ord("<"): Input.TAG}


@final
class ReplyDecoder:
    """Decodes the response to one submit: HTTP goes in as values, events come out.

    The events are always `Live* (End | Broken)`. After the terminal event every
    input returns []. The peer's faults are `Broken`, never exceptions.
    """

    def __init__(self, limits: Limits = Limits()) -> None:
        self._sse = SSEDecoder(limits, mend=True)
        self._limits = limits
        self._state = _HEAD
        self._interim = 0
        self._status = 0
        self._headers: list[tuple[str, str]] = []  # for a refusal
        self._room = limits.reply_bytes  # how many more bytes of the body are allowed
        # A partial byte order mark; a JSON body; the beginning of a refusal, a page or a text without data lines.
        self._text = bytearray()
        self.new_token: Any = None
        """The fresh nonce in an end payload (WIRE 3.4), kept so that the payload is parsed once."""
        self._error_pending = False  # an error event came without a message; a later one may have it

    def __repr__(self) -> str:
        """The state."""
        return f"<ReplyDecoder {self._state}>"

    # ---------------------------------------------------------------- inputs

    def receive_head(self, status: int, headers: Headers) -> list[Event]:
        """Take the status and header fields of a response; 1xx responses may come first.

        They must describe the bytes that follow: if the driver decompresses the
        body, it leaves out Content-Encoding and Content-Length. Raises
        `LocalProtocolError` after a final head, `TypeError` for wrong types.
        """
        return self._receive_head(status, decode_head(status, headers))

    def _receive_head(self, status: int, fields: list[tuple[str, str]]) -> list[Event]:
        """Like `receive_head`, with decoded fields."""
        if self._state is _DONE:
            return []
        interim = 100 <= status < 200
        given = Input.INTERIM if interim else _OK_HEAD if status == 200 else Input.REFUSAL
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
        names = dict(fields)
        if "transfer-encoding" in names and "content-length" in names:
            # RFC 9112, 6.3: this allows request smuggling.
            return [self._judge_end_of_body("Content-Length together with Transfer-Encoding", Reason.TRUNCATED)]
        if status == 200 and "content-encoding" in names and (coding := _coding(fields)):
            # We asked for identity, and decompress nothing: some bodies that claim gzip are plain text (WIRE 13).
            return [self._malformed(f"the body is coded as {coding}, though identity was asked for")]
        return []

    def receive_data(self, data: bytes | bytearray | memoryview) -> list[Event]:
        """Take bytes of the body. Raises `LocalProtocolError` before the head, `TypeError` if not bytes-like."""
        if type(data) is not bytes:
            data = memoryview(data).tobytes()
        if self._state is not _STREAM or len(data) > self._room or (texts := self._sse.receive_plain(data)) is None:
            return self._receive(data)
        self._room -= len(data)
        return self._judge_texts(texts) if texts else []

    def _receive(self, data: bytes) -> list[Event]:
        size = len(data)
        if size > BLOCK:
            blocks = (data[start : start + BLOCK] for start in range(0, size, BLOCK))
            return [event for block in blocks for event in self._receive(block)]
        if self._state is _DONE or not size:
            return []
        self._state = TABLE.next(self._state, _DATA)
        if self._state is _REFUSAL:
            self._text += data[: self._limits.refusal_bytes - len(self._text)]
            return [self._refused()] if len(self._text) == self._limits.refusal_bytes else []
        within = data[: self._room]
        self._room -= len(within)
        if self._state is _STREAM:
            events = self._read_stream(within)
        elif self._state is _START:
            events = self._read_start(within)
        elif self._state is _JSON:
            events = self._read_json(within)
        else:
            events = self._read_text(within)
        if len(within) < size and self._state is not _DONE:
            events.append(self._too_large("reply_bytes", "bytes in the whole reply"))
        return events

    def receive_eof(self) -> list[Event]:
        """The body has ended as HTTP says it should. Before the head: the connection was closed."""
        if self._state is _HEAD:
            return [self._end(Broken(Reason.LOST, "the connection was closed before any answer"))]
        return [] if self._state is _DONE else [self._judge_end_of_body(None, Reason.TRUNCATED)]

    def receive_failure(self, detail: str, reason: Reason = Reason.LOST, *, limit: str | None = None) -> list[Event]:
        """The response cannot go on. `detail` tells a person what happened; `limit` becomes `Broken.limit`.

        LOST becomes TRUNCATED once the answer has begun. A refusal stays REFUSED,
        with the text that came. A complete JSON object is judged as if nothing
        had failed. Always legal; raises `TypeError` for wrong types.
        """
        check_failure(detail, reason)
        if self._state is _DONE:
            return []
        if reason is Reason.LOST and self._state is not _HEAD:
            reason = Reason.TRUNCATED
        event = self._judge_end_of_body(encodable(detail), reason)
        # A refusal or a complete object has not failed.
        return [replace(event, limit=limit) if isinstance(event, Broken) and event.reason is reason else event]

    # ---------------------------------------------------------------- reading

    def _read_start(self, block: bytes) -> list[Event]:
        body = bytes(self._text) + block
        front = _FRONT.match(body)
        assert front is not None
        body = body[front.end() :]
        if _BOM.startswith(body):
            self._text = bytearray(body)
            return []
        self._text = bytearray()
        self._state = TABLE.next(self._state, _BEGINNINGS.get(body[0], _OTHER))
        return self._read_json(body) if self._state is _JSON else self._read_text(body)

    def _read_json(self, block: bytes) -> list[Event]:
        self._text += block
        if len(self._text) > self._limits.event_bytes:
            return [self._too_large("event_bytes", "bytes in one JSON body")]
        return []

    def _read_text(self, block: bytes) -> list[Event]:
        """Read a text, a page, or PHP notices before the first event."""
        room = self._limits.refusal_bytes - len(self._text)
        # A page is judged after a fixed number of bytes, however they were cut.
        is_decided = self._state is _PAGE and len(block) >= room
        events = self._read_stream(block[:room] if is_decided else block)
        if self._state is _DONE:
            return events
        # An unfinished line is examined once, when it decides, and not with each of its pieces.
        if (is_decided or b"\n" in block or b"\r" in block) and self._sse.data_seen:
            self._state = TABLE.next(self._state, _DATA_LINE)
            self._text = bytearray()
            return events + self._read_stream(block[room:]) if is_decided else events
        self._text += block[:room]
        return [*events, self._judge_end_of_body(None, Reason.TRUNCATED)] if is_decided else events

    def _read_stream(self, block: bytes) -> list[Event]:
        if (texts := self._sse.receive_plain(block)) is not None:
            return self._judge_texts(texts)
        events = self._judge_texts(self._sse.receive_exact(block))
        if self._sse.overflowed and self._state is not _DONE:
            events.append(self._too_large("event_bytes", "bytes in one event"))
        return events

    def _judge_texts(self, texts: Iterable[str]) -> list[Event]:
        events: list[Event] = []
        for text in texts:
            if text.startswith(_PLAIN_LIVE):
                # The fast path: the same result as `_judge_event`, for an event in the plugin's spelling.
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
            if (payload := _plain_end(text)) is not None:
                text = text[:SHOWN]  # the event can be large, and its payload is a copy
                judged: Event | None = self._judge_end({"data": payload}, text)
            else:
                judged = self._judge_event(text)
            if judged is not None:
                events.append(judged)
                if type(judged) is not Live:
                    return events
        return events

    # ---------------------------------------------------------------- judging

    def _judge_event(self, data: str) -> Event | None:
        if not data.strip("\n"):
            return Live("", "unreadable")  # json_encode failed on the server (WIRE 5.7)
        try:
            event = decode(data, self._limits.json_depth, unique=_EVENT_KEYS)
        except ValueError:
            return self._malformed(f"an event that is not JSON: {data[:SHOWN]}")
        kind = event.get("type") if isinstance(event, dict) else None
        if not isinstance(kind, str):
            return self._malformed(f"an event without a type: {data[:SHOWN]}")
        content = event.get("data")
        if kind == "live":
            if not isinstance(content, str):
                return self._malformed(f"a live event without text: {data[:SHOWN]}")
            subtype = event.get("subtype")
            if subtype is None or subtype == "":
                return Live(content)
            return Live(content, subtype) if isinstance(subtype, str) else Live(content, "unknown", data)
        if kind == "error":
            message = _message(content)
            if message:
                return self._end(Broken(Reason.REMOTE, message))
            self._error_pending = True  # WIRE 5.7: of two error events the first can be empty
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
                return self._malformed(f"an end event whose payload is not JSON: {line[:SHOWN]}")
        else:
            raw = json.dumps(content)
        if not isinstance(content, dict):
            return self._malformed(f"an end event without a payload: {line[:SHOWN]}")
        return self._judge_payload(content, raw)

    def _judge_payload(self, payload: dict[str, Any], raw: str) -> Event:
        match payload.get("success"):
            case True:
                reply = payload.get("reply")
                self.new_token = payload.get("new_token")
                return self._end(End(reply if isinstance(reply, str) else None, raw))
            case False:
                return self._end(Broken(Reason.REMOTE, without_tags(_message(payload.get("message"))), raw=raw))
            case _:
                said = without_tags(_message(payload.get("message"))) or raw[:SHOWN]
                return self._malformed(f"a JSON object without success: {said}", code=_code(payload), raw=raw)

    def _judge_end_of_body(self, failure: str | None, reason: Reason) -> Event:
        """The body has ended, or failed, without a terminal event."""
        self._sse.receive_eof()
        match self._state:
            case State.REFUSAL:
                return self._refused(failure)
            case State.JSON:
                return self._judge_object(failure, reason)
            case State.TEXT | State.PAGE | State.START:
                return self._judge_text(failure, reason)
            case _:
                return self._unended(failure, reason)

    def _judge_object(self, failure: str | None, reason: Reason) -> Event:
        text, self._text = self._text.decode("utf-8", "replace"), bytearray()
        try:
            payload, raw = decode_prefix(text, self._limits.json_depth)
        except Unfinished:
            return self._end(Broken(reason, failure or "the answer breaks off inside its JSON object"))
        except ValueError:
            return self._malformed(f"a body that is not JSON: {text[:SHOWN]}")
        return self._judge_payload(payload, raw)

    def _judge_text(self, failure: str | None, reason: Reason) -> Event:
        if self._sse.data_seen:
            return self._unended(failure, reason)
        text, self._text = self._text.decode("utf-8", "replace"), bytearray()
        if found := self._find_object(text):
            return self._judge_payload(*found)
        if self._state is _PAGE:
            page = f"a web page, not a chat answer: {beginning(text)}"
            if failure is None:
                return self._end(Broken(Reason.MALFORMED, page, raw=text))
            return self._end(Broken(reason, f"{failure}; it began as {page}", raw=text))
        # A partial byte order mark or data line is not text: the body was cut there, though HTTP ended cleanly.
        if failure is None and self._state is _TEXT and not "data:".startswith(text):
            return self._end(Broken(Reason.MALFORMED, f"not a chat answer: {beginning(text)}", raw=text))
        return self._unended(failure, reason)

    def _unended(self, failure: str | None, reason: Reason) -> Event:
        if self._error_pending:
            return self._end(Broken(Reason.REMOTE))
        return self._end(Broken(reason, (failure or "the answer ended without its end event") + self._hint()))

    def _refused(self, failure: str | None = None) -> Event:
        coding = _coding(self._headers)
        raw = "" if coding else self._text.decode("utf-8", "replace").lstrip("\ufeff \t\n\r\v\f")
        detail, code = beginning(raw), None
        if found := self._find_object(raw):
            payload, raw = found
            detail = without_tags(_message(payload.get("message"))) or detail
            code = _code(payload)
        location = self._header("location")
        if location and 300 <= self._status < 400:
            detail = f"redirected to {location[:SHOWN]}, which is not followed{f': {detail}' if detail else ''}"
        what = f"a body coded as {coding}" if coding else "no text"
        detail = detail or f"status {self._status} and {what}{f' ({failure})' if failure else ''}"
        retry_after = _retry_after(self._header("retry-after"), self._header("date"))
        return self._end(Broken(Reason.REFUSED, detail, self._status, code, retry_after, raw))

    def _find_object(self, text: str) -> tuple[dict[str, Any], str] | None:
        """The JSON object that the text is, or else the last one after PHP notices, with its own text; else None."""
        found: tuple[dict[str, Any], str] | None = None
        if text.startswith("{"):
            with suppress(ValueError):
                found = decode_prefix(text, self._limits.json_depth)
        if found is not None and ("success" in found[0] or "code" in found[0]):
            return found
        return find_last(text, _OBJECT, self._limits.json_depth) or found

    def _malformed(self, detail: str, *, code: str | None = None, raw: str = "") -> Broken:
        return self._end(Broken(Reason.MALFORMED, detail + self._hint(), code=code, raw=raw))

    def _too_large(self, limit: str, what: str) -> Broken:
        detail = f"more than {getattr(self._limits, limit)} {what} (Limits.{limit})"
        return self._end(Broken(Reason.TOO_LARGE, detail, limit=limit))

    def _end(self, event: _E) -> _E:
        self._state = TABLE.next(self._state, Input.TERMINAL)
        self._text = bytearray()
        self._sse.receive_eof()  # releases its buffers
        return replace(event, detail=mask(event.detail)) if isinstance(event, Broken) else event

    def _hint(self) -> str:
        line = self._sse.first_ignored_line
        return "" if line is None else f"; a line that is not an event: {line}"

    def _header(self, name: str) -> str:
        return next((value for key, value in self._headers if key == name), "")


def _coding(headers: list[tuple[str, str]]) -> str:
    codings = [value.lower() for key, value in headers if key == "content-encoding"]
    codings = [coding.strip() for coding in ",".join(codings).split(",")]
    return ", ".join(coding for coding in codings if coding in _CODINGS)


def _plain_subtype(text: str, start: int, depth: int) -> str | None:
    """The subtype of a live event in the plugin's own spelling, else None. `start` is just after its text."""
    rest = _PLAIN_OBJECT.match(text, start)
    if rest is None:
        return None
    subtype, metadata = rest.groups()
    end = skip_short(text, rest.end(), depth - 1) if metadata else rest.end()
    return subtype if end == len(text) - 1 and text[end] == "}" else None


def _plain_end(text: str) -> str | None:
    """The payload of an end event in the plugin's own spelling, else None. It skips the search for repeated keys."""
    if not text.startswith(_PLAIN_END):
        return None
    try:
        payload, end = scan_string(text, len(_PLAIN_END))
    except ValueError:
        return None
    return encodable(payload) if text[end:] == "}" else None


def _message(value: Any) -> str:
    """An error message as text, whatever its JSON type."""
    if value is None or value is False:
        return ""
    return value if isinstance(value, str) else json.dumps(value)


def _code(payload: dict[str, Any]) -> str | None:
    code = payload.get("code")
    return mask(code) if isinstance(code, str) else None


def _retry_after(value: str, date: str) -> int | None:
    """Retry-After in seconds (RFC 9110, 10.2.3)."""
    if re.fullmatch("[0-9]{1,9}", value):
        return int(value)
    now = read_date(date)
    until = read_date(value, now)
    return None if until is None or now is None else max(0, int((until - now).total_seconds()))
