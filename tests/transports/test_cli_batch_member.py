"""`opchat batch` asks as a member at the site of --url and at no other, and so does `many.ask` with a session."""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from opchat_transports import many

from .asking import on_asyncio
from .command import ENVIRONMENT, opchat
from .member_site import ALICE, COOKIE, ME, PASSWORD, START, SUBMIT, MemberSite
from .pages import served

BATCH = Callable[..., Any]


@pytest.fixture(params=["password", "cookies"])
def signing_in(request: pytest.FixtureRequest, tmp_path: Path) -> list[str]:
    """The options of each way to sign in."""
    if request.param == "password":
        return ["--user", "alice"]
    (tmp_path / "cookies").write_text(f"Cookie: {COOKIE}\n")
    return ["--cookie-file", str(tmp_path / "cookies")]


@pytest.fixture
def batch(tmp_path: Path) -> BATCH:
    """Run the command with a file of these questions."""

    def run(*arguments: str, questions: list[Any]) -> Any:
        (tmp_path / "questions").write_text("".join(f"{json.dumps(question)}\n" for question in questions))
        env = {**ENVIRONMENT, "OPCHAT_PASSWORD": PASSWORD}
        return opchat("batch", str(tmp_path / "questions"), *arguments, env=env)

    return run


def replies(result: Any) -> dict[str, str]:
    return {line["id"]: line["reply"] for line in map(json.loads, result.stdout.splitlines())}


@pytest.mark.parametrize("via", ["asyncio", "trio"])
@pytest.mark.parametrize("path", ["", "/contact/"])
def test_questions_are_asked_as_the_member(batch: BATCH, signing_in: list[str], path: str, via: str) -> None:
    questions = [{"id": "a", "question": "Hi"}, {"id": "b", "question": "Ho"}]
    with served(MemberSite()) as site:
        result = batch("--url", f"{site.url}{path}", *signing_in, "--via", via, questions=questions)
        assert (site.paths.count(ME), site.paths.count(SUBMIT)) == (1, 2)
    assert (replies(result), result.returncode) == ({"a": "alice: Hi", "b": "alice: Ho"}, 0)


def test_another_site_is_asked_as_a_guest(batch: BATCH, signing_in: list[str]) -> None:
    with served(MemberSite()) as site, served(MemberSite()) as other:
        questions = [{"id": "a", "question": "Hi"}, {"id": "b", "question": "Hi", "url": other.url}]
        result = batch("--url", site.url, *signing_in, questions=questions)
        assert other.paths == [START, SUBMIT]
        sent = [str(fields) for *_, fields, _ in other.requests]
        assert [fields for fields in sent if COOKIE in fields or "Authorization" in fields] == []
    assert replies(result) == {"a": "alice: Hi", "b": "guest: Hi"}


def test_nothing_is_asked_if_the_site_takes_the_member_for_a_guest(batch: BATCH, signing_in: list[str]) -> None:
    with served(MemberSite(knows_password=False, knows_cookie=False)) as site:
        result = batch("--url", site.url, *signing_in, questions=[{"question": "Hi"}])
        assert SUBMIT not in site.paths
    line = json.loads(result.stdout)
    assert (line["outcome"], line["asked"], result.returncode) == ("broken", False, 10)
    assert PASSWORD not in result.stdout + result.stderr


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--url", "http://site.example", "--user", "alice"], "only over https"),
        (["--user", "alice"], "expected --url"),
        (["--url", "https://site.example", "--user", "alice", "--dask", "tcp://127.0.0.1:9"], "not sent to workers"),
    ],
)
def test_an_unusable_login_is_wrong_usage(batch: BATCH, options: list[str], said: str) -> None:
    result = batch(*options, questions=[{"question": "Hi"}])
    assert (result.stdout, result.returncode) == ("", 2)
    assert said in " ".join(result.stderr.split())


def test_a_session_is_used_only_for_the_site_of_url() -> None:
    async def main(url: str | None) -> list[str]:
        questions: list[Any] = ["Hi", {"question": "Hi", "url": other.url}]
        return sorted([result.reply async for result in many.ask(questions, session=ALICE, url=url)])

    with served(MemberSite()) as site, served(MemberSite()) as other:
        assert on_asyncio(partial(main, site.url)) == ["alice: Hi", "guest: Hi"]
        with pytest.raises(ValueError, match="session: expected a url, the site that it is for"):
            on_asyncio(partial(main, None))
