"""The pace of an answer: backpressure, and comments while a bot is silent."""

from collections.abc import AsyncIterator
from typing import Any

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest

from opchat_proto import End, Event, Live, Submit
from opchat_transports.asgi import application

from .asgi import SECRET, Peer, ask, leave, question, run


def test_the_next_piece_is_requested_when_the_server_has_taken_the_previous_one(backend: str) -> None:
    asked = 0

    async def bot(submit: Submit) -> AsyncIterator[str]:
        nonlocal asked
        for number in range(5):
            asked += 1
            yield str(number)

    seen: list[int] = []

    async def client(peer: Peer) -> None:
        for number in range(1, 6):
            peer.came[number] = anyio.Event()
            peer.gates[number] = anyio.Event()
        for number in range(1, 6):
            await peer.came[number].wait()
            await anyio.wait_all_tasks_blocked()
            seen.append(asked)
            peer.gates[number].set()

    assert leave(backend, bot, client).pieces()[:5] == list("01234")
    assert seen == [1, 2, 3, 4, 5]


def test_comments_keep_a_stream_alive_while_the_bot_is_silent(backend: str) -> None:
    enough: list[anyio.Event] = [anyio.Event(), anyio.Event()]

    async def bot(submit: Submit) -> AsyncIterator[str]:
        await enough[0].wait()
        yield "a"
        await enough[1].wait()
        yield "b"

    async def client(peer: Peer) -> None:
        for event in enough:
            number = len(peer.sent) + 3
            peer.came[number] = anyio.Event()
            await peer.came[number].wait()
            event.set()

    peer = leave(backend, bot, client, keep_alive=0.001)
    bodies = [message["body"] for message in peer.sent[1:]]
    assert bodies[0] == bodies[1] == b": keepalive\n\n"
    assert set(bodies[: bodies.index(b'data: {"type":"live","data":"a"}\n\n')]) == {b": keepalive\n\n"}
    assert peer.events[:2] == [Live("a"), Live("b")]


@pytest.fixture
def timeless(monkeypatch: pytest.MonkeyPatch) -> None:
    """An interval ends as soon as the other tasks have run once."""

    async def sleep(seconds: float) -> None:
        await anyio.lowlevel.checkpoint()

    monkeypatch.setattr(anyio, "sleep", sleep)


async def many_turns() -> None:
    for _ in range(50):
        await anyio.lowlevel.checkpoint()


@pytest.mark.usefixtures("timeless")
def test_no_comment_follows_the_last_event(backend: str) -> None:
    async def main() -> Peer:
        class Slow(Peer):
            async def send(self, message: Any) -> None:
                if message.get("more_body") is False:
                    await many_turns()  # comments are due here
                await super().send(message)

        async def bot(submit: Submit) -> AsyncIterator[str | Event]:
            try:
                yield End("a")
            finally:
                await many_turns()  # and here

        head, messages = question()
        peer = Slow(*messages)
        await application(bot, secret=SECRET, keep_alive=0.001)(head, peer.receive, peer.send)
        return peer

    response = run(backend, main).response
    assert response.body.endswith(b"}\n\n")
    assert b"keepalive" not in response.body.partition(b"data:")[2]


@pytest.mark.usefixtures("timeless")
def test_without_keep_alive_or_streaming_there_are_no_comments(backend: str) -> None:
    async def bot(submit: Submit) -> AsyncIterator[str]:
        await many_turns()
        yield "a"

    assert b"keepalive" in ask(backend, bot, keep_alive=1).response.body
    assert b"keepalive" not in ask(backend, bot).response.body
    assert b"keepalive" not in ask(backend, bot, stream=False, keep_alive=1).response.body
