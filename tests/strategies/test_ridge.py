"""Ridge: between least squares and the prior."""

from __future__ import annotations

from typing import Any, Literal

import pytest
import torch
from hypothesis import given

from billhook.errors import InvalidConfig
from billhook.testing import PlantedProblem, planted_problem
from billhook_strategies.least_squares import LeastSquares
from billhook_strategies.ridge import Ridge
from tests.strategies import planted_problems


@given(problem=planted_problems(noise=0.3))
def test_a_weak_ridge_is_least_squares(problem: PlantedProblem) -> None:
    weak, plain = (e.estimate(problem.regression).weight for e in (Ridge(strength=1e-12), LeastSquares()))
    # a relative 1e-12 on a Gram matrix whose condition number is below 1e6
    torch.testing.assert_close(weak, plain, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("toward", "wanted"), [("identity", torch.eye(8)), ("zero", torch.zeros(8, 8))])
def test_a_strong_ridge_is_what_it_pulls_to(toward: Literal["identity", "zero"], wanted: torch.Tensor) -> None:
    found = Ridge(strength=1e9, toward=toward).estimate(planted_problem().regression)
    # what is left of the data is of order 1 / strength
    torch.testing.assert_close(found.weight, wanted.double(), rtol=0, atol=1e-7)


@given(problem=planted_problems(noise=0.3, square=False))
def test_toward_zero_widths_may_differ(problem: PlantedProblem) -> None:
    found = Ridge(toward="zero").estimate(problem.regression)
    assert found.weight.shape == problem.truth.weight.shape


def test_toward_the_identity_widths_may_not_differ() -> None:
    with pytest.raises(InvalidConfig, match="no identity from 8 to 5 columns"):
        Ridge().estimate(planted_problem(d_out=5).regression)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"strength": 0.0}, "'strength' of Ridge must be above 0 and finite; got 0.0"),
        ({"strength": float("nan")}, "'strength' of Ridge must be above 0 and finite; got nan"),
        ({"strength": float("inf")}, "'strength' of Ridge must be above 0 and finite; got inf"),
        ({"toward": "one"}, "'toward' of Ridge must be 'identity' or 'zero'; got 'one'"),
    ],
)
def test_options_outside_their_range_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidConfig, match=message):
        Ridge(**options)
