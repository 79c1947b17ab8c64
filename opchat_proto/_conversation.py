"""A conversation so far: what has to be remembered between two questions."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, final

from ._errors import InvalidMessages
from ._events import End
from ._messages import Message, Scalar, Submit, read_message
from ._session import Session

__all__ = ["Conversation"]

_TEXTS = ("chat_id", "previous_response_id")
_SCALARS = ("bot_id", "custom_id", "context_id")
_SESSION_TEXTS = ("nonce", "session_id", "cookie", "origin")


@final
@dataclass(slots=True, repr=False)
class Conversation:
    """Messages, chat id, session and last response id of one conversation with one bot.

        submit = conversation.ask("And in winter?")
        ...                                          # the events of the answer
        conversation.record(submit, end, text)

    `ask` changes nothing and `record` takes only a complete answer: after a
    broken one the conversation is as it was, and the question can be asked again.
    """

    messages: tuple[Message, ...] = ()
    """What was said, oldest first."""
    chat_id: str | None = None
    """The conversation's name (WIRE 4.6: 10 to 12 characters `[0-9a-z]`). The
    core draws nothing at random: if it is None, `record` takes over the one that
    a transport has drawn for its submit."""
    bot_id: Scalar | None = "default"
    custom_id: Scalar | None = None
    context_id: Scalar | None = None
    session: Session | None = None
    """What to ask with; set it to the flow's or the transport's session after an answer."""
    previous_response_id: str | None = None
    """`End.response_id` of the last answer."""

    def __repr__(self) -> str:
        """How much there is, without its texts."""
        return f"<Conversation of {len(self.messages)} messages>"

    def ask(
        self,
        text: str,
        *,
        file_ids: Iterable[str] = (),
        stream: bool = True,
        shortcut_id: str | None = None,
        shortcut_name: str | None = None,
    ) -> Submit:
        """The question `text` after what was said so far. Changes nothing. Raises `InvalidMessages`, `TypeError`."""
        if isinstance(file_ids, str):
            raise TypeError("file_ids: expected several str, got one")  # which would be taken apart
        return Submit(
            new_message=text,
            messages=self.messages,
            chat_id=self.chat_id,
            bot_id=self.bot_id,
            custom_id=self.custom_id,
            context_id=self.context_id,
            file_ids=tuple(file_ids),
            stream=stream,
            shortcut_id=shortcut_id,
            shortcut_name=shortcut_name,
            previous_response_id=self.previous_response_id,
        )

    def record(self, submit: Submit, end: End, text: str = "") -> None:
        """Add a question and its complete answer: `end.reply`, or `text`, the joined pieces, if that is None.

        Raises `ValueError` if `submit` was not asked of this conversation as it
        stands, or of another chat; `TypeError` for anything but an `End`.
        """
        if not isinstance(submit, Submit) or not isinstance(end, End):
            raise TypeError(f"expected a Submit and an End, got {type(submit).__name__}, {type(end).__name__}")
        if submit.messages != self.messages or self.chat_id not in (None, submit.chat_id):
            raise ValueError("submit: it was not asked of this conversation as it stands")
        question = Message("user", submit.new_message or submit.shortcut_name or "")
        answer = Message("assistant", text if end.reply is None else end.reply)
        response_id = end.response_id  # raises for an `End` that no decoder has made: before anything has changed
        self.messages = (*self.messages, question, answer)
        self.chat_id = submit.chat_id
        self.previous_response_id = response_id

    def to_dict(self) -> dict[str, Any]:
        """All of it as JSON values. It holds the session's secrets: keep it as you would keep those."""
        return {
            "messages": [{"role": message.role, "content": message.content} for message in self.messages],
            **{name: getattr(self, name) for name in (*_TEXTS, *_SCALARS)},
            "session": None if self.session is None else {name: getattr(self.session, name) for name in _SESSION_TEXTS},
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Conversation":
        """The conversation that `to_dict` gave. Missing keys have their defaults, unknown ones are ignored.

        Raises `ValueError` that names the key whose value is wrong.
        """
        if not isinstance(values, Mapping):
            raise ValueError(f"expected an object, got {type(values).__name__}")
        messages = values.get("messages", [])
        session = values.get("session")
        if not isinstance(messages, list):
            raise InvalidMessages("messages: expected an array")
        if session is not None and not isinstance(session, Mapping):
            raise ValueError("session: expected an object or null")
        try:
            given = {name: values[name] for name in (*_TEXTS, *_SCALARS) if name in values}
            history = tuple(read_message(index, message) for index, message in enumerate(messages))
            Submit(new_message="", messages=history, **given)  # checks them
            if session is not None:
                session = Session(**{name: session[name] for name in _SESSION_TEXTS if name in session})
        except TypeError as error:
            raise ValueError(str(error)) from None
        return cls(messages=history, session=session, **given)
