"""Conversations that were held and edited."""

import json

from opchat_proto import Conversation, End, Message, Session

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


def said(*ids: str | None) -> Conversation:
    """A conversation with one turn for each id: "1?", "1!", "2?", "2!" and so on."""
    conversation = Conversation(chat_id="c1")
    for number, response_id in enumerate(ids, 1):
        payload = json.dumps({} if response_id is None else {"responseId": response_id})
        conversation.record(conversation.ask(f"{number}?"), End(f"{number}!", payload))
    return conversation


def loaded(conversation: Conversation) -> Conversation:
    return Conversation.from_dict(json.loads(json.dumps(conversation.to_dict())))


def turns(*numbers: int) -> tuple[Message, ...]:
    return tuple(message for n in numbers for message in (Message("user", f"{n}?"), Message("assistant", f"{n}!")))
