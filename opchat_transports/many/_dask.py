"""Many questions from the workers of a Dask cluster. Imports `distributed`.

With one task per question, a question would be asked twice when a worker dies, because
Dask reruns tasks without a result. So each worker has one long task and one queue: an
item of a `distributed.Queue` is handed out once, whatever dies. A worker gets no more
questions than it asks at once. When it dies, the questions left in its queue were not
asked, and the others may have been.
"""

import asyncio
import pickle
import uuid
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import suppress
from types import TracebackType
from typing import Any, Self, final

from distributed import Client, Future, KilledWorker, Queue, get_client

from opchat_proto import Broken, Endpoint, Reason, Submit

from ._asyncio import AsyncioLoop, begin, spawner
from ._options import AskOptions, Choices
from ._plan import Answer
from ._questions import Result
from ._run import QuestionSource, Results, Run, TransportAsker

__all__ = ["DaskResults", "start_on_dask"]

_LOOK_EVERY = 0.5  # seconds between checks: for new and dead workers, and on a worker for its driver
_LONGEST_FAREWELL = 5.0  # seconds
_STOP, _CLOSE = "stop", "close"  # items in a worker's queue other than questions: end; close the open questions


def start_on_dask(client: Client, questions: QuestionSource, options: AskOptions) -> "DaskResults":
    """See `many.on_dask`."""
    choices = Choices(questions, options)
    if {"observer", "session", "ssl_context"} & set(options):
        raise TypeError("observer, session, ssl_context: they cannot be sent to workers")
    pickle.dumps((choices.for_sites, choices.for_own_site))  # raises here instead of on a worker

    def make_run() -> Run:
        pool = _Pool(client, choices)
        run = Run(choices.plan, questions, _DaskLoop(pool), pool, lambda: pool.capacity, choices.before_ask)
        pool.changed = run.wake
        return run

    return DaskResults(client, make_run)


# ---------------------------------------------------------------- on a worker


async def _work(name: str, results_name: str, options: tuple[Any, Any]) -> None:
    """Take questions from a queue, ask them, and put the answers into another queue, until told to stop."""
    client = await get_client()
    names = (name, f"{name}-permit", results_name)
    queues = questions, permit, results = [await Queue(each, client=client) for each in names]
    if not await permit.get(batch=True):
        # Dask has restarted this task, after a death that nothing else may have noticed.
        await results.put([name, "died", b""])
        for queue in queues:
            _close(queue)
        return
    asker = TransportAsker(AsyncioLoop(), *options)

    async def answer(number: int, pickled: bytes) -> None:
        found = await asker.ask(*pickle.loads(pickled))
        await results.put([name, number, pickle.dumps(found)])

    async def watch_driver() -> None:
        """Raise `_DriverGoneError` when the driver has gone."""
        while True:
            await asyncio.sleep(_LOOK_EVERY)  # the scheduler does not report when a driver leaves
            if (await client.scheduler.get_task_status(keys=[name]))[name] is None:
                raise _DriverGoneError

    try:
        async with asyncio.TaskGroup() as group:
            watching = group.create_task(watch_driver())
            while (item := await questions.get()) != _STOP:
                if item == _CLOSE:
                    await asker.close()
                else:
                    group.create_task(answer(*item))
            watching.cancel()
    except* _DriverGoneError:
        pass
    for queue in queues:
        _close(queue)


class _DriverGoneError(Exception):
    pass


def _close(queue: Queue, users: int = 1) -> None:
    """The scheduler counts the users of a queue, twice if they awaited it. The last one to close it removes it."""
    for _ in range(2 * users):
        queue.close()


# ---------------------------------------------------------------- on the driver's side


class _Slot:
    """The long task on one worker."""

    def __init__(self, name: str, worker: str, queue: Queue, permit: Queue, task: Future) -> None:
        self.name = name
        self.worker = worker
        self.queue = queue
        self.permit = permit
        self.task = task
        self.under_way: dict[int, asyncio.Future[Answer | None]] = {}
        self.puts: set[asyncio.Task[None]] = set()

    def put(self, item: Any) -> "asyncio.Task[None]":
        """Start to put an item into the queue. The queue is not released before that is done."""
        task = asyncio.create_task(self.queue.put(item))
        self.puts.add(task)
        task.add_done_callback(self.puts.discard)
        return task


