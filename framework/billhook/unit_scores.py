"""How much each unit of a branch matters: channels of an MLP, key-value groups of attention. Larger is more."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import attrs
import torch
from torch import Tensor, nn

from billhook.cut import Branch
from billhook.writer import weight_rows

if TYPE_CHECKING:
    from billhook.model_view import ModelView
    from billhook.state import PruningState

InnerNorms = Mapping[tuple[int, Branch], Tensor]
"""By layer and branch: root mean square of each column of the writer's input, ``[d_inner]`` float64 on the CPU."""


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


def wanda(view: ModelView, number: int, branch: Branch, norms: InnerNorms) -> Tensor:
    """Sum over each unit of the writer's ``|W| · rms(x)`` (Wanda, arXiv 2306.11695): ``[units]`` float64 on the CPU."""
    rows = weight_rows(view.writer(number, branch)).abs().sum(1, dtype=torch.float64).cpu()  # [d_inner]
    return _by_unit(rows * norms[number, branch], len(view.units(number, branch)))


def activation(view: ModelView, number: int, branch: Branch, norms: InnerNorms) -> Tensor:
    """Root mean square of each unit's inner activation (as in Minitron, arXiv 2407.14679): as for :func:`wanda`."""
    return _by_unit(norms[number, branch].square(), len(view.units(number, branch))).sqrt()


@torch.no_grad()
def measure_inner_norms(state: PruningState) -> dict[tuple[int, Branch], Tensor]:
    """See :data:`InnerNorms`; of the present model on the calibration tokens, in one pass. Padding does not count."""
    view, runner = state.model, state.flow.runner
    sums: dict[tuple[int, Branch], Tensor] = {}
    for index, tokens in enumerate(state.flow.batches):
        batch = runner.open(tokens)
        keep, stream = batch.tokens.keep, batch.stream
        for number in view.numbers:
            inputs: dict[Branch, Tensor] = {}
            handles = [
                view.writer(number, branch).register_forward_pre_hook(_Note(inputs, branch))
                for branch in ("attention", "mlp")
                if view.has_branch(number, branch)
            ]
            try:
                stream = runner.run(view, number, batch, stream)
            finally:
                for handle in handles:
                    handle.remove()
            for branch, inner in inputs.items():
                rows = inner.reshape(*keep.shape, -1)[keep].float()
                sums[number, branch] = sums.get((number, branch), 0) + rows.square().sum(0).double().cpu()
        state.progress("selecting", index + 1, len(state.flow.batches))
    return {key: (total / state.tokens.token_count).sqrt() for key, total in sums.items()}


@attrs.frozen(eq=False)
class _Note:
    """Forward pre-hook of a writer: keeps its input."""

    inputs: dict[Branch, Tensor]
    branch: Branch

    def __call__(self, writer: nn.Module, args: tuple[Tensor, ...]) -> None:
        self.inputs[self.branch] = args[0].detach()


def _queries(view: ModelView, branch: Branch) -> int:
    """Query heads in a group; 1 for channels."""
    if branch == "mlp":
        return 1
    sizes = view.adapter.sizes(view.model.config, branch, 1)
    return sizes["heads"] // sizes["key_value_heads"]


def _by_unit(columns: Tensor, count: int) -> Tensor:
    return columns.view(count, -1).sum(1)
