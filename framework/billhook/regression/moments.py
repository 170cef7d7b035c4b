"""Moments: the sufficient statistics of a linear regression, streamed."""

from __future__ import annotations

import attrs
import torch
from torch import Tensor

from billhook.errors import ShapeMismatch
from billhook.regression.fast_products import add_products, is_bfloat16
from billhook.regression.linear_map import LinearMap

FAST_COLUMNS = 256
"""Regressors with as many columns are multiplied in bfloat16 if that is exact; below, float64 costs nothing."""


@attrs.define(eq=False)
class Moments:
    """Weighted sums over tokens of a regressor x ``[tokens, d_in]`` and a target r ``[tokens, d_out]``.

    All float64: sums over a million tokens of squares that differ by 10 orders of magnitude (attention sinks) keep
    enough digits for a solve only that way, and the cost is a few per cent of the forward pass.

    Attributes:
        xx: sum of ``x xᵀ``, ``[d_in, d_in]``.
        xr: sum of ``x rᵀ``, ``[d_in, d_out]``.
        rr: sum of ``r²`` by column, ``[d_out]``.
        x: sum of x, ``[d_in]``.
        r: sum of r, ``[d_out]``.
        weight: sum of weights; the number of tokens where all weigh 1.
        token_count: number of tokens seen, whatever their weight.
    """

    xx: Tensor
    xr: Tensor
    rr: Tensor
    x: Tensor
    r: Tensor
    weight: float = 0.0
    token_count: int = 0

    @classmethod
    def empty(cls, d_in: int, d_out: int, device: torch.device | str = "cpu") -> Moments:
        """No tokens yet. Lies on the CPU where ``device`` has no float64 (Apple's GPU)."""
        device = torch.device(device)
        where = torch.device("cpu") if device.type == "mps" else device

        def zeros(*shape: int) -> Tensor:
            return torch.zeros(shape, dtype=torch.float64, device=where)

        return cls(zeros(d_in, d_in), zeros(d_in, d_out), zeros(d_out), zeros(d_in), zeros(d_out))

    @property
    def d_in(self) -> int:
        """Columns of the regressor."""
        return self.xr.shape[0]

    @property
    def d_out(self) -> int:
        """Columns of the target."""
        return self.xr.shape[1]

    def add(self, x: Tensor, r: Tensor, weights: Tensor | None = None, *, gram: bool = True) -> None:
        """Take in some tokens.

        Args:
            x: ``[tokens, d_in]``, any float dtype.
            r: ``[tokens, d_out]``, any float dtype.
            weights: ``[tokens]``, not negative; 1 each if None.
            gram: whether ``xx`` is added to; if not, somebody else has it (see :meth:`with_gram_of`).

        Raises:
            ShapeMismatch: the shapes disagree with each other or with these moments.
        """
        if x.shape != (len(x), self.d_in) or r.shape != (len(x), self.d_out):
            raise ShapeMismatch(
                f"Moments of [tokens, {self.d_in}] to [tokens, {self.d_out}] got {list(x.shape)} and {list(r.shape)}."
            )
        x, r = x.to(self.xx.device), r.to(self.xx.device)
        w = torch.ones(len(x), dtype=torch.float64, device=x.device) if weights is None else weights.to(self.xx)
        if len(x) and self.d_in >= FAST_COLUMNS and is_bfloat16(x):
            add_products(self.xr, x.float(), r.float(), weights)
            if gram:
                add_products(self.xx, x.float(), None, weights)
        else:
            xw = x.double() if weights is None else x.double() * w[:, None]
            self.xr.addmm_(xw.T, r.double())
            if gram:
                self.xx.addmm_(xw.T, x.double())
        self.rr += w @ r.double().square()
        self.x += w @ x.double()
        self.r += w @ r.double()
        self.weight += float(w.sum())
        self.token_count += len(x)

    def __add__(self, other: Moments) -> Moments:
        """Moments of both sets of tokens: how data-parallel ranks are joined."""
        pairs = zip(attrs.astuple(self, recurse=False), attrs.astuple(other, recurse=False), strict=True)
        return Moments(*(a + b for a, b in pairs))

    def with_gram_of(self, other: Moments) -> Moments:
        """With the ``xx`` of a regression of the same x and weights onto another target; it is shared."""
        return attrs.evolve(self, xx=other.xx)

    def of(self, columns: Tensor) -> Moments:
        """Those of some columns of x, ``[columns]`` int64."""
        picked = columns.to(self.xx.device)
        return attrs.evolve(self, xx=self.xx[picked][:, picked], xr=self.xr[picked], x=self.x[picked])

    def centred(self) -> Moments:
        """The same about the means, for regressions with an intercept."""
        return attrs.evolve(
            self,
            xx=self.xx - torch.outer(self.x, self.x) / self.weight,
            xr=self.xr - torch.outer(self.x, self.r) / self.weight,
            rr=self.rr - self.r.square() / self.weight,
            x=torch.zeros_like(self.x),
            r=torch.zeros_like(self.r),
        )

    def is_finite(self) -> bool:
        """Whether no sum is NaN or infinite."""
        return all(bool(torch.isfinite(t).all()) for t in (self.xx, self.xr, self.rr))

    def squared_error(self, linear_map: LinearMap) -> float:
        """Weighted sum over tokens of ``‖r − map(x)‖²``; never below 0."""
        t = linear_map.weight.to(self.xx)
        total = self.rr.sum() - 2 * (t * self.xr).sum() + (t * (self.xx @ t)).sum()
        if linear_map.bias is not None:
            b = linear_map.bias.to(self.xx)
            total += -2 * b @ self.r + 2 * b @ (self.x @ t) + self.weight * b @ b
        return max(float(total), 0.0)

    def r_squared(self, linear_map: LinearMap) -> float:
        """Share of the target's variance (about its mean) that the map explains; 1 is all, may be negative.

        NaN if the target does not vary.
        """
        total = float(self.centred().rr.sum())
        noise = self.token_count * torch.finfo(torch.float64).eps * float(self.rr.sum())  # what the sums may be off by
        return 1 - self.squared_error(linear_map) / total if total > noise else float("nan")
