"""Two runs at the same time, into one place or on one journal: one does its work, the other is told before any."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.framework.cli.conftest import Run

from billhook import Plan

WAITS = """
import time
from pathlib import Path
from billhook import hookimpl

HERE = Path(__file__).parent

@hookimpl
def billhook_after_cut(state):
    (HERE / "under-way").touch()
    while not (HERE / "go-on").exists():
        time.sleep(0.02)
"""

BLOCKS = ("--recipe", "blockpruner", "--ratio", "0.2")


@contextmanager
def under_way(folder: Path, *words: object) -> Iterator[None]:
    """A run in a process of its own, which stands at its first cut inside; in the end it must succeed."""
    folder.mkdir()
    plugin = folder / "waits.py"
    plugin.write_text(WAITS)
    command = [sys.executable, "-m", "billhook", *map(str, words), "--plugin", str(plugin)]
    first = subprocess.Popen(command, env={**os.environ, "OMP_NUM_THREADS": "1"}, stderr=subprocess.PIPE, text=True)
    try:
        while not (folder / "under-way").exists():
            assert first.poll() is None, first.stderr and first.stderr.read()
            time.sleep(0.02)
        yield
    finally:
        (folder / "go-on").touch()
        _, said = first.communicate(timeout=120)
    assert first.returncode == 0, said


@pytest.mark.timeout(180)
@pytest.mark.parametrize("again", [(), ("--overwrite",)])
def test_of_two_runs_into_one_folder_the_second_is_refused_before_any_work(
    again: tuple[str, ...], run: Run, checkpoint: Path, data: tuple[str, ...], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    with under_way(tmp_path / "first", "prune", checkpoint, *BLOCKS, *data, "--out", out):
        second = run("prune", checkpoint, *BLOCKS, *data, "--out", out, *again)
        assert (second.code, second.err.count("\n")) == (1, 1)
        assert "is being written by another run" in " ".join(second.err.split())
        assert not out.exists()
    assert len(Plan.load(out).cuts) >= 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["first", "out"]


@pytest.mark.timeout(180)
def test_of_two_runs_on_one_journal_the_second_is_refused_before_any_work(
    run: Run, checkpoint: Path, data: tuple[str, ...], tmp_path: Path
) -> None:
    journal = tmp_path / "mine.jsonl"
    words = ("prune", checkpoint, *BLOCKS, *data, "--journal", journal)
    with under_way(tmp_path / "first", *words, "--out", tmp_path / "out"):
        before = journal.read_bytes()
        second = run(*words, "--out", tmp_path / "other")
        assert (second.code, second.err.count("\n")) == (1, 1)
        assert f"Another run works on the journal {journal}" in " ".join(second.err.split())
        assert journal.read_bytes() == before
    assert len(Plan.load(tmp_path / "out").cuts) >= 1
    assert not (tmp_path / "other").exists()
