"""A conversation: what was said, kept between two questions."""

import copy
import gc
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opchat_proto import Broken, Channel, Conversation, End, InvalidMessages, Message, Reason, Session, Submit
from tests.proto.asking import HI
from tests.proto.calls import (
    DOWN,
    OPENED,
    STALE,
    AnyCall,
    Make,
    Reply,
    asks,
    begin,
    both,
    channel,
    ended,
    put_off,
    reach_nobody,
    tell,
)
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


# ------------------------------------------------------------------------------------------------ ids and undo


def said(*ids: str | None) -> Conversation:
    """A conversation of one turn for each id: "1?", "1!", "2?", "2!" and so on."""
    conversation = Conversation(chat_id="c1")
    for number, response_id in enumerate(ids, 1):
        payload = json.dumps({} if response_id is None else {"responseId": response_id})
        conversation.record(conversation.ask(f"{number}?"), End(f"{number}!", payload))
    return conversation


def loaded(conversation: Conversation) -> Conversation:
    return Conversation.from_dict(json.loads(json.dumps(conversation.to_dict())))


def turns(*numbers: int) -> tuple[Message, ...]:
    return tuple(message for n in numbers for message in (Message("user", f"{n}?"), Message("assistant", f"{n}!")))


@pytest.mark.parametrize("kept", [lambda conversation: conversation, loaded, copy.deepcopy])
def test_the_last_turn_is_taken_back_with_its_id(kept: Callable[[Conversation], Conversation]) -> None:
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


def test_what_was_taken_back_can_be_asked_again_and_answered_anew() -> None:
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


def test_an_id_is_sent_with_the_messages_that_it_was_recorded_with_and_no_others() -> None:
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
def test_no_id_is_ever_sent_with_other_messages_than_it_was_recorded_with(actions: list[str]) -> None:
    conversation = Conversation()
    recorded: dict[tuple[Message, ...], str | None] = {}  # the latest id of each history
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


def test_a_dict_names_the_id_of_each_answer_that_the_messages_still_begin_with() -> None:
    conversation = said("r1", None, "r3")
    conversation.messages = (*conversation.messages, Message("user", "more"))
    values = conversation.to_dict()
    assert [message.get("response_id") for message in values["messages"]] == [None, "r1", None, None, None, "r3", None]
    assert values["previous_response_id"] is None
    again = Conversation.from_dict(values)
    assert again.undo() == (Message("user", "more"),)
    assert again.ask("?").previous_response_id == "r3"


def test_an_id_before_any_message_is_kept() -> None:
    conversation = Conversation(previous_response_id="r0")
    conversation.record(conversation.ask("1?"), End("1!", '{"responseId":"r1"}'))
    assert conversation.to_dict()["messages"] == [
        {"role": "user", "content": "1?"},
        {"role": "assistant", "content": "1!"},
    ]
    conversation.undo()
    assert conversation.ask("?").previous_response_id == "r0"


def test_a_long_conversation_keeps_all_its_ids() -> None:
    messages = [{"role": message.role, "content": message.content} for message in turns(*range(10_000))]
    for number, message in enumerate(messages[1::2]):
        message["response_id"] = f"r{number}"
    conversation = loaded(Conversation.from_dict({"messages": messages}))
    conversation.undo()
    assert conversation.ask("?").previous_response_id == "r9998"


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
def test_values_that_are_no_conversation_are_named(values: Any, match: str) -> None:
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
    (name, value) = values.popitem()
    conversation = Conversation()
    setattr(conversation, name, value)
    for call in (conversation.undo, conversation.to_dict):
        with pytest.raises(TypeError):
            call()


def test_a_text_that_cannot_be_sent_is_refused_at_once() -> None:
    with pytest.raises(InvalidMessages):
        Conversation(chat_id="\ud83d")


def test_what_is_shown_is_how_much_and_nothing_of_it() -> None:
    assert repr(full()) == "<Conversation of 2 messages>"


