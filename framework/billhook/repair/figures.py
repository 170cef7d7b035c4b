"""Figures: how well a map repairs what was lost."""

from __future__ import annotations

import math

import attrs
import torch
from torch.nn.functional import cosine_similarity

from billhook.cuts.cut import Cut
from billhook.cuts.sites import RepairSite
from billhook.plans.report import CutReport, SiteReport
from billhook.regression.linear_map import LinearMap
from billhook.regression.moments import Moments
from billhook.regression.regression import Regression


def measure(cut: Cut, site: RepairSite, regression: Regression, linear_map: LinearMap) -> CutReport:
    """The figures of :func:`measure_site`, with the cut. ``score`` and ``seconds`` are left open."""
    return CutReport(cut=cut, **attrs.asdict(measure_site(site, regression, linear_map), recurse=False))


def measure_site(site: RepairSite, regression: Regression, linear_map: LinearMap) -> SiteReport:
    """R² over all tokens, from the moments; cosines over the regression's sample."""
    moments = regression.moments()
    rows = regression.sample()
    target = rows.target
    mapped = linear_map(rows.x.to(linear_map.weight.device)).to(target)
    before = rows.skip + (rows.x.to(regression.prior) @ regression.prior).to(target)
    return SiteReport(
        donor=site.layer,
        branch=site.branch,
        r_squared=moments.r_squared(linear_map),
        cosine_before=_mean_cosine(before, target),
        cosine_after=_mean_cosine(rows.skip + mapped, target),
        held_out=held_out_share(regression, linear_map),
        guard=guard_share(regression, linear_map),
        token_count=moments.token_count,
        massive_count=regression.massive_count(),
        notes=linear_map.notes,
    )


def _mean_cosine(a: torch.Tensor, b: torch.Tensor) -> float:
    return float(cosine_similarity(a.double(), b.double(), dim=-1).mean())


def held_out_share(regression: Regression, linear_map: LinearMap) -> float:
    """Squared error on held-out tokens as a share of the prior's; NaN where no tokens are held out."""
    return error_share(regression.held_out(), regression.prior, linear_map)


def guard_share(regression: Regression, linear_map: LinearMap) -> float:
    """The same on the guard's tokens; NaN where there is no guard."""
    return error_share(regression.guard(), regression.prior, linear_map)


def error_share(moments: Moments | None, prior: torch.Tensor, linear_map: LinearMap) -> float:
    """Squared error of a map as a share of the prior's, 1 for a prior that makes none; NaN without moments."""
    if moments is None:
        return math.nan
    before = moments.squared_error(LinearMap(prior))
    after = moments.squared_error(linear_map)
    if before == 0:  # there is nothing to repair
        return math.inf if after > 0 else 1.0
    return after / before
