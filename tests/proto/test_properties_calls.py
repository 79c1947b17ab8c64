"""Any calls in any order, compared with the legal inputs of each state."""

import pickle
from typing import Any, NamedTuple

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from hypothesis.strategies import DrawFn

from opchat_proto import (
    Awaiting,
    Client,
    Connect,
    Done,
    Endpoint,
    Event,
    Flow,
    Limits,
    Live,
    LocalProtocolError,
    Proxy,
    Reason,
    Receive,
    Send,
    Session,
    StartTLS,
    Submit,
    strategies,
)
from tests.proto.anything import (
    ANSWERS,
    BODY,
    ENDPOINT,
    EXPIRED,
    GUEST,
    NO_ROUTE,
    OPENED,
    PAGE,
    PROXIES,
    QUESTION,
    RENEWED,
    STALE,
    WIRE,
    Again,
    Answered,
    any_fields,
    any_status,
    any_text,
    any_wire,
    copiers,
    noise,
    peek,
)

_PIECES = [
    *(b"", OPENED.body, STALE.body, EXPIRED.body, NO_ROUTE.body, PAGE.body, b"{", b"\n", b"\r", b"data: \n\n"),
    *(b'data: {"type":"live","data":"Hi"}\n\n', b'data: {"type":"error","data":""}\n\n'),
]
_GREETINGS = [piece for _, _, greeting in PROXIES for piece in greeting]
pieces_of_a_body = st.sampled_from(_PIECES) | noise(BODY)
pieces_of_wire = (
    st.sampled_from([b"", *WIRE, *_GREETINGS, *(answer.wire() for answer in ANSWERS)])
    | any_wire
    | strategies.responses().map(lambda response: response.data)
)


ways = st.sampled_from([("", "http", []), ("", "https", []), *PROXIES])


class Start(NamedTuple):
    """A question, and how far its flow has come when the calls begin."""

    session: Session | None
    submit: Submit | None
    limits: Limits
    answers: list[Answered]


@st.composite
def starts(draw: DrawFn) -> Start:
    submit = draw(st.sampled_from([QUESTION, QUESTION, QUESTION, None]))
    session = draw(st.sampled_from([None, GUEST, Session("n0", "s0")]) | strategies.sessions()) if submit else None
    answers = [*([] if session else [OPENED]), draw(st.sampled_from([STALE, EXPIRED]))]
    answers += [draw(st.sampled_from([RENEWED, RENEWED, NO_ROUTE])), STALE, RENEWED]
    limits = draw(st.just(Limits()) | strategies.limits())
    return Start(session, submit, limits, answers[: draw(st.integers(0, len(answers)))])


# A finished machine has little left to show: after three more calls, another one replaces it.
while_young = precondition(lambda self: self.late < 3)


class Calls(RuleBasedStateMachine):
    """Shared by `Flow` and `Client`: the events form one reply, and an illegal call changes nothing."""

    machine: Any
    start: Start
    given: list[Event]
    submits: int
    stale: bool
    late: int

    def begin(self, start: Start) -> Flow:
        self.start = start
        self.given = []
        self.submits = 0
        self.stale = False
        self.late = 0
        return Flow(ENDPOINT, start.submit, session=start.session, limits=start.limits)

    @property
    def over(self) -> bool:
        return bool(self.given) and not isinstance(self.given[-1], Live)

    def call(self, legal: bool, method: str, *arguments: Any) -> Any:
        over = self.over
        self.late += over
        if not legal:
            before = pickle.dumps(self.machine)
            with pytest.raises(LocalProtocolError, match=" is not legal in state "):
                getattr(self.machine, method)(*arguments)
            assert pickle.dumps(self.machine) == before
            return None
        result = getattr(self.machine, method)(*arguments)
        if isinstance(result, list):
            assert result == [] or not over
            self.given += result
        return result

    def count_submit(self) -> None:
        """A question was handed out: for the first time, or because the nonce was stale."""
        self.submits += 1
        if self.submits > 1:
            assert self.submits == 2
            assert self.stale
            assert self.start.limits.restarts == 1
        session = self.machine.session
        assert session.member or not session.is_member, "a member's question, and nobody has said who asks"
        assert self.machine.submit_started

    @invariant()
    def the_events_are_one_reply(self) -> None:
        assert all(isinstance(event, Live) for event in self.given[:-1])
        assert (self.machine.awaiting is None) == self.over

    @rule(again=copiers)
    @while_young
    def copy(self, again: Again) -> None:
        self.machine = again(self.machine)


