from __future__ import annotations

import json
from pathlib import Path
from typing import cast

import attrs
import pytest
import torch
from hypothesis import given, settings
from tests.framework.heterogeneous.uneven import logits, reloaded
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel

from billhook import (
    Budget,
    Calibration,
    Cut,
    DropBranch,
    DropLayers,
    KeepChannels,
    Plan,
    Pruner,
    PruneResult,
    default_registry,
    evaluate,
    load,
)
from billhook.errors import CheckpointError, OutputExists
from billhook.model.adapter import Adapter
from billhook.model.loading import find
from billhook.model.view import ModelView
from billhook.plans.report import CutReport
from billhook.pruning.applying import Planned
from billhook.results.checkpoint import refuse_existing, save
from billhook.results.verification import verify_reload
from billhook.testing import adapters, tiny_model, tiny_tokenizer, tiny_tokens


def pruned(adapter: str | Adapter = "llama", merger: str = "fold") -> PruneResult:
    adapter = default_registry().adapter_for(adapter) if isinstance(adapter, str) else adapter
    estimator = "ridge" if merger == "insert" or adapter.why_not_foldable("mlp") is None else "identity"
    pruner = Pruner.following("replaceme-ls", estimator=estimator, merger=merger)
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
    (folder / "model-00001-of-00002.safetensors").write_text("old")
    result.save(folder, overwrite=True)
    assert not (folder / "model-00001-of-00002.safetensors").exists()
    assert [f.name for f in tmp_path.iterdir()] == ["model"]  # neither draft nor old copy is left


@pytest.mark.parametrize("family", ["llama", "gemma2", "opt"])
def test_an_inserted_map_comes_back_from_disk(tmp_path: Path, family: str) -> None:
    result = pruned(family, merger="insert")
    fresh = reloaded(result.save(tmp_path / "model"))
    assert fresh.config.model_type == "billhook"
    assert torch.equal(logits(fresh), logits(result.model))


def cut(*cuts: Cut, merger: str = "fold") -> PruneResult:
    """A tiny Llama without ``cuts``; what they leave out is repaired where the merger inserts."""
    pruner = Pruner.following(
        "replaceme-ls", selector=Planned(cuts), estimator="ridge" if merger == "insert" else "identity", merger=merger
    )
    tokens = Calibration(source=tiny_tokens(rows=6, seq=16))
    return pruner.prune(tiny_model("llama"), tiny_tokenizer(), calibration=tokens, budget=Budget(layers=1))


UNEVEN = (DropLayers(0, 1), DropBranch(1, "mlp"), KeepChannels(2, (0, 5)))
"""After these, layers 1 and 2 differ from the others."""


def test_layers_that_differ_come_back_from_disk(tmp_path: Path) -> None:
    result = cut(*UNEVEN)
    folder = result.save(tmp_path / "model")
    assert {"configuration_billhook.py", "modeling_billhook.py"} <= {file.name for file in folder.iterdir()}
    assert Plan.load(folder) == result.plan
    assert torch.equal(logits(reloaded(folder)), logits(result.model))


def test_a_checkpoint_whose_layers_differ_is_loaded_and_evaluated_as_any_other(tmp_path: Path) -> None:
    result = cut(*UNEVEN)
    folder = result.save(tmp_path / "model")
    model, tokenizer = load(str(folder))
    assert type(model) is type(result.model)
    assert type(find(str(folder)).skeleton()) is type(model)
    text = ["the quick brown fox jumps over the lazy dog. " * 9]
    found, wanted = (evaluate(m, tokenizer, text, seqlen=16) for m in (model, result.model))
    assert found == wanted


def test_a_checkpoint_whose_layers_differ_is_pruned_as_any_other(tmp_path: Path) -> None:
    model, tokenizer = load(str(cut(*UNEVEN).save(tmp_path / "first")))
    tokens = Calibration(source=tiny_tokens(rows=6, seq=16))
    pruner = Pruner.following("replaceme-ls", selector=Planned((DropLayers(0, 2),)), estimator="identity")
    result = pruner.prune(model, tokenizer, calibration=tokens, budget=Budget(layers=2))
    assert result.plan.model.model_type == "llama"
    assert (result.metrics["layers_before"], result.metrics["layers_after"]) == (3, 1)
    fresh = reloaded(result.save(tmp_path / "second"))
    assert fresh.config.model_type == "llama"  # what differed is gone
    assert torch.equal(logits(fresh), logits(result.model))


def test_a_padded_checkpoint_is_stock_and_says_the_same(tmp_path: Path) -> None:
    result = cut(*UNEVEN)
    folder = result.save(tmp_path / "model", pad=True)
    fresh = reloaded(folder)
    assert fresh.config.model_type == "llama"
    assert not list(folder.glob("*.py"))
    # float32: sums over more terms, all of them zero, in another order
    torch.testing.assert_close(logits(fresh), logits(result.model), rtol=1e-4, atol=1e-4)
    assert result.model.config.model_type == "billhook"  # the result itself stays as it is


