"""One stream after another over real connections: each transport, beside httpx-sse on httpx in the same loop.

Reads from memory never wait. Here waiting counts as well: cancel scopes, timers, and
the system's work.
"""

import asyncio
import json
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from typing import Any, TypeAlias

import trio

from opchat_proto import Session, Submit
from opchat_transports.asyncio_httpx import HttpxTransport
from opchat_transports.asyncio_streams import AsyncioTransport
from opchat_transports.blocking_sockets import BlockingTransport
from opchat_transports.trio_streams import TrioTransport
from tests.benchmarks.workloads import READ, chunks, short

_QUESTION = Submit(new_message="Hi?", chat_id="k3v9x0q2ab")
_PAIRS = ("BlockingTransport", "TrioTransport", "AsyncioTransport", "HttpxTransport")

_PACE = 0.0005  # seconds between two events: longer than any candidate takes to read one

Count: TypeAlias = Callable[[], int]
"""Reads one whole stream, and returns the number of its events."""


def streams(events: int, rounds: int) -> str:
    """Seconds of CPU for an answer on each transport, and as a multiple of httpx-sse's, in interleaved rounds."""
    if find_spec("httpx_sse") is None:
        return "\nOver loopback: httpx-sse is not installed"
    lines = [f"\nOver loopback: CPU time for an answer of {events} pieces, and that of httpx-sse on httpx beside it"]
    for paced in (False, True):
        with _serving(events, paced) as url:
            for name, (own, peer) in zip(_PAIRS, _pairs(url), strict=True):
                ratios, seconds = [], []
                for _ in range(rounds):
                    times = []
                    for work in (own, peer):
                        start = time.process_time()
                        count = work()
                        times.append(time.process_time() - start)
                        assert count == events + 1
                    ratios.append(times[1] / times[0])
                    seconds.append(times[0])
                how = "one chunk per read" if paced else "64-KiB reads"
                lines.append(f"  {name}, {how}: {statistics.median(seconds):.3f} s, {statistics.median(ratios):.2f} x")
    return "\n".join(lines)


def _pairs(url: str) -> Iterator[tuple[Count, Count]]:
    httpx, httpx_sse = import_module("httpx"), import_module("httpx_sse")
    client = httpx.Client(trust_env=False, verify=False)

    blocking = BlockingTransport(url, session=Session(), proxy=None)

    def own() -> int:
        with blocking.ask(_QUESTION) as reply:
            return len(list(reply))

    def peer() -> int:
        with httpx_sse.connect_sse(client, "POST", url) as source:
            return len([json.loads(event.data) for event in source.iter_sse()])

    async def own_async(transport: Any) -> int:
        transport._loop = None  # each run has its own loop
        async with transport.ask(_QUESTION) as reply:
            return len([event async for event in reply])

    async def peer_async() -> int:
        async with (
            httpx.AsyncClient(trust_env=False, verify=False) as async_client,
            httpx_sse.aconnect_sse(async_client, "POST", url) as source,
        ):
            return len([json.loads(event.data) async for event in source.aiter_sse()])

    async def own_httpx() -> int:
        async with HttpxTransport(url, session=Session(), proxy=None) as transport:
            return await own_async(transport)

    on_trio = TrioTransport(url, session=Session(), proxy=None)
    on_asyncio = AsyncioTransport(url, session=Session(), proxy=None)
    yield own, peer
    yield lambda: trio.run(own_async, on_trio), lambda: trio.run(peer_async)
    yield lambda: asyncio.run(own_async(on_asyncio)), lambda: asyncio.run(peer_async())
    yield lambda: asyncio.run(own_httpx()), lambda: asyncio.run(peer_async())
    client.close()


@contextmanager
def _serving(events: int, paced: bool) -> Iterator[str]:
    """The address of a server in another process."""
    command = [sys.executable, "-m", "tests.benchmarks.streams", str(events), "paced" if paced else ""]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        try:
            yield f"http://127.0.0.1:{int(server.stdout.readline())}"
        finally:
            server.kill()


def _serve(events: int, paced: bool) -> None:
    parts = chunks(short(events))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        print(listener.getsockname()[1], flush=True)
        while True:
            connection, _ = listener.accept()
            with connection:
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                connection.recv(READ)
                if not paced:
                    connection.sendall(b"".join(parts))
                    continue
                for part in parts:
                    connection.sendall(part)
                    time.sleep(_PACE)  # the pace is measured here


if __name__ == "__main__":
    _serve(int(sys.argv[1]), bool(sys.argv[2]))
