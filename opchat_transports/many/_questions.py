"""Questions, their results, and the lines of the files with both. No I/O."""

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypeAlias, final

from opchat_proto import Broken, End, Endpoint, Message, Reason, Scalar, Submit

__all__ = [
    "Asked",
    "BatchQuestion",
    "Expectation",
    "QuestionId",
    "Result",
    "check_turn",
    "read_questions",
    "read_results",
]

QuestionId: TypeAlias = str | int
Asked: TypeAlias = bool | Literal["maybe"]
"""Whether a question reached the server. "maybe": it is unknown, and asking again may cost a second answer."""

_QUESTION_FIELDS = {"id", "question", "messages", "url", "bot", "conversation", "expect"}
_RESULT_FIELDS = {
    "outcome", "reply", "first", "seconds", "retries", "asked", "expect_held", "digest", "state",
    "reason", "detail", "status", "code", "retry_after",
}  # fmt: skip


@final
@dataclass(frozen=True, slots=True)
class Expectation:
    """What a reply should contain. Raises `ValueError` for an invalid regular expression."""

    contains: str | None = None
    """A text in the reply; case-sensitive."""
    regex: str | None = None
    """A regular expression of Python's `re` that matches somewhere in the reply."""

    def __post_init__(self) -> None:
        """Check the types and the expression."""
        for name in ("contains", "regex"):
            if not isinstance(getattr(self, name), str | None):
                raise ValueError(f"expect.{name}: expected a string")
        try:
            re.compile(self.regex or "")
        except re.error as error:
            raise ValueError(f"expect.regex: {error}") from None

    def holds(self, reply: str) -> bool:
        """Whether the reply meets the expectation."""
        return (self.contains or "") in reply and re.search(self.regex or "", reply) is not None


