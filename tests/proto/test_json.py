"""Strict JSON from hostile text."""

import inspect
import json
import sys
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opchat_proto import End, Event, Live, ReplyDecoder
from opchat_proto._json import (  # strict JSON is not public
    MOST_DIGITS,
    Unfinished,
    decode,
    decode_prefix,
    encodable,
    encode_as_php,
    skip_short,
)

MEBI = 1024 * 1024
PAYLOAD = b'{"success":true,"reply":"Hi","usage":' + b"[" * 60 + b"]" * 60 + b"}"


def refusal(text: str, depth: int = 64, **more: Any) -> str:
    """The error for `text`."""
    with pytest.raises(ValueError, match=r".") as caught:
        decode(text, depth, **more)
    return str(caught.value)


def nested(depth: int, inside: str = "") -> str:
    return "[" * depth + inside + "]" * depth


def values() -> st.SearchStrategy[Any]:
    """Any JSON value that survives a round trip unchanged."""
    text = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
    leaf = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | text
    return st.recursive(leaf, lambda some: st.lists(some) | st.dictionaries(text, some), max_leaves=12)


# ------------------------------------------------------------------------------ valid JSON


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("{}", {}),
        ("[]", []),
        ("null", None),
        ("true", True),
        ("-0", 0),
        ("12", 12),
        ("-1.5E+2", -150.0),
        (' \t\r\n{"a" : [ 1 , 2 ] } \n', {"a": [1, 2]}),
        (r'"\u00e9\/\n\"\\"', 'é/\n"\\'),
        (r'"\ud83d\ude89"', "🚉"),
        ('"\u2028\x7f"', "\u2028\x7f"),
        ('{"":0}', {"": 0}),
        ('{"a":1,"b":2,"a":3}', {"a": 3, "b": 2}),
    ],
)
def test_json_is_decoded(text: str, value: object) -> None:
    assert decode(text, 64) == value


@pytest.mark.parametrize(
    "text",
    [
        *("", " ", "nul", "True", "undefined", "'a'", "a", "// no", "/* no */ 1"),
        *("NaN", "Infinity", "-Infinity", "[NaN]", '{"a":-Infinity}', "nan", "inf", "-NaN", "+Infinity"),
        *("01", "-", "+1", ".5", "1.", "1e", "1e+", "0x10", "1_000", "--1", "\u0661", "1\u0662"),
        *("{} {}", "{}x", "[]]", "1 2", "null\x00", "{};", '"a""b"', "{}\ufeff", "{}\xa0"),
        *("\ufeff{}", "\ufeff", "\xa0{}", "\x0b1", "\u2003[]"),
        *("[1,]", '{"a":1,}', "[,1]", "[1 2]", '{"a" 1}', "{a:1}", "{1:1}", '{"a"}', '{"a":}', "{'a':1}", "{,}"),
        *(
            '"',
            '"\n"',
            '"\t"',
            '"\x00"',
            '"\x1f"',
            r'"\x41"',
            r'"\u12"',
            r'"\u12g4"',
            r'"\u 123"',
            r'"\U00000041"',
            '"\\',
        ),
        *("[", "{", '{"a"', '{"a":', "[1,", "]", "}", "[}", "{]"),
    ],
)
def test_anything_else_is_a_value_error(text: str) -> None:
    with pytest.raises(ValueError, match=r".") as caught:
        decode(text, 64)
    assert not isinstance(caught.value, Unfinished | UnicodeError)


@given(values())
def test_output_of_python_is_decoded(value: Any) -> None:
    assert decode(json.dumps(value), 100) == value
    assert decode(json.dumps(value, ensure_ascii=False), 100) == value


@given(st.text(st.sampled_from('[]{},:"\\ued8010.-+Ee tfn\ufeff ')))
def test_any_text_is_decoded_or_a_value_error(text: str) -> None:
    try:
        value = decode(text, 4, unique=("e", "ud"))
    except ValueError:
        value = None
    json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
    assert value is None or value == json.loads(text) or "\ufffd" in str(value)


# ------------------------------------------------------------------------------ numbers


