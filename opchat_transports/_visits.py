"""Pages of a site, on all transports."""

from typing import Any

from opchat_proto import Broken, Page

from ._broken import ReplyBroken
from ._common import new_chat_id

__all__ = ["AsyncVisits", "Visits"]


class Visits:
    """The visits of a transport."""

    def visit(self, url: str, *, fresh: bool = False) -> Page:
        """Visit the page at `url`, on this site or another, and return it with its bots.

        On this site, the session's cookies and the header fields are sent. Redirects are
        followed, see `opchat_proto.Visit`. `fresh` avoids caches. To ask a bot of the page,
        make a transport to `bot.endpoint` with `session=bot.session`, and ask
        `bot.submit("Hi")`.

        Raises `ReplyBroken` if the visit fails, `ValueError` for anything but a page's
        address, `RuntimeError` if the transport is closed.
        """
        with _reply(self, url, fresh) as reply:
            for _ in reply:
                pass
        return _page(reply)

    def download(self, url: str) -> bytes:
        """Download the file at `url`, such as an image in an answer; at most `Limits.upload_bytes`.

        It works like `visit`. Raises `ReplyBroken` if that fails, `ValueError` for anything
        but an address, `RuntimeError` if the transport is closed.
        """
        with _reply(self, url, False, file=True) as reply:
            for _ in reply:
                pass
        return _content(reply)


class AsyncVisits:
    """The same in async code."""

    async def visit(self, url: str, *, fresh: bool = False) -> Page:
        """As `BlockingTransport.visit`: visit the page at `url`, and return it with its bots.

        Raises `ReplyBroken` if the visit fails, `ValueError` for anything but a page's
        address, `RuntimeError` if the transport is closed. If cancelled, its connection is
        closed.
        """
        async with _reply(self, url, fresh) as reply:
            async for _ in reply:
                pass
        return _page(reply)

    async def download(self, url: str) -> bytes:
        """As `BlockingTransport.download`: download the file at `url`, at most `Limits.upload_bytes`.

        Raises `ReplyBroken` if that fails, `ValueError` for anything but an address,
        `RuntimeError` if the transport is closed. If cancelled, its connection is closed.
        """
        async with _reply(self, url, False, file=True) as reply:
            async for _ in reply:
                pass
        return _content(reply)


def _reply(transport: Any, url: str, fresh: bool, *, file: bool = False) -> Any:
    return transport._open(transport._new_visit(url, fresh=new_chat_id() if fresh else None, file=file))


def _content(reply: Any) -> bytes:
    content: bytes | None = reply._call.content
    if content is None:
        assert isinstance(reply.broken, Broken)
        raise ReplyBroken(reply.broken)
    return content


def _page(reply: Any) -> Page:
    page: Page | None = reply._call.page
    if page is None:
        assert isinstance(reply.broken, Broken)
        raise ReplyBroken(reply.broken)
    return page
