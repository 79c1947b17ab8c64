"""Pages of other origins, refused heads, and the names of a site."""

from typing import Any

import pytest

from opchat_proto import Limits, Live, Question, Response, Site
from tests.proto.sites import (
    JSON_TYPE,
    NO_ROUTE,
    NONCE,
    NOW,
    OPEN,
    QUESTION,
    SECRET,
    SESSION_ID,
    SHOP,
    SITE,
    START,
    SUBMIT,
    ask,
    asked,
    begun,
    json_response,
    start,
)

# ------------------------------------------------------------------------------ pages of other origins

READABLE = (
    ("Vary", "Origin"),
    ("Access-Control-Allow-Origin", SHOP),
    ("Access-Control-Allow-Credentials", "true"),
    ("Access-Control-Expose-Headers", "X-WP-Nonce"),
)


@pytest.mark.parametrize(
    "origin",
    [
        *("*", "null", "", "shop.example", "https://", "https://shop.example/", "https://a.example, https://b.example"),
        *("https://Shop.example", "https://shop.example:", "https://a@shop.example", f"{SHOP}\r\nX: y", f"{SHOP}\n"),
    ],
)
def test_an_origin_must_have_the_form_that_browsers_send(origin: str) -> None:
    with pytest.raises(ValueError, match=r"Site\.origins: expected e\.g\. https://shop\.example"):
        Site(SECRET, origins=(origin,))


def test_a_page_of_an_allowed_origin_may_read_every_response() -> None:
    header = ("Origin", SHOP)
    plain = start(JSON_TYPE)
    assert isinstance(plain, Response)
    assert start(JSON_TYPE, header, site=OPEN) == Response(200, plain.headers + READABLE, plain.body)
    question = asked(QUESTION, header, site=OPEN)
    assert question == Question(question.submit, SESSION_ID, None, (*asked(QUESTION).headers, *READABLE))
    assert begun(question, Live("a")).headers[-4:] == READABLE
    for answer in (
        ask(QUESTION, header, site=OPEN, nonce=None),
        ask(QUESTION, header, site=OPEN, nonce="bad"),
        ask(b"{", header, site=OPEN),
        OPEN.receive_request("GET", "/elsewhere", [header], now=NOW),
        Site(SECRET, origins=(SHOP,), limits=Limits(request_bytes=1)).receive_request(
            "POST", START, [header], b"ab", now=NOW
        ),
        OPEN.refuse(408, [header]),
        OPEN.refuse(413, [header]),
        OPEN.refuse(431, [header]),
    ):
        assert isinstance(answer, Response)
        assert answer.headers[-4:] == READABLE


@pytest.mark.parametrize("origin", ["https://other.example", "http://shop.example", "null", f"{SHOP}, {SHOP}", None])
def test_a_page_of_any_other_origin_may_not(origin: str | None) -> None:
    headers = [JSON_TYPE] if origin is None else [JSON_TYPE, ("Origin", origin)]
    plain = start(JSON_TYPE)
    assert isinstance(plain, Response)
    assert start(*headers, site=OPEN) == Response(200, (*plain.headers, ("Vary", "Origin")), plain.body)
    assert start(*headers) == plain
    preflight = [*headers, ("Access-Control-Request-Method", "POST")]
    refusal = json_response(404, NO_ROUTE, ("Vary", "Origin"))
    assert OPEN.receive_request("OPTIONS", SUBMIT, preflight, now=NOW) == refusal


def test_a_preflight_is_answered() -> None:
    headers = [
        ("Origin", SHOP),
        ("Access-Control-Request-Method", "POST"),
        ("Access-Control-Request-Headers", "content-type,x-wp-nonce"),
    ]
    assert OPEN.receive_request("OPTIONS", SUBMIT, headers, now=NOW) == Response(
        204,
        (
            ("Access-Control-Allow-Methods", "POST"),
            ("Access-Control-Allow-Headers", "Content-Type, X-WP-Nonce"),
            ("Access-Control-Max-Age", "600"),
            *READABLE,
        ),
    )
    assert OPEN.receive_request("OPTIONS", SUBMIT, headers[:1], now=NOW) == json_response(404, NO_ROUTE, *READABLE)


