"""A conversation: the memory between questions."""

from typing import Any

import pytest

from opchat_proto import Broken, Conversation, End, InvalidMessages, Message, Reason, Submit
from tests.proto.conversations import full


def test_a_new_conversation_is_empty_and_with_the_default_bot() -> None:
    conversation = Conversation()
    assert conversation.messages == ()
    assert conversation.bot_id == "default"
    assert conversation.ask("Hi") == Submit.from_messages([{"role": "user", "content": "Hi"}])


def test_a_question_carries_everything_kept_and_changes_nothing() -> None:
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


def test_file_ids_given_as_one_text_are_refused() -> None:
    with pytest.raises(TypeError, match=r"^file_ids: expected several str, got one$"):
        Conversation().ask("Hi", file_ids="abc")


def test_an_invalid_question_is_refused() -> None:
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
def test_the_final_text_is_the_answer_and_the_pieces_only_without_one(end: End, text: str, answer: str) -> None:
    conversation = Conversation()
    conversation.record(conversation.ask("Hi"), end, text)
    assert conversation.messages == (Message("user", "Hi"), Message("assistant", answer))


def test_questions_and_answers_accumulate() -> None:
    conversation = Conversation(chat_id="c1")
    conversation.record(conversation.ask("1?"), End("1!", '{"responseId": "r1"}'))
    assert conversation.previous_response_id == "r1"
    submit = conversation.ask("2?")
    assert submit.previous_response_id == "r1"
    conversation.record(submit, End("2!"))
    assert [message.content for message in conversation.messages] == ["1?", "1!", "2?", "2!"]
    assert conversation.previous_response_id is None
    assert conversation.chat_id == "c1"


# ------------------------------------------------------------------------------ ids and undo


def test_a_shortcut_without_text_is_remembered_by_its_label() -> None:
    conversation = Conversation()
    conversation.record(conversation.ask("", shortcut_id="s1", shortcut_name="Help"), End("Yes?"))
    assert conversation.messages[0] == Message("user", "Help")


def test_a_file_without_text_is_remembered_as_an_empty_question() -> None:
    conversation = Conversation()
    conversation.record(conversation.ask("", file_ids=["f1"]), End("A cat."))
    assert conversation.messages[0] == Message("user", "")


def test_the_chat_id_that_a_transport_drew_is_kept() -> None:
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
    with pytest.raises(ValueError, match=r"^submit: it does not continue this conversation in its present state$"):
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


def test_an_invalid_answer_leaves_the_conversation_unchanged() -> None:
    conversation = Conversation()
    with pytest.raises(InvalidMessages, match=r"^Message\.content: "):
        conversation.record(conversation.ask("Hi"), End(None), "\ud83d")
    # Only a made-up End can fail like this: a decoder has already read its payload.
    with pytest.raises(ValueError, match=r"^Expecting value"):
        conversation.record(conversation.ask("Hi"), End("Hello", "no JSON"))
    assert conversation == Conversation()
