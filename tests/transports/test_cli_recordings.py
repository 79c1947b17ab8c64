"""`opchat record`, `decode` and `replay`."""

import base64
import gzip
import json
import re
import signal
import stat
from pathlib import Path
from typing import Any

import pytest
import trustme

from opchat_proto import Client, Connect, End, Endpoint, Event, Flow, Limits, Live, Send, Session, Submit
from opchat_transports.blocking_sockets import BlockingTransport
from opchat_transports.cli import run
from tests.captures import CAPTURES

from .command import ENVIRONMENT, PATIENCE, Terminal, opchat, start
from .proxies import CREDENTIALS, USERINFO, Nets
from .scripted import LAST, STREAM, Peer, Script, Scripted, answer, answers, chunk, end, event, live, object_, tells
from .tls import NAME

RAW = STREAM + live("Hel") + live("lo") + end("Hello") + LAST
BODY = b"".join(re.findall(rb"data: [^\r]*\n\n", RAW))


def lines(text: str) -> list[Any]:
    return [json.loads(line) for line in text.splitlines()]


def record(file: Path, scripts: Script | list[Script], *arguments: str, session: bool = True) -> Any:
    with Scripted(*(scripts if isinstance(scripts, list) else [scripts]), session=session) as server:
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
    with Scripted(tells("Hel", "lo")) as server:
        result = opchat("record", "--secrets", "--via", via, "--url", server.url, str(file), "Hi")
    assert (result.stdout, result.stderr, result.returncode) == ("Hello\n", "", 0)
    header, *_ = lines(file.read_text())
    assert header == {"format": "opchat recording", "version": 1, "url": server.url, "secrets": True}
    happenings = recorded(file)
    assert [line["data"] for line in happenings if line["event"] == "sent"] == server.requests
    # The last chunk may come after the end event, at which it leaves.
    assert joined(happenings, "received").removesuffix(LAST).endswith(RAW.removesuffix(LAST))
    assert happenings[0]["event"] == "connected"
    assert [line["connection"] for line in happenings if line["event"] in ("connected", "sent")] == [1, 1, 2, 2]
    times = [line["time"] for line in happenings]
    assert times == sorted(times)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_a_recording_over_httpx_says_that_it_is_rebuilt_and_can_be_read(tmp_path: Path) -> None:
    file = tmp_path / "a"
    result = record(file, tells("Hel", "lo"), "--via", "httpx")
    line = "opchat: httpx shows no bytes: what is kept is rebuilt from values, each answer without a length\n"
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


def test_a_broken_answer_is_recorded_and_its_exit_code_is_that_of_ask(tmp_path: Path) -> None:
    result = record(tmp_path / "a", answers(STREAM, live("a")))
    assert (result.stdout, result.returncode) == ("a\n", 7)
    assert recorded(tmp_path / "a")[-1]["event"] == "closed"
    result = opchat("decode", str(tmp_path / "a"))
    assert result.returncode == 7
    assert "broken  TRUNCATED: " in result.stdout


def test_an_interrupted_exchange_is_kept(tmp_path: Path) -> None:
    def play(peer: Peer) -> None:
        answers(STREAM, live("first"))(peer)
        assert peer.is_left()

    file = tmp_path / "a"
    with Scripted(play) as server, start("record", str(file), "Hi", "--url", server.url) as process:
        assert process.stdout is not None
        assert process.stdout.read(5) == "first"
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE) == 130
    result = opchat("decode", "--json", str(file))
    *_, first, last = lines(result.stdout)
    assert first["text"] == "first"
    assert (last["reason"], last["detail"], result.returncode) == ("truncated", "the recording ends here", 7)


def test_a_connection_that_cannot_be_made_is_recorded(tmp_path: Path) -> None:
    result = opchat("record", str(tmp_path / "a"), "Hi", "--url", "127.0.0.1:1")
    assert result.returncode == 7
    assert "could not connect" in recorded(tmp_path / "a")[0]["detail"]
    result = opchat("decode", str(tmp_path / "a"))
    assert (result.stdout, result.returncode) == ("", 7)
    assert "nothing was answered" in result.stderr


