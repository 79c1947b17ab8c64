"""Many questions from the workers of a local Dask cluster, even when workers die."""

import asyncio
import json
import os
import signal
import ssl
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from distributed import Client, LocalCluster

from opchat_proto import Session
from opchat_transports import many
from opchat_transports.cli import run
from opchat_transports.many import Result
from opchat_transports.many._dask import _work  # runs on a worker; called twice here
from opchat_transports.testing import GOOD, FaultServer, Run, Script, Stall

from .command import PATIENCE
from .many_scripts import FAULTY, scripts

STALL: Script = (Stall(),)


def slow(goes_on: threading.Event) -> Script:
    """The answer comes when the test says so."""
    return (Run(lambda _: goes_on.wait(PATIENCE)), *GOOD)


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    # Workers are processes. They run without the warnings that are errors here, since Dask's own are not our concern.
    with LocalCluster(n_workers=4, threads_per_worker=2, dashboard_address=":0", silence_logs=50) as cluster:
        yield cluster


@pytest.fixture
def client(cluster: LocalCluster) -> Iterator[Client]:
    """A client of the cluster, once all its workers have joined. Tests must leave the workers unchanged."""
    with Client(cluster, set_as_default=False) as client:
        client.wait_for_workers(4)
        yield client
        wait_until(lambda: client.run_on_scheduler(lambda dask_scheduler: len(dask_scheduler.tasks)) == 0)


def queues(client: Client) -> list[str]:
    names: list[str] = client.run_on_scheduler(lambda dask_scheduler: list(dask_scheduler.extensions["queues"].queues))
    return names


