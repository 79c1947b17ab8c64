"""Many questions, without I/O: what is asked when, in a time of the tests' own; and the lines of the files."""

import json
import math
import re
from collections.abc import Callable, Iterable
from typing import Any

import pytest

from opchat_proto import Broken, End, Message, Reason
from opchat_transports.many import BatchQuestion, Expectation, Result, read_questions, read_results, resume
from opchat_transports.many._plan import Answer, Plan, Turn  # the plan alone, in a time of its own, is not public

SITE = "http://127.0.0.1:8000"
OTHER = "http://127.0.0.1:9000"
GOOD = Answer(End("yes"), "yes", 0.1, 0.2, True)
CUT = Answer(Broken(Reason.TRUNCATED, asked=True), "ye", 0.1, 0.2, True)
LOST = Answer(Broken(Reason.LOST, asked=True))
UNASKED = Answer(Broken(Reason.LOST))
LATER = Answer(Broken(Reason.REFUSED, status=429, retry_after=30, asked=True))


def play(
    plan: Plan,
    questions: Iterable[BatchQuestion],
    answer: Callable[[Turn], Answer] = lambda turn: GOOD,
    *,
    concurrency: int = 1,
    takes: float = 1.0,
) -> list[tuple[float, Any]]:
    """Ask all; each answer takes so many seconds. Returns when each question was asked."""
    for question in questions:
        plan.add(question)
    plan.end_input()
    now, asked, under_way = 0.0, [], list[tuple[float, Turn]]()
    while True:
        turn = plan.next_turn(now) if len(under_way) < concurrency else math.inf
        if isinstance(turn, Turn):
            asked.append((now, turn.question.id))
            under_way.append((now + takes, turn))
        elif turn is None:
            return asked
        else:
            now = min([turn, *(end for end, _ in under_way)])
            assert now < math.inf
            for end, done in list(under_way):
                if end <= now:
                    under_way.remove((end, done))
                    plan.finish(done, answer(done), now)


def questions(*texts: str, **fields: Any) -> list[BatchQuestion]:
    return [BatchQuestion(text, text, **fields) for text in texts]


def outcomes(plan: Plan) -> list[tuple[Any, str]]:
    return [(result.id, result.outcome) for result in plan.results]


# ------------------------------------------------------------------------------------------------ what is asked when


def test_questions_are_asked_side_by_side_and_in_order() -> None:
    plan = Plan(url=SITE)
    assert play(plan, questions(*"abcde"), concurrency=2) == [(0, "a"), (0, "b"), (1, "c"), (1, "d"), (2, "e")]
    assert outcomes(plan) == [(name, "end") for name in "abcde"]


def test_the_rate_is_that_of_each_site() -> None:
    plan = Plan(url=SITE, rate=6)
    asked = play(plan, [*questions(*"abc"), *questions(*"xy", url=OTHER)], concurrency=9)
    assert asked == [(0, "a"), (0, "x"), (10, "b"), (10, "y"), (20, "c")]


@pytest.mark.parametrize("takes", [0.01, 1.0, 7.3])
def test_the_rate_holds_however_long_an_answer_takes(takes: float) -> None:
    plan = Plan(url=SITE, rate=60)
    asked = play(plan, questions(*map(str, range(600))), concurrency=20, takes=takes)
    assert asked[-1][0] == pytest.approx(599, rel=0.01)


def test_a_machine_that_was_late_catches_up_and_a_pause_is_not_made_up_for() -> None:
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


def test_a_site_that_has_been_forgotten_had_no_pause_left() -> None:
    plan = Plan(url=SITE)
    play(plan, questions("a"), lambda turn: LATER)
    for number in range(1200):
        plan._site(Turn(BatchQuestion(1, "?"), *_somewhere(number)), 10.0)
    assert plan._site(Turn(BatchQuestion(1, "?"), *_somewhere(None)), 10.0).paused_until == 31
    assert len(plan._sites) <= 1000


