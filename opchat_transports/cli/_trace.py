"""`-v`: an observer that prints a line for each step and report."""

import time
from collections.abc import Iterable
from typing import Any, final

import h11

from opchat_proto import (
    Call,
    Connect,
    DataReceived,
    EOFReceived,
    HeadReceived,
    HTTPCall,
    Request,
    Send,
    StartTLS,
    StepDone,
    StepFailed,
    TimedOut,
)

from ._terminal import Output

__all__ = ["Trace", "is_to_site"]

# Header fields whose values may be shown. Any other value may contain a secret.
_HARMLESS = {
    "age", "cache-control", "connection", "content-encoding", "content-length", "content-type", "date", "retry-after",
    "server", "transfer-encoding", "via", "x-accel-buffering", "x-cache",
}  # fmt: skip


def is_to_site(data: bytes) -> bool:
    """Whether a `Send` is the request to the site, and not something for the proxy."""
    return data.startswith((b"POST ", b"GET "))


@final
class Trace:
    """Prints to standard error: steps and sizes, never contents or secrets."""

    def __init__(self, output: Output) -> None:
        self._output = output
        self._began = time.monotonic()
        self._step: object = None  # the step that a `StepDone` reports
        self._at_proxy = False  # whether received bytes are the proxy's
        self._reader: h11.Connection | None = None  # reads the head of the answer

    def __call__(self, call: Call | HTTPCall, item: object) -> None:
        """The observer, for `Channel`."""
        match self._step, item:
            case _, Connect(host, port):
                self._at_proxy, self._reader = call.channel.proxy is not None, None
                self._say(f"connecting to {_place(host, port)}")
            case Connect(host, port), StepDone():
                self._say(f"connected to {_place(host, port)}")
            case StartTLS(server_name), StepDone():
                self._say(f"TLS with {server_name}")
            case _, Send(data) if is_to_site(data):
                line = data.split(b"\r\n", 1)[0].decode("ascii", "replace")
                self._say(f"> {line.removesuffix(' HTTP/1.1')}, {len(data)} bytes")
                self._at_proxy, self._reader = False, _new_reader()
            case _, Send(data):
                self._say(f"> {len(data)} {'bytes to the proxy' if self._at_proxy else 'more bytes'}")
            case _, Request():
                self._say(f"> {item.method} {item.target}, {len(item.body)} bytes of body")
            case _, HeadReceived(status, headers):
                self._head(status, headers)
            case _, DataReceived(data):
                whose = " from the proxy" if self._at_proxy else " of body" if isinstance(call, HTTPCall) else ""
                self._say(f"< {len(data)} bytes{whose}")
                self._read_head(data)
            case _, EOFReceived():
                self._say("< end of body" if isinstance(call, HTTPCall) else "< closed")
            case _, StepFailed(detail):
                self._say(f"failed: {detail}")
            case _, TimedOut(limit):
                self._say(f"not in time (timeout {limit!r})")
        if isinstance(item, Connect | StartTLS | Send):
            self._step = item

    def _read_head(self, data: bytes) -> None:
        if self._reader is None:
            return
        self._reader.receive_data(data)
        try:
            while isinstance(event := self._reader.next_event(), h11.InformationalResponse | h11.Response):
                self._head(event.status_code, event.headers)
                if isinstance(event, h11.Response):
                    self._reader = None
                    return
        except h11.RemoteProtocolError:  # the terminal event says what is wrong
            self._reader = None

    def _head(self, status: int, headers: Iterable[tuple[str | bytes, str | bytes]]) -> None:
        fields = [(_text(name).lower(), _text(value)) for name, value in headers]
        shown = [f"{name}: {value if name in _HARMLESS else '...'}" for name, value in fields]
        self._say(f"< status {status}; {'; '.join(shown)}")

    def _say(self, what: str) -> None:
        self._output.say(f"{time.monotonic() - self._began:8.3f} {' '.join(what.split())}")


def _place(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _text(text: Any) -> str:
    return text if isinstance(text, str) else text.decode("latin-1")


def _new_reader() -> h11.Connection:
    reader = h11.Connection(h11.CLIENT)
    reader.send(h11.Request(method="POST", target="/", headers=[("Host", "host")]))
    reader.send(h11.EndOfMessage())
    return reader