class FlowCalls(Calls):
    """Any inputs to a `Flow`, compared with the legal ones."""

    @initialize(start=starts())
    def first(self, start: Start) -> None:
        self.machine = self.begin(start)
        self.expecting = "request"
        self.status = 0
        self.sessions = 0
        for answer in start.answers:
            if self.expecting == "request":
                self.next_request()
                self.receive_answer(answer)

    @rule(start=starts())
    @precondition(lambda self: self.over)
    def another(self, start: Start) -> None:
        self.first(start)

    @rule()
    @while_young
    def next_request(self) -> None:
        request = self.call(True, "next_request")
        assert (request is not None) == (self.expecting == "request")
        if request is None:
            return
        self.expecting = "head"
        if request.method == "GET":
            assert self.machine.session.is_member
            self.sessions += "rest-nonce" in request.target
        elif request.target.endswith("/start_session"):
            assert self.machine.session is None or not self.machine.session.is_member
            self.sessions += 1
        else:
            self.count_submit()
            assert self.submits == 1 or (self.sessions and dict(request.headers).get("X-WP-Nonce"))

    @rule(status=any_status, headers=any_fields)
    @while_young
    def receive_head(self, status: int, headers: list[tuple[str, str]]) -> None:
        legal = self.expecting in ("head", "done")
        self.call(legal, "receive_head", status, headers)
        if legal and not 100 <= status < 200:
            self.status = status
            self.move("body")
        else:
            self.move(self.expecting)

    @rule(data=pieces_of_a_body)
    @while_young
    def receive_data(self, data: bytes) -> None:
        self.call(not data or self.expecting in ("body", "done"), "receive_data", data)
        self.move(self.expecting)

    @rule()
    @while_young
    def receive_eof(self) -> None:
        legal = self.expecting != "request"
        self.call(legal, "receive_eof")
        if legal:
            self.stale = self.stale or self.status in (401, 403)
            self.move("request")

    @rule(detail=any_text, reason=st.sampled_from(Reason))
    @while_young
    def receive_failure(self, detail: str, reason: Reason) -> None:
        self.call(True, "receive_failure", detail, reason)
        self.move("request")

    @rule()
    @while_young
    def close(self) -> None:
        self.call(True, "close")
        self.move("done")

    @rule(session=st.sampled_from([None, Session("n5", "s5")]))
    @while_young
    def use_session(self, session: Session | None) -> None:
        due = self.expecting == "request" and self.machine.awaiting is Awaiting.SESSION
        self.call(due or self.over, "use_session", session)
        self.sessions += due
        self.move(self.expecting)

    @rule(answer=st.sampled_from(ANSWERS))
    @precondition(lambda self: self.expecting == "head")
    def receive_answer(self, answer: Answered) -> None:
        self.receive_head(answer.status, answer.headers)
        self.receive_data(answer.body)
        self.receive_eof()

    def move(self, expecting: str) -> None:
        self.expecting = "done" if self.over else expecting
        assert self.machine.is_ready == (self.expecting == "request")


class ClientCalls(Calls):
    """Any inputs to a `Client`, compared with the legal ones."""

    @initialize(start=starts(), proxy=ways)
    def first(self, start: Start, proxy: tuple[str, str, list[bytes]]) -> None:
        url, scheme, self.greeting = proxy
        flow = self.begin(start)
        if scheme == "https":
            flow = Flow(
                Endpoint.parse("https://site.example"), start.submit, session=start.session, limits=start.limits
            )
        self.machine = Client(flow, proxy=Proxy.parse(url) if url else None)
        self.handed_out: bytes | None = None
        for answer in start.answers:
            if not self.over:
                self.go_to_receive()
                self.receive_data(answer.wire())

    @rule(start=starts(), proxy=ways)
    @precondition(lambda self: self.over)
    def another(self, start: Start, proxy: tuple[str, str, list[bytes]]) -> None:
        self.first(start, proxy)

    @property
    def step(self) -> Connect | StartTLS | Send | Receive | Done:
        return peek(self.machine)

    def hand_out(self, step: object) -> None:
        if isinstance(step, Send) and self.handed_out is None:
            self.handed_out = step.data
            if b"/chats/submit HTTP/1.1\r\n" in step.data:
                self.count_submit()

    @invariant()
    def the_step_is_what_was_handed_out(self) -> None:
        step = self.step
        if isinstance(step, Send):
            assert self.handed_out in (None, step.data)
        else:
            self.handed_out = None
        assert isinstance(step, Done) == self.over

    @rule()
    @while_young
    def next_step(self) -> None:
        step = self.step
        assert self.machine.next_step() == self.machine.next_step() == step
        self.hand_out(step)

    @rule()
    @while_young
    def step_done(self) -> None:
        step = self.step
        self.call(isinstance(step, Connect | StartTLS | Send | Done), "step_done")
        self.hand_out(step)
        self.handed_out = None

    @rule(detail=any_text, reason=st.just(Reason.LOST) | st.sampled_from(Reason))
    @while_young
    def step_failed(self, detail: str, reason: Reason) -> None:
        cut_off = self.handed_out is not None and reason is Reason.LOST
        count = len(self.given)
        self.call(True, "step_failed", detail, reason)
        self.handed_out = None
        if cut_off:
            assert self.given[count:] == []
            assert self.step == Receive()

    @rule(data=pieces_of_wire)
    @while_young
    def receive_data(self, data: bytes) -> None:
        self.stale = self.stale or b" 401 " in data or b" 403 " in data
        self.take_news("receive_data", data)

    @rule()
    @while_young
    def receive_eof(self) -> None:
        self.take_news("receive_eof")

    def take_news(self, method: str, *arguments: bytes) -> None:
        step = self.step
        count = len(self.given)
        self.call(True, method, *arguments)
        if isinstance(step, Connect):
            assert self.given[count:] == []
            assert self.step == step

    @rule()
    @while_young
    def close(self) -> None:
        self.call(True, "close")
        assert self.over
        self.handed_out = None

    @rule()
    @precondition(lambda self: not self.over)
    def go_to_receive(self) -> None:
        replies: list[bytes] = []
        while not self.over and (replies or not isinstance(self.step, Receive)):
            if isinstance(self.step, Receive):
                self.receive_data(replies.pop(0))
            else:
                replies = [*self.greeting] if isinstance(self.step, Connect) else replies
                self.step_done()
            self.the_step_is_what_was_handed_out()


TestFlowCalls = FlowCalls.TestCase
TestClientCalls = ClientCalls.TestCase
