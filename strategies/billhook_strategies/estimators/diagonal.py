"""Diagonal: one factor a channel."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import ClassVar

import attrs
import torch

from billhook import Estimator, LinearMap, Regression, Regressor, hookimpl, typed
from billhook.errors import InvalidConfig
from billhook_strategies.estimators.normal_equations import refuse_inner, refuse_not_finite


@attrs.frozen(kw_only=True, field_transformer=typed)
class Diagonal(Estimator):
    """``t_j = (Σ x_j r_j + λ) / (Σ x_j² + λ)``: least squares over diagonal maps (ReplaceMe, table 7).

    Attributes:
        strength: relative ridge toward the identity, λ = ``strength`` · mean of ``Σ x_j²``; 0 for none.

    Channels that are always zero keep a factor of 1.
    """

    regressors: ClassVar[tuple[Regressor, ...]] = ("output",)

    strength: float = 0.0

    def __attrs_post_init__(self) -> None:
        if not 0 <= self.strength < math.inf:
            raise InvalidConfig(f"The 'strength' of Diagonal must be finite and not negative; got {self.strength}.")

    def estimate(self, regression: Regression) -> LinearMap:
        """Solve from moments; float64, a full matrix with zeros off the diagonal."""
        moments = regression.moments()
        refuse_not_finite(moments)
        refuse_inner(regression, "A diagonal map")
        energy, overlap = moments.xx.diagonal(), moments.xr.diagonal()
        penalty = self.strength * energy.mean()
        alive = energy > 0
        factor = torch.where(alive, (overlap + penalty) / (energy + penalty).where(alive, 1.0), 1.0)
        return LinearMap(torch.diag(factor))


@hookimpl
def billhook_register_estimators(register: Callable[[str, Callable[..., Estimator]], None]) -> None:
    """``diagonal``."""
    register("diagonal", Diagonal)
