"""`opchat chat`, in a pipe and on a terminal."""

import json
import signal
import stat
import threading
from pathlib import Path
from typing import Any

import pytest

from opchat_transports.testing import FaultServer, Script

from .command import ENVIRONMENT, PATIENCE, Terminal, opchat, start
from .peer import Peer, plays
from .wire import LAST, STREAM, answers, end, event, live, tells


def chat(*scripts: Script, lines: str, arguments: tuple[str, ...] = ()) -> Any:
    """Hold a conversation through a pipe. Returns the process and the body of each submit."""
    with FaultServer(*scripts) as server:
        result = opchat("chat", "--url", server.url, *arguments, input=lines)
    return result, submits(server)


def submits(server: FaultServer) -> list[Any]:
    bodies = [request.body for request in server.requests]
    return [json.loads(body) for body in bodies if body]


def said(submit: Any) -> list[str]:
    return [message["content"] for message in submit["messages"]] + [submit["newMessage"]]


# ------------------------------------------------------------------------------------------------ in a pipe


def test_a_pipe_asks_one_question_per_line() -> None:
    result, asked = chat(tells("one"), tells("two"), lines="A\n\n//B\n/history\n/quit\nC\n")
    assert result.stdout == "one\ntwo\nuser: A\nassistant: one\nuser: /B\nassistant: two\n"
    assert (result.stderr, result.returncode) == ("", 0)
    assert [said(submit) for submit in asked] == [["A"], ["A", "one", "/B"]]
    assert asked[0]["chatId"] == asked[1]["chatId"]


def test_one_session_serves_the_conversation() -> None:
    with FaultServer(tells("one"), tells("two")) as server:
        opchat("chat", "--url", server.url, input="A\nB\n")
    assert server.routes == ("start_session", "submit", "submit")


def test_a_broken_answer_leaves_the_conversation_usable() -> None:
    broken = answers(STREAM, live("half"))
    result, asked = chat(tells("one"), broken, tells("two"), lines="A\nB\n/retry\n/history\n")
    assert result.stdout == "one\nhalf\ntwo\nuser: A\nassistant: one\nuser: B\nassistant: two\n"
    assert "the answer was cut off" in result.stderr
    assert "/retry asks again" in result.stderr
    assert result.returncode == 0
    assert [said(submit) for submit in asked] == [["A"], ["A", "one", "B"], ["A", "one", "B"]]
    assert len({submit["chatId"] for submit in asked}) == 1


def test_the_exit_code_in_a_pipe_is_the_last_answers() -> None:
    result, _ = chat(tells("one"), answers(STREAM, event(type="error", data="No.")), lines="A\nB\n")
    assert result.returncode == 8


def test_retry_replaces_a_complete_answer_but_a_broken_one_does_not() -> None:
    result, asked = chat(tells("one"), tells("two"), answers(STREAM), tells("three"), lines="A\n/retry\n/retry\nB\n")
    assert result.stdout == "one\ntwo\nthree\n"
    assert [said(submit) for submit in asked] == [["A"], ["A"], ["A"], ["A", "two", "B"]]


def test_retry_after_continue_asks_the_last_question_again() -> None:
    with FaultServer(tells("one"), tells("two")) as server:
        opchat("ask", "--url", server.url, "A")
        opchat("chat", "--url", server.url, "--continue", input="/retry\n/save\n")
        result = opchat("chat", "--url", server.url, input="/retry\n/nonsense\n/help\n/save\n")
    assert [said(submit) for submit in submits(server)] == [["A"], ["A"]]
    assert "there is no question to ask again" in result.stderr
    assert "there is no /nonsense" in result.stderr
    assert "/history" in result.stderr
    assert "expected a file" in result.stderr


def test_history_reads_what_save_has_written(tmp_path: Path) -> None:
    file = tmp_path / "saved.json"
    result, _ = chat(tells("one"), lines=f"A\n/save {file}\n/save {tmp_path}/no/where\n")
    assert f"2 messages are in {file}" in result.stderr
    assert "cannot be written" in result.stderr
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    _, asked = chat(tells("two"), lines="B\n", arguments=("--history", str(file)))
    assert said(asked[0]) == ["A", "one", "B"]


def test_a_chat_is_saved_for_continue_unless_told_otherwise(tmp_path: Path) -> None:
    with FaultServer(tells("one"), tells("x"), tells("two")) as server:
        opchat("chat", "--url", server.url, input="A\n")
        opchat("chat", "--url", server.url, "--no-save", input="B\n")
        opchat("ask", "--url", server.url, "--continue", "C")
    assert said(submits(server)[-1]) == ["A", "one", "C"]