@pytest.mark.parametrize("form", ["{}", "-{}", "[{}]", "0.{}", "-{}.5", "1.{}e5", "1e{}"])
def test_a_number_of_4300_digits_passes_and_one_of_4301_does_not(form: str) -> None:
    others = sum(character.isdigit() for character in form)
    exact, longer = form.format("1" * (MOST_DIGITS - others)), form.format("1" * (MOST_DIGITS - others + 1))
    assert decode(exact, 64) is not None
    assert refusal(longer) == "a number of more than 4300 digits"
    for text in (f'{{"a":{longer}', f'{{"a":{longer}}} and more'):
        with pytest.raises(ValueError, match=r"^a number of more than 4300 digits$"):
            decode_prefix(text, 64)


def test_digits_in_a_string_are_not_a_number() -> None:
    assert decode(f'"{"1" * 5000}"', 64) == "1" * 5000


def test_the_digits_allowed_do_not_depend_on_the_interpreters_settings() -> None:
    before = sys.get_int_max_str_digits()
    sys.set_int_max_str_digits(0)
    try:
        assert refusal("1" * 4301) == "a number of more than 4300 digits"
    finally:
        sys.set_int_max_str_digits(before)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e400", sys.float_info.max),
        ("-1e400", -sys.float_info.max),
        ("1e-400", 0.0),
        ("1.7976931348623157e308", sys.float_info.max),
        ("-2.5", -2.5),
    ],
)
def test_a_float_is_never_infinite_so_it_can_be_encoded_again(text: str, value: float) -> None:
    assert decode(text, 64) == value
    assert decode(json.dumps(decode(text, 64)), 64) == value


# ------------------------------------------------------------------------------ depth


@pytest.mark.parametrize("depth", [1, 2, 64, 300])
def test_the_limit_on_depth_is_exact(depth: int) -> None:
    assert str(decode(nested(depth), depth)) == nested(depth)
    assert refusal(nested(depth + 1), depth) == f"nested deeper than {depth}"


def test_arrays_and_objects_count_alike() -> None:
    text = '{"a":[' * 32 + "1" + "]}" * 32
    assert decode(text, 64) == json.loads(text)
    assert refusal(f"[{text}]") == "nested deeper than 64"
    assert refusal(text, 63) == "nested deeper than 63"


def test_siblings_do_not_add_up() -> None:
    text = f"[{','.join(['{}', '[]', nested(63)] * 100)}]"
    assert decode(text, 64) == json.loads(text)
    assert refusal(f"[{text}]") == "nested deeper than 64"


@pytest.mark.parametrize("inside", ["[" * 100, "{" * 100, '\\"' + "[" * 100, '\\\\\\"[[', "[\\\\", "\\u005b" * 90])
def test_brackets_in_strings_do_not_count(inside: str) -> None:
    text = f'{{"{inside}":"{inside}","a":{nested(63)}}}'
    assert decode(text, 64) == json.loads(text)
    assert refusal(f"[{text}]") == "nested deeper than 64"


@pytest.mark.parametrize("call", [decode, decode_prefix])
@pytest.mark.parametrize("text", ["[" * 100_000, nested(100_000), '{"a":' * 100_000, '[{"a":' * 50_000])
def test_nesting_of_any_depth_is_a_value_error(call: Callable[[str, int], object], text: str) -> None:
    with pytest.raises(ValueError, match=r"^nested deeper than 64$"):
        call(text, 64)
    with pytest.raises(ValueError, match=r"^nested deeper than 512$"):
        call(text, 512)


def test_the_limit_on_depth_is_independent_of_the_callers_stack() -> None:
    def deeper(calls: int) -> list[str]:
        if calls:
            return deeper(calls - 1)
        with pytest.raises(ValueError, match=r".") as whole:
            decode(nested(900), 64)
        with pytest.raises(ValueError, match=r".") as prefix:
            decode_prefix("[" * 900, 64)
        return [str(whole.value), str(prefix.value)]

    room = sys.getrecursionlimit() - len(inspect.stack()) - 150
    assert deeper(0) == deeper(room) == ["nested deeper than 64"] * 2


