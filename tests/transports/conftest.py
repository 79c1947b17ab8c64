import os
from pathlib import Path

import pytest

from opchat_transports import _common

from .command import ENVIRONMENT


@pytest.fixture(autouse=True)
def no_proxy_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """The servers of these tests are on this machine, whatever proxies its environment names."""
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)


@pytest.fixture
def no_back_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the random source says 0, a question is asked again at once."""
    monkeypatch.setattr(_common, "_SHORTEST_BACK_OFF", 0.0)


@pytest.fixture(autouse=True)
def state_of_its_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What the command keeps for --continue, it keeps here."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setitem(ENVIRONMENT, "XDG_STATE_HOME", str(tmp_path / "state"))
