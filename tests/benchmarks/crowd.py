"""A thousand streams at once on one thread: the cost of an event, and the memory of a waiting stream."""

import asyncio
import json
import resource
import socket
import statistics
import subprocess
import sys
import time
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Callable
from importlib import import_module
from importlib.util import find_spec
from typing import Any, TypeAlias

import h11
import trio

from opchat_proto import Session, Submit, Timeouts
from opchat_transports.asyncio_streams import AsyncioTransport
from opchat_transports.trio_streams import TrioTransport
from tests.benchmarks.workloads import READ, chunks, short

_ROUNDS = 3
_PATIENCE = 600  # seconds
_QUESTION = Submit(new_message="Hi?", chat_id="k3v9x0q2ab")
_LOOPS = {"trio": ("trio, bare h11", "trio, opchat"), "asyncio": ("asyncio, bare h11", "asyncio, opchat", "aiohttp")}
_WHAT = (
    ("CPU", "s"),
    ("memory that a waiting stream holds", "KiB"),
    ("the same, with what connecting has left behind", "KiB"),
)

Stream: TypeAlias = Callable[[int], AsyncIterator[object]]
"""The events, or the pieces, of one stream from this port."""


def crowd(streams: int, events: int) -> tuple[str, dict[str, tuple[float, ...]]]:
    """Lines to print, and for each way of reading: seconds of CPU, and KiB for each waiting stream."""
    every = [who for loop in _LOOPS.values() for who in loop if who != "aiohttp" or find_spec("aiohttp")]
    rounds: dict[str, list[tuple[float, float]]] = {who: [] for who in every}
    for _ in range(_ROUNDS):
        for who, results in rounds.items():  # in processes of their own
            results.append(_run(who, streams, events))
    medians: dict[str, tuple[float, ...]] = {}
    for who, results in rounds.items():
        cpu, resident = map(statistics.median, zip(*results, strict=True))
        medians[who] = cpu, _run(who, streams, 1, "-X", "tracemalloc")[1], resident
    lines = [f"\n{streams} streams of {events} events at once on one thread, beside bare h11 on the same loop"]
    for loop in _LOOPS.values():
        for who in filter(medians.__contains__, loop):
            parts = zip(_WHAT, medians[who], medians[loop[0]], strict=True)
            lines.append(f"  {who}: " + "; ".join(f"{w} {n:.2f} {u} ({n / m:.2f} x)" for (w, u), n, m in parts))
    return "\n".join(lines), medians


def _run(who: str, streams: int, events: int, *options: str) -> tuple[float, float]:
    command = [sys.executable, *options, "-m", "tests.benchmarks.crowd", who, str(streams), str(events)]
    cpu, memory = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    return float(cpu), float(memory)


# ---------------------------------------------------------------- the server


