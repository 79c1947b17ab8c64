"""Where text goes. What a server has written is shown, and never obeyed by the terminal."""

import json
import os
import sys
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, TextIO, final

__all__ = ["Output", "OutputClosedError", "drop_output", "is_lively", "json_line", "say", "visible"]

# What moves the cursor, colours, renames windows or turns lines around is shown instead of obeyed: C0 but tab and
# newline, DEL, C1, and the bidirectional overrides and isolates. A character at a time, so pieces need not be joined.
_SHOWN = {
    code: f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
    for code in (*range(0x20), *range(0x7F, 0xA0), *range(0x202A, 0x202F), *range(0x2066, 0x206A))
    if chr(code) not in "\t\n"
}


class OutputClosedError(Exception):
    """Standard output takes no more."""


def visible(text: str) -> str:
    """The text with all that would command a terminal escaped."""
    return text.translate(_SHOWN)


def json_line(value: Mapping[str, Any]) -> str:
    """A JSON object on one line of printable ASCII, so that it is safe on a terminal as well."""
    return json.dumps(value, separators=(",", ":")).replace("\x7f", "\\u007f") + "\n"


def is_lively(stream: TextIO | None) -> bool:
    """Whether this is a terminal that can move its cursor and dim text."""
    return stream is not None and stream.isatty() and os.environ.get("TERM") not in (None, "", "dumb")


def say(line: str, *, raw: bool = False) -> None:
    """One line on standard error, which may hold text from a server."""
    if sys.stderr is not None:
        with suppress(OSError):  # nobody listens
            print(f"opchat: {line if raw else visible(line)}", file=sys.stderr, flush=True)


@final
class Output:
    """Standard output and error of one command. `raw` lets a server's text through as it is."""

    def __init__(self, *, raw: bool = False) -> None:
        self.raw = raw
        self._at_line_start = True

    def text(self, text: str) -> None:
        """Print at once what came from a server."""
        if text:
            self._at_line_start = text.endswith("\n")
            self._write(text if self.raw else visible(text))

    def end_line(self) -> None:
        """Begin a new line unless that has just happened."""
        if not self._at_line_start:
            self.text("\n")

    def json(self, value: Mapping[str, Any]) -> None:
        """One JSON object on a line of its own, at once."""
        self._write(json_line(value))

    def say(self, line: str) -> None:
        """One line on standard error."""
        say(line, raw=self.raw)

    def notice(self, text: str) -> None:
        """Words of our own for whoever sits before the terminal, on standard error."""
        if sys.stderr is not None:
            with suppress(OSError):
                print(text, file=sys.stderr, flush=True)

    def aside(self, kind: str, text: str) -> None:
        """What is not part of the answer: on standard error, dim if that is a terminal."""
        if sys.stderr is None:
            return
        line = f"[{kind}] {text}".rstrip(" \n")
        line = line if self.raw else visible(line)
        if is_lively(sys.stderr) and not os.environ.get("NO_COLOR"):
            line = f"\x1b[2m{line}\x1b[0m"
        if not self._at_line_start and sys.stdout is not None and sys.stdout.isatty():
            line = f"\n{line}"  # both are on one screen
        with suppress(OSError):
            print(line, file=sys.stderr, flush=True)

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
    """Let nothing more out: what is left in the buffer would raise again when the interpreter flushes it at the end."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)
