"""Search: finds the cut whose removal costs least, without computing anything twice."""

from __future__ import annotations

import functools
import itertools
import math
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import attrs
import torch
from torch import Tensor

from billhook.cuts.candidate import Candidate
from billhook.cuts.cut import Cut
from billhook.errors import InvalidConfig, InvalidJournal
from billhook.plans.journal import Decision
from billhook.progress import SearchProgress
from billhook.search.candidate_streams import CandidateStreams
from billhook.search.scoring import losses, predicted_count, refuse_no_candidate, require_predictions, value_of

if TYPE_CHECKING:
    from billhook.activations.runner import OpenBatch
    from billhook.roles.state import PruningState
    from billhook.search.race import Race

COMPARED_TOGETHER = 8
"""Candidates whose last streams are held at a time when the objective asks for the dense model's logits: those are
then computed once for all of them."""

MEETING_POINTS = 6
"""Layers at which streams are cached: of the candidates that look best. More would make it likelier that the winner is
among them, and take memory from the likelier ones."""

RACING_BATCHES = 32
"""Into so many batches a race divides the data, if there are as many rows."""


@attrs.define(eq=False)
class _Step:
    """One step of a search: who takes part, and the loss of each on the batches that it has seen."""

    candidates: list[Candidate]
    left: list[Candidate]
    losses: dict[Candidate, list[float]]
    work_expected: int
    began: float = attrs.field(factory=time.perf_counter)
    work_done: int = 0

    def best_first(self) -> list[Candidate]:
        """Those left and scored, by their loss on the batches that all of them have seen; ties by their order."""
        scored = [c for c in self.left if self.losses[c]] or self.left  # in the first batch not all are yet
        seen = min(len(self.losses[c]) for c in scored)
        return sorted(scored, key=lambda c: (sum(self.losses[c][:seen]), self.candidates.index(c)))

    def total(self, candidate: Candidate) -> float:
        """The summed loss of a candidate so far."""
        return sum(self.losses[candidate])


