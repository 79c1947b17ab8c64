"""The outer ring: a flow over HTTP/1.1, and what to do with sockets in which order."""

from enum import StrEnum
from typing import final

from ._events import Event, Reason
from ._exchange import Body, EndOfBody, Exchange, Fault, Head, Received
from ._flow import Awaiting, Flow
from ._http import Request
from ._session import Session
from ._steps import Connect, Done, Receive, Send, StartTLS
from ._table import Table

__all__ = ["Client"]


@final
class State(StrEnum):
    """What is to be done next."""

    CONNECT = "CONNECT"
    TLS = "TLS"
    SEND = "SEND"  # a request is due, and nobody has seen it yet
    SENDING = "SENDING"  # it was handed out
    RECEIVE = "RECEIVE"
    RECEIVE_LAST = "RECEIVE_LAST"  # sending failed: an early answer may come, but nothing else over this connection
    DONE = "DONE"


@final
class Input(StrEnum):
    """What can happen to a connection."""

    STEP_DONE = "step_done"
    STEP_DONE_TLS = "step_done (https)"
    HANDED_OUT = "next_step"
    SEND_FAILED = "send_failed"
    DATA = "receive_data"
    EOF = "receive_eof"
    FAILURE = "receive_failure"
    NEXT = "next request"
    RECONNECT = "connection given up"
    TERMINAL = "terminal event"


TABLE: Table[State, Input] = Table(
    "Client",
    (State.CONNECT,),
    {
        State.CONNECT: {
            Input.STEP_DONE: State.SEND,
            Input.STEP_DONE_TLS: State.TLS,
            Input.FAILURE: State.CONNECT,
            Input.TERMINAL: State.DONE,
        },
        State.TLS: {
            Input.STEP_DONE: State.SEND,
            Input.DATA: State.TLS,
            Input.EOF: State.TLS,
            Input.FAILURE: State.TLS,
            Input.TERMINAL: State.DONE,
        },
        State.SEND: {
            Input.HANDED_OUT: State.SENDING,
            Input.EOF: State.SEND,
            Input.FAILURE: State.SEND,
            Input.DATA: State.SEND,
            Input.RECONNECT: State.CONNECT,
            Input.TERMINAL: State.DONE,
        },
        State.SENDING: {
            Input.STEP_DONE: State.RECEIVE,
            Input.SEND_FAILED: State.RECEIVE_LAST,
            Input.DATA: State.SENDING,
            Input.EOF: State.SENDING,
            Input.FAILURE: State.SENDING,
            Input.RECONNECT: State.CONNECT,
            Input.TERMINAL: State.DONE,
        },
        State.RECEIVE: {
            Input.DATA: State.RECEIVE,
            Input.EOF: State.RECEIVE,
            Input.FAILURE: State.RECEIVE,
            Input.NEXT: State.SEND,
            Input.RECONNECT: State.CONNECT,
            Input.TERMINAL: State.DONE,
        },
        State.RECEIVE_LAST: {
            Input.DATA: State.RECEIVE_LAST,
            Input.EOF: State.RECEIVE_LAST,
            Input.FAILURE: State.RECEIVE_LAST,
            Input.RECONNECT: State.CONNECT,
            Input.TERMINAL: State.DONE,
        },
        State.DONE: {},
    },
)


