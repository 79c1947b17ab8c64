"""A member's discussions: requests, answers, and malformed lists."""

import json
import re
from typing import Any

import pytest

from opchat_proto import (
    Broken,
    Channel,
    Conversation,
    DeleteDiscussions,
    Discussion,
    DiscussionPage,
    End,
    Event,
    Flow,
    InvalidMessages,
    Limits,
    ListDiscussions,
    Message,
    Reason,
    Receive,
    RenameDiscussion,
    Request,
    Session,
)
from tests.captures import RECORDINGS

SITE = "https://site.example"
NONCE = Session("n1", "s1")
TURNS = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello", "extra": {"embeddings": None}}]
ROW = {
    "id": "262",
    "userId": "2",
    "ip": "127.0.0.1",
    "title": "Greetings",
    "messages": json.dumps(TURNS),
    "extra": json.dumps({"session": "N/A", "previousResponseId": "resp_1"}),
    "botId": "helper",
    "chatId": "conv3c568a9",
    "created": "2026-11-28 14:03:36",
    "updated": "2026-11-28 14:05:00",
}
READ = Discussion(
    "conv3c568a9",
    "helper",
    "Greetings",
    (Message("user", "Hi"), Message("assistant", "Hello")),
    "resp_1",
    "2026-11-28 14:03:36",
    "2026-11-28 14:05:00",
)


def asked(question: Any, *answers: tuple[int, Any]) -> tuple[list[Request], list[Event]]:
    """The requests, and the events for these responses."""
    flow = Flow(SITE, question, session=NONCE)
    requests: list[Request] = []
    events: list[Event] = []
    for status, payload in answers:
        request = flow.next_request()
        assert request is not None
        requests.append(request)
        events += flow.receive_head(status, [])
        events += flow.receive_data(json.dumps(payload).encode())
        events += flow.receive_eof()
    assert not flow.submit_started
    return requests, events


def listed(*rows: Any, total: Any = "1") -> Any:
    """The outcome of a list with these rows: a page, or a `Broken`."""
    _, [last] = asked(ListDiscussions(), (200, {"success": True, "total": total, "chats": list(rows)}))
    return DiscussionPage.from_end(last) if isinstance(last, End) else last


# ------------------------------------------------------------------------------------------------ requests


@pytest.mark.parametrize(
    ("question", "route", "body"),
    [
        (ListDiscussions(), "list", {"botId": "default", "offset": 0, "limit": 10}),
        (ListDiscussions(bot_id=7, offset=20, limit=5), "list", {"botId": 7, "offset": 20, "limit": 5}),
        (
            ListDiscussions(custom_id="abc"),
            "list",
            {"botId": "default", "customId": "abc", "offset": 0, "limit": 10},
        ),
        (RenameDiscussion("c1", "Où ?"), "edit", {"chatId": "c1", "title": "Où ?"}),
        (DeleteDiscussions(("c1", "c2")), "delete", {"chatIds": ["c1", "c2"]}),
    ],
)
def test_a_request_is_posted_with_the_sessions_nonce(question: Any, route: str, body: Any) -> None:
    [request], _ = asked(question, (200, {"success": True, "chats": []}))
    assert (request.method, request.url) == ("POST", f"{SITE}/wp-json/mwai-ui/v1/discussions/{route}")
    assert (json.loads(request.body), dict(request.headers)["X-WP-Nonce"]) == (body, "n1")


def test_a_stale_nonce_is_renewed_once() -> None:
    stale = {"code": "rest_cookie_invalid_nonce", "message": "Stale"}
    opened = {"success": True, "sessionId": "s2", "restNonce": "n2"}
    requests, events = asked(DeleteDiscussions(("c1",)), (403, stale), (200, opened), (200, {"success": True}))
    assert [dict(request.headers).get("X-WP-Nonce") for request in requests] == ["n1", None, "n2"]
    assert events == [End(None, '{"success": true}')]


def test_the_limits_of_a_page_are_inclusive() -> None:
    assert (ListDiscussions(offset=2**31 - 1, limit=1).offset, ListDiscussions(limit=2**31 - 1).limit) == (
        2**31 - 1,
    ) * 2


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ListDiscussions(offset=-1), "ListDiscussions.offset: expected 0 to 2147483647, got -1"),
        (lambda: ListDiscussions(limit=0), "ListDiscussions.limit: expected 1 to 2147483647, got 0"),
        (lambda: ListDiscussions(offset=True), "ListDiscussions.offset: expected an int, got bool"),
        (lambda: RenameDiscussion("", "a"), "RenameDiscussion.chat_id: expected a chat id, got ''"),
        (lambda: DeleteDiscussions(()), "DeleteDiscussions.chat_ids: expected at least one"),
        (lambda: DeleteDiscussions(("",)), "DeleteDiscussions.chat_ids: expected a chat id, got ''"),
    ],
)
def test_the_error_names_the_field(make: Any, message: str) -> None:
    with pytest.raises((ValueError, TypeError)) as raised:
        make()
    assert str(raised.value) == message


