"""Legal inputs, accepted types, copies, and `repr`."""

import pickle
from array import array
from collections.abc import Callable
from typing import Any

import pytest

from opchat_proto import Broken, Limits, Live, LocalProtocolError, Reason, ReplyDecoder
from opchat_proto._reply import TABLE, Input, State  # the table is not public, and this test walks it
from tests.proto.cuts import clones, in_pieces
from tests.proto.replies import BOM, END, HI, KIB, PAGE, RICH, STALE, call, error, judge, live

# ------------------------------------------------------------------------------ what is legal when

BEFORE: dict[State, list[tuple[str, Any]]] = {
    State.HEAD: [],
    State.START: [("receive_head", (200, []))],
    State.TEXT: [("receive_head", (200, [])), ("receive_data", (b"d",))],
    State.PAGE: [("receive_head", (200, [])), ("receive_data", (b"<",))],
    State.STREAM: [("receive_head", (200, [])), ("receive_data", (b"data:\n",))],
    State.JSON: [("receive_head", (200, [])), ("receive_data", (b"{",))],
    State.REFUSAL: [("receive_head", (404, []))],
    State.DONE: [("receive_failure", ("lost",))],
}
CALLS: dict[Input, tuple[str, Any]] = {
    Input.INTERIM: ("receive_head", (100, [])),
    Input.HEAD: ("receive_head", (200, [])),
    Input.REFUSAL: ("receive_head", (404, [])),
    Input.DATA: ("receive_data", (b" ",)),
    Input.BRACE: ("receive_data", (b"{",)),
    Input.TAG: ("receive_data", (b"<",)),
    Input.OTHER: ("receive_data", (b"d",)),
    Input.DATA_LINE: ("receive_data", (b"\ndata:\n",)),
    Input.TERMINAL: ("receive_failure", ("lost",)),
}


def in_state(state: State) -> ReplyDecoder:
    decoder = ReplyDecoder()
    for name, arguments in BEFORE[state]:
        call(decoder, name, arguments)
    assert repr(decoder) == f"<ReplyDecoder {state}>"
    return decoder


def test_the_table_has_every_state() -> None:
    assert list(TABLE.rows) == list(State)
    assert TABLE.start == (State.HEAD,)


@pytest.mark.parametrize("given_input", Input)
@pytest.mark.parametrize("state", State)
def test_every_input_in_every_state_follows_the_table(state: State, given_input: Input) -> None:
    decoder = in_state(state)
    row = dict(TABLE.rows[state])
    if Input.DATA in row:  # after the first byte, a brace is data like any other, and so is a data line in most states
        likewise = (Input.BRACE, Input.TAG, Input.OTHER, Input.DATA_LINE)
        row = {**dict.fromkeys(likewise, row[Input.DATA]), **row}
    if state is State.START:
        row[Input.DATA_LINE] = State.STREAM
    before = pickle.dumps(decoder)
    if state is State.DONE:
        assert call(decoder, *CALLS[given_input]) == []
        assert pickle.dumps(decoder) == before
    elif given_input in row:
        call(decoder, *CALLS[given_input])
        assert repr(decoder) == f"<ReplyDecoder {row[given_input]}>"
    else:
        with pytest.raises(LocalProtocolError, match=f"ReplyDecoder: .* is not legal in state {state}"):
            call(decoder, *CALLS[given_input])
        assert pickle.dumps(decoder) == before


@pytest.mark.parametrize("state", State)
def test_eof_a_failure_and_empty_data_are_always_legal(state: State) -> None:
    for name, arguments in (("receive_eof", ()), ("receive_failure", ("lost", Reason.PROXY))):
        decoder = in_state(state)
        before = pickle.dumps(decoder)
        assert [decoder.receive_data(nothing) for nothing in (b"", bytearray(), memoryview(b""))] == [[], [], []]
        assert pickle.dumps(decoder) == before
        assert len(call(decoder, name, arguments)) == (0 if state is State.DONE else 1)
        assert repr(decoder) == "<ReplyDecoder DONE>"
        for name_after, arguments_after in CALLS.values():
            assert call(decoder, name_after, arguments_after) == []
        assert decoder.receive_eof() == []


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("receive_head", (200, None)),
        ("receive_head", (200, [("a", 1)])),
        ("receive_head", (200, [(None, "b")])),
        ("receive_head", (200, ["ab"])),
        ("receive_head", (200, {"ab": "c"})),
        ("receive_head", (200, [("a", "b", "c")])),
        ("receive_data", ("text",)),
        ("receive_data", (None,)),
        ("receive_data", (5,)),
        ("receive_data", ([1, 2],)),
    ],
)
def test_wrong_types_raise_and_change_nothing(state: State, name: str, arguments: Any) -> None:
    decoder = in_state(state)
    before = pickle.dumps(decoder)
    with pytest.raises(TypeError):
        call(decoder, name, arguments)
    assert pickle.dumps(decoder) == before


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize(
    ("name", "arguments", "said"),
    [
        ("receive_head", ("200", []), "status: expected an int, got str"),
        ("receive_head", (True, []), "status: expected an int, got bool"),
        ("receive_head", (None, []), "status: expected an int, got NoneType"),
        ("receive_head", (200.0, []), "status: expected an int, got float"),
        ("receive_failure", (None,), "expected a str and a Reason, got NoneType, Reason"),
        ("receive_failure", (b"lost",), "expected a str and a Reason, got bytes, Reason"),
        ("receive_failure", ("lost", "timeout"), "expected a str and a Reason, got str, str"),
        ("receive_failure", ("lost", None), "expected a str and a Reason, got str, NoneType"),
    ],
)
def test_wrong_types_are_named_and_change_nothing(state: State, name: str, arguments: Any, said: str) -> None:
    decoder = in_state(state)
    before = pickle.dumps(decoder)
    with pytest.raises(TypeError, match=f"^{said}$"):
        call(decoder, name, arguments)
    assert pickle.dumps(decoder) == before