def cut_up(data: bytes, size: int) -> bytes:
    """A body in chunks of this size."""
    return b"".join(chunk(data[at : at + size]) for at in range(0, len(data), size)) + LAST


@pytest.mark.parametrize("size", [1, 2, 5, 7, 1000])
def test_secrets_are_replaced_wherever_they_are_and_nothing_moves(size: int, tmp_path: Path) -> None:
    chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n"
    session = json.dumps({"success": True, "sessionId": 123456789, "restNonce": "SECRET/nonce"}).encode()
    headers = (
        b"Set-Cookie: mwai_session_id=SECRETcookie; path=/\r\nSet-Cookie: PHPSESSID=SECRETphp\r\n"
        b"X-WP-Nonce: SECRETnew\r\n\r\n"
    )
    payload = json.dumps({"success": True, "reply": "SECRETnew?", "new_token": "SECRETtoken"})
    stream = b"data: " + json.dumps({"type": "end", "data": payload}).encode() + b"\n\n"

    pieces = [chunk(stream[at : at + size]) for at in range(0, len(stream), size)]
    scripts = [
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
def test_secrets_are_replaced_in_whatever_is_no_good_answer(received: bytes, tmp_path: Path) -> None:
    record(tmp_path / "a", answers(received), session=False)
    hidden = joined(recorded(tmp_path / "a"), "received")
    assert len(hidden) == len(received)
    assert [line[:2] for line in hidden.splitlines()][:2] == [line[:2] for line in received.splitlines()][:2]
    assert b"SECRET" not in hidden
    assert b"\x1f\x8b" not in hidden


def test_the_credentials_of_a_proxy_are_replaced(tmp_path: Path) -> None:
    with Scripted(tells("a")) as proxy:
        address = proxy.url.replace("//", "//user:password@")
        result = opchat("record", "-v", str(tmp_path / "a"), "Hi", "--url", "http://site.example", "--proxy", address)
    assert (result.stdout, result.returncode) == ("a\n", 0)
    secret = base64.b64encode(b"user:password")
    assert secret in proxy.requests[0]
    assert secret not in joined(recorded(tmp_path / "a"), "sent")
    assert b"Proxy-Authorization: xxx" in joined(recorded(tmp_path / "a"), "sent")
    assert "password" not in result.stderr


@pytest.mark.parametrize("via", ["blocking", "trio", "asyncio"])
@pytest.mark.parametrize(("route", "scheme"), [("http", "https"), ("https", "https"), ("socks5", "http")])
def test_what_a_proxy_is_told_is_traced_but_not_recorded(
    route: str, scheme: str, via: str, net: Nets, authority: trustme.CA, tmp_path: Path
) -> None:
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    environment = ENVIRONMENT | {"SSL_CERT_FILE": str(tmp_path / "ca.pem")}
    there = net(route, scheme, tells("a"), credentials=CREDENTIALS, userinfo=USERINFO)
    given = ["--via", via, "--url", there.url, "--proxy", str(there.proxy)]
    result = opchat("record", "-v", "--secrets", str(tmp_path / "a"), "Hi", *given, env=environment)
    assert (result.stdout, result.returncode) == ("a\n", 0)
    happenings = recorded(tmp_path / "a")
    assert [line["data"] for line in happenings if line["event"] == "sent"] == there.site.requests
    assert {line["data"][:5] for line in happenings if line["event"] == "received"} >= {b"HTTP/"}
    assert b"Connection established" not in joined(happenings, "received")
    secure = [NAME] if scheme == "https" else []
    names = (["localhost"] if route == "https" else []) + secure
    assert [line["server_name"] for line in happenings if line["event"] == "tls"] == 2 * names
    trace = re.sub(r"(?m)^opchat: +\d+\.\d+ ", "", result.stderr).splitlines()
    replies = 1 if scheme == "https" else 3  # of SOCKS: the method, the credentials, the address
    assert len([line for line in trace if re.fullmatch(r"> \d+ bytes to the proxy", line)]) == 2 * replies
    assert len([line for line in trace if re.fullmatch(r"< \d+ bytes from the proxy", line)]) >= 2 * replies
    assert "s3cret" not in result.stderr


def test_only_what_was_asked_replaces_a_file(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("before")
    assert opchat("record", str(tmp_path / "a"), "Hi", "--header", "Cookie: a").returncode == 2
    assert (tmp_path / "a").read_text() == "before"
    assert opchat("record", "/dev/null", "Hi").returncode == 0
    assert Path("/dev/null").is_char_device()


def test_recordings_of_wrong_usage(tmp_path: Path) -> None:
    result = opchat("record", str(tmp_path / "no" / "a"), "Hi", "--url", "127.0.0.1:1")
    assert (result.returncode, len(result.stderr.splitlines())) == (2, 1)
    assert "cannot be written" in result.stderr


# ------------------------------------------------------------------------------------------------ decode


def decode(data: bytes, *arguments: str) -> Any:
    return opchat("decode", *arguments, input=data, encoding=None)


@pytest.mark.parametrize("data", [RAW, BODY], ids=["raw", "body"])
@pytest.mark.parametrize("name", [[], ["-"], ["FILE"]], ids=["none", "-", "file"])
def test_decode_prints_events_with_offsets(data: bytes, name: list[str], tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(data)
    result = decode(data, "--json", *[part.replace("FILE", str(tmp_path / "file")) for part in name])
    first, *events = lines(result.stdout.decode())
    assert (first["type"], first["start"], first["end"]) == ("answer", 0, len(data))
    assert first.get("status") == (200 if data is RAW else None)
    assert [(item["type"], item.get("text", item.get("reply"))) for item in events] == [
        ("live", "Hel"),
        ("live", "lo"),
        ("end", "Hello"),
    ]
    blank_lines = [match.end() for match in re.finditer(rb"\n\n", data)]
    assert [item["offset"] for item in events] == blank_lines
    text = decode(data).stdout.decode()
    assert f'{blank_lines[0]:>9}  live    "Hel"\n' in text
    assert result.returncode == 0


@pytest.mark.parametrize(
    ("data", "offset", "line", "shown", "code"),
    [
        (b'data: {"type":"live","data":"a"}\r\n\r\n: x\n\ndata: no\x1b\n\ndata: x\n\n', 52, 5, "data: no\x1b", 5),
        (b'data: {"type":"live","data":"a"}\n\nPHP Fatal', 43, 3, "PHP Fatal", 7),
        (b'data: {"type":"error","data":"No."}\n\nmore', 37, 1, 'data: {"type":"error","data":"No."}', 8),
        (b"<!DOCTYPE html>\n<title>Home</title>\n", 36, 1, "<!DOCTYPE html>", 5),
        (b'{"success":false,"message":"No."} ', 34, 1, '{"success":false,"message":"No."} ', 8),
        (b"", 0, 1, "", 7),
        (b"HTTP/1.1 200 OK\r\n", 17, 1, "HTTP/1.1 200 OK", 7),
        (STREAM + live("a") + b"zz\r\n", len(STREAM + live("a")) + 4, 9, "zz", 7),
        (answer(b"<title>No</title>", 502), len(answer(b"<title>No</title>", 502)), 1, "HTTP/1.1 502 Bad Gateway", 3),
        (STREAM + event(type="live"), len(STREAM + event(type="live")) - 2, 6, 'data: {"type": "live"}', 5),
        (STREAM + chunk(b"data: x\n") + chunk(b"\n"), len(STREAM) + 17, 6, "data: x", 5),
    ],
)
def test_decode_explains_the_first_fault(data: bytes, offset: int, line: int, shown: str, code: int) -> None:
    result = decode(data, "--json")
    fault = lines(result.stdout.decode())[-1]
    assert (fault["type"], fault["offset"], fault["line"], fault["line_text"]) == ("broken", offset, line, shown)
    assert fault["exit_code"] == code == result.returncode
    assert fault["why"]
    text = decode(data).stdout.decode()
    assert f"at byte {offset}, line {line}: {shown}".replace("\x1b", "\\x1b") in text
    assert fault["why"].replace("\x1b", "\\x1b") in text


def test_decode_finds_several_answers_and_interim_ones() -> None:
    data = b"HTTP/1.1 100 Continue\r\n\r\n" + RAW + object_(success=True, reply="b") + RAW[: len(STREAM)]
    found = [line for line in lines(decode(data, "--json").stdout.decode()) if line["type"] == "answer"]
    assert [(line["start"], line["end"], line["status"]) for line in found] == [
        (0, len(RAW) + 25, 200),
        (len(RAW) + 25, len(data) - len(STREAM), 200),
        (len(data) - len(STREAM), len(data), 200),
    ]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ('{"format":"opchat recording","version":2}\n', "expected version 1"),
        ('{"format":"opchat recording","version":1}\n{"time":1}\n', "line 2"),
        ('{"format":"opchat recording","version":1}\n\n[]\n', "line 3"),
    ],
)
def test_a_recording_that_cannot_be_read(text: str, line: str, tmp_path: Path) -> None:
    (tmp_path / "a").write_text(text)
    for command in ("decode", "replay"):
        result = opchat(command, str(tmp_path / "a"))
        assert (result.returncode, len(result.stderr.splitlines())) == (2, 1)
        assert line in result.stderr
    assert "cannot be read" in opchat("decode", str(tmp_path / "none")).stderr


def test_a_clock_that_ran_out_is_one_in_the_recording_too(tmp_path: Path) -> None:
    def stalls(peer: Peer) -> None:
        answers(STREAM, live("a"))(peer)
        assert peer.is_left()

    assert record(tmp_path / "a", stalls, "--timeout-idle", "0.3").returncode == 6
    result = opchat("decode", str(tmp_path / "a"))
    assert result.returncode == 6
    assert "broken  TIMEOUT: timed out: not in time (timeout 'idle')\n" in result.stdout


def test_a_recording_that_was_cut_is_read_up_to_there(tmp_path: Path) -> None:
    assert record(tmp_path / "a", tells("Hel", "lo")).returncode == 0
    whole = (tmp_path / "a").read_bytes()
    *_, last = lines(opchat("decode", "--json", str(tmp_path / "a")).stdout)
    assert last["type"] == "end"
    (tmp_path / "a").write_bytes(whole[: whole.rindex(b'"received"')])
    result = opchat("decode", "--json", str(tmp_path / "a"))
    assert (lines(result.stdout)[-1]["detail"], result.returncode) == ("the recording ends here", 7)


def asked(data: bytes, *, closed: bool = False) -> list[Event]:
    """What a client makes of these bytes after its submit."""
    limits = Limits(restarts=0)
    flow = Flow(Endpoint.parse("http://h"), Submit(new_message="?"), session=Session(), limits=limits)
    client = Client(flow)
    assert isinstance(client.next_step(), Connect)
    client.step_done()
    assert isinstance(client.next_step(), Send)
    client.step_done()
    events = client.receive_data(data)
    return events + client.receive_eof() if closed else events


@pytest.mark.parametrize(
    "path", sorted(CAPTURES.glob("*/*.response.bin")) or [None], ids=lambda path: path and path.name
)
def test_decode_agrees_with_the_client_about_every_recorded_answer(
    path: Path | None, capsysbinary: pytest.CaptureFixture[bytes], tmp_path: Path
) -> None:
    if path is None:  # a clone alone
        path = tmp_path / "a.response.bin"
        path.write_bytes(RAW)
    run(["decode", "--json", str(path)])
    found = [json.loads(line) for line in capsysbinary.readouterr().out.splitlines()]
    data = path.read_bytes()[: found[0]["end"]]
    events = [line for line in found if line["answer"] == 1 and line["type"] != "answer"]
    expected = asked(data, closed=True)
    assert [line["type"] for line in events] == [type(event).__name__.lower() for event in expected]
    assert [line.get("text") for line in events] == [getattr(event, "text", None) for event in expected]
    for count, line in enumerate(events):
        if line["offset"] < len(data):
            assert len(asked(data[: line["offset"] - 1])) == count
            assert len(asked(data[: line["offset"]])) > count


# ------------------------------------------------------------------------------------------------ replay


class Replay:
    """`opchat replay` of a file, until the block ends; then its exit code is 0."""

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


def test_a_recording_is_replayed(tmp_path: Path) -> None:
    record(tmp_path / "a", tells("Hel", "lo"))
    with Replay(tmp_path / "a") as replay:
        for _ in range(3):
            assert replay.ask()[:2] == HELLO
        with BlockingTransport(replay.url) as transport:
            for _ in range(2):  # the second has a session already
                with transport.ask("Hi") as reply:
                    assert list(reply)[:2] == HELLO
        result = opchat("ask", "--url", replay.url, "Hi")
    assert (result.stdout, result.returncode) == ("Hello\n", 0)


@pytest.mark.parametrize(
    "data",
    [RAW, BODY, RAW[:-30], answer(BODY), b"HTTP/1.1 200 OK\r\n\r\n" + BODY],
    ids=["raw", "body", "cut", "length", "close"],
)
def test_raw_responses_and_bodies_are_replayed(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(data)
    with Replay(tmp_path / "a") as replay:
        for _ in range(2):
            *pieces, last = replay.ask()
            assert pieces == HELLO
            assert isinstance(last, End) is (data != RAW[:-30])


def test_a_refusal_and_what_follows_it_are_replayed(tmp_path: Path) -> None:
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
    """Make a recording in which each happening comes so many seconds after the one before."""
    header, *rest = file.read_text().splitlines()
    for number, line in enumerate(rest):
        rest[number] = json.dumps(json.loads(line) | {"time": number * gap})
    file.write_text("\n".join([header, *rest]))


def test_a_replay_keeps_the_times(tmp_path: Path) -> None:
    file = tmp_path / "a"
    record(file, answers(STREAM, live("Hel"), live("lo"), end("Hello"), LAST))
    with_times(file, 1e6)  # which nobody waits for
    with Replay(file) as replay:
        assert opchat("ask", "--url", replay.url, "--timeout", "0.5", "Hi").returncode == 6
    for speed in ("0", "1000000"):
        with_times(file, 1000.0)
        with Replay(file, "--speed", speed) as replay:
            assert replay.ask()[:2] == HELLO


def test_a_speed_that_is_no_number(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(RAW)
    result = opchat("replay", "--speed", "nan", str(tmp_path / "a"))
    assert (result.stderr.partition(" (see")[0], result.returncode) == (
        "opchat: Invalid value for --speed: expected a number",
        2,
    )


def test_replay_cannot_listen(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(RAW)
    with Scripted(tells("a")) as server:
        result = opchat("replay", str(tmp_path / "a"), "--port", str(server.port))
    assert (result.returncode, len(result.stderr.splitlines())) == (2, 1)
    assert "cannot listen" in result.stderr


# ------------------------------------------------------------------------------------------------ terminals


def test_recording_and_decoding_on_a_terminal(tmp_path: Path) -> None:
    script = answers(STREAM, live("a\x1b[1m"), end("a"), LAST)
    with Scripted(script) as server, Terminal("record", str(tmp_path / "a"), "Hi", "--url", server.url) as terminal:
        terminal.until("a\\x1b[1m")
        assert terminal.wait() == 0
    with Terminal("decode", str(tmp_path / "a")) as terminal:
        terminal.until('live    "a\\u001b[1m"')
        assert terminal.wait() == 0
    with Terminal("replay", str(tmp_path / "a")) as terminal:
        terminal.until("is replayed until Ctrl-C")
        terminal.interrupt()
        assert terminal.wait() == 0
