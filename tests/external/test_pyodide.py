"""The recipe for web pages, in headless Chromium. One server on loopback serves everything, including the page.

Needs Chromium (Debian: chromium) and the npm package `pyodide`, whose folder the variable PYODIDE names; see .ci/run.
"""

import base64
import gzip
import io
import json
import os
import pickle
import shutil
import socket
import struct
import subprocess
import threading
import zipfile
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import h11
import pytest

import opchat_proto
from opchat_proto import Broken, End, Event, Live, Reason
from opchat_transports.blocking_server import serve
from opchat_transports.bots import small_talk
from opchat_transports.testing import FaultServer
from tests.embedding.suite import PATIENCE, STREAMS, Authority, cut_after, events_of, failed, without_words
from tests.transports.peer import refusing_port
from tests.transports.wire import SESSION, STREAM, answers, chunk, live

RECIPE = Path(__file__).parent / "pyodide_fetch.py"
TYPES = {".js": "text/javascript", ".mjs": "text/javascript", ".wasm": "application/wasm", ".json": "application/json"}
LITTLE = 1.5  # seconds, for a server that has stopped
STARTS_WITHIN = 180.0  # seconds, for a browser with an interpreter inside it on a busy machine
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
]

PAGE = """<!doctype html><meta charset="utf-8"><title>opchat</title><script type="module">
import { loadPyodide } from "/pyodide/pyodide.mjs";
const tell = (path, body) => fetch(path, { method: "POST", body });
try {
  const pyodide = await loadPyodide();
  pyodide.unpackArchive(await (await fetch("/library.zip")).arrayBuffer(), "zip");
  pyodide.globals.set("cases", await (await fetch("/cases.json")).text());
  await tell("/result", await pyodide.runPythonAsync(await (await fetch("/main.py")).text()));
} catch (error) {
  await tell("/result", "failed: " + error);
}
</script>"""

MAIN = """
import asyncio, base64, json, pickle
from js import fetch
from opchat_proto import Channel, Live, Timeouts
from pyodide_fetch import ask

async def events_of(site, leave, seconds):
    def hear(event):
        events.append(event)
        if event == Live(" seven"):
            fetch(site + "/heard", method="POST")
        return leave

    events = []
    timeouts = Timeouts(connect=seconds, write=seconds, first_event=seconds, idle=seconds)
    await ask(Channel(site, timeouts=timeouts, signal=asyncio.Event).http_call("Hi!"), hear)
    return events

heard = {name: await events_of(*case) for name, case in json.loads(cases).items()}
base64.b64encode(pickle.dumps(heard)).decode()
"""


