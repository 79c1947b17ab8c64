"""Private files, written completely or not at all, and conversations in them."""

import json
import os
import tempfile
from contextlib import suppress
from pathlib import Path

from opchat_proto import Conversation

__all__ = ["check_writable", "load", "replace_file", "save", "write_private"]


def save(conversation: Conversation, path: str | os.PathLike[str]) -> None:
    """Save a conversation to a file, to continue it later with `load(path)`.

    Only you can read the file, because it contains the session's secrets. It is
    written completely or not at all, as the JSON of `Conversation.to_dict`. Raises
    `OSError`.
    """
    write_private(Path(path), json.dumps(conversation.to_dict(), indent=1) + "\n")


def load(path: str | os.PathLike[str]) -> Conversation:
    """Return the conversation that `save` wrote.

    Raises `OSError` for a file that cannot be read, `ValueError` for any other
    content.
    """
    text = Path(path).read_text("utf-8")
    try:
        values = json.loads(text)
    except RecursionError:
        raise ValueError("expected a conversation, got JSON that is nested too deeply") from None
    if isinstance(values, dict) and "messages" not in values:  # `from_dict` would make an empty conversation of it
        raise ValueError("expected a conversation, got an object without messages")
    return Conversation.from_dict(values)


def write_private(path: Path, text: str) -> None:
    """Replace a file of the user's atomically, readable only by the user. If it raises `OSError`, nothing has changed.

    A symbolic link stays, and its target is replaced. Anything but a regular file,
    such as a pipe, is written to directly.
    """
    if path.exists() and not path.is_file():  # before resolving, which fails for a pipe at /dev/stdout
        path.write_text(text, "utf-8")
    else:
        replace_file(_resolved(path), text)


def check_writable(path: Path) -> None:
    """Raise the `OSError` that `write_private` would raise, and change nothing."""
    if path.exists() and not path.is_file():
        if path.is_dir():
            path.open("wb")  # raises
    else:
        with tempfile.TemporaryFile(dir=_resolved(path).parent):
            pass


def _resolved(path: Path) -> Path:
    with suppress(FileNotFoundError):
        path.stat()  # raises for a loop of links, which `resolve` accepts since CPython 3.13
    return path.resolve()


def replace_file(path: Path, text: str) -> None:
    """Replace a file atomically, readable only by the user. Raises `OSError`."""
    try:
        descriptor, name = tempfile.mkstemp(prefix=f".{path.name[:32]}.", dir=path.parent)  # mode 0600
    except OSError as error:  # names the temporary file
        raise OSError(error.errno, error.strerror, str(path)) from None
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())  # otherwise a power failure may leave it empty
        os.replace(name, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(name)
        raise
