"""Bodies and HTTP responses, with the events that belong to them."""

import json
from dataclasses import replace
from functools import cache
from typing import Any, NamedTuple, TypeAlias

from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, SearchStrategy

from .._events import Broken, End, Event, Live, Reason
from .._session import SESSION_COOKIE
from ._values import SUBTYPES, Payload, cuts, end, payloads, texts

__all__ = ["Body", "FaultyBody", "HTTPResponse", "bodies", "faulty_bodies", "responses"]


class Body(NamedTuple):
    """A body and its events."""

    data: bytes
    events: list[Event]


class FaultyBody(NamedTuple):
    """A faulty body, the events before its fault, and the reason of the `Broken`."""

    data: bytes
    events: list[Event]
    """The events before the `Broken`."""
    reason: Reason


class HTTPResponse(NamedTuple):
    """An HTTP response with status 200, and its events."""

    data: bytes
    """Every byte that the server sends before it closes the connection; 1xx responses come first."""
    headers: list[tuple[str, str]]
    """The header fields of the final response."""
    body: bytes
    """The body without transfer coding, as an HTTP library returns it."""
    events: list[Event]
    """The events of a machine that has sent the question: `asked` is set in an error that the server reports."""


_Block: TypeAlias = tuple[list[bytes], Event | None]
"""Lines, without the blank line that closes them, and their events."""

_BOM = b"\xef\xbb\xbf"
# Never CR and LF as the only two: together they are one line end.
_LINE_ENDS = ([b"\n"], [b"\r\n"], [b"\r"], [b"\n", b"\r\n"], [b"\r", b"\r\n"])
_NO_EVENT = (  # lines without meaning, anywhere in a stream
    *(b": keepalive", b":", b"event: end", b"event", b"id: 7", b"id", b"retry: 10", b"retry: +5", b"Data: x", b"dat"),
    *(b"<br />", b"<b>Warning</b>:  Undefined variable in <b>/a.php</b> on line <b>7</b><br />", b"\xff", b"x data: x"),
    *(_BOM + b": keepalive", b"<p>data: x</p>"),
)
_FRONTS = (b"", _BOM, b"\n\n", b" \r\n", b"\n" + _BOM + b"\t" + _BOM)  # stray bytes that PHP files print first
_AFTERWARDS = (b"", b"<!-- cached -->", b": keepalive\n\n", b'{"success":true,"reply":null}', b"data: {", b"\0")


def bodies() -> SearchStrategy[Body]:
    """The body of a complete answer, and its events.

    An event stream in the dialect of 2023 or of today, with every kind of line
    end, byte order marks, comments, PHP notices, unknown fields, data of no line or
    several, event objects with a subtype, error events, and every form of end
    event; or one JSON object. Never truncated or malformed: the last event is an
    `End`, or an error that the server reports.
    """
    return _streams() | _objects()


@st.composite
def _streams(draw: DrawFn) -> Body:
    line_ends = st.sampled_from(draw(st.sampled_from(_LINE_ENDS)))
    blocks = [*draw(_blocks()), draw(_last_blocks())]
    data = bytearray(draw(st.sampled_from(_FRONTS)))
    for lines, _ in blocks:
        for line in (*draw(_noise()), *lines, *draw(_noise()), b""):
            if line.startswith(b'data: {"type":"'):
                data += draw(st.sampled_from([b"", b"", _BOM, b"<p>Oh</p></div>"]))  # has no line end
            data += line + draw(line_ends)
    data += draw(st.sampled_from(_AFTERWARDS))
    return Body(bytes(data), [event for _, event in blocks if event is not None])


@st.composite
def _objects(draw: DrawFn) -> Body:
    raw, event = draw(_judged_payloads())
    before = draw(st.sampled_from(_FRONTS))
    if raw.startswith('{"success":'):
        before += draw(
            st.sampled_from([b"", b"<br />\n<b>Warning</b>:  Undefined {x}<br />\n", b"</div>", b"Notice: "])
        )
    after = draw(st.sampled_from([b"", b"\n", b"<!-- cached -->", b"{", b"\xff"]))
    return Body(before + raw.encode() + after, [event])


