"""`opchat chat`, in a pipe and on a terminal."""

import json
import signal
import stat
import threading
from pathlib import Path
from typing import Any

import pytest

from .command import PATIENCE, Terminal, opchat, start
from .scripted import LAST, STREAM, Peer, Script, Scripted, answers, event, live, tells


def chat(*scripts: Script, lines: str, arguments: tuple[str, ...] = ()) -> Any:
    """A conversation through a pipe. Returns the process and what each submit held."""
    with Scripted(*scripts) as server:
        result = opchat("chat", "--url", server.url, *arguments, input=lines)
    return result, submits(server)


def submits(server: Scripted) -> list[Any]:
    bodies = [request.split(b"\r\n\r\n", 1)[1] for request in server.requests]
    return [json.loads(body) for body in bodies if body]


def said(submit: Any) -> list[str]:
    return [message["content"] for message in submit["messages"]] + [submit["newMessage"]]


# ------------------------------------------------------------------------------------------------ in a pipe


def test_a_conversation_through_a_pipe() -> None:
    result, asked = chat(tells("one"), tells("two"), lines="A\n\n//B\n/history\n/quit\nC\n")
    assert result.stdout == "one\ntwo\nuser: A\nassistant: one\nuser: /B\nassistant: two\n"
    assert (result.stderr, result.returncode) == ("", 0)
    assert [said(submit) for submit in asked] == [["A"], ["A", "one", "/B"]]
    assert asked[0]["chatId"] == asked[1]["chatId"]


def test_one_session_serves_the_conversation() -> None:
    with Scripted(tells("one"), tells("two")) as server:
        opchat("chat", "--url", server.url, input="A\nB\n")
    assert server.routes == ["start_session", "submit", "submit"]


def test_a_broken_answer_leaves_the_conversation_usable() -> None:
    broken = answers(STREAM, live("half"))
    result, asked = chat(tells("one"), broken, tells("two"), lines="A\nB\n/retry\n/history\n")
    assert result.stdout == "one\nhalf\ntwo\nuser: A\nassistant: one\nuser: B\nassistant: two\n"
    assert "the answer broke off" in result.stderr
    assert "/retry asks again" in result.stderr
    assert result.returncode == 0
    assert [said(submit) for submit in asked] == [["A"], ["A", "one", "B"], ["A", "one", "B"]]
    assert len({submit["chatId"] for submit in asked}) == 1


def test_the_exit_code_of_a_pipe_is_that_of_the_last_answer() -> None:
    result, _ = chat(tells("one"), answers(STREAM, event(type="error", data="No.")), lines="A\nB\n")
    assert result.returncode == 8


def test_retry_replaces_a_complete_answer_but_a_broken_one_does_not() -> None:
    result, asked = chat(tells("one"), tells("two"), answers(STREAM), tells("three"), lines="A\n/retry\n/retry\nB\n")
    assert result.stdout == "one\ntwo\nthree\n"
    assert [said(submit) for submit in asked] == [["A"], ["A"], ["A"], ["A", "two", "B"]]


def test_retry_after_continue_asks_the_last_question_again() -> None:
    with Scripted(tells("one"), tells("two")) as server:
        opchat("ask", "--url", server.url, "A")
        opchat("chat", "--url", server.url, "--continue", input="/retry\n/save\n")
        result = opchat("chat", "--url", server.url, input="/retry\n/nonsense\n/help\n/save\n")
    assert [said(submit) for submit in submits(server)] == [["A"], ["A"]]
    assert "there is no question to ask again" in result.stderr
    assert "there is no /nonsense" in result.stderr
    assert "/history" in result.stderr
    assert "expected a file" in result.stderr


def test_save_writes_what_history_reads(tmp_path: Path) -> None:
    file = tmp_path / "saved.json"
    result, _ = chat(tells("one"), lines=f"A\n/save {file}\n/save {tmp_path}/no/where\n")
    assert f"2 messages are in {file}" in result.stderr
    assert "cannot be written" in result.stderr
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    _, asked = chat(tells("two"), lines="B\n", arguments=("--history", str(file)))
    assert said(asked[0]) == ["A", "one", "B"]


