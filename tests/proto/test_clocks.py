"""The clocks of a question: which one runs, since when, and the outcome when one runs out."""

import math
from collections.abc import Callable
from typing import Any

import pytest

from opchat_proto import (
    Broken,
    Call,
    Channel,
    Connect,
    HTTPCall,
    Live,
    Reason,
    Receive,
    Request,
    Send,
    Session,
    StartTLS,
    Timeouts,
    Wait,
)
from tests.proto.asking import ANSWER, ANSWERED, END, ESTABLISHED, HI
from tests.proto.calls import GOOD, OPENED, REFUSAL, STALE, AnyCall, Make, asks, begin, both, channel, ended, tell

SHORT = Timeouts(connect=1, write=2, first_event=4, idle=8)
COMMENT = b": keepalive\n\n"


def step_of(call: AnyCall, now: float) -> tuple[type, float]:
    step, until = call.next_step(now)
    return type(step), until


# ------------------------------------------------------------------------------------------------ the numbers


def test_the_default_clocks_are_patient() -> None:
    assert Timeouts() == Timeouts(connect=10, write=30, first_event=300, idle=120)


@pytest.mark.parametrize("name", ["connect", "write", "first_event", "idle"])
@pytest.mark.parametrize("value", [None, 0.001, 1, 1_000_000])
def test_a_clock_is_a_number_up_to_a_million_or_none(name: str, value: float | None) -> None:
    assert getattr(Timeouts(**{name: value}), name) == value


@pytest.mark.parametrize("name", ["connect", "write", "first_event", "idle"])
@pytest.mark.parametrize("value", ["5", True, [], b"5", 5j])
def test_a_value_that_is_not_a_number_is_named(name: str, value: Any) -> None:
    expected = rf"^Timeouts\.{name}: expected seconds or None, got {type(value).__name__}$"
    with pytest.raises(TypeError, match=expected):
        Timeouts(**{name: value})


@pytest.mark.parametrize("name", ["connect", "write", "first_event", "idle"])
@pytest.mark.parametrize("value", [0, -1, -0.0, 1_000_000.5, math.inf, -math.inf, math.nan])
def test_a_number_that_cannot_be_waited_for_is_named(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=rf"^Timeouts\.{name}: expected above 0 and at most 1000000 seconds, got "):
        Timeouts(**{"connect": None, name: value})


# ------------------------------------------------------------------------------------------------ which clock runs


def test_the_connect_clock_restarts_for_tls_and_for_each_reply_of_a_proxy() -> None:
    call = Channel("https://site.example", proxy="https://proxy.example", timeouts=SHORT, session=Session()).call("?")
    now = 100.0
    for kind, seconds in ((Connect, 1), (StartTLS, 1), (Send, 2)):
        assert step_of(call, now) == (kind, now + seconds)
        now += seconds - 0.5
        call.step_done()
    assert step_of(call, now) == (Receive, now + 1)
    call.receive_data(ESTABLISHED[:9])
    assert step_of(call, now + 0.5) == (Receive, now + 1)  # the reply is not complete
    call.receive_data(ESTABLISHED[9:])
    call.timed_out()  # a timer of an earlier step
    now += 0.75
    for kind, seconds in ((StartTLS, 1), (Send, 2)):
        assert step_of(call, now) == (kind, now + seconds)
        now += seconds - 0.5
        call.step_done()
    assert step_of(call, now) == (Receive, now + 4)


def test_the_connect_clock_restarts_for_the_second_reply_of_a_socks_proxy() -> None:
    call = Channel("http://site.example", proxy="socks5://proxy.example", timeouts=SHORT, session=Session()).call("?")
    call.next_step(0)
    call.step_done()
    for now, reply in ((10, b"\x05\x00"), (20, b"\x05\x00\x00\x01\x7f\x00\x00\x01\x04\x38")):
        assert step_of(call, now) == (Send, now + 2)
        call.step_done()
        assert step_of(call, now + 1) == (Receive, now + 2)
        call.receive_data(reply)
    assert step_of(call, 30) == (Send, 32)


