"""One function for each machine: it takes any bytes, and returns unless something does not hold."""

import copy
import json
import math
import random
import re
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import h11

from opchat_proto import (
    Answer,
    Awaiting,
    Broken,
    Call,
    Channel,
    Client,
    Connect,
    Conversation,
    Done,
    End,
    Endpoint,
    Event,
    Flow,
    InvalidMessages,
    Limits,
    Live,
    LocalProtocolError,
    Proxy,
    Question,
    Reason,
    Receive,
    ReplyDecoder,
    Request,
    Response,
    Send,
    Server,
    Session,
    Site,
    SSEDecoder,
    StartTLS,
    Submit,
    Timeouts,
    Upload,
    Visit,
    Wait,
)
from opchat_proto._member import is_usable  # whether a question may go with a session is not public
from tests import cases
from tests.fuzz import pages, reference
from tests.fuzz.oracles import (
    SECRET,
    Again,
    Choices,
    Cut,
    attempt,
    check_all_ways,
    check_events,
    check_linear,
    check_memory,
    check_reply,
    check_secrets,
    check_verdicts,
    random_copies,
    random_cut,
    seed,
    unchanged,
)
from tests.proto.pages import SYSTEM, element

SITE = Site(b"secret of the site")
NOW = cases.NOW
QUESTION = Submit(new_message="Hi?")
UPLOAD = Upload(name="a.txt", data=b"Hi?", boundary="edge")
MOST_CALLS = 200
_SOMETIMES = 1 / 500  # how often what takes long is looked at


def _often(choices: Choices, size: int) -> bool:
    return size > 0 and choices.random.random() < _SOMETIMES


# ---------------------------------------------------------------- SSEDecoder


def sse(data: bytes) -> None:
    """Any bytes are a stream: what the WHATWG text says, up to the limit."""
    choices = Choices(data)
    limits = choices.limits()

    def run(cut: Cut, again: Again) -> tuple[Any, ...]:
        decoder = SSEDecoder(limits)
        events = []
        for piece in cut(choices.data):
            decoder = again(decoder)
            events += decoder.receive_data(piece)
            check_memory(decoder, 4 * min(limits.event_bytes, len(choices.data)), choices.random)
        assert decoder.receive_eof() == []
        assert decoder.receive_data(b"data: late\n\n") == []
        return (
            events,
            decoder.retry,
            decoder.last_event_id,
            decoder.overflowed,
            decoder.data_seen,
            decoder.first_ignored_line,
        )

    events, retry, last_event_id, overflowed, *_ = check_all_ways(choices, run)
    expected = reference.read_stream(choices.data)
    given = [(event.event, event.data, event.id) for event in events]
    if overflowed:
        assert given == expected.events[: len(given)]
    else:
        assert (given, retry, last_event_id) == (expected.events, expected.retry, expected.last_event_id)
    if _often(choices, len(choices.data)):
        check_linear(lambda data: SSEDecoder().receive_data(data), choices.data)


# ---------------------------------------------------------------- ReplyDecoder

_STATUSES = (200, 200, 200, 200, 200, 200, 403, 401, 404, 302, 500, 503, 429, 204, 599, 0, -1, 10**9)
_FIELDS = (
    ("Content-Type", "text/html"),
    ("Content-Encoding", "gzip"),
    ("content-encoding", "identity, "),
    ("Content-Length", "5"),
    ("Transfer-Encoding", "chunked"),
    ("Set-Cookie", "a=b, mwai_session_id=fresh; path=/"),
    ("Set-Cookie", "mwai_session_id=a b"),
    ("Set-Cookie", "mwai_session_id=deleted; expires=Thu, 01-Jan-1970 00:00:01 GMT; Max-Age=0"),
    (
        "Set-Cookie",
        "mwai_session_id=fresh; expires=Wed, 21-Oct-15 07:28:00 GMT; Domain=.example; Path=/wp-json; secure",
    ),
    ("Link", '</a,b>; rel=next, </wp-json/>; title="a, b"; REL="x HTTPS://API.W.ORG/"'),
    ("Link", '<https://[/>; rel="https://api.w.org/"'),
    ("X-WP-Nonce", "fresh"),
    ("X-WP-Nonce", "a\r\nb"),
    ("Retry-After", "7"),
    ("Retry-After", "Wed, 21 Oct 2015 07:28:00 GMT"),
    ("Date", "Wed, 21 Oct 2015 07:27:00 GMT"),
    ("Location", "/caf\udce9"),
)


_FRAMING = {"content-encoding", "content-length", "transfer-encoding"}


def _head(choices: Choices) -> tuple[int, list[tuple[str, str]]]:
    status = choices.one_of(_STATUSES)
    return status, [choices.one_of(_FIELDS) for _ in range(choices.number(4))]