def test_conversations_are_equal_by_value_and_copies_go_their_own_way() -> None:
    conversation = full()
    for copied in copies(conversation):
        assert copied == conversation
        copied.record(copied.ask("And?"), End("So."))
        assert len(copied.messages) == 4
    assert conversation == full()


# ------------------------------------------------------------------------------------------------ asked over a channel


def end_event(reply: str, *more: str) -> bytes:
    payload = "{" + ",".join([f'"success":true,"reply":{reply}', *more]) + "}"
    return b'data: {"type":"end","data":%b}\n\n' % json.dumps(payload).encode()


ANSWERED = Reply(end_event('"Hello"', '"responseId":"r1"'))
ERROR = Reply(b'data: {"type":"error","data":"No."}\n\n')
BUSY = "^the conversation is being asked another question$"


@both
def test_an_answer_adds_the_question_itself_and_its_id(make: Make) -> None:
    conversation = Conversation()
    site = channel(session=Session("n0"))
    call = make(site, "Hi?", conversation, chat_id="drawn")
    assert conversation == Conversation(chat_id="drawn")
    asks(call)
    tell(call, ANSWERED)
    assert conversation == Conversation(
        (Message("user", "Hi?"), Message("assistant", "Hello")),
        chat_id="drawn",
        session=Session("n0"),
        previous_response_id="r1",
    )
    following = make(site, "And?", conversation, chat_id="another")
    assert following.submit == Submit(
        new_message="And?", messages=conversation.messages, chat_id="drawn", previous_response_id="r1"
    )


@both
def test_the_pieces_are_the_answer_where_the_server_gave_no_final_text(make: Make) -> None:
    conversation = Conversation()
    call = make(channel(session=Session(), retries=1), "Hi?", conversation)
    asks(call)
    tell(call, put_off(0))
    asks(call)
    begin(call, HI + b'data: {"type":"live","data":"Thinking","subtype":"status"}\n\n')
    call.receive_data(HI)
    call.receive_data(HI + end_event("null"))
    assert conversation.messages == (Message("user", "Hi?"), Message("assistant", "HiHiHi"))


@both
def test_a_submit_of_ones_own_is_added_and_must_belong_to_the_conversation(make: Make) -> None:
    conversation = full()
    with pytest.raises(ValueError, match=r"^submit: it was not asked of this conversation as it stands$"):
        make(channel(), Submit(new_message="?"), conversation)
    call = make(channel(), conversation.ask("?", file_ids=["f1"]), conversation)
    asks(call)
    tell(call, ANSWERED)
    assert len(conversation.messages) == 4


@pytest.mark.parametrize(("size", "is_kept"), [(256, True), (257, False)])
def test_a_response_id_that_is_too_long_for_every_request_is_not_kept(size: int, is_kept: bool) -> None:
    conversation = Conversation(chat_id="c")
    raw = json.dumps({"success": True, "reply": "Hello", "responseId": "r" * size})
    conversation.record(conversation.ask("Hi"), End("Hello", raw))
    assert conversation.ask("So?").previous_response_id == ("r" * size if is_kept else None)


@both
@pytest.mark.parametrize(
    ("reply", "dropped"),
    [
        (ERROR, True),
        (Reply(b'{"success":false,"message":"No."}'), True),
        (Reply(b'{"success":false,"message":"No."}', 500), True),
        (Reply(b'{"success":false,"message":"No."}', 403), False),
        (Reply(b'{"code":"internal_server_error","message":"No."}', 500), False),
        (Reply(b"[]", 500), False),
        (Reply(b"No.", 500), False),
        (DOWN, False),
        (Reply(HI), False),
        (Reply(b"<html>"), False),
        (None, False),
    ],
)
def test_a_broken_answer_adds_nothing_and_only_an_error_drops_the_response_id(
    make: Make, reply: Reply | None, dropped: bool
) -> None:
    conversation = full()
    call = make(channel(), "So?", conversation)
    asks(call)
    if reply is None:
        call.close()
    else:
        tell(call, reply)
    assert [type(event) for event in ended(call)][-1] is Broken
    expected = full()
    if dropped:
        expected.previous_response_id = None
    assert conversation == expected
    again = make(channel(), "So?", conversation).submit
    assert again == replace(expected.ask("So?"), previous_response_id=None if dropped else "resp_abc")


