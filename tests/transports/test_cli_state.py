"""The command's own files: their place, their owner, and several commands at once."""

import json
import os
import stat
import sys
import threading
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from opchat_transports.testing import FaultServer

from .command import ENVIRONMENT, PATIENCE, Terminal, opchat, start
from .peer import Peer, plays
from .wire import LAST, STREAM, end, live, tells


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "state" / "opchat"


def kept(directory: Path) -> Path:
    (file,) = directory.glob("*.json")
    return file


def said(server: FaultServer, index: int = -1) -> list[str]:
    submit = json.loads(server.requests[index].body)
    return [message["content"] for message in submit["messages"]] + [submit["newMessage"]]


# ------------------------------------------------------------------------------------------------ whose files


@pytest.mark.parametrize("command", ["ask", "chat"])
def test_a_symbolic_link_is_not_followed(command: str, directory: Path, tmp_path: Path) -> None:
    with FaultServer(tells("one")) as server:
        opchat("ask", "--url", server.url, "A")
        file, target = kept(directory), tmp_path / "target"
        target.write_text(file.read_text())
        file.unlink()
        file.symlink_to(target)
        result = opchat(command, "--url", server.url, "--continue", *["B"] * (command == "ask"), input="B")
        assert (result.stdout, result.returncode, len(server.requests)) == ("", 2, 2)
        assert f"{file} is a symbolic link" in result.stderr
        before = target.read_text()
        assert opchat(command, "--url", server.url, *["B"] * (command == "ask"), input="B").returncode == 0
    assert target.read_text() == before  # the link itself is replaced
    assert not file.is_symlink()


@pytest.mark.parametrize("command", ["ask", "chat"])
def test_a_named_pipe_is_not_waited_for(command: str, directory: Path) -> None:
    with FaultServer(tells("one")) as server:
        opchat("ask", "--url", server.url, "A")
        file = kept(directory)
        file.unlink()
        os.mkfifo(file)
        result = opchat(command, "--url", server.url, "--continue", *["B"] * (command == "ask"), input="B")
        assert (result.stdout, result.returncode) == ("", 2)
        assert "is not a regular file" in result.stderr
        assert opchat(command, "--url", server.url, *["B"] * (command == "ask"), input="B").returncode == 0
    assert file.is_file()


def test_the_lines_of_chats_are_read_and_written_without_following_links(directory: Path, tmp_path: Path) -> None:
    directory.mkdir(parents=True, mode=0o700)
    (tmp_path / "target").write_text('"from elsewhere"\n')
    (directory / "lines").symlink_to(tmp_path / "target")
    with FaultServer(tells("one")) as server, Terminal("chat", "--url", server.url) as terminal:
        terminal.until("> ")
        terminal.enter("\x1b[AA\r")  # there is no previous line
        terminal.until("one\r\n")
        terminal.until("> ")
        terminal.enter("\x04")
        assert terminal.wait() == 0
    assert said(server) == ["A"]
    assert (tmp_path / "target").read_text() == '"from elsewhere"\n'
    assert (directory / "lines").read_text() == '"A"\n'
    assert stat.S_IMODE((directory / "lines").stat().st_mode) == 0o600


@pytest.mark.parametrize(
    ("mode", "owner", "line"),
    [(0o777, None, "other users may write to"), (0o720, None, "other users may write to"), (0o700, 1, "another user")],
)
def test_a_directory_of_another_user_is_not_used(mode: int, owner: int | None, line: str, directory: Path) -> None:
    if owner is not None and os.geteuid() != 0:
        pytest.skip("only root can make a file of another user's")
    with FaultServer(tells("one")) as server:
        opchat("ask", "--url", server.url, "A")
        before = kept(directory).read_text()
        directory.chmod(mode)
        if owner is not None:
            os.chown(directory, owner, -1)
        result = opchat("ask", "--url", server.url, "--continue", "B")
        assert (result.returncode, line in result.stderr) == (2, True)
        result = opchat("ask", "--url", server.url, "B")
    assert (result.stdout, result.returncode) == ("one\n", 0)
    assert line in result.stderr
    assert "could not be kept" in result.stderr
    assert kept(directory).read_text() == before


def test_a_directory_that_others_can_only_read_is_used(directory: Path) -> None:
    directory.mkdir(parents=True)
    directory.chmod(0o755)
    with FaultServer(tells("one")) as server:
        assert opchat("ask", "--url", server.url, "A").stderr == ""
    assert stat.S_IMODE(kept(directory).stat().st_mode) == 0o600


