"""The driver loop of all async transports: ask the call for its next step, perform it in time, report the outcome."""

import math
import os
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn, Self, TypeVar

from opchat_proto import Call, Connect, Done, Event, HTTPCall, Receive, Send, StartTLS, Upload, Wait

from ._base import ReplyBase, TransportBase
from ._common import words
from ._discussions import AsyncDiscussions
from ._text import AsyncText
from ._uploads import AsyncUploads, FileLike, read_files, to_upload
from ._visits import AsyncVisits

__all__ = ["AsyncReplyBase", "AsyncTransportBase", "StreamReply"]

_C = TypeVar("_C", Call, HTTPCall)
_R = TypeVar("_R", bound="AsyncReplyBase[Any]")


class _AsyncContext:
    """Supports `async with` for classes with `aclose`, and says so to those who forget the `async`."""

    aclose: Callable[[], Coroutine[Any, Any, None]]

    if not TYPE_CHECKING:  # a type checker must not find it

        def __enter__(self) -> NoReturn:
            raise TypeError(f"{type(self).__name__}: use `async with` instead of `with`")

        def __exit__(self, *_: object) -> None:
            """`with` looks for it before `__enter__` is called."""

    async def __aenter__(self) -> Self:
        """Return itself, without a checkpoint, so it cannot be cancelled."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Same as `aclose()`: closes everything, even if cancelled."""
        await self.aclose()


class AsyncTransportBase(_AsyncContext, AsyncVisits, AsyncUploads, AsyncDiscussions, TransportBase[_R]):
    """A transport. It belongs to the event loop in which it first read a reply."""

    _current_loop: Callable[[], object]
    _checkpoint: Callable[[], Awaitable[object]]  # lets other tasks run
    _loop: object = None

    async def aclose(self) -> None:
        """Close all open replies. Waiting tasks get `Broken`. Idempotent.

        Closes everything even if cancelled.
        """
        if self._replies:
            self._enter()
        async with AsyncExitStack() as stack:
            self._close_all(stack, stack.push_async_callback)
        await self._checkpoint()

    @staticmethod
    def _split(files: list[FileLike], most: int) -> tuple[list[Upload], Sequence[FileLike]]:
        if any(isinstance(file, str | os.PathLike) for file in files):
            return [], [file if isinstance(file, str | os.PathLike) else to_upload(file, most) for file in files]
        return read_files(files, most), ()

    def _enter(self) -> None:
        """Raise `RuntimeError` in any event loop but the first."""
        try:
            loop = self._current_loop()
        except RuntimeError as error:
            name = type(self).__name__
            raise RuntimeError(f"{name} does not run in this event loop, or outside one: {error}") from None
        if self._loop is None:
            self._loop = loop
        elif self._loop is not loop and self._loop != loop:  # anyio's tokens are equal but not identical
            raise RuntimeError("this transport belongs to another event loop, in which it was used first")


class AsyncReplyBase(_AsyncContext, AsyncText, ReplyBase[_C]):
    """An async iterator that reads only on demand, without a background task."""

    _BUSY: ClassVar[type[Exception]] = RuntimeError
    _YIELDS: ClassVar[bool] = False  # whether other tasks run before it returns an event that has already arrived
    _FAILURES: ClassVar[tuple[type[Exception], ...]]  # the exceptions of a step
    _END: ClassVar[bytes | None]  # what a read returns at the end

    _transport: AsyncTransportBase[Any]
    # The parts that differ between libraries:
    _begin: Callable[[], None]  # sets the next two for the running event loop
    _now: Callable[[], float]
    _within: Callable[[float], Any]  # a `trio.CancelScope`, or the like, with this deadline; each step moves it
    _read: Callable[[], Awaitable[bytes | bytearray | None]]
    _take: Callable[[Any], Awaitable[None]]  # performs any other step
    _report: Callable[[Any, Any], None]  # reports that a step was done, or its failure
    _finish: Callable[[], Awaitable[None]]  # called when the reply is over; lets other tasks run
    _disconnect: Callable[[], Awaitable[bool]]  # works even if cancelled; returns whether it let other tasks run

    _scope: Any = None  # of the current or last steps
    _reading = False
    _left: Any = None  # an event for a task that closes the reply: set when the reader has left

    def __aiter__(self) -> Self:
        """Return itself."""
        return self

    if not TYPE_CHECKING:  # as above

        def __iter__(self) -> NoReturn:
            raise TypeError(f"{type(self).__name__}: use `async for` instead of `for`, or `await reply.text()`")

    async def __anext__(self) -> Event:
        """Return the next event. After `aclose()`: the events already read, then `Broken`.

        If cancelled, it closes the connection first; the question may have been asked.
        The next calls return events that had arrived. Raises `RuntimeError` (on trio
        `trio.BusyResourceError`) while another task is in this method, and
        `RuntimeError` in another event loop than the first.
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
                await self._transport._checkpoint()  # before the event is taken, since a cancellation would lose it
                event = call.next_event()
            if self._files:
                await self._attach()
            while event is None:
                step, until = call.next_step(self._now())
                if isinstance(step, Done):
                    await self._finish()
                    event = call.next_event()
                    break
                with self._within(until) as scope:  # on trio a scope costs as much as parsing a piece
                    self._scope = scope
                    while not isinstance(step, Done):
                        data: bytes | bytearray | None = None
                        failure: Exception | None = None
                        try:
                            if isinstance(step, Receive):
                                data = await self._read()
                            else:
                                await self._take(step)
                        except self._FAILURES as error:
                            failure = error
                        if failure is not None or not isinstance(step, Receive):
                            self._report(step, failure)
                        elif data == self._END:
                            call.receive_eof()
                        else:
                            call.receive_data(data or b"")
                        if (event := call.next_event()) is not None or scope.cancel_called:
                            break  # a scope whose time ran out as the step ended would end the next one
                        step, scope.deadline = call.next_step(self._now())
                if scope.cancelled_caught:
                    call.timed_out()
                    event = call.next_event()
        except BaseException:  # a request may have been sent in part
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

    async def _attach(self) -> None:
        """Read the files of the question in a thread."""
        files, self._files = self._files, ()
        most = self._transport._channel.limits.upload_bytes
        with self._within(math.inf) as self._scope:
            self._call.attach(await self._transport._in_thread(read_files, files, most))

    async def aclose(self) -> None:
        """Close the connection at once if the answer is not over. Idempotent, from any task, even if cancelled.

        A task that waits for an event gets `Broken`: LOST, or TRUNCATED once the answer
        has begun.
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
    """A reply over our own connections: objects with `receive_some` and `send_all`, as in trio."""

    _FAILURES: ClassVar[tuple[type[Exception], ...]] = (OSError, ValueError)
    """`ValueError`: an impossible name for DNS or a certificate."""
    _END = b""
    _connect: Callable[[str, int], Awaitable[Any]]
    _wrap: Callable[..., Any]  # starts TLS
    _stream: Any = None

    async def _take(self, step: Connect | StartTLS | Send | Wait) -> None:
        match step:
            case Connect(host, port):
                await self._disconnect()
                try:
                    self._stream = stream = await self._connect(host, port)
                except RuntimeError as error:  # the system has no more threads, which look up names
                    raise OSError(str(error)) from None
                self._read = stream.receive_some
            case StartTLS(server_name):
                self._stream = stream = self._wrap(self._stream, self._transport._tls, server_hostname=server_name)
                await stream.do_handshake()  # another task may close the reply meanwhile
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
