"""A session adopts nonces, tokens and the chat's own cookies from the site's answers."""

import json
from dataclasses import replace

import pytest

from opchat_proto import Broken, End, Flow, Reason
from tests.proto.flows import ASK, END, GIVEN, HI, REPLIED, REPLY, SITE, TOKEN, Answer, answer, run, take


def test_a_fresh_nonce_in_the_response_header_is_adopted_at_once() -> None:
    flow = Flow(SITE, ASK, session=GIVEN)
    take(flow)
    assert flow.receive_head(200, [(b"X-WP-NONCE", b"fresh")]) == []
    assert flow.session == replace(GIVEN, nonce="fresh")
    assert flow.receive_failure("reset") == [Broken(Reason.TRUNCATED, "reset", asked=True)]
    assert flow.session == replace(GIVEN, nonce="fresh")


@pytest.mark.parametrize("bad", ["", " ", "a b", "a,b", "a;b", "é", "x" * 257])
def test_a_header_nonce_that_cannot_be_sent_back_is_ignored(bad: str) -> None:
    flow = Flow(SITE, ASK, session=GIVEN)
    assert run(flow, (200, [("X-WP-Nonce", bad)], END))[1] == [End("Hi", HI)]
    assert flow.session == GIVEN


@pytest.mark.parametrize(
    "response",
    [
        (200, [], b'data: {"type":"end","data":' + json.dumps(TOKEN).encode() + b"}\n\n"),
        (200, [], b'data: {"type":"end","data":' + TOKEN.encode() + b"}\n\n"),
        (200, [], TOKEN.encode()),
        (200, [], TOKEN.replace("true", "false").encode()),
        (200, [], TOKEN.replace("true", "null").encode()),
        (500, [], TOKEN.replace("true", "false").encode()),
        (200, [("X-WP-Nonce", "header")], TOKEN.encode()),
    ],
    ids=["end event", "object in the end event", "JSON", "success false", "no success", "refusal", "and in the header"],
)
def test_a_fresh_nonce_in_a_payload_is_adopted(response: Answer) -> None:
    flow = Flow(SITE, ASK, session=GIVEN)
    run(flow, response)
    assert flow.session == replace(GIVEN, nonce="fresh")


@pytest.mark.parametrize(
    "bad", ['""', '"a b"', '"a;b"', r'"\u00e9"', r'"\n"', "5", "null", "true", "[]", f'"{"x" * 257}"']
)
def test_a_token_that_cannot_be_sent_back_is_ignored(bad: str) -> None:
    for success in ("true", "false"):
        flow = Flow(SITE, ASK, session=GIVEN)
        run(flow, (200, [], f'{{"success":{success},"new_token":{bad}}}'.encode()))
        assert flow.session == GIVEN


@pytest.mark.parametrize("text", ["new_token", '{"new_token":"cut', '["new_token"]', "<title>new_token</title>"])
def test_a_token_in_the_text_of_a_refusal_is_not_adopted(text: str) -> None:
    flow = Flow(SITE, ASK, session=GIVEN)
    run(flow, (500, [], text.encode()))
    assert flow.session == GIVEN


@pytest.mark.parametrize(
    ("field", "cookie"),
    [
        ("mwai_session_id=new", "mwai_session_id=new"),
        ("mwai_session_id=new; path=/; HttpOnly", "mwai_session_id=new"),
        ("PHPSESSID=a; path=/, mwai_session_id=new; path=/", "mwai_session_id=new"),
        ("PHPSESSID=a; path=/", "mwai_session_id=6b02fc304cdb0"),
        ("wordpress_logged_in_0=evil", "mwai_session_id=6b02fc304cdb0"),
        ("x=mwai_session_id=new", "mwai_session_id=6b02fc304cdb0"),
        ("mwai_session_id=", "mwai_session_id=6b02fc304cdb0"),
        ("mwai_session_id=a b", "mwai_session_id=6b02fc304cdb0"),
        (f"mwai_session_id={'x' * 257}", "mwai_session_id=6b02fc304cdb0"),
        ("mwai_session_id", "mwai_session_id=6b02fc304cdb0"),
    ],
)
def test_only_the_chats_own_cookie_is_kept(field: str, cookie: str) -> None:
    flow = Flow(SITE, ASK, session=GIVEN)
    run(flow, (200, [("Set-Cookie", field)], END))
    assert flow.session == replace(GIVEN, cookie=cookie)


def test_nothing_is_adopted_from_an_interim_head() -> None:
    flow = Flow(SITE, ASK, session=GIVEN)
    take(flow)
    assert flow.receive_head(103, [("X-WP-Nonce", "early"), ("Set-Cookie", "mwai_session_id=early")]) == []
    assert flow.session == GIVEN
    assert answer(flow, REPLY) == REPLIED
