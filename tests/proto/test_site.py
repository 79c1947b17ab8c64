"""A site as a value, its nonces and sessions, and its routes."""

import hashlib
import hmac
import json
from collections.abc import Callable
from dataclasses import FrozenInstanceError
from typing import Any

import pytest

from opchat_proto import Limits, Question, Response, Site
from tests.proto.cuts import copies
from tests.proto.sites import (
    INVALID_NONCE,
    JSON_TYPE,
    NO_ROUTE,
    NONCE,
    NOW,
    OLD_NONCE,
    QUESTION,
    SECRET,
    SESSION_ID,
    SET_COOKIE,
    SITE,
    START,
    TICK,
    ask,
    asked,
    json_response,
    start,
    wrong,
)

# ------------------------------------------------------------------------------ nonces


def test_a_nonce_is_a_keyed_hash_of_the_tick() -> None:
    tick = int(NOW // TICK)
    digest = hmac.new(SECRET, f"{tick}wp_rest".encode(), hashlib.sha256).hexdigest()
    assert SITE.nonce(NOW) == digest[:10]
    assert SITE.nonce(tick * TICK) == SITE.nonce((tick + 1) * TICK - 1) != SITE.nonce((tick + 1) * TICK)
    assert Site(b"another").nonce(NOW) != SITE.nonce(NOW)


def test_a_nonce_is_valid_in_its_tick_and_the_next() -> None:
    start = int(NOW // TICK) * TICK
    nonce = SITE.nonce(start)
    verdicts = [
        ask(QUESTION, nonce=nonce, now=now) for now in (start - 1, start, start + 2 * TICK - 1, start + 2 * TICK)
    ]
    assert [type(verdict) for verdict in verdicts] == [Response, Question, Question, Response]
    assert verdicts[0] == verdicts[3] == json_response(403, INVALID_NONCE)


def test_a_nonce_in_its_second_tick_is_replaced() -> None:
    assert asked(QUESTION, nonce=NONCE).new_token is None
    question = asked(QUESTION, nonce=OLD_NONCE)
    assert question.new_token == NONCE
    assert question.headers == (("X-WP-Nonce", NONCE), SET_COOKIE)


@pytest.mark.parametrize("now", [-1, 2**32, float("nan"), float("inf"), -0.001])
def test_a_time_outside_unix_time_is_a_value_error(now: float) -> None:
    with pytest.raises(ValueError, match="now: expected Unix seconds from 0"):
        SITE.nonce(now)
    with pytest.raises(ValueError, match="now: expected Unix seconds from 0"):
        SITE.receive_request("POST", START, [], now=now)


def test_the_first_and_the_last_second_are_valid_times() -> None:
    assert [len(SITE.nonce(now)) for now in (0, 2**32 - 1)] == [10, 10]


# ------------------------------------------------------------------------------ the site as a value


def test_a_site_is_a_frozen_value_that_hides_its_secret() -> None:
    assert list(copies(SITE)) == [SITE] * 6
    assert repr(SITE) == f"Site(limits={Limits()!r}, https=False, origins=(), hosts=(), upload_types=())"
    assert SITE == Site(SECRET, limits=Limits(), https=False) != Site(SECRET, https=True)
    with pytest.raises(FrozenInstanceError):
        wrong(SITE).secret = b""


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: Site(wrong("text")), "Site.secret: expected bytes, got str"),
        (lambda: Site(b"a", limits=wrong(5)), "Site.limits: expected Limits, got int"),
        (lambda: Site(b"a", https=wrong(1)), "Site.https: expected a bool, got int"),
        (lambda: Site(b"a", origins=wrong("https://shop.example")), "Site.origins: expected a tuple of str"),
        (lambda: Site(b"a", origins=(wrong(b"a"),)), "Site.origins: expected a tuple of str"),
        (lambda: Site(b"a", hosts=wrong("localhost")), "Site.hosts: expected a tuple of str"),
        (lambda: Site(b"a", hosts=(wrong(b"a"),)), "Site.hosts: expected a tuple of str"),
        (lambda: Site(b"a", page=wrong("/")), "Site.page: expected a callable or None, got str"),
        (lambda: SITE.receive_request("GET", "/", [], now=NOW, root=wrong(None)), "expected method, target and root"),
        (lambda: SITE.nonce(wrong("now")), "now: expected Unix seconds, got str"),
        (lambda: SITE.receive_request(wrong(b"POST"), START, [], now=NOW), "expected method, target and root as str"),
        (lambda: SITE.receive_request("POST", wrong(b"/"), [], now=NOW), "expected method, target and root as str"),
        (
            lambda: SITE.receive_request("POST", START, [wrong(("a", 1))], now=NOW),
            "headers: expected pairs of str or bytes",
        ),
        (lambda: SITE.receive_request("POST", START, [], wrong("body"), now=NOW), "memoryview: a bytes-like object is"),
    ],
)
def test_a_wrong_type_is_a_type_error(make: Callable[[], object], text: str) -> None:
    with pytest.raises(TypeError, match=f"^{text}"):
        make()


