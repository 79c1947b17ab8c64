"""A question as a value: a client encodes it, a server decodes it (WIRE 4)."""

import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, TypeAlias, final

from ._askable import JSON, Askable, Draft
from ._errors import InvalidMessages
from ._session import Session
from ._value import Value

__all__ = ["Message", "Scalar", "Submit"]

SUBMIT_ROUTE = "/mwai-ui/v1/chats/submit"
Scalar: TypeAlias = str | int | float
"""An id as the site's page prints it. Sites print ids of digits as numbers, and
expect the same type back (WIRE 2.4)."""

_SENT = ("role", "content")  # the keys of a message
_LONGEST_ID = 14_000  # bits; fewer than the 4300 digits that CPython can write
ROLES = ("user", "assistant", "system")
COMPACT = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))


@final
@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Message(Value):
    """One turn of a conversation. `content` is Markdown; `role` is "user", "assistant" or "system" (WIRE 4.4)."""

    role: str
    content: str

    def __post_init__(self) -> None:
        """Check the types, and that the texts can be encoded."""
        check_text(self.role, "Message.role")
        check_text(self.content, "Message.content")


@final
@dataclass(frozen=True, slots=True, eq=False, repr=False, kw_only=True)
class Submit(Askable, Value):
    """The body of chats/submit (WIRE 4.2), without the session id, which the flow knows.

    Raises `InvalidMessages` (a `ValueError`) for a text that cannot be encoded,
    `TypeError` for a value of another type.
    """

    _is_question: ClassVar[bool] = True

    new_message: str
    """The question. The server requires a non-blank character, unless there
    is a file or a shortcut."""
    messages: tuple[Message, ...] = ()
    """The conversation before the question, oldest message first."""
    chat_id: str | None = None
    """The name of the conversation, chosen by the client (WIRE 4.6); None leaves it out."""
    bot_id: Scalar | None = "default"
    custom_id: Scalar | None = None
    context_id: Scalar | None = None
    """The id of the page that shows the bot."""
    file_ids: tuple[str, ...] = ()
    """Ids of uploaded files (WIRE 7.5)."""
    stream: bool = True
    """Whether the answer should be streamed."""
    shortcut_id: str | None = None
    shortcut_name: str | None = None
    previous_response_id: str | None = None
    """`End.response_id` of the previous answer."""

    def __post_init__(self) -> None:
        """Check the types, and that the texts can be encoded."""
        check_text(self.new_message, "Submit.new_message")
        if type(self.messages) is not tuple or not all(type(message) is Message for message in self.messages):
            instead = "dicts are for Submit.from_messages and Conversation.from_dict"
            raise TypeError(f"Submit.messages: expected a tuple of Message; {instead}")
        if type(self.file_ids) is not tuple:
            raise TypeError("Submit.file_ids: expected a tuple of str")
        for file_id in self.file_ids:
            check_text(file_id, "Submit.file_ids")
        if type(self.stream) is not bool:
            raise TypeError("Submit.stream: expected a bool")
        for name in ("chat_id", "shortcut_id", "shortcut_name", "previous_response_id"):
            if getattr(self, name) is not None:
                check_text(getattr(self, name), f"Submit.{name}")
        for name in ("bot_id", "custom_id", "context_id"):
            check_scalar(getattr(self, name), f"Submit.{name}")

    @classmethod
    def from_messages(
        cls,
        messages: Iterable[Message | Mapping[str, Any]],
        *,
        chat_id: str | None = None,
        bot_id: Scalar | None = "default",
        custom_id: Scalar | None = None,
        context_id: Scalar | None = None,
        file_ids: Iterable[str] = (),
        stream: bool = True,
        shortcut_id: str | None = None,
        shortcut_name: str | None = None,
        previous_response_id: str | None = None,
    ) -> "Submit":
        """Make a question from a list of messages: `Message`s or dicts with "role" and "content".

        The last message is the question and must be the user's; the others are
        the history. Other keys of a dict are not sent. Raises `InvalidMessages`,
        which names the index and what was expected there.
        """
        if isinstance(messages, str | bytes | Mapping) or not isinstance(messages, Iterable):
            hint = ": put it into a list" if isinstance(messages, Mapping | Message) else ""
            raise InvalidMessages(f"expected a list of messages, got {type(messages).__name__}{hint}")
        turns = tuple(read_message(index, message, ROLES) for index, message in enumerate(messages))
        if not turns:
            raise InvalidMessages("expected at least one message: the user's question")
        if turns[-1].role != "user":
            index = len(turns) - 1
            raise InvalidMessages(
                f"messages[{index}]: the last message is the question: expected role 'user', got {turns[-1].role!r}",
                index,
            )
        return cls(
            new_message=turns[-1].content,
            messages=turns[:-1],
            chat_id=chat_id,
            bot_id=bot_id,
            custom_id=custom_id,
            context_id=context_id,
            file_ids=read_ids(file_ids),
            stream=stream,
            shortcut_id=shortcut_id,
            shortcut_name=shortcut_name,
            previous_response_id=previous_response_id,
        )

    def to_dict(self, session_id: str | None = None, *, old_names: bool = False) -> dict[str, Any]:
        """The JSON object of WIRE 4.2, keys in the browser's order.

        With `old_names` the first file is also where plugins up to 2.1.4 look for it.
        """
        body: dict[str, Any] = {"botId": self.bot_id, "customId": self.custom_id, "session": session_id}
        if self.chat_id is not None:
            body["chatId"] = self.chat_id
        body["contextId"] = self.context_id
        body["messages"] = [{"role": message.role, "content": message.content} for message in self.messages]
        body["newMessage"] = self.new_message
        # A single file has the key that every version since 2.1.5 reads; several have the key of 2.9.7.
        body["newFileId"] = self.file_ids[0] if len(self.file_ids) == 1 else None
        body["newFileIds"] = list(self.file_ids) if len(self.file_ids) > 1 else None
        if old_names and self.file_ids:
            body["newImageId"] = self.file_ids[0]
        body["stream"] = self.stream
        for key, value in (
            ("shortcutId", self.shortcut_id),
            ("shortcutName", self.shortcut_name),
            ("previousResponseId", self.previous_response_id),
        ):
            if value is not None:
                body[key] = value
        return body

    def encode(self, session_id: str | None = None, *, old_names: bool = False) -> bytes:
        """`to_dict` as compact JSON in UTF-8, as a browser writes it."""
        return COMPACT.encode(self.to_dict(session_id, old_names=old_names)).encode()

    def _draft(self, session: Session | None) -> Draft:
        # The version is unknown. A site that gives no nonce is older than 2.0.0, or refuses the question anyway.
        old_names = session is not None and session.nonce is None
        body = self.encode(session and session.session_id, old_names=old_names)
        return Draft(SUBMIT_ROUTE, body, accept="text/event-stream" if self.stream else JSON)

    @classmethod
    def from_dict(cls, body: Mapping[str, Any]) -> "Submit":
        """Read the question in a decoded body, in today's dialect or the one of 2023 (WIRE 4.2, 10.1).

        Like the plugin, it accepts a number as a text, anything as a bool, and a
        missing role or content as "" (WIRE 4.4). Unknown keys are ignored, so that
        nobody can override a bot's settings (WIRE 4.5, 9). Raises `InvalidMessages`
        for a value of a wrong type.
        """
        if not isinstance(body, Mapping):
            raise InvalidMessages(f"expected a JSON object, got {type(body).__name__}")
        history = body.get("messages")
        if history is None:
            history = []
        if not isinstance(history, list):
            raise InvalidMessages("messages: expected an array")
        file_ids = body.get("newFileIds")
        if not file_ids:
            file_id = _text(body, "newFileId")
            if file_id is None:
                file_id = _text(body, "newImageId")  # its key up to 2.1.4
            file_ids = [] if file_id is None else [file_id]
        if not isinstance(file_ids, list) or not all(isinstance(item, str) for item in file_ids):
            raise InvalidMessages("newFileIds: expected an array of strings")
        stream = body.get("stream")
        return cls(
            new_message=_text(body, "newMessage") or "",
            messages=tuple(read_sent(index, message) for index, message in enumerate(history)),
            chat_id=_text(body, "chatId"),
            bot_id=_scalar(body, "botId"),
            custom_id=_scalar(body, "customId"),
            context_id=_scalar(body, "contextId"),
            file_ids=tuple(file_ids),
            stream=bool(stream) and stream != "0",  # true in PHP
            shortcut_id=_text(body, "shortcutId"),
            shortcut_name=_text(body, "shortcutName"),
            previous_response_id=_text(body, "previousResponseId"),
        )


