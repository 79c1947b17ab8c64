"""JSON objects in other text, such as PHP's notices."""

import json
import re

import pytest

from opchat_proto._json import find_last  # strict JSON is not public

BEGINS = re.compile(r'\{"a":')


@pytest.mark.parametrize(
    ("text", "own"),
    [
        ('x{"a":1}y', '{"a":1}'),
        ('{"a":1}{"a":2}', '{"a":2}'),
        ('{"a":1}{"b":2}', '{"a":1}'),
        ('{"a":{"a":1}}', '{"a":{"a":1}}'),
        ('{"a":[{"a":1},{"a":2}]', '{"a":2}'),
        ('{"a":{"a":1},}', '{"a":1}'),
        ('}]{"a":1}', '{"a":1}'),
        ('{"a": oops {"a":"}"}', '{"a":"}"}'),
        ('{"a":"{"a":1}', '{"a":1}'),
        ('{"a":1]}{"a":', None),
        ('{"a":01}', None),
        ('{"a":tru}', None),
        ('{"a":NaN}', None),
        ('{"a":[[1]]}', None),
        ('[[[[{"a":1}]]]]', '{"a":1}'),
        ('{"a":1', None),
        ("", None),
    ],
)
def test_the_last_whole_object_in_a_text_is_found(text: str, own: str | None) -> None:
    found = find_last(text, BEGINS, 2)
    assert found == (None if own is None else (json.loads(own), own))


def test_lone_surrogates_in_a_found_object_are_replaced() -> None:
    assert find_last(r'x{"a":"\ud800"}', BEGINS, 2) == ({"a": "\ufffd"}, r'{"a":"\ud800"}')


@pytest.mark.parametrize(
    "unit", ['{"a":', '{"a":"', r'{"a":"\"', '{"a":1}', '{"a":1]', '{"a":[', '{"a":"}"', '{"a":,}']
)
def test_unfinished_objects_are_not_scanned_repeatedly(unit: str) -> None:
    text = unit * (1_000_000 // len(unit))
    # A quadratic search would take hours.
    assert (find_last(text, BEGINS, 64) is None) == (unit != '{"a":1}')
