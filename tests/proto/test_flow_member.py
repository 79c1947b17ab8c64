"""A member's question is asked only after the site has named the member, and never as a guest's."""

import pickle
from dataclasses import replace
from typing import Any

import pytest

from opchat_proto import Awaiting, Broken, End, Endpoint, Flow, Limits, Live, Reason, Request, Session, Submit, Visit
from opchat_proto._flow_table import TABLE  # the table is not public, and this test walks it
from tests.proto import asking
from tests.proto.members import (
    AJAX,
    ALICE,
    ANSWER,
    COOKIE,
    EXPIRED,
    FORBIDDEN,
    HI,
    ME,
    NO_ROUTE,
    NOBODY,
    NONCE,
    NOT_LOGGED_IN,
    OPENED,
    PAGE,
    SITE,
    START,
    SUBMIT,
    Answer,
    asked,
    places,
    user,
)
from tests.proto.pages import SYSTEM, element

ASK = Submit(new_message="Hi")
PROVED = replace(ALICE, nonce="2b24c02613", member="alice")
COOKIES = Session(cookie=COOKIE)
WITH_NONCE = replace(COOKIES, nonce="0000000000")
ANSWERED = [End("Hi", HI)]


def page(nonce: object = "1111111111", *, is_member: bool = True) -> Answer:
    return 200, [], element(SYSTEM | {"restNonce": nonce, "userData": {"ID": 2} if is_member else None})


def visiting(session: Session, **options: Any) -> Flow:
    renewal = Visit(f"{SITE}/contact/", session=session, fresh="r4nd0m")
    return Flow(SITE, ASK, session=session, renewal=renewal, **options)


def broken(*answers: Answer, flow: Flow) -> tuple[list[str], Broken]:
    """The requests and the single event of a flow that must not submit."""
    requests, events = asked(flow, *answers)
    (event,) = events
    assert isinstance(event, Broken)
    return [place for place, _ in places(requests)], event


# ---------------------------------------------------------------- an application password


def test_before_anything_else_the_site_says_who_asks() -> None:
    flow = Flow(SITE, ASK, session=ALICE)
    assert (flow.awaiting, flow.is_ready, flow.session) == (Awaiting.SESSION, True, ALICE)
    requests, events = asked(flow, user(), OPENED, ANSWER)
    assert places(requests) == [(ME, None), (START, None), (SUBMIT, "2b24c02613")]
    assert [dict(request.headers)["Authorization"] for request in requests] == [ALICE.authorization] * 3
    assert requests[0].method == "GET"
    assert not {"Content-Type", "Content-Length"} & {*dict(requests[0].headers)}
    assert events == ANSWERED
    assert flow.session is not None
    assert (flow.session, flow.session.member) == (replace(PROVED, session_id="6b0ae17682c40"), "alice")


def test_the_next_question_is_asked_at_once() -> None:
    assert places(asked(Flow(SITE, ASK, session=PROVED), ANSWER)[0]) == [(SUBMIT, "2b24c02613")]


def test_a_nonce_of_an_unknown_user_is_sent_with_the_proof() -> None:
    requests, events = asked(Flow(SITE, ASK, session=replace(PROVED, member=None)), user(), ANSWER)
    assert places(requests) == [(ME, "2b24c02613"), (SUBMIT, "2b24c02613")]
    assert events == ANSWERED


def test_where_no_nonce_is_needed_each_question_is_preceded_by_a_proof() -> None:
    flow = Flow(SITE, ASK, session=ALICE)
    assert places(asked(flow, user(), NO_ROUTE, ANSWER)[0]) == [(ME, None), (START, None), (SUBMIT, None)]
    again = Flow(SITE, ASK, session=flow.session)
    assert broken(NOT_LOGGED_IN, flow=again)[0] == [ME]


def test_with_plain_permalinks_the_route_is_a_parameter() -> None:
    flow = Flow(Endpoint.parse(f"{SITE}/blog/index.php?rest_route="), ASK, session=ALICE)
    request = flow.next_request()
    assert request is not None
    assert request.url == f"{SITE}/blog/index.php?rest_route=/wp/v2/users/me"


PASSWORD_ADVICE = "are the name and the application password right"
COOKIE_ADVICE = "the cookies have expired"


