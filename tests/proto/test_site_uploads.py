"""Which requests are uploads, and which are refused before their body is read."""

import pytest

from opchat_proto import Limits, Response, Site
from tests.proto.incoming import NOW, SITE, TARGET, incoming, message, received
from tests.proto.uploads import FORM


def test_an_upload_may_be_larger_than_a_question() -> None:
    site = Site(b"secret", upload_types=("png",), limits=Limits(upload_bytes=len(FORM), request_bytes=1))
    length = [("Content-Length", str(len(FORM)))]
    assert site.check_head(length, upload=True) is None
    assert site.check_head([("Content-Length", str(len(FORM) + 1))], upload=True) is not None
    assert site.check_head(length) is not None


@pytest.mark.parametrize(
    ("site", "method", "target"),
    [
        (SITE, "GET", TARGET),
        (SITE, "POST", "/wp-json/mwai-ui/v1/chats/submit"),
        (Site(b"secret"), "POST", TARGET),
        (Site(b"secret", upload_types=("png",), hosts=("other.example",)), "POST", TARGET),
    ],
)
def test_another_request_is_not_a_file(site: Site, method: str, target: str) -> None:
    assert site.receive_upload(method, target, [("Host", "site.example")], now=NOW) is None


def test_pages_of_other_origins_may_upload() -> None:
    site = Site(b"secret", upload_types=("png",), origins=("https://shop.example",))
    file = incoming(site, Origin="https://shop.example", X_WP_Nonce="bad")
    _, refusal = received(file, FORM)
    assert refusal is not None
    assert dict(refusal.headers)["Access-Control-Allow-Origin"] == "https://shop.example"
    file = incoming(site, Origin="https://shop.example")
    received(file, FORM)
    assert dict(file.kept("f1").headers)["Access-Control-Allow-Origin"] == "https://shop.example"


def test_a_file_that_is_too_large_is_refused_to_pages_of_other_origins_too() -> None:
    site = Site(b"secret", upload_types=("png",), origins=("https://shop.example",), limits=Limits(upload_bytes=9))
    _, refusal = received(incoming(site, Origin="https://shop.example"), FORM)
    assert refusal is not None
    origin = dict(refusal.headers)["Access-Control-Allow-Origin"]
    assert (message(refusal), origin) == ((413, "The body is larger than 9 bytes."), "https://shop.example")


@pytest.mark.parametrize(
    ("cookie", "session_id", "set_cookie"),
    [
        ("mwai_session_id=s1", "s1", None),
        (None, "684ee18000000", "mwai_session_id=684ee18000000; path=/; HttpOnly"),
    ],
)
def test_an_upload_keeps_the_cookies_session_or_begins_one(
    cookie: str | None, session_id: str, set_cookie: str | None
) -> None:
    file = incoming(Cookie=cookie)
    assert (file.session_id, dict(file.failed("full").headers).get("Set-Cookie")) == (session_id, set_cookie)


def test_wrong_arguments_raise() -> None:
    with pytest.raises(TypeError, match=r"^expected method, target and root as str$"):
        SITE.receive_upload(b"POST", TARGET, [], now=NOW)  # type: ignore[arg-type]  # wrong on purpose
    with pytest.raises(ValueError, match=r"^now: "):
        SITE.receive_upload("POST", TARGET, [], now=-1)
    for wrong in (["png"], (1,)):
        with pytest.raises(TypeError, match=r"^Site\.upload_types: expected a tuple of str$"):
            Site(b"secret", upload_types=wrong)  # type: ignore[arg-type]  # wrong on purpose


def test_without_uploads_the_route_is_404() -> None:
    response = Site(b"secret").receive_request("POST", TARGET, [], FORM, now=NOW)
    assert isinstance(response, Response)
    assert (response.status, b'"rest_no_route"' in response.body) == (404, True)


@pytest.mark.parametrize("nonce", [None, "0123456789", SITE.nonce(NOW), SITE.nonce(NOW - 43_200)])
def test_the_nonce_is_checked_as_for_a_question(nonce: str | None) -> None:
    _, refusal = received(incoming(X_WP_Nonce=nonce), FORM)
    expected = {None: 401, "0123456789": 403}.get(nonce)
    assert (refusal and refusal.status) == expected