@pytest.mark.parametrize(
    ("make", "error"),
    [
        (lambda: ListDiscussions(bot_id=b"a"), TypeError),  # type: ignore[arg-type]  # wrong on purpose
        (lambda: ListDiscussions(custom_id="\ud800"), InvalidMessages),
        (lambda: ListDiscussions(offset=-1), ValueError),
        (lambda: ListDiscussions(offset=True), TypeError),
        (lambda: ListDiscussions(limit=0), ValueError),
        (lambda: ListDiscussions(limit=2**31), ValueError),
        (lambda: RenameDiscussion("", "a"), ValueError),
        (lambda: RenameDiscussion("c1", 5), TypeError),  # type: ignore[arg-type]  # wrong on purpose
        (lambda: DeleteDiscussions(()), ValueError),
        (lambda: DeleteDiscussions("c1"), TypeError),  # type: ignore[arg-type]  # wrong on purpose
        (lambda: DeleteDiscussions(("c1", "")), ValueError),
        (lambda: DeleteDiscussions(("c1", 5)), TypeError),  # type: ignore[arg-type]  # wrong on purpose
    ],
)
def test_an_invalid_request_raises(make: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match=r"^(List|Rename|Delete)Discussions?\.\w+: expected"):
        make()


# ------------------------------------------------------------------------------------------------ responses


def test_a_row_becomes_a_discussion_and_then_a_conversation() -> None:
    page = listed(ROW, total="19")
    assert page == DiscussionPage((READ,), 19)
    assert (list(page), len(page)) == ([READ], 1)
    assert READ.conversation(NONCE) == Conversation(
        messages=READ.messages, chat_id="conv3c568a9", bot_id="helper", session=NONCE, previous_response_id="resp_1"
    )
    question = READ.conversation().ask("And?")
    assert (question.previous_response_id, len(question.messages)) == ("resp_1", 2)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"title": None, "botId": None}, {"title": None, "bot_id": None}),
        ({"title": 5, "botId": 5, "created": None}, {"title": None, "bot_id": None, "created": ""}),
        ({"messages": None, "extra": ""}, {"messages": (), "previous_response_id": None}),
        ({"messages": TURNS, "extra": "[]"}, {"previous_response_id": None}),
        ({"extra": {"previousResponseId": 5}}, {"previous_response_id": None}),
        ({"extra": {"previousResponseId": "x" * 257}}, {"previous_response_id": None}),
        ({"extra": {"previousResponseId": "x" * 256}}, {"previous_response_id": "x" * 256}),
        ({"extra": {"previousResponseId": "x"}}, {"previous_response_id": "x"}),
        ({"extra": {"previousResponseId": ""}}, {"previous_response_id": None}),
        ({"messages": '[{"content":5}]'}, {"messages": (Message("", "5"),)}),
    ],
)
def test_missing_fields_are_left_out(changes: dict[str, Any], expected: dict[str, Any]) -> None:
    [discussion] = listed({**ROW, **changes})
    assert {name: getattr(discussion, name) for name in expected} == expected
    assert discussion.conversation().ask("And?").chat_id == "conv3c568a9"


@pytest.mark.parametrize(("total", "expected"), [(None, 1), (7, 7), ("0", 0), ("9" * 18, 10**18 - 1)])
def test_the_total_may_be_text_or_a_number(total: Any, expected: int) -> None:
    assert listed(ROW, total=total) == DiscussionPage((READ,), expected)


