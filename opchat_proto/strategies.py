"""Hypothesis strategies for this protocol: its values, its bodies with the events they stand for, and ways to cut them.

    from opchat_proto import strategies

    @given(st.data(), strategies.responses())
    def test_my_wrapper(data, response):
        assert my_wrapper(data.draw(strategies.cuts(response.data))) == response.events

Needs the extra `fuzz`. With the distribution installed, Hypothesis imports this
module by itself, so that `st.from_type(Live)` works without an import.
"""

import json
import math
import threading
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from itertools import pairwise
from typing import Any, NamedTuple, TypeAlias

from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, SearchStrategy

from ._call import Channel
from ._clocks import Timeouts
from ._errors import LocalProtocolError
from ._events import Broken, End, Event, Live, Reason
from ._flow import SESSION_ROUTE, SUBMIT_ROUTE, Awaiting, Flow
from ._http import Endpoint, Request
from ._limits import Limits
from ._messages import ROLES, Message, Scalar, Submit
from ._session import SESSION_COOKIE, Session
from ._sse import ServerSentEvent
from ._steps import Connect, Done, Receive, Send, StartTLS, Wait
from ._tunnel import Proxy

__all__ = [
    "Body",
    "FaultyBody",
    "Response",
    "bodies",
    "call_rules",
    "client_rules",
    "cuts",
    "endpoints",
    "events",
    "faulty_bodies",
    "limits",
    "messages",
    "replies",
    "responses",
    "scripts",
    "sessions",
    "submits",
    "texts",
]


class Body(NamedTuple):
    """A body and what it stands for."""

    data: bytes
    events: list[Event]


class FaultyBody(NamedTuple):
    """A body that is no complete answer: the pieces before its fault, and why the reply is `Broken`."""

    data: bytes
    events: list[Event]
    """What comes before the `Broken`."""
    reason: Reason


class Response(NamedTuple):
    """An HTTP response with status 200 and what it stands for."""

    data: bytes
    """All of it, as the server sends it before it closes the connection; 1xx responses come first."""
    headers: list[tuple[str, str]]
    """The header fields of the final response."""
    body: bytes
    """The body without transfer coding: what an HTTP library gives."""
    events: list[Event]
    """What comes out of a machine that has asked: the server's own error has `asked` set."""


# ---------------------------------------------------------------- values

# Hypothesis takes longer to make a strategy than to draw from it, so those that draws need are made once: `@cache`.

# What someone's splitter, parser or escaping has stumbled over: line ends that are none for an event stream, byte order
# marks, markup, and texts that look like the protocol itself.
_AWKWARD = (
    *("\n", "\r", "\r\n", "  \n", "\0", "\x0b", "\x1c", "\x7f", "\x85", "\u2028", "\ufeff", "\ufffd"),
    *("é", "🚉", "/", '"', "\\", "\\n", "\\ud83d", "&lt;", "<b>", "data: ", "data: {}\n\n", ": ", "{", "[DONE]", "0"),
)


def texts() -> SearchStrategy[str]:
    """Any text, awkward pieces included. Never half a surrogate pair: it always encodes to UTF-8."""
    return st.lists(st.text(max_size=20) | st.sampled_from(_AWKWARD), max_size=4).map("".join)


def messages() -> SearchStrategy[Message]:
    """A turn of a conversation. Never a role other than "user", "assistant" and "system"."""
    return st.builds(Message, st.sampled_from(ROLES), texts())


def submits() -> SearchStrategy[Submit]:
    """A question with any of its parts. Never one that a server refuses unread: a blank one, or one to no bot."""
    return st.builds(
        Submit,
        new_message=st.builds("{}{}{}".format, texts(), st.sampled_from("?é🚉"), texts()),
        messages=st.lists(messages(), max_size=4).map(tuple),
        chat_id=_maybe(texts()),
        bot_id=st.just("default") | _scalars(),
        custom_id=_maybe(_scalars()),
        context_id=_maybe(_scalars()),
        file_ids=st.lists(texts(), max_size=3).map(tuple),
        stream=st.booleans(),
        shortcut_id=_maybe(texts()),
        shortcut_name=_maybe(texts()),
        previous_response_id=_maybe(texts()),
    )


def sessions() -> SearchStrategy[Session]:
    """A guest's or a member's session, with or without each of its parts. Never one that belongs to a site already."""
    guest = st.builds(f"{SESSION_COOKIE}={{}}".format, _tokens())
    member = st.builds("wordpress_logged_in_0={}".format, _tokens())
    cookie = st.just("") | guest | member | st.builds("{}; {}".format, member, guest)
    return st.builds(Session, _maybe(_tokens()), _maybe(_tokens()), cookie)


def endpoints() -> SearchStrategy[Endpoint]:
    """A site by http or https, anywhere on its host, with any kind of permalinks. Never a renamed "wp-json"."""
    return st.builds(
        "{}://{}{}{}{}".format,
        st.sampled_from(["http", "https"]),
        st.sampled_from(["site.example", "xn--bcher-kva.example", "127.0.0.1", "[::1]"]),
        st.just("") | st.integers(1, 65535).map(":{}".format),
        st.sampled_from(["", "/blog", "/a/b"]),
        st.sampled_from(["", "/wp-json", "/index.php/wp-json", "/index.php?rest_route="]),
    ).map(Endpoint.parse)


