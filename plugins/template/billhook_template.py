"""A plugin for billhook, to copy: one estimator."""

from __future__ import annotations

from collections.abc import Callable

import attrs
import torch

from billhook import Estimator, LinearMap, Regression, hookimpl
from billhook.errors import SingularProblem


@attrs.frozen(kw_only=True)
class Shrunk(Estimator):
    """``T = I + factor · (T* − I)``: part of the way from no repair to the least-squares map T*."""

    factor: float = 0.5

    def estimate(self, regression: Regression) -> LinearMap:
        """Solve from moments; float64. Directions that the data leave open stay as they are."""
        moments = regression.moments()
        if not moments.is_finite() or moments.token_count < moments.d_in:
            raise SingularProblem("Shrunk needs finite activations, and as many tokens as there are columns.")
        step = torch.linalg.pinv(moments.xx, hermitian=True) @ (moments.xr - moments.xx)
        return LinearMap(torch.eye(moments.d_in).to(step) + self.factor * step)


@hookimpl
def billhook_register_estimators(register: Callable[[str, Callable[..., Estimator]], None]) -> None:
    """``shrunk``."""
    register("shrunk", Shrunk)
