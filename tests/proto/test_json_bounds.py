"""JSON at its bounds: short values, nesting that ends and begins again, and constants that it lacks."""

import re
from typing import Any

import pytest

from opchat_proto._json import decode, find_last, skip_short  # strict JSON is not public


@pytest.mark.parametrize(
    ("text", "start", "depth", "end"),
    [
        ('"long"', 0, 2, 6),
        ('[["ab"]]', 0, 2, 8),
        ('[[["ab"]]]', 0, 2, -1),
        ('[[["ab"', 3, 2, 7),
        ('{{{"ab"', 3, 2, 7),
        ('"' + "x" * 638 + '"', 0, 2, 640),
        ('"' + "x" * 639 + '"', 0, 2, -1),
        ("NaN", 0, 2, -1),
        ("", 0, 2, -1),
    ],
)
def test_a_short_value_is_skipped_up_to_its_end(text: str, start: int, depth: int, end: int) -> None:
    assert skip_short(text, start, depth) == end


@pytest.mark.parametrize("text", ["[[1],[[[2]]]]", '{"a":{"b":1},"c":{"d":{"e":{}}}}'])
def test_nesting_is_counted_on_after_a_value_that_ends(text: str) -> None:
    assert repr(decode(text, 4)).replace("'", '"').replace(" ", "") == text
    with pytest.raises(ValueError, match=r"^nested deeper than 3$"):
        decode(text, 3)


def test_lone_surrogates_are_replaced_in_each_of_several_values() -> None:
    value: Any = decode('[["\\ud800"],{"\\ud800":["\\ud800"]},["\\udc00"]]', 3)
    assert value == [["\ufffd"], {"\ufffd": ["\ufffd"]}, ["\ufffd"]]


@pytest.mark.parametrize("name", ["NaN", "Infinity", "-Infinity"])
def test_a_constant_that_json_lacks_is_named(name: str) -> None:
    with pytest.raises(ValueError, match=f"^{name} is not JSON$"):
        decode(f"[{name}]", 2)


@pytest.mark.parametrize("text", ['{"a":}', '{"a":1]}'])
def test_an_object_that_cannot_be_decoded_is_not_found(text: str) -> None:
    assert find_last(text, re.compile('{"a"'), 3) is None
