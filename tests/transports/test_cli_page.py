"""`--url` with a page's address: the bot on the page is asked, whatever the version of the site."""

import json
from pathlib import Path
from typing import Any

import pytest

from opchat_transports.testing import Close, Expect, FaultServer, Write
from tests.proto.pages import element

from .command import opchat
from .examined import text
from .pages import PAGE_HAS_NONCE, VERSIONS, PageSite, served
from .peer import Peer, takes
from .wire import tells


def asked(site: PageSite, *arguments: str, path: str = "/contact/", command: str = "ask") -> Any:
    with served(site):
        return opchat(command, *arguments, "--url", f"{site.url}{path}", "Hi")


def submits(site: PageSite) -> list[Any]:
    return [given for _, path, _, given in site.requests if path.endswith("submit")]


@pytest.mark.parametrize("version", VERSIONS)
def test_a_pages_address_is_enough_to_ask(version: str) -> None:
    site = PageSite(version)
    result = asked(site)
    assert (result.stdout, result.stderr, result.returncode) == ("default: Hi\n", "", 0)
    assert submits(site)[0]["contextId"] == 4


@pytest.mark.parametrize("via", ["blocking", "trio", "asyncio", "httpx"])
@pytest.mark.parametrize("version", PAGE_HAS_NONCE)
def test_a_nonce_that_a_cache_kept_too_long_is_renewed(version: str, via: str) -> None:
    site = PageSite(version, cached_nonce="0000000000")
    result = asked(site, "--via", via)
    assert (result.stdout, result.stderr, result.returncode) == ("default: Hi\n", "", 0)
    assert len(submits(site)) == 2


@pytest.mark.parametrize("path", ["/contact/?a=b", "/contact/#chat"])
def test_the_address_may_have_a_query_and_a_fragment(path: str) -> None:
    assert asked(PageSite(), path=path).stdout == "default: Hi\n"


def test_the_only_bot_is_asked_whatever_its_name() -> None:
    site = PageSite(bots=("sales", "sales"))  # the page shows it twice
    assert asked(site).stdout == "sales: Hi\n"


def test_one_of_several_bots_must_be_chosen() -> None:
    site = PageSite(bots=("default", "sales"))
    result = asked(site)
    assert (result.stdout, result.returncode) == ("", 2)
    first, *rows, last = result.stderr.splitlines()
    assert first.startswith("opchat: BOT")
    assert [row.split()[1] for row in rows] == ["default", "sales"]
    assert last == "opchat: several bots: choose one with --bot (see opchat ask --help)"
    assert submits(site) == []
    assert asked(site, "--bot", "sales").stdout == "sales: Hi\n"


def test_a_bot_that_is_not_on_the_page_is_wrong_usage() -> None:
    result = asked(PageSite(), "--bot", "sales")
    assert (result.stdout, result.returncode) == ("", 2)
    assert "no bot 'sales' on this page" in result.stderr


@pytest.mark.parametrize(
    ("name", "ids"),
    [("c1", ("sales", "c1")), ("sales", ("sales", "c1")), ("default", ("default", None)), ("7", (None, 7))],
)
def test_a_bot_is_chosen_by_its_id_or_its_custom_id(name: str, ids: tuple[Any, Any]) -> None:
    custom = ({"botId": "sales", "customId": "c1"}, {"botId": "default", "customId": "c2"}, {"customId": 7})
    bots = "".join(element({**given, "restUrl": "/wp-json"}) for given in (*custom, {"botId": "default"}))
    site = PageSite(bots=(), text=bots)
    assert asked(site, "--bot", name).returncode == 0
    [sent] = submits(site)
    assert (sent.get("botId"), sent.get("customId")) == ids


def test_an_id_shared_by_several_custom_bots_does_not_choose_one() -> None:
    bots = "".join(element({"botId": "sales", "customId": name, "restUrl": "/wp-json"}) for name in "ab")
    result = asked(PageSite(bots=(), text=bots), "--bot", "sales")
    assert (result.stdout, result.returncode) == ("", 2)
    assert "several bots: choose one with --bot" in result.stderr


def test_the_root_of_a_page_without_a_bot_is_asked() -> None:
    site = PageSite(bots=(), text="[mwai_chatbot]<link rel=https://api.w.org/ href=/wp-json/>")
    result = asked(site)
    assert (result.stdout, result.returncode) == ("default: Hi\n", 0)
    assert result.stderr == "opchat: the shortcode [mwai_chatbot] was not expanded\n"


def test_an_address_without_a_page_may_be_a_site_in_a_directory() -> None:
    site = PageSite()
    result = asked(site, path="/nothing")
    assert (result.stdout, result.returncode) == ("", 3)
    assert "no page" not in result.stderr  # an API answered
    assert [path for _, path, _, _ in site.requests] == [
        "/nothing",
        "/nothing/wp-json/mwai/v1/start_session",
        "/nothing/wp-json/mwai-ui/v1/chats/submit",
    ]


