"""One response judged: rule by rule of the order HTTP, status, coding, body."""

import json
import pickle
import sys
import tracemalloc
from array import array
from collections.abc import Callable, Iterator, Sequence
from itertools import combinations, pairwise
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from opchat_proto import Broken, End, Event, Limits, Live, LocalProtocolError, Reason, ReplyDecoder
from opchat_proto._reply import TABLE, Input, State  # the table itself is not public, and is walked over here
from tests.proto.cuts import byte_by_byte, clones, every_cut, in_pieces, random_cuts


def plain(text: str) -> str:
    """An id without backslashes: pytest doubles them where it collects twice in one process, as mutmut does."""
    return ascii(text)[1:-1].replace("\\", "/")


Fields = Sequence[tuple[str | bytes, str | bytes]]

BOM = b"\xef\xbb\xbf"
STREAM: Fields = [("Content-Type", "text/event-stream;charset=UTF-8")]
KIB = 1024
MIB = 1024 * 1024


def judge(
    pieces: list[bytes],
    status: int = 200,
    headers: Fields = STREAM,
    limits: Limits = Limits(),
    failure: Reason | None = None,
) -> list[Event]:
    """All events of a response with this body that ends well, or with a failure."""
    decoder = ReplyDecoder(limits)
    events = decoder.receive_head(status, headers)
    for piece in pieces:
        events += decoder.receive_data(piece)
    return events + (decoder.receive_eof() if failure is None else decoder.receive_failure("cut", failure))


def cuttings(body: bytes) -> Iterator[list[bytes]]:
    """Every cut in two; of what is long, cuts around its beginning, middle and end."""
    if len(body) <= 700:
        yield from every_cut(body)
        return
    yield [body]
    yield in_pieces(body, 4096)
    yield in_pieces(body, 64) if len(body) > 64 * KIB else byte_by_byte(body)
    for middle in (1, 2, 3, 4, 6, len(body) // 2, len(body) - 3, len(body) - 2, len(body) - 1):
        yield [body[:middle], body[middle:]]


def check(
    body: bytes,
    expected: list[Event],
    status: int = 200,
    headers: Fields = STREAM,
    limits: Limits = Limits(),
    failure: Reason | None = None,
) -> None:
    for pieces in cuttings(body):
        assert judge(pieces, status, headers, limits, failure) == expected


def line(text: str) -> bytes:
    return b"data: " + text.encode() + b"\n\n"


def event(value: object) -> bytes:
    return line(json.dumps(value))


def live(text: object, **more: object) -> bytes:
    return event({"type": "live", "data": text, **more})


def error(message: object) -> bytes:
    return event({"type": "error", "data": message})


def end_of(payload: str) -> bytes:
    return event({"type": "end", "data": payload})


HI = '{"success":true,"reply":"Hi"}'
END = end_of(HI)
ENDED = End("Hi", HI)

HI_PIECE = b'data: {"type":"live","data":"Hi"}\n\n'
PLAIN_END = rb'data: {"type":"end","data":"{\"success\":true,\"reply\":\"Hi\"}"}' + b"\n\n"
MALFORMED_PIECES = Broken(
    Reason.MALFORMED,
    "an event that is no JSON: " + HI_PIECE[6:-2].decode() + HI_PIECE[:-2].decode() + "; a line that is no event: x",
)

CLOSED = "the answer ended without its end event"
CUT_JSON = "the answer breaks off inside its JSON object"
HINT = "; a line that is no event: "
CUT_PAGE = "cut; it began as a page, not an answer of the chat: Down"


def nested(depth: int) -> str:
    return "[" * depth + "]" * depth


# ------------------------------------------------------------------------------ the body by its bytes


STREAMS = {
    "2023: nothing but type and data": (
        b'data: {"type":"live","data":"Bon"}\n\ndata: {"type":"live","data":"jour"}\n\n'
        b'data: {"type":"end","data":"{\\"success\\":true,\\"reply\\":\\"Bonjour\\",'
        b'\\"images\\":null,\\"usage\\":null}"}\n\n',
        [
            Live("Bon"),
            Live("jour"),
            End("Bonjour", '{"success":true,"reply":"Bonjour","images":null,"usage":null}'),
        ],
    ),
    "2023: error, then JSON": (
        b'data: {"type":"error","data":"No bot."}\n\n{"success":true,"reply":null,"images":null,"usage":null}',
        [Broken(Reason.REMOTE, "No bot.")],
    ),
    "2023: error, then null": (error("No bot.") + b"null", [Broken(Reason.REMOTE, "No bot.")]),
    "today: text in pieces, escapes, a fresh nonce": (
        b'data: {"type":"live","data":"\\u00c0 "}\n\n'
        b'data: {"type":"live","data":"gauche \\ud83d\\ude8c","timestamp":1.5}\n\n'
        b'data: {"type":"end","data":"{\\"success\\":true,\\"reply\\":\\"\\\\u00c0 gauche \\\\ud83d\\\\ude8c\\",'
        b'\\"new_token\\":\\"0b2576d756\\"}","timestamp":2}\n\n',
        [
            Live("À "),
            Live("gauche 🚌"),
            End("À gauche 🚌", r'{"success":true,"reply":"\u00c0 gauche \ud83d\ude8c","new_token":"0b2576d756"}'),
        ],
    ),
    "escaped slash and line feed": (
        rb'data: {"type":"live","data":"\u00e9\/\n"}' + b"\n\n" + end_of(r'{"success":true,"reply":"\u00e9\/\n"}'),
        [Live("é/\n"), End("é/\n", r'{"success":true,"reply":"\u00e9\/\n"}')],
    ),
    "today: an event of the site's log is no text": (
        b'data: {"type":"live","data":"Found 1 context.","timestamp":17.25,"subtype":"embeddings",'
        b'"visibility":"visible","metadata":{"count":1}}\n\n' + END,
        [Live("Found 1 context.", "embeddings"), ENDED],
    ),
    "an error alone": (error("Sorry, rejected."), [Broken(Reason.REMOTE, "Sorry, rejected.")]),
    "an image bot: the end alone": (
        end_of(
            r'{"success":true,"reply":"![Image](https:\/\/a.example\/1.png)\n","images":["https:\/\/a.example\/1.png"]}'
        ),
        [
            End(
                "![Image](https://a.example/1.png)\n",
                r'{"success":true,"reply":"![Image](https:\/\/a.example\/1.png)\n","images":["https:\/\/a.example\/1.png"]}',
            )
        ],
    ),
    "comments before, between and after": (
        b": keepalive\n\n" + live("a") + b": keepalive\n\n" + END + b": keepalive\n\n",
        [Live("a"), ENDED],
    ),
    "a piece that the server could not encode": (
        live("a") + b"data: \n\n" + live("b") + b"data:\ndata:\n\n" + b"data\n\n" + END,
        [Live("a"), Live("", "unreadable"), Live("b"), Live("", "unreadable"), Live("", "unreadable"), ENDED],
    ),
    "an end that the server could not encode": (
        live("a") + live("b") + b'data: {"type":"end","data":false}\n\n',
        [Live("a"), Live("b"), End(None)],
    ),
    "CRLF, mark, no space": (
        BOM + b'data:{"type":"live","data":"a"}\r\n\r\n' + END.replace(b"\n", b"\r\n"),
        [Live("a"), ENDED],
    ),
    "CR": ((live("a") + END).replace(b"\n", b"\r"), [Live("a"), ENDED]),
    "one event over several data lines": (
        b'data: {"type":"live",\ndata:  "data":\ndata: "a"}\n\n' + END,
        [Live("a"), ENDED],
    ),
    "event names, ids and times to wait are not looked at": (
        b"event: error\nid: 7\nretry: 10\n" + live("a") + b"event: end\n" + END,
        [Live("a"), ENDED],
    ),
    "blank lines first": (b"\n\r\n \n\t\n" + live("a") + END, [Live("a"), ENDED]),
    "blanks before the body": (b" \t" + live("a") + END, [Live("a"), ENDED]),
    "blanks before a later field make it another": (live("a") + b" " + live("b") + END, [Live("a"), ENDED]),
    "marks and blanks before the body, in any order": (
        b"\n " + BOM + BOM + b"\r\n" + BOM + live("a") + END,
        [Live("a"), ENDED],
    ),
    "a mark before a field": (
        live("a") + BOM + live("b") + BOM + BOM + b"event: x\n" + BOM + b": comment\n" + BOM + END,
        [Live("a"), Live("b"), ENDED],
    ),
    "a mark before the end of an event": (HI_PIECE[:-1] + BOM + b"\n\n" + END, [Live("Hi"), ENDED]),
    "text pieces may be empty, 0 or blank": (
        live("") + live("0") + live("  \n") + END,
        [Live(""), Live("0"), Live("  \n"), ENDED],
    ),
    "PHP's notice between events": (
        live("a") + b"<br />\n<b>Warning</b>: x in /srv/a.php on line 3<br />\n" + live("b") + END,
        [Live("a"), Live("b"), ENDED],
    ),
    "an event of the plugin glued to HTML": (
        live("a")
        + b'<div id="error"><p>x\n[Table]\n</p></div>'
        + HI_PIECE
        + b"</div>"
        + HI_PIECE[:-2]
        + b"\r\n\r\n"
        + END,
        [Live("a"), Live("Hi"), Live("Hi"), ENDED],
    ),
    "the end event glued to HTML": (live("a") + b"\n</div>" + PLAIN_END, [Live("a"), ENDED]),
    "an event of the plugin glued to a mark and HTML": (BOM + b"x" + BOM + HI_PIECE + END, [Live("Hi"), ENDED]),
    "an event glued to another": (b"x" + HI_PIECE[:-2] + HI_PIECE + END, [MALFORMED_PIECES]),
    "an event in a comment, a field and a line with a name is none": (
        b": " + HI_PIECE + b"event: " + HI_PIECE + b"id:" + HI_PIECE + live("a") + END,
        [Live("a"), ENDED],
    ),
    "another event glued to HTML is none": (
        live("a") + b'<div id="error">x</div>' + live("b") + END,
        [Live("a"), ENDED],
    ),
    "nothing after the first end counts": (
        END + END + live("late") + error("late") + b"data: [DONE]\n\n<!-- cached -->",
        [ENDED],
    ),
    "nothing after the first error counts": (error("first") + END, [Broken(Reason.REMOTE, "first")]),
    "bytes that are no UTF-8": (
        b'data: {"type":"live","data":"a\xffb\xe2\x82"}\n\n' + END,
        [Live("a\ufffdb\ufffd"), ENDED],
    ),
}


@pytest.mark.parametrize(("body", "expected"), STREAMS.values(), ids=STREAMS)
def test_a_stream_gives_its_events_and_its_end_however_it_is_cut(body: bytes, expected: list[Event]) -> None:
    check(body, expected)
    assert judge([body], failure=Reason.TIMEOUT) == expected


@pytest.mark.parametrize("content_type", ["text/event-stream", "application/json", "text/html", "image/png", ""])
@pytest.mark.parametrize(
    ("body", "expected"), [(live("a") + END, [Live("a"), ENDED]), (HI.encode(), [ENDED])], ids=["stream", "JSON"]
)
def test_the_content_type_is_not_looked_at(content_type: str, body: bytes, expected: list[Event]) -> None:
    assert judge([body], headers=[("Content-Type", content_type)]) == expected
    assert judge([body], headers=[]) == expected


def test_events_are_given_at_once() -> None:
    decoder = ReplyDecoder()
    assert decoder.receive_head(200, STREAM) == []
    assert decoder.receive_data(b'data: {"type":"live","data":"a"}\n') == []
    assert decoder.receive_data(b"\n") == [Live("a")]
    assert decoder.receive_data(END[:-1]) == []
    assert decoder.receive_data(b"\n") == [ENDED]


def test_json_is_judged_when_it_ends_and_not_before() -> None:
    decoder = ReplyDecoder()
    decoder.receive_head(200, [])
    assert decoder.receive_data(HI.encode() + b"\n") == []
    assert decoder.receive_eof() == [ENDED]


# ------------------------------------------------------------------------------ live, unknown, end, error


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({}, Live("a")),
        ({"subtype": None}, Live("a")),
        ({"subtype": ""}, Live("a")),
        ({"subtype": "content"}, Live("a")),
        ({"subtype": "Content"}, Live("a", "Content")),
        ({"subtype": "thinking"}, Live("a", "thinking")),
        ({"subtype": "tool_call", "metadata": {"tool_name": "f"}}, Live("a", "tool_call")),
        ({"subtype": "content "}, Live("a", "content ")),
        ({"subtype": "end"}, Live("a", "end")),
    ],
)
def test_the_kind_of_a_live_event_is_its_subtype(more: dict[str, Any], expected: Live) -> None:
    check(live("a", **more) + END, [expected, ENDED])


