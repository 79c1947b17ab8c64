import os
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from opchat_transports import __main__ as entry
from opchat_transports import collect
from opchat_transports.blocking_sockets import BlockingTransport
from opchat_transports.cli import run
from opchat_transports.testing import FaultServer, Script, Stall

from .command import ENVIRONMENT, asking, opchat, opchat_process, start
from .peer import PATIENCE, Peer, plays
from .wire import LAST, STREAM, answer, answers, end, event, live, object_, tells

# ------------------------------------------------------------------------------------------------ ask


def test_ask_prints_the_answer_and_exits_with_0() -> None:
    result = opchat("ask", "Hello, who are you?")
    assert result.stdout == (
        "Hello! I am the small bot that comes with opchat: a few rules, no language model."
        " This is question 1 of our conversation.\n"
    )
    assert re.fullmatch(r"opchat: no --url, so the built-in bot answers, at http://127\.0\.0\.1:\d+\n", result.stderr)
    assert result.returncode == 0


def test_ask_asks_the_site_in_its_url_option() -> None:
    with FaultServer(tells("Hel", "lo")) as server:
        result = opchat("ask", "--url", server.url, "--bot", "parrot", "Who", "are", "you?")
    assert (result.stdout, result.stderr, result.returncode) == ("Hello\n", "", 0)
    assert server.routes == ("start_session", "submit")
    assert b'"botId":"parrot"' in server.requests[1].raw
    assert b'"newMessage":"Who are you?"' in server.requests[1].raw


def test_the_site_may_come_from_the_environment() -> None:
    with FaultServer(tells("a")) as server:
        assert opchat("ask", "Hi", env=ENVIRONMENT | {"OPCHAT_URL": server.url}).stdout == "a\n"


def test_each_piece_is_printed_before_the_next_is_sent() -> None:
    seen = threading.Event()

    @plays
    def play(peer: Peer) -> None:
        peer.send(STREAM, live("first"))
        assert seen.wait(PATIENCE)
        peer.send(live(" second"), end("first second"), LAST)

    with FaultServer(play) as server, start("ask", "--url", server.url, "Hi") as process:
        assert process.stdout is not None
        assert process.stdout.read(5) == "first"
        seen.set()
        assert process.stdout.read() == " second\n"
        assert process.wait(PATIENCE) == 0


@pytest.mark.parametrize(
    ("pieces", "printed"),
    [
        ([live("a "), end("a")], "a \n"),
        ([live("a\n"), end("a")], "a\n"),
        ([end("final")], "final\n"),
        ([live(""), end("final")], "final\n"),
        ([event(type="live", data="Thinking...", subtype="thinking"), end("final")], "final\n"),
    ],
)
def test_standard_output_holds_the_answer_and_nothing_else(pieces: list[bytes], printed: str) -> None:
    result = asking(answers(STREAM, *pieces, LAST))
    assert (result.stdout, result.stderr, result.returncode) == (printed, "", 0)


def test_an_answer_without_text_says_so() -> None:
    def action(**data: Any) -> Any:
        return {"type": "function", "data": data}

    for last, line in (
        (end(""), "opchat: the answer has no text\n"),
        (end(" \n"), "opchat: the answer has no text\n"),
        (event(type="end", data=None), "opchat: the answer has no text\n"),
        (
            end("", actions=[action(name="openCart", args=[]), action(name="go\nopchat: x"), {"type": "javascript"}]),
            "opchat: the answer has no text; it asks the site's page to call openCart, go\\x0aopchat: x, javascript\n",
        ),
        (end("", actions=[{"type": "function", "name": "flat"}]), None),
        (
            end("", images=["http://a", "data:x," + "y" * 5000]),
            "opchat: the answer has no text; it has images (2)\n"
            f"opchat: image: http://a\nopchat: image: data:x,{'y' * 53}...\n",
        ),
    ):
        result = asking(answers(STREAM, last, LAST))
        assert (result.stdout.strip(), result.returncode) == ("", 0)
        assert result.stderr == (line or "opchat: the answer has no text; it asks the site's page to call flat\n")
    result = asking(answers(STREAM, live("text"), end("text", actions=[action(name="openCart")]), LAST))
    assert (result.stdout, result.stderr) == ("text\n", "")
    result = asking(answers(STREAM, end("", actions=[action(name="openCart")]), LAST), "--json", "Hi")
    assert (result.stdout.count("\n"), result.stderr) == (1, "")