def _finish(machine: ReplyDecoder | Flow, how: int) -> list[Event]:
    if how == 0:
        return machine.receive_eof()
    return machine.receive_failure("cut", [Reason.LOST, Reason.TIMEOUT][how - 1])


def reply(data: bytes) -> None:
    """Any bytes as a body, under any head, ended in any way: one reply."""
    choices = Choices(data)
    limits = choices.limits()
    status, fields = _head(choices)
    ends = choices.number(3)

    def run(cut: Cut, again: Again) -> list[Event]:
        decoder = ReplyDecoder(limits)
        events = decoder.receive_head(status, fields)
        bound = 4 * min(max(limits.event_bytes, limits.refusal_bytes), len(choices.data))
        for piece in cut(choices.data):
            decoder = again(decoder)
            events += decoder.receive_data(piece)
            check_memory(decoder, bound, choices.random)
        decoder = again(decoder)
        events += _finish(decoder, ends)
        assert decoder.receive_data(b"data: late\n\n") == decoder.receive_eof() == []
        return events

    events = check_all_ways(choices, run)
    check_reply(events)
    if status != 200:
        assert isinstance(events[-1], Broken)
        assert len(events) == 1
        assert events[-1].reason in (Reason.REFUSED, Reason.TOO_LARGE, Reason.TRUNCATED), events
    elif limits == Limits() and not {name.lower() for name, _ in fields} & _FRAMING:
        check_verdicts(events, reference.read_reply(choices.data, ("", "truncated", "timeout")[ends]))
    if _often(choices, len(choices.data)):
        check_linear(lambda data: _decode_reply(limits, status, data), choices.data)


def _decode_reply(limits: Limits, status: int, data: bytes) -> list[Event]:
    decoder = ReplyDecoder(limits)
    return decoder.receive_head(status, []) + decoder.receive_data(data) + decoder.receive_eof()


def json_text(data: bytes) -> None:
    """Any text as a value in an event: taken if it is JSON and within the bounds, and read as the same."""
    choices = Choices(data)
    text = choices.data.decode("utf-8", "replace").replace("\r", "").replace("\n", " ")
    limits = choices.limits()
    decoder = ReplyDecoder(Limits(json_depth=limits.json_depth))
    events = decoder.receive_head(200, [])
    events += decoder.receive_data(f'data: {{"type":"live","data":"x","metadata":{text}}}\n\n'.encode())
    events += decoder.receive_data(f'data: {{"type":"ping","data":{text}}}\n\n'.encode())
    try:
        value = reference.read_json(f'{{"type":"ping","data":{text}}}')
    except reference.NotJSON:
        taken = False
    except RecursionError:
        return
    else:
        keys = [key for key, _ in value]
        digits = max((len(re.sub("[^0-9]", "", number)) for number in re.findall(r"[0-9.eE+-]+", text)), default=0)
        if digits > 4300:
            return  # numbers in strings look like numbers here
        taken = reference.depth_of(value) <= limits.json_depth and all(keys.count(it) <= 1 for it in EVENT_KEYS)
    if not taken:
        assert isinstance(events[-1], Broken), (text, events)
        assert events[-1].reason is Reason.MALFORMED
        return
    kind = dict(value)["type"]
    if kind == "ping":
        content = dict(value)["data"]
        assert events[-1] == Live(content if isinstance(content, str) else "", "unknown", events[-1].raw), (
            text,
            events,
        )


EVENT_KEYS = ("type", "data", "subtype")

# ---------------------------------------------------------------- Flow

_SESSIONS: tuple[Session | None, ...] = (
    None,
    Session(),
    Session(SECRET, f"{SECRET}2", f"mwai_session_id={SECRET}"),
    Session(SECRET, None, f"wordpress_logged_in_1={SECRET}"),
    Session(SECRET, None, f"wordpress_logged_in_1={SECRET}", member="alice"),
    Session(None, None, f"wordpress_logged_in_1={SECRET}"),
)


class _Calls:
    """A machine that is driven: what it has given, and what it may give."""

    def __init__(
        self, machine: Any, session: Session | None, limits: Limits, again: Again, chance: random.Random
    ) -> None:
        self.machine = machine
        self.random = chance
        self.events: list[Event] = []
        self.submits: list[Submit | Upload] = []
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

    def note(self, asked: Response | Submit | Upload | Visit) -> None:
        """What a request of this machine is to a server: a question is asked once, or again after a refused nonce."""
        if isinstance(asked, Response):
            self.sessions += 1
            return
        if isinstance(asked, Visit):
            self.visits += 1
            assert self.visits <= 6, "more than five redirects"
            return
        self.submits.append(asked)
        session = self.machine.session
        assert is_usable(session), "a member's question, and nobody has said who asks"
        assert self.machine.submit_started == isinstance(asked, Submit)
        assert asked in (QUESTION, UPLOAD)
        if len(self.submits) > 1:
            assert len(self.submits) == 2, "a question was sent three times"
            assert self.refused, "a question was sent twice"
            assert self.limits.restarts == 1
            assert self.visits or not self.member
            assert self.sessions or self.visits


