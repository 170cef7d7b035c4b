"""A plugin for billhook, to copy: one estimator."""

from __future__ import annotations

from collections.abc import Callable

import attrs
import torch

from billhook import Estimator, LinearMap, Regression, hookimpl
from billhook.errors import SingularProblem


@attrs.frozen(kw_only=True)
class Shrunk(Estimator):
    """``T = T₀ + factor · (T* − T₀)``: part of the way from no repair, T₀, to the least-squares map T*."""

    factor: float = 0.5

    def estimate(self, regression: Regression) -> LinearMap:
        """Solve from moments; float64. Directions that the data leave open stay as they are."""
        moments, prior = regression.moments(), regression.prior
        if not moments.is_finite() or moments.token_count < moments.d_in:
            raise SingularProblem("Shrunk needs finite activations, and as many tokens as there are columns.")
        step = torch.linalg.pinv(moments.xx, hermitian=True) @ (moments.xr - moments.xx @ prior)
        return LinearMap(prior + self.factor * step)


@hookimpl
def billhook_register_estimators(register: Callable[[str, Callable[..., Estimator]], None]) -> None:
    """``shrunk``."""
    register("shrunk", Shrunk)
