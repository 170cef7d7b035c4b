"""StreamedRegression: a regression whose rows come from running the model on the calibration data."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from billhook.activations.flow import STREAM
from billhook.cuts.sites import RepairSite
from billhook.log import logger
from billhook.model.writer import double_device, weight_rows
from billhook.regression.massive import massive_rows
from billhook.regression.moments import Moments
from billhook.regression.regression import Regression, Regressor, Rows, concatenate
from billhook.repair.present_target import reached, undone
from billhook.repair.site_moments import SiteMoments, Split, site_rows, split

if TYPE_CHECKING:
    from billhook.activations.flow import Walk
    from billhook.activations.runner import Written
    from billhook.model.view import ModelView
    from billhook.plans.repair import Target
    from billhook.repair.present_streams import PresentStreams
    from billhook.roles.state import PruningState

SAMPLE_ROWS = 2048
"""Rows kept for the report: 2048 put the standard error of a mean cosine below 0.01, in a few megabytes."""


ROW_PARTS = ("x", "residual", "skip", "weights")
"""Fields of :class:`Rows`, in their order."""


class StreamedRegression(Regression):
    """Regressor from the model as cut so far, this cut included, target from the dense model.

    That way a later repair also makes up for what earlier ones left over, and errors do not pile up. (The target can
    also come from the present model, or from both: :attr:`billhook.Repair.target`.)
    """

    def __init__(
        self,
        state: PruningState,
        site: RepairSite,
        *,
        after: ModelView | None = None,
        regressor: Regressor = "output",
        streams: PresentStreams | None = None,
        keep_rows: bool = False,
        target: Target | None = None,
    ) -> None:
        """
        Args:
            state: its models, data and options.
            site: donor and target.
            after: the present model without what is cut; the present model if None.
            regressor: the donor's output, or what its writer reads.
            streams: the present model's, of a caller that goes through its layers in order; then ``after`` is None.
            keep_rows: cache the rows for :meth:`batches`; what the cache refuses is computed again.
            target: as for :class:`billhook.Repair`; what that of the state says if None.
        """
        self._state = state
        self._site = site
        self._after = after or state.model
        self._shared = state.shared_until if after is None else state.shared_with(after)
        self.regressor = regressor
        self._streams = streams
        self._keep_rows = keep_rows
        self._target = target or state.repair.target
        self._moments: SiteMoments | None = None
        self._sample: list[Rows] = []
        self._massive = 0
        self._warned = False
        self._epochs = 0

    @property
    def d_in(self) -> int:
        """Width of the stream, or of what the donor's writer reads."""
        return self.prior.shape[0]

    @property
    def d_out(self) -> int:
        """Width of the stream."""
        return self._state.dense.d_model

    @property
    def prior(self) -> Tensor:
        """The identity, or the donor's present weight."""
        return self._prior

    @functools.cached_property
    def _prior(self) -> Tensor:
        if self.regressor == "output":
            return torch.eye(self.d_out, dtype=torch.float64, device=double_device(self._state.dense.device))
        rows = weight_rows(self._after.writer(self._site.layer, self._site.branch))
        return rows.to(device=double_device(rows.device), dtype=torch.float64)

    def moments(self) -> Moments:
        """Sums over all tokens; runs the model at the first call."""
        return self._collected().fit

    def sample(self) -> Rows:
        """Up to ``SAMPLE_ROWS`` rows, evenly spread."""
        self.moments()
        return concatenate(self._sample)

    def massive_count(self) -> int:
        """Of all tokens to fit; the median is that of a batch."""
        self.moments()
        return self._massive

    def batches(self, tokens: int = 1024) -> Iterator[Rows]:
        """Cached rows, in the model's dtype, with the weights that the moments have; computed again where the cache had
        no room."""
        self.moments()
        rest: list[Rows] = []
        for index in range(len(self._state.flow.batches)):
            rest.append(self._cached(index) or self._compute(index).fit.to(dtype=self._state.dense.dtype))
            if sum(map(len, rest)) >= tokens:
                pool = concatenate(rest)
                whole = len(pool) // tokens * tokens
                yield from (pool[start : start + tokens] for start in range(0, whole, tokens))
                rest = [pool[whole:]]
        if sum(map(len, rest)):
            yield concatenate(rest)
        self._epochs += 1
        self._state.progress("fitting", self._epochs, None)

    def close(self) -> None:
        """Give the cached rows' bytes back."""
        for index in range(len(self._state.flow.batches)):
            for name in self._parts:
                self._state.cache.discard(self._key(index, name))

    def held_out(self) -> Moments | None:
        """Sums over the tokens of the rows that ``Repair.held_out`` sets aside."""
        held_out = self._collected().held_out
        return held_out if held_out.token_count else None

    def guard(self) -> Moments | None:
        """Sums over the tokens of ``PruningState.guard``."""
        return self._collected().guard

    def _collected(self) -> SiteMoments:
        if self._moments is None:
            self._moments = self._collect()
        return self._moments

    def _collect(self) -> SiteMoments:
        state = self._state
        moments = SiteMoments.empty(self.d_in, self.d_out, state.dense.device, guard=state.guard is not None)
        count, fitted = len(state.flow.with_guard), len(state.flow.batches)
        for index in range(count):
            rows = self._compute(index)
            moments.add(rows)
            if len(rows.fit):
                self._sample.append(_evenly(rows.fit, -(-SAMPLE_ROWS // fitted)))
                self._massive += int(massive_rows(rows.fit.target).sum())
            if self._keep_rows and index < fitted:
                self._cache(index, rows.fit.to(dtype=state.dense.dtype))
            state.progress("estimating", index + 1, count)
        moments.require_finite(self._site)
        return moments

    def _compute(self, index: int) -> Split:
        """The rows of one batch, float32."""
        state, site = self._state, self._site
        walk = state.flow.walk(index)
        written, stream = self._written(walk), walk.stream
        if site.layer < self._shared and walk.position == site.layer < site.target:
            walk.stand_at(site.layer + 1, written.leaving)
        parts = []
        if self._target != "dense":  # first: the walk goes forward only
            parts.append(self._present_target(walk, stream))
        if self._target != "present":
            parts.append(walk.at(site))
        target = parts[0] if len(parts) == 1 else (parts[0].float() + parts[1].float()) / 2
        rows = site_rows(self._after, site, self.regressor, written, target)
        return split(state.held_out_rows(index), walk.batch.tokens, rows, state.repair.weights)

    def _written(self, walk: Walk) -> Written:
        """What the donor writes; the walk stands where the two models part, at the donor's layer at the latest."""
        runner, site = self._state.flow.runner, self._site
        if self._streams is not None:
            return runner.run_recording(
                self._after, site.layer, site.branch, walk.batch, self._streams.entering(walk, site.layer)
            )
        shared = min(site.layer, self._shared)
        stream = walk.to(shared)
        for number in self._after.numbers:
            if shared <= number < site.layer:
                stream = runner.run(self._after, number, walk.batch, stream)
        return runner.run_recording(self._after, site.layer, site.branch, walk.batch, stream)

    def _present_target(self, walk: Walk, stream: Tensor) -> Tensor:
        """The stream that the repair aims at, as it was before the cut; ``stream`` is where the walk stands."""
        if self._streams is not None:
            entering = self._streams.entering(walk, self._site.layer)
            return undone(self._state, self._site, walk.batch, entering)
        position = min(self._site.layer, self._shared)
        return reached(self._state.flow.runner, self._state.model, self._site, walk.batch, stream, position)

    def _cache(self, index: int, rows: Rows) -> None:
        # streams are worth less than rows: they save one pass, rows save one in every epoch
        parts = [(name, getattr(rows, name)) for name in self._parts]
        fits = [self._state.cache.put(self._key(index, name), part, instead_of=STREAM) for name, part in parts]
        if not all(fits) and not self._warned:
            self._warned = True
            logger.warning(
                "The activation cache is full at batch {}: the rest is computed again in every epoch. "
                "Raise the host or disk bytes of CacheBudget to save that time.",
                index,
            )

    def _cached(self, index: int) -> Rows | None:
        device = self._state.dense.device
        parts = [self._state.cache.get(self._key(index, name), device) for name in self._parts]
        found = [part for part in parts if part is not None]
        if len(found) < len(parts):
            return None
        x, residual, skip, *weights = found
        return Rows(x, residual, skip, *weights)

    @property
    def _parts(self) -> tuple[str, ...]:
        """What rows are made of: without weights where all count the same."""
        return ROW_PARTS[:3] if self._state.repair.weights == "equal" else ROW_PARTS

    def _key(self, index: int, name: str) -> tuple[str, RepairSite, int, str]:
        return ("rows", self._site, index, name)


def _evenly(rows: Rows, count: int) -> Rows:
    picked = torch.linspace(0, len(rows) - 1, min(count, len(rows))).round().long().unique()
    return rows[picked.to(rows.x.device)].to(dtype=torch.float32)
