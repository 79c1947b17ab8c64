"""Uploaded files over sockets, at the URL in the response to the upload, from each of our servers."""

import os
import socket
import threading
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from opchat_proto import End, Upload

from .asking import ASKS
from .keeping import SERVERS, serving

DATA = os.urandom(8_000_000)  # more than sockets buffer
PATIENCE = 60


@pytest.fixture(scope="module", params=SERVERS)
def site(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    directory = tmp_path_factory.mktemp("files")
    with serving(request.param, directory) as url:
        yield url, directory


def upload(url: str, name: str = "cat.png", data: bytes = DATA) -> tuple[HTTPConnection, str, str]:
    """A connection to the site, and the path and id of a new file."""
    [end] = ASKS["blocking"](url, question=Upload(name=name, data=data, content_type="image/png", boundary="edge"))
    assert isinstance(end, End)
    found = urlsplit(end.payload()["data"]["url"])
    assert found.hostname is not None
    return HTTPConnection(found.hostname, found.port, timeout=PATIENCE), found.path, end.payload()["data"]["id"]


def begin(connection: HTTPConnection, path: str) -> socket.socket:
    """Fetch a file, and read only its beginning."""
    connection.connect()
    connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
    connection.sock.sendall(b"GET %s HTTP/1.1\r\nHost: a\r\n\r\n" % path.encode())
    assert connection.sock.recv(1000).startswith(b"HTTP/1.1 200 ")
    return connection.sock


def rest(sock: socket.socket) -> int:
    """How many bytes arrive before the server closes."""
    count = 0
    while data := sock.recv(65536):
        count += len(data)
    return count


def test_the_url_in_the_response_serves_the_file(site: tuple[str, Path]) -> None:
    connection, path, _ = upload(site[0])
    for method, expected in (("HEAD", b""), ("GET", DATA), ("GET", DATA)):
        connection.request(method, path)
        response = connection.getresponse()
        assert (response.status, response.read() == expected) == (200, True)
        kept = {name: response.headers[name] for name in ("Content-Type", "Content-Length", "Content-Disposition")}
        assert kept == {"Content-Type": "image/png", "Content-Length": str(len(DATA)), "Content-Disposition": None}
    for other in ("/wp-content/uploads/", path.replace(".png", ".gif"), path[:-5] + "/.png"):
        connection.request("GET", other)
        response = connection.getresponse()
        response.read()
        assert response.status == 404
    connection.close()


def test_a_file_that_is_not_a_picture_is_saved_instead_of_shown(site: tuple[str, Path]) -> None:
    connection, path, _ = upload(site[0], "page.txt", b"<script>alert(1)</script>")
    connection.request("GET", path)
    response = connection.getresponse()
    assert response.read() == b"<script>alert(1)</script>"
    assert (response.headers["Content-Disposition"], response.headers["Content-Type"]) == (
        "attachment",
        "application/octet-stream",
    )
    connection.close()


@pytest.mark.parametrize("size", [1, 7])
def test_a_request_that_arrives_in_pieces_gets_the_file(size: int, site: tuple[str, Path]) -> None:
    connection, path, _ = upload(site[0], data=b"cat")
    connection.connect()
    request = b"GET %s HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n" % path.encode()
    connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for at in range(0, len(request), size):
        connection.sock.sendall(request[at : at + size])
    answer = b""
    while data := connection.sock.recv(65536):
        answer += data
    assert answer.endswith(b"\r\n\r\ncat")
    connection.close()


def test_a_file_deleted_while_it_is_sent_is_sent_whole(site: tuple[str, Path]) -> None:
    connection, path, file_id = upload(site[0])
    sock = begin(connection, path)
    for kept in site[1].glob(f"{file_id}.*"):
        kept.unlink()
    received = bytearray()
    while not received.endswith(DATA[-1000:]) and (data := sock.recv(65536)):
        received += data
    assert received[-7_000_000:] == DATA[-7_000_000:]
    connection.close()
    connection.request("GET", path)
    assert connection.getresponse().status == 404
    connection.close()


def test_a_file_that_shrinks_breaks_the_connection_off(site: tuple[str, Path]) -> None:
    connection, path, file_id = upload(site[0])
    sock = begin(connection, path)
    os.truncate(site[1] / f"{file_id}.data", 7_000_000)
    assert rest(sock) < len(DATA)
    connection.close()


def test_a_client_that_leaves_is_not_an_error(site: tuple[str, Path]) -> None:
    connection, path, _ = upload(site[0])
    begin(connection, path)
    connection.close()
    connection.request("GET", path)
    assert connection.getresponse().read() == DATA
    connection.close()


def test_files_are_whole_or_404_while_others_delete_them(site: tuple[str, Path]) -> None:
    connection, path, file_id = upload(site[0])
    connection.close()
    seen: list[tuple[int, bool]] = []
    begun = threading.Event()

    def fetch() -> None:
        own = HTTPConnection(connection.host, connection.port, timeout=PATIENCE)
        for _ in range(5):
            own.request("GET", path)
            response = own.getresponse()
            begun.set()
            seen.append((response.status, response.read() == DATA))
        own.close()

    threads = [threading.Thread(target=fetch) for _ in range(4)]
    for thread in threads:
        thread.start()
    assert begun.wait(PATIENCE)
    for kept in site[1].glob(f"{file_id}.*"):
        kept.unlink()
    for thread in threads:
        thread.join()
    assert (len(seen), set(seen) <= {(200, True), (404, False)}) == (20, True)
