"""Candidates that read a whole response.

The synchronous ones, and those on httpx, get it from memory and never wait. On trio and
on asyncio's streams each read waits, as with a slow server, until no task can run: then
the next piece arrives.
"""

import asyncio
import json
import socket
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import contextmanager
from functools import partial
from importlib import import_module
from typing import Any

import h11

from opchat_proto import Client, Endpoint, Event, Flow, Receive, Session, Submit
from tests.benchmarks.candidate import URL, Candidate, Run, floor_pair, original_loop, own_pair
from tests.benchmarks.floor import Floor, Piece, Reply
from tests.benchmarks.workloads import READ

ENDPOINT = Endpoint.parse("http://site.example")
QUESTION = Submit(new_message="Hi?", chat_id="k3v9x0q2ab")


def _asked_h11() -> h11.Connection:
    connection = h11.Connection(h11.CLIENT)
    connection.send(h11.Request(method="POST", target="/", headers=[("Host", "site.example"), ("Content-Length", "0")]))
    connection.send(h11.EndOfMessage())
    return connection


def _bare_h11(pieces: list[bytes]) -> Run:
    def run() -> list[Any]:
        connection = _asked_h11()
        for piece in pieces:
            _read_all(connection, piece)
        return []

    return run


def _read_all(connection: h11.Connection, piece: bytes) -> bool:
    """Read the events of a piece. Returns whether it was the last one."""
    connection.receive_data(piece)
    while True:
        event = connection.next_event()
        if event is h11.NEED_DATA or type(event) is h11.EndOfMessage:
            return event is not h11.NEED_DATA


def _floor_events(connection: h11.Connection, floor: Floor, piece: bytes) -> list[Piece | Reply]:
    connection.receive_data(piece)
    read = []
    while True:
        event = connection.next_event()
        if type(event) is h11.Data:
            read.append(event.data)
        elif event is h11.NEED_DATA or type(event) is h11.EndOfMessage:
            break
    return floor.receive_data(b"".join(read)) if read else []


def _h11_and_floor(pieces: list[bytes]) -> Run:
    def run() -> list[Piece | Reply]:
        connection, floor = _asked_h11(), Floor()
        events = []
        for piece in pieces:
            events += _floor_events(connection, floor, piece)
        return events

    return run


@contextmanager
def _replaced(module: object, name: str, value: object) -> Iterator[None]:
    """Like `mock.patch.object`, which takes longer than a question."""
    original = vars(module)[name]  # keeps a static method one
    setattr(module, name, value)
    try:
        yield
    finally:
        setattr(module, name, original)


class _MemorySocket:
    """What `BlockingTransport`, and a transport that has it, use of a socket."""

    family = socket.AF_INET
    pieces: Iterator[bytes]
    timeout: float | None = None

    def __init__(self, *_: object) -> None: ...

    def nothing(self, *_: object) -> None: ...

    connect = setsockopt = shutdown = close = nothing

    def settimeout(self, seconds: float | None) -> None:
        self.timeout = seconds

    def gettimeout(self) -> float | None:
        return self.timeout

    def send(self, data: memoryview) -> int:
        return len(data)

    def recv(self, _: int) -> bytes:
        return next(self.pieces, b"")


async def _open_trio() -> Any:
    import trio

    stream = await trio.open_tcp_stream("site.example", 80)
    await stream.send_all(b"the request")
    return stream


def _on_trio(pieces: list[bytes], read: Callable[[], Awaitable[Any]]) -> Run:
    """Run it on trio, whose connections get the next piece whenever all tasks wait."""
    import trio

    class Peer(trio.abc.Instrument):
        def __init__(self) -> None:
            self.pieces = iter(pieces)
            with socket.create_server(("127.0.0.1", 0)) as listener:
                self.client = socket.create_connection(listener.getsockname())
                self.server, _ = listener.accept()
            self.server.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2 * READ)

        async def open(self, *_: object) -> trio.SocketStream:
            return trio.SocketStream(trio.socket.from_stdlib_socket(self.client))

        def before_io_wait(self, timeout: float) -> None:
            if timeout and (piece := next(self.pieces, b"")):
                self.server.sendall(piece)
            elif timeout:
                self.server.close()

    def run() -> Any:
        peer = Peer()
        with peer.server, _replaced(trio, "open_tcp_stream", peer.open):
            return trio.run(read, instruments=[peer])

    return run


