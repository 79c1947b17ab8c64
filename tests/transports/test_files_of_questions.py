"""Questions with files, over each transport."""

import json
from pathlib import Path
from typing import Any

import pytest

from opchat_proto import Broken, Conversation, End, Limits, Query, Reason, Upload
from opchat_transports import FileLike, ReplyBroken
from opchat_transports.testing import Close, Expect, FaultServer, Script, Write, json_object, response

from .asking import ASKS, EACH, TRANSPORTS, Ask

each = pytest.mark.parametrize("ask", EACH.values(), ids=EACH)
DOG = Upload(name="dog.png", data=b"dog", boundary="edge")
ANSWER = Write(b'data: {"type":"live","data":"A cat."}\n\ndata: {"type":"end","data":"{\\"success\\":true}"}\n\n')


def kept(file_id: str, status: int = 200) -> Script:
    return Expect("upload"), Write(json_object(status=status, success=True, data={"id": file_id})), Close()


def ask_with(ask: Ask, url: str, files: list[FileLike], *more: Any, **options: Any) -> list[Any]:
    """The events of a question with these files."""

    async def main() -> list[Any]:
        async with ask.kind(url, **options) as transport, transport.ask("What?", *more, files=files) as reply:
            return [event async for event in reply]

    if ask.run is None:
        with ask.kind(url, **options) as transport, transport.ask("What?", *more, files=files) as reply:
            return list(reply)
    events: list[Any] = ask.run(main)
    return events


@each
def test_files_are_uploaded_in_the_session_of_the_question(ask: Ask, tmp_path: Path) -> None:
    path = tmp_path / "cat.png"
    path.write_bytes(b"\x89PNG")
    with FaultServer(kept("f1"), kept("f2"), kept("f3")) as server:
        events = ask_with(ask, server.url, [path, ("bird.png", b"bird"), DOG])
        requests = server.requests
    assert isinstance(events[-1], End)
    assert [request.route for request in requests] == ["start_session", "upload", "upload", "upload", "submit"]
    contents = [b"\x89PNG", b"bird", b"dog"]
    assert all(content in request.body for content, request in zip(contents, requests[1:4], strict=True))
    nonces = {dict(request.headers).get("x-wp-nonce") for request in requests[1:]}
    assert len(nonces) == 1
    assert json.loads(requests[-1].body)["newFileIds"] == ["f1", "f2", "f3"]


@each
def test_a_file_can_go_with_a_conversation(ask: Ask) -> None:
    conversation = Conversation()
    with FaultServer(kept("f1")) as server:
        events = ask_with(ask, server.url, [DOG], conversation)
        *_, request = server.requests
    assert isinstance(events[-1], End)
    assert [message.role for message in conversation.messages] == ["user", "assistant"]
    assert json.loads(request.body)["newFileId"] == "f1"


@each
@pytest.mark.parametrize(
    ("script", "reason", "detail"),
    [
        (
            (Expect("upload"), Write(json_object(status=400, success=False, message="Invalid file type.")), Close()),
            Reason.REFUSED,
            "file 'dog.png': Invalid file type.",
        ),
        ((Expect("upload"), Close()), Reason.LOST, None),
        ((Expect("upload"), Write(json_object(success=True)), Close()), Reason.MALFORMED, None),
    ],
)
def test_a_refused_file_ends_the_reply_and_nothing_is_asked(
    ask: Ask, script: Script, reason: Reason, detail: str | None
) -> None:
    with FaultServer(script) as server:
        [broken] = ask_with(ask, server.url, [DOG])
        routes = [request.route for request in server.requests]
    assert isinstance(broken, Broken)
    assert (broken.reason, broken.asked, detail or broken.detail) == (reason, False, broken.detail)
    assert broken.detail.startswith("file 'dog.png': ")
    assert routes == ["start_session", "upload"]


@each
def test_retries_repeat_a_lost_upload(ask: Ask) -> None:
    with FaultServer((Expect("upload"), Close()), kept("f1")) as server:
        events = ask_with(ask, server.url, [DOG], retries=1, random=lambda: 0.0)
        routes = [request.route for request in server.requests]
    assert isinstance(events[-1], End)
    assert routes == ["start_session", "upload", "upload", "submit"]


@pytest.mark.parametrize("kind", TRANSPORTS)
def test_files_that_cannot_be_sent_raise_at_once(kind: Any, tmp_path: Path) -> None:
    ask = next(ask for ask in ASKS.values() if ask.kind is kind)
    url = "http://site.example"
    with pytest.raises(TypeError, match=r"^files: expected several, got one$"):
        ask_with(ask, url, "cat.png")  # type: ignore[arg-type]  # wrong on purpose
    with pytest.raises(TypeError, match=r"^file: expected a path, bytes, .*, got int$"):
        kind(url).ask("What?", files=[__file__, 5])
    with pytest.raises(TypeError, match=r"^files: expected a question that they belong to, got Query$"):
        kind(url).ask(Query("What?"), files=[__file__])
    with pytest.raises(FileNotFoundError):
        ask_with(ask, url, [tmp_path / "none.png"])
    with pytest.raises(ValueError, match=r"^file: expected at most 1000 bytes \(Limits\.upload_bytes\)$"):
        ask_with(ask, url, ["/dev/zero"], limits=Limits(upload_bytes=1000))
    with pytest.raises(ValueError, match=r"^files: expected at most 10 bytes \(Limits\.upload_bytes\) in 'dog\.png'$"):
        ask_with(ask, url, [DOG], limits=Limits(upload_bytes=10))


@each
def test_a_file_of_an_answer_is_downloaded(ask: Ask) -> None:
    def fetch(url: str) -> bytes:
        async def main() -> bytes:
            async with ask.kind(url) as transport:
                return bytes(await transport.download(f"{url}/up/cat.png"))

        if ask.run is None:
            with ask.kind(url) as transport:
                return bytes(transport.download(f"{url}/up/cat.png"))
        return bytes(ask.run(main))

    data = b"\x89PNG\0" * 1000
    found = Expect("cat.png"), Write(response(data)), Close()
    with FaultServer(found, (Expect("cat.png"), Write(response(b"gone", status=404)), Close())) as server:
        assert fetch(server.url) == data
        with pytest.raises(ReplyBroken) as caught:
            fetch(server.url)
    assert (caught.value.broken.reason, caught.value.broken.status) == (Reason.REFUSED, 404)
