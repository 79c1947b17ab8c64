"""The outer ring: which step is due, what is legal when, and that a question is asked once."""

import copy
import pickle
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given, settings
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
    Send,
    Session,
    StartTLS,
    Submit,
    _client,
)
from opchat_proto._client import TABLE, State
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
    PASSWORD_TOO,
    PROXY,
    QUESTION,
    SITE_80,
    WAYS,
    Recorder,
    Step,
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
OPENED = content_length(b'{"success":true,"sessionId":"s1","restNonce":"n1"}')
OPENED_AGAIN = content_length(b'{"success":true,"sessionId":"s2","restNonce":"n2"}')
STALE = content_length(b'{"code":"rest_cookie_invalid_nonce","message":"Stale"}', status=b"403 Forbidden")
REFUSAL = Broken(
    Reason.REFUSED,
    "Stale",
    403,
    "rest_cookie_invalid_nonce",
    raw='{"code":"rest_cookie_invalid_nonce","message":"Stale"}',
)
UNASKED_EOF: list[Event] = [Broken(Reason.LOST, "the connection was closed before any answer")]
ASKED_EOF: list[Event] = [Broken(Reason.LOST, "the connection was closed before any answer; not repeated")]


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
    step = asking.next_step()
    assert isinstance(step, Send)
    body = (
        b'{"botId":"default","customId":null,"session":"s","contextId":null,"messages":[],"newMessage":"Hi?",'
        b'"newFileId":null,"newFileIds":null,"stream":true}'
    )
    head, _, sent = step.data.partition(b"\r\n\r\n")
    assert head.split(b"\r\n")[0] == b"POST /wp-json/mwai-ui/v1/chats/submit HTTP/1.1"
    assert {b"Host: site.example", b"Content-Length: %d" % len(body), b"X-WP-Nonce: n", b"Cookie: a=b"} <= set(
        head.split(b"\r\n")
    )
    assert sent == body
    asking.step_done()
    assert asking.next_step() == Receive()
    assert asking.receive_data(content_length(ANSWER)) == ANSWERED
    assert asking.next_step() == Done()


def test_the_steps_of_a_question_over_https() -> None:
    asking = client(endpoint=Endpoint.parse("https://site.example:8443"))
    assert asking.next_step() == Connect("site.example", 8443)
    asking.step_done()
    assert asking.next_step() == StartTLS("site.example")
    asking.step_done()
    assert is_submit(asking.next_step())
    asking.step_done()
    assert asking.next_step() == Receive()


def test_start_session_and_submit_go_over_one_connection() -> None:
    asking = client(session=None)
    connect, start = ask(asking)
    assert (connect, is_start_session(start)) == (Connect("site.example", 80), True)
    assert (asking.session, asking.awaiting, asking.submit_started) == (None, Awaiting.SESSION, False)
    assert asking.receive_data(OPENED) == []
    assert (asking.session, asking.awaiting, asking.submit_started) == (
        Session("n1", "s1"),
        Awaiting.FIRST_EVENT,
        False,
    )
    [submit] = ask(asking)
    assert is_submit(submit)
    assert isinstance(submit, Send)
    assert b"X-WP-Nonce: n1\r\n" in submit.data
    assert asking.submit_started
    assert asking.receive_data(content_length(ANSWER)[:-1]) == [Live("Hi")]
    assert (asking.awaiting, asking.next_step()) == (Awaiting.EVENT, Receive())
    assert asking.receive_data(b"\n") == ANSWERED[1:]
    assert (asking.session, asking.awaiting, asking.submit_started) == (Session("n1", "s1"), None, True)


def test_a_stale_nonce_is_renewed_and_the_question_asked_again_over_one_connection() -> None:
    asking = client(session=Session("n0", "s0"), limits=Limits())
    [_, submit] = ask(asking)
    assert is_submit(submit)
    assert asking.receive_data(STALE) == []
    [start] = ask(asking)
    assert is_start_session(start)
    assert asking.receive_data(OPENED) == []
    [again] = ask(asking)
    assert is_submit(again)
    assert asking.receive_data(STALE) == [REFUSAL]
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


