"""The packages as a whole: their exports, and the imports they must not have."""

import ast
import importlib
import inspect
import pickle
import pkgutil
import pydoc
import re
import subprocess
import sys
import traceback
import typing
from pathlib import Path
from typing import Any

import pytest

import opchat_proto
import opchat_transports

ROOT = Path(__file__).resolve().parents[1]
MODULES = sorted((ROOT / "opchat_proto").glob("_[!_]*.py"))

IMPURE = {
    "asyncio", "click", "concurrent", "httpx", "importlib", "io", "logging", "multiprocessing", "os", "pathlib",
    "random", "rich", "secrets", "select", "selectors", "shutil", "signal", "socket", "ssl", "subprocess", "tempfile",
    "threading", "time", "trio", "urllib.request", "uuid",
}  # fmt: skip


def imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            found |= {str(node.module)}
    return found | {name.split(".")[0] for name in found}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.name)
def test_the_core_imports_no_io_no_clock_and_no_random_source(path: Path) -> None:
    assert imports(path) & IMPURE == set()


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.name)
def test_the_core_opens_and_prints_nothing(path: Path) -> None:
    names = {node.id for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Name)}
    assert names & {"open", "print", "input", "exec", "eval", "__import__"} == set()


def test_the_package_exports_the_union_of_its_modules() -> None:
    union = {"__version__"}
    for path in MODULES:
        union |= set(getattr(importlib.import_module(f"opchat_proto.{path.stem}"), "__all__", ()))
    assert set(opchat_proto.__all__) == union
    assert sorted(opchat_proto.__all__) == sorted(set(opchat_proto.__all__))
    assert all(hasattr(opchat_proto, name) for name in opchat_proto.__all__)


PUBLIC = [
    module.__name__
    for package in (opchat_proto, opchat_transports)
    for module in (
        package,
        *(
            importlib.import_module(found.name)
            for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")
            if not any(part.startswith("_") for part in found.name.split("."))
        ),
    )
]


def exports(module: str) -> dict[str, Any]:
    found = importlib.import_module(module)
    return {name: getattr(found, name) for name in getattr(found, "__all__", ())}


EXPORTS = [(module, name) for module in PUBLIC for name in exports(module)]


def test_two_public_objects_never_share_a_name() -> None:
    things: dict[str, list[object]] = {}
    for module, name in EXPORTS:
        thing = exports(module)[name]
        if not any(thing is other for other in things.setdefault(name, [])):
            things[name].append(thing)
    assert {name: found for name, found in things.items() if len(found) > 1} == {}


@pytest.mark.parametrize(("module", "name"), EXPORTS)
def test_a_public_class_names_the_module_where_it_can_be_imported(module: str, name: str) -> None:
    thing = exports(module)[name]
    if isinstance(thing, type):
        assert "._" not in thing.__module__
        assert pickle.loads(pickle.dumps(thing)) is thing
        assert inspect.getmodule(thing) is sys.modules[thing.__module__]
        assert pydoc.render_doc(thing).startswith("Python Library Documentation: class ")
        # It raises NameError for an annotation that only the file's own imports could resolve.
        typing.get_type_hints(thing, vars(opchat_proto) | vars(sys.modules[thing.__module__]))


def test_a_traceback_names_the_public_module() -> None:
    error = opchat_transports.ReplyBroken(opchat_proto.Broken(opchat_proto.Reason.LOST, "no way"), "")
    [*_, line] = traceback.format_exception_only(error)
    assert line.startswith("opchat_transports.ReplyBroken: ")
    assert repr(opchat_proto.Live) == "<class 'opchat_proto.Live'>"


@pytest.mark.parametrize(
    "package",
    [
        "opchat_proto",
        "opchat_proto.strategies",
        "opchat_transports",
        "opchat_transports.cli",
        "opchat_transports.many",
        "opchat_transports.testing",
    ],
)
def test_the_docstring_of_a_package_has_one_line_for_each_module(package: str) -> None:
    found = importlib.import_module(package)
    lines = re.findall(r"^ +(?:[a-z ]+ )?(\w+)(?:\.py)?  +\S", str(found.__doc__), re.MULTILINE)
    modules = {module.name for module in pkgutil.iter_modules(found.__path__)} - {"__main__"}
    assert {name for name in lines if name in modules} == modules
    assert [name for name in lines if lines.count(name) > 1] == []


