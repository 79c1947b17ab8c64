"""The middle ring: which step is due, what is legal when, and that a question is asked once."""

import copy
import pickle
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opchat_proto import (
    Awaiting,
    Broken,
    Client,
    Connect,
    Done,
    End,
    Endpoint,
    Event,
    Flow,
    Limits,
    Live,
    LocalProtocolError,
    Proxy,
    Reason,
    Receive,
    Request,
    Send,
    Session,
    StartTLS,
    Submit,
    _client,  # whose table is watched here
)
from opchat_proto._client import TABLE, State  # the table itself is not public, and is walked over here
from tests.fuzz.oracles import check_linear
from tests.proto.asking import (
    ANSWER,
    ANSWERED,
    BOUND_V4,
    CHUNKED,
    CREDENTIALS,
    END,
    ENDPOINT,
    ESTABLISHED,
    HI,
    LOGIN,
    NO_PASSWORD,
    NO_SESSION_NEEDED,
    PASSWORD_TOO,
    PROXY,
    QUESTION,
    WAYS,
    Recorder,
    Way,
    answered,
    ask,
    asked,
    chunks,
    client,
    connect,
    content_length,
    follow,
    is_reply,
)
from tests.proto.cuts import byte_by_byte, clones, every_cut, random_cuts

HTTPS = Endpoint.parse("https://site.example")
DIRECT = Way("", "http://site.example", (Connect("site.example", 80),))
DIRECT_TLS = Way("", "https://site.example", (Connect("site.example", 443), StartTLS("site.example")))
OPENED = content_length(b'{"success":true,"sessionId":"s1","restNonce":"n1"}')
OPENED_AGAIN = content_length(b'{"success":true,"sessionId":"s2","restNonce":"n2"}')
STALE = content_length(b'{"code":"rest_cookie_invalid_nonce","message":"Stale"}', status=b"403 Forbidden")
REFUSAL = Broken(
    Reason.REFUSED,
    "Stale",
    403,
    "rest_cookie_invalid_nonce",
    raw='{"code":"rest_cookie_invalid_nonce","message":"Stale"}',
    asked=True,
)
BUSY = content_length(b"busy", status=b"503 -")
NO_ANSWER = "the connection was closed before any answer"
CLOSED = "closed by the caller"


def frozen(client: Client) -> bytes:
    return pickle.dumps(client)


def is_submit(step: object) -> bool:
    return isinstance(step, Send) and b"/mwai-ui/v1/chats/submit " in step.data


def is_start_session(step: object) -> bool:
    return isinstance(step, Send) and b"/mwai/v1/start_session " in step.data


# ------------------------------------------------------------------------------------------------ the steps


def test_the_steps_of_a_question_over_http() -> None:
    asking = client(session=Session(nonce="n", session_id="s", cookie="a=b"))
    assert asking.next_step() == Connect("site.example", 80)
    asking.step_done()
    first, fields, sent = parts_of(asking.next_step())
    body = (
        b'{"botId":"default","customId":null,"session":"s","contextId":null,"messages":[],"newMessage":"Hi?",'
        b'"newFileId":null,"newFileIds":null,"stream":true}'
    )
    assert first == b"POST /wp-json/mwai-ui/v1/chats/submit HTTP/1.1"
    assert {b"Host: site.example", b"Content-Length: %d" % len(body), b"X-WP-Nonce: n", b"Cookie: a=b"} <= fields
    assert sent == body
    asking.step_done()
    assert asking.next_step() == Receive()
    assert asking.receive_data(content_length(ANSWER)) == ANSWERED
    assert asking.next_step() == Done()


def test_the_steps_of_a_question_over_https() -> None:
    asking = client(endpoint=Endpoint.parse("https://site.example:8443"))
    assert follow(asking, (Connect("site.example", 8443), StartTLS("site.example"))) == []
    assert is_submit(asking.next_step())
    asking.step_done()
    assert asking.next_step() == Receive()


def test_the_trailing_dot_of_a_host_is_for_dns_and_not_for_the_certificate() -> None:
    asking = client(endpoint=Endpoint.parse("https://site.example."), proxy=Proxy.parse("https://proxy.example."))
    follow(asking, (Connect("proxy.example.", 443), StartTLS("proxy.example"), connect(b"site.example.:443")))
    follow(asking, (ESTABLISHED, StartTLS("site.example")))
    assert b"Host: site.example." in parts_of(asking.next_step())[1]
    assert client(endpoint=Endpoint.parse("http://site.example.")).next_step() == Connect("site.example.", 80)


def test_start_session_and_submit_have_a_connection_each_and_tell_the_server() -> None:
    asking = client(session=None)
    connect, start = ask(asking)
    assert (connect, is_start_session(start)) == (Connect("site.example", 80), True)
    assert b"Connection: close" in parts_of(start)[1]
    assert (asking.session, asking.awaiting, asking.submit_started) == (None, Awaiting.SESSION, False)
    assert asking.receive_data(OPENED) == []
    session = Session("n1", "s1")
    assert (asking.session, asking.awaiting, asking.submit_started) == (session, Awaiting.FIRST_EVENT, False)
    connect, submit = ask(asking)
    assert (connect, is_submit(submit)) == (Connect("site.example", 80), True)
    assert {b"Connection: close", b"X-WP-Nonce: n1"} <= parts_of(submit)[1]
    assert asking.submit_started
    assert asking.receive_data(content_length(ANSWER)[:-1]) == [Live("Hi")]
    assert (asking.awaiting, asking.next_step()) == (Awaiting.EVENT, Receive())
    assert asking.receive_data(b"\n") == ANSWERED[1:]
    assert (asking.session, asking.awaiting, asking.submit_started) == (session, None, True)


def test_a_stale_nonce_is_renewed_and_the_question_asked_again_each_time_over_a_new_connection() -> None:
    asking = client(session=Session("n0", "s0"), limits=Limits())
    for is_due, answer, expected in (
        (is_submit, STALE, []),
        (is_start_session, OPENED, []),
        (is_submit, STALE, [REFUSAL]),
    ):
        connect, request = ask(asking)
        assert (connect, is_due(request)) == (Connect("site.example", 80), True)
        assert asking.receive_data(answer) == expected
    assert asking.next_step() == Done()


@pytest.mark.parametrize("session", [None, Session()])
@pytest.mark.parametrize("endpoint", [ENDPOINT, HTTPS])
def test_a_step_stays_the_same_until_it_is_reported(session: Session | None, endpoint: Endpoint) -> None:
    asking = client(session=session, endpoint=endpoint)
    while not isinstance(step := asking.next_step(), Receive):
        before = frozen(asking)
        assert asking.next_step() == step
        assert asking.receive_data(b"") == []
        assert asking.next_step() == step
        assert frozen(asking) == before
        asking.step_done()
    for byte in byte_by_byte((OPENED if session is None else content_length(ANSWER))[:-1]):
        assert asking.next_step() == Receive()
        asking.receive_data(byte)


def test_a_step_may_be_reported_by_who_remembers_it() -> None:
    told, remembering = client(), client()
    ask(told)
    remembering.step_done()
    remembering.step_done()
    assert frozen(remembering) == frozen(told)
    refused = client()
    assert refused.step_failed("refused") == [Broken(Reason.LOST, "could not connect to site.example:80: refused")]


def test_a_flow_without_a_submit_only_starts_a_session() -> None:
    asking = Client(Flow(ENDPOINT, None))
    ask(asking)
    assert asking.receive_data(OPENED) == [End(None)]
    assert (asking.session, asking.submit_started, asking.next_step()) == (Session("n1", "s1"), False, Done())


def test_only_a_flow_that_has_not_begun_is_taken() -> None:
    flow = Flow(ENDPOINT, QUESTION, session=Session())
    flow.next_request()
    with pytest.raises(ValueError, match=r"^flow: expected one that has not begun$"):
        Client(flow)
    with pytest.raises(TypeError, match=r"^flow: expected a Flow, got Submit$"):
        Client(QUESTION)  # type: ignore[arg-type]  # wrong on purpose
    with pytest.raises(TypeError, match=r"^proxy: expected a Proxy or None, got str$"):
        Client(Flow(ENDPOINT, QUESTION), proxy="http://proxy.example:3128")  # type: ignore[arg-type]  # wrong on purpose