def flow(data: bytes) -> None:
    """Any inputs in any order: illegal ones change nothing, and the events are one reply."""
    choices = Choices(data)
    limits = choices.limits()
    session = choices.one_of(_SESSIONS)
    submit = QUESTION if session or choices.number(2) == 0 else None
    endpoint = choices.one_of(_ENDPOINTS)
    kind = choices.number(4) if submit is not None else 0
    plan = _plan(choices)

    def run(cut: Cut, again: Again) -> tuple[Any, ...]:
        question = UPLOAD if kind == 2 and submit is not None else submit
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


_ENDPOINTS = tuple(
    map(Endpoint.parse, ("http://site.example", "https://site.example/blog", "http://[::1]:8000/?rest_route="))
)
Plan = list[tuple[Any, ...]]


def _plan(choices: Choices) -> Plan:
    """What is done, in order; the ordinary exchange where nothing was decided."""
    strings = [string for string in choices.strings if string]
    plan: Plan = []
    for _ in range(60):
        match choices.number(16) if choices else 0:
            case 8:
                plan.append(("data", strings[choices.number(len(strings))] if strings else b"x"))
            case 9:
                plan.append(("eof",))
            case 10:
                plan.append(("failure", choices.one_of(tuple(Reason))))
            case 11:
                plan.append(("head", *_head(choices)))
            case 12:
                plan.append(("request",))
            case 13:
                plan.append(("interim", choices.one_of((100, 103, 101, 199))))
            case 14:
                plan.append(("close",))
            case 15:
                plan.append(("step",))
            case how:
                head = _head(choices)
                plan.append(("answer", *head, strings.pop(0) if strings else None, how % 3 if choices else 0))
        if not choices and not strings:
            break
    return plan


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
            calls.note(_as_server(given))
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
            calls.give(_finish(calls.machine, how))
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


def _as_server(request: Request) -> Response | Submit | Upload | Visit:
    """How a server sees a request: a session, a question, a file, or a page to be shown."""
    if request.method == "GET":
        assert not request.body
        return Visit(request.url)
    if request.target.endswith("/files/upload"):
        assert request.body == UPLOAD.encode()
        return UPLOAD
    fields = [(name, value) for name, value in request.headers if name.lower() != "x-wp-nonce"]
    if "start_session" in request.target:
        assert len(fields) == len(request.headers), "a nonce goes to start_session"
    outcome = SITE.receive_request(
        request.method, request.target, [*fields, ("X-WP-Nonce", SITE.nonce(NOW))], request.body, now=NOW
    )
    return outcome.submit if isinstance(outcome, Question) else outcome


# ---------------------------------------------------------------- Client

_PROXIES: tuple[str | None, ...] = (
    None,
    None,
    f"http://user:{SECRET}@proxy.example:3128",
    f"https://user:{SECRET}@proxy.example",
    "socks5://proxy.example",
    f"socks5h://user:{SECRET}@[::1]:9",
)


def client(data: bytes) -> None:
    """Any bytes and failures in any order, through any proxy: one reply, and a question is never asked twice."""
    choices = Choices(data)
    limits = choices.limits()
    session = choices.one_of(_SESSIONS)
    submit = QUESTION if session or choices.number(2) == 0 else None
    endpoint = choices.one_of(_ENDPOINTS)
    proxy = choices.one_of(_PROXIES)
    plan = _plan(choices)

    def run(cut: Cut, again: Again) -> tuple[Any, ...]:
        through = Proxy.parse(proxy) if proxy else None
        machine = Client(Flow(endpoint, submit, session=session, limits=limits), proxy=through)
        calls = _Calls(machine, session, limits, again, choices.random)
        sent = _drive_client(calls, plan, cut)
        check_reply(calls.events)
        assert calls.machine.next_step() == Done()
        return calls.events, sent, calls.machine.session

    check_all_ways(choices, run)
    if _often(choices, len(choices.data)):
        check_linear(partial(_answer, limits), choices.data)


def _answer(limits: Limits, data: bytes) -> list[Event]:
    asking = Client(Flow(_ENDPOINTS[0], QUESTION, session=Session(), limits=limits))
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
                calls.note(_as_bytes(step.data))

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


