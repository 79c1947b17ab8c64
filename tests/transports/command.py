"""Run the command in this process, in a process of its own, in the background, or on a terminal."""

import fcntl
import io
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from unittest.mock import patch

from opchat_transports.cli import run
from opchat_transports.testing import Expect, FaultServer, Script

PATIENCE = 60.0  # seconds; on a busy machine a process takes several to start

# Not in development mode: asyncio would log slow callbacks on a busy machine.
COMMAND = [sys.executable, "-W", "error", "-m", "opchat_transports"]
ENVIRONMENT = {
    name: value
    for name, value in os.environ.items()
    if name not in ("OPCHAT_URL", "NO_COLOR", "TERM") and not name.lower().endswith("_proxy")
}


def opchat(
    *arguments: str | bytes,
    input: str | bytes = "",
    env: dict[str, str] | None = None,
    encoding: str | None = "utf-8",
) -> subprocess.CompletedProcess[Any]:
    """Run the command in this process, with its own standard streams and environment."""
    outputs = io.BytesIO(), io.BytesIO()
    given = io.BytesIO(input.encode() if isinstance(input, str) else input)
    streams = [io.TextIOWrapper(stream, "utf-8", "backslashreplace") for stream in (given, *outputs)]
    with ExitStack() as stack:
        stack.enter_context(patch.dict(os.environ, (env or ENVIRONMENT) | {"COLUMNS": "80"}, clear=True))
        for name, stream in zip(("stdin", "stdout", "stderr"), streams, strict=True):
            stack.enter_context(patch.object(sys, name, stream))
        code = run([os.fsdecode(argument) for argument in arguments])
        for stream in streams[1:]:
            stream.flush()
    written = [output.getvalue() for output in outputs]
    if encoding is None:
        return subprocess.CompletedProcess(arguments, code, *written)
    return subprocess.CompletedProcess(arguments, code, *(data.decode(encoding) for data in written))


def opchat_process(*arguments: str | bytes, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run the command in a process with its own descriptors, locale and modules."""
    if "input" not in options:
        options.setdefault("stdin", subprocess.DEVNULL)
    options = {"env": ENVIRONMENT, "timeout": PATIENCE, "capture_output": True, "encoding": "utf-8", **options}
    return subprocess.run([*COMMAND, *arguments], **options)


class Process(subprocess.Popen[str]):
    """The process is killed at the end of the `with` block. `Popen` itself would wait, possibly forever."""

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.kill()
        super().__exit__(kind, error, at)


def start(*arguments: str, **options: Any) -> Process:
    pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "env": ENVIRONMENT}
    return Process([*COMMAND, *arguments], encoding="utf-8", **{**pipes, **options})


def asking(script: Script, *arguments: str, session: bool = True) -> subprocess.CompletedProcess[str]:
    """Run `opchat ask` against a server with this script. Without `session`, the script also answers start_session."""
    with FaultServer(script if session else (Expect("start_session"), *script)) as server:
        return opchat("ask", "--url", server.url, *(arguments or ("Hi",)))


def until_it_waits(pid: int) -> None:
    """Wait until the main thread of this process waits for something, or the process has ended."""
    end = time.monotonic() + PATIENCE
    while _state(pid) not in ("S", "I", ""):
        assert time.monotonic() < end
        os.sched_yield()


def _state(pid: int) -> str:
    """The letter that `ps` shows: S or I if it waits; "" if it has ended."""
    if os.path.exists("/proc/self/stat"):
        try:
            return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            return ""
    shown = subprocess.run(["ps", "-o", "state=", "-p", str(pid)], capture_output=True, text=True, check=False)
    return shown.stdout[:1]


class Terminal:
    """A process on its own pseudo-terminal, which is its standard input, output and error."""

    def __init__(self, *arguments: str, term: str = "xterm-256color", **variables: str) -> None:
        self._main, terminal = pty.openpty()
        fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        # The first to open a terminal in a new session becomes its controlling process: Ctrl-C is then a signal.
        self.process = subprocess.Popen(
            ["sh", "-c", 'exec "$@" <"$0" >"$0" 2>&1', os.ttyname(terminal), *COMMAND, *arguments],
            env=ENVIRONMENT | {"TERM": term, "INPUTRC": "/dev/null"} | variables,
            start_new_session=True,
        )
        self._terminal: int | None = (
            terminal  # kept open until the process has written something, so that reading does not end too soon
        )
        self.shown = ""
        """The raw output so far."""
        self._seen = 0

    def enter(self, text: str) -> None:
        os.write(self._main, text.encode())

    def interrupt(self) -> None:
        """Send Ctrl-C as soon as the process waits."""
        self._until_it_waits()
        self.enter("\x03")

    def end_by(self, number: signal.Signals) -> None:
        """Send this signal as soon as the process waits."""
        self._until_it_waits()
        self.process.send_signal(number)

    def _until_it_waits(self) -> None:
        """readline does not see at once what is typed between its prompt and its read."""
        until_it_waits(self.process.pid)

    def until(self, text: str) -> str:
        """Wait until this text appears after the last one. Returns the output up to it."""
        end = time.monotonic() + PATIENCE
        while (at := self.shown.find(text, self._seen)) < 0:
            assert self._read(end), f"{text!r} was not shown, but {self.shown!r}"
        before, self._seen = self._seen, at + len(text)
        return self.shown[before : self._seen]

    def wait(self) -> int:
        """Wait for the exit code. The remaining output is then in `shown`."""
        end = time.monotonic() + PATIENCE
        while self._read(end):
            pass
        return self.process.wait(PATIENCE)

    def _read(self, end: float) -> bool:
        """Append the next output. Returns False at the end of the output or at the deadline."""
        if not select.select([self._main], [], [], max(0.0, end - time.monotonic()))[0]:
            return False
        try:
            data = os.read(self._main, 65536)
        except OSError:  # on Linux: no process has the terminal open any more
            return False
        if self._terminal is not None:
            os.close(self._terminal)
            self._terminal = None
        self.shown += data.decode("utf-8", "replace")
        return bool(data)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.process.kill()
        self.process.wait(PATIENCE)
        os.close(self._main)
        if self._terminal is not None:
            os.close(self._terminal)