def _somewhere(number: int | None) -> Any:
    from opchat_proto import Endpoint, Submit

    return Endpoint.parse(SITE if number is None else f"http://{number}.example"), Submit(new_message="?")


def test_a_question_that_reached_nobody_is_asked_again_if_that_is_allowed() -> None:
    answers = iter([UNASKED, UNASKED, GOOD])
    plan = Plan(url=SITE, retries=2)
    assert play(plan, questions("a"), lambda turn: next(answers)) == [(0, "a"), (2, "a"), (5, "a")]
    [result] = plan.results
    assert (result.outcome, result.retries, result.asked) == ("end", 2, True)


def test_a_question_that_was_put_off_is_asked_again_when_the_site_said() -> None:
    answers = iter([LATER, GOOD])
    plan = Plan(url=SITE, retries=1)
    assert play(plan, questions("a"), lambda turn: next(answers)) == [(0, "a"), (31, "a")]


@pytest.mark.parametrize("answer", [LOST, CUT, Answer(Broken(Reason.REFUSED, status=500, asked=True))])
def test_no_other_question_is_asked_twice(answer: Answer) -> None:
    plan = Plan(url=SITE, retries=5)
    assert play(plan, questions("a"), lambda turn: answer) == [(0, "a")]


def test_it_stops_after_so_many_broken_in_a_row() -> None:
    plan = Plan(url=SITE, stop_after=2)
    asked = play(plan, questions(*"abcdef"), lambda turn: GOOD if turn.question.id == "b" else CUT)
    assert [name for _, name in asked] == ["a", "b", "c", "d"]
    assert (plan.has_stopped, plan.has_room) == (True, False)


def test_it_asks_at_most_so_many_questions_and_retries_do_not_count() -> None:
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
def test_numbers_that_mean_nothing_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}$"):
        Plan(**options)


def test_a_question_needs_a_site() -> None:
    with pytest.raises(ValueError, match="question 'a': expected a url, of its own or for all"):
        Plan().add(BatchQuestion("a", "a"))


def test_so_many_wait_and_no_more() -> None:
    plan = Plan(url=SITE)
    count = 0
    while plan.has_room:
        plan.add(BatchQuestion(count, "?"))
        count += 1
    assert count == 1000


# ------------------------------------------------------------------------------------------------ conversations


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


def test_a_turn_that_is_asked_again_is_not_overtaken() -> None:
    answers = iter([UNASKED, GOOD, GOOD])
    plan = Plan(url=SITE, retries=1)
    assert play(plan, questions(*"ab", conversation=1), lambda turn: next(answers)) == [(0, "a"), (2, "a"), (3, "b")]


def test_a_conversation_goes_on_from_what_a_run_before_has_settled() -> None:
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


def test_a_turn_that_a_run_before_has_broken_stays_broken() -> None:
    plan = Plan(url=SITE, settled={"a": Result(id="a", last=Broken(Reason.LOST), asked="maybe")})
    assert play(plan, questions(*"ab", conversation="talk")) == []
    assert outcomes(plan) == [("b", "skipped")]


def test_a_conversation_that_has_rested_longest_is_forgotten() -> None:
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
def test_what_does_not_fit_a_conversation_is_refused(later: dict[str, Any], message: str) -> None:
    plan = Plan(url=SITE)
    plan.add(BatchQuestion(1, "a", conversation="talk"))
    with pytest.raises(ValueError, match=f"^{message}$"):
        plan.add(BatchQuestion(2, "b", conversation="talk", **later))


# ------------------------------------------------------------------------------------------------ what a result is


@pytest.mark.parametrize(
    ("last", "has_begun", "asked"),
    [
        (End("a"), False, True),
        (Broken(Reason.LOST), False, False),
        (Broken(Reason.REFUSED, in_session=True, status=403), False, False),
        (Broken(Reason.LOST, asked=True), False, "maybe"),
        (Broken(Reason.TIMEOUT, asked=True), False, "maybe"),
        (Broken(Reason.PROXY, asked=True), False, "maybe"),
        (Broken(Reason.TIMEOUT, asked=True), True, True),
        (Broken(Reason.REFUSED, asked=True, status=500), False, True),
        (Broken(Reason.TRUNCATED, asked=True), False, True),
    ],
)
def test_whether_a_question_was_asked(last: Any, has_begun: bool, asked: Any) -> None:
    assert Answer(last, has_begun=has_begun).asked == asked


