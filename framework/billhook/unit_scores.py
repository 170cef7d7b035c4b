"""How much each unit of a branch matters: channels of an MLP, key-value groups of attention. Larger is more."""

from __future__ import annotations

import itertools
import math
from collections.abc import Collection
from typing import TYPE_CHECKING

import attrs
import torch
from torch import Tensor

from billhook.cut import Branch
from billhook.moments import Moments
from billhook.writer import weight_rows

if TYPE_CHECKING:
    from billhook.model_view import ModelView
    from billhook.state import PruningState


@attrs.frozen(eq=False)
class InnerStatistics:
    """Of what one writer reads, over the calibration tokens; float64 on the CPU.

    Attributes:
        second: mean of ``x xᵀ``, ``[d_inner, d_inner]``; its diagonal alone, ``[d_inner]``, if no more was asked for.
        mean: mean of x, ``[d_inner]``.
    """

    second: Tensor
    mean: Tensor

    @property
    def squares(self) -> Tensor:
        """Mean square of each column, ``[d_inner]``."""
        return self.second if self.second.ndim == 1 else self.second.diagonal()


def weight_l1(view: ModelView, number: int, branch: Branch) -> Tensor:
    """Sum of the absolute reader weights of each unit present: ``[units]`` float64 on the CPU.

    The published rule of MultiPruner (arXiv 2501.09949): ``|gate| + |up|`` of a channel; for a group the mean over
    its rows of ``|q|``, and those of ``|k|`` and ``|v|``, added: all query heads of a group weigh as much as its one
    key head. Interleaved readers count as one. What the writer makes of a unit does not count, nor do biases.
    """
    layer, layout = view.layer(number), view.adapter.layout(branch)
    count = len(view.units(number, branch))
    total = torch.zeros(count, dtype=torch.float64)
    for path in layout.readers:
        sums = weight_rows(layer.get_submodule(path)).abs().sum(0, dtype=torch.float64).cpu()  # [d_out]
        queries = _queries(view, branch)
        shares = [queries if block == "q" else 1 for block in layout.stacked.get(path, ("",))]
        unit = len(sums) // (count * sum(shares))
        for block in sums.split([count * share * unit for share in shares]):
            total += block.view(count, -1).mean(1)  # of a channel there is one row
    return total


def wanda(view: ModelView, number: int, branch: Branch, inner: InnerStatistics) -> Tensor:
    """Sum over each unit of the writer's ``|W| · rms(x)`` (Wanda, arXiv 2306.11695): ``[units]`` float64 on the CPU."""
    rows = weight_rows(view.writer(number, branch)).abs().sum(1, dtype=torch.float64).cpu()  # [d_inner]
    return _by_unit(rows * inner.squares.sqrt(), len(view.units(number, branch)))


def activation(view: ModelView, number: int, branch: Branch, inner: InnerStatistics) -> Tensor:
    """Root mean square of each unit's inner activation (as in Minitron, arXiv 2407.14679): as for :func:`wanda`."""
    return _by_unit(inner.squares, len(view.units(number, branch))).sqrt()


def fluctuation(view: ModelView, number: int, branch: Branch, inner: InnerStatistics) -> Tensor:
    """Sum over each unit of ``var(x) · ‖W‖²`` (FLAP, arXiv 2312.11983): as for :func:`wanda`.

    What a constant could make up for does not count.
    """
    rows = weight_rows(view.writer(number, branch)).double().square().sum(1).cpu()
    return _by_unit(rows * (inner.squares - inner.mean.square()), len(view.units(number, branch)))


OBS_RIDGE = 1e-2
"""Relative to the mean diagonal of the Gram matrix; as in OSSCAR."""

OBS_STEPS = 64
"""In so many steps at most the units of a branch are ranked."""