def _as_bytes(data: bytes) -> Response | Submit | Upload | Visit:
    """How h11 and a server see these bytes: as one whole request."""
    reader = h11.Connection(h11.SERVER)
    reader.receive_data(data)
    request = reader.next_event()
    assert isinstance(request, h11.Request)
    body = b""
    while isinstance(event := reader.next_event(), h11.Data):
        body += event.data
    assert isinstance(event, h11.EndOfMessage)
    assert reader.trailing_data == (b"", False)
    fields = tuple((name.decode("latin-1"), value.decode("latin-1")) for name, value in request.headers)
    names = [name for name, _ in fields]
    assert names.count("host") == names.count("content-length") == 1
    target = request.target.decode()
    url = target if target.startswith("http://") else f"http://x{target}"
    return _as_server(Request(request.method.decode(), url, fields, body))


# ---------------------------------------------------------------- Call

_TIMEOUTS = (Timeouts(), Timeouts(connect=4, write=3, first_event=2, idle=1))
_SECONDS = (0.25, 1, 2, 7, 30, 120, 300, 1000)


def call(data: bytes) -> None:
    """Several questions at a time, any reports in any order: each has one reply, and is never sent twice."""
    choices = Choices(data)
    limits = choices.limits()
    session = choices.one_of(_SESSIONS)
    endpoint = choices.one_of(_ENDPOINTS)
    proxy = choices.one_of(_PROXIES)
    retries = choices.number(3)
    timeouts = choices.one_of(_TIMEOUTS)
    signal = choices.one_of((None, threading.Event))
    count = 1 + choices.number(3)
    chance = random.Random(choices.number(256))
    plan = [(chance.randrange(count), chance.choice(_SECONDS), action) for action in _plan(choices)]

    def run(cut: Cut, _: Again) -> tuple[Any, ...]:
        channel = Channel(
            endpoint, session=session, limits=limits, proxy=proxy, retries=retries, timeouts=timeouts, signal=signal
        )
        calls = _ManyCalls(channel, retries, limits, count)
        for place, seconds, action in plan:
            calls.act(calls.all[place], seconds, action, cut)
        calls.end()
        return [(it.events, it.sent) for it in calls.all], channel.session

    check_all_ways(choices, run)


class _OneCall:
    """A call, and what it has asked for and given."""

    def __init__(self, call: Call) -> None:
        self.call = call
        self.step: Any = None
        self.until = math.inf
        self.is_reported = True  # whether that step was
        self.events: list[Event] = []
        self.sent: list[bytes] = []  # over all connections
        self.starts = False  # start_session was sent over this connection
        self.handed_out = False  # a Send that was not reported
        self.done = False
        self.submits = self.retries = 0
        self.refused = self.put_off = False  # by what came since the question was asked last

    @property
    def over(self) -> bool:
        return bool(self.events) and not isinstance(self.events[-1], Live)


class _ManyCalls:
    """Calls of one channel, and the time."""

    def __init__(self, channel: Channel, retries: int, limits: Limits, count: int) -> None:
        self.retries = retries
        self.limits = limits
        self.now = 1000.0
        self.all = [_OneCall(channel.call(QUESTION)) for _ in range(count)]

    def act(self, it: _OneCall, seconds: float, action: tuple[Any, ...], cut: Cut) -> None:
        match action:
            case ("answer", _, _, given, ends):
                for _ in range(MOST_CALLS):
                    if not isinstance(self.ask(it), Connect | StartTLS | Send):
                        break
                    self.report(it, "step_done")
                if given is not None:
                    self.receive(it, given, cut)
                if ends == 1:
                    self.report(it, "receive_eof")
                elif ends == 2:
                    self.report(it, "timed_out")
            case ("data", given):
                self.receive(it, given, cut)
            case ("eof",):
                self.report(it, "receive_eof")
            case ("failure", reason):
                self.report(it, "step_failed", "cut", reason)
            case ("close",):
                self.report(it, "close")
                assert self.ask(it) == Done()
            case ("interim", _):
                self.now += seconds
            case ("head", _, _):
                self.take(it)
            case ("step",):
                self.ask(it)
            case _:
                step = self.ask(it)
                if not isinstance(step, Receive | Wait):
                    self.report(it, "step_done")
                    return
                legal = True
                try:
                    it.call.step_done()
                except LocalProtocolError:
                    legal = False
                assert not legal, "an illegal report was taken"
                assert self.ask(it) == step, "an illegal report has changed something"

    def ask(self, it: _OneCall) -> Any:
        step, until = it.call.next_step(self.now)
        assert it.call.next_step(self.now) == (step, until)
        assert self.now < until, "a step whose time is over"
        assert (until == math.inf) == isinstance(step, Done), "a step without an end"
        if not it.is_reported and self.now < it.until and not self._is_woken(it.step):
            assert (step, until) == (it.step, it.until), "another step, though nothing was reported"
        check_secrets(it.call, step)
        if it.call.retries > it.retries:
            assert it.call.retries <= self.retries
            assert not it.submits or it.put_off, "a question was asked again that had been sent"
            it.retries, it.submits, it.refused, it.put_off = it.call.retries, 0, False, False
        it.step, it.until, it.is_reported, it.done = step, until, False, isinstance(step, Done)
        if not isinstance(step, Send | Receive):
            it.starts = False
        if isinstance(step, Send) and not it.handed_out:
            it.sent.append(step.data)
            if step.data.startswith(b"POST "):
                self.note(it, _as_bytes(step.data))
        it.handed_out = isinstance(step, Send)
        return step

    @staticmethod
    def _is_woken(step: Any) -> bool:
        return isinstance(step, Wait) and (step.signal is None or step.signal.is_set())

    def note(self, it: _OneCall, asked: Response | Submit | Upload | Visit) -> None:
        if isinstance(asked, Response):
            for other in self.all:
                if other.starts:
                    self.ask(other)  # it may have gone on
                    assert not other.starts, "two sessions are started at a time"
            it.starts = True
            return
        assert asked == QUESTION
        it.submits += 1
        assert it.submits <= (1 + self.limits.restarts if it.refused else 1), "a question was sent again"

    def receive(self, it: _OneCall, given: bytes, cut: Cut) -> None:
        it.refused = it.refused or b" 401" in given or b" 403" in given
        it.put_off = it.put_off or b" 429" in given or b" 503" in given
        for piece in cut(given):
            self.report(it, "receive_data", piece)

    def report(self, it: _OneCall, method: str, *arguments: Any) -> None:
        getattr(it.call, method)(*arguments)
        it.is_reported = True
        if method in ("step_done", "step_failed"):
            it.handed_out = False

    def take(self, it: _OneCall) -> None:
        while (event := it.call.next_event()) is not None:
            assert not it.over, "an event after the last"
            assert isinstance(event, Live) or it.done, "the last event came before Done"
            it.events.append(event)
        check_events(it.events)
        assert it.over == it.done

    def end(self) -> None:
        """Nobody reports anything any more, and time passes."""
        for _ in range(MOST_CALLS):
            for it in self.all:
                self.ask(it)
                self.take(it)
            if all(it.over for it in self.all):
                break
            self.now = min(it.until for it in self.all)
        else:
            raise AssertionError("it never ends")
        for it in self.all:
            check_reply(it.events)


