"""The command's own private files, which no other user may have touched."""

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

__all__ = ["Store", "read_state", "try_lock", "write_state"]

_RETRIED = 0.1  # seconds between two attempts to lock
_NEVER_WRITTEN = 2**40  # an offset


def read_state(name: str) -> str | None:
    """The text of a state file, or None. Raises `OSError` or `ValueError` if it is not a private file of the user."""
    try:
        directory = _directory()
        _check_directory(directory)
        with os.fdopen(_open(directory / name, os.O_RDONLY), encoding="utf-8") as file:
            return file.read()
    except FileNotFoundError:
        return None


def write_state(name: str, text: str) -> None:
    """Replace a state file atomically. Raises `OSError`."""
    replace_file(_made_directory() / name, text)


def _made_directory() -> Path:
    """The directory, created if needed. Raises `OSError`, also if others may write to it."""
    directory = _directory()
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    _check_directory(directory)
    return directory


def _directory() -> Path:
    """The directory for the state of this user's programs. Raises `OSError` for a user without a home.

    $XDG_STATE_HOME on any system, else ~/.local/state (XDG Base Directory 0.8) or the
    standard place on macOS and Windows.
    """
    given = os.environ.get("XDG_STATE_HOME", "")
    if os.path.isabs(given):  # the specification says to ignore relative paths
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
    """Raise `OSError` if another user could put a file there."""
    status = path.stat()
    if not stat.S_ISDIR(status.st_mode):
        raise NotADirectoryError(f"{path} is not a directory")
    if sys.platform != "win32":
        if {path.lstat().st_uid, status.st_uid} != {os.geteuid()}:
            raise PermissionError(f"{path} belongs to another user")
        if status.st_mode & 0o022:
            raise PermissionError(f"other users may write to {path}")


def _open(path: Path, flags: int) -> int:
    """Open a regular file of this user's: not a link, and nothing that blocks. Raises `OSError`."""
    if path.is_symlink():  # for a clear message; O_NOFOLLOW is what protects
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
        self._is_followed = False  # whether the next conversation was read or written
        self._kept: str | None = None  # the content of the file when it was last read or written

    def load(self) -> Conversation | None:
        """The saved conversation, or None. Raises `ValueError` for a file that cannot be read."""
        where: object = "this user's"
        try:
            where = _directory() / f"{self._name}.json"
            self._kept, self._is_followed = read_state(f"{self._name}.json"), True
            return None if self._kept is None else Conversation.from_dict(json.loads(self._kept))
        except (OSError, ValueError, RecursionError) as error:
            raise ValueError(f"the last conversation, {where}, cannot be read: {error}") from None

    def save(self, conversation: Conversation) -> bool:
        """Save this conversation in place of the last one. Raises `OSError`.

        Returns whether another process has saved one since this process last read or
        wrote it.
        """
        values = conversation.to_dict()
        if self._endpoint is None:
            values["session"] = None  # the built-in bot's session ends with the command
        elif conversation.session is not None and conversation.session.is_member:
            kept = {name: values["session"].get(name) for name in ("session_id", "origin")}
            values["session"] = {**kept, "member": conversation.session.member or ""}  # without credentials
        text = json.dumps(values) + "\n"
        changed = False
        with suppress(OSError, ValueError):
            changed = self._is_followed and read_state(f"{self._name}.json") != self._kept
        write_state(f"{self._name}.json", text)
        self._kept, self._is_followed = text, True
        return changed

    @contextmanager
    def locked(self, busy: Callable[[], None]) -> Iterator[None]:
        """Lock out other commands that continue this conversation. Call `busy` once if that takes time.

        Without lock support it does nothing.
        """
        descriptor, is_told = None, False
        while descriptor is None:
            try:
                path = _made_directory() / f"{self._name}.lock"
                descriptor = _open(path, os.O_RDWR | os.O_CREAT)
            except OSError:
                yield
                return
            if not try_lock(descriptor):
                if not is_told:
                    busy()
                is_told = True
                while not try_lock(descriptor):
                    time.sleep(_RETRIED)  # a blocking lock cannot be interrupted on every system
            if not _is_at(path, descriptor):  # the last holder removed it, and another process may have made a new one
                os.close(descriptor)
                descriptor = None
        try:
            yield
        finally:
            with suppress(OSError):  # Windows does not remove open files
                path.unlink()
            os.close(descriptor)


def _is_at(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except OSError:
        return False


def try_lock(descriptor: int) -> bool:
    """Lock a file until it is closed; False if another one holds the lock. True also if locks are not supported."""
    try:
        if sys.platform == "win32":
            import msvcrt

            os.lseek(descriptor, _NEVER_WRITTEN, os.SEEK_SET)  # nobody else can read what is locked
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    except (ModuleNotFoundError, OSError):
        pass
    return True
