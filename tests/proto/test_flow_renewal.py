"""A question that is refused for its nonce is repeated once with a fresh one."""

from dataclasses import replace
from itertools import product

import pytest

from opchat_proto import Broken, Flow, Limits, Reason, ReplyDecoder, Session
from tests.proto.flows import (
    ASK,
    CHAT,
    EXPIRED,
    FAILED,
    FORBIDDEN,
    GIVEN,
    LIVE,
    NO_ROUTE,
    RENEWED,
    REPLIED,
    REPLY,
    SESSION,
    SITE,
    STALE,
    STALE_IDS,
    START,
    Answer,
    answer,
    fail,
    header,
    refusal,
    routes,
    run,
    take,
)


@pytest.mark.parametrize("stale", STALE, ids=STALE_IDS)
def test_a_question_refused_for_its_nonce_is_repeated_with_a_fresh_one(stale: Answer) -> None:
    flow = Flow(SITE, ASK, session=GIVEN)
    requests, events = run(flow, stale, RENEWED, REPLY)
    assert events == REPLIED
    assert routes(requests) == [CHAT, START, CHAT]
    assert [header(request, "X-WP-Nonce") for request in requests] == ["0b2576d756", None, "fresh"]
    assert [header(request, "Cookie") for request in requests] == ["mwai_session_id=6b02fc304cdb0"] * 3
    assert [request.body for request in requests] == [ASK.encode("6b02fc304cdb0"), b"", ASK.encode("second")]
    assert flow.session == Session("fresh", "second", "mwai_session_id=6b02fc304cdb0")


@pytest.mark.parametrize("stale", STALE, ids=STALE_IDS)
def test_a_question_is_never_sent_a_third_time(stale: Answer) -> None:
    for session, first in [(None, [SESSION]), (GIVEN, []), (Session(), [])]:
        flow = Flow(SITE, ASK, session=session)
        _, events = run(flow, *first, stale, RENEWED, stale)
        assert events == [refusal(stale[0], stale[2].decode())]


def test_the_outcome_of_the_second_submit_is_the_outcome() -> None:
    responses: list[Answer | None] = [(500, [], b"Down"), None]
    for response, failure in product(responses, [None, Reason.TIMEOUT]):
        flow = Flow(SITE, ASK, session=GIVEN)
        take(flow)
        assert answer(flow, STALE[0]) == []
        take(flow)
        assert answer(flow, RENEWED) == []
        take(flow)
        again = Flow(SITE, ASK, session=Session("fresh"))
        take(again)
        assert fail(flow, response, failure) == fail(again, response, failure)
    flow = Flow(SITE, ASK, session=GIVEN)
    take(flow)
    assert answer(flow, STALE[0]) == []
    take(flow)
    assert answer(flow, RENEWED) == []
    assert flow.receive_failure("no route") == [Broken(Reason.LOST, "no route", asked=True)]


@pytest.mark.parametrize(("response", "failure"), [row[:2] for row in FAILED.values()], ids=FAILED)
@pytest.mark.parametrize("stale", STALE, ids=STALE_IDS)
def test_without_a_fresh_nonce_the_reply_is_the_first_refusal(
    stale: Answer, response: Answer | None, failure: Reason | None
) -> None:
    flow = Flow(SITE, ASK, session=GIVEN)
    take(flow)
    assert answer(flow, stale) == []
    take(flow)
    assert fail(flow, response, failure) == [refusal(stale[0], stale[2].decode())]
    assert (flow.next_request(), flow.awaiting) == (None, None)
    assert flow.session == replace(GIVEN, nonce=None)


def test_without_start_session_the_reply_is_the_first_refusal() -> None:
    flow = Flow(SITE, ASK, session=GIVEN)
    requests, events = run(flow, STALE[0], (404, [("X-WP-Nonce", "fresh")], NO_ROUTE.encode()))
    assert events == [refusal(401, FORBIDDEN)]
    assert routes(requests) == [CHAT, START]


@pytest.mark.parametrize("reason", list(Reason))
def test_a_failed_start_session_leaves_the_first_refusal(reason: Reason) -> None:
    flow = Flow(SITE, ASK, session=GIVEN)
    take(flow)
    assert answer(flow, STALE[1]) == []
    assert flow.is_ready
    assert flow.receive_failure("what happened", reason) == [refusal(403, EXPIRED)]


@pytest.mark.parametrize("stale", STALE, ids=STALE_IDS)
def test_restarts_0_switches_the_renewal_off(stale: Answer) -> None:
    flow = Flow(SITE, ASK, session=GIVEN, limits=Limits(restarts=0))
    assert run(flow, stale)[1] == [refusal(stale[0], stale[2].decode())]
    assert flow.session == GIVEN


