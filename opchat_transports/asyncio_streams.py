"""asyncio: `AsyncioTransport` drives calls on asyncio's own connections, under any of its loops (uvloop too)."""

import asyncio
import warnings
from collections.abc import Callable
from contextlib import suppress
from typing import final

from opchat_proto import Call

from ._async import AsyncTransportBase, StreamReply
from ._asyncio import AsyncioScope, connect, in_thread
from ._tls import TLSStream

__all__ = ["AsyncioReply", "AsyncioTransport"]


@final
class AsyncioTransport(AsyncTransportBase["AsyncioReply"]):
    """Asks one site, over asyncio's transports, from any number of tasks.

    Each request has its own connection, which is closed before the last event is
    returned. It has no background task, and connects only when a reply is read.

    It belongs to the event loop in which it first read a reply. asyncio resolves names
    in threads: the `connect` clock and `aclose()` end the wait for them, but
    `asyncio.run` ends only when the system has given up.
    """

    _signal = asyncio.Event
    _current_loop = staticmethod(asyncio.get_running_loop)
    _checkpoint = staticmethod(lambda: asyncio.sleep(0))  # lets asyncio close aborted connections
    _in_thread = staticmethod(in_thread)

    def _reply(self, call: Call) -> "AsyncioReply":
        return AsyncioReply(self, call)


@final
class AsyncioReply(StreamReply):
    """The answer to one question, made by `AsyncioTransport.ask`: `Live` events, then one `End` or `Broken`.

    Events that have already arrived are returned without letting other tasks run: at
    most about 200 KiB of them, since reading more waits for the loop.
    """

    _connect = staticmethod(connect)
    _wrap = TLSStream

    def _begin(self) -> None:
        loop = asyncio.get_running_loop()
        self._now, self._within = loop.time, AsyncioScope(loop).within

    async def _disconnect(self) -> bool:
        if self._scope is not None:
            self._scope.rest()
        stream, self._stream = self._stream, None
        if stream is not None:
            stream.abort()
        return False

    def __del__(self, warn: Callable[..., None] = warnings.warn) -> None:
        """Close a connection that nobody closed, with a `ResourceWarning`: the loop would keep it open."""
        if self._stream is not None:
            warn(f"unclosed {self!r}", ResourceWarning, source=self)
            with suppress(RuntimeError):  # the loop is closed
                self._stream.abort()
