"""The JSON in events is strict, and lone surrogates are replaced."""

import json

import pytest

from opchat_proto import Broken, End, Limits, Live, Reason
from tests.proto.replies import END, ENDED, check, end_of, judge, line, live, nested, plain


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
def test_an_event_that_is_not_strict_json_is_malformed_and_quoted(text: str) -> None:
    check(
        live("a") + line(text) + END, [Live("a"), Broken(Reason.MALFORMED, f"an event that is not JSON: {text[:200]}")]
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
def test_unusual_json_around_the_keys_that_count_is_accepted(more: str) -> None:
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


def test_200_characters_of_a_malformed_line_are_shown() -> None:
    text = "é" * 150 + "<" * 60
    check(line(text), [Broken(Reason.MALFORMED, "an event that is not JSON: " + "é" * 150 + "<" * 50)])


def test_lone_surrogates_become_replacement_characters() -> None:
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
def test_the_limit_on_depth_is_exact(depth: int) -> None:
    limits = Limits(json_depth=depth)
    deep = f'{{"success":true,"n":{nested(depth - 1) or 1}}}'
    deeper = f'{{"success":true,"n":{nested(depth)}}}'
    check(deep.encode(), [End(None, deep)], limits=limits)
    check(deeper.encode(), [Broken(Reason.MALFORMED, f"a body that is not JSON: {deeper[:200]}")], limits=limits)
    assert judge([end_of(deep)], limits=limits) == [End(None, deep)]
    text = json.dumps({"type": "end", "data": deeper})
    malformed = Broken(Reason.MALFORMED, f"an end event whose payload is not JSON: {text[:200]}")
    assert judge([line(text)], limits=limits) == [malformed]
    message = f'{{"type":"error","data":{nested(depth - 1) or 1}}}'
    assert judge([line(message)], limits=limits) == [Broken(Reason.REMOTE, nested(depth - 1) or "1")]


@pytest.mark.parametrize("depth", [2, 3, 64])
def test_the_limit_on_depth_of_an_events_metadata_is_exact(depth: int) -> None:
    def body(metadata: str) -> str:
        more = f'"timestamp":1751412345.125,"subtype":"status","visibility":"visible","metadata":{metadata}'
        return f'{{"type":"live","data":"a",{more}}}'

    limits = Limits(json_depth=depth)
    check(line(body(nested(depth - 1))) + END, [Live("a", "status"), ENDED], limits=limits)
    for more in (0, 1, 2):
        text = body(nested(depth + more))
        check(line(text), [Broken(Reason.MALFORMED, f"an event that is not JSON: {text[:200]}")], limits=limits)