@pytest.mark.parametrize("subtype", ["0", "1", "false", "true", "[]", "{}", '["content"]', "1.5"])
def test_a_subtype_that_is_no_text_is_an_unknown_kind(subtype: str) -> None:
    text = f'{{"type":"live","data":"a","subtype":{subtype}}}'
    check(line(text) + END, [Live("a", "unknown", text), ENDED])


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ('{"type":"stream","data":"<p>"}', "<p>"),
        ('{"type":"","data":"a"}', "a"),
        ('{"type":"Live","data":"a"}', "a"),
        ('{"type":"LIVE"}', ""),
        ('{"type":"a_type_that_is_not_known_yet"}', ""),
        ('{"type":"ping","data":null}', ""),
        ('{"type":"ping","data":{"a":[1]},"subtype":"x"}', ""),
        (r'{"type":"\ud800","data":"\udfff"}', "\ufffd"),
    ],
)
def test_an_event_of_an_unknown_type_is_handed_on_and_the_stream_goes_on(text: str, shown: str) -> None:
    check(line(text) + END, [Live(shown, "unknown", text), ENDED])


REPLIES = ['"Hi"', '""', "null", "1", "true", "[]", '{"a":1}']


@pytest.mark.parametrize("reply", REPLIES)
def test_a_reply_that_is_no_text_is_none(reply: str) -> None:
    payload = f'{{"success":true,"reply":{reply}}}'
    value = json.loads(reply)
    check(end_of(payload), [End(value if isinstance(value, str) else None, payload)])
    check(payload.encode(), [End(value if isinstance(value, str) else None, payload)])


@pytest.mark.parametrize("token", ["0b2576d756", 5, None])
def test_a_fresh_nonce_is_read_from_the_payload(token: object) -> None:
    payload = json.dumps({"success": True, "new_token": token})
    for body in (end_of(payload), payload.encode()):
        decoder = ReplyDecoder()
        decoder.receive_head(200, [])
        decoder.receive_data(body)
        assert len(decoder.receive_eof()) == (body == payload.encode())
        assert decoder.new_token == token


def test_before_the_payload_there_is_no_fresh_nonce() -> None:
    assert ReplyDecoder().new_token is None


def test_an_end_without_a_reply_has_none() -> None:
    check(end_of('{"success":true}'), [End(None, '{"success":true}')])


def test_an_object_in_place_of_the_end_events_text_is_taken() -> None:
    check(
        b'data: {"type":"end","data":{"success":true,"reply":"\\u00e9","usage":{"price":1.50}}}\n\n',
        [End("é", r'{"success": true, "reply": "\u00e9", "usage": {"price": 1.5}}')],
    )


@pytest.mark.parametrize("data", ["false", "null"])
def test_end_data_that_the_server_could_not_encode_is_an_end_without_a_reply(data: str) -> None:
    check(line(f'{{"type":"end","data":{data}}}'), [End(None)])


@pytest.mark.parametrize(
    "text",
    [
        '{"type":"end"}',
        '{"type":"end","data":true}',
        '{"type":"end","data":0}',
        '{"type":"end","data":[]}',
        '{"type":"end","data":[{"success":true}]}',
        '{"type":"end","data":"[]"}',
        '{"type":"end","data":"null"}',
        '{"type":"end","data":"false"}',
        '{"type":"end","data":"\\"text\\""}',
    ],
)
def test_end_data_that_is_no_object_is_malformed(text: str) -> None:
    check(line(text) + END, [Broken(Reason.MALFORMED, f"an end event without a payload: {text}")])


@pytest.mark.parametrize(
    "inner",
    [
        "",
        " ",
        "text",
        '{"success":true',
        '{"success":true}}',
        '{"success":true} x',
        '{"success":true,}',
        '\ufeff{"success":true}',
        '{"success":true,"a":NaN}',
        '{"success":true,"a":-Infinity}',
        '{"success":true,"a":01}',
        '{"success":true,"a":"\n"}',
        "{'success':true}",
        '{"success":true,"a":' + nested(64) + "}",
        '{"success":true,"a":' + "9" * 4301 + "}",
        "[" * 100_000,
        '{"a":' * 50_000,
    ],
    ids=lambda inner: plain(inner[:24]),
)
def test_an_end_events_payload_is_strict_json_itself(inner: str) -> None:
    text = json.dumps({"type": "end", "data": inner})
    broken: list[Event] = [Broken(Reason.MALFORMED, f"an end event whose payload is no JSON: {text[:200]}")]
    check(line(text) + END, broken)


@pytest.mark.parametrize(
    ("inner", "reply"),
    [
        (' {"success" : true , "reply":"a"}\n', "a"),
        ('{"success":false,"success":true,"reply":"a","reply":"b"}', "b"),
        ('{"type":"x","type":"y","success":true,"reply":"a"}', "a"),
        ('{"success":true,"reply":"a","n":' + "9" * 4300 + "}", "a"),
        ('{"success":true,"reply":"a","n":1e999}', "a"),
        ('{"success":true,"reply":"a","n":' + nested(63) + "}", "a"),
        (r'{"success":true,"reply":"\ud83d"}', "\ufffd"),
        (r'{"success":true,"reply":"\ude8c\ud83d","\udead":["\udead"]}', "\ufffd\ufffd"),
        (r'{"\u0073uccess":true,"reply":"\u0061"}', "a"),
    ],
    ids=lambda inner: plain(inner[:40]),
)
def test_an_end_events_payload_that_is_odd_json_is_taken(inner: str, reply: str) -> None:
    check(end_of(inner), [End(reply, inner)])


def test_half_a_surrogate_pair_that_the_outer_text_brings_into_the_payload_is_replaced() -> None:
    body = rb'data: {"type":"end","data":"{\"success\":true,\"reply\":\"a\ud83d\"}"}' + b"\n\n"
    check(body, [End("a\ufffd", '{"success":true,"reply":"a\ufffd"}')])


@pytest.mark.parametrize(
    ("message", "detail"),
    [
        ('"No."', "No."),
        ('" "', " "),
        (r'"\ud83d"', "\ufffd"),
        ("0", "0"),
        ("12.5", "12.5"),
        ("true", "true"),
        ("[]", "[]"),
        ("{}", "{}"),
        ('{"a":["b",null]}', '{"a": ["b", null]}'),
    ],
)
def test_an_error_ends_the_reply_with_its_message(message: str, detail: str) -> None:
    check(line(f'{{"type":"error","data":{message}}}') + END, [Broken(Reason.REMOTE, detail)])
    check(
        end_of(f'{{"success":false,"message":{message}}}'), [remote(f'{{"success":false,"message":{message}}}', detail)]
    )


def test_the_tags_of_a_message_stay_in_raw_and_in_an_error_event() -> None:
    text = '{"success":false,"message":"<p>No &lt;b&gt; <b>here</b>.</p><p>Go <a href=\'/\'>home</a>.</p>"}'
    check(text.encode(), [remote(text, "No <b> here. Go home.")])
    check(end_of(text), [remote(text, "No <b> here. Go home.")])
    check(error("<b>No.</b>"), [Broken(Reason.REMOTE, "<b>No.</b>")])


def remote(raw: str, detail: str) -> Event:
    return Broken(Reason.REMOTE, detail, raw=raw)


EMPTY_ERRORS = [b'{"type":"error"}', *(b'{"type":"error","data":%s}' % data for data in (b"null", b"false", b'""'))]


@pytest.mark.parametrize("text", EMPTY_ERRORS)
@pytest.mark.parametrize(
    ("after", "expected"),
    [
        (b"", [Broken(Reason.REMOTE, "")]),
        (b": nothing\n\n", [Broken(Reason.REMOTE, "")]),
        (b"<br />\n", [Broken(Reason.REMOTE, "")]),
        (error("Overloaded"), [Broken(Reason.REMOTE, "Overloaded")]),
        (error("") + error("Overloaded"), [Broken(Reason.REMOTE, "Overloaded")]),
        (error("")[:-1], [Broken(Reason.REMOTE, "")]),
        (live("a") + END, [Live("a"), ENDED]),
        (live("a"), [Live("a"), Broken(Reason.REMOTE, "")]),
        (line("x"), [Broken(Reason.MALFORMED, "an event that is no JSON: x")]),
    ],
    ids=["nothing", "comment", "notice", "error", "two", "unfinished", "end", "live", "malformed"],
)
def test_an_error_without_a_message_waits_for_what_follows(text: bytes, after: bytes, expected: list[Event]) -> None:
    body = b"data: " + text + b"\n\n" + after
    check(body, expected)
    for reason in Reason:
        assert judge([body], failure=reason) == expected


def test_a_limit_ends_the_wait_of_an_error_without_a_message() -> None:
    body = error("") + b":" + b"x" * 100
    limits = Limits(event_bytes=100)
    check(body, [too_large("event_bytes", 100, "bytes in one event")], limits=limits)


# ------------------------------------------------------------------------------ strict JSON in events


@pytest.mark.parametrize(
    "text",
    [
        "[DONE]",
        "x",
        "X",
        " ",
        "{",
        '{"type":"live","data":"a"',
        '{"type":"live","data":"a"} x',
        '{"type":"live","data":"a"}{}',
        '{"type":"live","data":"a"},',
        '\ufeff{"type":"live","data":"a"}',
        '{"type":"live","data":"a","n":NaN}',
        '{"type":"live","data":"a","n":Infinity}',
        '{"type":"live","data":"a","n":-Infinity}',
        '{"type":"live","data":"a","n":1.}',
        '{"type":"live","data":"a","n":+1}',
        '{"type":"live","data":"a","n":0x1}',
        '{"type":"live","data":"a\tb"}',
        r'{"type":"live","data":"\x"}',
        '{"type":"live","data":"a","n":' + "1" * 4301 + "}",
        '{"type":"live","data":"a","n":1.' + "1" * 4300 + "}",
        '{"type":"live","data":"a","n":1e' + "1" * 4300 + "}",
        '{"type":"live","data":"a","n":' + nested(64) + "}",
        "[" * 100_000,
        '{"type":' * 50_000,
        '{"type":"live","type":"live","data":"a"}',
        '{"type":"live","data":"a","data":"a"}',
        '{"type":"live","data":"a","subtype":"","subtype":""}',
        r'{"type":"live","\u0074ype":"end","data":"a"}',
        r'{"\u0064at\u0061":"b","type":"live","data":"a"}',
        r'{"\u0073ubtype":"b","type":"live","data":"a","\u0073\u0075btype":"b"}',
        '{"type":"end","type":"live","data":{"type":"x"}}',
    ],
    ids=lambda text: plain(text[:40]),
)
def test_an_event_that_is_no_strict_json_is_malformed_and_named(text: str) -> None:
    check(
        live("a") + line(text) + END, [Live("a"), Broken(Reason.MALFORMED, f"an event that is no JSON: {text[:200]}")]
    )


