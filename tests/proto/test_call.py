"""The outer ring in virtual time: the shared session, leaving, asking again, the observer, and what is legal when."""

import gc
import math
import re
import threading
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import pytest

from opchat_proto import (
    Broken,
    Call,
    Channel,
    Connect,
    Conversation,
    Done,
    Endpoint,
    Event,
    HTTPCall,
    InvalidMessages,
    Limits,
    Live,
    LocalProtocolError,
    Message,
    Proxy,
    QuestionLike,
    Reason,
    Receive,
    Request,
    Send,
    Session,
    Submit,
    TimedOut,
    Timeouts,
    Wait,
    _call,
)
from opchat_proto._call import TABLE, State  # the table itself is not public, and is walked over here
from tests.proto.asking import ANSWER, ANSWERED, END, HI, Recorder, content_length

# ------------------------------------------------------------------------------------------------ both kinds of call

AnyCall: TypeAlias = Call | HTTPCall
Make: TypeAlias = Callable[..., AnyCall]

KINDS: dict[Make, type[AnyCall]] = {Channel.call: Call, Channel.http_call: HTTPCall}
both = pytest.mark.parametrize("make", KINDS)


@dataclass(frozen=True)
class Reply:
    """The answer to one request."""

    body: bytes
    status: int = 200
    fields: tuple[tuple[str, str], ...] = ()

    @property
    def data(self) -> bytes:
        fields = (f"{name}: {value}".encode() for name, value in self.fields)
        return content_length(self.body, *fields, status=b"%d -" % self.status)


OPENED = Reply(b'{"success":true,"sessionId":"s1","restNonce":"n1"}')
OPENED_AGAIN = Reply(b'{"success":true,"sessionId":"s2","restNonce":"n2"}')
NO_ROUTE = Reply(b'{"code":"rest_no_route","message":"No route"}', 404)
STALE = Reply(b'{"code":"rest_cookie_invalid_nonce","message":"Stale"}', 403)
GOOD = Reply(ANSWER)
DOWN = Reply(b"down", 503)
FRESH = Reply(b'data: {"type":"end","data":"{\\"success\\":true,\\"reply\\":\\"Hi\\",\\"new_token\\":\\"n9\\"}"}\n\n')

CLOSED = "closed by the caller"
REFUSAL = Broken(Reason.REFUSED, "Stale", 403, "rest_cookie_invalid_nonce", raw=STALE.body.decode(), asked=True)
NO_SESSION = Broken(Reason.REFUSED, "start_session: down", 503, raw="down", in_session=True)
LEFT = Broken(Reason.LOST, CLOSED, in_session=True)
CUT = Broken(Reason.TRUNCATED, CLOSED, asked=True)
WAITED = "no session from the question before within 300 s (timeout 'first_event'), after 0 events"
NO_CONNECTION = {
    Call: Broken(Reason.LOST, "could not connect to site.example:80: refused"),
    HTTPCall: Broken(Reason.LOST, "refused"),
}


def channel(**options: Any) -> Channel:
    return Channel("http://site.example", **options)


def put_off(seconds: int) -> Reply:
    return Reply(b"later", 429, (("Retry-After", str(seconds)),))


def refused(seconds: int, **more: Any) -> Broken:
    """What `put_off` is to the question, or with `in_session` to all that wait for a session."""
    detail = "start_session: later" if more else "later"
    return Broken(Reason.REFUSED, detail, 429, None, seconds, "later", **(more or {"asked": True}))


def asks(call: AnyCall, now: float = 0.0) -> str:
    """Take every step up to a request, and that one too over a connection: what is asked; or the step that is left."""
    while True:
        step, _ = call.next_step(now)
        match step:
            case Request():
                nonce = dict(step.headers).get("X-WP-Nonce")
                return "start_session" if step.url.endswith("/start_session") else f"submit {nonce}"
            case Wait() | Receive() | Done():
                return type(step).__name__
        assert isinstance(call, Call)
        call.step_done()
        if isinstance(step, Send) and step.data.startswith(b"POST "):
            found = re.search(rb"X-WP-Nonce: (\S+)", step.data)
            nonce = found and found[1].decode()
            return "start_session" if b"/start_session " in step.data else f"submit {nonce}"


def tell(call: AnyCall, reply: Reply) -> None:
    """The whole answer to a request."""
    if isinstance(call, Call):
        call.receive_data(reply.data)
    else:
        call.receive_head(reply.status, reply.fields)
        call.receive_data(reply.body)
        call.receive_eof()


def begin(call: AnyCall, body: bytes) -> None:
    """The head of an answer, and the beginning of its body."""
    if isinstance(call, Call):
        call.receive_data(b"HTTP/1.1 200 -\r\n\r\n" + body)
    else:
        call.receive_head(200, [])
        call.receive_data(body)


def reach_nobody(call: AnyCall) -> None:
    """The step failed, and it is certain that nobody has been asked."""
    if isinstance(call, Call):
        call.step_failed("refused")
    else:
        call.step_failed("refused", sent=False)


def taken(call: AnyCall) -> list[Event]:
    events = []
    while (event := call.next_event()) is not None:
        events.append(event)
    return events


def ended(call: AnyCall, now: float = 0.0) -> list[Event]:
    """The events of a call that is over. The last comes after `Done`."""
    before = taken(call)
    assert state_of(call) == State.OVER or all(isinstance(event, Live) for event in before)
    assert call.next_step(now) == (Done(), math.inf)
    return before + taken(call)


