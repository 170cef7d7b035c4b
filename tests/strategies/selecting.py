"""Runs a selector as a Pruner does, without one: each cut is made, unrepaired, before the next is asked for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import attrs

from billhook import Budget, Cut, ModelView, Objective, PruningState, Selector, Tokens
from billhook.testing import tiny_tokens
from billhook_strategies.mergers.fold import Fold
from billhook_strategies.objectives.perplexity import Perplexity

TOKENS = tiny_tokens(rows=4, seq=6, padding="both")


@attrs.frozen(kw_only=True, eq=False)
class Selected:
    """What came of it.

    Attributes:
        cuts: made, in order.
        scores: of each, if it was searched for.
        removed: parameters that were gone before each of the cuts, and in the end.
        target: parameters that the budget asks for.
        model: the cut model.
    """

    cuts: list[Cut]
    scores: list[float]
    removed: list[int]
    target: int
    model: ModelView

    @property
    def overshoot(self) -> int:
        """Parameters too many."""
        return self.removed[-1] - self.target

    @property
    def last(self) -> int:
        """Parameters that the last cut took."""
        return self.removed[-1] - self.removed[-2]


@contextmanager
def state_of(
    view: ModelView,
    *,
    tokens: Tokens = TOKENS,
    objective: Objective | None = None,
    done: Sequence[Cut] = (),
) -> Iterator[PruningState]:
    """A state to select in, some cuts already made."""
    state = PruningState(view, tokens, merger=Fold(), objective=objective or Perplexity(), tokens_per_batch=12)
    try:
        for cut in done:
            state.merger.merge(state.model, cut, None)
            state.record(cut)
        yield state
    finally:
        state.close()


def select(selector: Selector, budget: Budget, view: ModelView, **options: object) -> Selected:
    """All cuts of ``selector``; further arguments are those of :func:`state_of`."""
    with state_of(view, **options) as state:  # type: ignore[arg-type] # handed on as they are
        before = len(state.cuts)
        removed = [state.removed_parameters]
        for cut in selector.select(state, budget):
            cut.check(state.model)
            state.merger.merge(state.model, cut, None)
            state.record(cut)
            removed.append(state.removed_parameters)
        cuts = state.cuts[before:]
        scores = [state.scores[cut] for cut in cuts if cut in state.scores]
        target = budget.parameter_count(state.dense)
        return Selected(cuts=cuts, scores=scores, removed=removed, target=target, model=state.model)


def first_cut(selector: Selector, budget: Budget, view: ModelView, **options: object) -> Cut:
    """The first cut alone."""
    with state_of(view, **options) as state:  # type: ignore[arg-type] # handed on as they are
        return next(iter(selector.select(state, budget)))
