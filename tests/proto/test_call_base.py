"""A call in virtual time: legal inputs in each state, its steps, and leaving early."""

import math
import threading
from collections.abc import Callable
from typing import Any

import pytest

from opchat_proto import (
    Broken,
    Call,
    Channel,
    Connect,
    Conversation,
    Done,
    End,
    Event,
    HTTPCall,
    Live,
    LocalProtocolError,
    Message,
    Reason,
    Receive,
    Send,
    Session,
    Submit,
    Timeouts,  # its table is watched here
    _call_base,  # its table is replaced by one that records its moves
)
from opchat_proto._call_table import TABLE, State  # the table is not public, and this test walks it
from tests.proto.asking import ANSWERED, END, HI, Recorder, content_length
from tests.proto.calls import (
    CLOSED,
    CUT,
    DOWN,
    GOOD,
    KEPT,
    KINDS,
    LEFT,
    NO_CONNECTION,
    NO_SESSION,
    OPENED,
    OPENED_AGAIN,
    STALE,
    AnyCall,
    Make,
    asks,
    at,
    at_once,
    begin,
    both,
    channel,
    ended,
    put_off,
    reach_nobody,
    state_of,
    taken,
    tell,
)
from tests.proto.uploads import CAT

CALLS: dict[str, Callable[[Any], object]] = {
    "step_done": Call.step_done,
    "step_failed": lambda call: call.step_failed("no way"),
    "receive_head": lambda call: call.receive_head(200, []),
    "receive_data": lambda call: call.receive_data(b"H"),
    "receive_eof": lambda call: call.receive_eof(),
    "attach": lambda call: call.attach([]),
    "timed_out": lambda call: call.timed_out(),
    "close": lambda call: call.close(),
    "next_step": lambda call: call.next_step(0),
}
REPORTS = ("step_failed", "receive_head", "receive_data", "receive_eof")
WORKING = (State.START, State.UPLOAD, State.ASK)