def test_a_host_name_that_socks_has_no_room_for_is_refused_before_anything_is_done() -> None:
    longest, longer = (Flow(Endpoint.parse(f"http://{size * 'a'}"), QUESTION) for size in (255, 256))
    proxy = Proxy.parse("socks5://proxy.example")
    asking = Client(longest, proxy=proxy)
    follow(asking, (Connect("proxy.example", 1080), NO_PASSWORD, b"\x05\x00"))
    assert asking.next_step() == Send(b"\x05\x01\x00\x03\xff" + 255 * b"a" + b"\x00\x50")
    with pytest.raises(
        ValueError, match=r"^flow: its host name is longer than the 255 bytes that SOCKS5 has room for$"
    ):
        Client(longer, proxy=proxy)
    assert Client(longer, proxy=Proxy.parse("proxy.example")).next_step() == Connect("proxy.example", 80)


@pytest.mark.parametrize(
    "take", [Client.next_step, Client.step_done, Client.send_failed, lambda a: a.receive_data(b"H")]
)
def test_a_flow_whose_request_somebody_else_has_taken_is_of_no_use(take: Callable[[Client], object]) -> None:
    flow = Flow(ENDPOINT, QUESTION, session=Session())
    asking = Client(flow)
    asking.step_done()
    flow.next_request()
    before = frozen(asking)
    with pytest.raises(LocalProtocolError, match=r"^Client: somebody else has taken the request from its flow$"):
        take(asking)
    assert frozen(asking) == before
    assert asking.receive_failure("never mind") == [Broken(Reason.LOST, "never mind")]


# ------------------------------------------------------------------------------------------------ what is legal when


def at_connect() -> Client:
    return client()


def at_reconnect() -> Client:
    asking = kept()
    asking.receive_eof()
    return asking


def at_proxy_tls() -> Client:
    asking = WAYS["https to https"].client()
    asking.step_done()
    return asking


def at_tunnel_send() -> Client:
    asking = at_proxy_tls()
    asking.step_done()
    return asking


def at_tunnel_receive() -> Client:
    asking = at_tunnel_send()
    asking.step_done()
    return asking


def at_tls() -> Client:
    asking = client(endpoint=HTTPS)
    asking.step_done()
    return asking


def at_send() -> Client:
    asking = client()
    asking.step_done()
    return asking


def at_sending() -> Client:
    asking = at_send()
    asking.next_step()
    return asking


def at_receive_last() -> Client:
    asking = at_sending()
    asking.send_failed()
    return asking


def at_done() -> Client:
    asking = at_connect()
    asking.receive_failure("")
    return asking