def test_a_question_that_is_too_large_gives_one_line() -> None:
    result, asked = chat(tells("one"), lines="A\n" + "x" * 3000 + "\n", arguments=("--limit-request-bytes", "2KiB"))
    assert (result.stdout, result.returncode, len(asked)) == ("one\n", 2, 1)
    assert "expected at most 2048 bytes" in result.stderr


def test_ctrl_c_ends_a_chat_in_a_pipe() -> None:
    left = threading.Event()

    @plays
    def play(peer: Peer) -> None:
        peer.send(STREAM, live("first"))
        assert peer.is_left()
        left.set()

    with FaultServer(play) as server, start("chat", "--url", server.url, stdin=-1) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write("A\n")
        process.stdin.flush()
        assert process.stdout.read(5) == "first"
        process.send_signal(signal.SIGINT)
        assert left.wait(PATIENCE)
        assert process.wait(PATIENCE) == 130


# ------------------------------------------------------------------------------------------------ on a terminal


def test_lines_can_be_edited_and_are_remembered(tmp_path: Path) -> None:
    with FaultServer(tells("one"), tells("two"), tells("three")) as server:
        with Terminal("chat", "--url", server.url) as terminal:
            terminal.until("> ")
            terminal.enter("Ad\x7f!\r")  # the backspace works
            terminal.until("one\r\n")
            terminal.until("> ")
            terminal.enter("\x1b[A?\r")  # the previous line, and one more letter
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

    @plays
    def play(peer: Peer) -> None:
        peer.send(STREAM, live("first"))
        assert peer.is_left()
        left.set()

    with FaultServer(play, tells("second")) as server, Terminal("chat", "--via", via, "--url", server.url) as terminal:
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


def test_the_answer_is_shown_as_it_arrives_and_escaped() -> None:
    go = threading.Event()

    @plays
    def play(peer: Peer) -> None:
        peer.send(STREAM, live("one \x1b]0;x\x07"))
        assert go.wait(PATIENCE)
        peer.send(event(type="error", data="No\x9b."), LAST)

    with FaultServer(play) as server, Terminal("chat", "--url", server.url) as terminal:
        terminal.until("> ")
        terminal.enter("A\r")
        terminal.until("one \\x1b]0;x\\x07")
        go.set()
        terminal.until("No\\x9b.")
        terminal.until("> ")
        terminal.enter("/quit\r")
        assert terminal.wait() == 0


# ------------------------------------------------------------------------------------------------ several lines


def no_readline(directory: Path) -> dict[str, str]:
    """An environment whose Python has no readline."""
    (directory / "readline.py").write_text("raise ModuleNotFoundError('No module named readline', name='readline')")
    return {"PYTHONPATH": str(directory)}


def like_libedit(directory: Path) -> dict[str, str]:
    """An environment whose Python reports its readline as libedit."""
    (directory / "sitecustomize.py").write_text("import readline; readline.backend = 'editline'")
    return {"PYTHONPATH": str(directory)}


PASTED = "\x1b[200~one\rtwo\r/three\x1b[201~"


def questions(server: FaultServer) -> list[str]:
    return [submit["newMessage"] for submit in submits(server)]


def test_pasted_lines_are_one_question_with_gnu_readline() -> None:
    with FaultServer(tells("a")) as server, Terminal("chat", "--url", server.url) as terminal:
        assert "Pasted lines are one question" in terminal.until("> ")
        assert "\x1b[?2004h" in terminal.shown
        terminal.enter(PASTED)
        terminal.until("/three")
        assert server.requests == ()
        terminal.enter("\r")
        terminal.until("a\r\n")
        terminal.until("> ")
        terminal.enter("\x1b[A\r")  # the whole last question
        terminal.until("a\r\n")
        terminal.until("> ")
        terminal.enter("\x04")
        assert terminal.wait() == 0
    assert questions(server) == ["one\ntwo\n/three"] * 2
    with FaultServer(tells("a")) as server, Terminal("chat", "--url", server.url) as terminal:
        terminal.until("> ")
        terminal.enter("\x1b[A\r")  # also in the next chat
        terminal.until("a\r\n")
    assert questions(server) == ["one\ntwo\n/three"]


