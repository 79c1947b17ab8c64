"""The question: from the arguments, from standard input, or both."""

import os
import select
import stat
import sys
from collections.abc import Sequence

import click

from opchat_proto import Limits

from ._terminal import say

__all__ = ["utf8_text", "whole_question"]

_FIRST_BYTE_WITHIN = 1.0  # seconds
_AT_ONCE = 64 * 1024


def whole_question(arguments: Sequence[str], limits: Limits) -> str:
    """The arguments, with standard input behind them. Raises `UsageError` if there is neither."""
    text = _join(arguments, limits)
    if not text.strip():
        raise click.UsageError("expected a question, as an argument or on standard input")
    return text


def utf8_text(argument: str) -> str:
    """An argument of the process as text: what the locale did not know is in it as halves of surrogate pairs."""
    return argument.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def _join(arguments: Sequence[str], limits: Limits) -> str:
    question = utf8_text(" ".join(argument for argument in arguments if argument != "-"))
    if sys.stdin is not None and ("-" in arguments or (_brings_input() if question else not sys.stdin.isatty())):
        try:
            piped = _read(limits.request_bytes + 1)  # one byte more is refused
        except OSError as error:
            raise click.UsageError(f"standard input cannot be read: {error.strerror}") from None
        text = piped.decode("utf-8-sig", "replace").strip("\r\n")
        return f"{question}\n\n{text}" if question and text.strip() else question or text
    return question


def _read(most: int) -> bytes:
    """What standard input brings, at most so much. (One `read` would take as much memory as that at once.)"""
    data = bytearray()
    while len(data) < most and (piece := sys.stdin.buffer.read(min(most - len(data), _AT_ONCE))):
        data += piece
    return bytes(data)


def _brings_input() -> bool:
    """Whether to read standard input although there is a question already.

    Programs that start this one often leave it a pipe or a socket of theirs,
    open and silent: reading that would wait forever.
    """
    if sys.stdin.isatty():
        return False
    mode = os.fstat(sys.stdin.fileno()).st_mode
    if not (stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)):
        return True
    try:
        ready, _, _ = select.select([sys.stdin], [], [], _FIRST_BYTE_WITHIN)
    except (OSError, ValueError):  # a system that can only wait for sockets
        return True
    if not ready:
        say('nothing on standard input within a second, so it is not waited for ("-" as an argument waits)')
    return bool(ready)
