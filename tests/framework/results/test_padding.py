"""Stock models in which what is gone is zeros: of every family, after any cuts, they compute the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest
import torch
from hypothesis import given, settings
from tests.families import DERIVED, marked, narrowable
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
from torch import Tensor
from transformers import PreTrainedModel

from billhook import Cut, DropBranch, DropLayers, KeepChannels, KeepHeads
from billhook.errors import CheckpointError
from billhook.heterogeneous.family import is_heterogeneous
from billhook.model.inserted import insert_after
from billhook.results.padding import padded
from billhook.results.settling import settle
from billhook.testing import random_map, tiny_model

ONE_GROUP = tuple(KeepHeads(number, (1,)) for number in range(4))


def assert_same(found: Tensor, wanted: Tensor) -> None:
    """Equal up to float32 sums over more terms, all of them zero, in another order."""
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4 * float(wanted.abs().max()))


@settings(max_examples=40)
@given(model=settled_models(inserted=False))
def test_the_padded_model_is_the_familys_own_and_computes_the_same(
    tmp_path_factory: pytest.TempPathFactory, model: PreTrainedModel
) -> None:
    full = padded(model)
    assert not is_heterogeneous(full)
    assert full.config.num_hidden_layers == model.config.num_hidden_layers
    assert_same(logits(full), logits(model))
    assert torch.equal(logits(saved(full, tmp_path_factory.mktemp("full"))), logits(full))


@pytest.mark.parametrize("model_type", marked(FAMILIES))
def test_one_of_each_kind_of_cut_can_be_padded(model_type: str) -> None:
    model = settled(model_type)
    full = padded(model)
    assert type(full) is type(tiny_model(model_type))
    assert_same(logits(full), logits(model))
    assert {n: p.shape for n, p in full.named_parameters()} == {
        n: p.shape for n, p in tiny_model(model_type).named_parameters()
    }


@pytest.mark.parametrize("model_type", marked(FAMILIES))
def test_what_is_gone_is_zeros_and_what_is_left_is_as_it_was(model_type: str) -> None:
    model = settled(model_type, *MIXED)
    own, full = model.state_dict(), padded(model).state_dict()
    for name, tensor in full.items():
        if name not in own:
            assert not tensor.any(), name
        elif own[name].shape == tensor.shape:
            assert torch.equal(own[name], tensor), name
        else:
            # the kept entries in their order, and zeros
            assert torch.equal(_nonzero(own[name]), _nonzero(tensor)), name


def _nonzero(tensor: Tensor) -> Tensor:
    return tensor[tensor != 0]


@pytest.mark.parametrize("model_type", marked(narrowable("mlp")))
def test_layers_are_as_wide_as_the_widest_and_no_wider(model_type: str) -> None:
    cuts = [KeepChannels(number, tuple(range(number + 1))) for number in range(4)]
    model = settled(model_type, *cuts, DropBranch(1, "attention"))
    full = padded(model)
    channels = cut_view(model_type).adapter.layout("mlp").sizes["channels"]
    assert getattr(full.config, channels) == 4
    assert_same(logits(full), logits(model))


@pytest.mark.parametrize("model_type", marked(narrowable("attention")))
def test_heads_are_as_many_as_in_the_widest_layer_where_the_family_takes_so_few(model_type: str) -> None:
    model = settled(model_type, *ONE_GROUP, DropBranch(3, "mlp"))
    full, dense = padded(model), tiny_model(model_type)
    assert (full.config.num_attention_heads < dense.config.num_attention_heads) == (model_type not in DERIVED)
    assert_same(logits(full), logits(model))


@pytest.mark.parametrize("model_type", marked(FAMILIES))
def test_a_model_without_any_mlp_keeps_one_channel_of_zeros(model_type: str) -> None:
    model = settled(model_type, *(DropBranch(number, "mlp") for number in range(4)))
    full = padded(model)
    assert_same(logits(full), logits(model))
    writer = cut_view(model_type).adapter.layout("mlp").writer
    (weight,) = {p.numel() for name, p in full.named_parameters() if name.endswith(f"{writer}.weight")}
    assert weight == full.config.hidden_size


def test_layers_that_went_as_a_whole_stay_gone() -> None:
    full = padded(settled("llama", DropLayers(1, 2), DropBranch(2, "mlp")))
    assert full.config.num_hidden_layers == 3


@pytest.mark.parametrize("cuts", [(DropLayers(1, 2),), tuple(KeepChannels(n, (0, 1)) for n in range(4))], ids=str)
def test_a_stock_model_is_left_as_it_is(cuts: tuple[Cut, ...]) -> None:
    model = settled("llama", *cuts)
    assert padded(model) is model


def test_the_model_itself_and_the_random_numbers_are_left_alone() -> None:
    model = settled("llama")
    before, config, state = logits(model), model.config.to_dict(), torch.get_rng_state()
    padded(model)
    assert torch.equal(logits(model), before)
    assert model.config.to_dict() == config
    assert is_heterogeneous(model)
    assert torch.equal(torch.get_rng_state(), state)


def test_dtype_and_generation_config_are_the_models_own(tmp_path: Path) -> None:
    model = settled("llama", *MIXED, dtype=torch.bfloat16)
    cast(Any, model).generation_config.max_length = 33
    full = padded(model)
    assert {parameter.dtype for parameter in full.parameters()} == {torch.bfloat16}
    assert cast(Any, full).generation_config.max_length == 33
    assert not full.training
    assert saved(full, tmp_path).dtype == torch.bfloat16


def test_tied_embeddings_stay_tied(tmp_path: Path) -> None:
    full = padded(settled("llama", *MIXED, tie_word_embeddings=True))
    assert cast(Any, full.get_output_embeddings()).weight is full.get_input_embeddings().weight
    full.save_pretrained(tmp_path)
    assert torch.equal(logits(reloaded(tmp_path)), logits(full))


def test_a_checkpoint_can_be_padded_after_it_was_loaded(tmp_path: Path) -> None:
    model = saved(settled("gpt_neox"), tmp_path)
    assert_same(logits(padded(model)), logits(model))


def test_the_padded_model_generates_with_either_cache() -> None:
    model = settled("gemma3_text")
    full = padded(model)
    ids = torch.tensor([[5, 6, 7, 8]])
    options = {"max_new_tokens": 6, "do_sample": False, "eos_token_id": None, "attention_mask": torch.ones_like(ids)}
    wanted = cast(Any, model).generate(ids, **options)
    for cache in ({}, {"cache_implementation": "static"}):
        assert torch.equal(cast(Any, full).generate(ids, **options, **cache), wanted)


def test_inserted_maps_cannot_be_padded() -> None:
    view = cut_view("llama", DropLayers(0, 1))
    insert_after(view.layer(2), "mlp.down_proj", random_map(view.d_model))
    settle(view)
    with pytest.raises(CheckpointError, match=r"layer 2 has a linear layer inserted after mlp\.down_proj.*'fold'"):
        padded(view.model)
