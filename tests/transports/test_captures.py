"""What real sites answered, served again over loopback: the outcome that the recordings' README states."""

import asyncio
from collections.abc import AsyncIterable, Callable

import pytest
import trio

from opchat_proto import Event, Limits, Session
from opchat_transports.asyncio_httpx import AsyncioTransport
from opchat_transports.blocking_sockets import BlockingTransport
from opchat_transports.testing import Close, FaultServer, Stall, Write
from opchat_transports.trio_streams import TrioTransport
from tests.proto.cuts import byte_by_byte, cut_at
from tests.proto.test_captures import NAMES, Recording, check, recording_of

SESSION = Session(nonce="0b2576d756")
LIMITS = Limits(restarts=0)


def blocking(url: str) -> list[Event]:
    with BlockingTransport(url, session=SESSION, limits=LIMITS) as transport, transport.ask("Hi") as reply:
        return list(reply)


async def gathered(reply: AsyncIterable[Event]) -> list[Event]:
    return [event async for event in reply]


def on_trio(url: str) -> list[Event]:
    async def ask() -> list[Event]:
        async with TrioTransport(url, session=SESSION, limits=LIMITS) as transport, transport.ask("Hi") as reply:
            return await gathered(reply)

    return trio.run(ask)


def on_asyncio(url: str) -> list[Event]:
    async def ask() -> list[Event]:
        async with AsyncioTransport(url, session=SESSION, limits=LIMITS) as transport, transport.ask("Hi") as reply:
            return await gathered(reply)

    return asyncio.run(ask())


def whole(recording: Recording) -> list[bytes]:
    return [recording.data]


def by_its_reads(recording: Recording) -> list[bytes]:
    return cut_at(recording.data, [sum(recording.reads[:count]) for count in range(1, len(recording.reads))])


def a_byte_at_a_time(recording: Recording) -> list[bytes]:
    return byte_by_byte(recording.data)


@pytest.mark.parametrize("cut", [whole, by_its_reads, a_byte_at_a_time])
@pytest.mark.parametrize("transport", [blocking, on_trio, on_asyncio])
@pytest.mark.parametrize("name", NAMES)
def test_a_recording_served_again_has_its_outcome(
    name: str, transport: Callable[[str], list[Event]], cut: Callable[[Recording], list[bytes]]
) -> None:
    recording, expected = recording_of(name)

    # Where the connection was kept, the outcome must be there without a close.
    script = (*map(Write, cut(recording)), Close() if recording.server_closed else Stall())
    with FaultServer(script) as server:
        events = transport(server.url)
    check(events, expected)
    assert len(server.requests) == 1
