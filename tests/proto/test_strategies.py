"""What the strategies promise: what they give, what they never give, and that nothing they should give is missing."""

import contextlib
import copy
import math
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hypothesis import Phase, find, given, settings
from hypothesis import strategies as st
from hypothesis.errors import NoSuchExample
from hypothesis.stateful import run_state_machine_as_test

from opchat_proto import (
    Broken,
    Channel,
    Client,
    Done,
    End,
    Endpoint,
    Event,
    Flow,
    Limits,
    Live,
    LocalProtocolError,
    Message,
    Proxy,
    Reason,
    Receive,
    ReplyDecoder,
    Request,
    ServerSentEvent,
    Session,
    SSEDecoder,
    StartTLS,
    Submit,
    strategies,
)
from opchat_proto._site import Question, Site
from opchat_transports.testing import FAULTS, Delay, Expect, MemoryServer, Repeat, Reset, Stall, Write
from tests.proto.asking import answered, is_reply

ROOT = Path(__file__).parents[2]
REGISTERED = [Live, End, Broken, Message, Submit, Session, Endpoint, Limits, ServerSentEvent, Request]


# ---------------------------------------------------------------- st.from_type


@pytest.mark.parametrize("kind", REGISTERED)
@given(data=st.data())
def test_every_type_has_its_strategy(kind: type[Any], data: st.DataObject) -> None:
    assert type(data.draw(st.from_type(kind))) is kind


@given(st.from_type(Event))  # type: ignore[arg-type]  # a union is no type[T]
def test_the_union_of_the_events_has_one_too(event: object) -> None:
    assert isinstance(event, Live | End | Broken)


@pytest.mark.parametrize(
    "imports",
    [
        "from hypothesis import strategies as st; from opchat_proto import *",
        "from opchat_proto import *; from hypothesis import strategies as st",
        "import opchat_proto.strategies; from hypothesis import strategies as st; from opchat_proto import *",
    ],
)
def test_the_types_are_registered_without_an_import_and_in_any_order(tmp_path: Path, imports: str) -> None:
    # An installed distribution as Hypothesis sees it, with the entry points of our pyproject.toml.
    group = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"]["hypothesis"]
    metadata = tmp_path / "opchat_of_this_test-0.dist-info"
    metadata.mkdir()
    lines = ["[hypothesis]", *(f"{name} = {value}" for name, value in group.items())]
    (metadata / "entry_points.txt").write_text("\n".join(lines))
    names = ", ".join(kind.__name__ for kind in REGISTERED)
    code = f"""
import sys, warnings
sys.path[:0] = [{str(tmp_path)!r}, {str(ROOT)!r}]
{imports}
from hypothesis.strategies._internal.types import _global_type_lookup
assert {{{names}}} <= set(_global_type_lookup)
warnings.simplefilter("ignore")  # that examples are not meant for programs
assert isinstance(st.from_type(Live).example(), Live)
"""
    # Warnings are errors: Hypothesis warns of entry points that draw or evaluate while it is imported.
    result = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, cwd=tmp_path)
    assert (result.returncode, result.stderr) == (0, "")


# ---------------------------------------------------------------- values


@given(strategies.texts())
def test_texts_can_be_sent(text: str) -> None:
    assert text.encode().decode() == text


@given(strategies.messages())
def test_messages_are_of_the_roles_that_a_question_takes(message: Message) -> None:
    assert message.role in ("user", "assistant", "system")
    assert Submit.from_messages([message, Message("user", "?")]).messages == (message,)


@given(strategies.submits(), strategies.sessions())
def test_a_server_takes_every_question_and_reads_it_as_it_was_asked(submit: Submit, session: Session) -> None:
    site = Site(b"secret")
    headers = [("Content-Type", "application/json"), ("X-WP-Nonce", site.nonce(0))]
    body = submit.encode(session.session_id)
    question = site.receive_request("POST", "/wp-json/mwai-ui/v1/chats/submit", headers, body, now=0)
    assert isinstance(question, Question)
    assert question.submit == submit