@final
@dataclass(frozen=True, slots=True)
class BatchQuestion:
    """One question. Raises `ValueError` if it cannot be sent."""

    id: QuestionId
    text: str
    history: tuple[Message, ...] = ()
    """The history. In a conversation, only the first question may have one."""
    url: str | None = None
    """The site, as `Endpoint.parse` takes it; by default the run's."""
    bot: Scalar | None = None
    """The bot; by default the run's."""
    conversation: QuestionId | None = None
    """The name of its conversation. The questions of a conversation are asked in order, each after the previous
    answer; after a broken reply, the rest are skipped."""
    expect: Expectation | None = None
    more: Mapping[str, Any] = field(default_factory=dict)
    """Other fields, copied to the result."""

    def __post_init__(self) -> None:
        """Check everything that would otherwise fail in the middle of a run."""
        for name in ("id", "conversation"):
            value = getattr(self, name)
            if (value is not None or name == "id") and (isinstance(value, bool) or not isinstance(value, str | int)):
                raise ValueError(f"{name}: expected a string or a whole number")
        if not isinstance(self.text, str) or not self.text.strip():
            raise ValueError("question: expected a string that is not blank")
        if not isinstance(self.url, str | None):
            raise ValueError("url: expected a string")
        if self.url is not None:
            try:
                Endpoint.parse(self.url)
            except ValueError as error:
                raise ValueError(f"url: {error}") from None
        if not isinstance(self.expect, Expectation | None):
            raise ValueError("expect: expected an object with 'contains' or 'regex'")
        if taken := sorted(set(self.more) & (_QUESTION_FIELDS | _RESULT_FIELDS)):
            raise ValueError(f"{taken[0]}: this is a field of the results; give yours another name")
        try:
            self.submit("default")
        except TypeError as error:
            raise ValueError(str(error)) from None

    def submit(self, bot: Scalar | None) -> Submit:
        """The question to send; `bot` is the run's default."""
        return Submit(new_message=self.text, messages=self.history, bot_id=bot if self.bot is None else self.bot)

    @property
    def digest(self) -> str:
        """A digest of the question, which shows whether a question changed under the same id."""
        said = [[message.role, message.content] for message in self.history]
        whole = json.dumps([self.url, self.bot, self.conversation, said, self.text])
        return hashlib.sha256(whole.encode()).hexdigest()[:16]

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], default_id: QuestionId) -> "BatchQuestion":
        """Make a question from an object in a file. Raises `ValueError`, which names the field and the expectation."""
        known = {name: values[name] for name in ("id", "url", "bot", "conversation") if values.get(name) is not None}
        if ("question" in values) == ("messages" in values):
            raise ValueError("expected 'question' or 'messages', and not both")
        history: tuple[Message, ...] = ()
        if "messages" in values:
            submit = Submit.from_messages(values["messages"])
            history, known["text"] = submit.messages, submit.new_message
        else:
            known["text"] = values["question"]
        expect = values.get("expect")
        if expect is not None:
            if not isinstance(expect, Mapping) or not expect or not set(expect) <= {"contains", "regex"}:
                raise ValueError("expect: expected an object with 'contains' or 'regex'")
            known["expect"] = Expectation(**expect)
        more = {name: value for name, value in values.items() if name not in _QUESTION_FIELDS}
        return cls(**{"id": default_id, "history": history, **known}, more=more)


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """The outcome of a question."""

    id: QuestionId
    last: End | Broken | None
    """The terminal event of the reply. None if the question was skipped, because an earlier one in its conversation
    has no answer. Read from a file, it has only the fields in the file."""
    reply: str = ""
    """The answer; if broken, as much as came."""
    first: float | None = None
    """Seconds to the first piece of the answer."""
    seconds: float = 0.0
    """Seconds in total."""
    retries: int = 0
    """How often the question was repeated."""
    asked: Asked = False
    expect_held: bool | None = None
    """Whether the reply meets the expectation; None without an expectation or without an answer."""
    question: str = ""
    digest: str = ""
    """`BatchQuestion.digest`."""
    more: Mapping[str, Any] = field(default_factory=dict)
    """The other fields of the question."""

    @classmethod
    def of(cls, question: BatchQuestion, last: End | Broken | None, **values: Any) -> "Result":
        """Make the result of a question, and check its expectation."""
        held = None
        if isinstance(last, End) and question.expect is not None:
            held = question.expect.holds(values["reply"])
        return cls(
            id=question.id,
            last=last,
            expect_held=held,
            question=question.text,
            digest=question.digest,
            more=question.more,
            **values,
        )

    @property
    def outcome(self) -> Literal["end", "broken", "skipped"]:
        """How the question ended."""
        return "end" if isinstance(self.last, End) else "broken" if isinstance(self.last, Broken) else "skipped"

    @property
    def is_good(self) -> bool:
        """Whether the answer is complete and meets the expectation."""
        return isinstance(self.last, End) and self.expect_held is not False

    def to_dict(self) -> dict[str, Any]:
        """The JSON object for a result file."""
        values: dict[str, Any] = {"id": self.id, "outcome": self.outcome, "reply": self.reply}
        if isinstance(self.last, Broken):
            values["reason"] = self.last.reason.value
            values |= {name: getattr(self.last, name) for name in ("detail", "status", "code", "retry_after")}
        values |= {
            "first": None if self.first is None else round(self.first, 6),
            "seconds": round(self.seconds, 6),
            **{name: getattr(self, name) for name in ("retries", "asked", "expect_held", "question", "digest")},
        }
        return values | {name: value for name, value in self.more.items() if name not in values}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Result":
        """Read the result from an object of a result file. Raises `ValueError` for anything else."""
        last: End | Broken | None = None
        try:
            match values["outcome"]:
                case "end":
                    last = End(values["reply"])
                case "broken":
                    last = Broken(
                        Reason(values["reason"]),
                        str(values["detail"]),
                        values.get("status"),
                        values.get("code"),
                        values.get("retry_after"),
                        asked=values["asked"] is not False,
                    )
                case "skipped":
                    pass
                case other:
                    raise ValueError(f"outcome: expected end, broken or skipped, got {other!r}")
            names = ("id", "reply", "first", "seconds", "retries", "asked", "expect_held", "question", "digest")
            result = cls(last=last, **{name: values[name] for name in names})
        except KeyError as error:
            raise ValueError(f"expected a result, which has {error}") from None
        shapes = (
            isinstance(result.id, str | int),
            isinstance(result.reply, str),
            isinstance(result.first, int | float | None),
            isinstance(result.seconds, int | float),
            result.asked in (True, False, "maybe"),
            isinstance(result.question, str),
        )
        if not all(shapes):
            raise ValueError("expected a result as `opchat batch` writes it")
        more = {name: values[name] for name in values if name not in _QUESTION_FIELDS | _RESULT_FIELDS}
        return replace(result, more=more)