def test_a_lost_piece_does_not_shorten_the_answer_silently() -> None:
    result = asking(answers(STREAM, live("You"), live(" lost\x1b"), end("You said: lost\x1b"), LAST))
    assert (result.stdout, result.returncode) == ("You lost\\x1b\n", 0)
    assert result.stderr == (
        "opchat: a piece was lost or the site changed its answer; the final text is: You said: lost\\x1b\n"
    )
    # After a function call, the final text is only the last turn.
    result = asking(answers(STREAM, live("I look it up. "), live("It rains."), end("It rains."), LAST))
    assert (result.stdout, result.stderr) == ("I look it up. It rains.\n", "")


def test_text_from_a_server_cannot_control_the_terminal() -> None:
    hostile = "\x1b]0;x\x07\r\x00\x7f\x9b\u202e\u2066\ttab\nline \u00e9"
    shown = "\\x1b]0;x\\x07\\x0d\\x00\\x7f\\x9b\\u202e\\u2066\ttab\nline \u00e9\n"
    result = asking(answers(STREAM, live(hostile), end(hostile), LAST))
    assert (result.stdout, result.stderr) == (shown, "")
    assert asking(answers(STREAM, end(hostile), LAST)).stdout == shown
    result = asking(answers(STREAM, event(type="error", data=hostile), LAST))
    assert result.stderr.split(" (at ")[0] == (
        "opchat: the server reported an error: \\x1b]0;x\\x07 \\x00\\x7f\\x9b\\u202e\\u2066 tab line \u00e9"
    )


def test_a_character_that_the_terminal_cannot_encode_does_not_fail() -> None:
    with FaultServer(tells("\u00e9\u2713")) as server:
        result = opchat_process("ask", "--url", server.url, "Hi", env=ENVIRONMENT | {"PYTHONIOENCODING": "ascii"})
    assert (result.stdout, result.returncode) == ("\\xe9\\u2713\n", 0)


# ------------------------------------------------------------------------------------------------ exit codes


def nonce(code: str, status: int) -> bytes:
    return object_(status, code=code, message="No.", data={"status": status})


def stalls(*pieces: bytes) -> Script:
    return *answers(*pieces), Stall()


@pytest.mark.parametrize(
    ("script", "code", "printed", "line"),
    [
        (answers(answer(b"<title>Checking</title>", 403)), 3, "", "the server refused (status 403): "),
        (answers(nonce("rest_no_route", 404)), 3, "", "the server refused (status 404, rest_no_route): No."),
        (answers(object_(503, message="Later.")), 3, "", "the server refused (status 503): Later."),
        (answers(nonce("rest_forbidden", 401)), 4, "", "the server refused (status 401, rest_forbidden): No."),
        (
            answers(nonce("rest_cookie_invalid_nonce", 403)),
            4,
            "",
            "the server refused (status 403, rest_cookie_invalid_nonce): No.",
        ),
        (answers(answer(b"<html><title>Home</title>")), 5, "", "this is not a chat answer: "),
        (answers(STREAM, live("a"), event(a=1)), 5, "a\n", "this is not a chat answer: "),
        (stalls(STREAM, live("a")), 6, "a\n", "timed out: no further event of the answer within 0.5 s "),
        (answers(STREAM, live("a\n")), 7, "a\n", "the answer was cut off: "),
        (answers(b""), 7, "", "no answer: the connection was closed before any answer (at"),
        (
            answers(STREAM, live("a"), event(type="error", data="Limit.")),
            8,
            "a\n",
            "the server reported an error: Limit.",
        ),
        (answers(b"HTTP/1.1 200 OK\r\nX: " + b"x" * 100_000), 9, "", "the answer is too large: "),
    ],
    ids=lambda value: str(value) if isinstance(value, int) else "",
)
def test_the_exit_code_tells_the_reason(script: Script, code: int, printed: str, line: str) -> None:
    result = asking(script, *(["--timeout-idle", "0.5"] if code == 6 else []), "Hi")
    assert (result.stdout, result.returncode) == (printed, code)
    assert result.stderr.startswith(f"opchat: {line}")
    assert len(result.stderr.splitlines()) == 1


def test_a_refusal_in_start_session_has_the_exit_code_of_a_session() -> None:
    result = asking(answers(nonce("rest_disabled", 403)), session=False)
    assert result.stderr.startswith("opchat: the server refused (status 403, rest_disabled): start_session: No. (at ")
    assert (result.stdout, result.returncode) == ("", 4)


