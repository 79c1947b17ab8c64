"""A member's discussions, over each transport."""

from collections.abc import Callable
from typing import Any

import pytest

from opchat_proto import DiscussionPage, Reason, Session
from opchat_transports import ReplyBroken
from opchat_transports.testing import Close, Expect, FaultServer, Write, json_object

from .asking import ASKS, Ask
from .discussing import DiscussingSite
from .member_site import ALICE
from .pages import served

each = pytest.mark.parametrize("ask", ASKS.values(), ids=ASKS)


def with_transport(ask: Ask, url: str, do: Callable[[Any], Any], **options: Any) -> Any:
    """Call a method of a transport, and return its result."""

    async def main() -> Any:
        async with ask.kind(url, **options) as transport:
            return await do(transport)

    if ask.run is None:
        with ask.kind(url, **options) as transport:
            return do(transport)
    return ask.run(main)


def listed(ask: Ask, url: str, *, offset: int = 0, limit: int = 10, **options: Any) -> DiscussionPage:
    page: DiscussionPage = with_transport(
        ask, url, lambda it: it.discussions(offset=offset, limit=limit), **{"session": ALICE, **options}
    )
    return page


@each
def test_discussions_are_listed_page_by_page(ask: Ask) -> None:
    with served(DiscussingSite()) as site:
        first = listed(ask, site.url, limit=2)
        rest = listed(ask, site.url, offset=2, limit=2)
    assert [discussion.chat_id for discussion in (*first, *rest)] == ["chat3", "chat2", "chat1"]
    assert (first.total, rest.total, len(rest)) == (3, 3, 1)


@each
def test_a_discussion_continues_where_it_stopped(ask: Ask) -> None:
    with served(DiscussingSite()) as site:
        [latest] = listed(ask, site.url, limit=1)
        conversation = latest.conversation(ALICE)
        end = ask(site.url, question=conversation.ask("And then?"), session=ALICE)[-1]
    assert end.reply == "alice: And then?"
    body = site.requests[-1][3]
    assert (body["chatId"], body["previousResponseId"], len(body["messages"])) == ("chat3", "resp_3", 2)


@each
def test_a_discussion_is_renamed_and_deleted(ask: Ask) -> None:
    with served(DiscussingSite()) as site:
        with_transport(ask, site.url, lambda transport: transport.rename_discussion("chat2", "Où ?"), session=ALICE)
        with_transport(ask, site.url, lambda transport: transport.delete_discussions("chat3", "chat1"), session=ALICE)
        assert [(discussion.chat_id, discussion.title) for discussion in listed(ask, site.url)] == [("chat2", "Où ?")]


@each
def test_a_guest_gets_the_sites_refusal(ask: Ask) -> None:
    with served(DiscussingSite()) as site:
        with pytest.raises(ReplyBroken) as raised:
            with_transport(ask, site.url, lambda transport: transport.discussions())
        assert raised.value.broken.detail == "You need to be connected."
        with pytest.raises(ReplyBroken) as raised:
            with_transport(ask, site.url, lambda transport: transport.delete_discussions("chat1"))
    assert (raised.value.broken.reason, raised.value.broken.status) == (Reason.REFUSED, 401)


@each
def test_a_malformed_list_of_discussions_is_broken(ask: Ask) -> None:
    script = Expect("list"), Write(json_object(success=True, chats="none")), Close()
    with FaultServer(script) as server, pytest.raises(ReplyBroken) as raised:
        listed(ask, server.url, session=Session("n1"))
    broken = raised.value.broken
    assert (broken.reason, broken.detail) == (Reason.MALFORMED, "discussions/list: no list of discussions")


@each
def test_arguments_that_cannot_be_sent_are_refused(ask: Ask) -> None:
    with pytest.raises(ValueError, match=r"chat_ids: expected at least one"):
        with_transport(ask, "http://127.0.0.1:9", lambda transport: transport.delete_discussions())
