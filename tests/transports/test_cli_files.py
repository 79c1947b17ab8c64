"""`--file` and `--save-images`: files that go with a question, and images that come back."""

import base64
import json
import os
import re
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from opchat_transports.testing import Close, Expect, FaultServer, Script, Write, json_object, response

from .command import ENVIRONMENT, Terminal, opchat

VIAS = pytest.mark.parametrize("via", ["blocking", "trio", "asyncio", "httpx"])
PNG = b"\x89PNG\r\n\x1a\nrest"
GIF = b"GIF89a..."
EVENTS = [("Content-Type", "text/event-stream")]


def kept(file_id: str = "f1") -> Script:
    return Expect("upload"), Write(json_object(success=True, data={"id": file_id})), Close()


def answered(text: str = "A cat.", **payload: Any) -> Script:
    end = json.dumps({"success": True, "reply": text, **payload})
    body = f"data: {json.dumps({'type': 'end', 'data': end})}\n\n".encode()
    return Expect("submit"), Write(response(body, headers=EVENTS)), Close()


def image(name: str, data: bytes, status: int = 200) -> Script:
    return Expect(name), Write(response(data, status=status)), Close()


@VIAS
def test_files_are_uploaded_and_named_in_the_question(via: str, tmp_path: Path) -> None:
    paths = [tmp_path / "cat.png", tmp_path / "dog.png"]
    for path in paths:
        path.write_bytes(PNG)
    with FaultServer(kept("f1"), kept("f2"), answered()) as server:
        options = [option for path in paths for option in ("--file", str(path))]
        result = opchat("ask", "--url", server.url, "--via", via, *options, "What?")
        *_, request = server.requests
    assert (result.stdout, result.returncode) == ("A cat.\n", 0)
    assert result.stderr == "opchat: several files: sites up to plugin 3.1.1 read one of them, or none\n"
    assert json.loads(request.body)["newFileIds"] == ["f1", "f2"]


def test_a_file_can_be_asked_about_without_a_text(tmp_path: Path) -> None:
    path = tmp_path / "cat.png"
    path.write_bytes(PNG)
    with FaultServer(kept("f1"), answered()) as server:
        result = opchat("ask", "--url", server.url, "--file", str(path), "")
        *_, request = server.requests
    assert (result.stdout, result.stderr, result.returncode) == ("A cat.\n", "", 0)
    body = json.loads(request.body)
    assert (body["newMessage"], body["newFileId"]) == ("", "f1")


@pytest.mark.parametrize("arguments", [[], ["-"], [" "]])
def test_a_forgotten_question_is_wrong_usage_also_with_a_file(arguments: list[str]) -> None:
    result = opchat("ask", "--url", "http://127.0.0.1:1", "--file", "none.png", *arguments)
    assert (result.stdout, result.returncode) == ("", 2)
    expected = 'expected a question, as an argument or on standard input; "" asks with the files alone'
    assert expected in " ".join(result.stderr.split())


def test_a_refused_file_gives_one_line(tmp_path: Path) -> None:
    path = tmp_path / "x.php"
    path.write_bytes(b"<?php")
    refused = json_object(status=400, success=False, message="Invalid file type.")
    with FaultServer((Expect("upload"), Write(refused), Close())) as server:
        result = opchat("ask", "--url", server.url, "--file", str(path), "What?")
    assert (result.stdout, result.returncode) == ("", 3)
    assert "the server refused (status 400): file 'x.php': Invalid file type." in result.stderr


@pytest.mark.parametrize("name", ["x.png", "it's.png"])
def test_a_site_without_uploads_is_not_reported_as_a_wrong_address(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(PNG)
    refused = json_object(status=404, code="rest_no_route", message="No route was found.")
    with FaultServer((Expect("upload"), Write(refused), Close())) as server:
        result = opchat("ask", "--url", server.url, "--file", str(path), "What?")
    assert (result.stdout, result.returncode) == ("", 3)
    assert result.stderr.endswith(f"(at {server.url}; the site may not take files)\n")


def test_the_built_in_bot_takes_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, temporary = tmp_path / "cat.png", tmp_path / "temporary"
    path.write_bytes(PNG)
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    result = opchat("ask", "--file", str(path), "Hello")
    assert (result.returncode, list(temporary.iterdir())) == (0, [])
    assert result.stdout == f"I have cat.png ({len(PNG)} bytes). Hello! This is question 1 of our conversation.\n"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--file", "none.png"], "--file none.png: No such file or directory"),
        (["--file", "/"], "--file /: Is a directory"),
        (["--file", "/dev/zero", "--limit-upload-bytes", "2KiB"], "--file /dev/zero: more than 2048 bytes"),
    ],
)
def test_an_unusable_file_is_wrong_usage(arguments: list[str], words: str) -> None:
    result = opchat("ask", "--url", "http://127.0.0.1:1", *arguments, "What?")
    assert (result.stdout, result.returncode) == ("", 2)
    assert words in " ".join(result.stderr.split())


