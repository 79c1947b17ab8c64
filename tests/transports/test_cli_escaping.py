"""A server's text is shown, but can neither control the terminal nor imitate lines of the command."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opchat_transports.cli._escaping import PiecewiseEscaper, escape, escape_line  # the command has no public functions
from opchat_transports.testing import FaultServer

from .command import Terminal, asking, opchat
from .wire import LAST, STREAM, answers, end, event, live

FLAG = "\U0001f3f4\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f"  # the flag of England
INVISIBLE = "\u00ad\u180e\u200b\u2028\u2029\u2060\u2061\u2064\u206a\u206f\ufeff\ufff9"
NEEDED = "\u200c\u200d\u200e\u200f\u061c\u034f\u05d0\u0627\u0301\ufe0f\u3000\u00a0"


@pytest.mark.parametrize(
    ("text", "piped", "on_terminal"),
    [
        ("a\tb\nc", "a\tb\nc", "a\tb\nc"),
        ("a\r\nb", "a\nb", "a\nb"),
        ("a\rb\r", "a\\x0db\\x0d", "a\\x0db\\x0d"),
        ("\r\r\n", "\\x0d\n", "\\x0d\n"),
        ("\x1b[2J\x7f\x85\x9b", "\\x1b[2J\\x7f\\x85\\x9b", "\\x1b[2J\\x7f\\x85\\x9b"),
        ("\u202e\u2066", "\\u202e\\u2066", "\\u202e\\u2066"),
        (INVISIBLE, INVISIBLE, "".join(f"\\x{ord(c):02x}" if ord(c) < 256 else f"\\u{ord(c):04x}" for c in INVISIBLE)),
        (NEEDED, NEEDED, NEEDED),
        (FLAG, FLAG, FLAG),
        (f"{FLAG}\U000e0041", f"{FLAG}\U000e0041", f"{FLAG}\\U000e0041"),
        ("\U000e0041\U000e0001", "\U000e0041\U000e0001", "\\U000e0041\\U000e0001"),
        ("a\U000e0067\U000e007f", "a\U000e0067\U000e007f", "a\\U000e0067\\U000e007f"),
        ("\U0001f3f4\U000e0001", "\U0001f3f4\U000e0001", "\U0001f3f4\\U000e0001"),
        ("\U0001f3f4" + "\U000e0061" * 9, "\U0001f3f4" + "\U000e0061" * 9, None),
    ],
)
def test_control_characters_and_invisible_text_are_escaped(text: str, piped: str, on_terminal: str | None) -> None:
    if on_terminal is None:  # longer than any flag: invisible text
        on_terminal = "\U0001f3f4" + "\U000e0061" * 6 + "\\U000e0061" * 3
    assert escape(text, terminal=False) == piped
    assert escape(text, terminal=True) == on_terminal
    assert escape_line(text, terminal=True) == on_terminal.replace("\n", "\\x0a")


TEXTS = st.text(st.sampled_from("a\r\n\x1b\u200b\U0001f3f4\U000e0067\U000e007f"), max_size=30)


@given(TEXTS, st.lists(st.integers(0, 30)), st.booleans())
def test_pieces_are_escaped_like_the_whole_text(text: str, cuts: list[int], terminal: bool) -> None:
    escaper = PiecewiseEscaper(terminal=terminal)
    places = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
    pieces = [text[a:b] for a, b in pairwise(places)]
    assert "".join([*map(escaper.add, pieces), escaper.finish()]) == escape(text, terminal=terminal)


@pytest.mark.parametrize("option", [[], ["--markdown"]])
def test_on_a_terminal_invisible_characters_are_escaped(option: list[str]) -> None:
    text = f"a\u200bb\u2060c\ufeffd {FLAG} \U000e0041 \u0627\u200f"
    script = answers(STREAM, live(text), end(text), LAST)
    with FaultServer(script) as server, Terminal("ask", *option, "--url", server.url, "Hi") as terminal:
        assert terminal.wait() == 0
    assert f"a\\u200bb\\u2060c\\ufeffd {FLAG} \\U000e0041 \u0627\u200f" in terminal.shown


def test_a_pipe_gets_the_text_with_its_line_ends_as_newlines() -> None:
    text = "one\u200b\r\ntwo\r"
    pieces = [live("one\u200b\r"), live("\ntwo\r"), end(text)]
    result = asking(answers(STREAM, *pieces, LAST))
    assert (result.stdout, result.stderr) == ("one\u200b\ntwo\\x0d\n", "")
    raw = asking(answers(STREAM, *pieces, LAST), "--raw", "Hi")
    assert raw.stdout == "one\u200b\r\ntwo\r\n"


def test_a_server_cannot_forge_a_line_of_the_command() -> None:
    forged = "x\nopchat: the bill is paid\r\nopchat: really"
    result = asking(answers(STREAM, live("a piece"), end(forged), LAST))
    assert result.stderr == (
        "opchat: a piece was lost or the site changed its answer; the final text is: "
        "x\\x0aopchat: the bill is paid\\x0aopchat: really\n"
    )
    aside = event(type="live", data=forged, subtype=f"k\n{forged}")
    result = asking(answers(STREAM, aside, live("a"), end("a"), LAST), "--show", "all", "Hi")
    kind = "k\\x0ax\\x0aopchat: the bill is paid\\x0aopchat: really"
    assert result.stderr.splitlines() == [
        f"[{kind}] x",
        f"[{kind}] opchat: the bill is paid",
        f"[{kind}] opchat: really",
    ]
    result = asking(answers(STREAM, event(type="error", data=forged), LAST))
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize("option", [[], ["--json"]])
def test_a_server_cannot_forge_a_line_of_decode(option: list[str]) -> None:
    body = event(type="live", data="a", subtype="k\n       1  end     ").split(b"\r\n", 1)[1]
    result = opchat("decode", *option, input=body)
    assert len(result.stdout.splitlines()) == (3 if option else 4)  # the answer, its piece, and why it broke off
