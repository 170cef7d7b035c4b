"""Ridge: between least squares and the prior."""

from __future__ import annotations

from typing import Any, Literal

import pytest
import torch
from hypothesis import given
from tests.strategies import planted_problems

from billhook import TensorRegression
from billhook.errors import InvalidConfig
from billhook.testing import PlantedProblem, planted_problem
from billhook_strategies.estimators.least_squares import LeastSquares
from billhook_strategies.estimators.ridge import STRENGTHS, Ridge


@given(problem=planted_problems(noise=0.3))
def test_a_weak_ridge_is_least_squares(problem: PlantedProblem) -> None:
    weak, plain = (e.estimate(problem.regression).weight for e in (Ridge(strength=1e-12), LeastSquares()))
    # a relative 1e-12 on a Gram matrix whose condition number is below 1e6
    torch.testing.assert_close(weak, plain, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("strength", [1e9, 1e300, 1e308])
@pytest.mark.parametrize(("toward", "wanted"), [("present", torch.eye(8)), ("zero", torch.zeros(8, 8))])
def test_a_strong_ridge_is_what_it_pulls_to(
    toward: Literal["present", "zero"], wanted: torch.Tensor, strength: float
) -> None:
    found = Ridge(strength=strength, toward=toward).estimate(planted_problem().regression)
    # what is left of the data is of order 1 / strength
    torch.testing.assert_close(found.weight, wanted.double(), rtol=0, atol=1e-7)


@given(problem=planted_problems(noise=0.3, square=False))
def test_toward_zero_widths_may_differ(problem: PlantedProblem) -> None:
    found = Ridge(toward="zero").estimate(problem.regression)
    assert found.weight.shape == problem.truth.weight.shape


def test_in_a_refit_a_strong_ridge_keeps_the_writer() -> None:
    x, writer = torch.randn(50, 6), torch.randn(6, 3)
    found = Ridge(strength=1e9).estimate(TensorRegression(x, torch.randn(50, 3), prior=writer))
    torch.testing.assert_close(found.weight, writer.double(), rtol=0, atol=1e-6)  # of order 1 / strength is left


@pytest.mark.parametrize("noise", [0.0, 3.0, 300.0])
def test_the_strength_is_chosen_by_the_error_on_held_out_tokens(noise: float) -> None:
    rows = planted_problem(tokens=60, noise=noise).regression.all_rows
    regression = TensorRegression(rows.x, rows.residual, held_out=30)
    found = Ridge(strength="auto").estimate(regression)
    held_out = regression.held_out()
    assert held_out is not None
    errors = [held_out.squared_error(Ridge(strength=s).estimate(regression)) for s in STRENGTHS]
    assert held_out.squared_error(found) == pytest.approx(min(errors))
    assert found.notes == (f"ridge {STRENGTHS[errors.index(min(errors))]:g}, chosen on held-out tokens",)


def test_what_is_undetermined_is_told_once_and_not_for_every_strength(logged: list[str]) -> None:
    silent = TensorRegression(torch.zeros(60, 8), torch.randn(60, 3), prior=torch.ones(8, 3), held_out=20)
    found = Ridge(strength="auto").estimate(silent)
    said = "the data leave 8 directions of the regressor undetermined; nothing is changed there"
    assert found.notes[0] == said
    assert logged == [said]


def test_more_noise_asks_for_a_stronger_ridge() -> None:
    def strength(noise: float) -> float:
        rows = planted_problem(tokens=40, d_in=16, noise=noise).regression.all_rows
        note = Ridge(strength="auto").estimate(TensorRegression(rows.x, rows.residual, held_out=15)).notes[0]
        return float(note.split()[1].rstrip(","))

    assert strength(0.0) == STRENGTHS[0] < strength(300.0)


def test_without_held_out_tokens_an_automatic_ridge_says_what_it_takes() -> None:
    regression = planted_problem().regression
    found = Ridge(strength="auto").estimate(regression)
    assert torch.equal(found.weight, Ridge(strength=0.01).estimate(regression).weight)
    assert found.notes == ("no tokens were held out: the ridge is 0.01",)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"strength": 0.0}, "'strength' of Ridge must be above 0 and finite, or 'auto'; got 0.0"),
        ({"strength": float("nan")}, "'strength' of Ridge must be above 0 and finite, or 'auto'; got nan"),
        ({"strength": float("inf")}, "'strength' of Ridge must be above 0 and finite, or 'auto'; got inf"),
        ({"strength": "strong"}, "or 'auto'; got 'strong'"),
        ({"toward": "one"}, "'toward' of Ridge must be 'present' or 'zero'; got 'one'"),
    ],
)
def test_options_outside_their_range_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidConfig, match=message):
        Ridge(**options)