# ---------------------------------------------------------------- Server

_BOTS: tuple[tuple[Event, ...], ...] = (
    (Live("Hi"), End("Hi")),
    (End(None),),
    (Live("\n\ndata: x", "thinking"), Broken(Reason.REMOTE, "é\r\n")),
    (End("é", '{"success":true,"images":["/a"],"new_token":"x"}'),),
    (Live(""), Live("", "unknown"), End("", "[")),
)
_STATUSES_OF_A_SERVER = {100, 200, 400, 401, 403, 404, 413, 431, 500, 501, 505}


def server(data: bytes) -> None:
    """Any bytes from a client: documented answers that another implementation of HTTP can read."""
    choices = Choices(data)
    limits = choices.limits()
    bot = choices.one_of(_BOTS)
    site = Site(b"secret of the site", limits=limits)
    request = b"".join(choices.strings).replace(b"{nonce}", site.nonce(NOW).encode())

    def run(cut: Cut, again: Again) -> tuple[Any, ...]:
        machine = Server(site)
        out = b""
        submits = []
        for piece in cut(request):
            machine = again(machine)
            machine.receive_data(piece, now=NOW)
            events: Iterator[Event] = iter(bot)
            while not isinstance(step := machine.next_step(), Receive | Done):
                if isinstance(step, Answer):
                    event = next(events)
                    if event is bot[0]:
                        submits.append(step.submit)
                    machine.send(event, now=NOW)
                    if not isinstance(event, Live):
                        events = iter(bot)
                else:
                    out += step.data
                    machine.step_done()
                machine = again(machine)
            check_memory(machine, 4 * min(limits.head_bytes + limits.request_bytes, len(request)), choices.random)
        over = machine.next_step() == Done()
        machine.receive_eof()
        assert machine.next_step() == Done()
        assert "secret of the site" not in repr(machine)
        return out, submits, over

    out, submits, _ = check_all_ways(choices, run)
    if _often(choices, len(request)):
        check_linear(lambda data: Server(site).receive_data(data, now=NOW), request)
    while out.startswith(b"HTTP/1.1 100 "):
        out = out.partition(b"\r\n\r\n")[2]
    if b"HEAD " in request or b"100-continue" in request.lower() or b"HTTP/1.0" in request:
        return  # whose answers a reader can only read who knows the requests
    responses = cases.read_responses(out)
    assert {status for status, _, _ in responses} <= _STATUSES_OF_A_SERVER
    assert sum(status == 200 for status, _, _ in responses) >= len({*submits}) - sum(
        status == 500 for status, _, _ in responses
    )
    for _, fields, body in responses:
        assert body.isascii()
        if fields["content-type"].startswith("application/json") and not body.startswith(b"data: "):
            json.loads(body)


