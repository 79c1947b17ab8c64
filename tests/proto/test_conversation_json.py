"""A conversation as JSON and as a value."""

import json
from typing import Any

import pytest

from opchat_proto import Conversation, End, InvalidMessages, Message, Session
from tests.proto.conversations import SECRET, full
from tests.proto.cuts import copies


def test_a_conversation_is_restored_from_json() -> None:
    conversation = full()
    text = json.dumps(conversation.to_dict())
    assert Conversation.from_dict(json.loads(text)) == conversation
    assert conversation.to_dict() == {
        "messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}],
        "chat_id": "k3v9x0q2ab",
        "previous_response_id": "resp_abc",
        "bot_id": 2024,
        "custom_id": "f00",
        "context_id": 12,
        "session": {
            "nonce": SECRET,
            "session_id": f"{SECRET}-id",
            "cookie": f"mwai_session_id={SECRET}",
            "origin": None,
        },
    }


def test_a_session_bound_to_a_site_stays_bound_after_json() -> None:
    conversation = Conversation(session=Session(origin="https://site.example"))
    session = Conversation.from_dict(conversation.to_dict()).session
    assert session is not None
    assert session.origin == "https://site.example"


def test_missing_keys_have_defaults_and_unknown_keys_are_ignored() -> None:
    assert Conversation.from_dict({}) == Conversation()
    assert Conversation.from_dict({"session": None, "version": 2}) == Conversation()
    assert Conversation.from_dict({"session": {"version": 2}}) == Conversation(session=Session())


@pytest.mark.parametrize(
    ("values", "match"),
    [
        ([], r"^expected an object, got list$"),
        ("{}", r"^expected an object, got str$"),
        (None, r"^expected an object, got NoneType$"),
        ({"messages": None}, r"^messages: expected an array$"),
        ({"messages": {"role": "user", "content": "Hi"}}, r"^messages: expected an array$"),
        ({"messages": ["Hi"]}, r"^messages\[0\]: expected a Message or a dict"),
        ({"messages": [{"role": "user", "content": "Hi"}, {"role": "user"}]}, r"^messages\[1\]\['content'\]: "),
        ({"messages": [{"role": 7, "content": ""}]}, r"^messages\[0\]\['role'\]: "),
        ({"messages": [{"role": "user", "content": "\ud83d"}]}, r"^messages\[0\]: Message\.content: "),
        ({"chat_id": 7}, r"^Submit\.chat_id: expected a str"),
        ({"bot_id": []}, r"^Submit\.bot_id: expected a str"),
        ({"custom_id": True}, r"^Submit\.custom_id: expected a str"),
        ({"context_id": float("inf")}, r"^Submit\.context_id: expected a finite number"),
        ({"previous_response_id": {}}, r"^Submit\.previous_response_id: expected a str"),
        (
            {"messages": [{"role": "user", "content": "Hi", "response_id": 7}]},
            r"^messages\[0\]\['response_id'\]: expected",
        ),
        (
            {"messages": [{"role": "user", "content": "Hi", "response_id": "\ud83d"}]},
            r"^messages\[0\]\['response_id'\]: ",
        ),
        ({"session": []}, r"^session: expected an object or null$"),
        ({"session": {"nonce": 7}}, r"^Session\.nonce: expected a str or None"),
        ({"session": {"session_id": "a b"}}, r"^Session\.session_id: "),
        ({"session": {"cookie": None}}, r"^Session.*cookie"),
        ({"session": {"cookie": "a\r\nb"}}, r"^Session\.cookie: "),
        ({"session": {"origin": 7}}, r"^Session"),
    ],
)
def test_invalid_values_are_named(values: Any, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        Conversation.from_dict(values)


@pytest.mark.parametrize(
    "values",
    [
        {"messages": ["Hi"]},
        {"messages": [Message("user", "Hi")]},
        {"chat_id": 7},
        {"bot_id": []},
        {"session": "nonce"},
        {"previous_response_id": b"r"},
    ],
)
def test_a_value_of_another_type_is_refused_at_once(values: Any) -> None:
    with pytest.raises(TypeError):
        Conversation(**values)
    ((name, value),) = values.items()
    conversation = Conversation()
    setattr(conversation, name, value)
    for call in (conversation.undo, conversation.to_dict):
        with pytest.raises(TypeError):
            call()


def test_a_text_that_cannot_be_sent_is_refused_at_once() -> None:
    with pytest.raises(InvalidMessages):
        Conversation(chat_id="\ud83d")


def test_repr_shows_sizes_and_no_content() -> None:
    assert repr(full()) == "<Conversation of 2 messages>"


def test_conversations_are_equal_by_value_and_copies_are_independent() -> None:
    conversation = full()
    for copied in copies(conversation):
        assert copied == conversation
        copied.record(copied.ask("And?"), End("So."))
        assert len(copied.messages) == 4
    assert conversation == full()
