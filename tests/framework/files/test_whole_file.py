"""Files that are written whole or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from billhook.errors import CheckpointError, OutputExists
from billhook.files import whole_file
from billhook.files.lock import Lock
from billhook.files.whole_file import refuse_file, write_whole


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_file_is_written_and_nothing_else_is_left(overwrite: bool, tmp_path: Path) -> None:
    write_whole(tmp_path / "a", b"one", overwrite=overwrite, what="plan")
    assert (tmp_path / "a").read_bytes() == b"one"
    assert names(tmp_path) == ["a"]


def test_what_is_there_is_replaced_only_if_it_may_be(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"mine")
    with pytest.raises(OutputExists, match="appeared meanwhile, and is left alone"):
        write_whole(tmp_path / "a", b"one", overwrite=False, what="plan")
    assert (tmp_path / "a").read_bytes() == b"mine"
    write_whole(tmp_path / "a", b"one", overwrite=True, what="plan")
    assert (tmp_path / "a").read_bytes() == b"one"
    assert names(tmp_path) == ["a"]


def test_a_draft_that_nobody_works_on_is_deleted_by_the_next_who_writes_there(tmp_path: Path) -> None:
    dead, living, others = (whole_file._draft(tmp_path / name) for name in ("a", "a", "b"))
    dead.close()
    others.close()
    write_whole(tmp_path / "a", b"one", overwrite=False, what="plan")
    assert names(tmp_path) == sorted(["a", living.path.name, others.path.name])
    living.remove()


def test_a_place_is_tried_without_a_trace(tmp_path: Path) -> None:
    refuse_file(tmp_path / "a", overwrite=False, is_ours=lambda _: False, what="plan")
    assert names(tmp_path) == []
    for bad in (tmp_path / "none" / "a", tmp_path / ("n" * 300)):
        with pytest.raises(CheckpointError, match=r"The plan .* cannot be written: .*\. Choose another place\."):
            refuse_file(bad, overwrite=False, is_ours=lambda _: False, what="plan")
    with pytest.raises(OutputExists, match="is there and no plain file"):
        refuse_file(tmp_path, overwrite=True, is_ours=lambda _: True, what="plan")


def test_a_lock_that_a_dead_one_held_is_free(tmp_path: Path) -> None:
    first = Lock(tmp_path / "a")
    first.close()
    second = Lock(tmp_path / "a")
    assert not second.made
    second.remove()
    assert names(tmp_path) == []
