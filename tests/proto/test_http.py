"""Endpoints and requests as values."""

import re
from dataclasses import FrozenInstanceError, fields
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from opchat_proto import Endpoint, Request
from tests.proto.cuts import copies

# ------------------------------------------------------------------------------ Endpoint.parse

ACCEPTED = [
    # a site
    ("https://site.example", ("https", "site.example", 443, "/wp-json", "/")),
    ("https://site.example/", ("https", "site.example", 443, "/wp-json", "/")),
    ("https://site.example//", ("https", "site.example", 443, "/wp-json", "/")),
    ("http://site.example", ("http", "site.example", 80, "/wp-json", "/")),
    ("HTTPS://Site.EXAMPLE", ("https", "site.example", 443, "/wp-json", "/")),
    ("https://site.example:443", ("https", "site.example", 443, "/wp-json", "/")),
    ("https://site.example:80", ("https", "site.example", 80, "/wp-json", "/")),
    ("http://site.example:443/", ("http", "site.example", 443, "/wp-json", "/")),
    ("https://site.example:08443", ("https", "site.example", 8443, "/wp-json", "/")),
    ("https://site.example:1", ("https", "site.example", 1, "/wp-json", "/")),
    ("https://site.example:65535", ("https", "site.example", 65535, "/wp-json", "/")),
    ("https://site.example:", ("https", "site.example", 443, "/wp-json", "/")),
    ("https://site.example?", ("https", "site.example", 443, "/wp-json", "/")),
    ("https://site.example.", ("https", "site.example.", 443, "/wp-json", "/")),
    ("https://xn--bcher-kva.example", ("https", "xn--bcher-kva.example", 443, "/wp-json", "/")),
    ("https://my_site.example", ("https", "my_site.example", 443, "/wp-json", "/")),
    ("http://localhost", ("http", "localhost", 80, "/wp-json", "/")),
    ("http://h", ("http", "h", 80, "/wp-json", "/")),
    ("http://127.0.0.1", ("http", "127.0.0.1", 80, "/wp-json", "/")),
    # a site in a folder
    ("https://site.example/blog", ("https", "site.example", 443, "/blog/wp-json", "/blog/")),
    ("https://site.example/blogX", ("https", "site.example", 443, "/blogX/wp-json", "/blogX/")),
    ("https://site.example/blog/", ("https", "site.example", 443, "/blog/wp-json", "/blog/")),
    ("https://site.example/Blog/de", ("https", "site.example", 443, "/Blog/de/wp-json", "/Blog/de/")),
    ("https://site.example/wp-jsonx", ("https", "site.example", 443, "/wp-jsonx/wp-json", "/wp-jsonx/")),
    ("https://site.example/café", ("https", "site.example", 443, "/caf%C3%A9/wp-json", "/caf%C3%A9/")),
    ("https://site.example/caf%C3%A9", ("https", "site.example", 443, "/caf%C3%A9/wp-json", "/caf%C3%A9/")),
    ("https://a/\u2028/\x85", ("https", "a", 443, "/%E2%80%A8/%C2%85/wp-json", "/%E2%80%A8/%C2%85/")),
    ('https://site.example/"<>', ("https", "site.example", 443, "/%22%3C%3E/wp-json", "/%22%3C%3E/")),
    ("https://site.example/@a;b=(c)'*~", ("https", "site.example", 443, "/@a;b=(c)'*~/wp-json", "/@a;b=(c)'*~/")),
    ("https://site.example/http://x", ("https", "site.example", 443, "/http://x/wp-json", "/http://x/")),
    # a REST root
    ("https://site.example/wp-json", ("https", "site.example", 443, "/wp-json", "/")),
    ("https://site.example/wp-json/", ("https", "site.example", 443, "/wp-json", "/")),
    ("https://site.example/wp-json?", ("https", "site.example", 443, "/wp-json", "/")),
    ("https://site.example/blog/wp-json/", ("https", "site.example", 443, "/blog/wp-json", "/blog/")),
    ("https://site.example/index.php/wp-json", ("https", "site.example", 443, "/index.php/wp-json", "/")),
    ("https://a/blog/index.php/wp-json", ("https", "a", 443, "/blog/index.php/wp-json", "/blog/")),
    ("https://a/blog/index.php", ("https", "a", 443, "/blog/index.php/wp-json", "/blog/")),
    # a REST root of a site with plain permalinks
    ("https://site.example/index.php?rest_route=", ("https", "site.example", 443, "/index.php?rest_route=", "/")),
    ("https://site.example/index.php?rest_route=/", ("https", "site.example", 443, "/index.php?rest_route=", "/")),
    ("https://site.example/?rest_route=/", ("https", "site.example", 443, "/?rest_route=", "/")),
    ("https://site.example/?rest_route=%2f", ("https", "site.example", 443, "/?rest_route=", "/")),
    ("https://site.example?rest_route=", ("https", "site.example", 443, "/?rest_route=", "/")),
    ("https://site.example/blog?rest_route=/", ("https", "site.example", 443, "/blog/?rest_route=", "/blog/")),
    ("https://a/blog/index.php?rest_route=", ("https", "a", 443, "/blog/index.php?rest_route=", "/blog/")),
    ("https://site.example/?lang=de&rest_route=/", ("https", "site.example", 443, "/?lang=de&rest_route=", "/")),
    ("https://site.example/?q=ü?&rest_route=", ("https", "site.example", 443, "/?q=%C3%BC?&rest_route=", "/")),
    # an IPv6 address
    ("http://[::1]", ("http", "::1", 80, "/wp-json", "/")),
    ("https://[2001:DB8::A]:8443/blog", ("https", "2001:db8::a", 8443, "/blog/wp-json", "/blog/")),
    ("http://[::ffff:127.0.0.1]/", ("http", "::ffff:127.0.0.1", 80, "/wp-json", "/")),
    # a host with port
    ("127.0.0.1:8000", ("http", "127.0.0.1", 8000, "/wp-json", "/")),
    ("127.0.0.1:8000/", ("http", "127.0.0.1", 8000, "/wp-json", "/")),
    ("localhost:80", ("http", "localhost", 80, "/wp-json", "/")),
    ("Site.example:443", ("https", "site.example", 443, "/wp-json", "/")),
    ("[::1]:8000", ("http", "::1", 8000, "/wp-json", "/")),
    ("http:8000", ("http", "http", 8000, "/wp-json", "/")),
]  # fmt: skip


