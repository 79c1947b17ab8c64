"""The outer ring: a flow over HTTP/1.1, and what to do with sockets in which order."""

from dataclasses import replace
from enum import StrEnum
from typing import final

from ._errors import LocalProtocolError
from ._events import Event, Live, Reason
from ._exchange import EndOfBody, Exchange, Fault, Head, Received
from ._flow import Awaiting, Flow
from ._http import Request
from ._session import Session
from ._steps import Connect, Done, Receive, Send, StartTLS
from ._table import Table
from ._tunnel import UNASKED, HTTPTunnel, Proxy, SOCKSTunnel

__all__ = ["Client"]


@final
class State(StrEnum):
    """What is to be done next."""

    CONNECT = "CONNECT"
    RECONNECT = "RECONNECT"  # as CONNECT, after a connection that was given up, and of which late news may come
    PROXY_TLS = "PROXY_TLS"  # TLS with the proxy
    TUNNEL_SEND = "TUNNEL_SEND"  # something is to be said to the proxy
    TUNNEL_RECEIVE = "TUNNEL_RECEIVE"
    TLS = "TLS"  # TLS with the site
    SEND = "SEND"  # a request is due, and nobody has seen it yet
    SENDING = "SENDING"  # it was handed out
    RECEIVE = "RECEIVE"
    RECEIVE_LAST = "RECEIVE_LAST"  # sending failed: an early answer may come, but nothing else over this connection
    DONE = "DONE"


@final
class Input(StrEnum):
    """What a driver reports; then what that leads to."""

    STEP_DONE = "step_done"
    SEND_FAILED = "send_failed"
    DATA = "receive_data"
    EOF = "receive_eof"
    FAILURE = "receive_failure"
    PROXY_TLS_DUE = "TLS with the proxy due"
    TUNNEL_DUE = "tunnel due"
    TLS_DUE = "TLS due"
    REQUEST_DUE = "request due"
    HANDED_OUT = "next_step"
    RECONNECT = "connection given up"
    TERMINAL = "terminal event"


TABLE: Table[State, Input] = Table(
    "Client",
    (State.CONNECT,),
    {
        State.CONNECT: {
            Input.STEP_DONE: State.CONNECT,
            Input.FAILURE: State.CONNECT,
            Input.PROXY_TLS_DUE: State.PROXY_TLS,
            Input.TUNNEL_DUE: State.TUNNEL_SEND,
            Input.TLS_DUE: State.TLS,
            Input.REQUEST_DUE: State.SEND,
            Input.TERMINAL: State.DONE,
        },
        State.RECONNECT: {
            Input.STEP_DONE: State.RECONNECT,
            Input.DATA: State.RECONNECT,
            Input.EOF: State.RECONNECT,
            Input.FAILURE: State.RECONNECT,
            Input.PROXY_TLS_DUE: State.PROXY_TLS,
            Input.TUNNEL_DUE: State.TUNNEL_SEND,
            Input.TLS_DUE: State.TLS,
            Input.REQUEST_DUE: State.SEND,
            Input.TERMINAL: State.DONE,
        },
        State.PROXY_TLS: {
            Input.STEP_DONE: State.PROXY_TLS,
            Input.DATA: State.PROXY_TLS,
            Input.EOF: State.PROXY_TLS,
            Input.FAILURE: State.PROXY_TLS,
            Input.TUNNEL_DUE: State.TUNNEL_SEND,
            Input.REQUEST_DUE: State.SEND,
            Input.TERMINAL: State.DONE,
        },
        State.TUNNEL_SEND: {
            Input.STEP_DONE: State.TUNNEL_RECEIVE,
            Input.SEND_FAILED: State.TUNNEL_RECEIVE,
            Input.DATA: State.TUNNEL_SEND,
            Input.EOF: State.TUNNEL_SEND,
            Input.FAILURE: State.TUNNEL_SEND,
            Input.TERMINAL: State.DONE,
        },
        State.TUNNEL_RECEIVE: {
            Input.DATA: State.TUNNEL_RECEIVE,
            Input.EOF: State.TUNNEL_RECEIVE,
            Input.FAILURE: State.TUNNEL_RECEIVE,
            Input.TUNNEL_DUE: State.TUNNEL_SEND,
            Input.TLS_DUE: State.TLS,
            Input.REQUEST_DUE: State.SEND,
            Input.TERMINAL: State.DONE,
        },
        State.TLS: {
            Input.STEP_DONE: State.TLS,
            Input.DATA: State.TLS,
            Input.EOF: State.TLS,
            Input.FAILURE: State.TLS,
            Input.REQUEST_DUE: State.SEND,
            Input.TERMINAL: State.DONE,
        },
        State.SEND: {
            Input.STEP_DONE: State.SEND,
            Input.SEND_FAILED: State.SEND,
            Input.DATA: State.SEND,
            Input.EOF: State.SEND,
            Input.FAILURE: State.SEND,
            Input.HANDED_OUT: State.SENDING,
            Input.RECONNECT: State.RECONNECT,
            Input.TERMINAL: State.DONE,
        },
        State.SENDING: {
            Input.STEP_DONE: State.RECEIVE,
            Input.SEND_FAILED: State.RECEIVE_LAST,
            Input.DATA: State.SENDING,
            Input.EOF: State.SENDING,
            Input.FAILURE: State.SENDING,
            Input.RECONNECT: State.RECONNECT,
            Input.TERMINAL: State.DONE,
        },
        State.RECEIVE: {
            Input.DATA: State.RECEIVE,
            Input.EOF: State.RECEIVE,
            Input.FAILURE: State.RECEIVE,
            Input.REQUEST_DUE: State.SEND,
            Input.RECONNECT: State.RECONNECT,
            Input.TERMINAL: State.DONE,
        },
        State.RECEIVE_LAST: {
            Input.DATA: State.RECEIVE_LAST,
            Input.EOF: State.RECEIVE_LAST,
            Input.FAILURE: State.RECEIVE_LAST,
            Input.RECONNECT: State.RECONNECT,
            Input.TERMINAL: State.DONE,
        },
        State.DONE: {},
    },
)

