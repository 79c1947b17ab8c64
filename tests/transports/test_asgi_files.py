"""Uploads to the ASGI application, and the bots that receive them."""

import json
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Iterator
from pathlib import Path
from typing import Any

import pytest

from opchat_proto import Broken, End, Event, Limits, Reason, Response, Site, Submit, Upload
from opchat_transports.asgi import Application, application
from opchat_transports.file_store import FileStore, StoredFile
from tests.transports.asgi import SECRET, SUBMIT, Message, Peer, body, request, run, scope

UPLOAD = "/wp-json/mwai-ui/v1/files/upload"
CAT = Upload(name="cat.png", data=b"\x89PNG" * 1000, content_type="image/png", boundary="edge")
FORM = CAT.encode()
HALVES = FORM[:1000], FORM[1000:]


def headers(kind: str, **more: str) -> list[tuple[bytes, bytes]]:
    own = {"content-type": kind, "x-wp-nonce": Site(SECRET).nonce(time.time()), "host": "site.example", **more}
    return [(name.replace("_", "-").encode(), value.encode()) for name, value in own.items()]


def upload(backend: str, app: Application, *messages: Message, **more: str) -> Response:
    head = scope(UPLOAD, headers=headers('multipart/form-data; boundary="edge"', **more))
    return request(backend, app, head, *(messages or body(*HALVES))).response


def ask(backend: str, app: Application, *file_ids: str) -> list[Event]:
    values = {"botId": "default", "newMessage": "What?", "stream": True, "newFileIds": file_ids}
    head = scope(SUBMIT, headers=headers("application/json"))
    return request(backend, app, head, *body(json.dumps(values).encode())).events


def blocking(submit: Submit, files: tuple[StoredFile, ...]) -> Iterator[str]:
    for file in files:
        yield f"{file.name}, {file.content_type}, {len(file.path.read_bytes())} bytes"


async def generator(submit: Submit, files: tuple[StoredFile, ...]) -> AsyncIterator[str]:
    for piece in blocking(submit, files):
        yield piece


async def coroutine(submit: Submit, files: tuple[StoredFile, ...]) -> AsyncIterator[str]:
    return generator(submit, files)


class Bot:
    def __call__(self, submit: Submit, files: tuple[StoredFile, ...]) -> Awaitable[AsyncIterator[str]]:
        return coroutine(submit, files)


@pytest.mark.parametrize("bot", [blocking, generator, coroutine, Bot()])
def test_a_bot_gets_the_files_of_its_question(backend: str, bot: Any, tmp_path: Path) -> None:
    app = application(bot, secret=SECRET, files=FileStore(tmp_path))
    response = upload(backend, app)
    told = json.loads(response.body)["data"]
    assert (response.status, told["url"]) == (200, f"http://site.example/wp-content/uploads/{told['id']}.png")
    assert {"x-wp-nonce", "set-cookie"} <= {name for name, _ in response.headers}
    *_, end = ask(backend, app, told["id"])
    assert isinstance(end, End)
    assert end.reply == "cat.png, image/png, 4000 bytes"
    gone = [Broken(Reason.REMOTE, "A file of this question does not exist, or no longer.")]
    assert ask(backend, app, told["id"], "0" * 32) == gone
    assert ask(backend, app)[-1:] == [End("", ask(backend, app)[-1].raw)]


def test_each_of_several_bots_gets_the_files_of_its_question(backend: str, tmp_path: Path) -> None:
    app = application(bots={"default": blocking, "b": generator}, secret=SECRET, files=FileStore(tmp_path))
    assert repr(app) == "<Application default, b>"
    told = json.loads(upload(backend, app).body)["data"]
    *_, end = ask(backend, app, told["id"])
    assert isinstance(end, End)
    assert end.reply == "cat.png, image/png, 4000 bytes"


def test_without_a_store_the_upload_route_is_404(backend: str) -> None:
    response = upload(backend, application(lambda submit: (), secret=SECRET))
    assert (response.status, json.loads(response.body)["code"]) == (404, "rest_no_route")