def test_a_padded_model_that_differs_is_noticed_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    result, other = cut(*UNEVEN), tiny_model("llama", num_hidden_layers=3)
    monkeypatch.setattr("billhook.results.checkpoint.padded", lambda model: other)
    with pytest.raises(
        CheckpointError, match=r"The padded model differs from the model in memory.*nothing was written"
    ):
        result.save(tmp_path / "model", pad=True)
    assert not any(tmp_path.iterdir())


def test_uniform_refuses_layers_that_differ_by_their_original_numbers(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"layer 1 \(no mlp\), layer 2 \(intermediate_size 2\)\.") as caught:
        cut(*UNEVEN).save(tmp_path / "model", uniform=True)
    assert "option 'uniform'" in str(caught.value)
    assert "pad=True" in str(caught.value)
    assert not any(tmp_path.iterdir())


def test_uniform_names_a_few_of_many_layers(tmp_path: Path) -> None:
    many = pruned_to_one_channel(layers=9)
    with pytest.raises(CheckpointError, match=r"layer 4 \(intermediate_size 1\), and 3 more\."):
        many.save(tmp_path / "model", uniform=True)


def pruned_to_one_channel(layers: int) -> PruneResult:
    """All layers but the last."""
    cuts = tuple(KeepChannels(number, (0,)) for number in range(layers - 1))
    pruner = Pruner.following("replaceme-ls", selector=Planned(cuts), estimator="identity")
    model, tokens = tiny_model(num_hidden_layers=layers), Calibration(source=tiny_tokens(rows=6, seq=16))
    return pruner.prune(model, calibration=tokens, budget=Budget(layers=1))


def test_uniform_and_pad_name_the_merger_behind_an_inserted_map(tmp_path: Path) -> None:
    result = cut(DropLayers(1, 2), merger="insert")
    for options in ({"uniform": True}, {"pad": True}):
        with pytest.raises(CheckpointError, match=r"layer 0 .*a linear layer .*after mlp\.down_proj.*merger 'fold'"):
            result.save(tmp_path / "model", **options)
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("options", [{"uniform": True}, {"pad": True}, {"uniform": True, "pad": True}], ids=str)
def test_a_stock_result_is_uniform_and_needs_no_padding(tmp_path: Path, options: dict[str, bool]) -> None:
    result = pruned()
    assert torch.equal(logits(reloaded(result.save(tmp_path / "model", **options))), logits(result.model))


def test_uniform_is_content_with_a_padded_model(tmp_path: Path) -> None:
    folder = cut(*UNEVEN).save(tmp_path / "model", uniform=True, pad=True)
    assert reloaded(folder).config.model_type == "llama"


def card_of(result: PruneResult, folder: Path, **options: bool) -> str:
    return (result.save(folder / "model", **options) / "README.md").read_text()


def test_the_card_says_how_a_model_whose_layers_differ_is_loaded(tmp_path: Path) -> None:
    card = card_of(cut(*UNEVEN), tmp_path)
    assert "import billhook\n" in card
    assert "trust_remote_code=True" in card
    assert "An ordinary transformers checkpoint" not in card


@pytest.mark.parametrize("pad", [True, False])
def test_the_card_of_a_stock_checkpoint_says_so_and_whether_it_is_padded(tmp_path: Path, pad: bool) -> None:
    card = card_of(cut(*UNEVEN) if pad else pruned(), tmp_path, pad=pad)
    assert "An ordinary transformers checkpoint; billhook is not needed to load it." in card
    assert ("filled up with zeros" in card) == pad


def test_the_card_has_no_table_when_nothing_was_repaired_or_scored(tmp_path: Path) -> None:
    card = card_of(cut(*UNEVEN), tmp_path)
    assert "| cut |" not in card
    assert "mlp 2 to 2 channels" in card


def test_the_card_has_a_column_for_what_any_cut_can_fill(tmp_path: Path) -> None:
    result = cut(DropLayers(1, 2), merger="insert")
    scored = [CutReport(cut=DropBranch(3, "mlp"), score=12.5), *result.reports]
    card = card_of(attrs.evolve(result, reports=tuple(scored)), tmp_path)
    rows = [line for line in card.splitlines() if line.startswith("|")]
    assert rows[0] == "| cut | repaired in layer | R² | cosine before | cosine after | objective |"
    assert rows[2] == "| mlp 3 |  |  |  |  | 12.5000 |"
    assert rows[3].startswith("| layers 1:2 | 0 | 0.")
    assert {row.count("|") for row in rows} == {7}


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
    with pytest.raises(CheckpointError, match="with a dynamic cache fails: IndexError"):
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
