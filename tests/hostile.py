"""`python -m tests.hostile`: thousands of questions over each transport to a server that misbehaves at random.

The server cuts, resets, stalls, drips and answers garbage, in plain and under TLS; the
askers cancel, close and leave at random. Each question must end as promised: one terminal
event at most and exactly one if it was read to its end, no submit twice, and nothing left
behind: no descriptor, thread, task or warning.
"""

import argparse
import asyncio
import gc
import os
import random
import ssl
import sys
import threading
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio
import trio
import trustme

from opchat_proto import Event, Live, Timeouts
from opchat_transports.asyncio_httpx import HttpxTransport
from opchat_transports.asyncio_streams import AsyncioTransport
from opchat_transports.blocking_sockets import BlockingTransport
from opchat_transports.testing import (
    ANSWER,
    FAULTS,
    Accept,
    Close,
    Delay,
    Expect,
    FaultServer,
    Reset,
    Script,
    Stall,
    Write,
)
from opchat_transports.trio_streams import TrioTransport

AT_ONCE = 20
TIMEOUTS = Timeouts(connect=5, write=5, first_event=0.5, idle=0.5)
# An endless answer costs a clock. Each of the others is one of the faults.
ENDLESS = ("1xx flood", "endless answer", "endless head", "endless line", "endless page", "nothing but comments")
QUICK = [script for name, script in FAULTS.items() if name not in ENDLESS]


def fault(dice: random.Random) -> Script:
    """A script with a name, or a drawn one."""
    if dice.random() < 0.5:
        return dice.choice(QUICK)
    data = bytearray(ANSWER[: dice.randrange(len(ANSWER) + 1)])
    for _ in range(dice.choice((0, 0, 1, 5))):
        if data:
            data[dice.randrange(len(data))] = dice.randrange(256)
    steps: list[Any] = [Write(bytes(data), size=dice.choice((None, 1, 7, 100)), gap=dice.choice((0, 0, 0.001)))]
    if dice.random() < 0.2:
        steps.insert(0, Delay(dice.random() / 20))
    steps.append(dice.choice((Close(), Close(notify=False), Reset(), Stall())))
    return (dice.choice((Expect(), Expect(), Expect(), Expect("start_session"), Accept())), *steps)


def check(question: str, events: list[Event], *, is_over: bool) -> None:
    """Check that there is at most one terminal event, and exactly one at the end."""
    terminal = [index for index, event in enumerate(events) if not isinstance(event, Live)]
    assert terminal in ([], [len(events) - 1]), (question, events)
    assert terminal or not is_over, (question, events)


