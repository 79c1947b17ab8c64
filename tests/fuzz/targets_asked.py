"""Any responses to questions outside the chat: the official API, and a member's discussions."""

from typing import Any

from opchat_proto import (
    DeleteDiscussions,
    DiscussionPage,
    End,
    Event,
    Flow,
    ListDiscussions,
    Query,
    RenameDiscussion,
    Request,
    Session,
)
from tests.fuzz.drawing import draw_head, end_body
from tests.fuzz.oracles import (
    SECRET,
    Again,
    Choices,
    Cut,
    check_all_ways,
    check_events,
    check_memory,
    check_reply,
    check_secrets,
)

_OWNER = Session.from_token(SECRET)
QUESTIONS: tuple[tuple[Any, Session | None], ...] = (
    (Query("Hi?"), _OWNER),
    (Query("Hi?", "sales"), _OWNER),
    (ListDiscussions(), Session(SECRET, "s")),
    (RenameDiscussion("c1", "New"), Session(SECRET, "s")),
    (DeleteDiscussions(("c1",)), None),
)


def asked(data: bytes) -> None:
    """One reply. The response to the request before a question decides whether it is asked, once."""
    choices = Choices(data)
    limits = choices.limits()
    question, session = choices.one_of(QUESTIONS)
    is_query = isinstance(question, Query)
    strings = choices.strings
    answers = [(*draw_head(choices), string, choices.number(3)) for string in strings]

    def run(cut: Cut, again: Again) -> tuple[Any, ...]:
        flow = Flow("https://site.example", question, session=session, limits=limits)
        events: list[Event] = []
        requests: list[Request] = []
        for status, fields, string, ends in answers:
            request = flow.next_request()
            if request is None:
                break
            requests.append(request)
            check_secrets(flow, request)
            names = {name.lower() for name, _ in request.headers}
            assert is_query == ("authorization" in names)
            assert not is_query or not names & {"x-wp-nonce", "cookie"}
            given = flow.receive_head(status, fields)
            if not 100 <= status < 200:
                for piece in cut(string):
                    given += flow.receive_data(piece)
                    flow = again(flow)
                    check_memory(flow, 4 * len(data), choices.random)
                given += end_body(flow, ends)
            events += given
            check_events(events[-1:])
        if flow.awaiting is not None:
            events += flow.close()
        check_reply(events)
        routes = [request.url.rpartition("/")[2] for request in requests]
        questions = [route for route in routes if route == "simpleChatbotQuery"]
        assert len(questions) <= 1
        assert flow.submit_started == bool(questions)
        assert not is_query or flow.session == session
        last = events[-1]
        if isinstance(question, ListDiscussions) and isinstance(last, End):
            for discussion in DiscussionPage.from_end(last):
                assert discussion.conversation().ask("And?").chat_id == discussion.chat_id
        if is_query and isinstance(last, End):
            assert questions
            assert isinstance(last.chat_id, str | None)
        return events, requests, flow.session

    check_all_ways(choices, run)
