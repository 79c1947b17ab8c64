"""The body of an answer, judged by its bytes: streams, JSON, and when events are given."""

import pytest

from opchat_proto import Broken, End, Event, Live, Reason, ReplyDecoder
from tests.proto.replies import BOM, END, ENDED, HI, HI_PIECE, STREAM, check, end_of, error, judge, live

PLAIN_END = rb'data: {"type":"end","data":"{\"success\":true,\"reply\":\"Hi\"}"}' + b"\n\n"
MALFORMED_PIECES = Broken(
    Reason.MALFORMED,
    f"an event that is not JSON: {(HI_PIECE[6:-2] + HI_PIECE[:-2]).decode()}; a line that is not an event: x",
)

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
    "text like an event in a comment, a field or a named line is not an event": (
        b": " + HI_PIECE + b"event: " + HI_PIECE + b"id:" + HI_PIECE + live("a") + END,
        [Live("a"), ENDED],
    ),
    "an unknown event glued to HTML is not an event": (
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
def test_the_content_type_is_ignored(content_type: str, body: bytes, expected: list[Event]) -> None:
    assert judge([body], headers=[("Content-Type", content_type)]) == expected
    assert judge([body], headers=[]) == expected


def test_events_are_given_at_once() -> None:
    decoder = ReplyDecoder()
    assert decoder.receive_head(200, STREAM) == []
    assert decoder.receive_data(b'data: {"type":"live","data":"a"}\n') == []
    assert decoder.receive_data(b"\n") == [Live("a")]
    assert decoder.receive_data(END[:-1]) == []
    assert decoder.receive_data(b"\n") == [ENDED]


def test_json_is_judged_at_its_end_and_not_before() -> None:
    decoder = ReplyDecoder()
    decoder.receive_head(200, [])
    assert decoder.receive_data(HI.encode() + b"\n") == []
    assert decoder.receive_eof() == [ENDED]
