"""Files for a site's bots, on all transports."""

import mimetypes
import os
import secrets
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias

from opchat_proto import Broken, Reason, Upload

from ._broken import ReplyBroken, arun, run

__all__ = ["AsyncUploads", "FileLike", "Uploads", "read_files", "to_upload"]

FileLike: TypeAlias = str | os.PathLike[str] | tuple[str, bytes] | Upload
"""A path, a pair of a name and bytes, or an `Upload`."""


class Uploads:
    """The uploads of a transport."""

    def upload(self, file: FileLike | bytes, *, name: str | None = None) -> str:
        """Send a file, and return its id, for `ask("What is this?", file_ids=[...])`.

        `file` is a path, bytes with a `name`, a pair of a name and bytes, or an `Upload`; a
        `name` replaces the file's own. The site keeps the file for an hour, for this
        transport's session. An upload costs no question, so `retries` may repeat it (WIRE 7.5).

        Raises `ReplyBroken` if the site refuses it, `OSError` for a file that cannot be
        read, `ValueError` for one larger than `Limits.upload_bytes`, `RuntimeError` if
        the transport is closed.
        """
        return _file_id(run(_reply(self, file, name)))


class AsyncUploads:
    """The same in async code."""

    _in_thread: Callable[..., Awaitable[Any]]  # calls a function in a thread, which a cancellation does not wait for

    async def upload(self, file: FileLike | bytes, *, name: str | None = None) -> str:
        """Like `BlockingTransport.upload`: send a file, and return its id.

        A path is read first, in a thread. Raises the same exceptions. If cancelled, its
        connection is closed; the site may have received the file.
        """
        if isinstance(file, str | os.PathLike):
            most = self._channel.limits.upload_bytes  # type: ignore[attr-defined]  # of the transport
            file = await self._in_thread(to_upload, file, most, name)
        return _file_id(await arun(_reply(self, file, name)))


def to_upload(file: FileLike | bytes, most: int, name: str | None = None) -> Upload:
    """Make an `Upload`, reading a path. `name` replaces the name that the file has.

    Raises `OSError`, `ValueError` for more than `most` bytes, `TypeError` for other types.
    """
    if isinstance(file, Upload):
        return file if name is None else replace(file, name=name)
    if isinstance(file, tuple) and len(file) == 2:
        name, data = file[0] if name is None else name, file[1]
    elif isinstance(file, bytes):
        data = file
    elif isinstance(file, str | os.PathLike):
        path = Path(file)
        with path.open("rb") as opened:
            data = opened.read(most + 1)
        if name is None:
            name = os.fsencode(path.name).decode("utf-8", "replace")  # on Linux it may have another encoding
        if len(data) > most:
            raise ValueError(f"file: expected at most {most} bytes (Limits.upload_bytes)")
    else:
        kinds = "a path, bytes, a pair of a name and bytes, or an Upload"
        raise TypeError(f"file: expected {kinds}, got {type(file).__name__}")
    if name is None:
        raise TypeError("name: expected one, since bytes have none")
    content_type, coding = mimetypes.guess_type(name, strict=False)  # which knows WebP everywhere
    return Upload(
        name=name,
        data=data,
        content_type=content_type if content_type and not coding else "application/octet-stream",
        boundary=f"opchat-{secrets.token_hex(16)}",
    )


def read_files(files: Iterable[FileLike], most: int) -> list[Upload]:
    """Read these files. Raises the exceptions of `to_upload`."""
    return [to_upload(file, most) for file in files]


def _reply(transport: Any, file: FileLike | bytes, name: str | None) -> Any:
    upload = to_upload(file, transport._channel.limits.upload_bytes, name)
    return transport._open(transport._new_call(upload))


def _file_id(reply: Any) -> str:
    file_id: str | None = reply.end.file_id
    if file_id is None:
        raise ReplyBroken(Broken(Reason.MALFORMED, "the site accepted the file but returned no id", raw=reply.end.raw))
    return file_id
