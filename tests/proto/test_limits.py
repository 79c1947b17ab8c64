"""Limits: finite, checked, and named in errors."""

import sys
from dataclasses import FrozenInstanceError, fields
from typing import Any

import pytest

from opchat_proto import Limits
from tests.proto.cuts import copies

NAMES = [field.name for field in fields(Limits)]
DEFAULTS = {
    "head_bytes": 65536,
    "headers": 128,
    "interim_responses": 8,
    "event_bytes": 16777216,
    "reply_bytes": 67108864,
    "refusal_bytes": 65536,
    "page_bytes": 2097152,
    "request_bytes": 1048576,
    "upload_bytes": 33554432,
    "json_depth": 64,
    "restarts": 1,
}
LEAST = dict.fromkeys(DEFAULTS, 1) | {"interim_responses": 0, "restarts": 0}
MOST = dict.fromkeys(DEFAULTS, sys.maxsize) | {"json_depth": 512, "restarts": 1}


def test_the_defaults_match_the_documentation() -> None:
    limits = Limits()
    assert {name: getattr(limits, name) for name in NAMES} == DEFAULTS


@pytest.mark.parametrize("name", NAMES)
def test_the_ends_of_a_range_pass_and_values_beyond_do_not(name: str) -> None:
    least, most = LEAST[name], MOST[name]
    assert getattr(Limits(**{name: least}), name) == least
    assert getattr(Limits(**{name: most}), name) == most
    for beyond in (least - 1, most + 1):
        with pytest.raises(ValueError, match=rf"^Limits\.{name}: expected {least} to {most}, got {beyond}$"):
            Limits(**{name: beyond})


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("value", "type_name"),
    [(True, "bool"), (1.0, "float"), ("1", "str"), (None, "NoneType"), (float("inf"), "float"), ([], "list")],
)
def test_only_an_int_is_a_limit(name: str, value: Any, type_name: str) -> None:
    with pytest.raises(TypeError, match=rf"^Limits\.{name}: expected an int, got {type_name}$"):
        Limits(**{name: value})


def test_positional_arguments_are_refused() -> None:
    with pytest.raises(TypeError):
        Limits(1)  # type: ignore[call-arg]  # wrong on purpose


def test_limits_are_frozen_hashable_slotted_and_equal_by_value() -> None:
    limits = Limits(event_bytes=5)
    assert limits == Limits(event_bytes=5) != Limits()
    assert hash(limits) == hash(Limits(event_bytes=5))
    assert not hasattr(limits, "__dict__")
    with pytest.raises(FrozenInstanceError):
        limits.event_bytes = 6  # type: ignore[misc]  # wrong on purpose
    assert list(copies(limits)) == [limits] * 6