def result(expect: Expectation | None, answer: Answer) -> Result:
    plan = Plan(url=SITE)
    play(plan, [BatchQuestion("a", "?", expect=expect, more={"topic": "prices"})], lambda turn: answer)
    return plan.results[0]


@pytest.mark.parametrize(
    ("expect", "answer", "held", "is_good"),
    [
        (None, GOOD, None, True),
        (Expectation(contains="ye"), GOOD, True, True),
        (Expectation(contains="YE"), GOOD, False, False),
        (Expectation(regex="^y.s$"), GOOD, True, True),
        (Expectation(regex="no"), GOOD, False, False),
        (Expectation(contains="y", regex="no"), GOOD, False, False),
        (Expectation(contains="ye"), CUT, None, False),
        (Expectation(contains="pieces"), Answer(End(None), "the pieces"), True, True),
    ],
)
def test_whether_an_expectation_held(
    expect: Expectation | None, answer: Answer, held: bool | None, is_good: bool
) -> None:
    found = result(expect, answer)
    assert (found.expect_held, found.is_good) == (held, is_good)


def test_a_result_is_a_line() -> None:
    line = result(Expectation(contains="y"), LATER).to_dict()
    digest = line.pop("digest")
    assert line == {
        "id": "a",
        "outcome": "broken",
        "reply": "",
        "reason": "refused",
        "detail": "",
        "status": 429,
        "code": None,
        "retry_after": 30,
        "first": None,
        "seconds": 0.0,
        "retries": 0,
        "asked": True,
        "expect_held": None,
        "question": "?",
        "topic": "prices",
    }
    assert len(digest) == 16


@pytest.mark.parametrize("answer", [GOOD, CUT, LOST, UNASKED, LATER, Answer(End(None), "pieces", 0.5, 1.25)])
def test_a_line_is_read_as_the_result_that_it_was(answer: Answer) -> None:
    line = json.dumps(result(None, answer).to_dict()) + "\n"
    [(name, found)] = read_results([line]).items()
    assert name == "a"
    assert isinstance(found, Result)
    assert found.to_dict() == json.loads(line)


def test_a_skipped_question_is_a_line_too() -> None:
    line = json.dumps(Result.of(BatchQuestion("a", "?"), None).to_dict())
    found = read_results([line])["a"]
    assert isinstance(found, Result)
    assert (found.outcome, found.asked, found.last) == ("skipped", False, None)


# ------------------------------------------------------------------------------------------------ result files


ASKED = '{"id": "a", "state": "asked", "digest": "d"}\n'
ANSWERED = json.dumps(Result(id="a", last=End("x"), reply="x", asked=True).to_dict()) + "\n"


@pytest.mark.parametrize(
    ("lines", "state"),
    [
        ([ASKED], "d"),
        ([ASKED, ANSWERED], "end"),
        ([ASKED, ANSWERED, ASKED], "d"),
        ([ASKED, ANSWERED[:-1]], "end"),
        ([ASKED, ANSWERED[:20]], "d"),
        ([ASKED, "{"], "d"),
    ],
)
def test_the_last_line_of_an_id_wins_and_an_unfinished_one_is_ignored(lines: list[str], state: str) -> None:
    found = read_results(lines)["a"]
    assert (found.outcome if isinstance(found, Result) else found) == state


@pytest.mark.parametrize(
    "line",
    ["{\n", "[]\n", "\n", '{"id": "a"}\n', '{"outcome": "end"}\n', ANSWERED.replace('"end"', '"gone"'),
     ANSWERED.replace('"reply": "x"', '"reply": 1'), ANSWERED.replace('"asked": true', '"asked": "no"')],
)  # fmt: skip
def test_any_other_line_that_is_no_result_is_an_error(line: str) -> None:
    with pytest.raises(ValueError, match="line 1: "):
        read_results(['{"id": "a"}'])
    with pytest.raises(ValueError, match="line 2: "):
        read_results([ASKED, line, ASKED])


