"""The suite for selectors catches each way of breaking the contract: here is one selector for each."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any, cast

import attrs
import pytest
import torch

from billhook import Budget, Cut, DropBranch, DropLayers, Objective, PruningState, Selector
from billhook.errors import InvalidConfig
from billhook.search.scoring import score
from billhook.search.search import refuse_hopeless
from billhook.testing import check_selector
from billhook_strategies.objectives.perplexity import Perplexity


@attrs.frozen
class Fine(Selector):
    """Greedy: scores every remaining layer by the objective, drops the cheapest, starts again."""

    def needs_objective(self) -> bool:
        return True

    def select(self, state: PruningState, budget: Budget) -> Iterator[Cut]:
        if state.objective is None:
            raise InvalidConfig("no objective")
        count = budget.layer_count(state.dense)
        if count > len(state.dense.numbers) - 2:
            raise InvalidConfig("too many")
        for _ in range(count):
            free = [n for n in state.model.numbers[1:-1] if DropLayers(n, n + 1) not in state.vetoed]
            if not free:
                return
            yield DropLayers(best := min(free, key=lambda n: self._score(state, n)), best + 1)

    def _score(self, state: PruningState, number: int) -> float:
        assert state.objective is not None
        with state.trial(DropLayers(number, number + 1)):
            return score(state, state.objective)


class Unprotected(Fine):
    """Begins with layer 0."""

    def select(self, state: PruningState, budget: Budget) -> Iterator[Cut]:
        return (DropLayers(n, n + 1) for n in range(budget.layer_count(state.dense)))


class Short(Fine):
    """Stops one layer too early."""

    def select(self, state: PruningState, budget: Budget) -> Iterator[Cut]:
        return itertools.islice(super().select(state, budget), max(1, budget.layer_count(state.dense) - 1))


class Random(Fine):
    """Draws lots."""

    def select(self, state: PruningState, budget: Budget) -> Iterator[Cut]:
        order = [n for n in torch.randperm(len(state.dense.numbers)).tolist() if n not in (0, 7)]
        return (DropLayers(n, n + 1) for n in order[: budget.layer_count(state.dense)])


class Repetitive(Fine):
    """Asks for layers that are gone."""

    def select(self, state: PruningState, budget: Budget) -> Iterator[Cut]:
        return (DropLayers(3, 4) for _ in range(budget.layer_count(state.dense)))


class Meddling(Fine):
    """Cuts by itself."""

    def select(self, state: PruningState, budget: Budget) -> Iterator[Cut]:
        for cut in super().select(state, budget):
            state.model.drop_layers([6])
            yield cut


class Rough(Fine):
    """Writes into a weight that both models share."""

    def select(self, state: PruningState, budget: Budget) -> Iterator[Cut]:
        with torch.no_grad():
            next(state.dense.layer(2).parameters()).add_(1)
        yield from super().select(state, budget)


class Stubborn(Fine):
    """Proposes the same until it gets it."""

    def select(self, state: PruningState, budget: Budget) -> Iterator[Cut]:
        for cut in super().select(state, budget):
            while cut not in state.cuts:
                yield cut


class Boundless(Fine):
    """Takes what it can where the budget cannot be met."""

    def select(self, state: PruningState, budget: Budget) -> Iterator[Cut]:
        return (DropLayers(n, n + 1) for n in range(1, 1 + min(6, budget.layers or budget.layer_count(state.dense))))


class Vague(Fine):
    """Yields numbers."""

    def select(self, state: PruningState, budget: Budget) -> Iterator[Cut]:
        return (cast(Cut, cut.start) for cut in super().select(state, budget) if isinstance(cut, DropLayers))


class Trusting(Fine):
    """Does without the objective that it says it needs."""

    def select(self, state: PruningState, budget: Budget) -> Iterator[Cut]:
        layers = range(1, 1 + budget.layer_count(state.dense))
        if 7 in layers:
            raise InvalidConfig("too many")
        return (DropLayers(n, n + 1) for n in layers)


class Undeclared(Fine):
    """Yields what it has not announced."""

    def select(self, state: PruningState, budget: Budget) -> Iterator[Cut]:
        return iter([DropBranch(3, "mlp")])


@attrs.frozen
class FineBranches(Selector):
    """MLP after MLP, in layer order."""

    def kinds(self) -> tuple[type[Cut], ...]:
        return (DropBranch,)

    def select(self, state: PruningState, budget: Budget) -> Iterator[Cut]:
        target = budget.parameter_count(state.dense)
        refuse_hopeless(state, target, state.dense.layer_parameter_count // 2)
        for number in state.dense.numbers[1:-1]:
            if state.removed_parameters < target:
                yield DropBranch(number, "mlp")


@attrs.frozen
class Greedy(FineBranches):
    """Takes one more than it may."""

    def select(self, state: PruningState, budget: Budget) -> Iterator[Cut]:
        yield from super().select(state, budget)
        yield DropBranch(7, "attention")


@attrs.frozen
class Modest(FineBranches):
    """Leaves one that it should take."""

    def select(self, state: PruningState, budget: Budget) -> Iterator[Cut]:
        target = budget.parameter_count(state.dense)
        for cut in super().select(state, budget):
            if state.removed_parameters < target / 2:
                yield cut


@attrs.frozen
class Late(FineBranches):
    """Notices too late that there is not enough."""

    def select(self, state: PruningState, budget: Budget) -> Iterator[Cut]:
        target = budget.parameter_count(state.dense)
        for number in state.dense.numbers[1:-1]:
            if state.removed_parameters < target:
                yield DropBranch(number, "mlp")
        if state.removed_parameters < target:
            raise InvalidConfig("too little")


BROKEN: dict[type[Selector], str] = {
    Unprotected: r"it cut protected layers \[0\]",
    Short: r"a budget of 4 layers is 4 layers, and it cut 3",
    Random: "the same state gave two different answers",
    Repetitive: r"a cut that cannot be made: layers 3:4 cannot be dropped: layers \[3\] are not there",
    Meddling: r"a selector changes no model: layers \(0, 1, 2, 3, 4, 5, 6, 7\) became",
    Rough: "a selector changes no model: weights .* have changed",
    Stubborn: "goes on for ever when every cut is vetoed",
    Boundless: "must be refused before the first cut; nothing was raised",
    Vague: "yielded a int, which is no Cut",
    Trusting: "without one it must refuse to work; nothing was raised",
    Undeclared: r"it yielded a DropBranch, and kinds\(\) names only DropLayers",
    Greedy: "parameters, and it cut .* when .* were gone and enough some cuts earlier",
    Modest: r"a budget of .* is \d+ parameters, and it cut \d+",
    Late: "8 layers of 8, 0 of them protected, must be refused before the first cut; nothing was raised",
}

OBJECTIVE: Objective = Perplexity()


def test_a_greedy_search_with_trials_passes() -> None:
    check_selector(Fine(), objective=OBJECTIVE, budgets=[Budget(layers=2)])


def test_perplexity_is_searched_by_unless_told() -> None:
    check_selector(Fine(), budgets=[Budget(layers=1)])


BRANCH_BUDGETS = (Budget(parameters=0.05), Budget(parameters=0.3), Budget(layers=1))


def test_a_selector_of_branches_passes() -> None:
    check_selector(FineBranches(), budgets=BRANCH_BUDGETS, protected=())
    check_selector(FineBranches(), budgets=BRANCH_BUDGETS, protected=(0, 7))


def test_protected_layers_may_not_lose_a_branch_either() -> None:
    with pytest.raises(AssertionError, match=r"it cut protected layers \[1\]"):
        check_selector(FineBranches(), budgets=BRANCH_BUDGETS, protected=(1,))


def test_one_that_refuses_late_by_design_passes_if_that_is_told() -> None:
    check_selector(Late(), budgets=BRANCH_BUDGETS, protected=(), refuses_early=False)


def test_one_that_cuts_several_at_once_by_design_passes_if_that_is_told() -> None:
    check_selector(Greedy(), budgets=[Budget(parameters=0.05)], protected=(), at_once=2, refuses_early=False)


@pytest.mark.parametrize("broken", BROKEN, ids=lambda cls: cls.__name__)
def test_a_broken_selector_is_caught_and_the_law_is_named(broken: type[Selector]) -> None:
    told: dict[str, Any] = {}
    if issubclass(broken, FineBranches):
        told = {"budgets": BRANCH_BUDGETS, "protected": ()}
    with pytest.raises(AssertionError, match=rf"^{broken.__name__}\(\) breaks its contract: .*{BROKEN[broken]}"):
        check_selector(broken(), objective=OBJECTIVE, **told)
