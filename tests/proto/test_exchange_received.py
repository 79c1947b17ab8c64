"""The items that an `Exchange` returns for each read, and the bytes that it keeps."""

import array
import copy
import pickle
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opchat_proto import Limits, Reason, Request, strategies
from opchat_proto._exchange import EndOfBody, Exchange, Fault, Head, Received  # HTTP/1.1 alone is not public
from tests.proto.asking import ANSWER, ANSWERED, CHUNKED, asked, chunks, content_length
from tests.proto.cuts import byte_by_byte, every_cut, in_pieces
from tests.proto.exchanges import JSON, JSON_ANSWERED, REQUEST, truncated

INTERIM = b"HTTP/1.1 103 x\r\nLink: y\r\n\r\n"


def exchange() -> Exchange:
    begun = Exchange(Limits())
    assert (
        begun.send(REQUEST, REQUEST.target)
        == b"POST /a?b=c HTTP/1.1\r\nHost: site.example\r\nContent-Length: 4\r\n\r\nbody"
    )
    return begun


def received_in_all(pieces: list[bytes], begun: Exchange | None = None) -> list[Received]:
    """All items of a whole answer. Consecutive pieces of the body are joined."""
    begun = begun or exchange()
    everything: list[Received] = []
    for piece in pieces:
        for item in begun.receive_data(piece):
            last = everything[-1] if everything else None
            if isinstance(item, bytes) and isinstance(last, bytes):
                everything[-1] = last + item
            else:
                everything.append(item)
    return everything


def test_an_answer_is_heads_a_body_and_its_end() -> None:
    data = INTERIM + CHUNKED + chunks(b"a", b"bc") + b"0\r\n\r\n"
    for pieces in every_cut(data):
        assert received_in_all(pieces) == [
            Head(103, [(b"Link", b"y")]),
            Head(200, [(b"Transfer-Encoding", b"chunked")]),
            b"abc",
            EndOfBody(),
        ]


def test_the_pieces_of_a_read_are_one_piece_of_the_body() -> None:
    begun = exchange()
    begun.receive_data(CHUNKED)
    assert begun.receive_data(chunks(*(1000 * [b"x"]))) == [1000 * b"x"]


def test_each_read_may_be_one_chunk() -> None:
    begun = exchange()
    begun.receive_data(CHUNKED)
    assert [begun.receive_data(chunks(data)) for data in (b"a", b"bc", b"d")] == [[b"a"], [b"bc"], [b"d"]]
    assert begun.receive_data(b"0\r\n\r\n") == [EndOfBody()]


def test_any_number_of_bytes_after_an_answer_is_not_a_fault() -> None:
    begun = Exchange(Limits(head_bytes=64))
    begun.send(REQUEST, REQUEST.target)
    assert received_in_all([content_length(b"abc")], begun)[1:] == [b"abc", EndOfBody()]
    for _ in range(3):
        assert begun.receive_data(64 * b"x") == []
        assert begun.holds_more


@given(
    st.lists(
        st.one_of(
            st.sampled_from(
                [b"\r\n", b"\r", b"\n", b"3\r\n", b"03\r\n", b"5;x\r\n", b"3", b"0\r\n\r\n", b"abc", b"a\r\nb"]
            ),
            st.binary(max_size=9).map(chunks),
            st.sampled_from([b"3\r\n3\r\n", b"\r\nabc", b"\nabc\r\nabc", b"8\r\n3\r\nabc"]).map(chunks),
        ),
        max_size=8,
    ).map(b"".join),
    st.data(),
)
def test_no_read_leaves_a_complete_item_for_the_next(body: bytes, data: st.DataObject) -> None:
    """At any point, the body so far is the same as if it had come byte by byte."""
    in_reads, in_bytes = exchange(), exchange()
    ended = False
    for read in [CHUNKED, *filter(None, data.draw(strategies.cuts(body)))]:
        received = received_in_all([read], in_reads)
        assert received_in_all(byte_by_byte(read), in_bytes) == received
        ended = ended or EndOfBody() in received
        assert not ended or in_reads.holds_more == in_bytes.holds_more


def test_an_answer_has_begun_with_its_first_byte() -> None:
    begun = Exchange(Limits())
    assert begun.begun is False
    begun.send(REQUEST, REQUEST.target)
    assert begun.begun is False
    begun.receive_data(b"H")
    assert begun.begun is True
    begun.receive_data(content_length(b"")[1:])
    assert begun.begun is True


