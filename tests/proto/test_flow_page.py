"""A nonce from a page is renewed from that page: once, past the cache, and only if the new one differs."""

import copy
import pickle
from typing import Any

import pytest

from opchat_proto import (
    Awaiting,
    Broken,
    Channel,
    Client,
    Connect,
    Done,
    End,
    Event,
    Flow,
    Limits,
    Reason,
    Receive,
    Request,
    Send,
    Session,
    StartTLS,
    Submit,
    Visit,
)
from tests.proto.pages import SYSTEM, URL, element

SITE = "https://site.example"
ASK = Submit(new_message="Hi")
OLD = Session("0000000000", "6b02fc304cdb0")
MEMBER = Session("0000000000", None, "wordpress_logged_in_1=x", member="alice")
EXPIRED = '{"code":"rest_cookie_invalid_nonce","message":"Cookie check failed","data":{"status":403}}'
NO_ROUTE = '{"code":"rest_no_route","message":"No route.","data":{"status":404}}'
REFUSAL = Broken(Reason.REFUSED, "Cookie check failed", 403, "rest_cookie_invalid_nonce", raw=EXPIRED, asked=True)
HI = '{"success":true,"reply":"Hi"}'
ANSWER: tuple[int, Any, str] = (200, [], HI)
STALE: tuple[int, Any, str] = (403, [], EXPIRED)


def page(nonce: object = "1111111111", **system: Any) -> tuple[int, Any, str]:
    return 200, [], element(SYSTEM | {"restNonce": nonce} | system)


def asked(*answers: tuple[int, Any, str], flow: Flow) -> tuple[list[tuple[str, str | None]], list[Event]]:
    """The path of each request with its nonce, and the events."""
    waiting, events, requests = list(answers), [], []
    while request := flow.next_request():
        requests.append((request.url.removeprefix(SITE), dict(request.headers).get("X-WP-Nonce")))
        status, headers, body = waiting.pop(0)
        events += flow.receive_head(status, headers)
        flow = pickle.loads(pickle.dumps(copy.deepcopy(flow)))
        events += flow.receive_data(body.encode()) + flow.receive_eof()
    assert waiting == []
    assert flow.awaiting is None
    return requests, events


def flow(session: Session | None = OLD, **options: Any) -> Flow:
    member = session if session is not None and session.is_member else None
    return Flow(SITE, ASK, session=session, renewal=Visit(URL, session=member, fresh="r4nd0m"), **options)


SUBMIT = "/wp-json/mwai-ui/v1/chats/submit"
FRESH = "/contact/?opchat=r4nd0m"


def test_a_stale_nonce_is_replaced_from_the_page() -> None:
    requests, events = asked(STALE, page(), ANSWER, flow=flow())
    assert requests == [(SUBMIT, "0000000000"), (FRESH, None), (SUBMIT, "1111111111")]
    assert events == [End("Hi", HI)]


def test_the_session_keeps_its_id_and_has_the_new_nonce() -> None:
    ours = flow()
    for status, headers, body in (STALE, page(), ANSWER):
        assert ours.next_request() is not None
        ours.receive_head(status, headers)
        ours.receive_data(body.encode())
        ours.receive_eof()
    assert ours.session == Session("1111111111", "6b02fc304cdb0")


@pytest.mark.parametrize(
    "found",
    [
        page("0000000000"),  # the same nonce
        page(None),
        page("1111111111", restUrl="https://other.example/wp-json"),
        page("1111111111", restUrl=None),
        page("1111111111", userData={"ID": 1}),  # a member's nonce
        (200, [], "<p>Nothing</p>"),
        (404, [], "Nothing"),
        (302, [("Location", "x:y")], ""),
    ],
)
def test_without_another_nonce_the_question_is_not_repeated(found: Any) -> None:
    requests, events = asked(STALE, found, flow=flow())
    assert [place for place, _ in requests] == [SUBMIT, FRESH]
    assert events == [REFUSAL]


def test_the_question_is_repeated_only_once() -> None:
    requests, events = asked(STALE, page(), STALE, flow=flow())
    assert len(requests) == 3
    assert events == [REFUSAL]
    assert asked(STALE, flow=flow(limits=Limits(restarts=0)))[1] == [REFUSAL]


@pytest.mark.parametrize(("found", "is_asked"), [("2222222222", True), ("0000000000", False)])
def test_the_nonce_that_was_sent_counts_as_the_refused_one(found: str, is_asked: bool) -> None:
    stale = 403, [("X-WP-Nonce", "2222222222")], EXPIRED
    flow = Flow(SITE, ASK, session=OLD, renewal=Visit(URL))
    requests, events = asked(stale, page(found), *[ANSWER] * is_asked, flow=flow)
    assert [nonce for _, nonce in requests] == ["0000000000", None, *[found] * is_asked]
    assert events == ([End("Hi", HI)] if is_asked else [REFUSAL])


def test_the_page_may_redirect() -> None:
    requests, events = asked(STALE, (301, [("Location", "/chat/")], ""), page(), ANSWER, flow=flow())
    assert [place for place, _ in requests] == [SUBMIT, FRESH, "/chat/", SUBMIT]
    assert events == [End("Hi", HI)]


