"""check_selector: what every selector promises."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial

import attrs

from billhook.budget import Budget
from billhook.cut import Cut
from billhook.drop_layers import DropLayers
from billhook.errors import InvalidConfig, InvalidCut
from billhook.linear_map import LinearMap
from billhook.merger import Merger
from billhook.model_view import ModelView
from billhook.objective import Objective
from billhook.registry import Registry
from billhook.selector import Selector
from billhook.state import PruningState
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
    objective: Objective | None = None,
    registry: Registry | None = None,
) -> None:
    """Raise AssertionError unless ``selector`` keeps the promises of :class:`billhook.Selector`.

    It is tried on Llama models of 8 tiny layers, on padded tokens.

    Args:
        selector: what to check; its options as they are.
        budgets: how much it is asked to remove.
        protected: layers that it must never touch.
        meets_budget: False for one that ignores the budget by design.
        objective: for selectors that search; they find it in the state.
        registry: where its name is looked up for the round trip of its options; all installed plugins if None.
    """
    for budget in budgets:
        cuts = _run(selector, budget, objective)
        gone = _removed(selector, cuts)
        require(bool(cuts), selector, f"a budget of {budget} gave no cut")
        require(not gone & set(protected), selector, f"it cut protected layers {sorted(gone & set(protected))}")
        if meets_budget:
            _check_budget(selector, budget, gone)
        require(_run(selector, budget, objective) == cuts, selector, "the same state gave two different answers")
    _check_veto(selector, budgets[0], objective)
    if meets_budget:
        _check_impossible(selector, len(protected), objective)
    check_options("selector", selector, registry)


def _run(selector: Selector, budget: Budget, objective: Objective | None) -> list[Cut]:
    """Select and cut in turns, as a Pruner does, looking for changes in between."""
    with _state(objective) as state:
        cuts = selector.select(state, budget)
        while (cut := _next_untouched(selector, state, cuts)) is not None:
            _check_cut(selector, state.model, cut)
            state.merger.merge(state.model, cut, None)
            state.record(cut)
        return state.cuts


def _next_untouched(selector: Selector, state: PruningState, cuts: Iterator[Cut]) -> Cut | None:
    before = [Snapshot(state.dense), Snapshot(state.model)]
    model, done = state.model, list(state.cuts)
    cut = next(cuts, None)
    require(state.model is model and state.cuts == done, selector, "it changed the state; trials must be left again")
    for snapshot in before:
        snapshot.require_same(selector, "a selector changes no model")
    return cut


def _check_cut(selector: Selector, view: ModelView, cut: object) -> None:
    if not isinstance(cut, Cut):
        fail(selector, f"it yielded a {type(cut).__name__}, which is no Cut")
    try:
        cut.check(view)
    except InvalidCut as error:
        raise AssertionError(
            f"{selector!r} breaks its contract: it yielded a cut that cannot be made: {error}"
        ) from error


def _removed(selector: Selector, cuts: Sequence[Cut]) -> set[int]:
    """Layers that go wholly."""
    return {number for cut in cuts if isinstance(cut, DropLayers) for number in cut.layers}


def _check_budget(selector: Selector, budget: Budget, gone: set[int]) -> None:
    wanted = budget.layer_count(tiny_view(num_hidden_layers=LAYERS))
    law = f"a budget of {budget} is {wanted} layers, and it cut {len(gone)}: {sorted(gone)}"
    require(len(gone) == wanted, selector, law)


def _check_veto(selector: Selector, budget: Budget, objective: Objective | None) -> None:
    """Nothing is ever applied: the selector must come to an end."""
    with _state(objective) as state:
        cuts = selector.select(state, budget)
        for _ in range(LAYERS * LAYERS):
            cut = next(cuts, None)
            if cut is None:
                return
            _check_cut(selector, state.model, cut)
            state.vetoed.append(cut)
    fail(selector, "it goes on for ever when every cut is vetoed")


def _check_impossible(selector: Selector, protected: int, objective: Objective | None) -> None:
    for layers in (LAYERS - protected + 1, LAYERS) if protected else (LAYERS,):
        with _state(objective) as state:
            law = f"{layers} layers of {LAYERS}, {protected} of them protected, must be refused before the first cut"
            raises(InvalidConfig, partial(_first_cut, selector, state, Budget(layers=layers)), selector, law)


def _first_cut(selector: Selector, state: PruningState, budget: Budget) -> Cut:
    return next(selector.select(state, budget))


@contextmanager
def _state(objective: Objective | None) -> Iterator[PruningState]:
    view = tiny_view(num_hidden_layers=LAYERS, seed=5)
    tokens = tiny_tokens(rows=5, seq=9, seed=6, padding="both")
    state = PruningState(view, tokens, merger=_Drop(), objective=objective, tokens_per_batch=18)
    try:
        yield state
    finally:
        state.close()


@attrs.frozen
class _Drop(Merger):
    """Makes cuts and repairs nothing."""

    def check(self, view: ModelView, cut: Cut) -> None:
        cut.check(view)

    def merge(self, view: ModelView, cut: Cut, linear_map: LinearMap | None) -> None:
        cut.check(view)
        cut.remove_from(view)
