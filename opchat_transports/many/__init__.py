"""Many questions, to one site or several, side by side and at a pace that the sites can bear.

    async for result in many.ask(["Hi", "Who are you?"], url="https://site.example", rate=30):
        print(result.id, result.outcome, result.reply)

This works on trio and on asyncio. `on_dask` asks from the workers of a Dask cluster.

    _questions    questions, results, and their lines in files
    _resume       what is left to ask after a run that ended early; no I/O
    _plan         what to ask when: pace, pauses, conversations, retries; no I/O
    _options      the keyword arguments of `ask`
    _run          carries out a plan on any event loop
    _trio         the loop on trio
    _asyncio      the loop on asyncio
    _dask         the loop on a Dask cluster; imports `distributed`
"""

import sys
from typing import TYPE_CHECKING, Unpack

from ._options import AskOptions, Choices
from ._questions import Asked, BatchQuestion, Expectation, QuestionId, Result, read_questions, read_results
from ._resume import resume
from ._run import Loop, QuestionSource, Results, Run, TransportAsker

if TYPE_CHECKING:
    from distributed import Client

    from ._dask import DaskResults

__all__ = [
    "AskOptions",
    "Asked",
    "BatchQuestion",
    "Expectation",
    "QuestionId",
    "QuestionSource",
    "Result",
    "Results",
    "ask",
    "on_dask",
    "read_questions",
    "read_results",
    "resume",
]


def ask(questions: QuestionSource, **options: Unpack[AskOptions]) -> Results:
    """Ask questions side by side, and yield the results as they come. Works on trio and asyncio.

    `questions` is any iterable or async iterable, even an endless one: it is read
    only as fast as questions are asked, and they are asked only as fast as you read
    results. Each question is a `BatchQuestion`, a dict with the fields of a line for
    `opchat batch`, or a text. A question without an id gets its number, from 1.
    Duplicate ids are not detected. A single text or dict is a `TypeError`: its letters
    or keys would be asked.

    After a Retry-After, a site is asked nothing before that time.

    Raises `ValueError` for invalid numbers, addresses and other values, `TypeError` for
    wrong types.
    """
    choices = Choices(questions, options)

    def make_run() -> Run:
        loop = _running_loop()
        asker = TransportAsker(loop, choices.for_sites, choices.for_own_site)
        return Run(choices.plan, questions, loop, asker, lambda: choices.concurrency, choices.before_ask)

    return Results(make_run)


def on_dask(client: "Client", questions: QuestionSource, **options: Unpack[AskOptions]) -> "DaskResults":
    """Like `ask`, from the workers of a Dask cluster: `client` is a `distributed.Client` of either kind.

        for result in many.on_dask(client, questions, url="https://site.example"):
            ...

    or `async for`. `concurrency` is per worker, and workers may come and go. The
    pace is kept here, for all workers. Needs the extra `dask`, here and on the
    workers. The options are sent to the workers, so `observer`, `session` and
    `ssl_context` are not available.

    A question is submitted at most once and has exactly one outcome, even when
    workers die. For each dead worker, at most `concurrency` questions may have been
    asked (`asked` is "maybe").

    Raises the exceptions of `ask`, and `ModuleNotFoundError` without `distributed`.
    """
    from ._dask import start_on_dask

    return start_on_dask(client, questions, options)


def _running_loop() -> Loop:
    # Imported here, because a program may have only one of them.
    trio = sys.modules.get("trio")
    if trio is not None and trio.lowlevel.in_trio_task():
        from ._trio import TrioLoop

        return TrioLoop()
    from ._asyncio import AsyncioLoop

    return AsyncioLoop()


for _name in __all__:  # as in opchat_proto
    if isinstance(_public := globals()[_name], type) and _public.__module__.startswith(f"{__name__}."):
        _public.__module__ = __name__