@pytest.mark.parametrize(
    "data",
    [
        PAYLOAD,
        b"PHP notice: " + PAYLOAD,
        b'data: {"type":"end","data":%b}\n\n' % PAYLOAD,
        b'data: {"type":"live","data":"Hi","timestamp":1,"subtype":"content","visibility":"all","metadata":%b}\n\n'
        % PAYLOAD,
    ],
)
def test_where_the_callers_stack_is_nearly_full_an_answer_is_never_judged_otherwise(data: bytes) -> None:
    """It raises Python's own exception instead."""

    def deeper(calls: int) -> list[Event]:
        if calls:
            return deeper(calls - 1)
        decoder = ReplyDecoder()
        return decoder.receive_head(200, []) + (decoder.receive_data(data) or decoder.receive_eof())

    expected, room = deeper(0), sys.getrecursionlimit() - len(inspect.stack())
    assert isinstance(expected[-1], End | Live)
    raised = 0
    for left in range(1, 150):
        try:
            assert deeper(room - left) == expected
        except RecursionError:
            raised += 1
    assert 0 < raised < 100


def test_the_deepest_limit_works_with_lone_surrogates_at_the_bottom() -> None:
    expected: Any = "\ufffd"
    for _ in range(256):
        expected = [{"\ufffd": expected}]
    text = '[{"\\ud800":' * 256 + '"\\udfff"' + "}]" * 256
    assert json.dumps(decode(text, 512)) == json.dumps(expected)


# ------------------------------------------------------------------------------ keys that must be unique


@pytest.mark.parametrize(
    "text",
    [
        '{"type":1,"type":1}',
        '{"type":1,"data":2,"type":3}',
        r'{"type":1,"\u0074ype":2}',
        r'{"\u0074ype":1,"typ\u0065":2}',
        r'{"\u0074\u0079\u0070\u0065":1,"type":2}',
        '{"type":{"type":1},"type":2}',
        '{"a":{"type":1,"type":2},"type":1, "type" :2}',
        '{"type":1,"a":[{"b":"type"}],"type":2e5}',
    ],
)
def test_a_repeated_key_is_refused_in_any_spelling(text: str) -> None:
    assert refusal(text, unique=("data", "type")) == "the key 'type' is there more than once"
    assert decode(text, 64) == json.loads(text)  # without `unique`, the last value counts


@pytest.mark.parametrize("key", ["new_token", "sessionId", "A1 ", "_"])
def test_unique_may_be_any_ascii_key(key: str) -> None:
    escaped = "".join(f"\\u{ord(character):04X}" for character in key)
    for second in (key, escaped, f"\\u{ord(key[0]):04x}{key[1:]}"):
        assert refusal(f'{{"{key}":1,"{second}":2}}', unique=(key,)) == f"the key {key!r} is there more than once"


@pytest.mark.parametrize(
    "text",
    [
        '{"type":"type","data":"data"}',
        '{"type":1,"a":{"type":2,"data":0},"data":{"type":3,"type":4}}',
        '{"type":1,"Type":2}',
        r'{"type":"\u0074ype","x":"{\"type\":1,\"type\":2}"}',
        r'{"type":1,"\\u0074ype":2}',
        '{"b":1,"b":2}',
        '["type","type"]',
        '"type"',
        "1.5",
    ],
)
def test_a_key_that_only_resembles_a_repeated_one_passes(text: str) -> None:
    assert decode(text, 64, unique=("type", "data")) == json.loads(text)


# ------------------------------------------------------------------------------ lone surrogates


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (r'"\ud800"', "\ufffd"),
        (r'"\uDFFF"', "\ufffd"),
        (r'"\udbff\ud800"', "\ufffd\ufffd"),
        (r'"\ude89\ud83d"', "\ufffd\ufffd"),
        (r'"\ud83d\ude89\ud83d"', "🚉\ufffd"),
        (r'"a\ud83dé"', "a\ufffdé"),
        (r'{"\ud800":"\udc00","b":["\ud800",{"c":"\udfff","d":[1,null,true,2.5]}]}',
         {"\ufffd": "\ufffd", "b": ["\ufffd", {"c": "\ufffd", "d": [1, None, True, 2.5]}]}),
        (r'{"\ud800":1,"\udbff":2}', {"\ufffd": 2}),
        (r'"\\ud800"', r"\ud800"),
        (r'"\\\ud800"', "\\\ufffd"),
        (r'["é","\\ud8"]', ["é", r"\ud8"]),
    ],
)  # fmt: skip
def test_a_lone_surrogate_becomes_a_replacement_character(text: str, value: object) -> None:
    assert decode(text, 64) == value
    assert decode_prefix(text + " \\", 64) == (value, text)