# ------------------------------------------------------------------------------------------------ question files


def test_plain_lines_are_questions_named_by_their_numbers() -> None:
    assert read_questions(["Hi\n", "\n", "  Who are you? \r\n"]) == [
        BatchQuestion(1, "Hi"),
        BatchQuestion(3, "Who are you?"),
    ]


def test_objects_are_questions() -> None:
    lines = [
        {"id": "a", "question": "Hi", "topic": "x"},
        {"messages": [{"role": "user", "content": "1"}, {"role": "assistant", "content": "2"},
                      {"role": "user", "content": "3"}], "url": SITE, "bot": 7},
        {"id": 9, "question": "?", "conversation": "c", "expect": {"contains": "x", "regex": "y"}},
    ]  # fmt: skip
    assert read_questions(json.dumps(line) for line in lines) == [
        BatchQuestion("a", "Hi", more={"topic": "x"}),
        BatchQuestion(2, "3", (Message("user", "1"), Message("assistant", "2")), SITE, 7),
        BatchQuestion(9, "?", conversation="c", expect=Expectation("x", "y")),
    ]


def test_all_questions_are_repeated_under_names_of_their_own() -> None:
    lines = ['{"id": "a", "question": "A", "conversation": "c"}', '{"id": 7, "question": "B"}']
    found = [(question.id, question.conversation) for question in read_questions(lines, repeat=3)]
    assert found == [("a", "c"), (7, None), ("a#2", "c#2"), ("7#2", None), ("a#3", "c#3"), ("7#3", None)]


def test_a_changed_question_has_another_digest() -> None:
    whole: dict[str, Any] = {
        "text": "a",
        "history": (Message("user", "b"),),
        "url": SITE,
        "bot": "x",
        "conversation": "c",
    }
    changes: list[dict[str, Any]] = [{}, {"text": "b"}, {"history": ()}, {"url": None}, {"bot": 1}, {"conversation": 2}]
    digests = {BatchQuestion(1, **{**whole, **change}).digest for change in changes}
    assert len(digests) == len(changes)
    same = BatchQuestion(2, **whole, expect=Expectation("y"), more={"x": 1}).digest
    assert same == BatchQuestion(1, **whole).digest


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["Hi", ""], None),
        (['{"id": 1, "question": "a"}', '{"id": 1, "question": "b"}'], "line 2: id 1 is that of line 1, too"),
        (['{"question": "a"}', "Hi"], "line 2: not JSON: "),
        (['{"question": "a"}', "[]"], "line 2: expected a JSON object, got list"),
        (['{"id": "a"}'], "line 1: expected 'question' or 'messages', and not both"),
        (['{"question": "a", "messages": []}'], "line 1: expected 'question' or 'messages', and not both"),
        (['{"messages": []}'], "line 1: expected at least one message"),
        (['{"question": " "}'], "line 1: question: expected a string that is not blank"),
        (['{"question": 1}'], "line 1: question: expected a string that is not blank"),
        (['{"question": "\\ud800"}'], "line 1: Submit.new_message: expected text that encodes to UTF-8"),
        (['{"question": "a", "id": true}'], "line 1: id: expected a string or a whole number"),
        (['{"question": "a", "id": 1.5}'], "line 1: id: expected a string or a whole number"),
        (['{"question": "a", "conversation": []}'], "line 1: conversation: expected a string or a whole number"),
        (['{"question": "a", "bot": []}'], "line 1: Submit.bot_id: expected"),
        (['{"question": "a", "url": 1}'], "line 1: url: expected a string"),
        (['{"question": "a", "url": "ftp://x"}'], "line 1: url: 'ftp://x': expected a site"),
        (['{"question": "a", "expect": "b"}'], "line 1: expect: expected an object with 'contains' or 'regex'"),
        (['{"question": "a", "expect": {}}'], "line 1: expect: expected an object with 'contains' or 'regex'"),
        (['{"question": "a", "expect": {"is": "b"}}'], "line 1: expect: expected an object with"),
        (['{"question": "a", "expect": {"contains": 1}}'], "line 1: expect.contains: expected a string"),
        (['{"question": "a", "expect": {"regex": "("}}'], "line 1: expect.regex: "),
        (['{"question": "a", "reply": "b"}'], "line 1: reply: this is a field of the results"),
        (['{"question": "a", "x": NaN}'], "line 1: not JSON: NaN is not JSON"),
        (
            ['{"question": "a", "conversation": 1}', '{"question": "b", "conversation": 1, "bot": "c"}'],
            "line 2: conversation 1: expected one site and one bot",
        ),
        (['{"id": "a", "question": "x"}', '{"id": "a#2", "question": "x"}'], "line 2: the id 'a#2' is needed for"),
    ],
)  # fmt: skip
def test_what_is_no_question_is_named_with_its_line(lines: list[str], message: str | None) -> None:
    if message is None:
        assert len(read_questions(lines)) == 1
        return
    with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
        read_questions(lines, repeat=2)