class Search:
    """Compares cuts of the present model by the state's objective, one step at a time.

    Each is tried as it leaves the model, or repaired where the state has ``trials``.

    The naive search runs the whole model for each candidate on all data. This one finds the same cuts (and scores, up
    to floating point) with less work:

    - the stream before a candidate is shared by all, and a candidate's own is resumed in the next step;
    - a candidate is given up as soon as its summed loss exceeds the total of the best one, which later tokens cannot
      mend (for objectives that are never negative). The probable winner is therefore scored first;
    - logits exist for a few hundred tokens at a time.

    With a :class:`billhook.Race` the result is not exact any more: most candidates see a part of the data only.
    """

    def __init__(self, state: PruningState, target: int, *, race: Race | None = None) -> None:
        """
        Args:
            state: its model, data, objective, cache and journal.
            target: parameters of the dense model that are to go until the search is over.
            race: rounds, for a faster search that is not exact.

        Raises:
            InvalidConfig: the state has no objective.
        """
        if state.objective is None:
            raise InvalidConfig("A search needs an objective: Pruner(objective='perplexity'), for instance.")
        self._state = state
        self._objective = state.objective
        self._target = target
        self._race = race
        data = state.compared_on
        batches = state.flow.batches if data is state.tokens else data.batches()
        if race is not None:
            batches = data.batches(max(1, data.ids.numel() // RACING_BATCHES))
        self._batches = batches
        self._count = require_predictions(sum(predicted_count(batch) for batch in batches))
        self._streams = CandidateStreams(state, batches)
        self._last: dict[Cut, float] = {}  # losses of the last step
        self._seconds_per_step = math.nan
        self.steps = 0

    @property
    def done(self) -> bool:
        """Whether the target is reached."""
        return self._state.removed_parameters >= self._target

    @torch.no_grad()
    def best(self, cuts: Sequence[Cut]) -> Cut:
        """The cut with the lowest objective; of equal ones the first. Its score stands in ``state.scores``.

        Args:
            cuts: the candidates, each valid for the present model. Those that a hook vetoed are left out.

        Raises:
            InvalidConfig: there is none.
            InvalidJournal: the journal says something that is no candidate.
            NotFinite: the model's logits are not finite after any of them.
            PluginError: the objective gives no number for any of them.
        """
        cuts = [cut for cut in cuts if cut not in self._state.vetoed]
        if not cuts:
            missing = self._target - self._state.removed_parameters
            raise InvalidConfig(
                f"The budget cannot be met: {missing:,} more parameters are to go, and nothing that may be cut is "
                f"left. Ask for less, or allow more to be cut."
            )
        self.steps += 1
        journal = self._state.journal
        decision = None if journal is None else journal.recall()
        if decision is None:
            decision = self._decide(cuts)
            if journal is not None:
                journal.note(decision)
        elif journal is not None and decision.cut not in cuts:
            raise InvalidJournal(
                f"The journal {journal.path} says {decision.cut} in step {self.steps}, which is no candidate there: "
                f"another run, or another version of a strategy, has written to it. It is left as it is; to begin "
                f"anew, name another journal (--journal FILE)."
            )
        self._state.scores[decision.cut] = decision.score
        return decision.cut

    def _decide(self, cuts: Sequence[Cut]) -> Decision:
        candidates = self._state.candidates(cuts)
        self._streams.start_step(candidates)
        work = len(candidates) * len(self._batches)
        step = _Step(candidates, list(candidates), {c: [] for c in candidates}, work)
        if self._race is None:
            self._score_exactly(step)
        else:
            self._score_racing(step, self._race)
        refuse_no_candidate(self._state, self._objective, {c.cut: step.total(c) for c in step.candidates})
        winner = step.best_first()[0]
        self._last = {c.cut: step.total(c) for c in candidates}
        self._seconds_per_step = time.perf_counter() - step.began
        return Decision(cut=winner.cut, score=value_of(self._objective, step.total(winner) / self._count))

    def _score_exactly(self, step: _Step) -> None:
        """All data for every candidate that can still win; the probable winner of the last step first."""
        favourite = min(step.candidates, key=lambda c: self._last.get(c.cut, math.inf))
        for index in range(len(self._batches)):
            self._score_batch(step, index, [favourite], ())
        others = [c for c in step.candidates if c is not favourite]
        probable = self._probable(sorted(step.candidates, key=lambda c: self._last.get(c.cut, math.inf)))
        for index in range(len(self._batches)):
            self._score_batch(step, index, others, probable)
            if self._objective.nonnegative:
                others = [c for c in others if step.total(c) <= step.total(favourite)]
                step.left = [favourite, *others]
            probable = self._probable(step.best_first())

    def _score_racing(self, step: _Step, race: Race) -> None:
        """More and more data for fewer and fewer candidates."""
        ends = [max(1, round(share * len(self._batches))) for share in race.data]
        step.work_expected = race.work(ends, len(self._batches), len(step.candidates))
        probable: tuple[int, ...] = ()
        for index in range(len(self._batches)):
            self._score_batch(step, index, step.left, probable)
            for number, end in enumerate(ends):
                if index + 1 == end:
                    step.left = step.best_first()[: race.survivors(number, len(step.candidates))]
            probable = self._probable(step.best_first())

    @staticmethod
    def _probable(ranking: Sequence[Candidate]) -> tuple[int, ...]:
        """Where this step will probably cut, the likeliest place first."""
        return tuple(dict.fromkeys(candidate.first for candidate in ranking[:MEETING_POINTS]))

    def _score_batch(
        self, step: _Step, index: int, candidates: Sequence[Candidate], meeting_points: Sequence[int]
    ) -> None:
        """Add the losses on one batch."""
        together = COMPARED_TOGETHER if self._objective.compares else 1
        for group in _groups(self._streams.last_streams(index, candidates, meeting_points), together):
            batch = group[0][2]
            found = losses(
                self._state.flow.runner,
                self._objective,
                [stream for _, stream, _ in group],
                batch.tokens,
                functools.partial(self._streams.dense_last, index, batch),
            )
            for (candidate, _, _), loss in zip(group, found, strict=True):
                step.losses[candidate].append(loss if math.isfinite(loss) else math.inf)
            step.work_done += len(group)
            self._tell(step, step.best_first()[0], index)

    def _tell(self, step: _Step, leader: Candidate, index: int) -> None:
        seen = step.losses[leader]
        count = sum(predicted_count(batch) for batch in self._batches[: len(seen)])
        self._state.on_search(
            SearchProgress(
                step=self.steps,
                candidates=len(step.candidates),
                candidates_left=len(step.left),
                best=str(leader.cut) if seen else "",
                best_score=value_of(self._objective, sum(seen) / count) if seen else math.nan,
                removed=self._state.removed_parameters,
                target=self._target,
                seconds_left=self._seconds_left(step),
            )
        )

    def _seconds_left(self, step: _Step) -> float:
        """From the pace of this step, or of the last one; every step to come is taken to cut as much as the average."""
        spent = time.perf_counter() - step.began
        known = not math.isnan(self._seconds_per_step)  # it is not after a step from the journal either
        whole = max(self._seconds_per_step, spent) if known else spent * step.work_expected / step.work_done
        mean = sum(c.parameters for c in step.candidates) / len(step.candidates)
        steps = math.ceil(max(1.0, (self._target - self._state.removed_parameters) / max(1.0, mean)))
        return max(0.0, whole * steps - spent)


def refuse_hopeless(state: PruningState, target: int, most: int) -> None:
    """Refuse a budget that cannot be met, before any work.

    Args:
        state: says how many parameters are gone already.
        target: parameters of the dense model that are to be gone in the end.
        most: parameters of the present model that go if the selector cuts all that it may: the sum of
            :meth:`billhook.Cut.parameter_count` of those cuts.

    Raises:
        InvalidConfig: those are too few.
    """
    missing = target - state.removed_parameters
    if missing > most:
        raise InvalidConfig(
            f"The budget cannot be met: {missing:,} more parameters are to go, and all that may be cut has {most:,}. "
            f"Ask for less, or allow more to be cut."
        )


Running = tuple[Candidate, Tensor, "OpenBatch"]


def _groups(streams: Iterator[Running], size: int) -> Iterator[list[Running]]:
    """``size`` at a time, fewer in the end."""
    while group := list(itertools.islice(streams, size)):
        yield group