@given(st.text())
def test_any_text_is_made_encodable_without_changing_its_length(text: str) -> None:
    clean = encodable(text)
    assert clean.encode().decode() == clean
    assert [c for c in clean if c != "\ufffd"] == [c for c in text if c != "\ufffd" and not "\ud800" <= c <= "\udfff"]
    assert len(clean) == len(text)


def test_keys_keep_their_order_when_surrogates_are_replaced() -> None:
    assert list(decode(r'{"b":1,"\ud800":2,"a":3}', 64)) == ["b", "\ufffd", "a"]


def test_a_payload_inside_an_event_is_cleaned_when_it_is_decoded() -> None:
    event = decode(r'{"type":"end","data":"{\"reply\":\"\\ud800\"}"}', 64)
    assert event == {"type": "end", "data": r'{"reply":"\ud800"}'}
    assert End(None, event["data"]).payload() == {"reply": "\ufffd"}


# ------------------------------------------------------------------------------ JSON at the beginning of a text

OBJECTS = [
    "{}",
    '{"success":true,"reply":"Hello","images":null,"n":[-1,0,10,-1.5,2e3,2E-3,1.25e+10,false],"o":{"a":{}}}',
    '{ "a" :\t1 ,\r\n"b" : [ ] , "c" : [ 1 , -2 ] }',
    r'{"e":"\"\\\/\b\f\n\r\t\u00e9\ud83d\ude89\ud800\udbff\udc00x","\u0061\\":"é🚉"}',
    '{"":{"":{"":[[],[[]],{}]}},"a":"}]"}',
]


@pytest.mark.parametrize("text", OBJECTS)
def test_every_proper_prefix_of_an_object_is_unfinished(text: str) -> None:
    for end in range(len(text)):
        with pytest.raises(Unfinished, match=r"^the JSON breaks off$"):
            decode_prefix(text[:end], 64)


@pytest.mark.parametrize("text", OBJECTS)
@pytest.mark.parametrize(
    "rest",
    ["", "\n", "<!-- cached -->", "{", "}", "]", '"', "\x00", "\ufeff", "e5", ".", "[" * 1000, '"\\' * 40 + "[" * 99],
)
def test_text_after_an_object_is_ignored(text: str, rest: str) -> None:
    assert decode_prefix(text + rest, 64) == (decode(text, 64), text)


@pytest.mark.parametrize(
    "text",
    [
        *("x", "<html>", "{a", "{,", "{]", '{"a"x', '{"a"}', '{"a":}', '{"a":1 2', '{"a":1;', "[1}", "{1"),
        *('{"a":nulL', '{"a":nx', '{"a":tru ', '{"a":-x', '{"a":- ', '{"a":+', '{"a":.', '{"a":N', '{"a":NaN'),
        *('{"a":-I', '{"a":-Infinity', '{"a":Infinity', '{"a":I', '{"a":\'', '{"a":\\', "{\\"),
        *('{"a":01', '{"a":-01.', '{"a":1.e', '{"a":1.x', '{"a":1.5.', '{"a":1e5.', '{"a":1e5e', '{"a":1e5-'),
        *('{"a":1e+-', '{"a":1ex', '{"a":1e +', '{"a":"x".', '{"a":"1".', '{"a":true.', '{"a":true1.', '{"a":{}e'),
        *("[1 .", "[1 e", "[[].", "[[]e+", "[1,-1..", "[0e0e", "[00."),
        *('{"a":"\n', '{"a":"\\x', '{"a":"\\u12x', '{"a":"\\ux', '{"a":"\\u12"', '{"a":"\\u 12', '{"\\q'),
        *('{"a":"\\n\x01', '{"a":"\\u12345\n', '{"a":"\\ud800\\x'),
        *("\ufeff{}", " {}", "\n{", "\xa0"),
    ],
)
def test_a_prefix_that_cannot_become_json_is_refused_and_not_unfinished(text: str) -> None:
    with pytest.raises(ValueError, match=r".") as caught:
        decode_prefix(text, 64)
    assert type(caught.value) in (ValueError, json.JSONDecodeError)


@given(values(), st.data())
def test_any_object_is_unfinished_until_it_is_complete(value: Any, data: st.DataObject) -> None:
    text = json.dumps({"a": value}, ensure_ascii=data.draw(st.booleans()))
    end = data.draw(st.integers(0, len(text) - 1))
    with pytest.raises(Unfinished):
        decode_prefix(text[:end], 64)
    assert decode_prefix(text + text, 64) == ({"a": value}, text)