AT: dict[State, Callable[[], Client]] = {
    State.CONNECT: at_connect,
    State.RECONNECT: at_reconnect,
    State.PROXY_TLS: at_proxy_tls,
    State.TUNNEL_SEND: at_tunnel_send,
    State.TUNNEL_RECEIVE: at_tunnel_receive,
    State.TLS: at_tls,
    State.SEND: at_send,
    State.SENDING: at_sending,
    State.RECEIVE: asked,
    State.RECEIVE_LAST: at_receive_last,
    State.DONE: at_done,
}
CALLS: dict[str, Callable[[Client], list[Event] | None]] = {
    "step_done": Client.step_done,
    "send_failed": Client.send_failed,
    "receive_data": lambda asking: asking.receive_data(b"H"),
    "receive_eof": Client.receive_eof,
    "receive_failure": lambda asking: asking.receive_failure("no way"),
}
CLEAR = [Broken(Reason.TRUNCATED, "the server sent bytes in the clear where TLS was to begin")]
PROXY_CLEAR = [Broken(Reason.PROXY, "the proxy sent bytes in the clear where TLS was to begin")]
PROXY_EOF = [Broken(Reason.PROXY, "the proxy https://proxy.example:3128: the connection was closed before any answer")]
PROXY_NO_WAY = [Broken(Reason.PROXY, "the proxy https://proxy.example:3128: no way")]
NO_WAY = [Broken(Reason.LOST, "no way")]
NO_WAY_ASKED = [Broken(Reason.LOST, "no way; not repeated")]
# What a call gives, and the state that it leads to. A call that is missing is not legal.
LEGAL: dict[State, dict[str, tuple[list[Any] | None, State]]] = {
    State.CONNECT: {"step_done": (None, State.SEND), "receive_failure": (NO_WAY, State.DONE)},
    State.RECONNECT: {
        "step_done": (None, State.SEND),
        "receive_data": ([], State.RECONNECT),
        "receive_eof": ([], State.RECONNECT),
        "receive_failure": (NO_WAY, State.DONE),
    },
    State.PROXY_TLS: {
        "step_done": (None, State.TUNNEL_SEND),
        "receive_data": (PROXY_CLEAR, State.DONE),
        "receive_eof": (PROXY_EOF, State.DONE),
        "receive_failure": (PROXY_NO_WAY, State.DONE),
    },
    State.TUNNEL_SEND: {
        "step_done": (None, State.TUNNEL_RECEIVE),
        "send_failed": (None, State.TUNNEL_RECEIVE),
        "receive_data": ([], State.TUNNEL_SEND),
        "receive_eof": (PROXY_EOF, State.DONE),
        "receive_failure": (PROXY_NO_WAY, State.DONE),
    },
    State.TUNNEL_RECEIVE: {
        "receive_data": ([], State.TUNNEL_RECEIVE),
        "receive_eof": (PROXY_EOF, State.DONE),
        "receive_failure": (PROXY_NO_WAY, State.DONE),
    },
    State.TLS: {
        "step_done": (None, State.SEND),
        "receive_data": (CLEAR, State.DONE),
        "receive_eof": (UNASKED_EOF, State.DONE),
        "receive_failure": (NO_WAY, State.DONE),
    },
    State.SEND: {
        "step_done": (None, State.RECEIVE),
        "send_failed": (None, State.RECEIVE_LAST),
        "receive_data": ([], State.SENDING),
        "receive_eof": (UNASKED_EOF, State.DONE),
        "receive_failure": (NO_WAY, State.DONE),
    },
    State.SENDING: {
        "step_done": (None, State.RECEIVE),
        "send_failed": (None, State.RECEIVE_LAST),
        "receive_data": ([], State.SENDING),
        "receive_eof": (ASKED_EOF, State.DONE),
        "receive_failure": (NO_WAY_ASKED, State.DONE),
    },
    State.RECEIVE: {
        "receive_data": ([], State.RECEIVE),
        "receive_eof": (ASKED_EOF, State.DONE),
        "receive_failure": (NO_WAY_ASKED, State.DONE),
    },
    State.RECEIVE_LAST: {
        "receive_data": ([], State.RECEIVE_LAST),
        "receive_eof": (ASKED_EOF, State.DONE),
        "receive_failure": (NO_WAY_ASKED, State.DONE),
    },
    State.DONE: {
        "receive_data": ([], State.DONE),
        "receive_eof": ([], State.DONE),
        "receive_failure": ([], State.DONE),
    },
}


def state_of(asking: Client) -> str:
    return repr(asking).rstrip(">").rpartition(" ")[2]


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("call", CALLS)
def test_every_call_in_every_state(state: State, call: str) -> None:
    asking = AT[state]()
    assert state_of(asking) == state
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
        row |= {"receive_data", "receive_eof", "receive_failure"}
    assert row == set(LEGAL[state])


@pytest.mark.parametrize("state", State)
def test_no_bytes_are_legal_always_and_change_nothing(state: State) -> None:
    asking = AT[state]()
    before = frozen(asking)
    for nothing in (b"", bytearray(), memoryview(b"")):
        assert asking.receive_data(nothing) == []
    assert frozen(asking) == before


@pytest.mark.parametrize("state", State)
def test_the_next_step_is_legal_always(state: State) -> None:
    kind = {
        State.CONNECT: Connect,
        State.RECONNECT: Connect,
        State.PROXY_TLS: StartTLS,
        State.TUNNEL_SEND: Send,
        State.TUNNEL_RECEIVE: Receive,
        State.TLS: StartTLS,
        State.SEND: Send,
        State.SENDING: Send,
        State.RECEIVE: Receive,
        State.RECEIVE_LAST: Receive,
        State.DONE: Done,
    }[state]
    asking = AT[state]()
    assert type(asking.next_step()) is kind
    before = frozen(asking)
    assert type(asking.next_step()) is kind
    assert frozen(asking) == before


@pytest.mark.parametrize("state", State)
def test_wrong_types_raise_and_change_nothing(state: State) -> None:
    asking: Any = AT[state]()
    before = frozen(asking)
    for wrong in ("text", None, 5, [72]):
        with pytest.raises(TypeError):
            asking.receive_data(wrong)
    with pytest.raises(TypeError, match=r"^expected a str and a Reason, got bytes, Reason$"):
        asking.receive_failure(b"bytes")
    with pytest.raises(TypeError, match=r"^expected a str and a Reason, got str, str$"):
        asking.receive_failure("text", "lost")
    assert frozen(asking) == before