def limits() -> SearchStrategy[Limits]:
    """Limits, each at its default or so small that a short answer meets it. Never a small `request_bytes`."""
    small = st.integers(1, 300)
    return st.fixed_dictionaries(
        {},
        optional={
            "head_bytes": small,
            "headers": st.integers(1, 8),
            "interim_responses": st.integers(0, 3),
            "event_bytes": small,
            "reply_bytes": small,
            "refusal_bytes": small,
            "json_depth": st.integers(1, 4),
            "restarts": st.integers(0, 1),
        },
    ).map(lambda values: Limits(**values))


def events() -> SearchStrategy[Event]:
    """Any one event of a reply. Never an `End` whose `raw` is no payload."""
    return _lives() | _terminals()


def replies() -> SearchStrategy[list[Event]]:
    """A whole reply: any number of `Live`, then exactly one `End` or `Broken`."""
    pieces: SearchStrategy[list[Event]] = st.lists(_lives(), max_size=5)
    return st.builds(lambda before, last: [*before, last], pieces, _terminals())


def _maybe(strategy: SearchStrategy[Any]) -> SearchStrategy[Any]:
    return st.none() | strategy


@cache
def _tokens() -> SearchStrategy[str]:
    """What `Session` takes as a nonce or a session id."""
    return st.text([chr(code) for code in range(0x21, 0x7F) if chr(code) not in ",;"], min_size=1, max_size=13)


def _scalars() -> SearchStrategy[Scalar]:
    return st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts().filter(bool)


_SUBTYPES = ("status", "thinking", "tool_call", "mcp_tool_result", "embeddings", "debug", "start", "end", "error")


@cache
def _lives() -> SearchStrategy[Live]:
    return (
        st.builds(Live, texts())
        | st.builds(Live, texts(), st.sampled_from(_SUBTYPES))
        | st.just(Live("", "unreadable"))
        | texts().map(lambda text: Live(text, "unknown", json.dumps({"type": "ping", "data": text})))
    )


@cache
def _terminals() -> SearchStrategy[End | Broken]:
    # Not `st.from_type`: a user may have registered something else for `End`.
    return _ends() | _brokens()


@cache
def _ends() -> SearchStrategy[End]:
    return st.builds(End, _maybe(texts())) | _payloads().map(lambda payload: _end(payload, json.dumps(payload)))


@cache
def _brokens() -> SearchStrategy[Broken]:
    circumstances: dict[str, SearchStrategy[Any]] = {
        "limit": st.sampled_from([None, "idle", "event_bytes"]),
        "in_session": st.booleans(),
        "asked": st.booleans(),
    }
    return st.builds(Broken, st.sampled_from(Reason), texts(), **circumstances) | st.builds(
        Broken,
        st.just(Reason.REFUSED),
        texts(),
        status=st.sampled_from([301, 401, 403, 404, 429, 500, 503]),
        code=_maybe(st.sampled_from(["rest_forbidden", "rest_cookie_invalid_nonce", "wp_die"])),
        retry_after=_maybe(st.integers(0, 10**9 - 1)),
        raw=texts(),
        **circumstances,
    )


def _server_sent_events() -> SearchStrategy[ServerSentEvent]:
    # A line end, or a NUL in an id, cannot be written.
    field = texts().map(lambda text: "".join(character for character in text if character not in "\r\n\0"))
    data = texts().map(lambda text: text.replace("\r", ""))
    retry = _maybe(st.integers(0, 10**18 - 1))
    return st.builds(ServerSentEvent, field.map(lambda name: name or "message"), data, field, retry)


def _requests() -> SearchStrategy[Request]:
    url = st.builds(
        lambda endpoint, route: endpoint.origin + endpoint.target(route),
        endpoints(),
        st.sampled_from([SESSION_ROUTE, SUBMIT_ROUTE]),
    )
    fields = st.tuples(st.sampled_from(["X-WP-Nonce", "Cookie", "Accept"]), _tokens())
    headers = st.lists(fields, max_size=3).map(tuple)
    return st.builds(Request, st.just("POST"), url, headers, submits().map(Submit.encode))


# ---------------------------------------------------------------- bodies

_Payload: TypeAlias = dict[str, Any]
_Block: TypeAlias = tuple[list[bytes], Event | None]
"""Lines that a blank line closes, and what they stand for."""

_BOM = b"\xef\xbb\xbf"
# Not CR with LF alone: together they are one line end.
_LINE_ENDS = ([b"\n"], [b"\r\n"], [b"\r"], [b"\n", b"\r\n"], [b"\r", b"\r\n"])
_NO_EVENT = (  # lines that mean nothing here, wherever they stand
    *(b": keepalive", b":", b"event: end", b"event", b"id: 7", b"id", b"retry: 10", b"retry: +5", b"Data: x", b"dat"),
    *(b"<br />", b"<b>Warning</b>:  Undefined variable in <b>/a.php</b> on line <b>7</b><br />", b"\xff", b" data: x"),
)
_AFTERWARDS = (b"", b"<!-- cached -->", b": keepalive\n\n", b'{"success":true,"reply":null}', b"data: {", b"\0")


