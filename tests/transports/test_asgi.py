"""Bots of the ASGI application: pieces, events, whole answers, and several bots."""

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from opchat_proto import Broken, End, Event, Live, Reason, Response, Submit
from opchat_transports.asgi import application

from .asgi import SECRET, Callable_, Letters, ask, body, echo, question, request, scope

# ------------------------------------------------------------------------------ answers


def test_each_piece_of_a_bot_is_sent_at_once_and_they_form_the_reply(backend: str) -> None:
    peer = ask(backend, echo)
    assert peer.response.status == 200
    assert ("content-type", "text/event-stream;charset=UTF-8") in peer.response.headers
    assert [message["body"] for message in peer.sent[1:3]] == [
        b'data: {"type":"live","data":"h"}\n\n',
        b'data: {"type":"live","data":"i"}\n\n',
    ]
    assert [type(event) for event in peer.events] == [Live, Live, End]
    assert peer.events[:2] == [Live("h"), Live("i")]
    end = peer.events[-1]
    assert isinstance(end, End)
    assert list(end.payload()) == ["success", "reply", "images", "actions", "shortcuts", "blocks", "usage"]
    assert end.reply == "hi"


def test_a_character_may_be_split_between_two_pieces(backend: str) -> None:
    async def bot(submit: Submit) -> AsyncIterator[str]:
        yield "\ud83d"
        yield "\ude00"

    piece, end = ask(backend, bot).events
    assert isinstance(end, End)
    assert (piece, end.reply) == (Live("\N{GRINNING FACE}"), "\N{GRINNING FACE}")


def test_a_question_without_streaming_gets_one_json_object(backend: str) -> None:
    peer = ask(backend, echo, stream=False)
    assert len(peer.sent) == 2
    assert ("content-length", str(len(peer.response.body))) in peer.response.headers
    [end] = peer.events
    assert isinstance(end, End)
    assert end.reply == "hi"


def test_a_bot_may_yield_events_and_the_last_one_ends_the_answer(backend: str) -> None:
    async def bot(submit: Submit) -> AsyncIterator[str | Event]:
        yield Live("Thinking...", "thinking")
        yield "a"
        yield End("A", '{"responseId":"r"}')
        yield "never asked for"

    events = ask(backend, bot).events
    assert events[:2] == [Live("Thinking...", "thinking"), Live("a")]
    end = events[-1]
    assert isinstance(end, End)
    assert (len(events), end.reply, end.response_id) == (3, "A", "r")


def test_pieces_of_other_kinds_are_not_part_of_the_reply(backend: str) -> None:
    async def bot(submit: Submit) -> AsyncIterator[str | Event]:
        yield Live("Thinking...", "thinking")
        yield "a"

    end = ask(backend, bot).events[-1]
    assert isinstance(end, End)
    assert end.reply == "a"


def test_a_bot_may_end_with_broken(backend: str) -> None:
    async def bot(submit: Submit) -> AsyncIterator[str | Event]:
        yield "a"
        yield Broken(Reason.REMOTE, "No more today.")

    assert ask(backend, bot).events == [Live("a"), Broken(Reason.REMOTE, "No more today.", raw=ANY)]


class Whatever(str):
    def __eq__(self, other: object) -> bool:
        return True

    __hash__ = str.__hash__


ANY = Whatever()


async def awaited(submit: Submit) -> Letters:
    return Letters("ab")


@pytest.mark.parametrize(
    "bot", [awaited, Callable_(), lambda submit: Letters("ab")], ids=["awaited", "object", "lambda"]
)
def test_a_bot_is_any_callable_that_returns_an_async_iterable(backend: str, bot: Any) -> None:
    assert ask(backend, bot).events[:2] == [Live("a"), Live("b")]


def test_a_bot_sees_the_whole_question(backend: str) -> None:
    seen: list[Submit] = []

    async def bot(submit: Submit) -> AsyncIterator[str]:
        seen.append(submit)
        yield "ok"

    ask(backend, bot)
    assert seen == [Submit(new_message="hi", stream=True)]


# ------------------------------------------------------------------------------ several bots


def test_a_question_is_answered_by_the_bot_that_it_names(backend: str) -> None:
    async def seven(submit: Submit) -> AsyncIterator[str]:
        yield "seven"

    app = application(bots={"sales": lambda submit: ["buy"], "7": seven}, secret=SECRET)
    assert repr(app) == "<Application sales, 7>"

    def reply(stream: bool = True, **names: Any) -> Response:
        head, _ = question()
        values = {"newMessage": "hi", "stream": stream, **names}
        return request(backend, app, head, *body(json.dumps(values).encode())).response

    assert b'"data":"buy"' in reply(botId="sales").body
    assert b'"data":"seven"' in reply(botId=7).body
    assert b'"data":"seven"' in reply(botId="sales", customId="7").body
    for names in ({"botId": "default"}, {"botId": "Sales"}, {"botId": None, "customId": "gone"}):
        unknown = reply(**names)
        rejected = b'data: {"type":"error","data":"Sorry, your query has been rejected."}\n\n'
        assert (unknown.status, unknown.body) == (200, rejected)
        unknown = reply(stream=False, **names)
        rejected = b'{"success":false,"message":"Sorry, your query has been rejected."}'
        assert (unknown.status, unknown.body) == (500, rejected)
    page = request(backend, app, scope("/", "GET"), *body(b"")).response.body
    assert b"{&quot;botId&quot;:&quot;sales&quot;," in page
