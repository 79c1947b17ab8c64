"""`opchat doctor` as a member: whether the site accepts the login, without asking a question."""

import json
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from opchat_transports.testing import FaultServer

from .command import ENVIRONMENT, opchat
from .examined import at, check, found, problems, session, text
from .examined import site as site_of
from .member_site import AJAX, ALICE, COOKIE, ME, PASSWORD, START, SUBMIT, MemberSite
from .pages import served

INDEX = "/wp-json/"
BY_PASSWORD = ["--user", "alice"]
KNOWN = {**ENVIRONMENT, "OPCHAT_PASSWORD": PASSWORD}


@pytest.fixture(autouse=True)
def nothing_random(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(secrets, "token_hex", lambda _: "1")


@pytest.fixture
def by_cookies(tmp_path: Path) -> list[str]:
    (tmp_path / "cookies").write_text(f"Cookie: {COOKIE}\n")
    return ["--cookie-file", str(tmp_path / "cookies")]


def examine(site: MemberSite, *arguments: str, path: str = "/contact/") -> tuple[dict[str, Any], int]:
    """The findings and the exit code. No secret is shown."""
    with served(site):
        result = opchat("doctor", f"{site.url}{path}", "--json", "-v", *arguments, env=KNOWN)
    for secret in (PASSWORD, ALICE.authorization.split()[1], COOKIE.split("=")[1], site.member_nonce):
        assert secret not in result.stdout + result.stderr
    return found(result.stdout), result.returncode


def test_the_member_is_named_and_nothing_is_asked() -> None:
    site = MemberSite()
    checks, code = examine(site, *BY_PASSWORD)
    assert (problems(checks), code) == (set(), 0)
    assert checks["member"]["detail"] == "the site takes you for alice"
    assert site.paths == ["/contact/", INDEX, ME, START, INDEX]
    sent = [fields.get("Authorization") for _, _, fields, _ in site.requests]
    assert sent == [None, None, ALICE.authorization, ALICE.authorization, None]


@pytest.mark.parametrize(("path", "requests"), [("/contact/", ["/contact/", INDEX, ME]), (INDEX, [INDEX, AJAX, ME])])
def test_cookies_sign_in_with_the_nonce_of_the_page_or_of_wordpress(
    by_cookies: list[str], path: str, requests: list[str]
) -> None:
    site = MemberSite("2.4.3")
    checks, code = examine(site, *by_cookies, path=path)
    assert (problems(checks), code) == (set(), 0)
    assert checks["member"]["detail"] == "the site takes you for alice"
    assert site.paths == requests


@pytest.mark.parametrize("path", ["/contact/", INDEX])
def test_ask_asks_as_the_member(by_cookies: list[str], path: str) -> None:
    for login in (BY_PASSWORD, by_cookies):
        site = MemberSite()
        checks, code = examine(site, *login, "--ask", path=path)
        assert (problems(checks), code, site.paths.count(SUBMIT)) == (set(), 0, 1)


def test_a_login_that_the_site_rejects_is_named(by_cookies: list[str]) -> None:
    for login, said in ((BY_PASSWORD, "are the name and the application password right"), (by_cookies, "have expired")):
        site = MemberSite(knows_password=False, knows_cookie=False)
        checks, code = examine(site, *login, "--ask")
        assert problems(checks) == {"member"}
        assert code in (3, 4)
        assert said in checks["member"]["detail"]
        assert SUBMIT not in site.paths


def test_a_version_that_gives_no_nonce_to_a_password_is_named() -> None:
    site = MemberSite("2.4.3")
    checks, code = examine(site, *BY_PASSWORD)
    assert (problems(checks), code) == ({"nonce"}, 4)
    assert "--cookie-file" in checks["nonce"]["advice"]
    assert SUBMIT not in site.paths


def test_a_guests_nonce_for_a_member_is_named() -> None:
    known = text('{"id":2,"name":"Alice","slug":"alice"}', kind="application/json")
    script = site_of(page=None, session=None, check=None)
    script = (*script, *at("me", known), *at("start_session", session("3.6.2")), *at("?opchat=1", check("3.6.2")))
    with FaultServer(script) as server:
        result = opchat("doctor", f"{server.url}{INDEX}", "--json", *BY_PASSWORD, "--ask", env=KNOWN)
    checks = found(result.stdout)
    assert (problems(checks), result.returncode, server.questions) == ({"nonce"}, 4, ())
    assert "start_session gives a guest's" in checks["nonce"]["detail"]


@dataclass
class RefusingSite(MemberSite):
    """start_session refuses everybody, as in 2.9.0."""

    def answer(self, method: str, path: str, nonce: str | None, body: Any) -> tuple[int, str]:
        if path == START:
            return 401, json.dumps({"code": "rest_forbidden", "message": "No.", "data": {"status": 401}})
        return super().answer(method, path, nonce, body)


def test_a_session_refused_after_the_login_is_named() -> None:
    checks, code = examine(RefusingSite(), *BY_PASSWORD)
    assert (problems(checks), code) == ({"session"}, 4)
    assert checks["member"]["status"] == "ok"


def test_a_login_is_sent_to_no_other_site() -> None:
    with served(MemberSite()) as site, served(MemberSite()) as other:
        site.other_site = other.url
        result = opchat("doctor", f"{site.url}/contact/", *BY_PASSWORD, env=KNOWN)
        assert [fields for _, _, fields, _ in other.requests if "Authorization" in fields] == []
    assert (result.returncode, "use the former as --url" in result.stderr) == (2, True)


def test_a_login_is_not_sent_in_the_clear() -> None:
    result = opchat("doctor", "http://site.example/contact/", *BY_PASSWORD, env=KNOWN)
    assert (result.stdout, result.returncode) == ("", 2)
    assert "only over https" in result.stderr