def test_without_a_connection_the_exit_code_is_7() -> None:
    with FaultServer(tells("a")) as server:
        url = server.url
    result = opchat("ask", "--url", url, "Hi")
    assert (result.stdout, result.returncode) == ("", 7)
    assert "could not connect to 127.0.0.1:" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["ask"], "expected a question"),
        (["ask", " \n"], "expected a question"),
        (["ask", "--url", "nowhere", "Hi"], "expected a site"),
        (["ask", "--timeout", "0", "Hi"], "timeout"),
        (["ask", "--nonsense"], "nonsense"),
        (["nonsense"], "nonsense"),
        (["serve", "--port", "65536"], "port"),
        (["serve", "--host", "256.256.256.256", "--port", "0"], "cannot listen on"),
        ([], "Usage: opchat"),
    ],
)
def test_wrong_usage_has_exit_code_2(arguments: Any, line: str) -> None:
    result = opchat(*arguments)
    assert (result.stdout, result.returncode) == ("", 2)
    assert line in result.stderr


def test_a_question_that_is_too_large_is_wrong_usage() -> None:
    result = opchat("ask", input="x" * 2_000_000)
    assert (result.stdout, result.returncode) == ("", 2)
    assert "expected at most 1048576 bytes" in result.stderr
    assert "expected at most 1048576 bytes" in opchat("ask", input="x" * 3_000_000).stderr


# ------------------------------------------------------------------------------------------------ standard input


@pytest.mark.parametrize(
    ("arguments", "given", "question"),
    [
        ([], "Hi\n", "Hi"),
        (["-"], "Hi\n", "Hi"),
        (["Repeat:"], "one\ntwo\n", "Repeat:\\n\\none\\ntwo"),
        (["Repeat:", "-"], "one", "Repeat:\\n\\none"),
        (["Hi"], "", "Hi"),
        (["Hi"], "\n", "Hi"),
        ([], "\ufeff\u00e9", "\u00e9"),
    ],
)
def test_standard_input_is_appended_to_the_question(arguments: Any, given: str, question: Any) -> None:
    with FaultServer(tells("a")) as server:
        result = opchat("ask", "--url", server.url, *arguments, input=given)
    assert (result.stdout, result.stderr) == ("a\n", "")
    assert f'"newMessage":"{question}"'.encode() in server.requests[1].raw


def test_a_file_is_standard_input(tmp_path: Path) -> None:
    (tmp_path / "question").write_text("from a file")
    with FaultServer(tells("a")) as server, (tmp_path / "question").open() as file:
        opchat_process("ask", "--url", server.url, "Hi", stdin=file)
    assert b'"newMessage":"Hi\\n\\nfrom a file"' in server.requests[1].raw


@pytest.mark.skipif(os.name != "posix", reason="needs a POSIX shell")
@pytest.mark.parametrize(("arguments", "code"), [("Hi", 0), ("", 2)])
def test_a_closed_standard_input_is_ignored(arguments: Any, code: int) -> None:
    command = f'exec "$0" -m opchat_transports ask {arguments} <&-'
    result = subprocess.run(
        ["sh", "-c", command, sys.executable], env=ENVIRONMENT, timeout=PATIENCE, capture_output=True
    )
    assert result.returncode == code


# ------------------------------------------------------------------------------------------------ interruptions


def test_ctrl_c_closes_the_connection() -> None:
    left = threading.Event()

    @plays
    def play(peer: Peer) -> None:
        peer.send(STREAM, live("first"))
        assert peer.is_left()
        left.set()

    with FaultServer(play) as server, start("ask", "--url", server.url, "Hi") as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.read(5) == "first"
        process.send_signal(signal.SIGINT)
        assert left.wait(PATIENCE)
        assert process.wait(PATIENCE) == 130
        assert process.stderr.read().strip() == ""


def test_a_closed_pipe_is_no_error_message() -> None:
    left = threading.Event()

    @plays
    def play(peer: Peer) -> None:
        peer.send(STREAM)
        try:
            while not peer.is_left(within=0.02):
                peer.send(live("and "))
        finally:  # a later send may notice it
            left.set()

    with FaultServer(play) as server, start("ask", "--url", server.url, "Hi") as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.read(4) == "and "
        process.stdout.close()
        assert process.wait(PATIENCE) == 141
        assert left.wait(PATIENCE)
        assert process.stderr.read() == ""


