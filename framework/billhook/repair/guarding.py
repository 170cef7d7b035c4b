"""Guarding: a repair that would do harm on text of another kind is shrunk, or not made."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from billhook.log import logger
from billhook.regression.linear_map import LinearMap
from billhook.repair.divergence import divergences

if TYPE_CHECKING:
    from torch import Tensor

    from billhook.model.view import ModelView
    from billhook.regression.regression import Regression
    from billhook.roles.state import PruningState

LEAST = 0.01
"""A map that may go less than this share of its way is left out: that is within what the sums round to."""


def guarded(regression: Regression, linear_map: LinearMap) -> LinearMap | None:
    """``linear_map``, unless it does harm on :meth:`Regression.guard`: then on the way to it from the prior what serves
    best there, or None if that is to stay.

    Along the way the squared error is a parabola, ``e(α) = e₀ + bα + cα²``, known from three points; where ``e(1)`` is
    above ``e₀``, its minimum lies below α = ½, and is better than doing nothing if it lies above 0.
    """
    moments, prior = regression.guard(), regression.prior
    if moments is None:
        return linear_map
    nothing, half, whole = (moments.squared_error(between(prior, linear_map, share)) for share in (0.0, 0.5, 1.0))
    if whole <= nothing:
        return linear_map
    curve = 2 * (nothing + whole - 2 * half)
    share = (curve + nothing - whole) / (2 * curve) if curve > 0 else 0.0
    if share < LEAST:
        return None
    shrunk = between(prior, linear_map, share)
    return attrs.evolve(shrunk, notes=(*shrunk.notes, "shrunk: whole, it would do harm on text of another kind"))


def between(prior: Tensor, linear_map: LinearMap, share: float) -> LinearMap:
    """``prior + share · (map − prior)``, in float64."""
    weight = prior + share * (linear_map.weight.to(prior) - prior)
    bias = None if linear_map.bias is None else share * linear_map.bias.to(prior)
    return LinearMap(weight, bias, notes=linear_map.notes)


def undone_if_harmful(state: PruningState, before: ModelView) -> bool:
    """Go back to ``before`` if, on the guard's text, the present model is further from the dense one; whether it was.

    Each repair helps where it is put; this asks for all of them together, at the model's output.

    Args:
        state: with a guard; its model has been repaired.
        before: the model as it was when no repair had been put in.
    """
    assert state.guard is not None
    repaired, unrepaired = divergences(state, (state.model, before), state.guard)
    if repaired <= unrepaired:
        return False
    logger.warning(
        "The repairs are left out: on text of another kind than the calibration's they would bring the model from "
        "{:.3f} to {:.3f} nats per token from the dense one. Calibrate on text that is more like the model's use.",
        unrepaired, repaired,
    )  # fmt: skip
    state.take(before)
    return True
