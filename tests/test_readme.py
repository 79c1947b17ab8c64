"""README says what is true: its examples run, its tables and diagrams are those of the code."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from opchat_proto import (  # the tables are not public, and are compared with its diagrams here
    Limits,
    Reason,
    _call_base,
    _client,
    _flow,
    _reply,
    _server,
    _tunnel,
    _visit,
)
from opchat_proto._table import Table  # the tables are not public, and are compared with its diagrams here
from opchat_transports import cli, collect
from opchat_transports.blocking_server import serve
from opchat_transports.blocking_sockets import BlockingTransport
from opchat_transports.bots import small_talk
from tests.transports.served import free_port, started

README = (Path(__file__).resolve().parents[1] / "README.md").read_text()
CODE = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
# Those that are tests themselves are run by tests/transports/test_testing.py and tests/proto/test_strategies.py.
EXAMPLES = [code for code in CODE if "def test_" not in code and "application(" not in code]
SIZES = {"KiB": 1024, "MiB": 1024 * 1024}


def rows(heading: str) -> list[list[str]]:
    """The table under a heading, without its head."""
    section = README.split(f"## {heading}\n")[1].split("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip().strip("`") for cell in line.strip("|").split("|")] for line in lines[2:]]


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda text: text.split("import", 2)[1].split()[0])
def test_an_example_runs_and_prints_an_answer(example: str) -> None:
    with serve(small_talk) as server:
        code = example.replace("https://site.example", server.url)
        done = subprocess.run(
            [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, timeout=60, check=True
        )
    assert "This is question 1 of our conversation." in done.stdout
    assert done.stderr == ""


def test_the_examples_are_there() -> None:
    assert len(EXAMPLES) >= 2


def test_a_bot_runs_in_five_lines(tmp_path: Path) -> None:
    [code] = [code for code in CODE if "application(" in code]
    assert len([line for line in code.splitlines() if line.strip()]) == 5
    (tmp_path / "mybot.py").write_text(code)
    port = free_port()
    command = f"-m uvicorn mybot:app --app-dir {tmp_path} --port {port} --log-level warning"
    with started(port, *command.split()), BlockingTransport(f"http://127.0.0.1:{port}") as transport:
        assert collect(transport.ask("Hello there")) == "Hello there "


def test_the_commands_of_the_first_screen_are_two() -> None:
    commands = re.findall("^ *(python3 -m venv .*)$", README, re.MULTILINE)
    assert commands == [
        'python3 -m venv .venv && . .venv/bin/activate && pip install ".[cli]" && opchat ask "Hello, who are you?"',
        'python3 -m venv .venv && . .venv/bin/activate && pip install -e ".[test]" && pytest -n auto',
    ]


@pytest.mark.parametrize(
    "table",
    [_call_base.TABLE, _flow.TABLE, _client.TABLE, _tunnel.SOCKS_TABLE, _reply.TABLE, _visit.TABLE, _server.TABLE],
    ids=lambda table: str(table.name),
)
def test_a_diagram_is_printed_from_its_table(table: Table[Reason, Reason]) -> None:
    assert f"### {table.name}\n\n```mermaid\n{table.mermaid()}\n```\n" in README


def test_the_limits_are_those_of_the_code() -> None:
    limits = Limits()
    documented = {}
    for name, default, _ in rows("Limits"):
        number, _, unit = default.partition(" ")
        documented[name] = int(number) * SIZES.get(unit, 1)
    assert documented == {name: getattr(limits, name) for name in limits.__slots__}


def test_the_exit_codes_are_those_of_the_command() -> None:
    documented = dict(rows("Exit codes of the command"))
    for reason, code in cli.EXIT_CODES.items():
        assert reason.name in documented[str(code)]


@pytest.mark.skipif(os.name != "posix", reason="needs a POSIX shell")
@pytest.mark.parametrize("heading", ["The command", "Many questions"])
def test_a_transcript_of_the_command_is_real(heading: str, tmp_path: Path) -> None:
    transcript = README.split(f"## {heading}\n\n")[1].split("\n\n")[0]
    lines = [line.removeprefix("    ") for line in transcript.splitlines()]
    environment = {name: value for name, value in os.environ.items() if name != "OPCHAT_URL"} | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "XDG_STATE_HOME": str(tmp_path / "state"),
    }
    shown = []
    for line in lines:
        if line.startswith("$ "):
            done = subprocess.run(
                line.removeprefix("$ "),
                shell=True,
                cwd=tmp_path,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                timeout=60,
            )
            shown += [line, *done.stdout.splitlines()]
    varying = re.compile(r"(?<=127\.0\.0\.1:)\d+|\d+\.\d\d(?= s\b)")  # ports and seconds
    assert [varying.sub("*", line) for line in shown] == [varying.sub("*", line) for line in lines]


def test_every_command_is_in_the_table() -> None:
    documented = {row[0].split()[0] for row in rows("The command") if row[0].split()[0] in cli.COMMANDS}
    assert documented == set(cli.COMMANDS)
