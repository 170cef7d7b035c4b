"""check_selector: what every selector promises."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property, partial
from typing import cast

import torch

from billhook.cuts.drop_layers import DropLayers
from billhook.errors import BillhookError, InvalidConfig
from billhook.plans.budget import Budget
from billhook.plugins.registry import Registry, default_registry
from billhook.roles.objective import Objective
from billhook.roles.selector import Selector
from billhook.testing.conformance.expect import check_frozen, check_options, fail, raises, require
from billhook.testing.conformance.law import Law, Promise, keep, suite
from billhook.testing.conformance.selector_run import LAYERS, Ground, Run, ground, run
from billhook.testing.conformance.work import count_operations

OTHER = 5
"""Layers of models of another size."""

FEW, SOME = 2, 4
"""Cuts that are asked for where a difference would show in the first ones."""

SAME_SHARE = 0.25
"""Of two models alike but for their weights the second takes at least this share of the first one's work."""

BUDGETS = (
    Budget(layers=1),
    Budget(layers=4),
    Budget(parameters=0.25),
    Budget(parameters=0.25, of="backbone"),
    Budget(bytes=30_000),
)
"""They mean 1, 4, 3, 2 and 4 layers of the tiny model."""


def check_selector(
    selector: Selector,
    *,
    budgets: Sequence[Budget] = BUDGETS,
    protected: Sequence[int] = (0, LAYERS - 1),
    meets_budget: bool = True,
    at_once: int = 1,
    refuses_early: bool = True,
    objective: Objective | None = None,
    families: Sequence[str] = ("gpt2",),
    registry: Registry | None = None,
    expected_failures: Mapping[str, str] | None = None,
) -> None:
    """Raise AssertionError unless ``selector`` keeps the promises of :class:`billhook.Selector`.

    It is tried on Llama models of 8 tiny layers, on padded tokens; then on other sizes and families. A selector of
    whole layers must drop exactly as many as the budget means; any other goes on until as many parameters are gone, and
    no further.

    Args:
        selector: what to check; its options as they are.
        budgets: how much it is asked to remove.
        protected: layers that it must never touch.
        meets_budget: False for one that ignores the budget by design.
        at_once: cuts that it makes before it looks at the budget again.
        refuses_early: False for one that cannot tell before the first cut that it cannot do what is asked.
        objective: for selectors that search; perplexity if they need one and None is given.
        families: model types beside Llama that it must work on, or refuse with InvalidConfig.
        registry: where its name is looked up for the round trip of its options; all installed plugins if None.
        expected_failures: by the name of a law, why it is known not to hold; such laws must fail.
    """
    keep(
        selector_laws(
            selector,
            budgets=budgets,
            protected=protected,
            meets_budget=meets_budget,
            at_once=at_once,
            refuses_early=refuses_early,
            objective=objective,
            families=families,
            registry=registry,
            expected_failures=expected_failures,
        )
    )


def selector_laws(
    selector: Selector,
    *,
    budgets: Sequence[Budget] = BUDGETS,
    protected: Sequence[int] = (0, LAYERS - 1),
    meets_budget: bool = True,
    at_once: int = 1,
    refuses_early: bool = True,
    objective: Objective | None = None,
    families: Sequence[str] = ("gpt2",),
    registry: Registry | None = None,
    expected_failures: Mapping[str, str] | None = None,
) -> list[Law]:
    """What :func:`check_selector` tests, each law for itself; arguments as there."""
    given = objective or _default_objective(selector, registry)
    trial = _Trial(selector, given, tuple(budgets), tuple(protected), at_once, refuses_early)
    early = "before the first cut" if refuses_early else "in the end"
    promises: list[Promise] = [
        ("frozen", "a selector is a final, frozen attrs class", partial(check_frozen, selector)),
        ("options", "options survive JSON", partial(check_options, "selector", selector, registry)),
        ("kinds", "kinds() names the kinds of cut, each a class", trial.kinds),
        ("fresh", "what is worked out for one model is not kept for the next", trial.fresh),
        ("untouched", "reads the state and changes nothing: no weight, mode, hook, flag or token", trial.untouched),
        ("cuts", "yields cuts that the present model can lose, of kinds that kinds() names", trial.cuts),
        ("protected", "protected layers stay whole", trial.protects),
        ("process", "nothing that the whole process shares is changed", trial.process),
        ("deterministic", "same state, budget and options, same cuts", trial.deterministic),
        ("vetoes", "comes to an end, or raises InvalidConfig, if every cut is vetoed", trial.vetoes),
        ("padding", "ids under padding do not count: look at tokens.keep", trial.padding),
        ("ties", "of equal ones the lower layer goes", trial.ties),
        ("sizes", "works on models of any number of layers, or refuses with an error of billhook", trial.sizes),
        *(
            (
                f"family-{family}",
                "works on every family, or refuses with an error of billhook",
                partial(trial.family, family),
            )
            for family in families
        ),
    ]
    if meets_budget:
        promises += [
            (f"budget-{budget}".replace(" ", "-"), "the budget is met, and no further", partial(trial.budget, budget))
            for budget in trial.budgets
        ]
        promises.append(("impossible", f"what cannot be met raises InvalidConfig {early}", trial.impossible))
    if selector.needs_objective():
        promises.append(("objective", "without the objective that it needs, InvalidConfig is due", trial.objective_due))
    return suite(selector, promises, expected_failures)