@given(strategies.sessions())
def test_sessions_belong_to_no_site_yet(session: Session) -> None:
    assert session.origin is None


@given(strategies.endpoints())
def test_endpoints_are_found_again_by_what_they_are(endpoint: Endpoint) -> None:
    assert Endpoint.parse(endpoint.origin + endpoint.root) == endpoint


@given(strategies.limits())
def test_limits_leave_room_for_every_question(limits: Limits) -> None:
    assert limits.request_bytes == Limits().request_bytes


@given(strategies.replies())
def test_replies_have_one_terminal_event_the_last(reply: list[Event]) -> None:
    assert is_reply(reply)


@given(strategies.events())
def test_a_payload_can_be_read_and_its_reply_is_the_events(event: Event) -> None:
    if isinstance(event, End) and event.raw:
        reply = event.payload()["reply"]
        assert event.reply == (reply if isinstance(reply, str) else None)


@given(st.from_type(ServerSentEvent))
def test_server_sent_events_can_be_written_and_read(event: ServerSentEvent) -> None:
    lines = [f"event: {event.event}", f"id: {event.id}", *(f"data: {line}" for line in event.data.split("\n"))]
    lines += [] if event.retry is None else [f"retry: {event.retry}"]
    assert SSEDecoder().receive_data("\n".join([*lines, "", ""]).encode()) == [event]


@given(st.from_type(Request))
def test_requests_are_those_of_this_protocol(request: Request) -> None:
    assert request.method == "POST"
    assert request.target.endswith(("/mwai/v1/start_session", "/mwai-ui/v1/chats/submit"))


# ---------------------------------------------------------------- bytes


@given(strategies.bodies())
def test_a_body_stands_for_its_events(body: strategies.Body) -> None:
    decoder = ReplyDecoder()
    events = decoder.receive_head(200, []) + decoder.receive_data(body.data) + decoder.receive_eof()
    assert events == body.events


@given(strategies.responses())
def test_a_response_stands_for_its_events(response: strategies.Response) -> None:
    assert answered([response.data]) == response.events


@given(strategies.responses())
def test_the_parts_of_a_response_are_those_of_its_bytes(response: strategies.Response) -> None:
    head = response.data[response.data.index(b" 200 OK\r\n") :].partition(b"\r\n\r\n")[0].decode()
    assert head.split("\r\n")[1:] == [f"{name}: {value}" for name, value in response.headers]
    decoder = ReplyDecoder()
    *events, last = (
        decoder.receive_head(200, response.headers) + decoder.receive_data(response.body) + decoder.receive_eof()
    )
    assert [*events, replace(last, asked=True) if isinstance(last, Broken) else last] == response.events


@given(st.data(), st.binary(max_size=40))
def test_cuts_lose_nothing_and_move_nothing(data: st.DataObject, whole: bytes) -> None:
    assert b"".join(data.draw(strategies.cuts(whole))) == whole


# Enough that what is missing is missing; it stops at the first example. How many it takes depends on what else was
# imported, since Hypothesis draws on the constants of the modules that it finds.
SEARCH = settings(max_examples=20_000, database=None, phases=[Phase.generate])


def first(body: strategies.Body) -> Event:
    return body.events[0]


def last(body: strategies.Body) -> Event:
    return body.events[-1]


