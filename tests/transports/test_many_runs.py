"""Many questions over real connections, on trio and on asyncio."""

import asyncio
import gc
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
import trio

from opchat_proto import End, Limits, Reason, Session, Timeouts
from opchat_transports import many
from opchat_transports.many import BatchQuestion, Result
from opchat_transports.testing import (
    GOOD,
    FaultServer,
    Stall,
    Write,
    answer,
)

from .asking import on_asyncio, open_files
from .many_scripts import scripts

LOOPS: dict[str, Any] = {"trio": trio.run, "asyncio": on_asyncio}


@pytest.fixture(params=LOOPS)
def run(request: pytest.FixtureRequest) -> Iterator[Any]:
    """Run a coroutine function on either loop. No descriptor may be left open."""
    LOOPS[request.param](_nothing)  # opens descriptors that a loop keeps
    before = descriptors()
    yield LOOPS[request.param]
    assert descriptors() == before


async def _nothing() -> None:
    pass


def descriptors() -> int:
    gc.collect()
    return len(open_files())


async def checkpoint() -> None:
    """Let other tasks run, on either loop."""
    if trio.lowlevel.in_trio_run():
        await trio.lowlevel.checkpoint()
    else:
        await asyncio.sleep(0)  # other tasks run


def outcomes(results: list[Result]) -> dict[Any, str]:
    return {result.id: result.outcome for result in results}


def test_each_of_a_thousand_questions_has_one_outcome_and_none_is_sent_twice(run: Any) -> None:
    texts = [f"question {number}" for number in range(1000)]

    async def main() -> list[Result]:
        return [result async for result in many.ask(texts, url=server.url, concurrency=16)]

    with FaultServer(*scripts(1000)) as server:
        results = run(main)
    assert sorted(result.question for result in results) == sorted(texts)
    assert Counter(result.outcome for result in results) == {"end": 750, "broken": 250}
    assert sorted(submit.new_message for submit in server.questions) == sorted(texts)
    assert {result.asked for result in results if result.outcome == "end"} == {True}


def test_an_endless_source_is_read_as_far_as_results_are_read(run: Any) -> None:
    taken = 0

    def endless() -> Iterator[str]:
        nonlocal taken
        while True:
            taken += 1
            yield f"question {taken}"

    async def main() -> None:
        async with many.ask(endless(), url=server.url, concurrency=3) as results:
            async for result in results:
                for _ in range(50):  # would be enough to read and ask more
                    await checkpoint()
                assert taken <= int(result.id) + 9
                if taken > 60:
                    break

    with FaultServer() as server:
        run(main)
    assert taken <= 70


@pytest.mark.parametrize("count", [0, 1, 7])
def test_an_async_source_is_read_too(run: Any, count: int) -> None:
    async def source() -> AsyncIterator[str]:
        for number in range(count):
            await checkpoint()
            yield f"question {number}"

    async def main() -> list[Result]:
        return [result async for result in many.ask(source(), url=server.url)]

    with FaultServer() as server:
        results = run(main)
    assert outcomes(results) == dict.fromkeys(range(1, count + 1), "end")


def test_a_waiting_async_source_delays_no_result(run: Any) -> None:
    got_one: Any = None

    async def source() -> AsyncIterator[str]:
        yield "a"
        await got_one.wait()
        yield "b"

    async def main() -> None:
        nonlocal got_one
        got_one = trio.Event() if trio.lowlevel.in_trio_run() else asyncio.Event()
        async for _ in many.ask(source(), url=server.url):
            got_one.set()

    with FaultServer() as server:
        run(main)
    assert [submit.new_message for submit in server.questions] == ["a", "b"]


@pytest.mark.parametrize("is_async", [False, True])
def test_an_exception_of_the_source_ends_the_run(run: Any, is_async: bool) -> None:
    def source() -> Iterator[str]:
        yield "a"
        raise LookupError("no more")

    async def async_source() -> AsyncIterator[str]:
        for text in source():
            yield text

    async def main() -> None:
        await anext(many.ask(async_source() if is_async else source(), url=server.url))

    with FaultServer((Stall(),)) as server, pytest.raises(LookupError, match="no more"):
        run(main)
    assert [visit for visit in server.visits if visit.left is None] == []