def ask_blocking(url: str, context: ssl.SSLContext, numbers: list[int], seed: int) -> None:
    """Ask the questions with these numbers, in threads."""
    with BlockingTransport(url, ssl_context=context, timeouts=TIMEOUTS, proxy=None) as transport:
        work = iter(numbers)
        guard = threading.Lock()
        failures: list[BaseException] = []

        def ask(number: int) -> None:
            dice = random.Random(seed + number)
            reply = transport.ask(f"question {number}")
            closer = threading.Timer(dice.random() / 10, reply.close) if dice.random() < 0.2 else None
            if closer is not None:
                closer.start()
            events: list[Event] = []
            leave_after = dice.choice((None, None, None, 0, 1, 2))
            try:
                with reply:
                    while leave_after is None or len(events) < leave_after:
                        events.append(next(reply))
            except StopIteration:
                check(f"question {number}", events, is_over=True)
            check(f"question {number}", events, is_over=False)
            if closer is not None:
                closer.join()

        def run() -> None:
            while not failures:
                with guard:
                    number = next(work, None)
                if number is None:
                    return
                try:
                    ask(number)
                except BaseException as error:
                    failures.append(error)

        threads = [threading.Thread(target=run) for _ in range(AT_ONCE)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    for failure in failures:
        raise failure


async def ask_async(transport: Any, numbers: list[int], seed: int) -> None:
    """Ask the questions with these numbers, in tasks, on asyncio or trio."""
    work = iter(numbers)

    async def ask(number: int) -> None:
        dice = random.Random(seed + number)
        events: list[Event] = []
        leave_after = dice.choice((None, None, None, 0, 1, 2))
        seconds = dice.random() / 10 if dice.random() < 0.3 else None
        with anyio.move_on_after(seconds) as scope:
            async with transport.ask(f"question {number}") as reply, anyio.create_task_group() as tasks:
                if dice.random() < 0.2:
                    tasks.start_soon(close_later, reply, dice.random() / 10)
                while leave_after is None or len(events) < leave_after:
                    try:
                        events.append(await anext(reply))
                    except StopAsyncIteration:
                        check(f"question {number}", events, is_over=True)
                        break
                tasks.cancel_scope.cancel()
        check(f"question {number}", events, is_over=False)
        assert seconds is not None or not scope.cancelled_caught

    async def close_later(reply: Any, seconds: float) -> None:
        await anyio.sleep(seconds)
        await reply.aclose()

    async def run() -> None:
        for number in work:
            await ask(number)

    async with anyio.create_task_group() as tasks:
        for _ in range(AT_ONCE):
            tasks.start_soon(run)


@asynccontextmanager
async def asking(kind: Callable[..., Any], url: str, context: ssl.SSLContext) -> AsyncIterator[Any]:
    async with kind(url, ssl_context=context, timeouts=TIMEOUTS, proxy=None) as transport:
        yield transport


def on_trio(kind: Callable[..., Any]) -> Callable[[str, ssl.SSLContext, list[int], int], None]:
    """Ask in a loop of trio's."""

    async def main(url: str, context: ssl.SSLContext, numbers: list[int], seed: int) -> None:
        async with asking(kind, url, context) as transport:
            await ask_async(transport, numbers, seed)

    return lambda *given: trio.run(main, *given)


def on_asyncio(kind: Callable[..., Any]) -> Callable[[str, ssl.SSLContext, list[int], int], None]:
    """Ask in a loop of asyncio's, which must have no other task at the end."""

    async def main(url: str, context: ssl.SSLContext, numbers: list[int], seed: int) -> None:
        async with asking(kind, url, context) as transport:
            await ask_async(transport, numbers, seed)
        assert asyncio.all_tasks() == {asyncio.current_task()}

    return lambda *given: asyncio.run(main(*given))


WAYS: dict[str, Callable[[str, ssl.SSLContext, list[int], int], None]] = {
    "blocking": ask_blocking,
    "trio": on_trio(TrioTransport),
    "asyncio": on_asyncio(AsyncioTransport),
    "httpx": on_asyncio(HttpxTransport),
}


def attack(
    way: str, *, secure: bool, questions: int, seed: int, contexts: tuple[ssl.SSLContext, ssl.SSLContext]
) -> str:
    """Ask this many questions, and return the outcomes. Raises `AssertionError` if a promise was broken."""
    gc.collect()
    descriptors, threads = sorted(os.listdir("/proc/self/fd")), threading.active_count()
    dice = random.Random(seed)
    scripts = [fault(dice) for _ in range(questions)]
    with FaultServer(*scripts, ssl_context=contexts[0] if secure else None) as server:
        # The thread of a name lookup may still be there, and trio keeps it for a while. An address needs no lookup.
        url = server.url.replace("localhost", "127.0.0.1") if way in ("blocking", "trio") else server.url
        WAYS[way](url, contexts[1], list(range(questions)), seed)
        submits = Counter((submit.chat_id, request.nonce) for request in server.requests if (submit := request.submit))
        requests = len(server.requests)
    assert max(submits.values(), default=0) <= 1, "a question was sent twice with one nonce"
    per_question = Counter(chat_id for chat_id, _ in submits)
    assert max(per_question.values(), default=0) <= 2, "a question was sent more than twice"
    gc.collect()  # an unclosed resource raises ResourceWarning, which is an error here
    assert sorted(os.listdir("/proc/self/fd")) == descriptors, "a descriptor is left"
    assert threading.active_count() == threads, "a thread is left"
    return f"{way}, {'TLS' if secure else 'plain'}: {questions} questions, {requests} requests, {len(submits)} submits"


def main(arguments: list[str] | None = None) -> int:
    """Attack each transport, plain and under TLS."""
    parser = argparse.ArgumentParser(prog="python -m tests.hostile", description=__doc__.split("\n", 1)[0])
    parser.add_argument("--questions", type=int, default=1000, help="for each transport (default: 1000)")
    parser.add_argument("--seed", type=int, default=random.randrange(10**6), help="repeats a run's dice")
    parser.add_argument("--via", choices=WAYS, action="append", help="only this transport; may be repeated")
    options = parser.parse_args(arguments)
    print(f"seed {options.seed}", flush=True)
    authority = trustme.CA()
    ours, theirs = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context()
    authority.issue_cert("localhost", "127.0.0.1").configure_cert(ours)
    authority.configure_trust(theirs)
    failures: list[Any] = []
    sys.unraisablehook = failures.append
    for way in options.via or WAYS:
        for secure in (False, True):
            count = (options.questions + (not secure)) // 2
            line = attack(way, secure=secure, questions=count, seed=options.seed, contexts=(ours, theirs))
            assert not failures, failures
            print(line, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
