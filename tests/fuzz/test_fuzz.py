"""Whatever is in a file that somebody hands over: a value, or one of our errors, in bounded time and memory.

A small sample runs with all tests; ``pytest -m fuzz`` runs :data:`MANY` of each (``BILLHOOK_FUZZ`` says how many).
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import cast

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzz import targets
from tests.fuzz.mutations import damage

MANY = int(os.environ.get("BILLHOOK_FUZZ", "3000"))
FEW = 25
SECONDS = 20.0
"""Of one file, on a busy machine. Most take a few milliseconds; ten million kept units take some seconds."""

MIB = 2**10
"""In what the system counts peak memory by."""

Read = Callable[[bytes, Path], None]


def plan_files() -> st.SearchStrategy[bytes]:
    return st.one_of([damage(plan) for plan in targets.PLANS])


def journal_files() -> st.SearchStrategy[bytes]:
    whole = targets.lines(targets.JOURNAL)
    first, *rest = whole.splitlines(keepends=True)
    later = st.sampled_from(targets.JOURNAL[1:]).flatmap(damage)
    return st.one_of(
        later.map(lambda line: first + rest[0] + line + b"\n" + rest[-1]),
        damage(targets.JOURNAL[0]).map(lambda line: line + b"\n" + b"".join(rest)),
        st.integers(0, len(whole)).map(lambda end: whole[:end]),
    )


def published_files() -> st.SearchStrategy[bytes]:
    return st.one_of([damage(content) for content in targets.PUBLISHED])


def task_files() -> st.SearchStrategy[bytes]:
    return st.sampled_from(targets.TASKS).flatmap(damage).map(lambda line: targets.lines(targets.TASKS) + line)


READERS: dict[str, tuple[Read, Callable[[], st.SearchStrategy[bytes]]]] = {
    "plan": (targets.read_plan, plan_files),
    "journal": (targets.read_journal, journal_files),
    "published": (targets.read_published, published_files),
    "task": (targets.read_questions, task_files),
}


CHECKS = cast("list[HealthCheck]", list(HealthCheck))  # not by __members__, which has those that are going away


def fuzz(read: Read, files: st.SearchStrategy[bytes], examples: int) -> None:
    """Read so many files. All of them end in time, in less memory than a small model takes."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    @settings(max_examples=examples, deadline=None, suppress_health_check=CHECKS, database=None)
    @given(data=files)
    def run(data: bytes) -> None:
        began = time.process_time()
        with tempfile.TemporaryDirectory() as folder:
            targets.ours(lambda: read(data, Path(folder)))
        assert time.process_time() - began < SECONDS

    run()
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 1500 * MIB


@pytest.mark.parametrize("kind", READERS)
def test_a_damaged_file_ends_in_a_value_or_in_one_of_our_errors(kind: str) -> None:
    read, files = READERS[kind]
    fuzz(read, files(), FEW)


@pytest.mark.fuzz
@pytest.mark.timeout(0)
@pytest.mark.parametrize("kind", READERS)
def test_thousands_of_damaged_files_do(kind: str) -> None:
    read, files = READERS[kind]
    fuzz(read, files(), MANY)


@pytest.mark.fuzz
@pytest.mark.timeout(0)
def test_a_damaged_config_is_refused_or_gives_a_model_without_weights() -> None:
    fuzz(targets.read_config, damage(dict(targets.tiny_config())), MANY // 4)


@pytest.mark.fuzz
@pytest.mark.timeout(0)
@pytest.mark.parametrize("kind", READERS)
def test_files_that_are_sought_by_the_branches_they_take_do(kind: str, tmp_path: Path) -> None:
    pytest.importorskip("atheris", reason="pip install atheris, where it has a wheel")
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    command = [
        sys.executable,
        "-m",
        "tests.fuzz.guided",
        kind,
        str(corpus),
        f"-runs={MANY}",
        f"-artifact_prefix={tmp_path}/",
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    assert f"Done {MANY} runs" in done.stderr


def test_a_plan_of_a_kilobyte_takes_no_time(tmp_path: Path) -> None:
    plan = {**targets.PLANS[0], "cuts": [{"kind": "drop-layers", "start": 1, "stop": 2**31 - 1}]}
    began = time.perf_counter()
    targets.ours(lambda: targets.read_plan(json.dumps(plan).encode(), tmp_path))
    assert time.perf_counter() - began < 5