def _trio_and_h11(pieces: list[bytes]) -> Run:
    async def read() -> list[Any]:
        connection = _asked_h11()
        async with await _open_trio() as stream:
            while not _read_all(connection, await stream.receive_some(READ)):
                pass
        return []

    return _on_trio(pieces, read)


def _trio_and_floor(pieces: list[bytes]) -> Run:
    """The least that trio needs: a deadline for each read, and one checkpoint for each event."""
    import trio

    async def read() -> list[Piece | Reply]:
        connection, floor = _asked_h11(), Floor()
        events: list[Piece | Reply] = []
        async with await _open_trio() as stream:
            while not (events and isinstance(events[-1], Reply)):
                with trio.CancelScope(deadline=trio.current_time() + 120):
                    data = await stream.receive_some(READ)
                got = _floor_events(connection, floor, data)
                for _ in got[1:]:
                    await trio.lowlevel.checkpoint()
                events += got
        return events

    return _on_trio(pieces, read)


class _MemoryTransport(asyncio.Transport):
    """A connection of asyncio that gets one piece in each turn of the loop after the request."""

    def __init__(self, protocol: Any, pieces: list[bytes]) -> None:
        super().__init__({"socket": _MemorySocket()})
        self.protocol, self.rest = protocol, iter(pieces)
        self.paused = self.closed = self.asked = False
        protocol.connection_made(self)

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None: ...

    def write(self, data: object) -> None:
        if not self.asked:
            self.asked = True
            asyncio.get_running_loop().call_soon(self.read)

    def read(self) -> None:
        if not self.paused and not self.closed and (piece := next(self.rest, b"")):
            self.protocol.data_received(piece)
            asyncio.get_running_loop().call_soon(self.read)

    def pause_reading(self) -> None:
        self.paused = True

    def resume_reading(self) -> None:
        if self.paused:
            self.paused = False
            asyncio.get_running_loop().call_soon(self.read)

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True
        asyncio.get_running_loop().call_soon(self.protocol.connection_lost, None)

    abort = close


def _on_asyncio(pieces: list[bytes], read: Callable[[], Coroutine[Any, Any, Any]]) -> Run:
    """Run it on asyncio, with connections in memory."""

    async def connect(make: Callable[[], Any], *_: object, **__: object) -> tuple[Any, Any]:
        protocol = make()
        return _MemoryTransport(protocol, pieces), protocol

    async def main() -> Any:
        loop: Any = asyncio.get_running_loop()
        loop.create_connection = connect
        return await read()

    return lambda: asyncio.run(main())


def _asyncio_and_h11(pieces: list[bytes]) -> Run:
    async def read() -> list[Any]:
        connection = _asked_h11()
        reader, writer = await asyncio.open_connection("127.0.0.1", 80)
        writer.write(b"the request")
        while not _read_all(connection, await reader.read(READ)):
            pass
        writer.close()
        return []

    return _on_asyncio(pieces, read)


def _client(pieces: list[bytes]) -> Run:
    def run() -> list[Event]:
        client = Client(Flow(ENDPOINT, QUESTION, session=Session()))
        events: list[Event] = []
        for piece in pieces:
            while not isinstance(client.next_step(), Receive):
                client.step_done()
            events += client.receive_data(piece)
            if client.awaiting is None:
                break
        return events

    return run


def _blocking(pieces: list[bytes]) -> Run:
    from opchat_transports.blocking_sockets import BlockingTransport

    transport = BlockingTransport(ENDPOINT, session=Session(), proxy=None)

    def run() -> list[Event]:
        _MemorySocket.pieces = iter(pieces)
        with (
            _replaced(socket, "socket", _MemorySocket),
            _replaced(socket, "getaddrinfo", lambda *_, **__: [(0, 0, 0, "", ())]),
            transport.ask(QUESTION) as reply,
        ):
            return list(reply)

    return run


def _trio(pieces: list[bytes]) -> Run:
    from opchat_transports.trio_streams import TrioTransport

    return _on_trio(pieces, partial(_read, TrioTransport(ENDPOINT, session=Session(), proxy=None)))


def _asyncio(pieces: list[bytes]) -> Run:
    from opchat_transports.asyncio_streams import AsyncioTransport

    return _on_asyncio(pieces, partial(_read, AsyncioTransport("127.0.0.1:80", session=Session(), proxy=None)))


