"""Every exit code, provoked by the library's fault server."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from opchat_transports.cli import COMMANDS, run
from opchat_transports.testing import FAULTS, Close, Expect, FaultServer, Script, Write, json_object, refused

from .command import ENVIRONMENT, PATIENCE, Terminal, opchat, opchat_process
from .peer import refusing_port

# The exit code of `ask` for each fault. The clocks of those that stall are short.
EXPECTED = {
    "delay": 0,
    "one byte at a time": 0,
    "PHP notice first": 0,
    "more after the end": 0,
    "one JSON object": 0,
    "cut after the end event": 0,
    "403 rejected": 3,
    "500 exception": 3,
    "401 forbidden": 4,
    "broken event": 5,
    "HTML page": 5,
    "gzip": 5,
    "stall": 6,
    "stall in the head": 6,
    "stall after an event": 6,
    "no end": 7,
    "PHP dies": 7,
    "cut in the head": 7,
    "cut after an event": 7,
    "reset after an event": 7,
    "no answer": 7,
    "reset instead of an answer": 7,
    "not HTTP": 7,
    "broken chunk": 7,
    "error event": 8,
    "empty error event": 8,
    "failure object": 8,
    "endless head": 9,
    "endless line": 9,
    "1xx flood": 9,
    "header flood": 9,
}


def ask(*arguments: str, **options: Any) -> Any:
    return opchat("ask", "Hello!", *arguments, **options)


def at(script: Script, *arguments: str) -> Any:
    with FaultServer(script) as server:
        result = ask("--url", server.url, *arguments)
    assert len(server.questions) <= (2 if result.returncode == 4 else 1)
    return result


def test_every_fault_has_an_expected_exit_code() -> None:
    assert EXPECTED.keys() <= FAULTS.keys()


@pytest.mark.parametrize("name", EXPECTED)
def test_a_fault_has_its_exit_code_and_one_line(name: str) -> None:
    soon = ("--timeout-first-event", "0.7", "--timeout-idle", "0.7") if EXPECTED[name] == 6 else ()
    result = at(FAULTS[name], *soon)
    if EXPECTED[name] == 0:
        assert (result.stdout, result.stderr, result.returncode) == ("Hello, world!\n", "", 0)
    else:
        assert result.returncode == EXPECTED[name]
        assert result.stderr.startswith("opchat: ")
        assert "(at http://127.0.0.1:" in result.stderr
        assert len(result.stderr.splitlines()) == 1


def test_a_nonce_that_stays_refused_is_4() -> None:
    for status in (401, 403):
        code = {401: "rest_forbidden", 403: "rest_cookie_invalid_nonce"}[status]
        assert at(refused(status, "No.", code)).returncode == 4


def test_a_site_that_gives_nobody_a_nonce_is_not_called_members_only() -> None:
    missing = json_object(status=404, code="rest_no_route", message="No route was found.")
    refusal = json_object(status=401, code="rest_forbidden", message="Not allowed.")
    with FaultServer((Expect("start_session"), Write(missing), Close(), Expect(), Write(refusal))) as server:
        result = ask("--url", server.url)
    assert result.returncode == 4
    assert "Not allowed.; the plugin has no start_session: for versions 2.0.1 to 2.4.3 the nonce" in result.stderr
    assert result.stderr.endswith(f"(at {server.url}; this address gives no nonces)\n")


def test_a_terminal_gets_the_same_exit_codes() -> None:
    with FaultServer(FAULTS["error event"]) as server, Terminal("ask", "Hello!", "--url", server.url) as terminal:
        assert terminal.wait() == 8
    assert "opchat: the server reported an error: Overloaded" in terminal.shown


def test_the_line_says_whether_the_question_may_have_been_read() -> None:
    assert at(FAULTS["no answer"]).stderr.endswith(
        "; the server may have read the question; ask again, which may cost another answer)\n"
    )
    assert ask("--url", "127.0.0.1:1").stderr == (
        "opchat: no answer: start_session: could not connect to 127.0.0.1:1: Connection refused"
        " (at http://127.0.0.1:1; check --url and the network)\n"
    )


def test_an_unreachable_proxy_is_7() -> None:
    with refusing_port() as port:
        assert ask("--url", "http://site.example", "--proxy", f"socks5://127.0.0.1:{port}").returncode == 7


def test_a_bug_is_1(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        "import opchat_transports.cli.commands.ask as module\n"
        "def fails(*_, **__): raise AssertionError('a bug')\n"
        "module.whole_question = fails\n"
    )
    result = opchat_process("ask", "Hello!", env=ENVIRONMENT | {"PYTHONPATH": str(tmp_path)})
    assert (result.stdout, result.returncode) == ("", 1)
    assert "AssertionError: a bug" in result.stderr


def test_without_the_extra_it_shows_the_pip_command_and_exits_with_2(tmp_path: Path) -> None:
    (tmp_path / "click").mkdir()
    (tmp_path / "click" / "__init__.py").write_text(
        "raise ModuleNotFoundError('No module named click', name='click')\n"
    )
    result = opchat_process("ask", "Hello!", env=ENVIRONMENT | {"PYTHONPATH": str(tmp_path)})
    assert (result.stdout, result.returncode) == ("", 2)
    assert result.stderr == 'opchat: the command line needs one more package: pip install "opchat[cli]"\n'


@pytest.mark.parametrize(("via", "package"), [("trio", "trio"), ("httpx", "anyio"), ("httpx", "httpx")])
def test_without_a_transports_library_it_shows_the_pip_command_and_exits_with_2(
    via: str, package: str, tmp_path: Path
) -> None:
    (tmp_path / f"{package}.py").write_text(f"raise ModuleNotFoundError('No module', name='{package}')\n")
    result = opchat_process("ask", "Hello!", "--via", via, env=ENVIRONMENT | {"PYTHONPATH": str(tmp_path)})
    assert (result.stdout, result.returncode) == ("", 2)
    assert f'pip install "opchat[{via}]"' in result.stderr


# ------------------------------------------------------------------------------------------------ help and completion


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], *([name, "--help"] for name in COMMANDS)])
def test_help_works_without_the_extras(arguments: list[str]) -> None:
    code = (
        "import sys, runpy; sys.argv = ['opchat', *sys.argv[1:]]\n"
        "try: runpy.run_module('opchat_transports', run_name='__main__')\n"
        "finally: print(sorted({'httpx', 'trio', 'uvicorn', 'rich', 'asyncio', 'anyio'} & set(sys.modules)))"
    )
    command = [sys.executable, "-c", code, *arguments]
    result = subprocess.run(command, capture_output=True, encoding="utf-8", timeout=PATIENCE, env=ENVIRONMENT)
    assert result.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_shells_complete_commands_and_options(shell: str) -> None:
    environment = ENVIRONMENT | {"_OPCHAT_COMPLETE": f"{shell}_source"}
    assert "_OPCHAT_COMPLETE" in opchat(env=environment).stdout
    words = {
        "_OPCHAT_COMPLETE": f"{shell}_complete",
        "COMP_WORDS": "opchat re",
        "COMP_CWORD": "re" if shell == "fish" else "1",
    }
    result = opchat(env=ENVIRONMENT | words)
    assert "record" in result.stdout
    assert "replay" in result.stdout
    assert result.returncode == 0


def test_closed_pipes_give_no_message_in_any_command(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b'data: {"type":"live","data":"a"}\n\n' * 20_000)
    command = f'"{sys.executable}" -m opchat_transports decode a; echo $? >&2'
    script = f"({command}) | head -n 1"
    result = subprocess.run(
        ["sh", "-c", script], cwd=tmp_path, env=ENVIRONMENT, timeout=PATIENCE, capture_output=True, encoding="utf-8"
    )
    assert result.stdout.startswith("answer 1, ")
    assert result.stderr == "141\n"


def test_run_returns_the_exit_code_within_a_process(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", None)
    refusal: Script = (Write(json_object(status=429, headers=[("Retry-After", "7")], success=False, message="Slow.")),)
    with FaultServer(refusal) as server:
        assert run(["ask", "--url", server.url, "Hi"]) == 3
    assert "ask again in 7 s" in capsys.readouterr().err
