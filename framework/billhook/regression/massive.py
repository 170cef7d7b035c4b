"""Massive activations: tokens, attention sinks above all, whose activations dwarf those of the others."""

from __future__ import annotations

from torch import Tensor

MASSIVE = 30.0
"""A row is massive if it is longer than so many median rows. Where models have such tokens (arXiv 2402.17762) they are
hundreds of times as long, and no others come near."""


def massive_rows(x: Tensor) -> Tensor:
    """Which of the rows of ``x`` ``[tokens, columns]`` are massive, ``[tokens]`` bool."""
    squares = x.square().sum(-1)
    return squares > MASSIVE**2 * squares.median()
