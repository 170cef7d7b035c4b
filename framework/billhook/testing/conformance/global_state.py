"""GlobalState: what every part of a process shares, and nobody may leave changed."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

_PARTS: dict[str, tuple[Callable[[], Any], Callable[[Any], object]]] = {
    "torch's random numbers": (torch.get_rng_state, torch.set_rng_state),
    "Python's random numbers": (random.getstate, random.setstate),
    "NumPy's random numbers": (np.random.get_state, np.random.set_state),  # the shared one is the point
    "the default dtype": (torch.get_default_dtype, torch.set_default_dtype),
    "the default device": (torch.get_default_device, torch.set_default_device),
    "whether gradients are recorded": (torch.is_grad_enabled, torch.set_grad_enabled),
    "whether algorithms are deterministic": (
        torch.are_deterministic_algorithms_enabled,
        torch.use_deterministic_algorithms,
    ),
    "the precision of float32 products": (
        torch.get_float32_matmul_precision,
        torch.set_float32_matmul_precision,
    ),
    "the number of threads": (torch.get_num_threads, torch.set_num_threads),
}
"""How each is read and set."""


class GlobalState:
    """What the process was like, to find out later what has changed, and to put it right."""

    def __init__(self) -> None:
        self._values = {name: read() for name, (read, _) in _PARTS.items()}

    def changed(self) -> list[str]:
        """What is different now, in words."""
        return [name for name, (read, _) in _PARTS.items() if not _same(read(), self._values[name])]

    def restore(self) -> None:
        """Make everything what it was."""
        for name in self.changed():
            _PARTS[name][1](self._values[name])


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, Tensor):
        return torch.equal(one, other)
    if isinstance(one, tuple):
        return len(one) == len(other) and all(_same(*pair) for pair in zip(one, other, strict=True))
    if isinstance(one, np.ndarray):
        return bool(np.array_equal(one, other))
    return bool(one == other)