def test_an_empty_secret_is_a_value_error() -> None:
    with pytest.raises(ValueError, match=r"^Site\.secret: expected at least one byte, better 32 random ones$"):
        Site(b"")


# ------------------------------------------------------------------------------ start_session


def test_v1_start_session_gives_a_session_a_nonce_and_a_cookie() -> None:
    body = b'{"success":true,"sessionId":"6b02fc304cdb0","restNonce":"%s"}' % NONCE.encode()
    assert start(JSON_TYPE) == json_response(200, body, SET_COOKIE)
    assert (
        start() == start(JSON_TYPE, body=b"{}") == start(("Content-Type", "text/plain"), body=b"{") == start(JSON_TYPE)
    )


def test_over_https_the_cookie_is_secure() -> None:
    response = start(site=Site(SECRET, https=True))
    assert isinstance(response, Response)
    assert response.headers[-1] == ("Set-Cookie", "mwai_session_id=6b02fc304cdb0; path=/; secure; HttpOnly")


def test_a_session_id_contains_seconds_and_microseconds() -> None:
    for now, session_id in ((0, "0000000000000"), (1.5, "000000017a120"), (2**32 - 0.25, "ffffffffb71b0")):
        response = SITE.receive_request("POST", START, [], now=now)
        assert isinstance(response, Response)
        assert json.loads(response.body)["sessionId"] == session_id


@pytest.mark.parametrize(
    ("headers", "session_id"),
    [
        ([("Cookie", "mwai_session_id=abc")], "abc"),
        ([("Cookie", "a=b; mwai_session_id=abc; c=d")], "abc"),
        ([("Cookie", "a=b"), ("cookie", "mwai_session_id=abc")], "abc"),
        ([("Cookie", "mwai_session_id=abc; mwai_session_id=other")], "abc"),
        ([(b"Cookie", b"mwai_session_id=abc")], "abc"),
        ([("Cookie", "xmwai_session_id=abc")], None),
        ([("Cookie", "mwai_session_id=")], None),
        ([("Cookie", "mwai_session_id=a b")], None),
        ([("Cookie", f"mwai_session_id={'a' * 257}")], None),
        ([("Cookie", "mwai_session_id=\xe9")], None),
    ],
)
def test_an_existing_session_is_kept_and_no_cookie_is_set(headers: Any, session_id: str | None) -> None:
    body = b'{"success":true,"sessionId":"%s","restNonce":"%s"}'
    if session_id is None:
        assert start(*headers) == json_response(200, body % (SESSION_ID.encode(), NONCE.encode()), SET_COOKIE)
    else:
        assert start(*headers) == json_response(200, body % (session_id.encode(), NONCE.encode()))