def test_chat_is_kept_for_continue_unless_told_otherwise(tmp_path: Path) -> None:
    with Scripted(tells("one"), tells("x"), tells("two")) as server:
        opchat("chat", "--url", server.url, input="A\n")
        opchat("chat", "--url", server.url, "--no-save", input="B\n")
        opchat("ask", "--url", server.url, "--continue", "C")
    assert said(submits(server)[-1]) == ["A", "one", "C"]


def test_a_question_that_is_too_large_is_a_line() -> None:
    result, asked = chat(tells("one"), lines="A\n" + "x" * 3000 + "\n", arguments=("--limit-request-bytes", "2KiB"))
    assert (result.stdout, result.returncode, len(asked)) == ("one\n", 2, 1)
    assert "expected at most 2048 bytes" in result.stderr


def test_ctrl_c_ends_a_chat_in_a_pipe() -> None:
    left = threading.Event()

    def play(peer: Peer) -> None:
        answers(STREAM, live("first"))(peer)
        assert peer.is_left()
        left.set()

    with Scripted(play) as server, start("chat", "--url", server.url, stdin=-1) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write("A\n")
        process.stdin.flush()
        assert process.stdout.read(5) == "first"
        process.send_signal(signal.SIGINT)
        assert left.wait(PATIENCE)
        assert process.wait(PATIENCE) == 130


# ------------------------------------------------------------------------------------------------ on a terminal


def test_lines_are_edited_and_remembered(tmp_path: Path) -> None:
    with Scripted(tells("one"), tells("two"), tells("three")) as server:
        with Terminal("chat", "--url", server.url) as terminal:
            terminal.until("> ")
            terminal.enter("Ad\x7f!\r")  # the backspace is obeyed
            terminal.until("one\r\n")
            terminal.until("> ")
            terminal.enter("\x1b[A?\r")  # the line before, and a letter behind it
            terminal.until("two\r\n")
            terminal.until("> ")
            terminal.enter("\x04")
            assert terminal.wait() == 0
        with Terminal("chat", "--url", server.url) as terminal:
            terminal.until("> ")
            terminal.enter("\x1b[A\r")
            terminal.until("three\r\n")
            terminal.enter("/quit\r")
            assert terminal.wait() == 0
    assert [submit["newMessage"] for submit in submits(server)] == ["A!", "A!?", "A!?"]
    lines = tmp_path / "state" / "opchat" / "lines"
    assert stat.S_IMODE(lines.stat().st_mode) == 0o600


@pytest.mark.parametrize("via", ["blocking", "trio", "asyncio", "httpx"])
def test_ctrl_c_cancels_an_answer_then_a_line_then_the_chat(via: str) -> None:
    left = threading.Event()

    def play(peer: Peer) -> None:
        peer.read()
        peer.send(STREAM, live("first"))
        assert peer.is_left()
        left.set()

    with Scripted(play, tells("second")) as server, Terminal("chat", "--via", via, "--url", server.url) as terminal:
        terminal.until("> ")
        terminal.enter("A\r")
        terminal.until("first")
        terminal.interrupt()
        assert left.wait(PATIENCE)
        terminal.until("> ")
        terminal.enter("abandoned")
        terminal.until("abandoned")
        terminal.interrupt()
        terminal.until("leaves)")
        terminal.until("> ")
        terminal.enter("B\r")
        terminal.until("second")
        terminal.until("> ")
        terminal.interrupt()
        terminal.until("leaves)")
        terminal.until("> ")
        terminal.interrupt()
        assert terminal.wait() == 130
    assert "Traceback" not in terminal.shown
    assert [said(submit) for submit in submits(server)] == [["A"], ["B"]]


def test_the_answer_is_shown_as_it_comes_and_escaped() -> None:
    go = threading.Event()

    def play(peer: Peer) -> None:
        answers(STREAM, live("one \x1b]0;x\x07"))(peer)
        assert go.wait(PATIENCE)
        peer.send(event(type="error", data="No\x9b."), LAST)

    with Scripted(play) as server, Terminal("chat", "--url", server.url) as terminal:
        terminal.until("> ")
        terminal.enter("A\r")
        terminal.until("one \\x1b]0;x\\x07")
        go.set()
        terminal.until("No\\x9b.")
        terminal.until("> ")
        terminal.enter("/quit\r")
        assert terminal.wait() == 0
