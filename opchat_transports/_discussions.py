"""A member's discussions, on all transports."""

from typing import Any

from opchat_proto import (
    Broken,
    DeleteDiscussions,
    DiscussionPage,
    End,
    ListDiscussions,
    RenameDiscussion,
    Scalar,
)

from ._broken import ReplyBroken

__all__ = ["AsyncDiscussions", "Discussions"]


class Discussions:
    """Discussions of a transport."""

    def discussions(
        self, bot_id: Scalar | None = "default", *, custom_id: Scalar | None = None, offset: int = 0, limit: int = 10
    ) -> DiscussionPage:
        """What the site keeps of the member's conversations with this bot (WIRE 7.7).

            for discussion in transport.discussions():
                conversation = discussion.conversation(transport.session)

        The one that was changed last comes first; `offset` and `limit` choose a page of
        them, and `total` is the number of all. The transport needs the session of a
        signed-in member. It costs no question, so `retries` may repeat it.

        Raises `ReplyBroken` where there is no list: a guest is told "You need to be
        connected."; `ValueError` for numbers out of range, `RuntimeError` if the
        transport is closed.
        """
        return DiscussionPage.from_end(_run(self, _list(bot_id, custom_id, offset, limit)))

    def rename_discussion(self, chat_id: str, title: str) -> None:
        """Give a discussion another title. The site says yes as well where there is no such discussion.

        Raises `ReplyBroken` if the site refuses, as it does to a guest; `ValueError` for
        what cannot be sent, `RuntimeError` if the transport is closed.
        """
        _run(self, RenameDiscussion(chat_id, title))

    def delete_discussions(self, *chat_ids: str) -> None:
        """Delete discussions, for good: all of them, or none if one is somebody else's.

        Raises as `rename_discussion`, and `ValueError` for no chat id.
        """
        _run(self, DeleteDiscussions(chat_ids))


class AsyncDiscussions:
    """The same in async code."""

    async def discussions(
        self, bot_id: Scalar | None = "default", *, custom_id: Scalar | None = None, offset: int = 0, limit: int = 10
    ) -> DiscussionPage:
        """As `BlockingTransport.discussions`. Cancelled, it leaves no connection open."""
        return DiscussionPage.from_end(await _arun(self, _list(bot_id, custom_id, offset, limit)))

    async def rename_discussion(self, chat_id: str, title: str) -> None:
        """As `BlockingTransport.rename_discussion`. Cancelled, it may have been done."""
        await _arun(self, RenameDiscussion(chat_id, title))

    async def delete_discussions(self, *chat_ids: str) -> None:
        """As `BlockingTransport.delete_discussions`. Cancelled, it may have been done."""
        await _arun(self, DeleteDiscussions(chat_ids))


def _list(bot_id: Scalar | None, custom_id: Scalar | None, offset: int, limit: int) -> ListDiscussions:
    return ListDiscussions(bot_id=bot_id, custom_id=custom_id, offset=offset, limit=limit)


def _run(transport: Any, question: ListDiscussions | RenameDiscussion | DeleteDiscussions) -> End:
    with transport._open(transport._new_call(question)) as reply:
        for _ in reply:
            pass
    return _end(reply)


async def _arun(transport: Any, question: ListDiscussions | RenameDiscussion | DeleteDiscussions) -> End:
    async with transport._open(transport._new_call(question)) as reply:
        async for _ in reply:
            pass
    return _end(reply)


def _end(reply: Any) -> End:
    if isinstance(reply.broken, Broken):
        raise ReplyBroken(reply.broken)
    assert isinstance(reply.end, End)
    return reply.end
