"""TrialRepairs: the repairs of all candidates of a search, from moments that one pass collects."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import TYPE_CHECKING

import attrs
import torch
from torch import Tensor

from billhook.cuts.candidate import Candidate
from billhook.cuts.placed import Placed
from billhook.errors import InvalidConfig
from billhook.model.layer_version import LayerVersion
from billhook.model.shared import Weights, first_difference, parameters_by_layer
from billhook.model.surgery import copy_of
from billhook.model.writer import weight_rows
from billhook.plans.report import CutReport
from billhook.regression.linear_map import LinearMap
from billhook.repair.figures import guard_share, held_out_share
from billhook.repair.site_moments import KnownRegression, SiteMoments, site_rows, split
from billhook.roles.estimator import Needs
from billhook.roles.trials import Trials

if TYPE_CHECKING:
    from billhook.activations.flow import Walk
    from billhook.activations.runner import Written
    from billhook.cuts.cut import Cut
    from billhook.cuts.sites import RepairSite
    from billhook.model.branch import Place
    from billhook.repair.repairer import Repairer
    from billhook.roles.state import PruningState


class TrialRepairs(Trials):
    """Candidates of the present model, each with its repair.

    Moments are kept by donor and target. One pass over the data collects those that are missing, for all candidates
    together; after a cut only those behind it are collected anew. So a trial costs a solve, and not a pass.
    """

    def __init__(self, state: PruningState, repairer: Repairer) -> None:
        """
        Raises:
            InvalidConfig: the estimator works on rows, which would take a pass for every candidate.
        """
        if repairer.estimator.needs is Needs.ROWS:
            raise InvalidConfig(
                f"Repairs on trial come from moments, and {repairer.estimator!r} works on rows. Use an estimator such "
                f"as 'ridge', or Repair(when='winner')."
            )
        self._state = state
        self._repairer = repairer
        self._known: dict[RepairSite, SiteMoments] = {}
        self._maps: dict[Cut, tuple[SiteMoments, LinearMap | None]] = {}
        self._weights: Weights = {}

    def candidates(self, cuts: Sequence[Cut]) -> list[Candidate]:
        """From sums over the data, collected for all that are new at once."""
        sites = {cut: cut.repair_site(self._state.model) for cut in cuts}
        self._forget_stale()
        missing = {site for site in sites.values() if site is not None} - self._known.keys()
        if missing:
            self._collect(missing)
        return [self._candidate(cut, site) for cut, site in sites.items()]

    def repair(self, cut: Cut) -> tuple[LinearMap | None, CutReport]:
        """The map for ``cut``, as a candidate of the present model, and how good it is."""
        (candidate,) = self.candidates([cut])
        site, linear_map = cut.repair_site(self._state.model), candidate.repair
        if site is None or linear_map is None:
            return linear_map, CutReport(cut=cut)
        regression = self._regression(cut, site, self._known[site])
        if regression is None:
            return self._repairer.solve(self._state, Placed.of(cut, self._state.model))
        moments = regression.moments()
        return linear_map, CutReport(
            cut=cut,
            donor=site.layer,
            branch=site.branch,
            r_squared=moments.r_squared(linear_map),
            held_out=held_out_share(regression, linear_map),
            guard=guard_share(regression, linear_map),
            token_count=moments.token_count,
            notes=linear_map.notes,
        )

    def _candidate(self, cut: Cut, site: RepairSite | None) -> Candidate:
        plain = Candidate.of(cut, self._state.model)
        if site is None:
            return plain
        moments = self._known[site]
        before, linear_map = self._maps.get(cut, (None, None))
        if before is not moments:
            linear_map = self._solve(cut, site, moments)
            self._maps[cut] = (moments, linear_map)
        return plain if linear_map is None else self._repaired(plain, site, linear_map)

    def _solve(self, cut: Cut, site: RepairSite, moments: SiteMoments) -> LinearMap | None:
        regression = self._regression(cut, site, moments)
        if regression is None:
            return self._repairer.solve(self._state, Placed.of(cut, self._state.model))[0]
        linear_map = self._repairer.estimate(regression)
        shares = (share(regression, linear_map) for share in (held_out_share, guard_share)) if linear_map else ()
        useless = linear_map is None or any(share >= 1 for share in shares)  # False where nothing is held out
        return None if useless else linear_map

    def _regression(self, cut: Cut, site: RepairSite, moments: SiteMoments) -> KnownRegression | None:
        """From what is known; None if that takes a pass: what is left of the donor writes something else."""
        view, regressor = self._state.model, self._repairer.merger.regressor
        present = view.writer(site.layer, site.branch)
        plain = Candidate.of(cut, view).changes.get(site.layer)  # the donor as it is before the repair
        writer = present if plain is None else view.adapter.writer(plain.module, site.branch)
        if regressor == "output":
            same = writer.weight is present.weight
            return KnownRegression(moments, regressor, torch.eye(view.d_model)) if same else None
        columns = cut.inner_columns(view)
        width = moments.fit.d_in if columns is None else len(columns)
        if width != weight_rows(writer).shape[0]:
            return None
        return KnownRegression(moments.of(columns), regressor, weight_rows(writer))

    def _repaired(self, plain: Candidate, site: RepairSite, linear_map: LinearMap) -> Candidate:
        """With the donor's layer as the merger leaves it."""
        view = self._state.model
        version = plain.changes.get(site.layer)
        if version is None:
            version = LayerVersion(copy_of(view.layer(site.layer)), {})
        self._repairer.merger.put_finite(view.with_layer(site.layer, version.module), site, linear_map)
        return attrs.evolve(plain, changes={**plain.changes, site.layer: version}, repair=linear_map)

    def _forget_stale(self) -> None:
        """Of donors whose layer, or one before it, is not what it was."""
        state = self._state
        now = parameters_by_layer(state.model)
        until = first_difference(self._weights, now, state.flow.last) if self._weights else 0
        self._weights = now
        self._known = {site: moments for site, moments in self._known.items() if site.layer < until}

    def _collect(self, sites: Collection[RepairSite]) -> None:
        state, regressor = self._state, self._repairer.merger.regressor
        found: dict[RepairSite, SiteMoments] = {}
        first: dict[Place, RepairSite] = {}  # of a donor's targets; where tokens weigh the same, it knows XᵀX for all
        alike = state.repair.weights == "equal"
        count = len(state.flow.with_guard)
        for index in range(count):
            walk = state.flow.walk(index)
            for site, written, target in _through(state, walk, sites):
                rows = site_rows(state.model, site, regressor, written, target)
                if site not in found:
                    widths = rows.x.shape[-1], rows.residual.shape[-1]
                    found[site] = SiteMoments.empty(*widths, state.dense.device, guard=state.guard is not None)
                gram = not alike or first.setdefault((site.layer, site.branch), site) == site
                weights = state.repair.weights
                found[site].add(split(state.held_out_rows(index), walk.batch.tokens, rows, weights), gram=gram)
            state.progress("estimating", index + 1, count)
        for site, moments in found.items():
            moments.require_finite(site)
            self._known[site] = moments.with_gram_of(found[first[site.layer, site.branch]]) if alike else moments