@pytest.mark.parametrize(
    ("answer", "reason", "status", "advice"),
    [
        (NOT_LOGGED_IN, Reason.REFUSED, 401, PASSWORD_ADVICE),
        ((403, [], "<h1>Forbidden</h1>"), Reason.REFUSED, 403, PASSWORD_ADVICE),
        (EXPIRED, Reason.REFUSED, 403, PASSWORD_ADVICE),
        (NO_ROUTE, Reason.REFUSED, 404, "a security plugin may hide who is signed in"),
        ((200, [], "<title>Home</title>"), Reason.MALFORMED, None, "a security plugin may hide"),
        ((200, [], "{}"), Reason.MALFORMED, None, "a security plugin may hide"),
        ((200, [], "[]"), Reason.MALFORMED, None, "a security plugin may hide"),
        ((200, [], '{"id":0}'), Reason.MALFORMED, None, "a security plugin may hide"),
        ((200, [], '{"id":true}'), Reason.MALFORMED, None, "a security plugin may hide"),
        ((200, [], '{"id":"2"}'), Reason.MALFORMED, None, "a security plugin may hide"),
        ((200, [], '{"id":2'), Reason.TRUNCATED, None, ""),
        ((200, [], '{"success":true,"id":2}'), Reason.MALFORMED, None, "no user"),
        ((200, [], '{"success":false,"id":2}'), Reason.REMOTE, None, ""),
        ((200, [], 'data: {"type":"live","data":"a"}\n\ndata: {"type":"end","data":{"success":true,"id":2}}\n\n'),
         Reason.MALFORMED, None, "no user"),
        ((302, [("Location", "/wp-login.php")], ""), Reason.REFUSED, 302, "redirected to /wp-login.php"),
        ((503, [("Retry-After", "5")], ""), Reason.REFUSED, 503, ""),
    ],
)  # fmt: skip
@pytest.mark.parametrize("session", [ALICE, replace(PROVED, member=None)])
def test_an_unproved_member_asks_nothing(
    session: Session, answer: Answer, reason: Reason, status: int | None, advice: str
) -> None:
    requests, event = broken(answer, flow=Flow(SITE, ASK, session=session))
    assert requests == [ME]
    assert (event.reason, event.status, event.in_session, event.asked) == (reason, status, True, False)
    assert event.detail.startswith("users/me: ")
    assert advice in event.detail
    assert event.retry_after == (5 if status == 503 else None)


@pytest.mark.parametrize(
    ("body", "member"),
    [
        ('{"slug":"alice","id":2}', "alice"),
        ('\ufeff\n{"id":2,"slug":"al.ice"}<!-- cached -->', "al.ice"),
        ('<br />\n<b>Warning</b>: {} in /x<br />\n{"id":2,"meta":{"id":9,"slug":"bob"},"slug":"alice"}', "alice"),
        ('{"id":2,"slug":"a\\u0007"}', "user 2"),
        ('{"id":12,"name":"Ann"}', "user 12"),
        ('{"id":2,"slug":["x"]}', "user 2"),
    ],
)
def test_the_user_is_found_after_php_notices(body: str, member: str) -> None:
    flow = Flow(SITE, ASK, session=replace(PROVED, member=None))
    assert asked(flow, (200, [], body), ANSWER)[1] == ANSWERED
    assert flow.session is not None
    assert flow.session.member == member


def test_a_password_that_a_site_repeats_is_not_shown() -> None:
    said = f"No: {ALICE.authorization} abcdEFGHijkl1234mnopQRST"
    (_, event) = broken((401, [], said), flow=Flow(SITE, ASK, session=ALICE))
    assert event.detail.startswith("users/me: No: Basic *** ***; ")


@pytest.mark.parametrize("stale", [EXPIRED, FORBIDDEN])
def test_a_refused_nonce_is_renewed_for_the_same_member(stale: Answer) -> None:
    flow = Flow(SITE, ASK, session=replace(PROVED, nonce="aca71a50b1"))
    requests, events = asked(flow, stale, user(), OPENED, ANSWER)
    assert places(requests) == [(SUBMIT, "aca71a50b1"), (ME, None), (START, None), (SUBMIT, "2b24c02613")]
    assert events == ANSWERED


@pytest.mark.parametrize("answer", [NOT_LOGGED_IN, user("bob")])
def test_a_refused_nonce_is_not_renewed_for_another_member(answer: Answer) -> None:
    flow = Flow(SITE, ASK, session=replace(PROVED, nonce="aca71a50b1"))
    requests, event = broken(FORBIDDEN, answer, flow=flow)
    assert requests == [SUBMIT, ME]
    assert (event.detail, event.status, event.asked) == ("Not allowed.", 403, True)


