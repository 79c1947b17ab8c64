"""`opchat record`, `decode` and `replay`."""

import base64
import gzip
import json
import re
import signal
import stat
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import trustme

from opchat_proto import End, Event, Live
from opchat_transports.blocking_sockets import BlockingTransport
from opchat_transports.testing import Expect, FaultServer, Script, Stall

from .command import ENVIRONMENT, PATIENCE, Terminal, opchat, start
from .peer import Peer, plays
from .proxies import CREDENTIALS, USERINFO, Nets
from .tls import NAME
from .wire import LAST, STREAM, answer, answers, chunk, end, live, object_, tells

RAW = STREAM + live("Hel") + live("lo") + end("Hello") + LAST
BODY = b"".join(re.findall(rb"data: [^\r]*\n\n", RAW))


def lines(text: str) -> list[Any]:
    return [json.loads(line) for line in text.splitlines()]


def record(file: Path, scripts: Script | list[Script], *arguments: str, session: bool = True) -> Any:
    first, *others = scripts if isinstance(scripts, list) else [scripts]
    with FaultServer(first if session else (Expect("start_session"), *first), *others) as server:
        return opchat("record", str(file), "Hi", "--url", server.url, *arguments)


def recorded(file: Path) -> list[Any]:
    """The lines after the header, with their data as bytes."""
    found = lines(file.read_text())[1:]
    for line in found:
        if "data" in line:
            line["data"] = base64.b64decode(line["data"])
    return found


def joined(happenings: list[Any], kind: str) -> bytes:
    return b"".join(line["data"] for line in happenings if line["event"] == kind)


# ------------------------------------------------------------------------------------------------ record


@pytest.mark.parametrize("via", ["blocking", "trio", "asyncio"])
def test_a_recording_holds_the_bytes_of_both_directions(via: str, tmp_path: Path) -> None:
    file = tmp_path / "a.ndjson"
    with FaultServer(tells("Hel", "lo")) as server:
        result = opchat("record", "--secrets", "--via", via, "--url", server.url, str(file), "Hi")
    assert (result.stdout, result.stderr, result.returncode) == ("Hello\n", "", 0)
    header, *_ = lines(file.read_text())
    assert header == {"format": "opchat recording", "version": 1, "url": server.url, "secrets": True}
    happenings = recorded(file)
    assert [line["data"] for line in happenings if line["event"] == "sent"] == [
        request.raw for request in server.requests
    ]
    # The last chunk may arrive after the end event, when the client leaves.
    assert joined(happenings, "received").removesuffix(LAST).endswith(RAW.removesuffix(LAST))
    assert happenings[0]["event"] == "connected"
    assert [line["connection"] for line in happenings if line["event"] in ("connected", "sent")] == [1, 1, 2, 2]
    times = [line["time"] for line in happenings]
    assert times == sorted(times)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_a_recording_over_httpx_says_that_it_is_rebuilt_and_can_be_decoded(tmp_path: Path) -> None:
    file = tmp_path / "a"
    result = record(file, tells("Hel", "lo"), "--via", "httpx")
    line = "opchat: httpx shows no bytes: the recording is rebuilt from values, each answer without a length\n"
    assert (result.stdout, result.stderr, result.returncode) == ("Hello\n", line, 0)
    assert lines(file.read_text())[0]["rebuilt"] is True
    request, *answer = [line for line in recorded(file) if line["connection"] == 2]
    assert request["event"] == "sent"
    assert re.match(rb"POST /wp-json/mwai-ui/v1/chats/submit HTTP/1.1\r\nHost: ", request["data"])
    assert request["data"].endswith(b"}")
    assert joined(answer, "received") == b"HTTP/1.1 200 \r\nContent-Type: text/event-stream\r\n\r\n" + BODY
    result = opchat("decode", "--json", str(file))
    assert [line.get("text", line.get("reply")) for line in lines(result.stdout)[3:]] == ["Hel", "lo", "Hello"]
    assert result.returncode == 0
    with Replay(file) as replay:
        for _ in range(2):
            assert replay.ask()[:2] == HELLO


