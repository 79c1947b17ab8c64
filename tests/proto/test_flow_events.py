"""The events of a flow, what it awaits, and its ends: clocks, limits, leaving."""

from dataclasses import replace
from typing import Any

import pytest

from opchat_proto import Awaiting, Broken, End, Event, Flow, Limits, Live, Reason, Session
from opchat_proto._flow_table import State  # the table is not public, and this test walks it
from tests.proto.cuts import byte_by_byte
from tests.proto.flows import (
    ASK,
    END,
    EXPIRED,
    FORBIDDEN,
    GIVEN,
    HI,
    LIVE,
    OPENED,
    RENEWED,
    REPLIED,
    REPLY,
    SITE,
    STALE,
    Answer,
    answer,
    fail,
    ignores_everything,
    in_state,
    refusal,
    refused_flow,
    run,
    seen,
    take,
)

# ------------------------------------------------------------------------------ leaving


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        (State.SESSION, Broken(Reason.LOST, in_session=True)),
        (State.SESSION_HEAD, Broken(Reason.LOST, in_session=True)),
        (State.SESSION_BODY, Broken(Reason.LOST, in_session=True)),
        (State.SUBMIT, Broken(Reason.LOST)),
        (State.SUBMIT_HEAD, Broken(Reason.LOST, asked=True)),
        (State.SUBMIT_BODY, Broken(Reason.TRUNCATED, asked=True)),
    ],
)
def test_closing_says_how_far_it_came(state: State, expected: Broken) -> None:
    flow = in_state(state)
    assert flow.close() == [replace(expected, detail="closed by the caller")]
    assert ignores_everything(flow)


def test_closing_after_a_refusal_says_that_the_question_was_asked() -> None:
    assert refused_flow().close() == [Broken(Reason.LOST, "closed by the caller", in_session=True, asked=True)]


# ------------------------------------------------------------------------------ limits and clocks


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        (State.SESSION, Broken(Reason.TIMEOUT, "start_session: slow", in_session=True)),
        (State.SESSION_HEAD, Broken(Reason.TIMEOUT, "start_session: slow", in_session=True)),
        (State.SESSION_BODY, Broken(Reason.TIMEOUT, "start_session: slow", in_session=True)),
        (State.SUBMIT, Broken(Reason.TIMEOUT, "slow")),
        (State.SUBMIT_HEAD, Broken(Reason.TIMEOUT, "slow", asked=True)),
        (State.SUBMIT_BODY, Broken(Reason.TIMEOUT, "slow", asked=True)),
    ],
)
def test_a_clock_that_ran_out_is_named(state: State, expected: Broken) -> None:
    assert in_state(state).receive_failure("slow", Reason.TIMEOUT, limit="idle") == [replace(expected, limit="idle")]


def test_no_clock_is_named_in_a_refusal() -> None:
    assert refused_flow().receive_failure("slow", Reason.TIMEOUT, limit="idle") == [refusal(403, EXPIRED)]
    flow = in_state(State.SUBMIT_HEAD)
    flow.receive_head(*STALE[1][:2])
    flow.receive_data(STALE[1][2])
    assert flow.receive_failure("slow", Reason.TIMEOUT, limit="idle") == [refusal(403, EXPIRED)]


def test_a_limit_of_the_reply_is_named() -> None:
    flow = Flow(SITE, ASK, session=GIVEN, limits=Limits(reply_bytes=len(LIVE)))
    detail = f"more than {len(LIVE)} bytes in the whole reply (Limits.reply_bytes)"
    assert run(flow, (200, [], LIVE + b":"))[1] == [
        Live("Hi"),
        Broken(Reason.TOO_LARGE, detail, limit="reply_bytes", asked=True),
    ]


# ------------------------------------------------------------------------------ events, awaiting, submit_started