_UNASKED = (State.CONNECT, State.TLS, State.SEND)


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

    Raises `ValueError` for a flow that has begun already.
    """

    def __init__(self, flow: Flow) -> None:
        if not isinstance(flow, Flow):
            raise TypeError(f"flow: expected a Flow, got {type(flow).__name__}")
        if not flow.is_ready:
            raise ValueError("flow: expected one that has not begun")
        self._flow = flow
        self._state = State.CONNECT
        self._exchange = Exchange(flow.limits)
        self._used = False  # the connection has carried an answer, so the server may close it at any time
        self._request: Request | None = None  # handed out and not answered yet
        self._out = b""

    def __repr__(self) -> str:
        """Where it goes and the state."""
        return f"<Client to {self._flow.endpoint.origin} {self._state}>"

    @property
    def session(self) -> Session | None:
        """See `Flow.session`."""
        return self._flow.session

    @property
    def awaiting(self) -> Awaiting | None:
        """See `Flow.awaiting`."""
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
        match self._state:
            case State.CONNECT:
                return Connect(self._flow.endpoint.host, self._flow.endpoint.port)
            case State.TLS:
                return StartTLS(self._flow.endpoint.host)
            case State.SEND | State.SENDING:
                self._hand_out()
                return Send(self._out)
            case State.RECEIVE | State.RECEIVE_LAST:
                return Receive()
            case _:
                return Done()

    def _hand_out(self) -> None:
        if self._state is State.SEND:
            if self._request is None:
                self._request = self._flow.next_request()
            assert self._request is not None
            self._out = self._exchange.send(self._request)
            self._state = TABLE.next(self._state, Input.HANDED_OUT)

    # ---------------------------------------------------------------- reports

    def step_done(self) -> None:
        """The connection is open, TLS is up, or all bytes were sent. Raises `LocalProtocolError` at any other step."""
        self._hand_out()
        tls = self._state is State.CONNECT and self._flow.endpoint.scheme == "https"
        self._state = TABLE.next(self._state, Input.STEP_DONE_TLS if tls else Input.STEP_DONE)

    def send_failed(self) -> None:
        """Not all bytes could be sent: the server has stopped reading, and may have answered.

        Go on with `next_step()`, which says `Receive`. Raises
        `LocalProtocolError` unless the step is `Send`.
        """
        self._hand_out()
        self._state = TABLE.next(self._state, Input.SEND_FAILED)

    def receive_data(self, data: bytes | bytearray | memoryview) -> list[Event]:
        """Bytes from the connection (inside TLS: the plain ones); also legal at `Send`, and none are always legal.

        Raises `LocalProtocolError` before the connection is open, `TypeError`
        if not bytes-like.
        """
        if not memoryview(data).nbytes or self._state is State.DONE:
            return []
        TABLE.next(self._state, Input.DATA)
        if self._state is State.TLS:
            return self._fail("the server sent bytes in the clear where TLS was to begin", Reason.TRUNCATED)
        if self._state is State.SEND and self._used:
            # Nobody asked for these bytes; whatever they are, they must not become the answer to what is asked next.
            self._give_up()
            return []
        self._hand_out()
        return self._receive(self._exchange.receive_data(data))

    def receive_eof(self) -> list[Event]:
        """The server has closed its side. Raises `LocalProtocolError` before the connection is open."""
        if self._state is State.DONE:
            return []
        TABLE.next(self._state, Input.EOF)
        if not self._answer_begun:
            return self._lose("the connection was closed before any answer")
        return self._receive(self._exchange.receive_eof())

    def receive_failure(self, detail: str, reason: Reason = Reason.LOST) -> list[Event]:
        """The step cannot be done, or a clock ran out: `detail` says what happened, for a person. Always legal."""
        if not isinstance(detail, str) or not isinstance(reason, Reason):
            raise TypeError(f"expected a str and a Reason, got {type(detail).__name__}, {type(reason).__name__}")
        if self._state is State.DONE:
            return []
        TABLE.next(self._state, Input.FAILURE)
        if reason is Reason.LOST:
            if not self._answer_begun:
                return self._lose(detail)
            reason = Reason.TRUNCATED
        return self._receive([Fault(detail, reason)])

    # ---------------------------------------------------------------- consequences

    @property
    def _answer_begun(self) -> bool:
        return self._state not in _UNASKED and self._exchange.begun

    def _lose(self, detail: str) -> list[Event]:
        """The connection is gone, and no byte of an answer came over it."""
        asked = self._state not in _UNASKED and self._flow.awaiting is not Awaiting.SESSION
        if self._used and not asked:
            # A server may close a kept connection at any time, and to ask for a session again does no harm.
            self._give_up()
            return []
        return self._fail(f"{detail}; not repeated" if asked else detail, Reason.LOST)

    def _give_up(self) -> None:
        self._exchange = Exchange(self._flow.limits)
        self._used = False
        self._state = TABLE.next(self._state, Input.RECONNECT)

    def _fail(self, detail: str, reason: Reason) -> list[Event]:
        return self._receive([Fault(detail, reason)])

    def _receive(self, received: list[Received]) -> list[Event]:
        events: list[Event] = []
        for item in received:
            match item:
                case Head(status, headers):
                    events += self._flow.receive_head(status, headers)
                case Body(data):
                    events += self._flow.receive_data(data)
                case EndOfBody():
                    events += self._flow.receive_eof()
                    self._next_request()
                case _:  # Fault
                    events += self._flow.receive_failure(item.detail, item.reason)
                    self._next_request()
            if self._flow.awaiting is None:
                self._state = TABLE.next(self._state, Input.TERMINAL)
                self._request = None
                self._out = b""
                break
        return events

    def _next_request(self) -> None:
        self._request = None
        if self._flow.awaiting is None:
            return
        if self._state is State.RECEIVE and self._exchange.reusable:
            self._used = True
            self._state = TABLE.next(self._state, Input.NEXT)
        else:
            self._give_up()