@pytest.mark.skipif(os.name != "posix", reason="needs a POSIX shell")
@pytest.mark.parametrize("arguments", ["ask Hi", "--help"])
@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-"])
def test_closed_standard_streams_give_no_traceback(arguments: Any, closed: str) -> None:
    command = f'exec "$0" -m opchat_transports {arguments} {closed} </dev/null'
    result = subprocess.run(
        ["sh", "-c", command, sys.executable], env=ENVIRONMENT, timeout=PATIENCE, capture_output=True
    )
    assert result.returncode == 0
    assert b"Traceback" not in result.stdout + result.stderr


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_a_full_disk_gives_one_line() -> None:
    with FaultServer(tells("a")) as server, open("/dev/full", "w") as full:
        result = opchat_process(
            "ask", "--url", server.url, "Hi", capture_output=False, stdout=full, stderr=subprocess.PIPE
        )
    assert (result.stderr, result.returncode) == (
        "opchat: the answer cannot be written: No space left on device\n",
        141,
    )


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["ask", "--help"]])
def test_a_full_disk_gives_one_line_for_the_output_of_click_too(arguments: list[str]) -> None:
    with open("/dev/full", "w") as full:
        result = opchat_process(*arguments, capture_output=False, stdout=full, stderr=subprocess.PIPE)
    assert (result.stderr, result.returncode) == (
        "opchat: the output cannot be written: No space left on device\n",
        141,
    )


def test_serve_answers_until_ctrl_c() -> None:
    with start("serve", "--quiet", "--port", "0") as process:
        assert process.stderr is not None
        line = process.stderr.readline()
        url = re.search(r"http://127\.0\.0\.1:\d+", line)
        assert url is not None
        with BlockingTransport(url[0]) as transport:
            assert collect(transport.ask("Hi")).startswith("Hello!")
            assert opchat("ask", "--url", url[0], "Hi").stdout.startswith("Hello!")
            process.send_signal(signal.SIGINT)
            assert process.wait(PATIENCE) == 0
        assert process.stderr.read() == ""


# ------------------------------------------------------------------------------------------------ the command itself


def test_help_names_the_exit_codes_and_fits_on_a_screen() -> None:
    for arguments in (["--help"], ["ask", "-h"]):
        result = opchat(*arguments)
        assert (result.stderr, result.returncode) == ("", 0)
        assert "130  interrupted" in result.stdout
        assert all(len(line) <= 80 for line in result.stdout.splitlines())
    assert len(opchat("--help").stdout.splitlines()) <= 24


@pytest.mark.parametrize("arguments", [["--help"], ["discussions", "--help"]])
def test_the_summary_of_each_command_is_a_whole_sentence(arguments: list[str]) -> None:
    listed = opchat(*arguments).stdout.partition("Commands:\n")[2].partition("\n\n")[0].splitlines()
    assert len(listed) >= 4
    assert [line for line in listed if not re.fullmatch(r"  [a-z]+ +[A-Z].*[^.]\.", line)] == []


def test_version_prints_the_version() -> None:
    assert opchat("--version").stdout.startswith("opchat, version ")


def test_help_imports_no_optional_library() -> None:
    code = (
        "import sys, runpy; sys.argv = ['opchat', '--help']\n"
        "try: runpy.run_module('opchat_transports', run_name='__main__')\n"
        "finally: print(sorted({'httpx', 'trio', 'uvicorn', 'rich', 'asyncio', 'anyio'} & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, encoding="utf-8", timeout=PATIENCE)
    assert result.stdout.splitlines()[-1] == "[]"


def test_without_click_the_pip_command_is_shown(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "click", None)
    monkeypatch.delitem(sys.modules, "opchat_transports.cli")
    assert entry.main() == 2
    assert 'pip install "opchat[cli]"' in capsys.readouterr().err


@pytest.mark.parametrize(("arguments", "code"), [(["ask", "Hi"], 0), (["ask", "--url", "x", "Hi"], 2)])
def test_the_command_can_be_called_within_a_process(
    arguments: Any, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdin", None)
    monkeypatch.delenv("OPCHAT_URL", raising=False)
    assert run(arguments) == code
    assert ("Hello!" in capsys.readouterr().out) is (code == 0)
