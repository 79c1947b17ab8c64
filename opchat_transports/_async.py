"""The loop of all async transports: ask the call for its next step, take it in time, and report what came of it."""

from collections.abc import Awaitable, Callable, Coroutine
from contextlib import AsyncExitStack
from typing import Any, ClassVar, Self, TypeVar

from opchat_proto import Call, Connect, Done, Event, HTTPCall, Receive, Send, StartTLS, Wait

from ._base import ReplyBase, TransportBase
from ._common import words
from ._discussions import AsyncDiscussions
from ._text import AsyncText
from ._uploads import AsyncUploads
from ._visits import AsyncVisits

__all__ = ["AsyncReplyBase", "AsyncTransportBase", "StreamReply"]

_C = TypeVar("_C", Call, HTTPCall)
_R = TypeVar("_R", bound="AsyncReplyBase[Any]")


class _AsyncContext:
    """`async with` for what has `aclose`."""

    aclose: Callable[[], Coroutine[Any, Any, None]]

    async def __aenter__(self) -> Self:
        """The object itself. It does not wait, so it cannot be cancelled."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """`aclose()`: all is closed, also when cancelled."""
        await self.aclose()


class AsyncTransportBase(_AsyncContext, AsyncVisits, AsyncUploads, AsyncDiscussions, TransportBase[_R]):
    """A transport that belongs to the event loop in which a reply was read first."""

    _current_loop: Callable[[], object]
    _checkpoint: Callable[[], Awaitable[object]]  # lets other tasks run
    _loop: object = None

    async def aclose(self) -> None:
        """Close all open replies: a task that waits for one gets `Broken`. Idempotent.

        Cancelled, it still closes them all.
        """
        if self._replies:
            self._enter()
        async with AsyncExitStack() as stack:
            self._close_all(stack, stack.push_async_callback)
        await self._checkpoint()

    def _enter(self) -> None:
        """Raise `RuntimeError` unless it is always the same event loop."""
        loop = self._current_loop()
        if self._loop is None:
            self._loop = loop
        elif self._loop is not loop and self._loop != loop:  # anyio's tokens are equal, not the same
            raise RuntimeError("this transport belongs to another event loop, in which it was used first")


class AsyncReplyBase(_AsyncContext, AsyncText, ReplyBase[_C]):
    """An async iterator that reads only when it is asked, without a task behind it."""

    _BUSY: ClassVar[type[Exception]] = RuntimeError
    _YIELDS: ClassVar[bool] = False  # lets other tasks run before it gives an event that has come already
    _FAILURES: ClassVar[tuple[type[Exception], ...]]  # of a step
    _END: ClassVar[bytes | None]  # what is read at the end

    _transport: AsyncTransportBase[Any]
    # What each library does in its own way:
    _begin: Callable[[], None]  # sets the next two, for the event loop that is running
    _now: Callable[[], float]
    _within: Callable[[float], Any]  # a `trio.CancelScope`, or what does the same, for what may take until then
    _read: Callable[[], Awaitable[bytes | bytearray | None]]
    _take: Callable[[Any], Awaitable[None]]  # any other step
    _report: Callable[[Any, Any], None]  # that a step was done, or what it failed with
    _finish: Callable[[], Awaitable[None]]  # when the reply is over; lets other tasks run
    _disconnect: Callable[[], Awaitable[bool]]  # also when cancelled; whether it let other tasks run

    _scope: Any = None  # of the step in progress, or of the last one
    _reading = False
    _left: Any = None  # an event for one that closes meanwhile: set when the reader has left

    def __aiter__(self) -> Self:
        """The reply itself."""
        return self

    async def __anext__(self) -> Event:
        """The next event. Once the reply was closed: what had been read before, then `Broken`.

        Cancelled, it closes the connection first: a question may have been asked
        that is answered to nobody. Events that had come are given by the next calls.
        Raises `RuntimeError` (on trio `trio.BusyResourceError`) while another task is in
        here, and `RuntimeError` in another event loop than the first.
        """
        if self._reading:
            raise self._BUSY("another task is reading this reply")
        call = self._call
        event = None
        if not self._YIELDS and (event := call.next_event()) is not None:
            return event
        has_event = self._YIELDS and call.has_event
        if not has_event:
            self._transport._enter()
            if self._scope is None:
                self._begin()
        self._reading = True
        try:
            if has_event:
                await self._transport._checkpoint()  # before the event is taken: cancelled, it would be lost
                event = call.next_event()
            while event is None:
                step, until = call.next_step(self._now())
                if isinstance(step, Done):
                    await self._finish()
                    event = call.next_event()
                    break
                data: bytes | bytearray | None = None
                failure: Exception | None = None
                with self._within(until) as self._scope:
                    try:
                        if isinstance(step, Receive):
                            data = await self._read()
                        else:
                            await self._take(step)
                    except self._FAILURES as error:
                        failure = error
                if self._scope.cancelled_caught:
                    call.timed_out()
                elif failure is not None or not isinstance(step, Receive):
                    self._report(step, failure)
                elif data == self._END:
                    call.receive_eof()
                else:
                    call.receive_data(data or b"")
                event = call.next_event()
        except BaseException:  # it may have cut a request in two
            try:
                call.close()
            finally:  # an observer may raise
                await self._disconnect()
            raise
        finally:
            self._reading = False
            if self._left is not None:
                self._left.set()
        if event is None:
            raise StopAsyncIteration
        return event

    async def aclose(self) -> None:
        """Close the connection at once if the answer is not over. Idempotent, from any task, also when cancelled.

        A task that waits for an event gets `Broken`: LOST, or TRUNCATED once the
        answer had begun.
        """
        self._transport._enter()
        await self._close()
        await self._transport._checkpoint()

    async def _close(self) -> None:
        try:
            self._call.close()
        finally:  # an observer may raise
            self._transport._forget(self)
            if self._scope is not None:
                self._scope.cancel()
            await self._disconnect()


class StreamReply(AsyncReplyBase[Call]):
    """A reply over connections of our own: objects with `receive_some` and `send_all`, as trio's."""

    _FAILURES: ClassVar[tuple[type[Exception], ...]] = (OSError, ValueError)
    """`ValueError`: a name that the DNS, or a certificate, cannot have."""
    _END = b""
    _connect: Callable[[str, int], Awaitable[Any]]
    _wrap: Callable[..., Any]  # in TLS
    _stream: Any = None

    async def _take(self, step: Connect | StartTLS | Send | Wait) -> None:
        match step:
            case Connect(host, port):
                await self._disconnect()
                self._stream = stream = await self._connect(host, port)
                self._read = stream.receive_some
            case StartTLS(server_name):
                self._stream = stream = self._wrap(self._stream, self._transport._tls, server_hostname=server_name)
                await stream.do_handshake()  # meanwhile another task may close the reply
                self._read = stream.receive_some
            case Send(data):
                await self._stream.send_all(data)
            case Wait(signal):
                await self._disconnect()
                await signal.wait()

    def _report(self, step: Connect | StartTLS | Send | Wait, failure: Exception | None) -> None:
        if failure is not None:
            self._call.step_failed(words(failure))
        elif not isinstance(step, Wait):
            self._call.step_done()

    async def _finish(self) -> None:
        if not await self._disconnect():
            await self._transport._checkpoint()
