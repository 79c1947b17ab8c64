"""`opchat batch --report`: the results of many questions as one self-contained HTML page."""

import html
from collections import Counter
from collections.abc import Iterable, Sequence

from opchat_proto import Broken

from .._broken import broken_line
from ..many import Asked, Result
from ._batch_summary import percentile
from ._escaping import escape

__all__ = ["report_page"]

_SLOWEST = 10
_ASKED: dict[Asked, str] = {True: "yes", False: "no", "maybe": "maybe"}
_BARS = 30
_WIDTH, _HEIGHT = 600, 160
_STYLE = """
body { font: 15px/1.4 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #222 }
table { border-collapse: collapse; width: 100% } td, th { text-align: left; padding: .2rem .6rem; vertical-align: top }
tr:nth-child(even) { background: #f4f4f4 } td { overflow-wrap: anywhere; white-space: pre-wrap }
rect { fill: #3a6ea5 } text { font-size: 12px; fill: #555 } h2 { margin-top: 2rem }
"""
_PAGE = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width"><title>{title}</title><style>{style}</style></head>
<body><h1>{title}</h1>
{body}
</body></html>
"""


def report_page(results: Iterable[Result], title: str) -> str:
    """Return the page. All text from servers and files is escaped."""
    results = list(results)
    ended = [result for result in results if result.outcome == "end"]
    broken = [(result, result.last) for result in results if isinstance(result.last, Broken)]
    unmet = [result for result in results if result.expect_held is False]
    slowest = sorted(ended, key=lambda result: -result.seconds)[:_SLOWEST]
    counts = Counter(result.outcome for result in results)
    reasons = Counter(f"broken: {last.reason.value}" for _, last in broken)
    sections = [
        _section("Outcomes", _table(("outcome", "questions"), [*counts.items(), *reasons.most_common()])),
        _section("Time to the first piece", _histogram([result.first for result in ended if result.first is not None])),
        _section("Time to the whole answer", _histogram([result.seconds for result in ended])),
        _section(
            "The slowest",
            _table(
                ("id", "seconds", "question", "reply"),
                [(result.id, f"{result.seconds:.2f}", result.question, result.reply) for result in slowest],
            ),
        ),
        _section(
            "Broken",
            _table(
                ("id", "asked", "question", "why"),
                [(result.id, _ASKED[result.asked], result.question, broken_line(last)) for result, last in broken],
            ),
        ),
        _section(
            "Expectations that were not met",
            _table(("id", "question", "reply"), [(result.id, result.question, result.reply) for result in unmet]),
        ),
    ]
    return _PAGE.format(title=_escaped(title), style=_STYLE, body="\n".join(sections))


def _section(title: str, body: str) -> str:
    return f"<h2>{_escaped(title)}</h2>\n{body}"


def _table(head: Sequence[object], rows: Sequence[Sequence[object]]) -> str:
    if not rows:
        return "<p>none</p>"
    lines = ["".join(f"<th>{_escaped(cell)}</th>" for cell in head)]
    lines += ["".join(f"<td>{_escaped(cell)}</td>" for cell in row) for row in rows]
    return "<table>\n" + "\n".join(f"<tr>{line}</tr>" for line in lines) + "\n</table>"


def _histogram(seconds: Sequence[float]) -> str:
    """A histogram of durations, with bars of equal width."""
    if not seconds:
        return "<p>none</p>"
    top = max(seconds) or 1.0
    counts = Counter(min(int(value / top * _BARS), _BARS - 1) for value in seconds)
    highest = max(counts.values())
    width = _WIDTH / _BARS
    bars = []
    for index, count in sorted(counts.items()):
        height = _HEIGHT * count / highest
        place = f'x="{index * width:.1f}" y="{_HEIGHT - height:.1f}" width="{width - 1:.1f}" height="{height:.1f}"'
        what = f"{index * top / _BARS:.2f} to {(index + 1) * top / _BARS:.2f} s: {count}"
        bars.append(f"<rect {place}><title>{what}</title></rect>")
    figures = ", ".join(f"p{share} {percentile(seconds, share):.2f} s" for share in (50, 95, 99))
    return (
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT + 20}" width="{_WIDTH}" role="img" aria-label="histogram">\n'
        + "\n".join(bars)
        + f'\n<text x="0" y="{_HEIGHT + 15}">0 s</text>'
        + f'<text x="{_WIDTH}" y="{_HEIGHT + 15}" text-anchor="end">{top:.2f} s</text>\n</svg>\n<p>{figures}</p>'
    )


def _escaped(value: object) -> str:
    return html.escape(escape(str(value), terminal=False))