def test_socks_has_room_for_the_longest_host_name() -> None:
    asking = Client(Flow(f"http://{254 * 'a'}", QUESTION), proxy=Proxy.parse("socks5://proxy.example"))
    follow(asking, (Connect("proxy.example", 1080), NO_PASSWORD, b"\x05\x00"))
    assert asking.next_step() == Send(b"\x05\x01\x00\x03\xfe" + 254 * b"a" + b"\x00\x50")


@pytest.mark.parametrize("take", [Client.next_step, Client.step_done])
def test_a_flow_whose_request_somebody_else_has_taken_is_of_no_use(take: Callable[[Client], object]) -> None:
    flow = Flow(ENDPOINT, QUESTION, session=Session())
    asking = Client(flow)
    flow.next_request()
    before = frozen(asking)
    with pytest.raises(LocalProtocolError, match=r"^Client: somebody else has taken the request from its flow$"):
        take(asking)
    assert frozen(asking) == before
    assert asking.close() == [Broken(Reason.LOST, CLOSED)]


# ------------------------------------------------------------------------------------------------ what is legal when

# The way through each state, and how many steps of it are done there.
PLACES: dict[State, tuple[Way, int]] = {
    State.CONNECT: (DIRECT, 0),
    State.PROXY_TLS: (WAYS["https to https"], 1),
    State.TUNNEL_SEND: (WAYS["https to https"], 2),
    State.TUNNEL_RECEIVE: (WAYS["https to https"], 3),
    State.TLS: (DIRECT_TLS, 1),
    State.SEND: (DIRECT, 1),
    State.SENDING: (DIRECT, 1),
    State.RECEIVE: (DIRECT, 2),
}
UNFINISHED = list(PLACES)


def bring(asking: Client, state: State) -> Client:
    for _ in range(PLACES[state][1]):
        asking.step_done()
    if state is not State.SEND:  # which is left when its step is asked for
        asking.next_step()
    assert state_of(asking) == state
    return asking


def at(state: State, *, session: Session | None = NO_SESSION_NEEDED) -> Client:
    if state is State.DONE:
        asking = client()
        asking.close()
        return asking
    return bring(PLACES[state][0].client(session=session), state)


def state_of(asking: Client) -> str:
    return repr(asking).split()[1]


CALLS: dict[str, Callable[[Client], list[Event] | None]] = {
    "step_done": Client.step_done,
    "step_failed": lambda asking: asking.step_failed("no way"),
    "receive_data": lambda asking: asking.receive_data(b"H"),
    "receive_eof": Client.receive_eof,
    "close": Client.close,
}
THE_PROXY = "the proxy https://proxy.example:3128: "
CLEAR = [Broken(Reason.TRUNCATED, "the server sent bytes in the clear where TLS was to begin")]
PROXY_CLEAR = [Broken(Reason.PROXY, "the proxy sent bytes in the clear where TLS was to begin")]
PROXY_EOF = [Broken(Reason.PROXY, THE_PROXY + NO_ANSWER)]
# What a call gives, and the state that it leads to. A call that is missing is not legal.
LEGAL: dict[State, dict[str, tuple[list[Any] | None, State]]] = {
    State.CONNECT: {
        "step_done": (None, State.SEND),
        "step_failed": ([Broken(Reason.LOST, "could not connect to site.example:80: no way")], State.DONE),
        "receive_data": ([], State.CONNECT),
        "receive_eof": ([], State.CONNECT),
        "close": ([Broken(Reason.LOST, CLOSED)], State.DONE),
    },
    State.PROXY_TLS: {
        "step_done": (None, State.TUNNEL_SEND),
        "step_failed": ([Broken(Reason.PROXY, THE_PROXY + "TLS failed: no way")], State.DONE),
        "receive_data": (PROXY_CLEAR, State.DONE),
        "receive_eof": (PROXY_EOF, State.DONE),
        "close": ([Broken(Reason.LOST, CLOSED)], State.DONE),
    },
    State.TUNNEL_SEND: {
        "step_done": (None, State.TUNNEL_RECEIVE),
        "step_failed": ([], State.TUNNEL_RECEIVE),
        "receive_data": ([], State.TUNNEL_SEND),
        "receive_eof": (PROXY_EOF, State.DONE),
        "close": ([Broken(Reason.LOST, CLOSED)], State.DONE),
    },
    State.TUNNEL_RECEIVE: {
        "step_failed": ([Broken(Reason.PROXY, THE_PROXY + "the connection failed: no way")], State.DONE),
        "receive_data": ([], State.TUNNEL_RECEIVE),
        "receive_eof": (PROXY_EOF, State.DONE),
        "close": ([Broken(Reason.LOST, CLOSED)], State.DONE),
    },
    State.TLS: {
        "step_done": (None, State.SEND),
        "step_failed": ([Broken(Reason.LOST, "TLS with site.example failed: no way")], State.DONE),
        "receive_data": (CLEAR, State.DONE),
        "receive_eof": ([Broken(Reason.LOST, NO_ANSWER)], State.DONE),
        "close": ([Broken(Reason.LOST, CLOSED)], State.DONE),
    },
    State.SEND: {
        "step_done": (None, State.RECEIVE),
        "step_failed": ([Broken(Reason.LOST, "the connection failed: no way")], State.DONE),
        "receive_data": ([], State.SEND),
        "receive_eof": ([Broken(Reason.LOST, NO_ANSWER)], State.DONE),
        "close": ([Broken(Reason.LOST, CLOSED)], State.DONE),
    },
    State.SENDING: {
        "step_done": (None, State.RECEIVE),
        "step_failed": ([], State.RECEIVE),
        "receive_data": ([], State.SENDING),
        "receive_eof": ([Broken(Reason.LOST, NO_ANSWER, asked=True)], State.DONE),
        "close": ([Broken(Reason.LOST, CLOSED, asked=True)], State.DONE),
    },
    State.RECEIVE: {
        "step_failed": ([Broken(Reason.LOST, "the connection failed: no way", asked=True)], State.DONE),
        "receive_data": ([], State.RECEIVE),
        "receive_eof": ([Broken(Reason.LOST, NO_ANSWER, asked=True)], State.DONE),
        "close": ([Broken(Reason.LOST, CLOSED, asked=True)], State.DONE),
    },
    State.DONE: {
        "step_done": (None, State.DONE),
        "step_failed": ([], State.DONE),
        "receive_data": ([], State.DONE),
        "receive_eof": ([], State.DONE),
        "close": ([], State.DONE),
    },
}


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("call", CALLS)
def test_every_call_in_every_state(state: State, call: str) -> None:
    asking = at(state)
    if call in LEGAL[state]:
        events, target = LEGAL[state][call]
        assert CALLS[call](asking) == events
        assert state_of(asking) == target
    else:
        before = frozen(asking)
        with pytest.raises(LocalProtocolError, match=f"^Client: {call} is not legal in state {state}$"):
            CALLS[call](asking)
        assert frozen(asking) == before


@pytest.mark.parametrize("state", State)
def test_what_is_legal_is_what_the_table_says(state: State) -> None:
    row = {given.value for given in TABLE.rows[state]} & set(CALLS)
    if state is State.DONE:
        row = set(CALLS)
    elif state is State.SEND:  # a step that is done was handed out
        row |= {"step_done"}
    assert row == set(LEGAL[state])


@pytest.mark.parametrize("state", State)
def test_no_bytes_are_legal_always_and_change_nothing(state: State) -> None:
    asking = at(state)
    before = frozen(asking)
    for nothing in (b"", bytearray(), memoryview(b"")):
        assert asking.receive_data(nothing) == []
    assert frozen(asking) == before


@pytest.mark.parametrize("state", State)
def test_the_next_step_is_legal_always(state: State) -> None:
    kind = {
        State.CONNECT: Connect,
        State.PROXY_TLS: StartTLS,
        State.TUNNEL_SEND: Send,
        State.TUNNEL_RECEIVE: Receive,
        State.TLS: StartTLS,
        State.SEND: Send,
        State.SENDING: Send,
        State.RECEIVE: Receive,
        State.DONE: Done,
    }[state]
    asking = at(state)
    assert type(asking.next_step()) is kind
    before = frozen(asking)
    assert type(asking.next_step()) is kind
    assert frozen(asking) == before


