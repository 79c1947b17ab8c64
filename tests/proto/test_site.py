"""What a site answers, as values: nonces, sessions, questions and refusals."""

import hashlib
import hmac
import json
from collections.abc import Callable
from dataclasses import FrozenInstanceError, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opchat_proto import (
    Answer,
    End,
    Limits,
    Live,
    Message,
    Question,
    Response,
    Site,
    Submit,
)
from tests.proto.cuts import copies
from tests.proto.sites import (
    FORBIDDEN,
    INVALID_JSON,
    INVALID_NONCE,
    JSON_TYPE,
    NO_ROUTE,
    NONCE,
    NOW,
    OLD_NONCE,
    QUESTION,
    REJECTED,
    SECRET,
    SESSION_ID,
    SET_COOKIE,
    SITE,
    START,
    SUBMIT,
    TICK,
    ask,
    asked,
    begun,
    json_response,
    response_of,
    start,
    wrong,
)

# ---------------------------------------------------------------- nonces


def test_a_nonce_is_a_keyed_hash_of_the_tick() -> None:
    tick = int(NOW // TICK)
    digest = hmac.new(SECRET, f"{tick}wp_rest".encode(), hashlib.sha256).hexdigest()
    assert SITE.nonce(NOW) == digest[:10]
    assert SITE.nonce(tick * TICK) == SITE.nonce((tick + 1) * TICK - 1) != SITE.nonce((tick + 1) * TICK)
    assert Site(b"another").nonce(NOW) != SITE.nonce(NOW)


def test_a_nonce_is_good_in_its_tick_and_the_next() -> None:
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
def test_a_time_outside_of_unix_time_is_a_value_error(now: float) -> None:
    with pytest.raises(ValueError, match="now: expected Unix seconds from 0"):
        SITE.nonce(now)
    with pytest.raises(ValueError, match="now: expected Unix seconds from 0"):
        SITE.receive_request("POST", START, [], now=now)


def test_the_first_and_the_last_second_are_times() -> None:
    assert [len(SITE.nonce(now)) for now in (0, 2**32 - 1)] == [10, 10]


# ---------------------------------------------------------------- the site as a value


def test_a_site_is_a_frozen_value_that_hides_its_secret() -> None:
    assert list(copies(SITE)) == [SITE] * 6
    assert repr(SITE) == f"Site(limits={Limits()!r}, https=False, origins=(), hosts=())"
    assert SITE == Site(SECRET, limits=Limits(), https=False) != Site(SECRET, https=True)
    with pytest.raises(FrozenInstanceError):
        wrong(SITE).secret = b""


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: Site(wrong("text")), "Site.secret: expected bytes, got str"),
        (lambda: Site(b"a", limits=wrong(None)), "Site.limits: expected Limits, got NoneType"),
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
        (lambda: SITE.receive_request("POST", START, [], wrong("body"), now=NOW), "bytes-like object is required"),
    ],
)
def test_a_wrong_type_is_a_type_error(make: Callable[[], object], text: str) -> None:
    with pytest.raises(TypeError, match=text):
        make()


def test_an_empty_secret_is_a_value_error() -> None:
    with pytest.raises(ValueError, match=r"Site\.secret: expected at least one byte"):
        Site(b"")


# ---------------------------------------------------------------- start_session


def test_v1_start_session_gives_a_session_a_nonce_and_a_cookie() -> None:
    body = b'{"success":true,"sessionId":"6b02fc304cdb0","restNonce":"%s"}' % NONCE.encode()
    assert start(JSON_TYPE) == json_response(200, body, SET_COOKIE)
    assert (
        start() == start(JSON_TYPE, body=b"{}") == start(("Content-Type", "text/plain"), body=b"{") == start(JSON_TYPE)
    )


def test_the_cookie_is_marked_where_clients_come_by_https() -> None:
    response = start(site=Site(SECRET, https=True))
    assert isinstance(response, Response)
    assert response.headers[-1] == ("Set-Cookie", "mwai_session_id=6b02fc304cdb0; path=/; secure; HttpOnly")


