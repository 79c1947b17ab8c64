"""Store the files that clients upload: `application(bot, files=FileStore("uploads"))`, and the same for `serve`.

Processes that serve one site can share its directory.
"""

import json
import math
import os
import re
import secrets
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias, final

from opchat_proto import UPLOAD_TYPES, Submit

__all__ = ["BotWithFiles", "FileStore", "FileWriter", "StoredFile"]

_ID = re.compile("[0-9a-f]{32}")
_OURS = re.compile(r"[0-9a-f]{32}\.(?:part|data|json)")  # nothing else in the directory is touched
_SMALLEST = 4096  # the minimum that a file counts as, in bytes, so that the number of files is bounded too
_COUNTED_EVERY = 1.0  # seconds; a count reads the whole directory, so it is not made for each file
_PAUSE = 10  # times as long as a count took, before the next one


@final
@dataclass(frozen=True, slots=True)
class StoredFile:
    """A file that a client has uploaded. Its content, name and type are untrusted."""

    file_id: str
    name: str
    """The client's name for the file, without folders."""
    content_type: str
    """The client's content type."""
    size: int
    """The size in bytes."""
    path: Path
    """The path, until the file is deleted."""


BotWithFiles: TypeAlias = Callable[[Submit, tuple[StoredFile, ...]], Any]
"""A bot of any kind, called with a question and its files."""


@final
class FileStore:
    """Uploaded files in a directory. Only the user of this process may read them.

    A file is deleted `keep_seconds` after its arrival, by default an hour, as in the
    plugin. Together the files have at most `total_bytes`. `types` are the extensions of
    the files that are accepted. Anyone who knows a file's random id can fetch it, and
    name it in a question. Thread-safe.

    Raises `OSError` if the directory can be neither used nor created, `ValueError` for
    numbers below 1, endless times and empty types, `TypeError` for types in one str.
    """

    def __init__(
        self,
        directory: str | os.PathLike[str],
        *,
        total_bytes: int = 1024 * 1024 * 1024,
        keep_seconds: float = 3600,
        types: Iterable[str] = UPLOAD_TYPES,
    ) -> None:
        """Create the directory, and delete old files in it."""
        if isinstance(types, str):
            raise TypeError("types: expected several extensions, got one str")  # its characters would become types
        self.types: tuple[str, ...] = tuple(kind.lower().removeprefix(".") for kind in types)
        if not total_bytes >= 1 or not 1 <= keep_seconds < threading.TIMEOUT_MAX or not self.types:  # NaN too
            raise ValueError("expected total_bytes and keep_seconds of at least 1, and at least one of types")
        self._directory = Path(directory).absolute()  # the process may change its directory
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._total_bytes = total_bytes
        self._keep_seconds = keep_seconds
        self._guard = threading.Lock()
        self._timer: threading.Timer | None = None
        self._total = 0  # the bytes of the files when last counted, and those written since
        self._count_at = -math.inf
        self._clean_up()

    def __repr__(self) -> str:
        """The directory."""
        return f"<FileStore in {str(self._directory)!r}>"

    def begin(self, name: str, content_type: str) -> "FileWriter":
        """Begin a new file, to be written piece by piece. Raises `OSError`, also if the store is full."""
        self._claim(_SMALLEST)
        return FileWriter(self, self._directory / secrets.token_hex(16), name, content_type)

    def find(self, file_id: str) -> StoredFile | None:
        """Return the file with this id, or None. Raises `OSError` if it cannot be read."""
        if not _ID.fullmatch(file_id):
            return None
        path = self._directory / f"{file_id}.data"
        try:
            status = path.stat()
            told: dict[str, Any] = json.loads((self._directory / f"{file_id}.json").read_text("utf-8"))
        except FileNotFoundError:
            return None
        if time.time() - status.st_mtime > self._keep_seconds:
            return None
        return StoredFile(file_id, told["name"], told["content_type"], status.st_size, path)

    def find_all(self, file_ids: Iterable[str]) -> tuple[StoredFile, ...] | None:
        """Return the files with these ids, or None if one is missing. Raises the exceptions of `find`."""
        named = tuple(file_ids)
        found = {file_id: self.find(file_id) for file_id in set(named)}  # a question can name a file 29,000 times
        return None if None in found.values() else tuple(file for each in named if (file := found[each]) is not None)

    def purge(self) -> int:
        """Delete old files. Returns how many bytes the remaining ones count as."""
        total, now = 0, time.time()
        for entry in self._entries():
            with suppress(OSError):  # another process does the same, or on Windows a bot is reading the file
                status = entry.stat(follow_symlinks=False)
                if now - status.st_mtime > self._keep_seconds:
                    os.unlink(entry.path)
                elif not entry.name.endswith(".json"):
                    total += max(status.st_size, _SMALLEST)
        return total

    def _claim(self, size: int) -> None:
        """Make room for this many bytes. Raises `OSError`. Files of other processes are seen at the next count."""
        with self._guard:
            now = time.monotonic()
            if now >= self._count_at:
                self._total = self.purge()
                self._count_at = now + max(_COUNTED_EVERY, _PAUSE * (time.monotonic() - now))
            if self._total + size > self._total_bytes:
                raise OSError(None, "the store has no room for this file", str(self._directory))
            self._total += size

    def _remove(self, path: Path, size: int) -> None:
        """Delete a file that counts as this many bytes. Raises `OSError`."""
        with self._guard:
            path.unlink()
            self._total -= size

    def _entries(self) -> "Iterator[os.DirEntry[str]]":
        with os.scandir(self._directory) as entries:
            for entry in entries:
                if _OURS.fullmatch(entry.name):
                    yield entry

    def _clean_up(self) -> None:
        """Delete old files, now and then again for as long as there are files."""
        with self._guard:
            self._timer = None
        with suppress(OSError):  # for example, the directory is gone
            if self.purge():
                self._clean_up_later()

    def _clean_up_later(self) -> None:
        with self._guard:
            if self._timer is None:
                self._timer = threading.Timer(self._keep_seconds + 1, self._clean_up)
                self._timer.daemon = True
                self._timer.start()


@final
class FileWriter:
    """A file being written to a store, made by `FileStore.begin`. `keep` or `discard` ends it."""

    def __init__(self, store: FileStore, path: Path, name: str, content_type: str) -> None:
        """Made by `FileStore`."""
        self._store = store
        self._path = path
        self._told = {"name": name, "content_type": content_type}
        self._size = 0
        self._part = path.with_suffix(".part")
        self._file = open(self._part, "xb", opener=_private)  # noqa: SIM115  # `keep` and `discard` close it

    def write(self, data: bytes) -> None:
        """Write the next bytes. Raises `OSError`, also if the store is full: then `discard` the file."""
        size = self._size + len(data)
        self._store._claim(max(size, _SMALLEST) - max(self._size, _SMALLEST))
        self._file.write(data)
        self._file.flush()  # for the next count
        self._size = size

    def keep(self) -> StoredFile:
        """The file is complete. Raises `OSError`: then `discard` it."""
        self._file.close()
        with open(self._path.with_suffix(".json"), "x", encoding="utf-8", opener=_private) as file:
            json.dump(self._told, file)
        path = self._path.with_suffix(".data")
        self._part.rename(path)
        self._store._clean_up_later()
        return StoredFile(self._path.name, self._told["name"], self._told["content_type"], self._size, path)

    def discard(self) -> None:
        """Delete the file, unless it was kept. Idempotent."""
        with suppress(OSError):
            self._file.close()
        with suppress(OSError):
            self._store._remove(self._part, max(self._size, _SMALLEST))


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
