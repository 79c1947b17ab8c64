"""uvicorn's HTTP/1.1 with bounds: `uvicorn.run(app, http=BoundedProtocol)`. `opchat serve` uses it.

uvicorn alone waits for a head forever, holds any number of connections, and accepts
heads that proxies may read differently.
"""

import logging
import math
import sys
import time
from asyncio import Transport
from http import HTTPStatus
from typing import Any, final

import h11

from ._extras import missing

try:
    from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle
except ModuleNotFoundError as _error:
    raise missing(_error, "serve") from None

from opchat_proto import Limits, Response, Site

from ._serving import OncePerSecond

__all__ = ["BoundedProtocol"]

# It makes no nonces. The application bounds its bodies itself: a framework around it may take larger ones.
_CHECKS = Site(b"checks heads", limits=Limits(request_bytes=sys.maxsize))
_log = logging.getLogger("uvicorn.error")
_log.addFilter(OncePerSecond())  # every warning of uvicorn about connections and requests


class BoundedProtocol(H11Protocol):
    """One connection, in a process with a bounded number of connections.

    One connection too many closes the one that has waited longest for a request; if
    all are being answered, the new one gets status 503. A head must come within
    `head_within` seconds of the connect or the previous answer. A client that does not
    read its answer for `write_within` seconds is disconnected. Heads that `Server`
    refuses are refused here too (RFC 9112, 5.2 and 6.1), except for the length of the
    body, which is the application's to bound. The log has at most one line a second about
    all of these.

    The bounds are attributes of the class; a subclass can change them.
    """

    connections_at_most: int = 500
    """The most connections of one process."""
    head_within: float = 30.0
    """How long a head may take, in seconds."""
    write_within: float = 30.0
    """How long a client may read nothing, in seconds."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Made by uvicorn."""
        super().__init__(*args, **kwargs)
        self._connection = _Connection()
        self.conn: h11.Connection = self._connection
        self._waiting_since = math.inf  # for a request or its rest; infinity during an answer
        self._head_timer = self._write_timer = self.loop.call_later(0, _nothing)

    def connection_made(self, transport: Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        """Also close the connection that has waited longest, if there are too many."""
        super().connection_made(transport)
        self._wait_for_head()
        if len(self.connections) > self.connections_at_most:
            longest = min(self.connections, key=_waiting_since)
            self.connections.discard(longest)
            if longest is self:
                _log.warning("all %d connections are being answered: one more was refused", self.connections_at_most)
                self._refuse(_CHECKS.refuse(503))
            else:
                _log.warning(
                    "all %d connections are taken: the one that waited longest for a request was closed",
                    self.connections_at_most,
                )
                longest.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """Also stop the clocks."""
        self._head_timer.cancel()
        self._write_timer.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Also stop the clock of the head when it is complete."""
        before = self.cycle
        super().data_received(data)
        self._see_request(before)

    def handle_websocket_upgrade(self, event: h11.Request) -> None:
        """Also stop the clock of the head: uvicorn's WebSocket protocol takes the connection over."""
        self._head_timer.cancel()
        super().handle_websocket_upgrade(event)

    def on_response_complete(self) -> None:
        """Also start the clock of the next head."""
        self._wait_for_head()
        answered = self.cycle
        super().on_response_complete()
        self._see_request(answered)  # the next one may have arrived already

    def pause_writing(self) -> None:
        """Also start the clock of the client's reading."""
        super().pause_writing()
        self._write_timer = self.loop.call_later(self.write_within, self._leave, "did not read its answer")

    def resume_writing(self) -> None:
        """Also stop that clock."""
        self._write_timer.cancel()
        super().resume_writing()

    def send_400_response(self, msg: str) -> None:
        """Refuse a malformed or dangerous request, as `Server` does."""
        assert self._connection.refusal is not None
        self._refuse(self._connection.refusal)

    def _wait_for_head(self) -> None:
        self._waiting_since = time.monotonic()  # uvloop's clock has whole milliseconds
        self._head_timer.cancel()
        self._head_timer = self.loop.call_later(self.head_within, self._leave, "sent no request in time")

    def _see_request(self, before: RequestResponseCycle | None) -> None:
        if self.cycle is not before:
            self._head_timer.cancel()
        if self.cycle is not None and not (self.cycle.more_body or self.cycle.response_complete):
            self._waiting_since = math.inf

    def _leave(self, what: str) -> None:
        _log.warning(f"a client {what}: its connection was closed")
        self.transport.abort()

    def _refuse(self, response: Response) -> None:
        if self.cycle is not None:
            self.cycle.disconnected = True  # the application must send nothing more
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            reason = HTTPStatus(response.status).phrase.encode()
            headers = [*response.headers, ("Connection", "close")]
            head = h11.Response(status_code=response.status, reason=reason, headers=headers)
            body = b"" if self._connection.method == b"HEAD" else response.body
            for event in (head, h11.Data(data=body), h11.EndOfMessage()):
                self.transport.write(self.conn.send(event) or b"")
        self.transport.close()


@final
class _Connection(h11.Connection):
    """h11's connection, which also refuses heads that can be read in two ways."""

    def __init__(self) -> None:
        super().__init__(h11.SERVER, max_incomplete_event_size=_CHECKS.limits.head_bytes)
        self.method = b""
        """Of the current request; empty if its head cannot be read."""
        self.refusal: Response | None = None

    def next_event(self) -> Any:
        received: bytes | None = None  # the bytes before the end of the head
        if self.their_state is h11.IDLE:
            received, self.method = self.trailing_data[0], b""
        try:
            event = super().next_event()
        except h11.RemoteProtocolError as error:
            self.refusal = _CHECKS.refuse(400 if received is None else error.error_status_hint)
            raise
        if type(event) is h11.Request:
            assert received is not None
            self.method = event.method
            head = received[: len(received) - len(self.trailing_data[0])]
            self.refusal = _CHECKS.check_head(event.headers, version=event.http_version.decode(), raw=head)
            if self.refusal is not None:
                raise h11.RemoteProtocolError("refused")
        return event


def _waiting_since(connection: Any) -> float:
    since: float = getattr(connection, "_waiting_since", math.inf)  # a WebSocket connection has none
    return since


def _nothing() -> None:
    pass