# ---------------------------------------------------------------- values

_WITH_PASSWORD = re.compile(rf"(?:[a-z0-9+.-]*:)?/*[^/?#@]*:{SECRET}@", re.IGNORECASE)


def _text(choices: Choices) -> str:
    return choices.data.decode("utf-8", "surrogateescape")


def endpoint(data: bytes) -> None:
    """Any text names a site or is a `ValueError` that says what was expected, and shows no password."""
    text = _text(Choices(data))
    found, error = attempt(Endpoint.parse, text, ValueError)
    if found is None:
        assert "expected" in str(error)
        assert SECRET not in str(error) or not _WITH_PASSWORD.match(text)
        return
    assert Endpoint.parse(found.origin + found.root) == found
    request = Flow(found, QUESTION, session=Session()).next_request()
    assert request is not None
    assert request.url == found.origin + request.target
    assert re.fullmatch(r"https?://[!-~]+", request.url)
    machine = Client(Flow(found, QUESTION, session=Session()))
    assert machine.next_step() == Connect(found.host, found.port)
    while not isinstance(step := machine.next_step(), Send):
        machine.step_done()
    assert step.data.startswith(f"POST {request.target} HTTP/1.1\r\n".encode())
    assert _as_bytes(step.data) == QUESTION


def proxy(data: bytes) -> None:
    """Any text names a proxy or is a `ValueError` that shows no credentials."""
    text = _text(Choices(data))
    found, error = attempt(Proxy.parse, text, ValueError)
    if found is None:
        assert "expected" in str(error)
        assert SECRET not in str(error)
        return
    bare = Proxy.parse(str(found))
    assert (bare.scheme, bare.host, bare.port) == (found.scheme, found.host, found.port)
    if found.password and len(found.password) > 12:
        assert found.password not in repr(found)
    for url in ("http://site.example", "https://site.example"):
        machine = Client(Flow(Endpoint.parse(url), QUESTION, session=Session()), proxy=found)
        assert machine.next_step() == Connect(found.host, found.port)
        machine.step_done()
        if isinstance(machine.next_step(), StartTLS):
            machine.step_done()
        step = machine.next_step()
        assert isinstance(step, Send)
        if step.data[:1] in (b"P", b"C"):
            reader = h11.Connection(h11.SERVER)
            reader.receive_data(step.data)
            assert isinstance(reader.next_event(), h11.Request)


_WORDS = (
    *(
        "role",
        "content",
        "user",
        "assistant",
        "system",
        "messages",
        "session",
        "nonce",
        "session_id",
        "cookie",
        "origin",
    ),
    *("chat_id", "bot_id", "custom_id", "context_id", "previous_response_id", "Hi?", "", "é", "\ud83d", " ", "0"),
)
_SCALARS: tuple[Any, ...] = (
    None,
    True,
    False,
    0,
    -1,
    1.5,
    1e308,
    float("inf"),
    float("nan"),
    10**5000,
    "https://site.example",
)


def _value(choices: Choices) -> Any:
    """What the bytes are as JSON; if they are none, something put together from them."""
    try:
        return json.loads(choices.data.decode("utf-8", "surrogatepass"))
    except (ValueError, RecursionError):
        return _built(list(choices.data[:200]), 0)


