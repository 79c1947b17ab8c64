"""Candidates that read a whole response, from memory instead of a socket."""

import asyncio
import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

import h11

from opchat_proto import Client, Endpoint, Event, Flow, Receive, Session, Submit
from tests.benchmarks.candidate import URL, Candidate, Run, floor_pair, original_loop, own_pair
from tests.benchmarks.floor import Floor, Piece, Reply

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


def _read_all(connection: h11.Connection, piece: bytes) -> None:
    connection.receive_data(piece)
    while True:
        event = connection.next_event()
        if event is h11.NEED_DATA or type(event) is h11.EndOfMessage:
            break


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


def _trio_and_h11(pieces: list[bytes]) -> Run:
    import trio

    async def read() -> None:
        connection = _asked_h11()
        for piece in pieces:
            await trio.lowlevel.checkpoint()  # as a stream does
            _read_all(connection, piece)

    def run() -> list[Any]:
        trio.run(read)
        return []

    return run


def _asyncio_and_h11(pieces: list[bytes]) -> Run:
    async def read() -> None:
        connection = _asked_h11()
        for piece in pieces:
            _read_all(connection, piece)

    def run() -> list[Any]:
        asyncio.run(read())
        return []

    return run


def _trio_and_floor(pieces: list[bytes]) -> Run:
    """The least that trio needs: a deadline for each read, and one checkpoint for each event."""
    import trio

    async def read() -> list[Piece | Reply]:
        connection, floor = _asked_h11(), Floor()
        events: list[Piece | Reply] = []
        for piece in pieces:
            with trio.CancelScope(deadline=trio.current_time() + 120):
                await trio.lowlevel.checkpoint()
            got = _floor_events(connection, floor, piece)
            for _ in got[1:]:
                await trio.lowlevel.checkpoint()
            events += got
        return events

    return lambda: trio.run(read)


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
    """The socket methods that `BlockingTransport` uses."""

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
    import trio

    from opchat_transports.trio_streams import TrioTransport

    class MemoryStream(trio.abc.Stream):
        def __init__(self) -> None:
            self.pieces = iter(pieces)

        async def send_all(self, data: bytes | bytearray | memoryview) -> None:
            await trio.lowlevel.checkpoint()

        async def wait_send_all_might_not_block(self) -> None:
            raise NotImplementedError

        async def receive_some(self, max_bytes: int | None = None) -> bytes:
            await trio.lowlevel.checkpoint()
            return next(self.pieces, b"")

        async def aclose(self) -> None: ...

    async def connect(*_: object, **__: object) -> MemoryStream:
        return MemoryStream()

    transport = TrioTransport(ENDPOINT, session=Session(), proxy=None)

    def run() -> list[Event]:
        transport._loop = None  # each run has its own loop
        with _replaced(trio, "open_tcp_stream", connect):
            return trio.run(_read, transport)

    return run


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


def _asyncio(pieces: list[bytes]) -> Run:
    from opchat_transports import asyncio_streams

    class MemoryStream:
        """Like httpcore's mock, it never waits."""

        def __init__(self) -> None:
            self.pieces = iter(pieces)

        async def receive_some(self) -> bytes:
            return next(self.pieces, b"")

        async def send_all(self, data: bytes) -> None: ...

        def abort(self) -> None: ...

    async def connect(*_: object) -> MemoryStream:
        return MemoryStream()

    transport = asyncio_streams.AsyncioTransport(ENDPOINT, session=Session(), proxy=None)

    def run() -> list[Event]:
        transport._loop = None  # each run has its own loop
        with _replaced(asyncio_streams.AsyncioReply, "_connect", staticmethod(connect)):
            return asyncio.run(_read(transport))

    return run


def _httpx(pieces: list[bytes]) -> Run:
    from opchat_transports.asyncio_httpx import HttpxTransport

    transport = HttpxTransport(ENDPOINT, _memory_client("httpx", pieces, is_async=True), session=Session())

    def run() -> list[Event]:
        transport._loop = None  # each run has its own loop
        return asyncio.run(_read(transport))

    return run


async def _read(transport: Any) -> list[Event]:
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

    class MemoryTransport(asyncio.Transport):
        def __init__(self, protocol: Any) -> None:
            super().__init__()
            self.protocol, self.rest = protocol, iter(pieces)
            self.paused = self.closed = self.asked = False

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
            self.paused = False
            asyncio.get_running_loop().call_soon(self.read)

        def is_closing(self) -> bool:
            return self.closed

        def close(self) -> None:
            self.closed = True
            asyncio.get_running_loop().call_soon(self.protocol.connection_lost, None)

        abort = close

    class MemoryConnector(aiohttp.BaseConnector):  # type: ignore[misc, name-defined]  # aiohttp is only in the extra bench
        async def _create_connection(self, *_: object) -> Any:
            protocol = client_proto.ResponseHandler(asyncio.get_running_loop())
            protocol.connection_made(MemoryTransport(protocol))
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
    Candidate("trio with bare h11", _trio_and_h11, None),
    Candidate("trio, h11 and the floor", _trio_and_floor, floor_pair),
    Candidate("opchat: TrioTransport", _trio, own_pair),
    Candidate("asyncio with bare h11", _asyncio_and_h11, None),
    Candidate("opchat: AsyncioTransport", _asyncio, own_pair),
    Candidate("opchat: HttpxTransport", _httpx, own_pair),
    Candidate("the original aiohttp client", _original_aiohttp, package="aiohttp"),
    Candidate("httpx-sse on httpx", _httpx_sse_sync, package="httpx-sse"),
    Candidate("httpx-sse on httpx, async", _httpx_sse_async, package="httpx-sse"),
    Candidate("httpx2", _httpx2_sync, package="httpx2"),
    Candidate("httpx2, async", _httpx2_async, package="httpx2"),
]