def signal_of(call: AnyCall, now: float = 0.0) -> threading.Event:
    step, _ = call.next_step(now)
    assert isinstance(step, Wait)
    assert isinstance(step.signal, threading.Event)
    return step.signal


def at_once(make: Make, count: int, **options: Any) -> tuple[Channel, list[AnyCall]]:
    """A channel with signals, and so many calls. Without a session the first starts one, and the others wait."""
    site = channel(signal=threading.Event, **options)
    calls = [make(site, "Hi?") for _ in range(count)]
    if site.session is None:
        assert [asks(call) for call in calls] == ["start_session", *["Wait"] * (count - 1)]
    return site, calls


# ------------------------------------------------------------------------------------------------ what is legal when


def state_of(call: AnyCall) -> str:
    return repr(call).split()[3]


def at(state: State, make: Make, **options: Any) -> tuple[AnyCall, AnyCall | None]:
    """A call in this state, and the one that it waits for."""
    session = None if state in (State.SESSION, State.WAIT, State.START) else Session()
    site = channel(session=session, retries=int(state is State.PAUSE), **options)
    starter = None
    if state is State.WAIT:
        starter = make(site, "Hi?")
        starter.next_step(0)
    call = make(site, "Hi?")
    if state is not State.SESSION:
        call.next_step(0)
    if state is State.PAUSE:
        reach_nobody(call)
    if state in (State.LAST, State.OVER):
        call.close()
    if state is State.OVER:
        call.next_step(0)
    assert state_of(call) == state
    return call, starter


CALLS: dict[str, Callable[[Any], object]] = {
    "step_done": Call.step_done,
    "step_failed": lambda call: call.step_failed("no way"),
    "receive_head": lambda call: call.receive_head(200, []),
    "receive_data": lambda call: call.receive_data(b"H"),
    "receive_eof": lambda call: call.receive_eof(),
    "timed_out": lambda call: call.timed_out(),
    "close": lambda call: call.close(),
    "next_step": lambda call: call.next_step(0),
}
REPORTS = ("step_failed", "receive_head", "receive_data", "receive_eof")
WORKING = (State.START, State.ASK)

# Where a call leads that either kind has. What is missing raises.
LEGAL: dict[State, dict[str, State]] = {
    State.SESSION: {
        **dict.fromkeys((*REPORTS, "timed_out"), State.SESSION),
        "close": State.LAST,
        "next_step": State.START,
    },
    State.WAIT: {
        **dict.fromkeys((*REPORTS, "next_step"), State.WAIT),
        **dict.fromkeys(("timed_out", "close"), State.LAST),
    },
    **{
        state: {
            **dict.fromkeys(("step_done", "receive_head", "next_step"), state),
            **dict.fromkeys(("step_failed", "timed_out", "close"), State.LAST),
        }
        for state in WORKING
    },
    State.PAUSE: {**dict.fromkeys((*REPORTS, "timed_out", "next_step"), State.PAUSE), "close": State.LAST},
    State.LAST: {**dict.fromkeys(CALLS, State.LAST), "next_step": State.OVER},
    State.OVER: dict.fromkeys(CALLS, State.OVER),
}
# At Connect bytes and a close are late news; at Request there is no answer yet that bytes could belong to.
AT_WORK: dict[type, dict[str, State | None]] = {
    Call: {"receive_data": None, "receive_eof": None},
    HTTPCall: {"receive_eof": State.LAST},
}


def legal(kind: type, state: State) -> dict[str, State]:
    row = {name: target for name, target in LEGAL[state].items() if hasattr(kind, name)}
    if state in WORKING:
        row |= {name: target or state for name, target in AT_WORK[kind].items()}
    return row


EVERY = [(make, state, name) for make in KINDS for state in State for name in CALLS if hasattr(KINDS[make], name)]


@pytest.mark.parametrize(("make", "state", "name"), EVERY)
def test_every_call_in_every_state(make: Make, state: State, name: str) -> None:
    seen: list[object] = []
    call, _starter = at(state, make, observer=lambda _, item: seen.append(item))
    row = legal(type(call), state)
    if name in row:
        CALLS[name](call)
        assert state_of(call) == row[name]
    else:
        before = repr(call), list(seen)
        with pytest.raises(LocalProtocolError, match=rf"^(Call|Flow): {name} is not legal in state \w+$"):
            CALLS[name](call)
        assert (repr(call), seen) == before
        assert call.next_event() is None
        CALLS["next_step"](call)
        assert state_of(call) == row["next_step"]


@both
@pytest.mark.parametrize("state", State)
def test_what_is_legal_is_what_the_table_says(make: Make, state: State) -> None:
    kind = KINDS[make]
    row = {given.value for given in TABLE.rows[state] if hasattr(kind, given.value)}
    if state in WORKING and kind is HTTPCall:
        row.remove("receive_data")  # until the head has come, which is for the flow to say
    if state in (State.LAST, State.OVER):
        row = {name for name in CALLS if hasattr(kind, name)}
    assert row | {"next_step", "timed_out"} == set(legal(kind, state))