@pytest.mark.parametrize(
    ("form", "more", "status", "words"),
    [
        (FORM.replace(b"cat.png", b"cat.php"), {}, 400, "Invalid file type."),
        (FORM.replace(b'"purpose"', b'"other"'), {}, 400, "Purpose is required."),
        (FORM[:-20], {}, 400, "No file provided."),
        (FORM, {"x_wp_nonce": "0123456789"}, 403, "Cookie check failed"),
        (FORM + b"x" * 5000, {}, 413, "The body is larger than 5000 bytes."),
        (FORM, {"content_length": "5001"}, 413, "The body is larger than 5000 bytes."),
    ],
)
def test_a_refused_upload_leaves_nothing_in_the_store(
    backend: str, form: bytes, more: dict[str, str], status: int, words: str, tmp_path: Path
) -> None:
    app = application(blocking, secret=SECRET, files=FileStore(tmp_path), limits=Limits(upload_bytes=5000))
    response = upload(backend, app, *body(form[:1000], form[1000:], b""), **more)
    assert (response.status, json.loads(response.body)["message"]) == (status, words)
    assert ("connection", "close") in response.headers or status != 413
    assert list(tmp_path.iterdir()) == []


def test_an_abandoned_or_slow_upload_leaves_nothing_in_the_store(backend: str, tmp_path: Path) -> None:
    head = scope(UPLOAD, headers=headers("multipart/form-data; boundary=edge"))
    begun = body(FORM[:1000], b"")[0]

    async def main() -> tuple[Peer, Peer]:
        gone, slow = Peer(begun), Peer(begun)
        gone.left.set()
        app = application(blocking, secret=SECRET, files=FileStore(tmp_path))
        await app(head, gone.receive, gone.send)
        app = application(blocking, secret=SECRET, files=FileStore(tmp_path), request_timeout=0.05)
        await app(head, slow.receive, slow.send)
        return gone, slow

    gone, slow = run(backend, main)
    assert (gone.sent, slow.response.status, list(tmp_path.iterdir())) == ([], 408, [])


def test_an_upload_to_a_full_store_is_refused(backend: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    store = FileStore(tmp_path, total_bytes=100)
    response = upload(backend, application(blocking, secret=SECRET, files=store))
    assert (response.status, json.loads(response.body)["message"]) == (500, "The file cannot be kept.")
    assert ("connection", "close") in response.headers
    assert list(tmp_path.iterdir()) == []
    assert "a file cannot be kept: the store has no room for this file" in caplog.text


def test_a_store_with_a_bot_that_takes_no_files_is_an_error(tmp_path: Path) -> None:
    def one(submit: Submit) -> Iterator[str]:
        yield "no files"

    store = FileStore(tmp_path)
    with pytest.raises(TypeError, match=r"^files: the bot must take a question and a tuple of its files$"):
        application(one, secret=SECRET, files=store)
    with pytest.raises(TypeError, match=r"^files: the bot 'a' must take a question and a tuple of its files$"):
        application(bots={"a": one}, secret=SECRET, files=store)


def test_the_page_offers_uploads_if_the_application_takes_them(backend: str, tmp_path: Path) -> None:
    for files, offered in ((FileStore(tmp_path), b"true"), (None, b"false")):
        bot: Any = blocking if files else (lambda submit: ())
        page = request(backend, application(bot, secret=SECRET, files=files), scope("/", "GET"), *body(b"")).response
        assert b"&quot;imageUpload&quot;:" + offered in page.body


@pytest.mark.parametrize("bot", [blocking, generator, coroutine, Bot()])
def test_files_are_looked_up_outside_the_event_loop(
    backend: str, bot: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: list[int] = []
    find_all = FileStore.find_all

    def noted(store: FileStore, file_ids: Any) -> Any:
        threads.append(threading.get_ident())
        return find_all(store, file_ids)

    monkeypatch.setattr(FileStore, "find_all", noted)
    app = application(bot, secret=SECRET, files=FileStore(tmp_path))
    ask(backend, app, "0" * 32)
    assert len(threads) == 1
    assert threads != [threading.get_ident()]
