"""Conversations in files: private, written whole, and unchanged when read again."""

import os
import stat
from pathlib import Path

import pytest

from opchat_proto import Conversation, Message, Session
from opchat_transports import load, save

TALK = Conversation(
    (Message("user", "Hi"), Message("assistant", "Hell\u00f6\U0001f600")),
    chat_id="c1",
    bot_id="b",
    session=Session("n1", "s1"),
)


@pytest.mark.parametrize("kind", [str, Path])
def test_a_saved_conversation_is_loaded_unchanged(tmp_path: Path, kind: type) -> None:
    path = kind(tmp_path / "talk.json")
    save(TALK, path)
    assert load(path) == TALK
    assert load(path).session == Session("n1", "s1")


def test_the_file_is_private_and_no_other_file_is_left(tmp_path: Path) -> None:
    path = tmp_path / "talk.json"
    for _ in range(2):
        save(TALK, path)
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert os.listdir(tmp_path) == ["talk.json"]


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_failed_save_leaves_the_file_unchanged(step: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "talk.json"
    save(TALK, path)

    def no_space(*_: object) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr(os, step, no_space)
    with pytest.raises(OSError, match=r"^No space left on device$"):
        save(Conversation(), path)
    assert load(path) == TALK
    assert os.listdir(tmp_path) == ["talk.json"]


@pytest.mark.parametrize("text", ["", "{", "[]", '{"messages": 5}', "\xff", "[" * 100_000, '{"name": "talk"}', "{}"])
def test_a_file_without_a_conversation_is_a_value_error(tmp_path: Path, text: str) -> None:
    path = tmp_path / "talk.json"
    path.write_text(text, "latin-1")
    with pytest.raises(ValueError):  # noqa: PT011  # each has words of its own
        load(path)


def test_a_missing_file_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        load(tmp_path / "none.json")


def test_a_missing_directory_is_an_os_error_that_names_the_file(tmp_path: Path) -> None:
    path = tmp_path / "none" / "talk.json"
    with pytest.raises(FileNotFoundError) as caught:
        save(TALK, path)
    assert caught.value.filename == str(path)


def test_links_to_each_other_are_an_os_error(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to(tmp_path / "b")
    (tmp_path / "b").symlink_to(tmp_path / "a")
    with pytest.raises(OSError, match=r"loop|symbolic links"):
        save(TALK, tmp_path / "a")


def test_a_name_may_be_as_long_as_the_system_allows(tmp_path: Path) -> None:
    path = tmp_path / ("x" * 250)
    save(TALK, path)
    assert load(path) == TALK
