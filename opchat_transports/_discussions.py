"""A member's discussions, on all transports."""

from typing import Any

from opchat_proto import (
    DeleteDiscussions,
    DiscussionPage,
    ListDiscussions,
    RenameDiscussion,
    Scalar,
)

from ._broken import arun, run

__all__ = ["AsyncDiscussions", "Discussions"]


class Discussions:
    """The discussions of a transport."""

    def discussions(
        self, bot_id: Scalar | None = "default", *, custom_id: Scalar | None = None, offset: int = 0, limit: int = 10
    ) -> DiscussionPage:
        """Return the member's conversations with this bot that the site keeps (WIRE 7.7).

            for discussion in transport.discussions():
                conversation = discussion.conversation(transport.session)

        The most recently changed one comes first. `offset` and `limit` choose a page, and
        `total` is the number of all. The transport needs a signed-in member's session. It
        costs no question, so `retries` may repeat it.

        Raises `ReplyBroken` if there is no list (a guest gets "You need to be connected."),
        `ValueError` for numbers out of range, `RuntimeError` if the transport is closed.
        """
        return _page(run(_reply(self, _list(bot_id, custom_id, offset, limit))))

    def rename_discussion(self, chat_id: str, title: str) -> None:
        """Give a discussion another title. The site confirms it even for an unknown discussion.

        Raises `ReplyBroken` if the site refuses, as for a guest; `ValueError` for values
        that cannot be sent, `RuntimeError` if the transport is closed.
        """
        run(_reply(self, RenameDiscussion(chat_id, title)))

    def delete_discussions(self, *chat_ids: str) -> None:
        """Delete discussions for good: all of these, or none if one belongs to another member.

        Raises the exceptions of `rename_discussion`, and `ValueError` without a chat id.
        """
        run(_reply(self, DeleteDiscussions(chat_ids)))


class AsyncDiscussions:
    """The same in async code."""

    async def discussions(
        self, bot_id: Scalar | None = "default", *, custom_id: Scalar | None = None, offset: int = 0, limit: int = 10
    ) -> DiscussionPage:
        """Like `BlockingTransport.discussions`. If cancelled, its connection is closed."""
        return _page(await arun(_reply(self, _list(bot_id, custom_id, offset, limit))))

    async def rename_discussion(self, chat_id: str, title: str) -> None:
        """Like `BlockingTransport.rename_discussion`. If cancelled, the site may have done it."""
        await arun(_reply(self, RenameDiscussion(chat_id, title)))

    async def delete_discussions(self, *chat_ids: str) -> None:
        """Like `BlockingTransport.delete_discussions`. If cancelled, the site may have done it."""
        await arun(_reply(self, DeleteDiscussions(chat_ids)))


def _list(bot_id: Scalar | None, custom_id: Scalar | None, offset: int, limit: int) -> ListDiscussions:
    return ListDiscussions(bot_id=bot_id, custom_id=custom_id, offset=offset, limit=limit)


def _reply(transport: Any, question: ListDiscussions | RenameDiscussion | DeleteDiscussions) -> Any:
    return transport._open(transport._new_call(question))


def _page(reply: Any) -> DiscussionPage:
    return DiscussionPage.from_end(reply.end)
