from __future__ import annotations

import json
from pathlib import Path
from typing import cast

import pytest
import torch
from hypothesis import given, settings
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel

from billhook import Budget, Calibration, DropLayers, Plan, Pruner, PruneResult, default_registry
from billhook.adapter import Adapter
from billhook.checkpoint import refuse_existing, save
from billhook.errors import CheckpointError, OutputExists
from billhook.model_view import ModelView
from billhook.testing import adapters, tiny_model, tiny_tokenizer, tiny_tokens
from billhook.verification import verify_reload


def pruned(adapter: str | Adapter = "llama", merger: str = "fold") -> PruneResult:
    adapter = default_registry().adapter_for(adapter) if isinstance(adapter, str) else adapter
    estimator = "ridge" if merger == "insert" or adapter.why_not_foldable("mlp") is None else "identity"
    pruner = Pruner(estimator=estimator, merger=merger)
    tokens = tiny_tokens(rows=6, seq=16)
    return pruner.prune(
        tiny_model(adapter), tiny_tokenizer(), calibration=Calibration(source=tokens), budget=Budget(layers=2)
    )


@settings(max_examples=40)
@given(adapter=adapters())
def test_a_stock_model_of_every_family_comes_back_from_disk(
    tmp_path_factory: pytest.TempPathFactory, adapter: Adapter
) -> None:
    result = pruned(adapter)
    folder = result.save(tmp_path_factory.mktemp("out") / "model")
    fresh = AutoModelForCausalLM.from_pretrained(folder).eval()
    ids = tiny_tokens(rows=2, seq=10).ids
    assert fresh.config.model_type == result.model.config.model_type
    assert fresh.config.num_hidden_layers == 2
    with torch.no_grad():
        assert torch.equal(fresh(ids).logits, result.model(ids).logits)  # same weights, same code, same machine


def test_the_tokenizer_and_generation_config_travel_along(tmp_path: Path) -> None:
    result = pruned()
    assert result.model.generation_config is not None
    result.model.generation_config.max_length = 33
    folder = result.save(tmp_path / "model")
    assert AutoTokenizer.from_pretrained(folder)("hello")["input_ids"] == tiny_tokenizer()("hello")["input_ids"]
    assert json.loads((folder / "generation_config.json").read_text())["max_length"] == 33


def test_no_pickle_is_written(tmp_path: Path) -> None:
    suffixes = {file.suffix for file in pruned().save(tmp_path / "model").iterdir()}
    assert ".safetensors" in suffixes
    assert not suffixes & {".bin", ".pt", ".pth", ".pkl"}


def test_billhook_json_holds_plan_versions_metrics_and_hashes(tmp_path: Path) -> None:
    result = pruned()
    folder = result.save(tmp_path / "model")
    record = json.loads((folder / "billhook.json").read_text(), parse_constant=pytest.fail)
    assert Plan.load(folder) == result.plan
    assert record["metrics"]["layers_after"] == 2
    assert record["versions"]["torch"] == torch.__version__
    assert len(record["sha256"]["model.safetensors"]) == 64


def test_the_card_says_what_was_cut(tmp_path: Path) -> None:
    result = pruned()
    card = (result.save(tmp_path / "model") / "README.md").read_text()
    assert card.startswith("---\nlibrary_name: transformers\n")
    assert str(result.plan.cuts[0]) in card
    assert str(tmp_path) not in card


def test_an_existing_folder_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("precious")
    with pytest.raises(OutputExists, match=r"exists\. Choose another"):
        pruned().save(tmp_path)
    assert [f.name for f in tmp_path.iterdir()] == ["mine.txt"]


def test_a_folder_that_is_no_checkpoint_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("precious")
    with pytest.raises(OutputExists, match="no checkpoint folder"):
        refuse_existing(tmp_path, overwrite=True)


def test_an_old_checkpoint_is_replaced_when_asked(tmp_path: Path) -> None:
    result, folder = pruned(), tmp_path / "model"
    result.save(folder)
    (folder / "stale.txt").write_text("old")
    result.save(folder, overwrite=True)
    assert not (folder / "stale.txt").exists()
    assert [f.name for f in tmp_path.iterdir()] == ["model"]  # neither draft nor old copy is left


def test_an_inserted_map_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"merger 'insert'.*prune with the merger 'fold'"):
        pruned(merger="insert").save(tmp_path / "model")
    assert not any(tmp_path.iterdir())


def test_an_interrupted_save_leaves_nothing(tmp_path: Path) -> None:
    result = pruned()

    class Interrupting:
        def save_pretrained(self, folder: Path) -> None:
            raise KeyboardInterrupt

    object.__setattr__(result, "tokenizer", Interrupting())
    with pytest.raises(KeyboardInterrupt):
        save(result, tmp_path / "model")
    assert not any(tmp_path.iterdir())


def damaged(folder: Path, model: PreTrainedModel) -> Path:
    """A checkpoint whose last layer differs from ``model`` in one weight."""
    other = ModelView(model, default_registry().adapter_for("llama")).copy().model
    norm = other.get_submodule("model.norm")
    norm.weight = torch.nn.Parameter(1.01 * cast(torch.Tensor, norm.weight))
    other.save_pretrained(folder)
    return folder


def test_a_checkpoint_with_other_weights_is_noticed(tmp_path: Path) -> None:
    model = tiny_model("llama")
    with pytest.raises(CheckpointError, match=r"differs from the model in memory: logits by .* left in"):
        verify_reload(model, damaged(tmp_path, model))


def test_a_missing_weight_is_noticed(tmp_path: Path) -> None:
    model = tiny_model("llama")
    state = {k: v for k, v in model.state_dict().items() if "layers.1.mlp.down_proj" not in k}
    model.save_pretrained(tmp_path, state_dict=state)
    with pytest.raises(CheckpointError, match=r"does not fit at model\.layers\.1\.mlp\.down_proj"):
        verify_reload(model, tmp_path)


def test_a_stale_cache_slot_is_noticed(tmp_path: Path) -> None:
    # what happens to a model whose layers were removed without renumbering: fine without cache, not with it
    view = ModelView(tiny_model("llama"), default_registry().adapter_for("llama"))
    DropLayers(1, 2).remove_from(view)
    view.model.save_pretrained(tmp_path)
    view.model.get_submodule("model.layers.2.self_attn").layer_idx = 3  # type: ignore[assignment] # an int attribute
    with pytest.raises(CheckpointError, match="with cache fails: IndexError"):
        verify_reload(view.model, tmp_path)


def test_a_failed_comparison_keeps_the_draft_and_makes_no_checkpoint(tmp_path: Path) -> None:
    result = pruned()
    model = result.model

    class Damaging:
        """Comes after the model in a save, and writes something else over it."""

        def save_pretrained(self, folder: Path) -> None:
            damaged(folder, model)

    object.__setattr__(result, "tokenizer", Damaging())
    with pytest.raises(CheckpointError, match="differs"):
        save(result, tmp_path / "model")
    assert not (tmp_path / "model").exists()
    assert len(list(tmp_path.glob(".model-*.partial/model.safetensors"))) == 1
