"""``billhook apply``."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from tests.framework.cli.conftest import TEXT, Run
from transformers import AutoModelForCausalLM

from billhook import DropBranch, KeepChannels, Plan
from billhook.testing import save_tiny_checkpoint


@pytest.fixture
def pruned(run: Run, checkpoint: Path, data: tuple[str, ...], tmp_path: Path) -> Path:
    folder = tmp_path / "pruned"
    assert run("prune", checkpoint, "--out", folder, "--recipe=replaceme-ls", "--layers", 2, *data).code == 0
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


def test_a_result_can_be_padded_as_prune_pads(
    run: Run, checkpoint: Path, data: tuple[str, ...], tmp_path: Path
) -> None:
    words = ("prune", checkpoint, "--recipe=blockpruner", "--ratio", 0.1, *data, "--pad")
    assert run(*words, "--out", tmp_path / "one").code == 0
    assert run("apply", tmp_path / "one", checkpoint, "--pad", "--out", tmp_path / "other").code == 0
    one, other = ((tmp_path / name / "model.safetensors").read_bytes() for name in ("one", "other"))
    assert one == other
    assert json.loads((tmp_path / "other" / "config.json").read_text())["model_type"] == "llama"


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
    run(
        "prune",
        checkpoint,
        "--out",
        tmp_path / "one",
        "--recipe=replaceme-ls",
        "--layers",
        1,
        "--calibration",
        here,
        "--seqlen",
        16,
    )
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
    assert "No plan can be read from" in done.err


def test_the_same_cuts_can_be_repaired_otherwise(
    run: Run, checkpoint: Path, data: tuple[str, ...], tmp_path: Path
) -> None:
    own = ("--estimator", "ridge", "--merger", "refit", "--set", "estimator.strength=0.5")
    otherwise = ("--set", "estimator.toward=zero", "--set", "repair.weights=stream")
    assert (
        run("prune", checkpoint, "--out", tmp_path / "first", "--recipe=replaceme-ls", "--layers", 2, *own, *data).code
        == 0
    )
    done = run("apply", tmp_path / "first", checkpoint, "--out", tmp_path / "second", *otherwise)
    assert done.code == 0, done.err
    wanted = run(
        "prune",
        checkpoint,
        "--out",
        tmp_path / "wanted",
        "--recipe=replaceme-ls",
        "--layers",
        2,
        *own,
        *otherwise,
        *data,
    )
    assert wanted.code == 0
    assert Plan.load(tmp_path / "second") == Plan.load(tmp_path / "wanted")
    ours, theirs, before = (weights(tmp_path / name) for name in ("second", "wanted", "first"))
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert any(not torch.equal(ours[name], before[name]) for name in before)


def test_cuts_made_without_data_can_be_repaired_with_some(
    run: Run, checkpoint: Path, data: tuple[str, ...], tmp_path: Path
) -> None:
    (tmp_path / "published.json").write_text(json.dumps({"1": [["mlp", 2]]}))
    assert run("apply", tmp_path / "published.json", checkpoint, "--out", tmp_path / "cut").code == 0
    arguments = ("apply", tmp_path / "cut", checkpoint, "--out", tmp_path / "repaired", "--estimator", "ridge")
    done = run(*arguments, *data)
    assert done.code == 0, done.err
    ours, before = weights(tmp_path / "repaired"), weights(tmp_path / "cut")
    changed = {name for name in before if not torch.equal(ours[name], before[name])}
    assert changed == {"model.layers.2.self_attn.o_proj.weight", "model.layers.2.self_attn.o_proj.bias"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ("--set", "selector.tokens=3"),
            "The plan says what goes: --set changes the estimator, the merger, the objective and",
        ),
        (("--estimator", "rigde"), "Did you mean 'ridge'"),
        (("--set", "objective.kl=0.7"), "The plan has no objective whose options could be set. Add --objective NAME"),
        (("--set", "repair.target=past"), "'past' is none of dense, present, halfway"),
    ],
)
def test_what_a_plan_cannot_be_told_is_refused(
    run: Run, checkpoint: Path, pruned: Path, tmp_path: Path, arguments: tuple[str, ...], message: str
) -> None:
    done = run("apply", pruned, checkpoint, "--out", tmp_path / "again", *arguments)
    assert done.code == 1
    assert message in done.err


def test_published_cuts_are_not_repaired_at_once(run: Run, checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "published.json").write_text(json.dumps({"1": [["mlp", 2]]}))
    done = run("apply", tmp_path / "published.json", checkpoint, "--out", tmp_path / "again", "--estimator", "ridge")
    assert done.code == 1
    assert "published results are made, and neither repaired nor measured" in done.err


def test_an_objective_that_the_plan_does_not_have_is_measured_and_written_down(
    run: Run, checkpoint: Path, pruned: Path, data: tuple[str, ...], tmp_path: Path
) -> None:
    own = ("--objective", "mixture", "--set", "objective.kl=0.7")
    done = run("apply", pruned, checkpoint, "--out", tmp_path / "again", "--json", *own)
    assert done.code == 0, done.err
    wanted = run(
        "prune", checkpoint, "--out", tmp_path / "two", "--recipe=replaceme-ls", "--layers", 2, *data, "--json", *own
    )
    for name in ("objective_before", "objective_after"):
        assert done.data["metrics"][name] == wanted.data["metrics"][name]
    assert Plan.load(tmp_path / "again") == Plan.load(tmp_path / "two")
    ours, theirs = weights(tmp_path / "again"), weights(pruned)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


# Published results

MULTIPRUNER = {
    "pruned_attn_idx": [3],
    "pruned_mlp_idx": [1, 3],
    "pruned_attn_width": {"2": 8, "3": 16},
    "pruned_mlp_width": {"0": 24, "4": 10},
}
ORDER = {"1": [["mha", 2]], "2": [["mha", 2], ["mlp", 4]]}


@pytest.fixture
def published(tmp_path: Path) -> Path:
    file = tmp_path / "pruning_config.json"
    file.write_text(json.dumps(MULTIPRUNER))
    return file


@pytest.fixture
def order(tmp_path: Path) -> Path:
    file = tmp_path / "del_order_list.json"
    file.write_text(json.dumps(ORDER))
    return file


def test_a_published_file_is_applied_like_a_plan(run: Run, checkpoint: Path, published: Path, tmp_path: Path) -> None:
    done = run("apply", published, checkpoint, "--out", tmp_path / "cut", "--json")
    assert done.code == 0
    plan = Plan.load(tmp_path / "cut")
    assert [str(cut) for cut in plan.cuts] == [
        "attention 3", "mlp 1", "mlp 3", "mlp 4 to 10 channels", "attention 2 to 1 key-value groups"
    ]  # fmt: skip
    assert done.data["metrics"]["layer_tokens"] == 0


def test_the_result_of_a_published_file_says_that_no_data_were_needed(
    run: Run, checkpoint: Path, order: Path, tmp_path: Path
) -> None:
    done = run("apply", order, checkpoint, "--out", tmp_path / "cut")
    assert "none needed" in done.out
    assert "no data" in (tmp_path / "cut" / "README.md").read_text()


def test_an_order_list_can_be_applied_for_some_steps(run: Run, checkpoint: Path, order: Path, tmp_path: Path) -> None:
    assert run("apply", order, checkpoint, "--out", tmp_path / "cut", "--steps", 1).code == 0
    assert Plan.load(tmp_path / "cut").cuts == (DropBranch(2, "attention"),)


def test_the_first_channels_stay_without_reordering(
    run: Run, checkpoint: Path, published: Path, tmp_path: Path
) -> None:
    assert run("apply", published, checkpoint, "--out", tmp_path / "cut", "--no-reorder").code == 0
    assert KeepChannels(4, tuple(range(10))) in Plan.load(tmp_path / "cut").cuts


def test_the_checkpoint_of_a_published_file_can_be_applied_again(
    run: Run, checkpoint: Path, published: Path, tmp_path: Path
) -> None:
    run("apply", published, checkpoint, "--out", tmp_path / "one")
    assert run("apply", tmp_path / "one", checkpoint, "--out", tmp_path / "two").code == 0
    assert Plan.load(tmp_path / "two") == Plan.load(tmp_path / "one")
    ours, theirs = weights(tmp_path / "two"), weights(tmp_path / "one")
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_a_plan_that_repairs_nothing_is_applied_without_its_data(
    run: Run, checkpoint: Path, text: Path, tmp_path: Path
) -> None:
    lost = tmp_path / "lost.txt"
    shutil.copy(text, lost)
    prune = (
        "prune",
        checkpoint,
        "--out",
        tmp_path / "one",
        "--recipe=replaceme-ls",
        "--layers",
        1,
        "--estimator",
        "identity",
    )
    assert run(*prune, "--calibration", lost, "--seqlen", 16).code == 0
    lost.unlink()
    assert run("apply", tmp_path / "one", checkpoint, "--out", tmp_path / "two").code == 0
    assert Plan.load(tmp_path / "two") == Plan.load(tmp_path / "one")


@pytest.mark.parametrize(
    "option", [("--samples", 3), ("--seqlen", 8), ("--seed", 1), ("--calibration", "builtin"), ("--any-calibration",)]
)
def test_data_for_a_published_file_are_refused(
    run: Run, order: Path, option: tuple[object, ...], tmp_path: Path
) -> None:
    done = run("apply", order, "no-such-model", "--out", tmp_path / "cut", *option)
    assert done.code == 1
    assert "no data are needed: leave out the calibration options" in done.err


@pytest.mark.parametrize("option", [("--steps", 1), ("--no-reorder",)])
def test_options_of_published_files_are_refused_with_a_plan(
    run: Run, checkpoint: Path, pruned: Path, option: tuple[object, ...], tmp_path: Path
) -> None:
    done = run("apply", pruned, checkpoint, "--out", tmp_path / "again", *option)
    assert done.code == 1
    assert "--steps and --no-reorder are for published results" in done.err


def test_a_published_file_for_another_model_is_refused_before_its_weights_are_read(
    run: Run, checkpoint: Path, tmp_path: Path
) -> None:
    bare, file = tmp_path / "config-only", tmp_path / "list.json"
    bare.mkdir()
    (bare / "config.json").write_bytes((checkpoint / "config.json").read_bytes())
    file.write_text(json.dumps({"1": [["mha", 31]]}))
    done = run("apply", file, bare, "--out", tmp_path / "cut")
    assert done.code == 1
    assert "speaks of layer 31; this model has layers 0 to 5" in done.err


def test_a_published_file_that_contradicts_itself_is_refused_before_the_model_is_looked_for(
    run: Run, tmp_path: Path
) -> None:
    (tmp_path / "list.json").write_text(json.dumps({"1": [["mha", 3]], "2": [["mlp", 3], ["mlp", 4]]}))
    done = run("apply", tmp_path / "list.json", "no-such-model", "--out", tmp_path / "cut")
    assert done.code == 1
    assert "Step 2 of this BlockPruner list must hold 2 different branches" in done.err