@pytest.mark.parametrize(
    ("method", "target"),
    [(b"POST", b"/a?b=c"), (b"POST", b"http://site.example/a?b=c"), (b"CONNECT", b"site.example:443")],
)
def test_a_request_is_encoded_with_its_target(method: bytes, target: bytes) -> None:
    request = Request(method.decode(), "http://site.example/a?b=c", (("Host", "site.example"),))
    assert Exchange(Limits()).send(request, target.decode()) == (
        method + b" " + target + b" HTTP/1.1\r\nHost: site.example\r\n\r\n"
    )


@pytest.mark.parametrize(
    ("method", "data", "holds_more"),
    [
        ("CONNECT", b"", False),
        ("CONNECT", b"HTTP/1.1 200 -\r\n\r\n", False),
        ("CONNECT", b"HTTP/1.1 100 -\r\n\r\nHTTP/1.1 200 -\r\nContent-Length: 3\r\n\r\n", False),
        ("CONNECT", b"HTTP/1.1 200 -\r\n\r\nx", True),
        ("CONNECT", b"HTTP/1.1 200 -\r\n\r\n" + 200_000 * b"x", True),
        ("POST", content_length(b"abc"), False),
        ("POST", content_length(b"abc") + b"x", True),
        ("POST", CHUNKED + chunks(b"abc") + b"0\r\n\r\n", False),
        ("POST", CHUNKED + chunks(b"abc") + b"0\r\n\r\n\n", True),
    ],
)
def test_bytes_after_an_answer_are_noticed(method: str, data: bytes, holds_more: bool) -> None:
    for size in (1, 7, len(data) or 1):
        begun = Exchange(Limits())
        begun.send(Request(method, REQUEST.url, (("Host", "site.example"), ("Content-Length", "0"))), "/")
        assert not begun.holds_more
        for piece in in_pieces(data, size):
            begun.receive_data(piece)
        assert begun.holds_more is holds_more


def test_a_body_without_a_length_ends_at_the_close() -> None:
    begun = exchange()
    begun.receive_data(b"HTTP/1.1 200 OK\r\n\r\nabc")
    assert begun.receive_eof() == [EndOfBody()]


def test_nothing_comes_after_a_fault() -> None:
    begun = exchange()
    assert begun.receive_data(b"\x00") == [Fault("HTTP: no status line", Reason.TRUNCATED)]
    assert begun.receive_data(content_length(b"")) == []


def test_repr_hides_header_fields() -> None:
    assert repr(Head(200, [(b"set-cookie", b"secret")])) == "Head(status=200)"


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(bytearray(content_length(JSON)), id="bytearray"),
        pytest.param(memoryview(content_length(JSON)), id="memoryview"),
        pytest.param(memoryview(bytes(2 * n % 256 for n in b"")).cast("B"), id="empty view"),
        pytest.param(memoryview(array.array("I", content_length(JSON))), id="items of four bytes"),
        pytest.param(memoryview(b"".join(bytes((n, 0)) for n in content_length(JSON)))[::2], id="a view with gaps"),
    ],
)
def test_any_bytes_like_object_is_accepted(data: Any) -> None:
    whole = bytes(data)
    events = asked().receive_data(data)
    assert events == asked().receive_data(whole)
    assert events in (JSON_ANSWERED, [], truncated("HTTP: illegal status line"))


def test_the_caller_may_reuse_a_buffer() -> None:
    client, buffer, events = asked(), bytearray(3), []
    data = content_length(ANSWER)
    for start in range(0, len(data), 3):
        piece = data[start : start + 3]
        buffer[: len(piece)] = piece
        events += client.receive_data(memoryview(buffer)[: len(piece)])
        buffer[:] = b"???"
    assert events == ANSWERED


def test_a_copy_or_pickle_continues_from_every_byte() -> None:
    data = INTERIM + CHUNKED + chunks(b"a", b"bc") + b"0\r\nA: b\r\n\r\nx"
    for middle in range(len(data)):
        begun = exchange()
        begun.receive_data(data[:middle])
        twins = [copy.deepcopy(begun), *(pickle.loads(pickle.dumps(begun, protocol)) for protocol in range(2, 6))]
        rest = begun.receive_data(data[middle:])
        for twin in twins:
            assert twin.receive_data(data[middle:]) == rest
            assert (twin.begun, twin.holds_more) == (begun.begun, begun.holds_more)