@pytest.mark.parametrize("state", State)
def test_wrong_types_raise_and_change_nothing(state: State) -> None:
    asking: Any = at(state)
    before = frozen(asking)
    for wrong in ("text", None, 5, [72]):
        with pytest.raises(TypeError):
            asking.receive_data(wrong)
    with pytest.raises(TypeError, match=r"^expected a str and a Reason, got bytes, Reason$"):
        asking.step_failed(b"bytes")
    with pytest.raises(TypeError, match=r"^expected a str and a Reason, got str, str$"):
        asking.step_failed("text", "lost")
    assert frozen(asking) == before


# What stands before the driver's own words: where a connection was lost, and in any other case.
SAID: dict[State, tuple[str, str]] = {
    State.CONNECT: ("could not connect to site.example:80: ", "could not connect to site.example:80: "),
    State.PROXY_TLS: (THE_PROXY + "TLS failed: ", THE_PROXY + "TLS failed: "),
    State.TUNNEL_SEND: ("", THE_PROXY),
    State.TUNNEL_RECEIVE: (THE_PROXY + "the connection failed: ", THE_PROXY),
    State.TLS: ("TLS with site.example failed: ", "TLS with site.example failed: "),
    State.SEND: ("the connection failed: ", ""),
    State.SENDING: ("", "the request could not be sent: "),
    State.RECEIVE: ("the connection failed: ", ""),
}


@pytest.mark.parametrize("state", UNFINISHED)
@pytest.mark.parametrize("reason", Reason)
def test_a_failure_ends_it_with_its_reason_and_says_where_it_was(state: State, reason: Reason) -> None:
    asking = at(state)
    events = asking.step_failed("it failed", reason, limit="connect")
    if reason is Reason.LOST and state in (State.TUNNEL_SEND, State.SENDING):
        assert (events, asking.next_step()) == ([], Receive())
        return
    was_lost = reason is Reason.LOST
    detail = SAID[state][0 if was_lost else 1] + "it failed"
    if was_lost and state in (State.PROXY_TLS, State.TUNNEL_RECEIVE):
        reason = Reason.PROXY
    asked = state in (State.SENDING, State.RECEIVE)
    assert events == [Broken(reason, detail, limit="connect", asked=asked)]
    assert (asking.next_step(), asking.awaiting, asking.submit_started) == (Done(), None, asked)


def test_where_it_was_is_named_like_an_address() -> None:
    asking = client(endpoint=Endpoint.parse("https://[2001:db8::1]"))
    asking.next_step()
    assert asking.step_failed("refused") == [Broken(Reason.LOST, "could not connect to [2001:db8::1]:443: refused")]


@pytest.mark.parametrize("reason", Reason)
def test_a_failure_inside_an_answer(reason: Reason) -> None:
    lost = reason is Reason.LOST
    expected = Broken(
        Reason.TRUNCATED if lost else reason, "the connection failed: it failed" if lost else "it failed", asked=True
    )
    data = content_length(ANSWER)
    head = data.index(b"\r\n\r\n") + 4
    for count in (1, head - 1, head, head + 1, head + len(HI) - 1):
        asking = asked()
        asking.receive_data(data[:count])
        [event] = asking.step_failed("it failed", reason)
        assert isinstance(event, Broken)
        assert (
            replace(event, detail=event.detail.partition(";")[0]) == expected
        )  # the rest names a line that the stream ignores
    asking = asked()
    assert asking.receive_data(data[: head + len(HI)]) == [Live("Hi")]
    assert asking.step_failed("it failed", reason) == [expected]


@pytest.mark.parametrize("reason", Reason)
def test_a_failure_inside_a_refusal_leaves_it_one_and_names_no_clock(reason: Reason) -> None:
    asking = asked()
    asking.receive_data(content_length(b"Not now", status=b"503 -")[:-1])
    expected = Broken(Reason.REFUSED, "Not no", 503, raw="Not no", asked=True)
    limit = "idle" if reason is Reason.TIMEOUT else None
    assert asking.step_failed("it failed", reason, limit=limit) == [expected]


def test_bytes_in_the_clear_where_tls_was_to_begin_are_not_read() -> None:
    asking = at(State.TLS)
    assert asking.receive_data(content_length(ANSWER)) == CLEAR
    assert (asking.next_step(), asking.submit_started) == (Done(), False)


# ------------------------------------------------------------------------------------------------ leaving


def test_a_caller_who_leaves_inside_an_answer_is_told_that_it_was_cut() -> None:
    data = content_length(ANSWER)
    for count in range(1, len(data) - 1):
        asking = asked()
        asking.receive_data(data[:count])
        assert asking.close() == [Broken(Reason.TRUNCATED, CLOSED, asked=True)]
        assert (asking.close(), asking.receive_data(data[count:]), asking.next_step()) == ([], [], Done())


@pytest.mark.parametrize("state", UNFINISHED)
def test_a_caller_who_leaves_before_the_session_has_asked_nothing(state: State) -> None:
    asking = at(state, session=None)
    assert asking.close() == [Broken(Reason.LOST, CLOSED, in_session=True)]
    assert asking.next_step() == Done()


def test_a_caller_who_leaves_inside_the_answer_of_start_session_has_lost_no_answer() -> None:
    for start, data, expected in (
        (b"", OPENED, Broken(Reason.LOST, CLOSED, in_session=True)),
        (STALE, OPENED_AGAIN, Broken(Reason.LOST, CLOSED, in_session=True, asked=True)),
    ):
        for count in range(len(data)):
            asking = asked(session=Session("n0") if start else None, limits=Limits())
            if start:
                assert asking.receive_data(start) == []
                ask(asking)
            asking.receive_data(data[:count])
            assert asking.close() == [expected]
    asking = asked(session=None)
    asking.receive_data(OPENED)
    for step in (Connect, Send):
        assert isinstance(asking.next_step(), step)
        leaving = copy.deepcopy(asking)
        assert leaving.close() == [Broken(Reason.LOST, CLOSED, asked=step is Send)]
        asking.step_done()


def test_a_server_that_speaks_before_anything_was_handed_out_is_listened_to_and_nothing_was_asked() -> None:
    for data, expected in (
        (BUSY, [Broken(Reason.REFUSED, "busy", 503, raw="busy")]),
        (content_length(ANSWER), ANSWERED),
        (b"\x00", [Broken(Reason.TRUNCATED, "HTTP: no status line")]),
    ):
        for pieces in every_cut(data):
            asking = at(State.SEND)
            assert [event for piece in pieces for event in asking.receive_data(piece)] == expected
            assert (asking.next_step(), asking.submit_started) == (Done(), False)
    for end, expected in (
        (Client.close, [Broken(Reason.TRUNCATED, CLOSED)]),
        (Client.receive_eof, [Broken(Reason.TRUNCATED, "the connection was closed inside the head of the answer")]),
        (lambda asking: asking.step_failed("reset"), [Broken(Reason.TRUNCATED, "the connection failed: reset")]),
    ):
        asking = at(State.SEND)
        assert asking.receive_data(b"H") == []
        assert end(asking) == expected
        assert (asking.next_step(), asking.submit_started) == (Done(), False)


def test_a_question_counts_as_asked_from_the_send_that_hands_it_out() -> None:
    for handed_out, expected in ((False, Broken(Reason.LOST, CLOSED)), (True, Broken(Reason.LOST, CLOSED, asked=True))):
        asking = at(State.SEND)
        if handed_out:
            assert is_submit(asking.next_step())
        assert asking.submit_started is handed_out
        assert asking.close() == [expected]


# ------------------------------------------------------------------------------------------------ early answers


def early(data: bytes, *, failed: bool) -> Client:
    """An answer of start_session before it was sent."""
    asking = at(State.SENDING, session=None)
    if failed:
        assert asking.step_failed("broken pipe") == []
    assert asking.receive_data(data) == []
    return asking