def test_a_broken_answer_over_httpx_is_recorded(tmp_path: Path) -> None:
    assert record(tmp_path / "a", answers(STREAM, live("a")), "--via", "httpx").returncode == 7
    result = opchat("decode", str(tmp_path / "a"))
    assert "broken  TRUNCATED: " in result.stdout
    assert result.returncode == 7


def test_record_has_the_exit_code_of_ask(tmp_path: Path) -> None:
    result = record(tmp_path / "a", answers(STREAM, live("a")))
    assert (result.stdout, result.returncode) == ("a\n", 7)
    assert recorded(tmp_path / "a")[-1]["event"] == "closed"
    result = opchat("decode", str(tmp_path / "a"))
    assert result.returncode == 7
    assert "broken  TRUNCATED: " in result.stdout


def test_an_interrupted_exchange_is_kept(tmp_path: Path) -> None:
    @plays
    def play(peer: Peer) -> None:
        peer.send(STREAM, live("first"))
        assert peer.is_left()

    file = tmp_path / "a"
    with FaultServer(play) as server, start("record", str(file), "Hi", "--url", server.url) as process:
        assert process.stdout is not None
        assert process.stdout.read(5) == "first"
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE) == 130
    result = opchat("decode", "--json", str(file))
    *_, first, last = lines(result.stdout)
    assert first["text"] == "first"
    assert (last["reason"], last["detail"], result.returncode) == ("truncated", "the recording ends here", 7)


def test_a_failed_connection_is_recorded(tmp_path: Path) -> None:
    result = opchat("record", str(tmp_path / "a"), "Hi", "--url", "127.0.0.1:1")
    assert result.returncode == 7
    assert "could not connect" in recorded(tmp_path / "a")[0]["detail"]
    result = opchat("decode", str(tmp_path / "a"))
    assert (result.stdout, result.returncode) == ("", 7)
    assert "contains no answer" in result.stderr


def cut_up(data: bytes, size: int) -> bytes:
    """A body in chunks of this size."""
    return b"".join(chunk(data[at : at + size]) for at in range(0, len(data), size)) + LAST


@pytest.mark.parametrize("size", [1, 2, 5, 7, 1000])
def test_secrets_are_replaced_everywhere_and_offsets_stay(size: int, tmp_path: Path) -> None:
    chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n"
    session = json.dumps({"success": True, "sessionId": 123456789, "restNonce": "SECRET/nonce"}).encode()
    headers = (
        b"Set-Cookie: mwai_session_id=SECRETcookie; path=/\r\nSet-Cookie: PHPSESSID=SECRETphp\r\n"
        b"X-WP-Nonce: SECRETnew\r\n\r\n"
    )
    payload = json.dumps({"success": True, "reply": "SECRETnew?", "new_token": "SECRETtoken"})
    stream = b"data: " + json.dumps({"type": "end", "data": payload}).encode() + b"\n\n"

    pieces = [chunk(stream[at : at + size]) for at in range(0, len(stream), size)]
    scripts: list[Script] = [
        answers(chunked + headers + cut_up(session.replace(b"/", b"\\/"), size)),
        answers(b"".join((chunked, b"\r\n", *pieces, LAST))),  # in one piece, so that both runs read the whole answer
    ]
    given = ["--header", "X-Api: SECRETheader", "--header", "Authorization: SECRETa"]
    outputs = []
    for option in ([], ["--secrets"]):
        result = record(tmp_path / "a", scripts, *given, *option, session=False)
        assert result.stdout == "SECRETnew?\n"
        outputs.append(recorded(tmp_path / "a"))
    hidden, open_ = outputs
    for kind in ("sent", "received"):
        assert len(joined(hidden, kind)) == len(joined(open_, kind))
    text = re.sub(rb"\r\n[0-9a-f]+\r\n", b"", joined(hidden, "sent") + joined(hidden, "received"))
    assert b"SECRET" not in text
    assert b"SECRET" in joined(open_, "received").replace(b"\r\n", b"")[:300]
    assert b"123456789" not in text
    assert b"mwai_session_id=xxxxxxxxxxxx; path=/" in text
    result = opchat("decode", "--json", str(tmp_path / "a"))
    assert result.returncode == 0
    assert [line["type"] for line in lines(result.stdout)] == ["answer", "end", "answer", "end"]