@pytest.mark.parametrize(("text", "expected"), ACCEPTED, ids=[ascii(text) for text, _ in ACCEPTED])
def test_a_site_a_root_or_a_host_is_parsed_as_an_endpoint(text: str, expected: tuple[str, str, int, str, str]) -> None:
    assert Endpoint.parse(text) == Endpoint(*expected)


REFUSED = [
    # no address
    *("", "/", "//", ":", "@", "?", "#"),
    *("site", "site.example", "localhost", "site.example/blog", "wp-json", "127.0.0.1"),
    *("https:", "https:/", "https://", "https:///"),
    *("https:///blog", "https://?rest_route=", "https://:443", "://site.example"),
    *("//site.example", "//site.example:80", "https:site.example", "https:/site.example", "https:://site.example"),
    # another scheme
    *("ftp://site.example", "ws://site.example", "file:///etc/passwd"),
    *("javascript://site.example", "mailto:a", "1://h"),
    *("httpss://site.example", "http+unix://site.example", "h\u0442tp://site.example"),
    # a user
    *("https://user@site.example", "https://user:pass@site.example", "https://@site.example", "https://:@site.example"),
    *("https:/user:pass@site.example", "https:user:pass@site.example", "/user:pass@site.example"),
    *("user:pass@127.0.0.1:8000", "https://good.example@evil.example", "https://good.example:443@evil.example/"),
    # a fragment
    *("https://site.example#", "https://site.example/#top", "127.0.0.1:8000#", "https://site.example?rest_route=#"),
    # blanks, control characters, backslashes, lone surrogates
    *(" https://site.example", "https://site.example ", "https://site.example/a b"),
    *("https://site .example", "h ttps://a"),
    *("https://site.example\r\nX: y", "https://site.example/\n", "\nhttps://site.example", "https://site.example/\t"),
    *("https://site.example/\x00", "https://site.example/\x7f", "ht\ntps://site.example"),
    *("https://si\tte.example", "\x1f"),
    *("https://site.example\\@evil.example", "https:\\\\site.example", "https://site.example/\\", "127.0.0.1:8000\\"),
    *("https://site.example/\ud800", "https://site.example/?q=\udfff&rest_route=", "\ud800", "https://\udc00.example"),
    # not a port
    *("https://site.example:0", "https://site.example:65536", "https://site.example:99999999999"),
    *("127.0.0.1:0", "h:00"),
    *("https://site.example:x", "https://site.example:-1", "https://site.example:+80", "https://site.example:8_0"),
    *("https://site.example:80:80", "https://site.example:\u0668\u0660", "127.0.0.1:"),
    *("127.0.0.1:8000/x", "127.0.0.1:8000/X", "h:" + "9" * 5000),
    # not a host
    *("https://-site.example", "https://site-", "https://."),
    *("https://.site.example", "https://s!te.example", "https://%41"),
    *("https://site,example", "https://a*b", "https://a\"b", "https://a<b"),
    *("https://a|b", "https://a^b", "https://a'b", "https://$"),
    *("https://bücher.example", "https://\u212aelvin.example"),
    *("https://site\u3002example", "https://s\u0131te.example"),
    *("https://site\uff0fexample", "https://site\u2100.example", "\u0663:8000"),
    *("https://site\xad.example", "https://\u200b"),
    # brackets
    *("https://[::1", "https://::1]", "https://[::1]x"),
    *("https://x[::1]", "https://[::1]evil.example:80", "https://[[::1]]"),
    *("https://[]", "https://[:::]", "https://[1::2::3]", "https://[::1%25eth0]", "https://[v1.a]", "https://[vF.a:b]"),
    *("https://[site.example]", "https://[::1].site.example", "https://::1", "::1:8000", "https://[::g]", "[::1]"),
    # a query without a root
    *("https://site.example/?a=b", "https://site.example/?rest_route=/wp/v2", "https://site.example/?rest_route=&a=b"),
    *("https://site.example/?rest_route", "https://site.example/?xrest_route=", "https://site.example/?rest_route=//"),
    *("https://site.example/wp-json?a", "127.0.0.1:8000?rest_route="),
    *("127.0.0.1:8000?a://b", "https://h/?rest_route=%0A"),
]  # fmt: skip