@pytest.mark.parametrize("failed", [False, True])
def test_after_an_early_answer_the_next_request_is_due(failed: bool) -> None:
    connect, submit = ask(early(OPENED, failed=failed))
    assert (connect, is_submit(submit)) == (Connect("site.example", 80), True)


def test_an_answer_that_begins_early_may_end_after_the_request_was_sent_or_could_not_be() -> None:
    asking = early(OPENED[:9], failed=False)
    assert is_start_session(asking.next_step())
    asking.step_done()
    for reading in (asking, early(OPENED[:9], failed=True)):
        assert reading.next_step() == Receive()
        assert reading.receive_data(OPENED[9:]) == []
        assert reading.next_step() == Connect("site.example", 80)


def test_a_server_that_speaks_first_may_open_the_session() -> None:
    asking = at(State.SEND, session=None)
    assert asking.receive_data(OPENED) == []
    assert (asking.session, asking.next_step()) == (Session("n1", "s1"), Connect("site.example", 80))


@pytest.mark.parametrize("failed", [False, True])
def test_an_early_refusal_is_read_while_the_question_is_sent(failed: bool) -> None:
    asking = at(State.SENDING)
    if failed:
        asking.step_failed("broken pipe")
    data = content_length(b"<title>Too large</title>", b"Connection: close", status=b"413 Content Too Large")
    for pieces in every_cut(data):
        reading = copy.deepcopy(asking)
        assert [event for piece in pieces for event in reading.receive_data(piece)] == [
            Broken(Reason.REFUSED, "Too large", 413, raw="<title>Too large</title>", asked=True)
        ]
        assert reading.next_step() == Done()


# ------------------------------------------------------------------------------------------------ another machine


@dataclass
class Fetches:
    """A machine that is no `Flow`: it asks for one URL after the other, whatever becomes of those before."""

    urls: list[str]
    limits: Limits = Limits()
    session: Session | None = None
    submit_started: bool = False
    taken: int = 0
    done: int = 0

    @property
    def is_ready(self) -> bool:
        return self.taken == self.done < len(self.urls)

    @property
    def awaiting(self) -> Awaiting | None:
        return Awaiting.SESSION if self.done < len(self.urls) else None

    def next_request(self) -> Request | None:
        if not self.is_ready:
            return None
        self.taken += 1
        return Request("GET", self.urls[self.done], (("Host", "any.example"),))

    def receive_head(self, status: int, headers: object) -> list[Event]:
        return [Live(str(status), "status")]

    def receive_data(self, data: bytes) -> list[Event]:
        return [Live(data.decode())]

    def receive_eof(self) -> list[Event]:
        return self._go_on(Live("", "eof"))

    def receive_failure(self, detail: str, reason: Reason = Reason.LOST, *, limit: str | None = None) -> list[Event]:
        return self._go_on(Live(f"{detail} ({limit})", str(reason)))

    def close(self) -> list[Event]:
        self.done = len(self.urls)
        return [Broken(Reason.LOST, CLOSED)]

    def _go_on(self, event: Event) -> list[Event]:
        self.taken = self.done = self.done + 1
        return [event] if self.done < len(self.urls) else [event, End(None)]


class Chatters(Fetches):
    """As above, with many events for each part of a body."""

    def receive_data(self, data: bytes) -> list[Event]:
        return [Live("")] * 100


def get(target: bytes, *fields: bytes) -> Send:
    return Send(
        b"\r\n".join((b"GET %b HTTP/1.1" % target, b"Host: any.example", b"Connection: close", *fields, b"", b""))
    )


def test_each_request_goes_to_the_host_of_its_url_and_a_failed_connect_is_not_the_end_of_another_machine() -> None:
    urls = ["http://one.example/a?b=c", "https://two.example:8443/d", "http://[2001:db8::1]/e"]
    asking = Client(Fetches(urls))
    assert asking.next_step() == Connect("one.example", 80)
    assert asking.step_failed("refused") == [Live("could not connect to one.example:80: refused (None)", "lost")]
    follow(asking, (Connect("two.example", 8443), StartTLS("two.example"), get(b"/d")))
    assert asking.receive_data(content_length(b"Hi")) == [Live("200", "status"), Live("Hi"), Live("", "eof")]
    follow(asking, (Connect("2001:db8::1", 80), get(b"/e")))
    assert asking.step_failed("slow", Reason.TIMEOUT, limit="idle") == [Live("slow (idle)", "timeout"), End(None)]
    assert (asking.next_step(), asking.submit_started) == (Done(), False)


def test_one_huge_read_takes_time_that_grows_with_its_events() -> None:
    def run(data: bytes) -> None:
        asking = Client(Chatters(["http://one.example/a"], Limits(head_bytes=64)))
        follow(asking, (Connect("one.example", 80), get(b"/a")))
        assert len(asking.receive_data(content_length(data))) > len(data)

    check_linear(run, b"x" * 64_000)


def test_the_way_through_a_proxy_is_that_of_the_request_at_hand() -> None:
    asking = Client(
        Fetches(["http://one.example/a", "https://two.example/b"]), proxy=Proxy.parse("u:p@proxy.example:3128")
    )
    authorization = b"Proxy-Authorization: Basic dTpw"
    follow(asking, (PROXY, get(b"http://one.example/a", authorization)))
    assert asking.receive_data(content_length(b"", status=b"407 -")) == [
        Live("the proxy refused: status 407 (None)", "proxy")
    ]
    follow(asking, (PROXY, connect(b"two.example:443", b"dTpw"), ESTABLISHED, StartTLS("two.example"), get(b"/b")))
    assert asking.receive_data(content_length(b"", status=b"407 -")) == [
        Live("407", "status"),
        Live("", "eof"),
        End(None),
    ]


@pytest.mark.parametrize("state", UNFINISHED)
def test_another_machine_goes_on_with_its_next_request_from_every_state(state: State) -> None:
    way = PLACES[state][0]
    urls = [f"{way.site}/a", f"{way.site}/b"]
    asking = bring(Client(Fetches(urls), proxy=Proxy.parse(way.proxy) if way.proxy else None), state)
    said = SAID[state][1] + "slow (idle)"
    for goes_on in clones(asking):
        assert goes_on.step_failed("slow", Reason.TIMEOUT, limit="idle") == [Live(said, "timeout")]
        assert goes_on.next_step() == way.script[0]
        assert follow(goes_on, way.script) == []
        assert isinstance(goes_on.next_step(), Send)
    assert asking.close() == [Broken(Reason.LOST, CLOSED)]


# ------------------------------------------------------------------------------------------------ the table


def again(way: Way) -> Client:
    """At Connect, after the first connection has carried its request."""
    asking = way.client(session=None)
    follow(asking, way.script)
    ask(asking)
    assert asking.receive_data(OPENED) == []
    return asking


def test_every_move_of_the_table_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    table = Recorder(TABLE)
    monkeypatch.setattr(_client, "TABLE", table)
    for state, calls in LEGAL.items():
        for call in calls:
            CALLS[call](at(state))
    for state in (State.SEND, State.SENDING, State.RECEIVE):
        assert at(state).receive_data(bytearray(content_length(ANSWER))) == ANSWERED  # bytes take a shorter way
    for state in (State.TUNNEL_SEND, State.SENDING):
        at(state).step_failed("slow", Reason.TIMEOUT)
    for state in UNFINISHED:
        test_another_machine_goes_on_with_its_next_request_from_every_state(state)
    for way in (DIRECT, DIRECT_TLS, *WAYS.values()):
        asking = again(way)
        follow(asking, way.script)
        assert is_submit(asking.next_step())
    large = Client(Flow(ENDPOINT, Submit(new_message="?" * 300_000), session=Session()))
    assert [type(step) for step in ask(large)] == [Connect, Send, Send]
    assert table.untaken == set()


def test_the_table_begins_with_connect_and_ends_with_done() -> None:
    assert TABLE.start == (State.CONNECT,)
    assert set(TABLE.rows) == set(LEGAL) == {*PLACES, State.DONE} == set(State)
    assert TABLE.rows[State.DONE] == {}


