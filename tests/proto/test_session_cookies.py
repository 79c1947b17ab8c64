"""The session of a member who is signed in with a browser."""

from typing import Any, cast

import pytest

from opchat_proto import Endpoint, Session

LOGIN = "wordpress_logged_in_1=alice%7C1"


@pytest.mark.parametrize("site", ["https://site.example/blog", Endpoint.parse("https://site.example/blog/wp-json")])
def test_the_cookies_make_a_member_who_is_not_proved_yet(site: Endpoint | str) -> None:
    line = "\t".join(["site.example", "FALSE", "/blog", "TRUE", "1", *LOGIN.split("=", 1)])
    session = Session.from_cookies(line, site, now=0.5)
    assert (session.cookie, session.origin, session.member) == (LOGIN, "https://site.example", "")
    assert session.is_member
    assert LOGIN not in repr(session)


@pytest.mark.parametrize(
    ("site", "path"),
    [
        ("https://site.example", "/wp-json"),
        ("https://site.example", "/wp-json/"),
        ("https://site.example/blog/index.php?rest_route=", "/blog/index.php"),
    ],
)
def test_a_cookie_may_be_for_the_rest_api_alone(site: str, path: str) -> None:
    line = "\t".join(["site.example", "FALSE", path, "TRUE", "0", *LOGIN.split("=", 1)])
    assert Session.from_cookies(line, site, now=0).cookie == LOGIN


@pytest.mark.parametrize(
    ("text", "now", "error"),
    [
        (b"", 0, "text: expected a str, got bytes"),
        (LOGIN, None, "now: expected Unix seconds, got NoneType"),
        (LOGIN, True, "now: expected Unix seconds, got bool"),
    ],
)
def test_wrong_types_raise(text: object, now: object, error: str) -> None:
    with pytest.raises(TypeError, match=f"^{error}$"):
        Session.from_cookies(cast("Any", text), "https://site.example", now=cast("Any", now))


def test_the_site_is_an_endpoint_or_a_text() -> None:
    with pytest.raises(TypeError, match=r"^endpoint: expected an Endpoint or a str, got float$"):
        Session.from_cookies(LOGIN, cast("Any", 0.5), now=0)
