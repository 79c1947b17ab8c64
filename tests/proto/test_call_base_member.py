"""A member's calls: one of them asks the site who the member is, while the others wait."""

import json
from dataclasses import replace
from typing import Any

import pytest

from opchat_proto import Broken, Channel, Conversation, Done, End, HTTPCall, Receive, Request, Session, Submit, Wait
from tests.proto.members import (
    ALICE,
    ANSWER,
    COOKIE,
    FORBIDDEN,
    HI,
    ME,
    NO_ROUTE,
    NONCE,
    NOT_LOGGED_IN,
    OPENED,
    SITE,
    START,
    SUBMIT,
    Answer,
    user,
)

COOKIES = Session(cookie=COOKIE)
AJAX = "/wp-admin/admin-ajax.php?action=rest-nonce"


def asks(call: HTTPCall) -> str:
    """The next request, or the step if it is not one."""
    step, _ = call.next_step(0)
    return step.url.removeprefix(SITE) if isinstance(step, Request) else type(step).__name__


def tell(call: HTTPCall, answer: Answer) -> None:
    status, headers, body = answer
    call.receive_head(status, headers)
    assert isinstance(call.next_step(0)[0], Receive | Wait | Done | Request)
    call.receive_data(body.encode())
    call.receive_eof()


def asked(call: HTTPCall, *answers: Answer) -> list[str]:
    """All requests until the call is over."""
    waiting, places = list(answers), []
    while (place := asks(call)) != "Done":
        places.append(place)
        tell(call, waiting.pop(0))
    assert waiting == []
    return places


def ended(call: HTTPCall) -> Any:
    assert isinstance(call.next_step(0)[0], Done)
    return call.next_event()


@pytest.mark.parametrize(
    ("session", "opening"),
    [
        (ALICE, [(ME, user()), (START, OPENED)]),
        (COOKIES, [(AJAX, NONCE), (ME, user())]),
        (replace(COOKIES, nonce="0000000000"), [(ME, user())]),
    ],
)
def test_the_first_call_proves_the_member_and_the_others_wait(
    session: Session, opening: list[tuple[str, Answer]]
) -> None:
    channel = Channel(SITE, session=session)
    calls = [channel.http_call("Hi") for _ in range(3)]
    first, *others = calls
    for place, answer in opening:
        assert [asks(call) for call in calls] == [place, "Wait", "Wait"]
        assert [asks(call) for call in others] == ["Wait", "Wait"]
        tell(first, answer)
    assert [asks(call) for call in calls] == [SUBMIT] * 3
    for call in calls:
        tell(call, ANSWER)
        assert ended(call) == End("Hi", HI)
    assert channel.session is not None
    assert channel.session.member == "alice"


def test_a_session_with_a_proved_member_needs_no_proof() -> None:
    channel = Channel(SITE, session=ALICE)
    assert asked(channel.http_call("Hi"), user(), OPENED, ANSWER) == [ME, START, SUBMIT]
    assert asked(Channel(SITE, session=channel.session).http_call("Hi"), ANSWER) == [SUBMIT]
    conversation = Conversation(session=channel.session)
    again = Conversation.from_dict(json.loads(json.dumps(conversation.to_dict())))
    assert asked(Channel(SITE).http_call("Hi", again, chat_id="c"), ANSWER) == [SUBMIT]


def test_a_members_session_may_come_with_the_conversation() -> None:
    channel = Channel(SITE)
    call = channel.http_call("Hi", Conversation(session=COOKIES), chat_id="c")
    assert channel.session == COOKIES
    assert asked(call, NONCE, user(), ANSWER) == [AJAX, ME, SUBMIT]


@pytest.mark.parametrize("given", [Session("n"), COOKIES, replace(ALICE, member="bob")])
def test_a_channel_of_a_guest_or_another_member_refuses_a_members_conversation(given: Session) -> None:
    channel = Channel(SITE, session=given)
    conversation = Conversation(session=replace(ALICE, member="alice"))
    with pytest.raises(ValueError, match=r"^conversation: its session is a member's, and the channel's is another's"):
        channel.http_call("Hi", conversation, chat_id="c")
    assert (channel.session, conversation.chat_id) == (replace(given, origin=SITE), None)
    conversation.session = None
    channel.http_call("Hi", conversation, chat_id="c")