@both
@pytest.mark.parametrize("state", State)
def test_no_bytes_are_legal_always_and_change_nothing(make: Make, state: State) -> None:
    call, _starter = at(state, make)
    before = repr(call)
    for nothing in (b"", bytearray(), memoryview(b"")):
        call.receive_data(nothing)
    assert repr(call) == before


@both
@pytest.mark.parametrize("state", State)
def test_wrong_types_raise_and_change_nothing(make: Make, state: State) -> None:
    call: Any
    call, _starter = at(state, make)
    before = repr(call)
    for wrong in ("text", None, 5, [72]):
        with pytest.raises(TypeError):
            call.receive_data(wrong)
    with pytest.raises(TypeError, match=r"^expected a str and a Reason, got bytes, Reason$"):
        call.step_failed(b"bytes")
    with pytest.raises(TypeError, match=r"^expected a str and a Reason, got str, str$"):
        call.step_failed("text", "lost")
    assert repr(call) == before


@pytest.mark.parametrize("state", State)
def test_a_head_of_a_wrong_type_raises_and_changes_nothing(state: State) -> None:
    call: Any
    call, _starter = at(state, Channel.http_call)
    before = repr(call)
    for status, fields in (("200", ()), (200, 5), (200, [("a",)])):
        with pytest.raises(TypeError):
            call.receive_head(status, fields)
    assert repr(call) == before


@both
@pytest.mark.parametrize("state", State)
def test_the_same_step_is_given_until_it_is_reported_and_at_one_time(make: Make, state: State) -> None:
    seen: list[object] = []
    call, _starter = at(state, make, signal=threading.Event, observer=lambda _, item: seen.append(item))
    first = call.next_step(0)
    times = len(seen)
    assert (call.next_step(0), call.next_step(0.5)) == (first, first)
    assert len(seen) == times


def test_a_step_that_does_not_fit_the_report_raises_and_the_answer_goes_on() -> None:
    call = channel(session=Session()).call("Hi?")
    assert (asks(call), asks(call)) == ("submit None", "Receive")
    with pytest.raises(LocalProtocolError, match=r"^Client: step_done is not legal in state RECEIVE$"):
        call.step_done()
    tell(call, GOOD)
    assert ended(call) == ANSWERED


def test_a_second_head_raises_and_the_answer_goes_on() -> None:
    call = channel(session=Session()).http_call("Hi?")
    asks(call)
    call.receive_head(200, [])
    with pytest.raises(LocalProtocolError, match=r"^Flow: receive_head is not legal in state SUBMIT_BODY$"):
        call.receive_head(200, [])
    call.receive_data(ANSWER)
    assert ended(call) == ANSWERED


def test_every_move_of_the_table_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    table = Recorder(TABLE)
    monkeypatch.setattr(_call, "TABLE", table)
    for make, state, name in EVERY:
        test_every_call_in_every_state(make, state, name)
    for make in KINDS:
        test_a_hundred_calls_at_once_need_one_session(make)
        test_the_next_call_takes_over_from_a_starter_that_leaves(make, lambda calls: calls[0].close())
        test_who_waits_is_put_off_with_the_starter_and_then_one_starts_again(make)
        test_twenty_stale_nonces_are_renewed_once_and_each_question_asked_once_more(make)
        test_news_of_connections_that_nobody_wants_any_more_change_nothing(make, "receive_data")
        test_who_waits_when_start_session_fails_ends_as_the_starter_did(make)
    call = channel(session=Session()).call("Hi?")
    asks(call)
    call.receive_data(memoryview(GOOD.data))  # bytes take a shorter way
    assert ended(call) == ANSWERED
    assert table.untaken == set()


def test_the_table_begins_with_the_session_and_ends_with_over() -> None:
    assert TABLE.start == (State.SESSION,)
    assert set(TABLE.rows) == set(LEGAL) == set(State)
    assert TABLE.rows[State.OVER] == {}


# ------------------------------------------------------------------------------------------------ the steps


def test_the_steps_of_a_question_over_connections() -> None:
    call = channel().call([{"role": "user", "content": "Hi?"}])
    for is_first, asked_for in ((True, "start_session"), (False, "submit n1")):
        assert call.next_step(100) == (Connect("site.example", 80), 110)
        call.step_done()
        step, until = call.next_step(101)
        assert (type(step), until) == (Send, 131)
        assert asks(call, 101) == asked_for
        assert call.next_step(102) == (Receive(), 402)
        tell(call, OPENED if is_first else GOOD)
    assert taken(call) == [Live("Hi")]
    assert call.next_step(103) == (Done(), math.inf)
    assert taken(call) == [ANSWERED[1]]
    assert taken(call) == []


def test_the_steps_of_a_question_over_an_http_library() -> None:
    call = channel().http_call("Hi?")
    for is_first, asked_for in ((True, "start_session"), (False, "submit n1")):
        step, until = call.next_step(100)
        assert isinstance(step, Request)
        assert until == 100 + 10 + 30 + 300  # connect, write and first_event, which the library does in one go
        assert asks(call, 101) == asked_for
        call.receive_head(103, [("Link", "</style.css>")])
        assert call.next_step(102) == (step, until)
        call.receive_head(200, [])
        assert call.next_step(103) == (Receive(), 403)
        call.receive_data((OPENED.body, ANSWER)[not is_first])
        call.receive_eof()
    assert ended(call, 104) == ANSWERED