@pytest.mark.parametrize("path", sorted((ROOT / "opchat_transports").rglob("*.py")), ids=lambda path: path.name)
def test_the_transports_import_only_public_names_of_the_core(path: Path) -> None:
    nodes = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ImportFrom)]
    of_the_core = [node for node in nodes if str(node.module).partition(".")[0] == "opchat_proto"]
    assert {node.module for node in of_the_core} <= {"opchat_proto", "opchat_proto.strategies"}
    named = {alias.name for node in of_the_core if node.module == "opchat_proto" for alias in node.names}
    assert named <= set(opchat_proto.__all__)
    assert not any(name.startswith("opchat_proto._") for name in imports(path))


TRANSPORTS = ["blocking_sockets", "trio_streams", "asyncio_streams", "asyncio_httpx"]
BESIDE = ["_async", "_asyncio", "_base", "_common", "_httpx", "_proxies", "_sockets", "_tls", "_visits"]
DECISIONS = {"Awaiting", "Client", "Clock", "Exchange", "Flow", "ReplyDecoder", "Retries", "SSEDecoder"}


@pytest.mark.parametrize("module", [*TRANSPORTS, *BESIDE])
def test_a_transport_makes_no_decisions(module: str) -> None:
    """Decisions belong to `Call`."""
    path = ROOT / "opchat_transports" / f"{module}.py"
    nodes = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ImportFrom)]
    assert {node.module for node in nodes if str(node.module).startswith("opchat_proto")} <= {"opchat_proto"}
    assert {alias.name for node in nodes for alias in node.names} & DECISIONS == set()


EXTRAS = "anyio click httpx hypothesis rich trio uvicorn"


@pytest.mark.parametrize(
    ("package", "names"),
    [
        ("opchat_proto", f"{EXTRAS} asyncio email ssl threading"),
        ("opchat_transports", f"{EXTRAS} asyncio"),
        ("opchat_transports.blocking_sockets", f"{EXTRAS} asyncio"),
        ("opchat_transports.asyncio_streams", EXTRAS),
        ("opchat_transports.trio_streams", EXTRAS.replace(" trio", "") + " asyncio"),
    ],
)
def test_importing_a_package_imports_none_of_the_extras(package: str, names: str) -> None:
    code = f"import sys, {package}; print([name for name in {names.split()} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


@pytest.mark.parametrize(
    ("module", "package", "extra"),
    [
        ("opchat_transports.trio_streams", "trio", "trio"),
        ("opchat_transports.asyncio_httpx", "anyio", "httpx"),
        ("opchat_transports.asgi", "anyio", "serve"),
        ("opchat_transports.uvicorn_protocol", "uvicorn", "serve"),
        ("opchat_proto.strategies", "hypothesis", "fuzz"),
    ],
)
def test_a_module_whose_package_is_missing_names_the_extra(
    module: str, package: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name == module or name.partition(".")[0] == package]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ModuleNotFoundError) as raised:
        importlib.import_module(module)
    assert str(raised.value).endswith(f': pip install "opchat[{extra}]"')
    assert str(raised.value.name).partition(".")[0] == package


def test_a_client_of_httpx_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    from opchat_transports.asyncio_httpx import HttpxTransport

    monkeypatch.setitem(sys.modules, "httpx", None)
    with pytest.raises(ModuleNotFoundError, match=r'pip install "opchat\[httpx\]"'):
        HttpxTransport("http://site.example", proxy=None)


@pytest.mark.parametrize("module", sorted((ROOT / "opchat_proto").rglob("*.py")), ids=lambda path: path.stem)
def test_no_possessive_quantifier_repeats_what_can_backtrack(module: Path) -> None:
    """Early versions of CPython 3.11 mishandle them. `(?:(?>...))*+` is equivalent and works."""
    assert re.findall(r"(?<![()])\)[*+?]\+.*", module.read_text()) == []