def test_the_proof_must_name_the_earlier_member() -> None:
    (_, event) = broken(user("bob"), flow=Flow(SITE, ASK, session=replace(ALICE, member="alice")))
    assert event == Broken(
        Reason.REFUSED, "users/me: signed in as bob, and no longer as alice", in_session=True, asked=False
    )


def test_a_version_that_gives_nonces_only_in_pages_says_so() -> None:
    requests, event = broken(user(), NO_ROUTE, FORBIDDEN, flow=Flow(SITE, ASK, session=ALICE))
    assert requests == [ME, START, SUBMIT]
    assert "the plugin has no start_session" in event.detail
    assert "an application password gets no nonce there" in event.detail


def test_an_application_password_does_not_use_a_page() -> None:
    flow = visiting(replace(PROVED, nonce="aca71a50b1"))
    requests, _ = asked(flow, FORBIDDEN, user(), OPENED, ANSWER)
    assert [place for place, _ in places(requests)] == [SUBMIT, ME, START, SUBMIT]


def test_a_start_session_that_refuses_everybody_is_explained() -> None:
    requests, event = broken(user(), FORBIDDEN, flow=Flow(SITE, ASK, session=ALICE))
    assert requests == [ME, START]
    assert event.detail == (
        "start_session: Not allowed.; an application password gets no nonce there: sign in with a browser's cookies"
    )


# ---------------------------------------------------------------- cookies


def test_without_a_nonce_wordpress_gives_one_and_then_says_who_asks() -> None:
    flow = Flow(SITE, ASK, session=COOKIES)
    requests, events = asked(flow, NONCE, user(), ANSWER)
    assert places(requests) == [(AJAX, None), (ME, "1635c20365"), (SUBMIT, "1635c20365")]
    assert [dict(request.headers)["Cookie"] for request in requests] == [COOKIE] * 3
    assert events == ANSWERED
    assert flow.session == replace(COOKIES, nonce="1635c20365")


def test_wordpress_may_be_in_a_directory() -> None:
    flow = Flow(Endpoint.parse(f"{SITE}/blog/wp-json"), ASK, session=COOKIES)
    request = flow.next_request()
    assert request is not None
    assert request.url == f"{SITE}/blog/wp-admin/admin-ajax.php?action=rest-nonce"


def test_the_first_nonce_may_come_from_the_page() -> None:
    requests, events = asked(visiting(COOKIES), page(), user(), ANSWER)
    assert places(requests) == [(PAGE, None), (ME, "1111111111"), (SUBMIT, "1111111111")]
    assert events == ANSWERED


def test_a_nonce_from_a_page_is_proved_and_renewed_before_anything_is_asked() -> None:
    flow = visiting(WITH_NONCE)
    requests, events = asked(flow, EXPIRED, page(), user(), ANSWER)
    assert places(requests) == [(ME, "0000000000"), (PAGE, None), (ME, "1111111111"), (SUBMIT, "1111111111")]
    assert events == ANSWERED


@pytest.mark.parametrize("stale", [EXPIRED, FORBIDDEN])
def test_a_nonce_refused_later_is_renewed_from_its_source(stale: Answer) -> None:
    proved = replace(WITH_NONCE, member="alice")
    for flow, source, place in ((visiting(proved), page(), PAGE), (Flow(SITE, ASK, session=proved), NONCE, AJAX)):
        requests, events = asked(flow, stale, source, user(), ANSWER)
        assert [place for place, _ in places(requests)] == [SUBMIT, place, ME, SUBMIT]
        assert events == ANSWERED


def test_a_nonce_is_renewed_only_once() -> None:
    for flow, source in ((visiting(WITH_NONCE), page()), (Flow(SITE, ASK, session=WITH_NONCE), NONCE)):
        requests, event = broken(EXPIRED, source, EXPIRED, flow=flow)
        assert len(requests) == 3
        assert event.detail.startswith("users/me: Cookie check failed; ")
    requests, event = broken(page(), EXPIRED, flow=visiting(COOKIES))
    assert requests == [PAGE, ME]
    requests, event = broken(EXPIRED, flow=Flow(SITE, ASK, session=WITH_NONCE, limits=Limits(restarts=0)))
    assert requests == [ME]