def faulty_bodies() -> SearchStrategy[FaultyBody]:
    """A faulty body, with the events before the fault and the reason: MALFORMED or TRUNCATED.

    An event stream that ends before or inside its end event; one with an event
    that is not JSON or not part of this protocol; a web page; a JSON object that
    is truncated or has no `success`. Never an error that the server reports (see
    `bodies()`), and nothing that exceeds a limit.
    """
    return _streams_cut() | _streams_spoilt() | _objects_cut() | _pages()


# Events that this protocol does not have (WIRE 5.3 to 5.6): any of these lines ends the reply as MALFORMED.
_NO_ANSWERS = (
    *("[DONE]", "{", '{"type":"live","data":"a"', '{"type":"live","data":"a",}', "{'type':'live'}", "NaN", "<b>"),
    *(
        '"live"',
        "5",
        "null",
        "[]",
        "{}",
        '{"data":"a"}',
        '{"type":5,"data":"a"}',
        '{"type":"live","type":"live","data":""}',
    ),
    *('{"type":"live"}', '{"type":"live","data":5}', '{"type":"live","data":null}', '{"type":"live","data":{}}'),
    *('{"type":"end"}', '{"type":"end","data":true}', '{"type":"end","data":""}', '{"type":"end","data":"[]"}'),
    *(
        '{"type":"end","data":"{}"}',
        '{"type":"end","data":{"success":1}}',
        '{"type":"end","data":"{\\"success\\":true"}',
    ),
)


@st.composite
def _streams_begun(draw: DrawFn) -> tuple[bytes, list[Event], SearchStrategy[bytes]]:
    """The first blocks of a stream, their events, and the line ends of the stream."""
    line_ends = st.sampled_from(draw(st.sampled_from(_LINE_ENDS)))
    data = draw(st.sampled_from([b"", _BOM]))
    events: list[Event] = []
    for lines, event in draw(st.lists(_live_blocks(), max_size=4)):
        assert event is not None
        # No noise before the first event: a body that begins with HTML counts as a page.
        for line in (*lines, *draw(_noise()), b""):
            data += line + draw(line_ends)
        events.append(event)
    return data, events, line_ends


@st.composite
def _streams_cut(draw: DrawFn) -> FaultyBody:
    data, events, line_ends = draw(_streams_begun())
    lines, _ = draw(_live_blocks() | _last_blocks())
    last = b"".join(line + draw(line_ends) for line in lines)  # without the blank line that closes it
    data += last[: draw(st.integers(0, len(last)))]
    return FaultyBody(data, events, Reason.TRUNCATED)


@st.composite
def _streams_spoilt(draw: DrawFn) -> FaultyBody:
    data, events, line_ends = draw(_streams_begun())
    for line in (b"data: " + draw(st.sampled_from(_NO_ANSWERS)).encode(), b""):
        data += line + draw(line_ends)
    return FaultyBody(data + draw(st.sampled_from(_AFTERWARDS)), events, Reason.MALFORMED)


@st.composite
def _objects_cut(draw: DrawFn) -> FaultyBody:
    raw, _ = draw(_judged_payloads())
    before = draw(st.sampled_from([b"", _BOM, b"\n\n"]))
    if draw(st.booleans()):
        whole = raw.encode()
        return FaultyBody(before + whole[: draw(st.integers(1, len(whole) - 1))], [], Reason.TRUNCATED)
    text = draw(st.sampled_from(["{}", '{"success":null}', '{"success":"true"}', "{success:true}", '{"code":"a"}']))
    return FaultyBody(before + text.encode(), [], Reason.MALFORMED)