# ------------------------------------------------------------------------------------------------ a new connection


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(OPENED.replace(b"OK\r\n", b"OK\r\nConnection: keep-alive\r\n"), id="Connection: keep-alive"),
        pytest.param(OPENED.replace(b"HTTP/1.1", b"HTTP/1.0"), id="HTTP/1.0"),
        pytest.param(OPENED + b"\r\n", id="bytes after the answer"),
        pytest.param(OPENED + content_length(ANSWER), id="an answer that nobody asked for"),
        pytest.param(OPENED + 100_000 * b"x", id="many bytes after the answer"),
    ],
)
def test_after_an_answer_its_connection_is_over_whatever_follows(answer: bytes) -> None:
    end = answer.index(b"}") + 1
    for cut in (end - 1, end, end + 1, len(answer)):
        asking = asked(session=None)
        assert asking.receive_data(answer[:cut]) == asking.receive_data(answer[cut:]) == []
        assert (asking.next_step(), asking.submit_started) == (Connect("site.example", 80), False)
        assert asking.receive_eof() == []
        _, submit = ask(asking)
        assert is_submit(submit)
        assert asking.receive_data(content_length(ANSWER)) == ANSWERED


@pytest.mark.parametrize("head", [b"HTTP/1.1 200 OK\r\n\r\n", b"HTTP/1.0 200 OK\r\n\r\n"])
def test_a_session_may_end_at_the_close(head: bytes) -> None:
    asking = asked(session=None)
    assert asking.receive_data(head + OPENED.partition(b"\r\n\r\n")[2]) == []
    assert asking.next_step() == Receive()
    assert asking.receive_eof() == []
    _, submit = ask(asking)
    assert is_submit(submit)


@pytest.mark.parametrize(
    "lose",
    [
        pytest.param(Client.receive_eof, id="eof"),
        pytest.param(lambda asking: asking.step_failed("reset"), id="lost"),
        pytest.param(lambda asking: asking.step_failed("slow", Reason.TIMEOUT), id="timeout"),
        pytest.param(lambda asking: asking.receive_data(b"x\r\n"), id="framing"),
    ],
)
def test_a_session_that_is_whole_before_its_connection_breaks_is_used(lose: Callable[[Client], list[Event]]) -> None:
    asking = asked(session=None)
    assert asking.receive_data(CHUNKED + chunks(OPENED.partition(b"\r\n\r\n")[2])) == []
    assert lose(asking) == []
    assert (asking.session, asking.next_step()) == (Session("n1", "s1"), Connect("site.example", 80))


@pytest.mark.parametrize(
    "late",
    [
        lambda asking: asking.receive_data(b"HTTP/1.1 408 Request Timeout\r\n\r\n"),
        lambda asking: asking.receive_data(content_length(ANSWER)),
        lambda asking: asking.receive_data(bytearray(1)),
        Client.receive_eof,
    ],
)
def test_late_news_of_the_connection_before_change_nothing(late: Callable[[Client], list[Event]]) -> None:
    for asking in (client(), *map(again, (DIRECT, *WAYS.values()))):
        connecting = asking.next_step()
        before = frozen(asking)
        assert isinstance(connecting, Connect)
        assert late(asking) == late(asking) == []
        assert (frozen(asking), asking.next_step()) == (before, connecting)


@pytest.mark.parametrize(
    "lose", [Client.receive_eof, lambda asking: asking.step_failed("reset"), lambda asking: asking.receive_data(b"\0")]
)
def test_nothing_is_asked_again_because_its_connection_broke(lose: Callable[[Client], list[Event]]) -> None:
    asking = asked(session=None, limits=Limits())
    [broken] = lose(copy.deepcopy(asking))
    assert isinstance(broken, Broken)
    assert (broken.in_session, broken.asked) == (True, False)
    asking.receive_data(OPENED)
    ask(asking)
    [broken] = lose(copy.deepcopy(asking))
    assert isinstance(broken, Broken)
    assert (broken.in_session, broken.asked) == (False, True)
    asking.receive_data(STALE)
    ask(asking)
    assert (lose(asking), asking.next_step()) == ([REFUSAL], Done())  # what is left, if no session can be had