def test_a_file_name_that_is_not_utf_8_gets_replacement_characters(tmp_path: Path) -> None:
    path = tmp_path / "caf\udce9.png"  # a Latin-1 name where the system uses UTF-8
    path.write_bytes(PNG)
    with FaultServer(kept(), answered()) as server:
        result = opchat("ask", "--url", server.url, "--file", str(path), "What?")
        upload, _ = (request for request in server.requests if request.route != "start_session")
    assert (result.stdout, result.stderr, result.returncode) == ("A cat.\n", "", 0)
    assert b'filename="caf\xef\xbf\xbd.png"' in upload.body


def test_the_page_bounds_the_number_of_files(tmp_path: Path) -> None:
    path = tmp_path / "cat.png"
    path.write_bytes(PNG)

    def ask(params: dict[str, Any], count: int, *scripts: Script) -> tuple[int, str]:
        with FaultServer(*scripts) as site:
            system = {"botId": "default", "customId": None, "restUrl": f"{site.url}/wp-json", "restNonce": None}
            values = (("params", params), ("system", system))
            attributes = " ".join(f"data-{name}='{json.dumps(value)}'" for name, value in values)
            html = f"<div class='mwai-chatbot-container' {attributes}></div>".encode()
            with FaultServer((Expect("chat"), Write(response(html)), Close())) as pages:
                files = ["--file", str(path)] * count
                result = opchat("ask", "--url", f"{pages.url}/chat", *files, "What?")
        return result.returncode, " ".join(result.stderr.split())

    several = {"imageUpload": True, "multiUpload": True, "maxUploads": 2}
    code, words = ask(several, 3)
    assert (code, "this bot's page takes at most 2 with a question: --file" in words) == (2, True)
    assert ask(several, 2, kept(), kept(), answered()) == (0, "")
    code, words = ask({}, 1, kept(), answered())
    assert (code, words) == (0, "opchat: this bot's page offers no upload, so the site may refuse or ignore the file")


@VIAS
def test_images_of_an_answer_are_listed_and_saved_under_new_names(via: str, tmp_path: Path) -> None:
    (tmp_path / "image-cat.png").write_bytes(b"before")
    inline = f"data:image/gif;base64,{base64.b64encode(GIF).decode()}"
    served = image("cat.png", PNG), image("cat.png", GIF), image(".htaccess", PNG)
    with ExitStack() as stack, FaultServer(*served) as files:
        images = [f"{files.url}/up/cat.png#x", f"{files.url}/up/cat.png", f"{files.url}/..%2F/.htaccess", inline]
        server = stack.enter_context(FaultServer(answered(images=images)))
        result = opchat("ask", "--via", via, "--url", server.url, "--save-images", str(tmp_path), "Paint.")
    assert result.returncode == 0, result.stderr
    assert result.stderr.splitlines() == [
        *(f"opchat: image: {url}" for url in images),
        *(f"opchat: saved {tmp_path / name}" for name in NAMES),
    ]
    assert (tmp_path / "image-cat.png").read_bytes() == b"before"
    assert [(tmp_path / name).read_bytes() for name in NAMES] == [PNG, GIF, PNG, GIF]


NAMES = ["image-cat-2.png", "image-cat.gif", "image-3.png", "image-4.gif"]


@pytest.mark.parametrize(
    ("url", "script", "words"),
    [
        ("{}/a.png", image("a.png", b"<html>"), "it is not an image"),
        ("{}/a.png", image("a.png", b"gone", 404), "the server refused (status 404): gone"),
        (
            "{}/a.png",
            image("a.png", PNG + b"x" * 9000),
            "the answer is too large: more than 9000 bytes in one file (Limits.upload_bytes)",
        ),
        ("file:///etc/passwd", (), "its address is neither http nor https: file:///etc/passwd"),
        ("http://user:secret@host/a.png", (), "url: expected the address of a page"),
        ("data:image/png", (), "its data: URL cannot be read"),
        ("data:image/png;base64,x", (), "its data: URL cannot be read"),
        ("data:text/plain,hello", (), "it is not an image"),
    ],
)
def test_a_file_that_is_not_an_image_is_not_saved(url: str, script: Script, words: str, tmp_path: Path) -> None:
    with ExitStack() as stack, FaultServer(*([script] if script else [])) as files:
        server = stack.enter_context(FaultServer(answered(images=[url.format(files.url)])))
        options = ["--url", server.url, "--limit-upload-bytes", "9000", "--save-images", str(tmp_path / "new")]
        result = opchat("ask", *options, "Paint.")
    assert (result.returncode, result.stdout) == (7, "A cat.\n")
    assert f"opchat: image 1 is not saved: {words}" in result.stderr
    assert not (tmp_path / "new").exists()


