"""Blocking bots run in threads."""

import gc
import sqlite3
import threading
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest

from opchat_proto import End, Event, Live, Submit
from opchat_transports.asgi import application

from .asgi import PATIENCE, SECRET, Peer, ask, leave, question, run


def letters(submit: Submit) -> Iterator[str | Event]:
    yield from submit.new_message


class Lettered:
    def __call__(self, submit: Submit) -> list[str]:
        return list(submit.new_message)


@pytest.mark.parametrize("bot", [letters, Lettered(), lambda submit: list(submit.new_message)])
def test_a_blocking_bot_answers(backend: str, bot: Any) -> None:
    events = ask(backend, bot).events
    assert events[:2] == [Live("h"), Live("i")]
    assert isinstance(events[2], End)
    assert (len(events), events[2].reply) == (3, "hi")


def test_a_blocking_bot_runs_in_one_thread_and_one_context(backend: str) -> None:
    who: ContextVar[str] = ContextVar("who", default="nobody")
    guard = threading.RLock()  # only the thread that acquired it may release it
    seen: list[tuple[str, str, int]] = []

    def bot(submit: Submit) -> Iterator[str]:
        before = who.get()
        who.set(submit.new_message)
        database = sqlite3.connect(":memory:")  # usable from one thread only
        threads = {threading.get_ident()}
        try:
            with guard:
                yield "a"
                threads.add(threading.get_ident())
                yield str(database.execute("select 7").fetchone()[0])
        finally:
            database.close()
            threads.add(threading.get_ident())
            seen.append((before, who.get(), len(threads)))

    async def main() -> list[Peer]:
        app = application(bot, secret=SECRET)
        peers = []
        async with anyio.create_task_group() as tasks:
            for number in range(20):
                head, messages = question(str(number))
                peers.append(Peer(*messages))
                tasks.start_soon(app, head, peers[-1].receive, peers[-1].send)
        return peers

    assert [peer.pieces()[:2] for peer in run(backend, main)] == [["a", "7"]] * 20
    assert sorted(seen) == sorted(("nobody", str(number), 1) for number in range(20))


def test_the_number_of_threads_is_bounded(backend: str) -> None:
    running, most = 0, 0
    guard = threading.Lock()
    together = threading.Barrier(3)

    def bot(submit: Submit) -> Iterator[str]:
        nonlocal running, most
        with guard:
            running += 1
            most = max(most, running)
        together.wait(PATIENCE)
        yield "a"
        with guard:
            running -= 1

    async def main() -> list[Peer]:
        app = application(bot, secret=SECRET, threads=3)
        peers = []
        async with anyio.create_task_group() as tasks:
            for _ in range(9):
                head, messages = question()
                peers.append(Peer(*messages))
                tasks.start_soon(app, head, peers[-1].receive, peers[-1].send)
        return peers

    assert [type(peer.events[-1]) for peer in run(backend, main)] == [End] * 9
    assert most == 3


@pytest.mark.parametrize("gives_more", [True, False])
def test_a_busy_bot_whose_client_has_left_is_not_awaited(backend: str, gives_more: bool) -> None:
    thinks, goes_on, closed = threading.Event(), threading.Event(), threading.Event()

    def bot(submit: Submit) -> Iterator[str]:
        try:
            thinks.set()
            assert goes_on.wait(PATIENCE)
            if gives_more:
                yield "a"
        finally:
            closed.set()

    async def client(peer: Peer) -> None:
        await anyio.to_thread.run_sync(thinks.wait, PATIENCE)
        peer.left.set()

    assert leave(backend, bot, client).sent == []
    assert not closed.is_set()
    goes_on.set()  # after the event loop has ended
    assert closed.wait(PATIENCE)


def test_a_blocking_bot_is_closed_before_its_answer_ends(backend: str) -> None:
    closed: list[int] = []

    def bot(submit: Submit) -> Iterator[str]:
        begun = threading.get_ident()
        try:
            while True:
                yield "a"
        finally:
            closed.append(threading.get_ident() - begun)

    async def client(peer: Peer) -> None:
        peer.gates[2] = anyio.Event()
        peer.came[2] = anyio.Event()
        await peer.came[2].wait()
        peer.left.set()

    leave(backend, bot, client)
    assert closed == [0]


def held() -> list[str]:
    """The questions in memory."""
    gc.collect()
    return [each.new_message for each in gc.get_objects() if isinstance(each, Submit)]


def test_a_question_that_waits_for_a_thread_is_dropped_when_its_client_leaves(backend: str) -> None:
    asked: list[str] = []
    begun, goes_on = threading.Event(), threading.Event()

    def bot(submit: Submit) -> Iterator[str]:
        asked.append(submit.new_message)
        begun.set()
        assert goes_on.wait(PATIENCE)
        yield "a"

    async def main() -> Peer:
        app = application(bot, secret=SECRET, threads=1)
        async with anyio.create_task_group() as tasks:
            first, second = [Peer(*question(text)[1]) for text in ("first", "a second one")]
            tasks.start_soon(app, question("first")[0], first.receive, first.send)
            await anyio.to_thread.run_sync(begun.wait, PATIENCE)
            second.left.set()
            await app(question("a second one")[0], second.receive, second.send)
            # A bot can keep its thread for minutes, and a question can have a megabyte.
            while "a second one" in held():
                await anyio.lowlevel.checkpoint()
            assert "first" in held()
            goes_on.set()
        return first

    assert isinstance(run(backend, main).events[-1], End)
    third = ask(backend, bot)
    assert isinstance(third.events[-1], End)
    assert asked == ["first", "hi"]
