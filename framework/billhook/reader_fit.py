"""Solving anew what reads the stream: a branch is to compute from the present stream what it did from the dense one."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from billhook.linear_map import LinearMap
from billhook.regression import Rows
from billhook.report import SiteReport, held_out_share
from billhook.site_moments import KnownRegression, SiteMoments, split
from billhook.surgery import entries_of
from billhook.writer import bias_of, is_linear, replace_weight, weight_rows

if TYPE_CHECKING:
    from billhook.cut import RepairSite
    from billhook.flow import Walk
    from billhook.model_view import ModelView
    from billhook.present_streams import PresentStreams
    from billhook.repair_sites import Place
    from billhook.repairer import Repairer
    from billhook.state import PruningState


def fit_readers(state: PruningState, repairer: Repairer, place: Place, streams: PresentStreams) -> SiteReport | None:
    """Solve the readers of one branch anew: from what they read now to what the dense ones gave, for the units left.

    Every token counts the same: what is read went through a norm. Weights that do not do better on held-out tokens are
    not put in.

    Args:
        state: its model is changed.
        repairer: its estimator solves, from moments.
        place: of the branch.
        streams: the present model's.

    Returns:
        How good it is; None if a reader is no float linear layer.

    Raises:
        SingularProblem: the data do not determine the weights, or they are not finite.
    """
    number, branch = place
    view, layer = state.model, state.model.layer(number)
    paths = view.adapter.layout(branch).readers
    readers = [layer.get_submodule(path) for path in paths]
    if not all(is_linear(reader) for reader in readers):
        return None
    prior = torch.cat([weight_rows(reader).double() for reader in readers], dim=1)
    moments = SiteMoments.empty(prior.shape[0], prior.shape[1], state.dense.device)
    for index in range(len(state.flow.batches)):
        walk = state.flow.walk(index)
        x, wanted = _read(state, walk, place, streams), _given(state, walk, place)
        rows = Rows(x, wanted, torch.zeros_like(wanted))
        moments.add(split(state, index, walk.batch.tokens, rows), "equal")
    moments.require_finite(_as_site(place))
    regression = KnownRegression(moments, "inner", prior)
    linear_map = repairer.estimate(regression) or LinearMap(prior)
    figures = SiteReport(
        donor=number,
        branch=branch,
        r_squared=moments.fit.r_squared(linear_map),
        held_out=held_out_share(regression, linear_map),
        token_count=moments.fit.token_count,
        notes=(*linear_map.notes, "what reads the stream"),
    )
    if figures.helps:
        widths = [weight_rows(reader).shape[1] for reader in readers]
        for reader, weight in zip(readers, linear_map.weight.split(widths, dim=1), strict=True):
            replace_weight(reader, weight, None)
        state.refresh()
    return figures


def _as_site(place: Place) -> RepairSite:
    from billhook.cut import RepairSite

    return RepairSite(layer=place[0], branch=place[1], target=place[0])


def _read(state: PruningState, walk: Walk, place: Place, streams: PresentStreams) -> Tensor:
    """What the present readers read, ``[batch, seq, d_model]`` float32."""
    number, branch = place
    seen: list[Tensor] = []
    first = state.model.layer(number).get_submodule(state.model.adapter.layout(branch).readers[0])
    handle = first.register_forward_pre_hook(lambda module, args: seen.append(args[0].detach()))
    stream = streams.entering(walk, number)
    try:
        state.flow.runner.run(state.model, number, walk.batch, stream)
    finally:
        handle.remove()
    return seen[0].reshape(*stream.shape[:-1], -1).float()


def _given(state: PruningState, walk: Walk, place: Place) -> Tensor:
    """What the dense readers give for the units that are left, without biases: ``[batch, seq, outputs]`` float32."""
    number, branch = place
    layer, layout = state.dense.layer(number), state.dense.adapter.layout(branch)
    seen: dict[str, Tensor] = {}
    handles = [layer.get_submodule(path).register_forward_hook(_noting(seen, path)) for path in layout.readers]
    stream = walk.to(number)
    try:
        leaving = state.flow.runner.run(state.dense, number, walk.batch, stream)
    finally:
        for handle in handles:
            handle.remove()
    walk.stand_at(number + 1, leaving)
    parts = []
    for path in layout.readers:
        reader = layer.get_submodule(path)
        output, bias = seen[path].float(), bias_of(reader)
        output = output if bias is None else output - bias.float()
        parts.append(output.reshape(*stream.shape[:-1], -1)[..., _left(state, place, path, reader).to(output.device)])
    return torch.cat(parts, dim=-1)


def _left(state: PruningState, place: Place, path: str, reader: nn.Module) -> Tensor:
    """Of a dense reader's outputs, those of the units that the present model has."""
    number, branch = place
    units = state.dense.units(number, branch)
    position = {unit: at for at, unit in enumerate(units)}
    places = [position[unit] for unit in state.model.units(number, branch)]
    layout = state.dense.adapter.layout(branch)
    queries = _queries(state.dense, place)
    shares = [queries if block == "q" else 1 for block in layout.stacked.get(path, ("",))]
    return entries_of(places, len(units), shares, weight_rows(reader).shape[1])


def _queries(view: ModelView, place: Place) -> int:
    sizes = view.adapter.sizes(view.model.config, place[1], 1)
    return sizes["heads"] // sizes["key_value_heads"] if "heads" in sizes else 1


def _noting(seen: dict[str, Tensor], path: str) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
    def hook(module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
        seen[path] = output.detach().clone()

    return hook
