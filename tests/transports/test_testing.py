"""Every fault of the fault server with every transport, and the examples in its documentation."""

import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from opchat_transports import testing
from opchat_transports.testing import (
    FAULTS,
    FaultServer,
    MemoryServer,
)

from .faulted import (
    EXPECTED,
    LIMITS,
    SITE,
    Ask,
    a_call,
    blocking,
    check,
    clocks,
    on_asyncio,
    on_trio,
    session_for,
    wait_until_asked,
)


def test_every_fault_has_its_outcome() -> None:
    assert EXPECTED.keys() == FAULTS.keys()


@pytest.mark.parametrize("ask", [blocking, on_trio, on_asyncio])
@pytest.mark.parametrize("name", FAULTS)
def test_each_transport_gives_the_outcome_of_each_fault(name: str, ask: Ask) -> None:
    expected = EXPECTED[name]
    with FaultServer(FAULTS[name]) as server:
        events = ask(server.url, limits=LIMITS, timeouts=clocks(expected), session=session_for(expected))
        wait_until_asked(name, server)
    check(name, events, expected, server, server.url)


def play_in_memory(name: str, *, cut: testing.Cut = lambda data: (data,)) -> None:
    expected = EXPECTED[name]
    server = MemoryServer(FAULTS[name], cut=cut)
    call = a_call(limits=LIMITS, timeouts=clocks(expected), session=session_for(expected))
    check(name, list(server.run(call)), expected, server, SITE)


@pytest.mark.parametrize("name", FAULTS)
def test_in_memory_each_fault_has_the_same_outcome(name: str) -> None:
    play_in_memory(name)


@pytest.mark.parametrize("size", [1, 7])
@pytest.mark.parametrize("name", [name for name in FAULTS if name not in ("endless line", "endless answer")])
def test_in_memory_in_small_pieces_each_fault_has_the_same_outcome(name: str, size: int) -> None:
    play_in_memory(name, cut=lambda data: (data[at : at + size] for at in range(0, len(data), size)))


# ---------------------------------------------------------------- documentation

README = (Path(__file__).resolve().parents[2] / "opchat_transports" / "README.md").read_text()
EXAMPLES = [example for example in re.findall(r"```python\n(.*?)```", README, re.DOTALL) if "FaultServer" in example]
IMPORTS = EXAMPLES[0].partition("\n\n\n")[0]
"""The lines that the examples of the docstring and of README share."""
IN_DOCSTRING = textwrap.dedent(
    "".join(re.findall(r"^(?:    .*)?\n", str(testing.__doc__).split("A script is")[0], re.MULTILINE))
)


@pytest.mark.parametrize("example", [*EXAMPLES, f"{IMPORTS}\n\n{IN_DOCSTRING}"], ids=["README", "docstring"])
def test_the_examples_pass_as_they_are(example: str, tmp_path: Path) -> None:
    tests = re.findall(r"^def test_.*\n(?:(?:    .*)?\n)+", example, re.MULTILINE)
    assert all(len(test.strip().splitlines()) <= 8 for test in tests), tests
    for word in ("BlockingTransport", "TrioTransport", "AsyncioTransport"):
        assert sum(word in test for test in tests) == 1
    path = tmp_path / "test_example.py"
    path.write_text(example)
    options = ["-q", "-W", "error", "-p", "no:cacheprovider", f"--rootdir={tmp_path}"]
    command = [sys.executable, "-m", "pytest", *options, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert f"{len(tests)} passed" in done.stdout, done.stdout + done.stderr


def test_importing_it_imports_no_extra() -> None:
    extras = ["anyio", "asyncio", "click", "httpx", "hypothesis", "pytest", "trio", "uvicorn"]
    code = f"import sys, opchat_transports.testing; print([name for name in {extras} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_it_exports_what_it_defines() -> None:
    assert sorted(testing.__all__) == sorted(set(testing.__all__))
    assert all(hasattr(testing, name) for name in testing.__all__)
