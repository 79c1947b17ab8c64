"""Lines that PHP has mangled are repaired on request, on both paths. Copies."""

import copy
import pickle
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opchat_proto import Limits, SSEDecoder
from tests.proto.cuts import every_cut, random_cuts
from tests.proto.streams import BOM, STREAMS, slow_utf8


def mended(pieces: Iterable[bytes], limit: int = 200) -> tuple[list[str], bool, bool, str | None]:
    """The events' data, `overflowed`, `data_seen`, and the first ignored line."""
    decoder = SSEDecoder(Limits(event_bytes=limit), mend=True)
    events = [event for piece in pieces for event in decoder.receive_data(piece)]
    seen = decoder.data_seen
    decoder.receive_eof()
    assert decoder.data_seen is seen
    return [event.data for event in events], decoder.overflowed, seen, decoder.first_ignored_line


HI = b'data: {"type":"x"}\n\n'
MENDED: dict[str, tuple[bytes, list[str], bool, str | None]] = {
    "a stream as the plugin writes it": (HI + HI, ['{"type":"x"}'] * 2, True, None),
    "marks first": (BOM + BOM + b"data: a\n\n", ["a"], True, None),
    "marks before fields": (b"data: a\n" + BOM + b"event: x\n" + BOM + BOM + b"data: b\n\n", ["a\nb"], True, None),
    "a mark before a comment": (BOM + b": c\n", [], False, None),
    "a mark before data without a colon": (BOM + b"data\n\n", [""], False, None),
    "a mark before a longer name": (BOM + b"datas\n\n", [], False, "datas"),
    "a mark alone": (b"data: a\n" + BOM + b"\n\n", ["a"], True, None),
    "a mark before an unfinished field": (BOM + b"data:", [], True, None),
    "glued": (b"<p>x</p>" + HI, ['{"type":"x"}'], True, "x"),
    "glued after a data line": (b"data: a\n</div>" + HI, ['a\n{"type":"x"}'], True, None),
    "glued and unfinished": (b"x:" + HI[:15], [], True, "x:"),
    "glued and cut too early": (b"x:" + HI[:14], [], False, 'x:data: {"type":'),
    "glued behind marks and words": (BOM + b"x" + HI, ['{"type":"x"}'], True, "x"),
    "twice in one line": (b"x" + HI[:-2] + HI, ['{"type":"x"}data: {"type":"x"}'], True, "x"),
    "in a comment": (b":" + HI, [], False, None),
    "in another field": (b"event:" + HI, [], False, None),
    "no event of the plugin": (b"x" + b"data: a\n\n", [], False, "xdata: a"),
    "tags alone are no words": (b"<br />\n<hr>\n--\n<b>Oh</b>:  no &amp;\nx\n", [], False, "Oh: no &"),
    "CRLF": (b"x" + HI.replace(b"\n", b"\r\n"), ['{"type":"x"}'], True, "x"),
}


@pytest.mark.parametrize(("stream", "texts", "seen", "ignored"), MENDED.values(), ids=MENDED)
def test_lines_that_php_has_mangled_are_repaired_on_request(
    stream: bytes, texts: list[str], seen: bool, ignored: str | None
) -> None:
    for pieces in every_cut(stream):
        assert mended(pieces) == (texts, False, seen, ignored)


def test_a_mangled_line_counts_whole_until_it_ends_and_then_only_its_field() -> None:
    stream = b"xxxxxxxxxx" + HI[:-1]
    size = len(stream) - 1
    for pieces in every_cut(stream + b"\n" + HI):
        assert mended(pieces, size)[:2] == (['{"type":"x"}'] * 2, False)
        assert mended(pieces, size - 1)[:2] == ([], True)
    for pieces in every_cut(stream + b"data: 456\n\n"):
        assert mended(pieces, size)[:2] == (['{"type":"x"}\n456'], False)
    for pieces in every_cut(stream + b"data: 4567\n\n"):
        assert mended(pieces, size)[:2] == ([], True)


@pytest.mark.parametrize(
    ("pieces", "texts", "seen", "ignored"),
    [
        ([b"data: a\n\ndata: b\n\n"], ["a", "b"], True, None),
        ([b"data: a", b"\n\ndata: b\n", b"\n"], ["a", "b"], True, None),
        ([b"data: a\n\n", b"da", b"ta", b": b", b"c\n", b"d", b"ata: e\n\n"], ["a", "bc\ne"], True, None),
        ([b"data: a\n\n", b"data: b\n", b"data: c\n\n"], ["a", "b\nc"], True, None),
        ([b"data: a\n\n", b"data: b\n", b"no field\n\n"], ["a", "b"], True, "no field"),
        ([b"data: a\n\n", b"x: b\n", b"\n"], ["a"], True, "x: b"),
        ([b"\xef\xbb", b"\xbfdata: a\n\n"], ["a"], True, None),
    ],
)
@pytest.mark.parametrize("mend", [False, True])
def test_both_paths_give_the_data_alone(
    mend: bool, pieces: list[bytes], texts: list[str], seen: bool, ignored: str | None
) -> None:
    decoder = SSEDecoder(mend=mend)
    given_texts: list[str] = []
    for piece in pieces if mend else [b"".join(pieces).removeprefix(BOM)]:
        plain = decoder.receive_plain(piece)
        given_texts += decoder.receive_exact(piece) if plain is None else plain
    assert (given_texts, decoder.data_seen, decoder.first_ignored_line) == (texts, seen, ignored)


def test_an_event_is_given_before_the_following_bytes_are_scanned() -> None:
    decoder = SSEDecoder(mend=True)
    texts = decoder.receive_exact(b"data: a\n\nx\ndata: b\n\n")
    assert (next(texts), decoder.first_ignored_line) == ("a", None)
    assert (list(texts), decoder.first_ignored_line) == (["b"], "x")


@given(st.binary(max_size=12))
def test_python_and_the_encoding_standard_agree_on_replacement(raw: bytes) -> None:
    assert slow_utf8(raw) == raw.decode("utf-8", "replace")


@given(STREAMS, st.data())
def test_a_decoder_can_be_copied_between_any_two_pieces(stream: bytes, draw: st.DataObject) -> None:
    pieces = draw.draw(random_cuts(stream))
    place = draw.draw(st.integers(0, len(pieces)))
    decoder = SSEDecoder(Limits(event_bytes=20))
    for piece in pieces[:place]:
        decoder.receive_data(piece)
    twins = [decoder, copy.deepcopy(decoder), *(pickle.loads(pickle.dumps(decoder, protocol)) for protocol in range(6))]
    rests = []
    for twin in twins:
        events = [twin.receive_data(piece) for piece in pieces[place:]] + [twin.receive_eof()]
        rests.append((events, vars(twin)))
    assert rests == [rests[0]] * 8
