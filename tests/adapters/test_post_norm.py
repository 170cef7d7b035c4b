"""Gemma 2 and 3, OLMo 2: a norm stands between writer and stream."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from billhook import Budget, Pruner, PruningState, hookimpl
from billhook.activations.runner import Runner
from billhook.errors import CannotMerge, InvalidConfig, UnsupportedArchitecture
from billhook.testing import tiny_model, tiny_tokens, tiny_view
from billhook_strategies.mergers.insert import Insert
from billhook_strategies.selectors.fixed_windows import FixedWindows

POST_NORM = ["gemma2", "gemma3_text", "olmo2"]


def pruner(**options: Any) -> Pruner:
    return Pruner.following("replaceme-ls", selector=FixedWindows(spans=((1, 3),)), **options)


@pytest.mark.parametrize("model_type", POST_NORM)
def test_folding_ends_a_run_by_name_before_any_data_are_collected_and_offers_insert(model_type: str) -> None:
    stages: list[str] = []
    model = tiny_model(model_type)
    with pytest.raises(CannotMerge, match=r"the norm 'post_feedforward_layernorm' .*Use the merger 'insert'"):
        pruner(hooks=[_Stages(stages)]).prune(model, calibration=tiny_tokens(), budget=Budget(layers=2))
    assert "estimating" not in stages


class _Stages:
    """Notes the stages that progress is reported of."""

    def __init__(self, seen: list[str]) -> None:
        self._seen = seen

    @hookimpl
    def billhook_on_progress(self, stage: str) -> None:
        self._seen.append(stage)


@pytest.mark.parametrize("model_type", POST_NORM)
def test_insert_repairs_them(model_type: str) -> None:
    result = pruner(merger="insert").prune(tiny_model(model_type), calibration=tiny_tokens(9), budget=Budget(layers=2))
    report = result.reports[0]
    assert report.cosine_after > report.cosine_before
    assert result.model.config.num_hidden_layers == 2


@pytest.mark.parametrize("model_type", ["gemma2", "gemma3_text"])
def test_layers_keep_their_kind_of_attention_when_others_go(model_type: str) -> None:
    model = tiny_model(model_type, num_hidden_layers=6)
    kinds = list(model.config.layer_types)
    options: dict[str, Any] = {"estimator": "identity", "selector": FixedWindows(spans=((1, 2), (4, 5)))}
    pruned = (
        Pruner.following("replaceme-ls", **options)
        .prune(model, calibration=tiny_tokens(), budget=Budget(layers=2))
        .model
    )
    assert pruned.config.layer_types == [kinds[number] for number in (0, 2, 3, 5)]
    assert model.config.layer_types == kinds, "the user's model keeps its own"


def test_the_regressor_is_what_the_norm_lets_through() -> None:
    view = tiny_view("olmo2")
    state = PruningState(view, tiny_tokens(), merger=Insert())
    opened = Runner(view).open(state.flow.batches[0])
    written = Runner(view).run_recording(view, 0, "mlp", opened, opened.stream)
    weight = view.layer(0).get_parameter("post_feedforward_layernorm.weight").detach()
    rms = (written.output / weight).square().mean(-1).sqrt()
    torch.testing.assert_close(rms, torch.ones_like(rms), rtol=1e-3, atol=1e-3)  # up to the norm's epsilon


def test_what_cannot_be_narrowed_cannot_after_a_pruning_either(tmp_path: Path) -> None:
    """A model whose layers differ is of the type ``billhook``; the family's rules go on."""
    given: dict[str, Any] = {"calibration": tiny_tokens(rows=8), "budget": Budget(parameters=0.05)}
    once = Pruner(selector="block-pruner", estimator="identity", objective="perplexity").prune(
        tiny_model("olmo2"), **given
    )
    once.save(tmp_path / "once")
    again = AutoModelForCausalLM.from_pretrained(tmp_path / "once")
    with pytest.raises(InvalidConfig, match="queries and keys are normalised over all heads together"):
        Pruner(selector="heads", estimator="identity", objective="perplexity").prune(again, **given)


def test_gemma_3_that_attends_both_ways_is_no_causal_language_model() -> None:
    model = tiny_model("gemma3_text", use_bidirectional_attention=True)
    with pytest.raises(UnsupportedArchitecture, match=r"has use_bidirectional_attention=True: .*EmbeddingGemma"):
        Pruner(selector="cosine", estimator="identity").prune(model, calibration=tiny_tokens(), budget=Budget(layers=1))
