"""A conversation: what was said, kept between two questions."""

import json
from typing import Any

import pytest

from opchat_proto import Broken, Conversation, End, InvalidMessages, Message, Reason, Session, Submit
from tests.proto.cuts import copies

SECRET = "5e5510n"


def full() -> Conversation:
    return Conversation(
        messages=(Message("user", "Hi"), Message("assistant", "Hello")),
        chat_id="k3v9x0q2ab",
        bot_id=2024,
        custom_id="f00",
        context_id=12,
        session=Session(SECRET, f"{SECRET}-id", f"mwai_session_id={SECRET}"),
        previous_response_id="resp_abc",
    )


def test_a_new_conversation_is_with_the_default_bot_and_about_nothing() -> None:
    conversation = Conversation()
    assert conversation.messages == ()
    assert conversation.bot_id == "default"
    assert conversation.ask("Hi") == Submit.from_messages([{"role": "user", "content": "Hi"}])


def test_a_question_carries_all_that_is_kept_and_changes_nothing() -> None:
    conversation = full()
    assert conversation.ask("And now?") == Submit(
        new_message="And now?",
        messages=(Message("user", "Hi"), Message("assistant", "Hello")),
        chat_id="k3v9x0q2ab",
        bot_id=2024,
        custom_id="f00",
        context_id=12,
        previous_response_id="resp_abc",
    )
    assert conversation == full()


def test_a_question_can_have_files_a_shortcut_and_an_answer_in_one_piece() -> None:
    submit = Conversation().ask("", file_ids=iter(["f1", "f2"]), stream=False, shortcut_id="s1", shortcut_name="Help")
    assert submit == Submit(new_message="", file_ids=("f1", "f2"), stream=False, shortcut_id="s1", shortcut_name="Help")


def test_one_text_is_not_taken_apart_into_file_ids() -> None:
    with pytest.raises(TypeError, match=r"^file_ids: expected several str, got one$"):
        Conversation().ask("Hi", file_ids="abc")


def test_a_question_that_cannot_be_sent_is_refused() -> None:
    with pytest.raises(InvalidMessages, match=r"^Submit\.new_message: expected text that encodes to UTF-8"):
        Conversation().ask("\ud83d")


@pytest.mark.parametrize(
    ("end", "text", "answer"),
    [
        (End("Final"), "the pieces", "Final"),
        (End(""), "the pieces", ""),
        (End(None), "the pieces", "the pieces"),
        (End(None), "", ""),
    ],
)
def test_the_servers_final_text_is_the_answer_and_the_pieces_only_where_it_gave_none(
    end: End, text: str, answer: str
) -> None:
    conversation = Conversation()
    conversation.record(conversation.ask("Hi"), end, text)
    assert conversation.messages == (Message("user", "Hi"), Message("assistant", answer))


def test_questions_and_answers_add_up() -> None:
    conversation = Conversation(chat_id="c1")
    conversation.record(conversation.ask("1?"), End("1!", '{"responseId": "r1"}'))
    assert conversation.previous_response_id == "r1"
    submit = conversation.ask("2?")
    assert submit.previous_response_id == "r1"
    conversation.record(submit, End("2!"))
    assert [message.content for message in conversation.messages] == ["1?", "1!", "2?", "2!"]
    assert conversation.previous_response_id is None
    assert conversation.chat_id == "c1"


def test_a_shortcut_without_a_text_of_its_own_is_remembered_by_its_label() -> None:
    conversation = Conversation()
    conversation.record(conversation.ask("", shortcut_id="s1", shortcut_name="Help"), End("Yes?"))
    assert conversation.messages[0] == Message("user", "Help")


def test_a_file_without_a_text_is_remembered_as_an_empty_question() -> None:
    conversation = Conversation()
    conversation.record(conversation.ask("", file_ids=["f1"]), End("A cat."))
    assert conversation.messages[0] == Message("user", "")


def test_the_chat_id_that_a_transport_drew_is_taken_over() -> None:
    conversation = Conversation()
    conversation.record(Submit(new_message="Hi", chat_id="drawn"), End("Hello"))
    assert conversation.chat_id == "drawn"


@pytest.mark.parametrize(
    "submit",
    [
        pytest.param(Submit(new_message="?", chat_id="k3v9x0q2ab"), id="another history"),
        pytest.param(Submit(new_message="?", chat_id="other", messages=full().messages), id="another chat"),
        pytest.param(Submit(new_message="?", messages=full().messages), id="no chat"),
    ],
)
def test_the_answer_to_another_conversations_question_is_refused(submit: Submit) -> None:
    conversation = full()
    with pytest.raises(ValueError, match=r"^submit: it was not asked of this conversation as it stands$"):
        conversation.record(submit, End("!"))
    assert conversation == full()


@pytest.mark.parametrize(
    ("submit", "end", "types"),
    [
        (Submit(new_message="?"), Broken(Reason.TRUNCATED, "cut"), "Submit, Broken"),
        (Submit(new_message="?"), None, "Submit, NoneType"),
        ("?", End("!"), "str, End"),
    ],
)
def test_a_broken_answer_cannot_be_recorded(submit: Any, end: Any, types: str) -> None:
    conversation = Conversation()
    with pytest.raises(TypeError, match=rf"^expected a Submit and an End, got {types}$"):
        conversation.record(submit, end)
    assert conversation == Conversation()


def test_an_answer_that_is_no_text_leaves_the_conversation_as_it_was() -> None:
    conversation = Conversation()
    with pytest.raises(InvalidMessages, match=r"^Message\.content: "):
        conversation.record(conversation.ask("Hi"), End(None), "\ud83d")
    # Only a made-up End can fail so: a decoder has read its payload before.
    with pytest.raises(ValueError, match=r"^Expecting value"):
        conversation.record(conversation.ask("Hi"), End("Hello", "no JSON"))
    assert conversation == Conversation()


def test_a_conversation_comes_back_from_json() -> None:
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


def test_a_session_that_belongs_to_a_site_still_does_after_json() -> None:
    conversation = Conversation(session=Session(origin="https://site.example"))
    session = Conversation.from_dict(conversation.to_dict()).session
    assert session is not None
    assert session.origin == "https://site.example"


def test_missing_keys_have_their_defaults_and_unknown_ones_are_ignored() -> None:
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
        ({"session": []}, r"^session: expected an object or null$"),
        ({"session": {"nonce": 7}}, r"^Session\.nonce: expected a str or None"),
        ({"session": {"session_id": "a b"}}, r"^Session\.session_id: "),
        ({"session": {"cookie": None}}, r"^Session.*cookie"),
        ({"session": {"cookie": "a\r\nb"}}, r"^Session\.cookie: "),
        ({"session": {"origin": 7}}, r"^Session"),
    ],
)
def test_values_that_are_no_conversation_are_named(values: Any, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        Conversation.from_dict(values)


def test_what_is_shown_is_how_much_and_nothing_of_it() -> None:
    assert repr(full()) == "<Conversation of 2 messages>"


def test_conversations_are_equal_by_value_and_copies_go_their_own_way() -> None:
    conversation = full()
    for copied in copies(conversation):
        assert copied == conversation
        copied.record(copied.ask("And?"), End("So."))
        assert len(copied.messages) == 4
    assert conversation == full()