# ------------------------------------------------------------------------------ requests that are not read to their end


def test_a_request_that_takes_too_long_or_is_too_large_is_refused() -> None:
    slow = b'{"code":"request_timeout","message":"The request took too long.","data":{"status":408}}'
    assert SITE.refuse(408) == json_response(408, slow)
    site = Site(SECRET, limits=Limits(request_bytes=1))
    assert site.refuse(413) == site.receive_request("POST", START, [], b"ab", now=NOW)
    crowded = (
        b'{"code":"service_unavailable","message":"Too many requests are being sent at once.","data":{"status":503}}'
    )
    unreadable = b'{"code":"bad_request","message":"The request cannot be read.","data":{"status":400}}'
    assert SITE.refuse(400) == json_response(400, unreadable)
    assert SITE.refuse(503) == json_response(503, crowded)
    large = (
        b'{"code":"request_header_fields_too_large","message":"The head is larger than 9 bytes.","data":{"status":431}}'
    )
    assert Site(SECRET, limits=Limits(head_bytes=9)).refuse(431) == json_response(431, large)
    coded = b'{"code":"not_implemented","message":"The transfer coding is unknown.","data":{"status":501}}'
    assert SITE.refuse(501) == json_response(501, coded)
    with pytest.raises(ValueError, match="status: expected one of 400, 408, 413, 431, 501, 503, got 500"):
        SITE.refuse(500)


def refusal(status: int, code: str, message: str) -> Response:
    return json_response(
        status, b'{"code":"%s","message":"%s","data":{"status":%d}}' % (code.encode(), message.encode(), status)
    )


LENGTH = ("Content-Length", "3")
BOTH = refusal(400, "bad_request", "Content-Length and Transfer-Encoding are both present.")
LENGTHS = refusal(400, "bad_request", "The Content-Length cannot be read.")
LARGE = refusal(413, "content_too_large", "The body is larger than 5 bytes.")
VERSION = refusal(505, "http_version_not_supported", "Only HTTP 1.1 is supported.")
FOLDED = refusal(400, "bad_request", "A header field is folded.")
MANY = refusal(431, "request_header_fields_too_large", "There are more than 4 header fields.")


@pytest.mark.parametrize(
    ("headers", "version", "raw", "expected"),
    [
        ([], "1.1", b"", None),
        ([LENGTH], "1.0", b"GET / HTTP/1.0\r\nContent-Length: 3\r\n\r\n", None),
        ([("Transfer-Encoding", "chunked")], "1.1", b"", None),
        ([LENGTH], "2", b"", None),
        ([LENGTH], "3", b"", None),
        ([LENGTH], "1", b"", None),
        ([LENGTH, ("transfer-encoding", "chunked")], "1.1", b"", BOTH),
        ([(b"Transfer-Encoding", b"identity"), (b"content-length", b"0")], "1.0", b"", BOTH),
        ([LENGTH, LENGTH], "1.1", b"", LENGTHS),
        ([LENGTH, ("content-length", "4")], "1.1", b"", LENGTHS),
        ([("Content-Length", "-1")], "1.1", b"", LENGTHS),
        ([("Content-Length", "+1")], "1.1", b"", LENGTHS),
        ([("Content-Length", "")], "1.1", b"", LENGTHS),
        ([("Content-Length", "\u0661")], "1.1", b"", LENGTHS),
        ([("Content-Length", "5")], "1.1", b"", None),
        ([("Content-Length", "6")], "1.1", b"", LARGE),
        ([("Content-Length", "9" * 5000)], "1.1", b"", LARGE),
        ([], "2.0", b"", VERSION),
        ([], "0.9", b"", VERSION),
        ([], "9.9", b"", VERSION),
        ([], "", b"", VERSION),
        ([("A", "b c")], "1.1", b"GET / HTTP/1.1\r\nA: b\r\n c\r\n\r\n", FOLDED),
        ([("A", "b c")], "1.1", b"GET / HTTP/1.1\nA: b\n\tc\n\n", FOLDED),
        ([("A", "b")] * 4, "1.1", b"", None),
        ([("A", "b")] * 5, "1.1", b"", MANY),
        ([], "1.1", b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 5 + b"\r\n", MANY),
        ([], "1.1", b"x" * 100, None),
        ([], "1.1", b"x" * 101, refusal(431, "request_header_fields_too_large", "The head is larger than 100 bytes.")),
    ],
)
def test_a_head_that_servers_may_read_differently_is_refused(
    headers: Any, version: str, raw: bytes, expected: Response | None
) -> None:
    site = Site(SECRET, limits=Limits(head_bytes=100, headers=4, request_bytes=5))
    assert site.check_head(headers, version=version, raw=raw) == expected


