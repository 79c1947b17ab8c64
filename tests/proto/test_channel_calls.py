"""What calls get from their channel: its lock, its limits, its page, and the conversation."""

from collections.abc import Callable
from typing import Any

import pytest

from opchat_proto import (
    Broken,
    Call,
    Channel,
    Conversation,
    End,
    HTTPCall,
    Limits,
    Message,
    Reason,
    Request,
    Send,
    Session,
)
from tests.proto.calls import GOOD, STALE, Make, Reply, asks, both, channel, ended, put_off, tell

URL = "http://site.example/chat/"


class CountingLock:
    def __init__(self) -> None:
        self.taken = 0
        self.given_back = 0

    def __enter__(self) -> None:
        self.taken += 1

    def __exit__(self, *_: object) -> None:
        self.given_back += 1


@both
def test_the_lock_is_taken_for_each_step_and_given_back(make: Make) -> None:
    lock = CountingLock()
    call = make(channel(lock=lock, session=Session()), "Hi?")
    counts = []
    for _ in range(2):
        before = lock.taken
        call.next_step(0)
        counts.append((lock.taken - before, lock.taken - lock.given_back))
    assert counts == [(1, 0), (1, 0)]


@both
@pytest.mark.parametrize(("seconds", "step"), [(30, "Wait"), (31, "Done")])
def test_a_retry_is_waited_for_30_seconds_by_default(make: Make, seconds: int, step: str) -> None:
    call = make(channel(session=Session(), retries=1), "Hi?")
    asks(call)
    tell(call, put_off(seconds))
    assert asks(call) == step


@both
def test_an_answer_is_added_to_the_calls_conversation(make: Make) -> None:
    conversation = Conversation()
    call = make(channel(session=Session()), "Hi?", conversation)
    asks(call)
    tell(call, GOOD)
    (*_, last) = ended(call)
    assert isinstance(last, End)
    assert conversation.messages == (Message("user", "Hi?"), Message("assistant", last.reply or ""))


visits = pytest.mark.parametrize("visit", [Channel.visit, Channel.http_visit])
Visits = Callable[..., Call | HTTPCall]


def asked_for(call: Call | HTTPCall) -> tuple[str, str | None]:
    """The target and the cookie of the request that a call makes."""
    while True:
        step, _ = call.next_step(0)
        if isinstance(step, Request):
            return step.target, dict(step.headers).get("Cookie")
        assert isinstance(call, Call)
        call.step_done()
        if isinstance(step, Send):
            first, *lines = step.data.decode().split("\r\n")
            return first.split(" ")[1], dict(line.split(": ") for line in lines if line).get("Cookie")


@visits
def test_a_visit_may_download_a_file_past_the_cache(visit: Visits) -> None:
    call = visit(channel(), URL, fresh="r4nd0m", file=True)
    assert asked_for(call) == ("/chat/?opchat=r4nd0m", None)
    tell(call, Reply(b"\x89PNG"))
    assert (ended(call), call.content, call.page) == ([End(None)], b"\x89PNG", None)


@visits
def test_the_channels_limits_hold_for_visits(visit: Visits) -> None:
    call = visit(channel(limits=Limits(page_bytes=2)), URL)
    assert asked_for(call) == ("/chat/", None)
    tell(call, Reply(b"<p>"))
    (broken,) = ended(call)
    assert isinstance(broken, Broken)
    assert (broken.reason, broken.limit) == (Reason.TOO_LARGE, "page_bytes")


SESSION = Session("n0", cookie="a=b")


@both
@pytest.mark.parametrize(("options", "query"), [({}, "0"), ({"random": lambda: 0.5}, "11c37937e08000")])
@pytest.mark.parametrize("session", [SESSION, None], ids=["the channel's", "the conversation's"])
def test_a_refused_nonce_is_renewed_from_the_page_past_the_cache(
    make: Make, options: dict[str, Any], query: str, session: Session | None
) -> None:
    call = make(channel(page=URL, session=session, **options), "Hi?", Conversation(session=SESSION))
    assert asks(call) == "submit n0"
    tell(call, STALE)
    assert asked_for(call) == (f"/chat/?opchat={query}", "a=b")