def test_a_session_id_has_the_seconds_and_the_microseconds() -> None:
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
def test_a_session_that_the_client_has_is_kept_and_no_cookie_is_set(headers: Any, session_id: str | None) -> None:
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


def test_two_nonces_are_no_nonce() -> None:
    assert start(("X-WP-Nonce", NONCE), ("X-WP-Nonce", NONCE)) == json_response(403, INVALID_NONCE)


# ---------------------------------------------------------------- routes


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
def test_every_form_of_the_rest_root_is_understood(target: str) -> None:
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
def test_any_other_method_or_route_is_no_route(method: str, target: str) -> None:
    assert SITE.receive_request(method, target, [], b"{", now=NOW) == json_response(404, NO_ROUTE)
    fresh = json_response(404, NO_ROUTE, ("X-WP-Nonce", NONCE))
    assert SITE.receive_request(method, target, [("X-WP-Nonce", OLD_NONCE)], now=NOW) == fresh


# ---------------------------------------------------------------- chats/submit: the checks


def test_the_checks_come_in_the_order_of_the_plugin() -> None:
    """One request with every fault, mended one by one (WIRE 4.7). Only the JSON is looked at after the nonce."""
    body = b'{"botId":"","newMessage":" ","shortcutId":"abc","messages":[1]'
    fresh = ("X-WP-Nonce", NONCE)
    assert ask(body, nonce="bad") == json_response(403, INVALID_NONCE)
    assert ask(body, nonce=None) == json_response(401, FORBIDDEN)
    assert ask(body) == json_response(400, INVALID_JSON, fresh)
    body += b"}"
    expired = b'{"success":false,"message":"Invalid or expired shortcut."}'
    assert ask(body) == json_response(400, expired, fresh)
    body = body.replace(b'"abc"', b"null")
    assert ask(body) == json_response(403, REJECTED, fresh)
    body = body.replace(b'" "', b'"hi"')
    assert ask(body) == json_response(403, REJECTED, fresh)
    body = body.replace(b'""', b'"default"')
    unsupported = b'{"success":false,"message":"Unsupported message type."}'
    assert ask(body) == json_response(500, unsupported, fresh, SET_COOKIE)
    body = body.replace(b"[1]", b"[]")
    assert isinstance(ask(body), Question)


def test_v9_a_refusal_of_the_plugin_carries_a_fresh_nonce_where_due() -> None:
    assert ask({"newMessage": "hi", "stream": True}) == json_response(403, REJECTED, ("X-WP-Nonce", NONCE))
    body = REJECTED[:-1] + b',"new_token":"%s"}' % NONCE.encode()
    assert ask({"newMessage": "hi"}, nonce=OLD_NONCE) == json_response(403, body, ("X-WP-Nonce", NONCE))


def test_v10_a_question_without_a_nonce_is_forbidden() -> None:
    assert ask(QUESTION, nonce=None) == json_response(401, FORBIDDEN)


@pytest.mark.parametrize(
    "values",
    [
        {"botId": "default", "newMessage": ""},
        {"botId": "default", "newMessage": " \t\n\r\0\x0b"},
        {"botId": "default", "newMessage": None},
        {"botId": "default", "newMessage": "", "newFileIds": []},
        {"botId": "default", "newMessage": "", "newFileId": ""},
        {"botId": "default"},
        {"newMessage": "hi"},
        {"botId": None, "customId": "", "newMessage": "hi"},
        {"botId": False, "newMessage": "hi"},
        {},
        [],
        ["botId"],
        "text",
        5,
        None,
        b"",
    ],
)
def test_a_question_without_a_bot_or_a_message_is_rejected(values: object) -> None:
    assert ask(values) == json_response(403, REJECTED, ("X-WP-Nonce", NONCE))


