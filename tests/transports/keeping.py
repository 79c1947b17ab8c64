"""Our servers with a file store, and a bot that reads files."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from opchat_proto import Submit, Upload
from opchat_transports.blocking_server import serve
from opchat_transports.file_store import FileStore, StoredFile

from .peer import free_port
from .served import started

SERVERS = ["uvicorn", "small"]
CAT = Upload(name="cat.png", data=b"\x89PNG\r\n--" * 200_000, content_type="image/png", boundary="edge")


def bot(submit: Submit, files: tuple[StoredFile, ...]) -> Iterator[str]:
    for file in files:
        data = file.path.read_bytes()
        yield f"{file.name} {file.content_type} {len(data)} {data == CAT.data}\n"


@contextmanager
def serving(kind: str, directory: Path, **options: Any) -> Iterator[str]:
    if kind == "small":
        with serve(bot, files=FileStore(directory), **options) as server:
            yield server.url
        return
    port = free_port()
    arguments = (
        "--port",
        str(port),
        "--files",
        str(directory),
        "--bot",
        f"{__name__}:bot",
        "--quiet",
        "--allowed-host",
        "a",
    )
    with started(port, "-m", "opchat_transports", "serve", *arguments):
        yield f"http://127.0.0.1:{port}"
