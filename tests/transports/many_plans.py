"""Questions to two sites, and a plan that the tests play in virtual time."""

import math
from collections.abc import Callable, Iterable
from typing import Any

from opchat_proto import Broken, End, Reason
from opchat_transports.many import BatchQuestion
from opchat_transports.many._plan import Answer, Plan, Turn  # not public

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
    """Ask all of them; each answer takes this many seconds. Returns the time at which each was asked."""
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
