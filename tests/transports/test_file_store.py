"""Uploaded files in a directory: private, for an hour, bounded."""

import math
import os
import stat
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from opchat_transports.file_store import FileStore, StoredFile


def put(store: FileStore, data: bytes = b"data", name: str = "cat.png") -> StoredFile:
    writer = store.begin(name, "image/png")
    writer.write(data)
    return writer.keep()


def age(directory: Path, seconds: float) -> None:
    for path in directory.iterdir():
        os.utime(path, (time.time() - seconds,) * 2)


def test_a_file_has_a_random_id_and_only_its_owner_can_read_it(tmp_path: Path) -> None:
    store = FileStore(tmp_path / "new")
    file = put(store, name="../\u00e9 .png")
    assert file == StoredFile(file.file_id, "../\u00e9 .png", "image/png", 4, tmp_path / "new" / f"{file.file_id}.data")
    assert (store.find(file.file_id), file.path.read_bytes()) == (file, b"data")
    assert FileStore(tmp_path / "new").find(file.file_id) == file
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "new").iterdir()}
    assert (set(modes.values()), len(modes), stat.S_IMODE((tmp_path / "new").stat().st_mode)) == ({0o600}, 2, 0o700)
    assert repr(store) == f"<FileStore in '{tmp_path}/new'>"


@pytest.mark.parametrize("file_id", ["", "0" * 32, "../x", "\0", "A" * 32, "x" * 5000])
def test_a_malformed_id_finds_nothing(file_id: str, tmp_path: Path) -> None:
    store = FileStore(tmp_path)
    file = put(store)
    assert (store.find(file_id), store.find_all([file.file_id, file_id])) == (None, None)
    assert (store.find_all([file.file_id]), store.find_all([])) == ((file,), ())


def test_a_file_is_gone_after_an_hour(tmp_path: Path) -> None:
    store = FileStore(tmp_path)
    (tmp_path / "other.txt").write_text("not ours")
    old = put(store)
    age(tmp_path, 3601)
    assert store.find(old.file_id) is None
    assert store.purge() == 0
    assert {path.name for path in tmp_path.iterdir()} == {"other.txt"}
    put(store)
    age(tmp_path, 3601)
    FileStore(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"other.txt"}