@both
def test_the_first_event_clock_runs_for_start_session_and_then_for_the_first_event(make: Make) -> None:
    call = make(channel(timeouts=SHORT), "?")
    first = 7 if make is Channel.http_call else 4  # connect, write and first_event together
    for now, reply in ((10.0, OPENED), (20.0, STALE), (30.0, OPENED), (40.0, GOOD)):
        assert asks(call, now).startswith("start_session" if reply is OPENED else "submit")
        assert call.next_step(now)[1] == now + first
        if isinstance(call, Call):
            call.receive_data(reply.data[:20])
            assert step_of(call, now + 3) == (Receive, now + 4)
            call.receive_data(reply.data[20:])
        else:
            call.receive_head(reply.status, [])
            assert step_of(call, now + 3) == (Receive, now + 7)
            call.receive_data(reply.body)
            call.receive_eof()
    assert ended(call, 50) == ANSWERED


@both
def test_between_two_events_the_idle_clock_runs(make: Make) -> None:
    call = make(channel(session=Session(), timeouts=SHORT), "?")
    asks(call)
    begin(call, b"")
    assert step_of(call, 1)[1] == 5
    call.receive_data(HI)
    assert step_of(call, 2) == (Receive, 10)


# ------------------------------------------------------------------------------------------------ since when it runs


@both
def test_a_slow_reader_does_not_use_up_the_time(make: Make) -> None:
    call = make(channel(session=Session(), timeouts=Timeouts(idle=10)), "?")
    asks(call)
    begin(call, HI)
    for now in range(60, 300, 60):
        assert call.next_event() == Live("Hi")
        assert step_of(call, now) == (Receive, now + 10)
        call.receive_data(HI)
    call.receive_data(END)
    assert ended(call, 1000) == ANSWERED


@both
@pytest.mark.parametrize(("body", "seconds", "limit"), [(b"", 4, "first_event"), (HI, 8, "idle")])
def test_comments_and_bytes_without_an_event_do_not_extend_the_deadline(
    make: Make, body: bytes, seconds: int, limit: str
) -> None:
    call = make(channel(session=Session(), timeouts=SHORT), "?")
    asks(call)
    begin(call, body)
    assert step_of(call, 0) == (Receive, seconds)
    for now in range(1, seconds):
        call.receive_data({1: COMMENT, 2: HI[:-1], 3: b""}.get(now, COMMENT[:1]))
        assert step_of(call, now) == (Receive, seconds)
    events = ended(call, seconds)
    assert isinstance(events[-1], Broken)
    assert (events[-1].reason, events[-1].limit, events[-1].asked) == (Reason.TIMEOUT, limit, True)


def test_bytes_that_arrive_during_a_send_do_not_extend_the_deadline() -> None:
    call = channel(session=Session(), timeouts=SHORT).call("?")
    call.next_step(0)
    call.step_done()
    assert step_of(call, 10) == (Send, 12)
    for byte in b"HTTP/1.1 200 -\r\n":
        call.receive_data(bytes([byte]))
        assert step_of(call, 11) == (Send, 12)
    words = "the request could not be sent: not all of it was taken within 2 s (timeout 'write'), after 0 events"
    assert ended(call, 12) == [Broken(Reason.TIMEOUT, words, limit="write", asked=True)]


def test_an_early_event_during_a_send_restarts_the_clock() -> None:
    call = channel(session=Session(), timeouts=SHORT).call("?")
    call.next_step(0)
    call.step_done()
    assert step_of(call, 10) == (Send, 12)
    begin(call, HI)
    assert step_of(call, 11) == (Send, 13)


def test_interim_heads_do_not_extend_the_deadline() -> None:
    call = channel(session=Session(), timeouts=SHORT).http_call("?")
    assert step_of(call, 0) == (Request, 7)
    for now in (1, 3, 6):
        call.receive_head(100, [])
        assert step_of(call, now) == (Request, 7)
    words = "no answer within 7 s (timeout 'first_event'), after 0 events"
    assert ended(call, 7) == [Broken(Reason.TIMEOUT, words, limit="first_event", asked=True)]


@both
def test_a_call_that_takes_over_gets_a_new_deadline_and_one_that_waits_does_not(make: Make) -> None:
    site = channel(timeouts=SHORT)
    starter, second, third = (make(site, "?") for _ in range(3))
    asks(starter)
    assert step_of(second, 0) == step_of(third, 0) == (Wait, 7)
    starter.close()
    assert second.next_step(3)[1] == (4 if make is Channel.call else 10)
    assert step_of(third, 3) == (Wait, 7)


# ------------------------------------------------------------------------------------------------ when it has run out


