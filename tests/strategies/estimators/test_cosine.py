"""Cosine: a map by gradient, against its loss written out."""

from __future__ import annotations

import itertools
from typing import Any, Literal

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.strategies import planted_problems
from torch import Tensor

from billhook import Budget, CacheBudget, Moments, Pruner, Rows, TensorRegression
from billhook.errors import InvalidConfig, SingularProblem
from billhook.testing import PlantedProblem, planted_problem, tiny_model, tiny_tokens
from billhook_strategies.estimators.cosine import Cosine
from billhook_strategies.estimators.cosine_surrogate import LEAST_COSINE, add_surrogate, minimum
from billhook_strategies.selectors.fixed_windows import FixedWindows

Form = Literal["approximate", "exact"]
forms = st.sampled_from(["approximate", "exact"])
SPREAD = 0.05
"""Learning rate of tests that want to see Adam get somewhere in a few steps."""


def loss_of(problem: PlantedProblem, weight: Tensor, form: Form) -> float:
    """The mean of 1 − cos over tokens, token by token."""
    rows = problem.regression.all_rows
    values = []
    for x, residual, skip in zip(rows.x, rows.residual, rows.skip, strict=True):
        base = skip if form == "exact" else torch.zeros_like(skip)
        a, b = x @ weight.to(x) + base, residual + base
        values.append(1 - float(a @ b) / float(a.norm() * b.norm()))
    return sum(values) / len(values)


@pytest.mark.parametrize("optimizer", ["adam", "lbfgs", "irls"])
@pytest.mark.parametrize("form", ["approximate", "exact"])
@given(problem=planted_problems(noise=0.3, narrowest=4))  # in one column directions are signs: no gradient
def test_the_loss_falls_below_that_of_the_identity(form: Form, optimizer: Any, problem: PlantedProblem) -> None:
    found = Cosine(form=form, optimizer=optimizer, learning_rate=0.005).estimate(problem.regression)
    identity = torch.eye(len(found.weight))
    assert loss_of(problem, found.weight, form) < loss_of(problem, identity, form)


@pytest.mark.parametrize("form", ["approximate", "exact"])
def test_all_optimisers_come_near_the_best_loss(form: Form) -> None:
    problem = planted_problem(noise=0.3)
    adam = Cosine(form=form, learning_rate=SPREAD, epochs=300).estimate(problem.regression)
    lbfgs = Cosine(form=form, optimizer="lbfgs", epochs=100).estimate(problem.regression)
    irls = Cosine(form=form, optimizer="irls", epochs=100).estimate(problem.regression)
    best = loss_of(problem, lbfgs.weight, form)
    # Adam's steps keep a size of the learning rate
    assert loss_of(problem, adam.weight, form) == pytest.approx(best, abs=2e-3)
    # float32 predictions on the one hand, a line search that stops on the other
    assert loss_of(problem, irls.weight, form) == pytest.approx(best, abs=1e-5)


@pytest.mark.parametrize("form", ["approximate", "exact"])
def test_the_first_step_of_adam_goes_down_the_gradient_written_out(form: Form) -> None:
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


