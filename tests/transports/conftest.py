import asyncio
import gc
import logging
import os
import ssl
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trustme
import uvloop

from opchat_transports._serving import OncePerSecond  # private: loggers are global to the process

from .asking import ASKS, Ask, full_queue, open_files
from .command import ENVIRONMENT
from .on_asyncio import Main, Run
from .peer import PATIENCE
from .proxies import Net, Nets
from .tls import FAULTS, certificate, trusting


@pytest.fixture(autouse=True, scope="module")
def what_is_there_stays() -> None:
    """Objects left by earlier modules are frozen, so that `gc.collect()`, which every test here calls, skips them."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def no_proxy_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ignore proxy variables in the environment: these servers are local."""
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)


@pytest.fixture(autouse=True)
def log_of_its_own() -> None:
    """Reset the log filters, so that earlier tests do not suppress lines of this one."""
    for name in ("uvicorn.error", "opchat_transports.blocking_server"):
        for once in logging.getLogger(name).filters:
            assert isinstance(once, OncePerSecond)
            once._seen.clear()


@pytest.fixture(autouse=True)
def state_of_its_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Keep the command's state in a temporary directory."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setitem(ENVIRONMENT, "XDG_STATE_HOME", str(tmp_path / "state"))


@pytest.fixture(params=ASKS)
def ask(request: pytest.FixtureRequest) -> Ask:
    """Run the test with each transport."""
    return ASKS[request.param]


@pytest.fixture
def nothing_is_left() -> Iterator[None]:
    yield
    gc.collect()  # an unclosed resource raises ResourceWarning, which is an error here


@pytest.fixture
def asyncio_is_silent(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Check that no task and no future was forgotten."""
    yield
    gc.collect()
    assert [record for record in caplog.records if record.name == "asyncio" and record.levelno > logging.INFO] == []


@pytest.fixture
def no_thread_is_left() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    assert {thread for thread in threading.enumerate() if "Trio" not in thread.name} <= before  # trio keeps some itself


@pytest.fixture
def no_file_is_left() -> Iterator[None]:
    gc.collect()
    before = len(open_files())
    yield
    gc.collect()
    assert len(open_files()) <= before


@pytest.fixture(params=[asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Run:
    """Run it on asyncio's loop or uvloop's, and check that no task is left running."""

    async def alone(main: Main) -> Any:
        asyncio.get_running_loop().slow_callback_duration = PATIENCE
        result = await main()
        assert asyncio.all_tasks() == {asyncio.current_task()}
        return result

    def run_alone(main: Main) -> Any:
        with asyncio.Runner(loop_factory=request.param, debug=True) as runner:
            return runner.run(alone(main))

    return run_alone


@pytest.fixture(params=["asyncio", "trio"])
def backend(request: pytest.FixtureRequest) -> str:
    """The backend for `anyio.run`."""
    return str(request.param)


@pytest.fixture
def full_port() -> Iterator[int]:
    """A port that neither accepts nor refuses connections."""
    with full_queue() as port:
        yield port


@pytest.fixture(scope="session")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="session")
def trust(authority: trustme.CA) -> ssl.SSLContext:
    """The authority's certificate, for clients."""
    return trusting(authority)


@pytest.fixture(scope="session")
def certificates(authority: trustme.CA) -> dict[str, ssl.SSLContext]:
    """Servers, one with a good certificate and one with each kind of faulty one."""
    return {kind: certificate(kind, authority) for kind in ("good", *FAULTS)}


@pytest.fixture
def net(certificates: dict[str, ssl.SSLContext]) -> Iterator[Nets]:
    """Start a site and a proxy."""
    with ExitStack() as stack:
        yield partial(Net, stack, certificates)