def whole(head: bytes, body: bytes = b"") -> bytes:
    return b"HTTP/1.1 404 Not Found\r\nContent-Length: %d\r\n%s\r\n%s" % (len(body), head, body)


@pytest.mark.parametrize(
    "received",
    [
        pytest.param(b'HTTP/1.1 200 OK\r\n\r\n{"restNonce":"SECRET', id="the end cuts it"),
        pytest.param(b"HTTP/1.1 200 OK\r\nno field\r\nSet-Cookie: a=SECRET\r\n\r\n", id="no head"),
        pytest.param(b"HTTP/1.1 101 Upgrade\r\nX-WP-Nonce: SECRET\r\n\r\n", id="an upgrade"),
        pytest.param(whole(b"Set-Cookie:\r\n a=SECRET\r\n"), id="a folded field"),
        pytest.param(whole(b"", b"<div data-params='{&quot;restNonce&quot;:&quot;SECRET&quot;}'>"), id="an attribute"),
        pytest.param(whole(b"", b"<div data-params='{&#034;restNonce&#034;:&#034;SECRET&#034;}'>"), id="by numbers"),
        pytest.param(whole(b"", b'<script>wp.apiFetch.createNonceMiddleware( "SECRET" )'), id="a script"),
        pytest.param(whole(b"", b'<a href="/?action=logout&#038;_wpnonce=SECRET">'), id="a link"),
        pytest.param(whole(b"Content-Encoding: gzip\r\n", gzip.compress(b"SECRET")), id="compressed"),
    ],
)
def test_secrets_are_replaced_in_any_other_answer(received: bytes, tmp_path: Path) -> None:
    record(tmp_path / "a", answers(received), session=False)
    hidden = joined(recorded(tmp_path / "a"), "received")
    assert len(hidden) == len(received)
    assert [line[:2] for line in hidden.splitlines()][:2] == [line[:2] for line in received.splitlines()][:2]
    assert b"SECRET" not in hidden
    assert b"\x1f\x8b" not in hidden


def test_the_credentials_of_a_proxy_are_replaced(tmp_path: Path) -> None:
    with FaultServer(tells("a")) as proxy:
        address = proxy.url.replace("//", "//user:password@")
        result = opchat("record", "-v", str(tmp_path / "a"), "Hi", "--url", "http://site.example", "--proxy", address)
    assert (result.stdout, result.returncode) == ("a\n", 0)
    secret = base64.b64encode(b"user:password")
    assert secret in proxy.requests[0].raw
    assert secret not in joined(recorded(tmp_path / "a"), "sent")
    assert b"Proxy-Authorization: xxx" in joined(recorded(tmp_path / "a"), "sent")
    assert "password" not in result.stderr


