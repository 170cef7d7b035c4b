"""Passes: how many branches' matrices are collected at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeVar

Item = TypeVar("Item")

GRAM_BYTES = 2 * 2**30
"""Of the matrices that a pass over the data collects at most; what does not fit takes another pass."""


def in_passes(items: Sequence[Item], width: int) -> Iterator[Sequence[Item]]:
    """Parts of ``items``, in their order, so large that a float64 matrix ``[width, width]`` for each may be held."""
    size = max(1, GRAM_BYTES // (8 * width**2))
    for start in range(0, len(items), size):
        yield items[start : start + size]
