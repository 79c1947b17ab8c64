"""Over real connections on loopback: the time to the first event, and a thousand streams at once."""

import resource
import socket
import statistics
import subprocess
import sys
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import h11
import trio

from opchat_proto import Endpoint, Flow, Live, Session, Submit
from opchat_transports.blocking_sockets import BlockingTransport
from opchat_transports.trio_streams import TrioTransport
from tests.benchmarks.workloads import READ, chunks, short

_ROUNDS = 3
_QUESTION = Submit(new_message="Hi?", chat_id="k3v9x0q2ab")


@contextmanager
def _answering() -> Iterator[int]:
    """A server that answers whatever comes with the first event of a stream, and waits until it is left."""
    answer = b"".join(chunks(short(3))[:2])
    listener = socket.create_server(("127.0.0.1", 0), backlog=64)

    def talk() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                connection.recv(READ)
                connection.sendall(answer)
                with suppress(ConnectionResetError):
                    connection.recv(1)

    thread = threading.Thread(target=talk, daemon=True)
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()


def first_event(rounds: int) -> str:
    """From the question to its first event, in rounds that take turns. Both send the same request."""

    def bare() -> None:
        connection = h11.Connection(h11.CLIENT)
        question = h11.Request(method=method, target=target, headers=headers)
        sent = [connection.send(part) or b"" for part in (question, h11.Data(data=body), h11.EndOfMessage())]
        with socket.create_connection(("127.0.0.1", port)) as opened:
            opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            opened.sendall(b"".join(sent))
            while type(event := connection.next_event()) is not h11.Data:
                if event is h11.NEED_DATA:
                    connection.receive_data(opened.recv(READ))

    def own() -> None:
        with transport.ask(_QUESTION) as reply:
            assert isinstance(next(reply), Live)

    with _answering() as port:
        site = f"127.0.0.1:{port}"
        request = Flow(Endpoint.parse(site), _QUESTION, session=Session()).next_request()
        assert request is not None
        method, target, body = request.method, request.target, request.body
        headers = [(name.encode(), value.encode()) for name, value in request.headers]
        transport = BlockingTransport(site, session=Session(), proxy=None)
        for work in (bare, own):
            work()
        ratios = [_wall(own) / _wall(bare) for _ in range(rounds)]
    return f"\nLoopback: the first event after {statistics.median(ratios):.2f} x the time of a raw socket with h11"


def _wall(work: Callable[[], None]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


# ---------------------------------------------------------------- a thousand streams on one thread


def crowd(streams: int, events: int) -> str:
    """Many streams at once on one trio thread, in processes of their own for each way to read them."""
    rounds: dict[str, list[tuple[float, ...]]] = {"h11": [], "opchat": []}
    for _ in range(_ROUNDS):
        for who, results in rounds.items():
            cpu, resident = _run_crowd(who, streams, events)
            _, held = _run_crowd(who, streams, 1, "-X", "tracemalloc")
            results.append((cpu, held, resident))
    bare, own = ([statistics.median(values) for values in zip(*results, strict=True)] for results in rounds.values())
    return f"\n{streams} streams of {events} events at once on one trio thread, beside trio with bare h11:" + "".join(
        f"\n  {what}: {mine:.2f} {unit} against {theirs:.2f} {unit}: {mine / theirs:.2f} x"
        for what, unit, mine, theirs in zip(
            ("CPU", "memory that a waiting stream holds", "the same, with what connecting has left behind"),
            ("s", "KiB", "KiB"),
            own,
            bare,
            strict=True,
        )
    )


def _run_crowd(who: str, streams: int, events: int, *options: str) -> tuple[float, float]:
    """Seconds of CPU time, and KiB of a waiting stream."""
    command = [sys.executable, *options, "-m", "tests.benchmarks.loopback", who, str(streams), str(events)]
    cpu, memory = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    return float(cpu), float(memory)


def _server(streams: int, events: int) -> None:
    """The other process: tells its port, waits for all, then for a line before each round of events."""
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


def _start_server(streams: int, events: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.benchmarks.loopback", "server", str(streams), str(events)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


async def _crowd(who: str, streams: int, events: int) -> None:
    server = _start_server(streams, events)
    asking = server.stdin
    assert asking is not None
    assert server.stdout is not None
    port = int(server.stdout.readline())
    seen_by_all, all_wait = 0, trio.Event()
    transport = TrioTransport(f"127.0.0.1:{port}", session=Session(), proxy=None)

    def saw_one() -> None:
        """Once each stream has had its event, the next round begins: so each event is a read of its own."""
        nonlocal seen_by_all
        seen_by_all += 1
        if seen_by_all == streams:
            all_wait.set()
        elif seen_by_all % streams == 0:
            go()

    def go() -> None:
        asking.write("go\n")
        asking.flush()

    async def own() -> None:
        async with transport.ask(_QUESTION) as reply:
            seen = 0
            async for _ in reply:
                seen += 1
                saw_one()
            assert seen == events + 1

    async def bare() -> None:
        connection = h11.Connection(h11.CLIENT)
        stream = await trio.open_tcp_stream("127.0.0.1", port)
        async with stream:
            request = h11.Request(method="POST", target="/", headers=[("Host", "a"), ("Content-Length", "2")])
            for event in (request, h11.Data(data=b"{}"), h11.EndOfMessage()):
                await stream.send_all(connection.send(event) or b"")
            seen = 0
            while True:
                got = connection.next_event()
                if got is h11.NEED_DATA:
                    connection.receive_data(await stream.receive_some(READ))
                elif type(got) is h11.EndOfMessage:
                    break
                elif type(got) is h11.Data:
                    seen += 1
                    saw_one()
            assert seen == events + 1

    before_memory = _memory()
    async with trio.open_nursery() as nursery:
        for _ in range(streams):
            nursery.start_soon(own if who == "opchat" else bare)
        await all_wait.wait()
        memory = (_memory() - before_memory) / streams
        start = time.process_time()
        go()
    print(time.process_time() - start, memory)
    asking.close()
    server.wait()


def _memory() -> float:
    """KiB of this process: what Python's objects hold where that is traced, else what is resident."""
    if tracemalloc.is_tracing():
        return tracemalloc.get_traced_memory()[0] / 1024
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize() / 1024


if __name__ == "__main__":
    if sys.argv[1] == "server":
        _server(int(sys.argv[2]), int(sys.argv[3]))
    else:
        trio.run(_crowd, sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
