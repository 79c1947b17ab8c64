"""What the command keeps of its own: private files that nobody else may have touched."""

import hashlib
import json
import os
import re
import stat
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import final

from opchat_proto import Conversation, Endpoint

from .._files import replace_file

__all__ = ["Store", "read_state", "write_state"]

_RETRIED = 0.1  # seconds between two attempts to lock


def read_state(name: str) -> str | None:
    """The text of a file of ours, None if there is none. Raises `OSError` or `ValueError` for what is not ours."""
    try:
        directory = _directory()
        _check_directory(directory)
        with os.fdopen(_open(directory / name, os.O_RDONLY), encoding="utf-8") as file:
            return file.read()
    except FileNotFoundError:
        return None


def write_state(name: str, text: str) -> None:
    """Put a file of ours in its place, whole, whatever is there. Raises `OSError`."""
    replace_file(_made_directory() / name, text)


def _made_directory() -> Path:
    """The directory, which is made if need be. Raises `OSError`, also if it is not ours alone."""
    directory = _directory()
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    _check_directory(directory)
    return directory


def _directory() -> Path:
    """Where this user's programs keep their state. Raises `OSError` for a user without a home.

    $XDG_STATE_HOME on any system, else ~/.local/state (XDG Base Directory 0.8) or
    the place that macOS and Windows have for it.
    """
    given = os.environ.get("XDG_STATE_HOME", "")
    if os.path.isabs(given):  # a relative path is to be ignored, says that specification
        return Path(given) / "opchat"
    try:
        if sys.platform == "darwin" or sys.platform == "win32":
            import platformdirs

            return platformdirs.user_state_path("opchat", appauthor=False)
        return Path.home() / ".local" / "state" / "opchat"
    except ModuleNotFoundError:
        raise OSError('platformdirs is missing: pip install "opchat[cli]"') from None
    except RuntimeError as error:
        raise OSError(str(error)) from None


def _check_directory(path: Path) -> None:
    """Raise `OSError` if somebody else could put a file there."""
    status = path.stat()
    if not stat.S_ISDIR(status.st_mode):
        raise NotADirectoryError(f"{path} is not a directory")
    if sys.platform != "win32":
        if {path.lstat().st_uid, status.st_uid} != {os.geteuid()}:
            raise PermissionError(f"{path} belongs to another user")
        if status.st_mode & 0o022:
            raise PermissionError(f"other users may write to {path}")


def _open(path: Path, flags: int) -> int:
    """A regular file of this user's: no link, and nothing that is waited for. Raises `OSError`."""
    if path.is_symlink():  # said in words; O_NOFOLLOW holds
        raise OSError(f"{path} is a symbolic link")
    flags |= getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)
    descriptor = os.open(path, flags, 0o600)
    status = os.fstat(descriptor)
    is_ours = sys.platform == "win32" or status.st_uid == os.geteuid()
    if not stat.S_ISREG(status.st_mode) or not is_ours:
        os.close(descriptor)
        raise OSError(f"{path} is not a regular file of this user's")
    return descriptor


@final
class Store:
    """The last conversation with one bot of one site; without a site, with the built-in bot."""

    def __init__(self, endpoint: Endpoint | None, bot: str) -> None:
        self._endpoint = endpoint
        where = "built-in" if endpoint is None else endpoint.origin + endpoint.root
        digest = hashlib.sha256(f"{where}\n{bot}".encode()).hexdigest()[:16]
        name = "built-in" if endpoint is None else re.sub("[^a-z0-9.-]", "_", endpoint.host)[:64]
        self._name = f"{name}-{digest}"
        self._is_followed = False  # whether the next is known
        self._kept: str | None = None  # what was in the file when it was last read or written

    def load(self) -> Conversation | None:
        """What was kept, None if there is nothing. Raises `ValueError` for a file that cannot be read."""
        where: object = "this user's"
        try:
            where = _directory() / f"{self._name}.json"
            self._kept, self._is_followed = read_state(f"{self._name}.json"), True
            return None if self._kept is None else Conversation.from_dict(json.loads(self._kept))
        except (OSError, ValueError, RecursionError) as error:
            raise ValueError(f"the last conversation, {where}, cannot be read: {error}") from None

    def save(self, conversation: Conversation) -> bool:
        """Keep this conversation in place of the one before. Raises `OSError`.

        Returns whether another process has kept something since this one last read
        or wrote it.
        """
        values = conversation.to_dict()
        if self._endpoint is None:
            values["session"] = None  # the built-in bot's ends with the command
        text = json.dumps(values) + "\n"
        changed = False
        with suppress(OSError, ValueError):
            changed = self._is_followed and read_state(f"{self._name}.json") != self._kept
        write_state(f"{self._name}.json", text)
        self._kept, self._is_followed = text, True
        return changed

    @contextmanager
    def locked(self, busy: Callable[[], None]) -> Iterator[None]:
        """Hold the others off who go on with this conversation; call `busy` once if that takes waiting.

        What cannot be locked is not.
        """
        descriptor, is_told = None, False
        while descriptor is None:
            try:
                path = _made_directory() / f"{self._name}.lock"
                descriptor = _open(path, os.O_RDWR | os.O_CREAT)
            except OSError:
                yield
                return
            if not _lock(descriptor):
                if not is_told:
                    busy()
                is_told = True
                while not _lock(descriptor):
                    time.sleep(_RETRIED)  # a lock that waits could not be interrupted everywhere
            if not _is_at(path, descriptor):  # who held it has removed it: another may have made a new one
                os.close(descriptor)
                descriptor = None
        try:
            yield
        finally:
            with suppress(OSError):  # Windows removes nothing that is open
                path.unlink()
            os.close(descriptor)


def _is_at(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except OSError:
        return False


def _lock(descriptor: int) -> bool:
    """Whether it is locked now, or cannot be."""
    try:
        if sys.platform == "win32":
            import msvcrt

            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    except (ModuleNotFoundError, OSError):
        pass
    return True
