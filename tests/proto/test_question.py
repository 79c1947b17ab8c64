"""The bytes of an answer: how events are encoded, streamed and not streamed."""

import json
import math
import pickle
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opchat_proto import (
    Broken,
    End,
    Event,
    Live,
    Reason,
    ReplyDecoder,
    Response,
    ServerSentEvent,
    SSEDecoder,
)
from tests.proto.sites import (
    NONCE,
    NOW,
    OLD_NONCE,
    QUESTION,
    SET_COOKIE,
    STREAMED,
    UNSTREAMED,
    asked,
    begun,
    json_response,
    wrong,
)

# ---------------------------------------------------------------- the answer, streamed

DUE = asked(QUESTION, nonce=OLD_NONCE)  # the client's nonce is due for replacement

V5_PAYLOAD = (
    '{"success":true,"reply":"Tout droit, \\u00e0 c\\u00f4t\\u00e9 \\ud83d\\ude89","images":null,"actions":[],'
    '"shortcuts":[],"blocks":[],"usage":{"prompt_tokens":21,"completion_tokens":9,"total_tokens":30,"price":null,'
    '"queries":1,"accuracy":"tokens"},"responseId":"resp_abc"}'
)


def test_v5_a_stream_matches_the_plugins() -> None:
    assert STREAMED.encode(Live("Tout ")) == b'data: {"type":"live","data":"Tout "}\n\n'
    assert STREAMED.encode(Live("droit, à côté 🚉")) == (
        b'data: {"type":"live","data":"droit, \\u00e0 c\\u00f4t\\u00e9 \\ud83d\\ude89"}\n\n'
    )
    end = End("Tout droit, à côté 🚉", V5_PAYLOAD)
    written = V5_PAYLOAD.replace("\\", "\\\\").replace('"', '\\"').encode()
    assert STREAMED.encode(end) == b'data: {"type":"end","data":"%s"}\n\n' % written
    written = written[:-1] + b',\\"new_token\\":\\"%s\\"}' % NONCE.encode()
    assert DUE.encode(end) == b'data: {"type":"end","data":"%s"}\n\n' % written


def test_v6_slashes_and_line_ends_are_escaped() -> None:
    assert STREAMED.encode(Live("é/\n")) == b'data: {"type":"live","data":"\\u00e9\\/\\n"}\n\n'
    end = STREAMED.encode(End("é/\n"))
    assert b'\\"reply\\":\\"\\\\u00e9\\\\\\/\\\\n\\",' in end


DEFAULTS = b'\\"images\\":null,\\"actions\\":[],\\"shortcuts\\":[],\\"blocks\\":[],\\"usage\\":null'


@pytest.mark.parametrize("raw", ["", "garbage", "[]", '{"a":' * 900 + "1" + "}" * 900, "{" * 100_000])
def test_an_end_without_a_payload_has_defaults(raw: str) -> None:
    line = b'data: {"type":"end","data":"{\\"success\\":true,\\"reply\\":\\"hi\\",%s}"}\n\n' % DEFAULTS
    assert STREAMED.encode(End("hi", raw)) == line


def test_a_payload_too_deep_to_encode_is_left_out() -> None:
    deep = '{"usage":' + "[" * 50_000 + "]" * 50_000 + "}"
    line = b'data: {"type":"end","data":"{\\"success\\":true,\\"reply\\":\\"hi\\",%s}"}\n\n' % DEFAULTS
    assert STREAMED.encode(End("hi", deep)) == line


def test_other_keys_of_the_payload_are_passed_on_but_not_its_reply_or_nonce() -> None:
    raw = (
        '{"other":1,"usage":{"a":0.5},"reply":"theirs","new_token":"theirs","responseId":"r/1","success":false,'
        '"images":["u"],"actions":null,"blocks":[{"type":"content"}]}'
    )
    payload = (
        b'{"success":true,"reply":"ours","images":["u"],"actions":null,"shortcuts":[],'
        b'"blocks":[{"type":"content"}],"usage":{"a":0.5},"responseId":"r\\/1"}'
    )
    assert UNSTREAMED.encode(End("ours", raw)) == payload
    assert UNSTREAMED.encode(End("ours", '{"responseId":null}')) == UNSTREAMED.encode(End("ours"))


