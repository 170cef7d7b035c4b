"""What a repair aims at that is to mend one cut alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from billhook.model.surgery import with_branch_of

if TYPE_CHECKING:
    from torch import Tensor

    from billhook.activations.runner import OpenBatch, Runner
    from billhook.cuts.sites import RepairSite
    from billhook.model.view import ModelView
    from billhook.roles.state import PruningState


def reached(
    runner: Runner, view: ModelView, site: RepairSite, batch: OpenBatch, stream: Tensor, position: int
) -> Tensor:
    """The stream of ``view`` where the repair aims at, ``[batch, seq, d_model]``; float32 if between branches.

    Args:
        runner: calls the layers.
        view: the model, all of whose layers from ``position`` to the target are run.
        site: donor and target.
        batch: what ``stream`` belongs to.
        stream: what enters layer ``position``.
        position: original number of a layer, not behind the target.
    """
    for number in view.numbers:
        if position <= number < site.target:
            stream = runner.run(view, number, batch, stream)
    if site.between and view.has_branch(site.target, "attention"):
        return runner.run_recording(view, site.target, "attention", batch, stream).after
    return stream


def undone(state: PruningState, site: RepairSite, batch: OpenBatch, entering: Tensor) -> Tensor:
    """Where the repair aims at, had the donor lost nothing, nor what follows it up to there; shape as ``entering``.

    What stands before the donor is as it is now: ``entering`` is what enters its layer in the present model.
    """
    runner, dense, number = state.flow.runner, state.dense, site.layer
    if site.branch == "mlp":
        layout = dense.adapter.layout("mlp")
        whole = with_branch_of(state.model.layer(number), dense.layer(number), layout)
        stream = runner.call(dense.adapter, whole, number, batch, entering)
        return reached(runner, dense, site, batch, stream, number + 1)
    return reached(runner, dense, site, batch, entering, number)
