"""CutReport: the figures of a repair equal those computed directly from its rows."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.strategies import planted_problems

from billhook import CutReport, DropLayers, LinearMap, RepairSite, TensorRegression
from billhook.repair.figures import measure
from billhook.testing import PlantedProblem, planted_problem, random_map

CUT = DropLayers(2, 4)
SITE = RepairSite(layer=1, branch="mlp", target=4)


def cosine(a: torch.Tensor, b: torch.Tensor) -> float:
    return float(((a * b).sum(1) / (a.norm(dim=1) * b.norm(dim=1))).mean())


@given(problem=planted_problems(noise=0.5, bias=True), seed=st.integers(0, 100))
def test_the_figures_are_those_of_the_rows(problem: PlantedProblem, seed: int) -> None:
    rows = problem.regression.all_rows
    linear_map = random_map(problem.regression.d_in, seed=seed)
    report = measure(CUT, SITE, problem.regression, linear_map)
    error = (rows.residual - linear_map(rows.x)).square().sum()
    explained = 1 - error / (rows.residual - rows.residual.mean(0)).square().sum()
    assert report.r_squared == pytest.approx(float(explained), rel=1e-8, abs=1e-8)
    # the sample is float32
    assert report.cosine_before == pytest.approx(cosine(rows.skip + rows.x, rows.target), abs=1e-5)
    assert report.cosine_after == pytest.approx(cosine(rows.skip + linear_map(rows.x), rows.target), abs=1e-5)


@given(problem=planted_problems(bias=True))
def test_the_true_map_explains_everything(problem: PlantedProblem) -> None:
    report = measure(CUT, SITE, problem.regression, problem.truth)
    assert report.r_squared == pytest.approx(1.0)
    assert report.cosine_after == pytest.approx(1.0, abs=1e-5)


def test_a_report_says_what_was_cut_repaired_and_assumed() -> None:
    linear_map = LinearMap(torch.eye(2), notes=("as it was",))
    report = measure(CUT, SITE, TensorRegression(torch.ones(5, 2), torch.ones(5, 2)), linear_map)
    assert (report.cut, report.donor, report.token_count, report.notes) == (CUT, 1, 5, ("as it was",))
    assert report.seconds == 0.0


def test_between_different_widths_unrepaired_means_without_the_donor() -> None:
    rows = [torch.randn(20, d, generator=torch.Generator().manual_seed(d)) for d in (3, 2, 2)]
    report = measure(CUT, SITE, TensorRegression(*rows), random_map(3, 2))
    assert report.cosine_before == pytest.approx(cosine(rows[2], rows[2] + rows[1]), abs=1e-5)


def test_a_report_counts_the_tokens_with_massive_activations() -> None:
    rows = planted_problem(noise=0.1).regression.all_rows
    skip = rows.skip.clone()
    skip[[3, 5]] = 1e4
    report = measure(CUT, SITE, TensorRegression(rows.x, rows.residual, skip), random_map(8))
    assert report.massive_count == 2


def test_an_unrepaired_cut_has_no_figures() -> None:
    report = CutReport(cut=CUT)
    assert report.donor is None
    assert all(math.isnan(value) for value in (report.r_squared, report.cosine_before, report.cosine_after))


def test_in_a_refit_unrepaired_means_with_the_writer_as_it_is() -> None:
    x, residual, skip, writer = (
        torch.randn(shape, generator=torch.Generator().manual_seed(n))
        for n, shape in enumerate([(20, 3), (20, 2), (20, 2), (3, 2)])
    )
    report = measure(CUT, SITE, TensorRegression(x, residual, skip, prior=writer), random_map(3, 2))
    assert report.cosine_before == pytest.approx(cosine(skip + x @ writer, skip + residual), abs=1e-5)


@pytest.mark.parametrize(("scale", "helps"), [(1.0, True), (-1.0, False)])
def test_whether_it_helps_is_said_by_the_rows_held_out(scale: float, helps: bool) -> None:
    x = torch.randn(20, 2, generator=torch.Generator().manual_seed(0))
    report = measure(CUT, SITE, TensorRegression(x, 3 * x, held_out=8), LinearMap(3 * scale * torch.eye(2)))
    error = (x[12:] - x[12:] * scale).square().sum() * 9
    assert report.held_out == pytest.approx(float(error / (2 * x[12:]).square().sum()), rel=1e-5)
    assert report.helps is helps


def test_with_no_rows_held_out_a_repair_is_taken_to_help() -> None:
    report = measure(CUT, SITE, TensorRegression(torch.ones(5, 2), torch.ones(5, 2)), LinearMap(9 * torch.eye(2)))
    assert math.isnan(report.held_out)
    assert report.helps
