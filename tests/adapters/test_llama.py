"""The families built like Llama, and what each of them adds."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tests.strategies.mergers.test_fold import logits
from transformers import AutoModelForCausalLM, BertConfig, PreTrainedModel

from billhook import Budget, DropLayers, Pruner, default_registry
from billhook.errors import InvalidCut, UnsupportedArchitecture
from billhook.testing import linearised, random_map, tiny_model, tiny_tokens, tiny_view
from billhook_strategies.mergers.fold import Fold
from billhook_strategies.selectors.fixed_windows import FixedWindows


def without(model: PreTrainedModel, *spans: tuple[int, int]) -> PreTrainedModel:
    pruner = Pruner.following("replaceme-ls", selector=FixedWindows(spans=spans), estimator="identity")
    return pruner.prune(model, calibration=tiny_tokens(), budget=Budget(layers=1)).model


@pytest.mark.parametrize("model_type", ["qwen2", "qwen3"])
def test_qwens_layer_types_are_sliced(model_type: str) -> None:
    kinds = ["full_attention", "full_attention", "sliding_attention", "full_attention", "sliding_attention"]
    model = tiny_model(model_type, num_hidden_layers=5, layer_types=kinds)
    pruned = without(model, (1, 2), (3, 4))
    assert pruned.config.layer_types == ["full_attention", "sliding_attention", "sliding_attention"]
    assert model.config.layer_types == kinds


def test_smollm3s_layers_without_rotary_positions_are_sliced() -> None:
    model = tiny_model("smollm3", num_hidden_layers=6, no_rope_layers=[1, 0, 1, 1, 0, 0])
    pruned = without(model, (2, 4))
    assert pruned.config.no_rope_layers == [1, 0, 0, 0]
    assert [bool(layer.self_attn.use_rope) for layer in pruned.model.layers] == [True, False, False, False]


def test_layer_numbers_inside_the_survivors_are_renumbered_and_the_dense_models_are_not() -> None:
    model = tiny_model("llama", num_hidden_layers=6)
    pruned = without(model, (1, 3), (4, 5))
    assert [layer.self_attn.layer_idx for layer in pruned.model.layers] == [0, 1, 2]
    assert [layer.self_attn.layer_idx for layer in model.model.layers] == [0, 1, 2, 3, 4, 5]


def test_the_residual_multiplier_of_granite_is_the_scale_of_both_branches() -> None:
    view = tiny_view("granite", residual_multiplier=0.25)
    assert view.adapter.scale(view.layer(0), "mlp") == 0.25
    assert view.adapter.scale(view.layer(0), "attention") == 0.25


@pytest.mark.parametrize("bias", [False, True])
def test_a_map_fitted_on_granites_scaled_output_is_folded_exactly(bias: bool) -> None:
    view, tokens = tiny_view("granite", residual_multiplier=0.25, mlp_bias=True), tiny_tokens()
    cut, linear_map = DropLayers(1, 3), random_map(view.d_model, bias=bias)
    wanted = logits(linearised(view, cut, linear_map), tokens)
    Fold().merge(view, cut, linear_map)
    # float32 through two layers
    torch.testing.assert_close(logits(view.model, tokens), wanted, rtol=1e-4, atol=1e-4)


def test_the_repair_of_granite_is_right_end_to_end() -> None:
    model, tokens = tiny_model("granite", residual_multiplier=0.25), tiny_tokens(9)
    result = Pruner.following("replaceme-ls", selector=FixedWindows(spans=((1, 3),))).prune(
        model, calibration=tokens, budget=Budget(layers=2)
    )
    assert result.reports[0].cosine_after > result.reports[0].cosine_before
    assert result.reports[0].r_squared > 0


@pytest.mark.parametrize(
    ("model_type", "message"),
    [
        ("lama", r"No adapter knows the model type 'lama'\. Did you mean 'llama'\?"),
        ("bert", r"Known: apertus, .*smollm3.*\. .*docs/adapters\.md"),
    ],
)
def test_an_unknown_model_type_is_refused_with_the_known_ones_and_how_to_add_it(model_type: str, message: str) -> None:
    with pytest.raises(UnsupportedArchitecture, match=message):
        default_registry().adapter_for(model_type)


def test_a_model_that_no_adapter_knows_is_refused_at_the_start_of_a_run() -> None:
    config = BertConfig(
        vocab_size=64, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=8, is_decoder=True
    )
    with pytest.raises(UnsupportedArchitecture, match="No adapter knows the model type 'bert'"):
        Pruner.following("replaceme-ls").prune(
            AutoModelForCausalLM.from_config(config), calibration=tiny_tokens(), budget=Budget(layers=1)
        )


@pytest.mark.parametrize("keep_explicit_list", [True, False])
def test_a_period_without_an_explicit_list_cannot_express_a_gap(keep_explicit_list: bool) -> None:
    model = tiny_model("smollm3", num_hidden_layers=6)
    assert model.config.no_rope_layer_interval == 2
    if keep_explicit_list:
        assert without(model, (1, 2)).config.num_hidden_layers == 5
        return
    object.__setattr__(model.config, "no_rope_layers", None)  # as a config of another family would be
    with pytest.raises(InvalidCut, match="no_rope_layer_interval=2, which cannot express a gap"):
        without(model, (1, 2))


def test_every_family_names_distinct_model_types() -> None:
    served: list[Any] = [kind for adapter in default_registry().adapters() for kind in adapter.model_types]
    assert len(served) == len(set(served))
