"""`opchat batch`: questions from a file, a record of what was asked, and resuming after an interruption."""

import json
import os
import re
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from opchat_proto import End, Submit
from opchat_transports.blocking_server import serve
from opchat_transports.cli import run
from opchat_transports.testing import GOOD, Close, FaultServer, Script, Stall, Write, answer, cut, refused

from .command import PATIENCE, Terminal, opchat, start

STALL: Script = (Stall(),)


def lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def write(path: Path, *questions: Any) -> str:
    path.write_text("".join(f"{q if isinstance(q, str) else json.dumps(q)}\n" for q in questions))
    return str(path)


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "results.ndjson"


@pytest.fixture
def questions(tmp_path: Path) -> str:
    """Forty questions."""
    return write(tmp_path / "questions.txt", *(f"question {number}" for number in range(1, 41)))


def outcomes(output: Path) -> dict[Any, str]:
    """The last line for each id."""
    return {line["id"]: line.get("outcome", "none") for line in lines(output.read_text())}


def asked(server: FaultServer) -> list[str]:
    return [submit.new_message for submit in server.questions]


# ------------------------------------------------------------------------------------------------ the main job


@pytest.mark.parametrize("via", ["asyncio", "trio"])
def test_each_line_is_asked_and_has_a_result(tmp_path: Path, via: str, capsys: pytest.CaptureFixture[str]) -> None:
    file = write(tmp_path / "questions.txt", "Hi", "", "Who are you?")
    with FaultServer() as server:
        assert run(["batch", "--url", server.url, "--via", via, file]) == 0
    shown = capsys.readouterr()
    found = {line["id"]: (line["question"], line["outcome"], line["reply"], line["asked"]) for line in lines(shown.out)}
    assert found == {1: ("Hi", "end", "Hello, world!", True), 3: ("Who are you?", "end", "Hello, world!", True)}
    summary = shown.err.splitlines()
    assert summary[0] == "opchat: 2 of 2 questions: 2 end"
    assert re.fullmatch(r"opchat: first piece: p50 [\d.]+ s, p95 [\d.]+ s, p99 [\d.]+ s", summary[1])
    assert re.fullmatch(r"opchat: whole answer: p50 [\d.]+ s, p95 [\d.]+ s, p99 [\d.]+ s", summary[2])
    assert sorted(asked(server)) == ["Hi", "Who are you?"]


def test_the_built_in_bot_answers_without_a_site() -> None:
    result = opchat("batch", "-", input="Hello\n")
    assert [line["reply"] for line in lines(result.stdout)] == ["Hello! This is question 1 of our conversation."]
    assert result.returncode == 0


