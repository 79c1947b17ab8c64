"""A conversation that is undone, edited or continued: which response id belongs to which messages."""

import copy
import json
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opchat_proto import Broken, Conversation, End, Message, Reason
from tests.proto.conversations import loaded, said, turns


@pytest.mark.parametrize("kept", [lambda conversation: conversation, loaded, copy.deepcopy])
def test_undo_removes_the_last_turn_with_its_response_id(kept: Callable[[Conversation], Conversation]) -> None:
    conversation = said("r1", None, "r3", "r4")
    for numbers, response_id in (((1, 2, 3), "r3"), ((1, 2), None), ((1,), "r1"), ((), None)):
        conversation = kept(conversation)
        assert conversation.undo() == turns(len(numbers) + 1)
        assert conversation.messages == turns(*numbers)
        assert conversation.previous_response_id == response_id
        assert conversation.ask("?").previous_response_id == response_id
        assert conversation.chat_id == "c1"
    assert kept(conversation).undo() == ()
    assert conversation == Conversation(chat_id="c1")


def test_an_undone_question_can_be_asked_and_answered_again() -> None:
    conversation = said("r1", "r2", "r3")
    conversation.undo()
    submit = conversation.ask(conversation.undo()[0].content)
    assert (submit.new_message, submit.messages, submit.previous_response_id) == ("2?", turns(1), "r1")
    conversation.record(submit, End("anew", '{"responseId":"r5"}'))
    assert conversation.ask("?").previous_response_id == "r5"
    assert conversation.undo() == (Message("user", "2?"), Message("assistant", "anew"))
    assert conversation.ask("?").previous_response_id == "r1"


@pytest.mark.parametrize(
    ("messages", "taken"),
    [
        ((), ()),
        ((Message("assistant", "Hello"), Message("system", "x")), ()),
        ((Message("assistant", "Hello"), Message("user", "a"), Message("user", "b")), (Message("user", "b"),)),
        ((*turns(1), Message("assistant", "and"), Message("system", "x")),
         (*turns(1), Message("assistant", "and"), Message("system", "x"))),
    ],
)  # fmt: skip
def test_a_turn_begins_with_the_last_question(messages: tuple[Message, ...], taken: tuple[Message, ...]) -> None:
    conversation = Conversation(messages, previous_response_id="r")
    assert conversation.undo() == taken
    assert conversation.messages == messages[: len(messages) - len(taken)]
    assert conversation.ask("?").previous_response_id == (None if taken else "r")


def test_a_response_id_is_sent_only_with_the_messages_it_was_recorded_with() -> None:
    conversation = said("r1", "r2", "r3")
    edited = (Message("user", "1?"), Message("assistant", "1."), *turns(2, 3))
    for messages, response_id in (
        (turns(1, 2, 3), "r3"),
        (turns(1, 2), "r2"),
        (turns(1), "r1"),
        ((), None),
        (turns(1, 2, 3)[:3], None),
        (turns(1, 2, 3, 4), None),
        (turns(2, 3), None),
        (turns(1, 3), None),
        (edited, None),
        (edited[:2], None),
        ((*turns(1), Message("user", "2?"), Message("assistant", "2.")), None),
    ):
        conversation.messages = messages
        assert conversation.ask("?").previous_response_id == response_id
        assert conversation.to_dict()["previous_response_id"] == response_id
        assert loaded(conversation).ask("?").previous_response_id == response_id
    conversation.messages = (*turns(1), Message("user", "2?"), Message("assistant", "2."))
    conversation.record(conversation.ask("3?"), End("3!", '{"responseId":"r9"}'))
    for response_id in ("r9", None, "r1", None):
        assert conversation.ask("?").previous_response_id == response_id
        conversation.undo()


@given(
    st.lists(
        st.sampled_from(["answer", "answer", "answer", "answer without an id", "undo", "fail", "keep", "cut", "edit"]),
        max_size=30,
    )
)
def test_no_response_id_is_ever_sent_with_other_messages(actions: list[str]) -> None:
    conversation = Conversation()
    recorded: dict[tuple[Message, ...], str | None] = {}  # the latest response id for each history
    for number, action in enumerate(actions):
        submit = conversation.ask("?")
        match action:
            case "answer" | "answer without an id":
                response_id = f"r{number}" if action == "answer" else None
                conversation.record(submit, End(f"{number % 3}!", json.dumps({"responseId": response_id})))
                recorded[conversation.messages] = response_id
            case "undo":
                taken = conversation.undo()
                assert (*conversation.messages, *taken) == submit.messages
            case "fail":
                conversation.record_failure(submit, Broken(Reason.REMOTE))
                recorded[submit.messages] = None
            case "keep":
                conversation = loaded(conversation)
            case "cut":
                conversation.messages = conversation.messages[: number % 7]
            case _:
                conversation.messages = (*conversation.messages[:-1], Message("assistant", "edited"))
        sent = conversation.ask("?").previous_response_id
        assert sent in (None, recorded.get(conversation.messages))
        if action in ("answer", "fail"):
            assert sent == recorded[conversation.messages]


def test_to_dict_contains_the_response_id_of_each_answer_still_in_the_messages() -> None:
    conversation = said("r1", None, "r3")
    conversation.messages = (*conversation.messages, Message("user", "more"))
    values = conversation.to_dict()
    assert [message.get("response_id") for message in values["messages"]] == [None, "r1", None, None, None, "r3", None]
    assert values["previous_response_id"] is None
    again = Conversation.from_dict(values)
    assert again.undo() == (Message("user", "more"),)
    assert again.ask("?").previous_response_id == "r3"


def test_a_response_id_before_any_message_is_kept() -> None:
    conversation = Conversation(previous_response_id="r0")
    conversation.record(conversation.ask("1?"), End("1!", '{"responseId":"r1"}'))
    assert conversation.to_dict()["messages"] == [
        {"role": "user", "content": "1?"},
        {"role": "assistant", "content": "1!"},
    ]
    conversation.undo()
    assert conversation.ask("?").previous_response_id == "r0"


def test_a_long_conversation_keeps_all_its_response_ids() -> None:
    messages = [{"role": message.role, "content": message.content} for message in turns(*range(10_000))]
    for number, message in enumerate(messages[1::2]):
        message["response_id"] = f"r{number}"
    conversation = loaded(Conversation.from_dict({"messages": messages}))
    conversation.undo()
    assert conversation.ask("?").previous_response_id == "r9998"
