"""Cosine: the map whose result points where the target points, found by gradient."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

import attrs
import torch
from loguru import logger
from torch import Tensor
from torch.nn.functional import cosine_similarity

from billhook import Estimator, LinearMap, Needs, Regression, Rows, hookimpl, typed
from billhook_strategies.estimators.cosine_loss import (
    Form,
    compared,
    finished,
    refuse_bad_options,
    start,
    unchanged,
)


@attrs.frozen(kw_only=True, field_transformer=typed)
class Cosine(Estimator):
    """Minimises the mean of ``1 − cos`` over tokens by Adam (ReplaceMe, arXiv 2505.02819, equations 6 and 7).

    Attributes:
        form: ``approximate`` compares ``X T`` with the residual target, ``exact`` compares the whole stream
            ``X T + skip`` with the whole target. The paper's default is the approximation, which does a little better
            with one cut (its table 11).
        learning_rate: of Adam; 1e-4 as published.
        batch_tokens: tokens a step sees; 1024 as published.
        epochs: passes over the data; 10 as published.
        l1, l2: penalties on the entries of T, added to the mean loss as ``l1·mean|T| + l2·mean T²``.
        rescale: afterwards, scale T by the factor that fits best in least squares. The approximate loss does not
            see the length of ``X T``, and gradients hardly change it.

    Starts at what changes nothing. Rows whose target is zero have no direction and are left out. Deterministic: batches
    come in a fixed order. Of weighted tokens it takes the weighted mean. The estimator ``cosine-irls`` goes to the
    minimum of the same loss without a gradient.
    """

    needs: ClassVar[Needs] = Needs.ROWS
    weighs_rows: ClassVar[bool] = True

    form: Form = "approximate"
    learning_rate: float = 1e-4
    batch_tokens: int = 1024
    epochs: int = 10
    l1: float = 0.0
    l2: float = 0.0
    rescale: bool = False

    def __attrs_post_init__(self) -> None:
        refuse_bad_options(self, positive=("learning_rate", "batch_tokens", "epochs"), not_negative=("l1", "l2"))

    def estimate(self, regression: Regression) -> LinearMap:
        """Optimise over cached rows; float32."""
        weight = start(regression).requires_grad_()
        with torch.enable_grad():
            loss = self._minimise(regression, weight)
        if loss is None:
            return unchanged(regression)
        logger.trace("cosine loss {:.5f} after {} epochs", loss, self.epochs)
        way_out = "a smaller learning_rate, or 'least-squares'"
        return finished(regression, weight.detach(), loss, rescale=self.rescale, way_out=way_out)

    def _minimise(self, regression: Regression, weight: Tensor) -> float | None:
        """Change ``weight`` in place; the mean loss of the last epoch, None if no token had a direction in it."""
        optimizer = torch.optim.Adam([weight], lr=self.learning_rate)
        mean: float | None = None
        for _ in range(self.epochs):
            total, count = 0.0, 0.0
            for rows in regression.batches(self.batch_tokens):
                loss, used = self._loss(rows, weight)
                if used == 0:
                    continue
                optimizer.zero_grad()
                (loss + self._penalty(weight)).backward()
                optimizer.step()
                total, count = total + used * float(loss.detach()), count + used
            if count == 0:
                return None
            mean = total / count
        return mean

    def _loss(self, rows: Rows, weight: Tensor) -> tuple[Tensor, float]:
        """Mean of ``1 − cos`` over the rows that have a direction, and what those count."""
        mapped, wanted = compared(rows.to(dtype=torch.float32, device=weight.device), weight, self.form)
        lengths = mapped.detach().square().sum(-1)
        # without this, rows of zeros (a gap that changed nothing) would give NaN gradients
        alive = (wanted.square().sum(-1) > 0) & (lengths != 0)
        mapped, wanted = mapped[alive], wanted[alive]
        # the second sum is 0, or NaN when lengths have left float32's range, where the cosine would silently be 0
        losses = 1 - cosine_similarity(mapped, wanted, dim=-1)
        counts = rows.counts.to(weight.device)[alive]
        used = float(counts.sum())
        # relative to their mean: a token that is nearly right has a weight whose sums leave float32's range
        shares = counts * (len(counts) / used) if used else counts
        return ((losses * shares.to(losses)).sum() + (0 * lengths).sum()) / max(len(losses), 1), used

    def _penalty(self, weight: Tensor) -> Tensor:
        return self.l1 * weight.abs().mean() + self.l2 * weight.square().mean()


@hookimpl
def billhook_register_estimators(register: Callable[[str, Callable[..., Estimator]], None]) -> None:
    """``cosine``."""
    register("cosine", Cosine)
