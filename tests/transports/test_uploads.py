"""Files for a bot, over each transport."""

import io
import socket
from pathlib import Path
from typing import Any

import pytest
import trustme

from opchat_proto import Broken, Limits, Reason, Session, Upload
from opchat_transports import ReplyBroken
from opchat_transports.testing import Accept, Close, Expect, FaultServer, Run, Script, Write, json_object, response

from .asking import ASKS, TRANSPORTS, Ask, linux
from .tls import tls_server, trusting

each = pytest.mark.parametrize("ask", ASKS.values(), ids=ASKS)
ID = "2fa164266b033ad1d46fd522303ab310"


def answered(status: int = 200, **payload: Any) -> Script:
    return Expect("upload"), Write(json_object(status=status, **payload)), Close()


KEPT = answered(success=True, data={"id": ID, "url": "http://site.example/cat.png"})


def upload(ask: Ask, url: str, *files: Any, **options: Any) -> str:
    """Upload one file, a path or a name with bytes, over a new transport."""
    file, *name = files
    named = {"name": name[0]} if name else {}

    async def main() -> str:
        async with ask.kind(url, **options) as transport:
            return str(await transport.upload(file, **named))

    if ask.run is None:
        with ask.kind(url, **options) as transport:
            return str(transport.upload(file, **named))
    return str(ask.run(main))


@each
@pytest.mark.parametrize("kind", [bytes, str, Path])
def test_an_uploaded_file_has_an_id(ask: Ask, kind: Any, tmp_path: Path) -> None:
    path = tmp_path / "cat.png"
    path.write_bytes(b"\x89PNG")
    with FaultServer(KEPT) as server:
        assert upload(ask, server.url, *((b"\x89PNG", "cat.png") if kind is bytes else (kind(path),))) == ID
        opening, request = server.requests
    assert (opening.route, request.route) == ("start_session", "upload")
    assert b'filename="cat.png"\r\nContent-Type: image/png\r\n\r\n\x89PNG\r\n--' in request.body


@each
def test_a_large_file_is_sent_whole(ask: Ask) -> None:
    data = b"\r\n--\0" * 400_000
    with FaultServer(KEPT) as server:
        assert upload(ask, server.url, data, "a.bin", session=Session("n1")) == ID
        [request] = server.requests
    assert b"\r\n\r\n" + data + b"\r\n--opchat-" in request.body


@each
def test_an_id_may_be_a_number(ask: Ask) -> None:
    with FaultServer(answered(success=True, data={"id": 17})) as server:
        assert upload(ask, server.url, b"x", "a.txt") == "17"


@each
@pytest.mark.parametrize(
    ("script", "reason"),
    [
        (answered(success=False, message="Invalid file type."), Reason.REMOTE),
        (answered(status=400, success=False, message="Purpose is required."), Reason.REFUSED),
        (answered(success=True), Reason.MALFORMED),
        (answered(success=True, data={"id": True}), Reason.MALFORMED),
        ((Expect("upload"), Close()), Reason.LOST),
    ],
)
def test_a_refusal_by_the_site_is_raised(ask: Ask, script: Script, reason: Reason) -> None:
    with FaultServer(script) as server, pytest.raises(ReplyBroken) as caught:
        upload(ask, server.url, b"x", "a.php")
    assert (caught.value.broken.reason, caught.value.broken.asked) == (reason, False)


@linux  # where a reset leaves what came before it
@pytest.mark.parametrize("way", ["blocking", "trio", "asyncio"])  # httpx may lose what came with a reset
@pytest.mark.parametrize("is_secure", [False, True], ids=["http", "https"])
def test_a_refusal_that_arrives_while_the_file_is_sent_is_read(way: str, is_secure: bool) -> None:
    def refuse(connection: socket.socket) -> None:
        connection.recv(100)
        connection.sendall(response(b"Too large.", status=413, headers=[("Content-Type", "text/html")]))
        connection.close()  # and with it what the client is still sending

    authority = trustme.CA()
    context = tls_server(authority) if is_secure else None
    with FaultServer((Accept(), Run(refuse)), ssl_context=context) as server:
        options = {"session": Session("n1"), "ssl_context": trusting(authority) if is_secure else None}
        with pytest.raises(ReplyBroken) as caught:
            upload(ASKS[way], server.url, bytes(16_000_000), "a.bin", **options)
    assert caught.value.broken == Broken(Reason.REFUSED, "Too large.", status=413, raw="Too large.")


@pytest.mark.parametrize("kind", TRANSPORTS)
def test_a_file_that_cannot_be_sent_raises_at_once(kind: Any, tmp_path: Path) -> None:
    ask = next(ask for ask in ASKS.values() if ask.kind is kind)
    with pytest.raises(TypeError, match=r"^name: expected one, since bytes have none$"):
        upload(ask, "http://site.example", b"x")
    with pytest.raises(FileNotFoundError):
        upload(ask, "http://site.example", tmp_path / "none.png")
    with pytest.raises(ValueError, match=r"^submit: expected at most 10 bytes, got "):
        upload(ask, "http://site.example", b"x", "a.txt", limits=Limits(upload_bytes=10))
    with pytest.raises(ValueError, match=r"^file: expected at most 1000 bytes \(Limits\.upload_bytes\)$"):
        upload(ask, "http://site.example", "/dev/zero", limits=Limits(upload_bytes=1000))


@pytest.mark.parametrize("file", [bytearray(b"x"), io.BytesIO(b"x"), ["a.txt", b"x"], ("a.txt",), None, 5])
def test_a_refused_file_type_is_named(file: Any) -> None:
    kinds = "a path, bytes, a pair of a name and bytes, or an Upload"
    with pytest.raises(TypeError, match=rf"^file: expected {kinds}, got {type(file).__name__}$"):
        upload(ASKS["blocking"], "http://site.example", file, "a.txt")


@pytest.mark.parametrize("kind", ["path", "pair", "upload"])
def test_a_given_name_replaces_the_files_own(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "cat.png"
    path.write_bytes(b"x")
    file = {"path": path, "pair": ("cat.png", b"x"), "upload": Upload(name="cat.png", data=b"x", boundary="edge")}[kind]
    with FaultServer(KEPT) as server:
        upload(ASKS["blocking"], server.url, file, "dog.gif")
    assert b'filename="dog.gif"' in server.requests[-1].body


@pytest.mark.parametrize(
    ("name", "content_type"),
    [
        ("cat.png", "image/png"),
        ("cat.webp", "image/webp"),
        ("cat.png.gz", "application/octet-stream"),
        ("cat", "application/octet-stream"),
    ],
)
def test_the_content_type_matches_the_bytes(name: str, content_type: str) -> None:
    with FaultServer(KEPT) as server:
        upload(ASKS["blocking"], server.url, b"x", name)
    assert f"\r\nContent-Type: {content_type}\r\n\r\nx\r\n".encode() in server.requests[-1].body
