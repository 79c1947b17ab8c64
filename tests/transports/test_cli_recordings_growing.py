"""A recording is written while bytes arrive, in a thread of its own."""

import threading
from pathlib import Path

from opchat_transports.cli.commands.record import _written_as_it_comes  # the only way to reach that moment

from .command import PATIENCE


class Changed(threading.Event):
    """The end comes after a change was noticed and before it is cleared."""

    def __init__(self) -> None:
        super().__init__()
        self.noticed, self.ended = threading.Event(), threading.Event()

    def set(self) -> None:
        super().set()
        if self.noticed.is_set():
            self.ended.set()

    def clear(self) -> None:
        self.noticed.set()
        assert self.ended.wait(PATIENCE)
        super().clear()


def test_an_end_that_comes_with_a_change_is_not_missed(tmp_path: Path) -> None:
    changed = Changed()
    with _written_as_it_comes(tmp_path / "a", lambda: None, changed):
        changed.set()
        assert changed.noticed.wait(PATIENCE)
