"""Diagonal: channel by channel."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.strategies import planted_problems

from billhook import TensorRegression
from billhook.errors import InvalidConfig, SingularProblem
from billhook.testing import PlantedProblem, planted_problem
from billhook_strategies.estimators.diagonal import Diagonal


@given(problem=planted_problems(structure="diagonal"))
def test_a_planted_diagonal_is_recovered(problem: PlantedProblem) -> None:
    found = Diagonal().estimate(problem.regression)
    torch.testing.assert_close(found.weight, problem.truth.weight, rtol=1e-9, atol=1e-9)  # float64, no inversion


@given(problem=planted_problems(noise=1.0), strength=st.sampled_from([0.0, 0.1, 10.0]))
def test_each_factor_solves_its_own_regression(problem: PlantedProblem, strength: float) -> None:
    x, residual = problem.regression.all_rows.x, problem.regression.all_rows.residual
    penalty = strength * float((x**2).sum()) / x.shape[1]
    found = Diagonal(strength=strength).estimate(problem.regression).weight
    for j in range(x.shape[1]):
        wanted = (float(x[:, j] @ residual[:, j]) + penalty) / (float(x[:, j] @ x[:, j]) + penalty)
        assert float(found[j, j]) == pytest.approx(wanted)
    assert torch.equal(found, torch.diag(found.diagonal()))


@pytest.mark.parametrize("strength", [0.0, 0.1])
def test_a_channel_that_is_always_zero_keeps_its_factor_of_one(strength: float) -> None:
    x, residual = torch.ones(10, 3), torch.full((10, 3), 2.0)
    x[:, 1] = 0
    found = Diagonal(strength=strength).estimate(TensorRegression(x, residual))
    assert float(found.weight[1, 1]) == 1


def test_no_tokens_are_refused() -> None:
    with pytest.raises(SingularProblem, match="no calibration tokens"):
        Diagonal().estimate(TensorRegression(torch.zeros(0, 3), torch.zeros(0, 3)))


def test_widths_must_agree() -> None:
    with pytest.raises(InvalidConfig, match=r"the 8 columns of its output to 5\. Use the merger 'fold'"):
        Diagonal().estimate(planted_problem(d_out=5).regression)


@pytest.mark.parametrize("strength", [-1.0, float("inf"), float("nan")])
def test_a_strength_outside_its_range_is_refused(strength: float) -> None:
    with pytest.raises(InvalidConfig, match=f"'strength' of Diagonal must be finite and not negative; got {strength}"):
        Diagonal(strength=strength)