def _serve(streams: int, events: int) -> None:
    """The server process: prints its port, waits for all streams, then for a line before each round of events."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=streams)
    print(listener.getsockname()[1], flush=True)
    connections = [listener.accept()[0] for _ in range(streams)]
    parts = chunks(short(events))
    for connection in connections:
        connection.recv(READ)
        connection.sendall(parts[0] + parts[1])
    for part in parts[2:]:
        sys.stdin.readline()
        for connection in connections:
            connection.sendall(part)
    sys.stdin.readline()


# ---------------------------------------------------------------- readers


def _request(connection: h11.Connection) -> bytes:
    request = h11.Request(method="POST", target="/", headers=[("Host", "a"), ("Content-Length", "2")])
    return b"".join(connection.send(e) or b"" for e in (request, h11.Data(data=b"{}"), h11.EndOfMessage()))


async def _bare(
    send: Callable[[bytes], Awaitable[Any]], read: Callable[[int], Awaitable[Any]]
) -> AsyncIterator[object]:
    connection = h11.Connection(h11.CLIENT)
    await send(_request(connection))
    while True:
        got = connection.next_event()
        if got is h11.NEED_DATA:
            connection.receive_data(await read(READ))
        elif type(got) is h11.EndOfMessage:
            break
        elif type(got) is h11.Data:
            yield got


async def _bare_trio(port: int) -> AsyncIterator[object]:
    async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
        async for piece in _bare(stream.send_all, stream.receive_some):
            yield piece


async def _bare_asyncio(port: int) -> AsyncIterator[object]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)

    async def send(data: bytes) -> None:
        writer.write(data)
        await writer.drain()

    async for piece in _bare(send, reader.read):
        yield piece
    writer.transport.abort()


def _own(kind: Any, port: int) -> Stream:
    # On a busy machine, a thousand connections take longer than one.
    patient = Timeouts(connect=_PATIENCE, write=_PATIENCE, first_event=_PATIENCE, idle=_PATIENCE)
    transport = kind(f"127.0.0.1:{port}", session=Session(), proxy=None, timeouts=patient)

    async def read(_: int) -> AsyncIterator[object]:
        async with transport.ask(_QUESTION) as reply:
            async for event in reply:
                yield event

    return read


def _aiohttp(session: Any) -> Stream:
    async def read(port: int) -> AsyncIterator[object]:
        async with session.post(f"http://127.0.0.1:{port}/", json={}) as response:
            async for line in response.content:
                if line.startswith(b"data: "):
                    yield json.loads(line[6:])

    return read


# ---------------------------------------------------------------- the measuring process


class _Crowd:
    """A round begins when each stream has had its event, so each event is a separate read."""

    def __init__(self, streams: int, events: int, all_wait: Any) -> None:
        command = [sys.executable, "-m", "tests.benchmarks.crowd", "server", str(streams), str(events)]
        self.server = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self.server.stdin is not None
        assert self.server.stdout is not None
        self.port = int(self.server.stdout.readline())
        self._asking = self.server.stdin
        self._streams, self._events, self._all_wait = streams, events, all_wait
        self._seen = 0
        self._memory = _memory()
        self._start = 0.0

    async def follow(self, stream: Stream) -> None:
        seen = 0
        async for _ in stream(self.port):
            seen += 1
            self._seen += 1
            if self._seen == self._streams:
                self._all_wait.set()
            elif self._seen % self._streams == 0:
                self._go()
        assert seen == self._events + 1

    def begin(self) -> None:
        """All streams wait."""
        self._memory = (_memory() - self._memory) / self._streams
        self._start = time.process_time()
        self._go()

    def end(self) -> None:
        print(time.process_time() - self._start, self._memory)
        self._asking.close()
        self.server.wait()

    def _go(self) -> None:
        self._asking.write("go\n")
        self._asking.flush()


async def _on_trio(who: str, streams: int, events: int) -> None:
    all_wait = trio.Event()
    measured = _Crowd(streams, events, all_wait)
    stream = _bare_trio if who.endswith("h11") else _own(TrioTransport, measured.port)
    async with trio.open_nursery() as nursery:
        for _ in range(streams):
            nursery.start_soon(measured.follow, stream)
        await all_wait.wait()
        measured.begin()
    measured.end()


async def _on_asyncio(who: str, streams: int, events: int) -> None:
    all_wait = asyncio.Event()
    measured = _Crowd(streams, events, all_wait)
    session: Any = None
    if who == "aiohttp":
        aiohttp = import_module("aiohttp")
        session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0), timeout=aiohttp.ClientTimeout(total=None, sock_read=_PATIENCE)
        )
        stream = _aiohttp(session)
    else:
        stream = _bare_asyncio if who.endswith("h11") else _own(AsyncioTransport, measured.port)
    async with asyncio.TaskGroup() as group:
        for _ in range(streams):
            group.create_task(measured.follow(stream))
        await all_wait.wait()
        measured.begin()
    measured.end()
    if session is not None:
        await session.close()


def _memory() -> float:
    """KiB of this process: the memory of Python objects if traced, else the resident set."""
    if tracemalloc.is_tracing():
        return tracemalloc.get_traced_memory()[0] / 1024
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize() / 1024


if __name__ == "__main__":
    _who, _streams, _events = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    if _who == "server":
        _serve(_streams, _events)
    elif _who.startswith("trio"):
        trio.run(_on_trio, _who, _streams, _events)
    else:
        asyncio.run(_on_asyncio(_who, _streams, _events))