@pytest.mark.parametrize(
    ("answer", "reason", "status", "detail"),
    [
        (NOBODY, Reason.REFUSED, 400, f"not signed in: {COOKIE_ADVICE}"),
        ((200, [], "0"), Reason.REFUSED, 200, f"not signed in: {COOKIE_ADVICE}"),
        ((200, [], "-1"), Reason.REFUSED, 200, "not signed in"),
        ((200, [], "<title>Sign in</title>"), Reason.MALFORMED, None, "the answer is not a nonce"),
        ((200, [], "x" * 70_000), Reason.MALFORMED, None, "the answer is not a nonce"),
        ((200, [], ""), Reason.MALFORMED, None, "the answer is not a nonce"),
        ((403, [], "1635c20365"), Reason.REFUSED, 403, "status 403"),
        ((302, [("Location", "/wp-login.php")], ""), Reason.REFUSED, 302, "status 302"),
        ((101, [], ""), Reason.TRUNCATED, None, "status 101"),
        ((200, [("Content-Encoding", "gzip")], "1635c20365"), Reason.MALFORMED, None, "the body is coded as gzip"),
    ],
)
def test_without_a_nonce_nothing_is_asked(answer: Answer, reason: Reason, status: int | None, detail: str) -> None:
    flow = Flow(SITE, ASK, session=COOKIES)
    assert flow.next_request() is not None
    events = flow.receive_head(answer[0], answer[1])
    events += flow.receive_data(answer[2].encode())
    events += flow.receive_eof()
    (event,) = events
    assert isinstance(event, Broken)
    assert (event.reason, event.in_session, event.asked) == (reason, True, False)
    assert event.status == (None if status is None else status)
    assert event.detail.startswith(f"wp-admin/admin-ajax.php?action=rest-nonce: {detail}")
    assert "1635c20365" not in str(event)
    assert flow.next_request() is None


@pytest.mark.parametrize("body", ["1635c20365\n", "\ufeff1635c20365", "<br />\n<b>Notice</b>: x<br />\n1635c20365"])
def test_a_nonce_is_found_after_php_notices(body: str) -> None:
    flow = Flow(SITE, ASK, session=COOKIES)
    assert places(asked(flow, (200, [], body), user(), ANSWER)[0])[1] == (ME, "1635c20365")


@pytest.mark.parametrize("found", [page(is_member=False), page(None), (200, [], "<p>Nothing</p>")])
def test_a_page_for_a_guest_ends_the_reply(found: Answer) -> None:
    requests, event = broken(found, flow=visiting(COOKIES))
    assert requests == [PAGE]
    assert event.detail == (
        f"{SITE}/contact/: no nonce for a member; the site takes you for a guest, so nothing was asked: "
        "the cookies have expired, or were not taken from a browser that is signed in there: export them again"
    )
    requests, event = broken((404, [], "Nothing"), flow=visiting(COOKIES))
    assert event.detail == "the page: Nothing"


def test_expired_cookies_ask_nothing() -> None:
    requests, event = broken(NOT_LOGGED_IN, flow=Flow(SITE, ASK, session=WITH_NONCE))
    assert requests == [ME]
    assert COOKIE_ADVICE in event.detail


def test_a_fresh_nonce_in_the_head_of_the_proof_is_used() -> None:
    status, _, body = user()
    requests, _ = asked(Flow(SITE, ASK, session=WITH_NONCE), (status, [("X-WP-Nonce", "3333333333")], body), ANSWER)
    assert places(requests) == [(ME, "0000000000"), (SUBMIT, "3333333333")]


def test_a_members_session_without_credentials_is_refused() -> None:
    for session in (Session("1111111111", member=""), Session(member="alice"), Session(cookie="a=b", member="")):
        if session.cookie:
            assert Flow(SITE, ASK, session=session).session == session
            continue
        with pytest.raises(ValueError, match=r"^session: a member's session needs cookies or authorization"):
            Flow(SITE, ASK, session=session)


def test_a_cookie_of_another_name_may_be_a_firewalls() -> None:
    session = Session("0000000000", cookie="cf_clearance=x")
    assert places(asked(Flow(SITE, ASK, session=session), ANSWER)[0]) == [(SUBMIT, "0000000000")]
    named = replace(session, member="")
    assert places(asked(Flow(SITE, ASK, session=named), user(), ANSWER)[0])[0] == (ME, "0000000000")


# ---------------------------------------------------------------- the machine