@both
def test_pieces_are_given_as_they_come_and_the_last_event_only_after_done(make: Make) -> None:
    call = make(channel(session=Session()), "Hi?")
    asks(call)
    begin(call, HI + HI)
    assert call.next_event() == Live("Hi")
    call.receive_data(HI + END)
    assert taken(call) == [Live("Hi"), Live("Hi")]
    assert call.next_event() is None
    assert call.next_step(0) == (Done(), math.inf)
    assert [call.next_event(), call.next_event()] == [ANSWERED[1], None]
    assert call.next_step(0) == (Done(), math.inf)


@pytest.mark.parametrize("proxy", ["http://proxy.example:3128", Proxy.parse("proxy.example:3128")])
def test_connections_lead_through_the_proxy_and_an_http_library_has_its_own(proxy: Proxy | str) -> None:
    site = channel(session=Session(), proxy=proxy)
    assert site.proxy == Proxy("http", "proxy.example", 3128)
    assert site.call("Hi?").next_step(0)[0] == Connect("proxy.example", 3128)
    request = site.http_call("Hi?").next_step(0)[0]
    assert isinstance(request, Request)
    assert request.url == "http://site.example/wp-json/mwai-ui/v1/chats/submit"


@both
def test_what_is_shown_is_where_it_goes_and_how_far_it_is(make: Make) -> None:
    site = channel(session=Session("s3cr3t"), headers={"X-Key": "s3cr3t"})
    call = make(site, "s3cr3t")
    name = type(call).__name__
    asks(call)
    begin(call, HI + HI)
    assert repr(call) == f"<{name} to http://site.example ASK after 2 events>"
    call.close()
    assert repr(call) == f"<{name} to http://site.example LAST after 3 events>"
    assert repr(site) == "<Channel to http://site.example>"
    assert call.channel is site
    assert call.submit == Submit(new_message="s3cr3t")


@pytest.mark.parametrize("late", ["receive_data", "receive_eof", "step_failed"])
@both
def test_news_of_connections_that_nobody_wants_any_more_change_nothing(make: Make, late: str) -> None:
    def news(call: AnyCall) -> None:
        CALLS[late](call)
        assert taken(call) == []

    site, (starter, call) = at_once(make, 2, retries=1)
    news(call)  # while a Wait
    tell(starter, OPENED)
    if make is Channel.call and late != "step_failed":
        assert call.next_step(0) == (Connect("site.example", 80), 10)
        news(call)
    assert asks(call) == "submit n1"
    tell(call, STALE)
    news(call)  # before anything is asked for
    assert asks(call) == "start_session"
    tell(call, OPENED_AGAIN)
    if make is Channel.call and late != "step_failed":
        news(call)
    assert asks(call) == "submit n2"
    tell(call, put_off(5))
    news(call)  # in the pause
    assert asks(call) == "Wait"
    news(call)
    assert asks(call, 5) == "submit n2"
    tell(call, GOOD)
    assert repr(call).endswith(" LAST after 2 events>")
    CALLS[late](call)
    assert ended(call) == ANSWERED
    news(call)
    assert site.session == Session("n2", "s2")


# ------------------------------------------------------------------------------------------------ one session for all


@both
def test_a_hundred_calls_at_once_need_one_session(make: Make) -> None:
    site, calls = at_once(make, 100)
    signals = [signal_of(call) for call in calls[1:]]
    assert not any(signal.is_set() for signal in signals)
    tell(calls[0], OPENED)
    assert all(signal.is_set() for signal in signals)
    assert len(set(signals)) == 99
    assert site.session == Session("n1", "s1")
    assert [asks(call) for call in calls] == ["submit n1"] * 100
    for call in calls:
        tell(call, GOOD)
        assert ended(call) == ANSWERED


@both
def test_without_signals_it_is_enough_to_ask_again(make: Make) -> None:
    site = channel()
    starter, call = make(site, "1?"), make(site, "2?")
    asks(starter)
    assert [call.next_step(now) for now in (5, 6)] == [(Wait(None), 305)] * 2
    tell(starter, OPENED)
    assert asks(call, 7) == "submit n1"


@both
def test_who_waits_when_start_session_fails_ends_as_the_starter_did(make: Make) -> None:
    site, calls = at_once(make, 100)
    signals = [signal_of(call) for call in calls[1:]]
    tell(calls[0], DOWN)
    assert all(signal.is_set() for signal in signals)
    later = make(site, "Later?")
    assert asks(later) == "start_session"  # while those before have not even looked
    assert [ended(call) for call in calls] == [[NO_SESSION]] * 100
    assert (site.session, asks(later)) == (None, "Receive" if make is Channel.call else "start_session")


@both
def test_a_session_id_that_makes_one_question_too_large_is_good_for_the_others(make: Make) -> None:
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


@both
def test_who_waits_is_put_off_with_the_starter_and_then_one_starts_again(make: Make) -> None:
    site, calls = at_once(make, 3, retries=1)
    tell(calls[0], put_off(5))
    assert [call.next_step(10)[1] for call in calls] == [15] * 3
    assert [asks(call, 15) for call in calls[::-1]] == ["start_session", "Wait", "Wait"]
    assert [call.next_step(16)[1] for call in calls[:2]] == [315, 315]
    assert [call.retries for call in calls] == [1] * 3
    tell(calls[2], put_off(5))
    assert [ended(call, 16) for call in calls] == [[refused(5, in_session=True)]] * 3
    assert asks(make(site, "Later?"), 17) == "start_session"


