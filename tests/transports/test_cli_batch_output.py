"""Two runs of `opchat batch` on one --output: the second one asks nothing."""

import os
from pathlib import Path

import click
import pytest

from opchat_transports.cli import run
from opchat_transports.cli._result_file import ResultFile  # not part of the library
from opchat_transports.testing import GOOD, FaultServer, Stall

from .command import start


@pytest.fixture
def questions(tmp_path: Path) -> str:
    path = tmp_path / "questions.txt"
    path.write_text("a\nb\n")
    return str(path)


@pytest.mark.parametrize(
    ("more", "said"),
    [([], "it exists; --resume continues it"), (["--resume"], "another run is writing to it")],
)
def test_an_output_that_another_run_holds_is_refused(
    more: list[str], said: str, questions: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "results.ndjson"
    with FaultServer((Stall(),)) as server:
        arguments = ["batch", "--url", server.url, "--output", str(output), questions]
        with start(*arguments) as process:
            while len(server.questions) < 2:
                assert process.poll() is None
            before = output.read_bytes()
            assert run([*arguments, *more]) == 2
            process.kill()
        assert len(server.questions) == 2
    assert f"--output {output}: {said}" in capsys.readouterr().err
    assert output.read_bytes() == before


def test_a_device_is_not_locked(questions: str) -> None:
    with FaultServer((Stall(),), (Stall(),), GOOD) as server:
        arguments = ["batch", "--url", server.url, "--output", os.devnull, questions]
        with start(*arguments) as process:
            while len(server.questions) < 2:
                assert process.poll() is None
            assert run(arguments) == 0
            process.kill()


def test_an_output_that_another_run_has_changed_meanwhile_is_refused(tmp_path: Path) -> None:
    output = tmp_path / "results.ndjson"
    output.write_text("12345\n")
    with ResultFile(output, 6):
        pass
    with pytest.raises(click.UsageError, match="another run is writing to it"):
        ResultFile(output, 0)
    assert output.read_text() == "12345\n"


@pytest.mark.parametrize("content", ["a note\nof mine", '{"other": 1}\nlast'])
def test_a_file_with_other_content_is_left_unchanged(content: str, questions: str, tmp_path: Path) -> None:
    output = tmp_path / "notes.txt"
    output.write_text(content)
    assert run(["batch", "--output", str(output), "--resume", questions]) == 2
    assert output.read_text() == content
