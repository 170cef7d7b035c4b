"""Renames that replace nothing, by the system's call and without it."""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path

import pytest

from billhook.files import renaming
from billhook.files.renaming import exchange, rename_new

SYSTEMS = {
    "the system's call": renaming._SYSTEM,
    "no such call": None,
    "a file system that cannot": lambda source, target, flag: errno.EINVAL,
    "an old kernel": lambda source, target, flag: errno.ENOSYS,
}


@pytest.fixture(params=SYSTEMS, autouse=True)
def _system(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(renaming, "_SYSTEM", SYSTEMS[request.param])


def a_file(path: Path) -> None:
    path.write_text("new")


def a_folder(path: Path) -> None:
    path.mkdir()
    a_file(path / "inside")


def an_empty_folder(path: Path) -> None:
    path.mkdir()


def a_broken_link(path: Path) -> None:
    path.symlink_to("nowhere")


Make = Callable[[Path], None]
FILES_AND_FOLDERS = pytest.mark.parametrize("make", [a_file, a_folder])


def content(path: Path) -> str:
    return (path / "inside" if path.is_dir() else path).read_text()


@FILES_AND_FOLDERS
def test_what_is_new_is_moved(make: Make, tmp_path: Path) -> None:
    make(tmp_path / "a")
    rename_new(tmp_path / "a", tmp_path / "b")
    assert content(tmp_path / "b") == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["b"]


@FILES_AND_FOLDERS
@pytest.mark.parametrize("there", [a_file, a_folder, an_empty_folder, a_broken_link])
def test_nothing_that_is_there_is_replaced(make: Make, there: Make, tmp_path: Path) -> None:
    make(tmp_path / "a")
    there(tmp_path / "b")
    before = (tmp_path / "b").lstat()
    with pytest.raises(FileExistsError):
        rename_new(tmp_path / "a", tmp_path / "b")
    assert content(tmp_path / "a") == "new"
    assert (tmp_path / "b").lstat().st_ino == before.st_ino


@FILES_AND_FOLDERS
def test_where_nothing_can_be_moved_nothing_is_left(make: Make, tmp_path: Path) -> None:
    make(tmp_path / "a")
    with pytest.raises(FileNotFoundError):
        rename_new(tmp_path / "a", tmp_path / "none" / "b")
    with pytest.raises(FileNotFoundError):
        rename_new(tmp_path / "c", tmp_path / "b")
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_two_folders_change_places_or_stay(tmp_path: Path) -> None:
    a_folder(tmp_path / "a")
    an_empty_folder(tmp_path / "b")
    changed = exchange(tmp_path / "a", tmp_path / "b")
    assert (tmp_path / "b" / "inside").exists() == changed
    assert (tmp_path / "a" / "inside").exists() == (not changed)
