"""What the config of a pruned model says, and that it is enough to build the model again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.families import DERIVED, marked, narrowable, some, types
from tests.framework.heterogeneous.uneven import (
    FAMILIES,
    MIXED,
    cut_view,
    logits,
    reloaded,
    saved,
    settled,
    settled_models,
)
from transformers import AutoConfig, PreTrainedConfig, PreTrainedModel

from billhook import DropBranch, DropLayers, KeepChannels, KeepHeads, default_registry
from billhook.heterogeneous.configuration_billhook import family_of
from billhook.heterogeneous.family import is_heterogeneous
from billhook.model.inserted import insert_after
from billhook.model.view import ModelView
from billhook.results.settling import describe_layers, settle
from billhook.testing import cut_sequences, random_map, tiny_model, tiny_view

CHANNELS = tuple(KeepChannels(number, (0, 3, 5, 7, 8, 20)) for number in range(4))
HEADS = tuple(KeepHeads(number, (1,)) for number in range(4))


def config_of(model: PreTrainedModel, folder: Path) -> dict[str, Any]:
    """What a save writes into config.json."""
    model.save_pretrained(folder)
    found: dict[str, Any] = json.loads((folder / "config.json").read_text())
    return found


def view_of(model: PreTrainedModel) -> ModelView:
    return ModelView(model, default_registry().adapter_for(family_of(model.config)))


# --- round trips -------------------------------------------------------------------------------------------------


@settings(max_examples=40)
@given(model=settled_models())
def test_any_model_comes_back_from_disk_bit_for_bit(
    tmp_path_factory: pytest.TempPathFactory, model: PreTrainedModel
) -> None:
    fresh = saved(model, tmp_path_factory.mktemp("model"))
    assert type(fresh) is type(model)
    assert torch.equal(logits(fresh), logits(model))


@given(model=settled_models())
def test_a_model_comes_back_the_same_a_second_time(
    tmp_path_factory: pytest.TempPathFactory, model: PreTrainedModel
) -> None:
    first, second = (tmp_path_factory.mktemp(name) for name in ("first", "second"))
    assert torch.equal(logits(saved(saved(model, first), second)), logits(model))
    assert (second / "config.json").read_text() == (first / "config.json").read_text()


@pytest.mark.parametrize("model_type", marked(FAMILIES))
def test_a_pruned_model_comes_back_when_it_had_been_loaded_itself(tmp_path: Path, model_type: str) -> None:
    dense = saved(tiny_model(model_type), tmp_path / "dense")  # remembers how its weights were renamed while loading
    model = settled(view_of(dense), *MIXED)
    assert torch.equal(logits(saved(model, tmp_path / "pruned")), logits(model))


@given(data=st.data(), model_type=st.sampled_from(types(some())))
def test_describing_a_model_does_not_change_what_it_computes(data: st.DataObject, model_type: str) -> None:
    view = tiny_view(model_type)
    for cut in data.draw(cut_sequences(view)):
        cut.remove_from(view)
    before = logits(view.model)
    settle(view)
    assert torch.equal(logits(view.model), before)


@pytest.mark.parametrize("bias", [True, False])
def test_maps_that_stand_one_after_the_other_come_back(tmp_path: Path, bias: bool) -> None:
    view = tiny_view("llama")
    for seed in (1, 2):
        insert_after(view.layer(1), "mlp.down_proj", random_map(view.d_model, seed=seed, bias=bias))
    settle(view)
    fresh = saved(view.model, tmp_path)
    assert torch.equal(logits(fresh), logits(view.model))
    assert (fresh.get_submodule("model.layers.1.mlp.down_proj.linear").bias is not None) == bias


def test_gpt2_may_leave_its_mlp_width_open(tmp_path: Path) -> None:
    model = settled("gpt2", KeepChannels(1, (1, 5, 60)), n_inner=None)
    assert config_of(model, tmp_path)["per_layer_config"] == {"1": {"n_inner": 3}}
    assert torch.equal(logits(reloaded(tmp_path)), logits(model))


def test_all_weights_but_the_changed_ones_are_the_dense_models_own() -> None:
    dense = tiny_view("llama")
    view = dense.copy()
    KeepChannels(1, (0, 2)).remove_from(view)
    settle(view)
    ours, theirs = dict(view.model.named_parameters()), dict(dense.model.named_parameters())
    other = {name for name, parameter in ours.items() if parameter is not theirs[name]}
    assert all(name.startswith("model.layers.1.mlp.") for name in other)
    assert not is_heterogeneous(dense.model)
    assert dense.model.config.model_type == "llama"


# --- config.json -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model_type", "channels", "heads"),
    [
        ("llama", {"intermediate_size": 5}, {"num_attention_heads": 2, "num_key_value_heads": 1}),
        ("phi3", {"intermediate_size": 5}, {"num_attention_heads": 2, "num_key_value_heads": 1}),
        ("gemma2", {"intermediate_size": 5}, {"num_attention_heads": 2, "num_key_value_heads": 1}),
        ("falcon", {"ffn_hidden_size": 5}, {"num_attention_heads": 2, "num_kv_heads": 1}),
        ("gpt_neox", {"intermediate_size": 5}, {"num_attention_heads": 1}),
        ("gpt2", {"n_inner": 5}, {"n_head": 1}),
        ("opt", {"ffn_dim": 5}, {"num_attention_heads": 1}),
    ],
)
def test_the_config_tells_what_differs_under_the_familys_own_names(
    tmp_path: Path, model_type: str, channels: dict[str, int], heads: dict[str, int]
) -> None:
    config = config_of(settled(model_type, *MIXED), tmp_path)
    assert config["model_type"] == "billhook"
    assert config["billhook"]["base"] == model_type
    assert config["per_layer_config"] == {
        "0": {"skip": ["attention"]},
        "1": channels,
        "2": heads,
        "3": {"skip": ["mlp"]},
    }


def test_layers_that_are_as_they_were_have_no_entry(tmp_path: Path) -> None:
    config = config_of(settled("llama", DropBranch(2, "mlp")), tmp_path)
    assert config["per_layer_config"] == {"2": {"skip": ["mlp"]}}
    assert config["intermediate_size"] == 24


def test_entries_count_the_layers_that_are_left_and_the_original_numbers_stand_beside(tmp_path: Path) -> None:
    config = config_of(settled("llama", DropLayers(0, 1), DropBranch(2, "attention")), tmp_path)
    assert config["per_layer_config"] == {"1": {"skip": ["attention"]}}
    assert config["billhook"]["numbers"] == [1, 2, 3]


def test_a_layer_that_lost_both_branches_is_gone(tmp_path: Path) -> None:
    config = config_of(settled("llama", DropBranch(1, "mlp"), DropBranch(1, "attention")), tmp_path)
    assert config["model_type"] == "llama"
    assert config["num_hidden_layers"] == 3


def test_maps_are_listed_by_layer_and_path(tmp_path: Path) -> None:
    view = tiny_view("gemma2")
    insert_after(view.layer(1), "post_feedforward_layernorm", random_map(view.d_model, bias=True))
    settle(view)
    assert config_of(view.model, tmp_path)["billhook"]["inserted"] == {"1": {"post_feedforward_layernorm": True}}


@pytest.mark.skipif(not hasattr(PreTrainedConfig, "per_layer_config"), reason="this transformers has no reader of it")
def test_transformers_reads_the_entries_itself(tmp_path: Path) -> None:
    settled("llama").save_pretrained(tmp_path)
    layers: Any = AutoConfig.from_pretrained(tmp_path).per_layer_config
    assert [layer.intermediate_size for layer in layers] == [24, 5, 24, 24]
    assert [layer.num_key_value_heads for layer in layers] == [2, 2, 1, 2]
    assert [layer.skip for layer in layers] == [["attention"], [], [], ["mlp"]]


def test_what_differs_can_be_said_in_words() -> None:
    view = cut_view("llama", DropLayers(0, 1), KeepChannels(1, (0, 3)), DropBranch(3, "attention"))
    insert_after(view.layer(3), "mlp.down_proj", random_map(view.d_model))
    settle(view)
    assert describe_layers(view.model) == [
        "layer 1 (intermediate_size 2)",
        "layer 3 (no attention, a linear layer after mlp.down_proj)",
    ]
    assert describe_layers(tiny_model()) == []


# --- uniform results ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("model_type", marked(narrowable("mlp")))
def test_channels_that_are_as_many_everywhere_give_a_stock_model(tmp_path: Path, model_type: str) -> None:
    model = settled(model_type, *CHANNELS)
    fresh = saved(model, tmp_path)
    assert type(fresh) is type(tiny_model(model_type))
    assert torch.equal(logits(fresh), logits(model))


@pytest.mark.parametrize("model_type", marked(narrowable("attention")))
def test_heads_that_are_as_many_everywhere_give_a_stock_model_where_the_family_can_say_so(
    tmp_path: Path, model_type: str
) -> None:
    model = settled(model_type, *HEADS)
    fresh = saved(model, tmp_path)
    assert is_heterogeneous(fresh) == (model_type in DERIVED)
    assert torch.equal(logits(fresh), logits(model))


def test_nothing_of_ours_is_in_a_stock_config(tmp_path: Path) -> None:
    config = config_of(settled("llama", *CHANNELS, *HEADS), tmp_path)
    assert not {"billhook", "auto_map", "per_layer_config"} & set(config)
    assert config["model_type"] == "llama"
    assert config["intermediate_size"] == 6
    assert (config["num_attention_heads"], config["num_key_value_heads"], config["head_dim"]) == (2, 1, 4)
    assert not list(tmp_path.glob("*.py"))


def test_one_layer_that_differs_is_enough_not_to_be_stock() -> None:
    assert not is_heterogeneous(settled("llama", *CHANNELS))
    assert is_heterogeneous(settled("llama", *CHANNELS, DropBranch(1, "attention")))
    assert is_heterogeneous(settled("llama", *CHANNELS[:3]))


# --- pruning again -----------------------------------------------------------------------------------------------


@settings(max_examples=30)
@given(data=st.data(), model_type=st.sampled_from(types(some())))
def test_a_checkpoint_can_be_cut_further(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, model_type: str
) -> None:
    view = tiny_view(model_type)
    for cut in data.draw(cut_sequences(view)):
        cut.remove_from(view)
    in_one_go = view_of(view.copy().model)
    settle(view)
    in_two = view_of(saved(view.model, tmp_path_factory.mktemp("first"))).copy()
    for cut in data.draw(cut_sequences(in_one_go, longest=2)):
        cut.check(in_two)
        cut.remove_from(in_two)
        cut.remove_from(in_one_go)
    settle(in_two)
    fresh = saved(in_two.model, tmp_path_factory.mktemp("second"))
    assert torch.equal(logits(fresh), logits(in_one_go.model))


@pytest.mark.parametrize("model_type", marked(FAMILIES))
def test_a_model_that_is_uniform_again_is_stock_again(tmp_path: Path, model_type: str) -> None:
    first = saved(settled(model_type, DropBranch(1, "attention"), KeepChannels(2, (1, 2, 3))), tmp_path / "first")
    view = view_of(first).copy()
    DropLayers(1, 3).remove_from(view)
    settle(view)
    config = config_of(view.model, tmp_path / "second")
    assert config["model_type"] == model_type
    assert config["architectures"] == [type(tiny_model(model_type)).__name__]
    assert not {"billhook", "auto_map", "per_layer_config"} & set(config)
    assert torch.equal(logits(reloaded(tmp_path / "second")), logits(view.model))


def test_the_model_that_was_loaded_stays_as_it_is(tmp_path: Path) -> None:
    loaded = saved(settled("llama"), tmp_path)
    before, config = logits(loaded), loaded.config.to_dict()
    view = view_of(loaded).copy()
    DropLayers(3, 4).remove_from(view)
    settle(view)
    assert is_heterogeneous(loaded)
    assert loaded.config.to_dict() == config
    assert torch.equal(logits(loaded), before)
