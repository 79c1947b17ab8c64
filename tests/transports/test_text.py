"""What surrounds a question, on each transport: text, outcome, memory, options, and `timeout`."""

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from opchat_proto import Broken, Conversation, End, Live, Message, Reason, Timeouts
from opchat_transports import ReplyBroken
from opchat_transports.testing import Close, FaultServer, Stall, Write, answer, json_object

from .asking import ASKS, TRANSPORTS, Ask

each = pytest.mark.parametrize("ask", ASKS.values(), ids=ASKS)

STREAM = answer(Live("Hel"), Live("Thinking", kind="thinking"), Live("lo"), End("Hello."))
NO_FINAL_TEXT = answer(Live("Hel"), Live("lo"), End(None))
AT_ONCE = json_object(success=True, reply="Hello.")
BROKEN = answer(Live("Hel"), Broken(Reason.REMOTE, "No more."))


def with_reply(
    ask: Ask, url: str, sync: Callable[[Any], Any], in_async: Callable[[Any], Awaitable[Any]], **options: Any
) -> Any:
    """Ask once, and call this function with the reply."""

    async def main() -> Any:
        async with ask.kind(url, **options) as transport, transport.ask("Hi") as reply:
            return await in_async(reply)

    if ask.run is None:
        with ask.kind(url, **options) as transport, transport.ask("Hi") as reply:
            return sync(reply)
    return ask.run(main)


def text_of(ask: Ask, data: bytes) -> tuple[Any, ...]:
    def sync(reply: Any) -> tuple[Any, ...]:
        before = reply.end, reply.broken
        return *before, reply.text(), reply.end, reply.broken

    async def in_async(reply: Any) -> tuple[Any, ...]:
        before = reply.end, reply.broken
        return *before, await reply.text(), reply.end, reply.broken

    with FaultServer((Write(data), Close())) as server:
        return tuple(with_reply(ask, server.url, sync, in_async))


def pieces_of(ask: Ask, data: bytes) -> tuple[list[str], ReplyBroken | None, Broken | None]:
    """The pieces, the exception after them, and `reply.broken`."""
    pieces: list[str] = []

    def sync(reply: Any) -> tuple[Any, Any]:
        try:
            pieces.extend(reply.pieces())
        except ReplyBroken as error:
            return error, reply.broken
        return None, reply.broken

    async def in_async(reply: Any) -> tuple[Any, Any]:
        try:
            async for piece in reply.pieces():
                pieces.append(piece)
        except ReplyBroken as error:
            return error, reply.broken
        return None, reply.broken

    with FaultServer((Write(data), Close())) as server:
        error, broken = with_reply(ask, server.url, sync, in_async)
    return pieces, error, broken


@each
@pytest.mark.parametrize(("data", "text"), [(STREAM, "Hello."), (NO_FINAL_TEXT, "Hello"), (AT_ONCE, "Hello.")])
def test_the_text_is_the_final_one_or_the_joined_pieces(ask: Ask, data: bytes, text: str) -> None:
    no_end, no_broken, given, end, broken = text_of(ask, data)
    assert (no_end, no_broken, given, broken) == (None, None, text, None)
    assert isinstance(end, End)


@each
@pytest.mark.parametrize(
    ("data", "pieces"), [(STREAM, ["Hel", "lo"]), (NO_FINAL_TEXT, ["Hel", "lo"]), (AT_ONCE, ["Hello."])]
)
def test_pieces_belong_to_the_answer_only(ask: Ask, data: bytes, pieces: list[str]) -> None:
    assert pieces_of(ask, data) == (pieces, None, None)


@each
def test_a_broken_reply_raises_after_its_pieces(ask: Ask) -> None:
    pieces, error, broken = pieces_of(ask, BROKEN)
    assert pieces == ["Hel"]
    assert error is not None
    assert (error.broken, error.text) == (broken, "Hel")
    assert broken == Broken(Reason.REMOTE, "No more.", asked=True, raw=error.broken.raw)
    with pytest.raises(ReplyBroken, match=r"No more\.$"):
        text_of(ask, BROKEN)


