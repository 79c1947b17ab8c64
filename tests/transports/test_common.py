import asyncio
import math
import pickle
import re
from collections.abc import AsyncIterator
from typing import Any

import pytest

from opchat_proto import Awaiting, Broken, End, Event, InvalidMessages, Live, Message, Reason, Submit
from opchat_transports import ReplyBroken, Timeouts, acollect, collect
from opchat_transports._common import Clocks, broken_line, to_submit


def test_the_timeouts_have_defaults() -> None:
    timeouts = Timeouts()
    assert (timeouts.connect, timeouts.write, timeouts.first_event, timeouts.idle) == (10, 30, 300, 120)


@pytest.mark.parametrize("value", [0, -1, math.nan, math.inf, 1_000_001])
def test_a_timeout_out_of_range_is_refused(value: Any) -> None:
    with pytest.raises(ValueError, match=r"Timeouts\.idle: expected above 0"):
        Timeouts(idle=value)


@pytest.mark.parametrize("value", ["1", True, b"1"])
def test_a_timeout_that_is_no_number_is_refused(value: Any) -> None:
    with pytest.raises(TypeError, match=r"Timeouts\.connect: expected seconds or None"):
        Timeouts(connect=value)


def test_none_switches_a_clock_off() -> None:
    assert Clocks(Timeouts(idle=None)).deadline(Awaiting.EVENT, 5.0) == math.inf


def test_a_deadline_is_an_instant_that_comments_do_not_move() -> None:
    clocks = Clocks(Timeouts(first_event=7))
    assert clocks.deadline(Awaiting.FIRST_EVENT, 100.0) == 107.0
    clocks.count([])
    assert clocks.deadline(Awaiting.FIRST_EVENT, 103.0) == 107.0


def test_events_set_the_deadline_anew_when_the_next_read_begins() -> None:
    clocks = Clocks(Timeouts(idle=5))
    assert clocks.deadline(Awaiting.EVENT, 100.0) == 105.0
    clocks.count([Live("a")])
    assert clocks.deadline(Awaiting.EVENT, 900.0) == 905.0


def test_a_new_phase_sets_the_deadline_anew() -> None:
    clocks = Clocks(Timeouts(first_event=7, idle=5))
    assert clocks.deadline(Awaiting.SESSION, 100.0) == 107.0
    assert clocks.deadline(Awaiting.FIRST_EVENT, 101.0) == 108.0
    assert clocks.deadline(Awaiting.EVENT, 102.0) == 107.0


def test_the_replies_of_a_proxy_have_the_clock_of_connecting() -> None:
    clocks = Clocks(Timeouts(connect=3, first_event=7))
    assert clocks.deadline(Awaiting.PROXY, 100.0) == 103.0
    assert clocks.deadline(Awaiting.PROXY, 102.0) == 103.0
    assert clocks.no_event() == "no reply of the proxy within 3 s (timeout 'connect'), after 0 events"
    assert clocks.deadline(Awaiting.SESSION, 102.0) == 109.0


def test_the_words_for_a_clock_name_clock_phase_and_events() -> None:
    clocks = Clocks(Timeouts(first_event=0.5))
    assert clocks.no_connection("h:1") == "no connection to h:1 within 10 s (timeout 'connect'), after 0 events"
    assert clocks.not_sent() == "the request could not be sent within 30 s (timeout 'write'), after 0 events"
    text = "no session from the question before within 0.5 s (timeout 'first_event'), after 0 events"
    assert clocks.no_session() == text
    clocks.deadline(Awaiting.SESSION, 0.0)
    assert clocks.no_event() == "no answer within 0.5 s (timeout 'first_event'), after 0 events"
    clocks.deadline(Awaiting.FIRST_EVENT, 0.0)
    assert clocks.no_event() == "no event of the answer within 0.5 s (timeout 'first_event'), after 0 events"
    clocks.count([Live("a")])
    clocks.deadline(Awaiting.EVENT, 0.0)
    assert clocks.no_event() == "no further event of the answer within 120 s (timeout 'idle'), after 1 event"


def test_a_text_becomes_a_submit_with_a_random_chat_id() -> None:
    first, second = to_submit("Hi"), to_submit("Hi")
    assert first.new_message == "Hi"
    assert re.fullmatch("[0-9a-z]{10}", first.chat_id or "")
    assert first.chat_id != second.chat_id


def test_messages_become_a_submit_with_their_history() -> None:
    submit = to_submit([{"role": "assistant", "content": "Yes?"}, {"role": "user", "content": "Hi"}])
    assert (submit.messages, submit.new_message) == ((Message("assistant", "Yes?"),), "Hi")


def test_a_submit_keeps_all_that_it_has() -> None:
    submit = Submit(new_message="Hi", chat_id="mine", bot_id="b")
    assert to_submit(submit) is submit
    assert to_submit(Submit(new_message="Hi", bot_id="b")).bot_id == "b"


def test_a_question_that_is_none_is_refused() -> None:
    with pytest.raises(InvalidMessages):
        to_submit([])
    with pytest.raises(InvalidMessages):
        to_submit(b"Hi")  # type: ignore[arg-type]  # wrong on purpose


@pytest.mark.parametrize("reason", Reason)
def test_every_broken_reply_has_a_line(reason: Reason) -> None:
    line = broken_line(Broken(reason, "first\nsecond\u2028third"))
    assert len(line.splitlines()) == 1
    assert line.endswith(": first second third")


def test_the_line_says_all_that_is_known() -> None:
    broken = Broken(Reason.REFUSED, "Slow down.", status=429, code="too_many", retry_after=30)
    assert broken_line(broken) == "the server refused (status 429, too_many, try again in 30 s): Slow down."
    assert broken_line(Broken(Reason.REMOTE)) == "the server reported an error"


def test_reply_broken_pickles() -> None:
    error = ReplyBroken(Broken(Reason.LOST, "gone"), "so far")
    copy = pickle.loads(pickle.dumps(error))
    assert (copy.broken, copy.text, str(copy)) == (error.broken, "so far", "no answer: gone")
    assert isinstance(copy, RuntimeError)


def test_collect_gives_the_final_text() -> None:
    assert collect([Live("a "), End("a")]) == "a"


def test_collect_joins_the_pieces_where_there_is_no_final_text() -> None:
    assert collect([Live("a"), Live("Thinking", kind="thinking"), Live("b"), End(None)]) == "ab"


def test_collect_raises_for_a_broken_reply_with_what_came() -> None:
    broken = Broken(Reason.TRUNCATED)
    with pytest.raises(ReplyBroken) as caught:
        collect([Live("a"), Live("x", kind="status"), broken])
    assert (caught.value.broken, caught.value.text) == (broken, "a")


def test_collect_wants_an_unread_reply() -> None:
    with pytest.raises(ValueError, match="has not been read"):
        collect([])


async def _given(*events: Event) -> AsyncIterator[Event]:
    for event in events:
        yield event


def test_acollect_does_the_same_in_async_code() -> None:
    broken = Broken(Reason.TRUNCATED, "cut")
    assert asyncio.run(acollect(_given(Live("a"), Live("x", kind="status"), Live("b"), End(None)))) == "ab"
    assert asyncio.run(acollect(_given(Live("a "), End("a")))) == "a"
    with pytest.raises(ReplyBroken) as caught:
        asyncio.run(acollect(_given(Live("a"), broken)))
    assert (caught.value.broken, caught.value.text) == (broken, "a")
    with pytest.raises(ValueError, match="read to its end"):
        asyncio.run(acollect(_given()))