class Site:
    """The page, its files, and a chat for each case under its own path."""

    def __init__(self, answers: dict[str, Callable[[BaseHTTPRequestHandler], object]]) -> None:
        self.answers = answers
        self.cases: dict[str, tuple[str, bool, float]] = {}
        self.heard = {name: threading.Event() for name in answers}
        self.submits: dict[str, list[dict[str, str]]] = {name: [] for name in answers}
        self.result = ""
        self.finished = threading.Event()
        self.pyodide = Path(os.environ.get("PYODIDE", "/nowhere"))
        assert (self.pyodide / "pyodide.mjs").exists(), "PYODIDE names no folder of the npm package; see .ci/run"
        site = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_: object) -> None:
                pass

            def do_GET(self) -> None:
                self.answer(*site.file(self.path))

            def do_POST(self) -> None:
                self.body = body = self.rfile.read(int(self.headers["Content-Length"] or 0))
                if self.path == "/result":
                    self.answer(b"", "text/plain")
                    site.result = body.decode()
                    site.finished.set()
                    return
                name, _, route = self.path[1:].partition("/")
                if route == "heard":
                    site.heard[name].set()
                    self.answer(b"", "text/plain")
                elif route.endswith("start_session") and name != "library":
                    self.wfile.write(SESSION.replace(b"\r\n", b"\r\nSet-Cookie: mwai_session_id=cafe; Path=/\r\n", 1))
                else:
                    site.submits[name].append(dict(self.headers))
                    site.answers[name](self)

            def answer(self, body: bytes, kind: str) -> None:
                self.send_response(200)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def file(self, path: str) -> tuple[bytes, str]:
        match path:
            case "/":
                return PAGE.encode(), "text/html"
            case "/main.py":
                return MAIN.encode(), "text/x-python"
            case "/cases.json":
                return json.dumps(self.cases).encode(), "application/json"
            case "/library.zip":
                return library(), "application/zip"
        file = self.pyodide / Path(path).name
        return (file.read_bytes(), TYPES.get(file.suffix, "application/octet-stream")) if file.exists() else (b"", "")

    def visit(self, profile: Path) -> dict[str, list[Event]]:
        """The results of the page for each case."""
        browser = shutil.which("chromium")
        assert browser is not None, "Chromium is not installed; see .ci/run"
        command = [browser, *FLAGS, f"--user-data-dir={profile}", self.url]
        serving = threading.Thread(target=self.server.serve_forever)
        serving.start()
        try:
            with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
                finished = self.finished.wait(STARTS_WITHIN)
                process.terminate()
        finally:
            self.server.shutdown()
            serving.join()
            self.server.server_close()
        assert finished
        assert not self.result.startswith("failed"), self.result
        heard: dict[str, list[Event]] = pickle.loads(base64.b64decode(self.result))
        return heard