@pytest.mark.parametrize("via", ["blocking", "trio", "asyncio"])
@pytest.mark.parametrize(("route", "scheme"), [("http", "https"), ("https", "https"), ("socks5", "http")])
def test_bytes_sent_to_a_proxy_are_traced_but_not_recorded(
    route: str, scheme: str, via: str, net: Nets, authority: trustme.CA, tmp_path: Path
) -> None:
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    environment = ENVIRONMENT | {"SSL_CERT_FILE": str(tmp_path / "ca.pem")}
    there = net(route, scheme, tells("a"), credentials=CREDENTIALS, userinfo=USERINFO)
    given = ["--via", via, "--url", there.url, "--proxy", str(there.proxy)]
    result = opchat("record", "-v", "--secrets", str(tmp_path / "a"), "Hi", *given, env=environment)
    assert (result.stdout, result.returncode) == ("a\n", 0)
    happenings = recorded(tmp_path / "a")
    assert [line["data"] for line in happenings if line["event"] == "sent"] == [
        request.raw for request in there.site.requests
    ]
    assert {line["data"][:5] for line in happenings if line["event"] == "received"} >= {b"HTTP/"}
    assert b"Connection established" not in joined(happenings, "received")
    secure = [NAME] if scheme == "https" else []
    names = (["localhost"] if route == "https" else []) + secure
    assert [line["server_name"] for line in happenings if line["event"] == "tls"] == 2 * names
    trace = re.sub(r"(?m)^opchat: +\d+\.\d+ ", "", result.stderr).splitlines()
    replies = 1 if scheme == "https" else 3  # SOCKS: the method, the credentials, the address
    assert len([line for line in trace if re.fullmatch(r"> \d+ bytes to the proxy", line)]) == 2 * replies
    assert len([line for line in trace if re.fullmatch(r"< \d+ bytes from the proxy", line)]) >= 2 * replies
    assert "s3cret" not in result.stderr


