"""A search that is stopped goes on with the same command, to the very same checkpoint."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.framework.cli.conftest import Installer, Run
from tests.framework.plugins.plugin_files import install

from billhook import Plan
from billhook.cli import main
from billhook.cli.search_journal import beside
from billhook.plugins.registry import DISABLE_VARIABLE, default_registry

BLOCKS = ("--recipe", "blockpruner", "--ratio", "0.25")
METHODS = {
    "blockpruner": BLOCKS,
    "multipruner": ("--recipe", "multipruner", "--ratio", "0.2", "--set", "selector.channel_group=8"),
    "sleb, repaired": ("--recipe", "sleb", "--layers", "3", "--estimator", "least-squares"),
}
AFTER_CUT = """
    import os, signal
    from billhook import hookimpl

    @hookimpl
    def billhook_after_cut(state):
        if len(state.cuts) == {count}:
            {deed}
"""
WITHIN_A_STEP = """
    import signal
    from billhook import hookimpl

    seen = []

    @hookimpl
    def billhook_on_search(progress):
        seen.append(progress.step)
        if seen.count({step}) == 3:
            signal.raise_signal(signal.SIGINT)
"""
INTERRUPT = "signal.raise_signal(signal.SIGINT)"
KILL = "os.kill(os.getpid(), signal.SIGKILL)"

Resume = Callable[[], None]
Whole = Callable[[str], Path]


@pytest.fixture(autouse=True)
def interrupts() -> Iterator[None]:
    """Ctrl-C interrupts, even where the tests were started in the background: shells make such programs ignore it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, checkpoint: Path, text: Path) -> Whole:
    """The checkpoint of an uninterrupted run, by method."""
    folder = tmp_path_factory.mktemp("whole")

    def made(method: str) -> Path:
        out = folder / method
        data = ("--calibration", str(text), "--samples", "4", "--seqlen", "16")
        if not out.exists():
            assert main(["prune", str(checkpoint), "--out", str(out), *METHODS[method], *data]) == 0
        return out

    return made


@pytest.fixture
def resume(monkeypatch: pytest.MonkeyPatch) -> Resume:
    """Blocks the plugin that stops runs."""

    def block() -> None:
        monkeypatch.setenv(DISABLE_VARIABLE, "stranger")
        default_registry.cache_clear()

    return block


def journal_of(out: Path) -> Path:
    return out.with_name(f"{out.name}.journal.jsonl")


def decisions(out: Path) -> int:
    return len(journal_of(out).read_text().splitlines()) - 1  # the first line says what run it is


def assert_same_checkpoint(one: Path, other: Path) -> None:
    assert Plan.load(one) == Plan.load(other)
    assert (one / "model.safetensors").read_bytes() == (other / "model.safetensors").read_bytes()


@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("method", METHODS)
def test_an_interrupted_run_goes_on_to_the_same_checkpoint(
    run: Run,
    checkpoint: Path,
    data: tuple[str, ...],
    tmp_path: Path,
    installed: Installer,
    resume: Resume,
    whole: Whole,
    method: str,
    count: int,
) -> None:
    out, arguments = tmp_path / "out", (*METHODS[method], *data)
    installed("stranger", stop=AFTER_CUT.format(count=count, deed=INTERRUPT))
    stopped = run("prune", checkpoint, "--out", out, *arguments)
    assert (stopped.code, stopped.out, stopped.err.count("\n")) == (130, "", 1)
    said = "1 decision" if count == 1 else f"{count} decisions"
    assert f"({said}) is in the journal {journal_of(out)}: the same command goes on from there." in stopped.err
    assert (decisions(out), out.exists()) == (count, False)

    resume()
    went_on = run("prune", checkpoint, "--out", out, *arguments)
    assert went_on.code == 0
    assert went_on.err == (
        f"Note: Going on from the journal {journal_of(out)}: {said} of the interrupted run are taken from it.\n"
    )
    assert_same_checkpoint(out, whole(method))
    assert not journal_of(out).exists()


