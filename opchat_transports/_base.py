"""What all transports share: a channel, and its open replies."""

import os
import ssl
from collections.abc import Callable, Iterable, Sequence
from contextlib import AsyncExitStack, ExitStack
from threading import RLock
from typing import Any, ClassVar, Generic, TypeVar, Unpack
from weakref import WeakSet

from opchat_proto import (
    Broken,
    Call,
    Conversation,
    End,
    Endpoint,
    HTTPCall,
    Proxy,
    QuestionLike,
    QuestionOptions,
    Session,
    Signal,
    Upload,
)

from ._common import Options, load_trust_store, make_channel, make_ssl_context, new_chat_id
from ._uploads import FileLike, read_files

__all__ = ["ReplyBase", "TransportBase"]

_C = TypeVar("_C", Call, HTTPCall)
_R = TypeVar("_R", bound="ReplyBase[Any]")


class TransportBase(Generic[_R]):
    """Asks one site. All questions share one session: the first starts it while the others wait."""

    _signal: ClassVar[Callable[[], Signal]]
    _reply: Callable[[Any], _R]  # makes the reply of a call

    def __init__(
        self, endpoint: Endpoint | str, *, ssl_context: ssl.SSLContext | None = None, **options: Unpack[Options]
    ) -> None:
        """Check the options, without connecting. No event loop needs to run yet.

        `endpoint` is an `Endpoint` or a text for `Endpoint.parse`. `ssl_context`
        replaces the system's trust store, for the site and an https proxy. Its option
        `OP_IGNORE_UNEXPECTED_EOF`, which early versions of CPython 3.11 set, is switched
        off, since a truncation would look like an end. The other options are in `Options`.

        Raises `ValueError` for an unusable address, session, header field or proxy,
        `TypeError` for wrong types, `OSError` for a file that OpenSSL is configured to
        use and cannot read or write.
        """
        self._channel = make_channel(endpoint, options, signal=type(self)._signal)
        self._new_call: Callable[..., Any] = self._channel.call
        self._new_visit: Callable[..., Any] = self._channel.visit
        self._ssl_context = make_ssl_context(self._channel, ssl_context)
        self._guard = RLock()  # protects the next two; a signal handler may close the transport at any time
        self._replies: WeakSet[_R] = WeakSet()
        self._closed = False

    def __repr__(self) -> str:
        """The site."""
        return f"<{type(self).__name__} to {self._channel.endpoint.origin}>"

    @property
    def session(self) -> Session | None:
        """The current session, for the next transport; None until a question has started one."""
        return self._channel.session

    @property
    def proxy(self) -> Proxy | None:
        """The proxy, or None."""
        return self._channel.proxy

    def ask(
        self,
        question: QuestionLike,
        conversation: Conversation | None = None,
        *,
        files: Iterable[FileLike] = (),
        **options: Unpack[QuestionOptions],
    ) -> _R:
        """Return the reply to a question: a text, a list of messages or a `Submit`. Reading the reply sends it.

        With a `conversation`, the question is asked with the messages so far, and a
        complete answer is added. `options` are fields of `Submit`:
        `ask("Hi", bot_id="sales")`. A question without a chat id gets a random one, which
        its conversation keeps.

        `files` are paths, pairs of a name and bytes, or `Upload`s. They are uploaded
        first, in the same session, and the question names their ids. If the site refuses a
        file, the reply ends with that `Broken`, and nothing is asked; `retries` may repeat
        an upload. Paths are read now; in async code, in a thread when the reply is read.
        Sites read several files since 3.1.2, older ones only one or none: see
        `Bot.max_files`.

        Raises `InvalidMessages` or another `ValueError` for a question that cannot be sent,
        `TypeError` for other types, `OSError` for a file that cannot be read, `RuntimeError`
        if the transport is closed or the conversation is being asked another question.
        """
        later: Sequence[FileLike] = ()
        if files:
            if isinstance(files, str | bytes | os.PathLike | Upload):
                raise TypeError("files: expected several, got one")
            now, later = self._split(list(files), self._channel.limits.upload_bytes)
            options["files"] = now  # type: ignore[typeddict-unknown-key]  # for the core
        call = self._new_call(question, conversation, chat_id=new_chat_id(), **options)
        if later and not hasattr(call, "submit"):  # the call itself can check only files that were read
            raise TypeError(f"files: expected a question that they belong to, got {type(question).__name__}")
        reply = self._open(call)
        reply._files = later
        return reply

    @staticmethod
    def _split(files: list[FileLike], most: int) -> tuple[list[Upload], Sequence[FileLike]]:
        """The files as uploads; or if they are to be read later, unchanged."""
        return read_files(files, most), ()

    def _open(self, call: Any) -> _R:
        reply = self._reply(call)
        with self._guard:
            self._replies.add(reply)
            is_closed = self._closed
        if is_closed:
            call.close()  # frees its conversation
            raise RuntimeError("the transport is closed")
        return reply

    @property
    def _tls(self) -> ssl.SSLContext:
        """The context for TLS, made now if a visit is redirected from http to https."""
        if self._ssl_context is None:
            self._ssl_context = load_trust_store()
        return self._ssl_context

    def _close_all(self, stack: ExitStack | AsyncExitStack, push: Callable[[Callable[[], Any]], object]) -> None:
        """Push the closing of all replies onto a stack, so that all of them close even if an observer raises.

        The calls are pushed last, so they close first: otherwise another call would start the
        session when the first connection is closed.
        """
        with self._guard:
            self._closed = True
            replies = list(self._replies)
        for reply in replies:
            push(reply._close)
        for reply in replies:
            stack.callback(reply._close_call)

    def _forget(self, reply: _R) -> None:
        with self._guard:
            self._replies.discard(reply)
        reply._files = ()


class ReplyBase(Generic[_C]):
    """The answer to one question: `Live` events, then one `End` or `Broken`. Faults are `Broken`, not exceptions."""

    _close: Callable[[], Any]
    _files: Sequence[FileLike] = ()  # to be read and uploaded before the question

    def __init__(self, transport: Any, call: _C) -> None:
        """Made by the transport's `ask`."""
        self._transport = transport
        self._call: _C = call

    def __repr__(self) -> str:
        """The call."""
        return f"<{type(self).__name__} of {self._call!r}>"

    def _close_call(self) -> None:
        self._call.close()

    @property
    def retries(self) -> int:
        """How often the question was repeated."""
        return self._call.retries

    @property
    def end(self) -> End | None:
        """The terminal event of a complete answer; None before the end, and if the reply is broken."""
        return outcome if isinstance(outcome := self._call.outcome, End) else None

    @property
    def broken(self) -> Broken | None:
        """The terminal event of a broken reply; None before the end, and if the answer is complete."""
        return outcome if isinstance(outcome := self._call.outcome, Broken) else None
