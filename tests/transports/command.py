"""The command as a process: run to its end, started, or on a terminal."""

import fcntl
import os
import pty
import select
import struct
import subprocess
import sys
import termios
import time
from types import TracebackType
from typing import Any, Self

from .scripted import PATIENCE, Script, Scripted

COMMAND = [sys.executable, "-X", "dev", "-W", "error", "-m", "opchat_transports"]
ENVIRONMENT = {
    name: value
    for name, value in os.environ.items()
    if name not in ("OPCHAT_URL", "NO_COLOR", "TERM") and not name.lower().endswith("_proxy")
}


def opchat(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    if "input" not in options:
        options.setdefault("stdin", subprocess.DEVNULL)
    options = {"env": ENVIRONMENT, "timeout": PATIENCE, "capture_output": True, "encoding": "utf-8", **options}
    return subprocess.run([*COMMAND, *arguments], **options)


def start(*arguments: str, **options: Any) -> subprocess.Popen[str]:
    pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "env": ENVIRONMENT}
    return subprocess.Popen([*COMMAND, *arguments], encoding="utf-8", **{**pipes, **options})


def asking(script: Script, *arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    with Scripted(script) as server:
        return opchat("ask", "--url", server.url, *(arguments or ("Hi",)), **options)


class Terminal:
    """A process on a pseudo-terminal of its own, which is its standard input, output and error."""

    def __init__(self, *arguments: str, term: str = "xterm-256color", **variables: str) -> None:
        self._main, terminal = pty.openpty()
        fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        self.process = subprocess.Popen(
            [*COMMAND, *arguments],
            env=ENVIRONMENT | {"TERM": term, "INPUTRC": "/dev/null"} | variables,
            stdin=terminal,
            stdout=terminal,
            stderr=terminal,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # so that Ctrl-C is a signal
        )
        os.close(terminal)
        self.shown = ""
        """All that was on the screen, as it came."""
        self._seen = 0

    def enter(self, text: str) -> None:
        os.write(self._main, text.encode())

    def until(self, text: str) -> str:
        """Wait until this is shown, behind what was waited for before. Returns what was shown up to there."""
        end = time.monotonic() + PATIENCE
        while (at := self.shown.find(text, self._seen)) < 0:
            ready, _, _ = select.select([self._main], [], [], max(0.0, end - time.monotonic()))
            assert ready, f"{text!r} was not shown, but {self.shown!r}"
            assert self._read(), f"the end came before {text!r}: {self.shown!r}"
        before, self._seen = self._seen, at + len(text)
        return self.shown[before : self._seen]

    def wait(self) -> int:
        """The exit code. What is left to be shown is in `shown`."""
        while self._read():
            pass
        return self.process.wait(PATIENCE)

    def _read(self) -> bool:
        try:
            data = os.read(self._main, 65536)
        except OSError:  # Linux's way to say that nobody has the terminal open any more
            return False
        self.shown += data.decode("utf-8", "replace")
        return bool(data)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.process.kill()
        self.process.wait(PATIENCE)
        os.close(self._main)
