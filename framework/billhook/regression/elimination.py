"""Elimination: in which order the units of a branch go, and what is lost although the others make up for it."""

from __future__ import annotations

import math

import attrs
import torch
from torch import Tensor

RIDGE = 1e-2
"""As in OSSCAR."""

STEPS = 64
"""In so many steps at most all units of a branch go."""


@attrs.frozen(eq=False)
class Elimination:
    """The order in which units go, and the loss along the way.

    Attributes:
        order: the units by place in the branch, the first to go first, ``[units]`` int64. Those that stay when
            ``most`` have gone follow by what each alone would cost then.
        counts: how many have gone after each step.
        losses: the squared error that is left after each step, all steps before included.
    """

    order: Tensor
    counts: tuple[int, ...]
    losses: tuple[float, ...]


def eliminate(
    rows: Tensor, second: Tensor, units: int, *, most: int | None = None, ridge: float = RIDGE
) -> Elimination:
    """Let always those units of a branch go whose loss the others make up for best; float64 on the CPU.

    The loss is ``tr(W_uᵀ [(G⁻¹)_uu]⁻¹ W_u)``, the squared error that is left after the other rows of the writer are
    solved anew (Optimal Brain Surgeon; for structures ZipLM, arXiv 2302.04089). After each step the writer and G⁻¹ are
    those of the units that are left.

    Args:
        rows: the writer, ``[d_inner, d_out]``. In a metric other than the squared error (see
            :class:`billhook.WriterCurvature`), the writer times a root of it.
        second: G, mean of ``x xᵀ`` of what the writer reads, ``[d_inner, d_inner]``.
        units: how many; each has as many columns, side by side.
        most: so many are taken out at least, in steps of ``units / STEPS``; all if None.
        ridge: added to the diagonal of G, relative to its mean: what the others make up for by chance does not count.
    """
    rows, inverse = rows.double().cpu().clone(), _inverse(second, ridge)
    left = torch.ones(units, dtype=torch.bool)
    width, block = len(rows) // units, -(-units // STEPS)
    order, counts, losses = list[int](), list[int](), list[float]()
    while bool(left.any()) and (most is None or len(order) < most):
        gone = _losses(inverse, rows, left, width).argsort(stable=True)[: min(block, int(left.sum()))]
        order += gone.tolist()
        left[gone] = False
        loss = _take_out(inverse, rows, (gone[:, None] * width + torch.arange(width)).flatten())
        counts.append(len(order))
        losses.append(loss + (losses[-1] if losses else 0.0))
    rest = _losses(inverse, rows, left, width).argsort(stable=True)[: int(left.sum())]
    return Elimination(torch.tensor([*order, *rest.tolist()]), tuple(counts), tuple(losses))


SILENT = 1e-30
"""Added to the diagonal where it is all zeros: its inverse, and what it is multiplied by, stay finite in float64."""


def _inverse(second: Tensor, ridge: float) -> Tensor:
    damped = second.clone()
    # a branch whose units are all silent (dead, or zeros that pad a checkpoint) is missed by nobody: any ridge says so
    damped.diagonal().add_(ridge * float(second.diagonal().mean()) or SILENT)
    return torch.cholesky_inverse(torch.linalg.cholesky(damped))


def _losses(inverse: Tensor, rows: Tensor, left: Tensor, width: int) -> Tensor:
    """Of each unit that is left, what its removal costs, ``[units]``; infinite for the others."""
    loss = torch.full(left.shape, math.inf, dtype=torch.float64)
    if width == 1:
        loss[left] = rows.square().sum(1)[left] / inverse.diagonal()[left]
        return loss
    units = inverse.view(len(left), width, len(left), width).diagonal(dim1=0, dim2=2).movedim(-1, 0)[left]
    blocks = rows.view(len(left), width, -1)[left]
    loss[left] = (blocks * torch.linalg.solve(units, blocks)).sum((1, 2))
    return loss


def _take_out(inverse: Tensor, rows: Tensor, columns: Tensor) -> float:
    """Make ``rows`` and ``inverse`` those of the other columns, in place; those of ``columns`` become about 0.

    Returns what that costs.
    """
    across, going = inverse[:, columns], rows[columns]
    cross = torch.linalg.solve(inverse[columns][:, columns], torch.cat([across.T, going], dim=1))
    rows.addmm_(across, cross[:, len(inverse) :], alpha=-1)
    inverse.addmm_(across, cross[:, : len(inverse)], alpha=-1)
    return float((going * cross[:, len(inverse) :]).sum())