def test_an_end_without_anything_is_a_reply_that_could_not_be_encoded() -> None:
    assert STREAMED.encode(End(None)) == b'data: {"type":"end","data":false}\n\n'
    with_payload = b'data: {"type":"end","data":"{\\"success\\":true,\\"reply\\":null,%s}"}\n\n' % DEFAULTS
    assert STREAMED.encode(End(None, '{"success":true}')) == with_payload


def test_a_broken_answer_is_an_error_event_with_its_detail_only() -> None:
    broken = Broken(Reason.REFUSED, "No/\u2028\n", 503, "code", 5, "raw")
    assert STREAMED.encode(broken) == b'data: {"type":"error","data":"No\\/\\u2028\\n"}\n\n'


@pytest.mark.parametrize(
    ("kind", "visibility"),
    [
        ("thinking", "collapsed"),
        ("mcp_discovery", "collapsed"),
        ("status", "collapsed"),
        ("tool_args", "hidden"),
        ("debug", "hidden"),
        ("heartbeat", "hidden"),
        ("embeddings", "visible"),
        ("unknown", "visible"),
        ("unreadable", "visible"),
        ("own kind", "visible"),
    ],
)
def test_a_live_of_another_kind_is_an_event_object(kind: str, visibility: str) -> None:
    head = b'data: {"type":"live","data":"a\\/b",'
    tail = b'"subtype":"%s","visibility":"%s"}\n\n' % (kind.encode(), visibility.encode())
    live = Live("a/b", kind, raw='{"not":"used"}')
    assert STREAMED.encode(live) == head + tail
    assert STREAMED.encode(live, now=1751412345.125) == head + b'"timestamp":1751412345.125,' + tail
    assert STREAMED.encode(live, now=1751412345) == head + b'"timestamp":1751412345.0,' + tail


def test_a_piece_of_the_answer_has_no_timestamp_and_an_empty_kind_is_not_a_piece() -> None:
    assert STREAMED.encode(Live("a"), now=NOW) == b'data: {"type":"live","data":"a"}\n\n'
    unknown = b'data: {"type":"live","data":"a","subtype":"unknown","visibility":"visible"}\n\n'
    assert STREAMED.encode(Live("a", "")) == unknown


def test_a_stream_begins_with_status_200_whatever_the_first_event_is() -> None:
    headers = (
        ("Content-Type", "text/event-stream;charset=UTF-8"),
        ("Cache-Control", "no-cache"),
        ("X-Accel-Buffering", "no"),
        ("X-WP-Nonce", NONCE),
        SET_COOKIE,
    )
    for event in (Live("a"), Live("a", "status"), End("a"), Broken(Reason.REMOTE, "No")):
        assert STREAMED.response(event, now=NOW) == Response(200, headers, STREAMED.encode(event, now=NOW))


# ---------------------------------------------------------------- the answer, not streamed


def test_an_answer_that_is_not_streamed_is_one_object() -> None:
    head = (("X-WP-Nonce", NONCE), SET_COOKIE)
    body = b'{"success":true,"reply":"a\\/b","images":null,"actions":[],"shortcuts":[],"blocks":[],"usage":null}'
    assert UNSTREAMED.encode(End("a/b")) == body
    assert UNSTREAMED.response(End("a/b")) == json_response(200, body, *head)
    body = body.replace(b'"a\\/b"', b"null")
    assert UNSTREAMED.response(End(None)) == json_response(200, body, *head)
    body = b'{"success":false,"message":"No"}'
    assert UNSTREAMED.response(Broken(Reason.REMOTE, "No")) == json_response(500, body, *head)


def test_a_piece_of_an_answer_that_is_not_streamed_gives_no_bytes() -> None:
    assert UNSTREAMED.encode(Live("a")) == UNSTREAMED.encode(Live("a", "status"), now=NOW) == b""
    assert UNSTREAMED.response(Live("a")) is None


