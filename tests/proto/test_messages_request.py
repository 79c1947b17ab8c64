"""The request that a question becomes, and the errors of questions that become none."""

import json
import math
from typing import Any

import pytest

from opchat_proto import Flow, InvalidMessages, Message, Session, Submit


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


@pytest.mark.parametrize(("session", "has_old_name"), [(Session(), True), (Session("n1"), False)])
def test_only_a_site_that_gives_no_nonce_gets_the_old_name_of_a_file(session: Session, has_old_name: bool) -> None:
    submit = Submit(new_message="Hi", file_ids=("f1",))
    request = Flow("https://site.example", submit, session=session).next_request()
    assert request is not None
    assert request.body == submit.encode(old_names=has_old_name)
    assert ("newImageId" in json.loads(request.body)) == has_old_name
    assert submit.encode() == submit.encode(old_names=False)


@pytest.mark.parametrize(
    ("messages", "error"),
    [
        (
            [Message("user", "a"), Message("system", "b"), Message("assistant", "c")],
            "messages[2]: the last message is the question: expected role 'user', got 'assistant'",
        ),
        (
            [{"role": "x" * 99, "content": ""}],
            f"messages[0]['role']: expected 'user', 'assistant' or 'system', got '{'x' * 59}",
        ),
    ],
)
def test_an_error_quotes_the_role(messages: list[Any], error: str) -> None:
    with pytest.raises(InvalidMessages) as caught:
        Submit.from_messages(messages)
    assert str(caught.value) == error


def test_an_infinite_number_is_no_text() -> None:
    with pytest.raises(InvalidMessages, match=r"^content: expected a finite number, got inf$"):
        Submit.from_dict({"messages": [{"role": "user", "content": math.inf}]})
