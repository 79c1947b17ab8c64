"""A conversation so far: what has to be remembered between two questions."""

import weakref
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, fields
from typing import Any, final

from ._errors import InvalidMessages
from ._events import Broken, End, Reason
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

        call = channel.call("And in winter?", conversation)

    or, with a machine that knows nothing of conversations:

        submit = conversation.ask("And in winter?")
        ...                                          # the events of the answer
        conversation.record(submit, end, text)

    Only a complete answer is added: after a broken one the conversation is as it
    was, and the question can be asked again.
    """

    messages: tuple[Message, ...] = ()
    """What was said, oldest first."""
    chat_id: str | None = None
    """The conversation's name (WIRE 4.6: 10 to 12 characters `[0-9a-z]`). The
    core draws nothing at random: if it is None, the one that is drawn for the first
    question is kept."""
    bot_id: Scalar | None = "default"
    custom_id: Scalar | None = None
    context_id: Scalar | None = None
    session: Session | None = None
    """The session that it was asked with last. A channel that has none goes on with it."""
    previous_response_id: str | None = None
    """`End.response_id` of the last answer. It is sent while `messages` are those that
    it was recorded with: the provider remembers what was said, not what was edited."""
    _answered: tuple[Message, ...] = field(default=(), init=False, compare=False)  # the messages up to that answer
    _call: weakref.ref[object] | None = field(default=None, init=False, compare=False)  # that is asking

    def __post_init__(self) -> None:
        """The id that is given belongs to the messages that are given."""
        self._answered = self.messages

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
            previous_response_id=self._response_id,
        )

    @property
    def _response_id(self) -> str | None:
        return self.previous_response_id if self.messages == self._answered else None

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
        self.messages = self._answered = (*self.messages, question, answer)
        self.chat_id = submit.chat_id
        self.previous_response_id = response_id

    def _begin(self, call: object, submit: Submit) -> None:
        """`call` asks this question. Raises `RuntimeError` while another one asks."""
        if self._call is not None and self._call() is not None:
            raise RuntimeError("the conversation is being asked another question")
        self._call = weakref.ref(call)
        if self.chat_id is None:
            self.chat_id = submit.chat_id

    def _finish(self, submit: Submit, last: End | Broken, text: str, session: Session | None) -> None:
        """The call is over."""
        self._call = None
        if session is not None:
            self.session = session
        if isinstance(last, End):
            with suppress(ValueError):  # somebody has edited the conversation meanwhile, and this is no part of it
                self.record(submit, last, text)
        elif last.reason is Reason.REMOTE and not last.in_session and submit.previous_response_id is not None:
            self.previous_response_id = None  # the provider may have forgotten it: send the whole history next time

    def __getstate__(self) -> dict[str, Any]:
        """A copy is asked by nobody."""
        return {field.name: getattr(self, field.name) for field in fields(self) if field.name != "_call"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """See `__getstate__`."""
        for name, value in (*state.items(), ("_call", None)):
            setattr(self, name, value)

    def to_dict(self) -> dict[str, Any]:
        """All of it as JSON values. It holds the session's secrets: keep it as you would keep those."""
        return {
            "messages": [{"role": message.role, "content": message.content} for message in self.messages],
            **{name: getattr(self, name) for name in (*_TEXTS, *_SCALARS)},
            "previous_response_id": self._response_id,
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
