"""check_recipe: what every recipe promises."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cached_property

import attrs
import torch

from billhook.plans.budget import Budget
from billhook.plans.plan import Plan
from billhook.plugins.registry import Registry, default_registry
from billhook.pruning.applying import apply
from billhook.pruning.pruner import Pruner
from billhook.results.result import PruneResult
from billhook.roles.recipe import Recipe
from billhook.roles.role import ROLES
from billhook.testing.conformance.expect import check_frozen, check_options, require
from billhook.testing.conformance.law import Law, Promise, keep, suite
from billhook.testing.samples.models import tiny_model, tiny_tokens

NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")

BUDGET = Budget(parameters=0.15)
"""What a recipe removes from a tiny model of 6 layers."""


def check_recipe(
    recipe: Recipe | str,
    *,
    family: str = "llama",
    registry: Registry | None = None,
    expected_failures: Mapping[str, str] | None = None,
) -> None:
    """Raise AssertionError unless ``recipe`` can be followed, and its plans made again.

    Args:
        recipe: what to check, or its name.
        family: the model type of the tiny model that is pruned.
        registry: where its strategies are looked up; all installed plugins if None.
        expected_failures: by the name of a law, why it is known not to hold; such laws must fail.
    """
    keep(recipe_laws(recipe, family=family, registry=registry, expected_failures=expected_failures))


def recipe_laws(
    recipe: Recipe | str,
    *,
    family: str = "llama",
    registry: Registry | None = None,
    expected_failures: Mapping[str, str] | None = None,
) -> list[Law]:
    """What :func:`check_recipe` tests, each law for itself; arguments as there."""
    known = default_registry() if registry is None else registry
    given = known.recipe(recipe) if isinstance(recipe, str) else recipe
    trial = _Trial(given, family, known)
    promises: list[Promise] = [
        ("name", "a recipe has a name of lower-case words joined by '-' and a summary in one line", trial.name),
        ("frozen", "its strategies are frozen attrs objects", trial.frozen),
        ("registered", "its strategies are registered by name, or a plan cannot build them again", trial.registered),
        ("options", "the options of its strategies survive JSON", trial.options),
        ("prunes", "it prunes a tiny model by what it is asked to: its strategies go together", trial.prunes),
        ("deterministic", "twice followed, it gives the same plan and weights", trial.deterministic),
        ("again", "its plan, read from JSON, makes the same model again", trial.again),
    ]
    return suite(_Named(given), promises, expected_failures)


@attrs.frozen(repr=False)
class _Named:
    """A recipe in messages."""

    recipe: Recipe

    def __repr__(self) -> str:
        return f"Recipe {self.recipe.name!r}"


class _Trial:
    """A recipe that is followed."""

    def __init__(self, recipe: Recipe, family: str, registry: Registry) -> None:
        self.recipe = recipe
        self.registry = registry
        self.who = _Named(recipe)
        self.model = tiny_model(family, num_hidden_layers=6)
        self.tokens = tiny_tokens(rows=24, padding="both")

    @cached_property
    def result(self) -> PruneResult:
        return self._follow()

    def _follow(self) -> PruneResult:
        pruner = Pruner.following(self.recipe, registry=self.registry)
        return pruner.prune(self.model, calibration=self.tokens, budget=BUDGET)

    def name(self) -> None:
        named = isinstance(self.recipe.name, str) and NAME.fullmatch(self.recipe.name)
        require(bool(named), self.who, f"names are lower-case words joined by '-'; got {self.recipe.name!r}")
        told = bool(self.recipe.summary.strip()) and "\n" not in self.recipe.summary
        require(told, self.who, f"a summary is one line; got {self.recipe.summary!r}")

    def frozen(self) -> None:
        for role in ROLES:
            strategy = self.recipe.strategy(role)
            if strategy is not None:
                check_frozen(strategy)

    def registered(self) -> None:
        for role in ROLES:
            strategy = self.recipe.strategy(role)
            if strategy is not None:
                unknown = self.registry.spec(role, strategy).name.startswith("(")
                require(not unknown, self.who, f"its {role} {strategy!r} is registered under no name")

    def options(self) -> None:
        for role in ROLES:
            strategy = self.recipe.strategy(role)
            if strategy is not None:
                check_options(role, strategy, self.registry)

    def prunes(self) -> None:
        metrics = self.result.metrics
        gone = metrics["parameters_before"] - metrics["parameters_after"]
        require(bool(self.result.plan.cuts), self.who, f"asked for {BUDGET} it cut nothing")
        require(gone > 0, self.who, f"asked for {BUDGET} it made the model larger by {-gone:.0f} parameters")
        finite = all(bool(torch.isfinite(p).all()) for p in self.result.model.parameters())
        require(finite, self.who, "it left weights that are not finite")

    def deterministic(self) -> None:
        again = self._follow()
        require(again.plan == self.result.plan, self.who, "followed twice, it gave two plans")
        self._require_same(again, "followed twice, it gave two models")

    def again(self) -> None:
        plan = Plan.from_json(self.result.plan.to_json())
        require(plan == self.result.plan, self.who, "its plan is another after JSON")
        pruner = Pruner.following(self.recipe, registry=self.registry)
        again = apply(plan, self.model, calibration=self.tokens, pruner=pruner)
        self._require_same(again, "its plan, applied, makes another model")

    def _require_same(self, again: PruneResult, law: str) -> None:
        ours, theirs = self.result.model.state_dict(), again.model.state_dict()
        same = ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)
        require(same, self.who, law)