@pytest.mark.parametrize(
    ("response", "failure", "expected"),
    [
        (REPLY, None, REPLIED),
        ((200, [], HI.encode()), None, [End("Hi", HI)]),
        ((200, [], HI.encode()), Reason.TIMEOUT, [End("Hi", HI)]),
        ((200, [], LIVE), Reason.TIMEOUT, [Live("Hi"), Broken(Reason.TIMEOUT, "what happened", asked=True)]),
        ((200, [], LIVE), Reason.LOST, [Live("Hi"), Broken(Reason.TRUNCATED, "what happened", asked=True)]),
        ((500, [], b"Down"), None, [Broken(Reason.REFUSED, "Down", 500, raw="Down", asked=True)]),
        (None, Reason.LOST, [Broken(Reason.LOST, "what happened", asked=True)]),
        (None, None, [Broken(Reason.LOST, "the connection was closed before any answer", asked=True)]),
        (
            (101, [], b""),
            None,
            [Broken(Reason.TRUNCATED, "status 101: the server switched protocols, unasked", asked=True)],
        ),
    ],
)
def test_the_answer_to_the_question_is_judged_as_by_a_decoder(
    response: Answer | None, failure: Reason | None, expected: list[Event]
) -> None:
    flow = Flow(SITE, ASK, session=GIVEN)
    take(flow)
    assert fail(flow, response, failure) == expected
    assert (flow.next_request(), flow.awaiting, flow.submit_started) == (None, None, True)


def test_an_exchange_is_the_same_however_its_answers_are_cut() -> None:
    expected = [Live("Hi"), End("Hi", HI)]
    for session_pieces, reply_pieces in zip(
        [[OPENED], byte_by_byte(OPENED), [OPENED[:9], b"", OPENED[9:]]],
        [[LIVE + END], byte_by_byte(LIVE + END), [LIVE, b"", END]],
        strict=True,
    ):
        flow = Flow(SITE, ASK)
        events = []
        for pieces in (session_pieces, reply_pieces):
            take(flow)
            events += flow.receive_head(200, [])
            for piece in pieces:
                events += flow.receive_data(piece)
            events += flow.receive_eof()
        assert events == expected


def test_awaiting_is_right_at_every_point() -> None:
    session, first, later = Awaiting.SESSION, Awaiting.FIRST_EVENT, Awaiting.EVENT
    flow = Flow(SITE, ASK)
    assert seen(flow) == (session, False, True)
    take(flow)
    assert seen(flow) == (session, False, False)
    flow.receive_head(100, [])
    assert seen(flow) == (session, False, False)
    flow.receive_head(200, [])
    assert seen(flow) == (session, False, False)
    flow.receive_data(OPENED)
    assert seen(flow) == (session, False, False)
    flow.receive_eof()
    assert seen(flow) == (first, False, True)
    take(flow)
    assert seen(flow) == (first, True, False)
    flow.receive_head(401, [])
    flow.receive_data(FORBIDDEN.encode())
    assert seen(flow) == (first, True, False)
    flow.receive_eof()
    assert seen(flow) == (session, True, True)
    take(flow)
    assert seen(flow) == (session, True, False)
    answer(flow, RENEWED)
    assert seen(flow) == (first, True, True)
    take(flow)
    flow.receive_head(200, [])
    flow.receive_data(b": keepalive\n\n")
    assert seen(flow) == (first, True, False)
    flow.receive_data(b'data: {"type":"live","data":"...","subtype":"status"}\n\n')
    assert seen(flow) == (later, True, False)
    flow.receive_data(b": keepalive\n\n")
    assert seen(flow) == (later, True, False)
    flow.receive_data(END)
    assert seen(flow) == (None, True, False)


@pytest.mark.parametrize("of", [bytes, bytearray, memoryview])
def test_after_the_first_event_the_next_is_awaited_whatever_the_type_of_the_bytes(of: Any) -> None:
    # A transport's clock depends on it.
    flow = Flow(SITE, ASK, session=GIVEN)
    take(flow)
    flow.receive_head(200, [])
    assert flow.receive_data(of(LIVE)) == [Live("Hi")]
    assert flow.awaiting is Awaiting.EVENT


def test_after_use_session_no_session_is_awaited() -> None:
    assert seen(Flow(SITE, ASK, session=Session())) == (Awaiting.FIRST_EVENT, False, True)


def test_pieces_in_the_answer_to_start_session_are_not_events() -> None:
    flow = Flow(SITE, ASK)
    take(flow)
    assert flow.receive_head(200, []) + flow.receive_data(LIVE + LIVE) == []
    assert seen(flow) == (Awaiting.SESSION, False, False)


def test_a_request_is_handed_out_once() -> None:
    flow = Flow(SITE, ASK)
    take(flow)
    assert flow.next_request() is None
    assert flow.receive_head(200, []) == []
    assert flow.next_request() is None
    assert flow.receive_data(OPENED) + flow.receive_eof() == []
    take(flow)
    assert flow.next_request() is None
