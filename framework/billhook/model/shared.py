"""What two models share: up to where they hold the very same parameters, they compute the same."""

from __future__ import annotations

from collections.abc import Mapping

from torch import nn

from billhook.model.view import ModelView

Weights = Mapping[int, Mapping[str, nn.Parameter]]
"""By layer and name: the parameters. Two views compute the same up to the first layer whose parameters differ."""


def parameters_by_layer(view: ModelView) -> Weights:
    """The parameters themselves, not copies."""
    return {number: dict(view.layer(number).named_parameters()) for number in view.numbers}


def first_difference(one: Weights, other: Weights, default: int) -> int:
    """The first layer that only one of them has, or whose parameters are not the same objects; else ``default``."""
    for number in sorted({*one, *other}):
        ours, theirs = one.get(number), other.get(number)
        if ours is None or theirs is None or ours.keys() != theirs.keys():
            return number
        if any(theirs[name] is not parameter for name, parameter in ours.items()):
            return number
    return default