def _default_objective(selector: Selector, registry: Registry | None) -> Objective | None:
    if not selector.needs_objective():
        return None
    return cast(Objective, (registry or default_registry()).create("objective", "billhook:perplexity"))


class _Trial:
    """A selector at work on several grounds. What one law has found out the next does not ask again."""

    def __init__(
        self,
        selector: Selector,
        objective: Objective | None,
        budgets: tuple[Budget, ...],
        protected: tuple[int, ...],
        at_once: int,
        early: bool,
    ) -> None:
        self.selector = selector
        self.objective = objective
        self.budgets = budgets
        self.protected = protected
        self.at_once = at_once
        self.early = early
        self._runs: dict[Budget, Run] = {}

    def run(self, budget: Budget) -> Run:
        """On the usual ground, once for each budget."""
        if budget not in self._runs:
            self._runs[budget] = run(self.selector, self.ground, budget, self.objective)
        return self._runs[budget]

    @cached_property
    def ground(self) -> Ground:
        return ground()

    def _require_none(self, what: str) -> None:
        for budget in self.budgets:
            for finding in self.run(budget).findings.get(what, ()):
                fail(self.selector, finding)

    def _sound(self, budget: Budget) -> Run:
        found = self.run(budget)
        if found.error is not None:
            raise found.error
        return found

    def kinds(self) -> None:
        kinds = self.selector.kinds()
        law = f"kinds() is a tuple of Cut classes; got {kinds!r}"
        require(
            isinstance(kinds, tuple) and bool(kinds) and all(isinstance(k, type) for k in kinds), self.selector, law
        )

    def cuts(self) -> None:
        for budget in self.budgets:
            for finding in self.run(budget).findings.get("cuts", ()):
                fail(self.selector, finding)
            require(bool(self._sound(budget).cuts), self.selector, f"a budget of {budget} gave no cut")

    def protects(self) -> None:
        for budget in self.budgets:
            touched = sorted(self.run(budget).touched & {*self.protected})
            require(not touched, self.selector, f"it cut protected layers {touched}")

    def untouched(self) -> None:
        self._require_none("untouched")

    def process(self) -> None:
        self._require_none("process")

    def deterministic(self) -> None:
        budget = self.budgets[0]
        first = self.run(budget)
        torch.manual_seed(1)
        again = run(self.selector, self.ground, budget, self.objective, watched=False)
        require(again.cuts == first.cuts, self.selector, "the same state gave two different answers")

    def budget(self, budget: Budget) -> None:
        """As many layers as the budget means; or as many parameters, and not without the last cuts."""
        found, view = self.run(budget), self.ground.view
        if found.findings.get("cuts"):
            fail(self.selector, found.findings["cuts"][0])
        self._sound(budget)
        if self.selector.kinds() == (DropLayers,):
            wanted, gone = budget.layer_count(view), found.removed[-1] * LAYERS // view.layer_parameter_count
            require(gone == wanted, self.selector, f"a budget of {budget} is {wanted} layers, and it cut {gone}")
            return
        wanted, gone = budget.parameter_count(view), found.removed[-1]
        law = f"a budget of {budget} is {wanted} parameters, and it cut {gone}"
        require(gone >= wanted, self.selector, law)
        before = found.removed[max(0, len(found.removed) - 1 - self.at_once)]
        require(before < wanted, self.selector, f"{law}, when {before} were gone and enough some cuts earlier")

    def vetoes(self) -> None:
        """Nothing is ever applied: the selector must come to an end, or say that the budget cannot be met."""
        with self.ground.state(self.objective) as state:
            cuts = self.selector.select(state, self.budgets[0])
            for _ in range(LAYERS * LAYERS):
                try:
                    cut = next(cuts, None)
                except InvalidConfig:
                    return
                if cut is None:
                    return
                state.vetoed.append(cut)
        fail(self.selector, "it goes on for ever when every cut is vetoed")

    def impossible(self) -> None:
        """More than all that is not protected."""
        protected = len(self.protected)
        for layers in (LAYERS - protected + 1, LAYERS) if protected else (LAYERS,):
            when = "before the first cut" if self.early else "in the end"
            law = f"{layers} layers of {LAYERS}, {protected} of them protected, must be refused {when}"
            raises(InvalidConfig, partial(self._refusal, Budget(layers=layers)), self.selector, law)

    def objective_due(self) -> None:
        law = "it says that it needs an objective, so without one it must refuse to work"
        raises(InvalidConfig, partial(self._refusal, self.budgets[0], without=True), self.selector, law)

    def _refusal(self, budget: Budget, *, without: bool = False) -> None:
        """The first cut if refusals are due early, else all."""
        found = run(
            self.selector,
            self.ground,
            budget,
            None if without else self.objective,
            watched=False,
            most=1 if self.early else None,
        )
        if found.error is not None:
            raise found.error

    def padding(self) -> None:
        budget = self.budgets[min(1, len(self.budgets) - 1)]
        other = run(self.selector, ground(under_padding=7), budget, self.objective, watched=False, most=SOME)
        law = "other ids under the padding gave other cuts"
        require(other.cuts == self.run(budget).cuts[:SOME], self.selector, law)

    def fresh(self) -> None:
        budget = self.budgets[0]
        spent = []
        for seed in (105, 106):
            elsewhere = ground(seed=seed, layers=OTHER)
            with count_operations() as counted, elsewhere.state(self.objective) as state:
                counted.clear()
                try:
                    next(self.selector.select(state, budget), None)
                except BillhookError:
                    return
                spent.append(len(counted))
        law = f"of a model with other weights it looked at next to nothing, {spent[1]} operations after {spent[0]}"
        require(spent[1] >= SAME_SHARE * spent[0], self.selector, law)

    def ties(self) -> None:
        """For one that goes after useless layers, wherever one is: of two, the lower."""
        low, high = LAYERS // 2 - 1, LAYERS // 2  # neighbours: the same stream enters both, so figures tie exactly
        alone = [self._first_layer(useless=(layer,)) for layer in (low, high)]
        if alone != [low, high]:
            return  # it does not choose by what layers do, or not at first
        found = self._first_layer(useless=(low, high))
        require(found == low, self.selector, f"of layers {low} and {high}, which both do nothing, it cut {found} first")

    def _first_layer(self, useless: tuple[int, ...]) -> int | None:
        found = run(self.selector, ground(useless=useless), self.budgets[0], self.objective, watched=False, most=1)
        return min(found.touched) if found.touched else None

    def sizes(self) -> None:
        self._elsewhere("llama", layers=OTHER)

    def family(self, family: str) -> None:
        self._elsewhere(family, layers=LAYERS)

    def _elsewhere(self, family: str, layers: int) -> None:
        there = ground(family, layers=layers)
        found = run(self.selector, there, self.budgets[0], self.objective, most=FEW)
        where = f"on {family} of {layers} layers"
        for finding in (finding for findings in found.findings.values() for finding in findings):
            fail(self.selector, f"{where}: {finding}")
        if isinstance(found.error, BillhookError):
            return
        if found.error is not None:
            said = f"{type(found.error).__name__} was raised: {found.error}"
            raise AssertionError(f"{self.selector!r} breaks its contract: {where} {said}") from found.error
        require(bool(found.cuts), self.selector, f"{where} it gave no cut")
        protected = {number if number < LAYERS // 2 else number - LAYERS + layers for number in self.protected}
        touched = sorted(found.touched & protected)
        require(not touched, self.selector, f"{where} it cut protected layers {touched}")