@pytest.mark.parametrize("head", [b"HTTP/1.1 200 OK\r\n\r\n", b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n\r\n"])
def test_all_pieces_that_come_in_one_read_are_given_in_order(head: bytes) -> None:
    # More than is looked at in one go while a head is read, so that the read's first events meet those that follow.
    pieces = [Live(f"piece {number}") for number in range(1000)]
    body = b"".join(b'data: {"type":"live","data":"%b"}\n\n' % piece.text.encode() for piece in pieces)
    assert asked().receive_data(head + body + END) == [*pieces, ANSWERED[-1]]


def test_a_caller_who_offers_an_upgrade_gets_none() -> None:
    asking = Client(Flow(ENDPOINT, QUESTION, session=Session(), headers={"Upgrade": "x", "Connection-Is": "ours"}))
    ask(asking)
    assert asking.receive_data(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n" + ANSWER) == [
        Broken(Reason.TRUNCATED, "status 101: the server switched protocols, unasked", asked=True)
    ]


# ------------------------------------------------------------------------------------------------ through a proxy

EVERY_WAY = pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
RELAYED = WAYS["http to http"]
TUNNELLED = [name for name, way in WAYS.items() if way.replies]


def parts_of(step: object) -> tuple[bytes, set[bytes], bytes]:
    """The first line of a request, its other lines, and its body."""
    assert isinstance(step, Send)
    head, _, body = step.data.partition(b"\r\n\r\n")
    first, *fields = head.split(b"\r\n")
    return first, set(fields), body


@EVERY_WAY
def test_the_way_through_a_proxy_comes_first_and_the_proxy_is_told_nothing_but_the_target(way: Way) -> None:
    flow = Flow(
        Endpoint.parse(way.site),
        QUESTION,
        session=Session("n0nce", "s0", "mwai_session_id=c00kie"),
        headers={"X-Extra": "extra"},
    )
    asking = Client(flow, proxy=Proxy.parse(way.proxy))
    assert follow(asking, way.script) == []  # which compares every byte of what is sent
    assert not asking.submit_started
    _, fields, _ = parts_of(asking.next_step())
    assert {b"X-WP-Nonce: n0nce", b"Cookie: mwai_session_id=c00kie", b"X-Extra: extra"} <= fields
    asking.step_done()
    assert asking.receive_data(content_length(ANSWER)) == ANSWERED
    assert asking.next_step() == Done()


@pytest.mark.parametrize("name", TUNNELLED)
@pytest.mark.parametrize("session", [None, Session("n0", "s0", "mwai_session_id=s0")])
def test_a_request_through_a_tunnel_is_the_one_that_goes_to_the_site_directly(
    name: str, session: Session | None
) -> None:
    way = WAYS[name]
    through, directly = way.client(session=session), client(session=session, endpoint=Endpoint.parse(way.site))
    follow(through, way.script)
    [request] = ask(through)
    assert request == ask(directly)[-1]


@pytest.mark.parametrize("name", ["http to http", "https to http"])
def test_a_proxy_of_an_http_site_is_given_the_whole_url_and_its_own_credentials(name: str) -> None:
    asking, directly = WAYS[name].client(session=None), client(session=None)
    for route, answer in ((b"/mwai/v1/start_session", OPENED), (b"/mwai-ui/v1/chats/submit", content_length(ANSWER))):
        follow(asking, WAYS[name].script)
        directly.step_done()
        first, fields, body = parts_of(asking.next_step())
        assert first == b"POST http://site.example/wp-json" + route + b" HTTP/1.1"
        assert (
            b"POST /wp-json" + route + b" HTTP/1.1",
            fields - {b"Proxy-Authorization: Basic " + CREDENTIALS},
            body,
        ) == (parts_of(directly.next_step()))
        assert b"Proxy-Authorization: Basic " + CREDENTIALS in fields
        asking.step_done()
        directly.step_done()
        assert asking.receive_data(answer) == directly.receive_data(answer)
    assert asking.next_step() == Done()


def test_a_proxy_without_credentials_is_given_none() -> None:
    asking = client(proxy=Proxy.parse("proxy.example:3128"))
    follow(asking, (PROXY,))
    first, fields, _ = parts_of(asking.next_step())
    assert first == b"POST http://site.example/wp-json/mwai-ui/v1/chats/submit HTTP/1.1"
    assert not any(line.startswith(b"Proxy-") for line in fields)


@pytest.mark.parametrize("session", [None, Session()])
def test_a_status_of_407_is_the_refusal_of_the_proxy_only_where_it_reads_the_requests(session: Session | None) -> None:
    refusal = content_length(
        b"<title>s3cr3t</title>", b"Proxy-Authenticate: Basic realm=s3cr3t", status=b"407 Proxy Authentication Required"
    )
    start = "start_session: " if session is None else ""
    for name, way in WAYS.items():
        expected = Broken(Reason.REFUSED, f"{start}s3cr3t", 407, raw="<title>s3cr3t</title>")
        if name in ("http to http", "https to http"):
            expected = Broken(Reason.PROXY, f"{start}the proxy refused: status 407")
        expected = replace(expected, in_session=session is None, asked=session is not None)
        asking = way.client(session=session)
        follow(asking, way.script)
        ask(asking)
        for pieces in every_cut(refusal) if way is RELAYED else ([refusal], byte_by_byte(refusal)):
            reading = copy.deepcopy(asking)
            events = [event for piece in pieces for event in reading.receive_data(piece)]
            if start and expected.reason is Reason.REFUSED:
                [event] = events
                assert isinstance(event, Broken)
                events = [replace(event, detail=event.detail.partition(";")[0])]
            assert (events, reading.next_step()) == ([expected], Done())


def test_a_status_of_407_before_anything_was_asked_is_the_refusal_of_the_proxy() -> None:
    asking = RELAYED.client()
    follow(asking, RELAYED.script)
    assert asking.receive_data(content_length(b"", status=b"407 -")) == [
        Broken(Reason.PROXY, "the proxy refused: status 407")
    ]


@EVERY_WAY
def test_each_request_goes_the_whole_way_over_a_connection_of_its_own(way: Way) -> None:
    asking = way.client(session=Session("n0", "s0"), limits=Limits())
    for is_due, answer, expected in (
        (is_submit, STALE, []),
        (is_start_session, OPENED, []),
        (is_submit, content_length(ANSWER), ANSWERED),
    ):
        follow(asking, way.script)
        [request] = ask(asking)
        assert is_due(request)
        assert asking.receive_data(answer) == expected


@EVERY_WAY
def test_a_loss_on_the_way_is_the_proxys_and_behind_it_the_sites(way: Way) -> None:
    site = Endpoint.parse(way.site).host
    said = f"the proxy {Proxy.parse(way.proxy)}: "
    for count, due in enumerate((*way.script, None)):
        asking = way.client()
        follow(asking, way.script[:count])
        reason, lost, otherwise = Reason.PROXY, f"{said}the connection failed: ", said
        match due:
            case Connect():
                lost = otherwise = f"{said}could not connect: "
            case StartTLS(name) if name == site:
                reason, lost, otherwise = Reason.LOST, f"TLS with {site} failed: ", f"TLS with {site} failed: "
            case StartTLS():
                lost = otherwise = f"{said}TLS failed: "
            case None:
                reason, lost, otherwise = Reason.LOST, "the connection failed: ", ""
        broken = [Broken(reason, f"{lost}it failed")] if not isinstance(due, Send) else []
        closed = [Broken(reason, NO_ANSWER if reason is Reason.LOST else said + NO_ANSWER)] if count else []
        for expected, lose in (
            (broken, lambda asking: asking.step_failed("it failed")),
            (closed, Client.receive_eof),
        ):
            for inside in (b"", *(due[:size] for size in range(1, len(due)))) if isinstance(due, bytes) else (b"",):
                for losing in clones(asking) if not inside else (copy.deepcopy(asking),):
                    assert losing.receive_data(inside) == []
                    assert lose(losing) == expected
                    assert (losing.next_step() == Done(), losing.submit_started) == (expected != [], False)
        assert asking.step_failed("slow", Reason.TIMEOUT, limit="connect") == [
            Broken(Reason.TIMEOUT, f"{otherwise}slow", limit="connect")
        ]
        assert (asking.next_step(), asking.submit_started, asking.awaiting) == (Done(), False, None)


def test_a_loss_on_the_way_says_what_it_was_for() -> None:
    asking = client(session=None, proxy=Proxy.parse("socks5://proxy.example"))
    detail = "start_session: the proxy socks5://proxy.example:1080: could not connect: no route"
    assert asking.step_failed("no route") == [Broken(Reason.PROXY, detail, in_session=True)]


@EVERY_WAY
def test_a_proxy_is_awaited_while_it_has_to_reply(way: Way) -> None:
    asking = way.client()
    for item in way.script:
        expected = Awaiting.FIRST_EVENT
        if isinstance(item, bytes) or (isinstance(item, Send) and not is_submit(item)):
            expected = Awaiting.PROXY
        assert asking.awaiting is expected
        follow(asking, (item,))
    assert asking.awaiting is Awaiting.FIRST_EVENT


@EVERY_WAY
@pytest.mark.parametrize("clear", [b"\x15", content_length(ANSWER), ESTABLISHED, b"HTTP/1.1 407 -\r\n\r\n"])
def test_bytes_in_the_clear_where_tls_was_to_begin_are_the_end_and_no_request_is_handed_out(
    way: Way, clear: bytes
) -> None:
    for count, due in enumerate(way.script):
        if isinstance(due, StartTLS):
            asking = way.client()
            follow(asking, way.script[:count])
            assert asking.next_step() == due
            [event] = asking.receive_data(clear)
            assert isinstance(event, Broken)
            assert event.reason is Reason.PROXY
            assert (asking.next_step(), asking.submit_started) == (Done(), False)


def test_a_site_that_speaks_first_inside_its_tls_is_listened_to_through_a_proxy_too() -> None:
    way = WAYS["http to https"]
    asking = way.client()
    follow(asking, way.script)
    assert asking.receive_data(BUSY) == [Broken(Reason.REFUSED, "busy", 503, raw="busy")]


UNASKED = Broken(Reason.PROXY, "the proxy sent bytes that nobody had asked for")


def test_bytes_behind_a_socks_proxy_before_anything_was_asked_are_no_answer() -> None:
    way = WAYS["socks5 to http"]
    asking = way.client()
    follow(asking, way.script)
    assert asking.receive_data(content_length(ANSWER)) == [UNASKED]
    assert (asking.next_step(), asking.submit_started) == (Done(), False)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (b"HTTP/1.1 407 -\r\n\r\n", Broken(Reason.PROXY, "the proxy refused: status 407")),
        (ESTABLISHED, UNASKED),
        (
            b"HTTP/1.1 4",
            Broken(Reason.PROXY, "the proxy http://proxy.example:3128: the connection was closed before any answer"),
        ),
    ],
)
def test_after_connect_could_not_be_sent_a_refusal_is_read_but_no_tunnel_used_and_it_is_not_sent_again(
    answer: bytes, expected: Broken
) -> None:
    way = WAYS["http to https"]
    for pieces in every_cut(answer):
        asking = way.client()
        follow(asking, (PROXY,))
        assert asking.next_step() == connect(b"site.example:443", CREDENTIALS)
        assert asking.step_failed("broken pipe") == []
        events: list[Event] = []
        for piece in pieces:
            assert asking.next_step() == Receive() or not piece
            events += asking.receive_data(piece)
        events += asking.receive_eof()
        assert (events, asking.next_step()) == ([expected], Done())


def test_after_a_socks_request_could_not_be_sent_no_reply_counts() -> None:
    way = WAYS["socks5 to http"]
    asking = way.client()
    asking.step_done()
    assert asking.step_failed("broken pipe") == []
    assert asking.next_step() == Receive()
    assert asking.receive_data(b"\x05") == [UNASKED]


# ------------------------------------------------------------------------------------------------ asked once


@dataclass
class Fault:
    """What goes wrong, once, in the life of a question."""

    kind: str
    at: int  # how many bytes the server has sent before, or how many requests were sent