@pytest.mark.parametrize(
    "wanted",
    [
        pytest.param(lambda body: body.data.startswith(b"\xef\xbb\xbf"), id="a byte order mark"),
        pytest.param(lambda body: b"\r" in body.data and b"\n" not in body.data, id="CR only"),
        pytest.param(lambda body: b"\r\n\r\ndata" in body.data, id="CRLF"),
        pytest.param(lambda body: b": keepalive" in body.data, id="a comment"),
        pytest.param(lambda body: b"<b>Warning</b>" in body.data, id="a notice"),
        pytest.param(lambda body: b"retry: 10" in body.data, id="another field"),
        pytest.param(lambda body: b"\ndata: \n\n" in body.data, id="a data line without anything"),
        pytest.param(lambda body: b"\\/" in body.data, id="PHP's JSON"),
        pytest.param(lambda body: "é".encode() in body.data, id="a browser's JSON"),
        pytest.param(lambda body: b'data: {\ndata:  "type": "end"' in body.data, id="an event in several lines"),
        pytest.param(lambda body: b'data:{"type"' in body.data, id="no blank after the colon"),
        pytest.param(lambda body: b"timestamp" in body.data, id="an event object"),
        pytest.param(lambda body: b"new_token" in body.data and b"actions" in body.data, id="a payload of today"),
        pytest.param(lambda body: Live("", "unreadable") in body.events, id="an unreadable piece"),
        pytest.param(lambda body: type(first(body)) is Live and first(body).raw != "", id="an unknown event"),
        pytest.param(lambda body: body.data.startswith(b"{") and type(first(body)) is End, id="a JSON body"),
        pytest.param(lambda body: body.data.startswith(b"{") and type(first(body)) is Broken, id="a JSON failure"),
        pytest.param(lambda body: last(body) == End(None), id="an end without a payload"),
        pytest.param(lambda body: last(body) == Broken(Reason.REMOTE), id="an error without a text"),
        pytest.param(
            lambda body: b'"error","data":null' in body.data and type(last(body)) is End,
            id="an error that came to nothing",
        ),
        pytest.param(lambda body: len(body.events) > 3, id="many events"),
    ],
)
def test_every_kind_of_body_is_there(wanted: Callable[[strategies.Body], bool]) -> None:
    assert wanted(find(strategies.bodies(), wanted, settings=SEARCH))


@pytest.mark.parametrize(
    "pattern",
    [
        pytest.param(rb"HTTP/1\.1 103 .*HTTP/1\.1 100 .*HTTP/1\.1 200 ", id="interim responses"),
        pytest.param(rb"HTTP/1\.0 200 ", id="HTTP/1.0"),
        pytest.param(rb"chunked\r\n.*\r\n0[0-9A-F]{3}\r\n", id="chunks"),
        pytest.param(rb"chunked\r\n.*;a=b\r\n", id="chunks with extensions"),
        pytest.param(rb"chunked\r\n.*\r\nX-After: 1\r\n\r\n\Z", id="trailers"),
        pytest.param(rb"\r\nContent-Length: \d+\r\n", id="a length"),
        pytest.param(rb"\A(?!.*(chunked|Content-Length))", id="up to the close"),
    ],
)
def test_every_kind_of_response_is_there(pattern: bytes) -> None:
    found = find(
        strategies.responses(), lambda response: bool(re.search(pattern, response.data, re.DOTALL)), settings=SEARCH
    )
    assert re.search(pattern, found.data, re.DOTALL)


# ---------------------------------------------------------------- bodies that go wrong


@given(st.data(), strategies.faulty_bodies())
def test_a_faulty_body_is_broken_after_its_pieces(data: st.DataObject, body: strategies.FaultyBody) -> None:
    decoder = ReplyDecoder()
    events = decoder.receive_head(200, [])
    for piece in data.draw(strategies.cuts(body.data)):
        events += decoder.receive_data(piece)
    *pieces, last = events + decoder.receive_eof()
    assert pieces == body.events
    assert isinstance(last, Broken)
    assert last.reason is body.reason