def test_a_file_is_replaced_only_after_a_question_was_asked(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("before")
    assert opchat("record", str(tmp_path / "a"), "Hi", "--header", "Cookie: a").returncode == 2
    assert (tmp_path / "a").read_text() == "before"
    assert opchat("record", "/dev/null", "Hi").returncode == 0
    assert Path("/dev/null").is_char_device()


def test_a_recording_can_go_to_a_pipe() -> None:
    with FaultServer(tells("a")) as server, start("record", "/dev/stdout", "Hi", "--url", server.url) as process:
        assert process.stdout is not None
        answer, header, *_, last = process.stdout.read().splitlines()
        assert process.wait(PATIENCE) == 0
    assert (answer, json.loads(header)["format"]) == ("a", "opchat recording")
    assert json.loads(last)["event"] in ("received", "closed")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_recording_on_a_full_disk_gives_one_line() -> None:
    with FaultServer(tells("a")) as server:
        result = opchat("record", "/dev/full", "Hi", "--url", server.url)
    assert (result.stdout, result.returncode, result.stderr.count("\n")) == ("a\n", 2, 1)
    assert "/dev/full cannot be written: No space left on device" in result.stderr


def test_wrong_usage_of_recordings_has_exit_code_2(tmp_path: Path) -> None:
    result = opchat("record", str(tmp_path / "no" / "a"), "Hi", "--url", "127.0.0.1:1")
    assert (result.returncode, len(result.stderr.splitlines())) == (2, 1)
    assert "cannot be written" in result.stderr


# ------------------------------------------------------------------------------------------------ ended from outside


STALLS_AFTER_A_PIECE: Script = (*answers(STREAM, live("first")), Stall())


@pytest.mark.parametrize("via", ["blocking", "trio", "asyncio", "httpx"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_after_a_signal_the_file_has_everything_received(number: signal.Signals, via: str, tmp_path: Path) -> None:
    file = tmp_path / "a"
    arguments = ["record", "--via", via, str(file), "Hi", "--url"]
    with FaultServer(STALLS_AFTER_A_PIECE) as server, start(*arguments, server.url) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.read(5) == "first"
        process.send_signal(number)
        assert process.wait(PATIENCE) == 128 + number
        assert "Traceback" not in process.stderr.read()
    result = opchat("decode", "--json", str(file))
    assert [line["text"] for line in lines(result.stdout) if line["type"] == "live"] == ["first"]
    assert result.returncode == 7


@pytest.mark.parametrize("command", [["ask"], ["ask", "--json"], ["record", "FILE"]])
def test_a_signal_ends_each_command_even_if_ctrl_c_is_ignored(command: list[str], tmp_path: Path) -> None:
    words = [word.replace("FILE", str(tmp_path / "a")) for word in command]
    left = threading.Event()

    @plays
    def play(peer: Peer) -> None:
        peer.send(STREAM, live("first"))
        assert peer.is_left()
        left.set()

    ignored = {"preexec_fn": lambda: signal.signal(signal.SIGINT, signal.SIG_IGN)}
    with FaultServer(play) as server, start(*words, "Hi", "--url", server.url, **ignored) as process:
        assert process.stdout is not None
        assert process.stdout.read(5) == ('{"typ' if "--json" in command else "first")
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE) == 143
        assert left.wait(PATIENCE)


def test_received_bytes_are_in_the_file_while_more_is_awaited(tmp_path: Path) -> None:
    file = tmp_path / "a"
    with FaultServer(STALLS_AFTER_A_PIECE) as server, start("record", str(file), "Hi", "--url", server.url) as process:
        assert process.stdout is not None
        assert process.stdout.read(5) == "first"
        end_ = time.monotonic() + PATIENCE
        while not (file.exists() and 'live    "first"' in opchat("decode", str(file)).stdout):
            assert time.monotonic() < end_
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert "xxxxxxxxxx" in joined(recorded(file), "sent").decode("latin-1")
        process.kill()
    assert 'live    "first"' in opchat("decode", str(file)).stdout


def test_nohup_is_respected(tmp_path: Path) -> None:
    go = threading.Event()

    @plays
    def play(peer: Peer) -> None:
        peer.send(STREAM, live("first"))
        assert go.wait(PATIENCE)
        peer.send(end("first"), LAST)

    ignored = {"preexec_fn": lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN)}
    with FaultServer(play) as server, start("ask", "Hi", "--url", server.url, **ignored) as process:
        assert process.stdout is not None
        assert process.stdout.read(5) == "first"
        process.send_signal(signal.SIGHUP)
        go.set()
        assert process.wait(PATIENCE) == 0


def test_a_signal_ends_a_chat_on_a_terminal_and_it_is_saved(tmp_path: Path) -> None:
    with FaultServer(tells("one")) as server, Terminal("chat", "--url", server.url) as terminal:
        terminal.until("> ")
        terminal.enter("A\r")
        terminal.until("one\r\n")
        terminal.until("> ")
        terminal.end_by(signal.SIGTERM)
        assert terminal.wait() == 143
    assert "Traceback" not in terminal.shown
    names = {file.name for file in (tmp_path / "state" / "opchat").iterdir()}
    assert "lines" in names
    assert len(names) == 2


# ------------------------------------------------------------------------------------------------ replay


class Replay:
    """Run `opchat replay` on a file until the block ends. Its exit code is then 0."""

    def __init__(self, file: Path, *arguments: str) -> None:
        self._process = start("replay", str(file), *arguments)
        assert self._process.stderr is not None
        found = re.search(r"http://127\.0\.0\.1:\d+", self._process.stderr.readline())
        assert found is not None
        self.url = found[0]

    def ask(self) -> list[Event]:
        with BlockingTransport(self.url) as transport, transport.ask("Hi") as reply:
            return list(reply)

    def __enter__(self) -> "Replay":
        return self

    def __exit__(self, *_: object) -> None:
        with self._process as process:
            process.send_signal(signal.SIGINT)
            assert process.wait(PATIENCE) == 0


HELLO = [Live("Hel"), Live("lo")]


def test_a_recording_is_served_again(tmp_path: Path) -> None:
    record(tmp_path / "a", tells("Hel", "lo"))
    with Replay(tmp_path / "a") as replay:
        for _ in range(3):
            assert replay.ask()[:2] == HELLO
        with BlockingTransport(replay.url) as transport:
            for _ in range(2):  # the second one already has a session
                with transport.ask("Hi") as reply:
                    assert list(reply)[:2] == HELLO
        result = opchat("ask", "--url", replay.url, "Hi")
    assert (result.stdout, result.returncode) == ("Hello\n", 0)


@pytest.mark.parametrize(
    "data",
    [RAW, BODY, RAW[:-30], answer(BODY), b"HTTP/1.1 200 OK\r\n\r\n" + BODY],
    ids=["raw", "body", "cut", "length", "close"],
)
def test_raw_responses_and_bodies_are_served(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(data)
    with Replay(tmp_path / "a") as replay:
        for _ in range(2):
            *pieces, last = replay.ask()
            assert pieces == HELLO
            assert isinstance(last, End) is (data != RAW[:-30])


def test_a_refusal_and_the_following_answers_are_served_again(tmp_path: Path) -> None:
    stale = object_(403, code="rest_cookie_invalid_nonce", message="No.", data={"status": 403})

    assert record(tmp_path / "a", [answers(stale), tells("Hel", "lo")]).returncode == 0
    with Replay(tmp_path / "a") as replay:
        for _ in range(2):
            assert opchat("ask", "-v", "--url", replay.url, "Hi").stderr.count("status 403") == 1

    refusal = answers(object_(403, code="rest_disabled", message="No.", data={"status": 403}))
    assert record(tmp_path / "a", refusal, session=False).returncode == 4
    with Replay(tmp_path / "a") as replay:
        assert opchat("ask", "--url", replay.url, "Hi").returncode == 4


def with_times(file: Path, gap: float) -> None:
    """Make a recording with this many seconds between two events."""
    header, *rest = file.read_text().splitlines()
    for number, line in enumerate(rest):
        rest[number] = json.dumps(json.loads(line) | {"time": number * gap})
    file.write_text("\n".join([header, *rest]))


def test_replay_keeps_the_timing(tmp_path: Path) -> None:
    file = tmp_path / "a"
    record(file, answers(STREAM, live("Hel"), live("lo"), end("Hello"), LAST))
    with_times(file, 1e6)  # longer than anyone waits
    with Replay(file) as replay:
        assert opchat("ask", "--url", replay.url, "--timeout", "0.5", "Hi").returncode == 6
    for speed in ("0", "1000000"):
        with_times(file, 1000.0)
        with Replay(file, "--speed", speed) as replay:
            assert replay.ask()[:2] == HELLO


def test_a_speed_that_is_not_a_number_is_wrong_usage(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(RAW)
    result = opchat("replay", "--speed", "nan", str(tmp_path / "a"))
    assert (result.stderr.partition(" (see")[0], result.returncode) == (
        "opchat: Invalid value for --speed: expected a number",
        2,
    )


def test_replay_on_a_port_in_use_gives_one_line(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(RAW)
    with FaultServer(tells("a")) as server:
        result = opchat("replay", str(tmp_path / "a"), "--port", str(server.port))
    assert (result.returncode, len(result.stderr.splitlines())) == (2, 1)
    assert "cannot listen" in result.stderr


# ------------------------------------------------------------------------------------------------ terminals


def test_record_and_decode_work_on_a_terminal(tmp_path: Path) -> None:
    script = answers(STREAM, live("a\x1b[1m"), end("a"), LAST)
    with FaultServer(script) as server, Terminal("record", str(tmp_path / "a"), "Hi", "--url", server.url) as terminal:
        terminal.until("a\\x1b[1m")
        assert terminal.wait() == 0
    with Terminal("decode", str(tmp_path / "a")) as terminal:
        terminal.until('live    "a\\u001b[1m"')
        assert terminal.wait() == 0
    with Terminal("replay", str(tmp_path / "a")) as terminal:
        terminal.until("is replayed until Ctrl-C")
        terminal.interrupt()
        assert terminal.wait() == 0
