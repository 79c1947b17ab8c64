"""Many questions on asyncio."""

import asyncio
import math
from collections.abc import Callable, Mapping
from typing import Any

from opchat_proto import Endpoint

from .. import AsyncTransport
from ..asyncio_streams import AsyncioTransport
from ._run import Event, Run, Spawn

__all__ = ["AsyncioLoop", "spawner"]


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
        return asyncio.create_task(_main(run)).cancel


def spawner(group: asyncio.TaskGroup) -> Spawn:
    """Return a function that starts tasks in this group."""
    return lambda function, *arguments: group.create_task(function(*arguments)).cancel


async def _main(run: Run) -> None:
    error: BaseException | None = None
    try:
        async with asyncio.TaskGroup() as group:
            await run.main(spawner(group))
    except asyncio.CancelledError as cancelled:  # by `aclose`, or because the loop ends
        error = cancelled
    except BaseException as failure:
        error = failure
    run.end(error)
