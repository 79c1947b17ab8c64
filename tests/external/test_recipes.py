"""The recipes that need more than PyPI: Tkinter on a display, and GLib in the system's own Python.

Needs Xvfb and python3-gi (Debian: xvfb, python3-gi), which .ci/run installs.
"""

import base64
import os
import pickle
import shutil
import subprocess
import tkinter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h11
import pytest

from tests.embedding.conftest import authority, no_proxy_from_outside
from tests.embedding.suite import Question, Suite
from tests.external import tkinter_files

__all__ = ["authority", "no_proxy_from_outside"]

ROOT = Path(__file__).resolve().parents[2]
SYSTEM_PYTHON = "/usr/bin/python3"

GLIB = """
import base64, pickle, ssl, sys
from gi.repository import GLib
from opchat_proto import Channel
from tests.external.glib_sources import ask, run

def hear(event):
    print(base64.b64encode(pickle.dumps(event)).decode(), flush=True)
    return sys.stdin.readline() == "leave\\n"

text, cafile, site = pickle.loads(base64.b64decode(sys.argv[1]))
call = Channel(**site, random=lambda: 0.0).call(text)
loop = GLib.MainLoop()
# Idle, since it may be over before the loop runs, which then would not end.
run(ask(call, hear, ssl.create_default_context(cafile=cafile)), lambda: GLib.idle_add(loop.quit))
loop.run()
"""


@pytest.fixture(scope="module")
def display() -> Iterator[str]:
    """A virtual screen."""
    program = shutil.which("Xvfb")
    assert program is not None, "Xvfb is not installed; see .ci/run"
    reading, writing = os.pipe()
    with open(reading) as number:
        command = [program, "-displayfd", str(writing), "-screen", "0", "640x480x24", "-nolisten", "tcp"]
        server = subprocess.Popen(command, pass_fds=[writing], stderr=subprocess.DEVNULL)
        os.close(writing)
        try:
            yield f":{number.readline().strip()}"
        finally:
            server.terminate()
            server.wait()


class TestTkinter(Suite):
    """The whole suite in Tk's main loop."""

    @pytest.fixture
    def recipe(self, display: str) -> Callable[[Question], None]:
        def run(question: Question) -> None:
            root = tkinter.Tk(display)
            asking = tkinter_files.ask(question.call(), question.hear, question.tls)
            tkinter_files.run(root, asking, lambda: root.after_idle(root.quit))
            root.mainloop()
            root.destroy()

        return run


class TestGLib(Suite):
    """The whole suite in GLib's main loop, in a process of the Python that has PyGObject."""

    @pytest.fixture
    def recipe(self, tmp_path: Path) -> Callable[[Question], None]:
        assert h11.__file__ is not None
        (tmp_path / "h11").symlink_to(Path(h11.__file__).parent)

        def run(question: Question) -> None:
            site: dict[str, Any] = {"endpoint": question.url, "session": question.session, "limits": question.limits}
            site |= {"timeouts": question.timeouts, "retries": question.retries}
            asked = pickle.dumps((question.text, question.cafile, site))
            with subprocess.Popen(
                [SYSTEM_PYTHON, "-c", GLIB, base64.b64encode(asked).decode()],
                env=os.environ | {"PYTHONPATH": f"{ROOT}:{tmp_path}"},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            ) as process:
                assert process.stdout is not None
                assert process.stdin is not None
                for line in process.stdout:
                    event = pickle.loads(base64.b64decode(line))
                    process.stdin.write("leave\n" if question.hear(event) else "go on\n")
                    process.stdin.flush()
            assert process.returncode == 0

        return run
