"""What an estimator may answer: a finite map of the problem's shape."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from billhook.errors import ShapeMismatch, SingularProblem
from billhook.model.writer import all_finite
from billhook.regression.linear_map import LinearMap

if TYPE_CHECKING:
    from billhook.regression.regression import Regression
    from billhook.roles.estimator import Estimator


def refuse_no_map(estimator: Estimator, answer: object, regression: Regression) -> None:
    """Raise unless ``answer`` is a finite :class:`LinearMap` from the regressor's columns to the stream's.

    Raises:
        ShapeMismatch: it is something else, of another shape, or not in float32 or float64.
        SingularProblem: its weight or its bias is not finite.
    """
    whose = f"The estimator {estimator!r}"
    if not isinstance(answer, LinearMap):
        raise ShapeMismatch(f"{whose} must give a LinearMap, or None to leave the donor as it is; got {type(answer)}.")
    shape = (regression.d_in, regression.d_out)
    if answer.weight.shape != shape:
        raise ShapeMismatch(
            f"{whose} must give a map [d_in, d_out], here {list(shape)}; got {list(answer.weight.shape)}."
        )
    parts = [part for part in (answer.weight, answer.bias) if part is not None]
    if any(part.dtype not in (torch.float32, torch.float64) for part in parts):
        raise ShapeMismatch(
            f"{whose} must give a map in float32 or float64; got {', '.join(str(p.dtype) for p in parts)}."
        )
    if not all(map(all_finite, parts)):
        raise SingularProblem(f"{whose} gave a map that is not finite. Use another one.")
