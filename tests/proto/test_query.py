"""A question through the official API: its request, the list of bots, and the outcomes of answers."""

from pathlib import Path
from typing import Any

import pytest

from opchat_proto import (
    Broken,
    Call,
    Channel,
    Done,
    End,
    Event,
    Flow,
    InvalidMessages,
    Query,
    Reason,
    Receive,
    Request,
    Session,
)
from tests.captures import RECORDINGS

SITE = "https://site.example"
OWNER = Session.from_token("throwaway-token")
ANSWER = '{"success":true,"data":"Hi","extra":{"actions":[{"type":"function"}],"chatId":"c1"}}'
BOTS = '{"success":true,"data":[{"id":"default","name":"Default"},{"id":7},{"name":"no id"},5,{"id":"sales"}]}'
NO_ROUTE = '{"code":"rest_no_route","message":"No route","data":{"status":404}}'
FORBIDDEN = '{"code":"rest_forbidden","message":"Sorry, no.","data":{"status":401}}'
FAILED = '{"success":false,"message":"From OpenAI: sorry"}'
HI = End("Hi", ANSWER)


def answered(query: Query, *answers: tuple[int, str], site: str = SITE) -> tuple[list[Request], list[Event]]:
    """The requests, and the events for these responses."""
    flow = Flow(site, query, session=OWNER)
    requests: list[Request] = []
    events: list[Event] = []
    for status, body in answers:
        request = flow.next_request()
        assert request is not None
        requests.append(request)
        assert not events
        events += flow.receive_head(status, [("Set-Cookie", "mwai_session_id=6b0adf4361f90; path=/; HttpOnly")])
        events += flow.receive_data(body.encode())
        events += flow.receive_eof()
    assert flow.next_request() is None
    assert flow.awaiting is None
    return requests, events


@pytest.mark.parametrize(
    ("site", "root"),
    [
        (SITE, "https://site.example/wp-json"),
        ("https://site.example/index.php?rest_route=/", "https://site.example/index.php?rest_route="),
    ],
)
def test_a_named_bot_is_looked_up_and_then_asked(site: str, root: str) -> None:
    requests, events = answered(Query("Où ?", "sales", "c1"), (200, BOTS), (200, ANSWER), site=site)
    assert [(request.method, request.url, request.body.decode()) for request in requests] == [
        ("GET", f"{root}/mwai/v1/listChatbots", ""),
        ("POST", f"{root}/mwai/v1/simpleChatbotQuery", '{"botId":"sales","message":"Où ?","chatId":"c1"}'),
    ]
    for request in requests:
        headers = dict(request.headers)
        assert headers["Authorization"] == "Bearer throwaway-token"
        assert not {"X-WP-Nonce", "Cookie"} & set(headers)
    assert events == [HI]


def test_the_default_bot_is_asked_at_once() -> None:
    [request], events = answered(Query("Hi"), (200, ANSWER))
    assert request.body == b'{"botId":"default","message":"Hi"}'
    assert dict(request.headers)["Accept"] == "application/json"
    [end] = events
    assert isinstance(end, End)
    assert (end.reply, end.chat_id, end.actions) == ("Hi", "c1", ({"type": "function"},))


@pytest.mark.parametrize("bot_id", ["7", 7])
def test_an_id_of_digits_may_be_a_number(bot_id: str | int) -> None:
    _, events = answered(Query("Hi", bot_id), (200, BOTS), (200, ANSWER))
    assert events == [HI]


def test_a_site_without_the_list_is_asked_at_once() -> None:
    _, events = answered(Query("Hi", "sales"), (404, NO_ROUTE), (200, ANSWER))
    assert events == [HI]


LOOKUPS: dict[str, tuple[int, str, Broken]] = {
    "unknown": (200, BOTS, Broken(Reason.REFUSED, "no bot 'nope'; there are: default, 7, sales")),
    "secret": (
        200,
        '{"success":true,"data":[{"id":"restNonce: 5EcReT1"}]}',
        Broken(Reason.REFUSED, "no bot 'nope'; there are: restNonce: ***"),
    ),
    "no list": (200, '{"success":true,"data":{}}', Broken(Reason.MALFORMED, "no list of bots")),
    "no data": (200, '{"success":true}', Broken(Reason.MALFORMED, "no list of bots")),
    "a failure": (200, FAILED, Broken(Reason.REMOTE, "From OpenAI: sorry")),
    "refused": (500, FAILED, Broken(Reason.REFUSED, "From OpenAI: sorry", 500)),
    "wrong token": (401, FORBIDDEN, Broken(Reason.REFUSED, "Sorry, no.", 401, "rest_forbidden")),
    "another 404": (404, FORBIDDEN, Broken(Reason.REFUSED, "Sorry, no.", 404, "rest_forbidden")),
    "a page": (200, "<title>Home</title>", Broken(Reason.MALFORMED, "a web page, not a chat answer: Home")),
}


