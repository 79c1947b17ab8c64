"""The file of `opchat batch --output`: a line before each question is asked, and one for each result."""

import json
import os
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self, final

import click

from ..many import BatchQuestion, QuestionId, Result, read_results
from ._store import try_lock
from ._terminal import OutputClosedError, json_line, say

__all__ = ["ResultFile", "read_result_file"]


def read_result_file(path: Path) -> dict[QuestionId, Result | str]:
    """Read it with `many.read_results`. Raises `UsageError`, which names the file, and the line."""
    try:
        with path.open(encoding="utf-8", errors="replace", newline="\n") as lines:
            return read_results(lines)
    except OSError as error:
        raise click.UsageError(f"{path}: {error.strerror}") from None
    except ValueError as error:
        raise click.UsageError(f"{path}, {error}") from None


@final
class ResultFile:
    """Appends lines, each flushed at once. An unfinished last line is removed first. Other runs are locked out."""

    def __init__(self, path: Path, size: int) -> None:
        """`size` is the file's when it was read.

        Raises `UsageError` for a file that cannot be written, or that another run writes or
        has written since.
        """
        self._path = path
        self._has_failed = False
        try:
            path.touch()
            self._file = path.open("r+b")
            if path.is_file() and not (try_lock(self._file.fileno()) and self._file.seek(0, os.SEEK_END) == size):
                self._file.close()
                raise click.UsageError(f"--output {path}: another run is writing to it")
            self._seek_end()
        except OSError as error:
            raise click.UsageError(f"--output {path}: {error.strerror}") from None

    def begin(self, question: BatchQuestion) -> None:
        """Write that a question is about to be asked."""
        self._write({"id": question.id, "state": "asked", "digest": question.digest})

    def add(self, result: Result) -> None:
        """Write the result of a question."""
        self._write(result.to_dict())

    def _write(self, values: dict[str, object]) -> None:
        try:
            self._file.write(json_line(values).encode())
            self._file.flush()
        except OSError as error:
            if not self._has_failed:  # other questions may fail here too before the run ends
                say(f"{self._path} cannot be written: {error.strerror}")
            self._has_failed = True
            raise OutputClosedError from None

    def _seek_end(self) -> None:
        size = start = self._file.seek(0, os.SEEK_END)
        tail = b""
        while start > 0 and b"\n" not in tail:
            start = max(0, start - 65536)
            self._file.seek(start)
            tail = self._file.read(size - start)
        last = tail.rpartition(b"\n")[2]
        self._file.seek(size)
        if last:
            try:
                json.loads(last)
            except ValueError:
                self._file.seek(size - len(last))
                self._file.truncate()
            else:
                self._file.write(b"\n")

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Close it."""
        with suppress(OSError):  # every line was flushed, or has already failed
            self._file.close()
