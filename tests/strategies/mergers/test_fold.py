"""Fold: after a merge, the model computes what the linearised one does."""

from __future__ import annotations

from typing import cast

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.families import every, marked
from tests.strategies import linear_maps, spans, tiny_models
from torch import Tensor, nn
from transformers import PreTrainedModel

from billhook import DropLayers, LinearMap, Merger, ModelView, Tokens, default_registry
from billhook.errors import CannotMerge
from billhook.heterogeneous.configuration_billhook import family_of
from billhook.model.writer import bias_of, weight_rows
from billhook.testing import linearised, random_map, tiny_model, tiny_tokens, tiny_view
from billhook_strategies.mergers.fold import Fold
from billhook_strategies.mergers.insert import Insert

REGISTRY = default_registry()
FOLDABLE = [adapter for adapter in every() if adapter.why_not_foldable("mlp") is None]
POST_NORM = [adapter for adapter in every() if adapter.why_not_foldable("mlp") is not None]


def view_of(model: PreTrainedModel) -> ModelView:
    return ModelView(model, REGISTRY.adapter_for(family_of(model.config)))


@torch.no_grad()
def logits(model: PreTrainedModel, tokens: Tokens) -> Tensor:
    out = model(input_ids=tokens.ids, attention_mask=tokens.keep.long(), use_cache=False)
    return cast(Tensor, out.logits[tokens.keep])


@given(st.data())
def test_in_float64_the_merged_model_is_the_linearised_one_in_every_family(data: st.DataObject) -> None:
    model = data.draw(tiny_models(st.sampled_from(FOLDABLE))).double()
    view = view_of(model)
    start, stop = data.draw(spans(len(view.numbers)))
    bias = bias_of(view.writer(start - 1, "mlp")) is not None and data.draw(st.booleans())
    linear_map = data.draw(linear_maps(view.d_model, bias=bias))
    cut, tokens = DropLayers(start, stop), tiny_tokens(padding="right")
    wanted = logits(linearised(view, cut, linear_map), tokens)

    Fold().merge(view, cut, linear_map)

    # norms and rotary angles are computed in float32 by some families, in both models alike but from streams that
    # differ in the last bits of float64: a rounding of 6e-8 may fall the other way
    torch.testing.assert_close(logits(view.model, tokens), wanted, rtol=1e-5, atol=1e-5)


