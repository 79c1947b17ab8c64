"""Make a server's text safe to show: control sequences and hidden characters are escaped."""

import re
from typing import final

__all__ = ["PiecewiseEscaper", "escape", "escape_line"]


def _escaped(code: int) -> str:
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


# Characters that move the cursor, change colours, rename windows or reorder text: C0 except tab and newline, DEL, C1,
# and bidirectional overrides and isolates.
_COMMANDS = {*range(0x20), *range(0x7F, 0xA0), *range(0x202A, 0x202F), *range(0x2066, 0x206A)} - {0x09, 0x0A}
# Characters that a terminal shows as nothing or as a new line. U+200C to U+200F, U+034F and U+061C stay: Arabic,
# Hebrew, Persian and the scripts of India need them.
_INVISIBLE = {0xAD, 0x180E, 0x200B, 0x2028, 0x2029, *range(0x2060, 0x2065), *range(0x206A, 0x2070), 0xFEFF}
_INVISIBLE |= {*range(0xFFF9, 0xFFFC)}

_EVERYWHERE = {code: _escaped(code) for code in _COMMANDS}
_ON_A_TERMINAL = {code: _escaped(code) for code in _COMMANDS | _INVISIBLE}
_NEWLINE = {0x0A: "\\x0a"}

# After a black flag, tags spell the flags of England, Scotland and Wales (UTS 51, 1.4.9): at most six, and an end.
# Anywhere else they are invisible ASCII.
_TAGS = re.compile("\U0001f3f4[\U000e0020-\U000e007e]{0,6}\U000e007f?|[\U000e0000-\U000e007f]")
_OPEN_FLAG = re.compile("\U0001f3f4[\U000e0020-\U000e007e]{0,6}\\Z")


def escape(text: str, *, terminal: bool) -> str:
    """Escape control characters and bidirectional overrides; for a terminal also invisible characters.

    A CR before LF is part of the line end, and removed.
    """
    text = text.replace("\r\n", "\n")
    if not terminal:
        return text.translate(_EVERYWHERE)
    return _TAGS.sub(_escaped_tag, text.translate(_ON_A_TERMINAL))


def escape_line(text: str, *, terminal: bool) -> str:
    """Like `escape`, but also newlines, so that the text cannot look like lines of the command."""
    return escape(text, terminal=terminal).translate(_NEWLINE)


def _escaped_tag(match: re.Match[str]) -> str:
    return match[0] if match[0][0] == "\U0001f3f4" else _escaped(ord(match[0]))


@final
class PiecewiseEscaper:
    """`escape` for a text in pieces. The result does not depend on the cuts."""

    def __init__(self, *, terminal: bool) -> None:
        self._terminal = terminal
        self._carriage_return = ""  # held back, because a newline may follow
        self._flag = ""  # a flag at the end of the last piece

    def add(self, piece: str) -> str:
        """Escape the next piece."""
        piece = self._carriage_return + piece
        self._carriage_return = "\r" if piece.endswith("\r") else ""
        piece = piece.removesuffix("\r")
        escaped = escape(self._flag + piece, terminal=self._terminal)[len(self._flag) :]
        if piece:
            flag = _OPEN_FLAG.search((self._flag + piece)[-8:])
            self._flag = flag[0] if flag else ""
        return escaped

    def finish(self) -> str:
        """Return the rest at the end of the text. Another text may follow."""
        left = escape(self._carriage_return, terminal=self._terminal)
        self._carriage_return = self._flag = ""
        return left
