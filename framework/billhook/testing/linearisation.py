"""The linearised model: the reference for what every merger must compute."""

from __future__ import annotations

import copy
from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from billhook.cuts.drop_layers import DropLayers
from billhook.model.view import ModelView
from billhook.regression.linear_map import LinearMap
from billhook.regression.regression import Regressor


def linearised(
    view: ModelView, cut: DropLayers, linear_map: LinearMap | None, regressor: Regressor = "output"
) -> PreTrainedModel:
    """A copy of ``view``'s model in which ``cut`` is skipped and ``linear_map`` follows the donor branch.

    With the regressor ``inner`` it takes the place of the weight of the donor's writer, and adds to its bias.

    Made of forward hooks on the whole model: no layer is removed, no weight touched, no config changed. So it shares
    nothing with the code it is there to judge. The map is applied in float64 and rounded once.

    The donor is the MLP of the nearest layer before the cut that ``view`` still has. What the map gets is what that
    MLP adds to the stream, so where a family multiplies its branches by a constant the map stands behind that.
    """
    model = copy.deepcopy(view.model)
    layers = view.adapter.layers(model)
    for number in cut.layers:
        layers[view.numbers.index(number)].register_forward_hook(_pass_by, with_kwargs=True)
    if linear_map is not None:
        before = [position for position, number in enumerate(view.numbers) if number < cut.start]
        donor = layers[before[-1]]
        scale = view.adapter.scale(donor, "mlp")
        if regressor == "inner":
            view.adapter.writer(donor, "mlp").register_forward_hook(_Writing(linear_map, scale))
        else:
            path = view.adapter.output(donor, "mlp")
            donor.get_submodule(path).register_forward_hook(_Mapping(linear_map, scale))
    model.eval()
    return model


def _pass_by(layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: object) -> object:
    """What entered the layer, in the shape of what it returned."""
    stream = cast(Tensor, args[0] if args else kwargs["hidden_states"])
    return (stream, *output[1:]) if isinstance(output, tuple) else stream


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
    """Forward hook of a writer: the map in the place of its weight, its own bias kept."""

    def __init__(self, linear_map: LinearMap, scale: float) -> None:
        self._weight = linear_map.weight.to(torch.float64)
        self._bias = None if linear_map.bias is None else linear_map.bias.to(torch.float64) / scale

    def __call__(self, module: nn.Module, args: tuple[Any, ...], output: Tensor) -> Tensor:
        written = args[0].to(torch.float64) @ self._weight.to(output.device)
        for bias in (module.bias if hasattr(module, "bias") else None, self._bias):
            if isinstance(bias, Tensor):
                written = written + bias.to(written)
        rounded: Tensor = written.to(output.dtype)
        return rounded
