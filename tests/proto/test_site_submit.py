"""Questions to a site: the checks in the plugin's order, and the decoded values."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opchat_proto import Answer, Limits, Message, OutgoingFile, Question, Response, Site, Submit
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
    SUBMIT,
    ask,
    asked,
    json_response,
    start,
)

# ------------------------------------------------------------------------------ chats/submit: the checks


def test_the_checks_follow_the_plugins_order() -> None:
    """One request with every fault, corrected one by one (WIRE 4.7). Only the JSON is checked after the nonce."""
    body = b'{"botId":"","newMessage":" ","shortcutId":"abc","messages":[1]'
    fresh = ("X-WP-Nonce", NONCE)
    assert ask(body, nonce="bad") == json_response(403, INVALID_NONCE)
    assert ask(body, nonce=None) == json_response(401, FORBIDDEN)
    assert ask(body) == json_response(400, INVALID_JSON, fresh)
    body += b"}"
    expired = b'{"success":false,"message":"Invalid or expired shortcut."}'
    assert ask(body) == json_response(400, expired, fresh)
    expired = expired.replace(b"}", b',"new_token":"%s"}' % NONCE.encode())
    assert ask(body, nonce=OLD_NONCE) == json_response(400, expired, fresh)
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
def test_a_body_that_is_not_json_is_refused(body: bytes) -> None:
    assert ask(body) == json_response(400, INVALID_JSON, ("X-WP-Nonce", NONCE))


@pytest.mark.parametrize("body", [b"{", b"[" * 100_000, b'{"a":1}', b"\xff"], ids=lambda body: repr(body[:12]))
def test_a_body_that_need_not_be_json_is_not_parsed(body: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("opchat_proto._site.decode", None)  # parsing fails
    assert start(JSON_TYPE, body=body) == start(JSON_TYPE)
    assert ask(body, nonce=None) == json_response(401, FORBIDDEN)
    assert ask(body, nonce="bad") == json_response(403, INVALID_NONCE)
    listed = SITE.receive_request("POST", DISCUSSIONS, [JSON_TYPE], body, now=NOW)
    assert listed == json_response(200, NOT_CONNECTED)


DISCUSSIONS = "/wp-json/mwai-ui/v1/discussions/list"
NOT_CONNECTED = b'{"success":false,"message":"You need to be connected."}'


def test_a_guest_has_no_discussions() -> None:
    """The plugin's response in 3.6.2, whose script asks on load (WIRE 7.7, 13)."""
    body = b'{"botId":"default","offset":0,"limit":10}'

    def listed(*headers: tuple[str, str], method: str = "POST") -> Response | Question | OutgoingFile:
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
def test_a_field_of_a_wrong_type_is_a_fatal_error_that_names_the_expected_type(values: object, expected: str) -> None:
    body = (
        b'{"code":"internal_server_error","message":"<p>There has been a critical error on this website.<\\/p>",'
        b'"data":{"status":500,"error":{"message":"%s"}},"additional_errors":[]}' % expected.encode()
    )
    assert ask(values) == json_response(500, body, ("X-WP-Nonce", NONCE))


def test_a_malformed_message_is_reported_in_the_stream() -> None:
    body = {"botId": "default", "newMessage": "hi", "messages": ["hello"], "stream": True}
    headers = (
        ("Content-Type", "text/event-stream;charset=UTF-8"),
        ("Cache-Control", "no-cache"),
        ("X-Accel-Buffering", "no"),
        ("X-WP-Nonce", NONCE),
        SET_COOKIE,
    )
    assert ask(body) == Response(200, headers, b'data: {"type":"error","data":"Unsupported message type."}\n\n')


def test_the_limit_on_a_body_is_exact() -> None:
    for limit, kind in ((len(QUESTION), Question), (len(QUESTION) - 1, Response)):
        assert type(ask(QUESTION, site=Site(SECRET, limits=Limits(request_bytes=limit)))) is kind
    body = b'{"code":"content_too_large","message":"The body is larger than 3 bytes.","data":{"status":413}}'
    small = Site(SECRET, limits=Limits(request_bytes=3))
    assert ask(b"1234", site=small) == ask(b"1234", site=small, nonce="bad") == json_response(413, body)


def test_the_depth_of_the_json_is_limited() -> None:
    site = Site(SECRET, limits=Limits(json_depth=1))
    assert type(ask(QUESTION, site=site)) is Question
    assert ask(QUESTION[:-1] + b',"a":[]}', site=site) == json_response(400, INVALID_JSON, ("X-WP-Nonce", NONCE))


# ------------------------------------------------------------------------------ chats/submit: the question


def test_v2_the_browsers_body_is_decoded() -> None:
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


def test_v3_the_smallest_body_is_decoded() -> None:
    question = Question(Submit(new_message="hi", stream=True), SESSION_ID, None, (("X-WP-Nonce", NONCE), SET_COOKIE))
    assert ask(QUESTION) == question


def test_v4_the_body_of_2023_is_decoded() -> None:
    body = (
        b'{"botId": "default", "chatId": "a1b2c3d4e5", "contextId": 28, "customId": null, '
        b'"messages": [{"role": "user", "content": "hi"}], "newMessage": "hi", "session": "N/A", "stream": true}'
    )
    submit = Submit(new_message="hi", messages=(Message("user", "hi"),), chat_id="a1b2c3d4e5", context_id=28)
    assert asked(body).submit == submit
    assert asked(body).session_id == SESSION_ID


@given(st.builds(Submit, new_message=st.text(min_size=1).filter(lambda text: text.strip(" \t\n\r\0\x0b"))))
def test_a_question_is_decoded_as_it_was_encoded(submit: Submit) -> None:
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
def test_the_session_id_comes_from_the_body_else_the_cookie_else_it_is_new(
    session: object, cookie: str | None, expected: str
) -> None:
    headers = [] if cookie is None else [("Cookie", f"mwai_session_id={cookie}")]
    question = asked({"botId": "default", "newMessage": "hi", "session": session}, *headers)
    assert question.session_id == expected


def test_a_client_without_the_cookie_gets_one_for_its_session_id() -> None:
    question = asked({"botId": "default", "newMessage": "hi", "session": "abc"})
    assert question.headers == (("X-WP-Nonce", NONCE), cookie_of("abc"))


def test_questions_and_responses_are_frozen_values_that_hide_secrets() -> None:
    question = asked(QUESTION, nonce=OLD_NONCE)
    response = start()
    for value in (question, response, Answer(question.submit, "abc")):
        assert list(copies(value)) == [value] * 6
        assert {hash(twin) for twin in copies(value)} == {hash(value)}
        assert not hasattr(value, "__dict__")
    assert repr(question) == f"Question(submit={question.submit!r})"
    assert repr(response) == "Response(status=200)"
    assert repr(Answer(question.submit, "abc")) == f"Answer(submit={question.submit!r})"


def test_a_body_left_out_is_an_empty_one() -> None:
    fields = [JSON_TYPE, ("X-WP-Nonce", NONCE)]
    expected = json_response(403, REJECTED, ("X-WP-Nonce", NONCE))
    assert SITE.receive_request("POST", SUBMIT, fields, now=NOW) == expected