_RECEIVE = State.RECEIVE  # which is looked up much faster than the member of an enum
_ANY_RECEIVE = Receive()
_CONNECTING = (State.CONNECT, State.RECONNECT)
_TUNNEL = (State.TUNNEL_SEND, State.TUNNEL_RECEIVE)
_ASKED = (State.SENDING, State.RECEIVE, State.RECEIVE_LAST)


@final
class Client:
    """One question over connections of your own: a loop around `next_step()`.

        while True:
            match client.next_step():
                case Connect(host, port): ...; client.step_done()
                case StartTLS(server_name): ...; client.step_done()
                case Send(data): ...; client.step_done()
                case Receive(): events = client.receive_data(...)
                case Done(): break

    Inputs return the events that they complete: over the whole life
    `Live* (End | Broken)`. After the terminal event every input returns [] and
    the step is `Done`.

    A Connect, StartTLS or Send that was cancelled may have done anything: close
    the connection and drop the client.

    `proxy` is one to go through: its steps come before those of the site, and
    what goes wrong with it is `Broken(PROXY)`. With an https proxy and an https
    site there are two `StartTLS`, the second inside the first.

    Raises `ValueError` for a flow that has begun already, or whose host name is
    too long for SOCKS5. The flow belongs to the client from then on.
    """

    def __init__(self, flow: Flow, *, proxy: Proxy | None = None) -> None:
        if not isinstance(flow, Flow):
            raise TypeError(f"flow: expected a Flow, got {type(flow).__name__}")
        if not isinstance(proxy, Proxy | None):
            raise TypeError(f"proxy: expected a Proxy or None, got {type(proxy).__name__}")
        if not flow.is_ready:
            raise ValueError("flow: expected one that has not begun")
        if proxy is not None and proxy.is_socks and len(flow.endpoint.host) > 255:  # RFC 1928, 4
            raise ValueError("flow: its host name is longer than the 255 bytes that SOCKS5 has room for")
        self._flow = flow
        self._proxy = proxy
        self._tunnel: HTTPTunnel | SOCKSTunnel | None = None  # while it is being opened
        self._state = State.CONNECT
        self._exchange = Exchange(flow.limits)
        self._used = False  # the connection has carried an answer, so the server may close it at any time
        self._request: Request | None = None  # start_session, while it may have to be sent again
        self._out = b""  # what is to be sent of it, while it is

    def __repr__(self) -> str:
        """Where it goes and the state."""
        return f"<Client to {self._flow.endpoint.origin} {self._state}>"

    @property
    def session(self) -> Session | None:
        """See `Flow.session`."""
        return self._flow.session

    @property
    def awaiting(self) -> Awaiting | None:
        """See `Flow.awaiting`; besides, PROXY while a proxy has to reply."""
        if self._state is not _RECEIVE and self._state in _TUNNEL:
            return Awaiting.PROXY
        return self._flow.awaiting

    @property
    def submit_started(self) -> bool:
        """Whether `next_step()` has handed out a submit, so that the server may have acted on it. Stays true."""
        return self._flow.submit_started

    # ---------------------------------------------------------------- output

    def next_step(self) -> Connect | StartTLS | Send | Receive | Done:
        """What to do next: always the same until it is reported.

        It records one thing: a request that is in a `Send` may have reached the
        server. A server may close a connection after any answer; reported
        before this call, that leads to a new `Connect`, after it a submit is
        lost. So look once, without waiting, when `awaiting` has changed.
        """
        if self._state is _RECEIVE:
            return _ANY_RECEIVE  # the step of nearly every call
        match self._state:
            case State.CONNECT | State.RECONNECT:
                peer = self._proxy or self._flow.endpoint
                return Connect(peer.host, peer.port)
            case State.PROXY_TLS:
                assert self._proxy is not None
                return StartTLS(self._proxy.host)
            case State.TUNNEL_SEND:
                assert self._tunnel is not None
                return Send(self._tunnel.out)
            case State.TLS:
                return StartTLS(self._flow.endpoint.host)
            case State.SEND | State.SENDING:
                self._hand_out()
                return Send(self._out)
            case State.TUNNEL_RECEIVE | State.RECEIVE_LAST:
                return _ANY_RECEIVE
            case _:
                return Done()

    def _hand_out(self) -> None:
        if self._state is not State.SEND:
            return
        request = self._request or self._flow.next_request()
        if request is None:
            raise LocalProtocolError("Client: somebody else has taken the request from its flow")
        if self._flow.awaiting is Awaiting.SESSION:
            self._request = request
        target = request.target
        if self._is_relayed:
            assert self._proxy is not None
            target = request.url  # RFC 9112, 3.2.2
            request = replace(request, headers=(*request.headers, *self._proxy.authorization))
        self._out = self._exchange.send(request, target)
        self._move(Input.HANDED_OUT)

    @property
    def _is_relayed(self) -> bool:
        """Whether a proxy reads our requests, instead of opening a tunnel."""
        return self._proxy is not None and not self._proxy.is_socks and self._flow.endpoint.scheme == "http"

    # ---------------------------------------------------------------- reports

    def step_done(self) -> None:
        """The connection is open, TLS is up, or all bytes were sent. Raises `LocalProtocolError` at any other step."""
        state = self._state
        self._report(Input.STEP_DONE)
        if state in _CONNECTING and self._proxy is not None and self._proxy.scheme == "https":
            self._move(Input.PROXY_TLS_DUE)
        elif state in (*_CONNECTING, State.PROXY_TLS) and self._proxy is not None and not self._is_relayed:
            if self._proxy.is_socks:
                self._tunnel = SOCKSTunnel(self._proxy, self._flow.endpoint)
            else:
                self._tunnel = HTTPTunnel(self._proxy, self._flow.endpoint, self._flow.limits)
            self._move(Input.TUNNEL_DUE)
        elif state is State.TUNNEL_SEND:
            assert self._tunnel is not None
            self._tunnel.sent()
        elif state in (*_CONNECTING, State.PROXY_TLS, State.TLS):
            self._reached_the_site(tls=state is State.TLS)

    def _reached_the_site(self, *, tls: bool) -> None:
        self._tunnel = None
        self._move(Input.TLS_DUE if self._flow.endpoint.scheme == "https" and not tls else Input.REQUEST_DUE)

    def send_failed(self) -> None:
        """Not all bytes could be sent: the server has stopped reading, and may have answered.

        Go on with `next_step()`, which says `Receive`. Raises
        `LocalProtocolError` unless the step is `Send`.
        """
        self._report(Input.SEND_FAILED)

    def _report(self, given: Input) -> None:
        self._move(given)
        if self._state is State.SEND:  # by somebody who did not ask again what to send
            self._hand_out()
            self._move(given)
        self._out = b""  # a question can be large, and its answer take long

    def receive_data(self, data: bytes | bytearray | memoryview) -> list[Event]:
        """Bytes from the connection (inside TLS: the plain ones); also legal at `Send`, and none are always legal.

        Raises `LocalProtocolError` before the connection is open, `TypeError`
        if not bytes-like.
        """
        if self._state is _RECEIVE and type(data) is bytes and data:
            # The shortest way through what follows, for the reads that a stream mostly consists of.
            return self._receive(self._exchange.receive_data(data))
        if not memoryview(data).nbytes or self._state is State.DONE:
            return []
        self._move(Input.DATA)
        match self._state:
            case State.RECONNECT:
                return []  # late news of the connection before
            case State.PROXY_TLS:
                return self._fail("the proxy sent bytes in the clear where TLS was to begin", Reason.PROXY)
            case State.TUNNEL_SEND | State.TUNNEL_RECEIVE:
                return self._receive_from_proxy(data)
            case State.TLS if self._proxy is not None:
                return self._receive([UNASKED])  # as if they had come with the proxy's last reply
            case State.TLS:
                return self._fail("the server sent bytes in the clear where TLS was to begin", Reason.TRUNCATED)
            case State.SEND if self._used:
                # Nobody asked for these bytes; whatever they are, they must not become the answer to what comes next.
                self._give_up()
                return []
            case State.SEND if (
                self._proxy is not None and self._proxy.is_socks and self._flow.endpoint.scheme == "http"
            ):
                return self._receive([UNASKED])  # as at TLS
            case _:
                self._hand_out()
                return self._receive(self._exchange.receive_data(data))

    def receive_eof(self) -> list[Event]:
        """The peer has closed its side. Raises `LocalProtocolError` before the first connection is open."""
        if self._state is State.DONE:
            return []
        self._move(Input.EOF)
        if self._state is State.RECONNECT:
            return []  # late news of the connection before
        if not self._answer_begun:
            return self._lose("the connection was closed before any answer")
        return self._receive(self._exchange.receive_eof())

    def receive_failure(self, detail: str, reason: Reason = Reason.LOST) -> list[Event]:
        """The step cannot be done, or a clock ran out: `detail` says what happened, for a person. Always legal."""
        if not isinstance(detail, str) or not isinstance(reason, Reason):
            raise TypeError(f"expected a str and a Reason, got {type(detail).__name__}, {type(reason).__name__}")
        if self._state is State.DONE:
            return []
        self._move(Input.FAILURE)
        if reason is Reason.LOST:
            if not self._answer_begun:
                return self._lose(detail)
            reason = Reason.TRUNCATED
        return self._receive([Fault(detail, reason)])

    # ---------------------------------------------------------------- consequences

    @property
    def _answer_begun(self) -> bool:
        return self._state in _ASKED and self._exchange.begun

    def _lose(self, detail: str) -> list[Event]:
        """The connection is gone, and no byte of an answer came over it."""
        asked = self._state in _ASKED and self._flow.awaiting is not Awaiting.SESSION
        if self._used and not asked:
            # A server may close a kept connection at any time, and to ask for a session again does no harm.
            self._give_up()
            return []
        if self._state in (State.PROXY_TLS, *_TUNNEL) or (self._proxy is not None and self._state in _CONNECTING):
            return self._fail(f"the proxy {self._proxy}: {detail}", Reason.PROXY)
        return self._fail(f"{detail}; not repeated" if asked else detail, Reason.LOST)

    def _move(self, given: Input) -> None:
        self._state = TABLE.next(self._state, given)

    def _give_up(self) -> None:
        self._exchange = Exchange(self._flow.limits)
        self._used = False
        self._move(Input.RECONNECT)

    def _fail(self, detail: str, reason: Reason) -> list[Event]:
        return self._receive([Fault(detail, reason)])

    def _receive_from_proxy(self, data: bytes | bytearray | memoryview) -> list[Event]:
        assert self._tunnel is not None
        unsent = self._tunnel.out
        if fault := self._tunnel.receive_data(data):
            return self._receive([fault])
        if self._tunnel.is_open:
            self._reached_the_site(tls=False)
        elif self._tunnel.out != unsent:  # and not where sending has failed: that is not tried again
            self._move(Input.TUNNEL_DUE)
        return []

    def _receive(self, received: list[Received]) -> list[Event]:
        events: list[Event] = []
        for item in received:
            if isinstance(item, bytes):
                more = self._flow.receive_data(item)
                events = events + more if events else more
            else:
                events += self._receive_other(item)
            if events and type(events[-1]) is not Live:
                self._move(Input.TERMINAL)
                self._request = self._tunnel = None
                self._out = b""
                break
        return events

    def _receive_other(self, item: Head | EndOfBody | Fault) -> list[Event]:
        match item:
            case Head(407) if self._is_relayed:
                return self._flow.receive_failure("the proxy refused: status 407", Reason.PROXY)
            case Head(status, headers):
                return self._flow.receive_head(status, headers)
            case EndOfBody():
                events = self._flow.receive_eof()
            case _:  # Fault
                events = self._flow.receive_failure(item.detail, item.reason)
        self._next_request()
        return events

    def _next_request(self) -> None:
        self._request = None
        if self._flow.awaiting is None:
            return
        if self._state is State.RECEIVE and self._exchange.reusable:
            self._used = True
            self._move(Input.REQUEST_DUE)
        else:
            self._give_up()