@pytest.mark.parametrize(
    "values",
    [
        {"botId": "default", "newMessage": "0"},
        {"botId": 2024, "newMessage": "hi"},
        {"customId": "c", "newMessage": "hi"},
        {"botId": "default", "newMessage": "\u00a0"},
        {"botId": "default", "newMessage": 5},
        {"botId": "default", "newMessage": "", "newFileId": "f"},
        {"botId": "default", "newFileIds": ["f", "g"]},
        {"botId": "default", "newMessage": "hi", "shortcutId": "s"},
        {"botId": "default", "newMessage": "hi", "instructions": "unknown keys are ignored", "crossSite": True},
    ],
)
def test_a_question_with_both_reaches_the_application(values: dict[str, Any]) -> None:
    headers = (("X-WP-Nonce", NONCE), SET_COOKIE)
    assert ask(values) == Question(Submit.from_dict(values), SESSION_ID, None, headers)


@pytest.mark.parametrize("content_type", ["text/plain", "multipart/form-data", "", "application/jsonx", "json"])
def test_a_body_that_is_not_declared_as_json_has_no_fields(content_type: str) -> None:
    fields = [("X-WP-Nonce", NONCE), ("Content-Type", content_type)]
    verdicts = [SITE.receive_request("POST", SUBMIT, fields[:n], QUESTION, now=NOW) for n in (1, 2)]
    assert verdicts == [json_response(403, REJECTED, ("X-WP-Nonce", NONCE))] * 2


@pytest.mark.parametrize("content_type", ["application/json; charset=utf-8", "Application/JSON", " application/json "])
def test_the_content_type_may_have_parameters(content_type: str) -> None:
    fields = [("X-WP-Nonce", NONCE), ("Content-Type", content_type)]
    assert SITE.receive_request("POST", SUBMIT, fields, QUESTION, now=NOW) == ask(QUESTION)


@pytest.mark.parametrize(
    "body",
    [b"{", b"{}}", b"\xff", b'{"botId":NaN}', b"\xef\xbb\xbf{}", b"[" * 65 + b"]" * 65, b"[" * 100_000, b"1" * 5000],
    ids=lambda body: repr(body[:12]),
)
def test_a_body_that_is_no_json_is_refused(body: bytes) -> None:
    assert ask(body) == json_response(400, INVALID_JSON, ("X-WP-Nonce", NONCE))


@pytest.mark.parametrize("body", [b"{", b"[" * 100_000, b'{"a":1}', b"\xff"], ids=lambda body: repr(body[:12]))
def test_no_json_is_read_of_those_who_need_not_send_any(body: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("opchat_proto._site.decode", None)  # reading fails
    assert start(JSON_TYPE, body=body) == start(JSON_TYPE)
    assert ask(body, nonce=None) == json_response(401, FORBIDDEN)
    assert ask(body, nonce="bad") == json_response(403, INVALID_NONCE)
    listed = SITE.receive_request("POST", DISCUSSIONS, [JSON_TYPE], body, now=NOW)
    assert listed == json_response(200, NOT_CONNECTED)


DISCUSSIONS = "/wp-json/mwai-ui/v1/discussions/list"
NOT_CONNECTED = b'{"success":false,"message":"You need to be connected."}'


def test_a_guest_has_no_discussions() -> None:
    """As 3.6.2 answers; its script asks at load (WIRE 7.7, 13)."""
    body = b'{"botId":"default","offset":0,"limit":10}'

    def listed(*headers: tuple[str, str], method: str = "POST") -> Response | Question:
        return SITE.receive_request(method, DISCUSSIONS, [JSON_TYPE, *headers], body, now=NOW)

    assert listed() == json_response(200, NOT_CONNECTED)
    assert listed(("X-WP-Nonce", NONCE)) == json_response(200, NOT_CONNECTED, ("X-WP-Nonce", NONCE))
    renewed = NOT_CONNECTED[:-1] + b',"new_token":"%s"}' % NONCE.encode()
    assert listed(("X-WP-Nonce", OLD_NONCE)) == json_response(200, renewed, ("X-WP-Nonce", NONCE))
    assert listed(("X-WP-Nonce", "bad")) == json_response(403, INVALID_NONCE)
    assert listed(method="GET") == json_response(404, NO_ROUTE)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"botId": []}, "botId: expected a string, a number or null"),
        ({"newMessage": {}}, "newMessage: expected a string, a number or null"),
        ({"chatId": []}, "chatId: expected a string, a number or null"),
        ({"session": []}, "session: expected a string, a number or null"),
        ({"session": {}}, "session: expected a string, a number or null"),
        ({"newFileIds": "f"}, "newFileIds: expected an array of strings"),
        ({"botId": "default", "newMessage": "hi", "messages": "text"}, "messages: expected an array"),
    ],
)
def test_a_field_of_a_wrong_type_is_a_fatal_error_that_says_what_was_expected(values: object, expected: str) -> None:
    body = (
        b'{"code":"internal_server_error","message":"<p>There has been a critical error on this website.<\\/p>",'
        b'"data":{"status":500,"error":{"message":"%s"}},"additional_errors":[]}' % expected.encode()
    )
    assert ask(values) == json_response(500, body, ("X-WP-Nonce", NONCE))


