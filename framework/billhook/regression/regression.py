"""Regression: the repair problem of one cut, as an estimator sees it."""

from __future__ import annotations

import abc
from collections.abc import Iterator
from typing import Literal

import attrs
import torch
from torch import Tensor

from billhook.errors import ShapeMismatch
from billhook.regression.massive import massive_rows
from billhook.regression.moments import Moments


@attrs.frozen(eq=False)
class Rows:
    """Some tokens of a regression; padding is already gone.

    Attributes:
        x: the regressor, ``[tokens, d_in]``: what the donor branch adds to the stream, or what its writer reads.
        residual: what should be added instead, ``[tokens, d_out]``: target stream minus ``skip``.
        skip: the stream without the donor's addition, ``[tokens, d_out]``; the target is ``skip + residual``.
        weights: what the error of each token counts, ``[tokens]`` float64, not negative; None for 1 each.

    All but the weights of one dtype (float32, or the model's own when they come from a cache) and on one device.
    """

    x: Tensor
    residual: Tensor
    skip: Tensor
    weights: Tensor | None = None

    def __len__(self) -> int:
        return len(self.x)

    @property
    def target(self) -> Tensor:
        """The dense stream to be reached, ``[tokens, d_out]``."""
        return self.skip + self.residual

    def __getitem__(self, index: slice | Tensor) -> Rows:
        weights = None if self.weights is None else self.weights[index]
        return Rows(self.x[index], self.residual[index], self.skip[index], weights)

    def to(self, *, device: torch.device | None = None, dtype: torch.dtype | None = None) -> Rows:
        """On another device, in another dtype; weights stay float64."""
        weights = None if self.weights is None else self.weights.to(device=device)
        x, residual, skip = (t.to(device=device, dtype=dtype) for t in (self.x, self.residual, self.skip))
        return Rows(x, residual, skip, weights)

    @property
    def counts(self) -> Tensor:
        """The weights, ``[tokens]`` float64; ones where there are none."""
        if self.weights is None:
            return torch.ones(len(self), dtype=torch.float64, device=self.x.device)
        return self.weights


def concatenate(parts: list[Rows]) -> Rows:
    """The rows of all parts, in order; at least one part. Weighted if any part is."""
    weights = None if all(p.weights is None for p in parts) else torch.cat([p.counts for p in parts])
    x, residual, skip = (torch.cat([getattr(p, name) for p in parts]) for name in ("x", "residual", "skip"))
    return Rows(x, residual, skip, weights)


Regressor = Literal["output", "inner"]
"""What a repair starts from: the donor's output (then T follows it), or what its writer reads (then T replaces it)."""


class Regression(abc.ABC):
    """Find T so that ``x @ T`` comes near ``residual``, over all calibration tokens.

    The unrepaired model corresponds to T = :attr:`prior`, which is why ridge penalties pull there by default.

    Attributes:
        regressor: what x is.
    """

    regressor: Regressor = "output"

    @property
    @abc.abstractmethod
    def prior(self) -> Tensor:
        """The T that changes nothing, ``[d_in, d_out]`` float64: the identity behind an output, else the writer."""

    @property
    @abc.abstractmethod
    def d_in(self) -> int:
        """Columns of the regressor."""

    @property
    @abc.abstractmethod
    def d_out(self) -> int:
        """Columns of the target."""

    @abc.abstractmethod
    def moments(self) -> Moments:
        """Sums over all tokens; the same object at every call, and not to be written to."""

    def held_out(self) -> Moments | None:
        """Sums over tokens that :meth:`moments` and :meth:`batches` leave out, to check by; None if there are none."""
        return None

    def guard(self) -> Moments | None:
        """Sums over text of another kind than what is fitted to, to check by: what helps on the one may harm on the
        other. None if there is none."""
        return None

    @abc.abstractmethod
    def batches(self, tokens: int = 1024) -> Iterator[Rows]:
        """All rows in a fixed order, ``tokens`` at a time (fewer in the last); can be called again and again.

        Only for estimators that declare ``Needs.ROWS``.
        """

    @abc.abstractmethod
    def sample(self) -> Rows:
        """A few thousand rows at most, spread evenly over the data, float32: for reports."""

    def massive_count(self) -> int:
        """Tokens whose target is over 30 times as long as the median one; of the sample, unless somebody counted."""
        rows = self.sample()
        return int(massive_rows(rows.target).sum()) if len(rows) else 0


