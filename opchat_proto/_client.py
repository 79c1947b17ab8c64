"""The middle ring: a flow over HTTP/1.1, with one connection per request, as steps for a driver."""

from dataclasses import replace
from enum import StrEnum
from functools import lru_cache
from typing import Protocol, final
from urllib.parse import urlsplit

from ._errors import LocalProtocolError
from ._events import CLOSED, Broken, Event, Live, Reason, check_failure
from ._exchange import EndOfBody, Exchange, Fault, Head, Received
from ._flow_table import Awaiting
from ._http import PORTS, Headers, Request
from ._limits import Limits
from ._session import Session
from ._steps import Connect, Done, Receive, Send, StartTLS
from ._table import Table
from ._tunnel import UNASKED, HTTPTunnel, Proxy, SOCKSTunnel

__all__ = ["Client", "FlowLike"]


@final
class State(StrEnum):
    """What the driver has to do next."""

    CONNECT = "CONNECT"
    PROXY_TLS = "PROXY_TLS"  # TLS with the proxy
    TUNNEL_SEND = "TUNNEL_SEND"  # bytes for the proxy are due
    TUNNEL_RECEIVE = "TUNNEL_RECEIVE"
    TLS = "TLS"  # TLS with the site
    SEND = "SEND"  # a request is due, and not handed out yet
    SENDING = "SENDING"  # the request was handed out
    RECEIVE = "RECEIVE"
    DONE = "DONE"


@final
class Input(StrEnum):
    """What a driver reports, and the consequences of a report."""

    STEP_DONE = "step_done"
    PIECE_SENT = "step_done, with more to send"
    STEP_FAILED = "step_failed"
    DATA = "receive_data"
    EOF = "receive_eof"
    CLOSE = "close"
    PROXY_TLS_DUE = "TLS with the proxy due"
    TUNNEL_DUE = "tunnel due"
    TLS_DUE = "TLS due"
    REQUEST_DUE = "request due"
    HANDED_OUT = "next_step"
    CUT_OFF = "not all was sent"
    NEXT_REQUEST = "another request due"
    TERMINAL = "terminal event"


_NEWS = (Input.STEP_FAILED, Input.DATA, Input.EOF)  # these alone change no state
_ENDS = {Input.NEXT_REQUEST: State.CONNECT, Input.TERMINAL: State.DONE, Input.CLOSE: State.DONE}

TABLE: Table[State, Input] = Table(
    "Client",
    (State.CONNECT,),
    {
        State.CONNECT: {
            Input.STEP_DONE: State.CONNECT,
            **dict.fromkeys(_NEWS, State.CONNECT),
            Input.PROXY_TLS_DUE: State.PROXY_TLS,
            Input.TUNNEL_DUE: State.TUNNEL_SEND,
            Input.TLS_DUE: State.TLS,
            Input.REQUEST_DUE: State.SEND,
            **_ENDS,
        },
        State.PROXY_TLS: {
            Input.STEP_DONE: State.PROXY_TLS,
            **dict.fromkeys(_NEWS, State.PROXY_TLS),
            Input.TUNNEL_DUE: State.TUNNEL_SEND,
            Input.REQUEST_DUE: State.SEND,
            **_ENDS,
        },
        State.TUNNEL_SEND: {
            Input.STEP_DONE: State.TUNNEL_RECEIVE,
            **dict.fromkeys(_NEWS, State.TUNNEL_SEND),
            Input.CUT_OFF: State.TUNNEL_RECEIVE,
            **_ENDS,
        },
        State.TUNNEL_RECEIVE: {
            **dict.fromkeys(_NEWS, State.TUNNEL_RECEIVE),
            Input.TUNNEL_DUE: State.TUNNEL_SEND,
            Input.TLS_DUE: State.TLS,
            Input.REQUEST_DUE: State.SEND,
            **_ENDS,
        },
        State.TLS: {
            Input.STEP_DONE: State.TLS,
            **dict.fromkeys(_NEWS, State.TLS),
            Input.REQUEST_DUE: State.SEND,
            **_ENDS,
        },
        State.SEND: {**dict.fromkeys(_NEWS, State.SEND), Input.HANDED_OUT: State.SENDING, **_ENDS},
        State.SENDING: {
            Input.STEP_DONE: State.RECEIVE,
            Input.PIECE_SENT: State.SENDING,
            **dict.fromkeys(_NEWS, State.SENDING),
            Input.CUT_OFF: State.RECEIVE,
            **_ENDS,
        },
        State.RECEIVE: {**dict.fromkeys(_NEWS, State.RECEIVE), **_ENDS},
        State.DONE: {},
    },
)

