"""Secrets in recordings are replaced everywhere."""

import base64
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from opchat_transports.cli._recording_format import Happening  # the command has no public functions
from opchat_transports.cli._redaction import replace_secrets  # redaction alone is not public
from opchat_transports.testing import Expect, FaultServer, Script

from .command import opchat
from .wire import LAST, STREAM, answers, end, event, live


def received(file: Path, script: Script) -> bytes:
    """The received bytes in a recording of this script."""
    with FaultServer(script) as server:
        opchat("record", str(file), "Hi", "--url", server.url)
    happenings = [json.loads(line) for line in file.read_text().splitlines()[1:]]
    return b"".join(base64.b64decode(line["data"]) for line in happenings if line["event"] == "received")


@pytest.mark.parametrize(
    ("header", "hidden"),
    [
        ("Set-Cookie: a=SECRET1; path=/, b=SECRET2; path=/", "Set-Cookie: a=xxxxxxx; path=/, b=xxxxxxx; path=/"),
        ("Set-Cookie: a=SECRET1,b=SECRET2", "Set-Cookie: a=xxxxxxx,b=xxxxxxx"),
        (
            "Set-Cookie: a=SECRET1; expires=Thu, 01-Jan-2030 00:00:00 GMT; path=/, b=SECRET2",
            "Set-Cookie: a=xxxxxxx; expires=Thu, 01-Jan-2030 00:00:00 GMT; path=/, b=xxxxxxx",
        ),
        ("Set-Cookie: a=SECRET1, SECRET2; path=/", "Set-Cookie: a=xxxxxxxxxxxxxxxx; path=/"),
        ("Location: /wp-login.php?_wpnonce=SECRET1&x=1", "Location: /wp-login.php?_wpnonce=xxxxxxx&x=1"),
        ("Location: /?to=%2F%3Fa%3D1%26_wpnonce%3DSECRET1", "Location: /?to=%2F%3Fa%3D1%26_wpnonce%3Dxxxxxxx"),
        ("Link: </a?token=SECRET1>; rel=x", "Link: </a?token=xxxxxxx>; rel=x"),
        ("Refresh: 0; url=/?nonce=SECRET1", "Refresh: 0; url=/?nonce=xxxxxxx"),
        ("Location: https://user:SECRET1@site.example/", "Location: https://xxxxxxxxxxxx@site.example/"),
    ],
)
def test_secrets_in_header_fields_are_replaced(header: str, hidden: str, tmp_path: Path) -> None:
    response = f"HTTP/1.1 302 Found\r\nContent-Length: 0\r\n{header}\r\n\r\n".encode()
    assert received(tmp_path / "a", (Expect("start_session"), *answers(response))) == response.replace(
        header.encode(), hidden.encode()
    )


def test_a_secret_that_is_learned_late_is_replaced_in_earlier_bytes_too(tmp_path: Path) -> None:
    script = answers(STREAM, live("SECRET-token, SECRET"), end("x", new_token="SECRET-token"), LAST)
    data = received(tmp_path / "a", script)
    assert b"SECRET-token" not in data
    assert b"xxxxxxxxxxxx, SECRET" in data


def happening(data: bytes) -> Happening:
    return Happening(0.0, 1, "received", data)


def test_the_longest_of_several_overlapping_secrets_is_replaced() -> None:
    found = [happening(b"HTTP/1.1 200 OK\r\n\r\nsecret-ab secret-abc secret-abcd")]
    replace_secrets(found, values=["secret-ab", "secret-abcd", "other-1"])
    assert found[0].data.endswith(b"xxxxxxxxx xxxxxxxxxc xxxxxxxxxxx")


@pytest.mark.parametrize("body", [b"1635c20365", b"\xef\xbb\xbf1635c20365\r\n"])
def test_a_nonce_that_is_the_whole_answer_is_replaced(body: bytes) -> None:
    found = [happening(b"HTTP/1.1 200 OK\r\n\r\n" + body)]
    replace_secrets(found)
    assert found[0].data == b"HTTP/1.1 200 OK\r\n\r\n" + body.replace(b"1635c20365", b"xxxxxxxxxx")


@pytest.mark.parametrize("size", [16, 1000])
def test_the_work_is_linear_in_the_number_of_secrets(size: int) -> None:
    def lines_run(count: int) -> int:
        events = (event(type="live", data=f"nonce{n:08}", new_token=f"nonce{n:08}") for n in range(count))
        data = STREAM + b"".join(events) + LAST
        found = [happening(data[at : at + size]) for at in range(0, len(data), size)]
        run_ = 0

        def count_line(frame: Any, what: str, argument: Any) -> Any:
            nonlocal run_
            run_ += what == "line"
            return count_line

        before = sys.gettrace()
        sys.settrace(count_line)
        try:
            replace_secrets(found)
        finally:
            sys.settrace(before)
        assert b"nonce0" not in b"".join(item.data for item in found)
        return run_

    assert lines_run(120) < 4.5 * lines_run(30)
