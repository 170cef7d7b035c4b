"""Ridge: least squares that stays near the unrepaired model where data are few."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import attrs

from billhook import Estimator, LinearMap, Regression, hookimpl
from billhook.errors import InvalidConfig
from billhook_strategies.normal_equations import solve


@attrs.frozen(kw_only=True)
class Ridge(Estimator):
    """``T = (XᵀX + λI)⁻¹ (XᵀR + λT₀)``, λ = ``strength`` · mean diagonal of ``XᵀX``.

    Attributes:
        strength: relative, so that it means the same for any number of tokens; 0.01 is usual in the literature.
        toward: T₀. ``identity`` is the unrepaired model. ``zero`` is the textbook's and ReplaceMe's; a strong pull
            to it silences the donor's MLP.
        bias: fit an intercept as well, unpenalised.
    """

    strength: float = 0.01
    toward: Literal["identity", "zero"] = "identity"
    bias: bool = False

    def __attrs_post_init__(self) -> None:
        if not 0 < self.strength < math.inf:
            raise InvalidConfig(f"The 'strength' of Ridge must be above 0 and finite; got {self.strength}.")
        if self.toward not in ("identity", "zero"):
            raise InvalidConfig(f"The 'toward' of Ridge must be 'identity' or 'zero'; got {self.toward!r}.")

    def estimate(self, regression: Regression) -> LinearMap:
        """Solve from moments; float64."""
        return solve(regression.moments(), ridge=self.strength, toward=self.toward, bias=self.bias)


@hookimpl
def billhook_register_estimators(register: Callable[[str, Callable[..., Estimator]], None]) -> None:
    """``ridge``."""
    register("ridge", Ridge)
