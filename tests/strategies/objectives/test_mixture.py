"""Mixture: between its two ends, and on them."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.strategies.selecting import state_of

from billhook import DropBranch, Predictions
from billhook.errors import InvalidConfig
from billhook.search.scoring import score
from billhook.testing import tiny_view
from billhook_strategies.objectives.kl_divergence import KLDivergence
from billhook_strategies.objectives.mixture import Mixture
from billhook_strategies.objectives.perplexity import Perplexity

SHOWN = Predictions(
    torch.randn(7, 9, generator=torch.Generator().manual_seed(0)),
    torch.arange(7),
    lambda: torch.randn(7, 9, generator=torch.Generator().manual_seed(1)),
)


@given(kl=st.floats(0, 1))
def test_both_are_weighed(kl: float) -> None:
    likelihood, divergence = Perplexity().loss(SHOWN), KLDivergence().loss(SHOWN)
    assert Mixture(kl=kl).loss(SHOWN) == pytest.approx((1 - kl) * likelihood + kl * divergence)


def test_at_its_ends_it_is_the_one_or_the_other() -> None:
    with state_of(tiny_view()) as state, state.trial(DropBranch(1, "mlp")):
        assert score(state, Mixture(kl=0)) == pytest.approx(math.log(score(state, Perplexity())))
        assert score(state, Mixture(kl=1)) == pytest.approx(score(state, KLDivergence()))


def test_a_half_of_each_unless_told() -> None:
    assert Mixture() == Mixture(kl=0.5)


def test_what_is_not_a_number_stays_so() -> None:
    broken = Predictions(SHOWN.logits * math.nan, SHOWN.labels, SHOWN.dense_logits)
    assert math.isnan(Mixture().loss(broken))


@pytest.mark.parametrize("kl", [-0.1, 1.1, math.nan])
def test_weights_outside_their_range_are_refused(kl: float) -> None:
    with pytest.raises(InvalidConfig, match=f"'kl' of Mixture must lie between 0 and 1; got {kl}"):
        Mixture(kl=kl)
