"""`--user` and `--cookie-file`: the command asks as a member, and never as a guest."""

import json
from pathlib import Path
from typing import Any

import pytest

from .command import ENVIRONMENT, Terminal, opchat
from .member_site import AJAX, ALICE, BY_PASSWORD, COOKIE, DISCUSSIONS, ME, PASSWORD, START, SUBMIT, MemberSite
from .pages import PAGE_HAS_NONCE, VERSIONS, served

VIA = ["blocking", "trio", "asyncio", "httpx"]
TOKEN = ALICE.authorization.removeprefix("Basic ")
KNOWN = {**ENVIRONMENT, "OPCHAT_PASSWORD": PASSWORD}
LINE = "\t".join(["#HttpOnly_127.0.0.1", "FALSE", "/", "FALSE", "0", *COOKIE.split("=", 1)])


@pytest.fixture
def cookies(tmp_path: Path) -> str:
    path = tmp_path / "cookies.txt"
    path.write_text(f"# Netscape HTTP Cookie File\n{LINE}\n")
    return str(path)


def as_alice(site: MemberSite, *arguments: str, path: str = "", command: str = "ask", **options: Any) -> Any:
    return opchat(
        command, "--url", f"{site.url}{path}", "--user", "alice", *arguments, "Hi", **{"env": KNOWN} | options
    )


@pytest.mark.parametrize("via", VIA)
@pytest.mark.parametrize("version", BY_PASSWORD)
def test_with_user_the_member_is_signed_in_by_password(version: str, via: str) -> None:
    with served(MemberSite(version)) as site:
        for path in ("", "/wp-json", "/contact/"):
            result = as_alice(site, "--no-save", "--via", via, path=path)
            assert (result.stdout, result.stderr, result.returncode) == ("alice: Hi\n", "", 0)


@pytest.mark.parametrize("via", VIA)
@pytest.mark.parametrize("version", VERSIONS)
def test_with_cookie_file_the_member_is_signed_in_by_cookies(version: str, via: str, cookies: str) -> None:
    with served(MemberSite(version)) as site:
        for path, source in (("", AJAX), ("/wp-json", AJAX), ("/contact/", "/contact/")):
            site.requests.clear()
            arguments = ["--url", f"{site.url}{path}", "--no-save", "--cookie-file", cookies, "--via", via]
            result = opchat("ask", *arguments, "Hi")
            assert (result.stdout, result.stderr, result.returncode) == ("alice: Hi\n", "", 0)
            assert site.paths == [source, ME, SUBMIT]


def test_a_cookie_file_may_be_a_cookie_header(tmp_path: Path) -> None:
    (tmp_path / "header").write_text(f"Cookie: {COOKIE}; other=1\n")
    with served(MemberSite()) as site:
        result = opchat("ask", "--url", site.url, "--no-save", "--cookie-file", str(tmp_path / "header"), "Hi")
    assert result.stdout == "alice: Hi\n"


@pytest.mark.parametrize("version", PAGE_HAS_NONCE)
def test_a_nonce_that_a_cache_kept_too_long_is_renewed(version: str, cookies: str) -> None:
    with served(MemberSite(version, cached_nonce="0000000000")) as site:
        arguments = ["--url", f"{site.url}/contact/", "--no-save", "--cookie-file", cookies]
        assert opchat("ask", *arguments, "Hi").stdout == "alice: Hi\n"
    assert site.paths == ["/contact/", ME, "/contact/", ME, SUBMIT]


@pytest.mark.parametrize("version", VERSIONS)
def test_a_site_that_does_not_know_the_member_is_not_asked(version: str, cookies: str) -> None:
    with served(MemberSite(version, knows_password=False, knows_cookie=False)) as site:
        for path in ("", "/contact/"):
            results = [as_alice(site, path=path)]
            results.append(opchat("ask", "--url", f"{site.url}{path}", "--cookie-file", cookies, "Hi"))
            for result, code, advice in zip(results, (4, 3), ("are the name and the", "cookies have"), strict=True):
                assert (result.stdout, result.returncode) == ("", code)
                assert advice in result.stderr
                assert "nothing was asked; --user and --cookie-file sign in)" in result.stderr
    assert SUBMIT not in site.paths


