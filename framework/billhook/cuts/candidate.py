"""Candidate: a cut under trial, and what the model would be without it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import attrs

from billhook.cuts.cut import Cut, parameters_lost

if TYPE_CHECKING:
    from billhook.model.layer_version import LayerVersion
    from billhook.model.view import ModelView
    from billhook.regression.linear_map import LinearMap


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
        return cls(cut, changes, parameters_lost(view, changes))

    @property
    def first(self) -> int:
        """The first layer that would change: what enters it is what enters it now."""
        return min(self.changes)
