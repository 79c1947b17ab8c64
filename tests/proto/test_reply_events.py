"""The events of a stream: live, unknown, end, error."""

import json
from typing import Any

import pytest

from opchat_proto import Broken, End, Event, Limits, Live, Reason, ReplyDecoder
from tests.proto.replies import END, ENDED, check, end_of, error, judge, line, live, nested, plain, remote, too_large


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
def test_a_subtype_that_is_not_text_is_an_unknown_kind(subtype: str) -> None:
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
def test_an_event_of_an_unknown_type_is_passed_on_and_the_stream_continues(text: str, shown: str) -> None:
    check(line(text) + END, [Live(shown, "unknown", text), ENDED])


REPLIES = ['"Hi"', '""', "null", "1", "true", "[]", '{"a":1}']


@pytest.mark.parametrize("reply", REPLIES)
def test_a_reply_that_is_not_text_is_none(reply: str) -> None:
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


def test_a_reply_without_a_payload_has_no_fresh_nonce() -> None:
    assert ReplyDecoder().new_token is None


def test_an_end_without_a_reply_has_none() -> None:
    check(end_of('{"success":true}'), [End(None, '{"success":true}')])


def test_an_object_instead_of_the_end_events_text_is_accepted() -> None:
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
def test_end_data_that_is_not_an_object_is_malformed(text: str) -> None:
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
    broken: list[Event] = [Broken(Reason.MALFORMED, f"an end event whose payload is not JSON: {text[:200]}")]
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
def test_unusual_but_valid_json_in_an_end_event_is_accepted(inner: str, reply: str) -> None:
    check(end_of(inner), [End(reply, inner)])


def test_a_lone_surrogate_in_the_text_of_a_payload_is_replaced() -> None:
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


def test_raw_and_the_error_event_keep_the_tags_of_a_message() -> None:
    text = '{"success":false,"message":"<p>No &lt;b&gt; <b>here</b>.</p><p>Go <a href=\'/\'>home</a>.</p>"}'
    check(text.encode(), [remote(text, "No <b> here. Go home.")])
    check(end_of(text), [remote(text, "No <b> here. Go home.")])
    check(error("<b>No.</b>"), [Broken(Reason.REMOTE, "<b>No.</b>")])


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
        (line("x"), [Broken(Reason.MALFORMED, "an event that is not JSON: x")]),
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