@st.composite
def _pages(draw: DrawFn) -> FaultyBody:
    title = draw(texts()).replace("\n", " ").replace("\r", " ")  # "data:" at a line's start would make it a stream
    before = draw(st.sampled_from(["", "\n\n", "\ufeff"]))
    page = f"{before}<!DOCTYPE html><html><head><title>{title}</title></head><body>Hello</body></html>"
    return FaultyBody(page.encode(), [], Reason.MALFORMED)


@cache
def _noise() -> SearchStrategy[list[bytes]]:
    return st.lists(st.sampled_from(_NO_EVENT), max_size=2)


@cache
def _blocks() -> SearchStrategy[list[_Block]]:
    return st.lists(_live_blocks() | _silent_blocks(), max_size=5)


@cache
def _live_blocks() -> SearchStrategy[_Block]:
    return _lines_of(_live_objects()) | st.sampled_from(
        [
            ([b"data: "], Live("", "unreadable")),
            ([b"data", b"data:"], Live("", "unreadable")),
            ([b'data: {"type":"live","data":"cut \\ud83d"}'], Live("cut \ufffd")),
            ([b'data: {"type":"live","data":"\xff"}'], Live("\ufffd")),
        ]
    )


@cache
def _silent_blocks() -> SearchStrategy[_Block]:
    """Blocks without an event: noise, or an error without a message, which waits for the next (WIRE 5.7)."""
    return st.just(([], None)) | _lines_of(
        st.sampled_from([({"type": "error", "data": nothing}, None) for nothing in ("", None, False)])
    )


@cache
def _last_blocks() -> SearchStrategy[_Block]:
    unwritten = [({"type": "end", "data": nothing}, End(None)) for nothing in (False, None)]
    others: tuple[Any, ...] = (0, True, {"a": []})
    no_text = [({"type": "error", "data": it}, Broken(Reason.REMOTE, json.dumps(it))) for it in others]
    return _lines_of(
        _judged_payloads().map(lambda judged: ({"type": "end", "data": judged[0]}, judged[1]))
        # If the payload is an object instead of a string, the decoder encodes it again.
        | payloads().map(lambda payload: ({"type": "end", "data": payload}, end(payload, json.dumps(payload))))
        | texts().map(lambda text: ({"type": "error", "data": text}, Broken(Reason.REMOTE, text)))
        | st.sampled_from([*unwritten, *no_text])
    )


@cache
def _live_objects() -> SearchStrategy[tuple[Payload, Event | None]]:
    today = {"timestamp": 1751412345.125, "visibility": "visible", "metadata": {"count": 2}}
    subtypes = st.sampled_from(SUBTYPES) | texts().filter(lambda text: text not in ("", "content"))

    def piece(text: str) -> tuple[Payload, Event]:
        return {"type": "live", "data": text}, Live(text)

    def piece_of_today(text: str, subtype: str | None) -> tuple[Payload, Event]:
        return {"type": "live", "data": text, "subtype": subtype, **today}, Live(text)

    def no_piece(text: str, subtype: str) -> tuple[Payload, Event]:
        return {"type": "live", "data": text, "subtype": subtype, **today}, Live(text, subtype)

    def of_no_kind(text: str, subtype: object) -> tuple[Payload, Event]:
        return {"type": "live", "data": text, "subtype": subtype}, Live(text, "unknown")

    def of_no_type(data: object, name: str) -> tuple[Payload, Event]:
        return {"type": name, "data": data}, Live(data if isinstance(data, str) else "", "unknown")

    return (
        st.builds(piece, texts())
        | st.builds(piece_of_today, texts(), st.sampled_from([None, "", "content"]))
        | st.builds(no_piece, texts(), subtypes)
        | st.builds(of_no_kind, texts(), st.sampled_from([7, False, ["status"]]))
        | st.builds(of_no_type, texts() | st.sampled_from([None, 7, {}]), st.sampled_from(["", "ping", "reply"]))
    )


