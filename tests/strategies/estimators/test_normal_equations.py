"""The closed-form solver: against independent formulas, and at the edges of what data can determine."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.strategies import planted_problems
from torch import Tensor

from billhook import LinearMap, Moments, TensorRegression
from billhook.errors import InvalidConfig, SingularProblem
from billhook.testing import PlantedProblem, planted_problem
from billhook_strategies.estimators.normal_equations import Toward, prior_of, refuse_inner, refuse_not_finite, solve


def assert_same(found: Tensor, wanted: Tensor) -> None:
    """Both sides are float64; normal equations square the condition number, which is below 1e3 in planted problems."""
    torch.testing.assert_close(found, wanted, rtol=1e-8, atol=1e-8)


def fit(
    x: Tensor, residual: Tensor, *, ridge: float = 0.0, toward: Toward = "present", bias: bool = False
) -> LinearMap:
    regression = TensorRegression(x, residual)
    return solve(regression.moments(), prior_of(regression, toward), ridge=ridge, bias=bias)


def rows_of(problem: PlantedProblem) -> tuple[Tensor, Tensor]:
    return problem.regression.all_rows.x, problem.regression.all_rows.residual


@given(problem=planted_problems(noise=0.5))
def test_without_ridge_it_is_least_squares(problem: PlantedProblem) -> None:
    x, residual = rows_of(problem)
    wanted = torch.linalg.lstsq(x, residual, driver="gelsd").solution
    assert_same(fit(x, residual).weight, wanted)


@given(problem=planted_problems(noise=0.5))
def test_with_bias_it_is_least_squares_with_a_column_of_ones(problem: PlantedProblem) -> None:
    x, residual = rows_of(problem)
    wanted = torch.linalg.lstsq(torch.cat([x, torch.ones(len(x), 1)], 1), residual, driver="gelsd").solution
    found = fit(x, residual, bias=True)
    assert found.bias is not None
    assert_same(found.weight, wanted[:-1])
    assert_same(found.bias, wanted[-1])


@given(
    problem=planted_problems(noise=0.5),
    strength=st.sampled_from([1e-4, 0.01, 1.0, 100.0]),
    toward=st.sampled_from(["present", "zero"]),
)
def test_ridge_is_least_squares_on_rows_that_ask_for_the_prior(
    problem: PlantedProblem, strength: float, toward: Toward
) -> None:
    """The textbook's augmented rows, in numpy: sqrt(λ)·I below X, sqrt(λ)·T0 below R."""
    x, residual = (t.numpy() for t in rows_of(problem))
    d = x.shape[1]
    weight = np.sqrt(strength * np.mean(np.sum(x * x, axis=0)))
    prior = np.eye(d) if toward == "present" else np.zeros((d, d))
    above, below = np.vstack([x, weight * np.eye(d)]), np.vstack([residual, weight * prior])
    wanted = torch.from_numpy(np.linalg.lstsq(above, below, rcond=None)[0])
    found = fit(*rows_of(problem), ridge=strength, toward=toward)
    assert_same(found.weight, wanted)


@given(problem=planted_problems(noise=0.5), toward=st.sampled_from(["present", "zero"]))
def test_ridge_does_not_penalise_the_intercept(problem: PlantedProblem, toward: Toward) -> None:
    x, residual = rows_of(problem)
    centred = (x - x.mean(0), residual - residual.mean(0))
    wanted = fit(*centred, ridge=0.1, toward=toward).weight
    found = fit(x, residual, ridge=0.1, toward=toward, bias=True)
    assert found.bias is not None
    assert_same(found.weight, wanted)
    assert_same(found.bias, residual.mean(0) - x.mean(0) @ wanted)


def test_the_strength_of_ridge_means_the_same_for_any_number_of_tokens() -> None:
    x, residual = rows_of(planted_problem(noise=0.5))
    once, thrice = fit(x, residual, ridge=0.1), fit(x.repeat(3, 1), residual.repeat(3, 1), ridge=0.1)
    assert_same(once.weight, thrice.weight)


