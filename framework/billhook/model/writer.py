"""Reading and replacing the weight of a writer, whichever way its class stores it."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from billhook.errors import CannotMerge


def is_linear(module: nn.Module) -> bool:
    """Whether the module is one whose weight we can read and replace: a float ``nn.Linear`` or ``Conv1D``."""
    weight = getattr(module, "weight", None)
    return isinstance(module, nn.Linear | Conv1D) and isinstance(weight, Tensor) and weight.is_floating_point()


def weight_rows(module: nn.Module) -> Tensor:
    """The weight as ``[d_in, d_out]``, for row vectors; a view, in the module's dtype.

    ``nn.Linear`` stores ``[d_out, d_in]``, GPT-2's ``Conv1D`` the transpose.

    Raises:
        CannotMerge: the module is of another class, or its weight is quantised.
    """
    if not is_linear(module):
        raise CannotMerge(
            f"A {type(module).__name__} cannot be folded into: only float nn.Linear and Conv1D can. "
            f"Load the model unquantised, or use the merger 'insert'."
        )
    weight: Tensor = module.weight  # type: ignore[assignment] # is_linear has seen it
    return weight.detach() if isinstance(module, Conv1D) else weight.detach().T


def bias_of(module: nn.Module) -> Tensor | None:
    """The bias ``[d_out]`` of a module, in its dtype; None if it has none."""
    bias = getattr(module, "bias", None)
    return bias.detach() if isinstance(bias, Tensor) else None


def replace_weight(module: nn.Module, rows: Tensor, bias: Tensor | None) -> None:
    """Give a module a new weight and bias. The old tensors are left as they are: other models may share them.

    Args:
        module: one that :func:`is_linear` accepts. Its sizes follow.
        rows: the weight as ``[d_in, d_out]``, any float dtype; rounded once, to the module's own.
        bias: ``[d_out]``; None leaves the present one, if there is any.
    """
    old: Tensor = module.weight  # type: ignore[assignment] # callers pass what weight_rows accepted
    stored = rows if isinstance(module, Conv1D) else rows.T
    module.weight = _parameter_like(old, stored)
    if bias is not None:
        module.bias = _parameter_like(old, bias)
    if isinstance(module, nn.Linear):
        module.out_features, module.in_features = stored.shape
    elif isinstance(module, Conv1D):
        module.nx, module.nf = stored.shape


def _parameter_like(old: Tensor, value: Tensor) -> nn.Parameter:
    new = value.to(device=old.device, dtype=old.dtype, copy=True).contiguous()
    return nn.Parameter(new, requires_grad=old.requires_grad)


def double_device(device: torch.device) -> torch.device:
    """Where float64 is computed for tensors on ``device``: the CPU where it has none (Apple's GPU)."""
    return torch.device("cpu") if device.type == "mps" else device


def all_finite(tensor: Tensor) -> bool:
    """Whether no entry is NaN or infinite."""
    return bool(torch.isfinite(tensor).all())