def test_a_members_question_does_not_use_a_session_that_a_guests_question_started() -> None:
    channel = Channel(SITE)
    guest = channel.http_call("Hi")
    assert asks(guest) == START
    member = channel.http_call("Hi", Conversation(session=ALICE), chat_id="c")
    assert asks(member) == "Wait"
    tell(guest, OPENED)
    assert asked(member, user(), OPENED, ANSWER) == [ME, START, SUBMIT]
    assert asked(guest, ANSWER) == [SUBMIT]


def test_an_unknown_member_ends_all_waiting_calls_and_the_next_call_tries_again() -> None:
    channel = Channel(SITE, session=ALICE)
    calls = [channel.http_call("Hi") for _ in range(3)]
    assert [asks(call) for call in calls] == [ME, "Wait", "Wait"]
    tell(calls[0], NOT_LOGGED_IN)
    assert [asks(call) for call in calls] == ["Done"] * 3
    events = [call.next_event() for call in calls]
    assert all(isinstance(event, Broken) and event.code == "rest_not_logged_in" for event in events)
    assert events[0] == events[1] == events[2]
    assert channel.session == ALICE
    assert asked(channel.http_call("Hi"), user(), OPENED, ANSWER) == [ME, START, SUBMIT]


def test_if_the_first_call_is_closed_the_next_proves_the_member() -> None:
    channel = Channel(SITE, session=COOKIES)
    first, second = channel.http_call("Hi"), channel.http_call("Hi")
    assert [asks(first), asks(second)] == [AJAX, "Wait"]
    tell(first, NONCE)
    assert asks(first) == ME
    first.close()
    assert asked(second, NONCE, user(), ANSWER) == [AJAX, ME, SUBMIT]


def test_a_call_made_before_the_proof_uses_it_too() -> None:
    channel = Channel(SITE, session=ALICE)
    late = channel.http_call("Hi")
    assert asked(channel.http_call("Hi"), user(), OPENED, ANSWER) == [ME, START, SUBMIT]
    assert asked(late, ANSWER) == [SUBMIT]


def test_a_refused_nonce_is_renewed_once_for_all_calls() -> None:
    channel = Channel(SITE, session=replace(ALICE, nonce="aca71a50b1", member="alice"))
    first, second = channel.http_call("Hi"), channel.http_call("Hi")
    assert [asks(first), asks(second)] == [SUBMIT, SUBMIT]
    for call in (first, second):
        tell(call, FORBIDDEN)
    assert [asks(first), asks(second)] == [ME, "Wait"]
    tell(first, user())
    assert [asks(first), asks(second)] == [START, "Wait"]
    tell(first, OPENED)
    assert [asks(first), asks(second)] == [SUBMIT, SUBMIT]
    for call in (first, second):
        tell(call, ANSWER)
        assert ended(call) == End("Hi", HI)


def test_a_renewal_without_a_member_leaves_each_call_its_refusal() -> None:
    channel = Channel(SITE, session=replace(ALICE, nonce="aca71a50b1", member="alice"))
    first, second = channel.http_call("Hi"), channel.http_call("Hi")
    for call in (first, second):
        assert asks(call) == SUBMIT
    for call in (first, second):
        tell(call, FORBIDDEN)
    assert [asks(first), asks(second)] == [ME, "Wait"]
    tell(first, NOT_LOGGED_IN)
    for call in (first, second):
        event = ended(call)
        assert isinstance(event, Broken)
        assert (event.code, event.asked) == ("rest_forbidden", True)


def test_where_no_nonce_is_needed_each_question_is_preceded_by_a_proof() -> None:
    channel = Channel(SITE, session=ALICE)
    first, second = channel.http_call("Hi"), channel.http_call("Hi")
    assert [asks(first), asks(second)] == [ME, "Wait"]
    tell(first, user())
    assert asks(first) == START
    tell(first, NO_ROUTE)
    assert [asks(first), asks(second)] == [SUBMIT, ME]
    assert asked(second, user(), NO_ROUTE, ANSWER) == [ME, START, SUBMIT]
    tell(first, ANSWER)
    assert ended(first) == End("Hi", HI)


def test_a_retried_question_uses_the_earlier_proof() -> None:
    channel = Channel(SITE, session=ALICE, retries=1)
    call = channel.http_call(Submit(new_message="Hi", chat_id="c"))
    assert asks(call) == ME
    call.step_failed("refused", sent=False)
    assert isinstance(call.next_step(0)[0], Wait)
    step, _ = call.next_step(100)
    assert isinstance(step, Request)
    assert asked(call, user(), OPENED, ANSWER) == [ME, START, SUBMIT]
    assert call.retries == 1
