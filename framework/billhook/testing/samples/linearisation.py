"""The linearised model: the reference for what every merger must compute."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from billhook.cuts.cut import Cut
from billhook.model.branch import Place
from billhook.model.view import ModelView
from billhook.regression.linear_map import LinearMap
from billhook.regression.regression import Regressor
from billhook.testing.samples.zeroing import zeroed


def linearised(
    view: ModelView, cut: Cut, linear_map: LinearMap | None, regressor: Regressor = "output"
) -> PreTrainedModel:
    """A copy of ``view``'s model in which ``cut`` adds nothing and ``linear_map`` follows the donor branch.

    With the regressor ``inner`` it takes the place of the weight of the donor's writer, and adds to its bias.

    Made of forward hooks on the whole model (see :func:`zeroed`): no layer is removed, no weight touched, no config
    changed. So it shares nothing with the code it is there to judge. The map is applied in float64 and rounded once.

    The donor is the branch itself where the cut narrows one, else the last branch before the cut that ``view`` still
    has. What the map gets is what that branch adds to the stream, so where a family multiplies its branches by a
    constant the map stands behind that.
    """
    model = zeroed(view, cut)
    if linear_map is None:
        return model
    number, branch = donor_of(view, cut)
    donor = view.adapter.layers(model)[view.numbers.index(number)]
    scale = view.adapter.scale(donor, branch)
    if regressor == "inner":
        present, kept = view.units(number, branch), cut.narrowed.get((number, branch))
        columns = torch.tensor([kept is None or unit in kept for unit in present])
        view.adapter.writer(donor, branch).register_forward_hook(_Writing(linear_map, scale, columns))
    else:
        path = view.adapter.output(donor, branch)
        donor.get_submodule(path).register_forward_hook(_Mapping(linear_map, scale))
    return model


def donor_of(view: ModelView, cut: Cut) -> Place:
    """The branch that makes up for ``cut``; there must be one."""
    if cut.narrowed:
        return next(iter(cut.narrowed))
    order = {"attention": 0, "mlp": 1}
    first = min((number, order[branch]) for number, branch in cut.branches)
    return [place for place in view.branches() if (place[0], order[place[1]]) < first][-1]


class _Mapping:
    """Forward hook: the module's output, mapped."""

    def __init__(self, linear_map: LinearMap, scale: float) -> None:
        self._weight = linear_map.weight.to(torch.float64)
        self._bias = None if linear_map.bias is None else linear_map.bias.to(torch.float64)
        self._scale = scale

    def __call__(self, module: nn.Module, args: tuple[Any, ...], output: Tensor) -> Tensor:
        added = output.to(torch.float64) * self._scale
        mapped = added @ self._weight.to(added.device)
        if self._bias is not None:
            mapped = mapped + self._bias.to(added.device)
        return (mapped / self._scale).to(output.dtype)


class _Writing:
    """Forward hook of a writer: the map in the place of its weight, for the units that stay; its own bias kept."""

    def __init__(self, linear_map: LinearMap, scale: float, kept: Tensor) -> None:
        self._weight = linear_map.weight.to(torch.float64)
        self._bias = None if linear_map.bias is None else linear_map.bias.to(torch.float64) / scale
        self._kept = kept

    def __call__(self, module: nn.Module, args: tuple[Any, ...], output: Tensor) -> Tensor:
        inner = args[0].to(torch.float64).unflatten(-1, (len(self._kept), -1))  # [..., units, width of a unit]
        written = inner[..., self._kept, :].flatten(-2) @ self._weight.to(output.device)
        for bias in (module.bias if hasattr(module, "bias") else None, self._bias):
            if isinstance(bias, Tensor):
                written = written + bias.to(written)
        rounded: Tensor = written.to(output.dtype)
        return rounded
