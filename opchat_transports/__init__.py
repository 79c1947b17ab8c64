"""Transports for `opchat_proto`: each drives the same machine with another I/O library.

    blocking_sockets   BlockingTransport: threads and sockets, also under gevent
    trio_streams       TrioTransport
    asyncio_streams    AsyncioTransport: asyncio's own streams, also under uvloop
    asyncio_httpx      HttpxTransport: a client of httpx or httpx2, on asyncio or trio
    provider           Opchatgpts, as the provider class of 2023 was called

    blocking_server    serve: a server that runs a bot in threads
    file_store         FileStore: the files that clients upload to a server
    asgi               application: a bot as an ASGI application
    uvicorn_protocol   BoundedProtocol: uvicorn's HTTP/1.1 with bounds
    bots               small_talk, a bot to try things out with
    page               the chat page that the servers show
    many               many questions side by side, at a pace
    testing            FaultServer: a scripted server for tests of your own client
    cli                the command `opchat`; __main__ starts it

    _base              what all transports are: a channel and its open replies
    _async             the loop of the async ones
    _uploads           files for a site's bots, on all transports
    _discussions       a member's discussions, on all of them
    _visits            pages of a site, on all of them
    _files             private files, and conversations in them
    _text              the text of an answer, without the events beside it
    _common            their options, TLS contexts, and the words for what a library raises
    _broken            a reply that is broken, as an exception and in words
    _extras            what to install where a package of an extra is missing
    _proxies           the proxy that the environment names
    _sockets           blocking sockets with deadlines
    _asyncio           scopes with one timer and connections, on asyncio
    _tls               TLS over any connection
    _httpx             what is particular about httpx and httpcore
    _logging           the logger "opchat"
    _serving           what the servers share: bots that fail, several bots, bounds and logs
    _bot_events        what a bot gives, as events
    _bot_kinds         bots that are async or not, on servers that are async or not

All have one shape, the protocols below, and give the same events for the same
bytes. All questions of a transport share one session: the first starts it, and the
others wait for that. Importing this package imports no I/O library.

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
    """The answer to one question: an iterator of events that is asked for only as fast as you read.

    It gives any number of `Live`, then one `End` or `Broken`, then stops. The
    question is sent with the first `next`.
    """

    def __iter__(self) -> Iterator[Event]:
        """The reply itself."""

    def __next__(self) -> Event:
        """The next event; what goes wrong on the way is the event `Broken`."""

    @property
    def retries(self) -> int:
        """How often the question was asked again: never, unless the transport was made with `retries`."""

    @property
    def end(self) -> End | None:
        """The last event of an answer that was read to its end; None before, and if it is broken."""

    @property
    def broken(self) -> Broken | None:
        """The last event of a reply that was read to its end and is broken, else None."""

    def pieces(self) -> Iterator[str]:
        """The text of the answer in pieces, as they come. Raises `ReplyBroken` where the reply is broken."""

    def text(self) -> str:
        """The whole text of the answer. Raises `ReplyBroken` if the reply is broken."""

    def close(self) -> None:
        """Close the connection at once if it is still open. Idempotent; leaving the `with` block does it too."""

    def __enter__(self) -> Self:
        """The reply itself."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None, /
    ) -> None:
        """`close()`."""


