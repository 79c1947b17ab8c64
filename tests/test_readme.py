"""The READMEs are true: their code runs, their tables and diagrams match the code, their links exist."""

import importlib
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import click
import pytest

import opchat_proto
from opchat_proto import (  # the tables are not public, and are compared with the diagrams here
    Broken,
    End,
    Event,
    Limits,
    Live,
    Reason,
    _call_table,
    _client,
    _flow_table,
    _reply,
    _server,
    _tunnel,
    _visit,
)
from opchat_proto._table import Table  # the tables are not public, and are compared with the diagrams here
from opchat_transports import cli, collect
from opchat_transports.blocking_server import serve
from opchat_transports.blocking_sockets import BlockingTransport
from opchat_transports.bots import small_talk
from opchat_transports.cli._printer import event_fields  # the command has no public functions
from tests.transports.peer import free_port
from tests.transports.served import started

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
FOLDERS = ("opchat_proto", "opchat_transports", "tests")
PATHS = [Path("README.md"), *sorted(path.relative_to(ROOT) for name in FOLDERS for path in (ROOT / name).rglob("*.md"))]
READMES = {path.as_posix(): (ROOT / path).read_text() for path in PATHS}
TOP = READMES["README.md"]
CORE = READMES["opchat_proto/README.md"]
COMMAND = READMES["opchat_transports/cli/README.md"]
BLOCKS = [
    (path, language, code)
    for path, text in READMES.items()
    for language, code in re.findall(r"^```(\w*)\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    if path != "opchat_proto/WIRE.md"
]
PYTHON = [(path, code) for path, language, code in BLOCKS if language == "python"]
TESTS = [code for _, code in PYTHON if "def test_" in code]  # run by test_testing.py and proto/test_strategies.py
BOTS = [code for _, code in PYTHON if "application(" in code]
EXAMPLES = [(path, code) for path, code in PYTHON if code not in TESTS + BOTS]
TRANSCRIPTS = [code for _, language, code in BLOCKS if language == "console"]
COMMANDS = [line for _, language, code in BLOCKS if language == "sh" for line in code.splitlines()]
SIZES = {"KiB": 1024, "MiB": 1024 * 1024}


def rows(text: str, heading: str) -> list[list[str]]:
    """The first table under a heading, without its head."""
    section = text.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    table = re.findall(r"(?:^\|.*\n)+", section, re.MULTILINE)[0]
    return [[cell.strip().strip("`") for cell in line.strip("|").split(" | ")] for line in table.splitlines()[2:]]


def test_every_code_block_is_of_a_kind_that_is_run_or_compared() -> None:
    kinds = {"console", "mermaid", "python", "sh", "text"}
    assert [(path, code) for path, language, code in BLOCKS if language not in kinds] == []
    assert [code.split()[0] for _, language, code in BLOCKS if language == "text"] == ["time"]
    assert len(TESTS) == 2
    fenced = re.compile(r"^```.*?^```$", re.DOTALL | re.MULTILINE)
    readmes = {path: fenced.sub("", text) for path, text in READMES.items() if path != "opchat_proto/WIRE.md"}
    assert {path: found for path, text in readmes.items() if (found := re.findall("^    .*", text, re.MULTILINE))} == {}


@pytest.mark.parametrize(("path", "example"), EXAMPLES)
def test_an_example_runs_as_it_is_and_prints_what_it_says(path: str, example: str) -> None:
    assert "site.example" not in example  # it must work with `opchat serve`
    with serve(small_talk) as server:
        code = example.replace("http://127.0.0.1:8000", server.url)
        done = subprocess.run(
            [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, timeout=60, check=True
        )
    assert "This is question 1 of our conversation." in done.stdout
    assert ("This is question 2 of our conversation." in done.stdout) == ("And on Sundays?" in code)
    assert done.stderr == ""
    if printed := re.findall("^# (.*)$", code, re.MULTILINE):
        assert done.stdout.splitlines() == printed


def test_the_examples_ask_where_opchat_serve_listens_by_default() -> None:
    defaults = {parameter.name: parameter.default for parameter in cli.COMMANDS["serve"].params}
    assert (defaults["host"], defaults["port"]) == ("127.0.0.1", 8000)


def test_the_first_example_is_a_conversation_in_four_lines() -> None:
    path, code = EXAMPLES[0]  # README.md comes first
    lines = [line for line in code.splitlines() if line and not line.startswith(("from ", "# "))]
    assert (path, len(lines), code.count("conversation).text()")) == ("README.md", 4, 2)


def test_a_bot_runs_in_five_lines(tmp_path: Path) -> None:
    [code] = BOTS
    assert len([line for line in code.splitlines() if line.strip()]) == 5
    (tmp_path / "mybot.py").write_text(code)
    port = free_port()
    command = f"-m uvicorn mybot:app --app-dir {tmp_path} --port {port} --log-level warning"
    with started(port, *command.split()), BlockingTransport(f"http://127.0.0.1:{port}") as transport:
        assert collect(transport.ask("Hello there")) == "Hello there "


@pytest.mark.skipif(os.name != "posix", reason="needs a POSIX shell")
@pytest.mark.parametrize("transcript", TRANSCRIPTS)
def test_a_transcript_of_the_command_is_real(transcript: str, tmp_path: Path) -> None:
    lines = transcript.splitlines()
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


def test_the_two_commands_for_a_clone() -> None:
    commands = re.findall("^(python3 -m venv .*)$", TOP, re.MULTILINE)  # `.ci/run` finds and runs them like this
    assert commands == [
        'python3 -m venv .venv && . .venv/bin/activate && pip install ".[cli]" && opchat ask "Hello, who are you?"',
        'python3 -m venv .venv && . .venv/bin/activate && pip install -e ".[test]" && pytest -n auto',
    ]


@pytest.mark.parametrize("line", [line for line in COMMANDS if not line.startswith("python3 -m venv")])
def test_a_long_running_command_has_arguments_that_exist(line: str) -> None:
    command = line.split()
    options = {word.split("=")[0] for word in command if word.startswith("--")} - {"--help"}
    if command[0] == "opchat":
        [found] = [cli.COMMANDS[command[1]]]
        assert options <= {option for parameter in found.params for option in parameter.opts}
        assert isinstance(found, click.Command)
        return
    program = command[1:3] if command[:2] == ["python", "-m"] else ["-m", "pytest"]
    assert command[0] in ("python", "pytest")
    assert all((ROOT / word).exists() for word in command if word.endswith(".py"))
    done = subprocess.run(
        [sys.executable, *program, "--help"], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True
    )
    assert {option for option in options if option not in done.stdout} == set()


@pytest.mark.parametrize(
    "table",
    [
        _call_table.TABLE,
        _flow_table.TABLE,
        _client.TABLE,
        _tunnel.SOCKS_TABLE,
        _reply.TABLE,
        _visit.TABLE,
        _server.TABLE,
    ],
    ids=lambda table: str(table.name),
)
def test_a_diagram_is_generated_from_its_table(table: Table[Reason, Reason]) -> None:
    assert f"### {table.name}\n\n```mermaid\n{table.mermaid()}\n```\n" in CORE
    assert len([code for _, language, code in BLOCKS if language == "mermaid"]) == 7


def test_the_rings_are_drawn_as_in_the_docstring_of_the_core() -> None:
    [rings] = [code for _, language, code in BLOCKS if language == "text"]
    assert "".join(f"    {line}\n" for line in rings.splitlines()) in str(opchat_proto.__doc__)


def test_each_public_name_of_the_core_has_one_line() -> None:
    names = [name for name, _ in rows(CORE, "The public names") if not name.startswith("**")]
    assert sorted(names) == sorted(opchat_proto.__all__)


def test_the_limits_match_the_code() -> None:
    limits = Limits()
    documented = {}
    for name, default, _ in rows(CORE, "Limits"):
        number, _, unit = default.partition(" ")
        documented[name] = int(number) * SIZES.get(unit, 1)
    assert documented == {name: getattr(limits, name) for name in limits.__slots__}


def test_the_exit_codes_match_the_command() -> None:
    documented = dict(rows(COMMAND, "Exit codes"))
    for reason, code in cli.EXIT_CODES.items():
        assert reason.name in documented[str(code)]


@pytest.mark.parametrize(
    "event",
    [Live("a", "unknown", "{}"), End("a"), Broken(Reason.LOST, "it failed")],
    ids=lambda event: type(event).__name__,
)
def test_the_fields_of_the_json_output_match_the_command(event: Event) -> None:
    kind, *fields = event_fields(event)
    documented = {row[0]: re.findall("`(\\w+)`", "`" + row[1] + "`") for row in rows(COMMAND, "JSON output")}
    assert kind == "type"
    assert sorted(fields) == sorted(documented[event_fields(event)["type"]])


def test_every_command_is_in_the_table() -> None:
    assert {row[0].split()[0] for row in rows(COMMAND, "The commands")} == set(cli.COMMANDS)


def test_the_extras_and_modules_that_are_named_exist() -> None:
    text = "".join(READMES.values())
    extras = {
        extra for found in re.findall(r"\(extra `(\w+)`\)|\.\[([\w,]+)\]", text) for extra in ",".join(found).split(",")
    }
    assert extras - {""} <= set(PROJECT["project"]["optional-dependencies"])
    for module in set(re.findall(r"(?<!logger )`(opchat_(?:proto|transports)(?:\.[a-z]\w+)+)", text)):
        name, _, attribute = module.rpartition(".")
        found = importlib.import_module(name)
        assert hasattr(found, attribute) or importlib.import_module(module)


# ---------------------------------------------------------------- links


def without_code(text: str) -> str:
    return re.sub(r"`[^`\n]*`", "", re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE))


def anchors(text: str) -> set[str]:
    """GitHub's anchors for the headings of a page."""
    headings = re.findall(r"^#+ (.*)$", re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("path", READMES)
def test_every_relative_link_leads_to_a_file_and_a_heading(path: str) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", without_code(READMES[path])):
        if not target.startswith("https://"):
            name, _, anchor = target.partition("#")
            file = (ROOT / path).parent / name if name else ROOT / path
            assert file.exists(), target
            assert not anchor or anchor in anchors(file.read_text()), target


def test_a_package_index_shows_paths_instead_of_links_that_only_work_in_the_repository() -> None:
    settings = PROJECT["tool"]["hatch"]["metadata"]["hooks"]["fancy-pypi-readme"]
    shown = TOP
    for substitution in settings["substitutions"]:
        shown = re.sub(substitution["pattern"], substitution["replacement"], shown)
    links = re.findall(r"\]\(([^)\s]+)\)", shown)
    assert [link for link in links if not link.startswith(("https://", "#"))] == []
    assert "[WIRE.md]" not in shown
    assert "WIRE.md (`opchat_proto/WIRE.md`)" in shown


def test_the_top_page_is_short() -> None:
    assert len(TOP.splitlines()) <= 220
