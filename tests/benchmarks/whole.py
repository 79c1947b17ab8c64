"""What is measured once and as a whole: a huge end event, hostile streams, the import."""

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


def big_end(most: int) -> str:
    """An end event of 1 MiB and of `most` MiB, its time against `json.loads` twice over its bytes, and its peak."""
    lines = ["\nOne large end event in 64-KiB reads, beside json.loads twice over the same bytes"]
    for size in sorted({1, most}):
        event = encode(end("The station is straight ahead. " * (size * _MEBI // 31)))
        limits = Limits(event_bytes=2 * len(event), reply_bytes=2 * len(event))
        pieces, data = in_pieces(event, READ), event[6:]

        def decode(pieces: list[bytes] = pieces, limits: Limits = limits) -> None:
            decoder = ReplyDecoder(limits)
            decoder.receive_head(200, [])
            events = [event for piece in pieces for event in decoder.receive_data(piece)]
            assert isinstance(events[-1], End)

        def twice(data: bytes = data) -> None:
            json.loads(json.loads(data)["data"])

        ratios = [_seconds(decode) / _seconds(twice) for _ in range(7 if size < 10 else 3)]
        tracemalloc.start()
        decode()
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        times = statistics.median(ratios)
        lines.append(f"  {size:2} MiB: {times:.2f} x the time; peak memory {peak / len(event):.2f} x the event's size")
    return "\n".join(lines)


def _seconds(work: Callable[[], object]) -> float:
    gc.collect()
    start = time.thread_time()
    work()
    return time.thread_time() - start


def hostile(most: int) -> str:
    """Streams that are meant to be slow: the cost of each byte at two sizes, which is the same if work is linear."""
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


def importing(tool: str) -> str:
    """What the import costs, beside that of h11, which it needs."""
    codes = ("pass", "import h11", "import h11, opchat_proto")
    if tool:
        nothing, h11, both = (float(counting.statement(tool, code)) for code in codes)
    else:
        nothing, h11, both = (_cpu_seconds(code) for code in codes)
    return f"\nImport: opchat_proto, beside what it shares with h11: {(both - h11) / (h11 - nothing):.2f} x h11's own"


def _cpu_seconds(code: str) -> float:
    probe = f"import time; start = time.process_time(); {code}; print(time.process_time() - start)"
    times = [
        float(subprocess.run([sys.executable, "-c", probe], check=True, capture_output=True, text=True).stdout)
        for _ in range(5)
    ]
    return statistics.median(times)