@pytest.mark.parametrize(
    "what",
    [
        lambda body: body.reason is Reason.TRUNCATED and not body.data,
        lambda body: body.reason is Reason.TRUNCATED and len(body.events) > 1,
        lambda body: body.reason is Reason.TRUNCATED and body.data.startswith(b"{"),
        lambda body: body.reason is Reason.TRUNCATED and b'"end"' in body.data,
        lambda body: body.reason is Reason.MALFORMED and b"<title>" in body.data,
        lambda body: body.reason is Reason.MALFORMED and body.data.startswith(b"{"),
        lambda body: body.reason is Reason.MALFORMED and len(body.events) > 1,
        lambda body: body.reason is Reason.MALFORMED and b"[DONE]" in body.data,
        lambda body: body.data.startswith(b"\xef\xbb\xbfdata: "),
        lambda body: body.events and b"\r\n" in body.data,
    ],
)
def test_every_kind_of_fault_is_there(what: Callable[[strategies.FaultyBody], bool]) -> None:
    find(strategies.faulty_bodies(), what, settings=SEARCH)


# ---------------------------------------------------------------- scripts


def played(script: tuple[Any, ...]) -> tuple[list[Event], int]:
    server = MemoryServer(script)
    client = Client(Flow(Endpoint.parse("http://site.example"), Submit(new_message="Hi?")))
    return list(server.run(client)), len(server.questions)


@given(strategies.scripts())
def test_a_script_is_played_to_one_reply_always_the_same(script: tuple[Any, ...]) -> None:
    events, questions = played(script)
    assert is_reply(events)
    assert questions <= 2
    assert played(script) == (events, questions)


@pytest.mark.parametrize(
    "wanted",
    [
        lambda script: script == FAULTS["gzip"],
        lambda script: script[0] == Expect("start_session") and script[-1] == Reset(),
        lambda script: isinstance(played(script)[0][-1], End) and script[-1] == Stall(),
        lambda script: any(isinstance(step, Delay) for step in script) and len(script) > 4,
        lambda script: any(isinstance(step, Write) and step.size == 1 for step in script),
        *(
            lambda script, reason=reason: getattr(played(script)[0][-1], "reason", None) is reason
            for reason in Reason
            if reason is not Reason.PROXY
        ),
    ],
)
def test_every_kind_of_script_is_there(wanted: Callable[[tuple[Any, ...]], bool]) -> None:
    assert wanted(find(strategies.scripts(), wanted, settings=SEARCH))


def test_no_script_goes_on_for_ever() -> None:
    def endless(script: tuple[Any, ...]) -> bool:
        return any(isinstance(step, Repeat) and step.times is None for step in script)

    with pytest.raises(NoSuchExample):
        find(strategies.scripts(), endless, settings=settings(SEARCH, max_examples=100))


# ---------------------------------------------------------------- rules


ONE_FAULT = settings(
    max_examples=1000,  # it stops at the first fault
    stateful_step_count=20,
    deadline=None,
    database=None,
    phases=[Phase.generate],  # what is found need not be small
    report_multiple_bugs=False,
)


NO_FAULT = settings(max_examples=200, stateful_step_count=20, deadline=None)


def find_fault(rules: type[Any]) -> None:
    run_state_machine_as_test(rules, settings=ONE_FAULT)


class Wrapper:
    """A `Client` in a wrapper that changes nothing; those below break a rule each."""

    def __init__(self, flow: Flow, *, proxy: Proxy | None = None) -> None:
        self.client = Client(flow, proxy=proxy)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.client, name)


TestClientRules = strategies.client_rules(Client).TestCase
TestClientRules.settings = NO_FAULT

TestWrapperRules = strategies.client_rules(Wrapper).TestCase
TestWrapperRules.settings = NO_FAULT


class ForgetsTheEnd(Wrapper):
    def receive_eof(self) -> list[Event]:
        return [event for event in self.client.receive_eof() if isinstance(event, Live)]


class SaysTheEndTwice(Wrapper):
    def step_failed(self, detail: str, reason: Reason = Reason.LOST) -> list[Event]:
        is_over = self.client.next_step() == Done()
        return self.client.step_failed(detail, reason) or ([Broken(reason, detail)] if is_over else [])