@dataclass
class Server:
    """A site that answers over one connection after the other, and what was asked of it."""

    fault: Fault
    early: bytes = b""
    """What it answers to a request that could not be sent."""
    given: int = 0
    submits: int = 0
    requests: int = 0
    stale_read: bool = False
    events: list[Event] = field(default_factory=list)

    def run(self, asking: Client) -> None:
        answer = b""
        for _ in range(50):
            match asking.next_step():
                case Done():
                    return
                case Connect() | StartTLS() as step:
                    kind = "connect" if isinstance(step, Connect) else "tls"
                    if (self.fault.kind, self.fault.at) == (kind, self.requests):
                        self.fault = Fault("none", 0)
                        self.events += asking.step_failed("refused")
                    else:
                        asking.step_done()
                case Send() as send:
                    self.requests += 1
                    self.submits += is_submit(send)
                    answer = self.reply_to(send)
                    if self.fault.kind == "send_failed" and self.fault.at == self.requests:
                        self.fault = Fault("none", 0)
                        self.events += asking.step_failed("broken pipe")
                        answer = self.early
                    else:
                        asking.step_done()
                case Receive():
                    answer = self.answer(asking, answer)
        raise AssertionError("it does not end")

    def reply_to(self, send: Send) -> bytes:
        if is_start_session(send):
            return OPENED
        if is_submit(send):
            return STALE if self.submits == 1 else content_length(ANSWER)
        if send.data.startswith(b"CONNECT "):
            return ESTABLISHED
        return {PASSWORD_TOO: b"\x05\x02", LOGIN: b"\x01\x00"}.get(send, BOUND_V4)

    def answer(self, asking: Client, answer: bytes) -> bytes:
        if self.fault.kind in ("eof", "failure") and self.given == self.fault.at:
            lose = asking.receive_eof if self.fault.kind == "eof" else lambda: asking.step_failed("reset")
            self.fault = Fault("none", 0)
            self.events += lose()
        elif not answer:
            self.events += asking.receive_eof()
        else:
            piece = answer[: self.fault.at - self.given] if self.fault.kind in ("eof", "failure") else answer
            self.given += len(piece)
            self.events += asking.receive_data(piece)
            answer = answer[len(piece) :]
            if not answer and self.submits and asking.awaiting is Awaiting.SESSION:
                self.stale_read = True
        return answer


CONVERSATION = len(OPENED) + len(STALE) + len(OPENED) + len(content_length(ANSWER))


def faults(proxy_bytes: int = 0) -> Iterator[tuple[Fault, bytes]]:
    yield Fault("none", 0), b""
    for at in range(CONVERSATION + proxy_bytes + 1):
        yield Fault("eof", at), b""
        yield Fault("failure", at), b""
    for at in range(9 if proxy_bytes else 6):
        yield Fault("connect", at), b""
        yield Fault("tls", at), b""
        for early in (b"", b"H", OPENED, STALE, content_length(ANSWER), content_length(b"", status=b"413 -")):
            yield Fault("send_failed", at), early


@pytest.mark.parametrize(
    "way",
    [
        pytest.param(Way("", "http://site.example", ()), id="direct"),
        *(
            pytest.param(WAYS[name], id=name)
            for name in ("http to http", "https to https", "socks5h to http with a password")
        ),
    ],
)
def test_a_submit_is_handed_out_once_and_again_only_after_a_stale_nonce_whatever_fails_when(way: Way) -> None:
    outcomes = set()
    for fault, early in faults(sum(len(item) for item in way.script if isinstance(item, bytes))):
        server = Server(fault, early)
        asking = way.client(session=None, limits=Limits())
        server.run(asking)
        assert is_reply(server.events), fault
        assert asking.submit_started == (server.submits > 0)
        assert all(event.asked == asking.submit_started for event in server.events if isinstance(event, Broken)), fault
        assert server.submits <= (2 if server.stale_read or early == STALE else 1), fault
        outcomes.add((server.submits, type(server.events[-1]).__name__))
    assert outcomes == {(0, "Broken"), (1, "Broken"), (1, "End"), (2, "Broken"), (2, "End")}


def test_a_submit_is_handed_out_once_at_most_without_restarts_whatever_fails_when() -> None:
    for fault, early in faults():
        server = Server(fault, early)
        server.run(client(session=None))
        assert is_reply(server.events), fault
        assert server.submits <= 1


# ------------------------------------------------------------------------------------------------ copies, secrets


def secrets_of(asking: Client) -> None:
    for text in (repr(asking), str(asking), repr(asking.next_step()), repr(asking.session)):
        assert "secret" not in text
        assert len(text) < 200


def advance(asking: Client, piece: bytes) -> list[Event]:
    """Give these bytes; if there are none, the step was done."""
    if piece:
        return asking.receive_data(piece)
    asking.step_done()
    return []


def test_it_goes_on_as_a_copy_and_as_a_pickle_from_every_step_and_shows_no_secret() -> None:
    start = content_length(
        b'{"success":true,"sessionId":"secret1","restNonce":"secret2"}', b"Set-Cookie: mwai_session_id=secret3"
    )
    asking = client(session=Session("secret0", "secret0", "mwai_session_id=secret0"), limits=Limits())
    events: list[Event] = []
    inputs = [
        *(2 * [b""]),
        *byte_by_byte(STALE),
        *(2 * [b""]),
        *byte_by_byte(start),
        *(2 * [b""]),
        *byte_by_byte(CHUNKED + chunks(HI, END[:20], END[20:])),
    ]
    for piece in inputs:
        secrets_of(asking)
        twins = [copy.deepcopy(asking), *(pickle.loads(pickle.dumps(asking, protocol)) for protocol in range(2, 6))]
        step = asking.next_step()
        got = advance(asking, piece)
        for twin in twins:
            assert twin.next_step() == step
            assert advance(twin, piece) == got
            assert (twin.session, twin.awaiting, twin.submit_started) == (
                asking.session,
                asking.awaiting,
                asking.submit_started,
            )
        asking = twins[len(events) % len(twins)]
        events += got
    assert events == ANSWERED
    assert asking.session == Session("secret2", "secret1", "mwai_session_id=secret3")


@EVERY_WAY
def test_it_goes_on_through_a_proxy_as_a_copy_and_as_a_pickle_and_shows_no_credentials(way: Way) -> None:
    asking = way.client()
    answer = content_length(ANSWER)
    script = [*way.script, b"", answer[:50], answer[50:]]
    inputs = [piece for item in script for piece in (byte_by_byte(item) if isinstance(item, bytes) and item else [b""])]
    events: list[Event] = []
    for count, piece in enumerate(inputs):
        step = asking.next_step()
        for text in (repr(asking), str(asking), repr(step), str(step)):
            assert not any(secret in text for secret in ("s3cr3t", "us3r", CREDENTIALS.decode()))
            assert len(text) < 200
        twins = list(clones(asking)) if len(piece) < 2 and count < 60 else [copy.deepcopy(asking)]
        got = advance(asking, piece)
        for twin in twins:
            assert twin.next_step() == step
            assert advance(twin, piece) == got
            assert (twin.next_step(), twin.awaiting) == (asking.next_step(), asking.awaiting)
        asking = twins[count % len(twins)]
        events += got
    assert (events, asking.next_step()) == (ANSWERED, Done())


@pytest.mark.parametrize("report", [Client.step_done, lambda asking: asking.step_failed("broken pipe")])
def test_a_question_that_was_sent_is_held_once(report: Callable[[Client], object]) -> None:
    asking = Client(Flow(ENDPOINT, Submit(new_message="needle"), session=Session()))
    asking.step_done()
    asking.next_step()
    assert frozen(asking).count(b"needle") == 2
    report(asking)
    assert frozen(asking).count(b"needle") == 1


@pytest.mark.parametrize("answer", [content_length(ANSWER), STALE, b"x\r\n\r\n"])
def test_a_client_that_is_done_holds_its_question_once_and_no_request(answer: bytes) -> None:
    asking = Client(Flow(ENDPOINT, Submit(new_message="needle"), session=Session(), limits=Limits(restarts=0)))
    ask(asking)
    asking.receive_data(answer)
    assert asking.next_step() == Done()
    assert frozen(asking).count(b"needle") == 1


