"""``billhook apply``."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from tests.framework.cli.conftest import TEXT, Run
from transformers import AutoModelForCausalLM

from billhook import Plan
from billhook.testing import save_tiny_checkpoint


@pytest.fixture
def pruned(run: Run, checkpoint: Path, data: tuple[str, ...], tmp_path: Path) -> Path:
    folder = tmp_path / "pruned"
    assert run("prune", checkpoint, "--out", folder, "--layers", 2, *data).code == 0
    return folder


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return AutoModelForCausalLM.from_pretrained(folder).state_dict()


def test_the_same_data_give_the_same_weights(run: Run, checkpoint: Path, pruned: Path, tmp_path: Path) -> None:
    done = run("apply", pruned, checkpoint, "--out", tmp_path / "again", "--json")
    assert done.code == 0
    assert done.data["path"] == str(tmp_path / "again")
    assert Plan.load(tmp_path / "again") == Plan.load(pruned)
    ours, theirs = weights(tmp_path / "again"), weights(pruned)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_other_data_are_refused(run: Run, checkpoint: Path, pruned: Path, tmp_path: Path) -> None:
    done = run("apply", pruned, checkpoint, "--out", tmp_path / "again", "--samples", 3)
    assert done.code == 1
    assert "These are not the tokens the plan was made with" in done.err
    assert not (tmp_path / "again").exists()


def test_other_data_can_be_allowed_and_the_cuts_stay(run: Run, checkpoint: Path, pruned: Path, tmp_path: Path) -> None:
    done = run("apply", pruned, checkpoint, "--out", tmp_path / "again", "--samples", 3, "--any-calibration")
    assert done.code == 0
    assert Plan.load(tmp_path / "again").cuts == Plan.load(pruned).cuts
    assert Plan.load(tmp_path / "again").calibration.samples == 3


def test_data_that_moved_can_be_named(run: Run, checkpoint: Path, text: Path, tmp_path: Path) -> None:
    here, there = tmp_path / "here.txt", tmp_path / "there.txt"
    shutil.copy(text, here)
    run("prune", checkpoint, "--out", tmp_path / "one", "--layers", 1, "--calibration", here, "--seqlen", 16)
    here.rename(there)
    arguments = ("apply", tmp_path / "one", checkpoint, "--out", tmp_path / "two")
    missing = run(*arguments)
    assert missing.code == 1
    assert "say where it is now: --calibration" in missing.err
    assert run(*arguments, "--calibration", there).code == 0


def test_a_plan_for_another_model_is_refused(run: Run, pruned: Path, tmp_path: Path) -> None:
    other = save_tiny_checkpoint(tmp_path / "other", num_hidden_layers=5)
    done = run("apply", pruned, other, "--out", tmp_path / "again")
    assert done.code == 1
    assert "This plan is for a llama model with 6 layers" in done.err


def test_a_file_that_is_no_plan_is_refused_before_the_model_is_looked_for(run: Run, tmp_path: Path) -> None:
    (tmp_path / "plan.json").write_text(TEXT)
    done = run("apply", tmp_path / "plan.json", "no-such-model", "--out", tmp_path / "again")
    assert done.code == 1
    assert "This is not a plan" in done.err
