"""The picture: the cost of a response from the wire to its events."""

from tests.benchmarks.tables import Table

_WIDTH, _LEFT, _BAR, _GAP, _TOP = 860, 250, 13, 14, 64
_COLOURS = ("#3b6ea5", "#9db8d2")


def draw(body: Table, wire: Table) -> str:
    """An SVG of both tables. Each column is a bar."""
    parts, y = [], _TOP
    for table, columns in ((body, (0, 1)), (wire, (0, 1))):
        costs = [(title, [row[column] for column in columns]) for title, row in table.rows]
        most = max(cost for _, row in costs for cost in row if isinstance(cost, float))
        legend = " / ".join(table.columns[column] for column in columns)
        parts.append(f'<text x="20" y="{y}" font-weight="bold">{table.title}: {legend}</text>')
        y += 16
        for title, row in costs:
            parts.append(f'<text x="{_LEFT - 8}" y="{y + _BAR + 4}" text-anchor="end">{title}</text>')
            for colour, cost in zip(_COLOURS, row, strict=True):
                if isinstance(cost, float):
                    width = cost / most * (_WIDTH - _LEFT - 90)
                    parts.append(f'<rect x="{_LEFT}" y="{y}" width="{width:.1f}" height="{_BAR}" fill="{colour}"/>')
                    parts.append(f'<text x="{_LEFT + width + 6:.1f}" y="{y + 11}">{cost:,.0f}</text>')
                else:
                    parts.append(f'<text x="{_LEFT + 6}" y="{y + 11}">{cost}</text>')
                y += _BAR
            y += _GAP // 2
        y += 30
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {y}" font-family="sans-serif" font-size="12">'
    )
    title = '<text x="20" y="28" font-size="16">From bytes to events: what one event costs (shorter is better)</text>'
    return "\n".join([head, '<rect width="100%" height="100%" fill="white"/>', title, *parts, "</svg>", ""])
