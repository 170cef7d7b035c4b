"""LeastSquares: the map with the smallest squared error."""

from __future__ import annotations

from collections.abc import Callable

import attrs

from billhook import Estimator, LinearMap, Regression, hookimpl
from billhook_strategies.normal_equations import Toward, solve


@attrs.frozen(kw_only=True)
class LeastSquares(Estimator):
    """``T = (XᵀX)⁻¹ XᵀR``: ReplaceMe's LS estimator (arXiv 2505.02819, equation 5).

    Attributes:
        bias: fit an intercept as well; only writers with a bias can fold it.

    Directions that the data do not determine (dead columns) keep the identity, and the report says so. Fewer
    tokens than columns raise ``SingularProblem``.
    """

    bias: bool = False

    def estimate(self, regression: Regression) -> LinearMap:
        """Solve from moments; float64."""
        toward: Toward = "identity" if regression.d_in == regression.d_out else "zero"
        return solve(regression.moments(), ridge=0.0, toward=toward, bias=self.bias)


@hookimpl
def billhook_register_estimators(register: Callable[[str, Callable[..., Estimator]], None]) -> None:
    """``least-squares``."""
    register("least-squares", LeastSquares)
