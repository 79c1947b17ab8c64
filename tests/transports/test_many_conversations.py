"""The turns of conversations among many questions."""

from typing import Any

import pytest

from opchat_proto import Broken, End, Message, Reason
from opchat_transports.many import BatchQuestion, Result
from opchat_transports.many._plan import Answer, Plan, Turn  # the plan, which is not public, in virtual time

from .many_plans import CUT, GOOD, OTHER, SITE, UNASKED, outcomes, play, questions


def test_the_turns_of_a_conversation_wait_for_each_other() -> None:
    plan = Plan(url=SITE, chat_id=lambda: "chat1")
    sent = []

    def answer(turn: Turn) -> Answer:
        sent.append(
            (turn.submit.new_message, [message.content for message in turn.submit.messages], turn.submit.chat_id)
        )
        return Answer(End(turn.question.text.upper()))

    given = [*questions(*"abc", conversation="talk"), *questions("x")]
    assert play(plan, given, answer, concurrency=4) == [(0, "a"), (0, "x"), (1, "b"), (2, "c")]
    assert sent == [
        ("a", [], "chat1"),
        ("x", [], None),
        ("b", ["a", "A"], "chat1"),
        ("c", ["a", "A", "b", "B"], "chat1"),
    ]


def test_after_a_broken_turn_the_later_ones_are_skipped() -> None:
    plan = Plan(url=SITE)
    given = [*questions(*"abcd", conversation="talk"), *questions("x")]
    asked = play(plan, given, lambda turn: CUT if turn.question.id == "b" else GOOD)
    assert [name for _, name in asked] == ["a", "b", "x"]
    assert outcomes(plan) == [("a", "end"), ("b", "broken"), ("c", "skipped"), ("d", "skipped"), ("x", "end")]
    assert [result.asked for result in plan.results] == [True, True, False, False, True]


def test_a_repeated_turn_is_not_overtaken() -> None:
    answers = iter([UNASKED, GOOD, GOOD])
    plan = Plan(url=SITE, retries=1)
    assert play(plan, questions(*"ab", conversation=1), lambda turn: next(answers)) == [(0, "a"), (2, "a"), (3, "b")]


def test_a_conversation_continues_from_an_earlier_runs_results() -> None:
    given = questions(*"abc", conversation="talk")
    settled: dict[Any, Result] = {
        "a": Result(id="a", last=End("A"), reply="A"),
        "x": Result(id="x", last=End("X"), reply="X"),
    }
    sent = []

    def answer(turn: Turn) -> Answer:
        sent.append([message.content for message in turn.submit.messages])
        return GOOD

    plan = Plan(url=SITE, settled=settled)
    assert [name for _, name in play(plan, [*given, *questions("x")], answer)] == ["b", "c"]
    assert sent == [["a", "A"], ["a", "A", "b", "yes"]]
    assert outcomes(plan) == [("b", "end"), ("c", "end")]


def test_a_conversation_broken_in_an_earlier_run_stays_broken() -> None:
    plan = Plan(url=SITE, settled={"a": Result(id="a", last=Broken(Reason.LOST), asked="maybe")})
    assert play(plan, questions(*"ab", conversation="talk")) == []
    assert outcomes(plan) == [("b", "skipped")]


def test_the_least_recently_used_conversation_is_forgotten() -> None:
    plan = Plan(url=SITE, conversations=2)
    sent = {}

    def answer(turn: Turn) -> Answer:
        sent[turn.question.id] = len(turn.submit.messages)
        return GOOD

    def ask(name: str, conversation: str) -> None:
        plan.add(BatchQuestion(name, name, conversation=conversation))
        turn = plan.next_turn(0)
        assert isinstance(turn, Turn)
        plan.finish(turn, answer(turn), 0)

    for name, conversation in [("a1", "a"), ("b1", "b"), ("a2", "a"), ("c1", "c"), ("a3", "a"), ("b2", "b")]:
        ask(name, conversation)
    assert sent == {"a1": 0, "b1": 0, "a2": 2, "c1": 0, "a3": 4, "b2": 0}


@pytest.mark.parametrize(
    ("later", "message"),
    [
        ({"url": OTHER}, "conversation 'talk': expected one site and one bot for all its questions"),
        ({"bot": "b"}, "conversation 'talk': expected one site and one bot for all its questions"),
        (
            {"history": (Message("user", "?"),)},
            "conversation 'talk': only its first question can have messages before it",
        ),
    ],
)
def test_a_question_that_does_not_fit_its_conversation_is_refused(later: dict[str, Any], message: str) -> None:
    plan = Plan(url=SITE)
    plan.add(BatchQuestion(1, "a", conversation="talk"))
    with pytest.raises(ValueError, match=f"^{message}$"):
        plan.add(BatchQuestion(2, "b", conversation="talk", **later))