@pytest.mark.parametrize("state", [state for state in State if state is not State.DONE])
@pytest.mark.parametrize("reason", Reason)
def test_a_failure_ends_it_with_its_reason_in_every_state(state: State, reason: Reason) -> None:
    asking = AT[state]()
    expected = Broken(reason, "it failed")
    if reason is Reason.LOST and state in (State.SENDING, State.RECEIVE, State.RECEIVE_LAST):
        expected = Broken(reason, "it failed; not repeated")
    elif reason is Reason.LOST and state in (State.PROXY_TLS, State.TUNNEL_SEND, State.TUNNEL_RECEIVE):
        expected = Broken(Reason.PROXY, "the proxy https://proxy.example:3128: it failed")
    assert asking.receive_failure("it failed", reason) == [expected]
    assert asking.next_step() == Done()
    assert asking.receive_data(content_length(ANSWER)) == asking.receive_eof() == asking.receive_failure("x") == []


@pytest.mark.parametrize("reason", Reason)
def test_a_failure_inside_an_answer(reason: Reason) -> None:
    begun = Reason.TRUNCATED if reason is Reason.LOST else reason
    data = content_length(ANSWER)
    head = data.index(b"\r\n\r\n") + 4
    for count in (1, head - 1, head, head + 1, head + len(HI) - 1):
        asking = asked()
        asking.receive_data(data[:count])
        [event] = asking.receive_failure("it failed", reason)
        assert isinstance(event, Broken)
        assert (event.reason, event.detail.partition(";")[0]) == (begun, "it failed")
    asking = asked()
    assert asking.receive_data(data[: head + len(HI)]) == [Live("Hi")]
    assert asking.receive_failure("it failed", reason) == [Broken(begun, "it failed")]


@pytest.mark.parametrize("reason", Reason)
def test_a_failure_inside_a_refusal_leaves_it_one(reason: Reason) -> None:
    asking = asked()
    asking.receive_data(content_length(b"Not now", status=b"503 -")[:-1])
    assert asking.receive_failure("it failed", reason) == [Broken(Reason.REFUSED, "Not no", 503, raw="Not no")]


def test_bytes_in_the_clear_where_tls_was_to_begin_are_not_read() -> None:
    asking = at_tls()
    assert asking.receive_data(content_length(ANSWER)) == CLEAR
    assert (asking.next_step(), asking.submit_started) == (Done(), False)


# ------------------------------------------------------------------------------------------------ the table


def kept(answer: bytes = OPENED) -> Client:
    """At Send over a connection that has carried an answer."""
    asking = asked(session=None, limits=Limits())
    assert asking.receive_data(answer) == []
    return asking


def early(data: bytes, *, failed: bool) -> Client:
    """An answer of start_session before it was sent."""
    asking = client(session=None)
    asking.step_done()
    asking.next_step()
    if failed:
        asking.send_failed()
    assert asking.receive_data(data) == []
    return asking


def again(way: Way) -> Client:
    """At Connect, after the first connection was given up."""
    asking = way.client(session=None)
    follow(asking, way.script)
    ask(asking)
    assert asking.receive_data(OPENED + b"more") == []
    return asking


def test_every_move_of_the_table_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    table = Recorder(TABLE)
    monkeypatch.setattr(_client, "TABLE", table)
    for state, calls in LEGAL.items():
        for call in calls:
            CALLS[call](AT[state]())
    at_tls().next_step()
    for asking in (at_sending(), asked(), at_receive_last()):
        assert asking.receive_data(content_length(ANSWER)) == ANSWERED
    assert asked().receive_data(bytearray(content_length(ANSWER))) == ANSWERED  # bytes take a shorter way
    kept().receive_eof()
    early(OPENED, failed=False)
    early(OPENED, failed=True)
    asked(session=None).receive_data(OPENED + b"more")
    for way in (
        *WAYS.values(),
        Way("", "https://site.example", (Connect("site.example", 443), StartTLS("site.example"))),
    ):
        asking = again(way)
        follow(asking, way.script)
        assert is_submit(asking.next_step())
    assert table.untaken == set()


def test_the_table_begins_with_connect_and_ends_with_done() -> None:
    assert TABLE.start == (State.CONNECT,)
    assert set(TABLE.rows) == set(AT) == set(LEGAL) == set(State)
    assert TABLE.rows[State.DONE] == {}


