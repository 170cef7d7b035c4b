"""Greedy searches in benchmarks: made once, up to the largest ratio, timed, and read off at the smaller ones."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import attrs

from billhook import Budget, Cut, PruneResult, PruningState, Selector, hookimpl


@attrs.frozen
class Step:
    """A cut, when it was made (seconds after the search began), and the share of parameters that had gone then."""

    cut: Cut
    seconds: float
    removed: float


@attrs.frozen
class Known(Selector):
    """Cuts that an earlier search has found, until the budget is met."""

    cuts: tuple[Cut, ...]

    def kinds(self) -> tuple[type[Cut], ...]:
        """Those of the cuts."""
        return tuple(dict.fromkeys(type(cut) for cut in self.cuts))

    def select(self, state: PruningState, budget: Budget) -> Iterator[Cut]:
        """One after the other, as the search did."""
        target = budget.parameter_count(state.dense)
        for cut in self.cuts:
            if state.removed_parameters >= target:
                return
            yield cut


class Stopwatch:
    """A hook that notes when each cut was made, and when all was done.

    With a ``file`` the times outlive the process: a run that reads its first cuts from a journal takes their times
    from the file, and its clock goes on from there.
    """

    def __init__(self, file: Path | None = None) -> None:
        self.steps: list[Step] = []
        self.seconds = 0.0
        self._file = file
        self._filed: list[float] = json.loads(file.read_text()) if file is not None and file.exists() else []

    @hookimpl
    def billhook_before_prune(self, state: PruningState, budget: Budget) -> None:
        """Start."""
        self._began = time.perf_counter()

    @hookimpl
    def billhook_after_cut(self, state: PruningState, cut: Cut) -> None:
        """Note."""
        done = len(self.steps)
        if done < len(self._filed):
            self._began = time.perf_counter() - self._filed[done]
        seconds = time.perf_counter() - self._began
        self.steps.append(Step(cut, seconds, state.removed_parameters / state.dense.parameter_count))
        if self._file is not None and done >= len(self._filed):
            self._file.write_text(json.dumps([step.seconds for step in self.steps]))

    @hookimpl
    def billhook_after_prune(self, result: PruneResult) -> None:
        """Stop."""
        self.seconds = time.perf_counter() - self._began


def upto(steps: Sequence[Step], ratio: float) -> tuple[Step, ...]:
    """The first steps that reach ``ratio``, where the search would have stopped; all if they do not."""
    for count, step in enumerate(steps, 1):
        if step.removed >= ratio * (1 - 1e-12):  # as Budget rounds
            return tuple(steps[:count])
    return tuple(steps)


def with_reused(known: Sequence[Step], steps: Sequence[Step]) -> float:
    """Seconds of a search whose first cuts were ``known``: what those took, and what it took itself."""
    cuts = {step.cut for step in steps}
    reused = [step.seconds for step in known if step.cut in cuts]
    return max(reused, default=0.0) + steps[-1].seconds
