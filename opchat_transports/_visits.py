"""Pages of a site, on all transports."""

from typing import Any

from opchat_proto import Broken, Page

from ._broken import ReplyBroken
from ._common import new_chat_id

__all__ = ["AsyncVisits", "Visits"]


class Visits:
    """Visits of a transport."""

    def visit(self, url: str, *, fresh: bool = False) -> Page:
        """The page at `url`, of this site or another, and the bots on it.

        The session's cookies and the header fields go along if it is on this site. A
        redirect is followed, see `opchat_proto.Visit`. `fresh` asks for a page that does
        not come out of a cache. For a bot: a transport to `bot.endpoint` with
        `session=bot.session`, asked with `bot.submit("Hi")`.

        Raises `ReplyBroken` if there is no page, `ValueError` for what is not an address of
        one, `RuntimeError` if the transport is closed.
        """
        with _reply(self, url, fresh) as reply:
            for _ in reply:
                pass
        return _page(reply)

    def download(self, url: str) -> bytes:
        """The file at `url`, such as an image of an answer: at most `Limits.upload_bytes`.

        It is fetched as `visit` fetches a page. Raises `ReplyBroken` if there is none,
        `ValueError` for what is not an address, `RuntimeError` if the transport is closed.
        """
        with _reply(self, url, False, file=True) as reply:
            for _ in reply:
                pass
        return _content(reply)


class AsyncVisits:
    """The same in async code."""

    async def visit(self, url: str, *, fresh: bool = False) -> Page:
        """As `BlockingTransport.visit`: the page at `url`, and the bots on it.

        Raises `ReplyBroken` if there is no page, `ValueError` for what is not an address of
        one, `RuntimeError` if the transport is closed. Cancelled, it leaves no
        connection open.
        """
        async with _reply(self, url, fresh) as reply:
            async for _ in reply:
                pass
        return _page(reply)

    async def download(self, url: str) -> bytes:
        """As `BlockingTransport.download`: the file at `url`, at most `Limits.upload_bytes`.

        Raises `ReplyBroken` if there is none, `ValueError` for what is not an address,
        `RuntimeError` if the transport is closed. Cancelled, it leaves no connection open.
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