def to_question(question: BatchQuestion | Mapping[str, Any] | str, number: int) -> BatchQuestion:
    """Make a `BatchQuestion` from any accepted form. Raises `ValueError`, and `TypeError` for another type."""
    if isinstance(question, BatchQuestion):
        return question
    if isinstance(question, str):
        return BatchQuestion(number, question)
    if isinstance(question, Mapping):
        return BatchQuestion.from_dict(question, number)
    raise TypeError(f"question: expected a BatchQuestion, a dict or a str, got {type(question).__name__}")


def read_questions(lines: Iterable[str], *, repeat: int = 1) -> list[BatchQuestion]:
    """Read the questions of a file: NDJSON if the first line is an object, else one question a line.

    Blank lines are skipped. A question without an id gets the number of its line.
    `repeat` repeats all questions that many times; the second time they are "ID#2",
    and so on.

    Raises `ValueError`, which names the line, for a malformed question, a duplicate
    id, a conversation that changes its site or bot, and a history in any but the
    first question of a conversation.
    """
    questions: list[BatchQuestion] = []
    known: dict[QuestionId, int] = {}
    conversations: dict[QuestionId, BatchQuestion] = {}
    is_json: bool | None = None
    for number, line in enumerate(lines, 1):
        line = line.strip()
        if not line:
            continue
        if is_json is None:
            is_json = line.startswith("{")
        try:
            question = to_question(_object(line) if is_json else line, number)
            if question.id in known:
                raise ValueError(f"id {question.id!r} is already on line {known[question.id]}")
            if question.conversation is not None:
                check_turn(question, conversations.setdefault(question.conversation, question))
        except ValueError as error:
            raise ValueError(f"line {number}: {error}") from None
        known[question.id] = number
        questions.append(question)
    again = [_again(question, time) for time in range(2, repeat + 1) for question in questions]
    for question in again:
        if question.id in known:
            raise ValueError(f"line {known[question.id]}: the id {question.id!r} is needed for a repetition")
    return questions + again


def _again(question: BatchQuestion, time: int) -> BatchQuestion:
    conversation = None if question.conversation is None else f"{question.conversation}#{time}"
    return replace(question, id=f"{question.id}#{time}", conversation=conversation)


def check_turn(question: BatchQuestion, first: BatchQuestion) -> None:
    """Raise `ValueError` if a question cannot belong to the conversation that `first` began."""
    if (question.url, question.bot) != (first.url, first.bot):
        raise ValueError(f"conversation {first.conversation!r}: expected one site and one bot for all its questions")
    if question is not first and question.history:
        raise ValueError(f"conversation {first.conversation!r}: only its first question can have messages before it")


def read_results(lines: Iterable[str]) -> dict[QuestionId, Result | str]:
    """Read a result file: for each id its result, or its digest if the run ended before writing a result.

    The last line of an id wins. A final line without newline that is not JSON is
    unfinished, and ignored. Raises `ValueError`, which names the line, for any other.
    """
    found: dict[QuestionId, Result | str] = {}
    for number, line in enumerate(lines, 1):
        try:
            values = _object(line)
            if values.get("state") == "asked":
                found[values["id"]] = str(values.get("digest", ""))
            else:
                result = Result.from_dict(values)
                found[result.id] = result
        except (ValueError, KeyError, TypeError) as error:
            if not line.endswith("\n") and not _is_json(line):
                break
            raise ValueError(f"line {number}: {error}") from None
    return found


def _object(line: str) -> dict[str, Any]:
    try:
        value = json.loads(line, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"not JSON: {error}") from None
    if not isinstance(value, dict):
        raise ValueError(f"expected a JSON object, got {type(value).__name__}")
    return value


def _is_json(line: str) -> bool:
    try:
        _object(line)
    except ValueError:
        return False
    return True


def _no_number(name: str) -> None:
    raise ValueError(f"{name} is not JSON")
