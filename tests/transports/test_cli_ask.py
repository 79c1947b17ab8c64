"""`opchat ask` with its options: transports, formats, continued conversations, terminals."""

import json
import signal
import socket
import stat
import threading
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from opchat_transports.testing import Expect, FaultServer, Script, Stall

from .command import ENVIRONMENT, PATIENCE, Terminal, asking, opchat, opchat_process, start
from .peer import Peer, plays
from .wire import LAST, STREAM, answer, answers, end, event, live, object_, tells

VIAS = pytest.mark.parametrize("via", ["blocking", "trio", "asyncio", "httpx"])


def lines(text: str) -> list[Any]:
    return [json.loads(line) for line in text.splitlines()]


# ------------------------------------------------------------------------------------------------ transports


@VIAS
def test_each_transport_gives_the_answer_and_the_exit_code(via: str) -> None:
    result = asking(tells("Hel", "lo"), "--via", via, "Hi")
    assert (result.stdout, result.stderr, result.returncode) == ("Hello\n", "", 0)
    result = asking(answers(STREAM, live("a"), event(type="error", data="Limit.")), "--via", via, "Hi")
    assert (result.stdout, result.returncode) == ("a\n", 8)
    assert result.stderr.startswith("opchat: the server reported an error: Limit. (at http://127.0.0.1:")


@VIAS
def test_ctrl_c_closes_the_connection_of_each_transport(via: str) -> None:
    left = threading.Event()

    @plays
    def play(peer: Peer) -> None:
        peer.send(STREAM, live("first"))
        assert peer.is_left()
        left.set()

    with FaultServer(play) as server, start("ask", "--via", via, "--url", server.url, "Hi") as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.read(5) == "first"
        process.send_signal(signal.SIGINT)
        assert left.wait(PATIENCE)
        assert process.wait(PATIENCE) == 130
        assert process.stderr.read().strip() == ""


@VIAS
def test_ctrl_c_while_connecting_exits_with_130(via: str) -> None:
    with ExitStack() as opened:
        listener = opened.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        port = listener.getsockname()[1]
        for _ in range(4):  # these fill its backlog, so the next connection is neither accepted nor refused
            connection = opened.enter_context(socket.socket())
            connection.setblocking(False)
            connection.connect_ex(("127.0.0.1", port))
        with start("ask", "-v", "--via", via, "--url", f"127.0.0.1:{port}", "Hi") as process:
            assert process.stderr is not None
            assert ("> POST" if via == "httpx" else "connecting to") in process.stderr.readline()
            process.send_signal(signal.SIGINT)
            assert process.wait(PATIENCE) == 130
            assert "Traceback" not in process.stderr.read()


@VIAS
def test_the_trace_shows_the_exchange_and_no_secret(via: str) -> None:
    session = object_(
        200, success=True, sessionId="SECRETSESSION", restNonce="SECRETNONCE", more={"Set-Cookie": "SECRETCOOKIE"}
    ).replace(b"\r\n", b"\r\nSet-Cookie: mwai_session_id=SECRETCOOKIE\r\nX-WP-Nonce: SECRETOTHER\r\n", 1)

    tells_a = answers(STREAM, end("a", new_token="SECRETTOKEN"), LAST)
    with FaultServer((Expect("start_session"), *answers(session)), tells_a) as server:
        result = opchat("ask", "-v", "--via", via, "--url", server.url, "--header", "Authorization: SECRETHEADER", "Hi")
    assert (result.stdout, result.returncode) == ("a\n", 0)
    assert "> POST /wp-json/mwai/v1/start_session" in result.stderr
    assert "< status 200; " in result.stderr
    assert "set-cookie: ..." in result.stderr
    assert "SECRET" not in result.stderr
    assert b"SECRETHEADER" in server.requests[0].raw


