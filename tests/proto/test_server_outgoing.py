"""Uploaded files on a server's connection: found by the application, and sent after the head."""

import pytest

from opchat_proto import Done, Find, LocalProtocolError, OutgoingFile, Receive, Send, SendFile, Server
from tests.proto.cuts import copies, every_cut
from tests.proto.servers import CLOSE, START_REQUEST, STARTED, WITH_FILES, closing, http, request
from tests.proto.sites import NOW

PATH = "/wp-content/uploads/f1.png"
DATA = b"\x89PNG\r\n\r\n"
GET = request(PATH, method="GET")
FOUND = OutgoingFile("f1", "png", (("Cross-Origin-Resource-Policy", "same-origin"),))
HEAD = http(FOUND.found("cat.png", "image/png", len(DATA)))
GONE = http(FOUND.failed(), reason="Not Found")


def fetched(pieces: list[bytes], name: str = "cat.png", data: bytes = DATA) -> tuple[bytes, Server]:
    """What the server sends if the store has a file with this name and data."""
    server, sent, given = Server(WITH_FILES), b"", iter(pieces)
    while True:
        server = next(iter(copies(server)))
        match server.next_step():
            case Receive():
                piece = next(given, None)
                if piece is None:
                    return sent, server
                server.receive_data(piece, now=NOW)
            case Find(file):
                assert file == FOUND
                server.respond(file.found(name, "image/png", len(data)))
            case Send(out):
                sent += out
                server.step_done()
            case SendFile(out, size):
                assert size == len(data) > 0
                sent += out + data
                server.step_done()
            case Done():
                return sent, server


def test_a_file_is_sent_however_the_request_is_cut() -> None:
    for pieces in every_cut(GET):
        assert fetched(pieces)[0] == HEAD + DATA


def test_the_connection_stays_open_after_a_file() -> None:
    data = START_REQUEST + GET + GET + START_REQUEST
    for size in (1, 7, len(data)):
        sent, server = fetched([data[at : at + size] for at in range(0, len(data), size)])
        assert (sent, server.next_step()) == (STARTED + HEAD + DATA + HEAD + DATA + STARTED, Receive())


def test_with_connection_close_the_client_gets_the_whole_file() -> None:
    sent, server = fetched([request(PATH, CLOSE, method="GET") + START_REQUEST])
    assert (sent, server.next_step()) == (closing(HEAD + DATA), Done())
    sent, server = fetched([request(PATH, method="GET", version="1.0")])
    assert (sent, server.next_step()) == (closing(HEAD + DATA), Done())


def test_head_gets_the_size_and_no_bytes() -> None:
    sent, server = fetched([request(PATH, method="HEAD") + START_REQUEST])
    assert (sent, server.next_step()) == (HEAD + STARTED, Receive())


def test_an_empty_file_has_nothing_to_send() -> None:
    assert fetched([GET], data=b"")[0] == http(FOUND.found("cat.png", "image/png", 0))


def test_a_missing_file_keeps_the_connection_open() -> None:
    assert fetched([GET + START_REQUEST], name="cat.gif")[0] == GONE + STARTED


def test_each_step_has_its_order() -> None:
    server = Server(WITH_FILES)
    server.receive_data(GET, now=NOW)
    assert server.next_step() == server.next_step() == Find(FOUND)
    for report in (server.step_done, lambda: server.send(None)):
        with pytest.raises(LocalProtocolError):
            report()
    server.respond(FOUND.found("cat.png", "image/png", 9_000_000_000))
    step = server.next_step()
    assert isinstance(step, SendFile)
    assert (server.next_step(), step.size, server.request, server.status) == (step, 9_000_000_000, ("GET", PATH), 200)
    with pytest.raises(LocalProtocolError):
        server.respond(FOUND.failed())
    server.step_done()
    assert server.next_step() == Receive()


@pytest.mark.parametrize("found", [False, True])
def test_a_client_that_leaves_ends_the_connection(found: bool) -> None:
    for leave in (Server.receive_eof, lambda server: server.step_failed("the file has become shorter")):
        server = Server(WITH_FILES)
        server.receive_data(GET, now=NOW)
        if found:
            server.respond(FOUND.found("cat.png", "image/png", 3))
        leave(server)
        server.respond(FOUND.failed())
        assert server.next_step() == Done()