NO_LISTS: dict[str, tuple[Any, str]] = {
    "no list": ({"success": True, "chats": {}}, "no list of discussions"),
    "nothing": ({"success": True}, "no list of discussions"),
    "a row of another type": ({"success": True, "chats": ["a"]}, "a discussion without a chat id"),
    "no chat id": ({"success": True, "chats": [{**ROW, "chatId": ""}]}, "a discussion without a chat id"),
    "a number as chat id": ({"success": True, "chats": [{**ROW, "chatId": 5}]}, "a discussion without a chat id"),
    "messages that are not JSON": (
        {"success": True, "chats": [{**ROW, "messages": "[{"}]},
        "discussion 'conv3c568a9': .+",
    ),
    "messages of another shape": (
        {"success": True, "chats": [{**ROW, "messages": '{"a":1}'}]},
        "discussion 'conv3c568a9': messages that cannot be read",
    ),
    "a message of another type": (
        {"success": True, "chats": [{**ROW, "messages": "[5]"}]},
        r"discussion 'conv3c568a9': messages\[0\]: expected .+",
    ),
    "messages too deep": (
        {"success": True, "chats": [{**ROW, "messages": "[" * 100_000}]},
        "discussion 'conv3c568a9': nested deeper than 64",
    ),
    "extra of another shape": (
        {"success": True, "chats": [{**ROW, "extra": "5"}]},
        "discussion 'conv3c568a9': extra that cannot be read",
    ),
    "a total in words": ({"success": True, "chats": [], "total": "many"}, "a total that is not a number"),
    "a total of another type": ({"success": True, "chats": [], "total": True}, "a total that is not a number"),
    "a total of a list": ({"success": True, "chats": [], "total": [5]}, "a total that is not a number"),
    "a fraction": ({"success": True, "chats": [], "total": 5.0}, "a total that is not a number"),
    "a negative total": ({"success": True, "chats": [], "total": -5}, "a total that is not a number"),
    "digits of another script": ({"success": True, "chats": [], "total": "\u0665"}, "a total that is not a number"),
    "a total of 19 digits": ({"success": True, "chats": [], "total": "9" * 19}, "a total that is not a number"),
    "a total of 5000 digits": ({"success": True, "chats": [], "total": "9" * 5000}, "a total that is not a number"),
}


@pytest.mark.parametrize(("payload", "detail"), NO_LISTS.values(), ids=NO_LISTS)
def test_a_malformed_list_is_broken(payload: Any, detail: str) -> None:
    _, [last] = asked(ListDiscussions(), (200, payload))
    assert isinstance(last, Broken)
    assert last.reason is Reason.MALFORMED
    assert re.fullmatch(f"discussions/list: {detail}", last.detail)
    assert last.raw == json.dumps(payload)


def test_a_guest_gets_the_sites_refusal() -> None:
    guest = {"success": False, "message": "You need to be connected."}
    _, events = asked(ListDiscussions(), (200, guest))
    assert events == [Broken(Reason.REMOTE, "You need to be connected.", raw=json.dumps(guest))]


def test_discussions_are_asked_over_a_channel_without_options() -> None:
    channel = Channel(SITE, session=NONCE)
    assert channel.call(ListDiscussions()).next_step(0)[0]
    with pytest.raises(TypeError, match=r"^question: this ListDiscussions takes no options"):
        channel.call(ListDiscussions(), stream=False)


# ------------------------------------------------------------------------------------------------ recordings

NAMES: dict[str, Any] = {  # names of recordings, and the outcome of each
    "2.4.9/discussions_list_member": (4, 4, "convb24ef41", None),
    "2.4.9/discussions_list_guest": "You need to be connected.",
    "3.6.2/discussions_list_member": (10, 19, "conv3c568a9", "resp_lab3e11ae4d9ed53e85"),
    "3.6.2/discussions_list_paged": (1, 19, "conv3c568a9", "resp_lab3e11ae4d9ed53e85"),
    "3.6.2/discussions_list_guest": "You need to be connected.",
    "3.6.2/discussions_edit": None,
    "3.6.2/discussions_delete": None,
    "3.6.2/discussions_delete_empty": "chatIds is required.",
    "3.6.2/discussions_delete_guest": "Sorry, you are not allowed to do that.",
}


@pytest.mark.parametrize("path", sorted(RECORDINGS.glob("*/discussions_*.response.bin")), ids=lambda path: path.name)
def test_recorded_responses_of_sites_have_their_outcomes(path: Any) -> None:
    name = f"{path.parent.name}/{path.name.removesuffix('.response.bin')}"
    question: Any = {"list": ListDiscussions(), "edit": RenameDiscussion("c1", "New")}.get(
        name.split("_")[1], DeleteDiscussions(("c1",))
    )
    call = Channel("http://site.example", session=NONCE, limits=Limits(restarts=0)).call(question)
    while not isinstance(call.next_step(0)[0], Receive):
        call.step_done()
    call.receive_data(path.read_bytes())
    call.receive_eof()
    call.next_step(0)
    last = call.next_event()
    assert isinstance(last, End | Broken)
    if name not in NAMES:
        return  # from a version that is not described here
    found: Any = last.detail if isinstance(last, Broken) else None
    if isinstance(last, End) and name.split("_")[1] == "list":
        page = DiscussionPage.from_end(last)
        first = page.discussions[0]
        found = (len(page), page.total, first.chat_id, first.previous_response_id)
        assert first.messages[-1] == Message("assistant", "discussion two")
    assert found == NAMES[name]
