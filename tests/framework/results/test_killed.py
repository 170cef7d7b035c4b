"""A save that is killed at any touch of the disk: the output is absent or whole, and the next save mends the rest."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from billhook import Budget, Pruner, PruneResult
from billhook.testing import tiny_model, tiny_tokens

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs processes that share what is loaded")

TOUCHES = ("open", "os.", "shutil.", "tempfile.", "fcntl.", "ctypes.")
"""Audit events of the interpreter that say that files are worked on."""


@pytest.fixture(scope="module")
def results() -> tuple[PruneResult, PruneResult]:
    """What was saved before, and what is saved now."""
    pruner = Pruner.following("replaceme-ls")
    first, second = (
        pruner.prune(tiny_model(), calibration=tiny_tokens(), budget=Budget(layers=layers)) for layers in (1, 2)
    )
    return first, second


def in_a_process(work: Callable[[], object], *, die_at: int | None, by: int = signal.SIGKILL) -> int:
    """Do ``work`` in a process of its own, which a signal hits at touch ``die_at`` of a file; the number of touches."""
    reading, writing = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # threads of torch that sleep do no harm here
        child = os.fork()
    if child == 0:
        touches = 0

        def count(event: str, _: object) -> None:
            nonlocal touches
            if event.startswith(TOUCHES):
                touches += 1
                if touches == die_at:
                    os.kill(os.getpid(), by)

        sys.addaudithook(count)
        try:
            work()
            os.write(writing, str(touches).encode())
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as said:
        told = said.read()
    os.waitpid(child, 0)
    return int(told or -1)


def contents(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in sorted(folder.iterdir())}


def weights(folder: Path) -> bytes:
    return (folder / "model.safetensors").read_bytes()


@pytest.fixture
def saved(results: tuple[PruneResult, PruneResult], tmp_path: Path) -> Iterator[tuple[Path, Path, Path]]:
    """A folder to work in, and both results as they are when nobody disturbs."""
    old, new = tmp_path / "old", tmp_path / "new"
    results[0].save(old, verify=False)
    results[1].save(new, verify=False)
    there = tmp_path / "there"
    there.mkdir()
    yield there, old, new
    shutil.rmtree(there)


def kills(total: int, few: bool) -> list[int]:
    """Every touch; or some twenty, spread over all."""
    return sorted({*range(1, total + 1, max(1, total // 20))}) if few else [*range(1, total + 1)]


def check_new(saved: tuple[Path, Path, Path], result: PruneResult, *, few: bool, by: int = signal.SIGKILL) -> int:
    there, _, new = saved
    out = there / "out"
    total = in_a_process(lambda: result.save(out, verify=False), die_at=None)
    assert weights(out) == weights(new)
    assert total > 20
    for touch in kills(total, few):
        shutil.rmtree(out, ignore_errors=True)
        in_a_process(lambda: result.save(out, verify=False), die_at=touch, by=by)
        if out.exists():
            assert contents(out).keys() == contents(new).keys(), touch
            assert weights(out) == weights(new), touch
        result.save(out, verify=False, overwrite=True)
        assert weights(out) == weights(new), touch
        assert [file.name for file in there.iterdir()] == ["out"], touch
    return len(kills(total, few))


def check_overwrite(saved: tuple[Path, Path, Path], result: PruneResult, *, few: bool, by: int = signal.SIGKILL) -> int:
    there, old, new = saved
    out = there / "out"

    def prepare() -> None:
        shutil.rmtree(out, ignore_errors=True)
        shutil.copytree(old, out)

    prepare()
    total = in_a_process(lambda: result.save(out, verify=False, overwrite=True), die_at=None)
    assert weights(out) == weights(new)
    for touch in kills(total, few):
        prepare()
        in_a_process(lambda: result.save(out, verify=False, overwrite=True), die_at=touch, by=by)
        if out.exists():
            assert weights(out) in (weights(old), weights(new)), touch
        result.save(out, verify=False, overwrite=True)
        assert weights(out) == weights(new), touch
        assert [file.name for file in there.iterdir()] == ["out"], touch
    return len(kills(total, few))


def test_a_killed_save_leaves_nothing_or_all(
    saved: tuple[Path, Path, Path], results: tuple[PruneResult, PruneResult]
) -> None:
    assert check_new(saved, results[1], few=True) >= 15


def test_a_killed_overwrite_leaves_the_old_one_or_the_new(
    saved: tuple[Path, Path, Path], results: tuple[PruneResult, PruneResult]
) -> None:
    assert check_overwrite(saved, results[1], few=True) >= 15


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("by", [signal.SIGKILL, signal.SIGTERM, signal.SIGHUP], ids=lambda by: by.name)
def test_a_save_can_be_killed_at_every_touch_of_a_file(
    saved: tuple[Path, Path, Path], results: tuple[PruneResult, PruneResult], by: signal.Signals
) -> None:
    """Some 130 kills by each signal."""
    kills = [check(saved, results[1], few=False, by=by) for check in (check_new, check_overwrite)]
    assert min(kills) >= 40
    assert sum(kills) >= 100