@pytest.mark.parametrize("environment", [no_readline, like_libedit, lambda _: {"TERM": "linux"}])
@pytest.mark.parametrize(("pasted", "more"), [("one\rtwo\rthree\r", ""), ("one\rtwo\rthree", "\r")])
def test_pasted_lines_are_one_question_without_readline(
    environment: Any, pasted: str, more: str, tmp_path: Path
) -> None:
    variables = environment(tmp_path)
    with FaultServer(tells("a")) as server, Terminal("chat", "--url", server.url, **variables) as terminal:
        assert "Pasted lines are asked as one question" in terminal.until("> ")
        terminal.enter(pasted)
        if more:
            terminal.until("three")
            assert server.requests == ()
            terminal.enter(more)
        terminal.until("a\r\n")
        terminal.until("> ")
        terminal.enter("/quit\r")
        assert terminal.wait() == 0
    assert "\x1b[?2004h" not in terminal.shown
    assert questions(server) == ["one\ntwo\nthree"]


@pytest.mark.parametrize("environment", [lambda _: {}, no_readline, like_libedit, lambda _: {"TERM": "dumb"}])
def test_a_line_that_ends_with_a_backslash_continues(environment: Any, tmp_path: Path) -> None:
    with FaultServer(tells("a")) as server, Terminal("chat", "--url", server.url, **environment(tmp_path)) as terminal:
        terminal.until("> ")
        terminal.enter("one\\\r")
        terminal.until(". ")
        terminal.enter("two\r")
        terminal.until("a\r\n")
        terminal.until("> ")
        terminal.enter("/quit\r")
        assert terminal.wait() == 0
    assert questions(server) == ["one\ntwo"]


def test_a_line_that_ends_with_a_backslash_continues_in_a_pipe_too() -> None:
    _, asked = chat(tells("a"), lines="one\\\ntwo\\\nthree\nC:\\\\\nend\\")
    assert [submit["newMessage"] for submit in asked] == ["one\ntwo\nthree", "C:\\\\", "end\\"]


# ------------------------------------------------------------------------------------------------ what it says and does


def test_chat_says_which_bot_answers_and_where(tmp_path: Path) -> None:
    with FaultServer(tells("one")) as server:
        url = f"{server.url}/blog/wp-json"  # "/blog" alone could be a page, and would be visited
        with Terminal("chat", "--url", url, "--bot", "parrot") as terminal:
            greeting = terminal.until("> ")
            assert f"opchat: the bot 'parrot' of {server.url}/blog answers; /help shows the commands\r\n" in greeting
            assert "goes on after" not in greeting
            terminal.enter("A  question\x1b[D\r")
            terminal.until("one\r\n")
            terminal.enter("/quit\r")
            assert terminal.wait() == 0
        with Terminal("chat", "--url", url, "--bot", "parrot", "--continue") as terminal:
            greeting = terminal.until("> ")
            assert 'opchat: this continues after 2 messages, the last question: "A question"\r\n' in greeting
        with Terminal("chat", "--url", url, "--continue") as terminal:
            assert "there is no conversation to continue, so this begins one" in terminal.until("> ")


def test_tab_completes_commands() -> None:
    with Terminal("chat") as terminal:
        terminal.until("> ")
        terminal.enter("/hi\t\r")
        terminal.until("/history ")
        terminal.until("> ")
        terminal.enter("/he\t\r")
        shown = terminal.until("> ")
        terminal.enter("no /hi\t\r")
        terminal.until("question 1 of our conversation")
        terminal.enter("/quit\r")
        assert terminal.wait() == 0
    for command in ("/history", "/save FILE", "/retry", "/edit", "/new", "/help", "/quit", "//...", "Ctrl-C"):
        assert command in shown
    assert "/history" not in terminal.shown[terminal.shown.index("no /hi") :]


def test_the_hint_about_ctrl_c_is_true() -> None:
    @plays
    def stalls(peer: Peer) -> None:
        peer.send(STREAM, live("first"))
        peer.is_left()

    with FaultServer(stalls) as server, Terminal("chat", "--url", server.url) as terminal:
        terminal.until("> ")
        terminal.enter("A\r")
        terminal.until("first")
        terminal.interrupt()
        assert "leaves" not in terminal.until("> ")  # one more Ctrl-C would not leave yet
        terminal.interrupt()
        terminal.until("(Ctrl-C again, Ctrl-D or /quit leaves)")
        terminal.until("> ")
        terminal.interrupt()
        assert terminal.wait() == 130
    assert "the answer was cancelled and is not part of the conversation" in terminal.shown


def test_new_starts_another_conversation_with_the_same_session() -> None:
    result, asked = chat(tells("one"), tells("two"), lines="A\n/new\n/history\n/retry\nB\n/history\n")
    assert result.stdout == "one\ntwo\nuser: B\nassistant: two\n"
    assert [said(submit) for submit in asked] == [["A"], ["B"]]
    assert asked[0]["chatId"] != asked[1]["chatId"]
    assert asked[0]["session"] == asked[1]["session"]
    assert result.stderr == "opchat: this is a new conversation\nopchat: there is no question to ask again\n"