_NO_TOOLS = ": bots here call no tools for you, so leave these messages out"
_ROLE_HINTS = {"developer": ": write 'system'", "tool": _NO_TOOLS, "function": _NO_TOOLS}


def read_ids(file_ids: Iterable[str]) -> tuple[str, ...]:
    """The ids for `Submit.file_ids`, which checks each. Raises `TypeError` for a str."""
    if isinstance(file_ids, str):
        raise TypeError("file_ids: expected several str, got one")  # its characters would become ids
    return tuple(file_ids)


def read_message(index: int, message: object, roles: Collection[str] | None = None) -> Message:
    """A message from a `Message` or a dict; its role must be in `roles` if given. Raises `InvalidMessages`."""
    role: Any
    content: Any
    if isinstance(message, Message):
        role, content = message.role, message.content
    elif isinstance(message, Mapping):
        role, content = message.get("role"), message.get("content")
    else:
        raise InvalidMessages(
            f"messages[{index}]: expected a Message or a dict with 'role' and 'content', got {type(message).__name__}",
            index,
        )
    if not isinstance(role, str) or (roles is not None and role not in roles):
        raise InvalidMessages(
            f"messages[{index}]['role']: expected 'user', 'assistant' or 'system', got {_shown(role)}"
            f"{_ROLE_HINTS.get(role, '') if isinstance(role, str) else ''}",
            index,
        )
    if not isinstance(content, str):
        hint = ": join the texts of its parts, and send pictures as files" if isinstance(content, list) else ""
        raise InvalidMessages(f"messages[{index}]['content']: expected a str, got {_shown(content)}{hint}", index)
    try:
        return Message(role, content)
    except InvalidMessages as error:
        raise InvalidMessages(f"messages[{index}]: {error}", index) from None