def _built(left: list[int], depth: int) -> Any:
    if not left:
        return None
    byte = left.pop()
    match byte % 8:
        case 0 | 1 if depth < 5:
            return [_built(left, depth + 1) for _ in range(byte // 8 % 4)]
        case 2 | 3 | 4 if depth < 5:
            return {
                _WORDS[(left.pop() if left else 0) % len(_WORDS)]: _built(left, depth + 1) for _ in range(byte // 8 % 8)
            }
        case 5:
            return _SCALARS[byte // 8 % len(_SCALARS)]
        case _:
            return _WORDS[byte // 8 % len(_WORDS)]


def messages(data: bytes) -> None:
    """Any JSON is a question, which a server reads as it was asked, or `InvalidMessages`."""
    choices = Choices(data)
    value = _value(choices)
    submit, error = attempt(Submit.from_messages, value, InvalidMessages)
    if error is not None:
        assert "expected" in str(error)
        if error.index is not None:
            assert 0 <= error.index < len(value)
            assert f"messages[{error.index}]" in str(error)
    if submit is None:
        return
    assert [message.content for message in (*submit.messages,)] == [it["content"] for it in value[:-1]]
    assert submit.new_message == value[-1]["content"]
    assert Submit.from_dict(json.loads(submit.encode())) == submit
    if len(submit.encode()) > Limits().request_bytes or not submit.new_message.strip(" \t\n\r\0\x0b"):
        return
    machine = Server(SITE)
    asking = Client(Flow(_ENDPOINTS[0], submit, session=Session(SITE.nonce(NOW))))
    while not isinstance(step := asking.next_step(), Send):
        asking.step_done()
    for piece in random_cut(choices.random)(step.data):
        machine.receive_data(piece, now=NOW)
    answer = machine.next_step()
    assert isinstance(answer, Answer)
    assert answer.submit == submit


def conversation(data: bytes) -> None:
    """Any JSON is a conversation, which can be kept and goes on, or a `ValueError`."""
    choices = Choices(data)
    value = _value(choices)
    found, _ = attempt(Conversation.from_dict, value, ValueError)
    if found is None:
        return
    kept = json.loads(json.dumps(found.to_dict()))
    assert Conversation.from_dict(kept) == found
    assert random_copies(choices.random)(found) == found
    submit = found.ask("And now?")
    found.record(submit, End("That", '{"responseId":"r1"}'))
    assert found.ask("?").previous_response_id == "r1"
    found = Conversation.from_dict(found.to_dict())
    assert [message.content for message in found.undo()] == ["And now?", "That"]
    expected = submit if submit.messages else replace(submit, previous_response_id=None)  # no message holds that id
    assert found.ask("And now?") == expected
    if found.session is not None and len(found.session.nonce or "") > 12:
        assert str(found.session.nonce) not in repr(found)


# ---------------------------------------------------------------- all of them, and where they begin

TARGETS: dict[str, Callable[[bytes], None]] = {
    "sse": sse,
    "reply": reply,
    "json": json_text,
    "flow": flow,
    "client": client,
    "call": call,
    "server": server,
    "endpoint": endpoint,
    "proxy": proxy,
    "messages": messages,
    "conversation": conversation,
    "page": pages.page,
}

_MOST = 6000  # bytes of a seed: what is longer is slow to mutate


def seeds(target: str) -> list[bytes]:
    """The corpus as inputs of this target."""
    found = [it for case in cases.cases() if (it := _seed(target, case)) is not None and len(it) < _MOST]
    if target == "conversation":
        found += [
            seed(json.dumps({"session": {key: value}}).encode()) for key in _WORDS[7:11] for value in (5, "a b;\n", "")
        ]
    if target == "flow":
        page = element(SYSTEM | {"restNonce": "2222222222"}).encode()
        for second in (_ANSWERS[0][1], page, b"<p>Nothing</p>"):
            for how in (2, 3):  # a file; a nonce of a page
                for session in (1, 3):
                    then = bytes([0, session, 1, how, 3, 6, 0, *[3, 0, 0] * 3])  # 3: its body ends well
                    found.append(seed(_ANSWERS[1][1], second, _ANSWERS[2][1], decisions=then))
        found.append(seed(b"<p>Fatal error</p>", decisions=bytes([0, 1, 1, 2, 3, 10, 0])))
        moved = [3, 9, 1, len(_FIELDS) - 1]  # with a Location
        then = bytes([0, 1, 1, 3, 3, 6, 0, *moved, *[3, 0, 0] * 2])
        found.append(seed(_ANSWERS[1][1], b"moved", page, _ANSWERS[2][1], decisions=then))
        found.append(seed(_ANSWERS[2][1], decisions=bytes([0, 1, 1, 1, 3, 0, 0])))
    if target == "call":
        opened, refused, answer = (_response(*it) for it in _ANSWERS)
        strings = [opened, refused, opened, answer, refused, answer, opened, answer, answer]
        in_turn = [*[12] * 10, *[8, 0, 15, 15] * 5, *[1, 0, 0] * 8]  # a step each, then an answer to one of them
        for scatter in range(24):
            decisions = [0, 0, 0, 0, 0, scatter % 2, scatter % 2, 2, scatter]
            found += [seed(*strings, decisions=bytes([*decisions, *then])) for then in (in_turn, [1, 0, 0] * 16)]
    return found


_ANSWERS = (
    (b"200 OK", b'{"success":true,"sessionId":"s","restNonce":"n"}'),
    (b"403 No", b'{"code":"rest_cookie_invalid_nonce"}'),
    (b"200 OK", b'{"success":true,"reply":"Hi"}'),
)


def _response(status: bytes, body: bytes) -> bytes:
    return b"HTTP/1.1 %b\r\nContent-Length: %d\r\n\r\n%b" % (status, len(body), body)


def _seed(target: str, case: cases.Case) -> bytes | None:
    level = case["level"]
    strings = [cases.to_bytes(recipe) for recipe in cases.byte_strings(case)]
    match target, level:
        case ("sse", "sse" | "reply") | ("reply", "reply"):
            status = {403: 6, 401: 7, 404: 8, 302: 9, 500: 10, 503: 11, 429: 12}.get(case.get("status", 200), 0)
            return seed(*strings, decisions=bytes([0, status]) if status and target == "reply" else b"")
        case ("json", "reply"):
            return seed(re.sub(rb"^data: |\n\n.*", b"", strings[0], flags=re.DOTALL))
        case ("flow", "flow"):
            decisions = [
                0,
                0 if case.get("starts_with") is None else 1,
                *([0] if case.get("starts_with") is None else []),
                *(0, 0),
            ]
            for answer in case["answers"]:
                status = answer.get("status", 200)
                decisions += [1, {403: 6, 401: 7, 404: 8}.get(status, 0), 0]
            return seed(*strings, decisions=bytes(decisions[:63]))
        case ("client", "exchanges" | "wire"):
            return seed(*strings, decisions=bytes([0, 1 if level == "wire" else 0, 0, 0, 0, *[1, 0, 0] * 6]))
        case ("call", "exchanges" | "wire"):
            session = 1 if level == "wire" else 0
            return seed(*strings, decisions=bytes([0, session, 0, 0, 1, 0, 1, 0, 0, *[1, 0, 0] * 6]))
        case ("client", "proxy"):
            proxy = next(
                (
                    place
                    for place, url in enumerate(_PROXIES)
                    if case.get("proxy") and url and url.split(":")[0] == case["proxy"].split(":")[0]
                ),
                0,
            )
            return seed(*strings, decisions=bytes([0, 1, 1 if case["site"].startswith("https") else 0, proxy]))
        case ("server", "server"):
            nonce = SITE.nonce(NOW).encode()
            return seed(cases.to_bytes(case["request"]).replace(b"{nonce}", nonce))
        case ("page", "page"):
            return seed(cases.to_text(case["html"]).encode())
        case ("page", "visit"):
            decisions = [0, 0, 0]
            for answer in case["answers"]:
                decisions += [{302: 1, 301: 2, 308: 3, 404: 4, 503: 5}.get(answer.get("status", 200), 0), 0, 0]
            return seed(*strings, decisions=bytes(decisions[:63]))
        case ("endpoint", "endpoint") | ("proxy", "proxy_url"):
            return seed(case["text"].encode("utf-8", "surrogatepass"))
        case ("messages", "messages"):
            return seed(json.dumps(case["messages"]).encode())
        case ("conversation", "messages"):
            value = {"messages": case["messages"], "session": {"nonce": "n", "cookie": "a=b"}, "bot_id": 5}
            return seed(json.dumps(value).encode())
        case _:
            return None


TOKENS = (
    *pages.TOKENS,
    *(
        b"data: ",
        b"\n\n",
        b"\r\n\r\n",
        b"\r",
        b"event: ",
        b"id: ",
        b"retry: ",
        b"\xef\xbb\xbf",
        b"\xff\x00\xff",
        b"\xe2\x82",
    ),
    *(
        b'{"type":"live","data":"',
        b'{"type":"end","data":',
        b'{"type":"error","data":""}',
        b'"{\\"success\\":true',
        b'"subtype":',
        b"\\ud83d",
    ),
    *(
        b'{"success":true,"reply":"x"}',
        b'{"success":false,"message":"x"}',
        b'"code":"rest_forbidden"',
        b'"code":"rest_no_route"',
    ),
    *(
        b'{"success":true,"sessionId":"s","restNonce":"n"}',
        b'{"code":"rest_cookie_invalid_nonce"}',
        b"<title>",
        b"&#x41;",
        b"true",
        b"null",
    ),
    *(
        b"HTTP/1.1 200 OK\r\n",
        b"HTTP/1.1 403 x\r\n",
        b"HTTP/1.1 100 x\r\n\r\n",
        b"Content-Length: ",
        b"Transfer-Encoding: chunked\r\n",
        b"0\r\n\r\n",
    ),
    *(
        b"Connection: close\r\n",
        b"Set-Cookie: mwai_session_id=c\r\n",
        b"X-WP-Nonce: n\r\n",
        b"\x05\x00",
        b"\x05\x02",
        b"\x01\x00",
    ),
    *(
        b"\x05\x00\x00\x01\x7f\x00\x00\x01\x00\x50",
        b"\x05\x00\x00\x03\x01a\x00\x50",
        b"POST ",
        b"/wp-json/mwai-ui/v1/chats/submit",
        b"rest_route=",
    ),
    *(
        b"https://",
        b"http://",
        b"socks5://",
        b"user:" + SECRET.encode() + b"@",
        b"[::1]",
        b":443",
        b"%2F",
        b"{nonce}",
        b"Host: a\r\n",
    ),
    *(
        b'"role":"user"',
        b'"content":',
        b'"messages":[',
        b'"newMessage":"hi"',
        b'"botId":"default"',
        b"1e999",
        b"[[[[",
        b"]]]]",
        b"NaN",
    ),
)
