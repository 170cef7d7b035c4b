"""Whether every tensor of a GGUF file went into the model: transformers passes over those that it cannot place."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from gguf import MODEL_ARCH_NAMES, get_tensor_name_map
from gguf.tensor_mapping import TensorNameMap
from torch import Tensor
from transformers import PreTrainedModel

from billhook.errors import UnusableModel
from billhook.reading.gguf_header import GGUFHeader

ROPE_FACTORS = "rope_freqs.weight"
"""By what rotary frequencies are divided, ``[head_dim / 2]``: how Llama 3.1 and later stretch positions."""


def unplaced_tensors(model: PreTrainedModel, header: GGUFHeader) -> list[str]:
    """The tensors of a file that have no place in ``model``, which was loaded from it."""
    known = set(_known(model, header)) | {ROPE_FACTORS}
    return [tensor for tensor in header.tensors if tensor not in known]


def _known(model: PreTrainedModel, header: GGUFHeader) -> Iterator[str]:
    """How GGUF calls the weights of ``model``."""
    named = [arch for arch, called in MODEL_ARCH_NAMES.items() if called == header.architecture]
    if not named:
        yield from header.tensors  # a newer architecture than the package gguf knows: nothing to judge by
        return
    names = get_tensor_name_map(named[0], model.config.get_text_config().num_hidden_layers)
    for weight in model.state_dict():
        path, _, kind = weight.rpartition(".")
        if found := _called(names, path):
            yield f"{found}.{kind}"


def _called(names: TensorNameMap, path: str) -> str | None:
    """The name of a module; some are listed without their first parts (Bloom's, of the model without a head)."""
    while True:
        if found := names.get_name(path):
            return found
        _, dot, path = path.partition(".")
        if not dot:
            return None


def stretched(name: str, model: PreTrainedModel, factors: Tensor) -> dict[str, object]:
    """The rotary parameters that say what ``factors`` do, which GGUF has as a tensor and not in its metadata.

    Args:
        name: what the user called the file.
        model: as transformers loaded it, with frequencies that are not stretched.
        factors: the tensor :data:`ROPE_FACTORS`.

    Raises:
        UnusableModel: they are not those of any Llama 3.
    """
    present = dict(getattr(model.config, "rope_parameters", None) or {})
    # all of Meta's models from 3.1 on have these; they differ in the factor, which is the largest
    wanted = present | {
        "rope_type": "llama3",
        "factor": float(factors.max()),
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    }
    frequencies = _frequencies(present.get("rope_theta"), 2 * len(factors))
    if frequencies is None or not torch.allclose(_llama3(frequencies, wanted), frequencies / factors, rtol=1e-3):
        raise UnusableModel(
            f"The GGUF file {name} stretches its rotary frequencies ({ROPE_FACTORS}) in a way that no config of a "
            f"Llama 3 says. Take the checkpoint that it was made from."
        )
    return wanted


def _frequencies(theta: object, head_dim: int) -> Tensor | None:
    if not isinstance(theta, int | float):
        return None
    return 1.0 / float(theta) ** (torch.arange(0, head_dim, 2, dtype=torch.float64) / head_dim)


def _llama3(frequencies: Tensor, parameters: dict[str, object]) -> Tensor:
    """The frequencies of Llama 3.1: long waves are stretched by ``factor``, short ones not, those between a little."""
    factor, low, high, length = (
        float(parameters[key])  # type: ignore[arg-type] # numbers, of our own making
        for key in ("factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings")
    )
    waves = 2 * torch.pi / frequencies
    smooth = ((length / waves - low) / (high - low)).clamp(0, 1)
    return (1 - smooth) * frequencies / factor + smooth * frequencies