# The state that each input leads to, for both kinds of calls. A missing input raises.
LEGAL: dict[State, dict[str, State]] = {
    State.SESSION: {
        **dict.fromkeys((*REPORTS, "attach", "timed_out"), State.SESSION),
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
# At Connect, bytes and a close are late news. At Request, there is no answer yet.
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
def test_every_input_in_every_state_has_its_outcome(make: Make, state: State, name: str) -> None:
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
def test_the_table_says_which_inputs_are_legal(make: Make, state: State) -> None:
    kind = KINDS[make]
    row = {given.value for given in TABLE.rows[state] if hasattr(kind, given.value)}
    if state in WORKING and kind is HTTPCall:
        row.remove("receive_data")  # before the head; the flow refuses it
    if state in (State.LAST, State.OVER):
        row = {name for name in CALLS if hasattr(kind, name)}
    assert row | {"next_step", "timed_out"} == set(legal(kind, state))


@both
@pytest.mark.parametrize("state", State)
def test_empty_data_is_always_legal_and_changes_nothing(make: Make, state: State) -> None:
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


@both
@pytest.mark.parametrize("state", State)
def test_next_step_returns_the_same_step_and_deadline_until_it_is_reported(make: Make, state: State) -> None:
    seen: list[object] = []
    call, _starter = at(state, make, signal=threading.Event, observer=lambda _, item: seen.append(item))
    first = call.next_step(0)
    times = len(seen)
    assert (call.next_step(0), call.next_step(0.5)) == (first, first)
    assert len(seen) == times


def ask_three_at_once(make: Make) -> None:
    """The starter leaves, the next one is postponed, and then no call can start a session."""
    _, (starter, second, third) = at_once(make, 3, retries=1)
    starter.close()
    assert (asks(second), asks(third)) == ("start_session", "Wait")
    tell(second, put_off(5))
    assert (asks(second), asks(third)) == ("Wait", "Wait")
    assert (asks(second, 5), asks(third, 5)) == ("start_session", "Wait")
    tell(second, DOWN)
    assert ended(third) == [NO_SESSION]


def attach_a_file(make: Make) -> None:
    """The upload's nonce is refused, then the upload is postponed, and then the question is asked."""
    call = make(channel(session=Session("n0"), retries=1), "Hi?", files=[CAT])
    assert asks(call) == "upload n0"
    tell(call, STALE)
    assert asks(call) == "start_session"
    tell(call, OPENED)
    assert asks(call) == "upload n1"
    tell(call, put_off(5))
    assert (asks(call), asks(call, 5)) == ("Wait", "upload n1")
    tell(call, KEPT)
    assert asks(call, 5) == "submit n1"
    tell(call, GOOD)
    assert ended(call) == ANSWERED


def test_every_move_of_the_table_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    table = Recorder(TABLE)
    monkeypatch.setattr(_call_base, "TABLE", table)
    for make, state, name in EVERY:
        test_every_input_in_every_state_has_its_outcome(make, state, name)
    for make in KINDS:
        ask_three_at_once(make)
        attach_a_file(make)
        test_late_news_of_old_connections_changes_nothing(make, "receive_data")
    call = channel(session=Session()).call("Hi?")
    asks(call)
    call.receive_data(memoryview(GOOD.data))  # bytes take a shortcut
    assert ended(call) == ANSWERED
    assert table.untaken == set()


# ------------------------------------------------------------------------------------------------ the steps


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
    assert call.outcome is None
    assert [call.next_event(), call.next_event()] == [ANSWERED[1], None]
    assert call.outcome == ANSWERED[1]
    assert call.next_step(0) == (Done(), math.inf)


@both
def test_repr_shows_the_origin_and_the_state(make: Make) -> None:
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
def test_late_news_of_old_connections_changes_nothing(make: Make, late: str) -> None:
    def news(call: AnyCall) -> None:
        CALLS[late](call)
        assert taken(call) == []

    site, (starter, call) = at_once(make, 2, retries=1)
    news(call)  # during a Wait
    tell(starter, OPENED)
    if make is Channel.call and late != "step_failed":
        assert call.next_step(0) == (Connect("site.example", 80), 10)
        news(call)
    assert asks(call) == "submit n1"
    tell(call, STALE)
    news(call)  # before the first step was asked for
    assert asks(call) == "start_session"
    tell(call, OPENED_AGAIN)
    if make is Channel.call and late != "step_failed":
        news(call)
    assert asks(call) == "submit n2"
    tell(call, put_off(5))
    news(call)  # during the pause
    assert asks(call) == "Wait"
    news(call)
    assert asks(call, 5) == "submit n2"
    tell(call, GOOD)
    assert repr(call).endswith(" LAST after 2 events>")
    CALLS[late](call)
    assert ended(call) == ANSWERED
    news(call)
    assert site.session == Session("n2", "s2")


@both
@pytest.mark.parametrize("state", State)
def test_after_close_there_is_one_last_event(make: Make, state: State) -> None:
    call, _starter = at(state, make)
    for _ in range(2):
        call.close()
        call.receive_data(b"late")
    expected = Broken(Reason.LOST, CLOSED, asked=make is Channel.http_call)  # the library has got the request
    if state in (State.SESSION, State.WAIT, State.START):
        expected = LEFT
    elif state is State.PAUSE:
        expected = NO_CONNECTION[type(call)]
    elif state is State.UPLOAD:
        expected = Broken(Reason.LOST, CLOSED)
    assert ended(call) == [expected]


@both
def test_after_close_inside_the_answer_its_pieces_come_first(make: Make) -> None:
    call = make(channel(session=Session()), "Hi?")
    asks(call)
    begin(call, HI + HI)
    assert call.next_event() == Live("Hi")
    call.close()
    assert ended(call) == [Live("Hi"), CUT]


@both
def test_another_thread_may_close_at_any_time(make: Make) -> None:
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


# ------------------------------------------------------------------------------------------------ time and memory


@both
def test_asking_for_a_step_at_its_deadline_is_a_timeout(make: Make) -> None:
    site = channel(timeouts=Timeouts(connect=1, write=1, first_event=1))
    starter, waiting = make(site, "Hi?"), make(site, "Hi?")
    asks(starter)
    starter.next_step(0)
    assert asks(waiting) == "Wait"
    for call in (waiting, starter):
        [broken] = ended(call, 3)
        assert isinstance(broken, Broken)
        assert (broken.reason, broken.limit) == (Reason.TIMEOUT, "first_event")


@both
def test_a_waiting_call_takes_a_session_that_came_before_its_timeout(make: Make) -> None:
    _, (starter, waiting) = at_once(make, 2)
    tell(starter, OPENED)
    waiting.timed_out()
    assert asks(waiting) == "submit n1"


@both
def test_a_pause_ends_with_its_timer(make: Make) -> None:
    call = make(channel(session=Session(), retries=1), "Hi?")
    call.next_step(0)
    reach_nobody(call)
    assert (asks(call), call.retries) == ("Wait", 0)
    call.timed_out()
    assert (asks(call), call.retries) == ("submit None", 1)


@both
@pytest.mark.parametrize("session", [None, Session("n0")])
def test_a_conversation_provides_its_session_and_keeps_the_answer(make: Make, session: Session | None) -> None:
    site, conversation = channel(), Conversation(session=session)
    call = make(site, "Hi?", conversation)
    assert site.session == session
    if session is None:
        assert asks(call) == "start_session"
        tell(call, OPENED)
    assert asks(call) == ("submit n0" if session else "submit n1")
    begin(call, HI)
    call.receive_data(END)
    if isinstance(call, HTTPCall):
        call.receive_eof()
    assert ended(call) == ANSWERED
    assert conversation.messages == (Message("user", "Hi?"), Message("assistant", "Hi"))


@both
@pytest.mark.parametrize("end", [lambda call: call.next_step(300), lambda call: call.step_failed("reset")])
def test_a_session_that_was_complete_before_its_body_broke_off_is_used(
    make: Make, end: Callable[[AnyCall], object]
) -> None:
    _, (starter, waiting) = at_once(make, 2)
    begin(starter, OPENED.body)
    assert starter.next_step(0)[0] == Receive()
    end(starter)
    assert (asks(starter), asks(waiting)) == ("submit n1", "submit n1")


def test_a_visit_is_a_call_without_a_question() -> None:
    call = channel().visit("http://site.example/contact/")
    for step in (Connect, Send):
        assert type(call.next_step(0)[0]) is step
        call.step_done()
    call.receive_data(content_length(b"<title>Contact</title>", b"Content-Type: text/html"))
    [end] = ended(call)
    assert isinstance(end, End)
    assert call.page is not None
    assert call.page.url == "http://site.example/contact/"
    with pytest.raises(AttributeError, match=r"^this call asks no Submit$"):
        assert call.submit


def test_events_are_counted_when_they_are_handed_out() -> None:
    call = channel(session=Session()).call("Hi?")
    asks(call)
    begin(call, HI)
    call.receive_data(HI + END)
    counts = [call.events_given]
    assert call.has_event
    while call.next_event() is not None:
        counts.append(call.events_given)
    assert not call.has_event
    call.next_step(0)
    counts.append(call.events_given)
    call.next_event()
    assert [*counts, call.events_given] == [0, 1, 2, 2, 3]


def test_an_event_that_another_thread_takes_first_is_not_there_any_more() -> None:
    class Late:
        """A lock that is given only after another thread has taken the event."""

        def __enter__(self) -> None:
            if waiting:
                taken.append(waiting.pop().next_event())

        def __exit__(self, *_: object) -> None:
            pass

    waiting: list[AnyCall] = []
    taken: list[Event | None] = []
    call = channel(session=Session(), lock=Late()).call("Hi?")
    asks(call)
    begin(call, HI)
    waiting.append(call)
    assert (call.next_event(), taken) == (None, [Live("Hi")])
