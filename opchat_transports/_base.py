"""What all transports are, whatever does their I/O: a channel, and the replies that are open on it."""

import ssl
from collections.abc import Callable
from threading import Lock
from types import TracebackType
from typing import Any, Generic, Self, TypeVar, Unpack
from weakref import WeakSet

from opchat_proto import (
    Broken,
    Call,
    Conversation,
    End,
    Endpoint,
    HTTPCall,
    Page,
    Proxy,
    QuestionLike,
    QuestionOptions,
    Session,
    Signal,
)

from ._common import Options, ReplyBroken, load_trust_store, make_channel, make_ssl_context, new_chat_id

__all__ = ["AsyncContext", "AsyncTransportBase", "ReplyBase", "TransportBase"]

_C = TypeVar("_C", Call, HTTPCall)
_R = TypeVar("_R", bound="ReplyBase[Any]")


class TransportBase(Generic[_R]):
    """Asks one site. All questions share one session: the first starts it, and the others wait for that."""

    def __init__(
        self,
        endpoint: Endpoint | str,
        ssl_context: ssl.SSLContext | None,
        options: Options,
        *,
        signal: Callable[[], Signal],
    ) -> None:
        """Nothing is connected yet; no event loop need run yet."""
        self._channel = make_channel(endpoint, options, signal=signal)
        self._ssl_context = make_ssl_context(self._channel, ssl_context)
        self._guard = Lock()  # of the next two
        self._replies: WeakSet[_R] = WeakSet()
        self._closed = False
        self._loop: object = None  # that it belongs to, from the first read on

    def __repr__(self) -> str:
        """Where it asks."""
        return f"<{type(self).__name__} to {self._channel.endpoint.origin}>"

    @property
    def session(self) -> Session | None:
        """The session as it stands, for the next transport; None until a question has started one."""
        return self._channel.session

    @property
    def proxy(self) -> Proxy | None:
        """The proxy that it goes through, if there is one."""
        return self._channel.proxy

    def ask(
        self,
        question: QuestionLike,
        conversation: Conversation | None = None,
        **options: Unpack[QuestionOptions],
    ) -> _R:
        """The reply to a question: a text, a list of messages or a `Submit`. It is sent when the reply is first read.

        A `conversation` remembers: the question is asked after what was said before,
        and a complete answer is added to it. `options` save a `Submit` from being
        written: `ask("Hi", bot_id="sales")`. A question without a chat id gets a random
        one, which its conversation keeps.

        Raises `InvalidMessages` or another `ValueError` for what cannot be sent,
        `TypeError` for other types, `RuntimeError` if the transport is closed or the
        conversation is being asked another question.
        """
        return self._open(self._reply(question, conversation, chat_id=new_chat_id(), **options))

    def _reply(self, *question: Any, **options: Any) -> _R:
        """The reply to a new call with these arguments."""
        raise NotImplementedError

    def _visit(self, url: str, fresh: str | None) -> _R:
        """The reply to a new visit, which is `End` or `Broken`."""
        raise NotImplementedError

    def _open(self, reply: _R) -> _R:
        with self._guard:
            if self._closed:
                raise RuntimeError("the transport is closed")
            self._replies.add(reply)
        return reply

    @property
    def _tls(self) -> ssl.SSLContext:
        """The context for TLS. A visit can be redirected from http to https, so there may be none yet."""
        if self._ssl_context is None:
            self._ssl_context = load_trust_store()
        return self._ssl_context

    def _close_calls(self) -> list[_R]:
        """Close the calls of all replies, before the connection of any: the next would start the session instead."""
        with self._guard:
            self._closed = True
            replies = list(self._replies)
        for reply in replies:
            reply._call.close()
        return replies

    def _forget(self, reply: _R) -> None:
        with self._guard:
            self._replies.discard(reply)

    def _enter(self, loop: object) -> None:
        """Somebody reads in this event loop. Raises `RuntimeError` unless it is always the same."""
        if self._loop not in (None, loop):
            raise RuntimeError("this transport belongs to another event loop, in which it was used first")
        self._loop = loop


class ReplyBase(Generic[_C]):
    """The answer to one question: `Live` events, then one `End` or `Broken`. What goes wrong is the event `Broken`."""

    __slots__ = ("__weakref__", "_call")

    def __init__(self, call: _C) -> None:
        """For the transport's `ask`."""
        self._call: _C = call

    def __repr__(self) -> str:
        """The call that it drives."""
        return f"<{type(self).__name__} of {self._call!r}>"

    @property
    def retries(self) -> int:
        """How often the question was asked again."""
        return self._call.retries

    @property
    def _page(self) -> Page:
        """The page, after a visit was read to its end. Raises `ReplyBroken` if there is none."""
        if self._call.page is None:
            assert isinstance(self._call.outcome, Broken)
            raise ReplyBroken(self._call.outcome)
        return self._call.page

    @property
    def end(self) -> End | None:
        """The last event of an answer that was read to its end; None before, and if it is broken."""
        return outcome if isinstance(outcome := self._call.outcome, End) else None

    @property
    def broken(self) -> Broken | None:
        """The last event of a reply that was read to its end and is broken, else None."""
        return outcome if isinstance(outcome := self._call.outcome, Broken) else None


class AsyncContext:
    """`async with` for what has `aclose`."""

    __slots__ = ()

    async def aclose(self) -> None:
        """Close. Cancelled, it closes all the same."""
        raise NotImplementedError

    async def __aenter__(self) -> Self:
        """The object itself. It does not wait, so it cannot be cancelled."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        """`aclose()`: all is closed, also when cancelled."""
        await self.aclose()


class AsyncTransportBase(AsyncContext, TransportBase[_R]):
    """What the asynchronous transports share beyond that."""

    async def visit(self, url: str, *, fresh: bool = False) -> Page:
        """The page at `url`, of this site or another, and the bots on it.

        The session's cookies and the header fields go along if it is on this site. A
        redirect is followed, see `opchat_proto.Visit`. `fresh` asks for a page that does
        not come out of a cache. For a bot: a transport to `bot.endpoint` with
        `session=bot.session`, asked with `bot.submit("Hi")`.

        Raises `ReplyBroken` if there is no page, `ValueError` for what is no address of
        one, `RuntimeError` if the transport is closed. Cancelled, it leaves no
        connection open.
        """
        reply: Any = self._open(self._visit(url, new_chat_id() if fresh else None))
        async with reply:
            async for _ in reply:
                pass
        page: Page = reply._page
        return page
