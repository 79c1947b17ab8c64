"""Members ask over each transport, at sites of each version, and never as guests."""

import ssl
from dataclasses import replace
from typing import Any

import pytest
import trustme

from opchat_proto import Broken, End, Reason, Session
from opchat_transports.asyncio_httpx import HttpxTransport

from .asking import Ask
from .member_site import AJAX, ALICE, BY_PASSWORD, COOKIE, ME, START, SUBMIT, MemberSite
from .pages import HAS_START_SESSION, PAGE_HAS_NONCE, VERSIONS, served
from .tls import tls_server

COOKIES = Session(cookie=COOKIE)


def asked(ask: Ask, site: MemberSite, questions: int = 1, **options: Any) -> tuple[list[Any], Session]:
    """The last event of each question, and the session for the next transport."""

    async def main() -> tuple[list[Any], Session]:
        events = []
        async with ask.kind(site.url, **options) as transport:
            for _ in range(questions):
                async with transport.ask("Hi") as reply:
                    events.append([event async for event in reply][-1])
            return events, transport.session

    if ask.run is not None:
        result: tuple[list[Any], Session] = ask.run(main)
        return result
    events = []
    with ask.kind(site.url, **options) as transport:
        for _ in range(questions):
            with transport.ask("Hi") as reply:
                events.append(list(reply)[-1])
        return events, transport.session


def replies(events: list[Any]) -> list[str | None]:
    return [event.reply if isinstance(event, End) else str(event) for event in events]


@pytest.mark.parametrize("version", BY_PASSWORD)
def test_an_application_password_asks_as_its_member(ask: Ask, version: str) -> None:
    with served(MemberSite(version)) as site:
        events, session = asked(ask, site, 2, session=ALICE)
        assert replies(events) == ["alice: Hi", "alice: Hi"]
        paths = [ME, START, SUBMIT]
        assert site.paths == ([*paths, SUBMIT] if version in HAS_START_SESSION else paths + paths)
        site.requests.clear()
        assert replies(asked(ask, site, session=session)[0]) == ["alice: Hi"]
    assert site.paths == ([SUBMIT] if version in HAS_START_SESSION else paths)
    assert (session.member, session.authorization) == ("alice", ALICE.authorization)
    assert all(fields["Authorization"] == ALICE.authorization for _, _, fields, _ in site.requests)


@pytest.mark.parametrize("version", PAGE_HAS_NONCE)
def test_a_password_is_not_enough_where_only_pages_give_nonces(ask: Ask, version: str) -> None:
    with served(MemberSite(version)) as site:
        ((event,), _) = asked(ask, site, session=ALICE)
    assert isinstance(event, Broken)
    assert "an application password gets no nonce there: sign in with a browser's cookies" in event.detail


@pytest.mark.parametrize("version", VERSIONS)
def test_cookies_ask_as_their_member(ask: Ask, version: str) -> None:
    with served(MemberSite(version)) as site:
        events, session = asked(ask, site, 2, session=COOKIES)
        assert site.paths == [AJAX, ME, SUBMIT, SUBMIT]
        events += asked(ask, site, session=COOKIES, page=f"{site.url}/contact/")[0]
        assert site.paths[4:] == ["/contact/", ME, SUBMIT]
        events += asked(ask, site, session=session)[0]
    assert site.paths[7:] == [SUBMIT]
    assert replies(events) == ["alice: Hi"] * 4
    assert session.member == "alice"


@pytest.mark.parametrize("session", [ALICE, COOKIES, replace(COOKIES, nonce="1635c20365")])
def test_no_question_is_asked_for_a_member_whom_the_site_does_not_know(ask: Ask, session: Session) -> None:
    for version in VERSIONS:
        with served(MemberSite(version, knows_password=False, knows_cookie=False)) as site:
            ((event,), after) = asked(ask, site, session=session)
        assert isinstance(event, Broken)
        assert (event.reason, event.in_session, event.asked) == (Reason.REFUSED, True, False)
        assert SUBMIT not in site.paths
        assert after == session


def test_a_refused_nonce_is_renewed_for_the_same_member(ask: Ask) -> None:
    for session, page, renewed in (
        (ALICE, False, [ME, START]),
        (COOKIES, False, [AJAX, ME]),
        (COOKIES, True, ["/contact/", ME]),
    ):
        with served(MemberSite()) as site:
            options: Any = {"page": f"{site.url}/contact/"} if page else {}
            _, after = asked(ask, site, session=session, **options)
            site.requests.clear()
            site.member_nonce = "2222222222"
            events, after = asked(ask, site, session=after, **options)
            assert replies(events) == ["alice: Hi"]
            assert site.paths == [SUBMIT, *renewed, SUBMIT]
            site.requests.clear()
            site.member_nonce, site.knows_password, site.knows_cookie = "3333333333", False, False
            ((event,), _) = asked(ask, site, session=after, **options)
            assert isinstance(event, Broken)
            assert site.paths.count(SUBMIT) == 1


def test_after_a_password_was_revoked_nothing_is_asked_even_where_no_nonce_is_needed(ask: Ask) -> None:
    with served(MemberSite("1.9.97")) as site:
        _, session = asked(ask, site, session=ALICE)
        site.requests.clear()
        site.knows_password = False
        ((event,), _) = asked(ask, site, session=session)
    assert isinstance(event, Broken)
    assert site.paths == [ME]


def test_the_session_of_a_members_page_also_needs_the_cookies(ask: Ask) -> None:
    async def visiting(url: str) -> Any:
        async with ask.kind(url, session=COOKIES) as transport:
            return await transport.visit(f"{url}/contact/")

    with served(MemberSite()) as site:
        if ask.run is None:
            with ask.kind(site.url, session=COOKIES) as transport:
                page = transport.visit(f"{site.url}/contact/")
        else:
            page = ask.run(lambda: visiting(site.url))
        (bot,) = page.bots
        with pytest.raises(ValueError, match=r"^session: a member's session needs cookies"):
            ask.kind(site.url, session=bot.session)
        events, _ = asked(ask, site, session=replace(bot.session, cookie=COOKIE))
    assert replies(events) == ["alice: Hi"]


def test_a_password_is_sent_over_tls_only_and_follows_no_redirect(
    ask: Ask, authority: trustme.CA, trust: ssl.SSLContext
) -> None:
    with (
        served(MemberSite(), tls_server(authority, "localhost"), "localhost") as site,
        served(MemberSite()) as other,
    ):
        options: Any = {"session": ALICE, "ssl_context": trust}
        assert replies(asked(ask, site, **options)[0]) == ["alice: Hi"]
        site.redirects[ME] = f"{other.url}{ME}"
        ((event,), _) = asked(ask, site, **options)
        assert isinstance(event, Broken)
        assert (event.status, event.in_session) == (302, True)
    assert other.requests == []


def test_an_httpx_client_keeps_its_own_auth_but_must_not_replace_a_members() -> None:
    import httpx

    client = httpx.AsyncClient(auth=("staging", "secret"))
    with pytest.raises(ValueError, match=r"^client: expected none with an auth, since the session has its own"):
        HttpxTransport("https://site.example", client, session=ALICE)
    assert HttpxTransport("https://site.example", client, session=COOKIES).session == COOKIES
    assert HttpxTransport("https://site.example", httpx.AsyncClient(), session=ALICE).session == ALICE
