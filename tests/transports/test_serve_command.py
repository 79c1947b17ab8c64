"""`opchat serve`: bots of any kind, processes, and the small server without uvicorn."""

import json
import re
import signal
import subprocess
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Iterator
from contextlib import contextmanager
from html import unescape
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import anyio
import anyio.lowlevel
import pytest
from click.testing import CliRunner

from opchat_proto import Broken, End, Event, Live, Reason, Submit
from opchat_transports import collect

# Shared by the servers, not public.
from opchat_transports._bot_kinds import (  # how a bot is called and loaded is not public
    Threads,
    as_async,
    as_sync,
    load_bot,
)
from opchat_transports._serving import server_url  # shared by the servers, not public
from opchat_transports.blocking_sockets import BlockingTransport
from opchat_transports.bots import small_talk
from opchat_transports.cli.commands import serve as _serve
from opchat_transports.cli.commands.serve import application_of_command, serve_command
from opchat_transports.uvicorn_protocol import BoundedProtocol

from .command import ENVIRONMENT, Process, opchat_process, start
from .peer import PATIENCE

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
        assert [item async for item in as_async(bot, Threads(2))(HI)] == ["hi", End("done")]
        assert log == ["closed"]
        items = as_async(bot, Threads(2))(HI)
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
def test_a_bots_exception_propagates(bot: Callable[[Submit], Any]) -> None:
    with pytest.raises(LookupError):
        list(as_sync(bot)(HI))

    async def main() -> None:
        with pytest.raises(LookupError):
            await anext(as_async(bot, Threads(2))(HI))

    anyio.run(main)


def test_an_iterator_need_not_be_closable() -> None:
    assert list(as_sync(lambda submit: ["a", Live("b")])(HI)) == ["a", Live("b")]

    async def main() -> None:
        assert [item async for item in as_async(lambda submit: ["a", Live("b")], Threads(1))(HI)] == ["a", Live("b")]

    anyio.run(main)


def test_a_bot_is_loaded_by_its_name() -> None:
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
        ("=opchat_transports.bots", "expected module:callable"),
        ("sales=opchat_transports.bots:nobody", "cannot load opchat_transports.bots:nobody: module"),
    ],
)
def test_a_name_without_a_bot_is_wrong_usage(name: str, words: str) -> None:
    result = CliRunner().invoke(serve_command, ["--port", "0", "--bot", name])
    assert (result.exit_code, words in " ".join(result.output.split())) == (2, True)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("def bot(:", "SyntaxError: invalid syntax (broken.py, line 1)"),
        ("raise SystemExit(3)", "SystemExit: 3"),
        ("import sys; sys.exit()", "SystemExit"),
        ("1 / 0", "ZeroDivisionError: division by zero"),
        (
            "raise BaseExceptionGroup('two', [SystemExit(1)])",
            "BaseExceptionGroup: two (1 sub-exception)",
        ),
        ("raise LookupError('a\\x1b[2J')", "LookupError: a\\x1b[2J"),
        ("import nothing_of_this_name", "No module named 'nothing_of_this_name'"),
    ],
)
def test_a_module_that_cannot_be_imported_is_wrong_usage(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "broken.py").write_text(text)
    done = opchat_process("serve", "--port", "0", "--bot", "broken:bot", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert f"cannot load broken:bot: {words}" in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("bots", [["a:b", "c:d"], ["x=a:b", "c:d"], ["x=a:b", "x=c:d"]])
def test_several_bots_need_different_names(bots: list[str]) -> None:
    result = CliRunner().invoke(serve_command, [argument for bot in bots for argument in ("--bot", bot)])
    told = " ".join(result.output.split())
    assert (result.exit_code, "each of several bots needs a name of its own" in told) == (2, True)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--allowed-host", "a b"], "Site.hosts: expected e.g. site.example"),
        (["--connections", "0"], "--connections"),
        (["--threads", "0"], "--threads"),
        (["--origin", "shop.example"], "Site.origins: expected e.g. https://shop.example"),
        (["--secret", ""], "Site.secret: expected at least one byte"),
        (["--workers", "0"], "--workers"),
    ],
)
def test_a_wrong_option_is_wrong_usage(arguments: list[str], words: str) -> None:
    result = CliRunner().invoke(serve_command, ["--port", "0", *arguments])
    assert (result.exit_code, words in result.output) == (2, True)


def test_several_workers_need_uvicorn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_serve, "find_spec", lambda name: None)
    result = CliRunner().invoke(serve_command, ["--port", "0", "--workers", "2"])
    assert (result.exit_code, "pip install 'opchat[serve]'" in result.output) == (2, True)


