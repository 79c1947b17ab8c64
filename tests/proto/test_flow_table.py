"""Legal inputs: the table, walked completely, and illegal calls, which raise and change nothing."""

import pickle
from dataclasses import replace
from typing import Any

import pytest

from opchat_proto import Broken, End, LocalProtocolError, Reason
from opchat_proto._flow_table import TABLE, Input, State  # the table is not public, and this test walks it
from tests.proto.flows import GIVEN, MEMBER, OPENED, STALE, answer, call, in_state


def steps(state: State, given_input: Input) -> list[tuple[str, Any]]:
    """The calls that make up this input."""
    match given_input:
        case Input.REQUEST:
            return [("next_request", ())]
        case Input.HEAD:
            return [("receive_head", (200, []))]
        case Input.INTERIM:
            return [("receive_head", (100, []))]
        case Input.DATA:
            return [("receive_data", (b" ",))]
        case Input.EOF:
            return [("receive_eof", ())]
        case Input.FAILURE | Input.TERMINAL:
            return [("receive_failure", ("lost", Reason.TIMEOUT))]
        case Input.USE_SESSION:
            return [("use_session", (GIVEN,))]
        case Input.CLOSE:
            return [("close", ())]
        case Input.OPENED:
            return [("receive_data", (OPENED,)), ("receive_eof", ())]
        case Input.UNPROVED:
            return [("use_session", (MEMBER,))]
        case Input.NO_NONCE:
            return [("use_session", (replace(MEMBER, nonce=None),))]
        case _:
            raise AssertionError("an answer makes it: see test_flow_page.py and test_flow_member.py")


def test_the_table_has_every_state() -> None:
    assert list(TABLE.rows) == list(State)
    assert TABLE.start == (State.SESSION, State.PROOF, State.SUBMIT)


_BY_ANSWERS_ALONE = (Input.STALE, Input.REDIRECTED, Input.PASSED, Input.PROVED)
CALLABLE = [given_input for given_input in Input if given_input not in _BY_ANSWERS_ALONE]
BY_ANSWERS = (  # legal for a caller, in other states
    (State.SESSION_BODY, Input.UNPROVED),
    (State.PROOF_BODY, Input.NO_NONCE),
    (State.SUBMIT_BODY, Input.UNPROVED),
)


@pytest.mark.parametrize("given_input", CALLABLE)
@pytest.mark.parametrize("state", State)
def test_every_input_in_every_state_follows_the_table(state: State, given_input: Input) -> None:
    flow = in_state(state)
    row = TABLE.rows[state]
    before = pickle.dumps(flow)
    if given_input is Input.REQUEST and given_input not in row:
        assert flow.next_request() is None  # asks, and gets None
        assert pickle.dumps(flow) == before
    elif state is State.DONE:
        assert [call(flow, *step) for step in steps(state, given_input)] in ([[]], [[], []])
        assert pickle.dumps(flow) == before
    elif given_input in (Input.EOF, Input.FAILURE) and given_input in row:
        # It stays until the answer is judged. Here it cannot be an answer.
        assert row[given_input] is state
        assert len(call(flow, *steps(state, given_input)[0])) == 1
        assert repr(flow).endswith(f" {row[Input.TERMINAL]}>")
    elif given_input in row and (state, given_input) not in BY_ANSWERS:
        for step in steps(state, given_input):
            call(flow, *step)
        assert repr(flow).endswith(f" {row[given_input]}>")
    elif state is State.PROOF_BODY and given_input is Input.OPENED:
        call(flow, "receive_data", (OPENED,))
        (broken,) = call(flow, "receive_eof", ())
        assert isinstance(broken, Broken)
    elif state is State.SUBMIT_BODY and given_input is Input.OPENED:
        call(flow, "receive_data", (OPENED,))
        (end,) = call(flow, "receive_eof", ())
        assert end == End(None, OPENED.decode())
    else:
        with pytest.raises(LocalProtocolError, match=f"^Flow: .* is not legal in state {state}$"):
            call(flow, *steps(state, given_input)[0])
        assert pickle.dumps(flow) == before


def test_a_refused_nonce_leads_to_a_session_as_the_table_says() -> None:
    assert [state for state, row in TABLE.rows.items() if Input.STALE in row] == [State.PROOF_BODY, State.SUBMIT_BODY]
    flow = in_state(State.SUBMIT_HEAD)
    assert answer(flow, STALE[0]) == []
    assert repr(flow).endswith(f" {TABLE.rows[State.SUBMIT_BODY][Input.STALE]}>")


@pytest.mark.parametrize("state", State)
def test_empty_data_and_a_failure_are_always_legal(state: State) -> None:
    flow = in_state(state)
    before = pickle.dumps(flow)
    assert [flow.receive_data(nothing) for nothing in (b"", bytearray(), memoryview(b""))] == [[], [], []]
    assert pickle.dumps(flow) == before
    assert len(flow.receive_failure("lost")) == (0 if state is State.DONE else 1)
    assert flow.receive_failure("again") == []
    assert (
        flow.receive_eof() == flow.receive_head(200, []) == flow.receive_head(100, []) == flow.receive_data(b"x") == []
    )
    assert flow.next_request() is None


def test_a_second_head_is_not_legal() -> None:
    for state in (State.SESSION_BODY, State.SUBMIT_BODY):
        flow = in_state(state)
        before = pickle.dumps(flow)
        for status in (100, 101, 200, 404):
            with pytest.raises(LocalProtocolError, match=f"is not legal in state {state}"):
                flow.receive_head(status, [])
        assert pickle.dumps(flow) == before


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("receive_head", (200, None)),
        ("receive_head", (200, [("a", None)])),
        ("receive_head", (200, {"ab": "c"})),
        ("receive_data", ("text",)),
        ("receive_data", (None,)),
        ("receive_data", (5,)),
        ("receive_failure", (None,)),
        ("receive_failure", (ValueError("lost"),)),
        ("receive_failure", ("lost", "timeout")),
        ("use_session", ("nonce",)),
        ("use_session", (5,)),
    ],
)
def test_wrong_types_raise_and_change_nothing(state: State, name: str, arguments: Any) -> None:
    flow = in_state(state)
    before = pickle.dumps(flow)
    with pytest.raises(TypeError):
        call(flow, name, arguments)
    assert pickle.dumps(flow) == before


@pytest.mark.parametrize("status", ["200", None, True, 200.0])
@pytest.mark.parametrize("state", [State.SESSION_HEAD, State.SUBMIT_HEAD, State.DONE])
def test_a_status_of_another_type_raises_and_changes_nothing(state: State, status: Any) -> None:
    flow = in_state(state)
    before = pickle.dumps(flow)
    with pytest.raises(TypeError, match=r"^status: expected an int"):
        flow.receive_head(status, [("X-WP-Nonce", "fresh")])
    assert pickle.dumps(flow) == before
