"""Many questions on trio."""

import contextvars
from collections.abc import Callable, Mapping
from typing import Any, final

from .._extras import missing

try:
    import trio
except ModuleNotFoundError as _error:
    raise missing(_error, "trio") from None

from opchat_proto import Endpoint

from .. import AsyncTransport
from ..trio_streams import TrioTransport
from ._run import Event, Run

__all__ = ["TrioLoop"]


@final
class TrioLoop:
    """See `Loop`."""

    def new_event(self) -> Event:
        return trio.Event()

    def new_transport(self, endpoint: Endpoint, options: Mapping[str, Any]) -> AsyncTransport:
        return TrioTransport(endpoint, **options)

    def now(self) -> float:
        return trio.current_time()

    async def wait(self, event: Event, until: float) -> None:
        with trio.move_on_at(until):
            await event.wait()

    def start(self, run: Run) -> Callable[[], object]:
        # A system task, because an iterator has no nursery for its tasks. It ends with `aclose`, when the results are
        # dropped, or with trio itself.
        scope = trio.CancelScope()
        trio.lowlevel.spawn_system_task(_main, run, scope, context=contextvars.copy_context())
        return scope.cancel


async def _main(run: Run, scope: trio.CancelScope) -> None:
    error: BaseException | None = None
    try:
        with scope:
            async with trio.open_nursery() as nursery:

                def spawn(function: Callable[..., Any], *arguments: Any) -> Callable[[], object]:
                    own = trio.CancelScope()

                    async def task() -> None:
                        with own:
                            await function(*arguments)

                    nursery.start_soon(task)
                    return own.cancel

                await run.main(spawn)
    except Exception as failure:
        error = failure
    finally:
        run.end(error)
