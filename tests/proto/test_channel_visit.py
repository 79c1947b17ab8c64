"""Visits on a channel: same driver, clocks, retries and observer as for questions. Secrets stay on the site."""

import math
from typing import Any

import pytest

from opchat_proto import (
    Broken,
    Call,
    Channel,
    Connect,
    Done,
    End,
    Event,
    HTTPCall,
    Reason,
    Receive,
    Request,
    Send,
    Session,
    StartTLS,
    Timeouts,
    Wait,
)
from tests.proto.pages import CHAT, PAGE, URL

SITE = "https://site.example"
MEMBER = Session("n", None, "wordpress_logged_in_1=x")


def response(status: int, body: str = "", *headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status} x", *headers, f"Content-Length: {len(body)}", "", body]
    return "\r\n".join(lines).encode()


def driven(call: Call, *answers: bytes) -> tuple[list[Any], list[Event]]:
    """The steps of a visit over connections, and its events."""
    waiting = list(answers)
    steps: list[Any] = []
    while True:
        step, until = call.next_step(0)
        assert until > 0
        steps.append(step)
        match step:
            case Connect() | StartTLS() | Send():
                call.step_done()
            case Receive():
                call.receive_data(waiting.pop(0))
            case Done():
                assert call.next_step(0) == (step, math.inf)
                return steps, [event for event in (call.next_event(), call.next_event()) if event is not None]
            case _:
                return steps, []


def sent(steps: list[Any]) -> list[str]:
    return [step.data.decode() for step in steps if isinstance(step, Send)]


def test_a_page_is_visited_without_a_session() -> None:
    call = Channel(SITE).visit(URL)
    steps, events = driven(call, response(200, CHAT))
    assert [type(step) for step in steps] == [Connect, StartTLS, Send, Receive, Done]
    assert (events, call.page) == ([End(None)], PAGE)
    assert not hasattr(call, "submit")
    assert repr(call) == "<Call to https://site.example OVER after 1 events>"


def test_a_redirect_leads_to_another_host() -> None:
    call = Channel(SITE).visit(URL)
    steps, events = driven(call, response(302, "", "Location: http://other.example/"), response(200, CHAT))
    assert [step for step in steps if isinstance(step, Connect)] == [
        Connect("site.example", 443),
        Connect("other.example", 80),
    ]
    assert events == [End(None)]


def test_an_answer_that_is_not_a_page_breaks_the_visit() -> None:
    call = Channel(SITE).visit(URL)
    assert driven(call, response(404, "Nothing"))[1] == [Broken(Reason.REFUSED, "Nothing", 404, raw="Nothing")]
    assert call.page is None


@pytest.mark.parametrize(
    ("url", "goes"), [(URL, True), ("http://site.example/", False), ("https://other.example/", False)]
)
def test_secret_headers_go_only_to_the_channels_own_site(url: str, goes: bool) -> None:
    channel = Channel(SITE, session=MEMBER, headers={"X-Key": "secret", "User-Agent": "Mine"})
    (head,) = sent(driven(channel.visit(url), response(200))[0])
    assert ("Cookie: wordpress_logged_in_1=x" in head) == ("X-Key: secret" in head) == goes
    assert "User-Agent: Mine" in head
    assert channel.session == MEMBER


def test_a_fresh_page_is_requested_past_the_cache() -> None:
    (head,) = sent(driven(Channel(SITE).visit(URL, fresh="r4nd0m"), response(200))[0])
    assert head.startswith("GET /contact/?opchat=r4nd0m HTTP/1.1\r\n")
    assert "Cache-Control: no-cache\r\n" in head


def test_a_visit_that_did_not_reach_the_site_is_retried() -> None:
    call = Channel(SITE, retries=1, random=lambda: 0.0).visit(URL)
    call.next_step(0)
    call.step_failed("Connection refused")
    assert call.next_step(0) == (Wait(None), 0.5)
    assert isinstance(call.next_step(1)[0], Connect)
    assert driven(call, response(200, CHAT))[1] == [End(None)]
    assert (call.retries, call.page) == (1, PAGE)


def test_a_page_that_does_not_arrive_times_out() -> None:
    call = Channel(SITE, timeouts=Timeouts(first_event=7)).visit(URL)
    for _ in range(3):
        call.next_step(0)
        call.step_done()
    assert call.next_step(0) == (Receive(), 7)
    call.receive_data(response(200, CHAT)[:-1])
    assert call.next_step(6) == (Receive(), 7)
    assert isinstance(call.next_step(7)[0], Done)
    event = call.next_event()
    assert isinstance(event, Broken)
    assert (event.reason, event.limit) == (Reason.TIMEOUT, "first_event")


def test_close_ends_a_visit() -> None:
    call = Channel(SITE).visit(URL)
    call.next_step(0)
    call.close()
    assert isinstance(call.next_step(0)[0], Done)
    assert (call.next_event(), call.page) == (Broken(Reason.LOST, "closed by the caller"), None)


def test_the_observer_sees_a_visit_like_a_question() -> None:
    seen: list[Any] = []
    call = Channel(SITE, observer=lambda _, item: seen.append(type(item).__name__)).visit(URL)
    driven(call, response(200, CHAT))
    steps = ["Connect", "StepDone", "StartTLS", "StepDone", "Send", "StepDone", "Receive", "DataReceived"]
    assert seen == [*steps, "End", "Done"]


def http(call: HTTPCall, *answers: tuple[int, list[tuple[str, str]], bytes]) -> tuple[list[str], list[Event]]:
    waiting = list(answers)
    urls = []
    body = b""
    while True:
        step, _ = call.next_step(0)
        match step:
            case Request():
                urls.append(step.url)
                status, headers, body = waiting.pop(0)
                call.receive_head(status, headers)
            case Receive():
                call.receive_data(body)
                call.receive_eof()
            case _:
                return urls, [event for event in (call.next_event(),) if event is not None]


def test_a_page_is_visited_over_an_http_library() -> None:
    call = Channel(SITE).http_visit(URL)
    answers: Any = [(301, [("Location", "/chat")], b""), (200, [], CHAT.encode())]
    assert http(call, *answers) == ([URL, "https://site.example/chat"], [End(None)])
    assert call.page is not None
    assert [bot.bot_id for bot in call.page.bots] == ["default"]


def test_an_invalid_page_address_raises_at_once() -> None:
    for method in (Channel(SITE).visit, Channel(SITE).http_visit):
        with pytest.raises(ValueError, match=r"^url: expected the address of a page"):
            method("site.example")
    with pytest.raises(ValueError, match=r"^fresh: "):
        Channel(SITE).visit(URL, fresh="a b")


def test_the_page_of_a_question_is_none() -> None:
    call = Channel(SITE).call("Hi")
    assert call.page is None
    assert call.submit.new_message == "Hi"


def test_the_page_option_must_be_an_address() -> None:
    assert Channel(SITE, page=URL).session is None
    with pytest.raises(ValueError, match=r"^url: expected the address of a page"):
        Channel(SITE, page="contact")