@pytest.mark.parametrize("limits", [None, 5, {}, Limits])
def test_limits_of_another_type_raise(limits: Any) -> None:
    with pytest.raises(TypeError, match="limits: expected Limits"):
        ReplyDecoder(limits)


@pytest.mark.parametrize(
    "wrap",
    [
        bytes,
        bytearray,
        memoryview,
        lambda data: memoryview(bytes(2 * len(data)))[: len(data)] if not data else memoryview(data[::-1])[::-1],
        lambda data: memoryview(array("H", data)) if len(data) % 2 == 0 else data,
        lambda data: memoryview(data).cast("B", (1, len(data))) if data else data,
    ],
    ids=["bytes", "bytearray", "memoryview", "backwards", "pairs", "two dimensions"],
)
@pytest.mark.parametrize("body", [live("a") + END, HI.encode(), PAGE, b"\n" + HI.encode() + b"\n"])
@pytest.mark.parametrize("status", [200, 500])
def test_any_bytes_like_object_is_accepted(wrap: Callable[[bytes], Any], body: bytes, status: int) -> None:
    decoder = ReplyDecoder()
    assert decoder.receive_head(status, []) == []
    assert decoder.receive_data(wrap(body)) + decoder.receive_eof() == judge([body], status, [])


def test_the_detail_of_a_failure_always_encodes() -> None:
    assert ReplyDecoder().receive_failure("caf\udce9") == [Broken(Reason.LOST, "caf\ufffd")]


def test_the_callers_buffer_is_not_held() -> None:
    buffer = bytearray(live("a")[:-1])
    decoder = ReplyDecoder()
    decoder.receive_head(200, [])
    assert decoder.receive_data(buffer) == []
    buffer[:] = b"\n"  # raises BufferError if a view is left
    assert decoder.receive_data(buffer) == [Live("a")]


# ------------------------------------------------------------------------------ copies, secrets

SCRIPTS: dict[str, list[tuple[str, Any]]] = {
    "stream": [
        ("receive_head", (100, [])),
        ("receive_head", (200, [("Content-Type", "text/event-stream")])),
        *(("receive_data", (piece,)) for piece in in_pieces(BOM + b"<br>\n" + error("") + live("é") + END, 9)),
        ("receive_eof", ()),
    ],
    "JSON": [
        ("receive_head", (200, [])),
        *(("receive_data", (piece,)) for piece in in_pieces(b"\n\n" + RICH.encode(), 9)),
        ("receive_failure", ("lost",)),
    ],
    "refusal": [
        ("receive_head", (503, [("Retry-After", "5"), ("Location", "/")])),
        *(("receive_data", (piece,)) for piece in in_pieces(STALE.encode(), 9)),
        ("receive_eof", ()),
    ],
    "page": [
        ("receive_head", (200, [])),
        *(("receive_data", (piece,)) for piece in in_pieces(PAGE, 9)),
        ("receive_eof", ()),
    ],
    "interim": [("receive_head", (100, []))] * 9,
}


@pytest.mark.parametrize("script", SCRIPTS.values(), ids=SCRIPTS)
def test_a_copy_made_between_any_two_calls_continues_like_the_original(script: list[tuple[str, Any]]) -> None:
    original = ReplyDecoder()
    snapshots = [list(clones(original))]
    given_events = []
    for name, arguments in script:
        given_events.append(call(original, name, arguments))
        snapshots.append(list(clones(original)))
    for number, snapshot in enumerate(snapshots):
        for clone in snapshot:
            assert [call(clone, *step) for step in script[number:]] == given_events[number:]


@pytest.mark.parametrize("status", [200, 500])
@pytest.mark.parametrize("before", [b"<", b'{"a":"', b"data: "])
def test_after_the_terminal_event_the_body_is_not_kept(before: bytes, status: int) -> None:
    decoder = ReplyDecoder()
    decoder.receive_head(status, [])
    assert decoder.receive_data(before + b"x" * (60 * KIB)) == []
    assert len(pickle.dumps(decoder)) > 60 * KIB
    assert len(decoder.receive_failure("lost")) == 1
    assert len(pickle.dumps(decoder)) < 2 * KIB


def test_repr_shows_the_state_and_no_content() -> None:
    decoder = ReplyDecoder()
    shown = [repr(decoder)]
    decoder.receive_head(200, [("X-WP-Nonce", "secret"), ("Set-Cookie", "mwai_session_id=secret")])
    shown.append(repr(decoder))
    decoder.receive_data(b'{"new_token":"secret"')
    shown.append(repr(decoder))
    (broken,) = decoder.receive_failure("lost")
    shown.append(repr(decoder))
    assert shown == ["<ReplyDecoder HEAD>", "<ReplyDecoder START>", "<ReplyDecoder JSON>", "<ReplyDecoder DONE>"]
    (refused,) = judge([b'{"code":"x","message":"No.","new_token":"secret"}'], 403)
    assert "secret" not in repr(broken) + repr(refused)