class Transport(Protocol):
    """Where questions are asked. They share one session; each has its own connection."""

    @property
    def session(self) -> Session | None:
        """The session as it stands, None until the first question has started one."""

    def ask(
        self,
        question: QuestionLike,
        conversation: Conversation | None = None,
        *,
        files: Iterable[FileLike] = (),
        **options: Unpack[QuestionOptions],
    ) -> Reply:
        """Ask a question, after what the conversation remembers, with files that are uploaded first.

        Raises `ValueError` for what cannot be sent, `OSError` for a file that cannot be read.
        """

    def upload(self, file: FileLike | bytes, *, name: str | None = None) -> str:
        """Send a file, and return its id, for `ask(..., file_ids=[...])`. Raises `ReplyBroken`, `OSError`."""

    def discussions(
        self, bot_id: Scalar | None = "default", *, custom_id: Scalar | None = None, offset: int = 0, limit: int = 10
    ) -> DiscussionPage:
        """What the site keeps of a member's conversations with a bot. Raises `ReplyBroken`, also for a guest."""

    def rename_discussion(self, chat_id: str, title: str) -> None:
        """Give a discussion another title. Raises `ReplyBroken`."""

    def delete_discussions(self, *chat_ids: str) -> None:
        """Delete discussions, for good. Raises `ReplyBroken`."""

    def visit(self, url: str, *, fresh: bool = False) -> Page:
        """Visit the page at this URL, and return it with its bots; `fresh` avoids caches. Raises `ReplyBroken` if that fails."""

    def download(self, url: str) -> bytes:
        """Download the file at this URL, such as an image in an answer. Raises `ReplyBroken` if that fails."""

    def close(self) -> None:
        """Close all replies. Idempotent; leaving the `with` block does it too."""

    def __enter__(self) -> Self:
        """The transport itself."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None, /
    ) -> None:
        """`close()`."""


class AsyncReply(Protocol):
    """As `Reply`, in async code. A cancelled call leaves the reply to be closed, with nothing running behind it."""

    def __aiter__(self) -> AsyncIterator[Event]:
        """The reply itself."""

    async def __anext__(self) -> Event:
        """The next event; what goes wrong on the way is the event `Broken`.

        Cancelled, it leaves a reply whose connection is closed; the next call gives
        what had been read before, and then `Broken`.
        """

    @property
    def retries(self) -> int:
        """How often the question was asked again: never, unless the transport was made with `retries`."""

    @property
    def end(self) -> End | None:
        """The last event of an answer that was read to its end; None before, and if it is broken."""

    @property
    def broken(self) -> Broken | None:
        """The last event of a reply that was read to its end and is broken, else None."""

    def pieces(self) -> AsyncIterator[str]:
        """The text of the answer in pieces, as they come. Raises `ReplyBroken` where the reply is broken."""

    async def text(self) -> str:
        """The whole text of the answer. Raises `ReplyBroken` if the reply is broken. Cancelled, it closes the reply."""

    async def aclose(self) -> None:
        """Close the connection at once if it is still open, also when cancelled. Idempotent."""

    async def __aenter__(self) -> Self:
        """The reply itself. It does not wait, so it cannot be cancelled."""

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None, /
    ) -> None:
        """`aclose()`: the connection is closed, also when cancelled."""


class AsyncTransport(Protocol):
    """As `Transport`, in async code."""

    @property
    def session(self) -> Session | None:
        """The session as it stands, None until the first question has started one."""

    def ask(
        self,
        question: QuestionLike,
        conversation: Conversation | None = None,
        *,
        files: Iterable[FileLike] = (),
        **options: Unpack[QuestionOptions],
    ) -> AsyncReply:
        """Ask a question, after what the conversation remembers, with files that are uploaded first.

        Raises `ValueError` for what cannot be sent, `OSError` for a file that cannot be read.
        """

    async def upload(self, file: FileLike | bytes, *, name: str | None = None) -> str:
        """Send a file, and return its id, for `ask(..., file_ids=[...])`. Raises `ReplyBroken`, `OSError`.

        Cancelled, it leaves no connection open; the site may have taken the file.
        """

    async def discussions(
        self, bot_id: Scalar | None = "default", *, custom_id: Scalar | None = None, offset: int = 0, limit: int = 10
    ) -> DiscussionPage:
        """What the site keeps of a member's conversations with a bot. Raises `ReplyBroken`, also for a guest.

        Cancelled, it leaves no connection open.
        """

    async def rename_discussion(self, chat_id: str, title: str) -> None:
        """Give a discussion another title. Raises `ReplyBroken`. Cancelled, it may have been done."""

    async def delete_discussions(self, *chat_ids: str) -> None:
        """Delete discussions, for good. Raises `ReplyBroken`. Cancelled, it may have been done."""

    async def visit(self, url: str, *, fresh: bool = False) -> Page:
        """Visit the page at this URL, and return it with its bots; `fresh` avoids caches. Raises `ReplyBroken` if that fails.

        Cancelled, it leaves no connection open.
        """

    async def download(self, url: str) -> bytes:
        """Download the file at this URL, such as an image in an answer. Raises `ReplyBroken` if that fails.

        Cancelled, it leaves no connection open.
        """

    async def aclose(self) -> None:
        """Close all replies, also when cancelled. Idempotent."""

    async def __aenter__(self) -> Self:
        """The transport itself. It does not wait, so it cannot be cancelled."""

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None, /
    ) -> None:
        """`aclose()`: all is closed, also when cancelled."""


for _name in __all__:  # as in opchat_proto
    if isinstance(_public := globals()[_name], type) and _public.__module__.startswith(f"{__name__}."):
        _public.__module__ = __name__
