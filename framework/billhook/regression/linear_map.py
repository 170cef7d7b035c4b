"""LinearMap: what an estimator finds and a merger folds."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from billhook.errors import ShapeMismatch

if TYPE_CHECKING:
    from torch import Tensor


@attrs.frozen(eq=False)
class LinearMap:
    """``x @ weight + bias``, on row vectors.

    Attributes:
        weight: ``[d_in, d_out]``, float32 or float64.
        bias: ``[d_out]``, or None.
        notes: what the estimator had to assume or fall back to, in words for the report.
    """

    weight: Tensor
    bias: Tensor | None = None
    notes: tuple[str, ...] = ()

    def __attrs_post_init__(self) -> None:
        if self.weight.ndim != 2 or (self.bias is not None and self.bias.shape != self.weight.shape[1:]):
            bias = None if self.bias is None else list(self.bias.shape)
            raise ShapeMismatch(
                f"A LinearMap is a weight [d_in, d_out] and a bias [d_out]; got {list(self.weight.shape)} and {bias}."
            )

    def detached(self) -> LinearMap:
        """The same numbers, without the graph that a gradient would go back through."""
        return LinearMap(self.weight.detach(), None if self.bias is None else self.bias.detach(), self.notes)

    def check_width(self, d_model: int) -> None:
        """Raise :class:`ShapeMismatch` unless the map goes from ``d_model`` columns to ``d_model``."""
        if self.weight.shape != (d_model, d_model):
            raise ShapeMismatch(
                f"A map behind a branch is [d_model, d_model], here {[d_model] * 2}; got {list(self.weight.shape)}."
            )

    def __call__(self, x: Tensor) -> Tensor:
        """Apply to ``[..., d_in]``, computing in the map's dtype; returns ``[..., d_out]`` in that dtype."""
        y = x.to(self.weight) @ self.weight
        return y if self.bias is None else y + self.bias
