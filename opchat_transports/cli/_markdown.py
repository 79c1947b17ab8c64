"""Render Markdown on a terminal while it grows."""

import re
import sys
from collections.abc import Iterator, Sequence
from threading import Event, Lock, Thread
from typing import final

from markdown_it.token import Token
from rich.console import Console, ConsoleOptions, RenderResult
from rich.live import Live
from rich.markdown import Markdown
from rich.segment import Segment

from ._escaping import escape

__all__ = ["BlockSplitter", "GrowingMarkdown"]

_REDRAWN = 0.2  # seconds between two redraws
_LARGEST = 4096  # characters of a block that is redrawn as it grows
_LONGEST_FENCE = 80  # characters of a code fence that is repeated in each block of its code
_FENCE = re.compile(r" {0,3}(```+|~~~+)")


@final
class GrowingMarkdown:
    """Renders the text so far, a few times a second at most.

    Finished blocks are printed once, so only the last one is redrawn, and no answer
    is too long for the screen. Links become text, and HTML is removed.
    """

    def __init__(self) -> None:
        self._console = Console(file=sys.stdout)
        self._lock = Lock()  # protects everything below
        self._splitter = BlockSplitter()
        self._finished: list[str] = []
        self._drawn = ""  # the unfinished block on the screen
        self._has_printed = False
        self._live: Live | None = None
        self._over = Event()
        self._drawer = Thread(target=self._draw_now_and_then, daemon=True)

    def add(self, text: str) -> None:
        """Add this piece; it is shown soon."""
        with self._lock:
            self._finished += self._splitter.add(text)
            if self._live is None:
                self._live = Live(console=self._console, auto_refresh=False)
                self._live.start()
                self._draw()
                self._drawer.start()

    def close(self) -> None:
        """Draw the rest, and stop redrawing. Idempotent."""
        if self._live is None:
            return
        self._over.set()
        if self._drawer.is_alive():  # not if Ctrl-C came during the first drawing
            self._drawer.join()
        with self._lock:
            self._draw()
            self._live.stop()
            self._live = None

    def _draw_now_and_then(self) -> None:
        while not self._over.wait(_REDRAWN):
            with self._lock:
                self._draw()

    def _draw(self) -> None:
        assert self._live is not None
        finished, self._finished = self._finished, []
        growing = self._splitter.unfinished
        if not finished and growing == self._drawn:
            return
        if finished:
            self._live.update(_Lines([]))
            for block in finished:
                self._console.print(_Lines(self._render(block)), end="")
                self._has_printed = True
        self._live.update(_Lines(self._render(growing)), refresh=True)
        self._drawn = growing

    def _render(self, block: str) -> list[list[Segment]]:
        """The lines of a block, after a blank line unless it is the first."""
        markdown = Markdown(block, hyperlinks=False)
        _escape(markdown.parsed)
        lines = list(_without_doubled_blanks(self._console.render_lines(markdown, pad=False)))
        return [[], *lines] if lines and self._has_printed else lines


@final
class BlockSplitter:
    """Splits growing Markdown into blocks that end at a blank line or at the largest size.

    A blank line inside fenced code or before an indented line does not end a block.
    """

    def __init__(self) -> None:
        self._lines: list[str] = []  # the complete lines of the current block
        self._line = ""  # the current line so far
        self._size = 0
        self._after_blank = False
        self._fence = ""  # the fence of the code block that is open at the end

    @property
    def unfinished(self) -> str:
        """The block that is still growing."""
        return "".join((*self._lines, self._line))

    def add(self, text: str) -> list[str]:
        """Return the blocks that this piece finishes."""
        finished: list[str] = []
        first, *others = text.split("\n")
        self._add_to_line(first, finished)
        for other in others:
            self._end_line(finished)
            self._add_to_line(other, finished)
        return finished

    def _add_to_line(self, text: str, finished: list[str]) -> None:
        at = 0
        while self._size + len(self._line) + len(text) - at > _LARGEST:
            room = max(_LARGEST - self._size - len(self._line), 0)
            piece = text[at : at + room]
            cut = piece.rfind(" ") + 1 or len(piece)
            self._line += piece[:cut]
            at += cut
            self._finish_full_block(finished)
        self._line += text[at:]

    def _end_line(self, finished: list[str]) -> None:
        line, self._line = f"{self._line}\n", ""
        is_blank = not line.strip()
        if self._after_blank and not is_blank and not self._fence and line[0] not in " \t":
            finished.append("".join(self._lines))
            self._lines, self._size = [], 0
        self._after_blank = is_blank
        self._lines.append(line)
        self._size += len(line)
        fence = _FENCE.match(line)
        if fence and not self._fence:
            self._fence = line
        elif fence and line.strip() == fence[1] and fence[1].startswith(self._fence.strip()[:3]):
            self._fence = ""

    def _finish_full_block(self, finished: list[str]) -> None:
        block = self.unfinished
        self._lines, self._line, self._size = [], "", 0
        if self._fence:
            closing = _FENCE.match(self._fence)
            assert closing is not None
            block = f"{block}\n{closing[1]}\n"
            self._lines, self._size = [self._fence[:_LONGEST_FENCE]], len(self._fence[:_LONGEST_FENCE])
        finished.append(block)


@final
class _Lines:
    """Lines that are already rendered."""

    def __init__(self, lines: list[list[Segment]]) -> None:
        self._lines = lines

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        for line in self._lines:
            yield from line
            yield Segment.line()


def _escape(tokens: Sequence[Token]) -> None:
    """Escape the texts in parsed Markdown, where character references are already decoded."""
    for token in tokens:
        token.content = escape(token.content, terminal=True)
        for name, value in token.attrs.items():
            if isinstance(value, str):
                token.attrs[name] = escape(value, terminal=True)
        _escape(token.children or ())


def _without_doubled_blanks(lines: list[list[Segment]]) -> Iterator[list[Segment]]:
    """Reduce runs of blank lines to one, and drop those at the ends. Code's have a background, and stay."""
    blank_is_due = has_begun = False
    for line in lines:
        if not any(part.text.strip() or (part.style and part.style.bgcolor) for part in line):
            blank_is_due = has_begun
            continue
        if blank_is_due:
            yield []
        blank_is_due, has_begun = False, True
        yield line
