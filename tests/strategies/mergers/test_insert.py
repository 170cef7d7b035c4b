"""Insert: the linearised model itself, also where folding cannot go."""

from __future__ import annotations

import copy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.families import some
from tests.strategies import adapters, linear_maps, spans, tiny_models
from tests.strategies.mergers.test_fold import logits, view_of

from billhook import DropLayers
from billhook.errors import CannotMerge
from billhook.model.inserted import Mapped, has_inserted
from billhook.testing import linearised, random_map, tiny_tokens, tiny_view
from billhook_strategies.mergers.insert import Insert


@given(st.data())
def test_the_merged_model_is_the_linearised_one_in_every_family_with_any_bias(data: st.DataObject) -> None:
    view = view_of(data.draw(tiny_models(adapters())).double())
    cut = DropLayers(*data.draw(spans(len(view.numbers))))
    # right: eager attention takes its softmax in float32, where a float64 mask on the left becomes NaN
    linear_map, tokens = data.draw(linear_maps(view.d_model)), tiny_tokens(padding="right")
    wanted = logits(linearised(view, cut, linear_map), tokens)

    Insert().merge(view, cut, linear_map)

    # as in test_fold: float32 islands (norms, rotary angles) in float64 models
    torch.testing.assert_close(logits(view.model, tokens), wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("model_type", ["gemma2", "gemma3_text", "olmo2"])
def test_post_norm_families_are_served_in_float32(model_type: str) -> None:
    view, tokens = tiny_view(model_type), tiny_tokens(padding="both")
    cut, linear_map = DropLayers(2, 3), random_map(view.d_model, bias=True)
    wanted = logits(linearised(view, cut, linear_map), tokens)
    Insert().merge(view, cut, linear_map)
    # float32 through three layers
    torch.testing.assert_close(logits(view.model, tokens), wanted, rtol=1e-4, atol=1e-4 * float(wanted.abs().max()))


def test_a_second_cut_after_the_same_donor_puts_a_second_map_behind_the_first() -> None:
    view, tokens = tiny_view("llama", num_hidden_layers=5).copy(), tiny_tokens()
    for seed, cut in enumerate((DropLayers(2, 3), DropLayers(3, 4))):
        linear_map = random_map(view.d_model, seed=seed, bias=True)
        wanted = logits(linearised(view, cut, linear_map), tokens)
        Insert().merge(view, cut, linear_map)
        # float32 through three layers
        torch.testing.assert_close(logits(view.model, tokens), wanted, rtol=1e-4, atol=1e-4 * float(wanted.abs().max()))
    assert view.numbers == (0, 1, 4)


def test_one_linear_layer_of_the_models_dtype_is_added() -> None:
    view = tiny_view("mistral", dtype=torch.bfloat16)
    before = view.parameter_count - sum(p.numel() for p in view.layer(1).parameters())
    Insert().merge(view, DropLayers(1, 2), random_map(view.d_model, bias=True))
    assert view.parameter_count == before + view.d_model**2 + view.d_model
    assert {p.dtype for p in view.model.parameters()} == {torch.bfloat16}


def test_the_wrapped_modules_attributes_stay_reachable_also_in_copies() -> None:
    view = tiny_view("gemma2")
    Insert().merge(view, DropLayers(1, 2), random_map(view.d_model))
    wrapped = copy.deepcopy(view.layer(0).get_submodule("post_feedforward_layernorm"))
    assert isinstance(wrapped, Mapped)
    assert wrapped.eps == wrapped.module.eps
    with pytest.raises(AttributeError, match="no_such_thing"):
        _ = wrapped.no_such_thing


def test_an_inserted_map_can_be_seen() -> None:
    view = tiny_view("opt")
    assert not has_inserted(view.model)
    Insert().merge(view, DropLayers(1, 2), None)
    assert not has_inserted(view.model)
    Insert().merge(view, DropLayers(2, 3), random_map(view.d_model))
    assert has_inserted(view.model)


def test_a_map_with_no_layer_before_it_is_refused() -> None:
    view = tiny_view("llama")
    with pytest.raises(CannotMerge, match="layers 0:1 has nothing before it that could take a map"):
        Insert().merge(view, DropLayers(0, 1), random_map(view.d_model))
    assert view.numbers == (0, 1, 2, 3)


def test_every_adapter_is_accepted() -> None:
    for adapter in some():
        Insert().check(tiny_view(adapter), DropLayers(1, 2))