class TensorRegression(Regression):
    """A regression over tensors in memory: to unit-test an estimator, or to use one outside a Pruner.

    Attributes:
        all_rows: those that are to be fitted to, as :meth:`batches` gives them.
    """

    def __init__(
        self,
        x: Tensor,
        residual: Tensor,
        skip: Tensor | None = None,
        *,
        prior: Tensor | None = None,
        held_out: int = 0,
        guard: Rows | None = None,
        weights: Tensor | None = None,
    ) -> None:
        """
        Args:
            x: ``[tokens, d_in]``.
            residual: ``[tokens, d_out]``.
            skip: as ``residual``; zero if None.
            prior: the writer's present weight ``[d_in, d_out]``, if ``x`` is what a writer reads. If None, ``x`` is
                an output, and the prior the identity (zero between different widths).
            held_out: so many of the last rows are not to be fitted to.
            guard: rows of another kind of text, of the same widths.
            weights: what the error of each token counts, ``[tokens]``, not negative; 1 each if None.

        Raises:
            ShapeMismatch: the shapes disagree.
        """
        skip = torch.zeros_like(residual) if skip is None else skip
        if x.ndim != 2 or residual.shape != skip.shape or len(x) != len(residual):
            raise ShapeMismatch(
                f"x [tokens, d_in], residual and skip [tokens, d_out] must agree; "
                f"got {list(x.shape)}, {list(residual.shape)}, {list(skip.shape)}."
            )
        shape = (x.shape[1], residual.shape[1])
        if prior is not None and prior.shape != shape:
            raise ShapeMismatch(f"The prior must be {list(shape)}, as the map; got {list(prior.shape)}.")
        count = len(x) - held_out
        whole = Rows(x, residual, skip, None if weights is None else weights.to(device=x.device, dtype=torch.float64))
        self.all_rows, aside = whole[:count], whole[count:]
        self.regressor = "output" if prior is None else "inner"
        self._prior = torch.eye(*shape) * (shape[0] == shape[1]) if prior is None else prior
        self._moments = Moments.empty(x.shape[1], residual.shape[1], x.device)
        self._moments.add(self.all_rows.x, self.all_rows.residual, self.all_rows.weights)
        self._held_out = Moments.empty(x.shape[1], residual.shape[1], x.device)
        self._held_out.add(aside.x, aside.residual, aside.weights)
        self._guard = None if guard is None else Moments.empty(x.shape[1], residual.shape[1], x.device)
        if self._guard is not None and guard is not None:
            self._guard.add(guard.x, guard.residual, guard.weights)

    @property
    def d_in(self) -> int:
        """Columns of the regressor."""
        return self.all_rows.x.shape[1]

    @property
    def d_out(self) -> int:
        """Columns of the target."""
        return self.all_rows.residual.shape[1]

    @property
    def prior(self) -> Tensor:
        """The T that changes nothing, ``[d_in, d_out]`` float64: as given, or the identity."""
        return self._prior.to(device=self.all_rows.x.device, dtype=torch.float64)

    def moments(self) -> Moments:
        """Sums over all rows but those held out, float64; the same object at every call."""
        return self._moments

    def held_out(self) -> Moments | None:
        """Sums over the rows that are held out; None if there are none."""
        return self._held_out if self._held_out.token_count else None

    def guard(self) -> Moments | None:
        """Sums over the rows of another kind; None if none were given."""
        return self._guard

    def batches(self, tokens: int = 1024) -> Iterator[Rows]:
        """The rows that are not held out, in order, ``tokens`` at a time."""
        for start in range(0, len(self.all_rows), tokens):
            yield self.all_rows[start : start + tokens]

    def sample(self) -> Rows:
        """All rows that are not held out, float32."""
        return self.all_rows.to(dtype=torch.float32)
