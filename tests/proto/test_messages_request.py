"""The request that a question becomes."""

import pytest

from opchat_proto import Flow, Session, Submit


@pytest.mark.parametrize(("stream", "accept"), [(True, "text/event-stream"), (False, "application/json")])
def test_a_question_is_posted_as_json_and_counts_as_asked(stream: bool, accept: str) -> None:
    submit = Submit(new_message="Hi", stream=stream)
    flow = Flow("https://site.example", submit, session=Session("n1", "s1"))
    request = flow.next_request()
    assert request is not None
    headers = dict(request.headers)
    assert (request.method, request.url) == ("POST", "https://site.example/wp-json/mwai-ui/v1/chats/submit")
    assert (request.body, headers["Accept"], headers["Content-Type"]) == (
        submit.encode("s1"),
        accept,
        "application/json",
    )
    assert flow.submit_started