def test_files_are_deleted_after_an_hour_even_without_requests(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    timers: list[Any] = []

    class Timer(threading.Timer):
        def start(self) -> None:
            timers.append(self)

    monkeypatch.setattr(threading, "Timer", Timer)
    store = FileStore(tmp_path)
    assert timers == []
    put(store)
    put(store)
    assert [(timer.interval, timer.daemon) for timer in timers] == [(3601, True)]
    timers[0].function()
    assert len(timers) == 2
    age(tmp_path, 3601)
    timers[1].function()
    assert (len(timers), list(tmp_path.iterdir())) == (2, [])


def test_an_abandoned_file_leaves_nothing(tmp_path: Path) -> None:
    store = FileStore(tmp_path)
    writer = store.begin("a.png", "image/png")
    writer.write(b"data")
    writer.discard()
    writer.discard()
    assert list(tmp_path.iterdir()) == []
    writer = store.begin("a.png", "image/png")
    file = writer.keep()
    writer.discard()
    assert (store.find(file.file_id), file.size) == (file, 0)


def test_a_file_that_is_named_often_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = FileStore(tmp_path)
    file, other = put(store), put(store)
    asked = []
    find = FileStore.find

    def noted(store: FileStore, file_id: str) -> StoredFile | None:
        asked.append(file_id)
        return find(store, file_id)

    monkeypatch.setattr(FileStore, "find", noted)
    assert store.find_all([file.file_id, other.file_id] * 3) == (file, other) * 3
    assert sorted(asked) == sorted([file.file_id, other.file_id])


def test_all_files_together_are_bounded(tmp_path: Path) -> None:
    store = FileStore(tmp_path, total_bytes=3_000_000)
    put(store, bytes(1_500_000))
    writer = store.begin("b.png", "image/png")
    writer.write(bytes(1_400_000))
    with pytest.raises(OSError, match="the store has no room for this file"):
        writer.write(bytes(1_100_000))
    writer.discard()
    for _ in range(10):
        put(store)
    with pytest.raises(OSError, match="no room"):  # files from before a restart count too
        FileStore(tmp_path, total_bytes=1_500_000).begin("c.png", "image/png")


@pytest.mark.parametrize("data", [b"", b"x", bytes(4096)])
def test_the_number_of_small_files_is_bounded(data: bytes, tmp_path: Path) -> None:
    store = FileStore(tmp_path, total_bytes=3 * 4096)
    for _ in range(3):
        put(store, data)
    with pytest.raises(OSError, match="no room"):
        store.begin("d.png", "image/png")
    assert len(list(tmp_path.iterdir())) == 6


class Counts:
    """How often the directory was read. The clock stands still, and moves by `seconds` with each read."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.number = 0
        self.seconds = 0.0
        self.now = time.monotonic()
        monkeypatch.setattr(time, "monotonic", lambda: self.now)
        monkeypatch.setattr(os, "scandir", partial(self.scan, os.scandir))

    def scan(self, scandir: Callable[[Path], Any], path: Path) -> Any:
        self.number += 1
        self.now += self.seconds
        return scandir(path)


def test_the_directory_is_not_read_for_each_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = FileStore(tmp_path)
    counts = Counts(monkeypatch)
    for _ in range(100):
        put(store)
    assert counts.number == 1
    counts.now += 1
    put(store)
    assert counts.number == 2


def test_the_directory_is_not_read_for_each_file_that_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = FileStore(tmp_path, total_bytes=2 * 4096)
    counts = Counts(monkeypatch)
    put(store)
    writer = store.begin("a.png", "image/png")
    for _ in range(100):
        with pytest.raises(OSError, match="no room"):
            store.begin("b.png", "image/png")
    writer.discard()
    put(store)
    assert counts.number == 1


def test_a_long_count_is_followed_by_a_long_pause(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = FileStore(tmp_path)
    counts = Counts(monkeypatch)
    counts.seconds = 2.0
    begin = counts.now
    put(store)
    counts.now = begin + 19
    put(store)
    assert counts.number == 1
    counts.now = begin + 20
    put(store)
    assert counts.number == 2


def test_files_of_another_process_count_after_a_second(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, other = FileStore(tmp_path, total_bytes=2 * 4096), FileStore(tmp_path)
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now)
    put(store)
    put(other)
    now += 1
    with pytest.raises(OSError, match="no room"):
        store.begin("b.png", "image/png")


def test_a_store_is_independent_of_the_current_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    store = FileStore("files")
    monkeypatch.chdir("/")
    assert put(store).path.parent == tmp_path / "files"


def test_the_bound_holds_for_files_written_at_the_same_time(tmp_path: Path) -> None:
    store = FileStore(tmp_path, total_bytes=500_000)
    writers = [store.begin("a.png", "image/png") for _ in range(10)]
    written = 0
    for writer in writers * 10:
        with suppress(OSError):
            writer.write(bytes(10_000))
            written += 10_000
    assert 400_000 < written <= 500_000
    for writer in writers:
        writer.discard()
    put(store, bytes(490_000))


NOTHING = [{"total_bytes": 0}, {"keep_seconds": 0}, {"types": ()}]
NO_NUMBERS = [{"total_bytes": math.nan}, {"keep_seconds": math.nan}, {"keep_seconds": math.inf}]


def test_types_in_one_str_are_refused(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match=r"^types: expected several extensions, got one str$"):
        FileStore(tmp_path, types="png")


@pytest.mark.parametrize("options", [*NOTHING, *NO_NUMBERS])
def test_bounds_below_one_are_refused(options: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"^expected total_bytes and keep_seconds of at least 1, and at least one"):
        FileStore(tmp_path, **options)


def test_a_directory_that_cannot_be_created_raises(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match=r"Not a directory|File exists"):
        FileStore(tmp_path / "file" / "new")
    assert FileStore(tmp_path, types=[".PNG", "Jpg"]).types == ("png", "jpg")
