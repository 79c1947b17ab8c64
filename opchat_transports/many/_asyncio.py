"""Many questions on asyncio."""

import asyncio
import math
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

from opchat_proto import Endpoint

from .. import AsyncTransport
from ..asyncio_streams import AsyncioTransport
from ._run import Event, Run, Spawn

__all__ = ["AsyncioLoop", "begin", "spawner"]


class AsyncioLoop:
    """See `Loop`."""

    def new_event(self) -> Event:
        return asyncio.Event()

    def new_transport(self, endpoint: Endpoint, options: Mapping[str, Any]) -> AsyncTransport:
        return AsyncioTransport(endpoint, **options)

    def now(self) -> float:
        return asyncio.get_running_loop().time()

    async def wait(self, event: Event, until: float) -> None:
        try:
            async with asyncio.timeout_at(None if until == math.inf else until):
                await event.wait()
        except TimeoutError:
            pass

    def start(self, run: Run) -> Callable[[], object]:
        return begin(run, _main(run))


def begin(run: Run, main: Coroutine[Any, Any, None]) -> Callable[[], object]:
    """Start the task of a run. Returns a function that cancels it, which always ends the run.

    A task that is cancelled before its first step runs nothing, so the coroutine cannot report its own end.
    """

    async def caught() -> BaseException | None:
        try:
            await main
        except asyncio.CancelledError:  # by `aclose`, or because the loop ends
            return None
        except BaseException as error:  # goes to whoever awaits the results
            return error
        return None

    def ended(task: asyncio.Task[BaseException | None]) -> None:
        main.close()
        run.end(None if task.cancelled() else task.result())

    task = asyncio.create_task(caught())
    task.add_done_callback(ended)
    return task.cancel


def spawner(group: asyncio.TaskGroup) -> Spawn:
    """Return a function that starts tasks in this group."""
    return lambda function, *arguments: group.create_task(function(*arguments)).cancel


async def _main(run: Run) -> None:
    async with asyncio.TaskGroup() as group:
        await run.main(spawner(group))