def close_it(calls: list[AnyCall]) -> None:
    calls[0].close()


def drop_it(calls: list[AnyCall]) -> None:
    del calls[0]
    gc.collect()


@both
@pytest.mark.parametrize("leave", [close_it, drop_it])
def test_the_next_call_takes_over_from_a_starter_that_leaves(
    make: Make, leave: Callable[[list[AnyCall]], object]
) -> None:
    _, calls = at_once(make, 4)
    waiting = calls[1:]
    signals = [signal_of(call) for call in waiting]
    leave(calls)
    assert all(signal.is_set() for signal in signals)
    assert [asks(call, 1) for call in waiting] == ["start_session", "Wait", "Wait"]
    assert not any(signal_of(call, 1).is_set() for call in waiting[1:])
    tell(waiting[0], OPENED)
    assert [asks(call, 2) for call in waiting] == ["submit n1"] * 3


@both
def test_a_later_call_may_take_over_before_those_that_wait(make: Make) -> None:
    site, (starter, waiting) = at_once(make, 2)
    starter.close()
    later = make(site, "Later?")
    assert (asks(later), asks(waiting)) == ("start_session", "Wait")
    assert ended(starter) == [replace(LEFT, asked=False)]


@both
def test_a_starter_that_times_out_ends_all_that_wait(make: Make) -> None:
    _, calls = at_once(make, 3)
    until = calls[0].next_step(0)[1]
    words = "start_session: no answer within 300 s (timeout 'first_event'), after 0 events"
    expected = Broken(Reason.TIMEOUT, words, limit="first_event", in_session=True)
    if make is Channel.http_call:
        expected = replace(expected, detail=words.replace("300", "340"))
    assert ended(calls[0], until) == [expected]
    assert [ended(call, 1) for call in calls] == [[], [expected], [expected]]


@both
def test_who_waits_may_leave_and_the_others_go_on(make: Make) -> None:
    _, (starter, leaving, waiting) = at_once(make, 3)
    signals = [signal_of(call) for call in (leaving, waiting)]
    leaving.close()
    assert [signal.is_set() for signal in signals] == [True, False]
    assert ended(leaving) == [LEFT]
    tell(starter, OPENED)
    assert asks(waiting) == "submit n1"


@both
@pytest.mark.parametrize("is_told", [True, False])
@pytest.mark.parametrize("signal", [threading.Event, None])
def test_who_has_waited_for_too_long_ends_and_the_others_go_on(make: Make, is_told: bool, signal: Any) -> None:
    site = channel(signal=signal)
    starter, patient, late = (make(site, "Hi?") for _ in range(3))
    asks(starter)
    assert late.next_step(7)[1] == 307
    assert patient.next_step(100)[1] == 400
    if is_told:
        late.timed_out()
    assert ended(late, 307) == [Broken(Reason.TIMEOUT, WAITED, limit="first_event", in_session=True)]
    tell(starter, OPENED)
    assert (asks(patient, 400), asks(starter, 400)) == ("submit n1", "submit n1")


@both
@pytest.mark.parametrize("timers", [0, 1, 2])
@pytest.mark.parametrize(
    ("happens", "expected"),
    [
        (lambda starter: tell(starter, OPENED), "submit n1"),
        (lambda starter: starter.close(), "start_session"),
        (lambda starter: tell(starter, DOWN), "Done"),
    ],
)
def test_what_came_before_the_clock_of_who_waits_ran_out_counts(
    make: Make, timers: int, happens: Callable[[AnyCall], object], expected: str
) -> None:
    seen: list[object] = []
    _, (starter, waiting) = at_once(make, 2, observer=lambda _, item: seen.append(item))
    happens(starter)
    for _ in range(timers):
        waiting.timed_out()
    assert asks(waiting, 300) == expected
    assert TimedOut("first_event") not in seen
    assert taken(waiting) == ([NO_SESSION] if expected == "Done" else [])


@both
@pytest.mark.parametrize("end", [lambda call: call.next_step(300), lambda call: call.step_failed("reset")])
def test_a_session_that_was_whole_before_its_body_broke_off_is_used(
    make: Make, end: Callable[[AnyCall], object]
) -> None:
    _, (starter, waiting) = at_once(make, 2)
    begin(starter, OPENED.body)
    assert starter.next_step(0)[0] == Receive()
    end(starter)
    assert (asks(starter), asks(waiting)) == ("submit n1", "submit n1")


@pytest.mark.parametrize("timers", [0, 1])
@pytest.mark.parametrize(("session", "reply"), [(None, OPENED), (Session("n0"), STALE)])
def test_an_early_answer_ends_the_clock_of_its_send(timers: int, session: Session | None, reply: Reply) -> None:
    call = channel(session=session).call("Hi?")
    call.next_step(0)
    call.step_done()
    assert call.next_step(0)[1] == 30
    call.receive_data(reply.data)
    for _ in range(timers):
        call.timed_out()  # an old one
    assert call.next_step(29) == (Connect("site.example", 80), 39)


@both
def test_twenty_stale_nonces_are_renewed_once_and_each_question_asked_once_more(make: Make) -> None:
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