def wait_until(is_so: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE
    while not is_so():
        assert time.monotonic() < end
        time.sleep(0)  # other threads and processes run first


def asked(server: FaultServer) -> Counter[str]:
    return Counter(submit.new_message for submit in server.questions)


def test_a_thousand_questions_have_one_outcome_each_even_if_a_worker_dies(client: Client) -> None:
    texts = [f"question {number}" for number in range(1000)]
    # In the middle, each of the four workers asks four questions whose answers take long.
    goes_on = threading.Event()
    given = [*scripts(500), *[slow(goes_on)] * 16, *scripts(484)]
    victim = next(iter(client.run(os.getpid).values()))
    results: list[Result] = []
    with FaultServer(*given) as server:
        for result in many.on_dask(client, texts, url=server.url):
            results.append(result)
            if len(results) == 500:
                wait_until(lambda: len(server.questions) >= 516)
                os.kill(victim, signal.SIGKILL)
                goes_on.set()
    assert sorted(result.question for result in results) == sorted(texts)
    assert set(asked(server).values()) == {1}
    died = [result for result in results if "died" in getattr(result.last, "detail", "")]
    assert [result.asked for result in died] == ["maybe"] * 4
    assert {result.question for result in results if result.asked is not False} >= set(asked(server))


def test_the_results_are_an_async_iterator_too(client: Client) -> None:
    async def main() -> list[Result]:
        async with many.on_dask(client, ["a", "b", "c"], url=server.url) as results:
            return [result async for result in results]

    with FaultServer() as server:
        assert {result.reply for result in asyncio.run(main())} == {"Hello, world!"}


def test_an_asynchronous_client_works_as_well(cluster: LocalCluster) -> None:
    async def main() -> list[Result]:
        async with Client(cluster.scheduler_address, asynchronous=True, set_as_default=False) as client:
            return [result async for result in many.on_dask(client, ["a", "b", "c"], url=server.url)]

    with FaultServer() as server:
        assert {result.outcome for result in asyncio.run(main())} == {"end"}


def test_nothing_is_left_behind(client: Client) -> None:
    before = set(queues(client))
    with FaultServer(GOOD, STALL) as server, many.on_dask(client, map(str, range(100)), url=server.url) as results:
        next(results)
        results.close()
        results.close()
        assert list(results) == []
        wait_until(lambda: all(visit.left is not None or visit.finished for visit in server.visits))
    wait_until(lambda: set(queues(client)) <= before)


def test_stop_gives_the_questions_under_way_as_broken(client: Client) -> None:
    found = []
    with FaultServer(GOOD, STALL) as server, many.on_dask(client, map(str, range(100)), url=server.url) as results:
        for result in results:
            found.append(result)
            results.stop()
    assert [result.outcome for result in found] == ["end", *["broken"] * (len(found) - 1)]
    assert {result.last.detail for result in found[1:]} <= {"closed by the caller"}  # type: ignore[union-attr]  # fails if it is None
    assert set(asked(server)) <= {result.question for result in found if result.asked is not False}


@pytest.mark.parametrize("milliseconds", [2.5, 3, 4, 5, 6, 7, 8, 11])  # while the second to fourth worker start
def test_stop_while_the_other_workers_are_being_started(client: Client, milliseconds: float) -> None:
    loop = client.loop.asyncio_loop
    with FaultServer(GOOD, STALL) as server:
        results = many.on_dask(
            client,
            map(str, range(100)),
            url=server.url,
            before_ask=lambda _: loop.call_later(milliseconds / 1000, results.stop),
        )
        found = list(results)
    assert {result.outcome for result in found} <= {"end", "broken"}
    assert set(asked(server)) <= {result.question for result in found if result.asked is not False}


@pytest.mark.parametrize("turns", [0, 1, 2, 3, 5, 8, 13, 21, 34, 55, 89])
def test_a_run_ends_however_early_it_is_closed(client: Client, turns: int) -> None:
    before = set(queues(client))

    async def closed_early() -> None:
        waiting = asyncio.ensure_future(anext(results, None))
        for _ in range(turns):
            await asyncio.sleep(0)  # other tasks run
        await results.aclose()
        assert await waiting is None

    with FaultServer(STALL) as server:
        results = many.on_dask(client, [*"abc"], url=server.url)
        client.sync(closed_early)
    wait_until(lambda: set(queues(client)) <= before)


def test_a_task_that_dask_restarts_asks_nothing_and_reports_the_death(client: Client) -> None:
    before = queues(client)
    goes_on = threading.Event()
    with FaultServer(*[slow(goes_on)] * 4, GOOD) as server:
        results = many.on_dask(client, ["a", "b", "c", "d", "e"], url=server.url, concurrency=1)
        first = asyncio.run_coroutine_threadsafe(results._next(), client.loop.asyncio_loop)
        wait_until(lambda: len(server.questions) == 4)
        permit = next(name for name in queues(client) if name not in before and name.endswith("-permit"))
        name = permit.removesuffix("-permit")
        assert client.submit(_work, name, name.rpartition("-")[0], {}, pure=False).result() is None
        goes_on.set()
        found = [first.result(), *results]
    assert sorted(result.question for result in found if result is not None) == ["a", "b", "c", "d", "e"]
    assert Counter(result.asked for result in found if result is not None) == {True: 4, "maybe": 1}
    assert set(asked(server).values()) == {1}


def test_workers_leave_when_the_driver_is_gone(cluster: LocalCluster) -> None:
    with FaultServer(GOOD, STALL) as server:
        with Client(cluster, set_as_default=False) as client:
            results = many.on_dask(client, map(str, range(100)), url=server.url)
            next(results)
            wait_until(lambda: len(server.questions) > 4)
        wait_until(lambda: all(visit.left is not None or visit.finished for visit in server.visits))
    assert set(asked(server).values()) == {1}


def test_a_question_that_cannot_be_sent_to_workers_is_refused(client: Client) -> None:
    refused = "observer, session, ssl_context: they cannot be sent to workers"
    with pytest.raises(TypeError, match=refused):
        many.on_dask(client, ["a"], ssl_context=ssl.create_default_context())
    with pytest.raises(TypeError, match=refused):
        many.on_dask(client, ["a"], url="https://site.example", session=Session())


def test_an_exception_of_the_source_ends_the_run(client: Client) -> None:
    def source() -> Iterator[Any]:
        yield "a"
        raise LookupError("no more")

    with FaultServer(STALL) as server, pytest.raises(LookupError, match="no more"):
        list(many.on_dask(client, source(), url=server.url))


# ------------------------------------------------------------------------------------------------ opchat batch --dask


def test_the_command_asks_from_a_cluster(
    cluster: LocalCluster, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, output = tmp_path / "questions.txt", tmp_path / "results.ndjson"
    file.write_text("".join(f"question {number}\n" for number in range(40)))
    arguments = ["batch", "--dask", cluster.scheduler_address, "--output", str(output), str(file)]
    with FaultServer(*[GOOD, GOOD, GOOD, FAULTY[1]] * 10) as server:
        assert run([*arguments, "--url", server.url]) == 10
    assert "40 of 40 questions: 30 end, 10 broken (10 truncated)" in capsys.readouterr().err
    assert set(asked(server).values()) == {1}
    lines = [json.loads(line) for line in output.read_text().splitlines()]
    assert Counter(line.get("outcome") for line in lines) == {None: 40, "end": 30, "broken": 10}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--dask", "tcp://127.0.0.1:9", "--via", "trio"], "--dask: workers take no --verbose, --cacert and --via"),
        (["--dask", "nowhere://x"], "--dask nowhere://x: "),
    ],
)
def test_wrong_usage_of_a_cluster_is_reported(
    tmp_path: Path, options: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "questions.txt"
    file.write_text("a\n")
    with FaultServer() as server:
        assert run(["batch", "--url", server.url, *options, str(file)]) == 2
    assert message in capsys.readouterr().err
    assert server.visits == ()


def test_without_dask_the_command_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "questions.txt"
    file.write_text("a\n")
    monkeypatch.setitem(sys.modules, "distributed", None)
    assert run(["batch", "--url", "http://127.0.0.1:9", "--dask", "tcp://127.0.0.1:9", str(file)]) == 2
    assert '--dask needs more packages: pip install "opchat[dask]"' in capsys.readouterr().err
