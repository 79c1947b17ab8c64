"""A session is started before the question is asked: what counts as a session, and what ends the reply."""

import json
from dataclasses import replace

import pytest

from opchat_proto import Awaiting, Broken, End, Endpoint, Flow, Reason, Session, Submit
from tests.proto.cuts import every_cut
from tests.proto.flows import (
    ASK,
    CHAT,
    FAILED,
    GIVEN,
    NO_SESSION,
    OPENED,
    PAGE,
    PLAIN_HINT,
    REPLIED,
    REPLY,
    SESSION,
    SITE,
    START,
    Answer,
    answer,
    fail,
    routes,
    run,
    take,
)


def test_a_session_is_started_first_and_used() -> None:
    flow = Flow(SITE, ASK)
    assert flow.session is None
    requests, events = run(flow, SESSION, REPLY)
    assert events == REPLIED
    assert routes(requests) == [START, CHAT]
    assert requests[1] == Flow(SITE, ASK, session=GIVEN).next_request()
    assert flow.session == GIVEN
    assert flow.session is not None
    assert flow.session.origin == "https://site.example"


def test_a_session_can_be_started_alone() -> None:
    flow = Flow(SITE, None)
    requests, events = run(flow, SESSION)
    assert (routes(requests), events) == ([START], [End(None)])
    assert flow.session == GIVEN
    assert flow.submit_started is False
    assert flow.awaiting is None


def test_the_answer_to_start_session_is_the_same_however_it_is_cut() -> None:
    for body in (OPENED, b"\xef\xbb\xbf\n" + OPENED + b"\n<!-- cached -->"):
        for pieces in every_cut(body):
            flow = Flow(SITE, None)
            take(flow)
            assert flow.receive_head(200, []) == []
            assert [event for piece in pieces for event in flow.receive_data(piece)] == []
            assert flow.receive_eof() == [End(None)]
            assert flow.session == Session("0b2576d756", "6b02fc304cdb0")


def test_a_complete_session_counts_although_the_connection_fails() -> None:
    flow = Flow(SITE, ASK)
    take(flow)
    assert flow.receive_head(200, []) + flow.receive_data(OPENED) == []
    assert flow.receive_failure("reset") == []
    assert (flow.is_ready, flow.awaiting) == (True, Awaiting.FIRST_EVENT)
    assert run(flow, REPLY)[1] == REPLIED


@pytest.mark.parametrize("given_id", ['"N/A"', r'"N\/A"', '""', "null", "false"])
def test_a_session_id_that_means_absent_gives_none(given_id: str) -> None:
    body = f'{{"success":true,"sessionId":{given_id},"restNonce":"0b2576d756"}}'.encode()
    flow = Flow(SITE, ASK)
    requests, _ = run(flow, (200, [], body), REPLY)
    assert flow.session == Session("0b2576d756")
    assert json.loads(requests[1].body)["session"] is None


def test_a_missing_session_id_gives_none() -> None:
    flow = Flow(SITE, None)
    assert run(flow, (200, [], b'{"success":true,"restNonce":"0b2576d756"}'))[1] == [End(None)]
    assert flow.session == Session("0b2576d756")


def test_the_newer_of_two_nonces_is_taken() -> None:
    flow = Flow(SITE, None)
    body = b'{"success":true,"restNonce":"old","new_token":"new"}'
    assert run(flow, (200, [("X-WP-Nonce", "header")], body))[1] == [End(None)]
    assert flow.session == Session("new")


@pytest.mark.parametrize(("response", "failure", "expected"), FAILED.values(), ids=FAILED)
@pytest.mark.parametrize("submit", [ASK, None], ids=["question", "session alone"])
def test_any_other_answer_to_start_session_ends_the_reply(
    submit: Submit | None, response: Answer | None, failure: Reason | None, expected: Broken
) -> None:
    flow = Flow(SITE, submit)
    take(flow)
    assert fail(flow, response, failure) == [replace(expected, in_session=True, asked=False)]
    assert (flow.next_request(), flow.awaiting, flow.session, flow.submit_started) == (None, None, None, False)


@pytest.mark.parametrize(
    "bad", ["", " ", "a b", "a,b", "a;b", "é", "a\n", "\u0000", "x" * 257, 5, True, None, ["a"], {}]
)
def test_a_nonce_that_could_not_be_sent_back_is_malformed(bad: object) -> None:
    for keys in ({"restNonce": bad}, {"restNonce": bad, "new_token": bad}):
        body = json.dumps({"success": True, "sessionId": "a", **keys}).encode()
        assert run(Flow(SITE, ASK), (200, [], body))[1] == [NO_SESSION]
    body = json.dumps({"success": True, "restNonce": "fine", "new_token": bad}).encode()
    flow = Flow(SITE, None)
    assert run(flow, (200, [], body))[1] == [End(None)]
    assert flow.session == Session("fine")


@pytest.mark.parametrize("bad", [" ", "a b", "a,b", "a;b", "é", "a\r\nb", "x" * 257, True, ["a"], {}, 1.5])
def test_a_session_id_that_could_not_be_sent_back_is_malformed(bad: object) -> None:
    body = json.dumps({"success": True, "sessionId": bad, "restNonce": "fine"}).encode()
    assert run(Flow(SITE, ASK), (200, [], body))[1] == [NO_SESSION]


@pytest.mark.parametrize("fine", ["!", "~", "x" * 256, "a/b=c", 6812345678901, 0, -1])
def test_a_session_id_that_can_be_sent_back_is_taken(fine: str | int) -> None:
    flow = Flow(SITE, ASK)
    requests, _ = run(
        flow, (200, [], json.dumps({"success": True, "sessionId": fine, "restNonce": "n"}).encode()), REPLY
    )
    assert json.loads(requests[1].body)["session"] == str(fine)


@pytest.mark.parametrize(
    ("address", "hint"),
    [
        ("https://site.example/", PLAIN_HINT),
        ("https://site.example/blog", PLAIN_HINT.replace("/index.php", "/blog/index.php")),
        ("https://site.example/blog/wp-json", PLAIN_HINT.replace("/index.php", "/blog/index.php")),
        ("127.0.0.1:8000", PLAIN_HINT.replace("https://site.example", "http://127.0.0.1:8000")),
        ("https://site.example/?rest_route=", ""),
        ("https://site.example/index.php?rest_route=/", ""),
    ],
)
def test_a_page_instead_of_a_session_names_a_possible_root(address: str, hint: str) -> None:
    for status, detail in [(200, "a web page, not a chat answer: My site"), (404, "My site")]:
        flow = Flow(Endpoint.parse(address), ASK)
        take(flow)
        (broken,) = answer(flow, (status, [], PAGE))
        assert isinstance(broken, Broken)
        assert broken.detail == f"start_session: {detail}{hint}"


def test_a_page_instead_of_an_answer_names_no_root() -> None:
    (broken,) = run(Flow(SITE, ASK, session=GIVEN), (200, [], PAGE))[1]
    detail = "a web page, not a chat answer: My site"
    assert broken == Broken(Reason.MALFORMED, detail, raw=PAGE.decode(), asked=True)
