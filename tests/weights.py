"""Weights of a file, to change and write back."""

from __future__ import annotations

from pathlib import Path

from safetensors.torch import load_file
from torch import Tensor


def copies(file: Path) -> dict[str, Tensor]:
    """The tensors of ``file`` in memory of their own.

    Those of ``load_file`` lie in the file, and older versions of safetensors write into it: what is read of it then
    is what was written, or a bus error.
    """
    return {name: tensor.clone() for name, tensor in load_file(file).items()}
