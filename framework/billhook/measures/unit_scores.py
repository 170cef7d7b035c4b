"""Unit scores: how much each unit of a branch matters. Larger is more."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from typing import TYPE_CHECKING, Literal

import attrs
import torch
from torch import Tensor

from billhook.measures.passes import in_passes
from billhook.model.branch import Branch
from billhook.model.writer import weight_rows
from billhook.regression.elimination import eliminate
from billhook.regression.moments import Moments

if TYPE_CHECKING:
    from billhook.model.view import ModelView
    from billhook.roles.state import PruningState


UnitRule = Literal["weight-l1", "wanda", "activation", "fluctuation", "obs"]
"""What a unit of a branch (a channel of an MLP, a key-value group of attention) is worth. Larger is more.

- ``weight-l1``: the sum of its absolute reader weights (MultiPruner, arXiv 2501.09949). The only one without data.
- ``wanda``: the sum of its writer's absolute weights, each times the root mean square of what it reads (Wanda,
  arXiv 2306.11695).
- ``activation``: the root mean square of what the writer reads of it (as in Minitron, arXiv 2407.14679).
- ``fluctuation``: the variance of that, times the writer's squared weights (FLAP, arXiv 2312.11983): what a constant
  could make up for does not count.
- ``obs``: when it goes, if always those go whose loss the others make up for best once the writer is solved anew
  (ZipLM, arXiv 2302.04089).
"""


@attrs.frozen(eq=False)
class InnerStatistics:
    """Of what the writer of a branch reads, x, over the calibration tokens; float64 on the CPU.

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


def score_units(
    state: PruningState,
    branch: Branch,
    rule: UnitRule,
    *,
    layers: Collection[int] | None = None,
    most: int | None = None,
) -> dict[int, Tensor]:
    """What each unit of the present model's branches is worth, on the calibration tokens. Larger is more.

    Args:
        state: model and data.
        branch: of which kind.
        rule: what makes a unit worth much. All but ``weight-l1`` take a pass over the data; ``obs`` one for as many
            layers as 2 GiB hold float64 matrices ``[d_inner, d_inner]`` of.
        layers: which, by original number; all that have the branch if None.
        most: how many units of a branch will go at most, if that is known. ``obs`` then ranks no more than those step
            by step, which is faster, and the others by what each alone would cost then.

    Returns:
        By layer, ascending: ``[units]`` float64 on the CPU, in the order of ``state.model.units(layer, branch)``.
    """
    view = state.model
    wanted = [number for number, kind in view.branches() if kind == branch and (layers is None or number in layers)]
    if rule == "weight-l1":
        return {number: weight_l1(view, number, branch) for number in wanted}
    if rule == "obs":
        return dict(_ranked(state, branch, wanted, most))
    inner = measure_inner(state, branch, layers=wanted)
    return {number: _MEASURED[rule](view, number, branch, inner[number]) for number in wanted}


def _ranked(state: PruningState, branch: Branch, layers: list[int], most: int | None) -> Iterator[tuple[int, Tensor]]:
    view, done = state.model, 0
    width = max((weight_rows(view.writer(number, branch)).shape[0] for number in layers), default=1)
    for part in in_passes(layers, width):
        inner = measure_inner(state, branch, whole=True, layers=part)
        for number in part:
            yield number, obs(view, number, branch, inner.pop(number), most=most)
            done += 1
            state.progress("eliminating", done, len(layers))


def weight_l1(view: ModelView, number: int, branch: Branch) -> Tensor:
    """Sum of the absolute reader weights of each unit present: ``[units]`` float64 on the CPU.

    The published rule of MultiPruner (arXiv 2501.09949): ``|gate| + |up|`` of a channel; for a group the mean over
    its rows of ``|q|``, and those of ``|k|`` and ``|v|``, added: all query heads of a group weigh as much as its one
    key head. Interleaved readers count as one. What the writer makes of a unit does not count, nor do biases.
    """
    layer, layout = view.layer(number), view.adapter.layout(branch)
    count = len(view.units(number, branch))
    sizes = view.adapter.sizes(view.model.config, branch, count)
    total = torch.zeros(count, dtype=torch.float64)
    for path in layout.readers:
        sums = weight_rows(layer.get_submodule(path)).abs().sum(0, dtype=torch.float64).cpu()  # [d_out]
        shares = layout.shares(path, sizes)
        unit = len(sums) // (count * sum(shares))
        for block in sums.split([count * share * unit for share in shares]):
            total += block.view(count, -1).mean(1)  # of a channel there is one row
    return total


def wanda(view: ModelView, number: int, branch: Branch, inner: InnerStatistics) -> Tensor:
    """Of each unit the writer's ``|W| · rms(x)``, summed (Wanda, arXiv 2306.11695): ``[units]`` float64 on the CPU."""
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


def obs(view: ModelView, number: int, branch: Branch, inner: InnerStatistics, *, most: int | None = None) -> Tensor:
    """When each unit goes if always those go whose loss the others make up for best: ``[units]`` float64 on the CPU.

    0 for the first: see :func:`billhook.eliminate`. ``second`` must be the whole matrix. Only the first ``most`` units
    that go are ranked step by step, the others by their loss at that point; all of them if None.
    """
    units = len(view.units(number, branch))
    order = eliminate(weight_rows(view.writer(number, branch)), inner.second, units, most=most).order
    return torch.empty(units, dtype=torch.float64).index_put_((order,), torch.arange(units, dtype=torch.float64))


@torch.no_grad()
def measure_inner(
    state: PruningState, branch: Branch, *, whole: bool = False, layers: Collection[int] | None = None
) -> dict[int, InnerStatistics]:
    """What the writers of the present model's branches read, on the calibration tokens, in one pass.

    Padding does not count.

    Args:
        state: model and data.
        branch: of which kind.
        whole: collect ``x xᵀ`` and not only its diagonal: d_inner² numbers for each of ``layers``.
        layers: which, by original number; those without the branch are left out. All if None.

    Returns:
        The statistics by layer, ascending.
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
            if number > max(wanted, default=-1):
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


def _by_unit(columns: Tensor, count: int) -> Tensor:
    return columns.view(count, -1).sum(1)


_MEASURED: dict[str, Callable[[ModelView, int, Branch, InnerStatistics], Tensor]] = {
    "wanda": wanda,
    "activation": activation,
    "fluctuation": fluctuation,
}
"""Rules that look at each column by itself."""
