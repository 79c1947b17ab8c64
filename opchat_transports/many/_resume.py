"""Which questions are left to ask after a run that ended early. No I/O."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Literal

from opchat_proto import Broken, End, Reason

from ._questions import BatchQuestion, QuestionId, Result

__all__ = ["resume"]


def resume(
    questions: Iterable[BatchQuestion],
    found: Mapping[QuestionId, Result | str],
    again: Literal["maybe", "broken"] | None = None,
) -> tuple[dict[QuestionId, Result], list[Result]]:
    """Return the settled questions among those that `read_results` found, and the results that were not written.

    A question with an `End` is settled. One that did not reach the server is not.
    One that may have been asked is settled unless `again` is "maybe" or "broken";
    one that was asked without an answer, unless it is "broken". A question that was
    begun without an outcome may have been asked; its result is in the second value.

    Raises `ValueError` for a question that has changed since it was asked.
    """
    settled: dict[QuestionId, Result] = {}
    unwritten: list[Result] = []
    for question in questions:
        state = found.get(question.id)
        if state is None:
            continue
        if (state if isinstance(state, str) else state.digest) not in ("", question.digest):
            raise ValueError(f"question {question.id!r} has changed since it was asked: give it another id")
        if isinstance(state, str):
            last = Broken(Reason.LOST, "the run ended before the answer came", asked=True)
            state = Result.of(question, last, asked="maybe")
            unwritten.append(state)
        if isinstance(state.last, End):
            held = None if question.expect is None else question.expect.holds(state.reply)
            settled[question.id] = replace(state, expect_held=held)
        elif state.asked == "maybe":
            if again is None:
                settled[question.id] = state
        elif state.asked and again != "broken":
            settled[question.id] = state
    return settled, unwritten