def test_a_question_may_have_its_own_site_bot_and_fields(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with FaultServer() as server:
        file = write(
            tmp_path / "questions.ndjson",
            {"id": "a", "question": "A", "url": server.url, "bot": "parrot", "topic": "prices"},
            {"id": "b", "messages": [{"role": "user", "content": "B"}], "url": f"{server.url}/blog"},
        )
        assert run(["batch", "--bot", "other", file]) == 0
    shown = capsys.readouterr()
    assert {line["id"]: line.get("topic") for line in lines(shown.out)} == {"a": "prices", "b": None}
    assert {submit.new_message: submit.bot_id for submit in server.questions} == {"A": "parrot", "B": "other"}
    assert {request.target for request in server.requests if request.route == "submit"} == {
        "/wp-json/mwai-ui/v1/chats/submit",
        "/blog/wp-json/mwai-ui/v1/chats/submit",
    }
    assert "built-in" not in shown.err


@pytest.mark.parametrize(
    ("expect", "held", "code"),
    [({"contains": "world"}, True, 0), ({"contains": "World"}, False, 10), ({"regex": "^Hello.*!$"}, True, 0)],
)
def test_a_result_says_whether_its_expectation_held(
    tmp_path: Path, expect: Any, held: bool, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write(tmp_path / "questions.ndjson", {"question": "A", "expect": expect})
    with FaultServer() as server:
        assert run(["batch", "--url", server.url, file]) == code
    shown = capsys.readouterr()
    assert [line["expect_held"] for line in lines(shown.out)] == [held]
    assert ("1 expectation not met" in shown.err) is not held


def test_a_broken_reply_is_a_result_and_the_exit_code_says_so(
    questions: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with FaultServer(*[GOOD, GOOD, GOOD, refused(500, "Broken.")] * 10) as server:
        assert run(["batch", "--url", server.url, questions]) == 10
    shown = capsys.readouterr()
    assert Counter(line["outcome"] for line in lines(shown.out)) == {"end": 30, "broken": 10}
    assert "40 of 40 questions: 30 end, 10 broken (10 refused)" in shown.err
    broken = next(line for line in lines(shown.out) if line["outcome"] == "broken")
    assert (broken["reason"], broken["status"], broken["detail"]) == ("refused", 500, "Broken.")


def test_after_a_broken_turn_the_rest_of_its_conversation_is_skipped(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    turns = [{"id": name, "question": name, "conversation": "talk"} for name in "abcd"]
    with FaultServer(GOOD, cut(250)) as server:
        assert run(["batch", "--url", server.url, write(tmp_path / "questions.ndjson", *turns)]) == 10
    shown = capsys.readouterr()
    assert {line["id"]: (line["outcome"], line["asked"]) for line in lines(shown.out)} == {
        "a": ("end", True),
        "b": ("broken", True),
        "c": ("skipped", False),
        "d": ("skipped", False),
    }
    assert "1 end, 1 broken, 2 skipped (1 truncated)" in shown.err


def test_repeat_asks_every_question_several_times(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with FaultServer() as server:
        assert run(["batch", "--url", server.url, "--repeat", "3", write(tmp_path / "q.txt", "a", "b")]) == 0
    found = {line["id"] for line in lines(capsys.readouterr().out)}
    assert found == {1, 2, "1#2", "2#2", "1#3", "2#3"}
    assert Counter(asked(server)) == {"a": 3, "b": 3}


@pytest.mark.parametrize(
    ("option", "most"),
    [(["--max", "5"], 5), (["--stop-after", "3", "--concurrency", "1"], 3), (["--max", "0"], 0)],
)
def test_max_and_stop_after_end_the_run_early(
    questions: str, option: list[str], most: int, capsys: pytest.CaptureFixture[str]
) -> None:
    with FaultServer(refused(500, "Broken.")) as server:
        assert run(["batch", "--url", server.url, *option, questions]) == 10
    assert len(asked(server)) == most
    assert f"opchat: {most} of 40 questions:" in capsys.readouterr().err


# ------------------------------------------------------------------------------------------------ wrong usage


GOOD_QUESTION = '{"id": "a", "question": "A"}'


@pytest.mark.parametrize(
    ("content", "arguments", "message"),
    [
        (None, ["FILE"], "FILE: No such file or directory"),
        ("Hi", [], "expected a FILE with questions, or --compare OLD NEW"),
        ("Hi", ["FILE", "--compare", "x", "y"], "expected a FILE with questions, or --compare OLD NEW"),
        ("Hi", ["FILE", "--resume"], "--resume needs --output, the file to continue"),
        ("Hi", ["FILE", "--again", "maybe"], "--again needs --resume"),
        ("Hi", ["FILE", "--output", "FILE"], "--output FILE: it exists; --resume continues it"),
        ("Hi", ["FILE", "--output", "FILE/x"], "--output FILE/x: Not a directory"),
        ("Hi", ["FILE", "--report", "FILE/x"], "--report FILE/x: Not a directory"),
        ("Hi", ["FILE", "--rate", "many"], "'many': expected a number, as in 30/min; also /s and /h"),
        ("Hi", ["FILE", "--rate", "0/min"], "'0/min': expected a number, as in 30/min; also /s and /h"),
        ("Hi", ["FILE", "--via", "blocking"], "'blocking' is not one of 'asyncio', 'trio'."),
        ("Hi", ["FILE", "--header", "Host: x"], "Host"),
        ("Hi", ["FILE", "--proxy", "ftp://x"], "ftp"),
        (f"{GOOD_QUESTION}\n{GOOD_QUESTION}", ["FILE"], "FILE, line 2: id 'a' is already on line 1"),
        ("\0", ["FILE"], "FILE: this is not text"),
        ("Hi\n", ["--compare", "FILE", "FILE"], "FILE, line 1: not JSON"),
    ],
)
def test_wrong_usage_asks_nothing(
    tmp_path: Path, content: str | None, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "questions"
    if content is not None:
        file.write_text(content)
    arguments = [argument.replace("FILE", str(file)) for argument in arguments]
    with FaultServer() as server:
        assert run(["batch", "--url", server.url, *arguments]) == 2
    shown = capsys.readouterr()
    assert message.replace("FILE with", "\0").replace("FILE", str(file)).replace("\0", "FILE with") in shown.err
    assert (shown.out, server.visits) == ("", ())


def test_more_than_twenty_questions_to_a_site_need_a_yes(questions: str) -> None:
    result = opchat("batch", "--url", "http://site.example", questions)
    assert result.stderr == (
        "opchat: Send 40 questions to http://site.example? Each may cost its owner money. --yes says so; --max sends"
        " less (see opchat batch --help)\n"
    )
    assert result.returncode == 2


@pytest.mark.parametrize(
    ("options", "count"), [(["--yes"], 40), (["--max", "20"], 20), (["--url", "http://a.localhost"], 40)]
)
def test_no_yes_is_needed_for_few_questions_or_for_this_machine(questions: str, options: list[str], count: int) -> None:
    proxy = "http://127.0.0.1:9"  # nothing listens there
    result = opchat("batch", "--url", "http://site.example", "--proxy", proxy, *options, questions)
    assert Counter((line["reason"], line["asked"]) for line in lines(result.stdout)) == {("proxy", False): count}


@pytest.mark.skipif(os.name != "posix", reason="needs a terminal")
@pytest.mark.parametrize("said", ["n\n", "\n"])
def test_on_a_terminal_batch_asks_for_the_yes(questions: str, output: Path, said: str) -> None:
    arguments = ("batch", "--url", "http://site.example", "--output", str(output), questions)
    with Terminal(*arguments) as terminal:
        terminal.until("Send 40 questions to http://site.example? Each may cost its owner money. [y/N]: ")
        terminal.enter(said)
        assert terminal.wait() == 130
    assert not output.exists()


# ------------------------------------------------------------------------------------------------ the record


def test_a_line_is_written_before_each_question_is_asked(questions: str, output: Path) -> None:
    seen = []

    def bot(submit: Submit) -> Iterator[str]:
        found = lines(output.read_text())
        seen.append({"id": int(submit.new_message.split()[1]), "state": "asked"} in _without_digests(found))
        yield "a"

    with serve(bot) as server:
        assert run(["batch", "--url", server.url, "--output", str(output), questions]) == 0
    assert seen == [True] * 40
    assert outcomes(output) == dict.fromkeys(range(1, 41), "end")


def _without_digests(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{name: value for name, value in line.items() if name != "digest"} for line in found]


@pytest.mark.parametrize("via", ["asyncio", "trio"])
def test_a_killed_run_resumes_with_the_questions_not_asked(questions: str, output: Path, via: str) -> None:
    arguments = ("batch", "--via", via, "--output", str(output), questions)
    with FaultServer(*[GOOD] * 10, *[STALL] * 4, GOOD) as server:
        with start(*arguments, "--url", server.url) as process:
            while len(server.questions) < 14:
                assert process.poll() is None
            process.kill()
        before = asked(server)
        assert len(before) == 14
        assert opchat(*arguments, "--url", server.url, "--resume").returncode == 10
        assert len(asked(server)) == 40
        assert set(Counter(asked(server)).values()) == {1}
        assert Counter(outcomes(output).values()) == {"end": 36, "broken": 4}
        maybe = [line for line in lines(output.read_text()) if line.get("asked") == "maybe"]
        assert {line["question"] for line in maybe} <= set(before)
        assert len(maybe) == 4

        again = opchat(*arguments, "--url", server.url, "--resume")  # changes nothing
        assert (again.returncode, len(asked(server))) == (10, 40)
        assert "40 of 40 questions: 36 end, 4 broken (4 lost); 4 may have been asked" in again.stderr

        assert opchat(*arguments, "--url", server.url, "--resume", "--again", "maybe").returncode == 0
    assert sorted(asked(server)[40:]) == sorted(line["question"] for line in maybe)
    assert outcomes(output) == dict.fromkeys(range(1, 41), "end")


def test_a_resumed_conversation_continues_where_it_stopped(tmp_path: Path, output: Path) -> None:
    turns = [{"id": name, "question": name, "conversation": "talk"} for name in "abc"]
    arguments = ["batch", "--output", str(output), write(tmp_path / "questions.ndjson", *turns)]
    with FaultServer(GOOD, cut(250), GOOD) as server:
        assert run([*arguments, "--url", server.url]) == 10
        assert run([*arguments, "--url", server.url, "--resume"]) == 10
        assert asked(server) == ["a", "b"]
        assert run([*arguments, "--url", server.url, "--resume", "--again", "broken"]) == 0
    assert asked(server) == ["a", "b", "b", "c"]
    assert [message.content for message in server.questions[-1].messages] == [
        "a",
        "Hello, world!",
        "b",
        "Hello, world!",
    ]
    assert outcomes(output) == {"a": "end", "b": "end", "c": "end"}


def test_an_unfinished_last_line_is_removed(tmp_path: Path, output: Path) -> None:
    arguments = ["batch", "--output", str(output), "--resume", write(tmp_path / "questions.txt", "a", "b")]
    with FaultServer() as server:
        assert run([*arguments, "--url", server.url, "--max", "1"]) == 10
        whole = output.read_text()
        output.write_text(whole + '{"id":2,"sta')
        assert run([*arguments, "--url", server.url]) == 0
    assert output.read_text().startswith(whole)
    assert outcomes(output) == {1: "end", 2: "end"}


def test_a_last_line_without_its_newline_counts(tmp_path: Path, output: Path) -> None:
    arguments = ["batch", "--output", str(output), "--resume", write(tmp_path / "questions.txt", "a")]
    with FaultServer() as server:
        assert run([*arguments, "--url", server.url]) == 0
        output.write_text(output.read_text().rstrip("\n"))
        assert run([*arguments, "--url", server.url]) == 0
    assert asked(server) == ["a"]
    assert outcomes(output) == {1: "end"}


def test_a_changed_question_is_not_asked_on_resume(
    tmp_path: Path, output: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "questions.txt"
    with FaultServer() as server:
        assert run(["batch", "--url", server.url, "--output", str(output), write(file, "a")]) == 0
        arguments = ["batch", "--url", server.url, "--output", str(output), "--resume", write(file, "b")]
        assert run(arguments) == 2
    assert "question 1 has changed since it was asked: give it another id" in capsys.readouterr().err
    assert asked(server) == ["a"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs Linux")
def test_a_question_that_cannot_be_recorded_is_not_asked(questions: str) -> None:
    with FaultServer() as server:
        result = opchat("batch", "--url", server.url, "--output", "/dev/full", questions)
    assert (result.stderr, result.returncode) == ("opchat: /dev/full cannot be written: No space left on device\n", 141)
    assert asked(server) == []


def test_a_closed_output_ends_the_run(questions: str) -> None:
    with FaultServer(GOOD, STALL) as server, start("batch", "--url", server.url, questions) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.wait(PATIENCE) == 141
    assert [visit for visit in server.visits if visit.left is None and not visit.finished] == []


# ------------------------------------------------------------------------------------------------ leaving early


@pytest.mark.skipif(os.name != "posix", reason="needs signals")
@pytest.mark.parametrize("via", ["asyncio", "trio"])
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_the_run_cleanly(
    questions: str, output: Path, via: str, number: signal.Signals, code: int
) -> None:
    arguments = ("batch", "--via", via, "--output", str(output), questions)
    with FaultServer(*[GOOD] * 6, STALL) as server, start(*arguments, "--url", server.url) as process:
        while len(server.questions) < 10:
            assert process.poll() is None
        process.send_signal(number)
        _, error = process.communicate(timeout=PATIENCE)
        assert process.returncode == code
    assert "opchat: 10 of 40 questions: 6 end, 4 broken (4 lost); 4 may have been asked\n" in error
    assert "Traceback" not in error
    assert Counter(outcomes(output).values()) == {"end": 6, "broken": 4}
    assert {line["detail"] for line in lines(output.read_text()) if "detail" in line} == {"closed by the caller"}
    assert [visit for visit in server.visits if visit.left is None and not visit.finished] == []


@pytest.mark.skipif(os.name != "posix", reason="needs signals")
def test_an_ignored_signal_stays_ignored(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "opchat_transports", "batch", write(tmp_path / "questions.txt", "Hello")]
    code = "import os, signal, sys; signal.signal(signal.SIGINT, signal.SIG_IGN); os.execv(sys.argv[1], sys.argv[1:])"
    with (
        FaultServer(STALL) as server,
        subprocess.Popen([sys.executable, "-c", code, *command, "--url", server.url]) as process,
    ):
        while not server.questions:
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE) == 143


# ------------------------------------------------------------------------------------------------ on a terminal


@pytest.mark.skipif(os.name != "posix", reason="needs a terminal")
def test_a_terminal_shows_the_progress(questions: str, output: Path) -> None:
    with FaultServer(*[GOOD] * 39, cut(250)) as server:
        arguments = ("batch", "--url", server.url, "--output", str(output), questions)
        with Terminal(*arguments, COLUMNS="100") as terminal:
            assert terminal.wait() == 10
    assert "40/40" in terminal.shown
    assert "39 end, 1 broken" in terminal.shown
    assert "opchat: 40 of 40 questions: 39 end, 1 broken (1 truncated)" in terminal.shown


def test_verbose_shows_the_exchange(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with FaultServer() as server:
        assert run(["batch", "-v", "--url", server.url, write(tmp_path / "questions.txt", "secret words")]) == 0
    shown = capsys.readouterr().err
    assert "> POST /wp-json/mwai-ui/v1/chats/submit" in shown
    assert "secret" not in shown


# ------------------------------------------------------------------------------------------------ made of results


def results(path: Path, *replies: str | None) -> str:
    """A result file with these replies; None is a broken one."""
    scripts = [cut(250) if reply is None else (Write(answer(End(reply))), Close()) for reply in replies]
    questions = write(path.with_suffix(".txt"), *("?" for _ in replies))
    with FaultServer(*scripts) as server:
        run(["batch", "--url", server.url, "--concurrency", "1", "--output", str(path), questions])
    return str(path)


def test_two_files_are_compared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old = results(tmp_path / "old", "same", "one\ntwo\nthree\nfour", "whole", "gone")
    new = results(tmp_path / "new", "same", "one\n2\nthree\nfour", None)
    capsys.readouterr()
    assert run(["batch", "--compare", old, new]) == 10
    shown = capsys.readouterr()
    assert shown.out == (
        "2:\n   one\n  -two\n  +2\n   three\n"
        "3:\n  broken (the answer was cut off: HTTP: peer closed connection without sending complete message body"
        " (incomplete chunked read)), was end\n  -whole\n  +Hello, world!\n"
        "4:\n  only in the old file\n"
    )
    assert shown.err == "opchat: 3 of 4 changed\n"


def test_equal_results_are_not_reported_as_changed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old = results(tmp_path / "old", "same\x1b[0m")
    capsys.readouterr()
    assert run(["batch", "--compare", old, old]) == 0
    assert capsys.readouterr() == ("", "opchat: 0 of 1 changed\n")


def test_a_compared_answer_cannot_control_the_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old, new = results(tmp_path / "old", "a"), results(tmp_path / "new", "\x1b]0;x\x07")
    capsys.readouterr()
    assert run(["batch", "--compare", old, new]) == 10
    assert capsys.readouterr().out == "1:\n  -a\n  +\\x1b]0;x\\x07\n"


class _Page(HTMLParser):
    """The text content of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: Counter[str] = Counter()
        self.links: list[str] = []
        self.text = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        self.links += [str(value) for name, value in attrs if name in ("href", "src")]

    def handle_data(self, data: str) -> None:
        self.text += data


def test_a_report_is_one_page_with_everything_escaped(tmp_path: Path) -> None:
    hostile = "<script>alert(1)</script>&amp;\x1b"
    report = tmp_path / "report.html"
    questions = write(
        tmp_path / "<b>.ndjson",
        {"id": hostile, "question": hostile, "expect": {"contains": "no"}},
        {"id": "<i>", "question": "b"},
    )
    with FaultServer((Write(answer(hostile, End(hostile))),), refused(500, "No & no.")) as server:
        run(["batch", "--url", server.url, "--concurrency", "1", "--report", str(report), questions])
    page = _Page(report.read_text())
    assert {tag: page.tags[tag] for tag in ("script", "b", "i", "svg", "h2", "rect")} == {
        "script": 0,
        "b": 0,
        "i": 0,
        "svg": 2,
        "h2": 6,
        "rect": 2,
    }
    assert page.links == []
    assert page.text.count("<script>alert(1)</script>&amp;\\x1b") == 6
    assert "No & no." in page.text
    assert "broken: refused" in page.text


def test_a_report_without_results_is_a_page_too(tmp_path: Path, questions: str) -> None:
    report = tmp_path / "report.html"
    with FaultServer() as server:
        assert run(["batch", "--url", server.url, "--max", "0", "--report", str(report), questions]) == 10
    page = _Page(report.read_text())
    assert (page.tags["svg"], page.text.count("none")) == (0, 6)