@pytest.mark.parametrize("text", REFUSED, ids=lambda text: ascii(text[:50]))
def test_anything_else_is_refused_with_what_was_expected(text: str) -> None:
    with pytest.raises(ValueError, match=r"expected") as caught:
        Endpoint.parse(text)
    assert type(caught.value) is ValueError
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


def test_a_password_is_not_shown() -> None:
    for text in (
        "https://user:hunter2@site.example",
        "user:hunter2@127.0.0.1:8000",
        "ftp://hunter2@a@b:x",
        "\n:hunter2@",
    ):
        with pytest.raises(ValueError, match=r"without a user name$") as caught:
            Endpoint.parse(text)
        assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("site.example", r"^'site\.example': no https:// in front; expected a site \(https://site\.example, "),
        ("127.0.0.1:8000/blog", r"^'127\.0\.0\.1:8000/blog': no https:// in front; expected a site "),
        ("127.0.0.1:99999", r"^'127\.0\.0\.1:99999': Port out of range 0-65535; expected a site "),
        ("https://a b", r"^'https://a b': expected .*, without blanks, control characters and backslashes$"),
        (
            "https://bücher.example",
            r"^'https://bücher\.example': expected the host name in its ASCII form \(xn--\.\.\.\)$",
        ),
        ("https://a/?b", r"^'https://a/\?b': expected a site "),
        (
            "https://a/b/wp-json/mwai-ui/v1/chats/submit/",
            r"^'https:.*': expected the REST root alone, /b/wp-json, without the route /mwai-ui/v1/chats/submit$",
        ),
    ],
)
def test_a_refusal_quotes_the_input(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Endpoint.parse(text)


@pytest.mark.parametrize(
    ("value", "kind"),
    [(None, "NoneType"), (b"https://site.example", "bytes"), (8000, "int"), (["https://site.example"], "list")],
)
def test_only_a_str_is_parsed(value: Any, kind: str) -> None:
    with pytest.raises(TypeError, match=f"^expected a str, got {kind}$"):
        Endpoint.parse(value)


PIECES = [
    "https://",
    "http://",
    "site.example",
    "[::1]",
    ":80",
    "/",
    "wp-json",
    "index.php",
    "?rest_route=",
    "@",
    "#",
    "é",
    "%0a",
]


@given(st.text() | st.lists(st.sampled_from(PIECES) | st.characters(), max_size=8).map("".join))
@example("https://site.example/\ud800")
def test_any_text_is_an_endpoint_or_a_value_error(text: str) -> None:
    try:
        endpoint = Endpoint.parse(text)
    except ValueError as error:
        said = str(error)
    else:
        said = "expected"
        assert re.fullmatch(r"https?://[0-9a-z_.\[\]:-]+", endpoint.origin)
        assert re.fullmatch(r"/[!-~]*", endpoint.target("/x"))
        assert endpoint.target("/x").endswith(("wp-json/x", "rest_route=/x"))
        assert Endpoint.parse(endpoint.origin + endpoint.root) == endpoint
    assert "expected" in said


# ------------------------------------------------------------------------------ Endpoint


@pytest.mark.parametrize(
    ("text", "origin", "authority"),
    [
        ("https://site.example", "https://site.example", "site.example"),
        ("http://site.example:80/blog", "http://site.example", "site.example"),
        ("https://site.example:80", "https://site.example:80", "site.example:80"),
        ("http://site.example:443", "http://site.example:443", "site.example:443"),
        ("127.0.0.1:8000", "http://127.0.0.1:8000", "127.0.0.1:8000"),
        ("https://[::1]", "https://[::1]", "[::1]"),
        ("[2001:DB8::1]:8000", "http://[2001:db8::1]:8000", "[2001:db8::1]:8000"),
    ],
)
def test_a_port_other_than_the_default_is_named(text: str, origin: str, authority: str) -> None:
    endpoint = Endpoint.parse(text)
    assert (endpoint.origin, endpoint.authority) == (origin, authority)


@pytest.mark.parametrize(
    ("text", "target"),
    [
        ("https://site.example", "/wp-json/mwai/v1/start_session"),
        ("https://site.example/blog/wp-json", "/blog/wp-json/mwai/v1/start_session"),
        ("https://site.example/blog/index.php?rest_route=", "/blog/index.php?rest_route=/mwai/v1/start_session"),
        ("https://site.example/?rest_route=/", "/?rest_route=/mwai/v1/start_session"),
    ],
)
def test_a_route_is_appended_to_the_root(text: str, target: str) -> None:
    assert Endpoint.parse(text).target("/mwai/v1/start_session") == target


def test_a_renamed_root_is_given_to_the_constructor() -> None:
    endpoint = Endpoint("https", "site.example", 443, "/api", "/blog/")
    assert (endpoint.target("/a"), endpoint.site) == ("/api/a", "/blog/")
    assert Endpoint("https", "site.example", 443, "/api").site == "/"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *(("scheme", value) for value in ("ftp", "HTTPS", "", None, "https:")),
        *(("host", value) for value in ("", "Site", "a b", "a\n", "a/b", "a@b", "[::1]", "bücher", "-a", "a-")),
        ("host", "a:80x"),
        *(("port", value) for value in (0, -1, 65536, "80", 80.0, True, None)),
        *(("root", value) for value in ("", "wp-json", "/a b", "/a\n", "/\r\nX: y", "/é", "/a#b", "/\x7f", "https://a/b")),
        *(("site", value) for value in ("", "blog/", "/ ", "/\n", "/#")),
    ],
    ids=ascii,
)  # fmt: skip
def test_a_part_with_forbidden_characters_is_refused_by_name(field: str, value: Any) -> None:
    parts = {"scheme": "https", "host": "site.example", "port": 443, "root": "/wp-json", "site": "/", field: value}
    with pytest.raises(ValueError, match=rf"^Endpoint\.{field}: expected .*, got ") as caught:
        Endpoint(**parts)
    assert str(caught.value).endswith(f"got {value!r}")


