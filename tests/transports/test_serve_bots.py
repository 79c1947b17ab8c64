"""Bots of `serve` that fail, and several bots."""

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from opchat_proto import End, Live, Reason, Submit
from opchat_transports._bot_kinds import as_sync  # how a bot is called and loaded is not public
from opchat_transports.blocking_server import serve

from .asked import all_of, ask, echo

pytestmark = pytest.mark.usefixtures("no_thread_is_left", "no_file_is_left")


# ------------------------------------------------------------------------------ unusual failures


async def cancels_itself(submit: Submit) -> AsyncIterator[str]:
    yield "a"
    waiting = asyncio.get_running_loop().create_future()
    waiting.cancel()
    await waiting


async def groups(submit: Submit) -> AsyncIterator[str]:
    yield "a"
    raise BaseExceptionGroup("both", [asyncio.CancelledError(), SystemExit(3)])


class Unprintable(Exception):
    def __str__(self) -> str:
        raise ZeroDivisionError


def raises_what_cannot_be_shown(submit: Submit) -> Iterator[str]:
    yield "a"
    raise Unprintable


@pytest.mark.parametrize("bot", [as_sync(cancels_itself), as_sync(groups), raises_what_cannot_be_shown])
@pytest.mark.parametrize("debug", [False, True])
def test_any_exception_of_a_bot_becomes_the_error_event(
    bot: Any, debug: bool, caplog: pytest.LogCaptureFixture
) -> None:
    with serve(bot, debug=debug) as server:
        first, broken = ask(server)
        assert ask(server) == [first, broken]
    assert first == Live("a")
    assert (broken.reason, broken.detail.startswith("Oops!")) == (Reason.REMOTE, not debug)
    assert [record.message for record in caplog.records] == ["the bot failed"] * 2


def test_an_answer_is_complete_even_if_closing_the_bot_fails(caplog: pytest.LogCaptureFixture) -> None:
    def bot(submit: Submit) -> Iterator[Any]:
        try:
            yield End("a")
        finally:
            raise LookupError

    with serve(bot) as server:
        assert ask(server)[-1].reply == ask(server)[-1].reply == "a"
    assert [record.message for record in caplog.records] == ["the bot failed while it was being closed"] * 2


def test_control_characters_in_a_bots_exception_are_escaped_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    def bot(submit: Submit) -> Iterator[str]:
        raise LookupError("a\x1b[2J\x07\u202eb\r\nINFO: all is well\x85\u2028INFO: really")
        yield ""

    with serve(bot) as server:
        ask(server)
    [record] = caplog.records
    first, *lines = logging.Formatter("%(message)s").format(record).split("\n")
    assert first == "the bot failed"
    assert all(line.startswith("    ") and line.isprintable() for line in lines)
    assert lines[-2:] == [
        r"    LookupError: a\x1b[2J\x07\u202eb\r",
        r"    INFO: all is well\x85\u2028INFO: really",
    ]


# ------------------------------------------------------------------------------ several bots


def test_a_question_is_answered_by_the_bot_that_it_names() -> None:
    bots = {"sales": lambda submit: ["buy"], "7": lambda submit: ["seven"], "custom": lambda submit: ["made"]}
    with serve(bots=bots) as server:

        def reply(**names: Any) -> Any:
            return ask(server, Submit(new_message="Hi", **names))[-1]

        assert reply(bot_id="sales").reply == "buy"
        assert reply(bot_id=7).reply == "seven"
        assert reply(bot_id="sales", custom_id="custom").reply == "made"
        assert reply(bot_id="sales", custom_id="gone").reply == "buy"
        for names in ({"bot_id": "default"}, {"bot_id": "Sales"}, {"bot_id": None, "custom_id": "gone"}):
            broken = reply(**names)
            assert (broken.reason, broken.detail) == (Reason.REMOTE, "Sorry, your query has been rejected.")
        page = all_of(server, b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        assert b"{&quot;botId&quot;:&quot;sales&quot;," in page


def test_a_single_bot_answers_to_every_name() -> None:
    with serve(echo) as server:
        assert ask(server, Submit(new_message="Hi", bot_id="anybody", custom_id="x"))[-1].reply == "Hi"


@pytest.mark.parametrize(
    ("bots", "error"),
    [
        ({}, TypeError),
        ({"bot": echo, "bots": {"a": echo}}, TypeError),
        ({"bots": {}}, ValueError),
        ({"bots": {"": echo}}, ValueError),
        ({"bots": {7: echo}}, ValueError),
    ],
)
def test_either_bot_or_named_bots_are_required(bots: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match="expected"):
        serve(**bots)
