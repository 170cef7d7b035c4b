"""Whole commands that are killed wherever they are: the same command again ends as if nothing had happened."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import warnings
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import Any

import attrs
import pytest

from billhook.cli import main

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs processes that share what is loaded")

SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGHUP, signal.SIGINT)

ROOMS = ("reading", "model", "data", "activations", "search", "repair", "pruning", "plans", "results", "files")
"""Of billhook, by which it is told where a kill hits."""


@attrs.frozen
class Command:
    """A command line without its output, and what it writes there."""

    words: tuple[str, ...]
    file: bool = False

    def run(self, out: Path) -> int:
        """The exit code."""
        again = ("--overwrite",) if out.exists() else ()
        return main([*self.words, "--out", str(out), *again])


@pytest.fixture(scope="module")
def commands(tmp_path_factory: pytest.TempPathFactory, checkpoint: Path, text: Path) -> dict[str, Command]:
    """One for each way through a run."""
    data = ("--calibration", str(text), "--samples", "4", "--seqlen", "16")
    model = str(checkpoint)
    branches = ("--recipe", "blockpruner", "--ratio", "0.2")
    plan = tmp_path_factory.mktemp("made") / "out"
    assert main(["prune", model, "--out", str(plan), *branches, *data]) == 0
    return {
        "a search": Command(("prune", model, *branches, *data)),
        "a search, repaired": Command(
            ("prune", model, "--recipe", "sleb", "--layers", "2", "--estimator", "least-squares", *data)
        ),
        "the default": Command(("prune", model, "--ratio", "0.1", *data)),
        "a plan again": Command(("apply", str(plan), model, "--calibration", str(text))),
        "an export": Command(("export", str(plan), "--to", "blockpruner"), file=True),
    }


def in_a_process(command: Command, out: Path, *, die_at: int | None, by: int) -> list[str]:
    """Run it in a process of its own, which a signal hits at call ``die_at`` of a function of billhook.

    Returns the rooms that the calls were of, one for each; none where the process did not come to its end.
    """
    reading, writing = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # threads of torch that sleep do no harm here
        child = os.fork()
    if child == 0:
        for number in (1, 2):
            os.dup2(os.open(os.devnull, os.O_WRONLY), number)
        for number in SIGNALS[1:3]:
            signal.signal(number, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)  # shells make what runs in the background ignore it
        calls: list[str] = []

        def count(frame: FrameType, event: str, _: Any) -> None:
            if event != "call":
                return
            _, found, rest = frame.f_code.co_filename.rpartition("/framework/billhook/")
            if found:
                calls.append(rest.partition("/")[0])
                if len(calls) == die_at:
                    os.kill(os.getpid(), by)

        sys.setprofile(count)
        try:
            command.run(out)
            sys.setprofile(None)
            with os.fdopen(writing, "w") as told:
                told.write(" ".join(calls))
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as said:
        told_calls = said.read().split()
    os.waitpid(child, 0)
    return told_calls


def content(out: Path) -> bytes:
    return (out / "model.safetensors" if out.is_dir() else out).read_bytes()


def spread(places: Sequence[int], count: int) -> list[int]:
    """So many of them, evenly; all if there are fewer."""
    count = min(count, len(places))
    return [places[number * len(places) // count] for number in range(count)]


def check(command: Command, folder: Path, *, each: int, rooms: Sequence[str] = ROOMS) -> Counter[str]:
    """Kill it at so many places of each of these rooms; how often each was hit."""
    whole = folder / "whole"
    calls = in_a_process(command, whole, die_at=None, by=0)
    assert len(calls) > each, "it came to its end"
    there = folder / "there"
    hit: Counter[str] = Counter()
    for room in rooms:
        for at in spread([number for number, called in enumerate(calls, 1) if called == room], each):
            by = SIGNALS[hit.total() % len(SIGNALS)]
            there.mkdir()
            out = there / "out"
            in_a_process(command, out, die_at=at, by=by)
            hit[room] += 1
            if out.exists():
                assert content(out) == content(whole), (room, at, by)
            assert command.run(out) == 0, (room, at, by)
            assert content(out) == content(whole), (room, at, by)
            assert [path.name for path in there.iterdir()] == ["out"], (room, at, by)
            shutil.rmtree(there)
    return hit


NAMES = ("a search", "a search, repaired", "the default", "a plan again", "an export")


@pytest.mark.parametrize("name", NAMES)
def test_a_command_that_is_killed_is_made_good_by_the_same_command(
    name: str, commands: dict[str, Command], tmp_path: Path
) -> None:
    """Once in every third room; the first three commands, which work in all rooms, take all of them."""
    assert check(commands[name], tmp_path, each=1, rooms=ROOMS[NAMES.index(name) % 3 :: 3]).total() >= 1


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_commands_are_killed_in_every_phase(commands: dict[str, Command], tmp_path: Path) -> None:
    """200 kills and more, in every room that works on something."""
    hit: Counter[str] = Counter()
    for number, name in enumerate(NAMES):
        folder = tmp_path / str(number)
        folder.mkdir()
        hit += check(commands[name], folder, each=6)
    assert hit.total() >= 200
    assert min(hit[room] for room in ROOMS) >= 6, hit
    print(hit.total(), "kills:", dict(hit))
