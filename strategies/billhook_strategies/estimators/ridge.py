"""Ridge: least squares that stays near the unrepaired model where data are few."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import attrs
from loguru import logger
from torch import Tensor

from billhook import Estimator, LinearMap, Moments, Regression, hookimpl, typed
from billhook.errors import InvalidConfig
from billhook_strategies.estimators.normal_equations import prior_of, solve

STRENGTHS = tuple(10.0**exponent for exponent in range(-5, 2))
"""What an automatic ridge chooses from."""


@attrs.frozen(kw_only=True, field_transformer=typed)
class Ridge(Estimator):
    """``T = (XᵀX + λI)⁻¹ (XᵀR + λT₀)``, λ = ``strength`` · mean diagonal of ``XᵀX``.

    Attributes:
        strength: relative, so that it means the same for any number of tokens; 0.01 is usual in the literature.
            ``auto`` takes the power of ten, from 1e-5 to 10, with the smallest squared error on the tokens that were
            held out (``Repair.held_out``) and on those of another kind of text (``Repair.guard``), each as a share of
            what the unrepaired model errs there; without any, 0.01.
        toward: T₀. ``present`` changes nothing: the identity behind a branch, the writer's own weight in a refit.
            ``zero`` is the textbook's and ReplaceMe's; a strong pull to it silences the donor.
        bias: fit an intercept as well, unpenalised.
    """

    strength: float | Literal["auto"] = 0.01
    toward: Literal["present", "zero"] = "present"
    bias: bool = False

    def __attrs_post_init__(self) -> None:
        if self.strength != "auto" and not (isinstance(self.strength, int | float) and 0 < self.strength < math.inf):
            raise InvalidConfig(
                f"The 'strength' of Ridge must be above 0 and finite, or 'auto'; got {self.strength!r}."
            )
        if self.toward not in ("present", "zero"):
            raise InvalidConfig(f"The 'toward' of Ridge must be 'present' or 'zero'; got {self.toward!r}.")

    @property
    def gives_bias(self) -> bool:
        """If asked for."""
        return self.bias

    def estimate(self, regression: Regression) -> LinearMap:
        """Solve from moments: a map ``[d_in, d_out]`` in float64.

        Raises:
            SingularProblem: there are no tokens, or the sums are not finite.
        """
        moments, prior = regression.moments(), prior_of(regression, self.toward)
        if self.strength != "auto":
            return solve(moments, prior, ridge=self.strength, bias=self.bias)
        checks = [moments for moments in (regression.held_out(), regression.guard()) if moments is not None]
        if not checks:
            found = solve(moments, prior, ridge=0.01, bias=self.bias)
            return attrs.evolve(found, notes=(*found.notes, "no tokens were held out: the ridge is 0.01"))
        maps = [solve(moments, prior, ridge=strength, bias=self.bias, tell=False) for strength in STRENGTHS]
        errors = [sum(_share(moments, found, regression.prior) for moments in checks) for found in maps]
        best = errors.index(min(errors))
        for note in maps[best].notes:  # once, and not for each strength that was tried
            logger.warning("{}", note)
        return attrs.evolve(
            maps[best], notes=(*maps[best].notes, f"ridge {STRENGTHS[best]:g}, chosen on held-out tokens")
        )


def _share(moments: Moments, found: LinearMap, unrepaired: Tensor) -> float:
    """Squared error as a share of the unrepaired model's; as it is where that makes none."""
    return moments.squared_error(found) / (moments.squared_error(LinearMap(unrepaired)) or 1.0)


@hookimpl
def billhook_register_estimators(register: Callable[[str, Callable[..., Estimator]], None]) -> None:
    """``ridge``."""
    register("ridge", Ridge)
