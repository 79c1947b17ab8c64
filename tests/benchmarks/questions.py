"""Candidates for a question over loopback: each transport, beside the least work of its event loop.

All send the same request to a server in another process, read up to the first event,
and leave.
"""

import asyncio
import socket
import subprocess
import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress
from importlib import import_module
from typing import Any

import h11
import trio

from opchat_proto import Endpoint, Event, Flow, Session, Submit
from opchat_transports.asyncio_httpx import HttpxTransport
from opchat_transports.asyncio_streams import AsyncioTransport
from opchat_transports.blocking_sockets import BlockingTransport
from opchat_transports.trio_streams import TrioTransport
from tests.benchmarks.candidate import Candidate, Run, own_pair
from tests.benchmarks.workloads import READ, Workload, chunks, short

_QUESTIONS = 20  # in one run, so that starting a loop matters little
_QUESTION = Submit(new_message="Hi?", chat_id="k3v9x0q2ab")
_FIRST = ("content", "The")


def asked() -> Workload:
    """Asks questions one after the other. The server determines their pieces."""
    return Workload("to its first event", [], [_FIRST] * _QUESTIONS)


# ---------------------------------------------------------------- the server


def _start_server() -> int:
    """The port of a server that runs as long as this process."""
    command = [sys.executable, "-m", "tests.benchmarks.questions"]
    server = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    _SERVERS.append(server)
    return int(server.stdout.readline())


_SERVERS: list[subprocess.Popen[str]] = []  # each one ends when its standard input is closed


def _serve() -> None:
    answer = b"".join(chunks(short(3))[:2])
    listener = socket.create_server(("127.0.0.1", 0), backlog=64)
    print(listener.getsockname()[1], flush=True)
    while True:
        connection, _ = listener.accept()
        with connection, suppress(ConnectionError):
            connection.recv(READ)
            connection.sendall(answer)
            connection.recv(1)


# ---------------------------------------------------------------- bare h11


class _Bare:
    """h11 with a prepared request, the same as the transports'."""

    def __init__(self, port: int) -> None:
        self.port = port
        request = Flow(Endpoint.parse(f"127.0.0.1:{port}"), _QUESTION, session=Session()).next_request()
        assert request is not None
        self._method, self._target, self._body = request.method, request.target, request.body
        fields = (*request.headers, ("Connection", "close"))
        self._fields = [(name.encode(), value.encode()) for name, value in fields]
        self._h11 = h11.Connection(h11.CLIENT)

    def sent(self) -> bytes:
        self._h11 = h11.Connection(h11.CLIENT)
        question = h11.Request(method=self._method, target=self._target, headers=self._fields)
        parts = (question, h11.Data(data=self._body), h11.EndOfMessage())
        return b"".join(self._h11.send(part) or b"" for part in parts)

    def read(self, data: bytes) -> bool:
        """Whether the first event has arrived."""
        self._h11.receive_data(data)
        while True:
            event = self._h11.next_event()
            if event is h11.NEED_DATA:
                return False
            if type(event) is h11.Data:
                return True


def _bare_blocking(bare: _Bare) -> Any:
    with socket.create_connection(("127.0.0.1", bare.port)) as opened:
        opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        opened.sendall(bare.sent())
        while not bare.read(opened.recv(READ)):
            pass
    return _FIRST


async def _bare_trio(bare: _Bare) -> Any:
    async with await trio.open_tcp_stream("127.0.0.1", bare.port) as stream:
        await stream.send_all(bare.sent())
        while not bare.read(await stream.receive_some(READ)):
            pass
    return _FIRST


async def _bare_asyncio(bare: _Bare) -> Any:
    reader, writer = await asyncio.open_connection("127.0.0.1", bare.port)
    writer.write(bare.sent())
    await writer.drain()
    while not bare.read(await reader.read(READ)):
        pass
    writer.transport.abort()
    return _FIRST


# ---------------------------------------------------------------- candidates


def _blocking(_: list[bytes]) -> Run:
    transport = BlockingTransport(f"127.0.0.1:{_start_server()}", session=Session(), proxy=None)

    def ask() -> Event:
        with transport.ask(_QUESTION) as reply:
            return next(reply)

    return lambda: [ask() for _ in range(_QUESTIONS)]


def _async(run: Callable[..., list[Any]], make: Callable[[str], Any]) -> Callable[[list[bytes]], Run]:
    def prepare(_: list[bytes]) -> Run:
        transport = make(f"127.0.0.1:{_start_server()}")

        async def ask() -> Event:
            async with transport.ask(_QUESTION) as reply:
                event: Event = await anext(reply)
                return event

        def work() -> list[Any]:
            transport._loop = None  # each run has its own loop
            return run(_all, ask)

        return work

    return prepare


async def _all(ask: Callable[[], Awaitable[Any]]) -> list[Any]:
    return [await ask() for _ in range(_QUESTIONS)]


def _bare(ask: Callable[[_Bare], Any], run: Callable[..., list[Any]] | None = None) -> Callable[[list[bytes]], Run]:
    def prepare(_: list[bytes]) -> Run:
        bare = _Bare(_start_server())
        if run is None:
            return lambda: [ask(bare) for _ in range(_QUESTIONS)]
        return lambda: run(_all, lambda: ask(bare))

    return prepare


def _asyncio_run(work: Callable[..., Any], ask: Callable[[], Awaitable[Any]]) -> list[Any]:
    results: list[Any] = asyncio.run(work(ask))
    return results


def _httpx_sse(_: list[bytes]) -> Run:
    httpx, httpx_sse = import_module("httpx"), import_module("httpx_sse")
    url = f"http://127.0.0.1:{_start_server()}"

    async def work() -> list[Any]:
        async with httpx.AsyncClient(trust_env=False, verify=False) as client:

            async def ask() -> Any:
                async with httpx_sse.aconnect_sse(client, "POST", url) as source:
                    return await anext(source.aiter_sse())

            return await _all(ask)

    return lambda: asyncio.run(work())


def _transport(kind: Any) -> Callable[[str], Any]:
    return lambda site: kind(site, session=Session(), proxy=None)


def _same(pair: Any) -> Any:
    return pair


def _sse_pair(event: Any) -> Any:
    return "content", event.json()["data"]


QUESTIONS = [
    Candidate("a raw socket with h11", _bare(_bare_blocking), _same),
    Candidate("opchat: BlockingTransport", _blocking, own_pair),
    Candidate("trio's streams with bare h11", _bare(_bare_trio, trio.run), _same),
    Candidate("opchat: TrioTransport", _async(trio.run, _transport(TrioTransport)), own_pair),
    Candidate("asyncio's streams with bare h11", _bare(_bare_asyncio, _asyncio_run), _same),
    Candidate("opchat: AsyncioTransport", _async(_asyncio_run, _transport(AsyncioTransport)), own_pair),
    Candidate("opchat: HttpxTransport", _async(_asyncio_run, _transport(HttpxTransport)), own_pair),
    Candidate("httpx-sse on httpx, async", _httpx_sse, _sse_pair, package="httpx-sse"),
]

if __name__ == "__main__":
    import threading

    threading.Thread(target=_serve, daemon=True).start()
    sys.stdin.read()
