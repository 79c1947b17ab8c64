"""`opchat serve`: bots of any kind, processes, and what is done without uvicorn."""

import re
import signal
import subprocess
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from click.testing import CliRunner

from opchat_proto import End, Event, Live, Submit
from opchat_transports import collect
from opchat_transports._serving import as_async, as_sync, load_bot, server_url  # what the servers share is not public
from opchat_transports.blocking_sockets import BlockingTransport
from opchat_transports.bots import small_talk
from opchat_transports.cli.commands import serve as _serve
from opchat_transports.cli.commands.serve import application_of_command, serve_command

from .command import ENVIRONMENT, Process
from .scripted import PATIENCE

HI = Submit(new_message="hi")
log: list[str] = []


def plain(submit: Submit) -> Iterator[str | Event]:
    try:
        yield submit.new_message
        yield End("done")
    finally:
        log.append("closed")


async def generator(submit: Submit) -> AsyncIterator[str | Event]:
    try:
        await anyio.lowlevel.checkpoint()
        yield submit.new_message
        yield End("done")
    finally:
        await anyio.lowlevel.checkpoint()
        log.append("closed")


async def awaited(submit: Submit) -> AsyncIterator[str | Event]:
    return generator(submit)


class Object:
    def __call__(self, submit: Submit) -> AsyncIterator[str | Event]:
        return generator(submit)


class Asynchronous:
    async def __call__(self, submit: Submit) -> AsyncIterator[str | Event]:
        return generator(submit)


def later(submit: Submit) -> Any:
    return generator(submit)


BOTS: list[Callable[[Submit], Any]] = [plain, generator, awaited, Object(), Asynchronous(), later]


@pytest.fixture(autouse=True)
def fresh_log() -> None:
    log.clear()


@pytest.mark.parametrize("bot", BOTS)
def test_any_bot_can_be_run_in_a_thread(bot: Callable[[Submit], Any]) -> None:
    assert list(as_sync(bot)(HI)) == ["hi", End("done")]
    assert log == ["closed"]
    items = as_sync(bot)(HI)
    assert next(items) == "hi"
    assert isinstance(items, Generator)
    items.close()
    assert log == ["closed", "closed"]


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@pytest.mark.parametrize("bot", BOTS)
def test_any_bot_can_be_run_in_an_event_loop(bot: Callable[[Submit], Any], backend: str) -> None:
    async def main() -> None:
        assert [item async for item in as_async(bot)(HI)] == ["hi", End("done")]
        assert log == ["closed"]
        items = as_async(bot)(HI)
        assert await anext(items) == "hi"
        assert isinstance(items, AsyncGenerator)
        await items.aclose()
        assert log == ["closed", "closed"]

    anyio.run(main, backend=backend)


def fails(submit: Submit) -> Any:
    raise LookupError


async def fails_later(submit: Submit) -> Any:
    raise LookupError


@pytest.mark.parametrize("bot", [fails, fails_later, lambda submit: [].__getitem__(5)])
def test_what_a_bot_raises_is_raised(bot: Callable[[Submit], Any]) -> None:
    with pytest.raises(LookupError):
        list(as_sync(bot)(HI))

    async def main() -> None:
        with pytest.raises(LookupError):
            await anext(as_async(bot)(HI))

    anyio.run(main)


def test_an_iterator_need_not_be_closable() -> None:
    assert list(as_sync(lambda submit: ["a", Live("b")])(HI)) == ["a", Live("b")]

    async def main() -> None:
        assert [item async for item in as_async(lambda submit: ["a", Live("b")])(HI)] == ["a", Live("b")]

    anyio.run(main)


