"""Redirects, and that no secret leaves its site."""

from typing import Any

import pytest

from opchat_proto import Broken, End, Limits, Reason, Session, Visit
from tests.proto.pages import PAGE, URL
from tests.proto.visits import FOUND, fields, take, to, visited

MEMBER = Session("secretnonce", None, "wordpress_logged_in_1=secretcookie")


# ------------------------------------------------------------------------------ redirects


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize(
    ("location", "url"),
    [
        ("https://site.example/chat/", "https://site.example/chat/"),
        ("/chat/?a=b#c", "https://site.example/chat/?a=b"),
        ("chat", "https://site.example/contact/chat"),
        ("?p=4", "https://site.example/contact/?p=4"),
        ("//www.site.example", "https://www.site.example/"),
        ("http://site.example:8080/", "http://site.example:8080/"),
        ("/caf\u00c3\u00a9", "https://site.example/caf%C3%A9"),  # UTF-8 read as Latin-1
        ("/caf\u00e9", "https://site.example/caf%C3%A9"),
        ("/\u20ac", "https://site.example/%E2%82%AC"),
    ],
)
def test_a_redirect_is_followed(status: int, location: str, url: str) -> None:
    visit, (first, second), events = visited(to(location, status), FOUND)
    assert (first.url, second.url, second.method, second.body) == (URL, url, "GET", b"")
    assert fields(second)["Host"] == url.split("/")[2]
    assert events == [End(None)]
    assert visit.urls == (URL, url)
    assert visit.page is not None
    assert visit.page.url == url


def test_another_origin_is_named_in_the_page() -> None:
    visit, _, _ = visited(to("/a"), to("https://other.example/b"), FOUND)
    assert visit.page is not None
    assert visit.page.notes == ("redirected from https://site.example to https://other.example",)
    visit, _, _ = visited(to("https://other.example/b"), to(URL), FOUND)
    assert visit.page == PAGE


def test_at_most_five_redirects_are_followed() -> None:
    visit, requests, events = visited(*[to("/a")] * 5, FOUND)
    assert (len(requests), events) == (6, [End(None)])
    visit, requests, events = visited(*[to("/a")] * 6)
    assert (len(requests), visit.page) == (6, None)
    assert events == [Broken(Reason.REFUSED, "more than 5 redirects, the last to /a", 302)]


def test_too_many_redirects_name_a_cookie_that_the_site_wants_back() -> None:
    _, _, events = visited(*[(302, [("Location", "/a"), ("Set-Cookie", "seen=1")], b"")] * 6)
    expected = "more than 5 redirects, the last to /a with a cookie, which is not kept"
    assert events == [Broken(Reason.REFUSED, expected, 302)]


@pytest.mark.parametrize(
    "location", ["ftp://a/", "javascript:alert(1)", "https://u:p@a/", "https://[", "//:0/", "\ud800"]
)
def test_a_redirect_without_a_usable_location_is_a_refusal(location: str) -> None:
    shown = location.replace("\ud800", "\ufffd").replace("u:p@", "")
    expected = Broken(Reason.REFUSED, f"redirected to {shown}, which is not an address of a page", 301)
    assert visited(to(location, 301))[2] == [expected]


def test_a_redirect_shows_no_secrets() -> None:
    _, _, [broken] = visited(to("ftp://site.example/?_wpnonce=SECRET1234&mwai_session_id=SECRET5678", 301))
    assert isinstance(broken, Broken)
    assert "SECRET" not in broken.detail


def test_the_text_of_a_redirect_is_bounded() -> None:
    visit = Visit(URL, Limits(page_bytes=3))
    take(visit)
    assert visit.receive_head(302, [("Location", "/a")]) == visit.receive_data(b"abc") == []
    (event,) = visit.receive_data(b"d")
    assert isinstance(event, Broken)
    assert event.limit == "page_bytes"
    assert visited((302, [("Location", "/a")], b"abc"), (200, [], b"abc"), visit=Visit(URL, Limits(page_bytes=3)))[
        2
    ] == [End(None)]


# ------------------------------------------------------------------------------ secrets

AUTHORIZED = {"Authorization": "Basic secret", "X-Key": "secret", "User-Agent": "Mine", "Accept-Language": "fr"}


def test_a_members_cookies_go_with_each_request_to_the_site_and_no_nonce_does() -> None:
    visit, requests, events = visited(to("/a"), FOUND, visit=Visit(URL, session=MEMBER, headers=AUTHORIZED))
    assert events == [End(None)]
    for request in requests:
        assert fields(request)["Cookie"] == MEMBER.cookie
        assert fields(request).items() >= AUTHORIZED.items()
        assert "secretnonce" not in repr(request.headers)
    assert "secret" not in repr(visit) + repr(requests) + repr(visit.page)
    assert visit.session == MEMBER


@pytest.mark.parametrize(
    "place",
    ["https://other.example/", "http://site.example/", "https://site.example:8443/", "https://www.site.example/"],
)
@pytest.mark.parametrize("options", [{"session": MEMBER}, {"headers": [("AUTHORIZATION", "Basic secret")]}])
def test_a_member_is_not_redirected_to_another_origin(place: str, options: Any) -> None:
    visit, _, events = visited(to(place), visit=Visit(URL, **options))
    why = f"redirected to {place.rstrip('/')}, which must not get the credentials for https://site.example"
    assert events == [Broken(Reason.REFUSED, why, 302)]
    assert visit.next_request() is None


def test_no_secret_goes_to_another_origin() -> None:
    session = Session("secretnonce", "secretid", "mwai_session_id=secret")
    headers = {"X-Key": "secret", "User-Agent": "Mine", "Accept-Language": "fr"}
    visit = Visit(URL, session=session, headers=headers)
    _, (first, away, back), _ = visited(to("http://site.example/"), to(URL), FOUND, visit=visit)
    assert fields(first) == fields(back)
    assert fields(first).items() >= {**headers, "Cookie": session.cookie}.items()
    assert "secret" not in repr(away.headers)
    assert (fields(away)["User-Agent"], fields(away)["Accept-Language"]) == ("Mine", "fr")


def test_reserved_headers_are_refused() -> None:
    with pytest.raises(ValueError, match="X-WP-Nonce cannot be set"):
        Visit(URL, headers=[("X-WP-Nonce", "x")])
    with pytest.raises(
        ValueError, match=r"^session: it belongs to https://other\.example, not to https://site\.example$"
    ):
        Visit(URL, session=Session(origin="https://other.example"))
    Visit(URL, session=Session(origin="https://site.example"))
