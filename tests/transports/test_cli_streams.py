"""Standard streams: non-blocking descriptors, slow inputs, and bytes that are not text."""

import fcntl
import io
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from opchat_proto import End, Live
from opchat_transports.cli import _stdin  # its clock is set and watched here
from opchat_transports.cli._printer import Printer  # the command has no public functions
from opchat_transports.cli._terminal import Output  # the output alone is not public
from opchat_transports.testing import FaultServer

from .command import ENVIRONMENT, PATIENCE, Terminal, opchat, start, until_it_waits
from .wire import LAST, STREAM, answers, end, event, live, tells

PIECE = "0123456789abcdef" * 1024
LONG = PIECE * 40  # ten times the capacity of a pipe
LONG_RESPONSE = STREAM + live(PIECE) * 40 + end("x") + LAST


def nonblocking_pipe() -> tuple[int, int]:
    """A pipe whose two ends are non-blocking."""
    ends = os.pipe()
    for descriptor in ends:
        os.set_blocking(descriptor, False)
    return ends


def read_slowly(descriptor: int) -> bytes:
    """All output, read slowly after the pipe was full."""
    os.set_blocking(descriptor, True)
    data = bytearray()
    with open(descriptor, "rb", buffering=0) as file:
        while piece := file.read(10_000):
            data += piece
            os.sched_yield()
    return bytes(data)


def question(server: FaultServer) -> str:
    return str(json.loads(server.requests[-1].body)["newMessage"])


# ------------------------------------------------------------------------------------------------ outputs


@pytest.fixture
def long_answer(tmp_path: Path) -> Iterator[dict[str, list[str]]]:
    """One command of each kind with a long output, far more than a pipe holds."""
    (tmp_path / "body").write_bytes(LONG_RESPONSE)
    (tmp_path / "history").write_text(
        json.dumps([{"role": "user", "content": "A"}, {"role": "assistant", "content": LONG}])
    )
    with FaultServer(tells(*[PIECE] * 40)) as server:
        there = ["--url", server.url, "--no-save"]
        yield {
            "ask": ["ask", *there, "Hi"],
            "ask --json": ["ask", "--json", *there, "Hi"],
            "chat": ["chat", *there, "--history", str(tmp_path / "history")],
            "record": ["record", "--url", server.url, str(tmp_path / "recording"), "Hi"],
            "decode": ["decode", str(tmp_path / "body")],
            "decode --json": ["decode", "--json", str(tmp_path / "body")],
        }


@pytest.mark.parametrize("name", ["ask", "ask --json", "chat", "record", "decode", "decode --json"])
def test_the_whole_output_reaches_a_non_blocking_pipe(name: str, long_answer: dict[str, list[str]]) -> None:
    reading, writing = nonblocking_pipe()
    with start(*long_answer[name], stdout=writing, stdin=subprocess.PIPE) as process:
        os.close(writing)
        assert process.stdin is not None
        process.stdin.write("/history\n" if name == "chat" else "")
        process.stdin.close()
        written = read_slowly(reading).decode()
        assert process.wait(PATIENCE) == 0
    assert written.count(PIECE) == (120 if name == "ask --json" else 40)  # the end event contains the text twice
    assert written.endswith("\n")


def test_all_of_standard_error_reaches_a_non_blocking_pipe() -> None:
    reading, writing = nonblocking_pipe()
    thoughts = event(type="live", data=PIECE, subtype="thinking")
    with (
        FaultServer(answers(STREAM, *[thoughts] * 40, end("x"), LAST)) as server,
        start("ask", "--show", "all", "--url", server.url, "Hi", stderr=writing) as process,
    ):
        os.close(writing)
        written = read_slowly(reading).decode()
        assert process.wait(PATIENCE) == 0
    assert written == f"[thinking] {PIECE}\n" * 40


def test_the_whole_help_reaches_a_full_non_blocking_pipe() -> None:
    reading, writing = nonblocking_pipe()
    fill = 0
    try:
        while True:
            fill += os.write(writing, b"x" * 4096)
    except BlockingIOError:
        pass
    with start("ask", "--help", stdout=writing) as process:
        os.close(writing)
        written = read_slowly(reading)
        assert process.wait(PATIENCE) == 0
    assert written[fill:].decode() == opchat("ask", "--help").stdout


