"""`opchat batch --url` with a page's address: the page is visited once, and its bot is asked."""

import json
from pathlib import Path
from typing import Any

import pytest

from opchat_proto import Endpoint, Page
from opchat_transports.many import BatchQuestion
from opchat_transports.many._plan import Plan, Turn  # not part of the library

from .command import opchat
from .pages import PAGE_HAS_NONCE, VERSIONS, PageSite, served


def batch(site: PageSite, tmp_path: Path, *questions: Any, options: tuple[str, ...] = ()) -> Any:
    file = tmp_path / "questions.ndjson"
    file.write_text("".join(f"{json.dumps(question)}\n" for question in questions))
    with served(site):
        return opchat("batch", "--url", f"{site.url}/contact/", *options, str(file))


def replies(result: Any) -> dict[Any, str]:
    return {line["id"]: line["reply"] for line in map(json.loads, result.stdout.splitlines())}


def submits(site: PageSite) -> list[Any]:
    return [given for _, path, _, given in site.requests if path.endswith("submit")]


def visits(site: PageSite) -> int:
    return sum(path.startswith("/contact/") for _, path, *_ in site.requests)


@pytest.mark.parametrize("via", ["asyncio", "trio"])
@pytest.mark.parametrize("version", VERSIONS)
def test_the_page_is_visited_once_and_its_bot_asked(version: str, via: str, tmp_path: Path) -> None:
    site = PageSite(version, bots=("sales",))
    result = batch(site, tmp_path, {"question": "Hi"}, {"question": "Ho"}, options=("--via", via))
    assert (replies(result), result.returncode) == ({1: "sales: Hi", 2: "sales: Ho"}, 0)
    assert [(given["botId"], given["contextId"]) for given in submits(site)] == [("sales", 4)] * 2
    assert visits(site) == 1


@pytest.mark.parametrize("version", PAGE_HAS_NONCE)
def test_a_nonce_that_a_cache_kept_too_long_is_renewed(version: str, tmp_path: Path) -> None:
    site = PageSite(version, cached_nonce="0000000000")
    result = batch(site, tmp_path, {"question": "Hi"})
    assert (replies(result), result.returncode) == ({1: "default: Hi"}, 0)
    assert (len(submits(site)), visits(site)) == (2, 2)


def test_on_a_page_with_several_bots_one_must_be_chosen(tmp_path: Path) -> None:
    site = PageSite(bots=("default", "sales"))
    result = batch(site, tmp_path, {"question": "Hi"})
    assert (result.stdout, result.returncode, submits(site)) == ("", 2, [])
    assert "several bots: choose one with --bot" in result.stderr
    result = batch(site, tmp_path, {"question": "Hi"}, options=("--bot", "sales"))
    assert replies(result) == {1: "sales: Hi"}


def test_a_question_may_name_its_own_bot_and_site(tmp_path: Path) -> None:
    site = PageSite(bots=("sales",))
    with served(PageSite("1.9.97")) as other:
        own = {"id": "a", "question": "Hi", "bot": "help"}, {"id": "b", "question": "Hi", "url": other.url}
        result = batch(site, tmp_path, *own)
    assert replies(result) == {"a": "help: Hi", "b": "default: Hi"}


def test_a_conversation_is_with_the_bot_of_the_page(tmp_path: Path) -> None:
    site = PageSite(bots=("sales",))
    result = batch(site, tmp_path, *({"question": text, "conversation": "c"} for text in ("Hi", "And?")))
    assert result.returncode == 0
    first, second = submits(site)
    assert (first["botId"], second["botId"], second["contextId"]) == ("sales", "sales", 4)
    assert first["chatId"] == second["chatId"]
    assert [message["content"] for message in second["messages"]][:2] == ["Hi", "sales: Hi"]


def test_a_page_is_not_visited_if_no_question_needs_it(tmp_path: Path) -> None:
    site = PageSite()
    with served(PageSite("1.9.97")) as other:
        assert batch(site, tmp_path, {"question": "Hi", "url": other.url}).returncode == 0
    assert site.requests == []


def test_a_page_without_a_bot_may_name_the_root(tmp_path: Path) -> None:
    site = PageSite(bots=(), text="<link rel=https://api.w.org/ href=/wp-json/>")
    assert replies(batch(site, tmp_path, {"question": "Hi"})) == {1: "default: Hi"}


def test_a_custom_bot_is_asked_at_the_root_that_the_page_names() -> None:
    system = '{"botId":null,"customId":"c1","contextId":7,"restUrl":"/api"}'
    (bot,) = Page.parse(f"<i class=mwai-chatbot-container data-system='{system}'>", "https://site.example/").bots
    plan = Plan(bot=bot)
    plan.add(BatchQuestion(1, "Hi"))
    turn = plan.next_turn(0)
    assert isinstance(turn, Turn)
    assert turn.endpoint == bot.endpoint == Endpoint("https", "site.example", 443, "/api")
    assert (turn.submit.bot_id, turn.submit.custom_id, turn.submit.context_id) == (None, "c1", 7)
