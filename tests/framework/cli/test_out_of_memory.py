"""Memory that runs out, wherever it does: one line that says how to go on, and no work is lost."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import pytest
import torch
from tests.framework.cli.conftest import Outcome, Run
from transformers import AutoModelForCausalLM, PreTrainedModel

from billhook import Budget, Plan, Pruner, PruneResult
from billhook.errors import CheckpointError, is_out_of_memory
from billhook.testing import tiny_model, tiny_tokens


def of_python(*_: object, **__: object) -> NoReturn:
    raise MemoryError


def of_an_accelerator(*_: object, **__: object) -> NoReturn:
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB.")


def of_the_processor(*_: object, **__: object) -> NoReturn:
    torch.empty(2**60, dtype=torch.uint8)  # torch's own error, whatever it says today
    raise AssertionError("this machine has an EiB of memory")


def of_a_mapped_file(*_: object, **__: object) -> NoReturn:
    raise OSError(12, "Cannot allocate memory")


Grow = Callable[..., NoReturn]
RUN_OUT = pytest.mark.parametrize("grow", [of_python, of_an_accelerator, of_the_processor, of_a_mapped_file])


@RUN_OUT
def test_missing_memory_is_known_as_such(grow: Grow) -> None:
    with pytest.raises(Exception) as caught:  # noqa: PT011 # of four classes
        grow()
    assert is_out_of_memory(caught.value)
    assert not is_out_of_memory(RuntimeError("sizes do not match"))


def refused(done: Outcome) -> str:
    """The one line of a command that failed."""
    assert (done.code, done.out, done.err.count("\n")) == (1, "", 1)
    return done.err


@pytest.fixture
def words(checkpoint: Path, data: tuple[str, ...], tmp_path: Path) -> tuple[object, ...]:
    """A command that reads no journal."""
    return ("prune", checkpoint, "--recipe", "replaceme-ls", "--layers", 1, *data, "--out", tmp_path / "out")


@pytest.fixture
def result() -> PruneResult:
    pruner = Pruner.following("replaceme-ls")
    return pruner.prune(tiny_model(), calibration=tiny_tokens(), budget=Budget(layers=1))


@RUN_OUT
@pytest.mark.parametrize("when", ["reading it", "working with it"])
def test_a_checkpoint_that_there_is_no_memory_to_compare_is_kept(
    grow: Grow, when: str, run: Run, words: tuple[object, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = AutoModelForCausalLM.from_pretrained

    def second(place: Path, **options: object) -> object:
        return grow() if ".partial" in str(place) else read(place, **options)

    with monkeypatch.context() as patch:
        if when == "reading it":
            patch.setattr(AutoModelForCausalLM, "from_pretrained", second)
        else:
            patch.setattr("billhook.results.verification.greedy", grow)
        said = refused(run(*words))
    out = tmp_path / "out"
    assert f"Out of memory: the checkpoint is in {out}, but was not compared" in said
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert len(Plan.load(out).cuts) == 1
    way = shlex.split(said.partition("See what comes out of it: ")[2])
    assert run(*way[1:], "--seqlen", 16, "--tokens", 64).code == 0
    assert run(*words[:-1], tmp_path / "again").code == 0
    one, other = ((tmp_path / name / "model.safetensors").read_bytes() for name in ("out", "again"))
    assert one == other


@RUN_OUT
def test_a_checkpoint_that_there_is_no_memory_to_write_leaves_its_plan(
    grow: Grow, run: Run, words: tuple[object, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(PreTrainedModel, "save_pretrained", grow)
        said = refused(run(*words))
    assert "The checkpoint cannot be written and compared: out of memory" in said
    assert [path.name for path in tmp_path.iterdir()] == ["out.plan.json"], "no half checkpoint"
    command = said.partition("The plan is kept, and makes the same model again: ")[2]
    assert run(*shlex.split(command.replace("ELSEWHERE", str(tmp_path / "elsewhere")))[1:]).code == 0


@RUN_OUT
def test_in_python_the_result_stays_and_can_be_saved(
    grow: Grow, result: PruneResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("billhook.results.checkpoint.verify_reload", grow)
        with pytest.raises(CheckpointError, match=r"out of memory \(.*Without verify \(--no-verify\) it takes less"):
            result.save(tmp_path / "out")
        assert list(tmp_path.iterdir()) == []
        result.save(tmp_path / "out", verify=False)
    result.save(tmp_path / "again")
    one, other = ((tmp_path / name / "model.safetensors").read_bytes() for name in ("out", "again"))
    assert one == other


@RUN_OUT
def test_a_model_that_does_not_fit_is_no_broken_model(
    grow: Grow, run: Run, words: tuple[object, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(AutoModelForCausalLM, "from_pretrained", grow)
    said = refused(run(*words))
    assert said.startswith("Error: Out of memory: ")
    assert "Try --dtype bfloat16" in said
    assert list(tmp_path.iterdir()) == []


RUNS_OUT = """
from billhook import hookimpl

@hookimpl
def billhook_after_cut(state):
    global cuts
    cuts = globals().get("cuts", 0) + 1
    if cuts == 2:
        raise MemoryError("90 GiB")
"""


def test_a_search_that_runs_out_of_memory_goes_on_from_its_journal(
    run: Run, checkpoint: Path, data: tuple[str, ...], tmp_path: Path
) -> None:
    (tmp_path / "greedy.py").write_text(RUNS_OUT)
    out = tmp_path / "out"
    words = ("prune", checkpoint, "--recipe", "blockpruner", "--ratio", 0.3, *data, "--out", out)
    said = refused(run(*words, "--plugin", tmp_path / "greedy.py"))
    journal = tmp_path / "out.journal.jsonl"
    assert "Error: Out of memory: 90 GiB" in said
    assert f"What was decided so far (2 decisions) is in the journal {journal}, and the same command goes on" in said
    again = run(*words)
    assert again.code == 0
    assert "2 decisions of the interrupted run are taken from it" in again.err
    assert not journal.exists()
