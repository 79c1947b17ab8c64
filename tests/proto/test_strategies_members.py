"""Drawn queries and discussions: each is received as it was sent."""

import json

from hypothesis import given
from hypothesis import strategies as st

from opchat_proto import Discussion, DiscussionPage, End, Flow, Query, Session, strategies


@given(strategies.queries())
def test_a_query_is_sent_unchanged(query: Query) -> None:
    flow = Flow("https://site.example", query, session=Session.from_token("token"))
    request = flow.next_request()
    assert request is not None
    if query.bot_id is not None:
        assert request.method == "GET"
        return
    assert json.loads(request.body) == query.to_dict()
    assert query.to_dict()["message"] == query.text


@given(st.lists(st.from_type(Discussion), max_size=3), st.integers(0, 10**6))
def test_a_list_of_discussions_is_read_as_it_was_written(discussions: list[Discussion], total: int) -> None:
    rows = [
        {
            "chatId": it.chat_id,
            "botId": it.bot_id,
            "title": it.title,
            "messages": json.dumps([{"role": turn.role, "content": turn.content} for turn in it.messages]),
            "extra": json.dumps({"previousResponseId": it.previous_response_id}),
            "created": it.created,
            "updated": it.updated,
        }
        for it in discussions
    ]
    end = End(None, json.dumps({"success": True, "chats": rows, "total": str(total)}))
    assert DiscussionPage.from_end(end) == DiscussionPage(tuple(discussions), total)
    for it in discussions:
        conversation = it.conversation()
        assert (conversation.messages, conversation.chat_id) == (it.messages, it.chat_id)
