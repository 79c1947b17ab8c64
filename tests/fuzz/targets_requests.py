"""Any responses to a `Flow`, and any bytes on the connections of a `Client`."""

import copy
import random
from collections.abc import Callable
from functools import partial
from typing import Any

from opchat_proto import (
    Awaiting,
    Client,
    Connect,
    Done,
    Event,
    Flow,
    Limits,
    Live,
    LocalProtocolError,
    Proxy,
    Query,
    Reason,
    Receive,
    Response,
    Send,
    Session,
    StartTLS,
    Submit,
    Upload,
    Visit,
)
from opchat_proto._member import is_usable  # whether a question may be sent with a session is not public
from tests.fuzz.drawing import (
    ENDPOINTS,
    MOST_CALLS,
    OWNER,
    PROXIES,
    QUERY,
    QUESTION,
    SESSIONS,
    UPLOAD,
    Plan,
    as_bytes,
    as_server,
    draw_plan,
    end_body,
    often,
)
from tests.fuzz.oracles import (
    Again,
    Choices,
    Cut,
    check_all_ways,
    check_events,
    check_linear,
    check_memory,
    check_reply,
    check_secrets,
    unchanged,
)

# ------------------------------------------------------------------------------ Flow


class _Calls:
    """A driven machine: its events, and the events that it may give."""

    def __init__(
        self, machine: Any, session: Session | None, limits: Limits, again: Again, chance: random.Random
    ) -> None:
        self.machine = machine
        self.random = chance
        self.events: list[Event] = []
        self.submits: list[Submit | Upload | Query] = []
        self.sessions = 0
        self.visits = 0
        self.refused = False
        self.member = session is not None and session.is_member
        self.limits = limits
        self.again = again

    @property
    def over(self) -> bool:
        return bool(self.events) and not isinstance(self.events[-1], Live)

    def check_memory(self) -> None:
        limits = self.limits
        most = limits.event_bytes + limits.refusal_bytes + limits.head_bytes
        check_memory(self.machine, 4 * min(most, 1 << 20), self.random)

    def give(self, events: list[Event]) -> None:
        assert not (self.over and events), "an event after the last"
        self.events += events
        check_events(self.events[-1:])
        assert (self.machine.awaiting is None) == self.over
        self.machine = self.again(self.machine)

    def note(self, asked: Response | Submit | Upload | Query | Visit) -> None:
        """A server's view of this machine's requests: a question is asked once, or again after a refused nonce."""
        if isinstance(asked, Response):
            self.sessions += 1
            return
        if isinstance(asked, Visit):
            self.visits += 1
            assert self.visits <= 6, "more than five redirects"
            return
        self.submits.append(asked)
        session = self.machine.session
        assert is_usable(session) or asked is QUERY, "a member's question, and nobody has said who asks"
        assert self.machine.submit_started == isinstance(asked, Submit | Query)
        assert asked in (QUESTION, UPLOAD, QUERY)
        assert asked is not QUERY or self.visits == len(self.submits) == 1, "a bot that was not looked up once"
        if len(self.submits) > 1:
            assert len(self.submits) == 2, "a question was sent three times"
            assert self.refused, "a question was sent twice"
            assert self.limits.restarts == 1
            assert self.visits or not self.member
            assert self.sessions or self.visits


def flow(data: bytes) -> None:
    """Any inputs in any order: illegal ones change nothing, and the events form one reply."""
    choices = Choices(data)
    limits = choices.limits()
    session = choices.one_of(SESSIONS)
    submit = QUESTION if session or choices.number(2) == 0 else None
    endpoint = choices.one_of(ENDPOINTS)
    kind = choices.number(5) if submit is not None else 0
    if kind == 4:
        session, endpoint = OWNER, ENDPOINTS[1]
    plan = draw_plan(choices)

    def run(cut: Cut, again: Again) -> tuple[Any, ...]:
        question = {2: UPLOAD, 4: QUERY}.get(kind, submit)
        renewal = Visit(f"{endpoint.origin}/contact/", limits) if kind == 3 else None
        headers = {"X-Key": "k"} if kind == 1 else {}
        machine = Flow(endpoint, question, session=session, headers=headers, limits=limits, renewal=renewal)
        calls = _Calls(machine, session, limits, again, choices.random)
        _drive_flow(calls, plan, cut)
        check_reply(calls.events)
        assert calls.machine.next_request() is None
        assert (
            calls.machine.receive_head(200, []) == calls.machine.receive_data(b"x") == calls.machine.receive_eof() == []
        )
        return calls.events, calls.submits, calls.sessions, calls.visits, calls.machine.session

    check_all_ways(choices, run)


def _legal(calls: _Calls, legal: bool, call: Callable[[], list[Event]]) -> None:
    if not legal:
        assert unchanged(calls.machine, call, LocalProtocolError), "an illegal call was taken"
        return
    calls.give(call())


