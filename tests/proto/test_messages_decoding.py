"""A question decoded by a server, and round trips."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opchat_proto import InvalidMessages, Message, Submit
from tests.proto.questions import ROLES, USER, fault

# ------------------------------------------------------------------------------ from_dict


def test_the_body_of_todays_browser_is_decoded() -> None:
    body = json.loads(
        '{"botId":"default","customId":null,"session":"6b02fc304cdb0","chatId":"k3v9x0q2ab","contextId":12,'
        '"messages":[{"id":"p1","role":"assistant","content":"Hello","who":"AI: ","timestamp":1,"key":"start-1"}],'
        '"newMessage":"O\\u00f9 ?","newFileId":null,"newFileIds":null,"stream":true}'
    )
    assert Submit.from_dict(body) == Submit(
        new_message="Où ?", messages=(Message("assistant", "Hello"),), chat_id="k3v9x0q2ab", context_id=12
    )


def test_the_body_of_2023_is_decoded_though_it_repeats_the_question() -> None:
    body = json.loads(
        '{"botId": "default", "chatId": "a1b2c3d4e5", "contextId": 28, "customId": null,'
        ' "messages": [{"role": "user", "content": "hi"}], "newMessage": "hi", "session": "N/A", "stream": true}'
    )
    assert Submit.from_dict(body) == Submit(
        new_message="hi", messages=(Message("user", "hi"),), chat_id="a1b2c3d4e5", context_id=28
    )


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({}, {}),
        ({"newMessage": None, "messages": None, "stream": None, "newFileIds": None}, {}),
        ({"newMessage": "Hi", "model": "x", "apiKey": "y", "instructions": "z"}, {"new_message": "Hi"}),
        ({"newMessage": 5}, {"new_message": "5"}),
        ({"newMessage": 0, "chatId": 12, "previousResponseId": 1.5}, {"new_message": "0", "chat_id": "12",
                                                                     "previous_response_id": "1.5"}),
        ({"newMessage": False, "chatId": False, "botId": False}, {}),
        ({"botId": 2024, "customId": 1.5, "contextId": "12"}, {"bot_id": 2024, "custom_id": 1.5, "context_id": "12"}),
        ({"shortcutId": "a", "shortcutName": "b"}, {"shortcut_id": "a", "shortcut_name": "b"}),
        ({"newFileId": "f"}, {"file_ids": ("f",)}),
        ({"newFileId": 5}, {"file_ids": ("5",)}),
        ({"newImageId": "f"}, {"file_ids": ("f",)}),
        ({"newFileId": "f", "newImageId": "g"}, {"file_ids": ("f",)}),
        ({"newFileId": "f", "newFileIds": ["g", "h"]}, {"file_ids": ("g", "h")}),
        ({"newFileId": "f", "newFileIds": []}, {"file_ids": ("f",)}),
        ({"newFileIds": ["g"]}, {"file_ids": ("g",)}),
        ({"messages": [{"role": "AI", "content": ""}]}, {"messages": (Message("AI", ""),)}),
        ({"messages": [{"role": "user"}, {"content": "a"}, {}, ["x"]]},
         {"messages": (Message("user", ""), Message("", "a"), Message("", ""), Message("", ""))}),
        ({"messages": [{"role": 1, "content": 2.5}, {"role": None, "content": None}]},
         {"messages": (Message("1", "2.5"), Message("", ""))}),
    ],
)  # fmt: skip
def test_a_body_is_read_as_the_plugin_reads_it(body: dict[str, Any], expected: dict[str, Any]) -> None:
    assert Submit.from_dict(body) == Submit(**{"new_message": "", "bot_id": None, "stream": False, **expected})


def test_messages_without_role_and_content_share_one_object() -> None:
    messages = Submit.from_dict({"messages": [{}, [], [1], {"x": 1}]}).messages
    assert messages == (Message("", ""),) * 4
    assert len({id(message) for message in messages}) == 1


@pytest.mark.parametrize("stream", [True, 1, 0.5, "1", "false", "no", " ", "00", [0], {"a": 0}])
def test_a_value_that_is_true_in_php_requests_a_stream(stream: object) -> None:
    assert Submit.from_dict({"stream": stream}).stream is True


@pytest.mark.parametrize("stream", [False, 0, 0.0, "", "0", [], {}, None])
def test_a_value_that_is_false_in_php_does_not(stream: object) -> None:
    assert Submit.from_dict({"stream": stream}).stream is False


@pytest.mark.parametrize(
    ("body", "text", "index"),
    [
        ([], "expected a JSON object, got list", None),
        ("{}", "expected a JSON object, got str", None),
        (None, "expected a JSON object, got NoneType", None),
        ({"messages": "Hi"}, "messages: expected an array", None),
        ({"messages": {}}, "messages: expected an array", None),
        ({"messages": False}, "messages: expected an array", None),
        ({"messages": ["Hi"]}, "messages[0]: expected a Message or a dict with 'role' and 'content', got str", 0),
        ({"messages": [USER, {"role": [], "content": ""}]}, f"messages[1]['role']: {ROLES} []", 1),
        ({"messages": [USER, {"role": True, "content": ""}]}, f"messages[1]['role']: {ROLES} True", 1),
        ({"messages": [{"role": "user", "content": {}}]}, "messages[0]['content']: expected a str, got {}", 0),
        ({"messages": [{"role": "user", "content": "\ud800"}]},
         "messages[0]: Message.content: expected text that encodes to UTF-8, got a lone surrogate at index 0", 0),
        ({"newMessage": []}, "newMessage: expected a string, a number or null", None),
        ({"newMessage": {}}, "newMessage: expected a string, a number or null", None),
        ({"newMessage": True}, "newMessage: expected a string, a number or null", None),
        ({"newMessage": "\ud800"},
         "Submit.new_message: expected text that encodes to UTF-8, got a lone surrogate at index 0", None),
        ({"chatId": []}, "chatId: expected a string, a number or null", None),
        ({"botId": {}}, "botId: expected a string, a number or null", None),
        ({"customId": True}, "customId: expected a string, a number or null", None),
        ({"contextId": [1]}, "contextId: expected a string, a number or null", None),
        ({"contextId": float("inf")}, "Submit.context_id: expected a finite number, got inf", None),
        ({"newMessage": 2**14_000}, "newMessage: expected a number of at most 14000 bits", None),
        ({"chatId": float("nan")}, "chatId: expected a finite number, got nan", None),
        ({"newFileId": ["f"]}, "newFileId: expected a string, a number or null", None),
        ({"newFileIds": "f"}, "newFileIds: expected an array of strings", None),
        ({"newFileIds": ["f", 5]}, "newFileIds: expected an array of strings", None),
        ({"newFileIds": {"0": "f"}}, "newFileIds: expected an array of strings", None),
        ({"shortcutId": []}, "shortcutId: expected a string, a number or null", None),
        ({"shortcutName": {}}, "shortcutName: expected a string, a number or null", None),
        ({"previousResponseId": True}, "previousResponseId: expected a string, a number or null", None),
    ],
    ids=lambda value: ascii(value)[:40],
)  # fmt: skip
def test_a_body_with_a_wrong_type_is_refused_by_its_name(body: Any, text: str, index: int | None) -> None:
    assert fault(lambda: Submit.from_dict(body)) == (text, index)


# ------------------------------------------------------------------------------ round trips

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
SCALARS = st.none() | TEXTS | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
SUBMITS = st.builds(
    Submit,
    new_message=TEXTS,
    messages=st.lists(st.builds(Message, TEXTS, TEXTS), max_size=3).map(tuple),
    chat_id=st.none() | TEXTS,
    bot_id=SCALARS,
    custom_id=SCALARS,
    context_id=SCALARS,
    file_ids=st.lists(TEXTS, max_size=3).map(tuple),
    stream=st.booleans(),
    shortcut_id=st.none() | TEXTS,
    shortcut_name=st.none() | TEXTS,
    previous_response_id=st.none() | TEXTS,
)


@given(SUBMITS, st.none() | TEXTS)
def test_a_server_decodes_what_a_client_encodes(submit: Submit, session_id: str | None) -> None:
    body = json.loads(submit.encode(session_id))
    assert Submit.from_dict(body) == submit
    assert body == submit.to_dict(session_id)
    assert body["session"] == session_id


BODY_KEYS = [*Submit(new_message="", chat_id="", shortcut_id="", shortcut_name="", previous_response_id="").to_dict()]
ANYTHING: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3) | st.just("\ud800"),
    lambda some: st.lists(some, max_size=3) | st.dictionaries(st.sampled_from(["role", "content"]), some),
)


@given(st.dictionaries(st.sampled_from(BODY_KEYS), ANYTHING))
def test_any_body_is_an_encodable_question_or_invalid(body: dict[str, Any]) -> None:
    try:
        submit = Submit.from_dict(body)
    except InvalidMessages:
        return
    assert Submit.from_dict(json.loads(submit.encode())) == submit


@given(st.lists(ANYTHING | st.fixed_dictionaries({"role": st.sampled_from(["user", "system"]), "content": TEXTS})))
def test_any_list_is_a_question_or_invalid(messages: list[Any]) -> None:
    try:
        submit = Submit.from_messages(messages)
    except InvalidMessages as error:
        named = error.index
    else:
        named = None
        assert (*submit.messages, Message("user", submit.new_message)) == tuple(
            Message(message["role"], message["content"]) for message in messages
        )
    assert named is None or 0 <= named < len(messages)


def test_an_id_that_cannot_be_encoded_is_refused() -> None:
    with pytest.raises(InvalidMessages, match="14000 bits"):
        Submit(new_message="x", bot_id=10**5000)


def test_the_largest_id_that_can_be_encoded_passes() -> None:
    largest = 2**14_000 - 1
    assert Submit.from_dict(json.loads(Submit(new_message="x", bot_id=largest).encode())).bot_id == largest