def test_a_message_that_is_none_is_told_in_the_stream() -> None:
    body = {"botId": "default", "newMessage": "hi", "messages": ["hello"], "stream": True}
    headers = (
        ("Content-Type", "text/event-stream;charset=UTF-8"),
        ("Cache-Control", "no-cache"),
        ("X-Accel-Buffering", "no"),
        ("X-WP-Nonce", NONCE),
        SET_COOKIE,
    )
    assert ask(body) == Response(200, headers, b'data: {"type":"error","data":"Unsupported message type."}\n\n')


def test_a_body_as_large_as_the_limit_passes_and_one_byte_more_does_not() -> None:
    for limit, kind in ((len(QUESTION), Question), (len(QUESTION) - 1, Response)):
        assert type(ask(QUESTION, site=Site(SECRET, limits=Limits(request_bytes=limit)))) is kind
    body = b'{"code":"content_too_large","message":"The body is larger than 3 bytes.","data":{"status":413}}'
    small = Site(SECRET, limits=Limits(request_bytes=3))
    assert ask(b"1234", site=small) == ask(b"1234", site=small, nonce="bad") == json_response(413, body)


def test_the_depth_of_the_json_is_limited() -> None:
    site = Site(SECRET, limits=Limits(json_depth=1))
    assert type(ask(QUESTION, site=site)) is Question
    assert ask(QUESTION[:-1] + b',"a":[]}', site=site) == json_response(400, INVALID_JSON, ("X-WP-Nonce", NONCE))


# ---------------------------------------------------------------- chats/submit: the question


def test_v2_the_browsers_body_is_understood() -> None:
    values = {
        "botId": "default",
        "customId": None,
        "session": "6812345678901",
        "chatId": "k3v9x0q2ab",
        "contextId": 12,
        "messages": [{"id": "p1", "role": "assistant", "content": "Hi!", "who": "AI: ", "timestamp": 1751412340000}],
        "newMessage": "Où est la gare ?",
        "newFileId": None,
        "newFileIds": None,
        "stream": True,
    }
    submit = Submit(
        new_message="Où est la gare ?",
        messages=(Message("assistant", "Hi!"),),
        chat_id="k3v9x0q2ab",
        context_id=12,
        stream=True,
    )
    cookie = ("Cookie", "mwai_session_id=6b02fc304cdb0")
    assert ask(values, cookie) == Question(submit, "6812345678901", None, (("X-WP-Nonce", NONCE),))


def test_v3_the_smallest_body_is_understood() -> None:
    question = Question(Submit(new_message="hi", stream=True), SESSION_ID, None, (("X-WP-Nonce", NONCE), SET_COOKIE))
    assert ask(QUESTION) == question


def test_v4_the_body_of_2023_is_understood() -> None:
    body = (
        b'{"botId": "default", "chatId": "a1b2c3d4e5", "contextId": 28, "customId": null, '
        b'"messages": [{"role": "user", "content": "hi"}], "newMessage": "hi", "session": "N/A", "stream": true}'
    )
    submit = Submit(new_message="hi", messages=(Message("user", "hi"),), chat_id="a1b2c3d4e5", context_id=28)
    assert asked(body).submit == submit
    assert asked(body).session_id == SESSION_ID