@VIAS
@pytest.mark.parametrize("option", [(), ("--json",)])
def test_each_piece_is_printed_before_the_next_is_sent(via: str, option: tuple[str, ...]) -> None:
    seen = threading.Event()

    @plays
    def play(peer: Peer) -> None:
        peer.send(STREAM, live("first"))
        assert seen.wait(PATIENCE)
        peer.send(end("first"), LAST)

    with FaultServer(play) as server, start("ask", *option, "--via", via, "--url", server.url, "Hi") as process:
        assert process.stdout is not None
        first = '{"type":"live","kind":"content","text":"first"}\n' if option else "first"
        assert process.stdout.read(len(first)) == first
        seen.set()
        process.stdout.read()
        assert process.wait(PATIENCE) == 0


# ------------------------------------------------------------------------------------------------ formats


def test_json_prints_an_object_for_each_event() -> None:
    result = asking(
        answers(
            STREAM,
            live("a\x1b\x7f"),
            event(type="live", data="Thinking...", subtype="thinking"),
            event(type="new", data="x"),
            end("a", new_token="secret", usage={"total_tokens": 3}),
            LAST,
        ),
        "--json",
        "Hi",
    )
    assert lines(result.stdout) == [
        {"type": "live", "kind": "content", "text": "a\x1b\x7f"},
        {"type": "live", "kind": "thinking", "text": "Thinking..."},
        {"type": "live", "kind": "unknown", "text": "x", "raw": '{"type": "new", "data": "x"}'},
        {
            "type": "end",
            "reply": "a",
            "payload": {"success": True, "reply": "a", "usage": {"total_tokens": 3}},
        },
    ]
    assert result.stdout.isprintable() is False  # the line ends are not printable; the lines are:
    assert all(line.isprintable() and line.isascii() for line in result.stdout.splitlines())
    assert (result.stderr, result.returncode) == ("", 0)


def test_json_of_a_broken_answer_contains_the_exit_code() -> None:
    refusal = object_(403, code="rest_forbidden", message="No.", data={"status": 403})
    result = asking(answers(refusal.replace(b"\r\n", b"\r\nRetry-After: 7\r\n", 1)), "--json", "Hi")
    assert lines(result.stdout) == [
        {
            "type": "broken",
            "reason": "refused",
            "detail": "No.",
            "status": 403,
            "code": "rest_forbidden",
            "retry_after": 7,
            "exit_code": 4,
        }
    ]
    assert result.returncode == 4


def test_no_stream_asks_for_one_piece() -> None:
    with FaultServer(answers(object_(success=True, reply="whole"))) as server:
        result = opchat("ask", "--no-stream", "--url", server.url, "Hi")
    assert (result.stdout, result.returncode) == ("whole\n", 0)
    assert b'"stream":false' in server.requests[1].raw


@pytest.mark.parametrize(
    ("kinds", "shown"),
    [
        ("", ""),
        ("status", "[status] B\\x1b\n"),
        ("status,thinking", "[thinking] A\n[status] B\\x1b\n"),
        ("all", "[thinking] A\n[status] B\\x1b\n[unreadable]\n"),
    ],
)
def test_what_is_not_part_of_the_answer_is_shown_on_standard_error(kinds: str, shown: str) -> None:
    pieces = [
        event(type="live", data="A", subtype="thinking"),
        live("text"),
        event(type="live", data="B\x1b", subtype="status"),
        b"7\r\ndata:\n\n\r\n",
    ]
    result = asking(answers(STREAM, *pieces, end("text"), LAST), "--show", kinds, "Hi")
    assert (result.stdout, result.stderr) == ("text\n", shown)


def test_raw_switches_escaping_off() -> None:
    result = asking(answers(STREAM, live("\x1b[1m"), event(type="error", data="\x07")), "--raw", "Hi")
    assert result.stdout == "\x1b[1m\n"
    assert "error: \x07 (at" in result.stderr


# ------------------------------------------------------------------------------------------------ what goes with it