# ------------------------------------------------------------------------------------------------ a new connection


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(OPENED.replace(b"OK\r\n", b"OK\r\nConnection: close\r\n"), id="Connection: close"),
        pytest.param(OPENED.replace(b"HTTP/1.1", b"HTTP/1.0"), id="HTTP/1.0"),
        pytest.param(OPENED + b"\r\n", id="bytes after the answer"),
        pytest.param(OPENED + content_length(ANSWER), id="an answer that nobody asked for"),
        pytest.param(OPENED + 100_000 * b"x", id="many bytes after the answer"),
    ],
)
def test_an_answer_after_which_a_connection_is_not_used_again(answer: bytes) -> None:
    end = len(OPENED) + answer.index(b"{") - OPENED.index(b"{")
    for cut in (end - 1, end, end + 1):
        asking = asked(session=None)
        assert asking.receive_data(answer[:cut]) == []
        if asking.next_step() == Receive() or is_submit(asking.next_step()):
            continue
        assert asking.next_step() == Connect("site.example", 80)
    asking = asked(session=None)
    assert asking.receive_data(answer) == []
    assert asking.next_step() == Connect("site.example", 80)
    assert not asking.submit_started
    [_, submit] = ask(asking)
    assert is_submit(submit)
    assert asking.receive_data(content_length(ANSWER)) == ANSWERED


@pytest.mark.parametrize("head", [b"HTTP/1.1 200 OK\r\n\r\n", b"HTTP/1.0 200 OK\r\n\r\n"])
def test_a_session_that_ends_at_the_close_leads_to_a_new_connection(head: bytes) -> None:
    asking = asked(session=None)
    assert asking.receive_data(head + OPENED.partition(b"\r\n\r\n")[2]) == []
    assert asking.receive_eof() == []
    assert asking.next_step() == Connect("site.example", 80)
    [_, submit] = ask(asking)
    assert is_submit(submit)
    assert asking.receive_data(content_length(ANSWER)) == ANSWERED


@pytest.mark.parametrize(
    "lose",
    [
        pytest.param(Client.receive_eof, id="eof"),
        pytest.param(lambda asking: asking.receive_failure("reset"), id="lost"),
        pytest.param(lambda asking: asking.receive_failure("slow", Reason.TIMEOUT), id="timeout"),
        pytest.param(lambda asking: asking.receive_data(b"x\r\n"), id="framing"),
    ],
)
def test_a_session_that_is_whole_before_its_connection_breaks_is_used_over_a_new_one(
    lose: Callable[[Client], list[Event]],
) -> None:
    asking = asked(session=None)
    assert asking.receive_data(CHUNKED + chunks(OPENED.partition(b"\r\n\r\n")[2])) == []
    assert lose(asking) == []
    assert (asking.session, asking.next_step()) == (Session("n1", "s1"), Connect("site.example", 80))


@pytest.mark.parametrize(
    "lose",
    [
        pytest.param(Client.receive_eof, id="eof"),
        pytest.param(lambda asking: asking.receive_failure("reset"), id="failure"),
        pytest.param(lambda asking: asking.receive_data(b"HTTP/1.1 408 Request Timeout\r\n\r\n"), id="bytes"),
        pytest.param(lambda asking: asking.receive_data(content_length(ANSWER)), id="an answer"),
    ],
)
def test_a_kept_connection_that_ends_before_the_submit_is_handed_out_is_replaced(
    lose: Callable[[Client], list[Event]],
) -> None:
    asking = kept()
    assert lose(asking) == []
    assert (asking.next_step(), asking.submit_started) == (Connect("site.example", 80), False)
    [_, submit] = ask(asking)
    assert is_submit(submit)
    assert asking.receive_data(content_length(ANSWER)) == ANSWERED


@pytest.mark.parametrize(
    ("lose", "detail"),
    [
        (Client.receive_eof, "the connection was closed before any answer; not repeated"),
        (lambda asking: asking.receive_failure("reset"), "reset; not repeated"),
    ],
)
def test_a_kept_connection_that_ends_after_the_submit_was_handed_out_has_lost_it(
    lose: Callable[[Client], list[Event]], detail: str
) -> None:
    asking = kept()
    assert is_submit(asking.next_step())
    assert lose(asking) == [Broken(Reason.LOST, detail)]
    assert (asking.next_step(), asking.submit_started) == (Done(), True)


