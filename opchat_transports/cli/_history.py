"""Files of messages: read as JSON or NDJSON, written as JSON."""

import json
from pathlib import Path
from typing import Any

import click

from opchat_proto import InvalidMessages, Message, Submit

from .._files import write_private
from ._text import NotTextError, decode_text

__all__ = ["read_messages", "write_messages"]


def read_messages(path: Path) -> tuple[Message, ...]:
    """Read the messages in a file: a JSON array, an object with "messages", or one JSON object a line.

    Raises `UsageError`, which names the file, and the line or the index.
    """
    try:
        text = decode_text(path.read_bytes())
    except (OSError, NotTextError) as error:
        raise click.UsageError(f"--history {path}: {getattr(error, 'strerror', None) or error}") from None
    messages = _parse(path, text)
    try:
        # Checked as the history of an empty question.
        return Submit.from_messages([*messages, {"role": "user", "content": ""}]).messages
    except InvalidMessages as error:
        raise click.UsageError(f"--history {path}: {error}") from None


def _parse(path: Path, text: str) -> list[Any]:
    try:
        whole = json.loads(text)
    except (ValueError, RecursionError):
        return _parse_lines(path, text)
    if isinstance(whole, dict):
        whole = whole.get("messages", [whole])  # or NDJSON with one line
    if not isinstance(whole, list):
        raise click.UsageError(f"--history {path}: expected an array of messages, or one message a line")
    return whole


def _parse_lines(path: Path, text: str) -> list[Any]:
    messages = []
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            try:
                messages.append(json.loads(line))
            except (ValueError, RecursionError) as error:
                raise click.UsageError(f"--history {path}: line {number}: not JSON: {error}") from None
    return messages


def write_messages(path: Path, messages: tuple[Message, ...]) -> None:
    """Write messages as a JSON array that `read_messages` can read. Raises `OSError`."""
    values = [{"role": message.role, "content": message.content} for message in messages]
    write_private(path, json.dumps(values, ensure_ascii=False, indent=1) + "\n")
