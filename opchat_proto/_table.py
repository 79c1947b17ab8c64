"""One state machine as one table: the code runs on it, tests walk it, and README.md shows it."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Generic, TypeVar

from ._errors import LocalProtocolError

__all__: list[str] = []

S = TypeVar("S", bound=StrEnum)
G = TypeVar("G", bound=StrEnum)  # the inputs


class Table(Generic[S, G]):
    """The transitions of a machine, as (state, input) -> state.

    A missing pair is an input that the state does not allow. The rows are in
    reading order.
    """

    def __init__(self, name: str, start: tuple[S, ...], rows: Mapping[S, Mapping[G, S]]) -> None:
        self.name = name
        self.start = start
        self.rows = rows

    def next(self, state: S, given: G) -> S:
        """The state after `given` in `state`. Raises `LocalProtocolError` if it is not legal there."""
        try:
            return self.rows[state][given]
        except KeyError:
            raise LocalProtocolError(f"{self.name}: {given} is not legal in state {state}") from None

    def mermaid(self) -> str:
        """The table as a Mermaid state diagram, one arrow for each pair of states."""
        lines = ["stateDiagram-v2"]
        lines += [f"    [*] --> {state}" for state in self.start]
        for state, row in self.rows.items():
            arrows: dict[S, list[str]] = {}
            for given, target in row.items():
                arrows.setdefault(target, []).append(given)
            lines += [f"    {state} --> {target}: {', '.join(given)}" for target, given in arrows.items()]
            if not row:
                lines.append(f"    {state} --> [*]")
        return "\n".join(lines)
