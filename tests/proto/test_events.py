"""The events of a reply as values."""

from dataclasses import FrozenInstanceError, fields
from typing import Any, assert_never

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opchat_proto import Broken, End, Event, Live, Reason, ReplyDecoder
from tests.proto.cuts import copies

EVENTS: list[Event] = [
    Live("Hi"),
    Live("Thinking...", "status"),
    Live("", "unknown", '{"type":"new"}'),
    End("Hello"),
    End(None, '{"success":true,"reply":1}'),
    Broken(Reason.REMOTE),
    Broken(Reason.REFUSED, "Cookie check failed", 403, "rest_cookie_invalid_nonce", 30, "{...}"),
    Broken(Reason.TIMEOUT, limit="idle", in_session=True, asked=True),
]

PAYLOAD = r"""{"success":true,"reply":"Voil\u00e0","images":["https:\/\/site.example\/a.png"],
"actions":[{"type":"function","data":{"name":"openCart","args":[]}}],"shortcuts":[{"type":"message","data":{}}],
"blocks":[{"type":"content","data":{"html":"<b>"}}],"usage":{"total_tokens":30,"price":null},
"responseId":"resp_1","new_token":"0b2576d756","data":{"id":"2fa1"},"more":1}"""

SHORTHANDS = ["images", "actions", "shortcuts", "blocks", "usage", "response_id", "new_token", "file_id"]


def shorthands(end: End) -> dict[str, Any]:
    return {name: getattr(end, name) for name in SHORTHANDS}


def shown(event: Event) -> tuple[object, ...]:
    match event:
        case Live(text, "content"):
            return ("piece", text)
        case Live(text, kind, raw):
            return ("other", text, kind, raw)
        case End(reply, raw):
            return ("end", reply, raw)
        case Broken(Reason.REMOTE, detail):
            return ("remote", detail)
        case Broken(reason, detail, status, code, retry_after, raw):
            return (reason, detail, status, code, retry_after, raw)
        case _:
            assert_never(event)


# ------------------------------------------------------------------------------ values


def test_match_distinguishes_the_kinds_of_events() -> None:
    assert [shown(event) for event in EVENTS] == [
        ("piece", "Hi"),
        ("other", "Thinking...", "status", ""),
        ("other", "", "unknown", '{"type":"new"}'),
        ("end", "Hello", ""),
        ("end", None, '{"success":true,"reply":1}'),
        ("remote", ""),
        (Reason.REFUSED, "Cookie check failed", 403, "rest_cookie_invalid_nonce", 30, "{...}"),
        (Reason.TIMEOUT, "", None, None, None, ""),
    ]


@pytest.mark.parametrize("event", EVENTS, ids=repr)
def test_an_event_is_a_frozen_slotted_hashable_value(event: Event) -> None:
    twins = list(copies(event))
    assert twins == [event] * 6
    assert [twin.raw for twin in twins] == [event.raw] * 6
    assert len({event, *twins}) == 1
    assert not hasattr(event, "__dict__")
    for field in fields(event):
        with pytest.raises(FrozenInstanceError):
            setattr(event, field.name, "")


@pytest.mark.parametrize("kind", [Live, End, Broken, Reason])
def test_the_classes_of_events_are_final(kind: Any) -> None:
    assert kind.__final__ is True


def test_events_that_differ_in_any_field_are_not_equal() -> None:
    different: list[Event] = [
        *(Live("a"), Live("b"), Live("a", "status"), Live("a", raw="{}")),
        *(End("a"), End(None), End(""), End("a", "{}")),
        *(Broken(reason) for reason in Reason),
        *(Broken(Reason.LOST, "a"), Broken(Reason.LOST, status=1), Broken(Reason.LOST, code="")),
        *(Broken(Reason.LOST, retry_after=0), Broken(Reason.LOST, raw="{}"), Broken(Reason.LOST, limit="idle")),
        *(Broken(Reason.LOST, in_session=True), Broken(Reason.LOST, asked=True)),
    ]
    assert len(set(different)) == len(different)
    assert all(a is b or a != b for a in different for b in different)


def test_raw_is_kept_but_not_in_repr() -> None:
    events = (Live("a", "unknown", "SECRET"), End("a", "SECRET"), Broken(Reason.LOST, raw="SECRET"))
    assert [event.raw for event in events] == ["SECRET"] * 3
    assert [repr(event) for event in events] == [
        "Live(text='a', kind='unknown')",
        "End(reply='a')",
        "Broken(reason=<Reason.LOST: 'lost'>, detail='', status=None, code=None, retry_after=None, limit=None, "
        "in_session=False, asked=False)",
    ]


def test_the_reasons_read_as_words() -> None:
    assert {reason.name: str(reason) for reason in Reason} == {
        "REMOTE": "remote",
        "REFUSED": "refused",
        "MALFORMED": "malformed",
        "TRUNCATED": "truncated",
        "TOO_LARGE": "too large",
        "LOST": "lost",
        "TIMEOUT": "timeout",
        "PROXY": "proxy",
    }