def test_an_interrupt_within_a_step_loses_that_step_only(
    run: Run,
    checkpoint: Path,
    data: tuple[str, ...],
    tmp_path: Path,
    installed: Installer,
    resume: Resume,
    whole: Whole,
) -> None:
    out, arguments = tmp_path / "out", (*BLOCKS, *data)
    installed("stranger", stop=WITHIN_A_STEP.format(step=2))
    assert run("prune", checkpoint, "--out", out, *arguments).code == 130
    assert decisions(out) == 1
    resume()
    assert run("prune", checkpoint, "--out", out, *arguments).code == 0
    assert_same_checkpoint(out, whole("blockpruner"))


def test_a_killed_run_goes_on_to_the_same_checkpoint(
    run: Run, checkpoint: Path, data: tuple[str, ...], tmp_path: Path, whole: Whole
) -> None:
    site = tmp_path / "site"
    site.mkdir()
    install(site, "stranger", {"stop": AFTER_CUT.format(count=2, deed=KILL)})
    out, arguments = tmp_path / "out", (*BLOCKS, *data)
    # one thread, as in this process: more would add up in another order
    killed = subprocess.run(
        [sys.executable, "-m", "billhook", "prune", str(checkpoint), "--out", str(out), *arguments],
        env={**os.environ, "PYTHONPATH": str(site), "OMP_NUM_THREADS": "1"},
        capture_output=True,
    )
    assert killed.returncode == -signal.SIGKILL
    assert (decisions(out), out.exists()) == (2, False)

    assert "2 decisions of the interrupted run" in run("prune", checkpoint, "--out", out, *arguments).err
    assert_same_checkpoint(out, whole("blockpruner"))


def test_the_journal_lies_where_it_is_asked_for(
    run: Run, checkpoint: Path, data: tuple[str, ...], tmp_path: Path, installed: Installer
) -> None:
    installed("stranger", stop=AFTER_CUT.format(count=1, deed=INTERRUPT))
    where = tmp_path / "new" / "mine"
    done = run("prune", checkpoint, "--out", tmp_path / "out", "--journal", where, *BLOCKS, *data)
    assert f"is in the journal {where}" in done.err
    assert [path.name for path in tmp_path.iterdir()] == ["new"]


def test_without_a_journal_an_interrupt_leaves_nothing(
    run: Run, checkpoint: Path, data: tuple[str, ...], tmp_path: Path, installed: Installer
) -> None:
    installed("stranger", stop=AFTER_CUT.format(count=1, deed=INTERRUPT))
    done = run("prune", checkpoint, "--out", tmp_path / "out", "--no-journal", *BLOCKS, *data)
    assert (done.code, done.err) == (130, "Error: Interrupted.\n")
    assert list(tmp_path.iterdir()) == []


def test_a_run_that_does_not_search_keeps_no_journal(
    run: Run, checkpoint: Path, data: tuple[str, ...], tmp_path: Path, installed: Installer
) -> None:
    installed("stranger", stop=AFTER_CUT.format(count=1, deed=INTERRUPT))
    done = run("prune", checkpoint, "--out", tmp_path / "out", "--recipe=replaceme-ls", "--layers", 1, *data)
    assert (done.code, done.err) == (130, "Error: Interrupted.\n")
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_kept_before_anything_is_decided(
    run: Run, checkpoint: Path, data: tuple[str, ...], tmp_path: Path, installed: Installer
) -> None:
    installed("stranger", stop=WITHIN_A_STEP.format(step=1))
    done = run("prune", checkpoint, "--out", tmp_path / "out", *BLOCKS, *data)
    assert (done.code, done.err) == (130, "Error: Interrupted.\n")
    assert list(tmp_path.iterdir()) == []


