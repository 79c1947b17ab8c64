"""The fast paths for the plugin's spelling give the same events as the exact path. Any bytes in any cuts."""

import json
import pickle
from itertools import combinations, pairwise
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from opchat_proto import Broken, End, Event, Limits, Live, LocalProtocolError, Reason, ReplyDecoder
from tests.proto.cuts import byte_by_byte, random_cuts
from tests.proto.replies import BOM, DATE, END, ENDED, HI, STALE, call, end_of, error, judge, line, live

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
def test_any_bytes_cut_anywhere_give_the_same_single_terminal_event(
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
def test_arbitrary_bytes_give_one_terminal_event(body: bytes, status: int) -> None:
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
def test_any_order_of_calls_raises_only_local_protocol_error(script: list[tuple[str, Any]]) -> None:
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
def test_all_cuts_of_an_event_have_the_same_outcome_at_any_limit(kind: str) -> None:
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
    """The outcome of an event in the plugin's spelling, after comparing both paths."""
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
def test_live_events_in_the_plugins_spelling_are_the_same_on_both_paths(rest: str, expected: Live) -> None:
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
def test_events_close_to_the_plugins_spelling_are_judged_exactly(kind: str, rest: str) -> None:
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
def test_both_paths_give_the_same_events(kind: str, rest: str) -> None:
    either_way('{"type":"' + kind + '","data":"' + rest)
    either_way('{"type":"' + kind + '","data":"' + rest + '"}')


def test_an_end_event_in_the_plugins_spelling_is_the_same_on_both_paths() -> None:
    payload = '{"success":true,"reply":"Hi","new_token":"fresh"}'
    text = json.dumps({"type": "end", "data": payload}, separators=(",", ":"))
    assert judge([line(text)]) == [End("Hi", payload)]


@pytest.mark.parametrize("late", [b"<!-- cached -->", b"data: late\n\n", END])
def test_nothing_is_read_after_an_end_that_follows_a_notice(late: bytes) -> None:
    decoder = ReplyDecoder()
    decoder.receive_head(200, [])
    assert len(decoder.receive_data(b"<br />\n" + END)) == 1
    assert decoder.receive_data(late) == []
    assert decoder.receive_eof() == []


@pytest.mark.parametrize("front", ["{debug}\n", '{"a":1}\n', "x{debug}\n"])
def test_a_refusals_object_is_found_after_text_that_begins_with_a_brace(front: str) -> None:
    decoder = ReplyDecoder()
    decoder.receive_head(403, [])
    decoder.receive_data(front.encode() + b'{"code":"rest_cookie_invalid_nonce","message":"m"}')
    [broken] = decoder.receive_eof()
    assert isinstance(broken, Broken)
    assert (broken.code, broken.detail) == ("rest_cookie_invalid_nonce", "m")


def test_the_message_of_a_refusals_object_counts_without_success_or_code() -> None:
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
