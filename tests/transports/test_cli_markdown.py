"""`--markdown`: blocks, the output, and how often it is drawn."""

import io
import sys
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from rich.markdown import Markdown

from opchat_transports.cli import _markdown  # its console is watched here
from opchat_transports.cli._markdown import BlockSplitter, GrowingMarkdown  # the renderer alone is not public
from opchat_transports.testing import FaultServer

from .command import Terminal
from .wire import LAST, STREAM, answers, end, live


def blocks(text: str, size: int) -> list[str]:
    splitter = BlockSplitter()
    found = [block for at in range(0, len(text), size) for block in splitter.add(text[at : at + size])]
    return [*found, splitter.unfinished]


@pytest.mark.parametrize("size", [1, 3, 1000])
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("one\ntwo\n", ["one\ntwo\n"]),
        ("one\n\ntwo\n", ["one\n\n", "two\n"]),
        ("one\n \n\n\ntwo\n", ["one\n \n\n\n", "two\n"]),
        ("- a\n\n  b\n\n- c\n", ["- a\n\n  b\n\n", "- c\n"]),
        ("```\na\n\nb\n```\n\nc\n", ["```\na\n\nb\n```\n\n", "c\n"]),
        ("~~~~ py\n```\n\n~~~~\n\nc\n", ["~~~~ py\n```\n\n~~~~\n\n", "c\n"]),
        ("\n\none\n", ["\n\n", "one\n"]),
    ],
)
def test_a_blank_line_ends_a_block(text: str, expected: list[str], size: int) -> None:
    assert blocks(text, size) == expected


@given(st.text(st.sampled_from("ab \n`~"), max_size=200), st.integers(1, 50))
def test_the_blocks_joined_are_the_text(text: str, size: int) -> None:
    assert "".join(blocks(text, size)) == text
    assert blocks(text, size) == blocks(text, 1)


@pytest.mark.parametrize("unit", ["word ", "some words here\n", "x"])
def test_no_block_exceeds_the_size_that_is_redrawn(unit: str) -> None:
    text = unit * (50_000 // len(unit))
    found = blocks(text, 7)
    assert "".join(found) == text
    assert max(map(len, found)) <= 4096


def test_code_that_spans_several_blocks_stays_code() -> None:
    found = blocks("```python\n" + "x = 1\n" * 3000 + "```\n\nend\n", 100)
    assert len(found) > 4
    assert all(block.startswith("```python\n") and block.rstrip().endswith("\n```") for block in found[:-1])
    assert sum(block.count("x = 1") for block in found) >= 2995  # a block may end inside a line


class Drawn:
    """The output on an in-memory terminal, and how much Markdown was rendered for it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.file = io.StringIO()
        self.rendered = 0
        monkeypatch.setattr(sys, "stdout", self.file)
        monkeypatch.setattr(_markdown, "Console", self.console)
        monkeypatch.setattr(_markdown, "_REDRAWN", 3600.0)
        render = Markdown

        def counted(text: str, **options: Any) -> Any:
            self.rendered += len(text)
            return render(text, **options)

        monkeypatch.setattr(_markdown, "Markdown", counted)

    def console(self, file: Any) -> Console:
        return Console(file=self.file, force_terminal=True, width=60, color_system=None, legacy_windows=False)

    def text(self, *pieces: str) -> str:
        growing = GrowingMarkdown()
        for piece in pieces:
            growing.add(piece)
        growing.close()
        return self.file.getvalue()


@pytest.mark.parametrize("size", [1, 10, 100_000])
@pytest.mark.parametrize("unit", ["Some *words* of a paragraph.\n\n", "Words without an end ", "x = 1\n"])
def test_the_work_is_linear_in_the_text_however_it_is_cut(
    unit: str, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = []
    for length in (6_000, 24_000):
        drawn = Drawn(monkeypatch)
        text = unit * (length // len(unit))
        drawn.text(*(text[at : at + size] for at in range(0, len(text), size)))
        work.append(drawn.rendered / len(text))
        monkeypatch.undo()
    assert max(work) < 1.5


def test_output_can_be_closed_after_ctrl_c_during_the_first_drawing(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    drawn = Drawn(monkeypatch)
    growing = GrowingMarkdown()
    with monkeypatch.context() as patched:
        patched.setattr(_markdown, "Markdown", interrupted)
        with pytest.raises(KeyboardInterrupt):
            growing.add("Hi")
    growing.close()
    assert "Hi" in drawn.file.getvalue()


def test_blank_lines_are_not_doubled(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "# One\n\nA paragraph.\n\n\n\n## Two\n\n- a\n- b\n\n## Three\ntext\n"
    shown = Drawn(monkeypatch).text(*text)
    lines = [line.strip() for line in shown.split("\x1b[?25l")[-1].splitlines()]
    assert "" in lines
    assert not any(a == b == "" for a, b in pairwise(lines))
    assert [line for line in lines if line.isalpha() or " " in line][-1] == "text"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a&#x202e;b", "a\\u202eb"),
        ("a&#8238;b", "a\\u202eb"),
        ("a&#x1b;[2Jb", "a\ufffd[2Jb"),
        ("`&#x202e; \u202e`", "\\u202e"),
        ("> &#x200b;quote", "\\u200bquote"),
        ("| a&#x202e; |\n|---|\n| b |", "a\\u202e"),
        ("```\ncode \x1b[2J\n```", "code \\x1b[2J"),
        ("![alt \u202e](http://x)", "alt \\u202e"),
    ],
)
def test_characters_that_markdown_decodes_are_escaped_too(text: str, shown: str) -> None:
    script = answers(STREAM, live(text), end(text), LAST)
    with FaultServer(script) as server, Terminal("ask", "--markdown", "--url", server.url, "Hi") as terminal:
        assert terminal.wait() == 0
    assert shown in terminal.shown
    assert "\u202e" not in terminal.shown
    assert "\x1b[2J" not in terminal.shown