def test_another_failure_than_a_loss_ends_it_also_before_the_submit_is_handed_out() -> None:
    asking = kept()
    assert asking.receive_failure("slow", Reason.TIMEOUT) == [Broken(Reason.TIMEOUT, "slow")]
    assert (asking.next_step(), asking.submit_started) == (Done(), False)


def test_a_new_connection_that_ends_before_the_submit_is_handed_out_is_not_replaced_again() -> None:
    asking = kept()
    assert asking.receive_eof() == []
    asking.step_done()
    assert asking.receive_eof() == UNASKED_EOF
    assert (asking.next_step(), asking.submit_started) == (Done(), False)


LATE: list[Callable[[Client], list[Event]]] = [
    lambda asking: asking.receive_data(b"HTTP/1.1 408 Request Timeout\r\n\r\n"),
    lambda asking: asking.receive_data(content_length(ANSWER)),
    lambda asking: asking.receive_data(b"\x00"),
    Client.receive_eof,
]


@pytest.mark.parametrize("late", LATE)
def test_late_news_of_a_connection_that_was_given_up_change_nothing(late: Callable[[Client], list[Event]]) -> None:
    for asking in (at_reconnect(), *map(again, WAYS.values())):
        before, connecting = frozen(asking), asking.next_step()
        assert isinstance(connecting, Connect)
        assert late(asking) == late(asking) == []
        assert (frozen(asking), asking.next_step()) == (before, connecting)


@pytest.mark.parametrize(
    ("proxy", "expected"),
    [
        ("", Broken(Reason.LOST, "no way")),
        ("http://us3r:s3cr3t@proxy.example", Broken(Reason.PROXY, "the proxy http://proxy.example:80: no way")),
        ("socks5://us3r:s3cr3t@[::1]", Broken(Reason.PROXY, "the proxy socks5://[::1]:1080: no way")),
    ],
)
def test_a_failure_where_a_connection_was_given_up_is_that_of_the_new_one(proxy: str, expected: Broken) -> None:
    script: tuple[Step | bytes, ...] = ()
    if proxy.startswith("socks"):
        script = (Connect("::1", 1080), PASSWORD_TOO, b"\x05\x02", LOGIN, b"\x01\x00", SITE_80, BOUND_V4)
    asking = again(Way(proxy, "http://site.example", script))
    assert asking.receive_failure("no way") == [expected]
    assert (asking.next_step(), asking.submit_started) == (Done(), False)


@pytest.mark.parametrize("handed_out", [False, True])
def test_start_session_is_asked_again_if_a_kept_connection_ends(handed_out: bool) -> None:
    asking = kept()
    ask(asking)
    assert asking.receive_data(STALE) == []
    if handed_out:
        ask(asking)
    assert asking.receive_eof() == []
    [connect, start] = ask(asking)
    assert (connect, is_start_session(start)) == (Connect("site.example", 80), True)
    assert asking.receive_eof() == [REFUSAL]  # which is what there is, if no session can be had


def test_start_session_is_not_asked_again_over_a_connection_that_has_carried_nothing() -> None:
    asking = asked(session=None)
    assert asking.receive_eof() == [Broken(Reason.LOST, "start_session: the connection was closed before any answer")]
    assert asking.next_step() == Done()


@pytest.mark.parametrize("failed", [False, True])
def test_after_an_early_answer_the_next_request_has_a_new_connection(failed: bool) -> None:
    asking = early(OPENED, failed=failed)
    assert asking.next_step() == Connect("site.example", 80)
    [_, submit] = ask(asking)
    assert is_submit(submit)


def test_an_answer_that_begins_early_and_ends_in_time_keeps_the_connection() -> None:
    asking = early(OPENED[:9], failed=False)
    assert is_start_session(asking.next_step())
    asking.step_done()
    assert asking.receive_data(OPENED[9:]) == []
    [submit] = ask(asking)
    assert is_submit(submit)


def test_after_a_failed_send_the_connection_is_not_used_again() -> None:
    asking = early(OPENED[:9], failed=True)
    assert asking.next_step() == Receive()
    assert asking.receive_data(OPENED[9:]) == []
    assert asking.next_step() == Connect("site.example", 80)