def test_an_answer_that_is_not_streamed_contains_a_fresh_nonce_where_due() -> None:
    question = asked({"botId": "default", "newMessage": "hi"}, nonce=OLD_NONCE)
    token = b',"new_token":"%s"}' % NONCE.encode()
    assert question.encode(End("a")) == UNSTREAMED.encode(End("a"))[:-1] + token
    assert question.encode(Broken(Reason.REMOTE, "No")) == b'{"success":false,"message":"No"' + token


# ---------------------------------------------------------------- any text

TEXTS = st.text(st.characters(codec=None) | st.sampled_from('"\\/\r\n\0\x7f\u2028\ud800\udc00'), max_size=30)


def joined(text: str) -> str:
    """The text as json decodes it: two surrogate halves are one character."""
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass")


@given(TEXTS, TEXTS, TEXTS, TEXTS)
def test_any_text_survives_the_stream(piece: str, kind: str, detail: str, reply: str) -> None:
    events: list[Event] = [Live(piece), Live(piece, f"x{kind}"), Broken(Reason.REMOTE, detail), End(reply)]
    question = replace(STREAMED)
    stream = b"".join(question.encode(event) for event in events)
    assert stream.isascii()
    objects = [json.loads(event.data) for event in SSEDecoder().receive_data(stream)]
    end = objects.pop()
    pieces = [value["data"] for value in objects if value.keys() == {"type", "data"} and value["type"] == "live"]
    assert "".join(pieces) == joined(piece)
    assert [value for value in objects if "subtype" in value or value["type"] != "live"] == [
        {"type": "live", "data": joined(piece), "subtype": joined(f"x{kind}"), "visibility": "visible"},
        {"type": "error", "data": joined(detail)},
    ]
    assert (end["type"], json.loads(end["data"])["reply"]) == ("end", joined(reply))


def encoded(*events: Event | str | None) -> list[bytes]:
    """The bytes of each event of one answer. A str is a piece."""
    question = replace(STREAMED)
    return [question.encode(Live(event) if isinstance(event, str) else event) for event in events]


def pieces_of(encoded: list[bytes]) -> list[str]:
    events = (json.loads(event.data) for event in SSEDecoder().receive_data(b"".join(encoded)))
    return [event["data"] for event in events if event.keys() == {"type", "data"} and event["type"] == "live"]


HALVES = ("\ud83d", "\ude00")
FACE = "\N{GRINNING FACE}"
KEEP_ALIVE = b": keepalive\n\n"


@pytest.mark.parametrize(
    ("events", "pieces"),
    [
        (HALVES, [FACE]),
        (("a\ud83d", "\ude00b"), ["a", f"{FACE}b"]),
        (("\ud83d", "", "\ude00"), [FACE]),
        (("\ud800", "\udc00", "\udbff", "\udfff"), ["\U00010000", "\U0010ffff"]),
        (("\ud83d", Live("s", "status"), None, "\ude00"), [FACE]),
        (("\ud83d", "\ude00\ud83d", "\ude00"), [FACE, FACE]),
        (("\ud83d", "\ud83d", "\ude00"), ["\ud83d", FACE]),
        (("\ud83d", "a"), ["\ud83da"]),
        (("\ude00", "a"), ["\ude00", "a"]),
        (("a\ud83d", End("b")), ["a", "\ud83d"]),
        (("\ud83d", End(None)), ["\ud83d"]),
        (("\ud83d", Broken(Reason.REMOTE, "b")), ["\ud83d"]),
        (("",), [""]),
    ],
)
def test_a_character_cut_between_two_pieces_is_joined(
    events: tuple[Event | str | None, ...], pieces: list[str]
) -> None:
    assert pieces_of(encoded(*events)) == pieces


