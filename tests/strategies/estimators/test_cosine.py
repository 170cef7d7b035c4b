"""Cosine: a map by gradient, against its loss written out."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.strategies import planted_problems
from tests.strategies.estimators.cosine_reference import Form, loss_of, minimised

from billhook import Budget, CacheBudget, Pruner, TensorRegression
from billhook.errors import InvalidConfig, SingularProblem
from billhook.testing import PlantedProblem, planted_problem, tiny_model, tiny_tokens
from billhook_strategies.estimators.cosine import Cosine
from billhook_strategies.selectors.fixed_windows import FixedWindows

SPREAD = 0.05
"""Learning rate of tests that want to see Adam get somewhere in a few steps."""


@pytest.mark.parametrize("form", ["approximate", "exact"])
@given(problem=planted_problems(noise=0.3, narrowest=4))  # in one column directions are signs: no gradient
def test_the_loss_falls_below_that_of_the_identity(form: Form, problem: PlantedProblem) -> None:
    found = Cosine(form=form, learning_rate=0.005).estimate(problem.regression)
    identity = torch.eye(len(found.weight))
    assert loss_of(problem, found.weight, form) < loss_of(problem, identity, form)


@pytest.mark.parametrize("form", ["approximate", "exact"])
def test_with_time_it_comes_near_the_best_loss(form: Form) -> None:
    problem = planted_problem(noise=0.3)
    found = Cosine(form=form, learning_rate=SPREAD, epochs=300).estimate(problem.regression)
    best = loss_of(problem, minimised(problem.regression.all_rows, form), form)
    # Adam's steps keep a size of the learning rate
    assert loss_of(problem, found.weight, form) == pytest.approx(best, abs=2e-3)


@pytest.mark.parametrize("form", ["approximate", "exact"])
def test_the_first_step_goes_down_the_gradient_written_out(form: Form) -> None:
    rows = planted_problem(noise=0.3).regression.all_rows
    base = rows.skip if form == "exact" else torch.zeros_like(rows.skip)
    a, b = rows.x + base, rows.residual + base
    along = (a * b).sum(1, keepdim=True) / (a.norm(dim=1, keepdim=True) ** 2)
    by_row = -(b - along * a) / (a.norm(dim=1, keepdim=True) * b.norm(dim=1, keepdim=True))
    gradient = rows.x.T @ by_row / len(rows)
    found = Cosine(form=form, epochs=1).estimate(TensorRegression(rows.x, rows.residual, rows.skip))
    # Adam divides the first gradient by its own size: each entry moves by the learning rate
    wanted = torch.eye(8) - 1e-4 * gradient.sign()
    torch.testing.assert_close(found.weight.double(), wanted.double(), rtol=0, atol=2e-6)


def test_the_published_settings_are_the_defaults() -> None:
    assert Cosine() == Cosine(form="approximate", learning_rate=1e-4, batch_tokens=1024, epochs=10, l1=0, l2=0)


def test_penalties_shrink_what_they_count() -> None:
    regression = planted_problem(noise=0.3).regression
    options: dict[str, Any] = {"learning_rate": SPREAD, "epochs": 60}
    plain = Cosine(**options).estimate(regression).weight
    assert Cosine(l1=3.0, **options).estimate(regression).weight.abs().mean() < plain.abs().mean()
    assert Cosine(l2=3.0, **options).estimate(regression).weight.square().mean() < plain.square().mean()


@given(problem=planted_problems(noise=0.3), factor=st.sampled_from([0.9, 0.99, 1.01, 1.1]))
def test_rescaling_gives_the_length_that_fits_best(problem: PlantedProblem, factor: float) -> None:
    found = Cosine(epochs=2, rescale=True).estimate(problem.regression)
    moments, plain = problem.regression.moments(), Cosine(epochs=2).estimate(problem.regression)
    scale = float((found.weight * plain.weight).sum() / plain.weight.square().sum())
    torch.testing.assert_close(found.weight, scale * plain.weight)
    error = moments.squared_error(found)
    other = type(found)(found.weight * factor)
    assert error <= moments.squared_error(other) * (1 + 1e-6)  # the map is float32


@pytest.mark.parametrize("form", ["approximate", "exact"])
def test_rows_without_a_direction_count_for_nothing(form: Form) -> None:
    rows = planted_problem(noise=0.3, tokens=40).regression.all_rows
    zeros = torch.zeros(7, 8, dtype=torch.float64)
    cosine = Cosine(form=form, batch_tokens=64)
    wanted = cosine.estimate(TensorRegression(rows.x, rows.residual, rows.skip))
    padded = [torch.cat([t, zeros]) for t in (rows.x, rows.residual, rows.skip)]
    found = cosine.estimate(TensorRegression(*padded))
    # sums over more rows in another order
    torch.testing.assert_close(found.weight, wanted.weight, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("dead", ["x", "residual", "both"])
def test_where_no_token_has_a_direction_nothing_is_changed(dead: str) -> None:
    x = planted_problem(tokens=40).regression.all_rows.x
    zeros = torch.zeros_like(x)
    given = {"x": (zeros, x), "residual": (x, zeros), "both": (zeros, zeros)}[dead]
    found = Cosine().estimate(TensorRegression(*given))
    assert found.weight.equal(torch.eye(8, dtype=torch.float64))
    assert found.notes == ("no token has a direction to learn; nothing is changed",)


def test_a_rate_that_diverges_is_an_error() -> None:
    with pytest.raises(SingularProblem, match=r"cosine loss diverged .* a smaller learning_rate, or 'least-squares'"):
        Cosine(learning_rate=1e30, epochs=3).estimate(planted_problem().regression)


def test_a_run_with_it_repairs_better_than_merely_dropping() -> None:
    estimator = Cosine(form="exact", learning_rate=0.01, batch_tokens=32)
    pruner = Pruner.following("replaceme", selector=FixedWindows(spans=((1, 3),)), estimator=estimator)
    result = pruner.prune(tiny_model(), calibration=tiny_tokens(rows=9, padding="both"), budget=Budget(layers=2))
    report = result.reports[0]
    assert report.cosine_after > report.cosine_before


def test_the_map_does_not_depend_on_the_room_for_its_rows() -> None:
    weights = []
    for budget in (CacheBudget(), CacheBudget(host=2000), CacheBudget(host=0)):
        own: dict[str, Any] = {"selector": FixedWindows(spans=((1, 3),)), "estimator": Cosine(batch_tokens=16)}
        pruner = Pruner.following("replaceme", **own, cache=budget, tokens_per_batch=24)
        model = pruner.prune(tiny_model(), calibration=tiny_tokens(rows=6), budget=Budget(layers=2)).model
        weights.append(model.state_dict()["model.layers.0.mlp.down_proj.weight"])
    assert torch.equal(weights[0], weights[1])
    assert torch.equal(weights[0], weights[2])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"form": "rough"}, "'form' of Cosine must be 'approximate' or 'exact'; got 'rough'"),
        ({"learning_rate": 0.0}, "'learning_rate' of Cosine must be above 0; got 0.0"),
        ({"batch_tokens": 0}, "'batch_tokens' of Cosine must be above 0; got 0"),
        ({"epochs": 0}, "'epochs' of Cosine must be above 0; got 0"),
        ({"l1": -1.0}, "'l1' of Cosine must not be negative; got -1.0"),
        ({"l2": float("nan")}, "'l2' of Cosine must not be negative; got nan"),
        ({"epochs": 10**9}, "'epochs' of Cosine must not be above 10000; got 1000000000"),
        ({"learning_rate": 1e308}, r"'learning_rate' of Cosine must not be above 1e\+30; got 1e\+308"),
        ({"l1": 1e308}, r"'l1' of Cosine must not be above 1e\+30; got 1e\+308"),
    ],
)
def test_options_outside_their_range_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidConfig, match=message):
        Cosine(**options)


def test_without_a_direction_to_start_from_nothing_can_be_turned() -> None:
    """Between different widths the map that changes nothing is zero, unless a writer says otherwise."""
    assert not Cosine().estimate(planted_problem(d_out=5).regression).weight.any()


@pytest.mark.parametrize("form", ["approximate", "exact"])
@pytest.mark.parametrize("options", [{}, {"l2": 0.05}])
def test_a_row_of_weight_three_counts_as_three(form: Form, options: dict[str, Any]) -> None:
    rows = planted_problem(noise=0.5, tokens=60).regression.all_rows
    times = torch.arange(60).remainder(3) + 1
    repeated = rows[torch.arange(60).repeat_interleave(times)]
    estimator = Cosine(form=form, learning_rate=SPREAD, **options)
    weighted = estimator.estimate(TensorRegression(rows.x, rows.residual, rows.skip, weights=times))
    wanted = estimator.estimate(TensorRegression(repeated.x, repeated.residual, repeated.skip))
    plain = estimator.estimate(TensorRegression(rows.x, rows.residual, rows.skip))
    torch.testing.assert_close(weighted.weight, wanted.weight, rtol=1e-4, atol=1e-5)  # float32
    assert (plain.weight - wanted.weight).abs().max() > 1e-2


def test_rows_that_weigh_nothing_have_no_say() -> None:
    rows = planted_problem(noise=0.5, tokens=60).regression.all_rows
    weights = (torch.arange(60) < 40).double()
    estimator = Cosine(learning_rate=SPREAD)
    found = estimator.estimate(TensorRegression(rows.x, rows.residual, rows.skip, weights=weights))
    first = rows[:40]
    wanted = estimator.estimate(TensorRegression(first.x, first.residual, first.skip))
    torch.testing.assert_close(found.weight, wanted.weight, rtol=1e-4, atol=1e-5)  # float32


def test_a_token_that_is_nearly_right_may_weigh_very_much() -> None:
    rows = planted_problem(noise=0.5, tokens=60).regression.all_rows
    found = []
    for factor in (1.0, 2.0**127):  # the sum of two such weights is infinite in float32
        weights = factor * (1.0 + torch.arange(60).double() % 3)
        regression = TensorRegression(rows.x, rows.residual, rows.skip, weights=weights)
        found.append(Cosine(form="exact").estimate(regression).weight)
    assert torch.equal(*found)
    assert not torch.equal(found[0], torch.eye(len(found[0])))