@pytest.mark.parametrize("failed", [False, True])
def test_an_early_refusal_is_read_while_the_question_is_sent(failed: bool) -> None:
    asking = at_sending()
    if failed:
        asking.send_failed()
    data = content_length(b"<title>Too large</title>", b"Connection: close", status=b"413 Content Too Large")
    for pieces in every_cut(data):
        reading = copy.deepcopy(asking)
        assert [event for piece in pieces for event in reading.receive_data(piece)] == [
            Broken(Reason.REFUSED, "Too large", 413, raw="<title>Too large</title>")
        ]
        assert reading.next_step() == Done()


def test_a_server_that_speaks_first_over_a_new_connection_is_listened_to() -> None:
    asking = at_send()
    assert asking.receive_data(content_length(b"busy", status=b"503 -")) == [
        Broken(Reason.REFUSED, "busy", 503, raw="busy")
    ]
    assert asking.next_step() == Done()


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
        Broken(Reason.TRUNCATED, "status 101: the server switched protocols, unasked")
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
    follow(asking, WAYS[name].script)
    directly.step_done()
    for route, answer in ((b"/mwai/v1/start_session", OPENED), (b"/mwai-ui/v1/chats/submit", content_length(ANSWER))):
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
        asking = way.client(session=session)
        follow(asking, way.script)
        ask(asking)
        for pieces in every_cut(refusal) if way is RELAYED else ([refusal], byte_by_byte(refusal)):
            reading = copy.deepcopy(asking)
            events = [event for piece in pieces for event in reading.receive_data(piece)]
            if start and expected.reason is Reason.REFUSED:
                [event] = events
                assert isinstance(event, Broken)
                events = [Broken(event.reason, event.detail.partition(";")[0], event.status, raw=event.raw)]
            assert (events, reading.next_step()) == ([expected], Done())


def test_a_status_of_407_before_anything_was_asked_is_the_refusal_of_the_proxy() -> None:
    asking = RELAYED.client()
    follow(asking, RELAYED.script)
    assert asking.receive_data(content_length(b"", status=b"407 -")) == [
        Broken(Reason.PROXY, "the proxy refused: status 407")
    ]


@EVERY_WAY
def test_one_connection_carries_all_requests_and_after_it_the_whole_way_is_gone_again(way: Way) -> None:
    asking = way.client(session=Session("n0", "s0"), limits=Limits())
    follow(asking, way.script)
    assert is_submit(asking.next_step())
    asking.step_done()
    assert asking.receive_data(STALE) == []
    [start] = ask(asking)
    assert is_start_session(start)
    assert asking.receive_data(OPENED.replace(b"OK\r\n", b"OK\r\nConnection: close\r\n")) == []
    follow(asking, way.script)
    [submit] = ask(asking)
    assert is_submit(submit)
    assert asking.receive_data(content_length(ANSWER)) == ANSWERED


@EVERY_WAY
@pytest.mark.parametrize("lose", [Client.receive_eof, lambda asking: asking.receive_failure("reset")])
def test_a_kept_connection_that_ends_is_replaced_through_the_proxy(
    way: Way, lose: Callable[[Client], list[Event]]
) -> None:
    asking = way.client(session=None)
    follow(asking, way.script)
    ask(asking)
    assert asking.receive_data(OPENED) == lose(asking) == []
    assert follow(asking, way.script) == []
    assert is_submit(asking.next_step())


@EVERY_WAY
def test_a_loss_on_the_way_is_the_proxys_and_behind_it_the_sites(way: Way) -> None:
    for count, due in enumerate((*way.script, None)):
        asking = way.client()
        follow(asking, way.script[:count])
        at_the_site = due is None or due == StartTLS(Endpoint.parse(way.site).host)
        said = f"the proxy {Proxy.parse(way.proxy)}: "
        for detail, lose in (
            ("it failed", lambda asking: asking.receive_failure("it failed")),
            ("the connection was closed before any answer", Client.receive_eof),
        ):
            if count == 0 and lose is Client.receive_eof:
                continue  # there is no connection yet
            expected = Broken(Reason.LOST, detail) if at_the_site else Broken(Reason.PROXY, said + detail)
            for inside in (b"", *(due[:size] for size in range(1, len(due)))) if isinstance(due, bytes) else (b"",):
                for losing in clones(asking) if not inside else (copy.deepcopy(asking),):
                    assert losing.receive_data(inside) == []
                    assert lose(losing) == [expected]
                    assert (losing.next_step(), losing.submit_started) == (Done(), False)
        assert asking.receive_failure("slow", Reason.TIMEOUT) == [Broken(Reason.TIMEOUT, "slow")]
        assert (asking.next_step(), asking.submit_started, asking.awaiting) == (Done(), False, None)


