"""Placed: a cut that fits a model, with where it is repaired and what it leaves."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

if TYPE_CHECKING:
    from billhook.cuts.cut import Cut
    from billhook.cuts.sites import RepairSite
    from billhook.model.view import ModelView


@attrs.frozen(eq=False)
class Placed:
    """A cut that was checked once, on its way into a model; those who work on it further need not ask again.

    Attributes:
        cut: what goes.
        site: where its loss can be made up for, in the numbers of either model; None for nowhere.
        after: the model without it, unrepaired. A copy that shares every tensor that stays: who merges the repair
            changes this one, so that a refusal leaves the model itself as it was.
    """

    cut: Cut
    site: RepairSite | None
    after: ModelView

    @classmethod
    def of(cls, cut: Cut, view: ModelView) -> Placed:
        """``cut`` in ``view``, which is not changed. Raises :class:`InvalidCut` if it does not fit."""
        cut.check(view)
        site, after = cut.repair_site(view), view.copy()
        cut.remove_from(after)
        return cls(cut, site, after)
