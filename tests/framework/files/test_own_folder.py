"""Folders that go with their process, or when the next one comes."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from billhook.files import own_folder
from billhook.files.lock import Lock, Locked
from billhook.files.own_folder import LOCK, OwnFolder


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def left_by_a_killed_process(parent: Path) -> None:
    """With a content."""
    child = os.fork()
    if child == 0:
        try:
            mine = OwnFolder("a", parent)
            (mine.path / "large").write_text("x" * 1000)
            os.kill(os.getpid(), signal.SIGKILL)
        finally:
            os._exit(1)
    os.waitpid(child, 0)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs processes that share what is loaded")
def test_what_a_killed_process_has_left_goes_with_the_next_of_its_name(tmp_path: Path) -> None:
    left_by_a_killed_process(tmp_path)
    (left,) = tmp_path.iterdir()
    assert (left / "large").exists()
    with OwnFolder("b", tmp_path):
        assert left.exists(), "it has another name"
    with OwnFolder("a", tmp_path) as mine:
        assert names(tmp_path) == [mine.path.name]
    assert names(tmp_path) == []


def test_what_a_living_one_has_stays(tmp_path: Path) -> None:
    with OwnFolder("a", tmp_path) as first, OwnFolder("a", tmp_path) as second:
        assert first.path.exists()
        assert second.path.exists()
        assert first.path != second.path
    first.close()
    assert names(tmp_path) == []


def test_what_is_no_such_folder_stays(tmp_path: Path) -> None:
    (tmp_path / "a-12345678.billhook").mkdir()
    (tmp_path / "a-12345678.billhook" / "mine").touch()  # has no lock
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / LOCK).touch()
    (tmp_path / "a-abcdefgh.billhook").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "a-file1234.billhook").touch()
    before = names(tmp_path)
    OwnFolder("a", tmp_path).close()
    assert names(tmp_path) == before
    assert (tmp_path / "a-12345678.billhook" / "mine").exists()
    assert (tmp_path / "elsewhere" / LOCK).exists()


@pytest.mark.parametrize("error", [Locked(), FileNotFoundError()])
def test_one_that_is_taken_away_before_it_is_locked_is_made_again(
    error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    errors = [error]

    def late(path: Path) -> Lock:
        if errors:
            raise errors.pop()
        return Lock(path)

    monkeypatch.setattr(own_folder, "Lock", late)
    with OwnFolder("a", tmp_path) as mine:
        assert names(tmp_path) == [mine.path.name]


def test_a_place_where_none_can_be_made_is_an_error_of_the_system(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        OwnFolder("a", tmp_path / "none")
