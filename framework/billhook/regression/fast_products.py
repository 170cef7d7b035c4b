"""Products of activations that a bfloat16 model gave: as exact as float32 ones, and several times faster."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from billhook.regression.massive import massive_rows


def is_bfloat16(x: Tensor) -> bool:
    """Whether every entry is a number that bfloat16 can hold, whatever the dtype; False if one is not finite."""
    return x.dtype == torch.bfloat16 or bool(x.to(torch.bfloat16).to(x.dtype).equal(x))


def add_products(total: Tensor, x: Tensor, other: Tensor | None = None, weights: Tensor | None = None) -> None:
    """Add ``Σ w x otherᵀ`` over tokens to ``total``, from bfloat16 products summed up in float32.

    bfloat16 numbers multiply exactly in float32, and the matrix units of current CPUs and GPUs do so at a multiple of
    float32's speed. A number that is not one is the sum of two, up to 2⁻¹⁷ of itself.

    Args:
        total: float64 ``[d_in, columns]``, added to in place.
        x: float32 ``[tokens, d_in]``, of numbers that bfloat16 can hold.
        other: float32 ``[tokens, columns]``; ``x`` itself if None.
        weights: ``[tokens]``, 1 each if None.
    """
    large = massive_rows(x)
    if bool(large.any()):  # in float64: their squares would drown the last digits of the others in a float32 sum
        rows = x[large].double() if weights is None else x[large].double() * weights[large, None]
        total.addmm_(rows.T, (x if other is None else other)[large].double())
        keep = ~large
        x, other = x[keep], None if other is None else other[keep]
        weights = None if weights is None else weights[keep]
    left = x if weights is None else x * weights[:, None].to(x)
    lefts = (left,) if weights is None or is_bfloat16(left) else _halves(left)
    rights = (x,) if other is None else _halves(other)
    with _bfloat16_units():
        for i, part in enumerate(lefts):
            for j, right in enumerate(rights):
                if i + j < 2:  # the product of two rests is below 2⁻¹⁶
                    total.add_(part.T @ right)


def _halves(x: Tensor) -> tuple[Tensor, Tensor]:
    """Two matrices of bfloat16 numbers, in float32, that add up to ``x`` but for 2⁻¹⁷."""
    high = x.to(torch.bfloat16).float()
    return high, (x - high).to(torch.bfloat16).float()


@contextmanager
def _bfloat16_units() -> Iterator[None]:
    """float32 products may round their factors to bfloat16 (or TF32), which changes nothing for those made here."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def power_of_two(weights: Tensor) -> Tensor:
    """Weights rounded to powers of two: a bfloat16 number times one of those stays one, so sums of products stay fast.

    Args:
        weights: of any shape, 0 or more, any float dtype.

    Returns:
        The same shape, float64, above 0; each within a factor of √2 of what was given.
    """
    return torch.exp2(weights.double().clamp_min(torch.finfo(torch.float32).tiny).log2().round())