def steps_of(ask: Ask, data: bytes, *steps: str) -> list[Any]:
    """The results of these steps on a reply: "next" is an event, "piece" and "pieces" are text, "text" is all of it."""
    results: list[Any] = []

    def note(step: str, value: Any) -> None:
        results.append((value.broken.reason, value.text) if isinstance(value, ReplyBroken) else value)

    def sync(reply: Any) -> None:
        ways = {
            "next": lambda: next(reply),
            "piece": lambda: next(reply.pieces()),
            "pieces": lambda: list(reply.pieces()),
            "text": reply.text,
        }
        for step in steps:
            try:
                note(step, ways[step]())
            except (ReplyBroken, ValueError) as error:
                note(step, error if isinstance(error, ReplyBroken) else ValueError)

    async def in_async(reply: Any) -> None:
        async def pieces() -> list[str]:
            return [piece async for piece in reply.pieces()]

        ways = {
            "next": lambda: anext(reply),
            "piece": lambda: anext(reply.pieces()),
            "pieces": pieces,
            "text": reply.text,
        }
        for step in steps:
            try:
                note(step, await ways[step]())
            except (ReplyBroken, ValueError) as error:
                note(step, error if isinstance(error, ReplyBroken) else ValueError)

    with FaultServer((Write(data), Close())) as server:
        with_reply(ask, server.url, sync, in_async)
    return results


@each
@pytest.mark.parametrize(
    ("data", "steps", "expected"),
    [
        (STREAM, ("text", "text", "pieces"), ["Hello.", "Hello.", []]),
        (STREAM, ("piece", "pieces", "text"), ["Hel", ["lo"], "Hello."]),
        (NO_FINAL_TEXT, ("piece", "text"), ["Hel", "Hello"]),
        (AT_ONCE, ("pieces", "pieces", "text"), [["Hello."], [], "Hello."]),
        (NO_FINAL_TEXT, ("next", "text"), [Live("Hel"), ValueError]),
        (STREAM, ("next", "pieces"), [Live("Hel"), ValueError]),
        (STREAM, ("piece", "next", "text"), ["Hel", Live("Thinking", "thinking"), ValueError]),
        (BROKEN, ("piece", "text", "pieces", "text"), ["Hel", *[(Reason.REMOTE, "Hel")] * 3]),
    ],
)
def test_text_is_whole_or_an_error_whatever_was_read_before(
    ask: Ask, data: bytes, steps: tuple[str, ...], expected: list[Any]
) -> None:
    assert steps_of(ask, data, *steps) == expected


def texts_of(ask: Ask, url: str, asked: list[tuple[Any, ...]], **options: Any) -> list[str]:
    """The answers to several questions over one transport."""

    async def main() -> list[str]:
        texts = []
        async with ask.kind(url) as transport:
            for question in asked:
                async with transport.ask(*question, **options) as reply:
                    texts.append(await reply.text())
        return texts

    if ask.run is None:
        with ask.kind(url) as transport:
            return [transport.ask(*question, **options).text() for question in asked]
    return list(ask.run(main))


@each
def test_a_conversation_remembers(ask: Ask) -> None:
    conversation = Conversation(bot_id="sales")
    with FaultServer((Write(STREAM), Close())) as server:
        texts = texts_of(ask, server.url, [("Hi", conversation), ("And?", conversation)])
        first, second = server.questions
    turn = Message("user", "Hi"), Message("assistant", "Hello.")
    assert texts == ["Hello.", "Hello."]
    assert (first.messages, first.new_message, second.messages, second.new_message) == ((), "Hi", turn, "And?")
    assert first.chat_id == second.chat_id == conversation.chat_id is not None
    assert first.bot_id == second.bot_id == "sales"
    assert conversation.messages == (*turn, Message("user", "And?"), Message("assistant", "Hello."))


@each
def test_keywords_of_ask_replace_a_submit(ask: Ask) -> None:
    with FaultServer((Write(AT_ONCE), Close())) as server:
        texts_of(ask, server.url, [("Hi",)], bot_id="sales", context_id=28, stream=False)
        [question] = server.questions
    assert (question.bot_id, question.context_id, question.stream) == ("sales", 28, False)


@each
@pytest.mark.parametrize("timeout", [1, Timeouts(connect=1, write=1, first_event=1)])
def test_timeout_sets_all_clocks(ask: Ask, timeout: Any) -> None:
    with FaultServer((Stall(),)) as server:
        [broken] = ask(server.url, timeout=timeout)
    assert (broken.reason, broken.limit) == (Reason.TIMEOUT, "first_event")


@pytest.mark.parametrize("kind", TRANSPORTS)
def test_a_wrong_timeout_or_timeout_with_timeouts_is_refused(kind: Any) -> None:
    with pytest.raises(TypeError, match=r"^Timeouts\.connect: expected seconds or None, got str$"):
        kind("http://site.example", timeout="5")
    with pytest.raises(TypeError, match=r"^timeout: expected this or timeouts, not both$"):
        kind("http://site.example", timeout=5, timeouts=Timeouts())