@given(st.builds(Submit, new_message=st.text(min_size=1).filter(lambda text: text.strip(" \t\n\r\0\x0b"))))
def test_a_question_comes_out_as_it_was_put_in(submit: Submit) -> None:
    assert asked(submit.encode("abc")) == Question(submit, "abc", None, (("X-WP-Nonce", NONCE), cookie_of("abc")))


def cookie_of(session_id: str) -> tuple[str, str]:
    return "Set-Cookie", f"mwai_session_id={session_id}; path=/; HttpOnly"


@pytest.mark.parametrize(
    ("session", "cookie", "expected"),
    [
        ("abc", "xyz", "abc"),
        (68123, "xyz", "68123"),
        (None, "xyz", "xyz"),
        ("", "xyz", "xyz"),
        (False, "xyz", "xyz"),
        (True, "xyz", "xyz"),
        ("N/A", "xyz", "xyz"),
        ("a;b", "xyz", "xyz"),
        ("a\nb", "xyz", "xyz"),
        (None, None, SESSION_ID),
        ("N/A", "a b", SESSION_ID),
    ],
)
def test_the_session_is_the_bodys_else_the_cookies_else_a_new_one(
    session: object, cookie: str | None, expected: str
) -> None:
    headers = [] if cookie is None else [("Cookie", f"mwai_session_id={cookie}")]
    question = asked({"botId": "default", "newMessage": "hi", "session": session}, *headers)
    assert question.session_id == expected


def test_a_client_without_the_cookie_gets_one_for_the_session_that_it_named() -> None:
    question = asked({"botId": "default", "newMessage": "hi", "session": "abc"})
    assert question.headers == (("X-WP-Nonce", NONCE), cookie_of("abc"))


def test_questions_and_responses_are_frozen_values_that_hide_what_is_secret() -> None:
    question = asked(QUESTION, nonce=OLD_NONCE)
    response = start()
    for value in (question, response, Answer(question.submit, "abc")):
        assert list(copies(value)) == [value] * 6
        assert {hash(twin) for twin in copies(value)} == {hash(value)}
        assert not hasattr(value, "__dict__")
    assert repr(question) == f"Question(submit={question.submit!r})"
    assert repr(response) == "Response(status=200)"
    assert repr(Answer(question.submit, "abc")) == f"Answer(submit={question.submit!r})"


# ---------------------------------------------------------------- pages of other origins

SHOP = "https://shop.example"
OPEN = Site(SECRET, origins=(SHOP, "http://localhost:3000"))
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
def test_an_origin_is_written_as_browsers_write_it(origin: str) -> None:
    with pytest.raises(ValueError, match=r"Site\.origins: expected e\.g\. https://shop\.example"):
        Site(SECRET, origins=(origin,))


def test_a_page_of_a_named_origin_may_read_every_answer() -> None:
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


# ---------------------------------------------------------------- requests that are not read to their end


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
    with pytest.raises(ValueError, match="status: expected 400, 408, 413 or 503, got 500"):
        SITE.refuse(500)


def refusal(status: int, code: str, message: str) -> Response:
    return json_response(
        status, b'{"code":"%s","message":"%s","data":{"status":%d}}' % (code.encode(), message.encode(), status)
    )


LENGTH = ("Content-Length", "3")
BOTH = refusal(400, "bad_request", "There are both Content-Length and Transfer-Encoding.")
LENGTHS = refusal(400, "bad_request", "The Content-Length cannot be read.")
LARGE = refusal(413, "content_too_large", "The body is larger than 5 bytes.")
VERSION = refusal(505, "http_version_not_supported", "Only HTTP 1.1 is spoken here.")
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
def test_a_head_that_servers_might_read_differently_is_refused(
    headers: Any, version: str, raw: bytes, expected: Response | None
) -> None:
    site = Site(SECRET, limits=Limits(head_bytes=100, headers=4, request_bytes=5))
    assert site.check_head(headers, version=version, raw=raw) == expected