def test_the_repr_is_the_origin_and_the_state() -> None:
    assert repr(client(endpoint=Endpoint.parse("https://site.example:8443/blog"))) == (
        "<Client CONNECT of <Flow to https://site.example:8443 SUBMIT>>"
    )


# ------------------------------------------------------------------------------------------------ the two rings

PARTS = st.sampled_from(
    [
        HI,
        END,
        b"data: ",
        b"data:",
        b"\n",
        b"\n\n",
        b"\r\n",
        b"\r",
        b": keepalive\n\n",
        b'data: {"type":"error","data":""}\n\n',
        b'data: {"type":"error","data":"no"}\n\n',
        b'data: {"type":"live","data":5}\n\n',
        b'{"success":true,"reply":"Hi"}',
        b'{"success":false,"message":"no"}',
        b"<title>No</title>",
        b"\xef\xbb\xbf",
        b"\x00\xff",
        STALE.partition(b"\r\n\r\n")[2],
        OPENED.partition(b"\r\n\r\n")[2],
    ]
)
BODIES = st.lists(PARTS | st.binary(max_size=5), max_size=6).map(b"".join)
STATUSES = st.sampled_from([200, 200, 200, 403, 404, 500, 301])
FIELDS = st.lists(
    st.sampled_from(
        [
            ("content-encoding", "gzip"),
            ("x-wp-nonce", "fresh"),
            ("set-cookie", "mwai_session_id=5e"),
            ("retry-after", "7"),
            ("location", "/there"),
        ]
    ),
    max_size=2,
    unique=True,
)


@given(
    st.data(),
    st.lists(
        st.tuples(STATUSES, FIELDS, BODIES, st.sampled_from(["length", "chunked", "close"])), min_size=1, max_size=4
    ),
    st.sampled_from([None, Session(), Session("n0", "s0", "mwai_session_id=q")]),
    st.sampled_from(
        [Limits(), Limits(restarts=0), Limits(event_bytes=40, reply_bytes=90, refusal_bytes=20, headers=2)]
    ),
)
def test_the_inner_ring_gives_the_same_events_for_the_same_answers(
    data: st.DataObject,
    answers: list[tuple[int, list[tuple[str, str]], bytes, str]],
    session: Session | None,
    limits: Limits,
) -> None:
    flow = Flow(ENDPOINT, QUESTION, session=session, limits=limits)
    asking = client(session=session, limits=limits)
    inner: list[Event] = []
    outer: list[Event] = []
    for status, extra, body, framing in answers:
        fields = [*extra]
        if framing == "length":
            fields.append(("content-length", str(len(body))))
        elif framing == "chunked":
            fields.append(("transfer-encoding", "chunked"))
        head = b"HTTP/1.1 %d -\r\n" % status + b"".join(f"{n}: {v}\r\n".encode() for n, v in fields) + b"\r\n"
        pieces = data.draw(random_cuts(body))
        if flow.next_request() is not None:
            inner += flow.receive_head(status, fields)
            for piece in pieces:
                inner += flow.receive_data(piece)
            inner += flow.receive_eof()
        if asking.next_step() != Done():
            ask(asking)
            framed = body
            if framing == "chunked":
                framed = chunks(*(piece for piece in pieces if piece)) + b"0\r\n\r\n"
            for piece in data.draw(random_cuts(head + framed)):
                outer += asking.receive_data(piece)
            if framing == "close":
                outer += asking.receive_eof()
    assert outer == inner
    assert (asking.session, asking.awaiting, asking.submit_started) == (
        flow.session,
        flow.awaiting,
        flow.submit_started,
    )


# ------------------------------------------------------------------------------------------------ anything at all

NOISE = st.sampled_from(
    [
        b"HTTP/1.1 200 OK\r\n",
        b"HTTP/1.0 200 OK\r\n",
        b"HTTP/1.1 403 No\r\n",
        b"HTTP/1.1 100 Go\r\n\r\n",
        b"Content-Length: 102\r\n",
        b"Content-Length: 0\r\n",
        b"Transfer-Encoding: chunked\r\n",
        b"\r\n",
        b"\r",
        b"\n",
        b" ",
        chunks(HI),
        chunks(END),
        b"23\r\n",
        b"0\r\n",
        b"0\r\n\r\n",
    ]
)
ANYTHING = st.builds(
    lambda start, rest: start + b"".join(rest),
    st.sampled_from([b"", b"HTTP/1.1 200 OK\r\n\r\n", CHUNKED, content_length(ANSWER), OPENED, STALE]),
    st.lists(NOISE | PARTS | st.binary(max_size=4), max_size=8),
)
SMALL = Limits(head_bytes=60, headers=3, interim_responses=1, event_bytes=50, reply_bytes=150, refusal_bytes=30)


@given(st.data(), ANYTHING, st.sampled_from([Limits(restarts=0), SMALL]))
def test_any_bytes_in_any_pieces_then_the_end_are_one_reply(data: st.DataObject, stream: bytes, limits: Limits) -> None:
    events = answered(data.draw(random_cuts(stream)), limits=limits)
    assert is_reply(events)
    assert answered(data.draw(random_cuts(stream)), limits=limits) == events
    assert answered(byte_by_byte(stream), limits=limits) == events


SCHEMES = ("http", "https", "socks5")
PROXY_REPLIES = st.sampled_from(
    [ESTABLISHED, b"\x05\x00", b"\x05\x02", b"\x01\x00", BOUND_V4, b"\x05", b"HTTP/1.1 407 -\r\n\r\n"]
)
CALL = st.one_of(
    st.sampled_from(["next_step", "step_done", "close", "receive_eof", "copy"]).map(lambda name: (name, ())),
    st.builds(
        lambda data: ("receive_data", (data,)),
        st.sampled_from([OPENED, STALE, content_length(ANSWER)]) | PROXY_REPLIES | ANYTHING,
    ),
    st.builds(lambda text, reason: ("step_failed", (text, reason)), st.text(max_size=5), st.sampled_from(Reason)),
)


@given(
    st.sampled_from([None, Session(), Session("n0", "s0")]),
    st.sampled_from([ENDPOINT, HTTPS]),
    st.sampled_from([None, None, *(Proxy.parse(f"{scheme}://us3r:s3cr3t@proxy.example") for scheme in SCHEMES)]),
    st.sampled_from([Limits(), Limits(restarts=0), SMALL]),
    st.lists(CALL | st.just(("step_done", ())) | st.just(("next_step", ())), max_size=30),
)
def test_calls_in_any_order_raise_nothing_but_local_protocol_errors_and_ask_once(
    session: Session | None,
    endpoint: Endpoint,
    proxy: Proxy | None,
    limits: Limits,
    calls: list[tuple[str, tuple[Any, ...]]],
) -> None:
    asking = client(session=session, endpoint=endpoint, limits=limits, proxy=proxy)
    events: list[Event] = []
    submits = 0
    stale = False
    for name, arguments in calls:
        before = frozen(asking)
        state = state_of(asking)
        if name in ("next_step", "step_done") and state == State.SEND:
            submits += is_submit(copy.deepcopy(asking).next_step())
        try:
            if name == "copy":
                asking = pickle.loads(before)
                continue
            given = getattr(asking, name)(*arguments)
        except LocalProtocolError as error:
            told, unchanged = str(error), frozen(asking) == before
            assert (told, unchanged) == (f"Client: {name} is not legal in state {state_of(asking)}", True)
            continue
        if isinstance(given, list):
            events += given
        stale = stale or (asking.awaiting is Awaiting.SESSION and asking.submit_started)
        repr(asking).encode()
    handed_out = asking.submit_started
    events += asking.close()
    assert is_reply(events)
    assert all(event.asked == handed_out for event in events if isinstance(event, Broken))
    assert (submits > 0) == handed_out
    assert submits <= 1 + stale
    for event in events:
        str(event).encode()


def test_pieces_and_a_clean_end_without_an_end_event_in_one_read() -> None:
    events = answered([CHUNKED + chunks(HI) + b"0\r\n\r\n"], close=False)
    assert events[0] == Live("Hi")
    assert [event.reason for event in events[1:] if isinstance(event, Broken)] == [Reason.TRUNCATED]
