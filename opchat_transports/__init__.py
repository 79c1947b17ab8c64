"""Transports for `opchat_proto`: each drives the same machine with another I/O library.

    blocking_sockets   BlockingTransport: threads and sockets, also under gevent
    trio_streams       TrioTransport
    asyncio_streams    AsyncioTransport: asyncio's own connections, also under uvloop
    asyncio_httpx      HttpxTransport: a client of httpx or httpx2, on asyncio or trio
    provider           Opchatgpts: the interface of the provider class of 2023

    blocking_server    serve: a server that runs a bot in threads
    file_store         FileStore: the files that clients upload to a server
    asgi               application: a bot as an ASGI application
    uvicorn_protocol   BoundedProtocol: uvicorn's HTTP/1.1 with bounds
    bots               small_talk: a bot for trying things out
    page               the chat page of the servers
    many               many questions side by side, at a pace
    testing            FaultServer: a scripted server for tests of your own client
    cli                the command `opchat`; __main__ starts it

    _base              what all transports share: a channel and its open replies
    _async             the driver loop of the async transports
    _uploads           files for a site's bots, on all transports
    _discussions       a member's discussions, on all of them
    _visits            pages of a site, on all of them
    _files             private files, and conversations in them
    _text              the text of an answer, without its other events
    _common            the options of transports, TLS contexts, and messages for exceptions of libraries
    _broken            a broken reply as an exception, and as a line for people
    _extras            names the extra to install if a package is missing
    _proxies           the proxy in the environment variables
    _sockets           blocking sockets with deadlines
    _asyncio           scopes with one timer, and connections, on asyncio
    _tls               TLS over any connection
    _httpx             the particulars of httpx and httpcore
    _logging           the logger "opchat"
    _serving           what the servers share: failing bots, several bots, bounds and logs
    _lobby             connections of the blocking server that have sent nothing yet
    _bot_events        turns the items of a bot into events
    _bot_kinds         runs async and blocking bots on async and threaded servers

All have the same interface, the protocols below, and give the same events for the
same bytes. The questions of a transport share one session: the first starts it while
the others wait. Importing this package imports no I/O library.

    with BlockingTransport("https://site.example") as transport, transport.ask("Hi") as reply:
        for event in reply:
            ...

    async with TrioTransport("https://site.example") as transport, transport.ask("Hi") as reply:
        async for event in reply:
            ...
"""

from collections.abc import AsyncIterator, Iterable, Iterator
from types import TracebackType
from typing import Protocol, Self, Unpack

from opchat_proto import (
    Broken,
    Conversation,
    DiscussionPage,
    End,
    Event,
    Page,
    QuestionLike,
    QuestionOptions,
    Scalar,
    Session,
    Timeouts,
)

from ._broken import ReplyBroken
from ._common import Options
from ._files import load, save
from ._text import acollect, collect
from ._uploads import FileLike

__all__ = [
    "AsyncReply",
    "AsyncTransport",
    "FileLike",
    "Options",
    "QuestionLike",
    "QuestionOptions",
    "Reply",
    "ReplyBroken",
    "Timeouts",
    "Transport",
    "acollect",
    "collect",
    "load",
    "save",
]