@pytest.mark.parametrize(
    ("question", "error", "message"),
    [
        ({"question": ""}, ValueError, "question: expected a string that is not blank"),
        (7, TypeError, "question: expected a BatchQuestion, a dict or a str, got int"),
        (BatchQuestion(1, "a"), ValueError, "question 1: expected a url, of its own or for all"),
    ],
)
def test_a_malformed_question_is_an_error(run: Any, question: Any, error: type[Exception], message: str) -> None:
    async def main() -> None:
        await anext(many.ask([question]))

    with pytest.raises(error, match=message):
        run(main)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"concurrency": 0}, ValueError, "concurrency: expected 1 or more, got 0"),
        ({"url": "ftp://x"}, ValueError, "expected a site"),
        ({"sessions": None}, TypeError, "sessions: unknown option"),
        ({"url": "http://x", "session": "x"}, TypeError, r"session: expected a Session or None, got str"),
        ({"url": "http://x", "session": Session(), "page": "x"}, ValueError, "expected the address of a page"),
        ({"headers": {"X": "a\nb"}}, ValueError, "header"),
        ({"concurrency": "4"}, TypeError, "concurrency: expected int, got str"),
        ({"rate": "4"}, TypeError, r"rate: expected int \| float \| None, got str"),
        ({"settled": 5}, TypeError, r"settled: expected .*Mapping \| None, got int"),
        ({"before_ask": 5}, TypeError, r"before_ask: expected .*Callable \| None, got int"),
        ({"bot": ["a"]}, TypeError, "bot: expected .*, got list"),
        ({"timeouts": 5}, TypeError, "timeouts: expected Timeouts, got int"),
        ({"ssl_context": True}, TypeError, "ssl_context: expected an ssl.SSLContext or None, got bool"),
    ],
)
def test_wrong_options_are_refused_at_once(options: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        many.ask(["a"], **options)


@pytest.mark.parametrize(
    ("questions", "message"),
    [
        ("Who are you?", "expected several, got one"),
        ({"question": "Hi"}, "expected several, got one"),
        (BatchQuestion(1, "Hi"), "expected several, got one"),
        (5, "expected an iterable or async iterable, got int"),
    ],
)
def test_a_single_question_is_refused_instead_of_each_of_its_letters(questions: Any, message: str) -> None:
    with pytest.raises(TypeError, match=f"^questions: {message}$"):
        many.ask(questions, url="http://site.example")


def test_leaving_the_loop_closes_the_questions_under_way(run: Any) -> None:
    async def main() -> None:
        async for _ in many.ask([*"abcdefgh"], url=server.url, concurrency=4):
            break
        while any(visit.left is None for visit in server.visits):  # the end of this answer is not awaited
            await checkpoint()
        for _ in range(10):
            await checkpoint()

    with FaultServer(GOOD, (Stall(),)) as server:
        run(main)
    assert len(server.questions) <= 5


def test_aclose_closes_the_questions_under_way_and_ends_the_results(run: Any) -> None:
    async def main() -> None:
        results = many.ask([*"abcd"], url=server.url)
        await anext(results)
        await results.aclose()
        await results.aclose()
        assert [result async for result in results] == []
        unused = many.ask([*"abcd"], url=server.url)
        await unused.aclose()
        assert [result async for result in unused] == []

    with FaultServer(GOOD, (Stall(),)) as server:
        run(main)
    assert [visit for visit in server.visits if visit.left is None and not visit.finished] == []


def test_stop_gives_the_questions_under_way_as_broken(run: Any) -> None:
    async def main() -> list[Result]:
        found = []
        async with many.ask(map(str, range(100)), url=server.url, concurrency=3) as results:
            async for result in results:
                found.append(result)
                while len(server.questions) < 4:  # otherwise a request may be cut before the server has read it
                    await checkpoint()
                results.stop()
        return found

    with FaultServer(GOOD, (Stall(),)) as server:
        results = run(main)
    asked = {submit.new_message for submit in server.questions}
    assert [result.outcome for result in results] == ["end", "broken", "broken", "broken"]
    assert {result.question for result in results if result.asked is not False} == asked == set("0123")
    assert {result.last.detail for result in results[1:]} == {"closed by the caller"}


def test_results_stopped_before_the_first_are_empty(run: Any) -> None:
    async def main() -> None:
        results = many.ask([*"abc"], url=server.url)
        results.stop()
        assert [result async for result in results] == []

    with FaultServer() as server:
        run(main)
    assert server.visits == ()


@pytest.mark.parametrize("turns", range(4))
def test_a_run_ends_however_early_it_is_closed(run: Any, turns: int) -> None:
    async def main() -> None:
        results = many.ask([*"abc"], url=server.url)
        if trio.lowlevel.in_trio_run():
            with trio.move_on_after(0):
                await anext(results)
        else:
            waiting = asyncio.create_task(anext(results, None))
            for _ in range(turns):  # the first starts `anext`, and the second what it starts
                await asyncio.sleep(0)  # other tasks run
        await results.aclose()
        assert [result async for result in results] == []
        if not trio.lowlevel.in_trio_run():
            assert await waiting is None

    with FaultServer() as server:
        run(main)


def test_a_run_that_is_closed_twice_at_once_ends_once(run: Any) -> None:
    async def main() -> None:
        results = many.ask([*"abc"], url=server.url)
        await anext(results)
        if trio.lowlevel.in_trio_run():
            async with trio.open_nursery() as nursery:
                nursery.start_soon(results.aclose)
                nursery.start_soon(results.aclose)
        else:
            await asyncio.gather(results.aclose(), results.aclose())
        assert [result async for result in results] == []

    with FaultServer(GOOD, (Stall(),)) as server:
        run(main)


def test_a_cancelled_wait_loses_no_result(run: Any) -> None:
    async def cancelled_at_once(results: Any) -> None:
        if trio.lowlevel.in_trio_run():
            with trio.move_on_after(0):
                await anext(results)
        else:
            waiting = asyncio.create_task(anext(results))
            await asyncio.sleep(0)  # other tasks run
            waiting.cancel()
            await asyncio.wait([waiting])

    async def main() -> list[Result]:
        results = many.ask(["a", "b", "c"], url=server.url)
        for _ in range(3):
            await cancelled_at_once(results)
        return [result async for result in results]

    with FaultServer() as server:
        assert outcomes(run(main)) == {1: "end", 2: "end", 3: "end"}


def test_a_failure_before_a_question_is_asked_ends_the_run(run: Any) -> None:
    def before(question: BatchQuestion) -> None:
        if question.id == 2:
            raise OSError(28, "No space left on device")

    async def main() -> None:
        async for _ in many.ask([*"abc"], url=server.url, concurrency=1, before_ask=before):
            pass

    with FaultServer() as server, pytest.raises(OSError, match="No space left"):
        run(main)
    assert [submit.new_message for submit in server.questions] == ["a"]


def test_a_conversation_has_one_chat_id_and_its_messages(run: Any) -> None:
    given = [BatchQuestion(number, f"turn {number}", conversation="talk", bot="parrot") for number in range(3)]

    async def main() -> list[Result]:
        return [result async for result in many.ask(given, url=server.url)]

    with FaultServer() as server:
        assert [result.reply for result in run(main)] == ["Hello, world!"] * 3
    assert len({submit.chat_id for submit in server.questions}) == 1
    assert [len(submit.messages) for submit in server.questions] == [0, 2, 4]
    assert {submit.bot_id for submit in server.questions} == {"parrot"}
    assert [submit.previous_response_id for submit in server.questions] == [None, "resp_1", "resp_1"]


def test_a_site_that_refuses_connections_was_not_asked(run: Any) -> None:
    async def main() -> list[Result]:
        return [result async for result in many.ask([*"abcdef"], url="http://127.0.0.1:9", proxy=None)]

    results = run(main)
    assert [(result.outcome, result.asked, result.last.reason) for result in results] == [
        ("broken", False, Reason.LOST)
    ] * 6


def test_a_question_that_has_become_too_large_is_broken(run: Any) -> None:
    given = [{"question": "a", "conversation": 1}, {"question": "b", "conversation": 1}]

    async def main() -> list[Result]:
        return [result async for result in many.ask(given, url=server.url, limits=Limits(request_bytes=2000))]

    with FaultServer((Write(answer(End("x" * 5000))),)) as server:
        first, second = run(main)
    assert (first.outcome, len(first.reply)) == ("end", 5000)
    assert (second.last.reason, second.last.limit, second.asked) == (Reason.TOO_LARGE, "request_bytes", False)


def test_the_transports_clocks_apply(run: Any) -> None:
    async def main() -> list[Result]:
        timeouts = Timeouts(first_event=0.5)  # enough for start_session
        return [result async for result in many.ask(["a"], url=server.url, timeouts=timeouts)]

    with FaultServer((Stall(),)) as server:
        [result] = run(main)
    assert (result.last.reason, result.asked) == (Reason.TIMEOUT, "maybe")


def test_more_sites_than_kept_sessions_can_be_asked(run: Any) -> None:
    async def main() -> list[Result]:
        given = [BatchQuestion(number, "?", url=f"{server.url}/site{number % 120}") for number in range(240)]
        return [result async for result in many.ask(given)]

    with FaultServer() as server:
        assert [result.last for result in run(main) if result.outcome != "end"] == []
    assert server.routes.count("start_session") == 240


def test_the_pace_is_kept(run: Any) -> None:
    async def main() -> list[Result]:
        return [result async for result in many.ask([*"abc"], url=server.url, rate=6000)]

    with FaultServer() as server:
        assert outcomes(run(main)) == {1: "end", 2: "end", 3: "end"}


def test_importing_it_imports_no_event_loop() -> None:
    code = "import opchat_transports.many, sys; print({'trio', 'asyncio', 'distributed'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