@pytest.mark.parametrize(
    "more",
    [
        '"n":' + "1" * 4300,
        '"n":-' + "1" * 4300,
        '"n":1.' + "1" * 4299,
        '"n":1e9999',
        '"n":' + nested(63),
        '"n":"' + "[" * 1000 + '"',
        '"n":{"type":1,"type":2,"data":1,"data":2}',
        '"n":1,"n":2',
        '"n":"\\u0074ype type data"',
        r'"n":"\ud83d","\ud83d":{"\ude8c":["\ude8c"]}',
        r'"n":"\u0000"',
    ],
    ids=lambda more: plain(more[:30]),
)
def test_odd_json_around_the_keys_that_count_is_taken(more: str) -> None:
    check(line(f'{{{more},"type":"live","data":"a"}}') + END, [Live("a"), ENDED])


@pytest.mark.parametrize(
    "text",
    ["null", "true", "1", '"live"', "[]", '["type"]', "{}", '{"data":"a"}', '{"type":null}', '{"type":1,"data":"a"}'],
)
def test_an_event_without_a_type_is_malformed(text: str) -> None:
    check(line(text) + END, [Broken(Reason.MALFORMED, f"an event without a type: {text}")])


@pytest.mark.parametrize("data", ["", ',"data":null', ',"data":5', ',"data":false', ',"data":["a"]', ',"data":{}'])
@pytest.mark.parametrize("subtype", ["", ',"subtype":"status"'])
def test_a_live_event_without_text_is_malformed(data: str, subtype: str) -> None:
    text = f'{{"type":"live"{data}{subtype}}}'
    check(line(text) + END, [Broken(Reason.MALFORMED, f"a live event without text: {text}")])


def test_of_a_malformed_line_200_characters_are_shown() -> None:
    text = "é" * 150 + "<" * 60
    check(line(text), [Broken(Reason.MALFORMED, "an event that is no JSON: " + "é" * 150 + "<" * 50)])


def test_half_surrogate_pairs_become_replacement_characters() -> None:
    body = (
        rb'data: {"type":"live","data":"a\ud83d"}' + b"\n\n"
        rb'data: {"type":"live","data":"\ude8c\ud83d\ude8c","subtype":"\uD83D"}' + b"\n\n"
        rb'data: {"type":"error","data":{"\ud800":"\udc00\ud800"}}' + b"\n\n"
    )
    check(
        body,
        [
            Live("a\ufffd"),
            Live("\ufffd🚌", "\ufffd"),
            Broken(Reason.REMOTE, r'{"\ufffd": "\ufffd\ufffd"}'),
        ],
    )


@pytest.mark.parametrize("depth", [1, 2, 64, 512])
def test_the_depth_of_json_is_exact(depth: int) -> None:
    limits = Limits(json_depth=depth)
    deep = f'{{"success":true,"n":{nested(depth - 1) or 1}}}'
    deeper = f'{{"success":true,"n":{nested(depth)}}}'
    check(deep.encode(), [End(None, deep)], limits=limits)
    check(deeper.encode(), [Broken(Reason.MALFORMED, f"a body that is no JSON: {deeper[:200]}")], limits=limits)
    assert judge([end_of(deep)], limits=limits) == [End(None, deep)]
    text = json.dumps({"type": "end", "data": deeper})
    malformed = Broken(Reason.MALFORMED, f"an end event whose payload is no JSON: {text[:200]}")
    assert judge([line(text)], limits=limits) == [malformed]
    message = f'{{"type":"error","data":{nested(depth - 1) or 1}}}'
    assert judge([line(message)], limits=limits) == [Broken(Reason.REMOTE, nested(depth - 1) or "1")]


@pytest.mark.parametrize("depth", [2, 3, 64])
def test_the_depth_of_an_event_objects_metadata_is_exact(depth: int) -> None:
    def body(metadata: str) -> str:
        more = f'"timestamp":1751412345.125,"subtype":"status","visibility":"visible","metadata":{metadata}'
        return f'{{"type":"live","data":"a",{more}}}'

    limits = Limits(json_depth=depth)
    check(line(body(nested(depth - 1))) + END, [Live("a", "status"), ENDED], limits=limits)
    for more in (0, 1, 2):
        text = body(nested(depth + more))
        check(line(text), [Broken(Reason.MALFORMED, f"an event that is no JSON: {text[:200]}")], limits=limits)


# ------------------------------------------------------------------------------ the body ends without a terminal event


UNENDED = {
    "nothing at all": (b"", [], ""),
    "blank lines": (b"\n\r\n\n", [], ""),
    "marks": (BOM + b"\n" + BOM, [], ""),
    "pieces": (live("a") + live("b"), [Live("a"), Live("b")], ""),
    "an event without its blank line": (live("a") + END[:-1], [Live("a")], ""),
    "an event without its line end": (live("a") + END[:-2], [Live("a")], ""),
    "an event cut inside": (live("a") + END[:30], [Live("a")], ""),
    "a field cut inside": (live("a") + b"dat", [Live("a")], f"{HINT}dat"),
    "a notice": (live("a") + b"PHP Fatal error: x\n", [Live("a")], f"{HINT}PHP Fatal error: x"),
    "a notice without a line end": (live("a") + b"Fatal", [Live("a")], f"{HINT}Fatal"),
    "two notices": (b"one\n" + live("a") + b"two\n", [Live("a")], f"{HINT}one"),
    "a notice without words": (live("a") + b"<br />\n<hr>\n-\n", [Live("a")], ""),
    "a notice of several lines": (
        live("a") + b"<br />\n<b>Fatal error</b>:  Uncaught <i>Error</i> &amp; <br>more\nStack trace:\n",
        [Live("a")],
        f"{HINT}Fatal error: Uncaught Error & more",
    ),
    "a tag that its line cuts": (live("a") + b"Down <a\n", [Live("a")], f"{HINT}Down"),
    "a notice with an event glued to it": (b"Oh</b>" + HI_PIECE, [Live("Hi")], f"{HINT}Oh"),
    "a notice with an unfinished event glued to it": (b"Oh</b>" + HI_PIECE[:20], [], f"{HINT}Oh"),
    "an unfinished event glued to a tag": (b"<b>" + HI_PIECE[:20], [], ""),
    "unfinished data behind a mark": (live("a") + BOM + b"data:", [Live("a")], ""),
    "a notice behind a mark": (live("a") + BOM + BOM + b"Fatal", [Live("a")], f"{HINT}Fatal"),
    "a long notice": (live("a") + b"x" * 300 + b"\n", [Live("a")], f"{HINT}{'x' * 200}"),
    "a notice that begins the body and then data": (b"<br />\n" + live("a"), [Live("a")], ""),
    "a notice that begins the body and then unfinished data": (b"<b>Oh</b>\ndata:", [], f"{HINT}Oh"),
}


@pytest.mark.parametrize(("body", "lives", "hint"), UNENDED.values(), ids=UNENDED)
def test_a_body_that_ends_without_a_terminal_event_is_truncated(body: bytes, lives: list[Event], hint: str) -> None:
    check(body, [*lives, Broken(Reason.TRUNCATED, CLOSED + hint)])


@pytest.mark.parametrize(("body", "lives", "hint"), UNENDED.values(), ids=UNENDED)
@pytest.mark.parametrize(
    ("given", "reason"),
    [
        (Reason.LOST, Reason.TRUNCATED),
        (Reason.TRUNCATED, Reason.TRUNCATED),
        (Reason.TIMEOUT, Reason.TIMEOUT),
        (Reason.PROXY, Reason.PROXY),
        (Reason.TOO_LARGE, Reason.TOO_LARGE),
    ],
)
def test_a_failure_in_the_middle_keeps_its_reason(
    body: bytes, lives: list[Event], hint: str, given: Reason, reason: Reason
) -> None:
    for pieces in ([body], byte_by_byte(body)):
        assert judge(pieces, failure=given) == [*lives, Broken(reason, "cut" + hint)]


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (None, b"", Broken(Reason.TIMEOUT, "cut", limit="idle")),
        (200, live("a"), Broken(Reason.TIMEOUT, "cut", limit="idle")),
        (200, b"<p>Down", Broken(Reason.TIMEOUT, CUT_PAGE, raw="<p>Down", limit="idle")),
        (503, b"Down", Broken(Reason.REFUSED, "Down", 503, raw="Down")),
        (200, error(""), Broken(Reason.REMOTE, "")),
        (200, HI.encode(), ENDED),
    ],
    ids=["nothing", "a piece", "a page", "a refusal", "an error without a message", "a whole object"],
)
def test_a_clock_is_named_where_it_is_what_ended_the_answer(status: int | None, body: bytes, expected: Event) -> None:
    decoder = ReplyDecoder()
    if status is not None:
        decoder.receive_head(status, [])
        decoder.receive_data(body)
    assert decoder.receive_failure("cut", Reason.TIMEOUT, limit="idle") == [expected]


def test_an_ignored_line_is_named_only_if_it_came_before_the_fault() -> None:
    before = b"<br />\nOh\n" + line("x")
    after = live("a") + line("x") + b"<br />\nWarning\n" + live("b")
    check(before, [Broken(Reason.MALFORMED, f"an event that is no JSON: x{HINT}Oh")])
    check(after, [Live("a"), Broken(Reason.MALFORMED, "an event that is no JSON: x")])
    check(live("a") + before, [Live("a"), Broken(Reason.MALFORMED, f"an event that is no JSON: x{HINT}Oh")])


# ------------------------------------------------------------------------------ what is no answer


@pytest.mark.parametrize("before", [b"", BOM, b"\n" + BOM + b" "])
@pytest.mark.parametrize(
    "text",
    ["0", "-1", "[]", '"text"', "null", "true", "1635c20365", "Service down", ": keepalive", "event: x", "[{}]", "idx"],
)
def test_a_body_that_is_no_answer_is_malformed_if_it_ended_well_and_else_cut(before: bytes, text: str) -> None:
    body = before + text.encode()
    check(body, [Broken(Reason.MALFORMED, f"no answer of the chat: {text}", raw=text)])
    check(body + b"\n\n", [Broken(Reason.MALFORMED, f"no answer of the chat: {text}", raw=f"{text}\n\n")])
    named = text not in ("[]", "[{}]", ": keepalive", "event: x")
    cut = "cut" + (HINT + text if named else "")
    check(body, [Broken(Reason.TRUNCATED, cut)], failure=Reason.LOST)
    check(body, [Broken(Reason.TIMEOUT, cut)], failure=Reason.TIMEOUT)


@pytest.mark.parametrize("body", [b"\xef", b"\n\xef\xbb", b"d", BOM + b"da", b" dat", b"data"])
def test_the_beginning_of_a_mark_or_of_a_data_line_was_cut(body: bytes) -> None:
    check(
        body,
        [
            Broken(
                Reason.TRUNCATED,
                CLOSED + (HINT + body.strip(b" " + BOM).decode() if b"d" in body and body != b"data" else ""),
            )
        ],
    )


