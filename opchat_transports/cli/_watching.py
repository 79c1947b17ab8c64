"""What goes over a connection, for whoever wants to see or keep it: something with the interface of `Client` around it.

The transports know one seam, `Watch`: what it returns is driven in place of the
client. Here it tells an observer what has happened, and lets it through.
"""

import time
from collections.abc import Iterable
from typing import Any, Protocol, cast, final

from opchat_proto import (
    Awaiting,
    Client,
    Connect,
    Done,
    Event,
    Flow,
    Headers,
    Limits,
    Reason,
    Receive,
    Request,
    Send,
    StartTLS,
)
from opchat_proto._exchange import Exchange, Head

from .._common import where
from ._output import Output

__all__ = ["Observer", "Trace", "WatchedClient"]


class Observer(Protocol):
    """Is told what has happened, in order."""

    def connecting(self, host: str, port: int) -> None:
        """A connection is about to be opened."""

    def connected(self, host: str, port: int) -> None:
        """A connection was opened."""

    def secured(self, server_name: str) -> None:
        """TLS has begun on it."""

    def sent(self, data: bytes, *, to_proxy: bool) -> None:
        """All of these bytes were sent: one request, or something for the proxy."""

    def received(self, data: bytes, *, from_proxy: bool) -> None:
        """One read."""

    def ended(self, how: str, reason: Reason = Reason.LOST) -> None:
        """The other side has closed, or it failed: `how` says what happened, "" for a close."""


@final
class WatchedClient:
    """A client whose inputs are told to an observer."""

    def __init__(self, client: Client, observer: Observer) -> None:
        self._client = client
        self._observer = observer
        self._connecting = False

    def __getattr__(self, name: str) -> Any:
        """Everything that is not below is the client's own."""
        return getattr(self._client, name)

    def next_step(self) -> Connect | StartTLS | Send | Receive | Done:
        """See `Client`, as for the others."""
        step = self._client.next_step()
        if isinstance(step, Connect) and not self._connecting:
            self._connecting = True
            self._observer.connecting(step.host, step.port)
        return step

    def step_done(self) -> None:
        """It worked."""
        step = self._client.next_step()
        to_proxy = self._with_proxy
        self._client.step_done()
        match step:
            case Connect(host, port):
                self._connecting = False
                self._observer.connected(host, port)
            case StartTLS(server_name):
                self._observer.secured(server_name)
            case Send(data):
                self._observer.sent(data, to_proxy=to_proxy)

    def receive_data(self, data: bytes | bytearray) -> list[Event]:
        """Bytes came."""
        self._observer.received(bytes(data), from_proxy=self._with_proxy)
        return self._client.receive_data(data)

    def receive_eof(self) -> list[Event]:
        """The end came."""
        self._observer.ended("")
        return self._client.receive_eof()

    def receive_failure(self, detail: str, reason: Reason = Reason.LOST) -> list[Event]:
        """It failed."""
        self._observer.ended(detail, reason)
        return self._client.receive_failure(detail, reason)

    @property
    def _with_proxy(self) -> bool:
        return self._client.awaiting is Awaiting.PROXY


# The values of these may be shown. Any other may be, or hold, a secret.
_HARMLESS = {
    "age", "cache-control", "connection", "content-encoding", "content-length", "content-type", "date", "retry-after",
    "server", "transfer-encoding", "via", "x-accel-buffering", "x-cache",
}  # fmt: skip


@final
class Trace:
    """`-v`: a line on standard error for each thing that happens. Shapes and sizes, never contents or secrets."""

    def __init__(self, output: Output) -> None:
        self._output = output
        self._began = time.monotonic()
        self._exchange: Exchange | None = None  # reads the head of the answer that is due

    def client(self, client: Client) -> Client:
        """For `Watch`."""
        return cast(Client, WatchedClient(client, self))

    def flow(self, flow: Flow) -> Flow:
        """For `Watch`: where an HTTP library has the connections, what it is given and gives."""
        return cast(Flow, _TracedFlow(flow, self))

    def connecting(self, host: str, port: int) -> None:
        """For `Observer`, as are the next."""
        self.say(f"connecting to {where(host, port)}")

    def connected(self, host: str, port: int) -> None:
        """A connection."""
        self.say(f"connected to {where(host, port)}")

    def secured(self, server_name: str) -> None:
        """TLS."""
        self.say(f"TLS with {server_name}")

    def sent(self, data: bytes, *, to_proxy: bool) -> None:
        """A request."""
        self._exchange = None
        if to_proxy:
            self.say(f"> {len(data)} bytes to the proxy")
            return
        line = data.split(b"\r\n", 1)[0].decode("ascii", "replace")
        self.say(f"> {line.removesuffix(' HTTP/1.1')}, {len(data)} bytes")
        self._exchange = Exchange(Limits())
        self._exchange.send(Request("POST", "http://host/", (("Host", "host"), ("Content-Length", "0"))), "/")

    def received(self, data: bytes, *, from_proxy: bool) -> None:
        """One read."""
        self.say(f"< {len(data)} bytes{' from the proxy' if from_proxy else ''}")
        if self._exchange is None or from_proxy:
            return
        for item in self._exchange.receive_data(data):
            if isinstance(item, Head):
                self.head(item.status, item.headers)

    def ended(self, how: str, reason: Reason = Reason.LOST) -> None:
        """The end of a connection."""
        self.say(f"failed: {how}" if how else "< closed")

    def head(self, status: int, headers: Headers) -> None:
        """A head of an answer."""
        shown = [f"{name}: {value if name in _HARMLESS else '...'}" for name, value in _texts(headers)]
        self.say(f"< status {status}; {'; '.join(shown)}")

    def say(self, what: str) -> None:
        """One line, with the seconds since the first."""
        self._output.say(f"{time.monotonic() - self._began:8.3f} {' '.join(what.split())}")


def _texts(headers: Headers) -> Iterable[tuple[str, str]]:
    for name, value in headers:
        name = name if isinstance(name, str) else name.decode("latin-1")
        yield name.lower(), value if isinstance(value, str) else value.decode("latin-1")


@final
class _TracedFlow:
    """As `WatchedClient`, for a flow."""

    def __init__(self, flow: Flow, trace: Trace) -> None:
        self._flow = flow
        self._trace = trace

    def __getattr__(self, name: str) -> Any:
        return getattr(self._flow, name)

    def next_request(self) -> Request | None:
        request = self._flow.next_request()
        if request is not None:
            self._trace.say(f"> {request.method} {request.target}, {len(request.body)} bytes of body")
        return request

    def receive_head(self, status: int, headers: Headers) -> list[Event]:
        fields = list(headers)
        self._trace.head(status, fields)
        return self._flow.receive_head(status, fields)

    def receive_data(self, data: bytes) -> list[Event]:
        self._trace.say(f"< {len(data)} bytes of body")
        return self._flow.receive_data(data)

    def receive_eof(self) -> list[Event]:
        self._trace.say("< end of body")
        return self._flow.receive_eof()

    def receive_failure(self, detail: str, reason: Reason = Reason.LOST) -> list[Event]:
        self._trace.ended(detail)
        return self._flow.receive_failure(detail, reason)
