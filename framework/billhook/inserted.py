"""A linear map as a layer of its own, behind a module that it does not change."""

from __future__ import annotations

from typing import Any, cast

from torch import Tensor, nn

from billhook.linear_map import LinearMap


class Mapped(nn.Module):
    """``linear(module(...))``: what the *linearised* model has where a cut was.

    Attributes of the wrapped module stay reachable, since models look at them (a norm's ``weight``, say).
    """

    def __init__(self, module: nn.Module, linear: nn.Linear) -> None:
        super().__init__()
        self.module = module
        self.linear = linear

    def forward(self, *args: Any, **kwargs: Any) -> Tensor:
        """The module's output, mapped: same shape."""
        return cast(Tensor, self.linear(self.module(*args, **kwargs)))

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("module"), name)


def insert_after(layer: nn.Module, path: str, linear_map: LinearMap, scale: float = 1.0) -> None:
    """Wrap the submodule of ``layer`` at ``path``, in place, in the dtype and on the device of its weights.

    ``scale`` is what the output is multiplied by afterwards: the map was fitted on the scaled output, so its bias
    is divided by it.
    """
    old = layer.get_submodule(path)
    like = next(old.parameters())
    # on the meta device: its random initialisation would move the global generator
    linear = nn.Linear(1, 1, bias=linear_map.bias is not None, device="meta")
    linear.out_features, linear.in_features = linear_map.weight.shape[::-1]
    linear.weight = nn.Parameter(linear_map.weight.T.to(like, copy=True).contiguous())
    if linear_map.bias is not None:
        linear.bias = nn.Parameter((linear_map.bias / scale).to(like))
    parent, _, name = path.rpartition(".")
    setattr(layer.get_submodule(parent), name, Mapped(old, linear).train(old.training))


def has_inserted(model: nn.Module) -> bool:
    """Whether any map stands in the model as a layer of its own."""
    return any(isinstance(module, Mapped) for module in model.modules())