def stale(make: Make, count: int, **options: Any) -> tuple[Channel, list[AnyCall]]:
    """Calls whose nonce was refused: the first renews it, and the others wait. Each has got words of its own."""
    site, calls = at_once(make, count, session=Session("n0"), **options)
    for number, call in enumerate(calls):
        assert asks(call) == "submit n0"
        tell(call, replace(STALE, body=STALE.body.replace(b"Stale", b"Stale %d" % number)))
    assert [asks(call) for call in calls] == ["start_session", *["Wait"] * (count - 1)]
    return site, calls


def first_refusals(count: int) -> list[list[Event]]:
    raws = [REFUSAL.raw.replace("Stale", f"Stale {number}") for number in range(count)]
    return [[replace(REFUSAL, detail=f"Stale {number}", raw=raw)] for number, raw in enumerate(raws)]


FAILURES: dict[str, Callable[[AnyCall], object]] = {
    "refused": lambda call: tell(call, DOWN),
    "put off": lambda call: tell(call, put_off(0)),
    "without a nonce": lambda call: tell(call, NO_ROUTE),
    "lost": lambda call: call.step_failed("reset"),
    "closed": lambda call: call.receive_eof(),
    "late": lambda call: call.timed_out(),
}


@both
@pytest.mark.parametrize("failure", FAILURES)
def test_a_renewal_that_fails_leaves_each_its_own_first_refusal(make: Make, failure: str) -> None:
    site, calls = stale(make, 3, retries=3)
    signals = [signal_of(call) for call in calls[1:]]
    assert (calls[0].next_step(0)[0] == Receive()) is (make is Channel.call)
    FAILURES[failure](calls[0])
    assert all(signal.is_set() for signal in signals)
    assert [ended(call) for call in calls] == first_refusals(3)
    assert site.session == Session("n0")


@both
def test_who_waits_for_a_renewal_for_too_long_has_been_refused(make: Make) -> None:
    _, calls = stale(make, 2)
    assert ended(calls[1], 300) == first_refusals(2)[1]
    assert asks(calls[0]) == ("Receive" if make is Channel.call else "start_session")


@both
@pytest.mark.parametrize("leave", [close_it, drop_it])
def test_the_next_call_takes_over_a_renewal(make: Make, leave: Callable[[list[AnyCall]], object]) -> None:
    _, calls = stale(make, 3)
    waiting = calls[1:]
    leave(calls)
    assert [asks(call) for call in waiting] == ["start_session", "Wait"]
    tell(waiting[0], OPENED)
    assert [asks(call) for call in waiting] == ["submit n1"] * 2


@both
def test_who_leaves_while_the_nonce_is_renewed_has_asked(make: Make) -> None:
    _, calls = stale(make, 3)
    for call in calls[::-1]:
        call.close()
    assert [ended(call) for call in calls] == [[replace(LEFT, asked=True)]] * 3


@both
def test_a_question_refused_while_another_starts_a_session_without_a_nonce_stays_refused(make: Make) -> None:
    site = channel()
    starter = make(site, "1?")
    assert asks(starter) == "start_session"
    call = make(site, "2?", Conversation(session=Session("n0")))  # brings a session, which turns out to be stale
    assert asks(call) == "submit n0"
    tell(call, STALE)
    assert asks(call) == "Wait"
    tell(starter, NO_ROUTE)
    assert asks(starter) == "submit None"
    assert ended(call) == [REFUSAL]