def read_sent(index: int, message: object) -> Message:
    """A decoded message; the plugin reads its role and content. An array counts as a message without keys."""
    if isinstance(message, list) or (isinstance(message, dict) and message.keys().isdisjoint(_SENT)):
        return _NOTHING  # a body can have hundreds of thousands of them
    if isinstance(message, Mapping):
        message = {key: "" if (value := message.get(key)) is None else _as_text(value, key) for key in _SENT}
    return read_message(index, message)


def _as_text(value: object, name: str) -> object:
    """A value that the plugin accepts as a text; numbers too. Raises `InvalidMessages` for an infinite number."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return value
    check_scalar(value, name)
    return str(value)


def _shown(value: object) -> str:
    if value is None:
        return "nothing"
    try:
        return ascii(value)[:60]
    except (ValueError, RecursionError):  # an int of more than 4300 digits; a list of too many levels
        return type(value).__name__


def check_text(value: object, name: str) -> None:
    if not isinstance(value, str):
        raise TypeError(f"{name}: expected a str, got {type(value).__name__}")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise InvalidMessages(
            f"{name}: expected text that encodes to UTF-8, got a lone surrogate at index {error.start}"
        ) from None


def check_scalar(value: object, name: str) -> None:
    if isinstance(value, str):
        check_text(value, name)
    elif isinstance(value, float):
        if value - value != 0:  # infinite or not a number
            raise InvalidMessages(f"{name}: expected a finite number, got {value}")
    elif type(value) is int:
        if value.bit_length() > _LONGEST_ID:
            raise InvalidMessages(f"{name}: expected a number of at most {_LONGEST_ID} bits")
    elif value is not None:
        raise TypeError(f"{name}: expected a str, an int, a float or None, got {type(value).__name__}")


def _scalar(body: Mapping[str, Any], key: str) -> Scalar | None:
    value = body.get(key)
    if value is None or value is False:  # an id that overflowed becomes `false` (WIRE 2.4)
        return None
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise InvalidMessages(f"{key}: expected a string, a number or null")
    return value


def _text(body: Mapping[str, Any], key: str) -> str | None:
    value = _as_text(_scalar(body, key), key)
    assert value is None or isinstance(value, str)
    return value


_NOTHING = Message("", "")