def test_half_a_character_waits_for_the_other_half_or_the_last_event() -> None:
    assert encoded("\ud83d", None, "\ude00", "a", "\ud83d", End(None)) == [
        b"",
        KEEP_ALIVE,
        b'data: {"type":"live","data":"\\ud83d\\ude00"}\n\n',
        b'data: {"type":"live","data":"a"}\n\n',
        b"",
        b'data: {"type":"live","data":"\\ud83d"}\n\ndata: {"type":"end","data":false}\n\n',
    ]
    assert begun(replace(STREAMED), Live("\ud83d")).body == b""


def test_an_event_that_cannot_be_encoded_changes_nothing() -> None:
    question = replace(STREAMED)
    assert question.encode(Live("\ud83d")) == b""
    for event, now in ((5, None), (Live("\ude00"), math.nan)):
        with pytest.raises((TypeError, ValueError)):
            question.encode(event, now=now)  # type: ignore[arg-type]  # wrong on purpose
    assert question == STREAMED
    for copied in (pickle.loads(pickle.dumps(question)), question):
        assert copied.encode(Live("\ude00")) == b'data: {"type":"live","data":"\\ud83d\\ude00"}\n\n'


@given(st.text(st.characters(codec=None) | st.sampled_from("\ud83d\ude00")), st.data())
def test_any_text_in_any_pieces_arrives_whole(text: str, data: st.DataObject) -> None:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)))))
    pieces = [text[start:end] for start, end in pairwise([0, *cuts, len(text)])]
    assert "".join(pieces_of(encoded(*pieces, End(None)))) == joined(text)


@given(st.lists(st.builds(Live, st.text())), st.builds(End, st.text()), st.booleans())
def test_a_reply_decoder_reads_what_a_question_encodes(lives: list[Live], end: End, stream: bool) -> None:
    question = STREAMED if stream else UNSTREAMED
    sent: list[Event] = [*lives, end]
    decoder = ReplyDecoder()
    decoder.receive_head(200, [])
    events = decoder.receive_data(b"".join(question.encode(event) for event in sent))
    events += decoder.receive_eof()
    assert [(type(event), text_of(event)) for event in events] == [
        (type(event), text_of(event)) for event in (sent if stream else sent[-1:])
    ]


def text_of(event: Event) -> str | None:
    return event.text if isinstance(event, Live) else event.reply if isinstance(event, End) else event.detail


# ---------------------------------------------------------------- keep-alive comments


def test_a_keep_alive_comment_is_not_an_event() -> None:
    assert STREAMED.encode(None) == b": keepalive\n\n"
    first = begun(STREAMED, Live("a"))
    assert STREAMED.response(None) == Response(200, first.headers, b": keepalive\n\n")
    decoder = SSEDecoder()
    assert decoder.receive_data(STREAMED.encode(None) + STREAMED.encode(Live("a")) + STREAMED.encode(None)) == [
        ServerSentEvent(data='{"type":"live","data":"a"}')
    ]


def test_an_answer_that_is_not_streamed_has_no_comment() -> None:
    assert UNSTREAMED.encode(None) == b""
    assert UNSTREAMED.response(None) is None


# ---------------------------------------------------------------- wrong types and times


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: STREAMED.encode(wrong("text")), "expected Live, End or Broken, got str"),
        (lambda: STREAMED.response(wrong(b"")), "expected Live, End or Broken, got bytes"),
        (lambda: STREAMED.encode(Live("a"), now=wrong("now")), "now: expected Unix seconds, got str"),
    ],
)
def test_a_wrong_type_is_a_type_error(make: Callable[[], object], text: str) -> None:
    with pytest.raises(TypeError, match=text):
        make()


@pytest.mark.parametrize("now", [-1, 2**32, float("nan"), float("inf"), -0.001])
def test_a_time_outside_unix_time_is_a_value_error(now: float) -> None:
    with pytest.raises(ValueError, match="now: expected Unix seconds from 0"):
        STREAMED.encode(Live("a"), now=now)


def test_the_first_second_of_unix_time_is_a_time() -> None:
    (data,) = STREAMED.encode(Live("a", "status"), now=0).splitlines()[:1]
    assert json.loads(data.removeprefix(b"data: "))["timestamp"] == 0