def test_at_most_twenty_images_of_an_answer_are_saved(tmp_path: Path) -> None:
    with FaultServer(answered(images=["data:,GIF89a"] * 22)) as server:
        result = opchat("ask", "--url", server.url, "--save-images", str(tmp_path), "Paint.")
    assert (result.returncode, len(list(tmp_path.glob("*.gif")))) == (7, 20)
    assert "opchat: only 20 images of an answer are saved, and it has 22\n" in result.stderr


def test_an_image_of_another_host_is_fetched_without_credentials(tmp_path: Path) -> None:
    with FaultServer(image("cat.png", PNG)) as other:
        with FaultServer(answered(images=[f"{other.url}/up/cat.png"])) as server:
            secret = "--header", "X-Key: secret"
            result = opchat("ask", "--url", server.url, *secret, "--save-images", str(tmp_path), "Paint.")
            assert dict(server.requests[-1].headers)["x-key"] == "secret"
        [request] = other.requests
    assert (result.returncode, (tmp_path / "image-cat.png").read_bytes()) == (0, PNG)
    assert {"x-key", "cookie", "x-wp-nonce"}.isdisjoint(dict(request.headers))


def test_an_unwritable_directory_gives_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with FaultServer(answered(images=["data:,GIF89a"])) as server:
        result = opchat("ask", "--url", server.url, "--save-images", str(tmp_path / "file" / "new"), "Paint.")
    assert (result.returncode, "image 1 is not saved" in result.stderr) == (7, True)


def test_a_large_file_has_a_progress_line_on_a_terminal_only(tmp_path: Path) -> None:
    path = tmp_path / "large.bin"
    path.write_bytes(bytes(4_000_000))
    with FaultServer(kept(), answered(), kept(), answered()) as server:
        arguments = ["ask", "--url", server.url, "--file", str(path), "What?"]
        with Terminal(*arguments) as terminal:
            assert terminal.wait() == 0
        assert re.search(r"sending large\.bin: (\[[#-]{10}\] \d+% of 3\.8 MiB|waiting for the answer)", terminal.shown)
        assert opchat(*arguments, env=ENVIRONMENT).stderr == ""


def test_chat_attaches_a_file_to_the_next_question(tmp_path: Path) -> None:
    path = tmp_path / "my cat.png"
    path.write_bytes(PNG)
    lines = f"/file\n/file {tmp_path}/none\n/file {path}\nWhat?\nAnd?\n/retry\n"
    with FaultServer(kept(), answered(), answered("More."), answered("Again.")) as server:
        result = opchat("chat", "--url", server.url, input=lines)
        asked = [json.loads(request.body) for request in server.requests if request.route == "submit"]
    assert result.returncode == 0, result.stderr
    assert [body["newFileId"] for body in asked] == ["f1", None, None]
    assert result.stderr.splitlines() == [
        "opchat: expected a file: /file PATH",
        f"opchat: --file {tmp_path}/none: No such file or directory",
        "opchat: my cat.png goes with the next question",
    ]


@pytest.mark.skipif(os.name != "posix", reason="needs a bound on the size of files")
def test_an_incomplete_image_is_removed(tmp_path: Path) -> None:
    import resource

    picture = f"data:image/png;base64,{base64.b64encode(PNG + bytes(300_000)).decode()}"
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    with FaultServer(answered(images=[picture])) as server:
        resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, before[1]))
        try:
            result = opchat("ask", "--url", server.url, "--no-save", "--save-images", str(tmp_path / "new"), "Paint.")
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert (result.stdout, result.returncode, list((tmp_path / "new").iterdir())) == ("A cat.\n", 7, [])
    assert result.stderr.endswith("new: File too large\n")


def test_chat_bounds_the_number_of_files(tmp_path: Path) -> None:
    path = tmp_path / "cat.png"
    path.write_bytes(PNG)
    with FaultServer(kept("f1"), kept("f2"), answered()) as server:
        result = opchat("chat", "--url", server.url, input=f"/file {path}\n/file {path}\nWhat?\n")
        *_, request = server.requests
    assert json.loads(request.body)["newFileIds"] == ["f1", "f2"]
    assert result.stderr.splitlines() == [
        "opchat: cat.png goes with the next question",
        "opchat: several files: sites up to plugin 3.1.1 read one of them, or none",
        "opchat: cat.png, cat.png go with the next question",
    ]


def test_chat_keeps_the_files_of_a_question_that_cannot_be_asked(tmp_path: Path) -> None:
    path = tmp_path / "cat.png"
    path.write_bytes(PNG)
    lines = f"/file {path}\n{'x' * 3000}\nWhat?\n"
    with FaultServer(kept(), answered()) as server:
        result = opchat("chat", "--url", server.url, "--limit-request-bytes", "2KiB", input=lines)
        asked = [json.loads(request.body) for request in server.requests if request.route == "submit"]
    assert [(body["newMessage"], body["newFileId"]) for body in asked] == [("What?", "f1")]
    assert result.stdout == "A cat.\n"
