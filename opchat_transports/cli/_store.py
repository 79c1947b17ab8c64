"""Conversations between two calls of the command: a private file for each site and bot."""

import hashlib
import json
import os
import re
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import final

from opchat_proto import Conversation, Endpoint

__all__ = ["Store", "check_writable", "state_directory", "write_private"]


def state_directory() -> Path:
    """Where this user's programs keep their state: XDG_STATE_HOME, else ~/.local/state (XDG Base Directory 0.8).

    Raises `OSError` for a user without a home.
    """
    given = os.environ.get("XDG_STATE_HOME", "")
    if os.path.isabs(given):  # a relative path is to be ignored, says that specification
        return Path(given) / "opchat"
    try:
        return Path.home() / ".local" / "state" / "opchat"
    except RuntimeError as error:
        raise OSError(str(error)) from None


def write_private(path: Path, text: str) -> None:
    """Put this file in its place whole, for nobody else to read. Raises `OSError`, and has then changed nothing.

    What is no regular file, such as a pipe, is written to as it is.
    """
    path = path.resolve()
    if path.exists() and not path.is_file():
        path.write_text(text, "utf-8")
        return
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)  # mode 0600
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
        os.replace(name, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(name)
        raise


def check_writable(path: Path) -> None:
    """Raise the `OSError` that `write_private` would raise, and change nothing."""
    path = path.resolve()
    if path.exists() and not path.is_file():
        path.open("wb").close()
    else:
        with tempfile.TemporaryFile(dir=path.parent):
            pass


@final
class Store:
    """The last conversation with one bot of one site; without a site, with the built-in bot."""

    def __init__(self, endpoint: Endpoint | None, bot: str) -> None:
        self._endpoint = endpoint
        where = "built-in" if endpoint is None else endpoint.origin + endpoint.root
        digest = hashlib.sha256(f"{where}\n{bot}".encode()).hexdigest()[:16]
        name = "built-in" if endpoint is None else re.sub("[^a-z0-9.-]", "_", endpoint.host)[:64]
        self._name = f"{name}-{digest}.json"

    @property
    def path(self) -> Path:
        """Where it is kept. Raises `OSError` as `state_directory` does."""
        return state_directory() / self._name

    def load(self) -> Conversation | None:
        """What was kept, None if there is nothing. Raises `ValueError` for a file that cannot be read."""
        where: object = "this user's"
        try:
            where = self.path
            return Conversation.from_dict(json.loads(self.path.read_bytes()))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, RecursionError) as error:
            raise ValueError(f"the last conversation, {where}, cannot be read: {error}") from None

    def save(self, conversation: Conversation) -> None:
        """Keep this conversation in place of the one before. Raises `OSError`."""
        values = conversation.to_dict()
        if self._endpoint is None:
            values["session"] = None  # the built-in bot's ends with the command
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_private(self.path, json.dumps(values) + "\n")