def test_the_journal_of_another_run_is_refused_and_left_alone(
    run: Run, checkpoint: Path, data: tuple[str, ...], tmp_path: Path, installed: Installer, resume: Resume
) -> None:
    out = tmp_path / "out"
    installed("stranger", stop=AFTER_CUT.format(count=1, deed=INTERRUPT))
    assert run("prune", checkpoint, "--out", out, *BLOCKS, *data).code == 130
    before = journal_of(out).read_bytes()
    resume()
    done = run("prune", checkpoint, "--out", out, *BLOCKS, "--of", "backbone", *data)
    assert (done.code, done.out, done.err.count("\n")) == (1, "", 1)
    assert f"The journal {journal_of(out)} belongs to another run: its budget is" in done.err
    assert journal_of(out).read_bytes() == before
    assert list(tmp_path.iterdir()) == [journal_of(out)]


def test_a_file_that_is_no_journal_is_refused_and_left_alone(
    run: Run, checkpoint: Path, data: tuple[str, ...], tmp_path: Path
) -> None:
    (tmp_path / "notes").write_text("do not lose me\n")
    done = run("prune", checkpoint, "--out", tmp_path / "out", "--journal", tmp_path / "notes", *BLOCKS, *data)
    assert (done.code, done.err.count("\n")) == (1, 1)
    assert "notes is no journal of a search" in done.err
    assert (tmp_path / "notes").read_text() == "do not lose me\n"


def test_a_checkpoint_that_cannot_be_written_costs_no_decision(
    run: Run, checkpoint: Path, data: tuple[str, ...], tmp_path: Path
) -> None:
    out = tmp_path / "out"

    def full(*arguments: object, **options: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("transformers.PreTrainedModel.save_pretrained", full)
        assert run("prune", checkpoint, "--out", out, *BLOCKS, *data).code == 1
    found = decisions(out)
    done = run("prune", checkpoint, "--out", out, *BLOCKS, *data)
    assert f"{found} decisions of the interrupted run are taken" in done.err
    assert len(Plan.load(out).cuts) == found
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {"out", "out.plan.json"}  # neither draft nor journal; the plan that the failure was told with stays


def test_a_search_that_cannot_end_well_leaves_no_journal_in_the_way(
    run: Run, checkpoint: Path, data: tuple[str, ...], tmp_path: Path
) -> None:
    # MLPs alone cannot make up half of the model
    arguments = ("--recipe", "blockpruner", "--set", "selector.branches=mlp", "--out", tmp_path / "out", *data)
    done = run("prune", checkpoint, "--ratio", "0.6", *arguments)
    assert (done.code, "The budget cannot be met" in done.err) == (1, True)
    assert run("prune", checkpoint, "--ratio", "0.2", *arguments).code == 0


def test_the_journal_of_a_dry_run_serves_the_run_itself(
    run: Run, checkpoint: Path, data: tuple[str, ...], tmp_path: Path
) -> None:
    arguments = ("prune", checkpoint, "--journal", tmp_path / "journal", "--json", *BLOCKS, *data)
    planned = run(*arguments, "--dry-run").data["plan"]
    done = run(*arguments, "--out", tmp_path / "out")
    assert f"{len(planned['cuts'])} decisions of the interrupted run" in done.err
    assert done.data["plan"] == planned
    assert not (tmp_path / "journal").exists()


@pytest.mark.parametrize(
    ("out", "journal"),
    [
        ("smaller", "smaller.journal.jsonl"),
        ("models/smaller/", "models/smaller.journal.jsonl"),
        ("./v1.0", "v1.0.journal.jsonl"),
        ("/models/x", "/models/x.journal.jsonl"),
    ],
)
def test_a_journal_lies_beside_the_output(out: str, journal: str) -> None:
    assert beside(Path(out)) == Path(journal)


def test_the_journal_of_the_present_folder_lies_beside_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert beside(Path()) == tmp_path.with_name(f"{tmp_path.name}.journal.jsonl")