def test_a_loss_on_the_way_says_what_it_was_for() -> None:
    asking = client(session=None, proxy=Proxy.parse("socks5://proxy.example"))
    assert asking.receive_failure("no route") == [
        Broken(Reason.PROXY, "start_session: the proxy socks5://proxy.example:1080: no route")
    ]


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
    assert asking.receive_data(content_length(b"busy", status=b"503 -")) == [
        Broken(Reason.REFUSED, "busy", 503, raw="busy")
    ]


UNASKED = Broken(Reason.PROXY, "the proxy sent bytes that nobody had asked for")


def test_bytes_behind_a_socks_proxy_before_anything_was_asked_are_no_answer() -> None:
    way = WAYS["socks5 to http"]
    asking = way.client()
    follow(asking, way.script)
    assert asking.receive_data(content_length(ANSWER)) == [UNASKED]
    assert (asking.next_step(), asking.submit_started) == (Done(), False)


def test_a_kept_connection_through_socks_over_which_bytes_come_is_replaced() -> None:
    way = WAYS["socks5 to http"]
    asking = way.client(session=None)
    follow(asking, way.script)
    ask(asking)
    assert asking.receive_data(OPENED) == asking.receive_data(content_length(ANSWER)) == []
    follow(asking, way.script)
    assert is_submit(asking.next_step())


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
        asking.send_failed()
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
    asking.send_failed()
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
                        self.events += asking.receive_failure("refused")
                    else:
                        asking.step_done()
                case Send() as send:
                    self.requests += 1
                    self.submits += is_submit(send)
                    answer = self.reply_to(send)
                    if self.fault.kind == "send_failed" and self.fault.at == self.requests:
                        self.fault = Fault("none", 0)
                        asking.send_failed()
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
            lose = asking.receive_eof if self.fault.kind == "eof" else lambda: asking.receive_failure("reset")
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
        b"",
        *byte_by_byte(start),
        b"",
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


@pytest.mark.parametrize("report", [Client.step_done, Client.send_failed])
def test_a_question_that_was_sent_is_held_once(report: Callable[[Client], None]) -> None:
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
        "<Client to https://site.example:8443 CONNECT>"
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
@settings(max_examples=100, deadline=None)
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
@settings(max_examples=200, deadline=None)
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
    st.sampled_from(["next_step", "step_done", "send_failed", "receive_eof", "copy"]).map(lambda name: (name, ())),
    st.builds(
        lambda data: ("receive_data", (data,)),
        st.sampled_from([OPENED, STALE, content_length(ANSWER)]) | PROXY_REPLIES | ANYTHING,
    ),
    st.builds(lambda text, reason: ("receive_failure", (text, reason)), st.text(max_size=5), st.sampled_from(Reason)),
)


@given(
    st.sampled_from([None, Session(), Session("n0", "s0")]),
    st.sampled_from([ENDPOINT, HTTPS]),
    st.sampled_from([None, None, *(Proxy.parse(f"{scheme}://us3r:s3cr3t@proxy.example") for scheme in SCHEMES)]),
    st.sampled_from([Limits(), Limits(restarts=0), SMALL]),
    st.lists(CALL | st.just(("step_done", ())) | st.just(("next_step", ())), max_size=30),
)
@settings(max_examples=200, deadline=None)
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
    stale = counted = False
    for name, arguments in calls:
        before = frozen(asking)
        state = state_of(asking)
        counted = counted and state != State.SEND
        if name in ("next_step", "step_done", "send_failed") and state in (State.SEND, State.SENDING) and not counted:
            counted = True
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
    if asking.next_step() == Done():
        assert is_reply(events)
    else:
        assert all(isinstance(event, Live) for event in events)
        assert is_reply(events + asking.receive_failure("over", Reason.TIMEOUT)) or asking.next_step() != Done()
    assert submits <= 1 + stale
    for event in events:
        str(event).encode()


def test_pieces_and_a_clean_end_without_an_end_event_in_one_read() -> None:
    events = answered([CHUNKED + chunks(HI) + b"0\r\n\r\n"], close=False)
    assert events[0] == Live("Hi")
    assert [event.reason for event in events[1:] if isinstance(event, Broken)] == [Reason.TRUNCATED]