# ------------------------------------------------------------------------------------------------ several at once


@pytest.mark.parametrize("before", [[], ["A"]])
def test_concurrent_commands_with_continue_wait_for_each_other(before: list[str]) -> None:
    go = threading.Event()

    @plays
    def slow(peer: Peer) -> None:
        assert go.wait(PATIENCE)
        peer.send(STREAM, live("answer"), end("answer"), LAST)

    with FaultServer(*[tells("one") for _ in before], slow, tells("answer")) as server:
        for question in before:
            opchat("ask", "--url", server.url, question)
        first = start("ask", "--continue", "--url", server.url, "B")
        others = []
        with first:
            requests = len(before) + 2
            while len(server.requests) < requests:  # the first one has asked
                os.sched_yield()
            others = [start("ask", "--continue", "--url", server.url, question) for question in ("C", "D")]
            for process in others:
                assert process.stderr is not None
                line = process.stderr.readline()
                assert line == "opchat: another opchat is continuing this conversation; waiting for its answer\n"
            assert len(server.requests) == requests
            go.set()
            for process in (first, *others):
                assert process.wait(PATIENCE) == 0
        for process in others:
            process.__exit__(None, None, None)
    questions = said(server)[::2]
    assert questions[:-2] == [*before, "B"]
    assert sorted(questions[-2:]) == ["C", "D"]


@pytest.mark.parametrize("option", ["", "--no-save"])
def test_no_lock_file_is_left(option: str, directory: Path) -> None:
    with FaultServer(tells("one")) as server:
        opchat("ask", "--url", server.url, "A")
        assert opchat("ask", *option.split(), "--continue", "--url", server.url, "B").returncode == 0
    assert list(directory.iterdir()) == [kept(directory)]


def test_chat_says_that_another_command_has_continued_the_conversation(directory: Path) -> None:
    with FaultServer(tells("one")) as server:
        opchat("ask", "--url", server.url, "A")
        with Terminal("chat", "--continue", "--url", server.url) as terminal:
            terminal.until("> ")
            opchat("ask", "--continue", "--url", server.url, "B")
            terminal.enter("C\r")
            terminal.until("opchat: another opchat has saved this conversation meanwhile")
            terminal.until("> ")
            terminal.enter("D\r")
            shown = terminal.until("> ")
            assert "meanwhile" not in shown
    messages = json.loads(kept(directory).read_text())["messages"]
    assert [message["content"] for message in messages][::2] == ["A", "C", "D"]


# ------------------------------------------------------------------------------------------------ where


def where(monkeypatch: pytest.MonkeyPatch, platform: str, **variables: str) -> Path:
    """Where the command keeps a conversation on a system of this kind."""
    module: Any = ModuleType("platformdirs")
    module.user_state_path = lambda name, appauthor: Path(variables["HOME"], "of the system", name)
    monkeypatch.setitem(sys.modules, "platformdirs", module)
    monkeypatch.setattr(sys, "platform", platform)
    environment = {name: value for name, value in ENVIRONMENT.items() if name != "XDG_STATE_HOME"} | variables
    with FaultServer(tells("one")) as server:
        assert opchat("ask", "--url", server.url, "A", env=environment).stderr == ""
    (file,) = Path(variables["HOME"]).rglob("*.json")
    return file.parent.relative_to(variables["HOME"])


def test_the_state_directory_is_the_systems(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert where(monkeypatch, "linux", HOME=str(tmp_path / "a")) == Path(".local/state/opchat")
    assert where(monkeypatch, "darwin", HOME=str(tmp_path / "b")) == Path("of the system/opchat")
    here = {"HOME": str(tmp_path / "d"), "XDG_STATE_HOME": str(tmp_path / "d" / "xdg")}
    assert where(monkeypatch, "darwin", **here) == Path("xdg/opchat")
    relative = {"HOME": str(tmp_path / "e"), "XDG_STATE_HOME": "relative"}
    assert where(monkeypatch, "linux", **relative) == Path(".local/state/opchat")


def test_a_system_that_needs_a_package_shows_the_pip_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "platformdirs", None)
    monkeypatch.setattr(sys, "platform", "darwin")
    environment = {name: value for name, value in ENVIRONMENT.items() if name != "XDG_STATE_HOME"}
    with FaultServer(tells("one")) as server:
        result = opchat("ask", "--url", server.url, "A", env=environment)
    assert (result.stdout, result.returncode) == ("one\n", 0)
    assert 'platformdirs is missing: pip install "opchat[cli]"' in result.stderr
