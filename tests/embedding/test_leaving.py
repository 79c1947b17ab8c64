"""A question that somebody else ends, while its answer is waited for: the connection is closed at once."""

import asyncio
import ssl
import threading
from collections.abc import Awaitable, Callable

import gevent
import gevent.ssl
import httpx
import pytest
import trio

from opchat_proto import Broken, Client, Event, Live
from tests.transports.scripted import Peer, Scripted

from . import (
    anyio_streams,
    asyncio_protocol,
    asyncio_streams,
    flow_aiohttp,
    flow_httpx_async,
    gevent_sockets,
    threads_queue,
    tornado_iostream,
    trio_race,
)
from .suite import LITTLE, PLENTY, Question, answer, cut_after, events_of

TLS = ssl.create_default_context()
Leaver = Callable[[Question], None]
"""Asks, and ends the question when the piece " seven" was heard. The rest never comes."""


def is_the_last(event: Event) -> bool:
    return event == Live(" seven")


def cancelled(ask: Callable[[Question, Callable[[Event], object]], Awaitable[object]]) -> Leaver:
    """As `Task.cancel` does it."""

    async def run(question: Question) -> None:
        heard = asyncio.Event()

        def hear(event: Event) -> None:
            question.hear(event)
            if is_the_last(event):
                heard.set()

        task = asyncio.ensure_future(ask(question, hear))
        await heard.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    return lambda question: asyncio.run(run(question))


async def with_httpx(question: Question, hear: Callable[[Event], object]) -> None:
    async with httpx.AsyncClient(trust_env=False) as http:
        await flow_httpx_async.ask(question.flow(), hear, http, PLENTY)


def cancelled_scope(ask: Callable[[Question, Callable[[Event], object]], Awaitable[object]]) -> Leaver:
    """As trio's `CancelScope.cancel` does it."""

    async def run(question: Question) -> None:
        with trio.CancelScope() as scope:

            def hear(event: Event) -> None:
                question.hear(event)
                if is_the_last(event):
                    scope.cancel()

            await ask(question, hear)
        assert scope.cancelled_caught

    return lambda question: trio.run(run, question)


async def racing(question: Question, hear: Callable[[Event], object]) -> None:
    def heard(_: Client, event: Event) -> object:
        return hear(event)

    await trio_race.race([question.client()], heard, TLS, PLENTY)


def killed(question: Question) -> None:
    """As gevent does it."""
    heard = gevent.event.Event()

    def hear(event: Event) -> None:
        question.hear(event)
        if is_the_last(event):
            heard.set()

    greenlet = gevent.spawn(gevent_sockets.ask, question.client(), hear, gevent.ssl.create_default_context(), PLENTY)
    heard.wait()
    greenlet.kill()


def left_by_another_thread(question: Question) -> None:
    asked = threads_queue.Question(question.client(), TLS, PLENTY)
    while (event := asked.events.get()) is not None:
        question.hear(event)
        if is_the_last(event):
            threading.Timer(0, asked.leave).start()  # while this thread waits for the next


LEAVERS: dict[str, Leaver] = {
    "asyncio_streams": cancelled(lambda question, hear: asyncio_streams.ask(question.client(), hear, TLS, PLENTY)),
    "asyncio_protocol": cancelled(lambda question, hear: asyncio_protocol.ask(question.client(), hear, TLS, PLENTY)),
    "tornado_iostream": cancelled(lambda question, hear: tornado_iostream.ask(question.client(), hear, TLS, PLENTY)),
    "anyio_streams": cancelled(lambda question, hear: anyio_streams.ask(question.client(), hear, TLS, PLENTY)),
    "anyio_streams on trio": cancelled_scope(
        lambda question, hear: anyio_streams.ask(question.client(), hear, TLS, PLENTY)
    ),
    "trio_race": cancelled_scope(racing),
    "flow_aiohttp": cancelled(lambda question, hear: flow_aiohttp.ask(question.flow(), hear, TLS, PLENTY)),
    "flow_httpx_async": cancelled(with_httpx),
    "gevent_sockets": killed,
    "threads_queue": left_by_another_thread,
}


@pytest.mark.parametrize("name", LEAVERS)
def test_a_question_that_is_ended_from_outside(name: str) -> None:
    cut = cut_after("plain", b"seven")
    events: list[Event] = []
    left: list[bool] = []

    def play(peer: Peer) -> None:
        if answer(peer, cut):
            left.append(peer.is_left())

    with Scripted(play) as server:
        LEAVERS[name](Question(server.url, events.append))
        # Each of them has closed it before it came back, so that the server need not wait for anything else.
    assert events == events_of(cut)[:4]
    assert left == [True]


@pytest.mark.parametrize("is_cancelled", [False, True])
def test_a_handshake_that_stalls_leaves_no_connection_behind(is_cancelled: bool) -> None:
    """Tornado's, whose stream keeps the socket to itself meanwhile."""
    begun, closed = threading.Event(), threading.Event()
    events: list[Event] = []

    def play(peer: Peer) -> None:
        peer.socket.recv(1)
        begun.set()
        if peer.is_left():
            closed.set()

    async def main(url: str) -> None:
        client = Question(url.replace("http:", "https:"), events.append).client()
        task = asyncio.ensure_future(
            tornado_iostream.ask(client, events.append, TLS, PLENTY if is_cancelled else LITTLE)
        )
        await asyncio.to_thread(begun.wait, PLENTY)
        if is_cancelled:
            task.cancel()
        await asyncio.wait([task])
        assert await asyncio.to_thread(closed.wait, PLENTY)  # while the loop runs, whose end would close all

    with Scripted(play) as server:
        asyncio.run(main(server.url))
    assert [type(event) for event in events] == ([] if is_cancelled else [Broken])