class HidesFaultsOfItsCaller(Wrapper):
    def step_done(self) -> None:
        with contextlib.suppress(LocalProtocolError):
            self.client.step_done()


class LosesPieces(Wrapper):
    def receive_data(self, data: bytes) -> list[Event]:
        return [event for event in self.client.receive_data(data) if not isinstance(event, Live)]


class SkipsTLS(Wrapper):
    def next_step(self) -> Any:
        step = self.client.next_step()
        if isinstance(step, StartTLS):
            self.client.step_done()
            step = self.client.next_step()
        return Receive() if isinstance(step, Done) else step


class GivesUpWhatWasCutOff(Wrapper):
    def step_failed(self, detail: str, reason: Reason = Reason.LOST) -> list[Event]:
        return self.client.step_failed(detail, reason) or self.client.close()


class MindsLateNews(Wrapper):
    def receive_eof(self) -> list[Event]:
        return self.client.receive_eof() or self.client.close()


class StaysAfterClose(Wrapper):
    def close(self) -> list[Event]:
        return []


class AsksAgain(Wrapper):
    """Asks once more where an answer did not come."""

    def __init__(self, flow: Flow, *, proxy: Proxy | None = None) -> None:
        self.again = copy.deepcopy(flow)
        self.proxy = proxy
        super().__init__(flow, proxy=proxy)

    def receive_eof(self) -> list[Event]:
        events = self.client.receive_eof()
        match events:
            case [Broken(Reason.LOST)]:
                self.client = Client(copy.deepcopy(self.again), proxy=self.proxy)
                return []
        return events


@pytest.mark.parametrize(
    "faulty",
    [
        ForgetsTheEnd,
        SaysTheEndTwice,
        HidesFaultsOfItsCaller,
        LosesPieces,
        SkipsTLS,
        GivesUpWhatWasCutOff,
        MindsLateNews,
        StaysAfterClose,
        AsksAgain,
    ],
)
def test_the_rules_find_a_wrapper_that_breaks_them(faulty: type[Wrapper]) -> None:
    with pytest.raises((AssertionError, LocalProtocolError)):
        find_fault(strategies.client_rules(faulty))


TestCallRules = strategies.call_rules().TestCase
TestCallRules.settings = NO_FAULT


class CallWrapper:
    """A `Call` in a wrapper that changes nothing; those below break a rule each."""

    def __init__(self, channel: Channel) -> None:
        self.channel = channel
        self.call = channel.call("Hi?")

    def __getattr__(self, name: str) -> Any:
        return getattr(self.call, name)


class ChannelWrapper:
    """A `Channel` whose calls are wrapped."""

    def __init__(self, kind: type[CallWrapper], endpoint: Endpoint, **options: Any) -> None:
        self.kind = kind
        self.channel = Channel(endpoint, **options)

    def call(self, question: str) -> CallWrapper:
        return self.kind(self.channel)


TestCallWrapperRules = strategies.call_rules(partial(ChannelWrapper, CallWrapper)).TestCase
TestCallWrapperRules.settings = NO_FAULT


class NeverTimesOut(CallWrapper):
    def next_step(self, now: float) -> Any:
        return self.call.next_step(0)


class HasNoClocks(CallWrapper):
    def next_step(self, now: float) -> Any:
        return self.call.next_step(0)[0], math.inf


class StartsItsClockAnew(CallWrapper):
    def next_step(self, now: float) -> Any:
        step, until = self.call.next_step(0)
        return step, until + now


class GivesTheEndBeforeDone(CallWrapper):
    def next_event(self) -> Event | None:
        event = self.call.next_event()
        if event is None:
            self.call.next_step(0)
            event = self.call.next_event()
        return event


class KeepsTheEnd(CallWrapper):
    def next_event(self) -> Event | None:
        event = self.call.next_event()
        return event if isinstance(event, Live) else None


