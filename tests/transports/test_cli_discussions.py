"""`opchat discussions`: a member's conversations are listed, shown, exported and deleted."""

import json
import stat
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from opchat_proto import Conversation

from .command import ENVIRONMENT, opchat
from .discussing import DiscussingSite, row
from .member_site import COOKIE, PASSWORD
from .pages import served

Discussions = Callable[..., "subprocess.CompletedProcess[Any]"]


@pytest.fixture
def member(tmp_path: Path) -> Discussions:
    """Run the command as the member whose browser cookies are given."""
    cookies = tmp_path / "cookies.txt"
    cookies.write_text(f"Cookie: {COOKIE}\n")
    return lambda action, *arguments: discussions(action, "--cookie-file", str(cookies), *arguments)


def discussions(*arguments: str) -> "subprocess.CompletedProcess[Any]":
    return opchat("discussions", *arguments)


@pytest.mark.parametrize("via", ["blocking", "trio", "asyncio", "httpx"])
def test_list_prints_a_table(member: Discussions, via: str) -> None:
    with served(DiscussingSite(rows=[row(3, "A\ttitle\x1b[1m"), row(2), row(1)])) as site:
        result = member("list", "--url", site.url, "--via", via, "--max", "2")
    assert result.stdout == (
        "chat3  2026-11-28 14:05:03     2  A title\\x1b[1m\nchat2  2026-11-28 14:05:02     2  Question 2\n"
    )
    assert (result.stderr, result.returncode) == ("opchat: 2 of 3 discussions\n", 0)


def test_list_with_json_prints_ndjson(member: Discussions) -> None:
    with served(DiscussingSite()) as site:
        result = member("list", "--url", site.url, "--offset", "2", "--json")
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


def test_show_finds_a_discussion_anywhere_in_the_list(member: Discussions) -> None:
    with served(DiscussingSite(rows=[row(number) for number in range(120)])) as site:
        result = member("show", "--url", site.url, "chat110")
        missing = member("show", "--url", site.url, "nope")
        shown = member("show", "--url", site.url, "--json", "chat7")
    assert (result.stdout, result.returncode) == ("user: Question 110\nassistant: Answer 110\n", 0)
    assert (missing.stdout, missing.returncode) == ("", 2)
    assert "no discussion 'nope' with this bot" in missing.stderr
    assert json.loads(shown.stdout)["messages"][0] == {"role": "user", "content": "Question 7"}


def test_export_writes_all_as_conversations_to_a_private_file(member: Discussions, tmp_path: Path) -> None:
    path = tmp_path / "mine.ndjson"
    with served(DiscussingSite()) as site:
        result = member("export", "--url", site.url, str(path))
        one = member("export", "--url", site.url, "-", "chat1")
        kept_as = member("export", "--url", site.url, str(tmp_path / "none" / "a"))
    assert (result.stdout, result.stderr, result.returncode) == ("", f"opchat: wrote 3 discussions to {path}\n", 0)
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


@dataclass
class EndlessSite(DiscussingSite):
    """It invents new discussions for each request, more than were requested."""

    def _discuss(self, action: str, body: Any) -> tuple[int, Any]:
        start = body["offset"]
        return 200, {"success": True, "total": 10**17, "chats": [row(start + more) for more in range(60)]}


@pytest.mark.parametrize("action", [["show", "nope"], ["export", "all.ndjson"]])
def test_a_list_without_an_end_is_not_read_forever(
    member: Discussions, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, action: list[str]
) -> None:
    monkeypatch.setattr("opchat_transports.cli.commands.discussions._MOST_ANSWERS", 3)
    monkeypatch.chdir(tmp_path)
    with served(EndlessSite()) as site:
        result = member(action[0], "--url", site.url, *action[1:])
    assert (result.stdout, result.returncode) == ("", 9)
    assert "180 discussions read, and the site claims to have more" in result.stderr
    assert not (tmp_path / "all.ndjson").exists()