def _memory_client(name: str, pieces: list[bytes], *, is_async: bool) -> Any:
    """A client of httpx or httpx2 whose connections return these bytes."""
    httpx, httpcore = import_module(name), import_module(name.replace("httpx", "httpcore"))
    kind = "Async" if is_async else ""
    transport = getattr(httpx, f"{kind}HTTPTransport")(verify=False) if is_async else httpx.HTTPTransport(verify=False)
    backend = getattr(httpcore, f"{kind}MockBackend")(pieces)
    pool = httpcore.AsyncConnectionPool if is_async else httpcore.ConnectionPool
    transport._pool = pool(network_backend=backend)
    client = httpx.AsyncClient if is_async else httpx.Client
    return client(transport=transport, trust_env=False)


def _httpx(pieces: list[bytes]) -> Run:
    from opchat_transports.asyncio_httpx import HttpxTransport

    transport = HttpxTransport(ENDPOINT, _memory_client("httpx", pieces, is_async=True), session=Session())

    return lambda: asyncio.run(_read(transport))


async def _read(transport: Any) -> list[Event]:
    transport._loop = None  # each run has its own loop
    async with transport.ask(QUESTION) as reply:
        return [event async for event in reply]


def _httpx_sse_sync(pieces: list[bytes]) -> Run:
    httpx_sse = import_module("httpx_sse")
    client = _memory_client("httpx", pieces, is_async=False)

    def run() -> list[Any]:
        with httpx_sse.connect_sse(client, "POST", URL) as source:
            return [json.loads(event.data) for event in source.iter_sse()]

    return run


def _httpx_sse_async(pieces: list[bytes]) -> Run:
    httpx_sse = import_module("httpx_sse")
    client = _memory_client("httpx", pieces, is_async=True)

    async def read() -> list[Any]:
        async with httpx_sse.aconnect_sse(client, "POST", URL) as source:
            return [json.loads(event.data) async for event in source.aiter_sse()]

    return lambda: asyncio.run(read())


def _httpx2_sync(pieces: list[bytes]) -> Run:
    client = _memory_client("httpx2", pieces, is_async=False)

    def run() -> list[Any]:
        with client.sse(URL, method="POST") as source:
            return [event.json() for event in source]

    return run


def _httpx2_async(pieces: list[bytes]) -> Run:
    client = _memory_client("httpx2", pieces, is_async=True)

    async def read() -> list[Any]:
        async with client.sse(URL, method="POST") as source:
            return [event.json() async for event in source]

    return lambda: asyncio.run(read())


def _original_aiohttp(pieces: list[bytes]) -> Run:
    aiohttp, client_proto = import_module("aiohttp"), import_module("aiohttp.client_proto")

    class MemoryConnector(aiohttp.BaseConnector):  # type: ignore[misc, name-defined]  # aiohttp is only in the extra bench
        async def _create_connection(self, *_: object) -> Any:
            protocol = client_proto.ResponseHandler(asyncio.get_running_loop())
            _MemoryTransport(protocol, pieces)
            return protocol

    async def read() -> Any:
        async with (
            aiohttp.ClientSession(connector=MemoryConnector()) as session,
            session.post(URL, json={"stream": True}) as response,
        ):
            response.raise_for_status()
            return await original_loop(response.content)

    return lambda: asyncio.run(read())


WIRE = [
    Candidate("bare h11", _bare_h11, None),
    Candidate("h11 and the floor", _h11_and_floor, floor_pair),
    Candidate("opchat: Client", _client, own_pair),
    Candidate("opchat: BlockingTransport", _blocking, own_pair),
    Candidate("trio's streams with bare h11", _trio_and_h11, None),
    Candidate("trio's streams, h11 and the floor", _trio_and_floor, floor_pair),
    Candidate("opchat: TrioTransport", _trio, own_pair),
    Candidate("asyncio's streams with bare h11", _asyncio_and_h11, None),
    Candidate("opchat: AsyncioTransport", _asyncio, own_pair),
    Candidate("opchat: HttpxTransport", _httpx, own_pair),
    Candidate("the original aiohttp client", _original_aiohttp, package="aiohttp"),
    Candidate("httpx-sse on httpx", _httpx_sse_sync, package="httpx-sse"),
    Candidate("httpx-sse on httpx, async", _httpx_sse_async, package="httpx-sse"),
    Candidate("httpx2", _httpx2_sync, package="httpx2"),
    Candidate("httpx2, async", _httpx2_async, package="httpx2"),
]