def test_of_a_text_that_is_no_answer_so_much_is_kept_and_a_later_event_still_counts() -> None:
    limits = Limits(refusal_bytes=10)
    check(b"x" * 40, [Broken(Reason.MALFORMED, "no answer of the chat: " + "x" * 10, raw="x" * 10)], limits=limits)
    check(b"x" * 40 + b"\n" + live("a") + END, [Live("a"), ENDED], limits=limits)


NOTICES = [
    b'<br />\n<b>Warning</b>:  Undefined {array} key "nope" in <b>a.php</b> on line <b>3</b><br />\n',
    b"PHP Warning:  x\n",
    b"</div>",
    BOM + b"x" + BOM,
    b'Array\n(\n {"success":true\n {"code":',
    b'{"code":"x"} </p>'[1:],
]


@pytest.mark.parametrize("notice", NOTICES)
@pytest.mark.parametrize("after", [b"", b"\n<!-- cached -->", b'<script>{"code":', b'{"success":fal'])
def test_the_object_behind_notices_is_judged_as_if_it_stood_alone(notice: bytes, after: bytes) -> None:
    for text, expected in (
        (HI, ENDED),
        ('{"success":false,"message":"No."}', remote('{"success":false,"message":"No."}', "No.")),
        (
            '{ "success" : true, "blocks":[{"code":"inner"}]}',
            End(None, '{ "success" : true, "blocks":[{"code":"inner"}]}'),
        ),
    ):
        body = notice + text.encode() + after
        check(body, [expected])
        check(body, [expected], failure=Reason.TIMEOUT)
    (refused,) = judge([notice + STALE.encode() + after], 403)
    assert refused == Broken(Reason.REFUSED, "Cookie check failed", 403, "rest_cookie_invalid_nonce", raw=STALE)
    (malformed,) = judge([notice + STALE.encode() + after])
    assert isinstance(malformed, Broken)
    assert (malformed.reason, malformed.code) == (Reason.MALFORMED, "rest_cookie_invalid_nonce")
    assert malformed.detail.startswith("a JSON object without success: Cookie check failed")


def test_of_several_objects_behind_notices_the_last_whole_one_counts() -> None:
    body = b'x{"success":false}' + HI.encode() + b'{"code":"cut"'
    check(body, [ENDED])
    check(b"x" + body[:-1] + b"}", judge([b'x{"success":false}' + HI.encode() + b'{"code":"cu}']))


def test_an_object_behind_notices_must_stand_in_the_part_that_is_kept() -> None:
    body = b"<b>" + HI.encode()
    check(body, [ENDED], limits=Limits(refusal_bytes=len(body)))
    short = Limits(refusal_bytes=len(body) - 1)
    check(body, [page(HI[:-1], body[:-1])], limits=short)
    check(
        b"xxx" + HI.encode(),
        [Broken(Reason.MALFORMED, f"no answer of the chat: xxx{HI[:-1]}", raw=f"xxx{HI[:-1]}")],
        limits=short,
    )


def test_a_depth_that_is_too_much_for_an_object_is_too_much_behind_notices() -> None:
    limits = Limits(json_depth=2)
    check(b'x{"success":true,"a":[1]}', [End(None, '{"success":true,"a":[1]}')], limits=limits)
    (broken,) = judge([b'x{"success":true,"a":[[]]}'], limits=limits)
    assert isinstance(broken, Broken)
    assert broken.reason is Reason.MALFORMED


def test_after_a_data_line_no_object_is_looked_for() -> None:
    check(b"x\ndata: \n\n" + HI.encode(), [Live("", "unreadable"), Broken(Reason.TRUNCATED, f"{CLOSED}{HINT}x")])


# ------------------------------------------------------------------------------ pages


PAGE = b"<!DOCTYPE html>\n<html><head>\n<title>Caf\xc3\xa9 &amp; more</title></head>\n<body>Welcome</body></html>\n"


def page(detail: str, raw: bytes) -> Event:
    return Broken(Reason.MALFORMED, f"a page, not an answer of the chat: {detail}", raw=raw.decode())


@pytest.mark.parametrize("before", [b"", BOM, b"\n \t\r\n", BOM + b"\n"], ids=["bare", "mark", "blank", "both"])
def test_a_page_is_malformed_and_named_by_its_title(before: bytes) -> None:
    check(before + PAGE, [page("Café & more", PAGE)])


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        (b"<", "<"),
        (b"<p>Down for <b>repair</b>&nbsp;&#x21;&#33;</p>", "Down for repair !!"),
        (b'<TITLE class="a">\n  Just\n a&hellip; moment\n</TITLE>', "Just a… moment"),
        (b"<title></title><h1>Down</h1>", "Down"),
        (b"<svg><title> \n</title></svg><title>Down</title>", "Down"),
        (b"<titles>no</titles>", "no"),
        (b"<title>cut", "cut"),
        (b"<html><style>a { b: c }</style><SCRIPT src='a'>if (a < b) c();</script ><p>Down</p>", "Down"),
        (b"<p>Down</p><script>if (a < b", "Down"),
        (b"<p>Down</p><scripts>all<styled>day", "Down all day"),
        (b"<h1>a", "a"),
        (b"<br />", ""),
        (b"<p>" + b"word " * 100, ("word " * 40)[:200]),
        (
            b"<title>&#" + b"9" * 5000 + b";|&#x" + b"9" * 5000 + b";|&#0000065;|&#55296;|&#0;</title>",
            "\ufffd|\ufffd|A|\ufffd|\ufffd",
        ),
    ],
    ids=lambda value: plain(value[:24]),
)
def test_a_page_is_named_in_one_line_without_tags(body: bytes, detail: str) -> None:
    check(body, [page(detail, body)])


def test_of_a_page_the_bytes_that_are_no_text_are_replaced() -> None:
    malformed = Broken(Reason.MALFORMED, "a page, not an answer of the chat: caf\ufffd", raw="<title>caf\ufffd</title>")
    check(b"<title>caf\xe9</title>", [malformed])


def test_a_body_that_begins_with_a_tag_and_has_a_data_line_is_a_stream() -> None:
    notice = b"<br />\n<b>Warning</b>: x\n"
    check(notice + live("a") + END, [Live("a"), ENDED])
    check(notice + b"data:", [Broken(Reason.TRUNCATED, f"{CLOSED}{HINT}Warning: x")])
    check(notice + b"data", [page("Warning: x data", notice + b"data")])
    check(notice + b" data: x\n", [page("Warning: x data: x", notice + b" data: x\n")])
    check(notice + line("x"), [Broken(Reason.MALFORMED, f"an event that is no JSON: x{HINT}Warning: x")])


@pytest.mark.parametrize("reason", [Reason.LOST, Reason.TIMEOUT])
def test_a_page_that_is_cut_says_both(reason: Reason) -> None:
    detail = CUT_PAGE.replace("Down", "Café & more")
    expected = Reason.TRUNCATED if reason is Reason.LOST else reason
    body = PAGE[:60]
    check(body, [Broken(expected, detail, raw=body.decode())], failure=reason)


@pytest.mark.parametrize("size", [7, 40, 41])
def test_a_page_is_judged_after_exactly_so_many_bytes(size: int) -> None:
    limits = Limits(refusal_bytes=size)
    body = b"<title>" + b"x" * 100
    expected = [page("" if size == 7 else "x" * (size - 7), body[:size])]
    check(body, expected, limits=limits)
    for pieces in every_cut(body[:size]):
        decoder = ReplyDecoder(limits)
        decoder.receive_head(200, [])
        assert [decoded for piece in pieces for decoded in decoder.receive_data(piece)] == expected
    decoder = ReplyDecoder(limits)
    decoder.receive_head(200, [])
    assert decoder.receive_data(body[: size - 1]) == []


def test_a_data_line_counts_if_its_name_ends_at_the_last_byte_that_is_looked_at() -> None:
    notice = b"<br />\n"
    check(notice + live("a") + END, [Live("a"), ENDED], limits=Limits(refusal_bytes=len(notice) + 5))
    short = Limits(refusal_bytes=len(notice) + 4)
    check(notice + live("a") + END, [page("data", notice + b"data")], limits=short)


def test_events_before_a_data_line_with_a_colon_do_not_settle_it() -> None:
    check(b"<br>\ndata\n\n<p>", [Live("", "unreadable"), page("data", b"<br>\ndata\n\n<p>")])


# ------------------------------------------------------------------------------ JSON bodies


@pytest.mark.parametrize("before", [b"", BOM, b"\n\n", b" \t\r\n\v\f ", BOM + b"\r\n "])
@pytest.mark.parametrize(
    "after", [b"", b"\n", b"<!-- cached -->", b"{", b"data: x\n\n", b"\xff", b"}" * 100, b"[" * 1000]
)
def test_a_whole_object_counts_and_what_follows_it_does_not(before: bytes, after: bytes) -> None:
    payload = '{"success":true,"reply":"Hi {","a":{"b":[1,{"c":"}"}]}}'
    check(before + payload.encode() + after, [End("Hi {", payload)])


RICH = r'{"success":true,"reply":"\ud83d\ude8c é 🚌 \"","a":[-1.5e+10,0.25,1E5,true,false,null,{"":[]},-0]}'


def test_an_object_cut_anywhere_is_truncated() -> None:
    body = RICH.encode()
    for size in range(1, len(body)):
        assert judge([body[:size]]) == [Broken(Reason.TRUNCATED, CUT_JSON)], body[:size]
        assert judge([body[:size]], failure=Reason.LOST) == [Broken(Reason.TRUNCATED, "cut")]
        assert judge([body[:size]], failure=Reason.TIMEOUT) == [Broken(Reason.TIMEOUT, "cut")]
    check(body, [End('🚌 é 🚌 "', RICH)])


@pytest.mark.parametrize("reason", list(Reason))
def test_an_object_that_fails_in_the_end_is_judged_by_what_there_is(reason: Reason) -> None:
    unfinished = Reason.TRUNCATED if reason is Reason.LOST else reason
    check(HI.encode() + b"\n<!--", [ENDED], failure=reason)
    check(b'{"success":true', [Broken(unfinished, "cut")], failure=reason)
    check(b"{true", [Broken(Reason.MALFORMED, "a body that is no JSON: {true")], failure=reason)


@pytest.mark.parametrize(
    "text",
    [
        "{x",
        "{'success':true}",
        '{"success":True}',
        '{"success":true,"n":NaN}',
        '{"success":true,"n":Infinity',
        '{"success":true;',
        '{"success":true,"n":01}',
        '{"success":true,"n":-}',
        '{"success":true,"n":1.e5}',
        '{"reply":"a\nb"}',
        r'{"reply":"\x',
        r'{"reply":"\u12g',
        '{"success":true,"n":' + "1" * 4301 + "}",
        '{"n":' + "[" * 100_000,
    ],
    ids=lambda text: plain(text[:30]),
)
def test_an_object_that_cannot_be_read_is_malformed(text: str) -> None:
    check(text.encode(), [Broken(Reason.MALFORMED, f"a body that is no JSON: {text[:200]}")])


def test_an_unreadable_object_is_not_blamed_on_the_blanks_before_it() -> None:
    check(b"  \n{x", [Broken(Reason.MALFORMED, "a body that is no JSON: {x")])


@pytest.mark.parametrize(
    ("text", "detail"),
    [
        ('{"success":false,"message":"No."}', "No."),
        ('{"success":false}', ""),
        ('{"success":false,"message":null}', ""),
        ('{"success":false,"message":["a"]}', '["a"]'),
        ('{"success":true,"success":false,"message":"No."}', "No."),
    ],
)
def test_success_false_is_the_servers_error(text: str, detail: str) -> None:
    check(text.encode() + b"\n", [Broken(Reason.REMOTE, detail, raw=text)])
    check(end_of(text), [Broken(Reason.REMOTE, detail, raw=text)])


