"""CandidateStreams: what leaves the last layer if a candidate is cut, with as little running of layers as possible."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import TYPE_CHECKING

from torch import Tensor

from billhook.activations.flow import STREAM
from billhook.cuts.candidate import Candidate
from billhook.cuts.cut import Cut
from billhook.data.tokens import TokenBatch
from billhook.model.shared import Weights, first_difference, parameters_by_layer

if TYPE_CHECKING:
    from billhook.activations.runner import OpenBatch
    from billhook.model.view import ModelView
    from billhook.regression.linear_map import LinearMap
    from billhook.roles.state import PruningState

CANDIDATE = "candidate stream"
"""Kind of the cache entries made here."""


class CandidateStreams:
    """Runs candidates on the batches of a search.

    A candidate's stream is the present model's until the first layer that it changes. That base stream is computed
    once a batch for all candidates, in layer order. A candidate's own stream is cached at the layers where the
    present step will probably cut: the next step resumes there, because nothing before a cut changes.
    """

    def __init__(self, state: PruningState, batches: Sequence[TokenBatch]) -> None:
        self._state = state
        self._batches = batches
        self._weights: Weights = {}
        self._repairs: dict[Cut, LinearMap | None] = {}
        self._cached: dict[tuple[Cut, int], set[int]] = {}  # by candidate and batch: positions of cached streams
        state.cache.discard_kind(CANDIDATE)  # of an earlier search: they would take up room, and may be stale

    def start_step(self, candidates: Collection[Candidate]) -> None:
        """Forget what the last cut has made wrong, candidates that are none any more, and those repaired otherwise."""
        now = parameters_by_layer(self._state.model)
        until = first_difference(self._weights, now, self._state.flow.last) if self._weights else 0
        self._weights = now
        repairs, self._repairs = self._repairs, {candidate.cut: candidate.repair for candidate in candidates}
        same = {cut for cut, repair in self._repairs.items() if cut in repairs and repairs[cut] is repair}
        for (cut, index), positions in self._cached.items():
            for position in list(positions):
                if position > until or cut not in same:
                    self._forget(cut, index, position)

    def last_streams(
        self, index: int, candidates: Sequence[Candidate], meeting_points: Sequence[int] = ()
    ) -> Iterator[tuple[Candidate, Tensor, OpenBatch]]:
        """For each candidate, in layer order: what leaves its last layer, ``[batch, seq, d_model]``, and the batch.

        Args:
            index: which batch.
            candidates: of the present step.
            meeting_points: positions at which streams are cached, for candidates that change an earlier layer; the
                most important first, in case there is not room for all.
        """
        runner, view = self._state.flow.runner, self._state.model
        batch = runner.open(self._batches[index])
        base, position = batch.stream, 0
        for candidate in sorted(candidates, key=lambda c: c.first):
            found = self._resumed(candidate, index)
            if found is None:
                base = self._run(view, None, batch, base, position, candidate.first)
                position = max(position, candidate.first)
                found = base, candidate.first
            yield candidate, self._finish(candidate, index, batch, *found, meeting_points), batch

    def dense_last(self, index: int, batch: OpenBatch) -> Tensor:
        """What leaves the dense model's last layer, ``[batch, seq, d_model]``; cached if there is room."""
        state, key = self._state, ("dense last", len(self._batches[0].ids), index)  # a race divides the data otherwise
        found = state.cache.get(key, batch.stream.device)
        if found is None:
            found = self._run(state.dense, None, batch, batch.stream, 0, state.flow.last)
            state.cache.put(key, found, instead_of=CANDIDATE)
        return found

    def _finish(
        self,
        candidate: Candidate,
        index: int,
        batch: OpenBatch,
        stream: Tensor,
        position: int,
        meeting_points: Sequence[int],
    ) -> Tensor:
        view, passed = self._state.model, dict[int, Tensor]()
        for point in sorted({*meeting_points}):
            if position < point and candidate.first < point:
                stream = self._run(view, candidate, batch, stream, position, point)
                position = point
                passed[point] = stream
        for point in meeting_points:
            if point in passed:
                self._keep(candidate.cut, index, point, passed[point])
        return self._run(view, candidate, batch, stream, position, self._state.flow.last)

    def _run(
        self, view: ModelView, candidate: Candidate | None, batch: OpenBatch, stream: Tensor, start: int, stop: int
    ) -> Tensor:
        """Through the layers ``start`` up to, not including, ``stop`` that are there."""
        changes = {} if candidate is None else candidate.changes
        for number in view.numbers:
            if not start <= number < stop:
                continue
            version = changes.get(number)
            if version is not None:
                stream = self._state.flow.runner.call(view.adapter, version.module, number, batch, stream)
            elif number not in changes:
                stream = self._state.flow.runner.run(view, number, batch, stream)
        return stream

    def _resumed(self, candidate: Candidate, index: int) -> tuple[Tensor, int] | None:
        positions = self._cached.get((candidate.cut, index))
        if not positions:
            return None
        furthest = max(positions)
        found = self._state.cache.get((CANDIDATE, self, candidate.cut, index, furthest), self._state.dense.device)
        return None if found is None else (found, furthest)

    def _keep(self, cut: Cut, index: int, position: int, stream: Tensor) -> None:
        # a stream of the dense model saves at most one pass in a step; this one saves a part of one in every trial
        if self._state.cache.put((CANDIDATE, self, cut, index, position), stream, instead_of=STREAM):
            self._cached.setdefault((cut, index), set()).add(position)

    def _forget(self, cut: Cut, index: int, position: int) -> None:
        self._cached[cut, index].discard(position)
        self._state.cache.discard((CANDIDATE, self, cut, index, position))
