"""Linear maps as layers of their own, behind modules that they do not change."""

from __future__ import annotations

from torch import nn

from billhook.heterogeneous.modeling_billhook import Mapped as Mapped
from billhook.heterogeneous.modeling_billhook import set_module
from billhook.regression.linear_map import LinearMap


def insert_after(layer: nn.Module, path: str, linear_map: LinearMap, scale: float = 1.0) -> None:
    """Put a linear map behind a submodule, in place, in the dtype and on the device of its weights.

    Args:
        layer: the decoder layer that is changed.
        path: of the submodule, from the layer, with dots.
        linear_map: from what the submodule puts out, ``[d_out, d_out]``.
        scale: what the output is multiplied by afterwards: the map was fitted on the scaled output, so its bias is
            divided by it.
    """
    old = layer.get_submodule(path)
    like = next(old.parameters())
    # on the meta device: its random initialisation would move the global generator
    linear = nn.Linear(1, 1, bias=linear_map.bias is not None, device="meta")
    linear.out_features, linear.in_features = linear_map.weight.shape[::-1]
    linear.weight = nn.Parameter(linear_map.weight.T.to(like, copy=True).contiguous())
    if linear_map.bias is not None:
        linear.bias = nn.Parameter((linear_map.bias / scale).to(like))
    set_module(layer, path, Mapped(old, linear).train(old.training))


def without_maps(module: nn.Module) -> nn.Module:
    """The module itself behind whatever maps were put after it."""
    while isinstance(module, Mapped):
        module = module.module
    return module


def has_inserted(model: nn.Module) -> bool:
    """Whether any map stands in the model as a layer of its own."""
    return any(isinstance(module, Mapped) for module in model.modules())