@given(model=tiny_models(st.sampled_from(FOLDABLE), st.just(6)), seed=st.integers(0, 99), reverse=st.booleans())
def test_several_cuts_one_after_the_other_are_exact_too(model: PreTrainedModel, seed: int, reverse: bool) -> None:
    view, tokens = view_of(model), tiny_tokens(seed=seed, padding="both")
    cuts = [DropLayers(1, 2), DropLayers(3, 5)]
    for cut in reversed(cuts) if reverse else cuts:
        linear_map = random_map(view.d_model, seed=seed)
        wanted = logits(linearised(view, cut, linear_map), tokens)
        Fold().merge(view, cut, linear_map)
        # float32: the product W·T is rounded once, and 16 to 24 summands are added in another order in each layer
        torch.testing.assert_close(logits(view.model, tokens), wanted, rtol=1e-3, atol=1e-3 * float(wanted.abs().max()))
    assert view.numbers == (0, 2, 5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_the_new_weight_is_the_float64_product_rounded_once(dtype: torch.dtype) -> None:
    view = tiny_view("gpt2", dtype=dtype)
    old, old_bias = weight_rows(view.writer(0, "mlp")).double(), bias_of(view.writer(0, "mlp"))
    assert old_bias is not None
    linear_map = random_map(view.d_model, bias=True)
    assert linear_map.bias is not None

    Fold().merge(view, DropLayers(1, 3), linear_map)

    new_bias = bias_of(view.writer(0, "mlp"))
    assert new_bias is not None
    assert torch.equal(weight_rows(view.writer(0, "mlp")), (old @ linear_map.weight).to(dtype))
    assert torch.equal(new_bias, (old_bias.double() @ linear_map.weight + linear_map.bias).to(dtype))


def test_a_bfloat16_model_computes_the_linearised_logits_to_bfloat16() -> None:
    view, tokens = tiny_view("llama", dtype=torch.bfloat16), tiny_tokens()
    cut, linear_map = DropLayers(1, 3), random_map(view.d_model, bias=True)
    wanted = logits(linearised(view, cut, linear_map), tokens)
    Fold().merge(view, cut, linear_map)
    # bfloat16 keeps 8 bits; a dozen roundings of 0.4 % on the way may add up
    torch.testing.assert_close(
        logits(view.model, tokens).float(), wanted.float(), rtol=0.05, atol=0.05 * float(wanted.abs().max())
    )


@pytest.mark.parametrize("multiplier", [0.5, 3.0])
def test_the_bias_is_divided_by_the_residual_multiplier_of_granite(multiplier: float) -> None:
    view, tokens = tiny_view("granite", mlp_bias=True, residual_multiplier=multiplier), tiny_tokens()
    cut, linear_map = DropLayers(2, 3), random_map(view.d_model, bias=True)
    wanted = logits(linearised(view, cut, linear_map), tokens)
    Fold().merge(view, cut, linear_map)
    # float32 through three layers
    torch.testing.assert_close(logits(view.model, tokens), wanted, rtol=1e-4, atol=1e-4 * float(wanted.abs().max()))


@pytest.mark.parametrize("adapter", marked(POST_NORM))
@pytest.mark.parametrize("step", ["check", "merge"])
def test_a_norm_behind_the_writer_is_refused_by_name_and_insert_is_offered(adapter: object, step: str) -> None:
    view = tiny_view(adapter)  # type: ignore[arg-type] # parametrize hands over what ids= has seen as object
    message = (
        rf"in {view.adapter.name} the norm '{view.adapter.layout('mlp').norm_after}' stands between .* merger 'insert'"
    )
    with pytest.raises(CannotMerge, match=message):
        _do(step, Fold(), view, random_map(view.d_model))
    assert view.numbers == (0, 1, 2, 3)
    Insert().check(view, DropLayers(1, 2))


def _do(step: str, merger: Merger, view: ModelView, linear_map: LinearMap | None) -> None:
    if step == "check":
        merger.check(view, DropLayers(1, 2))
    else:
        merger.merge(view, DropLayers(1, 2), linear_map)


@pytest.mark.parametrize("adapter", marked(POST_NORM))
def test_where_nothing_is_repaired_a_norm_behind_the_writer_is_no_matter(adapter: object) -> None:
    view = tiny_view(adapter)  # type: ignore[arg-type] # as above
    Fold().merge(view, DropLayers(1, 2), None)
    assert view.numbers == (0, 2, 3)


def test_a_bias_is_refused_where_the_writer_has_none_and_nothing_changes() -> None:
    view = tiny_view("mistral")
    before = {name: tensor.clone() for name, tensor in view.model.state_dict().items()}
    with pytest.raises(
        CannotMerge, match=r"the mlp writer of layer 0 has none to fold it into.*without bias.*'insert'"
    ):
        Fold().merge(view, DropLayers(1, 2), random_map(view.d_model, bias=True))
    after = view.model.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())
    assert view.numbers == (0, 1, 2, 3)
    assert view.model.config.num_hidden_layers == 4


def test_a_writer_that_is_no_linear_layer_is_refused() -> None:
    view = tiny_view("llama")
    view.layer(0).get_submodule("mlp").down_proj = nn.Identity()
    with pytest.raises(CannotMerge, match=r"the writer of layer 0 is a Identity, not a float linear layer.*'insert'"):
        Fold().check(view, DropLayers(1, 2))


def test_after_an_insert_at_the_same_donor_folding_is_refused() -> None:
    view = tiny_view("llama")
    Insert().merge(view, DropLayers(1, 2), random_map(view.d_model))
    with pytest.raises(CannotMerge, match="the writer of layer 0 is a Mapped"):
        Fold().merge(view, DropLayers(2, 3), random_map(view.d_model))
    assert view.numbers == (0, 2, 3)


def test_no_parameter_is_added_and_none_outside_the_donor_is_replaced() -> None:
    dense = tiny_view("llama")
    view = dense.copy()
    Fold().merge(view, DropLayers(2, 3), random_map(view.d_model, bias=True))
    theirs = {id(p) for p in dense.model.parameters()}
    new = {name for name, p in view.model.named_parameters() if id(p) not in theirs}
    assert new == {"model.layers.1.mlp.down_proj.weight", "model.layers.1.mlp.down_proj.bias"}


def test_a_map_with_no_layer_before_it_is_refused() -> None:
    view = view_of(tiny_model("llama"))
    with pytest.raises(CannotMerge, match="layers 0:2 has nothing before it"):
        Fold().merge(view, DropLayers(0, 2), random_map(view.d_model))