@both
def test_a_question_refused_while_another_starts_a_session_uses_that(make: Make) -> None:
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
def test_what_an_answer_brings_is_the_channels_unless_that_has_something_newer(
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
def test_a_cookie_is_the_channels_before_the_answer_is_over(make: Make) -> None:
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


# ------------------------------------------------------------------------------------------------ an HTTP library's own


def test_a_library_may_name_the_clock_of_its_own_that_ran_out() -> None:
    call = channel(session=Session()).http_call("Hi?")
    asks(call)
    call.step_failed("slow", Reason.TIMEOUT, limit="write")
    assert ended(call) == [Broken(Reason.TIMEOUT, "slow", limit="write", asked=True)]


def test_interim_heads_end_no_request_and_too_many_end_the_reply() -> None:
    call = channel(session=Session()).http_call("Hi?")
    first = call.next_step(0)
    for _ in range(8):
        call.receive_head(100, [])
        assert call.next_step(9) == first
    call.receive_head(100, [])
    [broken] = ended(call)
    assert isinstance(broken, Broken)
    assert (broken.reason, broken.limit, broken.asked) == (Reason.TOO_LARGE, "interim_responses", True)


# ------------------------------------------------------------------------------------------------ leaving early


@both
@pytest.mark.parametrize("state", State)
def test_who_leaves_has_one_last_event(make: Make, state: State) -> None:
    call, _starter = at(state, make)
    for _ in range(2):
        call.close()
        call.receive_data(b"late")
    expected = Broken(Reason.LOST, CLOSED, asked=make is Channel.http_call)  # that library has had the request
    if state in (State.SESSION, State.WAIT, State.START):
        expected = LEFT
    elif state is State.PAUSE:
        expected = NO_CONNECTION[type(call)]
    assert ended(call) == [expected]


@both
def test_who_leaves_inside_the_answer_has_the_pieces_first(make: Make) -> None:
    call = make(channel(session=Session()), "Hi?")
    asks(call)
    begin(call, HI + HI)
    assert call.next_event() == Live("Hi")
    call.close()
    assert ended(call) == [Live("Hi"), CUT]


@both
def test_another_thread_may_leave_at_any_time(make: Make) -> None:
    for _ in range(20):
        call = make(channel(session=Session(), lock=threading.RLock()), "Hi?")
        asks(call)
        begin(call, HI)
        may_begin = threading.Barrier(2)

        def leave(call: AnyCall = call, may_begin: threading.Barrier = may_begin) -> None:
            may_begin.wait(10)
            call.close()

        other = threading.Thread(target=leave)
        other.start()
        may_begin.wait(10)
        events: list[Event] = []
        while not events or isinstance(events[-1], Live):
            call.receive_data(HI)
            call.next_step(0)
            events += taken(call)
        other.join(10)
        assert set(events[:-1]) == {Live("Hi")}
        assert events[-1] == CUT
        assert ended(call) == []


# ------------------------------------------------------------------------------------------------ the observer


def kinds(items: Iterable[object]) -> list[str]:
    return [type(item).__name__ for item in items]


class Sick:
    """An observer that raises at the first items of some types."""

    def __init__(self, *names: str) -> None:
        self.names = list(names)
        self.seen: list[str] = []

    def __call__(self, call: object, item: object) -> None:
        self.seen += kinds([item])
        if self.names and self.seen[-1] == self.names[0]:
            raise RuntimeError(self.names.pop(0))


@both
def test_what_an_observer_raises_comes_out_and_no_event_is_lost_or_out_of_order(make: Make) -> None:
    observer = Sick("DataReceived", "Live", "End", "Done")
    call = make(channel(session=Session(), observer=observer), "Hi?")
    asks(call)
    before = len(observer.seen)
    with pytest.raises(RuntimeError, match=r"^DataReceived$"):
        begin(call, HI + HI)
    with pytest.raises(RuntimeError, match=r"^Live$"):
        call.next_step(0)
    with pytest.raises(RuntimeError, match=r"^End$"):
        call.receive_data(HI + END)
    with pytest.raises(RuntimeError, match=r"^Done$"):
        call.next_step(0)
    assert call.next_step(0) == (Done(), math.inf)
    assert taken(call) == [Live("Hi"), Live("Hi"), *ANSWERED]
    head = [] if make is Channel.call else ["HeadReceived"]
    pieces = ["DataReceived", "Live", "Live", "Receive", "DataReceived", "Live", "End", "Done"]
    assert observer.seen[before:] == head + pieces


@pytest.mark.parametrize(
    ("make", "name", "expected"),
    [
        (Channel.call, "Connect", [Broken(Reason.LOST, CLOSED)]),
        (Channel.call, "DataReceived", [Live("Hi"), CUT]),
        (Channel.call, "Live", [Live("Hi"), CUT]),
        (Channel.http_call, "Request", [Broken(Reason.LOST, CLOSED, asked=True)]),
        (Channel.http_call, "HeadReceived", [CUT]),
        (Channel.http_call, "Live", [Live("Hi"), CUT]),
    ],
)
def test_an_observer_may_leave_and_take_steps_and_events(make: Make, name: str, expected: list[Event]) -> None:
    seen: list[str] = []
    events: list[Event] = []

    def observe(call: AnyCall, item: object) -> None:
        if kinds([item]) == [name]:
            call.close()
            events.extend(ended(call))
        seen.extend(kinds([item]))  # at the end, since it is not called again before that

    call = make(channel(session=Session(), observer=observe), "Hi?")
    call.next_step(0)
    if CUT in expected:
        asks(call)
        begin(call, HI)
    assert events == expected
    assert seen[-3:] == ["Closed", "Broken", "Done"]
    assert seen.count(name) == seen.count("Closed") == seen.count("Broken") == seen.count("Done") == 1


class Watched:
    """A lock that knows whether it is held."""

    def __init__(self) -> None:
        self.depth = 0

    def __enter__(self) -> None:
        self.depth += 1

    def __exit__(self, *_: object) -> None:
        self.depth -= 1


@both
def test_the_lock_is_held_during_changes_and_not_while_the_observer_runs(make: Make) -> None:
    lock = Watched()
    changing: list[tuple[str, int]] = []
    observing: list[int] = []

    class Bell:
        def __init__(self) -> None:
            changing.append(("new signal", lock.depth))

        def set(self) -> None:
            changing.append(("set", lock.depth))

    def draw() -> float:
        changing.append(("draw", lock.depth))
        return 0.0

    options: dict[str, Any] = {"lock": lock, "signal": Bell, "random": draw, "retries": 1}
    site = channel(observer=lambda _, __: observing.append(lock.depth), **options)
    starter, waiting, leaving = (make(site, "Hi?") for _ in range(3))
    starter.next_step(0)
    assert [asks(call) for call in (waiting, leaving)] == ["Wait", "Wait"]
    leaving.close()
    reach_nobody(starter)
    assert (asks(waiting), asks(starter)) == ("Wait", "Wait")
    assert Counter(changing) == {("new signal", 1): 4, ("set", 1): 2, ("draw", 1): 2}
    assert set(observing) == {0}
    assert lock.depth == 0


# ------------------------------------------------------------------------------------------------ what can be asked

HISTORY = (Message("user", "Hi"), Message("assistant", "Hello"))


@both
@pytest.mark.parametrize(
    ("question", "submit"),
    [
        (lambda: "Hi?", Submit(new_message="Hi?")),
        (lambda: [{"role": "user", "content": "Hi?"}], Submit(new_message="Hi?")),
        (lambda: iter((*HISTORY, Message("user", "So?"))), Submit(new_message="So?", messages=HISTORY)),
        (lambda: Submit(new_message="Hi?", bot_id="b"), Submit(new_message="Hi?", bot_id="b")),
    ],
)
def test_a_question_is_a_text_messages_or_a_submit(
    make: Make, question: Callable[[], QuestionLike], submit: Submit
) -> None:
    assert make(channel(), question()).submit == submit
    assert make(channel(), question(), chat_id="drawn").submit == replace(submit, chat_id="drawn")


def test_a_submit_without_a_chat_id_gets_that_of_its_conversation() -> None:
    conversation = Conversation(chat_id="first")
    assert channel().call(Submit(new_message="Hi?"), conversation, chat_id="second").submit.chat_id == "first"


def test_a_question_of_a_conversation_is_asked_after_its_messages() -> None:
    submit = channel().call("So?", Conversation(HISTORY, bot_id="b"), chat_id="drawn").submit
    assert submit == Submit(new_message="So?", messages=HISTORY, bot_id="b", chat_id="drawn")
    assert channel().call(replace(submit, chat_id="own"), chat_id="drawn").submit.chat_id == "own"


@both
@pytest.mark.parametrize(
    ("arguments", "error", "match"),
    [
        (([],), InvalidMessages, r"^expected at least one message"),
        ((5,), InvalidMessages, r"^expected a list of messages, got int$"),
        (("\ud83d",), InvalidMessages, r"^Submit\.new_message: "),
        (("x" * 2**20,), ValueError, r"^submit: expected at most 1048576 bytes of JSON"),
        (("Hi?", 5), TypeError, r"^conversation: "),
        ((Submit(new_message="Hi?"), 5), TypeError, r"^conversation: "),
        (([{"role": "user", "content": "Hi?"}], Conversation()), TypeError, r"^question: expected a str or a Submit"),
    ],
)
def test_what_cannot_be_asked_is_said_at_once(
    make: Make, arguments: tuple[Any, ...], error: type[Exception], match: str
) -> None:
    site = channel()
    with pytest.raises(error, match=match):
        make(site, *arguments)
    assert site.session is None


def test_a_chat_id_of_a_wrong_type_is_said_at_once() -> None:
    wrong: Any = 5
    with pytest.raises(TypeError, match=r"^Submit\.chat_id: expected a str, got int$"):
        channel().call("Hi?", chat_id=wrong)


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        ({"endpoint": 5}, TypeError, r"^endpoint: expected "),
        ({"endpoint": "site"}, ValueError, r"^'site': expected a site"),
        ({"session": "n0"}, TypeError, r"^session: expected .*, got str$"),
        ({"session": Session(origin="http://other.example")}, ValueError, r"^session: it belongs to http://other"),
        ({"headers": 5}, TypeError, r"int"),
        ({"headers": {"Host": "other"}}, ValueError, r"^headers: Host is not yours to set here"),
        ({"limits": 5}, TypeError, r"^limits: expected Limits, got int$"),
        ({"timeouts": 5}, TypeError, r"^timeouts: expected Timeouts, got int$"),
        ({"proxy": 5}, TypeError, r"^proxy: expected a Proxy, a str or None, got int$"),
        ({"proxy": "ftp://proxy.example"}, ValueError, r"^expected a proxy"),
        ({"retries": 1.5}, TypeError, r"^retries: expected an int, got float$"),
        ({"retries": -1}, ValueError, r"^retries: expected 0 or more, got -1$"),
        ({"longest_wait": "5"}, TypeError, r"^longest_wait: expected seconds, got str$"),
        ({"longest_wait": math.nan}, ValueError, r"^longest_wait: expected 0 or more seconds, got nan$"),
        ({"random": 5}, TypeError, r"^random: expected a random\.Random, got int$"),
        ({"signal": 5}, TypeError, r"^signal: expected a callable or None, got int$"),
        ({"lock": 5}, TypeError, r"^lock: expected "),
        ({"observer": 5}, TypeError, r"^observer: expected a callable or None, got int$"),
    ],
)
def test_what_a_channel_cannot_use_is_said_at_once(options: dict[str, Any], error: type[Exception], match: str) -> None:
    with pytest.raises(error, match=match):
        Channel(**{"endpoint": "http://site.example", **options})


@pytest.mark.parametrize("headers", [{"X-Key": "k"}, [("X-Key", "k")], iter([("X-Key", "k")])])
def test_headers_go_with_each_request_of_each_call(headers: Any) -> None:
    site = channel(headers=headers, session=Session())
    for _ in range(2):
        request = site.http_call("Hi?").next_step(0)[0]
        assert isinstance(request, Request)
        assert ("X-Key", "k") in request.headers


def test_a_channel_shows_what_it_was_given() -> None:
    limits, timeouts, session = Limits(restarts=0), Timeouts(idle=1), Session("n0")
    site = channel(limits=limits, timeouts=timeouts, session=session)
    assert (site.limits, site.timeouts, site.session, site.proxy) == (limits, timeouts, session, None)
    assert site.endpoint == Channel(site.endpoint).endpoint == Endpoint.parse("http://site.example")
