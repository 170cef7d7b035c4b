"""Repairer: solves the repair problems of cuts, and says whether the answers help."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from billhook.errors import InvalidCut
from billhook.plans.report import CutReport
from billhook.regression.linear_map import LinearMap
from billhook.regression.regression import Regression
from billhook.repair.answers import refuse_no_map
from billhook.repair.figures import measure
from billhook.repair.guarding import guarded
from billhook.repair.streamed_regression import StreamedRegression
from billhook.roles.estimator import Estimator, Needs

if TYPE_CHECKING:
    from billhook.cuts.placed import Placed
    from billhook.cuts.sites import RepairSite
    from billhook.roles.merger import Merger
    from billhook.roles.state import PruningState


@attrs.frozen(eq=False)
class Repairer:
    """An estimator and a merger at work on the present model of a state.

    Attributes:
        estimator: solves the problems.
        merger: says what the problems start from.
    """

    estimator: Estimator
    merger: Merger

    @property
    def repairs(self) -> bool:
        """Whether anything is repaired from data."""
        return self.estimator.needs is not Needs.NOTHING

    def solve(self, state: PruningState, placed: Placed) -> tuple[LinearMap | None, CutReport]:
        """The map for a cut that is yet to be made, and how good it is; None to leave the donor as it is.

        Raises:
            InvalidCut: nothing survives before the cut that could make up for it.
            CannotMerge: the architecture cannot express a map.
            SingularProblem: the data do not determine one, or it is not finite.
        """
        cut, site = placed.cut, placed.site
        if not self.repairs:
            return self._known(state, site), CutReport(cut=cut)
        if site is None:
            raise InvalidCut(
                f"{cut} cannot be repaired: no layer survives before it. Keep layer 0, or use the estimator 'identity'."
            )
        self.merger.check_site(state.model, site)
        regression = StreamedRegression(
            state,
            site,
            after=placed.after,
            regressor=self.merger.regressor,
            keep_rows=self.estimator.needs is Needs.ROWS,
        )
        try:
            linear_map = self.estimate(regression)
            if linear_map is None:
                return None, CutReport(cut=cut)
            figures = measure(cut, site, regression, linear_map)
        finally:
            regression.close()
        return (linear_map, figures) if figures.helps else (None, attrs.evolve(figures, made=False))

    def estimate(self, regression: Regression) -> LinearMap | None:
        """The estimator's answer, or what of it does no harm on text of another kind; None to leave things as they are.

        Raises:
            SingularProblem: its weight or its bias is not finite.
            ShapeMismatch: it is no map of the problem's shape in float32 or float64.
        """
        linear_map = self.estimator.estimate(regression)
        if linear_map is None:
            return None
        refuse_no_map(self.estimator, linear_map, regression)
        return guarded(regression, linear_map.detached())

    def _known(self, state: PruningState, site: RepairSite | None) -> LinearMap | None:
        """The map of an estimator that needs no data; None where no layer could carry it."""
        if site is None:
            return None
        return self.estimate(StreamedRegression(state, site, regressor=self.merger.regressor))
