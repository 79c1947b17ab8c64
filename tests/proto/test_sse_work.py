"""Memory and work of the decoder are proportional to the input."""

import sys
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from opchat_proto import Limits, SSEDecoder
from tests.proto.cuts import in_pieces
from tests.proto.streams import BOM, data

KIBI = 1024
MEBI = 1024 * 1024


@contextmanager
def at_most(most: int) -> Iterator[None]:
    """Check that Python never holds more than this many additional bytes."""
    tracemalloc.start()
    try:
        yield
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak <= most


@pytest.mark.parametrize("beginning", [b"", b"data: ", b": ", b"id: ", b"retry: ", BOM + b"data: a\ndata: "])
def test_256_mebibytes_without_a_line_end_are_not_kept(beginning: bytes) -> None:
    decoder = SSEDecoder()
    piece = b"1" * (64 * KIBI)
    with at_most(2 * Limits().event_bytes + MEBI):
        assert decoder.receive_data(beginning) == []
        for _ in range(4096):
            assert decoder.receive_data(piece) == []
        assert decoder.overflowed
        assert decoder.receive_eof() == []


@pytest.mark.parametrize("beginning", [b"", b"data: ", b"x\n: "])
def test_64_mebibytes_in_one_read_are_not_copied(beginning: bytes) -> None:
    decoder = SSEDecoder()
    huge = beginning + b"x" * (64 * MEBI)
    with at_most(2 * Limits().event_bytes + MEBI):
        assert decoder.receive_data(huge) == []
        assert decoder.overflowed


@pytest.mark.parametrize("line", [b"data: ab\n", b"data\r"])
@pytest.mark.parametrize("size", [1000, 4 * MEBI])
def test_many_small_data_lines_take_little_more_memory_than_one_long_line(line: bytes, size: int) -> None:
    decoder = SSEDecoder(Limits(event_bytes=MEBI // 2))
    piece = line * (size // len(line))
    with at_most(2 * MEBI // 2 + MEBI):
        while not decoder.overflowed:
            assert decoder.receive_data(piece) == []


def test_data_that_no_event_needs_any_more_is_freed() -> None:
    decoder = SSEDecoder()
    piece = b": keepalive\n\nevent: x\n\n<br>\ndata\n\n" * 30
    with at_most(MEBI):
        for _ in range(200):
            assert decoder.receive_data(piece) == [*data(*[""] * 30)]


def calls(stream: bytes, size: int) -> int:
    """The number of calls, in Python and C, for a stream in pieces of this size."""
    count = 0
    decoder = SSEDecoder()
    pieces = in_pieces(stream, size)

    def profile(_frame: object, event: str, _argument: object) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    before = sys.getprofile()
    sys.setprofile(profile)
    try:
        for piece in pieces:
            decoder.receive_data(piece)
        decoder.receive_eof()
    finally:
        sys.setprofile(before)
    return count


@pytest.mark.parametrize(
    "unit", [b"x", b"\r", b"data: a\n", b"data: a\r\n\r\n", b": ", b"id: 1\n", b"\xff", b"<br>\n\n"]
)
@pytest.mark.parametrize(("size", "length"), [(1, 4 * KIBI), (64, 16 * KIBI), (64 * KIBI, 128 * KIBI)])
def test_twice_the_input_takes_at_most_two_and_a_half_times_the_calls(unit: bytes, size: int, length: int) -> None:
    stream = unit * (length // len(unit))
    once, twice = calls(stream, size), calls(stream * 2, size)
    assert 0 < once < twice <= 2.5 * once
    assert once <= 16 * len(stream)


@pytest.mark.parametrize("beginning", [b"", b"data: ", b": "])
def test_sixteen_mebibytes_in_small_pieces_are_not_copied_for_each_piece(beginning: bytes) -> None:
    # 131,072 pieces: a decoder that copied the unfinished line for each would move a terabyte.
    decoder = SSEDecoder()
    assert decoder.receive_data(beginning) == []
    piece = b"x" * 128
    for _ in range(16 * MEBI // 128 - 1):
        decoder.receive_data(piece)
    assert not decoder.overflowed
    assert repr(decoder) == f"<SSEDecoder holding {16 * MEBI - 128 + len(beginning)} bytes>"
