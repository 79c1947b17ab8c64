"""`opchat decode`: the events in a recording, a raw response or a body, and the first fault."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from opchat_proto import Client, Connect, End, Endpoint, Event, Flow, Limits, Live, Send, Session, Submit
from opchat_transports.blocking_sockets import BlockingTransport
from opchat_transports.cli import _fault_location, run  # its work is counted here
from opchat_transports.cli._answer_files import parts  # the command has no public functions
from opchat_transports.testing import FaultServer, Script, Stall

from .command import opchat, start
from .wire import LAST, STREAM, answer, answers, chunk, end, event, live, object_, tells

CAPTURES = Path(__file__).resolve().parents[2] / ".." / "shared" / "captures"
RAW = STREAM + live("Hel") + live("lo") + end("Hello") + LAST
BODY = b"".join(re.findall(rb"data: [^\r]*\n\n", RAW))


def lines(text: str) -> list[Any]:
    return [json.loads(line) for line in text.splitlines()]


def record(file: Path, script: Script, *arguments: str) -> Any:
    with FaultServer(script) as server:
        return opchat("record", str(file), "Hi", "--url", server.url, *arguments)


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


def test_decode_finds_several_answers_and_interim_responses() -> None:
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
def test_an_unreadable_recording_is_wrong_usage(text: str, line: str, tmp_path: Path) -> None:
    (tmp_path / "a").write_text(text)
    for command in ("decode", "replay"):
        result = opchat(command, str(tmp_path / "a"))
        assert (result.returncode, len(result.stderr.splitlines())) == (2, 1)
        assert line in result.stderr
    assert "cannot be read" in opchat("decode", str(tmp_path / "none")).stderr


def test_a_timeout_is_reported_from_a_recording_too(tmp_path: Path) -> None:
    assert record(tmp_path / "a", (*answers(STREAM, live("a")), Stall()), "--timeout-idle", "0.3").returncode == 6
    result = opchat("decode", str(tmp_path / "a"))
    assert result.returncode == 6
    assert "broken  TIMEOUT: timed out: not in time (timeout 'idle')\n" in result.stdout


def test_a_truncated_recording_is_read_up_to_its_end(tmp_path: Path) -> None:
    assert record(tmp_path / "a", tells("Hel", "lo")).returncode == 0
    whole = (tmp_path / "a").read_bytes()
    *_, last = lines(opchat("decode", "--json", str(tmp_path / "a")).stdout)
    assert last["type"] == "end"
    (tmp_path / "a").write_bytes(whole[: whole.rindex(b'"received"')])
    result = opchat("decode", "--json", str(tmp_path / "a"))
    assert (lines(result.stdout)[-1]["detail"], result.returncode) == ("the recording ends here", 7)


def asked(data: bytes, *, closed: bool = False) -> list[Event]:
    """The events of a client that receives these bytes after its submit."""
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


# ------------------------------------------------------------------------------------------------ what curl -i writes

HTTP_2 = b"HTTP/2 200 \r\ndate: Sat, 28 Nov 2026 20:00:00 GMT\r\ncontent-type: text/event-stream\r\n"
CHUNKED = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n"
ANSWER = json.dumps({"success": True, "reply": "Hello"}).encode()
EVENTS = [("live", "Hel"), ("live", "lo"), ("end", "Hello")]


def texts(found: list[Any]) -> list[tuple[str, Any]]:
    return [(item["type"], item.get("text", item.get("reply", item.get("reason")))) for item in found]


@pytest.mark.parametrize(
    ("data", "undone", "events"),
    [
        (HTTP_2 + b"\r\n" + BODY, "HTTP/2", EVENTS),
        (HTTP_2.replace(b"/2", b"/3") + b"\r\n" + BODY, "HTTP/3", EVENTS),
        (HTTP_2.replace(b"\r", b"") + b"\n" + BODY, "HTTP/2", EVENTS),
        (HTTP_2 + b"content-length: %d\r\n\r\n" % len(ANSWER) + ANSWER, "HTTP/2", [("end", "Hello")]),
        (HTTP_2 + b"content-encoding: br\r\n\r\n" + BODY, "content-encoding: br", EVENTS),
        (HTTP_2 + b"\r\n" + BODY[:-40], "HTTP/2", [*EVENTS[:2], ("broken", "truncated")]),
        (HTTP_2.replace(b"200", b"403") + b"\r\nNo.", "HTTP/2", [("broken", "refused")]),
        (HTTP_2 + b"\r\n", "HTTP/2", [("broken", "truncated")]),
        (CHUNKED + b"\r\n" + BODY, "Transfer-Encoding: chunked", EVENTS),
        (CHUNKED + b"\r\n\xef\xbb\xbf\r\n: hi\n\n" + BODY, "Transfer-Encoding: chunked", EVENTS),
        (CHUNKED + b"\r\n" + ANSWER, "Transfer-Encoding: chunked", [("end", "Hello")]),
        (CHUNKED + b"\r\n<br />\n<b>Notice</b>\n" + BODY, "Transfer-Encoding: chunked", EVENTS),
        (CHUNKED + b"\r\n<!DOCTYPE html><title>Home</title>", "Transfer-Encoding: chunked", [("broken", "malformed")]),
        (
            CHUNKED + b"Content-Encoding: gzip\r\n\r\n" + BODY,
            "Transfer-Encoding: chunked, Content-Encoding: gzip",
            EVENTS,
        ),
        (
            b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 20\r\n\r\n" + ANSWER,
            "Content-Encoding: gzip",
            [("end", "Hello")],
        ),
        (b"HTTP/1.1 100 Continue\r\n\r\n" + CHUNKED + b"\r\n" + BODY, "Transfer-Encoding: chunked", EVENTS),
        (b"HTTP/1.1 200 Connection established\r\n\r\n" + HTTP_2 + b"\r\n" + BODY, "HTTP/2", EVENTS),
    ],
)
def test_a_body_with_decoded_framing_is_read_without_framing(data: bytes, undone: str, events: Any) -> None:
    result = decode(data, "--json")
    head, *found = lines(result.stdout.decode())
    assert (head["undone"], head["status"], head["start"], head["end"]) == (
        undone,
        int(data.split()[1]) if b"HTTP/2 403" in data else 200,
        0,
        len(data),
    )
    assert texts(found) == events
    offset = found[0]["offset"]
    assert data[:offset].endswith((b"\n\n", b"}", b"No.", b">", b"\r\n"))
    first_line = decode(data).stdout.decode().splitlines()[0]
    assert first_line.endswith(f"; already decoded by a tool: {undone}:")


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (RAW, None),
        (CHUNKED + b"\r\n", "truncated"),
        (CHUNKED + b"\r\nzz\r\n", "truncated"),
        (CHUNKED + b"\r\nplain text", "truncated"),
        (b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n\x1f\x8b\x08", "malformed"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n" + BODY[:-30], "truncated"),
    ],
)
def test_a_body_that_fits_its_head_is_judged_by_its_head(data: bytes, reason: str | None) -> None:
    head, *_, last = lines(decode(data, "--json").stdout.decode())
    assert "undone" not in head
    assert last.get("reason") == reason


def test_several_responses_of_curl_in_one_file_are_decoded() -> None:
    data = HTTP_2 + b"\r\n" + BODY + HTTP_2 + b"\r\n" + ANSWER + CHUNKED + b"\r\n" + BODY
    found = lines(decode(data, "--json").stdout.decode())
    assert texts([item for item in found if item["type"] != "answer"]) == [*EVENTS, ("end", "Hello"), *EVENTS]


def test_output_of_curl_can_be_replayed(tmp_path: Path) -> None:
    for data in (HTTP_2 + b"\r\n" + BODY, CHUNKED + b"Content-Encoding: gzip\r\n\r\n" + BODY):
        (tmp_path / "a").write_bytes(data)
        with start("replay", str(tmp_path / "a")) as process:
            assert process.stderr is not None
            url = re.search(r"http://[0-9.:]+", process.stderr.readline())
            assert url is not None
            with BlockingTransport(url[0]) as transport, transport.ask("Hi") as reply:
                *pieces, last = reply
    assert pieces == [Live("Hel"), Live("lo")]
    assert isinstance(last, End)


# ------------------------------------------------------------------------------------------------ linear


@pytest.mark.parametrize(
    "unit",
    [
        pytest.param(RAW, id="answers"),
        pytest.param(STREAM + event(type="error", data="No.") + LAST, id="faults"),
        pytest.param(object_(404, code="rest_no_route", message="No."), id="refusals"),
        pytest.param(HTTP_2 + b"\r\n" + BODY, id="curl"),
    ],
)
def test_the_work_is_linear_in_the_number_of_answers(unit: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    fed = 0
    feed = _fault_location._Machine.feed

    def counted(self: Any, data: bytes) -> Any:
        nonlocal fed
        fed += len(data)
        return feed(self, data)

    monkeypatch.setattr(_fault_location._Machine, "feed", counted)
    work = []
    for count in (20, 80):
        fed, looked_at = 0, Looked(unit * count)
        assert sum(1 for _ in parts("x", looked_at)) == count
        work.append((fed + looked_at.bytes) / count)
    assert work[1] < 1.1 * work[0]


class Looked(bytes):
    """Bytes that count how many of them are copied or searched."""

    bytes = 0

    def __getitem__(self, key: Any) -> Any:
        found = super().__getitem__(key)
        self.bytes += len(found) if isinstance(found, bytes) else 1
        return found

    def rfind(self, sub: Any, start: Any = 0, end: Any = None, /) -> int:
        self.bytes += (len(self) if end is None else end) - (start or 0)
        return super().rfind(sub, start, end)


def test_the_line_number_of_a_fault_counts_all_answers() -> None:
    unit = STREAM + event(type="error", data="No.") + LAST
    found = [item["line"] for item in lines(decode(unit * 3, "--json").stdout.decode()) if "line" in item]
    per_answer = unit.count(b"\n")
    assert found == [found[0], found[0] + per_answer, found[0] + 2 * per_answer]


# ------------------------------------------------------------------------------------------------ absurd recordings


@pytest.mark.parametrize("time", ["1" + "0" * 310, "1e999", "-1e999", "NaN", "-1", "1e10", "true", '"1"', "9" * 5000])
@pytest.mark.parametrize("command", ["decode", "replay"])
def test_an_absurd_time_is_wrong_usage(time: str, command: str, tmp_path: Path) -> None:
    header = '{"format":"opchat recording","version":1}'
    (tmp_path / "a").write_text(f'{header}\n{{"time":{time},"connection":1,"event":"sent"}}\n{{"a":1}}\n\n')
    result = opchat(command, str(tmp_path / "a"))
    assert (result.stdout, result.returncode, result.stderr.count("\n")) == ("", 2, 1)
    assert 'line 2: expected an object with "time" in seconds' in result.stderr


def test_the_slowest_speed_gives_no_traceback(tmp_path: Path) -> None:
    assert record(tmp_path / "a", tells("Hel")).returncode == 0
    with start("replay", "--speed", "1e-300", str(tmp_path / "a")) as process:
        assert process.stderr is not None
        url = re.search(r"http://[0-9.:]+", process.stderr.readline())
        assert url is not None
        assert opchat("ask", "--url", url[0], "--timeout", "0.3", "Hi").returncode == 6
        process.send_signal(2)
        assert process.wait(20) == 0
        assert process.stderr.read() == ""
