"""Orthogonal: the Procrustes problem."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.strategies import planted_problems
from torch import Tensor

from billhook import TensorRegression
from billhook.errors import InvalidConfig
from billhook.testing import PlantedProblem, planted_problem, random_map
from billhook_strategies.estimators.orthogonal import Orthogonal


def error_of(problem: PlantedProblem, weight: Tensor) -> float:
    rows = problem.regression.all_rows
    return float((rows.x @ weight - rows.residual).square().sum())


@given(problem=planted_problems(structure="orthogonal"))
def test_a_planted_rotation_or_reflection_is_recovered(problem: PlantedProblem) -> None:
    found = Orthogonal().estimate(problem.regression)
    # float64; the singular values of XᵀR lie within a factor of 1e2
    torch.testing.assert_close(found.weight, problem.truth.weight, rtol=1e-8, atol=1e-8)


@given(problem=planted_problems(noise=2.0))
def test_the_answer_is_orthogonal_whatever_the_data(problem: PlantedProblem) -> None:
    found = Orthogonal().estimate(problem.regression).weight
    torch.testing.assert_close(found @ found.T, torch.eye(len(found), dtype=torch.float64), rtol=0, atol=1e-10)


@given(problem=planted_problems(noise=2.0), seed=st.integers(0, 99), size=st.sampled_from([1e-3, 0.1, 1.0]))
def test_no_other_rotation_near_or_far_does_better(problem: PlantedProblem, seed: int, size: float) -> None:
    found = Orthogonal().estimate(problem.regression).weight
    skew = random_map(len(found), seed=seed).weight
    turned = found @ torch.linalg.matrix_exp(size * (skew - skew.T))
    assert error_of(problem, found) <= error_of(problem, turned) * (1 + 1e-12)


@given(problem=planted_problems(noise=1.0), other=st.sampled_from([0.9, 0.999, 1.001, 1.1]))
def test_the_factor_of_the_scaled_form_is_the_best_one(problem: PlantedProblem, other: float) -> None:
    found = Orthogonal(scaled=True).estimate(problem.regression).weight
    assert error_of(problem, found) <= error_of(problem, other * found)


def test_the_scaled_form_recovers_a_scaled_rotation() -> None:
    rows = planted_problem(structure="orthogonal").regression.all_rows
    found = Orthogonal(scaled=True).estimate(TensorRegression(rows.x, 0.25 * rows.residual))
    wanted = Orthogonal().estimate(TensorRegression(rows.x, rows.residual))
    torch.testing.assert_close(found.weight, 0.25 * wanted.weight)


def test_directions_without_data_are_turned_as_little_as_possible_and_noted(logged: list[str]) -> None:
    plane = random_map(5, structure="orthogonal").weight[:2]
    x = planted_problem(d_in=2, tokens=50).regression.all_rows.x @ plane
    quarter = torch.tensor([[0.0, 1.0], [-1.0, 0.0]], dtype=torch.float64)
    turn = torch.eye(5, dtype=torch.float64) + plane.T @ (quarter - torch.eye(2)) @ plane  # in the plane, nowhere else
    found = Orthogonal().estimate(TensorRegression(x, x @ turn))
    torch.testing.assert_close(found.weight, turn, rtol=0, atol=1e-10)
    assert found.notes == ("the data leave 3 directions undetermined; they are turned as little as possible",)
    assert logged == list(found.notes)


def test_a_regressor_of_zeros_is_not_turned_at_all() -> None:
    found = Orthogonal(scaled=True).estimate(TensorRegression(torch.zeros(9, 4), torch.ones(9, 4)))
    torch.testing.assert_close(found.weight, torch.eye(4, dtype=torch.float64))


def test_widths_must_agree() -> None:
    with pytest.raises(InvalidConfig, match=r"the 8 columns of its output to 5\. Use the merger 'fold'"):
        Orthogonal().estimate(planted_problem(d_out=5).regression)
