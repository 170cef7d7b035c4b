"""StreamedRegression: a regression whose rows come from running the model on the calibration data."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch
from loguru import logger

from billhook.cut import RepairSite
from billhook.errors import SingularProblem
from billhook.flow import STREAM
from billhook.moments import Moments
from billhook.regression import Regression, Rows, concatenate

if TYPE_CHECKING:
    from billhook.state import PruningState

SAMPLE_ROWS = 2048
"""Rows kept for the report: 2048 put the standard error of a mean cosine below 0.01, in a few megabytes."""


class StreamedRegression(Regression):
    """Regressor from the model as cut so far, target from the dense model.

    That way a later repair also makes up for what earlier ones left over, and errors do not pile up.
    """

    def __init__(self, state: PruningState, site: RepairSite, *, keep_rows: bool) -> None:
        """``keep_rows`` caches the rows for :meth:`batches`; what the cache refuses is computed again."""
        self._state = state
        self._site = site
        self._keep_rows = keep_rows
        self._moments: Moments | None = None
        self._sample: list[Rows] = []
        self._warned = False
        self._epochs = 0

    @property
    def d_in(self) -> int:
        """Width of the stream: the regressor is what the donor adds to it."""
        return self._state.dense.d_model

    @property
    def d_out(self) -> int:
        """Width of the stream."""
        return self._state.dense.d_model

    def moments(self) -> Moments:
        """Sums over all tokens; runs the model at the first call."""
        if self._moments is None:
            self._moments = self._collect()
        return self._moments

    def sample(self) -> Rows:
        """Up to ``SAMPLE_ROWS`` rows, evenly spread."""
        self.moments()
        return concatenate(self._sample)

    def batches(self, tokens: int = 1024) -> Iterator[Rows]:
        """Cached rows, in the model's dtype; computed again where the cache had no room."""
        self.moments()
        rest: list[Rows] = []
        for index in range(len(self._state.flow.batches)):
            rest.append(self._cached(index) or self._compute(index).to(dtype=self._state.dense.dtype))
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
            for name in ("x", "residual", "skip"):
                self._state.cache.discard(self._key(index, name))

    def _collect(self) -> Moments:
        state = self._state
        moments = Moments.empty(self.d_in, self.d_out, state.dense.device)
        count = len(state.flow.batches)
        for index in range(count):
            rows = self._compute(index)
            if len(rows) == 0:
                continue
            moments.add(rows.x, rows.residual)
            self._sample.append(_evenly(rows, -(-SAMPLE_ROWS // count)))
            if self._keep_rows:
                self._cache(index, rows.to(dtype=state.dense.dtype))
            state.progress("estimating", index + 1, count)
        if not moments.is_finite():
            raise SingularProblem(
                f"The activations of layer {self._site.layer} or of the stream entering layer {self._site.target} are "
                f"not finite. Run the model in bfloat16 or float32."
            )
        return moments

    def _compute(self, index: int) -> Rows:
        """The rows of one batch, float32."""
        state, site = self._state, self._site
        runner = state.flow.runner
        walk = state.flow.walk(index)
        shared = min(site.layer, state.shared_until)
        stream = walk.to(shared)
        for number in state.model.numbers:
            if shared <= number < site.layer:
                stream = runner.run(state.model, number, walk.batch, stream)
        written = runner.run_recording(state.model, site.layer, site.branch, walk.batch, stream)
        if site.layer < state.shared_until:
            walk.stand_at(site.layer + 1, written.leaving)
        target = walk.to(site.target)
        keep = walk.batch.tokens.keep
        # differences in float32, before anything is rounded to the model's dtype again
        leaving, target = (t[keep].to(torch.float32) for t in (written.leaving, target))
        x = written.output[keep]
        return Rows(x=x, residual=target - leaving + x, skip=leaving - x)

    def _cache(self, index: int, rows: Rows) -> None:
        # streams are worth less than rows: they save one pass, rows save one in every epoch
        names = ("x", "residual", "skip")
        fits = [self._state.cache.put(self._key(index, n), getattr(rows, n), instead_of=STREAM) for n in names]
        if not all(fits) and not self._warned:
            self._warned = True
            logger.warning(
                "The activation cache is full at batch {}: the rest is computed again in every epoch. "
                "Raise the host or disk bytes of CacheBudget to save that time.",
                index,
            )

    def _cached(self, index: int) -> Rows | None:
        device = self._state.dense.device
        parts = [self._state.cache.get(self._key(index, name), device) for name in ("x", "residual", "skip")]
        if any(part is None for part in parts):
            return None
        x, residual, skip = parts
        assert x is not None
        assert residual is not None
        assert skip is not None
        return Rows(x, residual, skip)

    def _key(self, index: int, name: str) -> tuple[str, RepairSite, int, str]:
        return ("rows", self._site, index, name)


def _evenly(rows: Rows, count: int) -> Rows:
    picked = torch.linspace(0, len(rows) - 1, min(count, len(rows))).round().long().unique()
    return rows[picked.to(rows.x.device)].to(dtype=torch.float32)