class Reply(Protocol):
    """The answer to one question: an iterator of events, which reads from the network only as fast as you iterate.

    It yields any number of `Live`, then one `End` or `Broken`, then stops. The
    question is sent with the first `next`.
    """

    def __iter__(self) -> Iterator[Event]:
        """Return itself."""

    def __next__(self) -> Event:
        """Return the next event. Faults of the network and the server are `Broken`, not exceptions."""

    @property
    def retries(self) -> int:
        """How often the question was repeated; always 0 unless the transport has `retries`."""

    @property
    def end(self) -> End | None:
        """The terminal event of a complete answer; None before the end, and if the reply is broken."""

    @property
    def broken(self) -> Broken | None:
        """The terminal event of a broken reply; None before the end, and if the answer is complete."""

    def pieces(self) -> Iterator[str]:
        """Iterate over the text of the answer as it comes. Raises `ReplyBroken` at the end of a broken reply."""

    def text(self) -> str:
        """Return the whole text of the answer. Raises `ReplyBroken` if the reply is broken."""

    def close(self) -> None:
        """Close the connection at once if it is still open. Idempotent; leaving the `with` block does it too."""

    def __enter__(self) -> Self:
        """Return itself."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None, /
    ) -> None:
        """Same as `close()`."""


class Transport(Protocol):
    """Asks questions of one site. They share one session; each request has its own connection."""

    @property
    def session(self) -> Session | None:
        """The current session; None until the first question has started one."""

    def ask(
        self,
        question: QuestionLike,
        conversation: Conversation | None = None,
        *,
        files: Iterable[FileLike] = (),
        **options: Unpack[QuestionOptions],
    ) -> Reply:
        """Ask a question, in a conversation if one is given, with files that are uploaded first.

        Raises `ValueError` for a question that cannot be sent, `OSError` for a file that
        cannot be read.
        """

    def upload(self, file: FileLike | bytes, *, name: str | None = None) -> str:
        """Send a file, and return its id, for `ask(..., file_ids=[...])`. Raises `ReplyBroken`, `OSError`."""

    def discussions(
        self, bot_id: Scalar | None = "default", *, custom_id: Scalar | None = None, offset: int = 0, limit: int = 10
    ) -> DiscussionPage:
        """List a member's conversations with a bot, as the site keeps them. Raises `ReplyBroken`, also for a guest."""

    def rename_discussion(self, chat_id: str, title: str) -> None:
        """Give a discussion another title. Raises `ReplyBroken`."""

    def delete_discussions(self, *chat_ids: str) -> None:
        """Delete discussions for good. Raises `ReplyBroken`."""

    def visit(self, url: str, *, fresh: bool = False) -> Page:
        """Visit the page at this URL and return it with its bots; `fresh` avoids caches. Raises `ReplyBroken`."""

    def download(self, url: str) -> bytes:
        """Download the file at this URL, such as an image in an answer. Raises `ReplyBroken`."""

    def close(self) -> None:
        """Close all replies. Idempotent; leaving the `with` block does it too."""

    def __enter__(self) -> Self:
        """Return itself."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None, /
    ) -> None:
        """Same as `close()`."""


class AsyncReply(Protocol):
    """Like `Reply`, in async code. After a cancelled call nothing runs in the background; close the reply."""

    def __aiter__(self) -> AsyncIterator[Event]:
        """Return itself."""

    async def __anext__(self) -> Event:
        """Return the next event. Faults of the network and the server are `Broken`, not exceptions.

        If cancelled, the connection is closed; the next calls return the events that had
        been read, and then `Broken`.
        """

    @property
    def retries(self) -> int:
        """How often the question was repeated; always 0 unless the transport has `retries`."""

    @property
    def end(self) -> End | None:
        """The terminal event of a complete answer; None before the end, and if the reply is broken."""

    @property
    def broken(self) -> Broken | None:
        """The terminal event of a broken reply; None before the end, and if the answer is complete."""

    def pieces(self) -> AsyncIterator[str]:
        """Iterate over the text of the answer as it comes. Raises `ReplyBroken` at the end of a broken reply."""

    async def text(self) -> str:
        """Return the whole text of the answer. Raises `ReplyBroken`. If cancelled, the reply is closed."""

    async def aclose(self) -> None:
        """Close the connection at once if it is still open, even if cancelled. Idempotent."""

    async def __aenter__(self) -> Self:
        """Return itself, without a checkpoint, so it cannot be cancelled."""

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None, /
    ) -> None:
        """Same as `aclose()`: closes the connection, even if cancelled."""


class AsyncTransport(Protocol):
    """Like `Transport`, in async code."""

    @property
    def session(self) -> Session | None:
        """The current session; None until the first question has started one."""

    def ask(
        self,
        question: QuestionLike,
        conversation: Conversation | None = None,
        *,
        files: Iterable[FileLike] = (),
        **options: Unpack[QuestionOptions],
    ) -> AsyncReply:
        """Ask a question, in a conversation if one is given, with files that are uploaded first.

        Raises `ValueError` for a question that cannot be sent. If a file is a path, reading
        the reply raises `OSError` for one that cannot be read, `ValueError` for one that is
        too large, and `TypeError` for a question that takes no files.
        """

    async def upload(self, file: FileLike | bytes, *, name: str | None = None) -> str:
        """Send a file, and return its id, for `ask(..., file_ids=[...])`. Raises `ReplyBroken`, `OSError`.

        If cancelled, its connection is closed; the site may have received the file.
        """

    async def discussions(
        self, bot_id: Scalar | None = "default", *, custom_id: Scalar | None = None, offset: int = 0, limit: int = 10
    ) -> DiscussionPage:
        """List a member's conversations with a bot, as the site keeps them. Raises `ReplyBroken`, also for a guest.

        If cancelled, its connection is closed.
        """

    async def rename_discussion(self, chat_id: str, title: str) -> None:
        """Give a discussion another title. Raises `ReplyBroken`. If cancelled, the site may have done it."""

    async def delete_discussions(self, *chat_ids: str) -> None:
        """Delete discussions for good. Raises `ReplyBroken`. If cancelled, the site may have done it."""

    async def visit(self, url: str, *, fresh: bool = False) -> Page:
        """Visit the page at this URL and return it with its bots; `fresh` avoids caches. Raises `ReplyBroken`.

        If cancelled, its connection is closed.
        """

    async def download(self, url: str) -> bytes:
        """Download the file at this URL, such as an image in an answer. Raises `ReplyBroken`.

        If cancelled, its connection is closed.
        """

    async def aclose(self) -> None:
        """Close all replies, even if cancelled. Idempotent."""

    async def __aenter__(self) -> Self:
        """Return itself, without a checkpoint, so it cannot be cancelled."""

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None, /
    ) -> None:
        """Same as `aclose()`: closes all replies, even if cancelled."""


for _name in __all__:  # as in opchat_proto
    if isinstance(_public := globals()[_name], type) and _public.__module__.startswith(f"{__name__}."):
        _public.__module__ = __name__