def test_a_page_of_an_allowed_origin_may_read_why_a_head_was_refused() -> None:
    response = OPEN.check_head([("Origin", SHOP), LENGTH, ("Transfer-Encoding", "chunked")])
    assert response == Response(400, (*BOTH.headers, *READABLE), BOTH.body)
    assert OPEN.check_head([("Origin", SHOP), LENGTH]) is None


# ------------------------------------------------------------------------------ names of the site

NAMED = Site(
    SECRET, hosts=("localhost", "site.example", "127.0.0.1", "[::1]"), page=lambda path, **_: Response(200, ())
)
MISDIRECTED = refusal(421, "misdirected_request", "This site is not known by that name.")


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "LOCALHOST:8000",
        "site.example",
        "site.example.",
        "site.example.:80",
        "127.0.0.1:1",
        "[::1]:8000",
        "localhost:",
    ],
)
@pytest.mark.parametrize("target", ["/", "http://localhost/", "http://Site.example:80/?a"])
def test_a_site_answers_to_its_names(target: str, host: str) -> None:
    assert NAMED.receive_request("GET", target, [("Host", host)], now=NOW) == Response(200, ())


@pytest.mark.parametrize(
    "host",
    [
        *("evil.example", "localhost.evil.example", "xlocalhost", "127.0.0.2", "::1", "[::2]", "", ".", "localhost.."),
        *(
            "localhost:80:80",
            "localhost:a",
            "evil@localhost",
            "localhost@evil.example",
            "localhost, localhost",
            " localhost",
            "localhost/",
            "*",
        ),
    ],
)
def test_a_request_to_a_rebound_host_name_reaches_nothing(host: str) -> None:
    for method, target in (("GET", "/"), ("POST", START), ("OPTIONS", SUBMIT), ("GET", "/elsewhere")):
        headers = [("Host", host), ("X-WP-Nonce", NONCE), JSON_TYPE]
        assert NAMED.receive_request(method, target, headers, QUESTION, now=NOW) == MISDIRECTED


def test_a_site_with_names_needs_a_host() -> None:
    assert NAMED.receive_request("GET", "/", [], now=NOW) == MISDIRECTED
    twice = [("Host", "localhost"), ("Host", "localhost")]
    assert NAMED.receive_request("GET", "/", twice, now=NOW) == MISDIRECTED
    assert NAMED.receive_request("GET", "http://localhost/", [], now=NOW) == Response(200, ())
    for target, host in (("http://evil.example/", "localhost"), ("http://localhost/", "evil.example")):
        assert NAMED.receive_request("GET", target, [("Host", host)], now=NOW) == MISDIRECTED


@pytest.mark.parametrize(
    "host", ["", "*", "Site.example", "site.example:80", "site.example.", "::1", "a b", "a/b", "\xe9"]
)
def test_a_name_must_have_the_form_of_the_host_field(host: str) -> None:
    with pytest.raises(ValueError, match=r"Site\.hosts: expected e\.g\. site\.example"):
        Site(SECRET, hosts=(host,))