def test_a_reader_that_leaves_a_non_blocking_pipe_ends_the_command() -> None:
    reading, writing = nonblocking_pipe()
    with (
        FaultServer(tells(*[PIECE] * 40)) as server,
        start("ask", "--url", server.url, "Hi", stdout=writing) as process,
    ):
        os.close(writing)
        os.set_blocking(reading, True)
        assert os.read(reading, 10)
        os.close(reading)
        assert process.wait(PATIENCE) == 141


def test_ctrl_c_ends_a_command_whose_output_nobody_reads() -> None:
    reading, writing = os.pipe()
    if hasattr(fcntl, "F_SETPIPE_SZ"):  # elsewhere a pipe holds less than the answer anyway
        fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, 4096)
    with (
        FaultServer(tells(*[PIECE] * 40)) as server,
        start("ask", "--url", server.url, "Hi", stdout=writing) as process,
    ):
        os.close(writing)
        assert os.read(reading, 1)
        until_it_waits(process.pid)  # for the pipe
        process.send_signal(2)
        assert process.wait(PATIENCE) == 130
        os.close(reading)


# ------------------------------------------------------------------------------------------------ inputs


@contextmanager
def fed_slowly(data: bytes, *arguments: str) -> Iterator["subprocess.Popen[str]"]:
    """Run the command with this input, which arrives slowly on a non-blocking standard input."""
    reading, writing = nonblocking_pipe()
    os.set_blocking(writing, True)

    def feed() -> None:
        with open(writing, "wb") as file:
            for at in range(0, len(data), 5000):
                file.write(data[at : at + 5000])
                file.flush()
                os.sched_yield()

    feeder = threading.Thread(target=feed)
    with start(*arguments, stdin=reading) as process:
        os.close(reading)
        feeder.start()
        yield process
        feeder.join(PATIENCE)


def test_the_whole_question_is_read_from_a_non_blocking_input() -> None:
    with FaultServer(tells("a")) as server, fed_slowly(LONG[:300_000].encode(), "ask", "--url", server.url) as process:
        assert process.wait(PATIENCE) == 0
        assert question(server) == LONG[:300_000]


def test_all_questions_are_read_from_a_non_blocking_input() -> None:
    lines = ["a" * 50_000, "b" * 50_000, "c"]
    with (
        FaultServer(tells("a")) as server,
        fed_slowly("\n".join(lines).encode(), "chat", "--no-save", "--url", server.url) as process,
    ):
        assert process.wait(PATIENCE) == 0
    assert [json.loads(request.body)["newMessage"] for request in server.requests[1:]] == lines


def test_the_whole_body_is_read_from_a_non_blocking_input() -> None:
    with fed_slowly(LONG_RESPONSE, "decode", "--json") as process:
        assert process.stdout is not None
        assert process.stdout.read().count("\n") == 42
        assert process.wait(PATIENCE) == 0


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ("decode", "standard input is closed"),
        ("replay", "standard input is closed"),
        ("ask -", "standard input is closed"),
        ("record FILE -", "standard input is closed"),
        ("ask", "expected a question"),
        ("record FILE", "expected a question"),
    ],
)
def test_a_closed_standard_input_is_wrong_usage(words: str, line: str, tmp_path: Path) -> None:
    command = f'exec "$0" -m opchat_transports {words.replace("FILE", str(tmp_path / "a"))} <&-'
    result = subprocess.run(
        ["sh", "-c", command, sys.executable], env=ENVIRONMENT, timeout=PATIENCE, capture_output=True, encoding="utf-8"
    )
    assert (result.stdout, result.returncode, result.stderr.count("\n")) == ("", 2, 1)
    assert line in result.stderr


