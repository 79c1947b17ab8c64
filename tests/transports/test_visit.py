"""Each transport visits a page by its address, and asks the bot that it finds there."""

import ssl
from typing import Any

import pytest
import trustme

from opchat_proto import Page, Reason, Session
from opchat_transports import ReplyBroken, acollect, collect

from .asking import Ask
from .pages import PAGE_HAS_NONCE, VERSIONS, PageSite, served
from .tls import tls_server


def visited(ask: Ask, site: str, url: str, *, fresh: bool = False, **options: Any) -> Page:
    async def main() -> Page:
        async with ask.kind(site, **options) as transport:
            page: Page = await transport.visit(url, fresh=fresh)
            return page

    if ask.run is None:
        with ask.kind(site, **options) as transport:
            found: Page = transport.visit(url, fresh=fresh)
            return found
    page: Page = ask.run(main)
    return page


def collected(ask: Ask, endpoint: Any, question: Any, **options: Any) -> str:
    async def main() -> str:
        async with ask.kind(endpoint, **options) as transport, transport.ask(question) as reply:
            return await acollect(reply)

    if ask.run is None:
        with ask.kind(endpoint, **options) as transport, transport.ask(question) as reply:
            return collect(reply)
    return str(ask.run(main))


@pytest.mark.parametrize("version", VERSIONS)
def test_a_pages_address_is_enough_to_ask(ask: Ask, version: str) -> None:
    with served(PageSite(version)) as site:
        page = visited(ask, site.url, f"{site.url}/contact/")
        (bot,) = page.bots
        answer = collected(ask, bot.endpoint, bot.submit("Hi"), session=bot.session)
    assert answer == "default: Hi"
    assert (page.url, page.root) == (f"{site.url}/contact/", f"{site.url}/wp-json")
    (submit,) = [given for _, path, _, given in site.requests if path.endswith("submit")]
    assert (submit["botId"], submit["contextId"]) == ("default", 4)


def test_a_page_may_name_several_bots(ask: Ask) -> None:
    with served(PageSite(bots=("default", "sales"))) as site:
        page = visited(ask, site.url, f"{site.url}/contact/")
    assert [bot.bot_id for bot in page.bots] == ["default", "sales"]


def test_a_fresh_page_does_not_come_from_a_cache(ask: Ask) -> None:
    with served(PageSite("2.4.3", cached_nonce="0000000000")) as site:
        nonces = [visited(ask, site.url, f"{site.url}/contact/", fresh=fresh).bots[0].nonce for fresh in (False, True)]
    assert nonces == ["0000000000", site.nonce]
    assert site.requests[1][2]["Cache-Control"] == "no-cache"


@pytest.mark.parametrize("version", PAGE_HAS_NONCE)
def test_a_nonce_that_a_cache_kept_too_long_is_renewed_from_the_page(ask: Ask, version: str) -> None:
    with served(PageSite(version, cached_nonce="0000000000")) as site:
        page = visited(ask, site.url, f"{site.url}/contact/")
        (bot,) = page.bots
        options: Any = {"session": bot.session, "page": page.url}
        assert collected(ask, bot.endpoint, bot.submit("Hi"), **options) == "default: Hi"
        asked = [path.split("?")[0] for _, path, _, _ in site.requests]
        submit = "/wp-json/mwai-ui/v1/chats/submit"
        assert asked == ["/contact/", submit, "/contact/", submit]
        site.nonce = "2222222222"  # no page knows it yet
        site.cached_nonce = None
        site.page_nonce = "0000000000"
        with pytest.raises(ReplyBroken, match="Cookie check failed"):
            collected(ask, bot.endpoint, bot.submit("Hi"), **options)
        assert [path.split("?")[0] for _, path, _, _ in site.requests[4:]] == [submit, "/contact/"]


def test_a_missing_page_raises(ask: Ask) -> None:
    with served(PageSite()) as site, pytest.raises(ReplyBroken) as raised:
        visited(ask, site.url, f"{site.url}/nothing/")
    assert (raised.value.broken.reason, raised.value.status) == (Reason.REFUSED, 404)


def test_a_redirect_may_lead_to_tls(ask: Ask, authority: trustme.CA, trust: ssl.SSLContext) -> None:
    with (
        served(PageSite(), tls_server(authority, "localhost"), "localhost") as secure,
        served(PageSite(redirects={"/": f"{secure.url}/contact/"})) as site,
    ):
        page = visited(ask, site.url, site.url, ssl_context=trust)
    assert page.root == f"{secure.url}/wp-json"
    assert page.notes == (f"redirected from {site.url} to {secure.url}",)


def test_without_a_context_tls_uses_the_systems_trust_store(ask: Ask, authority: trustme.CA) -> None:
    with (
        served(PageSite(), tls_server(authority, "localhost"), "localhost") as secure,
        served(PageSite(redirects={"/": f"{secure.url}/contact/"})) as site,
        pytest.raises(ReplyBroken, match="the certificate is not trusted") as raised,
    ):
        visited(ask, site.url, site.url)
    assert raised.value.broken.reason is Reason.LOST


def test_a_members_cookies_go_only_to_the_site(ask: Ask) -> None:
    member = Session("n", None, "wordpress_logged_in_1=x")
    with served(PageSite()) as other, served(PageSite(redirects={"/away": f"{other.url}/contact/"})) as site:
        options: Any = {"session": member, "headers": {"X-Key": "secret"}}
        visited(ask, site.url, f"{site.url}/contact/", **options)
        visited(ask, site.url, f"{other.url}/contact/", **options)
        with pytest.raises(ReplyBroken, match="must not get the credentials"):
            visited(ask, site.url, f"{site.url}/away", **options)
    assert [fields["Cookie"] for _, _, fields, _ in site.requests] == [member.cookie, member.cookie]
    ((_, _, fields, _),) = other.requests
    assert not {"Cookie", "X-Key"} & {*fields}


def test_a_closed_transport_visits_nothing(ask: Ask) -> None:
    async def main() -> None:
        transport = ask.kind("http://127.0.0.1:9")
        await transport.aclose()
        with pytest.raises(RuntimeError, match="closed"):
            await transport.visit("http://127.0.0.1:9/")

    if ask.run is None:
        transport = ask.kind("http://127.0.0.1:9")
        transport.close()
        with pytest.raises(RuntimeError, match="closed"):
            transport.visit("http://127.0.0.1:9/")
    else:
        ask.run(main)


def test_a_malformed_address_is_refused(ask: Ask) -> None:
    with pytest.raises(ValueError, match=r"^url: expected the address of a page"):
        visited(ask, "http://127.0.0.1:9", "contact")


def test_the_trust_store_is_loaded_once_and_only_for_tls(
    ask: Ask, authority: trustme.CA, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded: list[ssl.SSLContext] = []
    load = ssl.SSLContext.load_default_certs

    def count(context: ssl.SSLContext, *arguments: Any) -> None:
        loaded.append(context)
        load(context, *arguments)

    monkeypatch.setattr(ssl.SSLContext, "load_default_certs", count)
    with (
        served(PageSite(), tls_server(authority, "localhost"), "localhost") as secure,
        served(PageSite(redirects={"/": f"{secure.url}/contact/"})) as site,
    ):
        visited(ask, site.url, f"{site.url}/contact/")
        assert loaded == []
        with pytest.raises(ReplyBroken, match="the certificate is not trusted"):
            visited(ask, site.url, site.url)
    assert len(loaded) == 1