def test_the_length_of_a_host_is_bounded() -> None:
    assert Endpoint.parse(f"http://{254 * 'a'}").host == 254 * "a"
    with pytest.raises(ValueError, match=r"^Endpoint\.host: expected at most 254 characters, got 255$"):
        Endpoint.parse(f"http://{255 * 'a'}")


def test_a_route_or_url_that_is_not_text_is_a_type_error() -> None:
    for value, kind in ((None, "NoneType"), (5, "int"), (b"/a", "bytes")):
        with pytest.raises(TypeError, match=f"^route: expected a str, got {kind}$"):
            Endpoint.parse("https://site.example").target(value)  # type: ignore[arg-type]  # wrong on purpose
        with pytest.raises(TypeError, match=rf"^Request\.url: expected a str, got {kind}$"):
            Request("POST", value, ())  # type: ignore[arg-type]  # wrong on purpose


@pytest.mark.parametrize("field", ["host", "root", "site"])
def test_a_part_that_is_not_text_is_a_type_error(field: str) -> None:
    parts: dict[str, Any] = {"scheme": "https", "host": "a", "port": 443, "root": "/", "site": "/", field: 5}
    with pytest.raises(TypeError):
        Endpoint(**parts)


# ------------------------------------------------------------------------------ values

VALUES: list[Endpoint | Request] = [
    Endpoint.parse("https://site.example/blog"),
    Request("POST", "https://site.example/wp-json/a", (("Host", "site.example"),), b"{}"),
]


