"""One question over an HTTP library, which handles connections, proxies and TLS."""

from dataclasses import replace
from typing import final

from ._call_base import CallBase
from ._call_table import Input
from ._client import ANY_RECEIVE
from ._events import Broken, Event, Reason, check_failure
from ._flow import Flow
from ._flow_table import Awaiting
from ._http import Headers, Request, decode_head
from ._reports import HeadReceived, StepFailed
from ._session import Session
from ._steps import Receive
from ._visit import Visit

__all__ = ["HTTPCall"]


@final
class HTTPCall(CallBase[Request | Receive]):
    """One question over an HTTP library, made by `Channel.http_call`.

    The steps are: `Request`: send it, and report with `receive_head`. `Receive`: read the
    next piece of the body or its end, and report with `receive_data` or `receive_eof`.
    `Wait`. `Done`: close the response. The library handles connections, proxies and TLS.
    A `Request` may take connect, write and first_event of `Timeouts` together.
    """

    __slots__ = ("_is_reached", "_machine", "_request")

    _machine: Flow | Visit
    _request: Request | None  # from the time it is due until its head has come
    _is_reached: bool  # whether the server has begun to answer a submit

    def receive_head(self, status: int, headers: Headers) -> None:
        """Take a head of the response, final or interim; see `ReplyDecoder.receive_head`.

        Raises `LocalProtocolError` unless a request waits for it, `TypeError` for
        wrong types.
        """
        with self.channel._lock:
            if self._takes(Input.HEAD):
                fields = tuple(headers)
                events = self._machine.receive_head(status, fields)
                self._is_reached = self._machine.submit_started
                if not 100 <= status < 200:
                    self._request = None
                    self._clock.stop()
                self._report(HeadReceived(status, fields))
                self._take(events)
            else:
                decode_head(status, headers)
        self._tell()

    def step_failed(
        self, detail: str, reason: Reason = Reason.LOST, *, sent: bool = True, limit: str | None = None
    ) -> None:
        """The request or reading its response failed. `detail` is the library's message.

        `sent=False` means that certainly no byte of the request was sent. `limit` names
        the library's clock that ran out, with the reason TIMEOUT. Ignored while no
        connection is wanted.
        """
        check_failure(detail, reason)
        with self.channel._lock:
            if self._takes(Input.STEP_FAILED):
                events = self._fail(detail, reason, limit)
                last = events[-1] if events else None
                if not sent and not self._is_reached and isinstance(last, Broken):
                    events = [*events[:-1], replace(last, asked=False)]
                self._clock.stop()
                self._report(StepFailed(detail, reason))
                self._take(events)
        self._tell()

    def _begin(self, session: Session | None) -> None:
        self._flow = self._machine = self._new_flow(session)
        self._request = None
        self._is_reached = False

    def _work(self) -> tuple[Request | Receive, type[object] | Awaiting]:
        if self._request is None:
            self._request = self._flow.next_request()
        if self._request is not None:
            return self._request, Request
        awaiting = self._flow.awaiting
        assert awaiting is not None
        return ANY_RECEIVE, awaiting

    def _fail(self, detail: str, reason: Reason, limit: str | None) -> list[Event]:
        return self._flow.receive_failure(detail, reason, limit=limit)
