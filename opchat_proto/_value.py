"""Equality, hash and repr of all values, written once: to generate them for each class takes a fifth of an import."""

from dataclasses import Field, fields
from functools import cache
from reprlib import recursive_repr
from typing import Any, ClassVar

__all__: list[str] = []


class Value:
    """Base of the classes that are declared with `@dataclass(frozen=True, slots=True, eq=False, repr=False)`.

    They compare, hash and print as if `dataclass` had been called without the last two
    arguments. A field may set `compare` and `repr`, but not `hash`.
    """

    __slots__ = ()
    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]  # set by `dataclass`

    def __eq__(self, other: object) -> bool:
        return _compared(self) == _compared(other) if other.__class__ is self.__class__ else NotImplemented

    def __hash__(self) -> int:
        return hash(_compared(self))

    @recursive_repr()
    def __repr__(self) -> str:
        shown = (f"{field.name}={getattr(self, field.name)!r}" for field in fields(self) if field.repr)
        return f"{self.__class__.__qualname__}({', '.join(shown)})"


def _compared(value: Any) -> tuple[object, ...]:
    return tuple([getattr(value, name) for name in _names(value.__class__)])


@cache
def _names(kind: Any) -> tuple[str, ...]:
    return tuple(field.name for field in fields(kind) if field.compare)
