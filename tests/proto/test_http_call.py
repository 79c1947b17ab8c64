"""What is particular to a call over an HTTP library."""

from typing import Any

import pytest

from opchat_proto import (
    Broken,
    Channel,
    LocalProtocolError,
    Reason,
    Receive,
    Request,
    Session,
)
from opchat_proto._call_table import State  # the table is not public, and this test walks it
from tests.proto.asking import ANSWER, ANSWERED
from tests.proto.calls import GOOD, OPENED, asks, at, channel, ended, tell


@pytest.mark.parametrize("state", State)
def test_a_head_of_a_wrong_type_raises_and_changes_nothing(state: State) -> None:
    call: Any
    call, _starter = at(state, Channel.http_call)
    before = repr(call)
    for status, fields in (("200", ()), (200, 5), (200, [("a",)])):
        with pytest.raises(TypeError):
            call.receive_head(status, fields)
    assert repr(call) == before


def test_a_second_head_raises_and_the_answer_goes_on() -> None:
    call = channel(session=Session()).http_call("Hi?")
    asks(call)
    call.receive_head(200, [])
    with pytest.raises(LocalProtocolError, match=r"^Flow: receive_head is not legal in state SUBMIT_BODY$"):
        call.receive_head(200, [])
    call.receive_data(ANSWER)
    assert ended(call) == ANSWERED


def test_the_steps_of_a_question_over_an_http_library() -> None:
    call = channel().http_call("Hi?")
    for is_first, asked_for in ((True, "start_session"), (False, "submit n1")):
        step, until = call.next_step(100)
        assert isinstance(step, Request)
        assert until == 100 + 10 + 30 + 300  # connect, write and first_event: the library does them in one step
        assert asks(call, 101) == asked_for
        call.receive_head(103, [("Link", "</style.css>")])
        assert call.next_step(102) == (step, until)
        call.receive_head(200, [])
        assert call.next_step(103) == (Receive(), 403)
        call.receive_data((OPENED.body, ANSWER)[not is_first])
        call.receive_eof()
    assert ended(call, 104) == ANSWERED


def test_a_library_may_name_its_own_clock_that_ran_out() -> None:
    call = channel(session=Session()).http_call("Hi?")
    asks(call)
    call.step_failed("slow", Reason.TIMEOUT, limit="write")
    assert ended(call) == [Broken(Reason.TIMEOUT, "slow", limit="write", asked=True)]


def test_interim_heads_end_no_request_and_too_many_end_the_reply() -> None:
    call = channel(session=Session()).http_call("Hi?")
    first = call.next_step(0)
    for _ in range(8):
        call.receive_head(100, [])
        assert call.next_step(9) == first
    call.receive_head(100, [])
    [broken] = ended(call)
    assert isinstance(broken, Broken)
    assert (broken.reason, broken.limit, broken.asked) == (Reason.TOO_LARGE, "interim_responses", True)


def test_a_failure_after_the_end_is_ignored() -> None:
    call = channel(session=Session()).http_call("Hi?")
    asks(call)
    tell(call, GOOD)
    call.step_failed("reset")
    assert ended(call) == ANSWERED