def bodies() -> SearchStrategy[Body]:
    """The body of a whole answer, and the events that it stands for.

    As an event stream in the dialects of 2023 and today: line ends of every
    kind, byte order mark, comments, PHP notices, unknown fields, data in several
    lines and without any, event objects with a subtype, error events, an end
    event in every form. Or as one JSON object. Never a body that breaks off or
    is malformed: the last event is an `End`, or the server's own error.
    """
    return _streams() | _objects()


@st.composite
def _streams(draw: DrawFn) -> Body:
    line_ends = st.sampled_from(draw(st.sampled_from(_LINE_ENDS)))
    blocks = [*draw(_blocks()), draw(_last_blocks())]
    data = bytearray(draw(st.sampled_from([b"", _BOM])) + draw(st.sampled_from([b"", b"\n\n", b" \r\n"])))
    for lines, _ in blocks:
        for line in (*draw(_noise()), *lines, *draw(_noise()), b""):
            data += line + draw(line_ends)
    data += draw(st.sampled_from(_AFTERWARDS))
    return Body(bytes(data), [event for _, event in blocks if event is not None])


@st.composite
def _objects(draw: DrawFn) -> Body:
    raw, event = draw(_judged_payloads())
    before = draw(st.sampled_from([b"", _BOM])) + draw(st.sampled_from([b"", b"\n\n", b" \t\r\n"]))
    after = draw(st.sampled_from([b"", b"\n", b"<!-- cached -->", b"{", b"\xff"]))
    return Body(before + raw.encode() + after, [event])


def faulty_bodies() -> SearchStrategy[FaultyBody]:
    """A body that goes wrong, with the pieces before the fault and the reason: MALFORMED or TRUNCATED.

    An event stream that ends without its end event, or inside it; one with an
    event that is no JSON, or is not of this protocol; a web page; a JSON object
    that breaks off or has no `success`. Never the server's own error, which is
    among `bodies()`, and nothing that meets a limit.
    """
    return _streams_cut() | _streams_spoilt() | _objects_cut() | _pages()


# What is no event of this protocol (DESIGN 5.2 to 5.5): of any of these lines the reply ends as MALFORMED.
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
    """Some blocks of a stream, what they stand for, and its line ends."""
    line_ends = st.sampled_from(draw(st.sampled_from(_LINE_ENDS)))
    data = draw(st.sampled_from([b"", _BOM]))
    events: list[Event] = []
    for lines, event in draw(st.lists(_live_blocks(), max_size=4)):
        assert event is not None
        # No noise before the first event: a body that begins with HTML would be a page until then.
        for line in (*lines, *draw(_noise()), b""):
            data += line + draw(line_ends)
        events.append(event)
    return data, events, line_ends


@st.composite
def _streams_cut(draw: DrawFn) -> FaultyBody:
    data, events, line_ends = draw(_streams_begun())
    lines, _ = draw(_live_blocks() | _last_blocks())
    last = b"".join(line + draw(line_ends) for line in lines)  # which no blank line closes
    return FaultyBody(data + last[: draw(st.integers(0, len(last)))], events, Reason.TRUNCATED)


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
    title = draw(texts()).replace("\n", " ").replace("\r", " ")  # "data:" at the start of a line would make it a stream
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
    """No event: nothing but noise, or an error without a message, which waits for what follows (WIRE 5.7)."""
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
        # An object that stands in the event itself is written anew by the decoder.
        | _payloads().map(lambda payload: ({"type": "end", "data": payload}, _end(payload, json.dumps(payload))))
        | texts().map(lambda text: ({"type": "error", "data": text}, Broken(Reason.REMOTE, text)))
        | st.sampled_from([*unwritten, *no_text])
    )


@cache
def _live_objects() -> SearchStrategy[tuple[_Payload, Event | None]]:
    today = {"timestamp": 1751412345.125, "visibility": "visible", "metadata": {"count": 2}}
    subtypes = st.sampled_from(_SUBTYPES) | texts().filter(lambda text: text not in ("", "content"))

    def piece(text: str) -> tuple[_Payload, Event]:
        return {"type": "live", "data": text}, Live(text)

    def piece_of_today(text: str, subtype: str | None) -> tuple[_Payload, Event]:
        return {"type": "live", "data": text, "subtype": subtype, **today}, Live(text)

    def no_piece(text: str, subtype: str) -> tuple[_Payload, Event]:
        return {"type": "live", "data": text, "subtype": subtype, **today}, Live(text, subtype)

    def of_no_kind(text: str, subtype: object) -> tuple[_Payload, Event]:
        return {"type": "live", "data": text, "subtype": subtype}, Live(text, "unknown")

    def of_no_type(data: object, name: str) -> tuple[_Payload, Event]:
        return {"type": name, "data": data}, Live(data if isinstance(data, str) else "", "unknown")

    return (
        st.builds(piece, texts())
        | st.builds(piece_of_today, texts(), st.sampled_from([None, "", "content"]))
        | st.builds(no_piece, texts(), subtypes)
        | st.builds(of_no_kind, texts(), st.sampled_from([7, False, ["status"]]))
        | st.builds(of_no_type, texts() | st.sampled_from([None, 7, {}]), st.sampled_from(["", "ping", "reply"]))
    )


