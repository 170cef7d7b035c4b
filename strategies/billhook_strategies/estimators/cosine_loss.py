"""What the estimators that minimise the cosine loss have in common: its two forms, where they start, how they end."""

from __future__ import annotations

import math
from typing import Any, Literal, get_args

import torch
from loguru import logger
from torch import Tensor

from billhook import LinearMap, Regression, Rows
from billhook.errors import InvalidConfig, SingularProblem
from billhook_strategies.estimators.normal_equations import refuse_not_finite

Form = Literal["approximate", "exact"]
"""Of ReplaceMe's loss (arXiv 2505.02819): ``1 − cos(X T, R)``, equation 7, or ``1 − cos(X T + skip, target)``, 6."""


MOST = {"epochs": 10_000, "learning_rate": 1e30, "l1": 1e30, "l2": 1e30}
"""More than anybody could want: a file that asks for more would keep a run busy for ever, or leave float32."""


def refuse_bad_options(estimator: Any, *, positive: tuple[str, ...], not_negative: tuple[str, ...]) -> None:
    """Raise :class:`InvalidConfig` for a ``form`` that is none, or a number out of its range; see :data:`MOST`."""
    owner = type(estimator).__name__
    if estimator.form not in get_args(Form):
        raise InvalidConfig(f"The 'form' of {owner} must be 'approximate' or 'exact'; got {estimator.form!r}.")
    for name in positive:
        if not getattr(estimator, name) > 0:
            raise InvalidConfig(f"The {name!r} of {owner} must be above 0; got {getattr(estimator, name)}.")
    for name in not_negative:
        if not getattr(estimator, name) >= 0:
            raise InvalidConfig(f"The {name!r} of {owner} must not be negative; got {getattr(estimator, name)}.")
    for name, most in MOST.items():
        if getattr(estimator, name, 0) > most:
            raise InvalidConfig(f"The {name!r} of {owner} must not be above {most:g}; got {getattr(estimator, name)}.")


def start(regression: Regression) -> Tensor:
    """What changes nothing, ``[d_in, d_out]`` float32, a tensor of its own on the device of the moments.

    Raises:
        SingularProblem: there are no tokens, or the activations are not finite.
    """
    moments = regression.moments()
    refuse_not_finite(moments)
    return regression.prior.to(device=moments.xx.device, dtype=torch.float32, copy=True)


def compared(rows: Rows, weight: Tensor, form: Form) -> tuple[Tensor, Tensor]:
    """What the map makes of the rows, and what is wanted, ``[tokens, d_out]`` each."""
    mapped = rows.x @ weight
    return (mapped + rows.skip, rows.target) if form == "exact" else (mapped, rows.residual)


def unchanged(regression: Regression) -> LinearMap:
    """What changes nothing, with a note: the answer where no token has a direction, be it that the donor is dead, that
    the gap changes nothing, or that all rows weigh nothing.
    """
    note = "no token has a direction to learn; nothing is changed"
    logger.warning("{}", note)
    return LinearMap(regression.prior.clone(), notes=(note,))


def finished(regression: Regression, weight: Tensor, loss: float, *, rescale: bool, way_out: str) -> LinearMap:
    """The map, scaled by the factor that fits best in least squares if ``rescale``.

    Raises:
        SingularProblem: the loss or the map is not finite; the message names ``way_out``.
    """
    if not (bool(torch.isfinite(weight).all()) and math.isfinite(loss)):
        raise SingularProblem(f"The cosine loss diverged (last value {loss}). Use {way_out}.")
    return LinearMap((_best_factor(regression, weight) if rescale else 1.0) * weight)


def _best_factor(regression: Regression, weight: Tensor) -> float:
    moments = regression.moments()
    found = weight.to(moments.xx)
    overlap, energy = float((found * moments.xr).sum()), float((found * (moments.xx @ found)).sum())
    return overlap / energy if energy > 0 else 1.0
