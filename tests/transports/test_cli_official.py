"""`opchat ask --official`: ask as the site's owner, with a secret token."""

import json
import subprocess
from typing import Any

import pytest

from .command import ENVIRONMENT, opchat
from .official import NO_ROUTE, TOKEN, OfficialSite
from .pages import PageSite, served

ADMINISTRATOR = "opchat: asked with the owner's token, the question runs as the site's first administrator\n"


def official(*arguments: str, token: str | None = TOKEN) -> "subprocess.CompletedProcess[Any]":
    env = ENVIRONMENT if token is None else {**ENVIRONMENT, "OPCHAT_TOKEN": token}
    return opchat("ask", "--official", *arguments, env=env)


@pytest.mark.parametrize("via", ["blocking", "trio", "asyncio", "httpx"])
def test_official_asks_as_the_owner_and_says_so(via: str) -> None:
    with served(OfficialSite()) as site:
        result = official("--url", site.url, "--via", via, "--bot", "sales", "Hello")
    assert (result.stdout, result.stderr, result.returncode) == ("sales: Hello\n", ADMINISTRATOR, 0)
    assert site.routes == ["listChatbots", "simpleChatbotQuery"]


def test_a_page_names_the_bot_and_never_sees_the_token() -> None:
    with served(OfficialSite(bots=("sales",))) as site:
        result = official("--url", f"{site.url}/contact/", "--json", "Hello")
    [end] = map(json.loads, result.stdout.splitlines())
    assert (end["reply"], end["payload"]["extra"]["chatId"]) == ("sales: Hello", "c1")
    assert ["Authorization" in headers for _, _, headers, _ in site.requests] == [False, True, True]


def test_a_page_cannot_send_the_token_to_another_site() -> None:
    with served(OfficialSite()) as other, served(PageSite(redirects={"/contact/": f"{other.url}/contact/"})) as site:
        result = official("--url", f"{site.url}/contact/", "Hello")
    assert (result.stdout, result.returncode) == ("", 2)
    assert f"the chat is at {other.url}, and OPCHAT_TOKEN is for {site.url}: use the former as --url" in result.stderr
    assert [path for _, path, _, _ in other.requests] == ["/contact/"]


def test_the_default_bot_is_not_looked_up() -> None:
    with served(OfficialSite()) as site:
        result = official("--url", site.url, "Hello")
    assert (result.stdout, site.routes) == ("default: Hello\n", ["simpleChatbotQuery"])


def test_the_trace_does_not_show_the_token() -> None:
    with served(OfficialSite()) as site:
        result = official("-v", "--url", site.url, "--bot", "sales", "Hello")
    assert "> GET /wp-json/mwai/v1/listChatbots" in result.stderr
    assert TOKEN not in result.stderr + result.stdout


def test_a_refusal_gives_advice() -> None:
    failed = {"success": False, "message": "From OpenAI: sorry"}
    for token, answer, code, shown in (
        ("another", None, 4, "opchat: check OPCHAT_TOKEN: it is the token in the settings of AI Engine\n"),
        (
            TOKEN,
            NO_ROUTE,
            3,
            "opchat: the site's owner has to switch on the official API",
        ),
        (TOKEN, (500, failed), 3, "From OpenAI: sorry"),
    ):
        with served(OfficialSite(answers={} if answer is None else {"simpleChatbotQuery": answer})) as site:
            result = official("--url", site.url, "Hello", token=token)
        assert (result.stdout, result.returncode) == ("", code)
        assert shown in result.stderr
        assert token not in result.stderr


def test_an_unknown_bot_is_not_asked() -> None:
    with served(OfficialSite()) as site:
        result = official("--url", site.url, "--bot", "nope", "Hello")
    assert (result.returncode, site.routes) == (3, ["listChatbots"])
    assert "no bot 'nope'; there are: default, sales" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "token", "message"),
    [
        (("--url", "https://site.example"), None, "--official: expected the site's token in the variable OPCHAT_TOKEN"),
        (("--url", "https://site.example"), "", "--official: expected the site's token in the variable OPCHAT_TOKEN"),
        (("--url", "https://site.example"), "a secret", "OPCHAT_TOKEN: token: expected printable ASCII"),
        ((), TOKEN, "--official: expected --url"),
        (("--url", "https://site.example", "--continue"), TOKEN, "expected no --continue, --history, --file"),
        (("--url", "https://site.example", "--file", "a.png"), TOKEN, "expected no --continue, --history, --file"),
        (("--url", "http://site.example", "--proxy", "none"), TOKEN, "only over https"),
        (("--url", "https://site.example", "--header", "Authorization: x"), TOKEN, "is already set by the session"),
    ],
)
def test_unusable_options_are_wrong_usage(arguments: tuple[str, ...], token: str | None, message: str) -> None:
    result = official(*arguments, "Hello", token=token)
    assert (result.stdout, result.returncode) == ("", 2)
    assert message in " ".join(result.stderr.split())
    assert "a secret" not in result.stderr


def test_the_variable_alone_has_no_effect() -> None:
    with served(OfficialSite()) as site:
        result = opchat("ask", "--no-save", "--url", site.url, "Hello", env={**ENVIRONMENT, "OPCHAT_TOKEN": TOKEN})
    assert (result.stdout, result.stderr) == ("default: Hello\n", "")
    assert site.routes == ["start_session", "submit"]
    assert all("Authorization" not in headers for _, _, headers, _ in site.requests)