@pytest.mark.parametrize("stale", STALE, ids=STALE_IDS)
@pytest.mark.parametrize("cookie", ["PHPSESSID=a", "MWAI_SESSION_ID=a", "mwai_session_id=a; other=b"])
def test_a_members_question_is_not_repeated_as_a_guests(cookie: str, stale: Answer) -> None:
    session = Session("theirs", cookie=cookie)
    flow = Flow(SITE, ASK, session=session)
    requests, events = run(flow, stale)
    assert header(requests[0], "Cookie") == cookie
    assert events == [refusal(stale[0], stale[2].decode())]
    assert flow.session == session


@pytest.mark.parametrize(
    "cookie", ["", "mwai_session_id=a", "mwai_session_id=a;", "mwai_session_id=a; mwai_session_id=b"]
)
def test_a_question_with_only_the_chats_own_cookie_is_repeated(cookie: str) -> None:
    flow = Flow(SITE, ASK, session=Session("old", cookie=cookie))
    requests, events = run(flow, STALE[1], RENEWED, REPLY)
    assert events == REPLIED
    assert [header(request, "Cookie") for request in requests] == [cookie or None] * 3


def test_the_chats_own_cookie_does_not_matter_next_to_others() -> None:
    flow = Flow(SITE, ASK, session=Session("theirs", cookie="other=b"))
    (status, headers, body) = STALE[0]
    _, events = run(flow, (status, [*headers, ("Set-Cookie", "mwai_session_id=a; path=/")], body))
    assert events == [refusal(401, FORBIDDEN)]
    assert flow.session == Session("theirs", cookie="other=b; mwai_session_id=a")


NOT_STALE: list[Answer] = [
    (400, [], FORBIDDEN.encode()),
    (401, [], EXPIRED.encode()),
    (401, [], b'{"code":"rest_not_logged_in","message":"No."}'),
    (403, [], b'{"success":false,"message":"Rejected."}'),
    (403, [], b'{"code":["rest_forbidden"],"message":"No."}'),
    (401, [], FORBIDDEN[:-1].encode()),
    (500, [], FORBIDDEN.encode()),
    (200, [], FORBIDDEN.encode()),
    (200, [], EXPIRED.encode()),
    (401, [("Content-Encoding", "gzip")], FORBIDDEN.encode()),
    (429, [("Retry-After", "1")], b"busy"),
    (503, [], b"{}"),
    (200, [], b""),
    (200, [], LIVE),
    (200, [], b'data: {"type":"error","data":"rest_forbidden"}\n\n'),
    (200, [], b'{"success":false,"code":"rest_forbidden","message":"No."}'),
]


@pytest.mark.parametrize("response", NOT_STALE, ids=range(len(NOT_STALE)))
def test_a_question_is_sent_twice_in_no_other_case(response: Answer) -> None:
    requests, events = run(Flow(SITE, ASK, session=GIVEN), response)
    assert routes(requests) == [CHAT]
    decoder = ReplyDecoder()
    status, headers, body = response
    *lives, last = decoder.receive_head(status, headers) + decoder.receive_data(body) + decoder.receive_eof()
    assert isinstance(last, Broken)
    assert events == [*lives, replace(last, asked=True)]


@pytest.mark.parametrize("stale", STALE, ids=STALE_IDS)
def test_an_incomplete_refusal_is_final(stale: Answer) -> None:
    status, headers, body = stale
    expected = [refusal(status, body.decode())]
    flow = Flow(SITE, ASK, session=GIVEN)
    take(flow)
    assert flow.receive_head(status, headers) + flow.receive_data(body) == []
    assert flow.receive_failure("reset", Reason.TIMEOUT) == expected
    limits = Limits(refusal_bytes=len(body))
    flow = Flow(SITE, ASK, session=GIVEN, limits=limits)
    take(flow)
    assert flow.receive_head(status, headers) + flow.receive_data(body) == expected
    limits = Limits(refusal_bytes=len(body) + 1)
    assert run(Flow(SITE, ASK, session=GIVEN, limits=limits), stale, RENEWED, REPLY)[1] == REPLIED


def test_a_cookie_of_the_second_start_session_goes_with_the_second_submit() -> None:
    flow = Flow(SITE, ASK, session=Session("old"))
    status, headers, body = RENEWED
    requests, _ = run(flow, STALE[0], (status, [*headers, ("Set-Cookie", "mwai_session_id=new")], body), REPLY)
    assert [header(request, "Cookie") for request in requests] == [None, None, "mwai_session_id=new"]
    assert flow.session == Session("fresh", "second", "mwai_session_id=new")