@pytest.mark.parametrize(("status", "body", "expected"), LOOKUPS.values(), ids=LOOKUPS)
def test_a_bot_that_is_not_listed_is_not_asked(status: int, body: str, expected: Broken) -> None:
    _, [broken] = answered(Query("Hi", "nope"), (status, body))
    assert isinstance(broken, Broken)
    assert (broken.reason, broken.detail, broken.status, broken.code) == (
        expected.reason,
        f"listChatbots: {expected.detail}",
        expected.status,
        expected.code,
    )
    assert (broken.raw, broken.asked) == (body, False)


ANSWERS: dict[str, tuple[int, str, End | Broken]] = {
    "no text": (200, '{"success":true,"data":["Hi"]}', End(None, '{"success":true,"data":["Hi"]}')),
    "an answer of the chat": (200, '{"success":true,"reply":"Hi"}', End("Hi", '{"success":true,"reply":"Hi"}')),
    "a failure": (200, FAILED, Broken(Reason.REMOTE, "From OpenAI: sorry", raw=FAILED, asked=True)),
    "a failure of the bot": (500, FAILED, Broken(Reason.REFUSED, "From OpenAI: sorry", 500, raw=FAILED, asked=True)),
    "wrong token": (
        401,
        FORBIDDEN,
        Broken(Reason.REFUSED, "Sorry, no.", 401, "rest_forbidden", raw=FORBIDDEN, asked=True),
    ),
    "switched off": (404, NO_ROUTE, Broken(Reason.REFUSED, "No route", 404, "rest_no_route", raw=NO_ROUTE, asked=True)),
}


@pytest.mark.parametrize(("status", "body", "expected"), ANSWERS.values(), ids=ANSWERS)
def test_an_answer_is_final_and_starts_no_session(status: int, body: str, expected: End | Broken) -> None:
    _, events = answered(Query("Hi"), (status, body))
    assert events == [expected]


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ((5,), TypeError),
        (("Hi", b"sales"), TypeError),
        (("Hi", None, 5), TypeError),
        (("\ud800",), InvalidMessages),
        (("Hi", "\ud800"), InvalidMessages),
        (("Hi", None, "\ud800"), InvalidMessages),
    ],
)
def test_an_invalid_query_raises(arguments: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match=r"^Query\.(text|bot_id|chat_id): expected"):
        Query(*arguments)


NAMES = {  # names of recordings, and the outcome of each: the reply, or the status of a refusal
    "2.4.9/api_chatbot": "bot by the API",
    "2.4.9/api_chatbot_2": "bot second by the API",
    "2.4.9/api_chatbot_fail": 500,
    "2.4.9/api_chatbot_unknown": 500,
    "2.4.9/api_text_notoken": 401,
    "3.6.2/api_chatbot": "bot by the API",
    "3.6.2/api_chatbot_2": "bot second by the API",
    "3.6.2/api_chatbot_fail": 500,
    "3.6.2/api_chatbot_file": "I see 1 image(s).",
    "3.6.2/api_chatbot_unknown": "x",  # the default bot's: hence the list
    "3.6.2/api_text_notoken": 401,
}


def replayed(call: Call, path: Path) -> None:
    """Take every step up to the response to the next request, which is in this file."""
    while not isinstance(call.next_step(0)[0], Receive):
        call.step_done()
    call.receive_data(path.read_bytes())
    call.receive_eof()


@pytest.mark.parametrize("path", sorted(RECORDINGS.glob("*/api_*.response.bin")), ids=lambda path: path.name)
def test_recorded_answers_have_their_outcomes(path: Path) -> None:
    call = Channel("http://localhost", session=OWNER).call(Query("Hi"))
    replayed(call, path)
    assert isinstance(call.next_step(0)[0], Done)
    last = call.next_event()
    assert isinstance(last, End | Broken)
    name = f"{path.parent.name}/{path.name.removesuffix('.response.bin')}"
    if name in NAMES:
        assert (last.reply if isinstance(last, End) else last.status) == NAMES[name]


@pytest.mark.parametrize(("bot_id", "is_there"), [("second", True), ("nope", False)])
@pytest.mark.parametrize("path", sorted(RECORDINGS.glob("3.6.2/api_bots.response.bin")), ids=lambda path: path.name)
def test_recorded_lists_name_the_bots(path: Path, bot_id: str, is_there: bool) -> None:
    call = Channel("http://localhost", session=OWNER).call(Query("Hi", bot_id))
    replayed(call, path)
    assert isinstance(call.next_step(0)[0], Done) is not is_there
    if is_there:
        replayed(call, path.with_name("api_chatbot.response.bin"))
        call.next_step(0)
    last = call.next_event()
    assert isinstance(last, End) is is_there
