"""Orthogonal: the rotation (or reflection) that comes nearest."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

import attrs
import torch
from loguru import logger
from torch import Tensor

from billhook import Estimator, LinearMap, Regression, Regressor, hookimpl, typed
from billhook_strategies.estimators.normal_equations import refuse_inner, refuse_not_finite


@attrs.frozen(kw_only=True, field_transformer=typed)
class Orthogonal(Estimator):
    """``T = U Vᵀ`` with ``XᵀR = U Σ Vᵀ``: the orthogonal Procrustes problem (ReplaceMe, table 7).

    Attributes:
        scaled: multiply by the one factor ``Σσ / ‖X‖²`` that fits best; plain Procrustes keeps lengths.

    Directions that the data do not determine are turned as little as possible, and the report says so.
    """

    regressors: ClassVar[tuple[Regressor, ...]] = ("output",)

    scaled: bool = False

    def estimate(self, regression: Regression) -> LinearMap:
        """Solve from moments: a map ``[d_in, d_out]`` in float64.

        Raises:
            SingularProblem: there are no tokens, or the sums are not finite.
            InvalidConfig: the map is to take the place of a writer, and not to follow a branch's output.
        """
        moments = regression.moments()
        refuse_not_finite(moments)
        refuse_inner(regression, "A rotation")
        u, sigma, vh = torch.linalg.svd(moments.xr)
        rank = int((sigma > sigma[0] * len(sigma) * torch.finfo(sigma.dtype).eps).sum())
        rotation = u @ vh
        if rank < len(sigma):
            rotation = u[:, :rank] @ vh[:rank] + _least_turn(u[:, rank:], vh[rank:])
        energy = moments.xx.diagonal().sum()
        factor = sigma.sum() / energy if self.scaled and float(energy) > 0 else torch.ones_like(energy)
        return LinearMap(factor * rotation, notes=_notes(len(sigma) - rank))


def _least_turn(u: Tensor, vh: Tensor) -> Tensor:
    """The map from the span of ``u``'s columns onto that of ``vh``'s rows that keeps lengths and is nearest to I."""
    a, _, c = torch.linalg.svd(u.T @ vh.T)
    turn: Tensor = u @ a @ c @ vh
    return turn


def _notes(undetermined: int) -> tuple[str, ...]:
    if not undetermined:
        return ()
    note = f"the data leave {undetermined} directions undetermined; they are turned as little as possible"
    logger.warning("{}", note)
    return (note,)


@hookimpl
def billhook_register_estimators(register: Callable[[str, Callable[..., Estimator]], None]) -> None:
    """``orthogonal``."""
    register("orthogonal", Orthogonal)
