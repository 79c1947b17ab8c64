"""`opchat bots`: the bots of a page, as a table or as JSON, over each transport."""

import json
from typing import Any

import pytest

from .command import opchat
from .pages import PageSite, served


def bots(site: PageSite, *arguments: str, path: str = "/contact/") -> Any:
    with served(site):
        return opchat("bots", f"{site.url}{path}", *arguments)


@pytest.mark.parametrize("via", ["blocking", "trio", "asyncio", "httpx"])
def test_the_bots_are_shown_as_a_table(via: str) -> None:
    site = PageSite(bots=("default", "sales"))
    result = bots(site, "--via", via)
    root = f"{site.url}/wp-json"
    assert result.stdout.splitlines() == [
        f"BOT      MODE  QUESTION  FILES  {'REST ROOT'.ljust(len(root))}  FIRST WORDS",
        f"default  chat                   {root}",
        f"sales    chat                   {root}",
    ]
    assert (result.stderr, result.returncode) == ("", 0)


def test_text_from_a_page_is_escaped_on_one_line() -> None:
    site = PageSite(params={"startSentence": "Hi\n\x1b[2J" + "x" * 60, "maxUploads": 3, "multiUpload": True,
                            "imageUpload": True, "textInputMaxLength": 512, "mode": "assistant"})  # fmt: skip
    head, row, *rest = bots(site).stdout.splitlines()
    assert rest == []
    assert row.split()[:4] == ["default", "assistant", "512", "3"]
    assert "\x1b" not in row
    assert row.endswith("x...")
    assert head.startswith("BOT")


def test_json_is_an_object_for_each_bot_without_its_secrets() -> None:
    site = PageSite("2.1.9", bots=("default", "sales"))
    result = bots(site, "--json")
    first, second = map(json.loads, result.stdout.splitlines())
    assert (first["bot_id"], second["bot_id"], first["root"]) == ("default", "sales", f"{site.url}/wp-json")
    assert first["shortcuts"] == first["actions"] == first["blocks"] == []
    assert site.nonce not in result.stdout
    assert not {"nonce", "session_id", "raw_system", "raw_params"} & {*first}


def test_for_a_page_without_a_bot_its_content_is_described() -> None:
    site = PageSite(bots=(), text="[mwai_chatbot id=\u201dx\u201d]")
    result = bots(site)
    assert (result.stdout, result.returncode) == ("", 5)
    assert result.stderr.splitlines() == [
        "opchat: the shortcode [mwai_chatbot id=\u201dx\u201d] was not expanded",
        f"opchat: no bot on this page (at {site.url}/contact/)",
    ]
    site = PageSite(bots=(), text="<link rel=https://api.w.org/ href=/wp-json/>")
    assert bots(site).stderr == (
        f"opchat: no bot on this page; its REST root is {site.url}/wp-json (at {site.url}/contact/)\n"
    )


def test_a_missing_page_has_the_exit_code_of_a_refusal() -> None:
    site = PageSite()
    result = bots(site, path="/nothing/")
    assert (result.stdout, result.returncode) == ("", 3)
    assert result.stderr.startswith(
        "opchat: the server refused (status 404, rest_no_route): No route was found. (at http"
    )


@pytest.mark.parametrize("path", ["", "/contact/"])
def test_a_host_with_port_is_completed(path: str) -> None:
    with served(PageSite()) as site:
        port = site.url.rpartition(":")[2]
        for host in ("127.0.0.1", "localhost"):
            result = opchat("bots", f"{host}:{port}{path}")
            assert result.returncode == (0 if path else 3)
    assert [target for _, target, _, _ in site.requests] == [path or "/"] * 2


def test_verbose_shows_the_visit() -> None:
    result = bots(PageSite(), "-v")
    assert "> GET /contact/, " in result.stderr
    assert "< status 200; " in result.stderr


@pytest.mark.parametrize("url", ["ftp://site.example/", "https://u:secret@site.example/", "contact"])
def test_a_malformed_address_is_wrong_usage(url: str) -> None:
    result = opchat("bots", url)
    assert (result.stdout, result.returncode) == ("", 2)
    assert "expected the address of a page" in result.stderr
    assert "secret" not in result.stderr


def test_help_omits_the_options_of_a_question() -> None:
    text = opchat("bots", "--help").stdout
    assert "--json" in text
    assert "--via" in text
    assert "--bot" not in text.replace("the name for --bot", "")
    assert "--url" not in text
