"""Uploaded files that the ASGI application serves."""

import os
from pathlib import Path
from typing import Any

import anyio
import pytest

from opchat_transports.asgi import Application, application
from opchat_transports.file_store import FileStore, StoredFile
from tests.transports.asgi import SECRET, Peer, body, request, run, scope

DATA = os.urandom(200_000)


def app(store: FileStore) -> Application:
    return application(lambda submit, files: (), secret=SECRET, files=store)


def put(store: FileStore, data: bytes = DATA, name: str = "cat.png", kind: str = "image/png") -> StoredFile:
    writer = store.begin(name, kind)
    writer.write(data)
    return writer.keep()


def path_of(file: StoredFile, extension: str = "png") -> str:
    return f"/wp-content/uploads/{file.file_id}.{extension}"


def get(backend: str, store: FileStore, target: str, method: str = "GET", **more: Any) -> Peer:
    return request(backend, app(store), scope(target, method, **more), *body(b""))


def test_a_file_is_sent_in_pieces(backend: str, tmp_path: Path) -> None:
    store = FileStore(tmp_path)
    peer = get(backend, store, path_of(put(store)))
    assert (peer.response.status, peer.response.body == DATA) == (200, True)
    assert max(len(message["body"]) for message in peer.sent[1:]) <= 65536
    assert dict(peer.response.headers) == {
        "content-type": "image/png",
        "content-length": "200000",
        "cache-control": "private",
        "x-content-type-options": "nosniff",
        "content-security-policy": "default-src 'none'; sandbox",
        "cross-origin-resource-policy": "same-origin",
    }


def test_a_mounted_application_serves_files_below_its_root(backend: str, tmp_path: Path) -> None:
    store = FileStore(tmp_path)
    peer = get(backend, store, f"/chat{path_of(put(store))}", root_path="/chat")
    assert (peer.response.status, peer.response.body == DATA) == (200, True)


def test_head_gets_the_same_fields_and_no_body(backend: str, tmp_path: Path) -> None:
    store = FileStore(tmp_path)
    target = path_of(put(store))
    head, whole = get(backend, store, target, "HEAD").response, get(backend, store, target).response
    assert (head.status, head.headers, head.body) == (200, whole.headers, b"")


def test_an_empty_file_is_sent(backend: str, tmp_path: Path) -> None:
    store = FileStore(tmp_path)
    response = get(backend, store, path_of(put(store, b"", "a.txt", "text/html"), "txt")).response
    assert (response.status, response.body, dict(response.headers)["content-length"]) == (200, b"", "0")
    assert dict(response.headers)["content-disposition"] == "attachment"


def test_a_file_that_is_not_in_the_store_is_404(backend: str, tmp_path: Path) -> None:
    store = FileStore(tmp_path)
    file = put(store)
    for target in (path_of(file, "gif"), f"/wp-content/uploads/{'0' * 32}.png", "/wp-content/uploads/"):
        assert get(backend, store, target).response.status == 404
    for path in tmp_path.iterdir():
        os.utime(path, (0, 0))
    assert get(backend, store, path_of(file)).response.status == 404


def test_an_unreadable_file_is_500(backend: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    store = FileStore(tmp_path)
    file = put(store)
    file.path.unlink()
    file.path.symlink_to(file.path)  # a symlink to itself
    assert get(backend, store, path_of(file)).response.status == 500
    assert "a file cannot be read: Too many levels of symbolic links" in caplog.text


def meanwhile(backend: str, store: FileStore, happens: Any) -> Peer:
    """Fetch a file, and run `happens` after its first piece."""
    file = put(store)

    async def main() -> Peer:
        peer = Peer(*body(b""))
        peer.came[1], peer.gates[1] = anyio.Event(), anyio.Event()

        async def act() -> None:
            await peer.came[1].wait()
            happens(peer, file)
            peer.gates[1].set()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(act)
            await app(store)(scope(path_of(file), "GET"), peer.receive, peer.send)
        return peer

    peer = run(backend, main)
    assert isinstance(peer, Peer)
    return peer


def test_a_file_deleted_while_it_is_sent_is_sent_whole(backend: str, tmp_path: Path) -> None:
    store = FileStore(tmp_path)

    def purge(peer: Peer, file: StoredFile) -> None:
        for path in tmp_path.iterdir():
            os.utime(path, (0, 0))
        assert (store.purge(), list(tmp_path.iterdir())) == (0, [])

    assert meanwhile(backend, store, purge).response.body == DATA


def test_the_response_with_a_file_that_shrinks_stays_unfinished(
    backend: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    peer = meanwhile(backend, FileStore(tmp_path), lambda peer, file: os.truncate(file.path, 100_000))
    assert all(message["more_body"] for message in peer.sent[1:])
    assert "the rest of a file cannot be read: it has become shorter" in caplog.text


def test_a_client_that_leaves_ends_the_response(backend: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    def leave(peer: Peer, file: StoredFile) -> None:
        peer.lost = True

    caplog.set_level("INFO", "opchat_transports.access")
    peer = meanwhile(backend, FileStore(tmp_path), leave)
    assert (len(peer.sent), caplog.records[-1].getMessage().split()[3:5]) == (2, ["200", "left"])
    assert "cannot be read" not in caplog.text
