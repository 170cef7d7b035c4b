"""sweep: solve surviving writers anew, one after the other in the order of the stream."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import attrs

from billhook.cuts.sites import site_within
from billhook.regression.linear_map import LinearMap
from billhook.repair.figures import measure_site
from billhook.repair.present_streams import PresentStreams
from billhook.repair.streamed_regression import StreamedRegression
from billhook.roles.estimator import Needs

if TYPE_CHECKING:
    from billhook.cuts.sites import RepairSite
    from billhook.model.branch import Place
    from billhook.plans.repair import Target
    from billhook.plans.report import SiteReport
    from billhook.repair.repairer import Repairer
    from billhook.roles.state import PruningState


def sweep(
    state: PruningState,
    repairer: Repairer,
    places: Iterable[Place],
    *,
    target: Target = "dense",
) -> list[SiteReport]:
    """Bring the present model's stream back to the dense one (see ``target``) behind each of these branches.

    In the order of the stream, so that each writer also makes up for what those before it could not. A map that does
    not help on held-out tokens is not put in. Runs every layer about three times, whatever the number of branches.

    Args:
        state: its model is changed.
        repairer: the estimator and the merger.
        places: of the branches; those that are gone are passed over.
        target: as for :class:`billhook.Repair`.

    Returns:
        For each, how good it is.

    Raises:
        CannotMerge: the architecture cannot express a map.
        SingularProblem: the data do not determine one, or it is not finite.
    """
    wanted = set(places)
    order = [place for place in state.model.branches() if place in wanted]
    streams = PresentStreams(state)
    reports = []
    try:
        for done, place in enumerate(order, 1):
            reports.append(_solve(state, repairer, site_within(state.model, place), streams, target))
            state.progress("repairing", done, len(order))
    finally:
        streams.close()
    return reports


def _solve(
    state: PruningState, repairer: Repairer, site: RepairSite, streams: PresentStreams, target: Target
) -> SiteReport:
    repairer.merger.check_site(state.model, site)
    regression = StreamedRegression(
        state,
        site,
        regressor=repairer.merger.regressor,
        streams=streams,
        keep_rows=repairer.estimator.needs is Needs.ROWS,
        target=target,
    )
    try:
        linear_map = repairer.estimate(regression) or LinearMap(regression.prior)
        figures = measure_site(site, regression, linear_map)
    finally:
        regression.close()
    if figures.helps:
        repairer.merger.put_finite(state.model, site, linear_map)
        state.refresh()
    return attrs.evolve(figures, made=figures.helps)
