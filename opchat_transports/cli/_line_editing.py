"""Read lines typed at a terminal, with editing, history, completion and pasting of several lines."""

import json
import os
import re
import select
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from types import TracebackType
from typing import Any, Self, final

from ._store import read_state, write_state
from ._terminal import is_terminal

try:
    import readline
except ModuleNotFoundError:  # on Windows and in some builds
    readline = None  # type: ignore[assignment]  # a missing module

__all__ = ["LineReader", "goes_on"]

_PROMPT = "> "
_MORE_PROMPT = ". "
_LINES_KEPT = 1000
_FILE = "lines"
_PASTED_WITHIN = 0.05  # seconds
_AT_ONCE = 64 * 1024
_WITHOUT_BRACKETS = (
    "",
    "dumb",
    "linux",
    "ansi",
    "cons25",
    "vt52",
    "vt100",
    "vt102",
    "vt220",
)  # terminals that do not mark pasted text


def goes_on(line: str) -> bool:
    r"""Whether the next line continues this one: it ends with an unescaped backslash."""
    return len(line) - len(line.rstrip("\\")) & 1 == 1


@final
class LineReader:
    """Reads questions from a terminal. A context manager, which saves the history for the next chat.

    Tab completes `commands`. With `keep` False no history is read or written.
    """

    def __init__(self, commands: Sequence[str], *, keep: bool) -> None:
        self._commands = commands
        self._keep = keep
        self._typed: list[str] = []
        self._is_edited = readline is not None and is_terminal(sys.stdin) and is_terminal(sys.stdout)
        self._pastes_whole = False
        self._rest = ""  # text after the last line
        if self._is_edited:
            self._set_up()

    @property
    def how(self) -> str:
        """Explains how several lines become one question."""
        if self._pastes_whole:
            return r"Pasted lines are one question. A line that ends with \ continues in the next one."
        return r"Pasted lines are asked as one question. A line that ends with \ continues in the next one."

    def read(self) -> str | None:
        """Return the next question, which may have several lines; None at the end of the input."""
        text = self._line(_PROMPT)
        if text is None:
            return None
        while goes_on(text):
            text = f"{text[:-1]}\n{self._line(_MORE_PROMPT) or ''}"
        is_command = text.startswith("/") and not text.startswith("//")
        while not (self._pastes_whole or is_command) and (self._rest or _more_is_there()):
            line = self._line("")
            if line is None:
                break
            text += f"\n{line}"
        self._remember(text)
        return text

    def _line(self, prompt: str) -> str | None:
        if not self._is_edited:
            return self._plain_line(prompt)
        try:
            return input(prompt)
        except EOFError:
            return None

    def _plain_line(self, prompt: str) -> str | None:
        """Read a line without readline. (`input` would hide the pasted lines that follow in its buffer.)"""
        if sys.stderr is not None:
            print(prompt, end="", file=sys.stderr, flush=True)
        source: Any = sys.stdin.buffer
        try:
            while "\n" not in self._rest:
                data = source.read1(_AT_ONCE)
                if not data:
                    line, self._rest = self._rest, ""
                    return line or None
                self._rest += data.decode(sys.stdin.encoding, "replace").replace("\r\n", "\n")
        except KeyboardInterrupt:
            self._rest = ""
            raise
        line, _, self._rest = self._rest.partition("\n")
        return line

    # ---------------------------------------------------------------- readline

    def _set_up(self) -> None:
        # GNU readline can keep a paste together, but CPython switches that off. libedit cannot.
        is_libedit = getattr(readline, "backend", None) == "editline" or "libedit" in (readline.__doc__ or "")
        if not is_libedit and os.environ.get("TERM", "") not in _WITHOUT_BRACKETS:
            readline.parse_and_bind("set enable-bracketed-paste on")
            version = re.match("[0-9]+", getattr(readline, "_READLINE_LIBRARY_VERSION", ""))
            self._pastes_whole = version is not None and int(version[0]) >= 7
        readline.parse_and_bind("bind ^I rl_complete" if is_libedit else "tab: complete")
        readline.set_completer_delims(" \t\n")
        readline.set_completer(self._complete)
        readline.set_auto_history(False)

    def _complete(self, text: str, state: int) -> str | None:
        at_start = readline.get_begidx() == 0 and text.startswith("/")
        found = [f"{command} " for command in self._commands if at_start and command.startswith(text)]
        return found[state] if state < len(found) else None

    def _remember(self, text: str) -> None:
        if text.strip() and text not in self._typed[-1:]:
            self._typed.append(text)
            if self._is_edited:
                readline.add_history(text)

    def __enter__(self) -> Self:
        """Load the history of earlier chats."""
        if self._is_edited and self._keep:
            readline.clear_history()
            for text in _kept():
                readline.add_history(text)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Save the history, after what other chats saved meanwhile."""
        if self._is_edited:
            readline.set_completer(None)
        if self._is_edited and self._keep and self._typed:
            lines = [json.dumps(text) for text in (*_kept(), *self._typed)]
            with suppress(OSError):
                write_state(_FILE, "".join(f"{line}\n" for line in lines[-_LINES_KEPT:]))


def _kept() -> list[str]:
    """The history of earlier chats, one JSON string a line."""
    found: list[Any] = []
    with suppress(OSError, ValueError, RecursionError):
        found = [json.loads(line) for line in (read_state(_FILE) or "").splitlines()]
    return [text for text in found if isinstance(text, str)]


def _more_is_there() -> bool:
    """Whether the terminal already has more input, as after a paste."""
    if sys.platform == "win32":
        import msvcrt

        time.sleep(_PASTED_WITHIN)  # a Windows console cannot be waited for
        return msvcrt.kbhit()
    import termios

    descriptor = sys.stdin.fileno()
    before = termios.tcgetattr(descriptor)
    # An unfinished line counts too: outside canonical mode the system reports it.
    raw: list[Any] = [*before]
    raw[3] &= ~termios.ICANON
    termios.tcsetattr(descriptor, termios.TCSANOW, raw)
    try:
        return bool(select.select([descriptor], [], [], _PASTED_WITHIN)[0])
    finally:
        termios.tcsetattr(descriptor, termios.TCSANOW, before)