def obs(view: ModelView, number: int, branch: Branch, inner: InnerStatistics, *, most: int | None = None) -> Tensor:
    """When each unit goes if always those go whose loss the others make up for best: ``[units]`` float64 on the CPU.

    The loss is ``tr(W_uᵀ [(G⁻¹)_uu]⁻¹ W_u)``, the squared error that is left after the other rows of the writer are
    solved anew (Optimal Brain Surgeon; for structures ZipLM, arXiv 2302.04089). After each step the writer and G⁻¹ are
    those of the units that are left. ``second`` must be the whole matrix. Only the first ``most`` units that go are
    ranked step by step, the others by their loss at that point; all of them if None.
    """
    rows = weight_rows(view.writer(number, branch)).double().cpu().clone()
    count = len(view.units(number, branch))
    width = len(rows) // count
    inverse = _inverse(inner.second)
    value = torch.zeros(count, dtype=torch.float64)
    left = torch.ones(count, dtype=torch.bool)
    block = -(-count // OBS_STEPS)
    for step in itertools.count(1):
        loss = _losses(inverse, rows, left, width)
        within = step + loss / (1 + loss[left].max())  # of what goes in one step, first what costs least
        gone = loss.argsort(stable=True)[: min(block, int(left.sum()))]
        value[gone] = within[gone]
        left[gone] = False
        if not bool(left.any()):
            return value
        if most is not None and step * block >= most:
            value[left] = 1 + within[left]
            return value
        _take_out(inverse, rows, (gone[:, None] * width + torch.arange(width)).flatten())
    raise AssertionError("unreachable")


def _inverse(second: Tensor) -> Tensor:
    damped = second.clone()
    damped.diagonal().add_(OBS_RIDGE * second.diagonal().mean())
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


def _take_out(inverse: Tensor, rows: Tensor, columns: Tensor) -> None:
    """Make ``rows`` and ``inverse`` those of the other columns, in place; those of ``columns`` become about 0."""
    across = inverse[:, columns]
    cross = torch.linalg.solve(inverse[columns][:, columns], torch.cat([across.T, rows[columns]], dim=1))
    rows.addmm_(across, cross[:, len(inverse) :], alpha=-1)
    inverse.addmm_(across, cross[:, : len(inverse)], alpha=-1)


@torch.no_grad()
def measure_inner(
    state: PruningState, branch: Branch, *, whole: bool = False, layers: Collection[int] | None = None
) -> dict[int, InnerStatistics]:
    """By layer: of the present model on the calibration tokens, in one pass. Padding does not count.

    ``whole`` collects ``x xᵀ`` and not only its diagonal: d_inner² numbers for each of ``layers`` (all if None).
    """
    wanted = state.model.numbers if layers is None else layers
    view, runner = state.model, state.flow.runner
    sums: dict[int, Moments] = {}
    squares: dict[int, Tensor] = {}
    means: dict[int, Tensor] = {}
    for index, tokens in enumerate(state.flow.batches):
        batch = runner.open(tokens)
        keep, stream = batch.tokens.keep, batch.stream
        for number in view.numbers:
            if number > max(wanted):
                break
            if number not in wanted or not view.has_branch(number, branch):
                stream = runner.run(view, number, batch, stream)
                continue
            written = runner.run_recording(view, number, branch, batch, stream)
            stream, rows = written.leaving, written.inner[keep]
            if whole:
                known = sums.setdefault(number, Moments.empty(rows.shape[1], 0, rows.device))
                known.add(rows, rows[:, :0])
            else:
                squares[number] = squares.get(number, 0) + rows.float().square().sum(0).double().cpu()
                means[number] = means.get(number, 0) + rows.float().sum(0).double().cpu()
        state.progress("selecting", index + 1, len(state.flow.batches))
    count = state.tokens.token_count
    if whole:
        return {number: InnerStatistics(m.xx.cpu() / count, m.x.cpu() / count) for number, m in sums.items()}
    return {number: InnerStatistics(squares[number] / count, means[number] / count) for number in squares}


def _queries(view: ModelView, branch: Branch) -> int:
    """Query heads in a group; 1 for channels."""
    if branch == "mlp":
        return 1
    sizes = view.adapter.sizes(view.model.config, branch, 1)
    return sizes["heads"] // sizes["key_value_heads"]


def _by_unit(columns: Tensor, count: int) -> Tensor:
    return columns.view(count, -1).sum(1)