def test_headers_timeouts_and_limits_reach_the_transport() -> None:
    with FaultServer(tells("a")) as server:
        result = opchat("ask", "--url", server.url, "--header", "X-One: 1", "--header", "x-two:a:b", "Hi")
    assert result.returncode == 0
    assert all(b"X-One: 1\r\n" in request.raw and b"x-two: a:b\r\n" in request.raw for request in server.requests)
    result = asking(answers(STREAM, live("x" * 3000)), "--limit-event-bytes", "2KiB", "Hi")
    assert result.returncode == 9
    assert "more than 2048 bytes in one event" in result.stderr
    assert "--limit-event-bytes allows more" in result.stderr

    result = asking((*answers(STREAM, live("a")), Stall()), "--timeout", "20", "--timeout-idle", "0.3", "Hi")
    assert result.returncode == 6
    assert "within 0.3 s (timeout 'idle')" in result.stderr
    assert "--timeout-idle waits longer" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--header", "Cookie: a", "x"], "--header cannot set Cookie"),
        (["--header", "nothing", "x"], "expected 'NAME: VALUE'"),
        (["--proxy", "ftp://x", "x"], "proxy"),
        (["--limit-json-depth", "0", "x"], "json_depth: expected 1 to 512"),
        (["--limit-headers", "1GB", "x"], "--limit-headers"),
        (["--via", "pigeon", "x"], "--via"),
        (["--timeout-idle", "-1", "x"], "--timeout-idle"),
        (["--continue", "--history", "x", "x"], "not both"),
        (["--history", "/nonexistent", "x"], "No such file"),
    ],
)
def test_wrong_usage_gives_one_line(arguments: Any, line: str) -> None:
    result = opchat("ask", "--url", "127.0.0.1:1", *arguments)
    assert (result.stdout, result.returncode) == ("", 2)
    assert line in result.stderr
    assert result.stderr.startswith("opchat: ")
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize("variables", [{}, {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}], ids=str)
def test_arguments_are_utf_8_in_any_locale(variables: Any, tmp_path: Path) -> None:
    with FaultServer(tells("a")) as server:
        for question, asked in (("h\u00e9", "h\u00e9"), (b"h\xe9", "h\ufffd")):
            arguments: Any = (question, "--bot", question, "--url", server.url)
            environment = ENVIRONMENT | {"XDG_STATE_HOME": str(tmp_path)} | variables
            result = opchat_process("ask", *arguments, env=environment)
            assert (result.stdout, result.stderr, result.returncode) == ("a\n", "", 0)
            body = json.loads(server.requests[-1].body)
            assert (body["newMessage"], body["botId"]) == (asked, asked)


def test_a_limit_larger_than_memory_is_accepted() -> None:
    with FaultServer(tells("a")) as server:
        result = opchat("ask", "--limit-request-bytes", "9" * 18, "--url", server.url, input="Hi")
    assert (result.stdout, result.stderr, result.returncode) == ("a\n", "", 0)


def test_an_unreachable_proxy_has_exit_code_7() -> None:
    result = opchat("ask", "--url", "http://site.example", "--proxy", "http://user:SECRET@127.0.0.1:1", "Hi")
    assert result.returncode == 7
    assert "opchat: the proxy failed: " in result.stderr
    assert "SECRET" not in result.stderr
    with FaultServer(tells("a")) as server:
        environment = ENVIRONMENT | {"http_proxy": "http://127.0.0.1:1"}
        assert opchat("ask", "--url", server.url, "--proxy", "none", "Hi", env=environment).stdout == "a\n"


# ------------------------------------------------------------------------------------------------ firewalls, refusals


@pytest.mark.parametrize("status", [200, 403, 503])
@pytest.mark.parametrize("at", ["start_session", "submit"])
def test_a_firewalls_challenge_page_is_named(status: int, at: str) -> None:
    page = answer(b"<!DOCTYPE html><html><title>Just a moment...</title>", status)
    result = asking(answers(page), session=at == "submit")
    assert (result.stdout, result.returncode) == ("", 3)
    assert "a firewall's challenge page" in result.stderr
    assert "Just a moment" in result.stderr
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize(("status", "code"), [(401, 4), (403, 4), (404, 3), (500, 3)])
def test_a_refusal_of_start_session_is_named(status: int, code: int) -> None:
    refusal = object_(status, code="rest_disabled", message="No.", data={"status": status})
    assert asking(answers(refusal), session=False).returncode == code


# ------------------------------------------------------------------------------------------------ conversations


def question(server: FaultServer) -> Any:
    return json.loads(server.requests[-1].body)


