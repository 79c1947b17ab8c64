"""One question over an HTTP library, which sees to connections, proxies and TLS."""

from dataclasses import replace
from typing import final

from ._call_base import CallBase, Input
from ._client import ANY_RECEIVE
from ._events import Broken, Event, Reason, check_failure
from ._flow import Awaiting, Flow
from ._http import Headers, Request, decode_head
from ._reports import HeadReceived, StepFailed
from ._session import Session
from ._steps import Receive
from ._visit import Visit

__all__ = ["HTTPCall"]


@final
class HTTPCall(CallBase[Request | Receive]):
    """One question over an HTTP library, made by `Channel.http_call`.

    The steps: `Request`, to be sent and then reported with `receive_head`;
    `Receive`, for the next piece of the body, or its end, reported with
    `receive_data` and `receive_eof`; `Wait`; `Done`, at which the response is to be
    closed. The library sees to connections, proxies and TLS. A `Request` may take as
    long as connect, write and first_event of `Timeouts` together.
    """

    __slots__ = ("_is_reached", "_machine", "_request")

    _machine: Flow | Visit
    _request: Request | None  # from when it is due until its head has come
    _is_reached: bool  # whether the server has begun to answer a submit

    def receive_head(self, status: int, headers: Headers) -> None:
        """The head of the response to the request, interim ones included; see `ReplyDecoder.receive_head`.

        Raises `LocalProtocolError` unless a request waits for it, `TypeError` for
        wrong types.
        """
        with self._channel._lock:
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
        """The request or the reading of its response failed: `detail` is what the library says of it.

        `sent=False` says that it is certain that no byte of the request has left.
        `limit` names the clock that ran out in the library, with the reason TIMEOUT.
        Ignored while no connection is wanted.
        """
        check_failure(detail, reason)
        with self._channel._lock:
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
