"""Regressions with a catch: each tells an estimator that looks at all it should from one that does not."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from billhook.regression.linear_map import LinearMap
from billhook.regression.regression import Rows, TensorRegression
from billhook.testing.samples.planted import Structure, planted_problem, random_map

COLUMNS = 6
"""Of the problems made here."""

MANY = 1100
"""More tokens than a batch has, unless another number is asked for."""

Shape = Literal["square", "wide", "tall"]
"""As wide as the stream, behind a branch; else what a writer reads, more columns than the stream has, or fewer."""

SIZES: dict[Shape, tuple[int, int]] = {"square": (COLUMNS, COLUMNS), "wide": (9, 4), "tall": (4, 9)}
"""``d_in`` and ``d_out`` of each."""


class Sampled(TensorRegression):
    """One whose sample is a part of its rows, the first ones."""

    sampled = 100

    def sample(self) -> Rows:
        """Some of the rows, float32."""
        return self.all_rows[: self.sampled].to(dtype=torch.float32)


def near_prior(shape: Shape, *, seed: int = 0, noise: float = 0.1, tokens: int = 200) -> TensorRegression:
    """The right map is a third of the way from what changes nothing to some other."""
    d_in, d_out = SIZES[shape]
    x = planted_problem(seed=seed, tokens=tokens, d_in=d_in).regression.all_rows.x
    prior = torch.eye(d_in, dtype=x.dtype) if shape == "square" else random_map(d_in, d_out, seed=seed + 2).weight
    residual = x @ (prior + 0.3 * random_map(d_in, d_out, seed=seed + 1).weight)
    residual = residual + noise * _noise(residual, seed + 3)
    return TensorRegression(x, residual, _noise(residual, seed + 4), prior=None if shape == "square" else prior)


def with_offset() -> TensorRegression:
    """The map to be found is what changes nothing, but for a constant."""
    x = planted_problem(seed=14, d_in=COLUMNS).regression.all_rows.x
    return TensorRegression(x, x + 3.0, _noise(x))


def behind_a_writer(shape: Shape) -> tuple[TensorRegression, LinearMap]:
    """A map that takes the place of a writer's weight, without noise; and the map."""
    d_in, d_out = SIZES[shape]
    planted = planted_problem(seed=6, d_in=d_in, d_out=d_out)
    rows = planted.regression.all_rows
    prior = random_map(d_in, d_out).weight
    return TensorRegression(rows.x, rows.residual, rows.skip, prior=prior), planted.truth


def told_in_parts(structure: Structure) -> tuple[Sampled, LinearMap]:
    """Only the last rows, which are neither in the first batch nor in the sample, say all of the right map."""
    planted = planted_problem(seed=8, tokens=2 * MANY, d_in=COLUMNS, structure=structure)
    x = planted.regression.all_rows.x.clone()
    x[: 2 * MANY - 100, COLUMNS // 2 :] = 0
    return Sampled(x, planted.truth(x), _noise(x)), planted.truth


def changing_its_mind() -> Sampled:
    """The first batch and the sample want the opposite of what all tokens together want."""
    first, x = MANY, planted_problem(seed=9, tokens=4 * MANY, d_in=COLUMNS).regression.all_rows.x
    away = x @ (0.3 * random_map(COLUMNS, seed=1).weight)
    away[:first] *= -1
    return Sampled(x, x + away, _noise(x))


def held_out_apart(structure: Structure | None) -> tuple[TensorRegression, LinearMap]:
    """The held-out rows are many and large, and follow quite another map; and the map of the others."""
    planted = planted_problem(seed=10, tokens=400, d_in=COLUMNS, structure=structure or "full")
    x, eye = planted.regression.all_rows.x.clone(), torch.eye(COLUMNS, dtype=torch.float64)
    truth = planted.truth if structure else LinearMap(eye + 0.3 * planted.truth.weight)
    residual = truth(x)
    x[200:], residual[200:] = 3 * x[200:], 3 * (2 * x[200:] - residual[200:])
    return TensorRegression(x, residual, _noise(x), held_out=200), truth


def undetermined() -> TensorRegression:
    """A column that is always 0, and one that repeats another."""
    x = planted_problem(seed=11, d_in=COLUMNS).regression.all_rows.x.clone()
    x[:, 1], x[:, 4] = 0, x[:, 2]
    return TensorRegression(x, x @ (torch.eye(COLUMNS, dtype=x.dtype) + 0.3 * random_map(COLUMNS, seed=1).weight))


def few_tokens() -> TensorRegression:
    """Fewer tokens than columns."""
    rows = near_prior("square", seed=12).all_rows[: COLUMNS - 2]
    return TensorRegression(rows.x, rows.residual, rows.skip)


def weighted(*, copies: bool) -> TensorRegression:
    """Tokens of which every third weighs 2; or, the same to an estimator, comes twice."""
    rows = near_prior("square", seed=13).all_rows
    weights = 1 + (torch.arange(len(rows)) % 3 == 0).double()
    if copies:
        twice = torch.arange(len(rows)).repeat_interleave(weights.long())
        rows = rows[twice]
        return TensorRegression(rows.x, rows.residual, rows.skip)
    return TensorRegression(rows.x, rows.residual, rows.skip, weights=weights)


def _noise(like: Tensor, seed: int = 4) -> Tensor:
    return torch.randn(like.shape, generator=torch.Generator().manual_seed(seed), dtype=like.dtype)