def test_a_worker_gets_the_options_of_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    told = {
        "bots": {"sales": "opchat_transports.bots:small_talk"},
        "secret": "00ff",
        "allowed_hosts": ["localhost"],
        "origins": [],
        "title": "Chat",
        "greeting": "",
        "suggestions": [],
        "debug": False,
        "quiet": True,
        "threads": 3,
        "connections": BoundedProtocol.connections_at_most,
    }
    monkeypatch.setenv("OPCHAT_SERVE", json.dumps(told))
    assert repr(application_of_command()) == "<Application sales>"


def test_the_url_of_a_wildcard_address_is_its_loopback_address() -> None:
    assert server_url("0.0.0.0", 80) == "http://127.0.0.1:80"
    assert server_url("::", 80) == "http://[::1]:80"


@contextmanager
def log_of(*arguments: str, code: str, where: Path) -> Iterator[tuple[str, list[str]]]:
    """Like `serving`, and yields the lines that the server wrote to standard error, complete after it has ended."""
    log: list[str] = []
    with serving(*arguments, code=code, where=where, log=log) as url:
        yield url, log


@contextmanager
def serving(*arguments: str, code: str = "", where: Path, log: list[str] | None = None) -> Iterator[str]:
    """Run `opchat serve` in a process and yield its URL. At the end: Ctrl-C and exit code 0."""
    run = f"import sys\n{code}\nfrom opchat_transports.__main__ import main\nsys.exit(main())"
    command = [
        sys.executable,
        "-P",
        "-c",
        run,
        "serve",
        "--port",
        "0",
        *arguments,
    ]  # without "" in its path, as for `opchat`
    with Process(command, stderr=subprocess.PIPE, encoding="utf-8", cwd=where, env=ENVIRONMENT) as process:
        assert process.stderr is not None
        line = process.stderr.readline()
        url = re.search(r"http://127\.0\.0\.1:\d+", line)
        assert url is not None, line + process.stderr.read()
        yield url[0]
        process.send_signal(signal.SIGINT)
        rest = process.stderr.read()
        assert process.wait(PATIENCE) == 0
        if log is not None:
            log += rest.splitlines()


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


@pytest.mark.parametrize("code", ["", NO_UVICORN], ids=["uvicorn", "small"])
def test_the_page_has_the_title_greeting_and_suggestions_of_the_command(tmp_path: Path, code: str) -> None:
    told = ("--title", "Ask <us>", "--greeting", "Hello, **you**", "--suggestion", "How?", "--suggestion", "Why?")
    with serving(*told, code=code, where=tmp_path) as url, urlopen(url, timeout=PATIENCE) as response:
        page = unescape(response.read().decode())
    assert "<title>Ask <us></title>" in page
    assert '"startSentence":"Hello, **you**"' in page
    assert re.findall(r'"message":"([^"]*)"', page) == ["How?", "Why?"]


OWN = ("localhost", "127.0.0.1", "[::1]")


@pytest.mark.parametrize(
    ("host", "allowed", "hosts"),
    [
        ("127.0.0.1", (), OWN),
        ("localhost", (), OWN),
        ("::1", (), OWN),
        ("127.0.0.2", (), (*OWN, "127.0.0.2")),
        ("127.0.0.1", ("Site.example",), (*OWN, "site.example")),
        ("127.0.0.1", ("*",), ()),
        ("0.0.0.0", (), ()),
        ("::", (), ()),
        ("192.0.2.1", (), ()),
        ("0.0.0.0", ("site.example",), ("site.example",)),
        ("0.0.0.0", ("site.example", "*"), ()),
    ],
)
def test_on_loopback_a_site_allows_only_local_names(
    host: str, allowed: tuple[str, ...], hosts: tuple[str, ...]
) -> None:
    assert _serve._hosts(host, allowed) == hosts  # private, since a test cannot listen on every address


def status(url: str, host: str) -> int:
    connection = HTTPConnection(url.removeprefix("http://"), timeout=PATIENCE)
    try:
        connection.request("GET", "/", headers={"Host": host})
        return connection.getresponse().status
    finally:
        connection.close()


