"""Many questions without I/O: which one is asked when."""

import math
from typing import Any

import pytest

from opchat_proto import Broken, Reason
from opchat_transports.many import BatchQuestion
from opchat_transports.many._plan import Answer, Plan, Turn  # the plan, which is not public, in virtual time

from .many_plans import CUT, GOOD, LATER, LOST, OTHER, SITE, UNASKED, outcomes, play, questions


def test_questions_are_asked_side_by_side_and_in_order() -> None:
    plan = Plan(url=SITE)
    assert play(plan, questions(*"abcde"), concurrency=2) == [(0, "a"), (0, "b"), (1, "c"), (1, "d"), (2, "e")]
    assert outcomes(plan) == [(name, "end") for name in "abcde"]


def test_the_rate_is_per_site() -> None:
    plan = Plan(url=SITE, rate=6)
    asked = play(plan, [*questions(*"abc"), *questions(*"xy", url=OTHER)], concurrency=9)
    assert asked == [(0, "a"), (0, "x"), (10, "b"), (10, "y"), (20, "c")]


@pytest.mark.parametrize("takes", [0.01, 1.0, 7.3])
def test_the_rate_holds_however_long_an_answer_takes(takes: float) -> None:
    plan = Plan(url=SITE, rate=60)
    asked = play(plan, questions(*map(str, range(600))), concurrency=20, takes=takes)
    assert asked[-1][0] == pytest.approx(599, rel=0.01)


def test_a_short_delay_is_caught_up_and_a_long_pause_is_not() -> None:
    plan = Plan(url=SITE, rate=60)
    for question in questions(*"abcdef"):
        plan.add(question)
    times = (0.0, 1.9, 2.0, 10.0, 10.0, 10.9, 11.0)
    assert [isinstance(plan.next_turn(now), Turn) for now in times] == [True, True, True, True, False, False, True]


def test_a_retry_after_pauses_the_whole_site_and_no_other() -> None:
    plan = Plan(url=SITE)
    asked = play(
        plan,
        [*questions(*"abc"), *questions("x", url=OTHER)],
        lambda turn: LATER if turn.question.id == "a" else GOOD,
    )
    assert asked == [(0, "a"), (1, "x"), (31, "b"), (32, "c")]


def test_a_paused_site_is_not_forgotten() -> None:
    plan = Plan(url=SITE)
    play(plan, questions("a"), lambda turn: LATER)
    for number in range(1200):
        plan._site(Turn(BatchQuestion(1, "?"), *_somewhere(number)), 10.0)
    assert plan._site(Turn(BatchQuestion(1, "?"), *_somewhere(None)), 10.0).paused_until == 31
    assert len(plan._sites) <= 1000


def _somewhere(number: int | None) -> Any:
    from opchat_proto import Endpoint, Submit

    return Endpoint.parse(SITE if number is None else f"http://{number}.example"), Submit(new_message="?")


def test_a_question_that_did_not_reach_the_site_is_repeated_if_allowed() -> None:
    answers = iter([UNASKED, UNASKED, GOOD])
    plan = Plan(url=SITE, retries=2)
    assert play(plan, questions("a"), lambda turn: next(answers)) == [(0, "a"), (2, "a"), (5, "a")]
    [result] = plan.results
    assert (result.outcome, result.retries, result.asked) == ("end", 2, True)


def test_a_postponed_question_is_asked_again_at_the_time_the_site_named() -> None:
    answers = iter([LATER, GOOD])
    plan = Plan(url=SITE, retries=1)
    assert play(plan, questions("a"), lambda turn: next(answers)) == [(0, "a"), (31, "a")]


@pytest.mark.parametrize("answer", [LOST, CUT, Answer(Broken(Reason.REFUSED, status=500, asked=True))])
def test_no_other_question_is_asked_twice(answer: Answer) -> None:
    plan = Plan(url=SITE, retries=5)
    assert play(plan, questions("a"), lambda turn: answer) == [(0, "a")]


def test_stop_after_ends_the_run_after_so_many_broken_replies_in_a_row() -> None:
    plan = Plan(url=SITE, stop_after=2)
    asked = play(plan, questions(*"abcdef"), lambda turn: GOOD if turn.question.id == "b" else CUT)
    assert [name for _, name in asked] == ["a", "b", "c", "d"]
    assert (plan.has_stopped, plan.has_room) == (True, False)


def test_most_bounds_the_questions_and_retries_do_not_count() -> None:
    answers = iter([GOOD, UNASKED, GOOD])
    plan = Plan(url=SITE, most=2, retries=1)
    assert [name for _, name in play(plan, questions(*"abcd"), lambda turn: next(answers))] == ["a", "b", "b"]
    assert play(Plan(url=SITE, most=0), questions("a")) == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rate": 0}, "rate: expected more than 0 questions a minute, got 0"),
        ({"rate": math.nan}, "rate: expected more than 0 questions a minute, got nan"),
        ({"retries": -1}, "retries: expected 0 or more, got -1"),
        ({"stop_after": 0}, "stop_after: expected 1 or more, got 0"),
        ({"most": -1}, "most: expected 0 or more, got -1"),
    ],
)
def test_meaningless_numbers_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}$"):
        Plan(**options)


def test_a_question_needs_a_site() -> None:
    with pytest.raises(ValueError, match="question 'a': expected a url, of its own or for all"):
        Plan().add(BatchQuestion("a", "a"))


def test_the_number_of_waiting_questions_is_bounded() -> None:
    plan = Plan(url=SITE)
    count = 0
    while plan.has_room:
        plan.add(BatchQuestion(count, "?"))
        count += 1
    assert count == 1000