@st.composite
def _lines_of(draw: DrawFn, objects: SearchStrategy[tuple[_Payload, Event | None]]) -> _Block:
    value, event = draw(objects)
    text = draw(_written(value))
    if isinstance(event, Live) and event.kind == "unknown":
        event = replace(event, raw=text)
    lines = text.split("\n")  # several data lines are one text (WHATWG 9.2.6); a browser's parser fails at it
    # A blank after the colon is not part of the data, so a line that begins with one needs another.
    bare = draw(st.booleans()) and not any(line.startswith(" ") for line in lines)
    return [(b"data:" if bare else b"data: ") + line.encode() for line in lines], event


def _written(value: _Payload) -> SearchStrategy[str]:
    """The object as PHP, a browser and Python write it, and in several lines."""
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
    """The text of an end payload, and its verdict."""
    if draw(st.booleans()):
        payload = draw(_payloads())
        raw = draw(_written(payload))
        return raw, _end(payload, raw)
    message = draw(texts())
    raw = draw(_written({"success": False, "message": message}))
    return raw, Broken(Reason.REMOTE, message, raw=raw)


@cache
def _payloads() -> SearchStrategy[_Payload]:
    """An end payload of a success, in both dialects (WIRE 5.5)."""
    call = st.builds(lambda name: {"type": "function", "data": {"name": name}}, texts())
    items = st.none() | st.lists(call, max_size=2)
    return st.fixed_dictionaries(
        {
            "success": st.just(True),
            "reply": texts() | st.sampled_from([None, 7]),
            "images": st.sampled_from([None, ["/a.png"]]),
        },
        optional={
            "actions": items,
            "shortcuts": items,
            "blocks": items,
            "usage": st.sampled_from([None, {"total_tokens": 30, "price": None, "accuracy": "tokens"}]),
            "responseId": texts(),
            "new_token": _tokens(),
        },
    )


def _end(payload: _Payload, raw: str) -> End:
    reply = payload["reply"]
    return End(reply if isinstance(reply, str) else None, raw)


# ---------------------------------------------------------------- bytes


def cuts(data: bytes) -> SearchStrategy[list[bytes]]:
    """The bytes in pieces, as a network may give them: whole, in a few, byte by byte. Some may be empty."""
    places = st.lists(st.integers(0, len(data)), max_size=8).map(sorted)
    few = places.map(lambda found: [data[start:end] for start, end in pairwise((0, *found, len(data)))])
    return few | st.just([data[place : place + 1] for place in range(len(data))])


