"""Legal inputs: each call in each state, and each row of the table."""

from collections.abc import Callable
from typing import Any

import pytest

from opchat_proto import (
    Broken,
    Client,
    Connect,
    Done,
    Event,
    Flow,
    Live,
    LocalProtocolError,
    Proxy,
    Reason,
    Receive,
    Send,
    Session,
    StartTLS,
    Submit,
    _client,  # its table is watched here
)
from opchat_proto._client import TABLE, State  # the table is not public, and this test walks it
from tests.proto.asking import ANSWER, ANSWERED, ENDPOINT, WAYS, Recorder, ask, content_length, follow
from tests.proto.clients import (
    CLEAR,
    CLOSED,
    DIRECT,
    DIRECT_TLS,
    NO_ANSWER,
    PLACES,
    SAID,
    THE_PROXY,
    UNFINISHED,
    Fetches,
    again,
    at,
    bring,
    frozen,
    is_submit,
    state_of,
)
from tests.proto.cuts import clones

# ------------------------------------------------------------------------------ what is legal when

CALLS: dict[str, Callable[[Client], list[Event] | None]] = {
    "step_done": Client.step_done,
    "step_failed": lambda asking: asking.step_failed("no way"),
    "receive_data": lambda asking: asking.receive_data(b"H"),
    "receive_eof": Client.receive_eof,
    "close": Client.close,
}
PROXY_CLEAR = [Broken(Reason.PROXY, "the proxy sent bytes in the clear where TLS was to begin")]
PROXY_EOF = [Broken(Reason.PROXY, THE_PROXY + NO_ANSWER)]

# The result of each input, and the state that it leads to. A missing input is not legal.
LEGAL: dict[State, dict[str, tuple[list[Any] | None, State]]] = {
    State.CONNECT: {
        "step_done": (None, State.SEND),
        "step_failed": ([Broken(Reason.LOST, "could not connect to site.example:80: no way")], State.DONE),
        "receive_data": ([], State.CONNECT),
        "receive_eof": ([], State.CONNECT),
        "close": ([Broken(Reason.LOST, CLOSED)], State.DONE),
    },
    State.PROXY_TLS: {
        "step_done": (None, State.TUNNEL_SEND),
        "step_failed": ([Broken(Reason.PROXY, THE_PROXY + "TLS failed: no way")], State.DONE),
        "receive_data": (PROXY_CLEAR, State.DONE),
        "receive_eof": (PROXY_EOF, State.DONE),
        "close": ([Broken(Reason.LOST, CLOSED)], State.DONE),
    },
    State.TUNNEL_SEND: {
        "step_done": (None, State.TUNNEL_RECEIVE),
        "step_failed": ([], State.TUNNEL_RECEIVE),
        "receive_data": ([], State.TUNNEL_SEND),
        "receive_eof": (PROXY_EOF, State.DONE),
        "close": ([Broken(Reason.LOST, CLOSED)], State.DONE),
    },
    State.TUNNEL_RECEIVE: {
        "step_failed": ([Broken(Reason.PROXY, THE_PROXY + "the connection failed: no way")], State.DONE),
        "receive_data": ([], State.TUNNEL_RECEIVE),
        "receive_eof": (PROXY_EOF, State.DONE),
        "close": ([Broken(Reason.LOST, CLOSED)], State.DONE),
    },
    State.TLS: {
        "step_done": (None, State.SEND),
        "step_failed": ([Broken(Reason.LOST, "TLS with site.example failed: no way")], State.DONE),
        "receive_data": (CLEAR, State.DONE),
        "receive_eof": ([Broken(Reason.LOST, NO_ANSWER)], State.DONE),
        "close": ([Broken(Reason.LOST, CLOSED)], State.DONE),
    },
    State.SEND: {
        "step_done": (None, State.RECEIVE),
        "step_failed": ([Broken(Reason.LOST, "the connection failed: no way")], State.DONE),
        "receive_data": ([], State.SEND),
        "receive_eof": ([Broken(Reason.LOST, NO_ANSWER)], State.DONE),
        "close": ([Broken(Reason.LOST, CLOSED)], State.DONE),
    },
    State.SENDING: {
        "step_done": (None, State.RECEIVE),
        "step_failed": ([], State.RECEIVE),
        "receive_data": ([], State.SENDING),
        "receive_eof": ([Broken(Reason.LOST, NO_ANSWER, asked=True)], State.DONE),
        "close": ([Broken(Reason.LOST, CLOSED, asked=True)], State.DONE),
    },
    State.RECEIVE: {
        "step_failed": ([Broken(Reason.LOST, "the connection failed: no way", asked=True)], State.DONE),
        "receive_data": ([], State.RECEIVE),
        "receive_eof": ([Broken(Reason.LOST, NO_ANSWER, asked=True)], State.DONE),
        "close": ([Broken(Reason.LOST, CLOSED, asked=True)], State.DONE),
    },
    State.DONE: {
        "step_done": (None, State.DONE),
        "step_failed": ([], State.DONE),
        "receive_data": ([], State.DONE),
        "receive_eof": ([], State.DONE),
        "close": ([], State.DONE),
    },
}


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("call", CALLS)
def test_every_input_in_every_state_has_its_outcome(state: State, call: str) -> None:
    asking = at(state)
    if call in LEGAL[state]:
        events, target = LEGAL[state][call]
        assert CALLS[call](asking) == events
        assert state_of(asking) == target
    else:
        before = frozen(asking)
        with pytest.raises(LocalProtocolError, match=f"^Client: {call} is not legal in state {state}$"):
            CALLS[call](asking)
        assert frozen(asking) == before


