"""The weights of a whole model: whether they can be pruned, and which they are."""

from __future__ import annotations

import hashlib

import torch
from torch import nn
from transformers import PreTrainedModel

from billhook.errors import UnusableModel
from billhook.heterogeneous.modeling_billhook import HeterogeneousLayers
from billhook.model.writer import all_finite


def refuse_unusable(model: PreTrainedModel, *, measured: bool = False) -> None:
    """Turn away models whose weights cannot be pruned as they are.

    Args:
        model: as it was loaded.
        measured: it is not to be pruned, so that it may be quantised.

    Raises:
        UnusableModel: the model is quantised, lies partly on the meta device, has weights that are NaN or infinite
            (names the first such weight), or is of the type ``billhook`` and was loaded by other code than ours.
    """
    if model.config.model_type == "billhook" and not isinstance(model, HeterogeneousLayers):
        raise UnusableModel(
            "This model was loaded by the code beside its weights (trust_remote_code). Load it again after "
            "`import billhook`, which then reads it itself."
        )
    if not measured and (getattr(model, "is_quantized", False) or getattr(model.config, "quantization_config", None)):
        raise UnusableModel(
            "This model is quantised, and folding needs its weights in floating point. "
            "Load the original checkpoint, prune it, and quantise the result."
        )
    for name, parameter in model.named_parameters():
        if parameter.is_meta:
            raise UnusableModel(
                f"Weight {name} lies on the meta device (offloaded). Load the model without offloading."
            )
        if not parameter.is_floating_point():
            if measured:
                continue
            raise UnusableModel(f"Weight {name} is stored as {parameter.dtype}. Load the model unquantised.")
        if parameter.element_size() > 1 and not all_finite(parameter):  # float8 has no such test, and is quantised
            raise UnusableModel(f"Weight {name} holds NaN or infinite values. The checkpoint is damaged; load another.")


def fingerprint(model: PreTrainedModel) -> str:
    """SHA-256 over names, shapes and a sample of the weights: other weights are noticed in milliseconds."""
    digest = hashlib.sha256(str(model.dtype).encode())
    for name, parameter in model.named_parameters():
        flat = parameter.detach().flatten()
        sample = flat[:: max(1, len(flat) // 64)].double().cpu()
        digest.update(f"{name}{tuple(parameter.shape)}".encode() + sample.numpy().tobytes())
    return digest.hexdigest()


def shapes(module: nn.Module) -> dict[str, torch.Size]:
    """The shape of every parameter, by name."""
    return {name: parameter.shape for name, parameter in module.named_parameters()}
