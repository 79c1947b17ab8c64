"""Files over sockets: from each transport to each of our servers, and on to a bot."""

import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from opchat_proto import Broken, End, Limits, Reason, Upload
from opchat_transports.blocking_server import serve
from opchat_transports.bots import small_talk
from opchat_transports.file_store import FileStore

from .asking import ASKS, Ask
from .command import opchat
from .keeping import CAT, SERVERS, bot, serving

each = pytest.mark.parametrize("ask", ASKS.values(), ids=ASKS)


@pytest.fixture(scope="module", params=SERVERS)
def url(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with serving(request.param, tmp_path_factory.mktemp("files")) as url:
        yield url


def ask_with(ask: Ask, url: str, *files: Upload) -> Any:
    """The last event of a question with these files."""

    async def main() -> Any:
        async with ask.kind(url) as transport, transport.ask("What?", files=files) as reply:
            return [event async for event in reply][-1]

    if ask.run is None:
        with ask.kind(url) as transport, transport.ask("What?", files=files) as reply:
            return list(reply)[-1]
    return ask.run(main)


@each
def test_a_bot_reads_the_files_of_a_question(ask: Ask, url: str) -> None:
    other = Upload(name="a.txt", data=b"", content_type="text/plain", boundary="edge")
    end = ask_with(ask, url, CAT, other)
    assert isinstance(end, End)
    assert end.reply == "cat.png image/png 1600000 True\na.txt text/plain 0 False\n"


@each
def test_a_refused_file_gives_the_servers_reason(ask: Ask, url: str) -> None:
    broken = ask_with(ask, url, Upload(name="x.php", data=CAT.data, boundary="edge"))
    assert isinstance(broken, Broken)
    assert (broken.reason, broken.status, broken.asked) == (Reason.REFUSED, 400, False)
    assert broken.detail == "file 'x.php': Invalid file type."


def test_a_question_with_a_missing_file_is_broken(url: str) -> None:
    with ASKS["blocking"].kind(url) as transport, transport.ask("What?", file_ids=["0" * 32]) as reply:
        [broken] = reply
    gone = "A file of this question does not exist, or no longer."
    assert (broken.reason, broken.detail, broken.asked) == (Reason.REMOTE, gone, True)


def test_a_small_server_keeps_nothing_of_refused_or_abandoned_uploads(tmp_path: Path) -> None:
    with serving("small", tmp_path, limits=Limits(upload_bytes=2_000_000)) as url:
        large = Upload(name="cat.png", data=bytes(2_100_000), boundary="edge")
        [broken] = ASKS["blocking"](url, question=large)
        assert (broken.reason, broken.status) == (Reason.REFUSED, 413)
        with ASKS["blocking"].kind(url) as transport:
            transport.upload(b"x", name="a.txt")
            nonce = transport.session.nonce
        kept = set(tmp_path.iterdir())
        port = int(url.rpartition(":")[2])
        with socket.create_connection(("127.0.0.1", port), 20) as connection:
            connection.sendall(
                b"POST /wp-json/mwai-ui/v1/files/upload HTTP/1.1\r\nHost: a\r\nContent-Length: 1600290\r\n"
                b'Content-Type: multipart/form-data; boundary="edge"\r\nX-WP-Nonce: %s\r\n\r\n'
                % nonce.encode()
                + CAT.encode()[:400_000]
            )
            end = time.monotonic() + 20
            while set(tmp_path.iterdir()) == kept:
                assert time.monotonic() < end
        while set(tmp_path.iterdir()) != kept:
            assert time.monotonic() < end
    assert len(kept) == 2


def test_a_full_store_is_reported_and_the_connection_stays_usable(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with serve(bot, files=FileStore(tmp_path, total_bytes=5000)) as server:
        [broken] = ASKS["blocking"](server.url, question=CAT)
    assert (broken.status, broken.detail, list(tmp_path.iterdir())) == (500, "The file cannot be kept.", [])
    assert caplog.text.count("a file cannot be kept") == 1


def test_the_built_in_bot_names_the_files(tmp_path: Path) -> None:
    (tmp_path / "cat.png").write_bytes(b"\x89PNG")
    with serve(small_talk, files=FileStore(tmp_path / "kept")) as server:
        result = opchat("ask", "--url", server.url, "--file", str(tmp_path / "cat.png"), "Look!")
    assert result.stdout.startswith('I have cat.png (4 bytes). You said "Look!".')


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--files", "/dev/null"], "--files"),
        (["--files", "/dev/null/x"], "--files: /dev/null/x: Not a directory"),
        (
            ["--files", "{}", "--bot", "tests.transports.served:bot"],
            "the bot must take a question and a tuple of",
        ),
    ],
)
def test_a_bot_that_cannot_take_files_is_wrong_usage(arguments: list[str], words: str, tmp_path: Path) -> None:
    result = opchat("serve", "--port", "0", *(argument.format(tmp_path) for argument in arguments))
    assert (result.returncode, words in " ".join(result.stderr.split())) == (2, True), result.stderr