@pytest.mark.parametrize(
    "text",
    [
        '[{"role":"user","content":"A"},{"role":"assistant","content":"B"}]',
        '{"role":"user","content":"A"}\n\n{"role":"assistant","content":"B"}\n',
        '{"messages":[{"role":"user","content":"A"},{"role":"assistant","content":"B"}]}',
    ],
)
def test_history_comes_from_a_file(text: str, tmp_path: Path) -> None:
    (tmp_path / "history").write_text(text)
    with FaultServer(tells("a")) as server:
        assert opchat("ask", "--history", str(tmp_path / "history"), "--url", server.url, "Hi").stdout == "a\n"
    assert question(server)["messages"] == [{"role": "user", "content": "A"}, {"role": "assistant", "content": "B"}]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("[1]", "messages[0]"),
        ('{"role":"user","content":"A"}\n{"role"', "line 2: not JSON"),
        ('[{"role":"robot","content":"A"}]', "messages[0]['role']"),
        ("3", "expected an array"),
    ],
)
def test_a_malformed_history_is_wrong_usage(text: str, line: str, tmp_path: Path) -> None:
    (tmp_path / "history").write_text(text)
    result = opchat("ask", "--history", str(tmp_path / "history"), "--url", "127.0.0.1:1", "Hi")
    assert result.returncode == 2
    assert line in result.stderr


def test_continue_goes_on_with_the_last_conversation_of_this_bot(tmp_path: Path) -> None:
    with FaultServer(tells("one"), tells("two"), tells("three")) as server:
        opchat("ask", "--url", server.url, "A")
        first = question(server)
        result = opchat("ask", "--url", server.url, "--continue", "B")
        second = question(server)
        result = opchat("ask", "--url", server.url, "--continue", "--bot", "other", "C")
    assert second["messages"] == [{"role": "user", "content": "A"}, {"role": "assistant", "content": "one"}]
    assert second["chatId"] == first["chatId"]
    assert server.routes == ("start_session", "submit", "submit", "start_session", "submit")
    assert "no conversation to continue" in result.stderr
    assert result.returncode == 0
    files = list((tmp_path / "state" / "opchat").iterdir())
    assert len(files) == 2
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}
    assert stat.S_IMODE(files[0].parent.stat().st_mode) == 0o700


def test_a_broken_answer_and_no_save_leave_the_saved_conversation_unchanged(tmp_path: Path) -> None:
    with FaultServer(tells("one"), answers(STREAM, live("half")), tells("x"), tells("two")) as server:
        for arguments in (["A"], ["--continue", "B"], ["--continue", "--no-save", "C"], ["--continue", "D"]):
            opchat("ask", "--url", server.url, *arguments)
    assert [message["content"] for message in question(server)["messages"]] == ["A", "one"]


@pytest.mark.parametrize("arguments", [[], ["--no-stream"]])
def test_a_response_id_that_the_provider_has_forgotten_is_sent_once(arguments: list[str]) -> None:
    first = answers(STREAM, end("one", responseId="r1"))
    error = "Previous response not found."
    in_a_stream = answers(STREAM, event(type="error", data=error))
    failing = answers(object_(500, success=False, message=error)) if arguments else in_a_stream
    with FaultServer(first, failing, tells("two")) as server:
        for continued in ([], ["--continue"], ["--continue"]):
            opchat("ask", "--url", server.url, *continued, *(arguments if continued else []), "Hi")
    bodies = [request.body for request in server.requests]
    asked = [json.loads(body) for body in bodies if body]
    assert [submit.get("previousResponseId") for submit in asked] == [None, "r1", None]


def test_unreadable_or_unwritable_state_gives_one_line(tmp_path: Path) -> None:
    with FaultServer(tells("one")) as server:
        opchat("ask", "--url", server.url, "A")
        (file,) = (tmp_path / "state" / "opchat").iterdir()
        file.write_text("{")
        result = opchat("ask", "--url", server.url, "--continue", "B")
        assert result.returncode == 2
        assert str(file) in result.stderr
        (tmp_path / "file").write_text("")
        result = opchat("ask", "--url", server.url, "A", env=ENVIRONMENT | {"XDG_STATE_HOME": str(tmp_path / "file")})
    assert (result.stdout, result.returncode) == ("one\n", 0)
    assert "could not be kept" in result.stderr


