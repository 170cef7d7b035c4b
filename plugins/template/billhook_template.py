"""The estimator template."""

from collections.abc import Callable

import attrs
import torch

from billhook import Estimator, LinearMap, Regression, hookimpl
from billhook.errors import SingularProblem


@attrs.frozen(kw_only=True)
class Template(Estimator):
    """Part of the way from no repair to the least-squares map."""

    factor: float = 0.5

    def estimate(self, regression: Regression) -> LinearMap:
        """Solve from moments; float64. Directions that the data leave open stay as they are."""
        moments, prior = regression.moments(), regression.prior
        if not moments.is_finite() or moments.token_count < moments.d_in:
            raise SingularProblem("Template needs finite activations, and as many tokens as there are columns.")
        step = torch.linalg.pinv(moments.xx, hermitian=True) @ (moments.xr - moments.xx @ prior)
        return LinearMap(prior + self.factor * step)


@hookimpl
def billhook_register_estimators(register: Callable[[str, Callable[..., Estimator]], None]) -> None:
    """``template``."""
    register("template", Template)
