"""A table of measurements, as Markdown and as numbers."""

from collections.abc import Sequence


class Table:
    """Rows of costs, one column for each workload. A row without a cost has a text that says why."""

    def __init__(self, title: str, columns: Sequence[str]) -> None:
        self.title = title
        self.columns = list(columns)
        self.rows: list[tuple[str, list[float | str]]] = []

    def add(self, title: str, row: list[float | str]) -> None:
        self.rows.append((title, row))

    def ratio(self, name: str, unit: str) -> float | None:
        """The ratio of two rows in the last column, whatever their versions; None if one of them has no cost."""
        costs = [next((row[-1] for title, row in self.rows if title.startswith(each)), "") for each in (name, unit)]
        return None if isinstance(costs[0], str) or isinstance(costs[1], str) else costs[0] / costs[1]

    def text(self, unit: str) -> str:
        """Markdown. Beside each cost is its ratio to the row `unit`."""
        units = next(row for title, row in self.rows if title == unit)
        return "\n".join(
            [
                f"\n{self.title} (and its ratio to {unit})\n",
                f"| | {' | '.join(self.columns)} |",
                "| --- |" + " ---: |" * len(self.columns),
                *(f"| {title} | {' | '.join(map(_cell, row, units))} |" for title, row in self.rows),
            ]
        )


def _cell(cost: float | str, unit: float | str) -> str:
    if isinstance(cost, str) or isinstance(unit, str):
        return str(cost)
    return f"{cost:,.0f} ({cost / unit:.2f})"