def _through(
    state: PruningState, walk: Walk, sites: Collection[RepairSite]
) -> Iterator[tuple[RepairSite, Written, Tensor]]:
    """One batch through the present model, and at each target the dense stream; what waits for one is little."""
    runner, view = state.flow.runner, state.model
    by_donor: dict[int, list[RepairSite]] = {}
    for site in sites:
        by_donor.setdefault(site.layer, []).append(site)
    position = min(*by_donor, state.shared_until)
    stream = walk.to(position)
    waiting: list[tuple[RepairSite, Written]] = []
    for number in view.numbers:
        if number < position or number > max(by_donor):
            continue
        here = by_donor.get(number, [])
        if not here:
            stream = runner.run(view, number, walk.batch, stream)
            continue
        written = runner.run_recording_all(view, number, dict.fromkeys(s.branch for s in here), walk.batch, stream)
        stream = next(iter(written.values())).leaving
        nearest = min(_order(site) for site in here)
        yield from _reach(walk, [w for w in waiting if _order(w[0]) < nearest])
        waiting = [w for w in waiting if _order(w[0]) >= nearest] + [(site, written[site.branch]) for site in here]
    yield from _reach(walk, waiting)


def _order(site: RepairSite) -> tuple[int, bool]:
    return (site.target, site.between)


def _reach(walk: Walk, waiting: Sequence[tuple[RepairSite, Written]]) -> Iterator[tuple[RepairSite, Written, Tensor]]:
    """With their targets, in the order of the stream; those at one place get one."""
    place, target = None, None
    for site, written in sorted(waiting, key=lambda pair: _order(pair[0])):
        if target is None or place != _order(site):
            place, target = _order(site), walk.at(site)
        yield site, written, target
