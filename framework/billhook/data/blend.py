"""Blend: calibration data from several sources, by weight."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import attrs

from billhook.data.given import keep
from billhook.data.self_generated import SelfGenerated, named
from billhook.errors import InvalidConfig

Part = tuple[object, float]
"""A source and its weight."""


def _pairs(given: Mapping[Any, float] | Iterable[Part]) -> tuple[Part, ...]:
    if isinstance(given, str) or not isinstance(given, Iterable):
        raise InvalidConfig(f"A Blend takes sources with their weights: {{'a.txt': 1, 'b.jsonl': 2}}; got {given!r}.")
    pairs = list(given.items()) if isinstance(given, Mapping) else list(given)
    for pair in pairs:
        if not isinstance(pair, tuple | list) or len(pair) != 2:
            raise InvalidConfig(f"A part of a Blend is a pair of a source and its weight; got {pair!r}.")
    return tuple((keep(source), weight) for source, weight in pairs)


@attrs.frozen
class Blend:
    """A source of calibration data made of others: rows of each, in proportion to the weights, shuffled.

    ``Blend({"wiki.txt": 1, "web.jsonl": 2})``; or ``(source, weight)`` pairs, for sources that cannot be keys. A
    source that gives *n* rows gives those that it gives alone with ``samples=n``, whatever the others hold. Weights
    are relative, and count rows: fractions of a row go to the largest remainders, ties to the earlier part. If a part
    has too few rows, the others make up for it, in proportion to their weights, and a warning says so.

    Attributes:
        parts: sources (anything that a calibration takes, but no blend) and their weights, above 0.
    """

    parts: tuple[tuple[object, float], ...] = attrs.field(converter=_pairs)

    def __attrs_post_init__(self) -> None:
        if not self.parts:
            raise InvalidConfig("A Blend needs at least one source.")
        seen: list[object] = []
        for source, weight in self.parts:
            if isinstance(source, Blend):
                raise InvalidConfig("A Blend holds no other one: write its parts into this one, with their weights.")
            if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 < weight < math.inf:
                raise InvalidConfig(f"A weight of a Blend must be a number above 0; got {weight!r} for {source!r}.")
            if isinstance(source, str | Path | SelfGenerated):
                _refuse_again(named(source), seen)


def _refuse_again(source: object, seen: list[object]) -> None:
    """A source draws the same rows each time, so that the second time would add nothing."""
    if source in seen:
        raise InvalidConfig(f"A Blend names {source} twice, which gives the same rows twice: add up the weights.")
    seen.append(source)


def allocate(samples: int, weights: Sequence[float], counts: Sequence[int | None]) -> list[int]:
    """How many rows each part gives.

    Args:
        samples: rows wanted in all.
        weights: of the parts; relative.
        counts: the rows that each part has; None for one that has as many as anybody wants.

    Returns:
        By part, never more than it has; in all ``samples``, or what all parts have together.
    """
    settled: dict[int, int] = {}
    while True:
        free = [part for part in range(len(weights)) if part not in settled]
        shares = largest_remainder(samples - sum(settled.values()), [weights[part] for part in free])
        short = {
            part: count
            for part, share in zip(free, shares, strict=True)
            if (count := counts[part]) is not None and count < share
        }
        if not short:
            settled |= zip(free, shares, strict=True)
            return [settled[part] for part in range(len(weights))]
        settled |= short


def largest_remainder(total: int, weights: Sequence[float]) -> list[int]:
    """``total`` in whole numbers proportional to ``weights``: rounded down, then one each for the largest remainders.

    Exact, in fractions: rounding cannot make a tie into a difference. Ties go to the earlier one.
    """
    whole = sum(map(Fraction, weights))
    exact = [total * Fraction(weight) / whole for weight in weights]
    shares = [math.floor(share) for share in exact]
    by_remainder = sorted(range(len(weights)), key=lambda part: shares[part] - exact[part])
    for part in by_remainder[: total - sum(shares)]:
        shares[part] += 1
    return shares