def test_a_prefix_that_is_already_too_deep_is_refused_for_its_depth() -> None:
    with pytest.raises(Unfinished):
        decode_prefix("[" * 64, 64)
    with pytest.raises(ValueError, match=r"^nested deeper than 64$"):
        decode_prefix("[" * 65, 64)
    with pytest.raises(Unfinished):
        decode_prefix('{"a":"' + "[" * 65, 64)
    with pytest.raises(Unfinished):
        decode_prefix('{"a":"' + "[" * 65 + "\\", 64)


def test_the_depth_of_a_prefix_is_exact() -> None:
    assert decode_prefix(nested(64) + "x", 64) == (decode(nested(64), 64), nested(64))
    with pytest.raises(ValueError, match=r"^nested deeper than 64$"):
        decode_prefix(nested(65) + "x", 64)


# ------------------------------------------------------------------------------ work

HOSTILE = {
    "quotes": "[" + '"' * (4 * MEBI),
    "escaped quotes": '\\"' * (2 * MEBI),
    "a string of escaped quotes, cut": '{"a":"' + '\\"' * (2 * MEBI) + "[" * 65,
    "a string of escaped quotes, cut in an escape": '{"a":"' + '\\"' * (2 * MEBI) + "[" * 65 + "\\",
    "open brackets": "[" * (4 * MEBI),
    "closing brackets": "]" * (4 * MEBI),
    "brackets in strings": '["[",' * MEBI,
    "backslashes": '{"a":"' + "\\" * (4 * MEBI) + "[" * 65,
    "digits": "[" + "1" * (4 * MEBI),
    "digits and dots": "[" + "1." * (2 * MEBI),
    "minus signs": "[" + "-" * (4 * MEBI),
    "exponents": "[1" + "e" * (4 * MEBI),
    "blanks": " " * (4 * MEBI),
    "literals": "[" + "tru" * MEBI,
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_four_hostile_mebibytes_are_refused_in_one_pass(text: str) -> None:
    # A quadratic decoder would take hours.
    for call in (decode, decode_prefix):
        with pytest.raises(ValueError, match=r"."):
            call(text, 64, **({"unique": ("a",)} if call is decode else {}))


def test_four_mebibytes_of_pieces_are_decoded_in_one_pass() -> None:
    strings = '["' + '\\"[\\\\' * (MEBI // 2) + '"]'
    assert decode(strings, 64) == ['"[\\' * (MEBI // 2)]
    halves = '["' + "\\ud800" * (MEBI // 2) + '"]'
    assert decode(halves, 64) == ["\ufffd" * (MEBI // 2)]
    keys = "{" + ",".join(f'"\\u0061{number}":{number}' for number in range(100_000)) + "}"
    assert decode(keys, 64, unique=("a",)) == {f"a{number}": number for number in range(100_000)}


# ------------------------------------------------------------------------------ in PHP's spelling


@given(values())
def test_json_encoded_like_php_is_decoded_again(value: Any) -> None:
    text = encode_as_php(value)
    assert text.isascii()
    assert "\n" not in text
    assert decode(text, 64) == value


def test_slashes_are_escaped_like_in_php() -> None:
    assert (
        encode_as_php({"a/b": ["</script>", "\u00e9", "\U0001f689"]})
        == r'{"a\/b":["<\/script>","\u00e9","\ud83d\ude89"]}'
    )


# ------------------------------------------------------------------------------ the fast path


@given(values(), st.sampled_from(["", '{"a":']), st.sampled_from(["", "}", ',"b":1}', " ", "]"]))
def test_a_short_value_is_skipped_to_its_end(value: Any, before: str, after: str) -> None:
    text = json.dumps(value, ensure_ascii=False)
    if len(before + text + after) <= 640 and text.count("[") + text.count("{") + after.count("{") <= 64:
        assert skip_short(before + text + after, len(before), 64) == len(before + text)


@pytest.mark.parametrize(
    "text", ["", "{", "NaN", '{"a":-Infinity}', '"\n"', '"\\x"', "[[[]]]", '[{"a":[]}]', " 1", "1" * 641, "nul"]
)
def test_invalid_or_possibly_too_deep_values_are_left_to_the_exact_decoder(text: str) -> None:
    assert skip_short(text, 0, 2) == -1
    assert skip_short(f"[{text}", 1, 2) == -1
