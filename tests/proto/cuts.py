"""Ways to cut bytes and to copy values."""

import copy
import pickle
from collections.abc import Iterator
from itertools import pairwise
from typing import TypeVar

from hypothesis import strategies as st

T = TypeVar("T")


def every_cut(data: bytes) -> Iterator[list[bytes]]:
    """The bytes whole, byte by byte, and cut in two at every place, including both ends."""
    yield [data]
    yield byte_by_byte(data)
    for middle in range(len(data) + 1):
        yield [data[:middle], data[middle:]]


def byte_by_byte(data: bytes) -> list[bytes]:
    return in_pieces(data, 1)


def in_pieces(data: bytes, size: int) -> list[bytes]:
    """The bytes in pieces of this size; the last may be shorter."""
    return [data[start : start + size] for start in range(0, len(data), size)]


def cut_at(data: bytes, places: list[int]) -> list[bytes]:
    """The bytes cut at these places, given in any order."""
    bounds = [0, *sorted(places), len(data)]
    return [data[start:end] for start, end in pairwise(bounds)]


def random_cuts(data: bytes) -> st.SearchStrategy[list[bytes]]:
    return st.lists(st.integers(0, len(data)), max_size=12).map(lambda places: cut_at(data, places))


def copies(value: T) -> Iterator[T]:
    """The value and its copies: copy, deepcopy, and every pickle protocol that supports slots."""
    yield copy.copy(value)
    yield copy.deepcopy(value)
    for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1):
        yield pickle.loads(pickle.dumps(value, protocol))


def clones(machine: T) -> Iterator[T]:
    """Independent copies of the machine, made in every way. Each can continue alone."""
    yield copy.deepcopy(machine)
    for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1):
        yield pickle.loads(pickle.dumps(machine, protocol))