@pytest.mark.parametrize("spread", [1e3, 1e5])
def test_columns_of_very_different_scale_keep_their_digits(spread: float) -> None:
    problem = planted_problem(tokens=500)
    x, _ = rows_of(problem)
    x = x * torch.logspace(0, 1, x.shape[1], base=spread, dtype=x.dtype)
    found = fit(x, x @ problem.truth.weight)
    # without scaling the Gram matrix to a unit diagonal, its condition number would be spread² · 1e2
    torch.testing.assert_close(found.weight, problem.truth.weight, rtol=1e-6, atol=1e-6)
    assert found.notes == ()


def test_a_dead_column_keeps_the_identity_and_is_noted(logged: list[str]) -> None:
    problem = planted_problem()
    x, _ = rows_of(problem)
    x = x.clone()
    x[:, 3] = 0
    alive = [n for n in range(8) if n != 3]
    found = fit(x, x @ problem.truth.weight)
    assert_same(found.weight[alive], problem.truth.weight[alive])
    assert_same(found.weight[3], torch.eye(8, dtype=torch.float64)[3])
    note = "the data leave 1 directions of the regressor undetermined; nothing is changed there"
    assert found.notes == (note,)
    assert logged == [note]


def test_a_repeated_column_changes_as_little_as_possible(logged: list[str]) -> None:
    x, residual = rows_of(planted_problem(noise=0.5))
    x = torch.cat([x[:, :7], x[:, :1]], 1)
    found = fit(x, residual)
    deviation = torch.linalg.lstsq(x, residual - x, driver="gelsd").solution  # gelsd: the least norm of all solutions
    assert_same(found.weight, torch.eye(8) + deviation)
    assert len(found.notes) == len(logged) == 1


def test_a_regressor_of_zeros_keeps_the_identity() -> None:
    found = fit(torch.zeros(20, 4), torch.ones(20, 4))
    assert torch.equal(found.weight, torch.eye(4, dtype=torch.float64))
    assert found.notes


@pytest.mark.parametrize(("bias", "tokens"), [(False, 7), (True, 8)])
def test_fewer_tokens_than_columns_are_refused(bias: bool, tokens: int) -> None:
    x, residual = rows_of(planted_problem(tokens=tokens))
    with pytest.raises(SingularProblem, match=rf"{tokens} calibration tokens cannot determine a map of 8 .* 'ridge'"):
        fit(x, residual, bias=bias)


def test_ridge_does_with_fewer_tokens_than_columns() -> None:
    x, residual = rows_of(planted_problem(tokens=3))
    assert bool(torch.isfinite(fit(x, residual, ridge=0.01).weight).all())


def test_no_tokens_at_all_are_refused() -> None:
    with pytest.raises(SingularProblem, match="no calibration tokens"):
        refuse_not_finite(Moments.empty(4, 4))


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_sums_that_are_not_finite_are_refused(bad: float) -> None:
    x, residual = rows_of(planted_problem())
    x = x.clone()
    x[0, 0] = bad
    with pytest.raises(SingularProblem, match="activations are not finite"):
        fit(x, residual, ridge=0.1)


def test_the_prior_of_a_refit_is_the_writer_itself() -> None:
    x, writer = torch.randn(50, 6), torch.randn(6, 3)
    regression = TensorRegression(x, x @ writer, prior=writer)
    assert torch.equal(prior_of(regression, "present"), writer.double())
    assert not prior_of(regression, "zero").any()


@pytest.mark.parametrize(
    "regression",
    [
        TensorRegression(torch.randn(9, 3), torch.randn(9, 2)),
        TensorRegression(torch.randn(9, 3), torch.randn(9, 3), prior=torch.eye(3)),
    ],
)
def test_structured_maps_follow_an_output(regression: TensorRegression) -> None:
    with pytest.raises(InvalidConfig, match=r"A rotation follows the output of a branch; .* Use the merger 'fold'"):
        refuse_inner(regression, "A rotation")
