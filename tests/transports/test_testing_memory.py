"""The same without sockets: `MemoryServer` and `pair`, in virtual time."""

import asyncio
import math
import threading
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opchat_proto import (
    Broken,
    Channel,
    Done,
    Event,
    Live,
    Reason,
    Receive,
    Server,
    Session,
    Site,
    Submit,
    Timeouts,
)
from opchat_proto.strategies import cuts
from opchat_transports import collect
from opchat_transports.bots import small_talk
from opchat_transports.testing import (
    ANSWER,
    EVENTS,
    FAULTS,
    GOOD,
    Accept,
    Delay,
    Expect,
    MemoryServer,
    Reset,
    Write,
    answer,
    dripped,
    encode,
    json_object,
    pair,
    refused,
    stale_nonce,
    stalled,
)

from .faulted import (
    EXPECTED,
    FIRST,
    LAST,
    QUESTION,
    REQUEST,
    SECOND,
    SITE,
    WAS_RESET,
    Sender,
    a_call,
    a_client,
    broken,
    check,
    no_session,
    outcome,
    timeout,
)

# ---------------------------------------------------------------- in memory


def test_time_passes_without_waiting() -> None:
    server = MemoryServer((Delay(200), *stalled(-5, answer("a"))))
    events = list(server.run(a_call()))
    detail = "no further event of the answer within 120 s (timeout 'idle'), after 1 event"
    assert events == timeout("idle", detail, Live("a"))
    assert (server.now, server.visits[-1].left) == (320, 320)
    assert list(server.run(a_call(timeouts=Timeouts(first_event=7)))) == timeout(
        "first_event", "no event of the answer within 7 s (timeout 'first_event'), after 0 events"
    )
    assert (server.now, server.visits[-1].left) == (327, 7)


def test_a_stall_is_noticed_even_without_clocks() -> None:
    nothing = "nothing more will come"
    timeouts = Timeouts(first_event=None)
    assert outcome(stalled(), timeouts=timeouts) == broken(Reason.TIMEOUT, nothing)
    assert outcome(FAULTS["session stall"], timeouts=timeouts) == no_session(Reason.TIMEOUT, nothing)


def test_a_reader_that_stops_early_leaves() -> None:
    server = MemoryServer()
    call = a_call()
    events = server.run(call)
    assert next(events) == FIRST
    visit = server.visits[-1]
    assert (visit.script, visit.left) == (GOOD, None)
    events.close()
    assert server.visits[-1] == replace(visit, left=0.0)
    assert call.next_step(server.now) == (Done(), math.inf)


class Stubborn:
    """A client that is never done."""

    def __init__(self) -> None:
        self._client = a_client()

    def __getattr__(self, name: str) -> Any:
        if name == "next_event":
            raise AttributeError
        return getattr(self._client, name)

    def next_step(self) -> Any:
        step = self._client.next_step()
        return Receive() if isinstance(step, Done) else step


def test_a_client_that_is_never_done_is_an_error() -> None:
    with pytest.raises(RuntimeError, match="a connection that has ended"):
        list(MemoryServer().run(Stubborn()))
    with pytest.raises(RuntimeError, match="a connection that has ended"):
        list(pair(Stubborn(), small_talk))


def test_after_a_reset_the_client_is_not_seen_to_leave() -> None:
    server = MemoryServer((Accept(), Reset()))
    assert list(server.run(a_call())) == no_session(Reason.LOST, WAS_RESET)
    assert [(visit.finished, visit.left) for visit in server.visits] == [(True, None)]


def test_tls_works_in_memory() -> None:
    server = MemoryServer()
    assert list(server.run(a_call("https://site.example"))) == list(EVENTS)
    assert [len(visit.requests) for visit in server.visits] == [1, 1]


@pytest.mark.parametrize(
    "name", ["delay", "stale nonce 403", "cut after an event", "reset after an event", "no answer"]
)
def test_a_client_without_a_call_works(name: str) -> None:
    server = MemoryServer(FAULTS[name])
    check(name, list(server.run(a_client())), EXPECTED[name], server, SITE)


def test_a_client_without_a_call_does_not_stall_forever() -> None:
    events = list(MemoryServer(FAULTS["stall after an event"]).run(a_client()))
    assert events == broken(Reason.TIMEOUT, "nothing more will come", FIRST)


def test_the_pause_before_a_retry_passes_in_virtual_time() -> None:
    later = refused(503, "Later.", headers=[("Retry-After", "7")])
    server = MemoryServer((Accept(), Reset()), later, GOOD)
    assert list(server.run(a_call(retries=2))) == list(EVENTS)
    assert server.now == 1 + 7
    assert server.routes == ("start_session", "start_session", "submit", "submit")


# ---------------------------------------------------------------- many in memory


class Flag:
    """A signal that counts how often it was set."""

    made: list["Flag"]

    def __init__(self) -> None:
        self.count = 0
        self.made.append(self)

    def set(self) -> None:
        self.count += 1

    def is_set(self) -> bool:
        return self.count > 0


