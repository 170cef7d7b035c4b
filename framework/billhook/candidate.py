"""Candidate: a cut under trial, and what the model would be without it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import attrs
from torch import nn

from billhook.cut import Cut

if TYPE_CHECKING:
    from billhook.layer_version import LayerVersion
    from billhook.linear_map import LinearMap
    from billhook.model_view import ModelView


@attrs.frozen(eq=False)
class Candidate:
    """A cut under trial in a search.

    Attributes:
        cut: what would go.
        changes: the layers as they would be, by original number; None for one that would go.
        parameters: how many would go.
        repair: the map that the changed layers hold already; None if they are as the cut leaves them.
    """

    cut: Cut
    changes: Mapping[int, LayerVersion | None]
    parameters: int
    repair: LinearMap | None = None

    @classmethod
    def of(cls, cut: Cut, view: ModelView) -> Candidate:
        """``cut`` tried on ``view``, which is not changed. Raises :class:`InvalidCut` if it does not fit."""
        cut.check(view)
        changes = cut.changes(view)
        lost = sum(_size(view.layer(n)) - (0 if v is None else _size(v.module)) for n, v in changes.items())
        return cls(cut, changes, lost)

    @property
    def first(self) -> int:
        """The first layer that would change: what enters it is what enters it now."""
        return min(self.changes)


def _size(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())
