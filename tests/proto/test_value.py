"""Values compare, hash and print like dataclasses whose methods are generated."""

import importlib
import pkgutil
import weakref
from dataclasses import field, fields, is_dataclass, make_dataclass
from typing import Any
from unittest.mock import ANY

import pytest

import opchat_proto
from opchat_proto import Connect, Done, Live, Message, Receive, ServerSentEvent, Submit
from opchat_proto._value import Value  # the base class is not public, and this test looks for its subclasses
from tests.proto.cuts import copies

MODULES = [importlib.import_module(f"opchat_proto.{it.name}") for it in pkgutil.iter_modules(opchat_proto.__path__)]
CLASSES = {it for module in MODULES for it in vars(module).values() if isinstance(it, type) and is_dataclass(it)}
FROZEN = sorted(
    (it for it in CLASSES if vars(it)["__dataclass_params__"].frozen and it.__module__.startswith("opchat_proto")),
    key=lambda it: it.__name__,
)
each_class = pytest.mark.parametrize("kind", FROZEN, ids=lambda kind: kind.__name__)


def generated(kind: Any) -> Any:
    """A dataclass with the same name and fields whose methods are generated."""
    declared = [
        (it.name, it.type, field(repr=it.repr, hash=it.hash, compare=it.compare, kw_only=it.kw_only))
        for it in fields(kind)
    ]
    return make_dataclass(kind.__name__, declared, frozen=True, slots=True)


def filled(kind: Any, /, **other: object) -> Any:
    """A value with a text in each field, and with these others. Nothing is checked."""
    value = object.__new__(kind)
    for it in fields(kind):
        object.__setattr__(value, it.name, other.get(it.name, f"<{it.name}>"))
    return value


def test_every_frozen_class_is_a_value() -> None:
    assert [kind for kind in FROZEN if not issubclass(kind, Value)] == []
    assert [kind for kind in FROZEN if vars(kind).keys() & {"__eq__", "__hash__"}] == []
    assert [kind.__name__ for kind in FROZEN if "__repr__" in vars(kind)] == ["Session"]
    assert {Live, Message, Submit, Done} <= set(FROZEN)


@each_class
def test_the_same_values_are_equal_as_in_a_generated_class(kind: Any) -> None:
    twin = generated(kind)
    assert filled(kind) == filled(kind)
    for it in fields(kind):
        value, other = filled(kind), filled(kind, **{it.name: "<other>"})
        assert (value == other, value != other) == (
            filled(twin) == filled(twin, **{it.name: "<other>"}),
            filled(twin) != filled(twin, **{it.name: "<other>"}),
        )


@each_class
def test_the_hash_is_that_of_a_generated_class(kind: Any) -> None:
    twin = generated(kind)
    assert hash(filled(kind)) == hash(filled(twin))
    for it in fields(kind):
        if it.compare:
            with pytest.raises(TypeError, match="unhashable type: 'list'"):
                hash(filled(kind, **{it.name: []}))
        else:
            assert hash(filled(kind, **{it.name: []})) == hash(filled(twin))


@pytest.mark.parametrize("kind", [kind for kind in FROZEN if "__repr__" not in vars(kind)], ids=lambda it: it.__name__)
def test_the_repr_is_that_of_a_generated_class_and_hides_the_same_fields(kind: Any) -> None:
    assert repr(filled(kind)) == repr(filled(generated(kind)))
    assert [it.name for it in fields(kind) if f"<{it.name}>" in repr(filled(kind))] == [
        it.name for it in fields(kind) if it.repr
    ]


def test_the_repr_of_a_value_within_itself_ends() -> None:
    within: list[Any] = []
    for kind in (Live, generated(Live)):
        within[:] = [filled(kind, text=within)]
        assert repr(within) == "[Live(text=[...], kind='<kind>')]"
        assert repr(within[0]) == "Live(text=[...], kind='<kind>')"


def test_values_of_different_classes_differ() -> None:
    other: object = Receive()
    assert Done() != other
    assert Live("a", "content") != ServerSentEvent("a", "content")
    assert Connect("a", 1) != ("a", 1)


def test_a_value_of_a_subclass_differs_and_is_printed_with_its_own_name() -> None:
    subclass: Any = type("Sub", (Live,), {"__slots__": ()})
    assert subclass("a") == subclass("a")
    assert subclass("a") != Live("a")
    assert Live("a") != subclass("a")
    assert repr(subclass("a")) == "Sub(text='a', kind='content')"


def test_the_other_side_of_a_comparison_is_asked_too() -> None:
    assert Live("a") == ANY
    assert Live("a").__eq__("a") is NotImplemented


def test_values_without_a_hash_can_be_compared() -> None:
    assert filled(Live, text=["a"]) == filled(Live, text=["a"])
    assert filled(Live, text=["a"]) != filled(Live, text=["b"])


def test_a_field_that_equals_nothing_is_equal_if_it_is_the_same_object() -> None:
    nan = float("nan")
    assert Connect("a", nan) == Connect("a", nan)  # type: ignore[arg-type]  # no other number differs from itself
    assert Connect("a", nan) != Connect("a", float("nan"))  # type: ignore[arg-type]  # likewise


@each_class
def test_a_value_has_no_room_for_more_and_its_copies_are_equal(kind: Any) -> None:
    value = filled(kind)
    assert list(copies(value)) == [value] * 6
    assert not hasattr(value, "__dict__")
    with pytest.raises(TypeError, match="weak reference"):
        weakref.ref(value)
    with pytest.raises((AttributeError, TypeError)):
        value.another = 1