# ------------------------------------------------------------------------------------------------ terminals


def waits_to_be_let_on(go: threading.Event, *pieces: bytes) -> Script:
    @plays
    def play(peer: Peer) -> None:
        assert go.wait(PATIENCE)
        peer.send(STREAM, *pieces, LAST)

    return play


def test_on_a_terminal_a_spinner_turns_until_the_first_piece() -> None:
    go = threading.Event()
    script = waits_to_be_let_on(go, live("Hello"), end("Hello"))
    with FaultServer(script) as server, Terminal("ask", "--url", server.url, "Hi") as terminal:
        terminal.until("waiting for the answer")
        go.set()
        terminal.until("Hello")
        assert terminal.wait() == 0
    assert terminal.shown.count("\x1b[?25l") == terminal.shown.count("\x1b[?25h")  # the cursor is visible again
    assert terminal.shown.endswith("Hello\r\n")


@pytest.mark.parametrize(("term", "variables"), [("dumb", {}), ("xterm", {"NO_COLOR": "1"})])
def test_dumb_terminals_and_no_color_are_respected(term: str, variables: Any) -> None:
    pieces = [event(type="live", data="Hm", subtype="thinking"), live("**Hello**"), end("**Hello**")]
    with FaultServer(answers(STREAM, *pieces, LAST)) as server:
        arguments = ["ask", "--markdown", "--show", "all", "--url", server.url, "Hi"]
        with Terminal(*arguments, term=term, **variables) as terminal:
            assert terminal.wait() == 0
    assert "[thinking] Hm" in terminal.shown
    assert "\x1b[2m" not in terminal.shown
    assert "\x1b[3" not in terminal.shown.replace("\x1b[3J", "")
    if term == "dumb":
        assert "\x1b" not in terminal.shown
        assert "**Hello**" in terminal.shown


def test_asides_are_dim_on_a_terminal() -> None:
    pieces = [live("text"), event(type="live", data="Hm", subtype="thinking"), end("text")]
    script = answers(STREAM, *pieces, LAST)
    with FaultServer(script) as server, Terminal("ask", "--show", "thinking", "--url", server.url, "Hi") as terminal:
        assert terminal.wait() == 0
    assert "text\r\n\x1b[2m[thinking] Hm\x1b[0m\r\n" in terminal.shown


def test_markdown_is_rendered_as_it_grows() -> None:
    go = threading.Event()

    @plays
    def play(peer: Peer) -> None:
        peer.send(STREAM, live("A **bo"))
        assert go.wait(PATIENCE)
        link = "[label](http://link.example) <b>x</b> \x1b]8;;http://evil\x07"
        peer.send(live(f"ld** word\n\n- {link}\n\n```\n# no\n\n# yes\n```\n"), end("x"), LAST)

    with FaultServer(play) as server, Terminal("ask", "--markdown", "--url", server.url, "Hi") as terminal:
        terminal.until("A **bo")
        go.set()
        assert terminal.wait() == 0
    assert "\x1b[1mbold\x1b[0m word" in terminal.shown
    assert "http://link.example" in terminal.shown
    assert "\x1b]" not in terminal.shown  # no hyperlinks, neither rich's nor the server's
    assert "\\x1b]8;;http://evil\\x07" in terminal.shown
    assert terminal.shown.count("# yes") >= 1


def test_ctrl_c_on_a_terminal_restores_the_cursor() -> None:
    begun, left = threading.Event(), threading.Event()

    @plays
    def play(peer: Peer) -> None:
        begun.set()
        assert peer.is_left()
        left.set()

    with FaultServer(play) as server, Terminal("ask", "--url", server.url, "Hi") as terminal:
        terminal.until("waiting")
        assert begun.wait(PATIENCE)
        terminal.interrupt()
        assert terminal.wait() == 130
        assert left.wait(PATIENCE)
        assert "Traceback" not in terminal.shown
        assert terminal.shown.count("\x1b[?25l") == terminal.shown.count("\x1b[?25h")
