"""Uploads on a server's connection: handed to the application in parts, and then answered."""

import json

import pytest

from opchat_proto import Done, IncomingFile, Keep, Kept, Limits, Receive, Send, Server, Site
from tests.proto.cuts import every_cut
from tests.proto.servers import FORM_HEAD, START_REQUEST, STARTED, UPLOAD, WITH_FILES, WITH_NONCE, chunk, request
from tests.proto.sites import NOW, SECRET
from tests.proto.uploads import CAT, FORM

ROUTE = "/wp-json/mwai-ui/v1/files/upload"
KIND = FORM_HEAD[0]


def uploaded(pieces: list[bytes], site: Site = WITH_FILES) -> tuple[bytes, list[tuple[str | None, bytes]], bytes]:
    """The bytes that the server sent, the complete files, and the part written of an incomplete last one."""
    server, sent, files, content = Server(site), b"", list[tuple[str | None, bytes]](), b""
    given = iter(pieces)
    while True:
        match server.next_step():
            case Receive():
                piece = next(given, None)
                if piece is None:
                    server.receive_eof()
                else:
                    server.receive_data(piece, now=NOW)
            case Send(data):
                sent += data
                server.step_done()
            case Keep(file, data):
                assert isinstance(file, IncomingFile)
                assert data
                content += data
                server.step_done()
            case Kept(file):
                files.append((file.name, content))
                content = b""
                server.respond(file.kept("f1"))
            case Done():
                return sent, files, content


def message(sent: bytes) -> tuple[int, str]:
    head, _, body = sent.partition(b"\r\n\r\n")
    return int(head.split()[1]), str(json.loads(body).get("message"))


def test_a_file_is_handed_over_however_it_is_cut() -> None:
    for pieces in every_cut(UPLOAD):
        sent, files, rest = uploaded(pieces)
        assert (message(sent), files, rest) == ((200, "None"), [("cat.png", CAT.data)], b"")
        assert b'"id":"f1"' in sent


def test_requests_around_a_file_are_answered() -> None:
    chunked = request(ROUTE, WITH_NONCE, KIND, "Transfer-Encoding: chunked")
    chunked += chunk(FORM[:99]) + chunk(FORM[99:]) + b"0\r\n\r\n"
    data = START_REQUEST + UPLOAD + chunked + START_REQUEST
    for size in (1, 7, 4096, len(data)):
        sent, files, _ = uploaded([data[at : at + size] for at in range(0, len(data), size)])
        assert files == [("cat.png", CAT.data)] * 2
        assert sent.startswith(STARTED)
        assert sent.endswith(STARTED)


def test_a_large_file_is_never_in_memory_as_a_whole() -> None:
    data = UPLOAD.replace(CAT.data, b"x" * 1_000_000).replace(
        str(len(FORM)).encode(), str(len(FORM) + 999_993).encode()
    )
    server, held = Server(WITH_FILES), 0
    for at in range(0, len(data), 50_000):
        server.receive_data(data[at : at + 50_000], now=NOW)
        held = max(held, server.held)
        while isinstance(server.next_step(), Keep):
            server.step_done()
    assert (isinstance(server.next_step(), Kept), held < 60_000) == (True, True)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (UPLOAD.replace(b"cat.png", b"cat.php"), (400, "Invalid file type.")),
        (UPLOAD.replace(b"purpose", b"another"), (400, "Purpose is required.")),
        (UPLOAD.replace(b"X-WP-Nonce: ", b"X-WP-Nonce: 0"), (403, "Cookie check failed")),
    ],
)
def test_a_refused_file_keeps_the_connection_open(data: bytes, expected: tuple[int, str]) -> None:
    sent, files, _ = uploaded([data])
    assert (message(sent), files) == (expected, [])
    sent, _, _ = uploaded([data + START_REQUEST])
    assert sent.endswith(STARTED)


def test_a_file_that_is_too_large_ends_the_connection() -> None:
    site = Site(SECRET, upload_types=("png",), limits=Limits(upload_bytes=len(FORM), request_bytes=1))
    assert uploaded([UPLOAD], site)[1] == [("cat.png", CAT.data)]
    chunked = request(ROUTE, WITH_NONCE, KIND, "Transfer-Encoding: chunked") + chunk(FORM[:-1]) + chunk(b"xx")
    for data in (UPLOAD.replace(b"th: ", b"th: 9"), chunked):
        for size in (100, len(data)):
            sent, files, _ = uploaded([data[at : at + size] for at in range(0, len(data), size)], site)
            assert (message(sent)[0], b"Connection: close" in sent, files) == (413, True, [])


def test_a_client_that_leaves_ends_the_file() -> None:
    assert uploaded([UPLOAD[:-3]]) == (b"", [], CAT.data)


def test_a_client_that_waits_for_100_continue_gets_it() -> None:
    head = request(ROUTE, WITH_NONCE, "Expect: 100-continue", *FORM_HEAD)
    sent, files, _ = uploaded([head, FORM])
    assert (sent.startswith(b"HTTP/1.1 100 Continue\r\n\r\n"), files) == (True, [("cat.png", CAT.data)])


def test_a_response_after_the_client_has_left_is_ignored() -> None:
    server = Server(WITH_FILES)
    server.receive_data(UPLOAD, now=NOW)
    server.step_done()
    step = server.next_step()
    assert isinstance(step, Kept)
    server.step_failed("reset")
    server.respond(step.file.failed("too late"))
    assert server.next_step() == Done()