@pytest.mark.parametrize(
    ("text", "said", "code"),
    [
        ("{}", "{}", None),
        ('{"reply":"Hi"}', '{"reply":"Hi"}', None),
        ('{"success":1}', '{"success":1}', None),
        ('{"success":"true"}', '{"success":"true"}', None),
        ('{"success":null}', '{"success":null}', None),
        ('{"success":0,"message":"No."}', "No.", None),
        ('{"code":"rest_no_route","message":"No route.","data":{"status":404}}', "No route.", "rest_no_route"),
        ('{"code":7,"message":""}', '{"code":7,"message":""}', None),
        ('{"' + "x" * 300 + '":1}', '{"' + "x" * 198, None),
    ],
)
def test_an_object_with_another_success_or_none_is_malformed(text: str, said: str, code: str | None) -> None:
    expected = Broken(Reason.MALFORMED, f"a JSON object without success: {said}", code=code, raw=text)
    check(text.encode(), [expected])
    check(end_of(text), [expected])


# ------------------------------------------------------------------------------ heads


def test_a_coding_other_than_identity_is_malformed_and_nothing_is_inflated() -> None:
    body = live("a") + END
    for value, named in [
        ("gzip", "gzip"),
        (" GZip ", "gzip"),
        ("identity, br", "br"),
        ("gzip,deflate", "gzip, deflate"),
        ("none, X-Gzip", "x-gzip"),
    ]:
        expected = [Broken(Reason.MALFORMED, f"the body is coded as {named}, though identity was asked for")]
        assert judge([body], headers=[("Content-Encoding", value)]) == expected
    both: Fields = [("content-encoding", "gzip"), (b"Content-Encoding", b"br")]
    assert judge([], headers=both) == [
        Broken(Reason.MALFORMED, "the body is coded as gzip, br, though identity was asked for")
    ]
    for value in ("", "identity", "Identity , identity", ",", "none", "UTF-8", "8bit, binary", "x" * 300, "\ud800"):
        assert judge([body], headers=[("Content-Encoding", value)]) == [Live("a"), ENDED]


BOTH_FRAMINGS: Fields = [("Content-Length", "5"), (b"TRANSFER-ENCODING", b"chunked")]


def test_both_framings_at_once_are_not_followed() -> None:
    what = "Content-Length together with Transfer-Encoding"
    assert judge([END], headers=BOTH_FRAMINGS) == [Broken(Reason.TRUNCATED, what)]
    assert judge([END], headers=[*BOTH_FRAMINGS, ("Content-Encoding", "gzip")]) == [Broken(Reason.TRUNCATED, what)]
    refused = Broken(Reason.REFUSED, f"status 503 and no text ({what})", 503, retry_after=7)
    assert judge([b"x"], 503, [*BOTH_FRAMINGS, ("Retry-After", "7")]) == [refused]
    for one in BOTH_FRAMINGS:
        assert judge([END], headers=[one]) == [ENDED]


@pytest.mark.parametrize("status", [200, 403, 100, 101])
def test_the_number_of_headers_is_exact(status: int) -> None:
    fields = [("a", "b")] * 128
    broken = too_large("headers", 128, "header fields")
    decoder = ReplyDecoder()
    assert broken not in decoder.receive_head(status, fields)
    decoder = ReplyDecoder()
    assert decoder.receive_head(status, iter([*fields, ("a", "b")])) == [broken]
    assert decoder.receive_data(END) == []


@pytest.mark.parametrize("most", [0, 1, 8])
def test_the_number_of_interim_responses_is_exact(most: int) -> None:
    decoder = ReplyDecoder(Limits(interim_responses=most))
    for number in range(most):
        assert decoder.receive_head(102 + number, [("Link", "</a>")]) == []
    enough = pickle.loads(pickle.dumps(decoder))
    assert enough.receive_head(200, []) == []
    assert enough.receive_data(END) == [ENDED]
    broken = too_large("interim_responses", most, "1xx responses before the answer")
    assert decoder.receive_head(199, []) == [broken]
    assert decoder.receive_head(200, []) == []


def test_a_protocol_switch_that_nobody_asked_for_is_not_followed() -> None:
    decoder = ReplyDecoder(Limits(interim_responses=0))
    broken = Broken(Reason.TRUNCATED, "status 101: the server switched protocols, unasked")
    assert decoder.receive_head(101, [("Upgrade", "websocket")]) == [broken]
    assert decoder.receive_data(END) == []


def test_an_interim_head_says_nothing_about_the_body() -> None:
    decoder = ReplyDecoder()
    assert decoder.receive_head(103, [*BOTH_FRAMINGS, ("Content-Encoding", "gzip"), ("Location", "/")]) == []
    assert decoder.receive_head(200, []) == []
    assert decoder.receive_data(END) == [ENDED]


def test_before_the_head_there_is_no_answer() -> None:
    lost = Broken(Reason.LOST, "the connection was closed before any answer")
    assert ReplyDecoder().receive_eof() == [lost]
    decoder = ReplyDecoder()
    assert decoder.receive_head(100, []) == []
    assert decoder.receive_eof() == [lost]
    for reason in Reason:
        assert ReplyDecoder().receive_failure("no route", reason) == [Broken(reason, "no route")]
    assert ReplyDecoder().receive_failure("no route") == [Broken(Reason.LOST, "no route")]


# ------------------------------------------------------------------------------ refusals


STALE = '{"code":"rest_cookie_invalid_nonce","message":"Cookie check failed","data":{"status":403}}'


@pytest.mark.parametrize("status", [0, 99, 201, 204, 301, 401, 403, 404, 429, 500, 502, 599, 999])
def test_any_other_status_is_a_refusal_whatever_the_body(status: int) -> None:
    check(b"Down", [Broken(Reason.REFUSED, "Down", status, raw="Down")], status)
    text = END.decode()
    check(END, [Broken(Reason.REFUSED, text.strip()[:200], status, raw=text)], status)
    check(HI.encode(), [Broken(Reason.REFUSED, HI, status, raw=HI)], status)


@pytest.mark.parametrize(
    ("body", "detail", "code", "raw"),
    [
        (STALE, "Cookie check failed", "rest_cookie_invalid_nonce", STALE),
        (f"\ufeff\n\ufeff {STALE}\n<!-- cached -->", "Cookie check failed", "rest_cookie_invalid_nonce", STALE),
        ('{"success":false,"message":"Rejected."}', "Rejected.", None, '{"success":false,"message":"Rejected."}'),
        (
            '{"code":"wp_die","message":"<h1>Down</h1>"}',
            "Down",
            "wp_die",
            '{"code":"wp_die","message":"<h1>Down</h1>"}',
        ),
        ('{"code":403,"message":{"a":1}}', '{"a": 1}', None, '{"code":403,"message":{"a":1}}'),
        (r'{"code":"\ud800","message":"\ud800"}', "\ufffd", "\ufffd", r'{"code":"\ud800","message":"\ud800"}'),
        ('{"code":"x"}', '{"code":"x"}', "x", '{"code":"x"}'),
        ('{"code":"x","message":false}', '{"code":"x","message":false}', "x", '{"code":"x","message":false}'),
        ('{"code":"x","message":"cut', '{"code":"x","message":"cut', None, '{"code":"x","message":"cut'),
        ('{"code":"x","n":NaN}', '{"code":"x","n":NaN}', None, '{"code":"x","n":NaN}'),
        ('["a"]', '["a"]', None, '["a"]'),
        (PAGE.decode(), "Café & more", None, PAGE.decode()),
        ("<h1>502 Bad Gateway</h1><hr>nginx", "502 Bad Gateway nginx", None, "<h1>502 Bad Gateway</h1><hr>nginx"),
        ("<b>Fatal error</b>: x\n" + STALE, "Cookie check failed", "rest_cookie_invalid_nonce", STALE),
        (
            "<b>Fatal error</b>: x\n" + STALE[:-2],
            "Fatal error: x " + STALE[:-2],
            None,
            "<b>Fatal error</b>: x\n" + STALE[:-2],
        ),
        ('<title>No</title>{"code":5}', "No", None, '{"code":5}'),
        ("upstream\n connect  error", "upstream connect error", None, "upstream\n connect  error"),
        ("a < b &amp; c", "a < b &amp; c", None, "a < b &amp; c"),
        ("x" * 300, "x" * 200, None, "x" * 300),
        ("error: <title>Down</title>", "Down", None, "error: <title>Down</title>"),
        ("", "status 403 and no text", None, ""),
        ("\ufeff \n", "status 403 and no text", None, ""),
        ("<br>", "status 403 and no text", None, "<br>"),
        ("\ufeff<b>Down</b>", "Down", None, "<b>Down</b>"),
        (" \n<b>Down</b>", "Down", None, "<b>Down</b>"),
        ("Sorry: <TITLE>Down</TITLE>", "Down", None, "Sorry: <TITLE>Down</TITLE>"),
    ],
    ids=lambda value: plain(str(value)[:24]),
)
def test_a_refusal_says_what_the_server_said(body: str, detail: str, code: str | None, raw: str) -> None:
    check(body.encode(), [Broken(Reason.REFUSED, detail, 403, code, raw=raw)], 403)


@pytest.mark.parametrize("reason", list(Reason))
def test_a_refusal_that_fails_in_the_middle_stays_one(reason: Reason) -> None:
    check(b"<title>Bad Gat", [Broken(Reason.REFUSED, "Bad Gat", 502, raw="<title>Bad Gat")], 502, failure=reason)
    check(
        STALE.encode(),
        [Broken(Reason.REFUSED, "Cookie check failed", 403, "rest_cookie_invalid_nonce", raw=STALE)],
        403,
        failure=reason,
    )
    check(b"", [Broken(Reason.REFUSED, "status 502 and no text (cut)", 502)], 502, failure=reason)


def test_of_a_coded_refusal_only_the_status_counts() -> None:
    headers = [("Content-Encoding", "gzip"), ("Retry-After", "3")]
    expected = Broken(Reason.REFUSED, "status 503 and a body coded as gzip", 503, retry_after=3)
    check(STALE.encode(), [expected], 503, headers)
    lost = Broken(Reason.REFUSED, "status 503 and a body coded as gzip (cut)", 503, retry_after=3)
    check(b"\x1f\x8b", [lost], 503, headers, failure=Reason.LOST)


@pytest.mark.parametrize("status", [300, 301, 302, 303, 307, 308, 399])
def test_a_redirect_names_where_it_leads(status: int) -> None:
    headers = [("Location", "https://www.site.example/")]
    detail = "redirected to https://www.site.example/, which is not followed"
    assert judge([], status, headers) == [Broken(Reason.REFUSED, detail, status)]
    moved = b"<title>Moved</title>"
    check(moved, [Broken(Reason.REFUSED, f"{detail}: Moved", status, raw=moved.decode())], status, headers)
    assert judge([], status, []) == [Broken(Reason.REFUSED, f"status {status} and no text", status)]


def test_a_location_is_shown_in_part_and_always_encodes() -> None:
    detail = f"redirected to \ufffd{'x' * 199}, which is not followed"
    assert judge([], 302, [("location", "\udc80" + "x" * 300)]) == [Broken(Reason.REFUSED, detail, 302)]