def ask_late(call: AnyCall, until: float) -> None:
    call.next_step(until)


def ask_later_still(call: AnyCall, until: float) -> None:
    call.next_step(until + 1000)


def tell_in_time(call: AnyCall, until: float) -> None:
    call.timed_out()


late = pytest.mark.parametrize("run_out", [ask_late, ask_later_still, tell_in_time])
RunOut = Callable[[AnyCall, float], None]

# The steps that are done and the bytes received before the clock runs out, and the outcome.
PLACES: list[tuple[int, bytes, Broken]] = [
    (
        0,
        b"",
        Broken(Reason.TIMEOUT, "could not connect to site.example:443: no connection within 1 s", limit="connect"),
    ),
    (1, b"", Broken(Reason.TIMEOUT, "TLS with site.example failed: no handshake within 1 s", limit="connect")),
    (
        2,
        b"",
        Broken(
            Reason.TIMEOUT,
            "the request could not be sent: not all of it was taken within 2 s",
            limit="write",
            asked=True,
        ),
    ),
    (3, b"", Broken(Reason.TIMEOUT, "no event of the answer within 4 s", limit="first_event", asked=True)),
    (3, HI, Broken(Reason.TIMEOUT, "no further event of the answer within 8 s", limit="idle", asked=True)),
    (3, HI + HI, Broken(Reason.TIMEOUT, "no further event of the answer within 8 s", limit="idle", asked=True)),
]


def with_count(broken: Broken, count: int) -> Broken:
    words = f"{broken.detail} (timeout '{broken.limit}'), after {count} event{'' if count == 1 else 's'}"
    return Broken(broken.reason, words, limit=broken.limit, in_session=broken.in_session, asked=broken.asked)


@late
@pytest.mark.parametrize(("steps", "body", "expected"), PLACES)
def test_a_timeout_says_what_was_missing(run_out: RunOut, steps: int, body: bytes, expected: Broken) -> None:
    call = Channel("https://site.example", session=Session(), timeouts=SHORT).call("?")
    for _ in range(steps):
        call.next_step(0)
        call.step_done()
    if body:
        begin(call, body)
    run_out(call, call.next_step(100)[1])
    count = body.count(HI)
    assert ended(call, 100) == [*[Live("Hi")] * count, with_count(expected, count)]


@late
@pytest.mark.parametrize("head", [False, True])
def test_a_timeout_of_an_http_library_says_what_was_missing(run_out: RunOut, head: bool) -> None:
    for session in (None, Session()):
        call = channel(session=session, timeouts=SHORT).http_call("?")
        asks(call)
        if head:
            call.receive_head(200, [])
        run_out(call, call.next_step(100)[1])
        what = "no answer" if session is None or not head else "no event of the answer"
        detail = f"{'start_session: ' * (session is None)}{what} within {4 if head else 7} s"
        broken = Broken(
            Reason.TIMEOUT, detail, limit="first_event", in_session=session is None, asked=session is not None
        )
        assert ended(call, 100) == [with_count(broken, 0)]


def test_a_timeout_of_a_proxy_says_what_was_missing() -> None:
    call = Channel("https://site.example", proxy="http://proxy.example", timeouts=SHORT).call("?")
    for _ in range(2):
        call.next_step(0)
        call.step_done()
    assert step_of(call, 0) == (Receive, 1)
    words = "start_session: the proxy http://proxy.example:80: no reply within 1 s"
    broken = Broken(Reason.TIMEOUT, words, limit="connect", in_session=True)
    assert ended(call, 1) == [with_count(broken, 0)]


@both
def test_a_timeout_while_waiting_for_a_session_has_asked_nothing(make: Make) -> None:
    site = channel(timeouts=SHORT)
    starter, call = make(site, "?"), make(site, "?")
    asks(starter)
    assert step_of(call, 100) == (Wait, 107)
    detail = "no session from the question before within 7 s"
    broken = Broken(Reason.TIMEOUT, detail, limit="first_event", in_session=True)
    assert ended(call, 107) == [with_count(broken, 0)]


@late
@both
def test_an_error_event_without_a_message_stays_an_error_after_a_timeout(make: Make, run_out: RunOut) -> None:
    call = make(channel(session=Session()), "?")
    asks(call)
    begin(call, b'data: {"type":"error","data":""}\n\n')
    run_out(call, call.next_step(0)[1])
    assert ended(call) == [Broken(Reason.REMOTE, "", limit=None, asked=True)]