def test_a_secret_header_is_not_sent_to_a_site_that_the_page_names() -> None:
    fields = ("--header", "Authorization: Basic c2VjcmV0", "--header", "X-Key: secret", "--header", "User-Agent: me")
    with served(PageSite()) as other:
        site = PageSite(bots=(), text=other.page("/contact/"))
        result = asked(site, *fields)
    assert (result.stdout, result.returncode) == ("default: Hi\n", 0)
    assert f"the chat is at {other.url}, where --header is not sent: use that address as --url" in result.stderr
    assert [headers["X-Key"] for _, _, headers, _ in site.requests] == ["secret"]
    assert len(submits(other)) == 1
    assert {headers["User-Agent"] for _, _, headers, _ in other.requests} == {"me"}
    assert not any({"Authorization", "X-Key"} & set(headers) for _, _, headers, _ in other.requests)


def test_a_site_and_a_root_are_not_visited() -> None:
    for path in ("", "/", "/wp-json", "/index.php?rest_route=/"):
        with FaultServer(tells("a")) as server:
            assert opchat("ask", "--url", server.url + path, "Hi").stdout == "a\n"
        assert server.routes == ("start_session", "submit")


def test_a_refused_page_is_reported_before_the_site_is_searched_for() -> None:
    with FaultServer((Expect("blog"), Write(text("<title>Gone</title>", 404)), Close()), tells("a")) as server:
        result = opchat("ask", "--url", f"{server.url}/blog", "Hi")
    told = (
        f"opchat: no page at {server.url}/blog (the server refused (status 404): Gone), so a site is looked for there\n"
    )
    assert (result.stdout, result.stderr) == ("a\n", told)


def test_a_page_without_a_bot_is_reported() -> None:
    result = asked(PageSite(bots=(), text="<p>Hello"), path="/")
    assert (result.stdout, result.stderr) == ("default: Hi\n", "")
    result = asked(PageSite(bots=(), text="<p>Hello<link rel=https://api.w.org/ href=/wp-json/>"))
    assert (result.stdout, result.stderr) == ("default: Hi\n", "opchat: no bot on this page\n")


def test_an_unreachable_page_gives_one_line() -> None:
    result = opchat("ask", "--url", "http://127.0.0.1:1/contact/", "Hi")
    assert (result.stdout, result.returncode) == ("", 7)
    assert result.stderr.count("Connection refused") == 1


def test_a_page_that_times_out_is_not_tried_twice() -> None:
    @takes
    def play(peer: Peer) -> None:
        assert peer.is_left()

    with FaultServer(play) as server:
        result = opchat("ask", "--timeout-first-event", "0.2", "--url", f"{server.url}/contact/", "Hi")
    assert (result.stdout, result.returncode) == ("", 6)
    assert result.stderr.count("\n") == 1
    assert f"at {server.url}/contact/" in result.stderr


def test_other_commands_find_the_bot_of_a_page_too(tmp_path: Any) -> None:
    site = PageSite("2.1.9", bots=("sales",))
    file = tmp_path / "recording"
    with served(site):
        assert opchat("record", "--url", f"{site.url}/contact/", str(file), "Hi").stdout == "sales: Hi\n"
        result = opchat("chat", "--url", f"{site.url}/contact/", input="Hi\n")
    assert result.stdout == "sales: Hi\n"
    assert json.loads(file.read_text().splitlines()[0])["url"] == site.url


def test_continue_goes_on_with_the_bot_of_the_page() -> None:
    site = PageSite("2.4.3", bots=("sales",))
    with served(site):
        for arguments in ([], ["--continue"]):
            assert opchat("ask", "--url", f"{site.url}/contact/", *arguments, "Hi").stdout == "sales: Hi\n"
    first, second = submits(site)
    assert (second["chatId"], len(second["messages"])) == (first["chatId"], 2)


@pytest.mark.parametrize("version", VERSIONS)
def test_chat_and_record_find_the_bot_as_ask_does(version: str, tmp_path: Path) -> None:
    with served(PageSite(version, bots=("sales",))) as site:
        url = f"{site.url}/contact/"
        talk = opchat("chat", "--url", url, input="Hi\nAnd?\n")
        recorded = opchat("record", str(tmp_path / "hi.ndjson"), "--url", url, "Hi")
    assert (talk.stdout, talk.returncode) == ("sales: Hi\nsales: And?\n", 0)
    assert (recorded.stdout, recorded.returncode) == ("sales: Hi\n", 0)
    assert [(given["botId"], given["contextId"]) for given in submits(site)] == [("sales", 4)] * 3
    assert opchat("decode", str(tmp_path / "hi.ndjson")).stdout.endswith('  end     "sales: Hi"\n')