@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
def test_endpoints_and_requests_are_frozen_slotted_hashable_values(value: Endpoint | Request) -> None:
    assert list(copies(value)) == [value] * 6
    assert {hash(twin) for twin in copies(value)} == {hash(value)}
    assert not hasattr(value, "__dict__")
    for field in fields(value):
        with pytest.raises(FrozenInstanceError):
            setattr(value, field.name, "x")


def test_endpoints_and_requests_can_be_matched() -> None:
    match VALUES:
        case [Endpoint("https", host, port, root, site), Request("POST", url, headers, body)]:
            assert (host, port, root, site) == ("site.example", 443, "/blog/wp-json", "/blog/")
            assert (url, headers, body) == ("https://site.example/wp-json/a", (("Host", "site.example"),), b"{}")
        case _:
            pytest.fail("no match")


def test_a_request_shows_neither_its_headers_nor_its_body() -> None:
    request = Request("POST", "https://site.example/a", (("X-WP-Nonce", "SECRET"),), b"SECRET")
    assert repr(request) == "Request(method='POST', url='https://site.example/a')"
    assert Request("GET", "https://site.example/", ()).body == b""


@pytest.mark.parametrize(
    ("url", "target"),
    [
        ("https://site.example/", "/"),
        ("https://site.example/wp-json/a/b", "/wp-json/a/b"),
        ("http://[::1]:8000/index.php?rest_route=/a/b", "/index.php?rest_route=/a/b"),
        ("http://site.example//a", "//a"),
        ("http://site.example/a?b=http://c/d", "/a?b=http://c/d"),
        ("http://site.example", "/"),
    ],
)
def test_the_target_of_a_request_is_the_url_after_the_authority(url: str, target: str) -> None:
    assert Request("POST", url, ()).target == target


@pytest.mark.parametrize("text", [text for text, _ in ACCEPTED], ids=ascii)
def test_a_request_to_an_endpoint_has_the_endpoints_target(text: str) -> None:
    endpoint = Endpoint.parse(text)
    assert Request("POST", endpoint.origin + endpoint.target("/a/b"), ()).target == endpoint.target("/a/b")


@pytest.mark.parametrize(
    ("root", "route", "target"),
    [
        ("/wp-json", "/a/b?c=d", "/wp-json/a/b?c=d"),
        ("/wp-json/", "/a/b", "/wp-json/a/b"),
        ("/", "/a/b", "/a/b"),
        ("/?rest_route=", "/a/b", "/?rest_route=/a/b"),
        ("/?rest_route=/", "/a/b", "/?rest_route=/a/b"),
        ("/index.php?rest_route=", "/a/b?c=d&e=?", "/index.php?rest_route=/a/b&c=d&e=?"),
    ],
)
def test_a_route_and_its_parameters_follow_the_root(root: str, route: str, target: str) -> None:
    assert Endpoint("https", "site.example", 443, root).target(route) == target