@final
class _Pool:
    """An `Asker` that asks on workers. It runs in the client's event loop."""

    def __init__(self, client: Client, choices: Choices) -> None:
        self.changed: Callable[[], object] = lambda: None
        """Called when more questions can be asked."""
        self._client = client
        self._concurrency = choices.concurrency
        self._options = choices.for_sites, choices.for_own_site
        self._name = f"opchat-{uuid.uuid4().hex}"
        self._slots: dict[str, _Slot] = {}
        self._dying: dict[str, _Slot] = {}
        self._number = 0
        self._deaths = 0
        self._starting: asyncio.Task[None] | None = None
        self._is_closed = False

    @property
    def capacity(self) -> int:
        """How many questions can be open at once."""
        return self._concurrency * len(self._slots)

    async def ask(self, endpoint: Endpoint, submit: Submit) -> Answer:
        while True:
            slot = min(self._slots.values(), key=lambda slot: len(slot.under_way), default=None)
            if self._is_closed:
                return Answer(Broken(Reason.LOST, "closed by the caller"))
            if slot is None or len(slot.under_way) >= self._concurrency:  # workers have died
                await asyncio.sleep(_LOOK_EVERY)  # until new workers are found
                continue
            self._number += 1
            answer = slot.under_way[self._number] = asyncio.get_running_loop().create_future()
            await slot.put([self._number, pickle.dumps((endpoint, submit))])
            found: Answer | None = await answer
            if found is not None:
                return found

    async def close(self) -> None:
        if not self._is_closed:
            self._is_closed = True
            # All at once, because `watch` may add and remove slots meanwhile.
            await asyncio.gather(*[slot.put(_CLOSE) for slot in self._slots.values()])

    async def watch(self) -> None:
        """Start a long task on each worker, and notice dead workers."""
        await self._finish(self._open())
        reading = asyncio.create_task(self._read())
        try:
            while not reading.done():
                workers = set(await self._client.nthreads())
                for slot in list(self._slots.values()):
                    if slot.worker not in workers or await self._has_ended(slot):
                        await self._bury(slot)
                for worker in workers - {slot.worker for slot in self._slots.values()}:
                    await self._finish(self._start(worker))
                await asyncio.wait([reading], timeout=_LOOK_EVERY)
            await reading  # raises its failure
        finally:
            reading.cancel()

    async def _finish(self, start: Coroutine[Any, Any, None]) -> None:
        """Wait for a start, which a cancellation does not stop, since that would leave queues behind."""
        self._starting = asyncio.create_task(start)
        await asyncio.shield(self._starting)

    async def _open(self) -> None:
        self._results = await Queue(self._name, client=self._client)

    async def _has_ended(self, slot: _Slot) -> bool:
        if slot.task.status == "error":
            error = await slot.task.exception()
            if not isinstance(error, KilledWorker):
                raise error
        return bool(slot.task.status != "pending")

    async def _start(self, worker: str) -> None:
        name = f"{self._name}-{uuid.uuid4().hex}"
        permit = await Queue(f"{name}-permit", client=self._client)
        queue = await Queue(name, client=self._client)
        await permit.put(True)
        task = self._client.submit(
            _work, name, self._name, self._options, key=name, workers=[worker], retries=0, pure=False
        )
        self._slots[name] = _Slot(name, worker, queue, permit, task)
        self.changed()

    async def _bury(self, slot: _Slot) -> None:
        """The worker has died. Its earlier answers come before this in the queue of results."""
        if self._slots.pop(slot.name, None) is not None:
            self._dying[slot.name] = slot
            await self._results.put([slot.name, "died", b""])

    async def _read(self) -> None:
        while True:
            name, number, pickled = await self._results.get()
            slot = self._slots.get(name) or self._dying.get(name)
            if slot is None:
                continue
            if number == "died":
                await self._settle(slot)
            elif (answer := slot.under_way.pop(number, None)) is not None and not answer.done():
                answer.set_result(pickle.loads(pickled))
                self.changed()

    async def _settle(self, slot: _Slot) -> None:
        """Settle a dead worker's questions: those in its queue were not asked, the others may have been."""
        self._slots.pop(slot.name, None)
        self._dying[slot.name] = slot
        if slot.puts:
            await asyncio.wait(slot.puts)
        left = {item[0] for item in await slot.queue.get(batch=True) if isinstance(item, list | tuple)}
        del self._dying[slot.name]
        lost = Broken(Reason.LOST, f"the worker {slot.worker} died", asked=True)
        for number, answer in slot.under_way.items():
            if not answer.done():
                answer.set_result(None if number in left else Answer(lost))
        slot.under_way.clear()
        self._deaths += 1
        self._release(slot, 2)
        self.changed()

    async def end(self) -> None:
        """End the long tasks, which close their open questions."""
        if self._starting is None:
            return
        await self._starting
        for slot in list(self._slots.values()):
            await slot.queue.put(_CLOSE)
            await slot.queue.put(_STOP)
        ends = [asyncio.ensure_future(slot.task) for slot in self._slots.values()]
        if ends:
            await asyncio.wait(ends, timeout=_LONGEST_FAREWELL)
        for each in ends:
            each.cancel()
        for slot in self._slots.values():
            self._release(slot)
        for slot in self._dying.values():
            self._release(slot, 2)  # also for the dead worker
        _close(self._results, 1 + self._deaths + len(self._dying))

    def _release(self, slot: _Slot, users: int = 1) -> None:
        slot.task.release()
        _close(slot.queue, users)
        _close(slot.permit, users)


