"""Measured once as a whole: a huge end event, hostile streams, the import."""

import gc
import json
import statistics
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Callable, Iterable

from opchat_proto import End, Limits, ReplyDecoder, SSEDecoder
from tests.benchmarks import counting
from tests.benchmarks.workloads import READ, encode, end
from tests.proto.cuts import in_pieces

_MEBI = 1024 * 1024


def big_end(tool: str, most: int) -> tuple[str, dict[str, float]]:
    """An end event of 1 MiB and of `most` MiB, its cost against `json.loads` twice over its bytes, and its peak."""
    worst = {"cost": 0.0, "peak": 0.0}
    lines = ["\nOne large end event in 64-KiB reads, beside json.loads twice over the same bytes"]
    for size in sorted({1, most}):
        pieces, data = large(size)
        if tool:
            prepare = f"from tests.benchmarks.whole import decode, large, loads_twice; pieces, data = large({size})"
            alone, own, twice = (
                counting.statement(tool, prepare + work) for work in ("", "; decode(pieces)", "; loads_twice(data)")
            )
            cost = (own - alone) / (twice - alone)
        else:
            ratios = [_seconds(decode, pieces) / _seconds(loads_twice, data) for _ in range(7 if size < 10 else 3)]
            cost = statistics.median(ratios)
        tracemalloc.start()
        decode(pieces)
        peak = tracemalloc.get_traced_memory()[1] / sum(map(len, pieces))
        tracemalloc.stop()
        worst = {"cost": max(worst["cost"], cost), "peak": max(worst["peak"], peak)}
        lines.append(f"  {size:2} MiB: {cost:.2f} x the cost; peak memory {peak:.2f} x the event's size")
    return "\n".join(lines), worst


def large(size: int) -> tuple[list[bytes], bytes]:
    """The reads of an end event of so many MiB, and the bytes of its JSON."""
    event = encode(end("The station is straight ahead. " * (size * _MEBI // 31)))
    return in_pieces(event, READ), event[len("data: ") :]


def decode(pieces: list[bytes]) -> None:
    """Decode a large end event."""
    most = 2 * sum(map(len, pieces))
    decoder = ReplyDecoder(Limits(event_bytes=most, reply_bytes=most))
    decoder.receive_head(200, [])
    events = [event for piece in pieces for event in decoder.receive_data(piece)]
    assert isinstance(events[-1], End)


def loads_twice(data: bytes) -> None:
    """The least that it needs: the event, and the payload in it."""
    json.loads(json.loads(data)["data"])


def _seconds(work: Callable[..., object], *arguments: object) -> float:
    gc.collect()
    start = time.thread_time()
    work(*arguments)
    return time.thread_time() - start


def hostile(most: int) -> str:
    """Streams made to be slow: the cost of a byte at two sizes, equal if the work is linear."""
    shapes: dict[str, Callable[[int], Iterable[bytes]]] = {
        "an endless line": lambda size: in_pieces(b"data: " + b"x" * size, READ),
        "an endless line, byte by byte": lambda size: in_pieces(b"data: " + b"x" * (size // 16), 1),
        "endless comments": lambda size: in_pieces(b": keepalive\n" * (size // 12), READ),
        "blank lines": lambda size: in_pieces(b"\n" * size, READ),
        "empty events, byte by byte": lambda size: in_pieces(b"data:\n\n" * (size // 112), 1),
    }
    lines = [f"\nHostile streams: the cost of a byte in {most:,} bytes, as a multiple of that in a quarter of them"]
    for name, make in shapes.items():
        quarter, whole = list(make(most // 4)), list(make(most))
        costs = []
        for pieces in (quarter, whole):

            def feed(pieces: list[bytes] = pieces) -> None:
                decoder = SSEDecoder()
                for piece in pieces:
                    decoder.receive_data(piece)

            costs.append(min(_seconds(feed) for _ in range(2)) / sum(map(len, pieces)))
        lines.append(f"  {name}: {costs[1] / costs[0]:.2f}")
    return "\n".join(lines)


_IMPORTS = {  # the import, and what is imported before it
    "opchat_proto": "h11",
    "opchat_transports.blocking_sockets": "h11, opchat_proto, ssl, threading",
    "opchat_transports.trio_streams": "h11, opchat_proto, ssl, trio",
    "opchat_transports.asyncio_streams": "h11, opchat_proto, ssl, asyncio",
    "opchat_transports.asyncio_httpx": "h11, opchat_proto, ssl, httpx, anyio",
}


def importing(tool: str) -> tuple[str, dict[str, float]]:
    """The cost of each import beyond the libraries that it needs, as a multiple of h11's own; from cached bytecode."""
    cost = (lambda code: float(counting.statement(tool, code))) if tool else _cpu_seconds
    h11 = cost("import h11") - cost("pass")
    costs = {
        name: (cost(f"import {needs}, {name}") - cost(f"import {needs}")) / h11 for name, needs in _IMPORTS.items()
    }
    lines = [f"  {name}: {ratio:.2f} x" for name, ratio in costs.items()]
    return "\n".join(["\nImport, beyond the libraries that it needs, beside that of h11", *lines]), costs


def _cpu_seconds(code: str) -> float:
    probe = f"import time; start = time.process_time(); {code}; print(time.process_time() - start)"
    with counting.bytecode() as environment:
        times = [
            float(
                subprocess.run(
                    [sys.executable, "-c", probe], check=True, capture_output=True, text=True, env=environment
                ).stdout
            )
            for _ in range(6)
        ]
    return statistics.median(times[1:])