def test_start_session_with_a_nonce_answers_with_a_fresh_one() -> None:
    body = b'{"success":true,"sessionId":"6b02fc304cdb0","restNonce":"%s"' % NONCE.encode()
    header = ("X-WP-Nonce", NONCE)
    assert start(("X-WP-Nonce", NONCE)) == json_response(200, body + b"}", header, SET_COOKIE)
    body += b',"new_token":"%s"}' % NONCE.encode()
    assert start(("x-wp-nonce", OLD_NONCE)) == json_response(200, body, header, SET_COOKIE)


@pytest.mark.parametrize("nonce", ["", "0123456789", NONCE.upper(), f"{NONCE}, {NONCE}", "\xe9", "\ud800", NONCE + "0"])
def test_v11_a_bad_nonce_is_refused_on_every_route(nonce: str) -> None:
    refusal = json_response(403, INVALID_NONCE)
    assert start(("X-WP-Nonce", nonce)) == refusal
    assert ask(QUESTION, nonce=nonce) == refusal
    assert SITE.receive_request("GET", "/elsewhere", [("X-WP-Nonce", nonce)], now=NOW) == refusal


def test_two_nonces_count_as_no_nonce() -> None:
    assert start(("X-WP-Nonce", NONCE), ("X-WP-Nonce", NONCE)) == json_response(403, INVALID_NONCE)


# ------------------------------------------------------------------------------ routes


@pytest.mark.parametrize(
    "target",
    [
        "/wp-json/mwai/v1/start_session",
        "/wp-json/mwai/v1/start_session/",
        "/wp-json/mwai/v1/start_session?_locale=user",
        "/blog/fr/wp-json/mwai/v1/start_session",
        "/index.php/wp-json/mwai/v1/start_session",
        "/wp-json/wp-json/mwai/v1/start_session",
        "/wp-json/mwai/v1/start%5Fsession",
        "/?rest_route=/mwai/v1/start_session",
        "/?rest_route=/mwai/v1/start_session/",
        "/?rest_route=%2Fmwai%2Fv1%2Fstart_session",
        "/index.php?rest_route=/mwai/v1/start_session",
        "/blog/index.php?lang=fr&rest_route=/mwai/v1/start_session",
        "/?rest_route=/other&rest_route=/mwai/v1/start_session",
        "http://site.example/wp-json/mwai/v1/start_session",
        "HTTPS://site.example:8443/?rest_route=/mwai/v1/start_session",
    ],
)
def test_every_form_of_the_rest_root_is_accepted(target: str) -> None:
    assert SITE.receive_request("POST", target, [], now=NOW) == start()


@pytest.mark.parametrize(
    ("method", "target"),
    [
        ("GET", START),
        ("OPTIONS", START),
        ("post", START),
        ("POST", "/mwai/v1/start_session"),
        ("POST", "/xwp-json/mwai/v1/start_session"),
        ("POST", "/wp-jsonx/mwai/v1/start_session"),
        ("POST", "/wp-json"),
        ("POST", "/wp-json/mwai/v1/start_session/x"),
        ("POST", "/wp-json/mwai/v1/start_sessionX"),
        ("POST", "/wp-json/mwai/v1/start_session?rest_route=/other"),
        ("POST", "/wp-json/mwai-ui/v1/start_session"),
        ("POST", "/?rest_route="),
        ("POST", ""),
        ("POST", "*"),
        ("OPTIONS", "*"),
        ("CONNECT", "site.example:443"),
        ("POST", "/%zz%ff?%zz&&=&rest_route[]=/mwai/v1/start_session"),
    ],
)
def test_any_other_method_or_route_is_404(method: str, target: str) -> None:
    assert SITE.receive_request(method, target, [], b"{", now=NOW) == json_response(404, NO_ROUTE)
    fresh = json_response(404, NO_ROUTE, ("X-WP-Nonce", NONCE))
    assert SITE.receive_request(method, target, [("X-WP-Nonce", OLD_NONCE)], now=NOW) == fresh