def library() -> bytes:
    """The packages that the page imports, all pure Python, and the recipe."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as files:
        files.write(RECIPE, RECIPE.name)
        for package in (opchat_proto, h11):
            assert package.__file__ is not None
            folder = Path(package.__file__).parent
            for file in folder.rglob("*.py"):
                files.write(file, file.relative_to(folder.parent))
    return archive.getvalue()


def sends(*pieces: bytes) -> Callable[[BaseHTTPRequestHandler], object]:
    return lambda handler: [handler.wfile.write(piece) for piece in pieces]


def relays(port: int) -> Callable[[Any], object]:
    """For a server of another origin, which the page itself could not ask."""

    def relay(handler: Any) -> None:
        route = handler.path.removeprefix("/library")
        with closing(HTTPConnection("127.0.0.1", port, timeout=PATIENCE)) as connection:
            connection.request("POST", route, handler.body, dict(handler.headers))
            answer = connection.getresponse()
            handler.answer(answer.read(), answer.headers["Content-Type"])

    return relay


def is_left(handler: BaseHTTPRequestHandler) -> bool:
    """Whether the browser closes the connection."""
    handler.connection.settimeout(PATIENCE)
    with suppress(ConnectionError):
        assert not handler.connection.recv(1)
    return True


CUT = cut_after("plain", b"seven")
HALF = live(" small")[:-10]
REST = STREAMS["plain"][len(CUT) :]
BODY = b"".join(b"data: " + line.split(b"\r\n")[0] for line in STREAMS["plain"].split(b"data: ")[1:])


@pytest.fixture(scope="module")
def heard(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Site, dict[str, list[Event]], list[bool]]]:
    left: list[bool] = []

    def in_pieces(handler: BaseHTTPRequestHandler) -> None:
        handler.wfile.write(CUT)
        assert site.heard["pieces"].wait(PATIENCE)
        handler.wfile.write(REST)

    def resets(handler: BaseHTTPRequestHandler) -> None:
        handler.wfile.write(CUT)
        assert site.heard["reset"].wait(PATIENCE)
        handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        handler.connection.close()

    def cuts(handler: BaseHTTPRequestHandler) -> None:
        handler.wfile.write(CUT)
        assert site.heard["cut"].wait(PATIENCE)  # when its connection fails, a page discards unread data
        handler.wfile.write(HALF)

    def stalls(handler: BaseHTTPRequestHandler) -> None:
        handler.wfile.write(CUT)
        left.append(is_left(handler))

    def inflates(handler: BaseHTTPRequestHandler) -> None:
        body = gzip.compress(BODY)
        head = STREAM.replace(b"\r\n", b"\r\nContent-Encoding: gzip\r\n", 1)
        handler.wfile.write(head + chunk(body[:50]) + chunk(body[50:]) + chunk(b""))

    def inflates_with_a_length(handler: BaseHTTPRequestHandler) -> None:
        body = gzip.compress(BODY)
        handler.wfile.write(
            b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(body) + body
        )

    site = Site(
        {name: sends(answer) for name, answer in STREAMS.items()}
        | {"pieces": in_pieces, "gzip": inflates, "gzip_length": inflates_with_a_length}
        | {"cut": cuts, "reset": resets, "stall": stalls, "leave": stalls}
        | dict.fromkeys(["nothing", "refused_connection", "library"], sends())
    )
    site.cases = {name: (f"{site.url}/{name}", name == "leave", PATIENCE) for name in site.answers}
    site.cases["stall"] = (f"{site.url}/stall", False, LITTLE)
    context = Authority(tmp_path_factory.mktemp("authority")).server
    with (
        refusing_port() as port,
        FaultServer(answers(STREAMS["plain"]), ssl_context=context) as untrusted,
        serve(small_talk) as library,
    ):
        site.cases["refused_connection"] = (f"http://127.0.0.1:{port}", False, PATIENCE)
        site.answers["library"] = relays(int(library.url.rsplit(":", 1)[1]))
        site.cases["library"] = (f"{site.url}/library", False, PATIENCE)
        site.cases["untrusted"] = (untrusted.url, False, PATIENCE)
        yield site, site.visit(tmp_path_factory.mktemp("profile")), left


Heard = tuple[Site, dict[str, list[Event]], list[bool]]


@pytest.mark.parametrize("name", STREAMS)
def test_a_recorded_answer_gives_the_cores_events(heard: Heard, name: str) -> None:
    assert heard[1][name] == events_of(STREAMS[name])


def test_the_librarys_own_server_answers(heard: Heard) -> None:
    *lives, last = heard[1]["library"]
    assert isinstance(last, End)
    assert last.reply == "Hello! This is question 1 of our conversation."
    assert "".join(piece.text for piece in lives if isinstance(piece, Live)) == last.reply


def test_each_piece_is_received_as_it_is_sent(heard: Heard) -> None:
    assert heard[1]["pieces"] == events_of(STREAMS["plain"])


@pytest.mark.parametrize("name", ["gzip", "gzip_length"])
def test_a_body_that_the_browser_has_inflated_is_read(heard: Heard, name: str) -> None:
    assert heard[1][name] == events_of(STREAMS["plain"])


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("cut", events_of(CUT + HALF)),
        ("reset", events_of(CUT, failed(Reason.LOST))),
        ("stall", events_of(CUT, failed(Reason.TIMEOUT, "idle"))),
        ("nothing", [Broken(Reason.LOST, "said", asked=True)]),
        ("refused_connection", [Broken(Reason.LOST, "said", in_session=True)]),
        ("untrusted", [Broken(Reason.LOST, "said", in_session=True)]),
    ],
)
def test_each_fault_has_its_outcome(heard: Heard, name: str, expected: list[Event]) -> None:
    assert without_words(heard[1][name]) == without_words(expected)


def test_leaving_early_and_a_timeout_close_the_connection(heard: Heard) -> None:
    assert heard[1]["leave"] == [Live("Plain")]
    assert heard[2] == [True, True]


def test_cookies_and_origin_are_the_browsers_and_each_question_is_asked_once(heard: Heard) -> None:
    site, events, _ = heard
    for name in STREAMS:
        (headers,) = site.submits[name]
        assert headers["Cookie"] == "mwai_session_id=cafe"
        assert headers["Origin"] == site.url
        assert headers["X-WP-Nonce"] == "0123456789"
    assert isinstance(events["plain"][-1], End)
