"""Perplexity: against the whole model's own logits and a loss written out."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.framework.search.naive_search import naive_score
from tests.strategies import tiny_models
from tests.strategies.mergers.test_fold import view_of
from transformers import PreTrainedModel

from billhook import DropLayers, Predictions, PruningState, Tokens
from billhook.errors import CalibrationError
from billhook.search.scoring import score
from billhook.testing import random_map, tiny_tokens, tiny_view
from billhook_strategies.mergers.fold import Fold
from billhook_strategies.mergers.insert import Insert
from billhook_strategies.objectives.perplexity import Perplexity


def naive(model: PreTrainedModel, tokens: Tokens) -> float:
    return naive_score(model, model, tokens, "perplexity")


@given(model=tiny_models(), padding=st.sampled_from(["none", "left", "right", "both"]), seed=st.integers(0, 99))
def test_it_is_that_of_the_whole_model(model: PreTrainedModel, padding: str, seed: int) -> None:
    tokens = tiny_tokens(rows=5, seed=seed, padding=padding)  # type: ignore[arg-type] # sampled from its literals
    state = PruningState(view_of(model), tokens, merger=Fold(), tokens_per_batch=24)
    # float32 logits
    assert score(state, Perplexity()) == pytest.approx(naive(model, tokens), rel=1e-4)
    state.close()


@pytest.mark.parametrize("model_type", ["llama", "gpt2", "gemma3_text", "falcon", "granite"])
@pytest.mark.parametrize("cuts", [[DropLayers(0, 1)], [DropLayers(2, 4)], [DropLayers(1, 2), DropLayers(3, 5)]])
def test_after_cuts_it_is_that_of_the_cut_model(model_type: str, cuts: list[DropLayers]) -> None:
    tokens = tiny_tokens(rows=5, padding="both")
    state = PruningState(tiny_view(model_type, num_hidden_layers=6), tokens, merger=Insert(), tokens_per_batch=24)
    for cut in cuts:
        linear_map = None if cut.start == 0 else random_map(state.model.d_model)
        state.merger.merge(state.model, cut, linear_map)
        state.record(cut)
    # float32 logits
    assert score(state, Perplexity()) == pytest.approx(naive(state.model.model, tokens), rel=1e-4)
    state.close()


def test_a_trial_is_scored_and_forgotten() -> None:
    tokens = tiny_tokens(rows=5)
    state = PruningState(tiny_view(), tokens, merger=Fold())
    dense = score(state, Perplexity())
    with state.trial(DropLayers(1, 3)) as trial:
        # float32 logits
        assert score(state, Perplexity()) == pytest.approx(naive(trial.model, tokens), rel=1e-4)
    assert score(state, Perplexity()) == dense


def test_rows_of_one_token_are_refused() -> None:
    state = PruningState(tiny_view(), tiny_tokens(seq=1), merger=Fold())
    with pytest.raises(CalibrationError, match="rows of at least two tokens"):
        score(state, Perplexity())


@given(tokens=st.integers(1, 2000), seed=st.integers(0, 2**20))
def test_the_loss_is_the_sum_over_tokens(tokens: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(tokens, 9, generator=generator)
    labels = torch.randint(9, (tokens,), generator=generator)
    rows = zip(logits.tolist(), labels.tolist(), strict=True)
    wanted = sum(math.log(sum(math.exp(score) for score in row)) - row[label] for row, label in rows)
    shown = Predictions(logits, labels, lambda: logits)
    assert Perplexity().loss(shown) == pytest.approx(wanted, rel=1e-4)  # summed in float32


@pytest.mark.parametrize(("mean", "value"), [(0.0, 1.0), (1.0, math.e), (1e4, math.inf), (math.inf, math.inf)])
def test_its_value_is_the_exponential_or_infinite(mean: float, value: float) -> None:
    assert Perplexity().value(mean) == value


def test_bfloat16_logits_are_summed_in_float32() -> None:
    logits = torch.zeros(2000, 9, dtype=torch.bfloat16)
    labels = torch.zeros(2000, dtype=torch.long)
    shown = Predictions(logits, labels, lambda: logits)
    assert Perplexity().loss(shown) == pytest.approx(2000 * math.log(9), rel=1e-4)
