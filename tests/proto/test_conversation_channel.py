"""A conversation that is asked over a channel."""

import gc
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

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
from tests.proto.conversations import SECRET, full, loaded, said, turns
from tests.proto.cuts import copies


def end_event(reply: str, *more: str) -> bytes:
    payload = "{" + ",".join([f'"success":true,"reply":{reply}', *more]) + "}"
    return b'data: {"type":"end","data":%b}\n\n' % json.dumps(payload).encode()


ANSWERED = Reply(end_event('"Hello"', '"responseId":"r1"'))
ERROR = Reply(b'data: {"type":"error","data":"No."}\n\n')
BUSY = "^the conversation is being asked another question$"


@both
def test_an_answer_adds_the_question_itself_and_its_response_id(make: Make) -> None:
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
def test_without_a_final_text_the_joined_pieces_are_the_answer(make: Make) -> None:
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
def test_a_submit_is_added_and_must_belong_to_the_conversation(make: Make) -> None:
    conversation = full()
    with pytest.raises(ValueError, match=r"^submit: it does not continue this conversation in its present state$"):
        make(channel(), Submit(new_message="?"), conversation)
    call = make(channel(), conversation.ask("?", file_ids=["f1"]), conversation)
    asks(call)
    tell(call, ANSWERED)
    assert len(conversation.messages) == 4


@pytest.mark.parametrize(("size", "is_kept"), [(256, True), (257, False)])
def test_a_response_id_that_is_too_long_to_send_is_not_kept(size: int, is_kept: bool) -> None:
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


def test_a_broken_answer_can_be_recorded_without_a_channel() -> None:
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
def test_record_failure_takes_only_a_broken_answer(submit: Any, broken: Any, types: str) -> None:
    with pytest.raises(TypeError, match=rf"^expected a Submit and a Broken, got {types}$"):
        Conversation().record_failure(submit, broken)


@both
@pytest.mark.parametrize("back", [0, 1])
def test_an_error_drops_only_the_response_id_that_was_sent(make: Make, back: int) -> None:
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
def test_an_error_of_start_session_keeps_the_response_id(make: Make) -> None:
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
def test_a_response_id_is_sent_only_after_the_messages_it_was_recorded_with(count: int) -> None:
    conversation = full()
    conversation.messages = (*conversation.messages, Message("user", "More"))[:count]
    assert channel().call("So?", conversation).submit.previous_response_id is None
    assert conversation.to_dict()["previous_response_id"] is None
    conversation.messages = full().messages
    assert conversation.ask("So?").previous_response_id == "resp_abc"


@both
def test_editing_a_conversation_during_a_question_is_kept(make: Make) -> None:
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
def test_only_one_question_at_a_time_is_asked_on_any_channel(make: Make, free: Callable[[list[AnyCall]], None]) -> None:
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


def test_a_conversation_is_in_use_during_the_pause_before_a_retry() -> None:
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
def test_an_invalid_question_leaves_the_conversation_free(make: Make) -> None:
    conversation = replace(full(), session=Session(origin="http://other.example"))
    with pytest.raises(ValueError, match=r"^session: it belongs to http://other\.example"):
        make(channel(), "Hi?", conversation)
    with pytest.raises(InvalidMessages):
        make(channel(session=Session()), "\ud83d", conversation)
    assert make(channel(session=Session()), "Hi?", conversation).submit.chat_id == "k3v9x0q2ab"


@both
def test_a_channel_without_a_session_uses_the_one_of_a_loaded_conversation(make: Make) -> None:
    kept = loaded(full())
    for session, nonce in ((None, SECRET), (Session("n7"), "n7")):
        site = channel(session=session)
        call = make(site, "So?", kept)
        assert asks(call) == f"submit {nonce}"
        assert site.session == (session or full().session)
        call.close()
        assert kept.session == site.session


@both
def test_a_conversation_keeps_the_session_that_a_call_started_or_renewed(make: Make) -> None:
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
def test_a_copy_of_a_conversation_in_use_is_free(make: Make) -> None:
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


@both
def test_a_members_conversation_is_not_asked_over_a_channel_of_a_guest(make: Make) -> None:
    member = replace(Session.from_application_password("ada", "pass word"), origin="https://site.example")
    conversation = Conversation(session=member)
    with pytest.raises(ValueError, match=r"^conversation: its session is a member's, and the channel's is another's"):
        make(Channel("https://site.example", session=Session("n0")), "Hi?", conversation)
    conversation.session = None
    assert asks(make(Channel("https://site.example", session=Session("n0")), "Hi?", conversation)) == "submit n0"
