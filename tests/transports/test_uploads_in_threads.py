"""Async transports read the paths of files while other tasks run."""

import os
import threading
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from opchat_proto import Broken, Conversation, Event, Reason
from opchat_transports import ReplyBroken
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
def test_neither_the_loop_nor_the_process_waits_for_a_path_that_never_ends(ask: Ask) -> None:
    """Such as a pipe that nobody writes to."""

    class Endless:
        def __fspath__(self) -> str:
            begun.set()
            came_out.append(ended.wait(PATIENCE))
            return "none"

    begun, ended = threading.Event(), threading.Event()
    came_out: list[bool] = []
    before = set(threading.enumerate())

    async def main() -> None:
        async with ask.kind("http://site.example") as transport, anyio.create_task_group() as tasks:
            tasks.start_soon(transport.upload, Endless())
            while not begun.is_set():
                await anyio.lowlevel.checkpoint()
            tasks.cancel_scope.cancel()

    run(ask, main)
    assert came_out == []
    assert [thread for thread in set(threading.enumerate()) - before if not thread.daemon] == []
    ended.set()


@each
def test_other_tasks_run_while_the_files_of_a_question_are_read(ask: Ask, tmp_path: Path) -> None:
    pipe = tmp_path / "cat.png"
    os.mkfifo(pipe)
    refused = Expect("upload"), Write(json_object(status=400, success=False, message="no more")), Close()
    with FaultServer(KEPT, refused) as server:

        async def main() -> None:
            async with ask.kind(server.url) as transport, anyio.create_task_group() as tasks:
                reply = transport.ask("What?", files=[("dog.png", b"dog"), pipe])

                async def write() -> None:
                    end = await opened(pipe)
                    os.write(end, b"\x89PNG")
                    os.close(end)

                tasks.start_soon(write)
                with pytest.raises(ReplyBroken, match=r"file 'cat\.png': no more$"):
                    await reply.text()

        run(ask, main)
        names = [request.body.partition(b'filename="')[2][:7] for request in server.requests]
    assert names == [b"", b"dog.png", b"cat.png"]


@each
@pytest.mark.parametrize("leave", ["cancel", "close"])
def test_leaving_does_not_wait_for_the_files_of_a_question(ask: Ask, leave: str, tmp_path: Path) -> None:
    pipe = tmp_path / "cat.png"
    os.mkfifo(pipe)
    conversation = Conversation()
    events: list[Event] = []
    with FaultServer() as server:

        async def main() -> None:
            async with ask.kind(server.url) as transport, anyio.create_task_group() as tasks:
                reply = transport.ask("What?", conversation, files=[pipe])

                async def read() -> None:
                    events.extend([event async for event in reply])

                tasks.start_soon(read)
                end = await opened(pipe)  # the thread is reading now
                if leave == "cancel":
                    tasks.cancel_scope.cancel()
                else:
                    await reply.aclose()
            os.close(end)  # the thread ends only now
            events.extend([event async for event in reply])

        run(ask, main)
        assert server.requests == ()
    assert events == [Broken(Reason.LOST, "closed by the caller", in_session=True)]
    assert conversation == Conversation(chat_id=conversation.chat_id)


@each
def test_a_closed_reply_reads_no_files(ask: Ask, tmp_path: Path) -> None:
    async def main() -> None:
        async with ask.kind("http://site.example") as transport:
            reply = transport.ask("What?", files=[tmp_path / "cat.png"])
            await reply.aclose()
            [broken] = [event async for event in reply]
            assert broken.detail == "closed by the caller"

    run(ask, main)


@each
def test_an_unreadable_file_of_a_question_raises_and_nothing_is_asked(ask: Ask, tmp_path: Path) -> None:
    conversation = Conversation()

    async def main(url: str) -> None:
        async with ask.kind(url) as transport:
            reply = transport.ask("What?", conversation, files=[tmp_path / "cat.png"])
            with pytest.raises(FileNotFoundError):
                await reply.text()
            assert [event async for event in reply] == [Broken(Reason.LOST, "closed by the caller", in_session=True)]
            assert await transport.ask("And now?", conversation).text() == "Hello, world!"

    with FaultServer() as server:
        run(ask, partial(main, server.url))
        assert [question.new_message for question in server.questions] == ["And now?"]


@each
def test_an_unreadable_path_raises(ask: Ask, tmp_path: Path) -> None:
    async def main() -> None:
        async with ask.kind("http://site.example") as transport:
            with pytest.raises(FileNotFoundError):
                await transport.upload(tmp_path / "cat.png")

    run(ask, main)
