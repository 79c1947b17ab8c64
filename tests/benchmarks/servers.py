"""The server: `application` under uvicorn, beside a bare Starlette `StreamingResponse` that sends the same events."""

import socket
import statistics
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from opchat_proto import Site, Submit
from tests.benchmarks.workloads import READ, encode, end

_ROUNDS = 5
_WHO = ("Starlette", "opchat")
_SECRET = b"benchmarks"


def servers(events: int, requests: int) -> tuple[str, float]:
    """Lines to print, and the CPU time of `application` for an event as a multiple of Starlette's."""
    if not (find_spec("uvicorn") and find_spec("starlette")):
        return "\nServers: uvicorn and starlette are not installed", 0.0
    rounds: dict[str, list[tuple[float, ...]]] = {who: [] for who in _WHO}
    for _ in range(_ROUNDS):
        for who, results in rounds.items():
            results.append(_measure(who, events, requests))
    medians = {who: tuple(map(statistics.median, zip(*each, strict=True))) for who, each in rounds.items()}
    lines = [f"\nServers under uvicorn, one connection after the other; answers of 1 and of {events} events"]
    for who, (per_second, events_per_second, request, event) in medians.items():
        lines.append(
            f"  {who}: {per_second:,.0f} requests and {events_per_second:,.0f} events a second; "
            f"CPU {request * 1e6:,.0f} us a request, {event * 1e6:.1f} us an event"
        )
    ratio = medians["opchat"][3] / medians["Starlette"][3]
    return "\n".join([*lines, f"  opchat's CPU for an event: {ratio:.2f} x"]), ratio


def _measure(who: str, events: int, requests: int) -> tuple[float, ...]:
    """Requests and events per second; the server's CPU seconds for a request with one event, and for one more event."""
    command = [sys.executable, "-m", "tests.benchmarks.servers", who]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        port = int(server.stdout.readline())
        try:
            _ask(port, 1)  # for late imports
            short_wall, short_cpu = _time(server.pid, port, 1, requests)
            long_wall, long_cpu = _time(server.pid, port, events, max(1, requests // 10))
        finally:
            server.kill()
    return 1 / short_wall, events / long_wall, short_cpu, (long_cpu - short_cpu) / (events - 1)


def _time(process: int, port: int, events: int, requests: int) -> tuple[float, float]:
    """Seconds for a request, and seconds of the server's CPU."""
    wall, cpu = time.perf_counter(), _cpu(process)
    for _ in range(requests):
        _ask(port, events)
    return (time.perf_counter() - wall) / requests, (_cpu(process) - cpu) / requests


def _cpu(process: int) -> float:
    return int(Path(f"/proc/{process}/schedstat").read_text().split()[0]) / 1e9


def _ask(port: int, events: int) -> None:
    body = Submit(new_message=str(events)).encode()
    head = (
        f"POST /wp-json/mwai-ui/v1/chats/submit HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n"
        f"X-WP-Nonce: {_nonce()}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", port)) as opened:
        opened.sendall(head.encode() + body)
        received = b""
        while data := opened.recv(READ):
            received += data
    assert received.count(b"data: ") == events + 1, received[:1000]


def _nonce() -> str:
    return Site(_SECRET).nonce(time.time())


# ---------------------------------------------------------------- the server process


async def _pieces(count: int) -> AsyncIterator[str]:
    for _ in range(count):
        yield " word"


def _starlette() -> Any:
    applications, responses, routing = map(
        import_module, ("starlette.applications", "starlette.responses", "starlette.routing")
    )

    async def submit(request: Any) -> Any:
        count = int((await request.json())["newMessage"])

        async def body() -> AsyncIterator[bytes]:
            async for piece in _pieces(count):
                yield encode({"type": "live", "data": piece})
            yield encode(end(" word" * count))

        return responses.StreamingResponse(body(), media_type="text/event-stream")

    return applications.Starlette(routes=[routing.Route("/wp-json/mwai-ui/v1/chats/submit", submit, methods=["POST"])])


def _opchat() -> Any:
    from opchat_transports.asgi import application

    async def bot(submit: Submit) -> AsyncIterator[str]:  # not a plain function, which would be called in a thread
        return _pieces(int(submit.new_message))

    return application(bot, secret=_SECRET)


def _serve(who: str) -> None:
    import uvicorn

    listener = socket.create_server(("127.0.0.1", 0))
    print(listener.getsockname()[1], flush=True)
    config = uvicorn.Config(
        _opchat() if who == "opchat" else _starlette(), log_level="error", http="h11", lifespan="off"
    )
    with suppress(KeyboardInterrupt):
        uvicorn.Server(config).run(sockets=[listener])


if __name__ == "__main__":
    _serve(sys.argv[1])
