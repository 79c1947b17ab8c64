"""The goals, and the measured ratios of one run."""

from collections.abc import Iterable
from typing import TypeAlias

from tests.benchmarks.tables import Table

Bound: TypeAlias = tuple[str, float, float]
"""A measurement: its name, its ratio, and the bound."""

_QUESTION = 1.5
_EVENT = (
    ("opchat: Client", "bare h11", 1.3),
    ("opchat: BlockingTransport", "bare h11", 1.45),
    ("opchat: TrioTransport", "trio's streams with bare h11", 1.1),
    ("opchat: AsyncioTransport", "asyncio's streams with bare h11", 1.1),
    ("opchat: HttpxTransport", "httpx-sse on httpx, async", 1.15),
)
_LOOPS = (
    ("opchat: BlockingTransport", "a raw socket with h11"),
    ("opchat: TrioTransport", "trio's streams with bare h11"),
    ("opchat: AsyncioTransport", "asyncio's streams with bare h11"),
)


def of_events(wire: Table) -> Iterable[Bound]:
    """One event of a slow stream."""
    for name, unit, most in _EVENT:
        if (ratio := wire.ratio(name, unit)) is not None:
            yield f"an event of a slow stream, {name}, beside {unit}", ratio, most


def of_questions(questions: Table) -> Iterable[Bound]:
    """A question over loopback."""
    for name, unit in _LOOPS:
        if (ratio := questions.ratio(name, unit)) is not None:
            yield f"a question, {name}, beside {unit}", ratio, _QUESTION


def of_crowds(medians: dict[str, tuple[float, ...]]) -> Iterable[Bound]:
    """A thousand streams on one loop."""
    for loop in ("trio", "asyncio"):
        (cpu, held, _), (bare, bare_held, _) = medians[f"{loop}, opchat"], medians[f"{loop}, bare h11"]
        yield f"many streams on {loop}: CPU beside bare h11", cpu / bare, 1.35
        yield f"many streams on {loop}: memory of one that waits, beside bare h11", held / bare_held, 1.25
    if "aiohttp" in medians:
        yield "many streams on asyncio: CPU beside aiohttp", medians["asyncio, opchat"][0] / medians["aiohttp"][0], 1


def text(bounds: Iterable[Bound]) -> str:
    """One line for each bound."""
    lines = [
        f"  {'met    ' if ratio <= most else 'not met'}  {what}: {ratio:.2f} x (at most {most:g})"
        for what, ratio, most in bounds
    ]
    return "\n".join(["\nBounds", *lines])