@pytest.mark.parametrize("command", ["ask", "chat", "decode", "replay"])
def test_an_unreadable_standard_input_is_wrong_usage(command: str, tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    descriptor = os.open(tmp_path / "a", os.O_WRONLY)
    with start(command, stdin=descriptor) as process:
        assert process.stderr is not None
        assert "standard input cannot be read: Bad file descriptor" in process.stderr.read()
        assert process.wait(PATIENCE) == 2
    os.close(descriptor)


# ------------------------------------------------------------------------------------------------ waiting for an end


@pytest.mark.parametrize("command", [["ask"], ["record", "FILE"]])
def test_waiting_for_the_end_of_a_pipe_is_announced(command: list[str], tmp_path: Path) -> None:
    words = [word.replace("FILE", str(tmp_path / "a")) for word in command]
    with (
        FaultServer(tells("a")) as server,
        start(*words, "--url", server.url, "Summarise:", stdin=subprocess.PIPE) as process,
    ):
        assert process.stdin is not None
        assert process.stderr is not None
        line = process.stderr.readline()
        assert line == "opchat: waiting for the end of standard input (</dev/null or --no-stdin does not wait)\n"
        assert server.requests == ()
        process.stdin.write("text")
        process.stdin.close()
        assert process.wait(PATIENCE) == 0
        assert process.stderr.read() == ""
    assert question(server) == "Summarise:\n\ntext"


def test_a_slow_but_active_pipe_is_not_announced(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(_stdin, "_SILENCE", 3600.0)
    with _stdin._told_when_silent() as came:  # the only way to observe the clock
        came()
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("command", [["ask"], ["record", "FILE"]])
def test_no_stdin_does_not_wait(command: list[str], tmp_path: Path) -> None:
    words = [word.replace("FILE", str(tmp_path / "a")) for word in command]
    with (
        FaultServer(tells("a")) as server,
        start(*words, "--no-stdin", "--url", server.url, "Hi", stdin=subprocess.PIPE) as process,
    ):
        assert process.wait(PATIENCE) == 0
    assert question(server) == "Hi"
    result = opchat(*words, "--no-stdin", "--url", "127.0.0.1:1", "-", "Hi")
    assert (result.stderr.split(" (see")[0], result.returncode) == ('opchat: expected "-" or --no-stdin, not both', 2)


@pytest.mark.parametrize("command", [["ask"], ["record", "FILE"]])
def test_a_terminal_is_not_waited_for(command: list[str], tmp_path: Path) -> None:
    words = [word.replace("FILE", str(tmp_path / "a")) for word in command]
    with FaultServer(tells("a")) as server, Terminal(*words, "--url", server.url, "Hi") as terminal:
        assert terminal.wait() == 0
    assert question(server) == "Hi"


# ------------------------------------------------------------------------------------------------ text

ENCODINGS = pytest.mark.parametrize(
    "encode",
    [
        pytest.param(lambda text: text.encode(), id="UTF-8"),
        pytest.param(lambda text: b"\xef\xbb\xbf" + text.encode(), id="BOM"),
        pytest.param(lambda text: b"\xff\xfe" + text.encode("utf-16-le"), id="UTF-16 LE"),
        pytest.param(lambda text: b"\xfe\xff" + text.encode("utf-16-be"), id="UTF-16 BE"),
    ],
)
LINE_ENDS = pytest.mark.parametrize("end_", ["\n", "\r\n", "\r"], ids=["LF", "CRLF", "CR"])
NO_TEXT = pytest.mark.parametrize(
    "data",
    [
        b"\xff",
        b"caf\xe9",
        b"a\0b",
        "hi".encode("utf-16-le"),
        b"\xff\xfe\x00\xd8",
        "hi".encode("utf-32"),
        b"\x89PNG\r\n",
    ],
    ids=["FF", "Latin-1", "NUL", "UTF-16 without BOM", "half a pair", "UTF-32", "PNG"],
)


@ENCODINGS
@LINE_ENDS
def test_standard_input_may_be_utf_8_or_utf_16_with_any_line_ends(encode: Any, end_: str, tmp_path: Path) -> None:
    data = encode(end_.join(["h\u00e9\U0001f600", "two", ""]))
    for command in (["ask"], ["record", str(tmp_path / "a")]):
        with FaultServer(tells("a")) as server:
            assert opchat(*command, "--url", server.url, input=data).returncode == 0
        assert question(server) == "h\u00e9\U0001f600\ntwo"


@ENCODINGS
@LINE_ENDS
def test_the_lines_of_a_chat_may_be_utf_8_or_utf_16(encode: Any, end_: str) -> None:
    data = encode(end_.join(["h\u00e9\U0001f600", "/history", "/quit", "never"]))
    with FaultServer(tells("one")) as server:
        result = opchat("chat", "--url", server.url, input=data)
    assert (result.stdout, result.stderr) == ("one\nuser: h\u00e9\U0001f600\nassistant: one\n", "")
    assert server.routes == ("start_session", "submit")


@ENCODINGS
@LINE_ENDS
def test_a_history_may_be_utf_8_or_utf_16(encode: Any, end_: str, tmp_path: Path) -> None:
    lines = ['{"role":"user","content":"h\u00e9"}', '{"role":"assistant","content":"B"}']
    (tmp_path / "history").write_bytes(encode(end_.join(lines)))
    for command in (["ask", "C"], ["chat"]):
        with FaultServer(tells("a")) as server:
            arguments = [*command, "--history", str(tmp_path / "history"), "--url", server.url]
            assert opchat(*arguments, input="C" if command == ["chat"] else "").returncode == 0
        assert [m["content"] for m in json.loads(server.requests[-1].body)["messages"]] == [
            "h\u00e9",
            "B",
        ]


@NO_TEXT
def test_input_that_is_not_text_is_refused(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "data").write_bytes(data)
    for arguments, given in (
        (["ask", "Summarise:"], data),
        (["record", str(tmp_path / "a"), "Summarise:"], data),
        (["chat"], data),
        (["ask", "--history", str(tmp_path / "data"), "Hi"], b""),
        (["chat", "--history", str(tmp_path / "data")], b"Hi"),
    ):
        with FaultServer(tells("a")) as server:
            result = opchat(*arguments, "--url", server.url, input=given)
        assert (result.stdout, result.returncode, server.requests) == ("", 2, ())
        assert "this is not text: expected UTF-8, or UTF-16 with a byte order mark" in result.stderr


def test_chat_answers_the_lines_before_one_that_is_not_text() -> None:
    result = opchat("chat", "--url", "127.0.0.1:1", input=b"/help\n" + b"\xe9\n" + b"B\n")
    assert result.returncode == 2
    assert "standard input, line" in result.stderr


def test_a_line_without_an_end_is_refused() -> None:
    result = opchat("chat", "--limit-request-bytes", "2KiB", "--url", "127.0.0.1:1", input="x" * 300_000)
    assert result.returncode == 2
    assert "standard input, line 1: expected at most" in result.stderr


@pytest.mark.parametrize("command", ["decode", "replay"])
def test_a_recording_that_an_editor_or_shell_has_rewritten_is_read(command: str, tmp_path: Path) -> None:
    with FaultServer(tells("Hel", "lo")) as server:
        assert opchat("record", str(tmp_path / "a"), "Hi", "--url", server.url).returncode == 0
    text = (tmp_path / "a").read_text()
    for data in (
        b"\xef\xbb\xbf" + text.encode(),
        text.replace("\n", "\r\n").encode(),
        b"\xff\xfe" + text.replace("\n", "\r\n").encode("utf-16-le"),
    ):
        (tmp_path / "b").write_bytes(data)
        if command == "decode":
            result = opchat("decode", str(tmp_path / "b"))
            assert (result.stdout.count('live    "'), result.returncode) == (2, 0)
        else:
            with start("replay", str(tmp_path / "b")) as process:
                assert process.stderr is not None
                line = process.stderr.readline()
                if data.startswith(b"\xff"):
                    assert "this is UTF-16" in line
                    line = process.stderr.readline()
                assert "is replayed until Ctrl-C" in line
                process.send_signal(2)
                assert process.wait(PATIENCE) == 0


def test_a_body_in_utf_16_is_decoded_with_a_note() -> None:
    result = opchat("decode", input=b"\xff\xfe" + 'data: {"type":"live","data":"Hi"}\r\n\r\n'.encode("utf-16-le"))
    assert 'live    "Hi"' in result.stdout
    assert result.stderr == "opchat: -: this is UTF-16; offsets count its bytes as UTF-8\n"
    assert result.returncode == 7


# ------------------------------------------------------------------------------------------------ linear


@pytest.mark.parametrize("option", [{}, {"as_json": True}, {"kinds": "all"}], ids=str)
def test_printing_is_linear_in_the_number_of_pieces(option: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def seconds(count: int) -> float:
        monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), "utf-8"))
        printer = Printer(Output(), "http://site.example", quiet=True, **option)
        began = time.process_time()
        for _ in range(count):
            printer.print(Live("some text of a piece "))
        printer.print(End("some text of a piece " * count))
        return time.process_time() - began

    seconds(1000)
    assert seconds(80_000) < 12 * seconds(20_000)  # quadratic would be 16 times as long
