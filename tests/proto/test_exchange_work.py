"""The work of an exchange is proportional to the bytes."""

import re
from collections.abc import Iterator
from typing import Any

import h11
import pytest

from opchat_proto import Limits
from opchat_proto._exchange import Exchange  # HTTP/1.1 alone is not public
from tests.proto.asking import CHUNKED, answered, chunks
from tests.proto.cuts import byte_by_byte, in_pieces
from tests.proto.exchanges import REQUEST, truncated


class Work:
    """Counts the bytes passed to h11 or copied out of it, and the calls of h11."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.done = 0
        receive, ask, trailing = h11.Connection.receive_data, h11.Connection.next_event, h11.Connection.trailing_data

        def receive_data(connection: h11.Connection, data: bytes) -> None:
            self.done += len(data)
            receive(connection, data)

        def next_event(connection: h11.Connection) -> Any:
            self.done += 1
            return ask(connection)

        def trailing_data(connection: h11.Connection) -> tuple[bytes, bool]:
            value: tuple[bytes, bool] = trailing.__get__(connection)
            self.done += 1 + len(value[0])
            return value

        monkeypatch.setattr(h11.Connection, "receive_data", receive_data)
        monkeypatch.setattr(h11.Connection, "next_event", next_event)
        monkeypatch.setattr(h11.Connection, "trailing_data", property(trailing_data))

    def of(self, pieces: Iterator[bytes] | list[bytes], limits: Limits) -> int:
        """The work for an answer in these pieces."""
        self.done = 0
        begun = Exchange(limits)
        begun.send(REQUEST, REQUEST.target)
        for piece in pieces:
            begun.receive_data(piece)
        return self.done


def tiny_chunks(size: int) -> bytes:
    return CHUNKED + size // 6 * b"1\r\nx\r\n"


def long_extension(size: int) -> bytes:
    return CHUNKED + b"1;" + size * b"x" + b"\r\ny\r\n"


def long_extensions(size: int) -> bytes:
    return CHUNKED + 20 * (b"1;" + size // 20 * b"x" + b"\r\ny\r\n")


def long_trailers(size: int) -> bytes:
    return CHUNKED + b"0\r\n" + size // 6 * b"A: b\r\n" + b"\r\n"


def large_chunks(size: int) -> bytes:
    return CHUNKED + size // 1000 * chunks(1000 * b"x")


def long_head(size: int) -> bytes:
    return b"HTTP/1.1 200 OK\r\nA: " + size * b"b" + b"\r\n\r\n"


def interim_responses(size: int) -> bytes:
    return size // 40 * b"HTTP/1.1 100 cccccccccccccccccccccccc\r\n\r\n"


def no_length(size: int) -> bytes:
    return b"HTTP/1.1 200 OK\r\n\r\n" + size * b"x"


@pytest.mark.parametrize("feed", [1, 64, 65536])
@pytest.mark.parametrize(
    "made",
    [
        tiny_chunks,
        large_chunks,
        long_extension,
        long_extensions,
        long_trailers,
        long_head,
        interim_responses,
        no_length,
    ],
)
def test_twice_the_bytes_take_at_most_two_and_a_half_times_the_work(
    monkeypatch: pytest.MonkeyPatch, made: Any, feed: int
) -> None:
    work = Work(monkeypatch)
    size = 6_000 if feed == 1 else 30_000
    once, twice = made(size), made(2 * size)
    for limits in (Limits(), Limits(head_bytes=512)):  # some lines exceed the second limit
        assert work.of(in_pieces(twice, feed), limits) <= 2.5 * work.of(in_pieces(once, feed), limits) + 2000


@pytest.mark.parametrize(
    ("data", "feed", "most"),
    [
        pytest.param(tiny_chunks(600_000), 600_000, 3, id="100,000 chunks in one read"),
        pytest.param(tiny_chunks(30_000), 1, 6, id="chunks of one byte, byte by byte"),
        pytest.param(chunks(*(8 * [4000 * b"x"])), 1, 6, id="larger chunks, byte by byte"),
        pytest.param(long_extension(60 * 1024)[len(CHUNKED) :], 1, 6, id="an extension of 60 KiB, byte by byte"),
        pytest.param(long_extensions(60 * 1024)[len(CHUNKED) :], 7, 6, id="many extensions"),
    ],
)
def test_the_work_for_a_body_is_a_few_times_its_size(
    monkeypatch: pytest.MonkeyPatch, data: bytes, feed: int, most: int
) -> None:
    data = CHUNKED + data.removeprefix(CHUNKED)
    assert Work(monkeypatch).of(in_pieces(data, feed), Limits()) <= most * len(data)


def test_lines_at_the_limit_cost_no_more_than_others(monkeypatch: pytest.MonkeyPatch) -> None:
    # h11 takes each of these lines without reporting it. Asking it after every byte would be quadratic.
    line = b"1;" + 508 * b"x" + b"\r\n"
    assert len(line) == 512
    data = CHUNKED + 40 * (line + b"y\r\n")
    assert Work(monkeypatch).of(byte_by_byte(data), Limits(head_bytes=512)) <= 6 * len(data)


def test_long_messages_of_h11_are_shortened() -> None:
    secret = b"HTTP/1.1 200 OK\r\nSet-Cookie: " + 60_000 * b"s" + b"\x00\r\n\r\n"
    [event] = answered([secret])
    assert [event] == truncated("HTTP: illegal header line")
    assert not re.search("sss|bytearray", repr(event))