@pytest.mark.parametrize("signal", [None, threading.Event, asyncio.Event])
def test_many_questions_share_a_session_start(signal: Any) -> None:
    channel = Channel(SITE, signal=signal)
    server = MemoryServer(
        (Expect("start_session"), Delay(3), Write(json_object(success=True, restNonce="7"))), dripped(1, 100)
    )
    assert server.play(*[channel.call("Hi") for _ in range(100)]) == [list(EVENTS)] * 100
    assert server.routes == ("start_session", *["submit"] * 100)
    pauses = (len(ANSWER) - 1) // 100
    assert server.now == 3 + pauses  # all at the same time
    assert {visit.left for visit in server.visits} == {3, pauses}


def test_a_waiting_call_continues_when_its_signal_is_set() -> None:
    Flag.made = []
    channel = Channel(SITE, signal=Flag)
    server = MemoryServer((Expect("start_session"), Delay(3), *GOOD))
    asked = server.play(*[channel.call("Hi") for _ in range(3)])
    assert [[type(event) for event in events] for events in asked] == [[Broken]] * 3
    assert [flag.count for flag in Flag.made] == [1, 1]
    assert server.routes == ("start_session",)


@pytest.mark.parametrize("signal", [None, threading.Event])
def test_a_stale_nonce_of_many_calls_is_renewed_once(signal: Any) -> None:
    channel = Channel(SITE, session=Session("0123456789"), signal=signal)
    stale = stale_nonce()[:1]
    server = MemoryServer(stale, stale, stale, GOOD)
    assert server.play(*[channel.call("Hi") for _ in range(3)]) == [list(EVENTS)] * 3
    assert server.routes == (*["submit"] * 3, "start_session", *["submit"] * 3)


@pytest.mark.parametrize("signal", [None, threading.Event])
@pytest.mark.parametrize("first_event", [5, None])
def test_a_failed_session_start_ends_all_waiting_calls(signal: Any, first_event: float | None) -> None:
    channel = Channel(SITE, signal=signal, timeouts=Timeouts(first_event=first_event))
    server = MemoryServer(FAULTS["session stall"])
    first, *others = server.play(*[channel.call("Hi") for _ in range(3)])
    assert [type(event) for event in first] == [Broken]
    assert others == [first, first]
    assert (server.now, server.routes) == (first_event or 0, ("start_session",))


def test_waiting_for_a_call_that_is_not_played_is_an_error() -> None:
    channel = Channel(SITE, signal=threading.Event, timeouts=Timeouts(first_event=None))
    starter = channel.call("Hi")
    starter.next_step(0)
    with pytest.raises(RuntimeError, match="waits for another one, which is not being played"):
        MemoryServer().play(channel.call("Hi"))
    assert starter.next_event() is None


def test_two_runs_may_be_read_alternately() -> None:
    half = ANSWER[: ANSWER.index(encode(SECOND))]
    server = MemoryServer((Write(half), Delay(2), Write(ANSWER[len(half) :])))
    one, other = server.run(a_call()), server.run(a_call())
    assert [next(one), next(other), *other, *one] == [FIRST, FIRST, SECOND, LAST, SECOND, LAST]


# ---------------------------------------------------------------- a pair


@given(st.data())
def test_a_pair_exchanges_the_answer_however_the_bytes_are_cut(data: st.DataObject) -> None:
    events = list(pair(a_client(), small_talk, cut=lambda sent: data.draw(cuts(sent))))
    whole = list(pair(a_client(), small_talk))
    assert events == whole
    assert collect(events) == "".join(small_talk(QUESTION))


def test_a_bot_may_yield_events() -> None:
    def bot(submit: Submit) -> Iterator[str | Event]:
        assert submit == QUESTION
        yield Live("Thinking", "status")
        yield "a"
        yield Broken(Reason.REMOTE, "Enough.")
        raise AssertionError("nobody asks for more")

    events = list(pair(a_client("https://site.example"), bot))
    assert events == broken(Reason.REMOTE, "Enough.", Live("Thinking", "status"), Live("a"))


def test_an_exception_of_the_bot_propagates() -> None:
    def bot(submit: Submit) -> Iterator[str]:
        yield "a"
        raise ZeroDivisionError

    events = pair(a_client(), bot)
    assert next(events) == Live("a")
    with pytest.raises(ZeroDivisionError):
        next(events)
    with pytest.raises(TypeError, match="a bot gives str, Live, End or Broken, not int"):
        list(pair(a_client(), lambda submit: [7]))  # type: ignore[list-item]  # wrong on purpose


def test_a_bot_is_closed_when_its_reader_stops() -> None:
    closed = []

    def bot(submit: Submit) -> Iterator[str]:
        try:
            while True:
                yield "a"
        finally:
            closed.append(submit)

    events = pair(a_client(), bot)
    assert [next(events), next(events)] == [Live("a"), Live("a")]
    events.close()
    assert closed == [QUESTION]


def test_a_pair_has_a_server_for_each_connection() -> None:
    made: list[Server] = []

    def server() -> Server:
        made.append(Server(Site(b"a")))
        return made[-1]

    assert collect(pair(a_client(), small_talk, server=server)) == "".join(small_talk(QUESTION))
    assert [peer.next_step() for peer in made] == [Done(), Done()]


def test_a_call_can_be_paired_with_a_server() -> None:
    assert list(pair(a_call(), small_talk)) == list(pair(a_client(), small_talk))


def test_a_pair_in_which_both_wait_is_an_error() -> None:
    with pytest.raises(RuntimeError, match="both wait"):
        list(pair(Sender(REQUEST[:-1]), small_talk))
