"""Bots that fail under ASGI: what clients see and what is logged."""

import asyncio
import json
import logging
import sys
from collections.abc import AsyncIterator, Iterator
from typing import Any

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest

from opchat_proto import Broken, End, Event, Live, Reason, Submit
from opchat_transports.asgi import AsyncBot

from .asgi import ask

OOPS = "Oops! Something went wrong on the server."


def broken(*before: str) -> AsyncBot:
    async def bot(submit: Submit) -> AsyncIterator[str]:
        for piece in before:
            yield piece
        raise LookupError("the password is 1234")

    return bot


def refuses(submit: Submit) -> Any:
    raise LookupError("the password is 1234")


async def refuses_later(submit: Submit) -> Any:
    raise LookupError("the password is 1234")


async def exits(submit: Submit) -> Any:
    sys.exit("the password is 1234")


async def gives_a_number(submit: Submit) -> AsyncIterator[Any]:
    yield 5


async def gives_none(submit: Submit) -> AsyncIterator[Any]:
    yield None


async def in_a_group(submit: Submit) -> AsyncIterator[str]:
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(refuses_later, submit)
    yield "never"


def fails_in_a_thread(submit: Submit) -> Iterator[str]:
    raise LookupError("the password is 1234")
    yield ""


def exits_in_a_thread(submit: Submit) -> Iterator[str]:
    sys.exit(3)
    yield ""


@pytest.mark.parametrize(
    "bot",
    [
        *(broken(), refuses, refuses_later, exits, gives_a_number, gives_none, in_a_group, lambda: None),
        *(fails_in_a_thread, exits_in_a_thread, lambda submit: 5, lambda submit: [5]),
    ],
)
def test_a_failing_bot_becomes_an_error_event_without_details(
    backend: str, bot: Any, caplog: pytest.LogCaptureFixture
) -> None:
    peer = ask(backend, bot)
    [event] = peer.events
    assert isinstance(event, Broken)
    assert (event.reason, event.detail.startswith(OOPS)) == (Reason.REMOTE, True)
    assert peer.response.status == 200
    assert [record.message for record in caplog.records] == ["the bot failed"]
    assert caplog.records[0].exc_info is not None


def test_pieces_before_a_failure_are_sent(backend: str) -> None:
    events = ask(backend, broken("a", "b")).events
    assert events[:2] == [Live("a"), Live("b")]
    assert isinstance(events[2], Broken)


def test_without_streaming_a_failing_bot_becomes_status_500(backend: str) -> None:
    peer = ask(backend, broken("a"), stream=False)
    assert peer.response.status == 500
    assert json.loads(peer.response.body)["message"].startswith(OOPS)


def test_a_bots_exception_is_shown_in_debug_only(backend: str) -> None:
    [event] = ask(backend, broken(), debug=True).events
    assert isinstance(event, Broken)
    assert event.detail == "LookupError: the password is 1234"
    assert b"1234" not in ask(backend, broken()).response.body


def test_a_cancelled_task_of_the_bot_is_a_failure_of_the_bot() -> None:
    async def bot(submit: Submit) -> AsyncIterator[str]:
        yield "a"
        raise asyncio.CancelledError

    for backend in ("asyncio", "trio"):
        events = ask(backend, bot).events
        assert events[0] == Live("a")
        assert isinstance(events[1], Broken)


def test_an_exception_group_is_a_failure_of_the_bot(backend: str) -> None:
    async def bot(submit: Submit) -> AsyncIterator[str]:
        yield "a"
        raise BaseExceptionGroup("both", [SystemExit(3), BaseExceptionGroup("inner", [asyncio.CancelledError()])])

    events = ask(backend, bot).events
    assert (events[0], type(events[1])) == (Live("a"), Broken)


def test_control_characters_in_a_bots_exception_are_escaped_in_the_log(
    backend: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def bot(submit: Submit) -> AsyncIterator[str]:
        raise LookupError("a\x1b[2J\nINFO: all is well")
        yield ""

    ask(backend, bot)
    text = logging.Formatter("%(message)s").format(caplog.records[0])
    assert text.startswith("the bot failed\n    ")
    assert text.endswith("\n    LookupError: a\\x1b[2J\n    INFO: all is well")


def test_an_answer_is_complete_even_if_closing_the_bot_fails(backend: str, caplog: pytest.LogCaptureFixture) -> None:
    async def bot(submit: Submit) -> AsyncIterator[str | Event]:
        try:
            yield End("a")
        finally:
            raise LookupError

    [end] = ask(backend, bot).events
    assert isinstance(end, End)
    assert [record.message for record in caplog.records] == ["the bot failed while it was being closed"]
