"""Files for a site's bots, on all transports."""

import mimetypes
import os
import secrets
from pathlib import Path
from typing import Any

from opchat_proto import Broken, End, Reason, Upload

from ._broken import ReplyBroken

__all__ = ["AsyncUploads", "Uploads"]


class Uploads:
    """Uploads of a transport."""

    def upload(self, file: bytes | str | os.PathLike[str], *, name: str | None = None) -> str:
        """Send a file, and return the id that names it: `ask("What is this?", file_ids=[...])`.

        `file` is a path or the bytes themselves; `name` is the path's own by default, and
        bytes need one. The site keeps the file for an hour, for this transport's
        session. It costs no question, so `retries` may repeat it (WIRE 7.5).

        Raises `ReplyBroken` if the site does not take it, `OSError` for a file that
        cannot be read, `ValueError` for one of more than `Limits.upload_bytes`,
        `RuntimeError` if the transport is closed.
        """
        with _reply(self, file, name) as reply:
            for _ in reply:
                pass
        return _file_id(reply)


class AsyncUploads:
    """The same in async code."""

    async def upload(self, file: bytes | str | os.PathLike[str], *, name: str | None = None) -> str:
        """As `BlockingTransport.upload`: send a file, and return the id that names it.

        A path is read before anything is sent, without letting other tasks run: give the
        bytes where that takes too long. Raises as it does. Cancelled, it leaves no
        connection open; the site may have taken the file.
        """
        async with _reply(self, file, name) as reply:
            async for _ in reply:
                pass
        return _file_id(reply)


def _reply(transport: Any, file: bytes | str | os.PathLike[str], name: str | None) -> Any:
    if isinstance(file, bytes):
        data = file
    else:
        path, most = Path(file), transport._channel.limits.upload_bytes
        with path.open("rb") as opened:
            data, name = opened.read(most + 1), name or path.name
        if len(data) > most:
            raise ValueError(f"file: expected at most {most} bytes (Limits.upload_bytes)")
    if name is None:
        raise TypeError("name: expected one, since bytes have none")
    content_type, _ = mimetypes.guess_type(name)
    upload = Upload(
        name=name,
        data=data,
        content_type=content_type or "application/octet-stream",
        boundary=f"opchat-{secrets.token_hex(16)}",
    )
    return transport._open(transport._new_call(upload))


def _file_id(reply: Any) -> str:
    if isinstance(reply.broken, Broken):
        raise ReplyBroken(reply.broken)
    assert isinstance(reply.end, End)
    kept = reply.end.payload().get("data")
    file_id = kept.get("id") if isinstance(kept, dict) else None
    if isinstance(file_id, bool) or not isinstance(file_id, str | int):  # up to 1.9.94 it is a number
        raise ReplyBroken(Broken(Reason.MALFORMED, "the site took the file and gave no id", raw=reply.end.raw))
    return str(file_id)