@st.composite
def _lines_of(draw: DrawFn, objects: SearchStrategy[tuple[Payload, Event | None]]) -> _Block:
    value, event = draw(objects)
    text = draw(_written(value))
    if isinstance(event, Live) and event.kind == "unknown":
        event = replace(event, raw=text)
    lines = text.split("\n")  # several data lines are one text (WHATWG 9.2.6); the plugin's script fails here
    # A space after the colon is not part of the data, so a line that begins with a space needs another.
    bare = draw(st.booleans()) and not any(line.startswith(" ") for line in lines)
    return [(b"data:" if bare else b"data: ") + line.encode() for line in lines], event


def _written(value: Payload) -> SearchStrategy[str]:
    """The object in the spelling of PHP, a browser or Python, or on several lines."""
    return st.sampled_from(
        [
            json.dumps(value, separators=(",", ":")).replace("/", "\\/"),
            json.dumps(value, separators=(",", ":"), ensure_ascii=False),
            json.dumps(value),
            json.dumps(value, indent=1),
        ]
    )


@st.composite
def _judged_payloads(draw: DrawFn) -> tuple[str, Event]:
    """The text of an end payload, and the event it gives."""
    if draw(st.booleans()):
        payload = draw(payloads())
        raw = draw(_written(payload))
        return raw, end(payload, raw)
    message = draw(texts()).replace("<", "")  # tags are removed from messages
    raw = draw(_written({"success": False, "message": message}))
    return raw, Broken(Reason.REMOTE, message, raw=raw)


@st.composite
def responses(draw: DrawFn) -> HTTPResponse:
    """The HTTP response around a body of `bodies()`, with every version, framing and kind of header field.

    The status is always 200, and the framing valid. The close may delimit the
    body, so report the end after the bytes.
    """
    body, expected = draw(bodies())
    headers = draw(st.lists(st.sampled_from(_HEADERS), max_size=4))
    version = draw(st.sampled_from(["1.1", "1.0"]))
    data = b""
    if version == "1.1":
        data = b"".join(draw(st.lists(st.sampled_from(_INTERIM), max_size=3)))
    match draw(st.sampled_from(["close", "length", "chunked"])):
        case "length":
            headers.append(("Content-Length", str(len(body))))
            content = body
        case "chunked" if version == "1.1":
            headers.append(("transfer-encoding", "chunked"))
            content = draw(_chunked(body))
        case _:
            content = body
    lines = [f"HTTP/{version} 200 OK", *(f"{name}: {value}" for name, value in headers), "", ""]
    *pieces, last = expected
    if isinstance(last, Broken):
        last = replace(last, asked=True)
    return HTTPResponse(data + "\r\n".join(lines).encode() + content, headers, body, [*pieces, last])


_HEADERS = (
    ("Content-Type", "text/event-stream;charset=UTF-8"),
    ("content-type", "application/json; charset=UTF-8"),
    ("CONTENT-TYPE", "text/html; charset=ISO-8859-1"),
    ("Content-Encoding", "identity"),
    ("Connection", "close"),
    ("Set-Cookie", f"{SESSION_COOKIE}=6b02fc304cdb0; path=/; HttpOnly"),
    ("X-WP-Nonce", "0b2576d756"),
    ("X-Empty", ""),
)
_INTERIM = (b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\nX-A: b\r\n\r\n")


@st.composite
def _chunked(draw: DrawFn, body: bytes) -> bytes:
    # RFC 9112, 7.1: hex digits in either case, with leading zeros; extensions and trailers, which are ignored.
    size = draw(st.sampled_from(["{:x}", "{:X}", "{:04x}", "{:x};a=b"]))
    chunks = [size.format(len(piece)).encode() + b"\r\n" + piece + b"\r\n" for piece in draw(cuts(body)) if piece]
    return b"".join(chunks) + b"0\r\n" + draw(st.sampled_from([b"", b"X-After: 1\r\n"])) + b"\r\n"
