"""A question that another task ends while it waits for its answer: the connection is closed at once."""

import asyncio
import ssl
import threading
from collections.abc import Awaitable, Callable

import anyio
import gevent
import gevent.event
import gevent.ssl
import httpx
import pytest
import trio

from opchat_proto import Broken, Event, Live
from opchat_transports.testing import FaultServer
from tests.transports.peer import Peer, plays, takes

from . import (
    anyio_streams,
    asyncio_protocol,
    asyncio_streams,
    gevent_sockets,
    http_aiohttp,
    http_httpx_async,
    threads_queue,
    tornado_iostream,
    trio_streams,
)
from .suite import LITTLE, PATIENCE, PLENTY, Question, cut_after, events_of

TLS = ssl.create_default_context()
Leaver = Callable[[Question], None]
"""Ask, and end the question after the piece " seven". The rest never comes."""


def is_the_last(event: Event) -> bool:
    return event == Live(" seven")


def cancelled(ask: Callable[[Question, Callable[[Event], object]], Awaitable[object]]) -> Leaver:
    """Use `Task.cancel`."""

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
    await http_httpx_async.ask(question.http_call(asyncio.Event), hear, httpx.AsyncClient(trust_env=False))


def cancelled_scope(ask: Callable[[Question, Callable[[Event], object]], Awaitable[object]]) -> Leaver:
    """Use trio's `CancelScope.cancel`."""

    async def run(question: Question) -> None:
        with trio.CancelScope() as scope:

            def hear(event: Event) -> None:
                question.hear(event)
                if is_the_last(event):
                    scope.cancel()

            await ask(question, hear)
        assert scope.cancelled_caught

    return lambda question: trio.run(run, question)


def killed(question: Question) -> None:
    """Use gevent's `kill`."""
    heard = gevent.event.Event()

    def hear(event: Event) -> None:
        question.hear(event)
        if is_the_last(event):
            heard.set()

    call = question.call(gevent.event.Event)
    greenlet = gevent.spawn(gevent_sockets.ask, call, hear, gevent.ssl.create_default_context())
    heard.wait()
    greenlet.kill()


def left_by_another_thread(question: Question) -> None:
    """Use `Call.close`. The asking thread gets only the earlier events."""
    call = question.channel(threading.Event, threading.RLock()).call("Hi!")
    heard = threading.Event()

    def hear(event: Event) -> None:
        if not isinstance(event, Broken):
            question.hear(event)
        if is_the_last(event):
            heard.set()

    asking = threading.Thread(target=threads_queue.ask, args=(call, hear, TLS))
    asking.start()
    assert heard.wait(PATIENCE)
    call.close()
    asking.join()


LEAVERS: dict[str, Leaver] = {
    "asyncio_streams": cancelled(lambda question, hear: asyncio_streams.ask(question.call(asyncio.Event), hear, TLS)),
    "asyncio_protocol": cancelled(lambda question, hear: asyncio_protocol.ask(question.call(asyncio.Event), hear, TLS)),
    "tornado_iostream": cancelled(lambda question, hear: tornado_iostream.ask(question.call(asyncio.Event), hear, TLS)),
    "anyio_streams": cancelled(lambda question, hear: anyio_streams.ask(question.call(anyio.Event), hear, TLS)),
    "anyio_streams on trio": cancelled_scope(
        lambda question, hear: anyio_streams.ask(question.call(anyio.Event), hear, TLS)
    ),
    "trio_streams": cancelled_scope(lambda question, hear: trio_streams.ask(question.call(trio.Event), hear, TLS)),
    "http_aiohttp": cancelled(lambda question, hear: http_aiohttp.ask(question.http_call(asyncio.Event), hear, TLS)),
    "http_httpx_async": cancelled(with_httpx),
    "gevent_sockets": killed,
    "threads_queue": left_by_another_thread,
}


@pytest.mark.parametrize("name", LEAVERS)
def test_a_question_ended_from_outside_closes_its_connection(name: str) -> None:
    cut = cut_after("plain", b"seven")
    events: list[Event] = []
    left: list[bool] = []

    @plays
    def play(peer: Peer) -> None:
        peer.send(cut)
        left.append(peer.is_left())

    with FaultServer(play) as server:
        LEAVERS[name](Question(server.url, events.append))
        # Each recipe has closed the connection by the time it returns, so the server has nothing else to wait for.
    assert events == events_of(cut)[:4]
    assert left == [True]


@pytest.mark.parametrize("is_cancelled", [False, True])
def test_a_stalled_handshake_leaves_no_connection_behind(is_cancelled: bool) -> None:
    """For Tornado, whose stream does not expose its socket."""
    begun, closed = threading.Event(), threading.Event()
    events: list[Event] = []

    @takes
    def play(peer: Peer) -> None:
        peer.socket.recv(1)
        begun.set()
        if peer.is_left():
            closed.set()

    async def main(url: str) -> None:
        timeouts = PLENTY if is_cancelled else LITTLE
        question = Question(url.replace("http:", "https:"), events.append, timeouts=timeouts)
        task = asyncio.ensure_future(tornado_iostream.ask(question.call(asyncio.Event), events.append, TLS))
        await asyncio.to_thread(begun.wait, PATIENCE)
        if is_cancelled:
            task.cancel()
        await asyncio.wait([task])
        assert await asyncio.to_thread(closed.wait, PATIENCE)  # while the loop runs: its end closes everything

    with FaultServer(play) as server:
        asyncio.run(main(server.url))
    assert [type(event) for event in events] == ([] if is_cancelled else [Broken])
