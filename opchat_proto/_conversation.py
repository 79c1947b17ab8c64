"""The memory of a conversation: what is kept between questions."""

import weakref
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, fields
from typing import Any, final

from ._errors import InvalidMessages
from ._events import Broken, End, Reason
from ._json import decode
from ._limits import Limits
from ._messages import Message, Scalar, Submit, check_text, read_ids, read_message
from ._session import Session, is_anothers

__all__ = ["Conversation"]

LONGEST_ID = 256  # characters of a response id, as for a session id
_TEXTS = ("chat_id", "previous_response_id")
_SCALARS = ("bot_id", "custom_id", "context_id")
_SESSION_TEXTS = ("nonce", "session_id", "cookie", "origin")
_MEMBER_TEXTS = ("authorization", "member")  # only a member's session has these
_GUEST = Session()


@final
@dataclass(slots=True, repr=False)
class Conversation:
    """Messages, chat id, session and last response id of one conversation with one bot.

        call = channel.call("And in winter?", conversation)

    or, with a machine that does not know conversations:

        submit = conversation.ask("And in winter?")
        ...                                          # the events of the answer
        conversation.record(submit, end, text)       # or record_failure(submit, broken)

    Only a complete answer is added. A broken one leaves the messages unchanged, and the
    question can be asked again.

    Raises `TypeError` for a value of a wrong type, `InvalidMessages` for a text
    that cannot be encoded.
    """

    messages: tuple[Message, ...] = ()
    """The messages so far, oldest first."""
    chat_id: str | None = None
    """The conversation's name (WIRE 4.6: 10 to 12 characters `[0-9a-z]`). If it
    is None, the transport draws one for the first question (the core draws nothing
    at random), and it is kept."""
    bot_id: Scalar | None = "default"
    custom_id: Scalar | None = None
    context_id: Scalar | None = None
    session: Session | None = None
    """The session of the last question. A channel without a session continues with it. If it is a member's, a
    channel with the session of a guest or another member raises `ValueError`."""
    previous_response_id: str | None = None
    """`End.response_id` of the last answer. It is sent only while `messages` are those
    that it was recorded with, because the provider remembers the original messages.
    If they have gone back to those of an earlier answer, that answer's id is sent."""
    _answered: tuple[Message, ...] = field(default=(), init=False, compare=False)  # the messages up to that answer
    _earlier: tuple[tuple[int, str], ...] = field(default=(), init=False, compare=False)  # (messages, id)
    _call: weakref.ref[object] | None = field(default=None, init=False, compare=False)  # the call that is asking

    def __post_init__(self) -> None:
        """Tie the given response id to the given messages."""
        self._check()
        self._answered = self.messages

    def _check(self) -> None:
        self.ask("")
        if not isinstance(self.session, Session | None):
            raise TypeError(f"Conversation.session: expected a Session or None, got {type(self.session).__name__}")

    def __repr__(self) -> str:
        """The number of messages, without their texts."""
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
        """Make the question `text` with the messages so far. Changes nothing. Raises `InvalidMessages`, `TypeError`."""
        return Submit(
            new_message=text,
            messages=self.messages,
            chat_id=self.chat_id,
            bot_id=self.bot_id,
            custom_id=self.custom_id,
            context_id=self.context_id,
            file_ids=read_ids(file_ids),
            stream=stream,
            shortcut_id=shortcut_id,
            shortcut_name=shortcut_name,
            previous_response_id=self._response_id,
        )

    @property
    def _response_id(self) -> str | None:
        count, response_id = self._known_ids()[-1]
        return response_id if count == len(self.messages) else None

    def _known_ids(self) -> list[tuple[int, str | None]]:
        """The response ids of the answers still in `messages`, each with the number of messages up to it."""
        pairs = enumerate(zip(self.messages, self._answered, strict=False))
        shared = next((count for count, (one, other) in pairs if one != other), len(self._answered))
        shared = min(shared, len(self.messages))
        known = (0, None), *self._earlier, (len(self._answered), self.previous_response_id)
        return [(count, response_id) for count, response_id in known if count <= shared]

    def undo(self) -> tuple[Message, ...]:
        """Remove and return the last turn: the messages from the last question on; () without a question.

        The next question continues from the previous answer, with its response id.
        This asks again: `conversation.ask(conversation.undo()[0].content)`.
        """
        self._check()
        places = [place for place, message in enumerate(self.messages) if message.role == "user"]
        if not places:
            return ()
        taken = self.messages[places[-1] :]
        self.messages = self.messages[: places[-1]]
        response_id = self._response_id
        self._keep(known for known in self._known_ids() if known[0] < places[-1])
        self._answered, self.previous_response_id = self.messages, response_id
        return taken

    def _keep(self, known: Iterable[tuple[int, str | None]]) -> None:
        self._earlier = tuple((count, known_id) for count, known_id in known if known_id is not None)

    def record(self, submit: Submit, end: End, text: str = "") -> None:
        """Add a question and its complete answer: `end.reply`, or if that is None, `text`, the joined pieces.

        Raises `ValueError` if `submit` does not continue this conversation in its
        present state, `TypeError` for anything but an `End`.
        """
        if not isinstance(submit, Submit) or not isinstance(end, End):
            raise TypeError(f"expected a Submit and an End, got {type(submit).__name__}, {type(end).__name__}")
        self._check_question(submit)
        question = Message("user", submit.new_message or submit.shortcut_name or "")
        answer = Message("assistant", text if end.reply is None else end.reply)
        response_id = end.response_id  # raises before any change, for an `End` not made by a decoder
        self._keep(self._known_ids())
        self.messages = self._answered = (*self.messages, question, answer)
        self.chat_id = submit.chat_id
        # The server chose it, and every later request will contain it.
        self.previous_response_id = response_id if len(response_id or "") <= LONGEST_ID else None

    def _check_question(self, submit: Submit) -> None:
        if submit.messages != self.messages or self.chat_id not in (None, submit.chat_id):
            raise ValueError("submit: it does not continue this conversation in its present state")

    def record_failure(self, submit: Submit, broken: Broken) -> bool:
        """Record a broken answer. Returns whether anything changed. Adds no messages.

        If the bot reported an error, the provider may have forgotten the response id
        in the question. The id is dropped, so that the next question has the whole
        history. Raises `TypeError` for anything but a `Submit` and a `Broken`.
        """
        if not isinstance(submit, Submit) or not isinstance(broken, Broken):
            raise TypeError(f"expected a Submit and a Broken, got {type(submit).__name__}, {type(broken).__name__}")
        sent = submit.previous_response_id
        if sent is None or broken.in_session or not _is_an_error_of_the_bot(broken):
            return False
        is_known = sent == self.previous_response_id or any(known == sent for _, known in self._earlier)
        if self.previous_response_id == sent:
            self.previous_response_id = None
        self._earlier = tuple(known for known in self._earlier if known[1] != sent)
        return is_known

    def _begin(self, call: object, submit: Submit, current: Session | None) -> None:
        """Reserve it for `call`, on a channel whose session is `current`.

        Raises `RuntimeError` while another call asks, `ValueError` as `record` does, and for another's session.
        """
        if self.session is not None and current is not None and is_anothers(self.session, current):
            raise ValueError(
                "conversation: its session is a member's, and the channel's is another's or a guest's; "
                "use another channel, or set conversation.session to None"
            )
        if self._call is not None and self._call() is not None:
            raise RuntimeError("the conversation is being asked another question")
        self._check_question(submit)
        self._call = weakref.ref(call)
        if self.chat_id is None:
            self.chat_id = submit.chat_id

    def _finish(self, submit: Submit, last: End | Broken, text: str, session: Session | None) -> None:
        """The call is over: record its answer or failure, and its session."""
        self._call = None
        if session is not None:
            self.session = session
        if isinstance(last, End):
            with suppress(ValueError):  # the conversation was edited meanwhile, so the answer no longer belongs to it
                self.record(submit, last, text)
        else:
            self.record_failure(submit, last)

    def __getstate__(self) -> dict[str, Any]:
        """The state of a copy, which no call is asking."""
        return {field.name: getattr(self, field.name) for field in fields(self) if field.name != "_call"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """See `__getstate__`."""
        for name, value in (*state.items(), ("_call", None)):
            setattr(self, name, value)

    def to_dict(self) -> dict[str, Any]:
        """The whole conversation as JSON values. They contain the session's secrets: store them as such."""
        self._check()
        messages = [{"role": message.role, "content": message.content} for message in self.messages]
        for count, response_id in self._known_ids():
            if response_id is not None and 0 < count < len(messages):
                messages[count - 1]["response_id"] = response_id
        return {
            "messages": messages,
            **{name: getattr(self, name) for name in (*_TEXTS, *_SCALARS)},
            "previous_response_id": self._response_id,
            "session": None if self.session is None else _session_values(self.session),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Conversation":
        """Restore a conversation from `to_dict`. Missing keys have their defaults; unknown keys are ignored.

        Raises `ValueError`, which names the key of a wrong value.
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
            known = [(count, _read_response_id(count - 1, message)) for count, message in enumerate(messages, 1)]
            if session is not None:
                session = Session(
                    **{name: session[name] for name in (*_SESSION_TEXTS, *_MEMBER_TEXTS) if name in session}
                )
            conversation = cls(messages=history, session=session, **given)
        except TypeError as error:
            raise ValueError(str(error)) from None
        conversation._keep(known[:-1])
        return conversation


def _session_values(session: Session) -> dict[str, str | None]:
    names = (*_SESSION_TEXTS, *(name for name in _MEMBER_TEXTS if getattr(session, name) != getattr(_GUEST, name)))
    return {name: getattr(session, name) for name in names}


def _is_an_error_of_the_bot(broken: Broken) -> bool:
    """Whether the bot reported this: with an event in a stream, or an object under status 500 (WIRE 5.6, 6.2)."""
    if broken.reason is not Reason.REFUSED or broken.status != 500:
        return broken.reason is Reason.REMOTE
    try:
        payload = decode(broken.raw, Limits().json_depth)
    except ValueError:
        return False
    return isinstance(payload, dict) and payload.get("success") is False


def _read_response_id(index: int, message: Message | Mapping[str, Any]) -> str | None:
    response_id = message.get("response_id") if isinstance(message, Mapping) else None
    if response_id is not None:
        check_text(response_id, f"messages[{index}]['response_id']")
    return response_id
