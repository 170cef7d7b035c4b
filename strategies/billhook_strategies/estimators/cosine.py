"""Cosine: the map whose result points where the target points, found by gradient or in closed form, iterated."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import ClassVar, Literal

import attrs
import torch
from loguru import logger
from torch import Tensor
from torch.nn.functional import cosine_similarity

from billhook import Estimator, LinearMap, Moments, Needs, Regression, Rows, hookimpl
from billhook.errors import InvalidConfig, SingularProblem
from billhook_strategies.estimators.cosine_surrogate import add_surrogate, minimum
from billhook_strategies.estimators.normal_equations import refuse_not_finite


@attrs.frozen(kw_only=True)
class Cosine(Estimator):
    """Minimises the mean of ``1 − cos`` over tokens (ReplaceMe, arXiv 2505.02819, equations 6 and 7).

    Attributes:
        form: ``approximate`` compares ``X T`` with the residual target, ``exact`` compares the whole stream
            ``X T + skip`` with the whole target. The paper's default is the approximation, which does a little better
            with one cut (its table 11).
        optimizer: ``adam``; ``lbfgs`` (full batch, strong Wolfe line search; no learning rate); or ``irls``, which
            takes no gradient but solves weighted least squares in every epoch (see
            :mod:`billhook_strategies.estimators.cosine_surrogate`).
        learning_rate: of Adam; 1e-4 as published.
        batch_tokens: tokens a step of Adam sees; 1024 as published.
        epochs: passes over the data (Adam, IRLS), or iterations (L-BFGS); 10 as published.
        l1, l2: penalties on the entries of T, added to the mean loss as ``l1·mean|T| + l2·mean T²``. ``irls`` knows
            no ``l1``.
        rescale: afterwards, scale T by the factor that fits best in least squares. The approximate loss does not
            see the length of ``X T``; gradients hardly change it, ``irls`` does, and is always scaled.

    Starts at what changes nothing. Rows whose target is zero have no direction and are left out. Deterministic: batches
    come in a fixed order.
    """

    needs: ClassVar[Needs] = Needs.ROWS

    form: Literal["approximate", "exact"] = "approximate"
    optimizer: Literal["adam", "lbfgs", "irls"] = "adam"
    learning_rate: float = 1e-4
    batch_tokens: int = 1024
    epochs: int = 10
    l1: float = 0.0
    l2: float = 0.0
    rescale: bool = False

    def __attrs_post_init__(self) -> None:
        if self.form not in ("approximate", "exact"):
            raise InvalidConfig(f"The 'form' of Cosine must be 'approximate' or 'exact'; got {self.form!r}.")
        if self.optimizer not in ("adam", "lbfgs", "irls"):
            raise InvalidConfig(f"The 'optimizer' of Cosine must be 'adam', 'lbfgs' or 'irls'; got {self.optimizer!r}.")
        for name in ("learning_rate", "batch_tokens", "epochs"):
            if not getattr(self, name) > 0:
                raise InvalidConfig(f"The {name!r} of Cosine must be above 0; got {getattr(self, name)}.")
        for name in ("l1", "l2"):
            if not getattr(self, name) >= 0:
                raise InvalidConfig(f"The {name!r} of Cosine must not be negative; got {getattr(self, name)}.")
        if self.l1 and self.optimizer == "irls":
            raise InvalidConfig("The optimizer 'irls' has no closed form with an 'l1'. Use 'adam', or an 'l2'.")

    def estimate(self, regression: Regression) -> LinearMap:
        """Optimise over cached rows; float32."""
        moments = regression.moments()
        refuse_not_finite(moments)
        device = moments.xx.device
        weight = regression.prior.to(device=device, dtype=torch.float32, copy=True).requires_grad_()
        minimise = {"adam": self._adam, "lbfgs": self._lbfgs, "irls": self._irls}[self.optimizer]
        with torch.enable_grad():
            loss = minimise(regression, weight)
        found = weight.detach()
        if not (bool(torch.isfinite(found).all()) and math.isfinite(loss)):
            raise SingularProblem(
                f"The cosine loss diverged (last value {loss}). Use a smaller learning_rate (of 'adam'), or "
                f"'least-squares'."
            )
        logger.trace("cosine loss {:.5f} after {} epochs", loss, self.epochs)
        return LinearMap(self._factor(regression, found) * found)

    def _adam(self, regression: Regression, weight: Tensor) -> float:
        optimizer = torch.optim.Adam([weight], lr=self.learning_rate)
        mean = float("nan")
        for _ in range(self.epochs):
            total, count = 0.0, 0
            for rows in regression.batches(self.batch_tokens):
                loss, used = self._summed_loss(rows, weight)
                if used == 0:
                    continue
                optimizer.zero_grad()
                (loss / used + self._penalty(weight)).backward()
                optimizer.step()
                total, count = total + float(loss.detach()), count + used
            mean = self._mean(total, count)
        return mean

    def _lbfgs(self, regression: Regression, weight: Tensor) -> float:
        optimizer = torch.optim.LBFGS([weight], max_iter=self.epochs, line_search_fn="strong_wolfe")

        def closure() -> float:
            optimizer.zero_grad()
            total, count = 0.0, 0
            for rows in regression.batches(self.batch_tokens):
                loss, used = self._summed_loss(rows, weight)
                if used:
                    loss.backward()
                    total, count = total + float(loss.detach()), count + used
            mean = self._mean(total, count)
            assert weight.grad is not None  # _mean has made sure that some rows counted
            weight.grad /= count
            penalty = self._penalty(weight)
            penalty.backward()
            return mean + float(penalty.detach())

        optimizer.step(closure)  # returns the loss it began with
        return closure()

    @torch.no_grad()
    def _irls(self, regression: Regression, weight: Tensor) -> float:
        mean = float("nan")
        for _ in range(self.epochs):
            sums, total = Moments.empty(regression.d_in, regression.d_out, weight.device), 0.0
            for rows in regression.batches(self.batch_tokens):
                rows = rows.to(dtype=torch.float32, device=weight.device)
                total += add_surrogate(sums, rows, weight, exact=self.form == "exact")
            mean = self._mean(total, sums.token_count)
            weight.copy_(minimum(sums, weight, l2=self.l2))
        return mean

    def _summed_loss(self, rows: Rows, weight: Tensor) -> tuple[Tensor, int]:
        """Sum of ``1 − cos`` over the rows that have a direction, and how many those are."""
        rows = rows.to(dtype=torch.float32, device=weight.device)
        mapped, wanted = rows.x @ weight, rows.residual
        if self.form == "exact":
            mapped, wanted = mapped + rows.skip, rows.target
        lengths = mapped.detach().square().sum(-1)
        # without this, rows of zeros (a gap that changed nothing) would give NaN gradients
        alive = (wanted.square().sum(-1) > 0) & (lengths != 0)
        mapped, wanted = mapped[alive], wanted[alive]
        # the second sum is 0, or NaN when lengths have left float32's range, where the cosine would silently be 0
        return (1 - cosine_similarity(mapped, wanted, dim=-1)).sum() + (0 * lengths).sum(), len(wanted)

    def _penalty(self, weight: Tensor) -> Tensor:
        return self.l1 * weight.abs().mean() + self.l2 * weight.square().mean()

    def _mean(self, total: float, count: int) -> float:
        if count == 0:
            raise SingularProblem("No token has a direction to learn: the gap changes nothing, or all is padding.")
        return total / count

    def _factor(self, regression: Regression, weight: Tensor) -> float:
        if not (self.rescale or (self.optimizer == "irls" and self.form == "approximate")):
            return 1.0
        moments = regression.moments()
        found = weight.to(moments.xx)
        overlap, energy = float((found * moments.xr).sum()), float((found * (moments.xx @ found)).sum())
        return overlap / energy if energy > 0 else 1.0


@hookimpl
def billhook_register_estimators(register: Callable[[str, Callable[..., Estimator]], None]) -> None:
    """``cosine``."""
    register("cosine", Cosine)
