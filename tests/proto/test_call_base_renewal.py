"""A refused nonce is renewed once for all calls, and a session that an answer updates is shared."""

from collections import Counter
from collections.abc import Callable
from dataclasses import replace

import pytest

from opchat_proto import (
    Broken,
    Call,
    Channel,
    Conversation,
    Limits,
    Live,
    Reason,
    Receive,
    Session,
    Submit,
)
from tests.proto.asking import HI
from tests.proto.calls import (
    FAILURES,
    FRESH,
    LEFT,
    NO_ROUTE,
    OPENED,
    REFUSAL,
    STALE,
    AnyCall,
    Make,
    Reply,
    asks,
    at_once,
    both,
    channel,
    close_it,
    drop_it,
    ended,
    first_refusals,
    signal_of,
    stale,
    taken,
    tell,
)


@both
def test_twenty_stale_nonces_are_renewed_once_and_each_question_is_repeated_once(make: Make) -> None:
    site, calls = at_once(make, 20, session=Session("n0"))
    assert [asks(call) for call in calls] == ["submit n0"] * 20
    for call in calls:
        tell(call, STALE)
    assert Counter(asks(call) for call in calls) == {"start_session": 1, "Wait": 19}
    tell(calls[0], OPENED)
    assert site.session == Session("n1", "s1")
    assert [asks(call) for call in calls] == ["submit n1"] * 20
    for call in calls:
        tell(call, STALE)
        assert ended(call) == [REFUSAL]
    assert asks(make(site, "Later?")) == "submit n1"


@both
def test_a_stale_nonce_is_replaced_by_the_newer_one_of_the_channel(make: Make) -> None:
    site, (slow, quick) = at_once(make, 2, session=Session("n0"))
    assert (asks(slow), asks(quick)) == ("submit n0", "submit n0")
    tell(quick, STALE)
    assert asks(quick) == "start_session"
    tell(quick, OPENED)
    tell(slow, STALE)
    assert asks(slow) == "submit n1"
    tell(slow, STALE)
    assert ended(slow) == [REFUSAL]
    assert site.session == Session("n1", "s1")


@both
@pytest.mark.parametrize("failure", FAILURES)
def test_after_a_failed_renewal_each_call_has_its_own_first_refusal(make: Make, failure: str) -> None:
    site, calls = stale(make, 3, retries=3)
    signals = [signal_of(call) for call in calls[1:]]
    assert (calls[0].next_step(0)[0] == Receive()) is (make is Channel.call)
    FAILURES[failure](calls[0])
    assert all(signal.is_set() for signal in signals)
    assert [ended(call) for call in calls] == first_refusals(3)
    assert site.session == Session("n0")


@both
def test_a_call_that_times_out_waiting_for_a_renewal_was_refused(make: Make) -> None:
    _, calls = stale(make, 2)
    assert ended(calls[1], 340) == first_refusals(2)[1]
    assert asks(calls[0]) == ("Receive" if make is Channel.call else "start_session")


@both
@pytest.mark.parametrize("leave", [close_it, drop_it])
def test_the_next_call_takes_over_an_abandoned_renewal(make: Make, leave: Callable[[list[AnyCall]], object]) -> None:
    _, calls = stale(make, 3)
    waiting = calls[1:]
    leave(calls)
    assert [asks(call) for call in waiting] == ["start_session", "Wait"]
    tell(waiting[0], OPENED)
    assert [asks(call) for call in waiting] == ["submit n1"] * 2


@both
def test_closing_during_a_renewal_leaves_the_question_asked(make: Make) -> None:
    _, calls = stale(make, 3)
    for call in calls[::-1]:
        call.close()
    assert [ended(call) for call in calls] == [[replace(LEFT, asked=True)]] * 3


@both
def test_a_question_refused_while_another_starts_a_session_without_a_nonce_stays_refused(make: Make) -> None:
    site = channel()
    starter = make(site, "1?")
    assert asks(starter) == "start_session"
    call = make(site, "2?", Conversation(session=Session("n0")))  # this session turns out to be stale
    assert asks(call) == "submit n0"
    tell(call, STALE)
    assert asks(call) == "Wait"
    tell(starter, NO_ROUTE)
    assert asks(starter) == "submit None"
    assert ended(call) == [REFUSAL]


@both
def test_a_question_refused_while_another_starts_a_session_uses_that_session(make: Make) -> None:
    site = channel()
    starter = make(site, "1?")
    assert asks(starter) == "start_session"
    call = make(site, "2?", Conversation(session=Session("n0")))
    asks(call)
    tell(call, STALE)
    assert asks(call) == "Wait"
    tell(starter, OPENED)
    assert (asks(starter), asks(call)) == ("submit n1", "submit n1")


@both
@pytest.mark.parametrize("fields", [(), (("Set-Cookie", "mwai_session_id=c1"),)])
def test_the_channel_adopts_the_session_of_an_answer_unless_it_has_a_newer_one(
    make: Make, fields: tuple[tuple[str, str], ...]
) -> None:
    site, (first, second) = at_once(make, 2, session=Session("n0"))
    assert (asks(first), asks(second)) == ("submit n0", "submit n0")
    tell(first, replace(FRESH, fields=fields))
    expected = Session("n9", cookie="mwai_session_id=c1" if fields else "")
    assert site.session == expected
    tell(second, replace(FRESH, body=FRESH.body.replace(b"n9", b"n8")))
    assert site.session == expected
    assert asks(make(site, "Later?")) == "submit n9"


@both
def test_the_channel_adopts_a_cookie_before_the_answer_is_over(make: Make) -> None:
    site = channel(session=Session("n0"))
    call = make(site, "Hi?")
    asks(call)
    cookie = Reply(HI, 200, (("Set-Cookie", "mwai_session_id=c1"),))
    if isinstance(call, Call):
        call.receive_data(cookie.data.replace(b"Length: ", b"Length: 9"))
    else:
        call.receive_head(200, cookie.fields)
        call.receive_data(HI)
    assert site.session == Session("n0", cookie="mwai_session_id=c1")
    assert taken(call) == [Live("Hi")]


@both
def test_a_session_id_that_makes_one_question_too_large_is_used_for_the_others(make: Make) -> None:
    size = len(Submit(new_message="Where? Where?").encode())
    site = channel(limits=Limits(request_bytes=size))
    first, second, third = (make(site, text) for text in ("Where? Where?", "Hi?", "Where? Where?"))
    assert [asks(call) for call in (first, second, third)] == ["start_session", "Wait", "Wait"]
    tell(first, Reply(OPENED.body.replace(b"s1", b"longer")))
    detail = f"more than {size} bytes in the question (Limits.request_bytes)"
    too_large = Broken(Reason.TOO_LARGE, detail, limit="request_bytes")
    assert ended(first) == [too_large]
    assert site.session == Session("n1", "longer")
    assert asks(second) == "submit n1"
    assert ended(third) == [too_large]


@pytest.mark.parametrize("is_cut", [True, False])
def test_the_session_in_a_refusal_of_the_nonce_is_not_shared_however_it_is_cut(is_cut: bool) -> None:
    site = channel(session=Session("n0"))
    call = site.call("Hi?")
    asks(call)
    data = replace(STALE, fields=(("X-WP-Nonce", "n5"),)).data
    at = data.index(b"\r\n\r\n") + 4 if is_cut else len(data)
    call.receive_data(data[:at])
    call.receive_data(data[at:])
    assert asks(call) == "start_session"
    call.receive_eof()
    assert ended(call) == [REFUSAL]
    assert site.session == Session("n0")