@final
class _DaskLoop(AsyncioLoop):
    """asyncio, with a pool of workers around each run."""

    def __init__(self, pool: _Pool) -> None:
        self._pool = pool

    def start(self, run: Run) -> Callable[[], object]:
        cancel = begin(run, self._main(run))
        loop = asyncio.get_running_loop()

        def cancel_in_loop() -> None:
            with suppress(RuntimeError):  # the client has been closed, and its loop too
                loop.call_soon_threadsafe(cancel)

        return cancel_in_loop

    async def _main(self, run: Run) -> None:
        try:
            async with asyncio.TaskGroup() as group:
                watching = group.create_task(self._pool.watch())
                await run.main(spawner(group))
                watching.cancel()
        finally:
            await self._pool.end()


@final
class DaskResults:
    """The results as they come, for both `for` and `async for`."""

    def __init__(self, client: Client, make_run: Callable[[], Run]) -> None:
        """Made by `on_dask`."""
        self._client = client
        self._results = Results(make_run)

    async def _in_client(self, method: Callable[..., Any], *arguments: Any) -> Any:
        """Await a coroutine in the client's event loop."""
        loop = self._client.loop.asyncio_loop
        if loop is asyncio.get_running_loop():
            return await method(*arguments)
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(method(*arguments), loop))

    async def _next(self) -> Result | None:
        return await anext(self._results, None)

    def __iter__(self) -> Iterator[Result]:
        """Return itself."""
        return self

    def __next__(self) -> Result:
        """Return the next result. See `Results.__anext__`."""
        result: Result | None = self._client.sync(self._next, asynchronous=False)
        if result is None:
            raise StopIteration
        return result

    def __aiter__(self) -> AsyncIterator[Result]:
        """Return itself."""
        return self

    async def __anext__(self) -> Result:
        """Return the next result. See `Results.__anext__`."""
        result: Result | None = await self._in_client(self._next)
        if result is None:
            raise StopAsyncIteration
        return result

    def stop(self) -> None:
        """Ask no more, and close all open questions, whose results still come, as `Broken`. Idempotent."""
        self._client.loop.asyncio_loop.call_soon_threadsafe(self._results.stop)

    def close(self) -> None:
        """Close all connections, and yield no more results. Idempotent."""
        self._client.sync(self._results.aclose, asynchronous=False)

    async def aclose(self) -> None:
        """Like `close`, in async code."""
        await self._in_client(self._results.aclose)

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Same as `close()`."""
        self.close()

    async def __aenter__(self) -> Self:
        """Return itself, without waiting."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        """Same as `aclose()`."""
        await self.aclose()