def editor(directory: Path, text: str | None) -> dict[str, str]:
    """An environment whose editor prints its input and saves this text."""
    script = directory / "editor"
    save = "" if text is None else f"printf '%s' '{text}' > \"$1\"; touch -d '+1 minute' \"$1\""
    script.write_text(f'#!/bin/sh\ncat "$1" > "{directory}/shown"\n{save}\n')
    script.chmod(0o700)
    return ENVIRONMENT | {"VISUAL": "", "EDITOR": str(script)}


def test_edit_replaces_the_last_question_and_asks_again(tmp_path: Path) -> None:
    with FaultServer(tells("one"), tells("two"), tells("three")) as server:
        lines = "A\nB\n/edit\n/history\n"
        result = opchat("chat", "--url", server.url, input=lines, env=editor(tmp_path, "B2\nmore"))
    assert (tmp_path / "shown").read_text().strip() == "B"
    assert result.stdout == "one\ntwo\nthree\nuser: A\nassistant: one\nuser: B2\n  more\nassistant: three\n"
    assert [said(submit) for submit in submits(server)] == [["A"], ["A", "one", "B"], ["A", "one", "B2\nmore"]]


def test_edit_of_a_broken_question_replaces_nothing(tmp_path: Path) -> None:
    with FaultServer(tells("one"), answers(STREAM), tells("three")) as server:
        result = opchat("chat", "--url", server.url, input="A\nB\n/edit\n", env=editor(tmp_path, "B2"))
    assert result.stdout == "one\nthree\n"
    assert said(submits(server)[-1]) == ["A", "one", "B2"]


@pytest.mark.parametrize("text", [None, "", " \n"])
def test_an_edit_that_saves_nothing_asks_nothing(text: str | None, tmp_path: Path) -> None:
    with FaultServer(tells("one")) as server:
        result = opchat("chat", "--url", server.url, input="A\n/edit\n", env=editor(tmp_path, text))
    assert "nothing was saved, so nothing is asked" in result.stderr
    assert len(submits(server)) == 1


def test_a_missing_editor_gives_one_line(tmp_path: Path) -> None:
    result = opchat("chat", "--url", "127.0.0.1:1", input="/edit\n", env=ENVIRONMENT | {"EDITOR": "/no/editor"})
    assert result.stderr.count("\n") == 1
    assert "(the variable EDITOR names another editor)" in result.stderr


def turn(reply: str, response_id: str) -> Script:
    return answers(STREAM, live(reply), end(reply, responseId=response_id), LAST)


def test_a_repeated_question_does_not_send_the_response_id_that_it_replaces(tmp_path: Path) -> None:
    scripts = [turn("one", "r1"), turn("two", "r2"), turn("two again", "r3"), turn("edited", "r4"), turn("C", "r5")]
    with FaultServer(*scripts) as server:
        lines = "A\nB\n/retry\n/edit\nC\n"
        opchat("chat", "--url", server.url, input=lines, env=editor(tmp_path, "B2"))
    assert [submit.get("previousResponseId") for submit in submits(server)] == [None, "r1", "r1", "r1", "r4"]


@pytest.mark.parametrize("command", ["ask", "chat"])
def test_a_response_id_that_the_provider_has_forgotten_is_not_sent_again(command: str) -> None:
    forgotten = answers(STREAM, event(type="error", data="previous_response_not_found"))
    with FaultServer(turn("one", "r1"), forgotten, turn("two", "r2")) as server:
        opchat("ask", "--url", server.url, "A")
        for question in ("B", "C"):
            arguments = ["ask", "--continue", question] if command == "ask" else ["chat", "--continue"]
            result = opchat(*arguments, "--url", server.url, input="" if command == "ask" else question)
    assert (result.stdout, result.returncode) == ("two\n", 0)
    assert [submit.get("previousResponseId") for submit in submits(server)] == [None, "r1", None]
    assert said(submits(server)[-1]) == ["A", "one", "C"]


def test_output_to_a_non_blocking_terminal_waits(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text("import os; os.set_blocking(0, False)")
    variables = no_readline(tmp_path)
    with FaultServer(tells("a")) as server, Terminal("chat", "--url", server.url, **variables) as terminal:
        terminal.until("> ")
        terminal.enter("one\r")
        terminal.until("a\r\n")
        terminal.until("> ")
        terminal.enter("\x04")
        assert terminal.wait() == 0
    assert questions(server) == ["one"]
