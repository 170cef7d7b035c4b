"""CutReport: how well one cut was repaired."""

from __future__ import annotations

import math

import attrs
import torch
from torch.nn.functional import cosine_similarity

from billhook.cut import Branch, Cut, RepairSite
from billhook.linear_map import LinearMap
from billhook.regression import Regression


@attrs.frozen(kw_only=True)
class SiteReport:
    """Figures of one repair, over the calibration tokens.

    Attributes:
        donor: original number of the layer whose writer makes up for the loss; None if nothing was repaired.
        branch: of the donor.
        r_squared: share of the residual target's variance that the map explains; NaN without data. Tokens with massive
            activations (attention sinks) dominate it, unless weighted: read it together with the cosines, where each
            token counts once.
        cosine_before: mean cosine between the stream behind the cut and the dense stream, unrepaired.
        cosine_after: the same, repaired.
        held_out: squared error on the tokens held out, as a share of that of doing nothing; NaN if there are none. A
            repair of 1 or more is not made.
        token_count: tokens behind these figures.
        massive_count: of these, tokens with massive activations: the stream to be reached is over
            :data:`billhook.massive.MASSIVE` times as long as the median one of its batch. 0 where nobody counts, in
            repairs on trial and of readers.
        notes: assumptions and fall-backs of the estimator, in words.
    """

    donor: int | None = None
    branch: Branch | None = None
    r_squared: float = float("nan")
    cosine_before: float = float("nan")
    cosine_after: float = float("nan")
    held_out: float = float("nan")
    token_count: int = 0
    massive_count: int = 0
    notes: tuple[str, ...] = ()

    @property
    def helps(self) -> bool:
        """Unless held-out tokens say that it does not."""
        return not self.held_out >= 1


@attrs.frozen(kw_only=True)
class CutReport(SiteReport):
    """How well one cut was repaired.

    Attributes:
        cut: what went.
        score: the objective without it, as the search that chose it found; NaN if nobody searched.
        seconds: collecting, solving and merging; without a repair that waited for the end.
    """

    cut: Cut
    score: float = float("nan")
    seconds: float = 0.0


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
        token_count=moments.token_count,
        massive_count=regression.massive_count(),
        notes=linear_map.notes,
    )


def _mean_cosine(a: torch.Tensor, b: torch.Tensor) -> float:
    return float(cosine_similarity(a.double(), b.double(), dim=-1).mean())


def held_out_share(regression: Regression, linear_map: LinearMap) -> float:
    """Squared error on held-out tokens as a share of the prior's; NaN where no tokens are held out."""
    held_out = regression.held_out()
    if held_out is None:
        return math.nan
    before = held_out.squared_error(LinearMap(regression.prior))
    after = held_out.squared_error(linear_map)
    if before == 0:  # there is nothing to repair
        return math.inf if after > 0 else 1.0
    return after / before