@st.composite
def responses(draw: DrawFn) -> Response:
    """The HTTP response around a body of `bodies()`: every version, framing and kind of header field.

    Never a status other than 200 or a fault in the framing. The body may be
    delimited by the close, so report the end after the bytes.
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
    return Response(data + "\r\n".join(lines).encode() + content, headers, body, [*pieces, last])


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
    # RFC 9112, 7.1: digits of either case, with zeros before them; extensions and trailers, which mean nothing here.
    size = draw(st.sampled_from(["{:x}", "{:X}", "{:04x}", "{:x};a=b"]))
    chunks = [size.format(len(piece)).encode() + b"\r\n" + piece + b"\r\n" for piece in draw(cuts(body)) if piece]
    return b"".join(chunks) + b"0\r\n" + draw(st.sampled_from([b"", b"X-After: 1\r\n"])) + b"\r\n"


def scripts() -> SearchStrategy[tuple[Any, ...]]:
    """What happens on one connection: a script for `FaultServer` and `MemoryServer` of `opchat_transports.testing`.

    A good answer or a faulty one, or one of `FAULTS`; late, in pieces, cut, reset
    or stalled at any byte; after the submit or after start_session. Never one that
    sends without an end. Where clocks cost time, leave out those that stall:
    `scripts().filter(lambda script: Stall() not in script)`.
    """
    # Of the other package, whose scripts these are: nothing else here needs it.
    from opchat_transports.testing import FAULTS, Close, Delay, Expect, Repeat, Reset, Stall, Write, json_object

    session = json_object(success=True, sessionId="s1", restNonce="n1", keep_alive=True)
    finite = [it for it in FAULTS.values() if not any(isinstance(step, Repeat) and step.times is None for step in it)]
    close: SearchStrategy[bytes] = faulty_bodies().map(lambda body: b"HTTP/1.1 200 OK\r\n\r\n" + body.data)
    answers = responses().map(lambda response: response.data) | close | st.sampled_from(_REFUSALS)

    @st.composite
    def written(draw: DrawFn) -> tuple[Any, ...]:
        answer = draw(answers)
        end = draw(st.just(len(answer)) | st.integers(0, len(answer)))
        steps: list[Any] = []
        if draw(st.booleans()):
            steps += [Expect("start_session"), Write(draw(st.just(session) | answers)), Expect()]
        for piece in draw(cuts(answer[:end]).filter(lambda pieces: len(pieces) < 12)):
            steps.append(Write(piece, draw(st.none() | st.integers(1, 64))))
            steps += [Delay(0.001)] * draw(st.integers(0, 1))
        return (*steps, draw(st.sampled_from([Close(), Reset(), Stall()])))

    return st.sampled_from(finite) | written()


# ---------------------------------------------------------------- rules


_SESSION_ANSWER = (
    b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 49\r\n\r\n"
    b'{"success":true,"sessionId":"s1","restNonce":"n"}'
)
_CONNECTED = b"HTTP/1.1 200 Connection established\r\n\r\n"
_REPLIES_OF_PROXIES = (_CONNECTED, b"\5\2", b"\5\0", b"\1\0", b"\5\0\0\1\x7f\0\0\1\0\x50", b"\5\1\0\1\0\0\0\0\0\0")
_REFUSALS = (
    b'HTTP/1.1 401 No\r\nContent-Length: 25\r\n\r\n{"code":"rest_forbidden"}',
    b'HTTP/1.1 403 No\r\nContent-Length: 37\r\n\r\n{"code":"rest_cookie_invalid_nonce"} ',
    b'HTTP/1.1 404 No\r\nContent-Length: 24\r\n\r\n{"code":"rest_no_route"}',
    b"HTTP/1.1 503 No\r\nRetry-After: 7\r\nContent-Length: 0\r\n\r\n",
)
_BITS = (
    b"",
    b"HTTP/1.1 200 OK\r\n\r\n",
    b"HTTP/1.1 100 Continue\r\n\r\n",
    b"\r\n\r\n",
    b'data: {"type":"live","data":"Hi"}\n\n',
)


def _pieces_of_answers() -> SearchStrategy[bytes]:
    """What may come over a connection, whatever was asked."""
    known = st.sampled_from((_SESSION_ANSWER, *_REPLIES_OF_PROXIES, *_REFUSALS, *_BITS))
    return known | responses().map(lambda response: response.data) | st.binary(max_size=9)


def _reasons() -> SearchStrategy[Reason]:
    return st.just(Reason.LOST) | st.sampled_from(Reason)


def _kinds_of_steps() -> SearchStrategy[type[Any]]:
    return st.sampled_from([Receive, Receive, Connect, StartTLS, Send, Send])


class _Start(NamedTuple):
    session: Session | None
    restarts: int
    scheme: str
    proxy: str | None


_PROXIES = (None, None, "http://proxy.example:3128", "https://u:p@proxy.example", "socks5://u:p@[::1]")


def _starts() -> SearchStrategy[_Start]:
    return st.builds(
        _Start,
        st.sampled_from([None, Session(), Session("n0", "s0")]),
        st.integers(0, 1),
        st.sampled_from(["http", "https"]),
        st.sampled_from(_PROXIES),
    )


def client_rules(factory: Callable[..., Any]) -> type[Any]:
    """A `RuleBasedStateMachine` that makes any calls in any order, and checks what `Client` promises.

        TestMyClient = client_rules(MyClient).TestCase

    `factory(flow, proxy=proxy)` makes what is tested, anything with the methods of
    `Client`: a wrapper around one, or a port behind them. The rules: the step is
    the same until it is reported; the events are `Live* (End | Broken)`, and
    after the last every input gives none and the step is `Done`; `awaiting` is None
    just then; a call that is not legal raises `LocalProtocolError` and changes
    nothing; what comes at `Connect` changes nothing; a `Send` that was cut off is
    followed by `Receive`; `close()` ends the reply; a question is handed out once, or
    twice if the nonce was refused; an answer of `responses()`, in any pieces, gives
    the events that it stands for.
    """
    from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

    young = precondition(lambda self: self.late < 3)  # what is over has little more to show
    going = precondition(lambda self: not self.over)
    finished = precondition(lambda self: self.over)

    class ClientRules(RuleBasedStateMachine):
        client: Any
        step: Any  # what was asked for since the last report, else None
        handed_out: Any  # a Send that is not reported yet
        fresh: bool  # nothing has come over this connection but what the client waited for
        received: bytes
        submits: int
        late: int

        @initialize(start=_starts())
        def begin(self, start: _Start) -> None:
            session, restarts, scheme, proxy = start
            endpoint = Endpoint.parse(f"{scheme}://site.example")
            flow = Flow(endpoint, Submit(new_message="Hi?"), session=session, limits=Limits(restarts=restarts))
            self.client = factory(flow, proxy=Proxy.parse(proxy) if proxy else None)
            self.events: list[Event] = []
            self.restarts = restarts
            self.step = self.handed_out = None
            self.fresh = False
            self.received = b""
            self.submits = self.late = 0

        @rule(start=_starts())
        @finished
        def another(self, start: _Start) -> None:
            self.teardown()
            self.begin(start)

        @property
        def over(self) -> bool:
            return bool(self.events) and not isinstance(self.events[-1], Live)

        def take(self, events: list[Event]) -> None:
            if self.over:
                self.late += 1
                assert events == [], "events after the last"
            self.events += events
            self.step = None

        def take_news(self, events: list[Event]) -> None:
            """What data or the end of the connection came to."""
            if isinstance(self.step, Connect):
                assert events == [], "an event of a connection that is not open"  # and the step stays the same
            else:
                self.take(events)

        @rule()
        @young
        def next_step(self) -> None:
            self.ask()

        def ask(self) -> Any:
            step = self.client.next_step()
            assert self.step in (None, step), "another step, though nothing was reported"
            assert self.client.next_step() == step
            assert isinstance(step, Done) == self.over
            if isinstance(step, Send) and step != self.handed_out and _is_submit(step):
                self.submits += 1
                refused = b"401" in self.received or b"403" in self.received
                assert self.submits <= (1 + self.restarts if refused else 1), "a question was asked again"
                assert self.client.submit_started
            self.handed_out = step if isinstance(step, Send) else None
            self.step = step
            return step

        @rule()
        @young
        def step_done(self) -> None:
            step = self.ask()
            if isinstance(step, Receive):
                _refuse(self.client.step_done, self.ask)
                return
            self.fresh = self.fresh or isinstance(step, Connect)
            self.client.step_done()
            self.take([])
            self.handed_out = None

        @rule(detail=texts(), reason=_reasons(), ask=st.booleans())
        @young
        def step_failed(self, detail: str, reason: Reason, ask: bool) -> None:
            step = self.ask() if ask else self.step
            self.take(self.client.step_failed(detail, reason))
            self.handed_out = None
            if isinstance(step, Send) and reason is Reason.LOST:
                assert self.ask() == Receive(), "the server may have answered what came of it"

        @rule(data=_pieces_of_answers())
        @young
        def receive_data(self, data: bytes) -> None:
            self.received += data
            self.fresh = self.fresh and not data
            self.take_news(self.client.receive_data(data))

        @rule()
        @young
        def receive_eof(self) -> None:
            self.take_news(self.client.receive_eof())

        @rule()
        @young
        def close(self) -> None:
            self.take(self.client.close())
            assert self.over, "the caller left, and the reply goes on"

        @rule(data=st.data(), to=_kinds_of_steps())
        @going
        def go_on(self, data: Any, to: type[Any] = Receive) -> None:
            """As a driver should, up to such a step or the answer to the question, if nothing goes wrong before."""
            count = 0
            while not self.over:
                step = self.ask()
                if count and isinstance(step, to) and not isinstance(step, Receive):
                    break
                count += 1
                assert count < 50, "it goes on for ever"
                if isinstance(step, Connect | StartTLS | Send):
                    self.step_done()
                elif not self.fresh:
                    break  # who knows what this would be taken for
                elif self.client.awaiting is Awaiting.SESSION:
                    self.reply(_SESSION_ANSWER)
                elif self.client.awaiting is Awaiting.PROXY:
                    self.reply(data.draw(st.sampled_from(_REPLIES_OF_PROXIES)))
                else:
                    break

        def reply(self, data: bytes) -> None:
            fresh = self.fresh
            self.receive_data(data)
            self.fresh = fresh

        @rule(data=st.data(), response=responses())
        @going
        def answer(self, data: Any, response: Response) -> None:
            self.go_on(data)
            if self.over or self.client.awaiting is not Awaiting.FIRST_EVENT or not self.fresh:
                return
            count = len(self.events)
            for piece in data.draw(cuts(response.data)):
                self.take(self.client.receive_data(piece))
            self.take(self.client.receive_eof())
            assert self.events[count:] == response.events

        @invariant()
        def one_reply(self) -> None:
            assert all(isinstance(event, Live) for event in self.events[:-1])
            assert (self.client.awaiting is None) == self.over

        def teardown(self) -> None:
            self.close()
            assert self.client.next_step() == Done()

    return ClientRules


def _is_submit(step: Send) -> bool:
    return b"/chats/submit HTTP/1.1\r\n" in step.data


def _is_start(step: Send) -> bool:
    return b"/start_session HTTP/1.1\r\n" in step.data


def _refuse(call: Callable[[], object], ask: Callable[[], object]) -> None:
    """This call is not legal, and changes nothing."""
    before = ask()
    try:
        call()
    except LocalProtocolError:
        pass
    else:
        raise AssertionError(f"a call that is not legal at {before} was taken")
    assert ask() == before, "a call that was refused has changed something"


class _ChannelStart(NamedTuple):
    start: _Start
    retries: int
    longest_wait: float
    timeouts: Timeouts
    has_signals: bool
    calls: int


def _channel_starts() -> SearchStrategy[_ChannelStart]:
    return st.builds(
        _ChannelStart,
        _starts(),
        st.sampled_from([0, 0, 1, 2]),
        st.sampled_from([5, 30]),  # less than Retry-After says, and more
        st.sampled_from([Timeouts(), Timeouts(connect=4, write=3, first_event=2, idle=1)]),
        st.booleans(),
        st.integers(1, 3),
    ).map(lambda it: it._replace(start=it.start._replace(session=None)) if it.calls > 1 else it)


class _Asked:
    """A call, and what is known of it."""

    def __init__(self, call: Any) -> None:
        self.call = call
        self.events: list[Event] = []
        self.begun = False
        self.step: Any = None  # what was asked for since the last report, else None
        self.until = math.inf
        self.sent: Send | None = None  # the last one over this connection
        self.done = False
        self.fresh = False  # see `client_rules`
        self.received = b""  # since the question was asked last
        self.submits = 0  # since then
        self.retries = 0
        self.late = 0

    @property
    def over(self) -> bool:
        return bool(self.events) and not isinstance(self.events[-1], Live)

    @property
    def starts(self) -> bool:
        """Whether its start_session is under way, as far as is known."""
        return self.sent is not None and _is_start(self.sent) and isinstance(self.step, Send | Receive | None)

    @property
    def may_start(self) -> bool:
        """Whether others may have to wait for it."""
        is_asking = self.sent is not None and _is_submit(self.sent)
        return self.begun and not self.done and not is_asking and not isinstance(self.step, Wait)

    def is_same(self, now: float) -> bool:
        """Whether the next step must be the same as before."""
        if self.step is None or now >= self.until:
            return False
        return not isinstance(self.step, Wait) or (self.step.signal is not None and not self.step.signal.is_set())


def call_rules(factory: Callable[..., Any] = Channel) -> type[Any]:
    """A `RuleBasedStateMachine` that asks several questions at a time, and checks what `Channel` and `Call` promise.

        TestMyChannel = call_rules(MyChannel).TestCase

    `factory(endpoint, **options)` makes what is tested, anything with the options
    and the method `call` of `Channel`, whose calls have the methods of `Call` and
    its `retries`. Time passes as the rules say, and all clocks are on. The rules: the
    step is the same until it is reported, its time has come or its signal is set, and
    no call waits for one that starts no session; the events are `Live* (End | Broken)`,
    and the last one comes after `Done`, once; a report that is not legal raises
    `LocalProtocolError` and changes nothing; a question is sent once, or twice if the
    nonce was refused, and once more for each retry that the server asked for; at most
    one start_session is under way at a time, also where calls are dropped; an answer
    of `responses()`, in any pieces, gives the events that it stands for; without any
    further report every call comes to its end.
    """
    from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

    places = st.integers(0, 3)
    asked = precondition(lambda self: self.calls)
    room = precondition(lambda self: len(self.calls) < 4)

    class CallRules(RuleBasedStateMachine):
        channel: Any
        calls: list[_Asked]
        now: float
        restarts: int
        retries: int

        @initialize(start=_channel_starts())
        def begin(self, start: _ChannelStart) -> None:
            (session, self.restarts, scheme, proxy), self.retries, longest_wait, timeouts, has_signals, calls = start
            self.channel = factory(
                Endpoint.parse(f"{scheme}://site.example"),
                session=session,
                limits=Limits(restarts=self.restarts),
                timeouts=timeouts,
                proxy=Proxy.parse(proxy) if proxy else None,
                retries=self.retries,
                longest_wait=longest_wait,
                signal=threading.Event if has_signals else None,
            )
            self.calls = []
            self.now = 1000.0
            for _ in range(calls):
                self.call()

        @rule()
        @room
        def call(self) -> None:
            self.calls.append(_Asked(self.channel.call("Hi?")))

        @rule(seconds=st.sampled_from([0.25, 1, 2, 7, 30, 120, 300]))
        @asked
        def let_time_pass(self, seconds: float) -> None:
            self.now += seconds

        def at(self, place: int) -> _Asked:
            return self.calls[place % len(self.calls)]

        def take(self, it: _Asked) -> None:
            """All events that there are."""
            while (event := it.call.next_event()) is not None:
                assert not it.over, "an event after the last"
                assert isinstance(event, Live) or it.done, "the last event came before Done"
                it.events.append(event)
            assert it.over == it.done, "it is done without a last event"

        @rule(place=places)
        @asked
        def next_event(self, place: int) -> None:
            self.take(self.at(place))

        @rule(place=places)
        @asked
        def next_step(self, place: int) -> None:
            self.ask(self.at(place))

        def ask(self, it: _Asked) -> Any:
            same = it.is_same(self.now)
            step, until = it.call.next_step(self.now)
            assert not same or (step, until) == (it.step, it.until), "another step, though nothing was reported"
            assert it.call.next_step(self.now) == (step, until)
            assert self.now < until, "a step whose time is over"
            assert it.done <= isinstance(step, Done)
            assert until < math.inf or isinstance(step, Done), "a step without an end"
            it.begun, it.step, it.until = True, step, until
            self.note_retry(it)
            match step:
                case Done():
                    it.done = True
                case Wait():
                    may_start = any(other.may_start for other in self.calls if other is not it)
                    assert may_start or self.retries, "it waits for nobody"
                case Send() if step != it.sent:
                    it.sent = step
                    if _is_submit(step):
                        self.note_submit(it)
                    elif _is_start(step):
                        for other in self.calls:
                            if other is not it and other.starts:
                                self.ask(other)  # it may have gone on meanwhile
                                assert not other.starts, "two sessions are started at a time"
            if not isinstance(step, Send | Receive):
                it.sent = None
            return step

        def note_retry(self, it: _Asked) -> None:
            if it.call.retries > it.retries:
                assert it.call.retries <= self.retries
                assert not it.submits or b"503" in it.received, "a question was asked again that had been sent"
                it.retries = it.call.retries
                it.submits, it.received = 0, b""

        def note_submit(self, it: _Asked) -> None:
            it.submits += 1
            refused = b"401" in it.received or b"403" in it.received
            assert it.submits <= (1 + self.restarts if refused else 1), "a question was sent again"

        def report(self, it: _Asked, method: str, *arguments: object) -> None:
            it.late += it.over
            assert getattr(it.call, method)(*arguments) is None
            it.step = None
            if it.late > 3:  # what is over has little more to show
                self.calls.remove(it)

        @rule(place=places)
        @asked
        def step_done(self, place: int) -> None:
            it = self.at(place)
            step = self.ask(it)
            if isinstance(step, Receive | Wait):
                _refuse(it.call.step_done, lambda: self.ask(it))
            else:
                self.done(it, step)

        def done(self, it: _Asked, step: Any) -> None:
            it.fresh = it.fresh or isinstance(step, Connect)
            self.report(it, "step_done")
            if isinstance(step, Connect):
                it.sent = None

        @rule(place=places, detail=texts(), reason=_reasons())
        @asked
        def step_failed(self, place: int, detail: str, reason: Reason) -> None:
            self.report(self.at(place), "step_failed", detail, reason)

        @rule(place=places, data=_pieces_of_answers())
        @asked
        def receive_data(self, place: int, data: bytes) -> None:
            it = self.at(place)
            it.fresh = it.fresh and not data
            self.receive(it, data)

        def receive(self, it: _Asked, data: bytes) -> None:
            it.received += data
            self.report(it, "receive_data", data)

        @rule(place=places)
        @asked
        def receive_eof(self, place: int) -> None:
            self.report(self.at(place), "receive_eof")

        @rule(place=places)
        @asked
        def timed_out(self, place: int) -> None:
            self.report(self.at(place), "timed_out")

        @rule(place=places)
        @asked
        def close(self, place: int) -> None:
            it = self.at(place)
            self.report(it, "close")
            self.take(it)
            assert self.ask(it) == Done(), "the caller left, and the call goes on"

        @rule(place=places)
        @asked
        def drop(self, place: int) -> None:
            self.calls.remove(self.at(place))
            for other in self.calls:
                if isinstance(other.step, Wait):
                    self.ask(other)

        @rule(place=places, data=st.data(), to=_kinds_of_steps(), everyone=st.booleans())
        @asked
        def go_on(self, place: int, data: Any, to: type[Any], everyone: bool) -> None:
            for it in [*self.calls] if everyone else [self.at(place)]:
                self.lead(it, data, to)

        def lead(self, it: _Asked, data: Any, to: type[Any] = Receive) -> None:
            """As a driver should, up to such a step or the answer to the question, if nothing goes wrong before."""
            count = 0
            while not isinstance(step := self.ask(it), Wait | Done):
                if count and isinstance(step, to) and not isinstance(step, Receive):
                    break
                count += 1
                assert count < 50, "it goes on for ever"
                if isinstance(step, Connect | StartTLS | Send):
                    self.done(it, step)
                elif not it.fresh or it.sent is None or _is_submit(it.sent):
                    break
                elif _is_start(it.sent):
                    self.receive(it, _SESSION_ANSWER)
                else:
                    self.receive(it, data.draw(st.sampled_from(_REPLIES_OF_PROXIES)))

        @rule(place=places, data=st.data(), response=responses())
        @asked
        def answer(self, place: int, data: Any, response: Response) -> None:
            it = self.at(place)
            self.lead(it, data)
            self.take(it)
            if not isinstance(it.step, Receive) or it.sent is None or not _is_submit(it.sent) or not it.fresh:
                return
            assert it.events == []
            for piece in data.draw(cuts(response.data)):
                self.receive(it, piece)
            self.report(it, "receive_eof")
            assert self.ask(it) == Done()
            self.take(it)
            assert it.events == response.events

        def teardown(self) -> None:
            """Nobody reports anything any more, and time passes."""
            count = 0
            while self.calls:
                count += 1
                assert count < 100, "it never ends"
                for it in [*self.calls]:
                    if isinstance(self.ask(it), Done):
                        self.take(it)
                        assert it.over
                        self.calls.remove(it)
                self.now = min((it.until for it in self.calls), default=self.now)

    return CallRules


# ---------------------------------------------------------------- st.from_type

# Hypothesis loads this module at the end of its own import ("Integration via entry points"), for everybody who has it
# and opchat: so nothing is drawn or evaluated here, and no function is called by name, which would fail if this module
# were imported first and in turn imported Hypothesis.
st.register_type_strategy(Message, lambda _: messages())
st.register_type_strategy(Submit, lambda _: submits())
st.register_type_strategy(Session, lambda _: sessions())
st.register_type_strategy(Endpoint, lambda _: endpoints())
st.register_type_strategy(Limits, lambda _: limits())
st.register_type_strategy(Live, lambda _: _lives())
st.register_type_strategy(End, lambda _: _ends())
st.register_type_strategy(Broken, lambda _: _brokens())
st.register_type_strategy(ServerSentEvent, lambda _: _server_sent_events())
st.register_type_strategy(Request, lambda _: _requests())
