"""The files of many questions: results, questions, and what an earlier run has settled."""

import json
import re
from typing import Any

import pytest

from opchat_proto import Broken, End, Message, Reason
from opchat_transports.many import BatchQuestion, Expectation, Result, read_questions, read_results, resume
from opchat_transports.many._plan import Answer, Plan  # the plan, which is not public, in virtual time

from .many_plans import CUT, GOOD, LATER, LOST, SITE, UNASKED, play, questions

# ------------------------------------------------------------------------------ what a result is


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
def test_a_result_says_whether_its_question_was_asked(last: Any, has_begun: bool, asked: Any) -> None:
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
def test_a_result_says_whether_its_expectation_held(
    expect: Expectation | None, answer: Answer, held: bool | None, is_good: bool
) -> None:
    found = result(expect, answer)
    assert (found.expect_held, found.is_good) == (held, is_good)


def test_a_result_is_written_as_one_line() -> None:
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
def test_a_line_is_read_back_as_its_result(answer: Answer) -> None:
    line = json.dumps(result(None, answer).to_dict()) + "\n"
    [(name, found)] = read_results([line]).items()
    assert name == "a"
    assert isinstance(found, Result)
    assert found.to_dict() == json.loads(line)


def test_a_skipped_question_is_written_as_one_line_too() -> None:
    line = json.dumps(Result.of(BatchQuestion("a", "?"), None).to_dict())
    found = read_results([line])["a"]
    assert isinstance(found, Result)
    assert (found.outcome, found.asked, found.last) == ("skipped", False, None)


# ------------------------------------------------------------------------------ result files

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
def test_any_other_line_that_is_not_a_result_is_an_error(line: str) -> None:
    with pytest.raises(ValueError, match="line 1: "):
        read_results(['{"id": "a"}'])
    with pytest.raises(ValueError, match="line 2: "):
        read_results([ASKED, line, ASKED])


# ------------------------------------------------------------------------------ question files


def test_plain_lines_are_questions_named_by_their_numbers() -> None:
    assert read_questions(["Hi\n", "\n", "  Who are you? \r\n"]) == [
        BatchQuestion(1, "Hi"),
        BatchQuestion(3, "Who are you?"),
    ]


def test_objects_are_read_as_questions() -> None:
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


def test_repeated_questions_get_ids_of_their_own() -> None:
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
        (['{"id": 1, "question": "a"}', '{"id": 1, "question": "b"}'], "line 2: id 1 is already on line 1"),
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
def test_a_malformed_question_is_reported_with_its_line_number(lines: list[str], message: str | None) -> None:
    if message is None:
        assert len(read_questions(lines)) == 1
        return
    with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
        read_questions(lines, repeat=2)


def test_a_text_is_not_an_expectation() -> None:
    with pytest.raises(ValueError, match="expect: expected an object with 'contains' or 'regex'"):
        BatchQuestion(1, "a", expect="b")  # type: ignore[arg-type]  # wrong on purpose


# ------------------------------------------------------------------------------ after a break


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
def test_an_earlier_run_settles_questions(answer: Answer, settled_unless: list[Any]) -> None:
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
def test_a_question_that_was_begun_without_an_outcome_may_have_been_asked(again: Any) -> None:
    question = BatchQuestion("a", "?", more={"topic": 1})
    settled, [unwritten] = resume([question, BatchQuestion("b", "?")], {"a": question.digest}, again)
    assert (unwritten.id, unwritten.outcome, unwritten.asked, unwritten.more) == ("a", "broken", "maybe", {"topic": 1})
    assert settled == ({"a": unwritten} if again is None else {})


def test_a_skipped_question_is_not_settled() -> None:
    question = BatchQuestion("a", "?")
    assert resume([question], {"a": Result.of(question, None)}) == ({}, [])


def test_an_answer_is_judged_by_the_current_expectation() -> None:
    before = Result.of(BatchQuestion("a", "?"), End("yes"), reply="yes", asked=True)
    settled, _ = resume([BatchQuestion("a", "?", expect=Expectation("no"))], {"a": before})
    assert settled["a"].expect_held is False


@pytest.mark.parametrize("begun", [True, False])
def test_a_changed_question_under_the_same_id_is_an_error(begun: bool) -> None:
    before = BatchQuestion("a", "?")
    found: dict[Any, Any] = {"a": before.digest if begun else Result.of(before, End("yes"), reply="yes", asked=True)}
    with pytest.raises(ValueError, match="question 'a' has changed since it was asked"):
        resume([BatchQuestion("a", "!")], found)
