"""A question is handed out once, whatever fails and whatever is called."""

import copy
import pickle
from collections.abc import Iterator
from dataclasses import dataclass, field
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
    Endpoint,
    Event,
    Limits,
    Live,
    LocalProtocolError,
    Proxy,
    Reason,
    Receive,
    Send,
    Session,
    StartTLS,
)
from opchat_proto._client import State  # the table is not public, and this test walks it
from tests.proto.asking import (
    ANSWER,
    BOUND_V4,
    CHUNKED,
    END,
    ENDPOINT,
    ESTABLISHED,
    HI,
    LOGIN,
    PASSWORD_TOO,
    WAYS,
    Way,
    answered,
    chunks,
    client,
    content_length,
    is_reply,
)
from tests.proto.clients import HTTPS, OPENED, PARTS, STALE, frozen, is_start_session, is_submit, state_of
from tests.proto.cuts import byte_by_byte, random_cuts

# ------------------------------------------------------------------------------ asked once


@dataclass
class Fault:
    """One fault during a question."""

    kind: str
    at: int  # how many bytes the server has sent before it, or how many requests were sent


@dataclass
class Server:
    """A site that answers one connection after the other and records its requests."""

    fault: Fault
    early: bytes = b""
    """Its answer to a request that could not be sent."""
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
def test_a_submit_is_handed_out_once_or_twice_after_a_stale_nonce_whatever_fails(way: Way) -> None:
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


def test_without_restarts_a_submit_is_handed_out_at_most_once_whatever_fails() -> None:
    for fault, early in faults():
        server = Server(fault, early)
        server.run(client(session=None))
        assert is_reply(server.events), fault
        assert server.submits <= 1


# ------------------------------------------------------------------------------ any input

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
def test_calls_in_any_order_raise_only_local_protocol_errors_and_ask_once(
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


def test_pieces_and_a_clean_close_without_an_end_event_in_one_read_are_truncated() -> None:
    events = answered([CHUNKED + chunks(HI) + b"0\r\n\r\n"], close=False)
    assert events[0] == Live("Hi")
    assert [event.reason for event in events[1:] if isinstance(event, Broken)] == [Reason.TRUNCATED]
