"""Figures about many questions: the progress bar during a run, and the summary at its end."""

import math
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager

from opchat_proto import Broken

from ..many import Result

__all__ = ["count_outcomes", "percentile", "progress_bar", "summary_lines"]


def summary_lines(results: Iterable[Result], total: int) -> list[str]:
    """The lines of the summary of these results, of `total` questions."""
    results = list(results)
    reasons = Counter(result.last.reason.value for result in results if isinstance(result.last, Broken))
    line = f"{len(results)} of {total} questions: {count_outcomes(results)}"
    if reasons:
        line += f" ({', '.join(f'{count} {reason}' for reason, count in reasons.most_common())})"
    if maybe := sum(result.asked == "maybe" for result in results):
        line += f"; {maybe} may have been asked"
    if failed := sum(result.expect_held is False for result in results):
        line += f"; {failed} expectation{'s' * (failed > 1)} not met"
    lines = [line]
    ended = [result for result in results if result.outcome == "end"]
    for what, values in (
        ("first piece", [result.first for result in ended if result.first is not None]),
        ("whole answer", [result.seconds for result in ended]),
    ):
        if values:
            figures = (f"p{share} {percentile(values, share):.2f} s" for share in (50, 95, 99))
            lines.append(f"{what}: {', '.join(figures)}")
    return lines


def count_outcomes(results: Iterable[Result]) -> str:
    """The number of each outcome: "3 end, 1 broken"."""
    counts = Counter(result.outcome for result in results)
    return ", ".join(f"{counts[outcome]} {outcome}" for outcome in ("end", "broken", "skipped") if counts[outcome])


def percentile(values: Sequence[float], share: float) -> float:
    """The percentile by the nearest-rank method: `share` percent of the values do not exceed it."""
    return sorted(values)[max(0, math.ceil(len(values) * share / 100) - 1)]


@contextmanager
def progress_bar(total: int) -> Iterator[Callable[[Result], None]]:
    """A bar on standard error: the number done, by outcome, the pace, and the time left."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    counts: Counter[str] = Counter()
    columns = (
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[outcomes]}"),
        TextColumn("{task.fields[pace]}"),
        TimeRemainingColumn(),
    )
    console = Console(file=sys.stderr)
    with Progress(*columns, console=console, redirect_stdout=False, redirect_stderr=False, transient=True) as progress:
        task = progress.add_task("", total=total, outcomes="", pace="")

        def add(result: Result) -> None:
            counts[result.outcome] += 1
            outcomes = ", ".join(f"{count} {outcome}" for outcome, count in sorted(counts.items(), reverse=True))
            speed = progress.tasks[0].speed
            progress.update(task, advance=1, outcomes=outcomes, pace=f"{speed * 60:.0f}/min" if speed else "")

        yield add