@pytest.mark.parametrize("form", ["approximate", "exact"])
def test_where_irls_stands_still_the_gradient_is_zero_even_if_rows_point_elsewhere(form: Form) -> None:
    rows = planted_problem(noise=4.0, tokens=400).regression.all_rows
    found = Cosine(form=form, optimizer="irls", epochs=300).estimate(TensorRegression(rows.x, rows.residual, rows.skip))
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
def test_the_first_round_of_irls_is_a_weighted_least_squares_problem(form: Form) -> None:
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
    found = Cosine(form=form, optimizer="irls", epochs=1).estimate(TensorRegression(rows.x, near, rows.skip)).weight
    scale = float((found * solved).sum() / solved.square().sum()) if form == "approximate" else 1.0
    # predictions and the map are float32
    torch.testing.assert_close(found, scale * solved.to(found), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("form", ["approximate", "exact"])
@given(problem=planted_problems(noise=0.3, narrowest=4))
def test_every_round_of_irls_lowers_the_loss(form: Form, problem: PlantedProblem) -> None:
    losses = [
        loss_of(problem, Cosine(form=form, optimizer="irls", epochs=epochs).estimate(problem.regression).weight, form)
        for epochs in (1, 2, 3, 6)
    ]
    # near the minimum the losses differ by float32's rounding
    assert all(later <= earlier + 1e-5 for earlier, later in itertools.pairwise(losses))


def test_a_surrogate_that_is_not_finite_is_an_error() -> None:
    rows = planted_problem(noise=0.3).regression.all_rows.to(dtype=torch.float32)
    sums = Moments.empty(8, 8)
    add_surrogate(sums, rows, torch.full((8, 8), 1e38), exact=True)
    with pytest.raises(SingularProblem, match="not finite"):
        minimum(sums, torch.eye(8), l2=0)


def test_the_penalty_of_irls_is_that_of_the_others() -> None:
    regression = planted_problem(noise=0.3).regression
    options: dict[str, Any] = {"form": "exact", "l2": 0.3, "epochs": 200}
    found, wanted = (Cosine(optimizer=by, **options).estimate(regression).weight for by in ("irls", "lbfgs"))
    torch.testing.assert_close(found, wanted, rtol=0, atol=2e-3)  # the line search stops at a slope of 1e-7


def test_irls_leaves_alone_what_the_data_do_not_determine() -> None:
    rows = planted_problem(noise=0.3).regression.all_rows
    blind = rows.x.clone()
    blind[:, -1] = 0
    found = Cosine(form="exact", optimizer="irls").estimate(TensorRegression(blind, rows.residual, rows.skip)).weight
    torch.testing.assert_close(found[-1], torch.eye(8)[-1].to(found))


def test_the_published_settings_are_the_defaults() -> None:
    assert Cosine() == Cosine(
        form="approximate", optimizer="adam", learning_rate=1e-4, batch_tokens=1024, epochs=10, l1=0, l2=0
    )


@pytest.mark.parametrize("optimizer", ["adam", "lbfgs"])
def test_penalties_shrink_what_they_count(optimizer: Any) -> None:
    regression = planted_problem(noise=0.3).regression
    options: dict[str, Any] = {"optimizer": optimizer, "learning_rate": SPREAD, "epochs": 60}
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


@pytest.mark.parametrize("optimizer", ["adam", "lbfgs", "irls"])
@pytest.mark.parametrize("form", ["approximate", "exact"])
def test_rows_without_a_direction_count_for_nothing(form: Form, optimizer: Any) -> None:
    rows = planted_problem(noise=0.3, tokens=40).regression.all_rows
    zeros = torch.zeros(7, 8, dtype=torch.float64)
    cosine = Cosine(form=form, optimizer=optimizer, batch_tokens=64)
    wanted = cosine.estimate(TensorRegression(rows.x, rows.residual, rows.skip))
    padded = [torch.cat([t, zeros]) for t in (rows.x, rows.residual, rows.skip)]
    found = cosine.estimate(TensorRegression(*padded))
    # sums over more rows in another order
    torch.testing.assert_close(found.weight, wanted.weight, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("optimizer", ["adam", "lbfgs", "irls"])
def test_a_gap_that_changes_nothing_is_refused(optimizer: Any) -> None:
    regression = TensorRegression(torch.ones(10, 4), torch.zeros(10, 4))
    with pytest.raises(SingularProblem, match="No token has a direction to learn"):
        Cosine(optimizer=optimizer).estimate(regression)


def test_for_lbfgs_the_size_of_batches_does_not_matter() -> None:
    regression = planted_problem(noise=0.3).regression
    small, large = (Cosine(optimizer="lbfgs", batch_tokens=size).estimate(regression).weight for size in (7, 1000))
    # the same sums in another order, amplified by ten steps of line search
    torch.testing.assert_close(small, large, rtol=1e-3, atol=1e-3)


def test_a_rate_that_diverges_is_an_error() -> None:
    with pytest.raises(
        SingularProblem, match=r"cosine loss diverged .* smaller learning_rate \(of 'adam'\), or 'least-"
    ):
        Cosine(learning_rate=1e30, epochs=3).estimate(planted_problem().regression)


@pytest.mark.parametrize("optimizer", ["adam", "lbfgs", "irls"])
def test_a_run_with_it_repairs_better_than_merely_dropping(optimizer: Any) -> None:
    estimator = Cosine(form="exact", optimizer=optimizer, learning_rate=0.01, batch_tokens=32)
    pruner = Pruner.following("replaceme-ls", selector=FixedWindows(spans=((1, 3),)), estimator=estimator)
    result = pruner.prune(tiny_model(), calibration=tiny_tokens(rows=9, padding="both"), budget=Budget(layers=2))
    report = result.reports[0]
    assert report.cosine_after > report.cosine_before


def test_the_map_does_not_depend_on_the_room_for_its_rows() -> None:
    weights = []
    for budget in (CacheBudget(), CacheBudget(host=2000), CacheBudget(host=0)):
        own: dict[str, Any] = {"selector": FixedWindows(spans=((1, 3),)), "estimator": Cosine(batch_tokens=16)}
        pruner = Pruner.following("replaceme-ls", **own, cache=budget, tokens_per_batch=24)
        model = pruner.prune(tiny_model(), calibration=tiny_tokens(rows=6), budget=Budget(layers=2)).model
        weights.append(model.state_dict()["model.layers.0.mlp.down_proj.weight"])
    assert torch.equal(weights[0], weights[1])
    assert torch.equal(weights[0], weights[2])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"form": "rough"}, "'form' of Cosine must be 'approximate' or 'exact'; got 'rough'"),
        ({"optimizer": "sgd"}, "'optimizer' of Cosine must be 'adam', 'lbfgs' or 'irls'; got 'sgd'"),
        ({"optimizer": "irls", "l1": 0.1}, "'irls' has no closed form with an 'l1'. Use 'adam', or an 'l2'"),
        ({"learning_rate": 0.0}, "'learning_rate' of Cosine must be above 0; got 0.0"),
        ({"batch_tokens": 0}, "'batch_tokens' of Cosine must be above 0; got 0"),
        ({"epochs": 0}, "'epochs' of Cosine must be above 0; got 0"),
        ({"l1": -1.0}, "'l1' of Cosine must not be negative; got -1.0"),
        ({"l2": float("nan")}, "'l2' of Cosine must not be negative; got nan"),
    ],
)
def test_options_outside_their_range_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidConfig, match=message):
        Cosine(**options)


def test_without_a_direction_to_start_from_nothing_can_be_turned() -> None:
    """Between different widths the map that changes nothing is zero, unless a writer says otherwise."""
    with pytest.raises(SingularProblem, match="No token has a direction to learn"):
        Cosine().estimate(planted_problem(d_out=5).regression)