def _drive_flow(calls: _Calls, plan: Plan, cut: Cut) -> None:
    expecting = "request"

    def request() -> None:
        nonlocal expecting
        given = calls.machine.next_request()
        assert (given is not None) == (expecting == "request")
        check_secrets(calls.machine, given)
        if given is not None:
            calls.note(as_server(given))
            expecting = "head"

    def settle(state: str) -> None:
        nonlocal expecting
        expecting = "done" if calls.over else state
        assert calls.machine.is_ready == (expecting == "request")

    def head(status: int, fields: list[tuple[str, str]]) -> None:
        interim = 100 <= status < 200
        legal = expecting in ("head", "done")
        _legal(calls, legal, lambda: calls.machine.receive_head(status, fields))
        calls.refused = calls.refused or status in (401, 403)
        settle("body" if legal and not interim else expecting)

    def body(given: bytes) -> None:
        for piece in cut(given):
            _legal(calls, not piece or expecting in ("body", "done"), partial(calls.machine.receive_data, piece))
            settle(expecting)

    def finish(how: int) -> None:
        if how == 0:
            legal = expecting != "request"
            _legal(calls, legal, calls.machine.receive_eof)
            settle("request" if legal else expecting)
        else:
            calls.give(end_body(calls.machine, how))
            settle("request")

    def use_session(session: Session | None) -> None:
        due = expecting == "request" and calls.machine.awaiting is Awaiting.SESSION
        _legal(calls, due or expecting == "done", partial(calls.machine.use_session, session))
        settle(expecting)

    for index, action in enumerate(plan):
        match action:
            case ("step",):
                use_session((Session(nonce="0123456789"), Session(), None)[index % 3])
            case ("answer", status, fields, given, ends):
                if expecting == "request":
                    request()
                if expecting == "head":
                    head(status, fields)
                if expecting == "body":
                    if given is not None:
                        body(given)
                    finish(ends)
            case ("data", given):
                body(given)
            case ("eof",):
                finish(0)
            case ("failure", reason):
                calls.give(calls.machine.receive_failure("cut", reason))
                settle("request")
            case ("head", status, fields):
                head(status, fields)
            case ("interim", status):
                head(status, [])
            case ("close",):
                calls.give(calls.machine.close())
                assert calls.over
                settle("done")
            case _:
                request()
        calls.check_memory()
    while not calls.over:
        calls.give(calls.machine.receive_failure("nothing answers"))


# ------------------------------------------------------------------------------ Client


def client(data: bytes) -> None:
    """Any bytes and failures in any order, through any proxy: one reply, and a question is never asked twice."""
    choices = Choices(data)
    limits = choices.limits()
    session = choices.one_of(SESSIONS)
    submit = QUESTION if session or choices.number(2) == 0 else None
    endpoint = choices.one_of(ENDPOINTS)
    proxy = choices.one_of(PROXIES)
    plan = draw_plan(choices)

    def run(cut: Cut, again: Again) -> tuple[Any, ...]:
        through = Proxy.parse(proxy) if proxy else None
        machine = Client(Flow(endpoint, submit, session=session, limits=limits), proxy=through)
        calls = _Calls(machine, session, limits, again, choices.random)
        sent = _drive_client(calls, plan, cut)
        check_reply(calls.events)
        assert calls.machine.next_step() == Done()
        return calls.events, sent, calls.machine.session

    check_all_ways(choices, run)
    if often(choices, len(choices.data)):
        check_linear(partial(_answer, limits), choices.data)


def _answer(limits: Limits, data: bytes) -> list[Event]:
    asking = Client(Flow(ENDPOINTS[0], QUESTION, session=Session(), limits=limits))
    while not isinstance(asking.next_step(), Receive):
        asking.step_done()
    return asking.receive_data(data)


def _drive_client(calls: _Calls, plan: Plan, cut: Cut) -> list[Any]:
    sent: list[Any] = []
    handed_out: bytes | None = None

    def peek() -> Any:
        return copy.deepcopy(calls.machine).next_step()

    def hand_out(step: Any) -> None:
        nonlocal handed_out
        if isinstance(step, Send) and handed_out is None:
            handed_out = step.data
            sent.append(step.data)
            if step.data.startswith(b"POST "):
                calls.note(as_bytes(step.data))

    def step_done() -> None:
        nonlocal handed_out
        step = peek()
        if isinstance(step, Receive):
            assert unchanged(calls.machine, calls.machine.step_done, LocalProtocolError)
            return
        calls.machine.step_done()
        hand_out(step)
        handed_out = None
        calls.give([])

    def step_failed(reason: Reason) -> None:
        nonlocal handed_out
        cut_off = handed_out is not None and reason is Reason.LOST
        events = calls.machine.step_failed("cut", reason)
        calls.give(events)
        if cut_off:
            assert events == []
            assert peek() == Receive()
        handed_out = None

    def receive(method: str, *arguments: bytes) -> None:
        step = peek()
        events = getattr(calls.machine, method)(*arguments)
        calls.give(events)
        if isinstance(step, Connect):
            assert events == [], "an event of a connection that is not open"
            assert peek() == step

    def receive_data(given: bytes) -> None:
        calls.refused = calls.refused or b" 401" in given or b" 403" in given
        for piece in cut(given):
            receive("receive_data", piece)

    for action in plan:
        if calls.over:
            break
        match action:
            case ("answer", _, _, given, ends):
                for _ in range(MOST_CALLS):
                    step = calls.machine.next_step()
                    assert calls.machine.next_step() == step
                    check_secrets(calls.machine, step, calls.machine.session)
                    hand_out(step)
                    if not isinstance(step, Connect | StartTLS | Send):
                        break
                    step_done()
                if given is not None:
                    receive_data(given)
                if ends == 1:
                    receive("receive_eof")
                elif ends == 2:
                    step_failed(Reason.LOST)
            case ("data", given):
                receive_data(given)
            case ("eof",):
                receive("receive_eof")
            case ("failure", reason):
                step_failed(reason)
            case ("close",):
                calls.give(calls.machine.close())
                assert calls.over
            case ("step",):
                hand_out(calls.machine.next_step())
            case _:
                step_done()
        if not isinstance(peek(), Send):
            handed_out = None
        calls.check_memory()
    for _ in range(MOST_CALLS):
        match calls.machine.next_step():
            case Done():
                break
            case Receive():
                calls.give(calls.machine.receive_eof())
            case step:
                hand_out(step)
                step_done()
    else:
        raise AssertionError("the client goes on for ever")
    return sent
