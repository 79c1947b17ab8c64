"""Read standard input: as part of the question, as lines, or as bytes."""

import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import click

from opchat_proto import Limits

from ._terminal import is_terminal, say
from ._text import NotTextError, TextDecoder, decode_text

__all__ = ["input_lines", "read_input", "stdin_option", "utf8_text", "whole_question"]

_SILENCE = 2.0  # seconds
_AT_ONCE = 64 * 1024

stdin_option = click.option("--no-stdin", is_flag=True, help="Do not read standard input, and do not wait for its end.")
"""The option of commands that call `whole_question`."""


def whole_question(arguments: Sequence[str], limits: Limits, *, no_stdin: bool, has_files: bool = False) -> str:
    """The arguments, followed by standard input. Raises `UsageError` if there is neither.

    With files, an argument may be "", for a question without a text (WIRE 4.7).
    A terminal is read only for the argument "-". A pipe is read to its end, because
    the question may be about what comes last.
    """
    question = utf8_text(" ".join(argument for argument in arguments if argument != "-"))
    wanted = "-" in arguments
    if wanted and no_stdin:
        raise click.UsageError('expected "-" or --no-stdin, not both')
    if wanted or not (no_stdin or sys.stdin is None or is_terminal(sys.stdin)):
        text = _input_text(limits.request_bytes).strip("\n")
        question = f"{question}\n\n{text}" if question and text.strip() else question or text
    if not (question.strip() or (has_files and "" in arguments)):
        empty = '; "" asks with the files alone' if has_files else ""
        raise click.UsageError(f"expected a question, as an argument or on standard input{empty}")
    return question


def utf8_text(argument: str) -> str:
    """An argument of the process as text: bytes that the locale could not decode are surrogates in it."""
    return argument.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def _input_text(most: int) -> str:
    """Standard input as text of at most `most` bytes in UTF-8. Raises `UsageError`."""
    data = read_input(2 * most + 2)  # in UTF-16, plain text takes twice as many
    if len(data) > 2 * most + 2:
        raise click.UsageError(f"standard input: expected at most {most} bytes (--limit-request-bytes allows more)")
    try:
        return decode_text(data)
    except NotTextError as error:
        raise click.UsageError(f"standard input: {error}") from None


def read_input(most: int | None = None) -> bytes:
    """Read standard input to its end, or a little beyond `most` bytes. Raises `UsageError`.

    After two seconds without input, a line says what the command is waiting for.
    """
    source = _binary_input()
    data = bytearray()
    try:
        with _told_when_silent() as came:
            while (most is None or len(data) <= most) and (piece := source.read1(_AT_ONCE)):
                data += piece
                came()
    except OSError as error:
        raise click.UsageError(f"standard input cannot be read: {error.strerror}") from None
    return bytes(data)


def input_lines(most: int) -> Iterator[str]:
    """Yield the lines of standard input as they come, without line ends. Raises `UsageError`.

    A line may have at most `most` characters.
    """
    source, decoder = _binary_input(), TextDecoder()
    begun: list[str] = []  # pieces of a line, joined once
    size, number = 0, 1
    try:
        while True:
            data = source.read1(_AT_ONCE)
            first, *others = decoder.decode(data, final=not data).split("\n")
            begun.append(first)
            size += len(first)
            for line in others:
                yield "".join(begun)
                begun, size, number = [line], len(line), number + 1
            if size > most:
                raise click.UsageError(f"standard input, line {number}: expected at most {most} characters")
            if not data:
                break
    except NotTextError as error:
        raise click.UsageError(f"standard input, line {number}: {error}") from None
    except OSError as error:
        raise click.UsageError(f"standard input cannot be read: {error.strerror}") from None
    if size:
        yield "".join(begun)


def _binary_input() -> Any:
    if sys.stdin is None:
        raise click.UsageError("standard input is closed")
    return sys.stdin.buffer


@contextmanager
def _told_when_silent() -> "Iterator[Any]":
    """Print one line if the function that this yields is not called for two seconds."""
    last = time.monotonic()
    is_over = threading.Event()

    def came() -> None:
        nonlocal last
        last = time.monotonic()

    def watch() -> None:
        while not is_over.wait(max(0.0, last + _SILENCE - time.monotonic())):
            if time.monotonic() >= last + _SILENCE:
                say("waiting for the end of standard input (</dev/null or --no-stdin does not wait)")
                return

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield came
    finally:
        is_over.set()
        watcher.join()
