"""check_selector: what every selector promises."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import cast

import attrs

from billhook.cuts.cut import Cut
from billhook.cuts.drop_layers import DropLayers
from billhook.cuts.sites import RepairSite
from billhook.errors import CannotMerge, InvalidConfig, InvalidCut
from billhook.model.view import ModelView
from billhook.plans.budget import Budget
from billhook.plugins.registry import Registry, default_registry
from billhook.regression.linear_map import LinearMap
from billhook.roles.merger import Merger
from billhook.roles.objective import Objective
from billhook.roles.selector import Selector
from billhook.roles.state import PruningState
from billhook.testing.expect import Snapshot, check_options, fail, raises, require
from billhook.testing.models import tiny_tokens, tiny_view

LAYERS = 8
"""Of the models that selectors are tried on."""

BUDGETS = (Budget(layers=1), Budget(layers=4), Budget(parameters=0.3), Budget(parameters=0.3, of="backbone"))


def check_selector(
    selector: Selector,
    *,
    budgets: Sequence[Budget] = BUDGETS,
    protected: Sequence[int] = (0, LAYERS - 1),
    meets_budget: bool = True,
    at_once: int = 1,
    refuses_early: bool = True,
    objective: Objective | None = None,
    registry: Registry | None = None,
) -> None:
    """Raise AssertionError unless ``selector`` keeps the promises of :class:`billhook.Selector`.

    It is tried on Llama models of 8 tiny layers, on padded tokens. A selector of whole layers must drop exactly as many
    as the budget means; any other goes on until as many parameters are gone, and no further.

    Args:
        selector: what to check; its options as they are.
        budgets: how much it is asked to remove.
        protected: layers that it must never touch.
        meets_budget: False for one that ignores the budget by design.
        at_once: cuts that it makes before it looks at the budget again.
        refuses_early: False for one that cannot tell before the first cut that it cannot do what is asked.
        objective: for selectors that search; perplexity if they need one and None is given.
        registry: where its name is looked up for the round trip of its options; all installed plugins if None.
    """
    trial = _Trial(selector, objective or _default_objective(selector, registry))
    for budget in budgets:
        cuts = trial.run(budget, protected)
        require(bool(cuts), selector, f"a budget of {budget} gave no cut")
        if meets_budget:
            trial.check_budget(budget, at_once)
        require(trial.run(budget, protected) == cuts, selector, "the same state gave two different answers")
    trial.check_veto(budgets[0])
    if meets_budget:
        trial.check_impossible(len(protected), refuses_early)
    if selector.needs_objective():
        trial.check_need(budgets[0], refuses_early)
    check_options("selector", selector, registry)


def _default_objective(selector: Selector, registry: Registry | None) -> Objective | None:
    if not selector.needs_objective():
        return None
    return cast(Objective, (registry or default_registry()).create("objective", "billhook:perplexity"))


class _Trial:
    """A selector at work, watched."""

    def __init__(self, selector: Selector, objective: Objective | None) -> None:
        self.selector = selector
        self.objective = objective
        self.removed: list[int] = []
        """Parameters that were gone before each cut of the last run, and after it."""

    def run(self, budget: Budget, protected: Sequence[int] = ()) -> list[Cut]:
        """Select and cut in turns, as a Pruner does, looking for changes in between."""
        with _state(self.objective) as state:
            self.removed = [0]
            cuts = self.selector.select(state, budget)
            while (cut := self._next_untouched(state, cuts)) is not None:
                self._check_cut(state.model, cut, protected)
                state.merger.merge(state.model, cut, None)
                state.record(cut)
                self.removed.append(state.removed_parameters)
            return state.cuts

    def _next_untouched(self, state: PruningState, cuts: Iterator[Cut]) -> Cut | None:
        before = [Snapshot(state.dense), Snapshot(state.model)]
        model, done = state.model, list(state.cuts)
        cut = next(cuts, None)
        law = "it changed the state; trials must be left again"
        require(state.model is model and state.cuts == done, self.selector, law)
        for snapshot in before:
            snapshot.require_same(self.selector, "a selector changes no model")
        return cut

    def _check_cut(self, view: ModelView, cut: object, protected: Sequence[int]) -> None:
        if not isinstance(cut, Cut):
            fail(self.selector, f"it yielded a {type(cut).__name__}, which is no Cut")
        kinds = ", ".join(kind.__name__ for kind in self.selector.kinds())
        law = f"it yielded a {type(cut).__name__}, and kinds() names only {kinds}"
        require(isinstance(cut, self.selector.kinds()), self.selector, law)
        try:
            cut.check(view)
        except InvalidCut as error:
            raise AssertionError(
                f"{self.selector!r} breaks its contract: it yielded a cut that cannot be made: {error}"
            ) from error
        touched = sorted({*cut.changes(view)} & {*protected})
        require(not touched, self.selector, f"it cut protected layers {touched}")

    def check_budget(self, budget: Budget, at_once: int) -> None:
        """As many layers as the budget means; or as many parameters, and not without the last cuts."""
        view = tiny_view(num_hidden_layers=LAYERS)
        if self.selector.kinds() == (DropLayers,):
            wanted, gone = budget.layer_count(view), self.removed[-1] * LAYERS // view.layer_parameter_count
            require(gone == wanted, self.selector, f"a budget of {budget} is {wanted} layers, and it cut {gone}")
            return
        wanted, gone = budget.parameter_count(view), self.removed[-1]
        law = f"a budget of {budget} is {wanted} parameters, and it cut {gone}"
        require(gone >= wanted, self.selector, law)
        before = self.removed[max(0, len(self.removed) - 1 - at_once)]
        require(before < wanted, self.selector, f"{law}, when {before} were gone and enough some cuts earlier")

    def check_veto(self, budget: Budget) -> None:
        """Nothing is ever applied: the selector must come to an end, or say that the budget cannot be met."""
        with _state(self.objective) as state:
            cuts = self.selector.select(state, budget)
            for _ in range(LAYERS * LAYERS):
                try:
                    cut = next(cuts, None)
                except InvalidConfig:
                    return
                if cut is None:
                    return
                self._check_cut(state.model, cut, ())
                state.vetoed.append(cut)
        fail(self.selector, "it goes on for ever when every cut is vetoed")

    def check_impossible(self, protected: int, early: bool) -> None:
        """More than all that is not protected."""
        for layers in (LAYERS - protected + 1, LAYERS) if protected else (LAYERS,):
            when = "before the first cut" if early else "in the end"
            law = f"{layers} layers of {LAYERS}, {protected} of them protected, must be refused {when}"
            action = partial(self._first_cut if early else self.run, Budget(layers=layers))
            raises(InvalidConfig, action, self.selector, law)

    def check_need(self, budget: Budget, early: bool) -> None:
        """Without the objective that it needs."""
        without = _Trial(self.selector, None)
        law = "it says that it needs an objective, so without one it must refuse to work"
        raises(InvalidConfig, partial(without._first_cut if early else without.run, budget), self.selector, law)

    def _first_cut(self, budget: Budget) -> Cut:
        with _state(self.objective) as state:
            return next(self.selector.select(state, budget))


@contextmanager
def _state(objective: Objective | None) -> Iterator[PruningState]:
    view = tiny_view(num_hidden_layers=LAYERS, seed=5)
    tokens = tiny_tokens(rows=5, seq=9, seed=6, padding="both")
    state = PruningState(view, tokens, merger=Bare(), objective=objective, tokens_per_batch=18)
    try:
        yield state
    finally:
        state.close()


@attrs.frozen
class Bare(Merger):
    """Makes cuts and repairs nothing."""

    def check_site(self, view: ModelView, site: RepairSite) -> None:
        raise CannotMerge("Nothing is repaired here.")

    def put(self, view: ModelView, site: RepairSite, linear_map: LinearMap) -> None:
        raise CannotMerge("Nothing is repaired here.")