def test_an_expectation_is_no_text() -> None:
    with pytest.raises(ValueError, match="expect: expected an object with 'contains' or 'regex'"):
        BatchQuestion(1, "a", expect="b")  # type: ignore[arg-type]


# ------------------------------------------------------------------------------------------------ after a break


@pytest.mark.parametrize(
    ("answer", "settled_unless"),
    [
        (GOOD, [None, "maybe", "broken"]),
        (UNASKED, []),
        (LOST, [None]),
        (CUT, [None, "maybe"]),
        (LATER, [None, "maybe"]),
    ],
)
def test_what_is_settled_by_a_run_before(answer: Answer, settled_unless: list[Any]) -> None:
    plan = Plan(url=SITE)
    play(plan, [BatchQuestion("a", "?")], lambda turn: answer)
    [before] = plan.results
    again: Any
    for again in (None, "maybe", "broken"):
        settled, unwritten = resume(questions("?"), {}, again)
        assert (settled, unwritten) == ({}, [])
        settled, unwritten = resume([BatchQuestion("a", "?")], {"a": before}, again)
        assert (settled, unwritten) == ({"a": before} if again in settled_unless else {}, [])


@pytest.mark.parametrize("again", [None, "maybe", "broken"])
def test_what_was_begun_and_has_no_outcome_may_have_been_asked(again: Any) -> None:
    question = BatchQuestion("a", "?", more={"topic": 1})
    settled, [unwritten] = resume([question, BatchQuestion("b", "?")], {"a": question.digest}, again)
    assert (unwritten.id, unwritten.outcome, unwritten.asked, unwritten.more) == ("a", "broken", "maybe", {"topic": 1})
    assert settled == ({"a": unwritten} if again is None else {})


def test_a_skipped_question_is_not_settled() -> None:
    question = BatchQuestion("a", "?")
    assert resume([question], {"a": Result.of(question, None)}) == ({}, [])


def test_an_answer_is_judged_by_what_is_expected_now() -> None:
    before = Result.of(BatchQuestion("a", "?"), End("yes"), reply="yes", asked=True)
    settled, _ = resume([BatchQuestion("a", "?", expect=Expectation("no"))], {"a": before})
    assert settled["a"].expect_held is False


@pytest.mark.parametrize("begun", [True, False])
def test_a_question_that_has_changed_under_its_id_is_an_error(begun: bool) -> None:
    before = BatchQuestion("a", "?")
    found: dict[Any, Any] = {"a": before.digest if begun else Result.of(before, End("yes"), reply="yes", asked=True)}
    with pytest.raises(ValueError, match="question 'a' has changed since it was asked"):
        resume([BatchQuestion("a", "!")], found)