@pytest.mark.parametrize(
    ("detail", "reason"), [(b"cut", Reason.LOST), (None, Reason.LOST), ("cut", "lost"), ("", None)]
)
def test_receive_failure_takes_a_text_and_a_reason(detail: Any, reason: Any) -> None:
    names = f"{type(detail).__name__}, {type(reason).__name__}"
    with pytest.raises(TypeError, match=f"^expected a str and a Reason, got {names}$"):
        ReplyDecoder().receive_failure(detail, reason)
    assert ReplyDecoder().receive_failure("cut", Reason.LOST) == [Broken(Reason.LOST, "cut")]


# ------------------------------------------------------------------------------ the end payload


def test_the_shorthands_read_the_payload() -> None:
    end = End("Voilà", PAYLOAD)
    assert shorthands(end) == {
        "images": ("https://site.example/a.png",),
        "actions": ({"type": "function", "data": {"name": "openCart", "args": []}},),
        "shortcuts": ({"type": "message", "data": {}},),
        "blocks": ({"type": "content", "data": {"html": "<b>"}},),
        "usage": {"total_tokens": 30, "price": None},
        "response_id": "resp_1",
        "new_token": "0b2576d756",
        "file_id": "2fa1",
    }
    assert end.payload()["more"] == 1


NOTHING: dict[str, Any] = {
    **dict.fromkeys(("images", "actions", "shortcuts", "blocks"), ()),
    **dict.fromkeys(("usage", "response_id", "new_token", "file_id")),
}


def test_an_end_without_raw_has_an_empty_payload() -> None:
    assert End("Hi").payload() == {}
    assert shorthands(End("Hi")) == NOTHING


@pytest.mark.parametrize("value", ["null", "0", "1.5", "true", "false", "[]", "[[]]", "[null,1,true]"])
def test_a_shorthand_of_the_wrong_type_is_empty(value: str) -> None:
    names = ("images", "actions", "shortcuts", "blocks", "usage", "responseId", "new_token", "data")
    assert shorthands(End("", "{" + ",".join(f'"{name}":{value}' for name in names) + "}")) == NOTHING


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("images", '{"0":"a"}', ()),
        ("images", '"a"', ()),
        ("images", '["a",1,null,["b"],"c"]', ("a", "c")),
        ("actions", '[{"a":1},"b",null,[{}],{}]', ({"a": 1}, {})),
        ("shortcuts", '{"a":{}}', ()),
        ("blocks", '"<b>"', ()),
        ("usage", '[{"price":1}]', None),
        ("usage", "{}", {}),
        ("responseId", '""', ""),
        ("responseId", '["a"]', None),
        ("new_token", "12", None),
        ("data", '{"id":17}', "17"),
        ("data", '{"id":true}', None),
        ("data", '{"id":""}', None),
        ("data", '{"id":"a b"}', None),
        ("data", "{}", None),
    ],
)
def test_entries_of_the_right_type_are_kept_in_a_shorthand(name: str, value: str, expected: object) -> None:
    attribute = {"responseId": "response_id", "data": "file_id"}.get(name, name)
    assert getattr(End("", f'{{"{name}":{value}}}'), attribute) == expected


def test_each_payload_is_a_new_dict_so_the_event_cannot_change() -> None:
    end = End("", '{"usage":{"price":1}}')
    end.payload()["usage"]["price"] = 2
    end.payload().clear()
    assert end.payload() == {"usage": {"price": 1}}


@pytest.mark.parametrize("raw", ["[]", '"{}"', "null", "1", "[{}]"])
def test_a_raw_that_is_not_an_object_is_a_value_error(raw: str) -> None:
    with pytest.raises(ValueError, match=r"^End\.raw: expected the text of a JSON object$"):
        End("", raw).payload()


@pytest.mark.parametrize("raw", ["{", "{}{}", "\ufeff{}", '{"a":NaN}', "[" * 100_000, '{"usage":' * 100_000, " "])
def test_a_raw_that_is_not_json_is_a_value_error_in_every_shorthand(raw: str) -> None:
    for name in SHORTHANDS:
        with pytest.raises(ValueError, match=r"."):
            getattr(End("", raw), name)


@pytest.mark.parametrize("depth", [64, 300])
def test_a_payload_may_be_as_deep_as_a_decoder_accepts(depth: int) -> None:
    raw = '{"a":' * depth + "1" + "}" * depth
    assert str(End("", raw).payload()) == raw.replace('"', "'").replace(":", ": ")


@given(st.text(), st.text())
def test_any_text_of_a_payload_can_be_encoded(text: str, key: str) -> None:
    raw = '{"responseId":"\\ud83d' + "".join(f"\\u{min(ord(c), 0xFFFF):04x}" for c in text) + '"}'
    response_id = End(key, raw).response_id
    assert response_id is not None
    assert len(response_id.encode()) >= len(text)