# Looking up a global is much faster than a member of an enum.
_CONNECT, _PROXY_TLS, _TUNNEL_SEND, _TUNNEL_RECEIVE, _TLS, _SEND, _SENDING, _RECEIVE, _DONE = State
_STEP_DONE, _REQUEST_DUE, _HANDED_OUT, _CLOSE = Input.STEP_DONE, Input.REQUEST_DUE, Input.HANDED_OUT, Input.CLOSE
_SESSION_DUE, _TRUNCATED = Awaiting.SESSION, Reason.TRUNCATED
ANY_RECEIVE = Receive()  # always the same object, so that it can be compared with `is`
_TUNNEL = (_TUNNEL_SEND, _TUNNEL_RECEIVE)
_ON_THE_WAY = (_CONNECT, _PROXY_TLS, *_TUNNEL)  # to the proxy, if there is one
_PIECE = 256 * 1024  # bytes of one Send, so that the write clock measures the network and not the size of a file
_NOWHERE = Connect("", 0)  # until there is a request
_NO_ANSWER = "the connection was closed before any answer"


class FlowLike(Protocol):
    """The methods of `Flow` that `Client` needs: a machine that makes requests in sequence and reads their responses.

    The URL of a request is absolute, with http or https, an ASCII host name and a path.
    While `awaiting` is not None, the machine owes a request or waits for a response.
    """

    @property
    def limits(self) -> Limits:
        """The limits for the heads of the responses."""

    @property
    def is_ready(self) -> bool:
        """Whether a request is due."""

    @property
    def awaiting(self) -> Awaiting | None:
        """See `Flow.awaiting`."""

    @property
    def session(self) -> Session | None:
        """See `Flow.session`."""

    @property
    def submit_started(self) -> bool:
        """See `Flow.submit_started`."""

    def next_request(self) -> Request | None:
        """See `Flow.next_request`."""

    def receive_head(self, status: int, headers: Headers) -> list[Event]:
        """See `Flow.receive_head`."""

    def receive_data(self, data: bytes) -> list[Event]:
        """See `Flow.receive_data`."""

    def receive_eof(self) -> list[Event]:
        """See `Flow.receive_eof`."""

    def receive_failure(self, detail: str, reason: Reason = Reason.LOST, *, limit: str | None = None) -> list[Event]:
        """See `Flow.receive_failure`."""

    def close(self) -> list[Event]:
        """See `Flow.close`."""


