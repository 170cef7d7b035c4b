"""FinalRepairs: the repairs that wait until all cuts are made, and the closing passes."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import attrs

from billhook.log import logger
from billhook.repair.guarding import undone_if_harmful
from billhook.repair.sweep import sweep

if TYPE_CHECKING:
    from billhook.cuts.cut import Cut
    from billhook.cuts.placed import Placed
    from billhook.model.branch import Place
    from billhook.plans.repair import Repair
    from billhook.plans.report import CutReport, SiteReport
    from billhook.repair.repairer import Repairer
    from billhook.roles.state import PruningState


class FinalRepairs:
    """What is still to be repaired when the last cut has been made.

    Attributes:
        waits: whether cuts are made unrepaired for now.
        reports: one for each writer that was solved anew, in the order of the work.
    """

    def __init__(self, repairer: Repairer, options: Repair) -> None:
        self.waits = options.when == "final" and repairer.repairs
        self.reports: list[SiteReport] = []
        self._repairer = repairer
        self._options = options
        self._donors: dict[Cut, Place] = {}

    def put_off(self, placed: Placed) -> None:
        """Note the donor of a cut that is about to be made; what counted on a donor that goes now counts on it, too."""
        left = {*placed.after.branches()}
        homeless = [cut for cut, place in self._donors.items() if place not in left]
        for cut in (placed.cut, *homeless):
            self._donors.pop(cut, None)
            if placed.site is None:
                logger.warning("{} cannot be repaired: nothing that is left stands before it.", cut)
            else:
                self._donors[cut] = placed.site.layer, placed.site.branch

    def due(self, state: PruningState) -> bool:
        """Whether there is anything to do."""
        return self._repairer.repairs and bool(state.cuts) and (self.waits or self.closing)

    @property
    def closing(self) -> bool:
        """Whether all surviving writers are solved anew, after the others."""
        return self._options.closing > 0

    def make(self, state: PruningState, everything: Callable[[], PruningState] | None) -> None:
        """Repair ``state.model``, in place.

        Args:
            state: of the search, whose caches are given up if others are needed.
            everything: makes a state over all tokens, if ``state`` has only some of them; None if it has all.
        """
        if everything is None:
            self._sweep(state)
            return
        state.close()  # there is one budget of memory
        whole = everything()
        try:
            whole.take(state.model)
            self._sweep(whole)
        finally:
            whole.close()
        state.refresh()

    def with_figures(self, report: CutReport) -> CutReport:
        """``report`` with the figures of its donor's repair, which may make up for other cuts, too."""
        place = self._donors.get(report.cut)
        found = next((site for site in self.reports if (site.donor, site.branch) == place), None)
        return report if found is None else attrs.evolve(report, **attrs.asdict(found, recurse=False))

    def _sweep(self, state: PruningState) -> None:
        before = state.model.copy()
        self._sweep_all(state)
        if state.guard is not None and undone_if_harmful(state, before):
            self.reports = [attrs.evolve(report, made=False) for report in self.reports]

    def _sweep_all(self, state: PruningState) -> None:
        if self.waits:
            self.reports += sweep(state, self._repairer, self._donors.values(), target=self._options.target)
        for _ in range(self._options.closing):
            self.reports += sweep(state, self._repairer, state.model.branches())