@pytest.mark.parametrize("state", State)
def test_the_table_says_which_inputs_are_legal(state: State) -> None:
    row = {given.value for given in TABLE.rows[state]} & set(CALLS)
    if state is State.DONE:
        row = set(CALLS)
    elif state is State.SEND:  # a step was handed out before it is done
        row |= {"step_done"}
    assert row == set(LEGAL[state])


@pytest.mark.parametrize("state", State)
def test_empty_data_is_always_legal_and_changes_nothing(state: State) -> None:
    asking = at(state)
    before = frozen(asking)
    for nothing in (b"", bytearray(), memoryview(b"")):
        assert asking.receive_data(nothing) == []
    assert frozen(asking) == before


@pytest.mark.parametrize("state", State)
def test_next_step_is_always_legal(state: State) -> None:
    kind = {
        State.CONNECT: Connect,
        State.PROXY_TLS: StartTLS,
        State.TUNNEL_SEND: Send,
        State.TUNNEL_RECEIVE: Receive,
        State.TLS: StartTLS,
        State.SEND: Send,
        State.SENDING: Send,
        State.RECEIVE: Receive,
        State.DONE: Done,
    }[state]
    asking = at(state)
    assert type(asking.next_step()) is kind
    before = frozen(asking)
    assert type(asking.next_step()) is kind
    assert frozen(asking) == before


@pytest.mark.parametrize("state", State)
def test_wrong_types_raise_and_change_nothing(state: State) -> None:
    asking: Any = at(state)
    before = frozen(asking)
    for wrong in ("text", None, 5, [72]):
        with pytest.raises(TypeError):
            asking.receive_data(wrong)
    with pytest.raises(TypeError, match=r"^expected a str and a Reason, got bytes, Reason$"):
        asking.step_failed(b"bytes")
    with pytest.raises(TypeError, match=r"^expected a str and a Reason, got str, str$"):
        asking.step_failed("text", "lost")
    assert frozen(asking) == before


# ------------------------------------------------------------------------------ another machine


@pytest.mark.parametrize("state", UNFINISHED)
def test_another_machine_continues_with_its_next_request_from_every_state(state: State) -> None:
    way = PLACES[state][0]
    urls = [f"{way.site}/a", f"{way.site}/b"]
    asking = bring(Client(Fetches(urls), proxy=Proxy.parse(way.proxy) if way.proxy else None), state)
    said = SAID[state][1] + "slow (idle)"
    for goes_on in clones(asking):
        assert goes_on.step_failed("slow", Reason.TIMEOUT, limit="idle") == [Live(said, "timeout")]
        assert goes_on.next_step() == way.script[0]
        assert follow(goes_on, way.script) == []
        assert isinstance(goes_on.next_step(), Send)
    assert asking.close() == [Broken(Reason.LOST, CLOSED)]


# ------------------------------------------------------------------------------ the table


def test_every_move_of_the_table_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    table = Recorder(TABLE)
    monkeypatch.setattr(_client, "TABLE", table)
    for state, calls in LEGAL.items():
        for call in calls:
            CALLS[call](at(state))
    for state in (State.SEND, State.SENDING, State.RECEIVE):
        assert at(state).receive_data(bytearray(content_length(ANSWER))) == ANSWERED  # bytes take a shortcut
    for state in (State.TUNNEL_SEND, State.SENDING):
        at(state).step_failed("slow", Reason.TIMEOUT)
    for state in UNFINISHED:
        test_another_machine_continues_with_its_next_request_from_every_state(state)
    for way in (DIRECT, DIRECT_TLS, *WAYS.values()):
        asking = again(way)
        follow(asking, way.script)
        assert is_submit(asking.next_step())
    large = Client(Flow(ENDPOINT, Submit(new_message="?" * 300_000), session=Session()))
    assert [type(step) for step in ask(large)] == [Connect, Send, Send]
    assert table.untaken == set()


def test_the_table_begins_with_connect_and_ends_with_done() -> None:
    assert TABLE.start == (State.CONNECT,)
    assert set(TABLE.rows) == set(LEGAL) == {*PLACES, State.DONE} == set(State)
    assert TABLE.rows[State.DONE] == {}
