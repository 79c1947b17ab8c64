"""Files that only their owner may read, written whole or not at all; and conversations in them."""

import json
import os
import tempfile
from contextlib import suppress
from pathlib import Path

from opchat_proto import Conversation

__all__ = ["check_writable", "load", "replace_file", "save", "write_private"]


def save(conversation: Conversation, path: str | os.PathLike[str]) -> None:
    """Keep a conversation in a file, to go on with it later: `load(path)`.

    Only you may read the file, since it holds the session's secrets. It is written
    whole or not at all: JSON, as `Conversation.to_dict` gives it. Raises `OSError`.
    """
    write_private(Path(path), json.dumps(conversation.to_dict(), indent=1) + "\n")


def load(path: str | os.PathLike[str]) -> Conversation:
    """The conversation that `save` has kept.

    Raises `OSError` for a file that cannot be read, `ValueError` for one that holds
    something else.
    """
    text = Path(path).read_text("utf-8")
    try:
        return Conversation.from_dict(json.loads(text))
    except RecursionError:
        raise ValueError("expected a conversation, got JSON that is nested too deeply") from None


def write_private(path: Path, text: str) -> None:
    """Put a file of the user's in its place whole, for nobody else to read. Raises `OSError`, and has changed nothing.

    A symbolic link stays, and the file that it names is replaced. What is no
    regular file, such as a pipe, is written to as it is.
    """
    if path.exists() and not path.is_file():  # before it is resolved, which a pipe at /dev/stdout cannot be
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
        path.stat()  # raises for links that lead to each other, which `resolve` takes for files since CPython 3.13
    return path.resolve()


def replace_file(path: Path, text: str) -> None:
    """Put a file in its place whole, whatever is there, for nobody else to read. Raises `OSError`."""
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name[:32]}.", dir=path.parent)  # mode 0600
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
        os.replace(name, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(name)
        raise
