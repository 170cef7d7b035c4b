"""``billhook export``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.framework.cli.conftest import LAYERS, Run

from billhook import KeepChannels, Plan
from billhook.testing import save_tiny_checkpoint

CHANNELS, WIDTH = 24, 16  # of the tiny Llama

EVERY_ATTENTION = {str(layer): WIDTH for layer in range(LAYERS)}
EVERY_MLP = {str(layer): CHANNELS for layer in range(LAYERS)}


@pytest.fixture
def pruned(run: Run, checkpoint: Path, tmp_path: Path) -> Path:
    """A checkpoint without the attention of layer 4 and most channels of layer 2."""
    file, folder = tmp_path / "pruning_config.json", tmp_path / "pruned"
    file.write_text(json.dumps({"pruned_attn_idx": [4], "pruned_mlp_width": {"2": 9}}))
    assert run("apply", file, checkpoint, "--out", folder).code == 0
    return folder


@pytest.fixture
def branches(run: Run, checkpoint: Path, tmp_path: Path) -> Path:
    """A checkpoint without two branches."""
    file, folder = tmp_path / "list.json", tmp_path / "branches"
    file.write_text(json.dumps({"1": [["mlp", 3]], "2": [["mha", 1], ["mlp", 3]]}))
    assert run("apply", file, checkpoint, "--out", folder).code == 0
    return folder


def test_a_multipruner_file_goes_to_stdout(run: Run, checkpoint: Path, pruned: Path) -> None:
    done = run("export", pruned, "--to", "multipruner", "--model", checkpoint)
    assert done.code == 0
    assert done.data == {
        "pruned_attn_idx": [4],
        "pruned_mlp_idx": [],
        "pruned_attn_width": EVERY_ATTENTION,
        "pruned_mlp_width": {**EVERY_MLP, "2": 9},
    }


def test_an_order_list_needs_no_model(run: Run, branches: Path) -> None:
    done = run("export", branches, "--to", "blockpruner")
    assert done.code == 0
    assert done.data == {"1": [["mlp", 3]], "2": [["mha", 1], ["mlp", 3]]}


def test_what_is_exported_can_be_applied_again(run: Run, checkpoint: Path, pruned: Path, tmp_path: Path) -> None:
    file = tmp_path / "out.json"
    assert run("export", pruned, "--to", "multipruner", "--model", checkpoint, "--out", file).out == ""
    assert run("apply", file, checkpoint, "--out", tmp_path / "again").code == 0
    assert Plan.load(tmp_path / "again").cuts == Plan.load(pruned).cuts


def test_no_weights_are_read_for_whole_branches(run: Run, checkpoint: Path, branches: Path, tmp_path: Path) -> None:
    bare = tmp_path / "config-only"
    bare.mkdir()
    (bare / "config.json").write_bytes((checkpoint / "config.json").read_bytes())
    done = run("export", branches, "--to", "multipruner", "--model", bare)
    assert done.code == 0
    assert done.data["pruned_mlp_width"] == EVERY_MLP


def test_units_as_they_lie_are_exported_for_readers_who_do_not_sort(
    run: Run, checkpoint: Path, pruned: Path, tmp_path: Path
) -> None:
    file = edited(pruned, tmp_path)
    refused = run("export", file, "--to", "multipruner", "--model", checkpoint)
    assert refused.code == 1
    assert "its reader would keep those of the largest weight norm" in refused.err
    done = run("export", file, "--to", "multipruner", "--model", checkpoint, "--no-reorder")
    assert done.data["pruned_mlp_width"]["2"] == 5


def edited(pruned: Path, folder: Path) -> Path:
    """The plan of ``pruned`` with the first five channels of layer 2 instead."""
    data: dict[str, Any] = json.loads((pruned / "billhook.json").read_text())["plan"]
    data["cuts"] = [{"kind": KeepChannels.kind, "layer": 2, "kept": [0, 1, 2, 3, 4]}]
    file = folder / "edited.json"
    file.write_text(json.dumps(data))
    return file


def test_widths_without_a_model_are_refused_with_the_way_out(run: Run, pruned: Path) -> None:
    done = run("export", pruned, "--to", "multipruner")
    assert done.code == 1
    assert "name the model with --model MODEL" in done.err


def test_another_model_is_refused(run: Run, pruned: Path, tmp_path: Path) -> None:
    other = save_tiny_checkpoint(tmp_path / "other", num_hidden_layers=5)
    done = run("export", pruned, "--to", "multipruner", "--model", other)
    assert done.code == 1
    assert "This plan is for a llama model with 6 layers" in done.err


def test_what_the_format_cannot_hold_is_refused_by_name(run: Run, pruned: Path) -> None:
    done = run("export", pruned, "--to", "blockpruner")
    assert done.code == 1
    assert "mlp 2 to 9 channels cannot be exported" in done.err
    assert done.out == ""


def test_a_file_that_is_there_is_kept_unless_overwriting_is_allowed(run: Run, branches: Path, tmp_path: Path) -> None:
    file = tmp_path / "out.json"
    file.write_text('{"1": [["attention", 0]]}')
    arguments = ("export", branches, "--to", "blockpruner", "--out", file)
    refused = run(*arguments)
    assert refused.code == 1
    assert "exists. Choose another" in refused.err
    assert file.read_text() == '{"1": [["attention", 0]]}'
    assert run(*arguments, "--overwrite").code == 0
    assert json.loads(file.read_text())["1"] == [["mlp", 3]]
    assert list(tmp_path.glob(".*")) == []


def test_a_file_of_another_kind_is_never_replaced(run: Run, branches: Path, tmp_path: Path) -> None:
    file = tmp_path / "out.json"
    file.write_text("mine")
    refused = run("export", branches, "--to", "blockpruner", "--out", file, "--overwrite")
    assert refused.code == 1
    assert "is no file of this kind of billhook's, so it is not overwritten" in " ".join(refused.err.split())
    assert file.read_text() == "mine"


def test_a_file_that_cannot_be_written_is_told_in_one_line(run: Run, branches: Path, tmp_path: Path) -> None:
    done = run("export", branches, "--to", "blockpruner", "--out", tmp_path / "no-such-folder" / "out.json")
    assert done.code == 1
    assert "cannot be written" in done.err


def test_a_format_that_nobody_reads_is_a_usage_error(run: Run, branches: Path) -> None:
    assert run("export", branches, "--to", "onnx").code == 2
