"""Standard output and error. A server's text is shown, but cannot control the terminal."""

import json
import os
import sys
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, TextIO, final

from ._escaping import PiecewiseEscaper, escape, escape_line
from ._standard_streams import discard

__all__ = ["Output", "OutputClosedError", "drop_output", "is_lively", "is_terminal", "json_line", "say"]


class OutputClosedError(Exception):
    """Standard output is closed."""


def json_line(value: Mapping[str, Any]) -> str:
    """A JSON object on one line of printable ASCII, which is safe on a terminal too."""
    return json.dumps(value, separators=(",", ":")).replace("\x7f", "\\u007f") + "\n"


def is_terminal(stream: TextIO | None) -> bool:
    """Whether the stream is a terminal."""
    return stream is not None and stream.isatty()


def is_lively(stream: TextIO | None) -> bool:
    """Whether this is a terminal that can move its cursor and dim text."""
    return is_terminal(stream) and os.environ.get("TERM") not in (None, "", "dumb")


def say(line: str, *, raw: bool = False) -> None:
    """Print one line on standard error. It may contain a server's text."""
    _tell(f"opchat: {line if raw else escape_line(line, terminal=is_terminal(sys.stderr))}")


def _tell(text: str) -> None:
    if sys.stderr is not None:
        with suppress(OSError):  # standard error is closed
            print(text, file=sys.stderr, flush=True)


@final
class Output:
    """Standard output and error of one command. `raw` prints a server's text unescaped."""

    def __init__(self, *, raw: bool = False) -> None:
        self.raw = raw
        self._escaper = PiecewiseEscaper(terminal=is_terminal(sys.stdout))
        self._at_line_start = True

    def text(self, text: str) -> None:
        """Print a server's text at once."""
        if not self.raw:
            text = self._escaper.add(text)
        if text:
            self._at_line_start = text.endswith("\n")
            self._write(text)

    def end_line(self) -> None:
        """Begin a new line, unless the output is at the beginning of one."""
        text = self._escaper.finish()
        if text or not self._at_line_start:
            self._at_line_start = True
            self._write(f"{text}\n")

    def json(self, value: Mapping[str, Any]) -> None:
        """Print one JSON object on its own line, at once."""
        self._write(json_line(value))

    def say(self, line: str) -> None:
        """Print one line on standard error."""
        say(line, raw=self.raw)

    def notice(self, text: str) -> None:
        """Print the command's own words for the user at the terminal, on standard error."""
        _tell(text)

    def aside(self, kind: str, text: str) -> None:
        """Print text that is not part of the answer: on standard error, dim on a terminal, each line with its kind."""
        if sys.stderr is None:
            return
        if not self.raw:
            on_terminal = is_terminal(sys.stderr)
            kind, text = escape_line(kind, terminal=on_terminal), escape(text, terminal=on_terminal)
        lines = "\n".join(f"[{kind}] {line}".rstrip(" ") for line in text.rstrip(" \n").split("\n"))
        if is_lively(sys.stderr) and not os.environ.get("NO_COLOR"):
            lines = f"\x1b[2m{lines}\x1b[0m"
        if not self._at_line_start and is_terminal(sys.stdout):
            lines = f"\n{lines}"  # both appear on one screen
            self._at_line_start = True
        _tell(lines)

    def _write(self, text: str) -> None:
        if sys.stdout is None:
            return
        try:
            sys.stdout.write(text)
            sys.stdout.flush()
        except OSError as error:
            drop_output()
            if not isinstance(error, BrokenPipeError):
                say(f"the answer cannot be written: {error.strerror}")
            raise OutputClosedError from None


def drop_output() -> None:
    """Drop the buffered output, which would raise again when standard output is closed."""
    discard(sys.stdout)
