"""CutReport: how well one cut was repaired."""

from __future__ import annotations

import attrs
import torch
from torch.nn.functional import cosine_similarity

from billhook.cut import Cut
from billhook.linear_map import LinearMap
from billhook.regression import Regression


@attrs.frozen(kw_only=True)
class CutReport:
    """Figures of one cut, over the calibration tokens.

    Attributes:
        cut: what went.
        donor: original number of the layer whose writer makes up for it; None if nothing was repaired.
        r_squared: share of the residual target's variance that the map explains; NaN without data. Tokens with large
            activations (attention sinks) dominate it: read it together with the cosines, where each token counts once.
        cosine_before: mean cosine between the stream after the gap and the dense stream, unrepaired (T = identity).
        cosine_after: the same, repaired.
        score: the objective without it, as the search that chose it found; NaN if nobody searched.
        token_count: tokens behind these figures.
        seconds: collecting, solving and merging.
        notes: assumptions and fall-backs of the estimator, in words.
    """

    cut: Cut
    donor: int | None = None
    r_squared: float = float("nan")
    cosine_before: float = float("nan")
    cosine_after: float = float("nan")
    score: float = float("nan")
    token_count: int = 0
    seconds: float = 0.0
    notes: tuple[str, ...] = ()


def measure(cut: Cut, donor: int, regression: Regression, linear_map: LinearMap) -> CutReport:
    """R² over all tokens, from the moments; cosines over the regression's sample. ``seconds`` is left at 0."""
    moments = regression.moments()
    rows = regression.sample()
    target = rows.target
    mapped = linear_map(rows.x.to(linear_map.weight.device)).to(target)
    before = rows.skip + rows.x if regression.d_in == regression.d_out else rows.skip
    return CutReport(
        cut=cut,
        donor=donor,
        r_squared=moments.r_squared(linear_map),
        cosine_before=_mean_cosine(before, target),
        cosine_after=_mean_cosine(rows.skip + mapped, target),
        token_count=moments.token_count,
        notes=linear_map.notes,
    )


def _mean_cosine(a: torch.Tensor, b: torch.Tensor) -> float:
    return float(cosine_similarity(a.double(), b.double(), dim=-1).mean())