@pytest.mark.parametrize("status", [201, 299, 400, 403, 503])
def test_a_location_of_another_status_is_no_redirect(status: int) -> None:
    assert judge([b"No."], status, [("Location", "/login")]) == [Broken(Reason.REFUSED, "No.", status, raw="No.")]


DATE = "Wed, 01 Jul 2026 12:00:00 GMT"


@pytest.mark.parametrize(
    ("value", "date", "seconds"),
    [
        ("120", None, 120),
        ("0", None, 0),
        ("007", None, 7),
        ("999999999", None, 999_999_999),
        ("1000000000", None, None),
        ("9" * 5000, None, None),
        ("-1", None, None),
        ("1.5", None, None),
        ("soon", None, None),
        ("", DATE, None),
        ("\u0661\u0662", None, None),
        ("Wed, 01 Jul 2026 12:00:30 GMT", DATE, 30),
        ("Thu, 02 Jul 2026 12:00:00 GMT", DATE, 86_400),
        ("Wed, 01 Jul 2026 11:59:00 GMT", DATE, 0),
        (DATE, DATE, 0),
        (DATE, None, None),
        (DATE, "now", None),
        ("Wed, 31 Jun 2026 12:00:00 GMT", DATE, None),
        ("Wed, 01 Jul 0000 12:00:00 GMT", DATE, None),
        ("Wed, 01 Jul 2026 24:00:00 GMT", DATE, None),
        ("Wed, 01 Jux 2026 12:00:00 GMT", DATE, None),
        ("Wed, 01 Jul 2026 12:00:00 CET", DATE, None),
        ("Wednesday, 01-Jul-26 12:00:00 GMT", DATE, 0),
        ("Wed, \u0660\u0661 Jul 2026 12:00:00 GMT", DATE, None),
        ("Fri, 31 Dec 9999 23:59:59 GMT", "Mon, 01 Jan 0001 00:00:00 GMT", 315_537_897_599),
    ],
)
def test_retry_after_is_in_seconds(value: str, date: str | None, seconds: int | None) -> None:
    headers = [("RETRY-AFTER", value), *([] if date is None else [("Date", date)])]
    assert judge([b"Busy"], 429, headers) == [Broken(Reason.REFUSED, "Busy", 429, None, seconds, "Busy")]


@pytest.mark.parametrize("status", [201, 299, 302, 429])
def test_retry_after_counts_whatever_the_status(status: int) -> None:
    expected = [Broken(Reason.REFUSED, f"status {status} and no text", status, retry_after=5)]
    assert judge([], status, [("Retry-After", "5")]) == expected


def test_of_repeated_fields_the_first_counts() -> None:
    headers = [("Retry-After", "1"), ("Retry-After", "2"), ("Location", "/a"), ("Location", "/b")]
    detail = "redirected to /a, which is not followed"
    assert judge([], 302, headers) == [Broken(Reason.REFUSED, detail, 302, retry_after=1)]


@pytest.mark.parametrize("size", [1, 5, 100])
def test_a_refusal_is_judged_after_exactly_so_many_bytes(size: int) -> None:
    limits = Limits(refusal_bytes=size, event_bytes=1, reply_bytes=1)
    text = "0123456789" * 11
    expected: list[Event] = [Broken(Reason.REFUSED, text[:size], 500, raw=text[:size])]
    check(text.encode(), expected, 500, limits=limits)
    for pieces in every_cut(text[:size].encode()):
        decoder = ReplyDecoder(limits)
        decoder.receive_head(500, [])
        assert [decoded for piece in pieces for decoded in decoder.receive_data(piece)] == expected
    decoder = ReplyDecoder(limits)
    decoder.receive_head(500, [])
    assert decoder.receive_data(text[: size - 1].encode()) == []


def test_by_default_64_kib_of_a_refusal_or_a_page_are_read() -> None:
    body = b"<p>" + b"x" * (64 * KIB)
    raw = body[: 64 * KIB].decode()
    check(body, [Broken(Reason.REFUSED, "x" * 200, 500, raw=raw)], 500)
    check(body, [page("x" * 200, raw.encode())])


def test_a_character_cut_at_the_bound_is_replaced() -> None:
    check("aé".encode(), [Broken(Reason.REFUSED, "a\ufffd", 500, raw="a\ufffd")], 500, limits=Limits(refusal_bytes=2))


# ------------------------------------------------------------------------------ limits


def too_large(limit: str, value: int, what: str) -> Event:
    return Broken(Reason.TOO_LARGE, f"more than {value} {what} (Limits.{limit})", limit=limit)


@pytest.mark.parametrize("before", [b"", BOM, b"\n\n\n", BOM + b" "])
def test_a_json_body_may_be_as_long_as_an_event_from_its_brace_on(before: bytes) -> None:
    for after in (b"", b"\n" * 40, b"<!-- cached by a plugin of the site -->"):
        body = HI.encode() + after
        check(before + body, [ENDED], limits=Limits(event_bytes=len(body)))
        less = len(body) - 1
        check(
            before + body, [too_large("event_bytes", less, "bytes in one JSON body")], limits=Limits(event_bytes=less)
        )


def test_an_event_may_be_as_long_as_its_limit() -> None:
    data = json.dumps({"type": "live", "data": "x" * 50})
    size = len("data: " + data)
    check(line(data) + END[:20], [Live("x" * 50), Broken(Reason.TRUNCATED, CLOSED)], limits=Limits(event_bytes=size))
    broken = too_large("event_bytes", size - 1, "bytes in one event")
    check(line(data) + line(data), [broken], limits=Limits(event_bytes=size - 1))
    check(live("a") + line(data), [Live("a"), broken], limits=Limits(event_bytes=size - 1))


def test_pieces_of_a_line_wait_for_no_more_than_its_limit() -> None:
    decoder = ReplyDecoder(Limits(event_bytes=100))
    decoder.receive_head(200, [])
    assert decoder.receive_data(b": comment\n") == []
    assert [decoder.receive_data(b"x" * size) for size in (10, 60)] == [[], []]
    assert decoder.receive_data(b"x" * 31) == [too_large("event_bytes", 100, "bytes in one event")]


@pytest.mark.parametrize("wrap", [bytes, bytearray])
def test_pieces_that_waited_count_for_the_whole_reply(wrap: Callable[[bytes], bytes | bytearray]) -> None:
    pieces = [b": comment\n", b": one", b" piece", b" more"]
    size = len(b"".join(pieces)) + 20
    for more in (0, 1):
        decoder = ReplyDecoder(Limits(reply_bytes=size))
        decoder.receive_head(200, [])
        assert [decoder.receive_data(piece) for piece in pieces] == [[]] * 4
        broken = [too_large("reply_bytes", size, "bytes in the whole reply")]
        assert decoder.receive_data(wrap(b"\n" * (20 + more))) == broken * more


def test_marks_and_blanks_before_the_body_count_for_the_whole_reply_alone() -> None:
    before = b" " * 40 + BOM + b"\n" * 70_000
    size = len(before) + len(HI)
    check(before + HI.encode(), [ENDED], limits=Limits(event_bytes=len(HI), reply_bytes=size))
    broken = too_large("reply_bytes", size - 1, "bytes in the whole reply")
    check(before + HI.encode(), [broken], limits=Limits(reply_bytes=size - 1))


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (live("a") + END, [Live("a"), ENDED]),
        (BOM + b"\n" + HI.encode(), [ENDED]),
        (b"<br />\n" + live("a") + END, [Live("a"), ENDED]),
        (PAGE, [page("Café & more", PAGE)]),
        (live("a"), [Live("a"), Broken(Reason.TRUNCATED, CLOSED)]),
    ],
    ids=["stream", "JSON", "notice", "page", "truncated"],
)
def test_a_whole_reply_may_be_as_long_as_its_limit(body: bytes, expected: list[Event]) -> None:
    check(body, expected, limits=Limits(reply_bytes=len(body)))
    less = len(body) - 1
    short = judge([body[:less]], limits=Limits(reply_bytes=less))[:-1]
    check(body, [*short, too_large("reply_bytes", less, "bytes in the whole reply")], limits=Limits(reply_bytes=less))


def test_what_follows_the_terminal_event_counts_for_no_limit() -> None:
    body = live("a") + END
    check(body + b"x" * 400, [Live("a"), ENDED], limits=Limits(reply_bytes=len(body), event_bytes=len(body)))


def test_a_refusal_is_not_bound_by_the_limits_of_a_reply() -> None:
    limits = Limits(reply_bytes=1, event_bytes=1)
    check(STALE.encode(), judge([STALE.encode()], 403), 403, limits=limits)