def test_what_a_broken_answer_tells_is_recorded_without_a_channel_too() -> None:
    error = Broken(Reason.REMOTE, "No.")
    conversation = full()
    assert conversation.record_failure(Submit(new_message="?"), error) is False
    assert conversation.record_failure(conversation.ask("?"), replace(error, in_session=True)) is False
    assert conversation.record_failure(conversation.ask("?"), Broken(Reason.LOST)) is False
    assert conversation.record_failure(Submit(new_message="?", previous_response_id="other"), error) is False
    assert conversation == full()
    assert conversation.record_failure(conversation.ask("?"), error) is True
    assert conversation == replace(full(), previous_response_id=None)


@pytest.mark.parametrize(
    ("submit", "broken", "types"),
    [
        (Submit(new_message="?"), End("!"), "Submit, End"),
        ("?", Broken(Reason.REMOTE), "str, Broken"),
    ],
)
def test_only_a_broken_answer_is_a_failure(submit: Any, broken: Any, types: str) -> None:
    with pytest.raises(TypeError, match=rf"^expected a Submit and a Broken, got {types}$"):
        Conversation().record_failure(submit, broken)


@both
@pytest.mark.parametrize("back", [0, 1])
def test_an_error_drops_the_id_that_was_sent_and_no_other(make: Make, back: int) -> None:
    conversation = said("r1", "r2", "r3")
    conversation.messages = conversation.messages[: 6 - 2 * back]
    call = make(channel(session=Session()), "So?", conversation)
    assert call.submit.previous_response_id == f"r{3 - back}"
    asks(call)
    tell(call, ERROR)
    ids = []
    for numbers in ((1, 2, 3), (1, 2), (1,)):
        conversation.messages = turns(*numbers)
        ids.append(conversation.ask("?").previous_response_id)
    assert ids == [response_id if place != back else None for place, response_id in enumerate(("r3", "r2", "r1"))]


@both
def test_an_error_of_start_session_says_nothing_of_the_response_id(make: Make) -> None:
    conversation = replace(full(), session=None)
    call = make(channel(), "So?", conversation)
    assert asks(call) == "start_session"
    tell(call, Reply(b'{"success":false,"message":"No."}'))
    assert ended(call) == [
        Broken(
            Reason.REMOTE,
            "start_session: No.",
            raw='{"success":false,"message":"No."}',
            in_session=True,
        )
    ]
    assert conversation.previous_response_id == "resp_abc"


@both
def test_the_first_chat_id_is_kept_after_a_broken_answer_too(make: Make) -> None:
    conversation = Conversation()
    call = make(channel(session=Session()), "Hi?", conversation, chat_id="first")
    asks(call)
    tell(call, ERROR)
    assert conversation.chat_id == "first"
    assert make(channel(), "Hi?", conversation, chat_id="second").submit.chat_id == "first"


@pytest.mark.parametrize("count", [0, 1, 3])
def test_a_response_id_is_not_sent_after_messages_that_it_was_not_recorded_with(count: int) -> None:
    conversation = full()
    conversation.messages = (*conversation.messages, Message("user", "More"))[:count]
    assert channel().call("So?", conversation).submit.previous_response_id is None
    assert conversation.to_dict()["previous_response_id"] is None
    conversation.messages = full().messages
    assert conversation.ask("So?").previous_response_id == "resp_abc"


@both
def test_a_conversation_that_is_edited_while_it_is_asked_stays_as_it_was_edited(make: Make) -> None:
    conversation = full()
    call = make(channel(), "So?", conversation)
    asks(call)
    conversation.messages = ()
    tell(call, ANSWERED)
    assert (conversation.messages, conversation.previous_response_id) == ((), "resp_abc")
    assert conversation.ask("Hi?").previous_response_id is None
    make(channel(), "Hi?", conversation)


