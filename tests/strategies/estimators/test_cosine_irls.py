"""CosineIRLS: a map by reweighted least squares, against the cosine loss written out."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest
import torch
from hypothesis import given
from tests.strategies import planted_problems
from tests.strategies.estimators.cosine_reference import Form, loss_of, minimised
from torch import Tensor

from billhook import Budget, Moments, Plan, Pruner, Rows, TensorRegression
from billhook.errors import InvalidConfig, SingularProblem
from billhook.testing import PlantedProblem, planted_problem, tiny_model, tiny_tokens
from billhook_strategies.estimators.cosine_irls import CosineIRLS
from billhook_strategies.estimators.cosine_surrogate import LEAST_COSINE, add_surrogate, minimum
from billhook_strategies.selectors.fixed_windows import FixedWindows


@pytest.mark.parametrize("form", ["approximate", "exact"])
@given(problem=planted_problems(noise=0.3, narrowest=4))  # in one column directions are signs
def test_the_loss_falls_below_that_of_the_identity(form: Form, problem: PlantedProblem) -> None:
    found = CosineIRLS(form=form).estimate(problem.regression)
    identity = torch.eye(len(found.weight))
    assert loss_of(problem, found.weight, form) < loss_of(problem, identity, form)


@pytest.mark.parametrize("form", ["approximate", "exact"])
def test_it_comes_to_the_best_loss(form: Form) -> None:
    problem = planted_problem(noise=0.3)
    found = CosineIRLS(form=form, epochs=100).estimate(problem.regression)
    best = loss_of(problem, minimised(problem.regression.all_rows, form), form)
    assert loss_of(problem, found.weight, form) == pytest.approx(best, abs=1e-6)  # float32 predictions


@pytest.mark.parametrize("form", ["approximate", "exact"])
def test_where_it_stands_still_the_gradient_is_zero_even_if_rows_point_elsewhere(form: Form) -> None:
    rows = planted_problem(noise=4.0, tokens=400).regression.all_rows
    found = CosineIRLS(form=form, epochs=300).estimate(TensorRegression(rows.x, rows.residual, rows.skip))
    weight = found.weight.double().requires_grad_()
    base = rows.skip if form == "exact" else torch.zeros_like(rows.skip)
    cosine = torch.nn.functional.cosine_similarity(rows.x @ weight + base, rows.residual + base)
    assert cosine.min() < LEAST_COSINE
    (gradient,) = torch.autograd.grad((1 - cosine).mean(), weight)
    (start,) = torch.autograd.grad(_first_loss(rows, base, weight), weight)
    assert gradient.norm() < 1e-3 * start.norm()  # float32 predictions
    best = float((found.weight.double() * (rows.x.T @ rows.residual)).sum())
    if form == "approximate":
        assert best == pytest.approx(float((rows.x @ found.weight.double()).square().sum()), rel=1e-4)


def _first_loss(rows: Rows, base: Tensor, weight: Tensor) -> Tensor:
    """The loss at the identity, as a function of ``weight``."""
    identity = weight - weight.detach() + torch.eye(len(weight), dtype=weight.dtype)
    return (1 - torch.nn.functional.cosine_similarity(rows.x @ identity + base, rows.residual + base)).mean()


@pytest.mark.parametrize("form", ["approximate", "exact"])
def test_the_first_round_is_a_weighted_least_squares_problem(form: Form) -> None:
    rows = planted_problem(noise=0.3).regression.all_rows
    near = rows.x + 0.2 * rows.residual
    base = rows.skip if form == "exact" else torch.zeros_like(rows.skip)
    before, wanted = rows.x + base, near + base
    cosine = torch.nn.functional.cosine_similarity(before, wanted)
    lengths = before.norm(dim=1)
    assert cosine.min() > LEAST_COSINE
    weights = torch.exp2((cosine / lengths.square()).log2().round())
    gradient = (cosine[:, None] * before / lengths[:, None] - wanted / wanted.norm(dim=1)[:, None]) / lengths[:, None]
    targets = before - gradient / weights[:, None] - base
    roots = weights.sqrt()[:, None]
    solved = torch.linalg.lstsq(rows.x * roots, targets * roots).solution
    found = CosineIRLS(form=form, epochs=1).estimate(TensorRegression(rows.x, near, rows.skip)).weight
    scale = float((found * solved).sum() / solved.square().sum()) if form == "approximate" else 1.0
    # predictions and the map are float32
    torch.testing.assert_close(found, scale * solved.to(found), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("form", ["approximate", "exact"])
@given(problem=planted_problems(noise=0.3, narrowest=4))
def test_every_round_lowers_the_loss(form: Form, problem: PlantedProblem) -> None:
    losses = [
        loss_of(problem, CosineIRLS(form=form, epochs=epochs).estimate(problem.regression).weight, form)
        for epochs in (1, 2, 3, 6)
    ]
    # near the minimum the losses differ by float32's rounding
    assert all(later <= earlier + 1e-5 for earlier, later in itertools.pairwise(losses))


def test_a_surrogate_that_is_not_finite_is_an_error() -> None:
    rows = planted_problem(noise=0.3).regression.all_rows.to(dtype=torch.float32)
    sums = Moments.empty(8, 8)
    add_surrogate(sums, rows, torch.full((8, 8), 1e38), form="exact")
    with pytest.raises(SingularProblem, match="not finite"):
        minimum(sums, torch.eye(8), l2=0, count=8)


def test_the_penalty_is_the_mean_square_of_the_entries() -> None:
    regression = planted_problem(noise=0.3).regression
    found = CosineIRLS(form="exact", l2=0.3, epochs=200).estimate(regression).weight
    wanted = minimised(regression.all_rows, "exact", l2=0.3)
    torch.testing.assert_close(found.double(), wanted, rtol=0, atol=2e-3)  # the line search stops at a slope of 1e-7


def test_what_the_data_do_not_determine_stays() -> None:
    rows = planted_problem(noise=0.3).regression.all_rows
    blind = rows.x.clone()
    blind[:, -1] = 0
    found = CosineIRLS(form="exact").estimate(TensorRegression(blind, rows.residual, rows.skip)).weight
    torch.testing.assert_close(found[-1], torch.eye(8)[-1].to(found))


@pytest.mark.parametrize("form", ["approximate", "exact"])
def test_neither_rows_without_a_direction_nor_the_size_of_batches_matter(form: Form) -> None:
    rows = planted_problem(noise=0.3, tokens=40).regression.all_rows
    zeros = torch.zeros(7, 8, dtype=torch.float64)
    wanted = CosineIRLS(form=form).estimate(TensorRegression(rows.x, rows.residual, rows.skip))
    padded = [torch.cat([t, zeros]) for t in (rows.x, rows.residual, rows.skip)]
    found = CosineIRLS(form=form, batch_tokens=7).estimate(TensorRegression(*padded))
    # sums over more rows in another order
    torch.testing.assert_close(found.weight, wanted.weight, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("dead", ["x", "residual", "both"])
def test_where_no_token_has_a_direction_nothing_is_changed(dead: str) -> None:
    x = planted_problem(tokens=40).regression.all_rows.x
    zeros = torch.zeros_like(x)
    given = {"x": (zeros, x), "residual": (x, zeros), "both": (zeros, zeros)}[dead]
    found = CosineIRLS().estimate(TensorRegression(*given))
    assert found.weight.equal(torch.eye(8, dtype=torch.float64))
    assert found.notes == ("no token has a direction to learn; nothing is changed",)


def test_a_run_with_it_repairs_better_than_merely_dropping() -> None:
    own: dict[str, Any] = {"selector": FixedWindows(spans=((1, 3),)), "estimator": CosineIRLS(form="exact")}
    pruner = Pruner.following("replaceme", **own)
    result = pruner.prune(tiny_model(), calibration=tiny_tokens(rows=9, padding="both"), budget=Budget(layers=2))
    report = result.reports[0]
    assert report.cosine_after > report.cosine_before


def test_a_plan_from_when_it_was_an_optimizer_of_cosine_speaks_of_it() -> None:
    own: dict[str, Any] = {"selector": FixedWindows(spans=((1, 3),)), "estimator": CosineIRLS(form="exact")}
    pruner = Pruner.following("replaceme", **own)
    plan = pruner.prune(tiny_model(), calibration=tiny_tokens(), budget=Budget(layers=2)).plan
    before = json.loads(plan.to_json())
    before["estimator"] = {"name": "billhook:cosine", "options": {"optimizer": "irls", "form": "exact"}}
    read = Plan.from_json(json.dumps(before)).estimator
    assert (read.name, dict(read.options)) == (plan.estimator.name, {"form": "exact"})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"form": "rough"}, "'form' of CosineIRLS must be 'approximate' or 'exact'; got 'rough'"),
        ({"batch_tokens": 0}, "'batch_tokens' of CosineIRLS must be above 0; got 0"),
        ({"epochs": 0}, "'epochs' of CosineIRLS must be above 0; got 0"),
        ({"l2": float("nan")}, "'l2' of CosineIRLS must not be negative; got nan"),
        ({"epochs": 10**9}, "'epochs' of CosineIRLS must not be above 10000; got 1000000000"),
        ({"l2": 1e308}, r"'l2' of CosineIRLS must not be above 1e\+30; got 1e\+308"),
    ],
)
def test_options_outside_their_range_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidConfig, match=message):
        CosineIRLS(**options)


@pytest.mark.parametrize("form", ["approximate", "exact"])
@pytest.mark.parametrize("options", [{}, {"l2": 0.05}])
def test_a_row_of_weight_three_counts_as_three(form: Form, options: dict[str, Any]) -> None:
    rows = planted_problem(noise=0.5, tokens=60).regression.all_rows
    times = torch.arange(60).remainder(3) + 1
    repeated = rows[torch.arange(60).repeat_interleave(times)]
    estimator = CosineIRLS(form=form, batch_tokens=17, **options)
    weighted = estimator.estimate(TensorRegression(rows.x, rows.residual, rows.skip, weights=times))
    wanted = estimator.estimate(TensorRegression(repeated.x, repeated.residual, repeated.skip))
    plain = estimator.estimate(TensorRegression(rows.x, rows.residual, rows.skip))
    torch.testing.assert_close(weighted.weight, wanted.weight, rtol=1e-4, atol=1e-5)  # float32
    assert (plain.weight - wanted.weight).abs().max() > 1e-2


def test_rows_that_weigh_nothing_have_no_say() -> None:
    rows = planted_problem(noise=0.5, tokens=60).regression.all_rows
    weights = (torch.arange(60) < 40).double()
    estimator = CosineIRLS(batch_tokens=16)
    found = estimator.estimate(TensorRegression(rows.x, rows.residual, rows.skip, weights=weights))
    first = rows[:40]
    wanted = estimator.estimate(TensorRegression(first.x, first.residual, first.skip))
    torch.testing.assert_close(found.weight, wanted.weight, rtol=1e-4, atol=1e-5)  # float32
