"""Questions that are retried."""

import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass

from opchat_proto import Broken, Event, Reason, Session
from opchat_transports import AsyncTransport
from opchat_transports.testing import FaultServer, Script

from .peer import free_port, refusing_port
from .serving import (
    BOTH,
    HEAD_SOON,
    HELLO,
    SAID,
    Way,
    arrived,
    serving,
    stalls,
    without_details,
)
from .wire import STREAM, answer, answers, event, live, serves


@dataclass
class Fixed:
    """A fixed random number, a hook that runs when it is drawn, and a count of the draws."""

    number: float
    then: Callable[[], object] = lambda: None
    asked: int = 0

    def random(self) -> float:
        self.asked += 1
        self.then()
        return self.number


async def read_counted(transport: AsyncTransport) -> tuple[list[Event], int]:
    async with transport.ask("Hi") as reply:
        return [event async for event in reply], reply.retries


async def a_site_that_comes_up_late(way: Way) -> None:
    port = free_port()
    with ExitStack() as stack:

        def come_up() -> None:
            servers.append(stack.enter_context(serving(serves(HELLO), port=port)))

        servers: list[FaultServer] = []
        async with way.opened(f"http://127.0.0.1:{port}", retries=3, random=Fixed(0.0, come_up)) as transport:
            assert await read_counted(transport) == (SAID, 1)
    assert [server.routes for server in servers] == [BOTH]


def put_off(status: int, **headers: str) -> bytes:
    return answer(b"Later.", status, Connection="close", **headers)


async def a_site_that_says_when(way: Way) -> None:
    # Not `serving`: the server itself says that it has not accepted the question.
    with FaultServer(answers(put_off(429, Retry_After="1")), answers(HELLO)) as server:
        async with way.opened(server.url, retries=3) as transport:
            began = time.monotonic()
            assert await read_counted(transport) == (SAID, 1)
            assert time.monotonic() - began >= 1
    assert server.routes == (*BOTH, "submit")


async def never_repeated(way: Way) -> None:
    """Faults after which the server may have acted, or will refuse again."""
    faults: list[Script] = [
        answers(),
        answers(HELLO[:20]),
        answers(STREAM),
        answers(STREAM, live("a")),
        answers(STREAM, event(type="error", data="429")),
        answers(put_off(429)),
        answers(put_off(503)),
        answers(put_off(500, Retry_After="0")),
        answers(put_off(403, Retry_After="0")),
        stalls(),
    ]
    for fault in faults:
        with serving(fault) as server:
            options = {"retries": 9, "random": Fixed(0.0), "timeouts": HEAD_SOON}
            async with way.opened(server.url, session=Session(), **options) as transport:
                events, retries = await read_counted(transport)
            arrived(server, 1)
        assert isinstance(events[-1], Broken)
        assert (server.routes, len(server.visits), retries) == (("submit",), 1, 0)


async def closed_while_it_pauses(way: Way) -> None:
    pausing = threading.Event()
    source = Fixed(1e6, pausing.set)
    with refusing_port() as port:
        async with way.opened(f"http://127.0.0.1:{port}", retries=3, random=source) as transport:

            async def close() -> None:
                await way.wait_for(pausing)
                await transport.aclose()

            (events, retries), _ = await way.together(lambda: read_counted(transport), close)
    assert without_details(events) == [Broken(Reason.LOST, in_session=True)]
    assert events[0].detail.endswith("Connection refused")
    assert (source.asked, retries) == (1, 0)