def test_failures_before_the_question_belong_to_the_session() -> None:
    for session, answers in ((ALICE, 0), (ALICE, 1), (COOKIES, 0), (COOKIES, 1)):
        for begun in (False, True):
            flow = Flow(SITE, ASK, session=session)
            for status, headers, body in [user() if session is ALICE else NONCE][:answers]:
                assert flow.next_request() is not None
                assert flow.receive_head(status, headers) == flow.receive_data(body.encode()) == []
                assert flow.receive_eof() == []
            assert flow.next_request() is not None
            if begun:
                flow.receive_head(100, [])
                flow.receive_head(200, [])
            (event,) = flow.receive_failure("cut")
            assert isinstance(event, Broken)
            assert event.reason is (Reason.TRUNCATED if begun else Reason.LOST)
            assert (event.in_session, event.asked) == (True, False)
            assert event.detail.endswith("cut")


@pytest.mark.parametrize("session", [ALICE, COOKIES])
def test_a_connection_that_is_closed_before_the_head_is_lost(session: Session) -> None:
    flow = Flow(SITE, ASK, session=session)
    assert flow.next_request() is not None
    (event,) = flow.receive_eof()
    assert isinstance(event, Broken)
    assert event.reason is Reason.LOST


def test_closing_while_the_site_is_asked_who_asks() -> None:
    flow = Flow(SITE, ASK, session=ALICE)
    assert flow.close() == [Broken(Reason.LOST, "closed by the caller", in_session=True)]


def test_a_proof_of_another_call_is_used() -> None:
    flow = Flow(SITE, ASK, session=ALICE)
    assert flow.use_session(PROVED) == []
    assert places(asked(flow, ANSWER)[0]) == [(SUBMIT, "2b24c02613")]
    flow = Flow(SITE, ASK)
    assert flow.use_session(COOKIES) == flow.use_session(ALICE) == []
    assert places(asked(flow, user(), OPENED, ANSWER)[0])[0] == (ME, None)
    flow = Flow(SITE, ASK, session=ALICE)
    assert flow.use_session(COOKIES) == []
    assert places(asked(flow, NONCE, user(), ANSWER)[0])[0] == (AJAX, None)
    assert Flow(SITE, ASK, session=ALICE).use_session(None) == [
        Broken(Reason.LOST, "no session could be started", in_session=True)
    ]


def test_a_page_is_visited_once_even_for_another_session() -> None:
    flow = visiting(COOKIES)
    assert flow.next_request() is not None
    status, headers, body = page()
    assert flow.receive_head(status, headers) + flow.receive_data(body.encode()) + flow.receive_eof() == []
    other = Session(cookie=f"{COOKIE}; other=1")
    assert flow.use_session(other) == []
    requests, events = asked(flow, NONCE, user(), ANSWER)
    assert (places(requests)[0], events) == ((AJAX, None), ANSWERED)
    assert {dict(request.headers)["Cookie"] for request in requests} == {other.cookie}


def test_every_transition_of_a_member_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    table = asking.Recorder(TABLE)
    monkeypatch.setattr("opchat_proto._flow.TABLE", table)
    asked(Flow(SITE, ASK, session=ALICE), user(), OPENED, FORBIDDEN, user(), OPENED, ANSWER)
    asked(visiting(WITH_NONCE), EXPIRED, (302, [("Location", "/chat/")], ""), page(), user(), ANSWER)
    ways = {(str(state), str(given)) for state, given in table.taken if given in ("no nonce yet", "member proved")}
    assert ways >= {("PROOF_BODY", "no nonce yet"), ("PROOF_BODY", "member proved")}
    assert ("SUBMIT_BODY", "member to be proved") in {(str(state), str(given)) for state, given in table.taken}


def test_the_question_may_be_too_large_for_the_members_session() -> None:
    limits = Limits(request_bytes=len(b"".join([Request("POST", SITE, (), b"x" * 160).body])))
    flow = Flow(SITE, ASK, session=ALICE, limits=limits)
    long = '{"success":true,"sessionId":"' + "s" * 200 + '","restNonce":"2b24c02613"}'
    (event,) = asked(flow, user(), (200, [], long))[1]
    assert isinstance(event, Broken)
    assert event.limit == "request_bytes"


def test_an_event_stream_proves_nothing() -> None:
    flow = Flow(SITE, ASK, session=ALICE)
    assert flow.next_request() is not None
    flow.receive_head(200, [])
    events = flow.receive_data(b'data: {"type":"live","data":"a"}\n\n')
    assert events == []
    assert not any(isinstance(event, Live) for event in events + flow.receive_eof())
    assert pickle.loads(pickle.dumps(flow)).session == ALICE
