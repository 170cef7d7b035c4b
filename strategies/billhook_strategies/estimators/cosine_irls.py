"""CosineIRLS: the map whose result points where the target points, in closed form, iterated."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

import attrs
import torch
from loguru import logger

from billhook import Estimator, LinearMap, Moments, Needs, Regression, hookimpl, typed
from billhook_strategies.estimators.cosine_loss import (
    Form,
    finished,
    refuse_bad_options,
    start,
    unchanged,
)
from billhook_strategies.estimators.cosine_surrogate import add_surrogate, minimum


@attrs.frozen(kw_only=True, field_transformer=typed)
class CosineIRLS(Estimator):
    """Minimises ReplaceMe's cosine loss by least squares, reweighted in every epoch (arXiv 2505.02819, equations 6, 7).

    Each row's loss is replaced by a square that has the same gradient at the present prediction (see
    :mod:`billhook_strategies.estimators.cosine_surrogate`). No learning rate; where it no longer moves, the gradient of
    the loss is zero.

    Attributes:
        form: ``approximate`` minimises the mean over tokens of ``1 − cos(X T, R)``, ``exact`` that of
            ``1 − cos(X T + skip, target)``.
        epochs: passes over the data, and least-squares problems solved.
        l2: penalty on the entries of T, added to the mean loss as ``l2·mean T²``.
        batch_tokens: tokens at a time; the sums are the same for any number, to rounding.

    Starts at what changes nothing, and keeps that where the data determine nothing. The approximate loss does not see
    the length of ``X T``: its result is scaled by the factor that fits best in least squares. Rows whose target is zero
    have no direction and are left out. Of weighted tokens it takes the weighted mean. Deterministic.
    """

    needs: ClassVar[Needs] = Needs.ROWS
    weighs_rows: ClassVar[bool] = True

    form: Form = "approximate"
    epochs: int = 10
    l2: float = 0.0
    batch_tokens: int = 1024

    def __attrs_post_init__(self) -> None:
        refuse_bad_options(self, positive=("epochs", "batch_tokens"), not_negative=("l2",))

    @torch.no_grad()
    def estimate(self, regression: Regression) -> LinearMap:
        """Solve over cached rows; predictions in float32, sums and solutions in float64."""
        weight, loss = start(regression), float("nan")
        for _ in range(self.epochs):
            sums, total, count = Moments.empty(regression.d_in, regression.d_out, weight.device), 0.0, 0.0
            for rows in regression.batches(self.batch_tokens):
                rows = rows.to(dtype=torch.float32, device=weight.device)
                part, counted = add_surrogate(sums, rows, weight, form=self.form)
                total, count = total + part, count + counted
            if count == 0:
                return unchanged(regression)
            loss = total / count
            weight.copy_(minimum(sums, weight, l2=self.l2, count=count))
        logger.trace("cosine loss {:.5f} before the last of {} solutions", loss, self.epochs)
        rescale = self.form == "approximate"
        return finished(regression, weight, loss, rescale=rescale, way_out="'cosine', or 'least-squares'")


@hookimpl
def billhook_register_estimators(register: Callable[[str, Callable[..., Estimator]], None]) -> None:
    """``cosine-irls``."""
    register("cosine-irls", CosineIRLS)
