"""LeastSquares: the map with the smallest squared error."""

from __future__ import annotations

from collections.abc import Callable

import attrs

from billhook import Estimator, LinearMap, Regression, hookimpl, typed
from billhook_strategies.estimators.normal_equations import solve


@attrs.frozen(kw_only=True, field_transformer=typed)
class LeastSquares(Estimator):
    """``T = (XᵀX)⁻¹ XᵀR``: ReplaceMe's LS estimator (arXiv 2505.02819, equation 5).

    Attributes:
        bias: fit an intercept as well; only writers with a bias can fold it.

    Directions that the data do not determine (dead columns) keep what changes nothing, and the report says so. Fewer
    tokens than columns raise ``SingularProblem``.
    """

    bias: bool = False

    @property
    def gives_bias(self) -> bool:
        """If asked for."""
        return self.bias

    def estimate(self, regression: Regression) -> LinearMap:
        """Solve from moments: a map ``[d_in, d_out]`` in float64.

        Raises:
            SingularProblem: there are fewer tokens than columns, or the sums are not finite.
        """
        return solve(regression.moments(), regression.prior, ridge=0.0, bias=self.bias)


@hookimpl
def billhook_register_estimators(register: Callable[[str, Callable[..., Estimator]], None]) -> None:
    """``least-squares``."""
    register("least-squares", LeastSquares)
