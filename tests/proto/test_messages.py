"""A question: constructed, built from messages, and encoded by a client."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import FrozenInstanceError, fields, replace
from typing import Any

import pytest

from opchat_proto import InvalidMessages, Message, Submit
from tests.proto.cuts import copies
from tests.proto.questions import ROLES, USER, fault

NO_TOOLS = "bots here call no tools for you, so leave these messages out"
NOT_A_TUPLE = (
    "Submit.messages: expected a tuple of Message; dicts are for Submit.from_messages and Conversation.from_dict"
)

# ------------------------------------------------------------------------------ the bytes


def test_the_body_matches_a_browsers_byte_for_byte() -> None:
    submit = Submit.from_messages(
        [
            {"id": "p1", "role": "assistant", "content": "Hi! 🚉", "timestamp": 1751412340000},
            Message("user", 'Où est\n"/" ?'),
        ],
        chat_id="k3v9x0q2ab",
        context_id=12,
    )
    assert submit.encode("6b02fc304cdb0") == (
        b'{"botId":"default","customId":null,"session":"6b02fc304cdb0","chatId":"k3v9x0q2ab","contextId":12,'
        b'"messages":[{"role":"assistant","content":"Hi! \xf0\x9f\x9a\x89"}],"newMessage":"O\xc3\xb9 est\\n\\"/\\" ?",'
        b'"newFileId":null,"newFileIds":null,"stream":true}'
    )


def test_the_smallest_body_has_every_key_that_a_browser_always_sends() -> None:
    assert Submit(new_message="hi").encode() == (
        b'{"botId":"default","customId":null,"session":null,"contextId":null,"messages":[],"newMessage":"hi",'
        b'"newFileId":null,"newFileIds":null,"stream":true}'
    )


def test_the_optional_keys_come_last_in_the_browsers_order() -> None:
    submit = Submit(
        new_message="",
        stream=False,
        bot_id=None,
        custom_id="9f",
        previous_response_id="resp_1",
        shortcut_name="Help",
        shortcut_id="x=",
    )
    assert submit.encode() == (
        b'{"botId":null,"customId":"9f","session":null,"contextId":null,"messages":[],"newMessage":"",'
        b'"newFileId":null,"newFileIds":null,"stream":false,'
        b'"shortcutId":"x=","shortcutName":"Help","previousResponseId":"resp_1"}'
    )


@pytest.mark.parametrize(
    ("file_ids", "one", "several"), [((), None, None), (("a",), "a", None), (("a", "b"), None, ["a", "b"])]
)
def test_one_file_and_several_files_use_different_keys(
    file_ids: tuple[str, ...], one: str | None, several: list[str] | None
) -> None:
    body = Submit(new_message="", file_ids=file_ids).to_dict()
    assert (body["newFileId"], body["newFileIds"], "newImageId" in body) == (one, several, False)
    old = Submit(new_message="", file_ids=file_ids).to_dict(old_names=True)
    assert old == {**body, **({"newImageId": file_ids[0]} if file_ids else {})}


@pytest.mark.parametrize("number", [0, -1, 7, 2024, 12.5, 1e300])
def test_an_id_that_a_page_printed_as_a_number_is_sent_as_a_number(number: float) -> None:
    body = json.loads(Submit(new_message="", bot_id=number, custom_id=number, context_id=number).encode())
    assert (body["botId"], body["customId"], body["contextId"]) == (number, number, number)
    assert type(body["botId"]) is type(number)


def test_the_dict_and_the_bytes_are_equal() -> None:
    submit = Submit(new_message="\u2028\x00\x7fé", messages=(Message("user", "\u0085"),), chat_id="c")
    assert json.loads(submit.encode("s")) == submit.to_dict("s")
    assert list(json.loads(submit.encode("s"))) == list(submit.to_dict("s"))


# ------------------------------------------------------------------------------ from_messages


def test_the_last_message_is_the_question_and_the_others_are_the_history() -> None:
    messages: list[Message | Mapping[str, Any]] = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hi", "name": "ignored"},
        Message("assistant", "Hello"),
        {"role": "user", "content": ""},
    ]
    expected = Submit(
        new_message="",
        messages=(Message("system", "Be brief."), Message("user", "Hi"), Message("assistant", "Hello")),
    )
    assert Submit.from_messages(messages) == expected
    assert Submit.from_messages(tuple(messages)) == expected
    assert Submit.from_messages(message for message in messages) == expected


def test_from_messages_takes_every_option_of_the_constructor() -> None:
    options: dict[str, Any] = {
        "chat_id": "c",
        "bot_id": 1,
        "custom_id": "x",
        "context_id": 2.5,
        "file_ids": ("f", "g"),
        "stream": False,
        "shortcut_id": "s",
        "shortcut_name": "n",
        "previous_response_id": "r",
    }
    assert {field.name for field in fields(Submit)} == {*options, "new_message", "messages"}
    assert Submit.from_messages([USER], **options) == Submit(new_message="Hi", **options)
    assert Submit.from_messages([USER], file_ids=iter(["f", "g"])).file_ids == ("f", "g")


def test_the_callers_messages_are_neither_changed_nor_kept() -> None:
    message = {"role": "user", "content": "Hi"}
    messages = [message, dict(message)]
    submit = Submit.from_messages(messages)
    message["content"] = "changed"
    messages.clear()
    assert submit == Submit(new_message="Hi", messages=(Message("user", "Hi"),))


@pytest.mark.parametrize(
    ("messages", "text"),
    [
        ("Hi", "expected a list of messages, got str"),
        (b"Hi", "expected a list of messages, got bytes"),
        (USER, "expected a list of messages, got dict: put it into a list"),
        (None, "expected a list of messages, got NoneType"),
        (5, "expected a list of messages, got int"),
        (Message("user", "Hi"), "expected a list of messages, got Message: put it into a list"),
        ([], "expected at least one message: the user's question"),
        (iter(()), "expected at least one message: the user's question"),
    ],
)
def test_anything_but_a_list_of_messages_is_refused_as_a_whole(messages: Any, text: str) -> None:
    assert fault(lambda: Submit.from_messages(messages)) == (text, None)


@pytest.mark.parametrize(
    ("message", "text"),
    [
        ("Hi", ": expected a Message or a dict with 'role' and 'content', got str"),
        (["user", "Hi"], ": expected a Message or a dict with 'role' and 'content', got list"),
        (None, ": expected a Message or a dict with 'role' and 'content', got NoneType"),
        ({}, f"['role']: {ROLES} nothing"),
        ({"content": "Hi"}, f"['role']: {ROLES} nothing"),
        ({"role": "User", "content": "Hi"}, f"['role']: {ROLES} 'User'"),
        ({"role": "error", "content": "Hi"}, f"['role']: {ROLES} 'error'"),
        ({"role": b"user", "content": "Hi"}, f"['role']: {ROLES} b'user'"),
        ({"role": ["user"], "content": "Hi"}, f"['role']: {ROLES} ['user']"),
        ({"role": "é\n" * 99, "content": "Hi"}, f"['role']: {ROLES} '" + "\\xe9\\n" * 9 + "\\xe9\\"),
        (Message("tool", "Hi"), f"['role']: {ROLES} 'tool': {NO_TOOLS}"),
        ({"role": "developer", "content": "Hi"}, f"['role']: {ROLES} 'developer': write 'system'"),
        ({"role": "user"}, "['content']: expected a str, got nothing"),
        ({"role": "user", "content": None}, "['content']: expected a str, got nothing"),
        ({"role": "user", "content": 5}, "['content']: expected a str, got 5"),
        ({"role": "user", "content": b"Hi"}, "['content']: expected a str, got b'Hi'"),
        (
            {"role": "user", "content": [{"type": "text", "text": "Hi"}]},
            "['content']: expected a str, got [{'type': 'text', 'text': 'Hi'}]: join the texts of its parts, "
            "and send pictures as files",
        ),
        (
            {"role": "user", "content": "ab\ud800"},
            ": Message.content: expected text that encodes to UTF-8, got a lone surrogate at index 2",
        ),
    ],
    ids=lambda value: ascii(value)[:40],
)  # fmt: skip
@pytest.mark.parametrize("index", [0, 1, 2])
def test_a_wrong_message_is_named_with_what_was_expected(message: Any, text: str, index: int) -> None:
    messages: list[Any] = [USER, USER, USER]
    messages[index] = message
    assert fault(lambda: Submit.from_messages(messages)) == (f"messages[{index}]{text}", index)


def test_a_value_that_python_cannot_write_is_named_by_its_type() -> None:
    levels: list[Any] = []
    for _ in range(100_000):
        levels = [levels]
    for value, kind in ((10**5000, "int"), (levels, "list")):
        message: Any = {"role": value, "content": "Hi"}
        assert fault(lambda: Submit.from_messages([message])) == (f"messages[0]['role']: {ROLES} {kind}", 0)  # noqa: B023  # called at once


@pytest.mark.parametrize("role", ["assistant", "system"])
def test_the_last_message_must_be_the_users(role: str) -> None:
    expected = (f"messages[1]: the last message is the question: expected role 'user', got '{role}'", 1)
    assert fault(lambda: Submit.from_messages([USER, Message(role, "Hello")])) == expected


def test_the_first_of_several_faults_is_named() -> None:
    assert fault(lambda: Submit.from_messages([USER, {"role": "user"}, 5]))[1] == 1  # type: ignore[list-item]  # wrong on purpose


def test_any_mapping_is_a_message() -> None:
    class Turn(Mapping[str, str]):
        def __getitem__(self, key: str) -> str:
            return {"role": "user", "content": "Hi"}[key]

        def __iter__(self) -> Iterator[str]:
            return iter(("role", "content"))

        def __len__(self) -> int:
            return 2

    assert Submit.from_messages([Turn()]) == Submit(new_message="Hi")


def test_file_ids_given_as_one_string_are_refused() -> None:
    with pytest.raises(TypeError, match=r"^file_ids: expected several str, got one$"):
        Submit.from_messages([USER], file_ids="abc")


def test_an_error_of_the_callers_iterator_propagates() -> None:
    def turns() -> Iterator[Message]:
        yield Message("user", "Hi")
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match=r"^the disk is gone$"):
        Submit.from_messages(turns())


# ------------------------------------------------------------------------------ the constructors


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"new_message": None}, "Submit.new_message: expected a str, got NoneType"),
        ({"new_message": b"Hi"}, "Submit.new_message: expected a str, got bytes"),
        ({"messages": []}, NOT_A_TUPLE),
        ({"messages": (USER,)}, NOT_A_TUPLE),
        ({"messages": None}, NOT_A_TUPLE),
        ({"file_ids": ["a"]}, "Submit.file_ids: expected a tuple of str"),
        ({"file_ids": "a"}, "Submit.file_ids: expected a tuple of str"),
        ({"file_ids": ("a", 5)}, "Submit.file_ids: expected a str, got int"),
        ({"stream": 1}, "Submit.stream: expected a bool"),
        ({"stream": None}, "Submit.stream: expected a bool"),
        ({"chat_id": 5}, "Submit.chat_id: expected a str, got int"),
        ({"shortcut_id": b"a"}, "Submit.shortcut_id: expected a str, got bytes"),
        ({"shortcut_name": False}, "Submit.shortcut_name: expected a str, got bool"),
        ({"previous_response_id": 1.5}, "Submit.previous_response_id: expected a str, got float"),
        ({"bot_id": True}, "Submit.bot_id: expected a str, an int, a float or None, got bool"),
        ({"custom_id": b"a"}, "Submit.custom_id: expected a str, an int, a float or None, got bytes"),
        ({"context_id": [1]}, "Submit.context_id: expected a str, an int, a float or None, got list"),
    ],
)
def test_a_value_of_a_wrong_type_is_a_type_error(given: dict[str, Any], text: str) -> None:
    with pytest.raises(TypeError) as caught:
        Submit(**{"new_message": "Hi", **given})
    assert str(caught.value) == text


@pytest.mark.parametrize(("role", "content", "name"), [(None, "a", "role"), ("user", 5, "content")])
def test_a_message_is_made_of_texts(role: Any, content: Any, name: str) -> None:
    with pytest.raises(TypeError, match=rf"^Message\.{name}: expected a str, got (NoneType|int)$"):
        Message(role, content)


@pytest.mark.parametrize("half", ["\ud800", "\ud83d!\ude89"])
@pytest.mark.parametrize(
    "name",
    [
        *("new_message", "chat_id", "shortcut_id", "shortcut_name", "previous_response_id"),
        *("bot_id", "custom_id", "context_id", "file_ids"),
    ],
)
def test_a_lone_surrogate_is_refused_anywhere(name: str, half: str) -> None:
    text = f"é{half}"
    given: dict[str, Any] = {"new_message": "Hi", name: ("a", text) if name == "file_ids" else text}
    assert fault(lambda: Submit(**given)) == (
        f"Submit.{name}: expected text that encodes to UTF-8, got a lone surrogate at index 1",
        None,
    )


@pytest.mark.parametrize("name", ["role", "content"])
def test_a_lone_surrogate_in_a_message_is_refused(name: str) -> None:
    given = {"role": "user", "content": "Hi", name: "\udc00"}
    assert fault(lambda: Message(**given)) == (
        f"Message.{name}: expected text that encodes to UTF-8, got a lone surrogate at index 0",
        None,
    )


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("name", ["bot_id", "custom_id", "context_id"])
def test_a_number_that_json_cannot_hold_is_refused(name: str, number: float) -> None:
    given: dict[str, Any] = {"new_message": "Hi", name: number}
    assert fault(lambda: Submit(**given)) == (f"Submit.{name}: expected a finite number, got {number}", None)


def test_invalid_arguments_are_value_errors_and_type_errors() -> None:
    assert issubclass(InvalidMessages, ValueError)
    assert not issubclass(InvalidMessages, TypeError)


@pytest.mark.parametrize(
    "value",
    [
        Message("user", "Hi"),
        Submit(new_message="Hi"),
        Submit(new_message="Hi", messages=(Message("a", "b"),), bot_id=1.5, file_ids=("x",), stream=False),
    ],
    ids=repr,
)
def test_a_question_is_a_frozen_slotted_hashable_value(value: Message | Submit) -> None:
    assert list(copies(value)) == [value] * 6
    assert {hash(twin) for twin in copies(value)} == {hash(value)}
    assert not hasattr(value, "__dict__")
    for field in fields(value):
        with pytest.raises(FrozenInstanceError):
            setattr(value, field.name, "other")


def test_a_question_can_be_matched_and_replaced() -> None:
    match Submit(new_message="Hi", messages=(Message("user", "a"),)):
        case Submit(new_message=question, messages=(Message(role, content),)):
            assert (question, role, content) == ("Hi", "user", "a")
        case _:
            pytest.fail("no match")
    assert replace(Submit(new_message="Hi"), stream=False) == Submit(new_message="Hi", stream=False)
    with pytest.raises(TypeError):
        replace(Submit(new_message="Hi"), stream=0)  # type: ignore[arg-type]  # wrong on purpose