def test_a_bot_is_found_by_its_name() -> None:
    assert load_bot("opchat_transports.bots:small_talk") is small_talk
    assert callable(load_bot("opchat_proto:Submit.from_messages"))


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("", "expected module:callable, got ''"),
        ("opchat_transports.bots", "expected module:callable"),
        (":small_talk", "expected module:callable"),
        ("no_such_module:bot", "cannot load no_such_module:bot: No module named 'no_such_module'"),
        ("opchat_transports.bots:nobody", "cannot load opchat_transports.bots:nobody: module"),
        ("opchat_transports.bots:__all__", "opchat_transports.bots:__all__ is not callable"),
    ],
)
def test_a_name_of_no_bot_is_wrong_usage(name: str, words: str) -> None:
    result = CliRunner().invoke(serve_command, ["--port", "0", "--bot", name])
    assert (result.exit_code, words in " ".join(result.output.split())) == (2, True)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--origin", "shop.example"], "Site.origins: expected e.g. https://shop.example"),
        (["--secret", ""], "Site.secret: expected at least one byte"),
        (["--workers", "0"], "--workers"),
    ],
)
def test_a_wrong_option_is_wrong_usage(arguments: list[str], words: str) -> None:
    result = CliRunner().invoke(serve_command, ["--port", "0", *arguments])
    assert (result.exit_code, words in result.output) == (2, True)


def test_without_uvicorn_there_is_one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_serve, "find_spec", lambda name: None)
    result = CliRunner().invoke(serve_command, ["--port", "0", "--workers", "2"])
    assert (result.exit_code, "pip install 'opchat[serve]'" in result.output) == (2, True)


def test_a_worker_does_as_the_command_was_told(monkeypatch: pytest.MonkeyPatch) -> None:
    told = '{"bot": "opchat_transports.bots:small_talk", "secret": "00ff", "origins": [], "debug": false}'
    monkeypatch.setenv("OPCHAT_SERVE", told)
    assert repr(application_of_command()) == "<Application as_async.<locals>.answer>"


def test_the_address_is_one_that_can_be_asked() -> None:
    assert server_url("0.0.0.0", 80) == "http://127.0.0.1:80"
    assert server_url("::", 80) == "http://[::1]:80"


@contextmanager
def serving(*arguments: str, code: str = "", where: Path) -> Iterator[str]:
    """`opchat serve`, as a process. Gives its URL; at the end Ctrl-C, and exit code 0."""
    run = f"import sys\n{code}\nfrom opchat_transports.__main__ import main\nsys.exit(main())"
    command = [sys.executable, "-c", run, "serve", "--port", "0", *arguments]
    with Process(command, stderr=subprocess.PIPE, encoding="utf-8", cwd=where, env=ENVIRONMENT) as process:
        assert process.stderr is not None
        line = process.stderr.readline()
        url = re.search(r"http://127\.0\.0\.1:\d+", line)
        assert url is not None, line + process.stderr.read()
        yield url[0]
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE) == 0


BOT = """
import os

async def bot(submit):
    yield f"{submit.new_message} "
    yield "from a file"

def plain(submit):
    yield f"{os.getpid()}"
"""
NO_UVICORN = "import opchat_transports.cli.commands.serve as command; command.find_spec = lambda name: None"


@pytest.mark.parametrize("code", ["", NO_UVICORN], ids=["uvicorn", "small"])
@pytest.mark.parametrize("bot", ["bot", "plain"])
def test_a_bot_from_a_file_answers(tmp_path: Path, code: str, bot: str) -> None:
    (tmp_path / "mine.py").write_text(BOT)
    with serving("--bot", f"mine:{bot}", code=code, where=tmp_path) as url, BlockingTransport(url) as transport:
        answer = collect(transport.ask("Hi"))
        assert answer == "Hi from a file" if bot == "bot" else answer.isdigit()


def test_processes_share_a_secret(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(BOT)
    with serving("--bot", "mine:plain", "--workers", "2", where=tmp_path) as url:
        answers = set()
        with BlockingTransport(url, retries=5) as transport:
            for _ in range(20):
                answers.add(collect(transport.ask("Hi")))
        assert 1 <= len(answers) <= 2