class SendsTwice(CallWrapper):
    """Asks once more where an answer did not come."""

    def receive_eof(self) -> None:
        sent = isinstance(self.call.next_step(0)[0], Receive)
        self.call.receive_eof()
        if sent and self.call.next_step(0)[0] == Done():
            self.call = self.channel.call("Hi?")


class HidesFaults(CallWrapper):
    def step_done(self) -> None:
        with contextlib.suppress(LocalProtocolError):
            self.call.step_done()


class Leaks(CallWrapper):
    """It is held by somebody, so dropping it is not enough."""

    held: ClassVar[list[Any]] = []

    def __init__(self, channel: Channel) -> None:
        super().__init__(channel)
        self.held.append(self.call)


class StartsASessionItself(CallWrapper):
    """Has a channel of its own, and so its own start_session."""

    def __init__(self, channel: Channel) -> None:
        options = {"proxy": channel.proxy, "timeouts": channel.timeouts, "limits": channel.limits}
        super().__init__(Channel(channel.endpoint, session=channel.session, **options))  # type: ignore[arg-type]  # any options


@pytest.mark.parametrize(
    "faulty",
    [
        NeverTimesOut,
        HasNoClocks,
        StartsItsClockAnew,
        GivesTheEndBeforeDone,
        KeepsTheEnd,
        SendsTwice,
        HidesFaults,
        Leaks,
        StartsASessionItself,
    ],
)
def test_the_rules_find_a_call_that_breaks_them(faulty: type[CallWrapper]) -> None:
    with pytest.raises(AssertionError):
        find_fault(strategies.call_rules(partial(ChannelWrapper, faulty)))


class Mute:
    """A signal that is never seen."""

    def set(self) -> None:
        pass

    def is_set(self) -> bool:
        return False


def test_the_rules_find_a_channel_that_wakes_nobody() -> None:
    def factory(endpoint: Endpoint, **options: Any) -> Channel:
        return Channel(endpoint, **options | {"signal": options["signal"] and Mute})

    with pytest.raises(AssertionError, match="another step"):
        find_fault(strategies.call_rules(factory))


# ---------------------------------------------------------------- the example of README

_WRAPPER = """
from opchat_proto import Client, Endpoint, Flow, Receive, Session, Submit

Wrapper = Client


def reply_to(pieces):
    client = Client(Flow(Endpoint.parse("http://site.example"), Submit(new_message="?"), session=Session()))
    while client.next_step() != Receive():
        client.step_done()
    events = [event for piece in pieces for event in client.receive_data(piece)]
    return {events} + client.receive_eof()
"""


_SHORT = """
from hypothesis import Phase, settings

settings.register_profile(
    "short", max_examples=20, stateful_step_count=10, deadline=None, phases=[Phase.generate], derandomize=True
)
settings.load_profile("short")
"""


@pytest.mark.parametrize(("given_events", "outcome"), [("events", "2 passed"), ("events[1:]", "1 failed")])
def test_the_example_of_readme_tests_a_wrapper(tmp_path: Path, given_events: str, outcome: str) -> None:
    readme = (ROOT / "README.md").read_text()
    [example] = [it for it in re.findall(r"```python\n(.*?)```", readme, re.DOTALL) if "strategies.cuts" in it]
    assert len([line for line in example.splitlines() if line]) <= 10
    (tmp_path / "my_wrapper.py").write_text(_WRAPPER.replace("{events}", given_events))
    (tmp_path / "test_my_wrapper.py").write_text(example)
    command = [sys.executable, "-m", "pytest", "-q", "-W", "error", "-p", "no:cacheprovider", f"--rootdir={tmp_path}"]
    (tmp_path / "conftest.py").write_text(_SHORT)
    done = subprocess.run([*command, str(tmp_path)], capture_output=True, text=True, timeout=120, check=False)
    assert outcome in done.stdout, done.stdout + done.stderr
