"""The recipes are short, use only public names, and are listed in the README beside them."""

import ast
import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

import opchat_proto
from opchat_transports.testing import FaultServer

from .suite import STREAMS, answering, events_of

TESTS = Path(__file__).resolve().parents[1]
README = (TESTS / "embedding" / "README.md").read_text()

RECIPES = {
    "embedding/selectors_loop.py": "`selectors`, many streams on one thread",
    "embedding/threads_queue.py": "blocking sockets in threads",
    "embedding/asyncio_streams.py": "asyncio's streams",
    "embedding/asyncio_protocol.py": "`asyncio.Protocol`",
    "embedding/trio_streams.py": "trio",
    "embedding/anyio_streams.py": "anyio, on asyncio or trio",
    "embedding/twisted_protocol.py": "Twisted",
    "embedding/tornado_iostream.py": "Tornado",
    "embedding/gevent_sockets.py": "gevent",
    "embedding/qt_socket.py": "PySide6, `QSslSocket`",
    "embedding/pygame_frames.py": "pygame, between frames",
    "external/tkinter_files.py": "Tkinter, file handlers and `after`",
    "external/glib_sources.py": "GLib (PyGObject)",
    "embedding/http_client.py": "`http.client`",
    "embedding/http_requests.py": "requests",
    "embedding/http_urllib3.py": "urllib3",
    "embedding/http_httpx.py": "httpx or httpx2, `Client`",
    "embedding/http_httpx_async.py": "httpx or httpx2, `AsyncClient`",
    "embedding/http_aiohttp.py": "aiohttp",
    "external/pyodide_fetch.py": "a page's `fetch` (Pyodide)",
    "embedding/snapshot.py": "continues in another process, or from one point twice",
}

GUI = {"embedding/qt_socket.py", "embedding/pygame_frames.py"}  # these need the extra `gui`
HEADLESS = {"SDL_VIDEODRIVER": "dummy", "SDL_AUDIODRIVER": "dummy", "PYGAME_HIDE_SUPPORT_PROMPT": "1"}
MACHINES = {"Call", "HTTPCall", "Client"}
LONG = {  # the maximum for those that handle sockets, callbacks and timers themselves; for all others: 45
    "embedding/selectors_loop.py": 80,
    "embedding/twisted_protocol.py": 58,
    "embedding/pygame_frames.py": 56,
    "external/tkinter_files.py": 80,
    "external/glib_sources.py": 80,
}


def names_used(path: str) -> list[str]:
    """The public names that the recipe imports from the library."""
    return [
        alias.name
        for node in ast.walk(ast.parse((TESTS / path).read_text()))
        if isinstance(node, ast.ImportFrom) and node.module == "opchat_proto"
        for alias in node.names
    ]


def lines_of(path: str) -> int:
    return len((TESTS / path).read_text().splitlines())


def table() -> list[str]:
    """The README's table."""
    rows = ["| loop | drives | lines | recipe |", "| --- | --- | --- | --- |"]
    for path, loop in RECIPES.items():
        (machine,) = MACHINES & set(names_used(path))
        link = path.removeprefix("embedding/") if path.startswith("embedding/") else f"../{path}"
        rows.append(f"| {loop} | `{machine}` | {lines_of(path)} | [{Path(path).name}]({link}) |")
    return rows


def test_the_readme_lists_each_recipe_with_its_lines_and_machine(capsys: pytest.CaptureFixture[str]) -> None:
    with capsys.disabled():
        print()
        for path in RECIPES:
            print(f"{path:32}{lines_of(path):4} lines: {', '.join(names_used(path))}")
    assert "\n".join(table()) in README


def test_every_recipe_is_in_the_table() -> None:
    found = {
        path.relative_to(TESTS).as_posix()
        for folder in ("embedding", "external")
        for path in (TESTS / folder).glob("*.py")
        if re.search(r"^from opchat_proto import .*\b(?:Call|HTTPCall|Client)\b", path.read_text(), re.MULTILINE)
        and not path.name.startswith(("test_", "suite", "runners", "gui_runners"))
    }
    assert found == set(RECIPES)


@pytest.mark.parametrize("path", RECIPES)
def test_a_recipe_is_short_and_says_what_it_is(path: str) -> None:
    assert lines_of(path) <= LONG.get(path, 45)
    assert ast.get_docstring(ast.parse((TESTS / path).read_text()))


BY_THEMSELVES = [path for path in RECIPES if path.startswith("embedding/")]


@pytest.mark.parametrize("path", [path for path in BY_THEMSELVES if find_spec("PySide6") or path not in GUI])
def test_a_recipe_runs_by_itself(path: str) -> None:
    answer = STREAMS["plain"]
    with FaultServer(answering(answer)) as server:
        command = [sys.executable, str(TESTS / path), server.url]
        done = subprocess.run(command, env=os.environ | HEADLESS, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [repr(event) for event in events_of(answer)]


@pytest.mark.parametrize("path", RECIPES)
def test_a_recipe_uses_only_public_names(path: str) -> None:
    tree = ast.parse((TESTS / path).read_text())
    modules = {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    modules |= {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    assert {module for module in modules if module.startswith(("opchat", "tests"))} == {"opchat_proto"}
    assert names_used(path)
    assert set(names_used(path)) <= set(opchat_proto.__all__)
    attributes = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    assert {name for name in attributes if re.match("_[^_]", name)} == set()