def test_a_page_of_a_named_origin_may_read_why_a_head_was_refused() -> None:
    response = OPEN.check_head([("Origin", SHOP), LENGTH, ("Transfer-Encoding", "chunked")])
    assert response == Response(400, (*BOTH.headers, *READABLE), BOTH.body)
    assert OPEN.check_head([("Origin", SHOP), LENGTH]) is None


# ---------------------------------------------------------------- names of the site

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
def test_a_name_that_was_rebound_to_the_site_reaches_nothing(host: str) -> None:
    for method, target in (("GET", "/"), ("POST", START), ("OPTIONS", SUBMIT), ("GET", "/elsewhere")):
        headers = [("Host", host), ("X-WP-Nonce", NONCE), JSON_TYPE]
        assert NAMED.receive_request(method, target, headers, QUESTION, now=NOW) == MISDIRECTED


def test_a_site_that_has_names_is_called_by_one() -> None:
    assert NAMED.receive_request("GET", "/", [], now=NOW) == MISDIRECTED
    twice = [("Host", "localhost"), ("Host", "localhost")]
    assert NAMED.receive_request("GET", "/", twice, now=NOW) == MISDIRECTED
    assert NAMED.receive_request("GET", "http://localhost/", [], now=NOW) == Response(200, ())
    for target, host in (("http://evil.example/", "localhost"), ("http://localhost/", "evil.example")):
        assert NAMED.receive_request("GET", target, [("Host", host)], now=NOW) == MISDIRECTED


@pytest.mark.parametrize(
    "host", ["", "*", "Site.example", "site.example:80", "site.example.", "::1", "a b", "a/b", "\xe9"]
)
def test_a_name_is_written_as_the_host_field_has_it(host: str) -> None:
    with pytest.raises(ValueError, match=r"Site\.hosts: expected e\.g\. site\.example"):
        Site(SECRET, hosts=(host,))


# ---------------------------------------------------------------- the other paths


def shown(path: str, *, root: str, origin: str, nonce: str) -> Response | None:
    """Shows what it was asked for, but for nothing at /nowhere."""
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
    ],
)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_page_is_asked_for_other_paths_without_their_query(target: str, path: str, method: str) -> None:
    expected = Response(200, (("X-Shown", "yes"),), f"{path}   {NONCE}".encode())
    assert show(target, method=method) == expected


@pytest.mark.parametrize("target", ["/blog/a", "http://site.example/blog/a"])
def test_a_page_is_asked_for_paths_below_the_root(target: str) -> None:
    assert show(target, root="/blog").body == f"/a /blog  {NONCE}".encode()
    assert show("/a", root="/blog").body == f"/a /blog  {NONCE}".encode()


@pytest.mark.parametrize("host", ["site.example", "site.example:8080", "127.0.0.1:8000", "[::1]:8000", "SITE.example"])
def test_a_page_is_told_the_origin_by_which_the_site_was_asked_for(host: str) -> None:
    for site, scheme in ((SHOWING, "http"), (replace(SHOWING, https=True), "https")):
        assert show("/", ("Host", host), site=site).body == f"/  {scheme}://{host.lower()} {NONCE}".encode()


def test_a_page_is_told_nothing_else_of_the_request() -> None:
    for host in ("evil.example/", "'><script>", "a b", "", "user@evil.example", "evil.example:x", "\xe9.example"):
        assert show("/?evil", ("Host", host), ("X-Forwarded-Host", "evil.example")) == show("/")
    assert show("/", ("Host", "site.example"), ("Host", "evil.example")) == show("/")


@pytest.mark.parametrize(
    ("method", "target"), [("POST", "/"), ("GET", "/?rest_route=/"), ("GET", "/nowhere"), ("OPTIONS", "/")]
)
def test_what_no_page_shows_is_no_route(method: str, target: str) -> None:
    assert show(target, method=method) == json_response(404, NO_ROUTE)
    assert show("/", site=SITE) == json_response(404, NO_ROUTE)


# ---------------------------------------------------------------- anything at all


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
        assert verdict.status in (200, 400, 403, 500)
