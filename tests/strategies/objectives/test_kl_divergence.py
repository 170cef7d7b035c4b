"""KLDivergence: against the sum over words, written out. On whole models: tests/framework/test_scoring.py."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.strategies.selecting import state_of
from torch import Tensor

from billhook import DropBranch, Predictions
from billhook.search.scoring import score
from billhook.testing import tiny_view
from billhook_strategies.objectives.kl_divergence import KLDivergence

WORDS = 9


def predictions(logits: Tensor, dense: Tensor) -> Predictions:
    return Predictions(logits, torch.zeros(len(logits), dtype=torch.long), lambda: dense)


def softmax(scores: list[float]) -> list[float]:
    total = sum(math.exp(score) for score in scores)
    return [math.exp(score) / total for score in scores]


@given(tokens=st.integers(1, 2000), seed=st.integers(0, 2**20), size=st.sampled_from([0.1, 1.0, 5.0]))
def test_it_is_the_sum_over_tokens_and_words(tokens: int, seed: int, size: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    ours, dense = (size * torch.randn(tokens, WORDS, generator=generator) for _ in range(2))
    wanted = 0.0
    for row, reference in zip(ours.tolist(), dense.tolist(), strict=True):
        wanted += sum(p * math.log(p / q) for p, q in zip(softmax(reference), softmax(row), strict=True))
    assert KLDivergence().loss(predictions(ours, dense)) == pytest.approx(wanted, rel=1e-4)  # summed in float32


def test_it_is_taken_from_the_dense_model_to_the_other() -> None:
    """Not the other way round: a word that the dense model never says may cost nothing."""
    dense, ours = torch.tensor([[0.0, -30.0]]), torch.tensor([[0.0, 0.0]])
    assert KLDivergence().loss(predictions(ours, dense)) == pytest.approx(math.log(2), rel=1e-5)
    assert KLDivergence().loss(predictions(dense, ours)) > 10


@given(seed=st.integers(0, 2**20), dtype=st.sampled_from([torch.float32, torch.bfloat16]))
def test_it_is_zero_for_equal_predictions_and_never_below(seed: int, dtype: torch.dtype) -> None:
    logits = (5 * torch.randn(50, WORDS, generator=torch.Generator().manual_seed(seed))).to(dtype)
    assert KLDivergence().loss(predictions(logits, logits)) == 0
    nearly = logits * (1 + 1e-6)
    assert KLDivergence().loss(predictions(nearly, logits)) >= 0


def test_a_constant_on_all_words_does_not_count() -> None:
    logits = torch.randn(5, WORDS, generator=torch.Generator().manual_seed(0))
    assert KLDivergence().loss(predictions(logits + 3, logits)) == pytest.approx(0, abs=1e-5)  # float32


def test_what_is_not_a_number_stays_so() -> None:
    """A broken candidate must not pass for a perfect one."""
    logits = torch.zeros(3, WORDS)
    assert math.isnan(KLDivergence().loss(predictions(logits * math.nan, logits)))


def test_of_a_model_it_is_a_mean_in_nats_which_is_zero_for_the_dense_one() -> None:
    with state_of(tiny_view()) as state:
        assert score(state, KLDivergence()) == 0
        with state.trial(DropBranch(1, "mlp")):
            assert score(state, KLDivergence()) > 0


def test_it_says_that_it_compares() -> None:
    assert KLDivergence.compares
    assert KLDivergence.nonnegative