def test_a_password_typed_on_a_terminal_is_not_shown() -> None:
    with served(MemberSite()) as site:
        with Terminal("ask", "--no-save", "--no-stdin", "--url", site.url, "--user", "alice", "Hi") as terminal:
            terminal.until("Application password: ")
            terminal.enter(f"{PASSWORD}\n")
            assert terminal.wait() == 0
        assert "alice: Hi" in terminal.shown
        assert PASSWORD not in terminal.shown
        with Terminal("ask", "--no-stdin", "--url", site.url, "--user", "alice", "Hi") as terminal:
            terminal.until("Application password: ")
            terminal.enter("\x04")
            assert terminal.wait() == 2
        assert "OPCHAT_PASSWORD" in terminal.shown


SITE = "https://site.example"


@pytest.mark.parametrize(
    ("arguments", "env", "error"),
    [
        (("--user", "a"), KNOWN, "--user: expected --url, a site"),
        (("--cookie-file", "x"), KNOWN, "--cookie-file: expected --url, a site"),
        (("--url", SITE, "--user", "a", "--cookie-file", "x"), KNOWN, "expected --user or --cookie-file, not both"),
        (("--url", SITE, "--user", "a"), ENVIRONMENT, "in the variable OPCHAT_PASSWORD"),
        (("--url", SITE, "--user", "a:b"), KNOWN, "--user: name: expected at least one character"),
        (("--url", SITE, "--cookie-file", "/no/file"), KNOWN, "--cookie-file /no/file: No such file or directory"),
        (("--url", "http://site.example", "--user", "a"), KNOWN, "credentials are sent only over https"),
        (
            ("--url", SITE, "--header", "Cookie: a=b"),
            KNOWN,
            "--header cannot set Cookie; sign in with --cookie-file FILE or --user NAME",
        ),
        (("--url", SITE, "--user", "a", "--official"), KNOWN, "--official: expected no --user and --cookie-file"),
        (
            ("--url", SITE, "--user", "a", "--header", "Authorization: b"),
            KNOWN,
            "Authorization is already set by the session",
        ),
    ],
)
def test_an_impossible_login_is_wrong_usage(arguments: tuple[str, ...], env: dict[str, str], error: str) -> None:
    result = opchat("ask", "--no-save", "--proxy", "none", *arguments, "Hi", env=env)
    assert (result.stdout, result.returncode) == ("", 2)
    assert error in " ".join(result.stderr.split())
    assert PASSWORD not in result.stderr


@pytest.mark.parametrize(
    ("content", "error"),
    [
        (b"", "expected a file in Netscape's format"),
        (b"\x80secret", "this is not text"),
        (b"a\tsecret", "line 1: expected 7 fields"),
        (LINE.replace("127.0.0.1", "other.example").encode(), "none for 127.0.0.1 (1 of other sites)"),
        (b"a=b" * 400_000, "expected at most 1024 KiB"),
    ],
)
def test_a_cookie_file_without_cookies_for_the_site_is_wrong_usage(content: bytes, error: str, tmp_path: Path) -> None:
    (tmp_path / "cookies.txt").write_bytes(content)
    result = opchat("ask", "--url", "http://127.0.0.1:9", "--cookie-file", str(tmp_path / "cookies.txt"), "Hi")
    assert (result.stdout, result.returncode) == ("", 2)
    assert error in " ".join(result.stderr.split())
    assert "secret" not in result.stderr


def test_a_login_in_header_is_told_about_the_options() -> None:
    with served(MemberSite()) as site:
        result = opchat(
            "ask", "--no-save", "--url", site.url, "--header", f"Authorization: {ALICE.authorization}", "Hi"
        )
    assert "--header Authorization may not sign a member in; --user and --cookie-file do" in result.stderr


