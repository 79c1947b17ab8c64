"""`opchat discussions`: a member's conversations listed, shown, exported and deleted."""

import json
import stat
import subprocess
from pathlib import Path
from typing import Any

import pytest

from opchat_proto import Conversation
from opchat_transports.cli import _transports  # the options that sign a member in are not this command's

from .command import opchat
from .discussing import MEMBER, DiscussingSite, row
from .pages import served


def discussions(*arguments: str, input: str = "") -> "subprocess.CompletedProcess[Any]":
    return opchat("discussions", *arguments, input=input)


@pytest.fixture
def member(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever asks is signed in."""
    opened = _transports._open
    monkeypatch.setattr(
        _transports, "_open", lambda *arguments, **options: opened(*arguments, **{**options, "session": MEMBER})
    )


@pytest.mark.usefixtures("member")
@pytest.mark.parametrize("via", ["blocking", "trio", "asyncio", "httpx"])
def test_they_are_listed(via: str) -> None:
    with served(DiscussingSite(rows=[row(3, "A\ttitle\x1b[1m"), row(2), row(1)])) as site:
        result = discussions("list", "--url", site.url, "--via", via, "--max", "2")
    assert result.stdout == (
        "chat3  2026-11-28 14:05:03     2  A title\\x1b[1m\nchat2  2026-11-28 14:05:02     2  Question 2\n"
    )
    assert (result.stderr, result.returncode) == ("opchat: 2 of 3 discussions\n", 0)


@pytest.mark.usefixtures("member")
def test_a_list_is_ndjson() -> None:
    with served(DiscussingSite()) as site:
        result = discussions("list", "--url", site.url, "--offset", "2", "--json")
    assert [json.loads(line) for line in result.stdout.splitlines()] == [
        {
            "chat_id": "chat1",
            "bot_id": "default",
            "title": None,
            "created": "2026-11-28 14:03:36",
            "updated": "2026-11-28 14:05:01",
            "messages": 2,
        }
    ]
    assert result.stderr == ""


@pytest.mark.usefixtures("member")
def test_one_is_shown_wherever_it_stands_in_the_list() -> None:
    with served(DiscussingSite(rows=[row(number) for number in range(120)])) as site:
        result = discussions("show", "--url", site.url, "chat110")
        missing = discussions("show", "--url", site.url, "nope")
        shown = discussions("show", "--url", site.url, "--json", "chat7")
    assert (result.stdout, result.returncode) == ("user: Question 110\nassistant: Answer 110\n", 0)
    assert (missing.stdout, missing.returncode) == ("", 2)
    assert "no discussion 'nope' with this bot" in missing.stderr
    assert json.loads(shown.stdout)["messages"][0] == {"role": "user", "content": "Question 7"}


@pytest.mark.usefixtures("member")
def test_all_are_exported_as_conversations_to_a_private_file(tmp_path: Path) -> None:
    path = tmp_path / "mine.ndjson"
    with served(DiscussingSite()) as site:
        result = discussions("export", "--url", site.url, str(path))
        one = discussions("export", "--url", site.url, "-", "chat1")
        kept_as = discussions("export", "--url", site.url, str(tmp_path / "none" / "a"))
    assert (result.stdout, result.stderr, result.returncode) == ("", f"opchat: 3 discussions are in {path}\n", 0)
    lines = path.read_text().splitlines()
    assert [json.loads(line)["chat_id"] for line in lines] == ["chat3", "chat2", "chat1"]
    assert one.stdout == lines[2] + "\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    conversation = Conversation.from_dict(json.loads(lines[0]))
    assert (conversation.chat_id, conversation.previous_response_id, len(conversation.messages)) == (
        "chat3",
        "resp_3",
        2,
    )
    assert "session" not in json.loads(lines[0])
    assert (kept_as.returncode, "No such file" in kept_as.stderr) == (2, True)


@pytest.mark.usefixtures("member")
def test_those_that_are_named_are_deleted_with_a_yes() -> None:
    with served(DiscussingSite()) as site:
        refused = discussions("delete", "--url", site.url, "chat1")
        assert (refused.returncode, "deletes 1 discussions for good. --yes says so" in refused.stderr) == (2, True)
        assert len(site.rows) == 3
        result = discussions("delete", "--url", site.url, "--yes", "chat1", "chat3")
        assert (result.stdout, result.stderr, result.returncode) == ("", "", 0)
        assert [kept["chatId"] for kept in site.rows] == ["chat2"]
        assert discussions("delete", "--url", site.url, "--yes", "chat1").returncode == 4


@pytest.mark.usefixtures("member")
def test_the_bot_of_a_page_is_the_one_that_counts() -> None:
    with served(DiscussingSite(bots=("sales",))) as site:
        site.rows[1]["botId"] = "sales"
        result = discussions("list", "--url", f"{site.url}/contact/")
    assert (result.stdout.split()[0], result.stderr) == ("chat2", "opchat: 1 of 1 discussions\n")


def test_a_guest_is_told_so() -> None:
    with served(DiscussingSite()) as site:
        result = discussions("list", "-v", "--url", site.url)
    assert (result.stdout, result.returncode) == ("", 8)
    assert "You need to be connected." in result.stderr
    assert "opchat: a site keeps discussions for its signed-in members only\n" in result.stderr
    assert "> POST /wp-json/mwai-ui/v1/discussions/list" in result.stderr


def test_without_a_site_there_are_none() -> None:
    result = discussions("list")
    assert (result.stdout, result.returncode) == ("", 2)
    assert "the built-in bot keeps no discussions" in result.stderr
