"""Perplexity: against the whole model's own logits and a loss written out."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import PreTrainedModel

from billhook import DropLayers, PruningState, Tokens
from billhook.errors import CalibrationError, InvalidConfig
from billhook.testing import random_map, tiny_tokens, tiny_view
from billhook_strategies.fold import Fold
from billhook_strategies.insert import Insert
from billhook_strategies.perplexity import Perplexity
from tests.strategies import tiny_models
from tests.strategies.test_fold import view_of


@torch.no_grad()
def naive(model: PreTrainedModel, tokens: Tokens) -> float:
    """Token by token: −log of the softmax that the row's earlier tokens give it."""
    logits = model(input_ids=tokens.ids, attention_mask=tokens.keep.long(), use_cache=False).logits.double()
    losses = []
    for row, keep, ids in zip(logits, tokens.keep, tokens.ids, strict=True):
        real = [position for position in range(len(ids)) if keep[position]]
        for position in real[1:]:
            scores = row[position - 1]
            losses.append(float(scores.logsumexp(0) - scores[ids[position]]))
    return math.exp(sum(losses) / len(losses))


@given(model=tiny_models(), padding=st.sampled_from(["none", "left", "right", "both"]), seed=st.integers(0, 99))
def test_it_is_that_of_the_whole_model(model: PreTrainedModel, padding: str, seed: int) -> None:
    tokens = tiny_tokens(rows=5, seed=seed, padding=padding)  # type: ignore[arg-type] # sampled from its literals
    state = PruningState(view_of(model), tokens, merger=Fold(), tokens_per_batch=24)
    # float32 logits
    assert Perplexity(chunk_tokens=7).evaluate(state) == pytest.approx(naive(model, tokens), rel=1e-4)
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
    assert Perplexity().evaluate(state) == pytest.approx(naive(state.model.model, tokens), rel=1e-4)
    state.close()


def test_a_trial_is_scored_and_forgotten() -> None:
    tokens = tiny_tokens(rows=5)
    state = PruningState(tiny_view(), tokens, merger=Fold())
    dense = Perplexity().evaluate(state)
    with state.trial(DropLayers(1, 3)) as trial:
        # float32 logits
        assert Perplexity().evaluate(state) == pytest.approx(naive(trial.model, tokens), rel=1e-4)
    assert Perplexity().evaluate(state) == dense


def test_the_size_of_chunks_does_not_matter() -> None:
    state = PruningState(tiny_view(), tiny_tokens(rows=5), merger=Fold())
    assert Perplexity(chunk_tokens=1).evaluate(state) == pytest.approx(Perplexity().evaluate(state), rel=1e-5)


def test_rows_of_one_token_are_refused() -> None:
    state = PruningState(tiny_view(), tiny_tokens(seq=1), merger=Fold())
    with pytest.raises(CalibrationError, match="rows of at least two tokens"):
        Perplexity().evaluate(state)


def test_chunks_of_no_tokens_are_refused() -> None:
    with pytest.raises(InvalidConfig, match="'chunk_tokens' of Perplexity must be at least 1; got 0"):
        Perplexity(chunk_tokens=0)
