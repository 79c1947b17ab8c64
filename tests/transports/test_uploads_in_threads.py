"""An async `upload` reads a path while other tasks run."""

import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from opchat_transports.testing import Close, Expect, FaultServer, Write, json_object

from .asking import ASKS, Ask
from .peer import PATIENCE

each = pytest.mark.parametrize("ask", [ask for ask in ASKS.values() if ask.run], ids=lambda ask: ask.kind.__name__)
KEPT = Expect("upload"), Write(json_object(success=True, data={"id": "f1"})), Close()


async def opened(path: Path) -> int:
    """Open the writing end of this pipe as soon as someone reads it."""
    while True:
        try:
            return os.open(path, os.O_WRONLY | os.O_NONBLOCK)
        except OSError:
            await anyio.lowlevel.checkpoint()


def run(ask: Ask, main: Callable[[], Awaitable[Any]]) -> None:
    async def patiently() -> None:
        with anyio.fail_after(PATIENCE):
            await main()

    assert ask.run is not None
    ask.run(patiently)


@each
def test_other_tasks_run_while_a_path_is_read(ask: Ask, tmp_path: Path) -> None:
    pipe = tmp_path / "cat.png"
    os.mkfifo(pipe)
    with FaultServer(KEPT) as server:

        async def main() -> None:
            async with ask.kind(server.url) as transport, anyio.create_task_group() as tasks:

                async def write() -> None:
                    end = await opened(pipe)
                    os.write(end, b"\x89PNG")
                    os.close(end)

                tasks.start_soon(write)
                assert await transport.upload(pipe) == "f1"

        run(ask, main)
        assert b'filename="cat.png"\r\nContent-Type: image/png\r\n\r\n\x89PNG\r\n--' in server.requests[-1].body


@each
def test_a_cancelled_upload_does_not_wait_for_the_path(ask: Ask, tmp_path: Path) -> None:
    pipe = tmp_path / "cat.png"
    os.mkfifo(pipe)
    with FaultServer() as server:

        async def main() -> None:
            async with ask.kind(server.url) as transport, anyio.create_task_group() as tasks:
                tasks.start_soon(transport.upload, pipe)
                end = await opened(pipe)  # the thread is reading now
                tasks.cancel_scope.cancel()
            os.close(end)  # the thread ends only now

        run(ask, main)
        assert server.requests == ()


@each
def test_an_unreadable_path_raises(ask: Ask, tmp_path: Path) -> None:
    async def main() -> None:
        async with ask.kind("http://site.example") as transport:
            with pytest.raises(FileNotFoundError):
                await transport.upload(tmp_path / "cat.png")

    run(ask, main)
