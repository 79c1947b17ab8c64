"""Hypothesis profiles, and the environment of child processes."""

import gc
import importlib.util
import os
import signal
import sys
from collections import Counter

import pytest
from hypothesis import HealthCheck, settings

# A process started in the background ignores Ctrl-C, and under nohup also SIGHUP. So would the commands that tests
# start and interrupt.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
if sys.platform != "win32" and signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)

# Tests start hundreds of processes. With PYTHONDONTWRITEBYTECODE set, each of them would compile all modules again.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

# Derandomized: a commit passes or fails by its content, on every machine and every day. There are no deadlines and no
# checks for slow drawing, because a busy machine says nothing about the code. `--hypothesis-profile=NAME` selects:
# "opchat" is a sample that takes minutes, "ci" is what `.ci/run` runs once, "explore" looks for new cases.
settings.register_profile(
    "opchat",
    deadline=None,
    derandomize=True,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
    max_examples=20,
    stateful_step_count=25,
)
settings.register_profile("ci", settings.get_profile("opchat"), max_examples=300)
settings.register_profile("explore", settings.get_profile("opchat"), derandomize=False, max_examples=20_000)
settings.load_profile("opchat")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Without the plugin pytest-timeout, the option `timeout` in pyproject.toml would be unknown, which is an error."""
    if importlib.util.find_spec("pytest_timeout") is None:
        parser.addini("timeout", "of each test, where pytest-timeout is installed")


@pytest.fixture(scope="session")
def thorough(pytestconfig: pytest.Config) -> bool:
    """Whether to run every case, as `.ci/run` does once, or a sample."""
    return _is_thorough(pytestconfig)


def _is_thorough(config: pytest.Config) -> bool:
    return bool(config.getoption("--hypothesis-profile") == "ci")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Keep every nth case of a test marked with `sample(n)`."""
    if _is_thorough(config):
        return
    seen: Counter[str] = Counter()
    kept: list[pytest.Item] = []
    left_out: list[pytest.Item] = []
    for item in items:
        marker = item.get_closest_marker("sample")
        name = item.nodeid.partition("[")[0].rpartition("::")[2]
        (kept if marker is None or seen[name] % marker.args[0] == 0 else left_out).append(item)
        seen[name] += marker is not None
    items[:] = kept
    config.hook.pytest_deselected(items=left_out)


def pytest_collection_finish() -> None:
    """Freeze all present objects, so that the many `gc.collect()` of these tests skip them: 0.1 ms instead of 50."""
    gc.collect()
    gc.freeze()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """`-n auto`: two processes for each processor, since half of their time is waiting."""
    return 2 * (os.cpu_count() or 1)
