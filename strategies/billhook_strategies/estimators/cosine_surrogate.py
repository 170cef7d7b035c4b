"""A least-squares problem that touches the cosine loss: solved again and again, it minimises it (IRLS).

For a row with the prediction ``p`` and the target ``r``, ``1 − cos(p, r)`` has the gradient
``g = (cos · p/‖p‖ − r/‖r‖) / ‖p‖``. The square ``w/2 ‖p − t‖²`` with ``t = p₀ − g/w`` has the same one at the present
prediction ``p₀``, whatever w is; ``w = cos / ‖p₀‖²`` makes it ``t = (‖p₀‖ / cos) · r/‖r‖``, a point in the wanted
direction. The minimum of the sum over rows is the next prediction; where it no longer moves, the gradient of the cosine
loss is zero. Near ``p₀ = r`` the weight is ``1/‖r‖²``, that of ``Repair(weights="residual")``.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

from billhook import Moments, Rows, power_of_two
from billhook_strategies.estimators.cosine_loss import Form
from billhook_strategies.estimators.normal_equations import minimise, refuse_not_finite

LEAST_COSINE = 0.1
"""The weight of rows that point elsewhere is as if they had this cosine: at 0 or below the square has no minimum."""


def add_surrogate(sums: Moments, rows: Rows, weight: Tensor, *, form: Form) -> tuple[float, float]:
    """Add rows to the moments of the problem to be solved next; rows without a direction are left out.

    Args:
        sums: ``[d_in, d_out]``, added to.
        rows: float32, on the device of ``weight``.
        weight: the present map, ``[d_in, d_out]`` float32.
        form: what is compared: what is added to the stream, or the whole stream.

    Returns:
        The sum of their cosine losses at ``weight``, each times what its token counts; and the sum of what they count.
    """
    base = rows.skip if form == "exact" else torch.zeros_like(rows.skip)
    wanted, present = rows.residual + base, rows.x @ weight + base
    lengths, wanted_lengths = present.norm(dim=-1), wanted.norm(dim=-1)
    alive = (lengths > 0) & (wanted_lengths > 0)
    p, r = present[alive], wanted[alive]
    length, direction = lengths[alive, None], r / wanted_lengths[alive, None]
    cosine = cosine_similarity(p, r, dim=-1)[:, None]
    # powers of two keep products of bfloat16 numbers exact; any weight will do
    weights = power_of_two(cosine.clamp_min(LEAST_COSINE).double() / length.double().square()).squeeze(1)
    gradient = (cosine * p / length - direction) / length
    counts = rows.counts.to(p.device)[alive]
    sums.add(rows.x[alive], p - gradient / weights[:, None].to(p) - base[alive], weights * counts)
    return float(((1 - cosine.squeeze(1)).double() * counts).sum()), float(counts.sum())


def minimum(sums: Moments, weight: Tensor, *, l2: float, count: float) -> Tensor:
    """Where the surrogate and ``l2·mean T²`` are least, ``[d_in, d_out]`` float64; ``count`` is what its tokens count.

    Directions that the data do not determine keep what ``weight`` says.

    Raises:
        SingularProblem: a sum is not finite.
    """
    refuse_not_finite(sums)
    penalty = 2 * l2 * count / weight.numel()  # the loss is a mean, the moments are sums
    return minimise(sums, weight.to(sums.xx) if l2 == 0 else torch.zeros_like(sums.xr), penalty)
