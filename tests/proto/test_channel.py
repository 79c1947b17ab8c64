"""The arguments of a channel, valid and invalid, and the kinds of questions."""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from opchat_proto import (
    Channel,
    Conversation,
    Endpoint,
    InvalidMessages,
    Limits,
    Message,
    QuestionLike,
    Request,
    Session,
    Submit,
    Timeouts,
)
from tests.proto.calls import Make, both, channel

HISTORY = (Message("user", "Hi"), Message("assistant", "Hello"))


@both
@pytest.mark.parametrize(
    ("question", "submit"),
    [
        (lambda: "Hi?", Submit(new_message="Hi?")),
        (lambda: [{"role": "user", "content": "Hi?"}], Submit(new_message="Hi?")),
        (lambda: iter((*HISTORY, Message("user", "So?"))), Submit(new_message="So?", messages=HISTORY)),
        (lambda: Submit(new_message="Hi?", bot_id="b"), Submit(new_message="Hi?", bot_id="b")),
    ],
)
def test_a_question_is_a_text_messages_or_a_submit(
    make: Make, question: Callable[[], QuestionLike], submit: Submit
) -> None:
    assert make(channel(), question()).submit == submit
    assert make(channel(), question(), chat_id="drawn").submit == replace(submit, chat_id="drawn")


def test_a_submit_without_a_chat_id_gets_the_one_of_its_conversation() -> None:
    conversation = Conversation(chat_id="first")
    assert channel().call(Submit(new_message="Hi?"), conversation, chat_id="second").submit.chat_id == "first"


def test_a_question_of_a_conversation_follows_its_messages() -> None:
    submit = channel().call("So?", Conversation(HISTORY, bot_id="b"), chat_id="drawn").submit
    assert submit == Submit(new_message="So?", messages=HISTORY, bot_id="b", chat_id="drawn")
    assert channel().call(replace(submit, chat_id="own"), chat_id="drawn").submit.chat_id == "own"


@both
@pytest.mark.parametrize(
    ("arguments", "error", "match"),
    [
        (([],), InvalidMessages, r"^expected at least one message"),
        ((5,), InvalidMessages, r"^expected a list of messages, got int$"),
        (("\ud83d",), InvalidMessages, r"^Submit\.new_message: "),
        (("x" * 2**20,), ValueError, r"^submit: expected at most 1048576 bytes"),
        (("Hi?", 5), TypeError, r"^conversation: expected a Conversation or None, got int$"),
        ((Submit(new_message="Hi?"), 5), TypeError, r"^conversation: "),
        (([{"role": "user", "content": "Hi?"}], Conversation()), TypeError, r"^question: expected a str or a Submit"),
    ],
)
def test_an_invalid_question_raises_at_once(
    make: Make, arguments: tuple[Any, ...], error: type[Exception], match: str
) -> None:
    site = channel()
    with pytest.raises(error, match=match):
        make(site, *arguments)
    assert site.session is None


@both
@pytest.mark.parametrize("question", ["Hi?", [{"role": "user", "content": "Hi?"}]])
def test_options_set_the_fields_of_a_submit(make: Make, question: QuestionLike) -> None:
    submit = make(channel(), question, bot_id="sales", context_id=28, file_ids=["f1"], stream=False).submit
    assert submit == Submit(new_message="Hi?", bot_id="sales", context_id=28, file_ids=("f1",), stream=False)


def test_options_can_go_with_a_question_of_a_conversation() -> None:
    submit = channel().call("So?", Conversation(HISTORY, bot_id="b"), shortcut_id="s").submit
    assert submit == Submit(new_message="So?", messages=HISTORY, bot_id="b", shortcut_id="s")


