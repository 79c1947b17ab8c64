"""The other paths of a site, and arbitrary requests."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opchat_proto import End, Question, Response, Site
from tests.proto.sites import (
    JSON_TYPE,
    NO_ROUTE,
    NONCE,
    NOW,
    OPEN,
    SECRET,
    SITE,
    START,
    SUBMIT,
    ask,
    json_response,
    response_of,
)

# ------------------------------------------------------------------------------ the other paths


def shown(path: str, *, root: str, origin: str, nonce: str) -> Response | None:
    """Show the request; nothing at /nowhere."""
    return (
        None if path == "/nowhere" else Response(200, (("X-Shown", "yes"),), f"{path} {root} {origin} {nonce}".encode())
    )


SHOWING = Site(SECRET, page=shown)


def show(target: str, *headers: tuple[str, str], method: str = "GET", root: str = "", site: Site = SHOWING) -> Response:
    return response_of(site.receive_request(method, target, headers, now=NOW, root=root))


@pytest.mark.parametrize(
    ("target", "path"),
    [
        ("/", "/"),
        ("", ""),
        ("/chat.js", "/chat.js"),
        ("/a?utm_source=a", "/a"),
        ("http://site.example/", "/"),
        ("http://site.example", ""),
        ("HTTPS://site.example/a?b", "/a"),
        ("//", "//"),
        ("/chat.jshttp://site.example", "/chat.jshttp://site.example"),
    ],
)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_the_page_handler_gets_other_paths_without_their_query(target: str, path: str, method: str) -> None:
    expected = Response(200, (("X-Shown", "yes"),), f"{path}   {NONCE}".encode())
    assert show(target, method=method) == expected


def test_only_the_beginning_of_a_target_names_a_site() -> None:
    assert (
        response_of(SITE.receive_request("POST", "/wp-jsonhttp://a/mwai/v1/start_session", [], now=NOW)).status == 404
    )
    from_elsewhere = "/?from=http://b&rest_route=/mwai/v1/start_session"
    assert response_of(SITE.receive_request("POST", from_elsewhere, [], now=NOW)).status == 200


@pytest.mark.parametrize("target", ["/blog/a", "http://site.example/blog/a"])
def test_the_page_handler_gets_paths_below_the_root(target: str) -> None:
    assert show(target, root="/blog").body == f"/a /blog  {NONCE}".encode()
    assert show("/a", root="/blog").body == f"/a /blog  {NONCE}".encode()


@pytest.mark.parametrize("host", ["site.example", "site.example:8080", "127.0.0.1:8000", "[::1]:8000", "SITE.example"])
def test_the_page_handler_gets_the_origin_of_the_request(host: str) -> None:
    for site, scheme in ((SHOWING, "http"), (replace(SHOWING, https=True), "https")):
        assert show("/", ("Host", host), site=site).body == f"/  {scheme}://{host.lower()} {NONCE}".encode()


def test_the_page_handler_gets_nothing_else_of_the_request() -> None:
    for host in ("evil.example/", "'><script>", "a b", "", "user@evil.example", "evil.example:x", "\xe9.example"):
        assert show("/?evil", ("Host", host), ("X-Forwarded-Host", "evil.example")) == show("/")
    assert show("/", ("Host", "site.example"), ("Host", "evil.example")) == show("/")


@pytest.mark.parametrize(
    ("method", "target"), [("POST", "/"), ("GET", "/?rest_route=/"), ("GET", "/nowhere"), ("OPTIONS", "/")]
)
def test_a_path_without_a_page_is_404(method: str, target: str) -> None:
    assert show(target, method=method) == json_response(404, NO_ROUTE)
    assert show("/", site=SITE) == json_response(404, NO_ROUTE)


# ------------------------------------------------------------------------------ arbitrary requests


@given(st.text(), st.text(), st.lists(st.tuples(st.text(), st.text())), st.binary())
def test_a_site_answers_any_request(method: str, target: str, headers: list[tuple[str, str]], body: bytes) -> None:
    for fields in (headers, [*headers, JSON_TYPE, ("X-WP-Nonce", NONCE)]):
        for path, verb in ((target, method), (SUBMIT, "POST"), (START, "POST")):
            assert isinstance(OPEN.receive_request(verb, path, fields, body, now=NOW), Response)


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["role", "content"]), inner),
    max_leaves=4,
)
KEYS = ["botId", "customId", "newMessage", "messages", "session", "chatId", "newFileIds", "shortcutId", "stream"]


@given(st.dictionaries(st.sampled_from(KEYS), JSON_VALUES))
def test_a_site_answers_any_fields(values: dict[str, Any]) -> None:
    verdict = ask({"botId": "default", "newMessage": "hi", **values})
    if isinstance(verdict, Question):
        assert verdict.response(End("a")) is not None
    else:
        assert response_of(verdict).status in (200, 400, 403, 500)