@pytest.mark.parametrize("code", ["", NO_UVICORN], ids=["uvicorn", "small"])
def test_the_log_lists_requests_to_allowed_names_and_named_bots(tmp_path: Path, code: str) -> None:
    (tmp_path / "mine.py").write_text(BOT)
    bots = ("--bot", "sales=mine:bot", "--bot", "pid=mine:plain")
    with log_of(*bots, "--allowed-host", "site.example", code=code, where=tmp_path) as (url, log):
        with BlockingTransport(url) as transport:
            answers = [collect(transport.ask(Submit(new_message="Hi", bot_id=name))) for name in ("sales", "pid")]
            with transport.ask("Hi") as reply:
                [broken] = reply
        assert (answers[0], answers[1].isdigit()) == ("Hi from a file", True)
        assert isinstance(broken, Broken)
        assert (broken.reason, broken.detail) == (Reason.REMOTE, "Sorry, your query has been rejected.")
        assert [status(url, host) for host in ("localhost", "SITE.example:1", "evil.example")] == [200, 200, 421]
    lines = [re.findall(r'INFO: 127\.0\.0\.1:\d+ "(.*)" (.*) \d+\.\d+ s$', line) for line in log]
    submit = ("POST /wp-json/mwai-ui/v1/chats/submit", "200")
    # A line is written when its connection ends, and threads may end in any order.
    assert sorted(line[0] for line in lines if line) == sorted(
        [
            ("POST /wp-json/mwai/v1/start_session", "200"),
            *(submit, submit, submit),
            *(("GET /", "200"), ("GET /", "200"), ("GET /", "421")),
        ]
    )


@pytest.mark.parametrize("code", ["", NO_UVICORN], ids=["uvicorn", "small"])
def test_a_quiet_server_logs_only_failures(tmp_path: Path, code: str) -> None:
    (tmp_path / "mine.py").write_text("def bot(submit):\n    raise LookupError('a\\x1b[2J')\n")
    with log_of("--bot", "mine:bot", "--quiet", code=code, where=tmp_path) as (url, log):
        with BlockingTransport(url) as transport, transport.ask("Hi") as reply:
            [broken] = reply
        assert isinstance(broken, Broken)
        assert broken.detail.startswith("Oops!")
    assert re.fullmatch(r"\S+ \S+ ERROR: the bot failed", log[0])
    assert log[-1] == r"    LookupError: a\x1b[2J"
    assert all(line.startswith("    ") for line in log[1:])


@pytest.mark.parametrize("bot", [(), ("--bot", "mine:bot")], ids=["built-in", "a file"])
@pytest.mark.parametrize("workers", ["1", "2"])
def test_installed_modules_precede_the_current_directory(tmp_path: Path, bot: tuple[str, ...], workers: str) -> None:
    (tmp_path / "mine.py").write_text(BOT)
    names = ("uvicorn", "anyio", "h11", "click", "json", "opchat_proto", "resource")
    for name in names:
        (tmp_path / f"{name}.py").write_text(f"open('{name} was imported', 'w').close()")
    with serving(*bot, "--workers", workers, where=tmp_path) as url, BlockingTransport(url, retries=5) as transport:
        assert collect(transport.ask("Hi"))
    assert list(tmp_path.glob("* was imported")) == []


def test_installed_modules_precede_it_even_if_python_puts_it_first(tmp_path: Path) -> None:
    names = ("uvicorn", "anyio", "click")
    for name in names:
        (tmp_path / f"{name}.py").write_text(f"open('{name} was imported', 'w').close()")
    with start("serve", "--port", "0", cwd=tmp_path) as process:
        assert process.stderr is not None
        assert "answers until Ctrl-C" in process.stderr.readline()
    assert list(tmp_path.glob("* was imported")) == []


def test_a_uvicorn_in_the_current_directory_is_ignored(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(BOT)
    (tmp_path / "uvicorn.py").write_text("open('uvicorn was imported', 'w').close()")
    where = site_packages_without(tmp_path, "uvicorn")
    code = f"sys.path[:] = {where!r}"
    with serving("--bot", "mine:bot", code=code, where=tmp_path) as url, BlockingTransport(url) as transport:
        assert collect(transport.ask("Hi")) == "Hi from a file"
    assert list(tmp_path.glob("* was imported")) == []


def site_packages_without(directory: Path, name: str) -> list[str]:
    """The module path of this process, without modules of this name."""
    links = directory / "installed"
    links.mkdir()
    found: list[str] = []
    for place in map(Path, filter(None, sys.path)):
        if place.name == "site-packages":
            for entry in place.iterdir():
                if entry.name != name and not (links / entry.name).exists():
                    (links / entry.name).symlink_to(entry)
        else:
            found.append(str(place))
    return [*found, str(links), str(Path(__file__).parents[2])]


def test_processes_share_a_secret(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(BOT)
    with serving("--bot", "mine:plain", "--workers", "2", where=tmp_path) as url:
        answers = set()
        with BlockingTransport(url, retries=5) as transport:
            for _ in range(20):
                answers.add(collect(transport.ask("Hi")))
        assert 1 <= len(answers) <= 2
