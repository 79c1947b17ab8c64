"""Pages of a site, on all transports."""

from typing import Any

from opchat_proto import Page

from ._broken import arun, run
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
        return _page(run(_reply(self, url, fresh)))

    def download(self, url: str) -> bytes:
        """Download the file at `url`, such as an image in an answer; at most `Limits.upload_bytes`.

        It works like `visit`. Raises `ReplyBroken` if that fails, `ValueError` for anything
        but an address, `RuntimeError` if the transport is closed.
        """
        return _content(run(_reply(self, url, False, file=True)))


class AsyncVisits:
    """The same in async code."""

    async def visit(self, url: str, *, fresh: bool = False) -> Page:
        """Like `BlockingTransport.visit`: visit the page at `url`, and return it with its bots.

        Raises `ReplyBroken` if the visit fails, `ValueError` for anything but a page's
        address, `RuntimeError` if the transport is closed. If cancelled, its connection is
        closed.
        """
        return _page(await arun(_reply(self, url, fresh)))

    async def download(self, url: str) -> bytes:
        """Like `BlockingTransport.download`: download the file at `url`, at most `Limits.upload_bytes`.

        Raises `ReplyBroken` if that fails, `ValueError` for anything but an address,
        `RuntimeError` if the transport is closed. If cancelled, its connection is closed.
        """
        return _content(await arun(_reply(self, url, False, file=True)))


def _reply(transport: Any, url: str, fresh: bool, *, file: bool = False) -> Any:
    return transport._open(transport._new_visit(url, fresh=new_chat_id() if fresh else None, file=file))


def _content(reply: Any) -> bytes:
    content: bytes = reply._call.content
    return content


def _page(reply: Any) -> Page:
    page: Page = reply._call.page
    return page