@pytest.mark.parametrize(
    ("before", "piece"), [(b"{", b" "), (b"", b" "), (b"data: ", b"x"), (b"data:\n\n", b":"), (b"", b"<a")]
)
def test_memory_is_bound_by_the_limits_however_much_comes_at_once(before: bytes, piece: bytes) -> None:
    body = before + piece * (12 * MIB // len(piece))
    decoder = ReplyDecoder(Limits(event_bytes=MIB, refusal_bytes=MIB))
    decoder.receive_head(200, [])
    tracemalloc.start()
    try:
        events = decoder.receive_data(body)
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert [type(decoded) for decoded in events[-1:]] == ([] if body.isspace() else [Broken])
    assert most < 3 * MIB + 256 * KIB, f"{most / MIB:.1f} MiB"


HOSTILE = [
    b"<title",
    b"<title>",
    b"<title >\n",
    b"<script",
    b"<style></",
    b"<",
    b"<a ",
    b"< ",
    b"&#",
    b"&#9",
    b"&#9999999",
    b"&a",
    b" ",
    b"\n",
    b"\xef\xbb\xbf",
    b"{",
    b'{"',
    b'{"a":',
    b'{"code":',
    b'{"code":"',
    b'{"code":""',
    b'{"code":1}',
    b'{"code":1]',
    b'{"success":[',
    b'{"nonce":"',
    b'"',
    b"\\",
    b"9",
    b'[{"type":',
]


@pytest.mark.parametrize("piece", HOSTILE)
def test_a_refusal_of_a_mebibyte_that_repeats_itself_is_judged(piece: bytes) -> None:
    # With time that grows as the square of the length none of these would end today.
    limits = Limits(refusal_bytes=MIB)
    for before in (b"", b"<", b'{"a":"', b'{"message":'):
        (broken,) = judge([before + piece * (MIB // len(piece) + 1)], 500, limits=limits)
        assert isinstance(broken, Broken)
        assert broken.reason is Reason.REFUSED


@pytest.mark.parametrize("piece", HOSTILE)
def test_a_body_of_a_mebibyte_that_repeats_itself_is_judged(piece: bytes) -> None:
    limits = Limits(refusal_bytes=MIB)
    for before in (b"", b"<", b'{"a":"', b'{"a":', b"data: "):
        body = before + piece * (MIB // len(piece))
        *lives, last = judge([body + b"\n\n"], limits=limits)
        assert lives in ([], [Live("", "unreadable")])
        assert isinstance(last, Broken)


@pytest.mark.parametrize("before", [b"{", b"<", b"", b"data: "])
def test_bytes_that_come_one_by_one_are_not_copied_again_and_again(before: bytes) -> None:
    limits = Limits(refusal_bytes=MIB)
    (broken,) = judge(byte_by_byte(before + b" " * (64 * KIB)), limits=limits)
    assert isinstance(broken, Broken)


def test_a_great_many_events_in_one_read() -> None:
    count = 100_000
    events = judge([b"data:\n\n" * count + END])
    assert len(events) == count + 1
    assert events[-2:] == [Live("", "unreadable"), ENDED]


# ------------------------------------------------------------------------------ what is legal when


BEFORE: dict[State, list[tuple[str, Any]]] = {
    State.HEAD: [],
    State.START: [("receive_head", (200, []))],
    State.TEXT: [("receive_head", (200, [])), ("receive_data", (b"d",))],
    State.PAGE: [("receive_head", (200, [])), ("receive_data", (b"<",))],
    State.STREAM: [("receive_head", (200, [])), ("receive_data", (b"data:\n",))],
    State.JSON: [("receive_head", (200, [])), ("receive_data", (b"{",))],
    State.REFUSAL: [("receive_head", (404, []))],
    State.DONE: [("receive_failure", ("lost",))],
}
CALLS: dict[Input, tuple[str, Any]] = {
    Input.INTERIM: ("receive_head", (100, [])),
    Input.HEAD: ("receive_head", (200, [])),
    Input.REFUSAL: ("receive_head", (404, [])),
    Input.DATA: ("receive_data", (b" ",)),
    Input.BRACE: ("receive_data", (b"{",)),
    Input.TAG: ("receive_data", (b"<",)),
    Input.OTHER: ("receive_data", (b"d",)),
    Input.DATA_LINE: ("receive_data", (b"\ndata:\n",)),
    Input.TERMINAL: ("receive_failure", ("lost",)),
}


def call(machine: Any, name: str, arguments: Any) -> list[Event]:
    events: list[Event] = getattr(machine, name)(*arguments)
    return events


def in_state(state: State) -> ReplyDecoder:
    decoder = ReplyDecoder()
    for name, arguments in BEFORE[state]:
        call(decoder, name, arguments)
    assert repr(decoder) == f"<ReplyDecoder {state}>"
    return decoder


def test_the_table_has_every_state() -> None:
    assert list(TABLE.rows) == list(State)
    assert TABLE.start == (State.HEAD,)


@pytest.mark.parametrize("given_input", Input)
@pytest.mark.parametrize("state", State)
def test_every_input_in_every_state_does_what_the_table_says(state: State, given_input: Input) -> None:
    decoder = in_state(state)
    row = dict(TABLE.rows[state])
    if Input.DATA in row:  # after the first byte a brace is data like any other, and so is a data line in most states
        likewise = (Input.BRACE, Input.TAG, Input.OTHER, Input.DATA_LINE)
        row = {**dict.fromkeys(likewise, row[Input.DATA]), **row}
    if state is State.START:
        row[Input.DATA_LINE] = State.STREAM
    before = pickle.dumps(decoder)
    if state is State.DONE:
        assert call(decoder, *CALLS[given_input]) == []
        assert pickle.dumps(decoder) == before
    elif given_input in row:
        call(decoder, *CALLS[given_input])
        assert repr(decoder) == f"<ReplyDecoder {row[given_input]}>"
    else:
        with pytest.raises(LocalProtocolError, match=f"ReplyDecoder: .* is not legal in state {state}"):
            call(decoder, *CALLS[given_input])
        assert pickle.dumps(decoder) == before


@pytest.mark.parametrize("state", State)
def test_the_end_and_a_failure_are_always_legal_and_nothing_is_always_legal(state: State) -> None:
    for name, arguments in (("receive_eof", ()), ("receive_failure", ("lost", Reason.PROXY))):
        decoder = in_state(state)
        before = pickle.dumps(decoder)
        assert [decoder.receive_data(nothing) for nothing in (b"", bytearray(), memoryview(b""))] == [[], [], []]
        assert pickle.dumps(decoder) == before
        assert len(call(decoder, name, arguments)) == (0 if state is State.DONE else 1)
        assert repr(decoder) == "<ReplyDecoder DONE>"
        for name_after, arguments_after in CALLS.values():
            assert call(decoder, name_after, arguments_after) == []
        assert decoder.receive_eof() == []


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("receive_head", (200, None)),
        ("receive_head", (200, [("a", 1)])),
        ("receive_head", (200, [(None, "b")])),
        ("receive_head", (200, ["ab"])),
        ("receive_head", (200, {"ab": "c"})),
        ("receive_head", (200, [("a", "b", "c")])),
        ("receive_data", ("text",)),
        ("receive_data", (None,)),
        ("receive_data", (5,)),
        ("receive_data", ([1, 2],)),
    ],
)
def test_wrong_types_raise_and_change_nothing(state: State, name: str, arguments: Any) -> None:
    decoder = in_state(state)
    before = pickle.dumps(decoder)
    with pytest.raises(TypeError):
        call(decoder, name, arguments)
    assert pickle.dumps(decoder) == before


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize(
    ("name", "arguments", "said"),
    [
        ("receive_head", ("200", []), "status: expected an int, got str"),
        ("receive_head", (True, []), "status: expected an int, got bool"),
        ("receive_head", (None, []), "status: expected an int, got NoneType"),
        ("receive_head", (200.0, []), "status: expected an int, got float"),
        ("receive_failure", (None,), "expected a str and a Reason, got NoneType, Reason"),
        ("receive_failure", (b"lost",), "expected a str and a Reason, got bytes, Reason"),
        ("receive_failure", ("lost", "timeout"), "expected a str and a Reason, got str, str"),
        ("receive_failure", ("lost", None), "expected a str and a Reason, got str, NoneType"),
    ],
)
def test_wrong_types_are_named_and_change_nothing(state: State, name: str, arguments: Any, said: str) -> None:
    decoder = in_state(state)
    before = pickle.dumps(decoder)
    with pytest.raises(TypeError, match=f"^{said}$"):
        call(decoder, name, arguments)
    assert pickle.dumps(decoder) == before


@pytest.mark.parametrize("limits", [None, 5, {}, Limits])
def test_limits_of_another_type_raise(limits: Any) -> None:
    with pytest.raises(TypeError, match="limits: expected Limits"):
        ReplyDecoder(limits)


@pytest.mark.parametrize(
    "wrap",
    [
        bytes,
        bytearray,
        memoryview,
        lambda data: memoryview(bytes(2 * len(data)))[: len(data)] if not data else memoryview(data[::-1])[::-1],
        lambda data: memoryview(array("H", data)) if len(data) % 2 == 0 else data,
        lambda data: memoryview(data).cast("B", (1, len(data))) if data else data,
    ],
    ids=["bytes", "bytearray", "memoryview", "backwards", "pairs", "two dimensions"],
)
@pytest.mark.parametrize("body", [live("a") + END, HI.encode(), PAGE, b"\n" + HI.encode() + b"\n"])
@pytest.mark.parametrize("status", [200, 500])
def test_whatever_holds_the_bytes(wrap: Callable[[bytes], Any], body: bytes, status: int) -> None:
    decoder = ReplyDecoder()
    assert decoder.receive_head(status, []) == []
    assert decoder.receive_data(wrap(body)) + decoder.receive_eof() == judge([body], status, [])


def test_a_failures_detail_always_encodes() -> None:
    assert ReplyDecoder().receive_failure("caf\udce9") == [Broken(Reason.LOST, "caf\ufffd")]


def test_the_callers_buffer_is_not_held() -> None:
    buffer = bytearray(live("a")[:-1])
    decoder = ReplyDecoder()
    decoder.receive_head(200, [])
    assert decoder.receive_data(buffer) == []
    buffer[:] = b"\n"  # which would raise BufferError if a view were left
    assert decoder.receive_data(buffer) == [Live("a")]


# ------------------------------------------------------------------------------ copies, secrets


SCRIPTS: dict[str, list[tuple[str, Any]]] = {
    "stream": [
        ("receive_head", (100, [])),
        ("receive_head", (200, [("Content-Type", "text/event-stream")])),
        *(("receive_data", (piece,)) for piece in in_pieces(BOM + b"<br>\n" + error("") + live("é") + END, 9)),
        ("receive_eof", ()),
    ],
    "JSON": [
        ("receive_head", (200, [])),
        *(("receive_data", (piece,)) for piece in in_pieces(b"\n\n" + RICH.encode(), 9)),
        ("receive_failure", ("lost",)),
    ],
    "refusal": [
        ("receive_head", (503, [("Retry-After", "5"), ("Location", "/")])),
        *(("receive_data", (piece,)) for piece in in_pieces(STALE.encode(), 9)),
        ("receive_eof", ()),
    ],
    "page": [
        ("receive_head", (200, [])),
        *(("receive_data", (piece,)) for piece in in_pieces(PAGE, 9)),
        ("receive_eof", ()),
    ],
    "interim": [("receive_head", (100, []))] * 9,
}


@pytest.mark.parametrize("script", SCRIPTS.values(), ids=SCRIPTS)
def test_a_copy_made_between_any_two_calls_goes_on_like_the_original(script: list[tuple[str, Any]]) -> None:
    original = ReplyDecoder()
    snapshots = [list(clones(original))]
    given_events = []
    for name, arguments in script:
        given_events.append(call(original, name, arguments))
        snapshots.append(list(clones(original)))
    for number, snapshot in enumerate(snapshots):
        for clone in snapshot:
            assert [call(clone, *step) for step in script[number:]] == given_events[number:]


@pytest.mark.parametrize("status", [200, 500])
@pytest.mark.parametrize("before", [b"<", b'{"a":"', b"data: "])
def test_after_the_terminal_event_nothing_of_the_body_is_held(before: bytes, status: int) -> None:
    decoder = ReplyDecoder()
    decoder.receive_head(status, [])
    assert decoder.receive_data(before + b"x" * (60 * KIB)) == []
    assert len(pickle.dumps(decoder)) > 60 * KIB
    assert len(decoder.receive_failure("lost")) == 1
    assert len(pickle.dumps(decoder)) < 2 * KIB


def test_repr_shows_the_state_and_nothing_of_what_came() -> None:
    decoder = ReplyDecoder()
    shown = [repr(decoder)]
    decoder.receive_head(200, [("X-WP-Nonce", "secret"), ("Set-Cookie", "mwai_session_id=secret")])
    shown.append(repr(decoder))
    decoder.receive_data(b'{"new_token":"secret"')
    shown.append(repr(decoder))
    (broken,) = decoder.receive_failure("lost")
    shown.append(repr(decoder))
    assert shown == ["<ReplyDecoder HEAD>", "<ReplyDecoder START>", "<ReplyDecoder JSON>", "<ReplyDecoder DONE>"]
    (refused,) = judge([b'{"code":"x","message":"No.","new_token":"secret"}'], 403)
    assert "secret" not in repr(broken) + repr(refused)


# ------------------------------------------------------------------------------ properties


PIECES = [
    live("a"),
    live("é🚌", subtype="status"),
    line('{"type":"new"}'),
    line(r'{"type":"live","data":"\ud83d","subtype":"\ude8c"}'),
    b"data: \n\n",
    b": keepalive\n\n",
    b"event: end\nid: 1\nretry: 5\n",
    b"<br />\n<b>Warning</b>: x\n",
    b"<title>Down &amp; out</title>",
    error(""),
    error("No."),
    error({"a": "\ud83d"}),
    END,
    end_of("{}"),
    end_of(r'{"success":true,"reply":"\ud83d"}'),
    b'data: {"type":"end","data":false}\n\n',
    b"data: {\n\n",
    HI.encode(),
    STALE.encode(),
    b"{",
    BOM,
    b"\n",
    b"\r",
    b" ",
    b"data:",
    b"\xf0\x9f",
]
bodies = st.lists(st.sampled_from(PIECES) | st.binary(max_size=6), max_size=8).map(b"".join)
small_limits = st.builds(
    Limits,
    event_bytes=st.integers(1, 200),
    reply_bytes=st.integers(1, 400),
    refusal_bytes=st.integers(1, 200),
    json_depth=st.integers(1, 3),
)
field_lists = st.lists(
    st.sampled_from(
        [
            ("Content-Encoding", "gzip"),
            ("Content-Encoding", "identity"),
            ("Content-Length", "5"),
            ("Transfer-Encoding", "chunked"),
            ("Location", "/a"),
            ("Retry-After", "5"),
            ("Retry-After", DATE),
            ("Date", DATE),
            ("Retry-After", "\udcff"),
            ("Location", "\udcff"),
        ]
    )
    | st.tuples(st.text(max_size=5), st.text(max_size=5)),
    max_size=3,
)
statuses = st.sampled_from([200, 200, 200, 403]) | st.integers(200, 599)


def check_grammar(events: list[Event]) -> None:
    assert events, "no terminal event"
    assert all(isinstance(decoded, Live) for decoded in events[:-1])
    assert isinstance(events[-1], End | Broken)
    for decoded in events:
        match decoded:
            case Live(text, kind, raw):
                texts = [text, kind, raw]
            case End(reply, raw):
                texts = [reply or "", raw]
                decoded.payload()
            case Broken(_, detail, _, code, _, raw):
                texts = [detail, code or "", raw]
        for text in texts:
            text.encode()


@given(
    bodies.flatmap(lambda body: st.tuples(random_cuts(body), random_cuts(body))),
    statuses,
    field_lists,
    st.none() | st.sampled_from(Reason),
    small_limits | st.just(Limits()),
)
@example(([line("x") + b"<br>\n"], [line("x"), b"<br>\n"]), 200, [], None, Limits())
def test_any_bytes_cut_anywhere_give_one_terminal_event_and_always_the_same(
    cuts: tuple[list[bytes], list[bytes]],
    status: int,
    headers: list[tuple[str | bytes, str | bytes]],
    failure: Reason | None,
    limits: Limits,
) -> None:
    one, other = cuts
    events = judge(one, status, headers, limits, failure)
    check_grammar(events)
    assert judge(other, status, headers, limits, failure) == events


@given(st.binary(max_size=200), st.sampled_from([200, 500]))
def test_any_bytes_at_all(body: bytes, status: int) -> None:
    events = judge([body], status)
    check_grammar(events)
    assert judge(byte_by_byte(body), status) == events


calls = st.one_of(
    st.tuples(st.just("receive_head"), st.tuples(st.integers(90, 210), field_lists)),
    st.tuples(st.just("receive_data"), st.tuples(bodies)),
    st.tuples(st.just("receive_eof"), st.just(())),
    st.tuples(st.just("receive_failure"), st.tuples(st.text(max_size=5), st.sampled_from(Reason))),
)


@given(st.lists(calls, max_size=8))
def test_any_order_of_calls_raises_nothing_but_local_protocol_error(script: list[tuple[str, Any]]) -> None:
    decoder = ReplyDecoder()
    events: list[Event] = []
    for name, arguments in script:
        before = pickle.dumps(decoder)
        try:
            events += call(decoder, name, arguments)
        except LocalProtocolError:
            assert pickle.dumps(decoder) == before
    check_grammar(events + decoder.receive_failure("lost"))


@pytest.mark.parametrize("kind", ["live", "end", "error"])
def test_no_two_cuts_of_an_event_are_judged_differently_at_any_limit(kind: str) -> None:
    body = {"live": live("ab") + live("c"), "end": live("ab") + END, "error": live("ab") + error("No.")}[kind]
    for name in ("event_bytes", "reply_bytes"):
        outcomes = []
        for size in range(1, len(body) + 2):
            limits = Limits(**{name: size})
            expected = judge([body], limits=limits)
            assert judge(byte_by_byte(body), limits=limits) == expected
            outcomes.append(len(expected))
        assert all(fewer <= more for fewer, more in pairwise(outcomes))


@pytest.mark.parametrize("name", ["event_bytes", "reply_bytes"])
def test_pieces_of_lines_are_bounded_like_whole_ones(name: str) -> None:
    body = b'data: {"type":"a"}\n\n: comment'
    for size in range(1, len(body) + 2):
        limits = Limits(**{name: size})
        expected = judge([body], limits=limits)
        for first, second in combinations(range(1, len(body)), 2):
            assert judge([body[:first], body[first:second], body[second:]], limits=limits) == expected


# ------------------------------------------------------------------------------ the fast paths


def either_way(text: str, limits: Limits = Limits()) -> list[Event]:
    """What comes of an event, whose text begins as the plugin writes it, having been judged by both paths."""
    fast, exact = (judge([b"data: " + blank + text.encode() + b"\n\n" + END], limits=limits) for blank in (b"", b" "))

    def without_line(event: Event) -> Event:
        match event:
            case Live(text, kind, raw):
                return Live(text, kind, raw.strip())
            case Broken(reason, detail):
                return Broken(reason, detail.split("{")[0].rstrip())
            case _:
                return event

    assert list(map(without_line, fast)) == list(map(without_line, exact))
    return fast


OBJECT = '","timestamp":1751412345.125,"subtype":"tool_call","visibility":"visible"'  # WIRE 5.4


@pytest.mark.parametrize(
    ("rest", "expected"),
    [
        ('"}', Live("a")),
        ('\\u00e9\\ud83d"}', Live("a\u00e9\ufffd")),
        ('","subtype":"status"}', Live("a", "status")),
        ('","timestamp":1e999,"subtype":"content","metadata":{"count":[1]}}', Live("a")),
        (f"{OBJECT}}}", Live("a", "tool_call")),
        (f"{OBJECT.replace('1751412345.125', '1751412345')}}}", Live("a", "tool_call")),
        (f"{OBJECT.replace('tool_call', 'content')}}}", Live("a")),
        (f'{OBJECT},"metadata":{{"count":2,"a":["\\ud83d",1e999]}}}}', Live("a", "tool_call")),
        (f'{OBJECT},"metadata":null}}', Live("a", "tool_call")),
        ('","subtype":null}', Live("a")),
        ('","subtype":""}', Live("a")),
    ],
)
def test_live_events_as_the_plugin_writes_them(rest: str, expected: Live) -> None:
    assert either_way('{"type":"live","data":"a' + rest) == [expected, ENDED]


@pytest.mark.parametrize(
    "rest",
    [
        *("", '"', '",}', '",,"b":1}', '"} ', '"}}', '";"b":1}', '","b":NaN}', '","b":1', '\x01"}', '","type":"live"}'),
        *('","data":"b"}', '","subtype":"a","subtype":"b"}', '","subtype":0}', '","d\\u0061ta":"b"}', '"\t,"b":1}'),
        *(OBJECT, f"{OBJECT}}}}}", f"{OBJECT}]", f'{OBJECT},"type":"live"}}', f'{OBJECT},"metadata":}}'),
        *(f'{OBJECT},"metadata":{{"a":[]}}', f'{OBJECT},"metadata":NaN}}', f'{OBJECT},"metadata":{{}},"data":"b"}}'),
        *(
            f'{OBJECT},"metadata":{"[" * 70}{"]" * 70}}}',
            f'{OBJECT},"metadata":{"7" * 5000}}}',
            f'{OBJECT},"metadata":""',
        ),
        *(OBJECT.replace(".125", ".") + "}", OBJECT.replace("1751412345.125", "07") + "}"),
        *('","b":' + "[" * 70 + "]" * 70 + "}", '","b":' + "7" * 5000 + "}", '","b":' + "7" * 700 + "}", '"]'),
    ],
)
@pytest.mark.parametrize("kind", ["live", "end"])
def test_what_is_nearly_as_the_plugin_writes_it_is_judged_exactly(kind: str, rest: str) -> None:
    either_way('{"type":"' + kind + '","data":"{}' + rest)
    either_way('{"type":"' + kind + '","data":"{}' + rest, Limits(json_depth=1))


_PARTS = [
    *('"', "}", "{", ",", ":", " ", "a", "\\", "\\u00e9", "\\ud83d", '","subtype":"status"', '","subtype":', "null"),
    *(OBJECT, ',"metadata":', '{"a":[]}', ',"metadata":{"count":2}'),
    *(
        '","type":"end"',
        ',"data":1',
        ',"b":1e999',
        "NaN",
        "[" * 70,
        "]",
        '"t\\u0079pe":1',
        '\\"success\\":true',
        "7" * 700,
    ),
]


@given(st.sampled_from(["live", "end"]), st.lists(st.sampled_from(_PARTS), max_size=6).map("".join))
def test_both_paths_judge_alike(kind: str, rest: str) -> None:
    either_way('{"type":"' + kind + '","data":"' + rest)
    either_way('{"type":"' + kind + '","data":"' + rest + '"}')


def test_an_end_event_as_the_plugin_writes_it() -> None:
    payload = '{"success":true,"reply":"Hi","new_token":"fresh"}'
    text = json.dumps({"type": "end", "data": payload}, separators=(",", ":"))
    assert judge([line(text)]) == [End("Hi", payload)]


@pytest.mark.parametrize("late", [b"<!-- cached -->", b"data: late\n\n", END])
def test_nothing_is_looked_at_after_an_end_that_came_with_a_notice_before_it(late: bytes) -> None:
    decoder = ReplyDecoder()
    decoder.receive_head(200, [])
    assert len(decoder.receive_data(b"<br />\n" + END)) == 1
    assert decoder.receive_data(late) == []
    assert decoder.receive_eof() == []


@pytest.mark.parametrize("front", ["{debug}\n", '{"a":1}\n', "x{debug}\n"])
def test_a_refusals_object_is_found_behind_whatever_begins_with_a_brace(front: str) -> None:
    decoder = ReplyDecoder()
    decoder.receive_head(403, [])
    decoder.receive_data(front.encode() + b'{"code":"rest_cookie_invalid_nonce","message":"m"}')
    [broken] = decoder.receive_eof()
    assert isinstance(broken, Broken)
    assert (broken.code, broken.detail) == ("rest_cookie_invalid_nonce", "m")


def test_a_refusals_object_without_success_or_code_still_has_its_message() -> None:
    decoder = ReplyDecoder()
    decoder.receive_head(403, [])
    decoder.receive_data(b'{"message":"m"}')
    [broken] = decoder.receive_eof()
    assert isinstance(broken, Broken)
    assert (broken.code, broken.detail) == (None, "m")


def test_a_code_shows_no_secrets() -> None:
    decoder = ReplyDecoder()
    decoder.receive_head(403, [])
    decoder.receive_data(b'{"code":"nonce=SECRET1234","message":"m"}')
    [broken] = decoder.receive_eof()
    assert isinstance(broken, Broken)
    assert broken.code == "nonce=***"


def test_a_deep_stack_is_no_error() -> None:
    event = b'data: {"type":"live","data":"Hi","timestamp":1,"subtype":"content","visibility":"all","metadata":%b}\n\n'
    data = event % (b"[" * 60 + b"]" * 60)

    def at(depth: int) -> list[Event]:
        if depth:
            return at(depth - 1)
        decoder = ReplyDecoder()
        decoder.receive_head(200, [])
        return decoder.receive_data(data)

    def levels() -> int:
        frame, count = sys._getframe(), 0
        while frame := frame.f_back:  # type: ignore[assignment]
            count += 1
        return count

    depths = range(max(0, sys.getrecursionlimit() - levels() - 90), sys.getrecursionlimit() - levels() - 45, 3)
    assert {tuple(type(event) for event in at(depth)) for depth in depths} <= {(Live,), (Broken,)}