@both
@pytest.mark.parametrize(
    ("arguments", "options", "match"),
    [
        ((Submit(new_message="Hi?"),), {"stream": False}, r"^stream: the Submit has its own$"),
        (("Hi?", Conversation()), {"bot_id": "b"}, r"^bot_id: the conversation has its own$"),
        (("Hi?", Conversation()), {"custom_id": "b"}, r"^custom_id: the conversation has its own$"),
        (("Hi?", Conversation()), {"context_id": 5}, r"^context_id: the conversation has its own$"),
        (("Hi?",), {"bot_id": []}, r"^Submit\.bot_id: "),
        (
            ("Hi?",),
            {"chat": "c"},
            r"^chat: a question has no such option, only bot_id, custom_id, context_id, file_ids, stream, ",
        ),
        (("Hi?",), {"file_ids": "f1"}, r"^file_ids: expected several str, got one$"),
    ],
)
def test_invalid_options_raise_at_once(
    make: Make, arguments: tuple[Any, ...], options: dict[str, Any], match: str
) -> None:
    with pytest.raises(TypeError, match=match):
        make(channel(), *arguments, **options)


def test_a_chat_id_of_the_wrong_type_raises_at_once() -> None:
    wrong: Any = 5
    with pytest.raises(TypeError, match=r"^Submit\.chat_id: expected a str, got int$"):
        channel().call("Hi?", chat_id=wrong)


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        ({"endpoint": 5}, TypeError, r"^endpoint: expected an Endpoint or a str, got int$"),
        ({"endpoint": "site"}, ValueError, r"^'site': no https:// in front; expected a site"),
        ({"session": "n0"}, TypeError, r"^session: expected .*, got str$"),
        ({"session": Session(origin="http://other.example")}, ValueError, r"^session: it belongs to http://other"),
        ({"headers": None}, TypeError, r"^headers: expected a dict or pairs of name and value, got NoneType$"),
        ({"headers": {"Host": "other"}}, ValueError, r"^headers: Host cannot be set here: opchat sets it$"),
        ({"limits": 5}, TypeError, r"^limits: expected Limits, got int$"),
        ({"timeouts": 5}, TypeError, r"^timeouts: expected Timeouts, got int$"),
        ({"proxy": 5}, TypeError, r"^proxy: expected a Proxy, a str or None, got int$"),
        ({"proxy": "ftp://proxy.example"}, ValueError, r"^expected a proxy"),
        ({"retries": 1.5}, TypeError, r"^retries: expected an int, got float$"),
        ({"retries": -1}, ValueError, r"^retries: expected 0 or more, got -1$"),
        ({"longest_wait": "5"}, TypeError, r"^longest_wait: expected seconds, got str$"),
        ({"longest_wait": math.nan}, ValueError, r"^longest_wait: expected 0 or more seconds, got nan$"),
        ({"random": 5}, TypeError, r"^random: expected a random\.Random, got int$"),
        ({"signal": 5}, TypeError, r"^signal: expected a callable or None, got int$"),
        ({"lock": 5}, TypeError, r"^lock: expected a lock or None, got int$"),
        ({"observer": 5}, TypeError, r"^observer: expected a callable or None, got int$"),
    ],
)
def test_an_invalid_argument_of_a_channel_raises_at_once(
    options: dict[str, Any], error: type[Exception], match: str
) -> None:
    with pytest.raises(error, match=match):
        Channel(**{"endpoint": "http://site.example", **options})


@pytest.mark.parametrize("form", [dict, list, iter])
def test_headers_go_with_each_request_of_each_call(form: Callable[[list[tuple[str, str]]], Any]) -> None:
    site = channel(headers=form([("X-Key", "k")]), session=Session())
    for _ in range(2):
        request = site.http_call("Hi?").next_step(0)[0]
        assert isinstance(request, Request)
        assert ("X-Key", "k") in request.headers


def test_the_properties_of_a_channel_are_its_arguments() -> None:
    limits, timeouts, session = Limits(restarts=0), Timeouts(idle=1), Session("n0")
    site = channel(limits=limits, timeouts=timeouts, session=session)
    assert (site.limits, site.timeouts, site.session, site.proxy) == (limits, timeouts, session, None)
    assert repr(site) == "<Channel to http://site.example>"
    assert site.endpoint == Channel(site.endpoint).endpoint == Endpoint.parse("http://site.example")
