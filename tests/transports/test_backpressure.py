"""TCP slows down a server that writes faster than the client reads: the client buffers nothing."""

import asyncio
import threading
import tracemalloc
from collections.abc import Callable
from typing import Any

import httpx
import pytest
import trio

from opchat_proto import Event, Limits, Live, Session
from opchat_transports.asyncio_httpx import HttpxTransport
from opchat_transports.asyncio_streams import AsyncioTransport
from opchat_transports.blocking_sockets import BlockingTransport
from opchat_transports.testing import FaultServer
from opchat_transports.trio_streams import TrioTransport

from .peer import PATIENCE, Peer, plays
from .wire import STREAM, live

MIB = 1024 * 1024
ALL = 100 * MIB
SESSION = Session(nonce="0b2576d756")
LIMITS = Limits(reply_bytes=2 * ALL)
EVENT = live("x" * 1000)


class Writer:
    """Write until the client stops reading, and report how many bytes were written."""

    def __init__(self) -> None:
        self.written = 0
        self.is_held_back = threading.Event()

    def __call__(self, peer: Peer) -> None:
        peer.send(STREAM)
        peer.socket.settimeout(2.0)  # twenty times as much as a reading client would have to buffer
        try:
            while self.written < ALL:
                self.written += peer.socket.send(EVENT * 64)
        except TimeoutError:
            pass
        finally:
            self.is_held_back.set()
        assert peer.is_left()


def blocking(url: str, writer: Writer) -> Event:
    with BlockingTransport(url, session=SESSION, limits=LIMITS) as transport, transport.ask("Hi") as reply:
        first = next(reply)
        assert writer.is_held_back.wait(PATIENCE)
        return first


def on_trio(url: str, writer: Writer) -> Event:
    async def ask() -> Event:
        async with TrioTransport(url, session=SESSION, limits=LIMITS) as transport, transport.ask("Hi") as reply:
            first = await anext(reply)
            assert await trio.to_thread.run_sync(writer.is_held_back.wait, PATIENCE)
            return first

    return trio.run(ask)


def asking(url: str, writer: Writer, kind: Any, *client: httpx.AsyncClient) -> Event:
    async def ask() -> Event:
        transport = kind(url, *client, session=SESSION, limits=LIMITS)
        async with transport, transport.ask("Hi") as reply:
            first: Event = await anext(reply)
            assert await asyncio.to_thread(writer.is_held_back.wait, PATIENCE)
            return first

    return asyncio.run(ask())


def on_asyncio(url: str, writer: Writer) -> Event:
    return asking(url, writer, AsyncioTransport)


def on_httpx(url: str, writer: Writer) -> Event:
    return asking(url, writer, HttpxTransport)


def on_a_client(url: str, writer: Writer) -> Event:
    return asking(url, writer, HttpxTransport, CLIENT)


CLIENT = httpx.AsyncClient(trust_env=False)  # created before memory is measured, since it loads all certificates


@pytest.mark.parametrize("transport", [blocking, on_trio, on_asyncio, on_httpx, on_a_client])
def test_a_slow_reader_slows_the_server_down(transport: Callable[[str, Writer], Event]) -> None:
    writer = Writer()
    with FaultServer(plays(writer)) as server:
        tracemalloc.start()
        try:
            assert transport(server.url, writer) == Live("x" * 1000)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert writer.written < ALL / 2  # the rest is in the kernel's buffers on both sides
    assert peak < MIB  # includes the server's own buffers; no event stays unfinished for longer than one read
