"""Markdown that is rendered on a terminal while it grows."""

import re
import sys
from typing import final

from rich.console import Console
from rich.live import Live
from rich.markdown import Markdown

from ._terminal import visible

__all__ = ["GrowingMarkdown"]

_FENCE = re.compile(r"^ {0,3}(?:```|~~~)", re.MULTILINE)


@final
class GrowingMarkdown:
    """Renders what has come so far, anew with each piece.

    What a blank line has ended is printed for good, so that only the last block is
    drawn again and no answer is too long for the screen. Control characters are
    escaped before anything else is done, links are text, HTML is left out.
    """

    def __init__(self) -> None:
        self._console = Console(file=sys.stdout)
        self._text = ""
        self._live: Live | None = None

    def add(self, text: str) -> None:
        """Show this piece as well."""
        self._text += visible(text)
        if self._live is None:
            self._live = Live(console=self._console, auto_refresh=False, transient=False)
            self._live.start()
        done = _finished(self._text)
        if done:
            self._text, block = self._text[done:], self._text[:done]
            self._live.update(_render(self._text))
            self._console.print(_render(block))
            self._console.print()
        else:
            self._live.update(_render(self._text))
        self._live.refresh()

    def close(self) -> None:
        """Leave it as it stands. Idempotent."""
        if self._live is not None:
            self._live.stop()
            self._live = None
            self._text = ""


def _render(text: str) -> Markdown:
    return Markdown(text, hyperlinks=False)


def _finished(text: str) -> int:
    """How much of it ends with a blank line that is not inside fenced code: so much does not change any more."""
    end = 0
    for match in re.finditer(r"\n[ \t]*\n", text):
        if len(_FENCE.findall(text, 0, match.start())) % 2 == 0:
            end = match.end()
    return end