@late
@both
def test_an_incomplete_refusal_stays_a_refusal_after_a_timeout(make: Make, run_out: RunOut) -> None:
    call = make(channel(session=Session("n0")), "?")
    asks(call)
    if isinstance(call, HTTPCall):
        call.receive_head(STALE.status, [])
        call.receive_data(STALE.body)
    else:
        call.receive_data(STALE.data.replace(b"Length: ", b"Length: 9"))
    run_out(call, call.next_step(0)[1])
    assert ended(call) == [REFUSAL]  # it is not known to be complete, so nothing is renewed


# ------------------------------------------------------------------------------------------------ what changes nothing


@both
def test_just_before_the_deadline_there_is_no_timeout(make: Make) -> None:
    call = make(channel(session=Session(), timeouts=SHORT), "?")
    _, until = call.next_step(0)
    assert call.next_step(math.nextafter(until, 0))[1] == until
    assert call.next_event() is None


@both
def test_a_timer_of_an_earlier_step_changes_nothing(make: Make) -> None:
    call = make(channel(timeouts=SHORT), "?")
    call.timed_out()
    for reply in (OPENED, STALE, OPENED):
        asks(call)
        call.next_step(0)
        tell(call, reply)
        call.timed_out()
    asks(call)
    call.next_step(0)
    begin(call, HI)
    call.timed_out()
    assert (call.next_event(), step_of(call, 100)) == (Live("Hi"), (Receive, 108))
    call.receive_data(END)
    call.timed_out()
    assert ended(call, 200) == ANSWERED[1:]
    call.timed_out()
    assert call.next_event() is None


@both
@pytest.mark.parametrize("report", ["step_done", "step_failed"])
def test_a_timer_of_a_reported_step_changes_nothing(make: Make, report: str) -> None:
    call: Any = make(channel(session=Session(), timeouts=SHORT, retries=1), "?")
    call.next_step(0)
    if report == "step_failed":
        call.step_failed("refused", **({"sent": False} if make is Channel.http_call else {}))
    elif make is Channel.http_call:
        call.receive_head(200, [])
    else:
        call.step_done()
    call.timed_out()
    expected = {"step_failed": (Wait, 101), "step_done": (Receive, 104) if make is Channel.http_call else (Send, 102)}
    assert step_of(call, 100) == expected[report]


OFF = Timeouts(connect=None, write=None, first_event=None, idle=None)


@both
def test_clocks_that_are_off_never_run_out(make: Make) -> None:
    site = channel(timeouts=OFF)
    call, waiting = make(site, "?"), make(site, "?")
    for reply in (OPENED, None):
        while True:
            kind, until = step_of(call, 0)
            assert until == math.inf
            call.timed_out()
            assert step_of(call, 1e9) == (kind, math.inf)
            if kind in (Receive, Request):
                break
            assert isinstance(call, Call)
            call.step_done()
        assert step_of(waiting, 1e9)[1] == math.inf
        waiting.timed_out()
        if reply is not None:
            tell(call, reply)
    begin(call, HI)
    for _ in range(2):
        assert step_of(call, 1e9) == (Receive, math.inf)
        call.timed_out()
    call.receive_data(ANSWER)
    assert ended(call) == [Live("Hi"), *ANSWERED]


@pytest.mark.parametrize("off", ["connect", "write", "first_event", "idle"])
def test_a_request_has_no_deadline_if_one_of_its_clocks_is_off(off: str) -> None:
    values = {"connect": 1, "write": 2, "first_event": 4, "idle": 8}
    call = channel(session=Session(), timeouts=Timeouts(**{**values, off: None})).http_call("?")
    assert step_of(call, 0) == (Request, 7 if off == "idle" else math.inf)
    call.receive_head(200, [])
    assert step_of(call, 10) == (Receive, math.inf if off == "first_event" else 14)
    call.receive_data(HI)
    assert step_of(call, 20) == (Receive, math.inf if off == "idle" else 28)


def test_a_clock_that_is_off_leaves_the_others_on() -> None:
    call = channel(session=Session(), timeouts=Timeouts(connect=None, write=2)).call("?")
    assert step_of(call, 0) == (Connect, math.inf)
    call.step_done()
    assert step_of(call, 5) == (Send, 7)
