"""Regressions whose answer is known."""

from __future__ import annotations

from typing import Literal

import attrs
import torch
from torch import Tensor

from billhook.regression.linear_map import LinearMap
from billhook.regression.regression import TensorRegression

Structure = Literal["full", "diagonal", "orthogonal"]
"""The kinds of map that can be planted."""


@attrs.frozen(kw_only=True, eq=False)
class PlantedProblem:
    """A regression made from a known map: ``residual = truth(x) + noise``.

    Attributes:
        regression: what an estimator is given.
        truth: what it should find, float64.
        noise: standard deviation of what was added to the residual; that of x is 1.
    """

    regression: TensorRegression
    truth: LinearMap
    noise: float = 0.0

    def __repr__(self) -> str:
        tokens, d_in = self.regression.all_rows.x.shape
        bias = "" if self.truth.bias is None else ", with bias"
        return f"PlantedProblem({tokens} tokens, {d_in} -> {self.regression.d_out}{bias}, noise={self.noise})"


def planted_problem(
    *,
    seed: int = 0,
    tokens: int = 200,
    d_in: int = 8,
    d_out: int | None = None,
    structure: Structure = "full",
    bias: bool = False,
    noise: float = 0.0,
    dtype: torch.dtype = torch.float64,
) -> PlantedProblem:
    """A random problem whose answer is known.

    Columns of x differ in scale by a factor of 10 (except for rotations, where scales would only blur what is asked),
    and x, residual and skip have means of their own.

    Args:
        seed: of all random numbers; the global generator is left alone.
        tokens: rows.
        d_in: columns of x.
        d_out: columns of the residual; ``d_in`` if None.
        structure: of the true map: ``full``, ``diagonal`` or ``orthogonal``.
        bias: whether the true map has one.
        noise: standard deviation of what is added to the residual.
        dtype: of x, residual and skip. The true map is float64.
    """
    generator = torch.Generator().manual_seed(seed)
    d_out = d_in if d_out is None else d_out
    truth = random_map(d_in, d_out, seed=seed + 1, structure=structure, bias=bias)
    scales = torch.ones(d_in) if structure == "orthogonal" else torch.logspace(-0.5, 0.5, d_in)
    x = _normal(generator, tokens, d_in) * scales + 0.3 * _normal(generator, d_in)
    residual = truth(x) + noise * _normal(generator, tokens, d_out)
    skip = _normal(generator, tokens, d_out)
    regression = TensorRegression(*(t.to(dtype) for t in (x, residual, skip)))
    return PlantedProblem(regression=regression, truth=truth, noise=noise)


def random_map(
    d_in: int, d_out: int | None = None, *, seed: int = 0, structure: Structure = "full", bias: bool = False
) -> LinearMap:
    """A map of entries of order 1, float64; same arguments, same map."""
    generator = torch.Generator().manual_seed(seed)
    weight = _normal(generator, d_in, d_in if d_out is None else d_out)
    if structure == "diagonal":
        weight = torch.diag(weight.diagonal())
    elif structure == "orthogonal":
        weight = torch.linalg.qr(weight).Q
    return LinearMap(weight, _normal(generator, weight.shape[1]) if bias else None)


def _normal(generator: torch.Generator, *shape: int) -> Tensor:
    return torch.randn(shape, generator=generator, dtype=torch.float64)