def close_it(calls: list[AnyCall]) -> None:
    calls[0].close()


def drop_it(calls: list[AnyCall]) -> None:
    del calls[0]
    gc.collect()


def answer_it(calls: list[AnyCall]) -> None:
    asks(calls[0])
    tell(calls[0], ANSWERED)


def break_it(calls: list[AnyCall]) -> None:
    calls[0].next_step(0)
    reach_nobody(calls[0])


@both
@pytest.mark.parametrize("free", [close_it, drop_it, answer_it, break_it])
def test_one_question_at_a_time_on_any_channel(make: Make, free: Callable[[list[AnyCall]], None]) -> None:
    conversation = full()
    site = channel()
    calls = [make(site, "1?", conversation)]
    for other in (site, channel()):
        for make_another in (Channel.call, Channel.http_call):
            with pytest.raises(RuntimeError, match=BUSY):
                make_another(other, "2?", conversation)
    free(calls)
    [next_one] = [make(channel(), "2?", conversation)]
    with pytest.raises(RuntimeError, match=BUSY):
        make(site, "3?", conversation)
    assert next_one.submit.new_message == "2?"


def test_a_conversation_is_in_use_during_the_pause_before_it_is_asked_again() -> None:
    conversation = full()
    site = channel(retries=1)
    call = site.call("1?", conversation)
    asks(call)
    tell(call, put_off(5))
    call.next_step(0)
    with pytest.raises(RuntimeError, match=BUSY):
        site.call("2?", conversation)
    call.close()
    assert site.call("2?", conversation).submit.new_message == "2?"


@both
def test_what_cannot_be_asked_leaves_the_conversation_free(make: Make) -> None:
    conversation = replace(full(), session=Session(origin="http://other.example"))
    with pytest.raises(ValueError, match=r"^session: it belongs to http://other\.example"):
        make(channel(), "Hi?", conversation)
    with pytest.raises(InvalidMessages):
        make(channel(session=Session()), "\ud83d", conversation)
    assert make(channel(session=Session()), "Hi?", conversation).submit.chat_id == "k3v9x0q2ab"


@both
def test_the_session_of_a_loaded_conversation_is_used_by_a_channel_that_has_none(make: Make) -> None:
    kept = loaded(full())
    for session, nonce in ((None, SECRET), (Session("n7"), "n7")):
        site = channel(session=session)
        call = make(site, "So?", kept)
        assert asks(call) == f"submit {nonce}"
        assert site.session == (session or full().session)
        call.close()
        assert kept.session == site.session


@both
def test_a_session_that_a_call_has_started_or_renewed_is_kept(make: Make) -> None:
    conversation = Conversation()
    call = make(channel(), "Hi?", conversation)
    for asked_for, reply in (("start_session", OPENED), ("submit n1", ANSWERED)):
        assert asks(call) == asked_for
        tell(call, reply)
    assert conversation.session == Session("n1", "s1")
    call = make(channel(), "Hi?", conversation)
    fresh = Reply(OPENED.body.replace(b"n1", b"n2"))
    for asked_for, reply in (("submit n1", STALE), ("start_session", fresh), ("submit n2", ERROR)):
        assert asks(call) == asked_for
        tell(call, reply)
    assert conversation.session == Session("n2", "s1")


@both
def test_a_copy_of_a_conversation_in_use_is_asked_by_nobody(make: Make) -> None:
    conversation = full()
    call = make(channel(), "So?", conversation)
    asks(call)
    for copied in copies(conversation):
        assert copied == conversation
        assert copied.ask("So?") == call.submit
        other = make(channel(), "And?", copied)
        asks(other)
        tell(other, ANSWERED)
        assert len(copied.messages) == 4
    assert conversation == full()
    tell(call, ANSWERED)
    assert len(conversation.messages) == 4
