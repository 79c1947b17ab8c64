import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from .runners import stop_twisted
from .suite import Authority


@pytest.fixture(autouse=True)
def no_proxy_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ignore proxy variables in the environment: these servers are local."""
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(Path(tmp_path_factory.mktemp("authority")))


@pytest.fixture(scope="package", autouse=True)
def stopped_reactor() -> Iterator[None]:
    """Twisted's reactor runs from its first question to the end of these tests."""
    yield
    stop_twisted()