def test_a_site_without_start_session_gives_its_nonce_in_the_page() -> None:
    requests, events = asked((404, [], NO_ROUTE), STALE, page(), ANSWER, flow=flow(None))
    assert [nonce for _, nonce in requests] == [None, None, None, "1111111111"]
    assert events == [End("Hi", HI)]
    (_, events) = asked((404, [], NO_ROUTE), STALE, page(None), flow=flow(None))
    (event,) = events
    assert isinstance(event, Broken)
    assert event.detail.count("Cookie check failed") == 1


def test_a_members_nonce_is_renewed_for_that_member() -> None:
    alice: Any = (200, [], '{"id":2,"slug":"alice"}')
    requests, events = asked(STALE, page(userData={"ID": 1}), alice, ANSWER, flow=flow(MEMBER))
    assert [nonce for _, nonce in requests] == ["0000000000", None, "1111111111", "1111111111"]
    assert events == [End("Hi", HI)]
    assert asked(STALE, page(), flow=flow(MEMBER))[1] == [REFUSAL]


@pytest.mark.parametrize("when", ["due", "head", "body"])
def test_a_failed_visit_leaves_the_refusal(when: str) -> None:
    ours = flow()
    assert ours.next_request() is not None
    ours.receive_head(403, [])
    ours.receive_data(EXPIRED.encode())
    assert ours.receive_eof() == []
    assert ours.awaiting is Awaiting.SESSION
    if when != "due":
        assert ours.next_request() is not None
    if when == "body":
        assert ours.receive_head(103, []) == ours.receive_head(200, []) == []
    assert ours.receive_failure("cut") == [REFUSAL]


def test_another_question_may_have_renewed_the_nonce() -> None:
    ours = flow()
    assert ours.next_request() is not None
    ours.receive_head(403, [])
    ours.receive_data(EXPIRED.encode())
    ours.receive_eof()
    assert ours.use_session(Session("2222222222")) == []
    requests, events = asked(ANSWER, flow=ours)
    assert requests == [(SUBMIT, "2222222222")]
    assert events == [End("Hi", HI)]


def test_only_a_visit_that_has_not_begun_can_renew() -> None:
    begun = Visit(URL)
    begun.next_request()
    with pytest.raises(ValueError, match=r"^renewal: expected a visit that has not begun$"):
        Flow(SITE, ASK, renewal=begun)
    with pytest.raises(TypeError, match=r"^renewal: expected a Visit or None, got str$"):
        Flow(SITE, ASK, renewal=URL)  # type: ignore[arg-type]  # that is the point


# ---------------------------------------------------------------- over connections, and on a channel


def response(status: int, headers: Any, body: str) -> bytes:
    lines = [f"HTTP/1.1 {status} x", *(f"{name}: {value}" for name, value in headers), f"Content-Length: {len(body)}"]
    return ("\r\n".join([*lines, "", ""]) + body).encode()


def driven(machine: Any, *answers: tuple[int, Any, str]) -> tuple[list[str], list[Event]]:
    waiting, events, lines = list(answers), [], []
    while True:
        step = machine.next_step()
        match step:
            case Connect() | StartTLS():
                machine.step_done()
            case Send(data):
                lines.append(data.split(b" HTTP")[0].decode())
                machine.step_done()
            case Receive():
                events += machine.receive_data(response(*waiting.pop(0)))
            case _:
                return lines, events


def test_a_client_drives_the_renewal() -> None:
    lines, events = driven(Client(flow()), STALE, (302, [("Location", "/chat/")], ""), page(), ANSWER)
    assert lines == [f"POST {SUBMIT}", f"GET {FRESH}", "GET /chat/", f"POST {SUBMIT}"]
    assert events == [End("Hi", HI)]


def test_a_channel_renews_from_the_page_once_for_all_calls() -> None:
    channel = Channel(SITE, session=OLD, page=URL, random=lambda: 0.5)
    first, second = channel.call("Hi"), channel.call("Hi")
    lines = []
    waiting = [STALE, page(), ANSWER]
    for call in (first, second):
        while True:
            step, _ = call.next_step(0)
            match step:
                case Connect() | StartTLS():
                    call.step_done()
                case Send(data):
                    lines.append(data.split(b" HTTP")[0].decode())
                    call.step_done()
                case Receive():
                    call.receive_data(response(*(waiting.pop(0) if waiting else ANSWER)))
                case Done():
                    break
        assert call.next_event() == End("Hi", HI)
    assert lines == [f"POST {SUBMIT}", "GET /contact/?opchat=11c37937e08000", f"POST {SUBMIT}", f"POST {SUBMIT}"]
    assert channel.session == Session("1111111111", "6b02fc304cdb0")


def test_a_channel_without_a_random_source_renews_from_the_page_too() -> None:
    call = Channel(SITE, session=OLD, page=URL).http_call("Hi")
    urls = []
    for status, headers, body in (STALE, page(), ANSWER):
        step, _ = call.next_step(0)
        assert isinstance(step, Request)
        urls.append(step.url)
        call.receive_head(status, headers)
        call.next_step(0)
        call.receive_data(body.encode())
        call.receive_eof()
    assert urls[1] == f"{URL}?opchat=0"
    assert isinstance(call.next_step(0)[0], Done)
    assert call.next_event() == End("Hi", HI)
