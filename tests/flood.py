"""A flood of connections that send nothing, or a byte now and then, while `opchat serve` keeps answering.

    python -m tests.flood

Starts the command on loopback, under uvicorn on asyncio and on uvloop and as the
small server, opens 1,500 silent connections and 500 that trickle, and asks
questions meanwhile. The flood goes on: connections that the server closes are opened
again. Each answer must arrive within a second, and memory and log stay bounded. It
takes about ten seconds for each server and stops by itself. The exit code is 1 if a check failed.
"""

import argparse
import os
import resource
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from opchat_proto import End, Timeouts
from opchat_transports.blocking_sockets import BlockingTransport
from tests.transports.peer import free_port

SILENT, TRICKLING = 1_500, 500
TICK = 0.05  # seconds between two bytes of a trickling connection
AGAIN = 20  # connections reopened in a tick, at most
HEAD = b"POST /wp-json/mwai/v1/start_session HTTP/1.1\r\nX: " + b"x" * 10_000
WITHIN = 1.0  # seconds
MEMORY = 96 * 1024 * 1024  # bytes by which the server may grow
STARTS_WITHIN = 60.0
OPENS_WITHIN = 20.0
PATIENCE = Timeouts(connect=20, write=20, first_event=20, idle=20)
FILES = 1024  # descriptors that a process may open
SERVERS = {
    "uvicorn on asyncio": "sys.modules['uvloop'] = None",
    "uvicorn on uvloop": "import uvloop",
    "small": "import opchat_transports.cli.commands.serve as command; command.find_spec = lambda name: None",
}


class Flood:
    """The connections, and the thread that keeps them open."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._connections: list[socket.socket | None] = [None] * (SILENT + TRICKLING)
        self._sent = [0] * len(self._connections)
        self._stops = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.opened = 0

    def __enter__(self) -> Self:
        end = time.monotonic() + OPENS_WITHIN
        for number in range(len(self._connections)):
            if time.monotonic() < end:  # a server without free descriptors accepts no more
                self._open(number)
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stops.set()
        self._thread.join()
        for connection in self._connections:
            if connection is not None:
                connection.close()

    def _open(self, number: int) -> None:
        with suppress(OSError):
            self._connections[number] = connection = socket.create_connection(("127.0.0.1", self._port), 1)
            connection.setblocking(False)
            self._sent[number] = 0
            self.opened += 1

    def _run(self) -> None:
        while not self._stops.wait(TICK):
            again = AGAIN
            for number, connection in enumerate(self._connections):
                if connection is not None and not self._is_open(number, connection):
                    connection.close()
                    connection = self._connections[number] = None
                if connection is None and again and not self._stops.is_set():
                    again -= 1
                    self._open(number)

    def _is_open(self, number: int, connection: socket.socket) -> bool:
        try:
            if number >= SILENT and self._sent[number] < len(HEAD):
                self._sent[number] += connection.send(HEAD[self._sent[number] :][:1])
            return connection.recv(65536) != b""
        except BlockingIOError:
            return True
        except OSError:
            return False


@contextmanager
def serving(code: str, log: Path) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """Start `opchat serve`, and yield its port once it answers."""
    few_files = f"resource.setrlimit(resource.RLIMIT_NOFILE, ({FILES}, {FILES}))"
    run = f"import resource, sys\n{few_files}\n{code}\nfrom opchat_transports.__main__ import main\nsys.exit(main())"
    environment = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    port = free_port()
    command = [sys.executable, "-c", run, "serve", "--port", str(port)]
    with log.open("wb") as file, subprocess.Popen(command, stderr=file, env=environment) as process:
        try:
            end = time.monotonic() + STARTS_WITHIN
            while True:
                with suppress(OSError), socket.create_connection(("127.0.0.1", port), 5):
                    break
                if time.monotonic() > end or process.poll() is not None:
                    raise RuntimeError(f"the server has not begun: {log.read_text()}")
                time.sleep(0.05)  # nothing signals that another process listens
            yield process, port
        finally:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()


def memory(process: subprocess.Popen[bytes]) -> int:
    """The server's resident bytes; 0 where the system does not report them."""
    with suppress(OSError):
        pages = int(Path(f"/proc/{process.pid}/statm").read_text().split()[1])
        return pages * resource.getpagesize()
    return 0


def ask(port: int) -> float:
    """Ask a question, and return the seconds it took. Raises `RuntimeError` without an answer."""
    begin = time.monotonic()
    with BlockingTransport(f"http://127.0.0.1:{port}", timeouts=PATIENCE) as transport, transport.ask("Hello") as reply:
        *_, last = reply
    if not isinstance(last, End):
        raise RuntimeError(f"no answer: {last}")
    return time.monotonic() - begin


def flood(name: str, questions: int) -> list[str]:
    """The failed checks."""
    wrong = []
    with tempfile.TemporaryDirectory() as directory:
        log = Path(directory, "log")
        begin = time.monotonic()
        with serving(SERVERS[name], log) as (process, port):
            ask(port)
            before = memory(process)
            with Flood(port) as connections:
                opened = time.monotonic()
                times = []
                for number in range(questions):
                    try:
                        times.append(ask(port))
                    except RuntimeError as error:
                        wrong.append(str(error))
                        break
                    if number >= questions // 2:
                        time.sleep(0.2)  # the flood goes on meanwhile
                grown = memory(process) - before
        seconds = time.monotonic() - begin
        lines = log.read_text(errors="replace").count("\n")
        print(
            f"{name}: {connections.opened:,} connections, the first {SILENT + TRICKLING:,} in {opened - begin:.1f} s; "
            f"{len(times)} answers in at most {max(times, default=0):.2f} s; "
            f"{grown / 1024**2:.0f} MiB more; {lines} lines, {log.stat().st_size:,} bytes of log in {seconds:.0f} s",
            flush=True,
        )
        if max(times, default=0) > WITHIN:
            wrong.append(f"an answer took {max(times):.2f} s")
        if grown > MEMORY:
            wrong.append(f"memory grew by {grown:,} bytes")
        if lines > 4 * questions + 2 * seconds + 20:  # two requests for a question, perhaps twice; one line a second
            wrong.append(f"{lines} lines of log")
    return [f"{name}: {line}" for line in wrong]


def main() -> int:
    """Run the command. Returns its exit code."""
    parser = argparse.ArgumentParser("python -m tests.flood", description=__doc__.partition("\n")[0])
    parser.add_argument("--questions", type=int, default=20, help="for each server (default: 20)")
    parser.add_argument("servers", nargs="*", choices=[*SERVERS, []], help="default: all")
    given = parser.parse_args()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = SILENT + TRICKLING + 100
    if soft != resource.RLIM_INFINITY and soft < needed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))
    wrong = []
    for name in given.servers or SERVERS:
        wrong += flood(name, given.questions)
    for line in wrong:
        print(line, file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
