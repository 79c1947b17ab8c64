"""Calls of both kinds in virtual time, driven by hand: their steps, reports and events."""

import gc
import math
import re
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import pytest

from opchat_proto import (
    Broken,
    Call,
    Channel,
    Done,
    Event,
    HTTPCall,
    Live,
    Reason,
    Receive,
    Request,
    Send,
    Session,
    Wait,
)
from opchat_proto._call_table import State  # the table is not public, and this test walks it
from tests.proto.asking import ANSWER, content_length
from tests.proto.uploads import CAT

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
KEPT = Reply(b'{"success":true,"data":{"id":"f1","url":"http://site.example/cat.png"}}')
DOWN = Reply(b"down", 503)
FRESH = Reply(b'data: {"type":"end","data":"{\\"success\\":true,\\"reply\\":\\"Hi\\",\\"new_token\\":\\"n9\\"}"}\n\n')

CLOSED = "closed by the caller"
REFUSAL = Broken(Reason.REFUSED, "Stale", 403, "rest_cookie_invalid_nonce", raw=STALE.body.decode(), asked=True)
NO_SESSION = Broken(Reason.REFUSED, "start_session: down", 503, raw="down", in_session=True)
LEFT = Broken(Reason.LOST, CLOSED, in_session=True)
CUT = Broken(Reason.TRUNCATED, CLOSED, asked=True)
WAITED = "no session from the question before within 340 s (timeout 'first_event'), after 0 events"
NO_CONNECTION = {
    Call: Broken(Reason.LOST, "could not connect to site.example:80: refused"),
    HTTPCall: Broken(Reason.LOST, "refused"),
}


def channel(**options: Any) -> Channel:
    return Channel("http://site.example", **options)


def put_off(seconds: int) -> Reply:
    return Reply(b"later", 429, (("Retry-After", str(seconds)),))


def refused(seconds: int, **more: Any) -> Broken:
    """The event for `put_off`: for the question, or with `in_session` for all calls that wait for a session."""
    detail = "start_session: later" if more else "later"
    return Broken(Reason.REFUSED, detail, 429, None, seconds, "later", **(more or {"asked": True}))


def asks(call: AnyCall, now: float = 0.0) -> str:
    """Perform all steps up to a request (over a connection, its Send too). Returns the request, or another step."""
    while True:
        step, _ = call.next_step(now)
        match step:
            case Request():
                nonce = dict(step.headers).get("X-WP-Nonce")
                route = step.url.rpartition("/")[2]
                return route if route == "start_session" else f"{route} {nonce}"
            case Wait() | Receive() | Done():
                return type(step).__name__
        assert isinstance(call, Call)
        call.step_done()
        if isinstance(step, Send) and step.data.startswith(b"POST "):
            found = re.search(rb"X-WP-Nonce: (\S+)", step.data)
            nonce = found and found[1].decode()
            route = step.data.partition(b" HTTP/")[0].rpartition(b"/")[2].decode()
            return route if route == "start_session" else f"{route} {nonce}"


def tell(call: AnyCall, reply: Reply) -> None:
    """Report a whole answer to a request."""
    if isinstance(call, Call):
        call.receive_data(reply.data)
    else:
        call.receive_head(reply.status, reply.fields)
        call.receive_data(reply.body)
        call.receive_eof()


def begin(call: AnyCall, body: bytes) -> None:
    """Report the head of an answer and the beginning of its body."""
    if isinstance(call, Call):
        call.receive_data(b"HTTP/1.1 200 -\r\n\r\n" + body)
    else:
        call.receive_head(200, [])
        call.receive_data(body)


def reach_nobody(call: AnyCall) -> None:
    """Report that the step failed and the question certainly did not reach the server."""
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
    """The events of a call that is over. The last one comes after `Done`."""
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
    """A channel with signals, and this many calls. Without a session, the first call starts one and the others wait."""
    site = channel(signal=threading.Event, **options)
    calls = [make(site, "Hi?") for _ in range(count)]
    if site.session is None:
        assert [asks(call) for call in calls] == ["start_session", *["Wait"] * (count - 1)]
    return site, calls


def state_of(call: AnyCall) -> str:
    return repr(call).split()[3]


def stale(make: Make, count: int, **options: Any) -> tuple[Channel, list[AnyCall]]:
    """Calls whose nonce was refused, each with its own message. The first one renews it, and the others wait."""
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
def close_it(calls: list[AnyCall]) -> None:
    calls[0].close()


def drop_it(calls: list[AnyCall]) -> None:
    del calls[0]
    gc.collect()


def kinds(items: Iterable[object]) -> list[str]:
    return [type(item).__name__ for item in items]


def at(state: State, make: Make, **options: Any) -> tuple[AnyCall, AnyCall | None]:
    """A call in this state, and the call that it waits for."""
    session = None if state in (State.SESSION, State.WAIT, State.START) else Session()
    site = channel(session=session, retries=int(state is State.PAUSE), **options)
    starter = None
    if state is State.WAIT:
        starter = make(site, "Hi?")
        starter.next_step(0)
    call = make(site, "Hi?", files=[CAT] if state is State.UPLOAD else [])
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