@final
class Client:
    """One question over your own connections: a loop around `next_step()`.

        while True:
            match client.next_step():
                case Connect(host, port): ...; client.step_done()
                case StartTLS(server_name): ...; client.step_done()
                case Send(data): ...; client.step_done()
                case Receive(): events = client.receive_data(...)
                case Done(): break

    Inputs return the events that they complete: in total `Live* (End | Broken)`. After
    the terminal event every input returns [] and the step is `Done`.

    A connection carries one request and announces its close (RFC 9112, 9.6). Each
    request begins with a `Connect` to the host of its URL.

    A cancelled Connect, StartTLS or Send may have done anything: call `close()`, and close
    the connection. Do so too if a method was interrupted, for example by KeyboardInterrupt.

    `flow` is a `Flow`, or another machine with its methods (`FlowLike`); the client
    owns it. `proxy` is a proxy: its steps come before the site's, and its faults are
    `Broken(PROXY)`. An https proxy in front of an https site needs two `StartTLS`, the
    second inside the first.

    Raises `ValueError` for a flow that has already begun.
    """

    def __init__(self, flow: FlowLike, *, proxy: Proxy | None = None) -> None:
        if not hasattr(flow, "next_request"):
            raise TypeError(f"flow: expected a Flow, got {type(flow).__name__}")
        if proxy is not None and not isinstance(proxy, Proxy):
            raise TypeError(f"proxy: expected a Proxy or None, got {type(proxy).__name__}")
        if not flow.is_ready:
            raise ValueError("flow: expected one that has not begun")
        self._flow = flow
        self._proxy = proxy
        self._state = _CONNECT
        self._request: Request | None = None  # from Connect until it is sent
        self._scheme, self._site = "", _NOWHERE  # of that request
        self._tunnel: HTTPTunnel | SOCKSTunnel | None = None  # while it is being opened
        self._exchange = Exchange(flow.limits)
        self._out = b""  # the request as bytes, until it is sent
        self._sent = 0  # how many of them were sent
        self.submit_started: bool = False
        """Whether a `Send` has handed out a submit, so that the server may have acted on it. Stays true."""

    def __repr__(self) -> str:
        """The state, and the flow."""
        return f"<Client {self._state} of {self._flow!r}>"

    @property
    def session(self) -> Session | None:
        """See `Flow.session`."""
        return self._flow.session

    @property
    def awaiting(self) -> Awaiting | None:
        """See `Flow.awaiting`; also PROXY while a proxy must reply."""
        if self._state is not _RECEIVE and self._state in _TUNNEL:
            return Awaiting.PROXY
        return self._flow.awaiting

    @property
    def sent(self) -> tuple[int, int]:
        """How many bytes of the request were sent, and its size; (0, 0) before and after sending."""
        return self._sent, len(self._out)

    # ---------------------------------------------------------------- output

    def next_step(self) -> Connect | StartTLS | Send | Receive | Done:
        """Return what to do next. The same until you report on it.

        Raises `LocalProtocolError` if the flow's request was already taken elsewhere.
        """
        if self._state is _RECEIVE:
            return ANY_RECEIVE  # the step of nearly every call
        state = self._state
        if state is _CONNECT:
            self._take_request()
            if self._proxy is not None:
                return Connect(self._proxy.host, self._proxy.port)
            return self._site
        if state is _SEND or state is _SENDING:
            self._hand_out()
            return Send(self._out[self._sent : self._sent + _PIECE])
        if state is _TLS:
            return StartTLS(self._site.host.removesuffix("."))  # DNS allows the dot, TLS does not (RFC 6066, 3)
        if state is _PROXY_TLS:
            assert self._proxy is not None
            return StartTLS(self._proxy.host.removesuffix("."))
        if state is _TUNNEL_SEND:
            assert self._tunnel is not None
            return Send(self._tunnel.out)
        return ANY_RECEIVE if state is _TUNNEL_RECEIVE else Done()

    def _take_request(self) -> None:
        if self._request is not None:
            return
        self._request = self._flow.next_request()
        if self._request is None:
            raise LocalProtocolError("Client: the request of its flow was already taken")
        self._scheme, self._site = _place(self._request.url)

    def _write_request(self) -> None:
        """Encode the request. The exchange must know it before it reads an answer."""
        if self._out:
            return
        request = self._request
        assert request is not None
        target, more = request.target, [("Connection", "close")]
        if self._is_relayed:
            assert self._proxy is not None
            target, more = request.url, [*more, *self._proxy.authorization]  # RFC 9112, 3.2.2
        self._out = self._exchange.send(request, target, more)
        self._request = None  # its body is in `_out`

    def _hand_out(self) -> None:
        if self._state is _SEND:
            self._write_request()
            self.submit_started = self._flow.submit_started
            self._state = TABLE.next(self._state, _HANDED_OUT)

    @property
    def _is_relayed(self) -> bool:
        """Whether the proxy forwards requests instead of opening a tunnel."""
        return self._proxy is not None and self._proxy.relays(self._scheme)

    # ---------------------------------------------------------------- reports

    def step_done(self) -> None:
        """The connection is open, TLS is up, or the bytes were sent. Raises `LocalProtocolError` at any other step."""
        if self._state is _DONE:
            return
        if self._state is _SEND:
            self._hand_out()  # for a driver that did not ask for the step
        state = self._state
        if state is _SENDING and len(self._out) > self._sent + _PIECE:
            self._state = TABLE.next(self._state, Input.PIECE_SENT)
            self._sent += _PIECE
            return
        self._state = TABLE.next(self._state, _STEP_DONE)
        if state is _SENDING:
            self._forget_request()
        elif state is _CONNECT:
            self._take_request()
            if self._proxy is not None and self._proxy.scheme == "https":
                self._state = TABLE.next(self._state, Input.PROXY_TLS_DUE)
            else:
                self._reach_the_proxy()
        elif state is _PROXY_TLS:
            self._reach_the_proxy()
        elif state is _TUNNEL_SEND:
            assert self._tunnel is not None
            self._tunnel.sent()
        else:  # TLS
            self._state = TABLE.next(self._state, _REQUEST_DUE)

    def _reach_the_proxy(self) -> None:
        if self._proxy is None or self._is_relayed:
            self._reach_the_site()
            return
        if self._proxy.is_socks:
            self._tunnel = SOCKSTunnel(self._proxy, self._site.host, self._site.port)
        else:
            self._tunnel = HTTPTunnel(self._proxy, self._site.host, self._site.port, self._flow.limits)
        self._state = TABLE.next(self._state, Input.TUNNEL_DUE)

    def _reach_the_site(self) -> None:
        self._tunnel = None
        self._state = TABLE.next(self._state, Input.TLS_DUE if self._scheme == "https" else _REQUEST_DUE)

    def step_failed(self, detail: str, reason: Reason = Reason.LOST, *, limit: str | None = None) -> list[Event]:
        """The step failed. `detail` is the I/O library's message, to which this adds the place.

        LOST at `Send` means that not everything was sent. The server may have answered
        nevertheless, so the next step is `Receive`. `limit` names the clock that ran out, with
        the reason TIMEOUT. Legal at any step; raises `TypeError` for wrong types.
        """
        check_failure(detail, reason)
        if self._state is _DONE:
            return []
        if self._state is _CONNECT:
            self._take_request()  # for a driver that did not ask for the step
        state = self._state
        self._state = TABLE.next(self._state, Input.STEP_FAILED)
        if reason is Reason.LOST and state in (_SENDING, _TUNNEL_SEND):
            self._state = TABLE.next(self._state, Input.CUT_OFF)
            if state is _SENDING:
                self._forget_request()
            return []
        lost = reason is Reason.LOST
        match state:
            case State.CONNECT if self._proxy is not None:
                detail = f"could not connect: {detail}"
            case State.CONNECT:
                host = f"[{self._site.host}]" if ":" in self._site.host else self._site.host
                detail = f"could not connect to {host}:{self._site.port}: {detail}"
            case State.PROXY_TLS:
                detail = f"TLS failed: {detail}"
            case State.TLS:
                detail = f"TLS with {self._site.host} failed: {detail}"
            case State.SENDING:
                detail = f"the request could not be sent: {detail}"
            case _ if lost:
                detail = f"the connection failed: {detail}"
        if self._proxy is not None and state in _ON_THE_WAY:
            detail, reason = f"the proxy {self._proxy}: {detail}", Reason.PROXY if lost else reason
        elif lost and self._exchange.begun:
            reason = Reason.TRUNCATED
        return self._receive([Fault(detail, reason, limit)])

    def receive_data(self, data: bytes | bytearray | memoryview) -> list[Event]:
        """Take bytes from the connection, decrypted if it has TLS. `b""` is always legal and changes nothing.

        At `Connect` they are late news of the previous connection, and ignored. At `Send`
        they are an early answer. If TLS is due, they are unencrypted: `Broken`. Raises
        `TypeError` if they are not bytes-like.
        """
        if self._state is _RECEIVE and type(data) is bytes and data:
            # The shortest path, for nearly all reads of a stream.
            return self._receive(self._exchange.receive_data(data))
        if not memoryview(data).nbytes or self._state is _DONE:
            return []
        self._state = TABLE.next(self._state, Input.DATA)
        match self._state:
            case State.CONNECT:
                return []
            case State.PROXY_TLS:
                return self._receive([Fault("the proxy sent bytes in the clear where TLS was to begin", Reason.PROXY)])
            case State.TUNNEL_SEND | State.TUNNEL_RECEIVE:
                return self._receive_from_proxy(data)
            case State.TLS if self._proxy is not None:
                return self._receive([UNASKED])  # as if they came with the proxy's last reply
            case State.TLS:
                return self._receive(
                    [Fault("the server sent bytes in the clear where TLS was to begin", Reason.TRUNCATED)]
                )
            case State.SEND if self._proxy is not None and self._proxy.is_socks and self._scheme == "http":
                return self._receive([UNASKED])  # as at TLS
            case State.SEND:
                self._write_request()
        return self._receive(self._exchange.receive_data(data))

    def receive_eof(self) -> list[Event]:
        """The peer has closed its side. At `Connect` this is late news of the previous connection, and ignored."""
        if self._state is _DONE:
            return []
        self._state = TABLE.next(self._state, Input.EOF)
        if self._state is _CONNECT:
            return []
        if self._exchange.begun:
            return self._receive(self._exchange.receive_eof())
        if self._proxy is not None and self._state in _ON_THE_WAY:
            return self._receive([Fault(f"the proxy {self._proxy}: {_NO_ANSWER}", Reason.PROXY)])
        return self._receive([Fault(_NO_ANSWER, Reason.LOST)])

    def close(self) -> list[Event]:
        """The caller leaves: close the connection. Unless the reply is over, its last event is `Broken`.

        The reason is TRUNCATED once the answer has begun, else LOST. Always legal.
        """
        if self._state is _DONE:
            return []
        begun = self._exchange.begun and self._flow.awaiting is not _SESSION_DUE
        # The flow is over if an exception has interrupted this client after the flow's last event.
        events = self._flow.close() or [Broken(Reason.LOST, CLOSED, asked=self._flow.submit_started)]
        last = events[-1]
        if begun and isinstance(last, Broken) and last.reason is not _TRUNCATED:
            events = [replace(last, reason=_TRUNCATED)]
        return self._end(events, _CLOSE)

    # ---------------------------------------------------------------- consequences

    def _forget_request(self) -> None:
        self._request, self._out, self._sent = None, b"", 0  # a question can be large, and its answer can take long

    def _receive_from_proxy(self, data: bytes | bytearray | memoryview) -> list[Event]:
        assert self._tunnel is not None
        unsent = self._tunnel.out
        if fault := self._tunnel.receive_data(data):
            return self._receive([fault])
        if self._tunnel.is_open:
            self._reach_the_site()
        elif self._tunnel.out != unsent:  # but bytes that could not be sent are not retried
            self._state = TABLE.next(self._state, Input.TUNNEL_DUE)
        return []

    def _receive(self, received: list[Received]) -> list[Event]:
        events: list[Event] = []
        for item in received:
            events += self._flow.receive_data(item) if isinstance(item, bytes) else self._receive_other(item)
            if events and type(events[-1]) is not Live:
                return self._end(events, Input.TERMINAL)
            if self._state is _CONNECT:
                break  # the rest does not belong to a request
        return events

    def _receive_other(self, item: Head | EndOfBody | Fault) -> list[Event]:
        if isinstance(item, Head) and not (item.status == 407 and self._is_relayed):
            return self._flow.receive_head(item.status, item.headers)
        if isinstance(item, EndOfBody):
            events = self._flow.receive_eof()
        elif isinstance(item, Fault):
            events = self._flow.receive_failure(item.detail, item.reason, limit=item.limit)
        else:
            events = self._flow.receive_failure("the proxy refused: status 407", Reason.PROXY)
        if self._flow.awaiting is not None:
            self._exchange = Exchange(self._flow.limits)
            self._forget_request()
            self._state = TABLE.next(self._state, Input.NEXT_REQUEST)
        return events

    def _end(self, events: list[Event], given: Input) -> list[Event]:
        self._state = TABLE.next(self._state, given)
        self._forget_request()
        self._tunnel = None
        last = events[-1]
        # The flow counts a request as sent once it is handed out, which is before the connection is open.
        if isinstance(last, Broken) and last.asked and not self.submit_started:
            events = [*events[:-1], replace(last, asked=False)]
        return events


@lru_cache
def _place(url: str) -> tuple[str, Connect]:
    """The scheme of a URL, and the step to its host. Cached, since a site has few."""
    parts = urlsplit(url)
    return parts.scheme, Connect(parts.hostname or "", parts.port or PORTS[parts.scheme])