def test_a_discussion_listed_twice_is_exported_once(member: Discussions) -> None:
    with served(DiscussingSite(rows=[row(2), row(2), row(1)])) as site:
        result = member("export", "--url", site.url, "-")
    assert [json.loads(line)["chat_id"] for line in result.stdout.splitlines()] == ["chat2", "chat1"]


def test_max_bounds_the_list(member: Discussions) -> None:
    with served(EndlessSite()) as site:
        result = member("list", "--url", site.url, "--max", "2")
    assert [line.split()[0] for line in result.stdout.splitlines()] == ["chat0", "chat1"]
    assert result.stderr == f"opchat: 2 of {10**17} discussions\n"


def test_the_bytes_of_an_export_are_bounded(member: Discussions, tmp_path: Path) -> None:
    path = tmp_path / "mine.ndjson"
    with served(DiscussingSite(rows=[row(number) for number in range(200)])) as site:  # 50 in each answer
        result = member("export", "--url", site.url, str(path), "--limit-reply-bytes", "30KiB")
    assert (path.exists(), result.returncode) == (False, 9)
    assert "more than 30720 bytes in all discussions" in result.stderr
    assert "--limit-reply-bytes allows more" in result.stderr


def test_delete_removes_the_named_ones_after_a_yes(member: Discussions) -> None:
    with served(DiscussingSite()) as site:
        refused = member("delete", "--url", site.url, "chat1")
        assert (refused.returncode, "deletes 1 discussion for good. --yes says so" in refused.stderr) == (2, True)
        assert len(site.rows) == 3
        result = member("delete", "--url", site.url, "--yes", "chat1", "chat3")
        assert (result.stdout, result.stderr, result.returncode) == ("", "", 0)
        assert [kept["chatId"] for kept in site.rows] == ["chat2"]
        assert member("delete", "--url", site.url, "--yes", "chat1").returncode == 4


@pytest.mark.parametrize(
    ("chat_id", "said"), [("", "expected the ids of discussions, got ''"), ("\udcff", "not allowed")]
)
def test_an_unknown_id_deletes_nothing(member: Discussions, chat_id: str, said: str) -> None:
    with served(DiscussingSite()) as site:
        result = member("delete", "--url", site.url, "--yes", chat_id, "chat1")
        assert len(site.rows) == 3
    assert (result.stdout, "Traceback" in result.stderr) == ("", False)
    assert said in result.stderr


def test_on_a_page_its_bot_is_used(member: Discussions) -> None:
    with served(DiscussingSite(bots=("sales",))) as site:
        site.rows[1]["botId"] = "sales"
        result = member("list", "--url", f"{site.url}/contact/")
    assert (result.stdout.split()[0], result.stderr) == ("chat2", "opchat: 1 of 1 discussions\n")


def test_an_application_password_signs_in_too() -> None:
    with served(DiscussingSite()) as site:
        env = {**ENVIRONMENT, "OPCHAT_PASSWORD": PASSWORD}
        result = opchat("discussions", "list", "--user", "alice", "--url", site.url, "--max", "1", env=env)
    assert (result.stdout.split()[0], result.stderr) == ("chat3", "opchat: 1 of 3 discussions\n")


def test_a_guest_is_told_to_sign_in() -> None:
    with served(DiscussingSite()) as site:
        result = discussions("list", "-v", "--url", site.url)
    assert (result.stdout, result.returncode) == ("", 8)
    assert "You need to be connected." in result.stderr
    assert (
        "opchat: a site keeps discussions for its members only: --user or --cookie-file signs you in\n" in result.stderr
    )
    assert "> POST /wp-json/mwai-ui/v1/discussions/list" in result.stderr


def test_without_a_site_the_command_is_wrong_usage() -> None:
    result = discussions("list")
    assert (result.stdout, result.returncode) == ("", 2)
    assert "the built-in bot keeps no discussions" in result.stderr
