"""Many questions: to one site or to many, side by side, at a pace that the sites can bear.

    async for result in many.ask(["Hi", "Who are you?"], url="https://site.example", rate=30):
        print(result.id, result.outcome, result.reply)

on trio and on asyncio; `on_dask` asks from the workers of a Dask cluster.

    _questions    questions, results, and the lines of the files that hold them
    _resume       what is left to be asked after a run that has ended early; no I/O
    _plan         what is asked when: pace, pauses, conversations, retries; no I/O
    _options      what `ask` takes by keyword
    _run          asks what a plan says, on any event loop
    _trio         the same on trio
    _asyncio      the same on asyncio
    _dask         the same on a Dask cluster; imports `distributed`
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
    """Ask questions side by side, and give the results as they come. In trio, or in asyncio.

    `questions` is any iterable or async iterable, also one without an end: it is
    read as far as questions are asked, and questions are asked as far as results
    are read. Each is a `BatchQuestion`, a dict with the fields of a line for
    `opchat batch`, or a text. One without an id is named by its number, from 1. Ids
    are not compared with each other.

    A site that answers with Retry-After is asked nothing before that time.

    Raises `ValueError` for numbers or an address that cannot be used.
    """
    choices = Choices(options)

    def make_run() -> Run:
        loop = _running_loop()
        asker = TransportAsker(loop, choices.for_sites)
        return Run(choices.plan, questions, loop, asker, lambda: choices.concurrency, choices.before_ask)

    return Results(make_run)


def on_dask(client: "Client", questions: QuestionSource, **options: Unpack[AskOptions]) -> "DaskResults":
    """As `ask`, from the workers of a Dask cluster: `client` is a `distributed.Client` of either kind.

        for result in many.on_dask(client, questions, url="https://site.example"):
            ...

    or `async for`. `concurrency` is that of each worker, and workers may come and
    go. The pace is kept here, for all of them. Needs the extra `dask`, here and on
    the workers, where the options have to be sent to: so there is no `observer` and no
    `ssl_context`.

    A question is submitted at most once, and has exactly one outcome, also when
    workers die: for each that does, at most `concurrency` questions may have been
    asked (`asked` is "maybe").

    Raises as `ask` does, and `ModuleNotFoundError` without `distributed`.
    """
    from ._dask import start_on_dask

    return start_on_dask(client, questions, options)


def _running_loop() -> Loop:
    # Imported here, since a program has one of them, and maybe not the other.
    trio = sys.modules.get("trio")
    if trio is not None and trio.lowlevel.in_trio_task():
        from ._trio import TrioLoop

        return TrioLoop()
    from ._asyncio import AsyncioLoop

    return AsyncioLoop()


for _name in __all__:  # as in opchat_proto
    if isinstance(_public := globals()[_name], type) and _public.__module__.startswith(f"{__name__}."):
        _public.__module__ = __name__