def test_credentials_go_only_to_the_site(cookies: str) -> None:
    with served(MemberSite()) as other, served(MemberSite()) as site:
        site.redirects["/away"] = f"{other.url}/contact/"
        result = opchat("ask", "--url", f"{site.url}/away", "--cookie-file", cookies, "Hi")
        assert (result.stdout, result.returncode) == ("", 3)
        assert "must not get the credentials" in result.stderr
        site.other_site = other.url
        results = [as_alice(site, path="/contact/")]
        results.append(opchat("ask", "--url", f"{site.url}/contact/", "--cookie-file", cookies, "Hi"))
        for result in results:
            assert (result.stdout, result.returncode) == ("", 2)
            assert f"the chat is at {other.url}, and you sign in at {site.url}" in result.stderr
    assert other.requests == []


def test_continue_needs_the_same_member_and_keeps_no_secret(cookies: str, tmp_path: Path) -> None:
    env = {**KNOWN, "XDG_STATE_HOME": str(tmp_path)}
    with served(MemberSite()) as site:
        for arguments in (["--user", "alice"], ["--continue", "--cookie-file", cookies]):
            assert opchat("ask", "--url", site.url, *arguments, "Hi", env=env).stdout == "alice: Hi\n"
        kept = [path.read_text() for path in tmp_path.rglob("*.json")]
        assert len(kept) == 1
        assert json.loads(kept[0])["session"] == {"session_id": None, "origin": site.url, "member": "alice"}
        assert len(json.loads(kept[0])["messages"]) == 4
        for command, question in (("ask", ["Hi"]), ("chat", [])):
            result = opchat(command, "--url", site.url, "--continue", *question, env=env)
            assert (result.stdout, result.returncode) == ("", 2)
            assert "this conversation is one of alice's: sign in with --user or --cookie-file" in result.stderr
        assert all(site.member_nonce not in text and TOKEN not in text and COOKIE not in text for text in kept)


def test_chat_proves_the_member_once() -> None:
    with served(MemberSite()) as site:
        result = opchat("chat", "--no-save", "--url", site.url, "--user", "alice", input="Hi\nHo\n", env=KNOWN)
    assert (result.stdout, result.returncode) == ("alice: Hi\nalice: Ho\n", 0)
    assert site.paths.count(ME) == 1


@pytest.mark.parametrize("via", VIA)
def test_a_recording_and_a_trace_contain_no_secret(via: str, tmp_path: Path, cookies: str) -> None:
    file = tmp_path / "recording"
    with served(MemberSite()) as site:
        for arguments in (["--user", "alice"], ["--cookie-file", cookies]):
            result = opchat("record", str(file), "-v", "--via", via, "--url", site.url, *arguments, "Hi", env=KNOWN)
            assert result.returncode == 0
            assert "users/me" in result.stderr
            shown = result.stdout + result.stderr + file.read_text()
            for secret in (PASSWORD, TOKEN, COOKIE.partition("=")[2], site.member_nonce):
                assert secret not in shown
            decoded = opchat("decode", str(file))
            assert (decoded.stdout.count("broken"), decoded.returncode) == (0, 0)
            assert "to me, status 200" in decoded.stdout
        site.knows_password = False
        opchat("record", str(file), "--via", via, "--url", site.url, "--user", "alice", "Hi", env=KNOWN)
        assert "(status 401, rest_not_logged_in)" in opchat("decode", str(file)).stdout


def test_bots_shows_a_members_page(cookies: str) -> None:
    with served(MemberSite()) as site:
        result = opchat("bots", "--json", f"{site.url}/contact/", "--cookie-file", cookies)
        assert (json.loads(result.stdout)["is_member"], result.stderr) == (True, "")
        result = opchat("bots", "--json", f"{site.url}/contact/", "--user", "alice", env=KNOWN)
        assert json.loads(result.stdout)["is_member"] is False
        assert "does not sign in on a page" in result.stderr
    assert all("Authorization" not in fields for _, _, fields, _ in site.requests)


def test_discussions_lists_the_members_discussions(cookies: str) -> None:
    with served(MemberSite()) as site:
        for arguments in (["--user", "alice"], ["--cookie-file", cookies]):
            result = opchat("discussions", "list", "--url", site.url, *arguments, env=KNOWN)
            assert (result.stderr, result.returncode) == ("opchat: 0 of 0 discussions\n", 0)
    assert site.paths == [ME, START, DISCUSSIONS, AJAX, ME, DISCUSSIONS]
