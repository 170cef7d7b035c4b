"""Wrong hooks, recipes and whole plugins, each caught by the law that it breaks."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import Any

import attrs
import pytest
import torch
from tests.framework.testing.mutants.mutant import Mutant, require_caught, sampled

from billhook import Estimator, LinearMap, Recipe, Regression, default_registry, hookimpl
from billhook.errors import InvalidConfig
from billhook.testing import check_hooks, check_plugin, check_recipe
from billhook_strategies.estimators.least_squares import LeastSquares
from billhook_strategies.estimators.orthogonal import Orthogonal
from billhook_strategies.estimators.ridge import Ridge


def plugin(**hooks: Callable[..., Any]) -> Callable[[], object]:
    """An object with these hooks, under their names without the prefix."""
    methods = {f"billhook_{name}": staticmethod(hookimpl(function)) for name, function in hooks.items()}
    return type("Plugin", (), methods)


def unmarked() -> object:
    return type("Plugin", (), {"billhook_before_cut": lambda self, cut: None})()


def raises(cut: Any) -> None:
    _ = cut.start


async def slow(cut: Any) -> None:
    """Nobody waits for it."""


def yields(cut: Any) -> Any:
    yield "a reason"


def drops(state: Any) -> None:
    state.model.drop_layers([state.model.numbers[-1]])


def writes(state: Any) -> None:
    with torch.no_grad():
        next(state.dense.layer(1).parameters()).add_(1)


def writes_after(result: Any) -> None:
    with torch.no_grad():
        next(result.model.parameters()).add_(1)


def writes_into_map(linear_map: Any) -> None:
    if linear_map is not None:
        linear_map.weight.mul_(2)


HOOKS = [
    Mutant("a misspelt hook", plugin(befor_cut=lambda cut: None), "registers", "Did you mean 'billhook_before_cut'"),
    Mutant("an unknown argument", plugin(before_cut=lambda cuts: None), "registers", "cuts"),
    Mutant("not marked", unmarked, "registers", "not marked with @hookimpl"),
    Mutant("no hook", plugin(), "registers|takes-part", "hook"),
    Mutant("async", plugin(before_cut=slow), "registers|runs", "async|await"),
    Mutant("a generator", plugin(before_cut=yields), "registers|runs", "with a yield, so its body would never run"),
    Mutant("a span of every cut", plugin(before_cut=raises), "every-cut", "DropBranch.*makes a hook raise"),
    Mutant("raises", plugin(after_cut=lambda: 1 / 0), "every-cut", "makes a hook raise"),
    Mutant("True", plugin(before_cut=lambda cut: True), "vetoes", "returned True"),
    Mutant("an empty reason", plugin(before_cut=lambda cut: ""), "vetoes", "returned ''"),
    Mutant("a pair", plugin(before_cut=lambda cut: (cut, "no")), "vetoes", "billhook_before_cut .*returned"),
    Mutant("drops a layer", plugin(before_prune=drops), "reads|every-cut|vetoes", "must change no model|raise"),
    Mutant(
        "writes into the model", plugin(after_cut=writes), "reads", "billhook_after_cut must change no model: weights"
    ),
    Mutant("trains", plugin(after_cut=lambda state: state.model.model.train()), "reads", "training mode"),
    Mutant("forgets cuts", plugin(after_cut=lambda state: state.cuts.clear()), "reads", "changed the state's lists"),
    Mutant("clears tokens", plugin(after_calibration=lambda state: state.tokens.ids.zero_()), "reads", "tokens"),
    Mutant("writes into the map", plugin(after_estimate=writes_into_map), "reads", "it wrote into the map"),
    Mutant("seeds", plugin(before_prune=lambda: torch.manual_seed(0)), "process", "torch's random numbers"),
    Mutant("draws", plugin(on_progress=lambda: random.random()), "process", "Python's random numbers"),
    Mutant(
        "writes into the result",
        plugin(after_prune=writes_after),
        "same-model",
        "was written to by billhook_after_prune",
    ),
    Mutant("slow", plugin(on_progress=lambda: time.sleep(0.03)), "quick", "billhook_on_progress took"),
]


@attrs.frozen
class Fine(Estimator):
    strength: float = 0.1

    def estimate(self, regression: Regression) -> LinearMap:
        return Ridge(strength=self.strength).estimate(regression)


@attrs.frozen
class Needy(Estimator):
    strength: float

    def estimate(self, regression: Regression) -> LinearMap:
        return LeastSquares().estimate(regression)


@attrs.frozen
class Picky(Estimator):
    """Is only fitted once."""

    def estimate(self, regression: Regression) -> LinearMap:
        raise InvalidConfig("not today")


def offering(name: str, factory: Callable[..., Estimator]) -> Callable[[], object]:
    return plugin(register_estimators=lambda register: register(name, factory))


def recipe(**changes: Any) -> Callable[[], Recipe]:
    known = default_registry().recipe("replaceme-ls")
    return lambda: attrs.evolve(known, **{"name": "mine", **changes})


def twice(register: Any) -> None:
    register("mine", Fine)
    register("mine", Fine)


def fails(register: Any) -> None:
    raise OSError("no file")


TOLD = {"told": {"mine": {"recovers": None}}}
PLUGINS = [
    Mutant("offers nothing", plugin(register_estimators=lambda register: None), "offers", "offers nothing"),
    Mutant("fails when asked", plugin(register_estimators=fails), "loads", "OSError: no file"),
    Mutant("one name twice", plugin(register_estimators=twice), "loads", "two estimators named 'mine'"),
    Mutant("no name", offering("My Estimator", Fine), "loads", "lower-case words joined by '-'"),
    Mutant(
        "another role", plugin(register_mergers=lambda register: register("mine", Fine)), "loads", "no Merger class"
    ),
    Mutant("a built-in's name", offering("ridge", Fine), "names", "offered by .*billhook:ridge.* as well"),
    Mutant(
        "a recipe's name", plugin(register_recipes=lambda register: register(recipe(name="uidl")())), "names", "uidl"
    ),
    Mutant(
        "a family twice",
        plugin(register_adapters=lambda register: register(default_registry().adapter_for("llama"))),
        "names",
        "llama",
    ),
    Mutant(
        "options without defaults", offering("mine", Needy), "builds", "cannot be built: .*give check_plugin options"
    ),
    Mutant("a function", offering("mine", lambda: Fine(strength=0.5)), "builds", "register the class itself", TOLD),
    Mutant("does not conform", offering("mine", Fine), "mine/recovers", "a planted full map is not recovered"),
    Mutant("refuses", offering("mine", Picky), "mine/answer", "InvalidConfig was raised", TOLD),
    Mutant(
        "told of somebody else",
        offering("mine", Fine),
        "told",
        "it offers no yours",
        {"told": {**TOLD["told"], "yours": {}}},
    ),
    Mutant("not installed", lambda: "no-such-plugin", "loads", "no installed plugin has that name"),
    Mutant("wrong hooks", plugin(before_cut=lambda cut: True), "hooks/vetoes", "returned True"),
]

RECIPES = [
    Mutant("no name", recipe(name="My Recipe"), "name", "lower-case words"),
    Mutant("two lines", recipe(summary="one\ntwo"), "name", "a summary is one line"),
    Mutant("not registered", recipe(estimator=Fine()), "registered", "is registered under no name"),
    Mutant(
        "do not go together",
        lambda: attrs.evolve(
            default_registry().recipe("billhook"),
            name="mine",
            estimator=Orthogonal(),
        ),
        "prunes",
        "was raised",
    ),
]


@pytest.mark.parametrize("mutant", sampled(HOOKS))
def test_wrong_hooks_are_caught_by_the_law_that_they_break(mutant: Mutant) -> None:
    require_caught(mutant, check_hooks)


@pytest.mark.parametrize("mutant", sampled(PLUGINS))
def test_a_wrong_plugin_is_caught_by_the_law_that_it_breaks(mutant: Mutant) -> None:
    require_caught(mutant, check_plugin)


@pytest.mark.parametrize("mutant", sampled(RECIPES))
def test_a_wrong_recipe_is_caught_by_the_law_that_it_breaks(mutant: Mutant) -> None:
    require_caught(mutant, check_recipe)


@pytest.mark.parametrize(
    "control",
    [
        plugin(before_cut=lambda state, cut: None, after_cut=lambda report: None)(),
        plugin(before_cut=lambda cut, state: "layer 1 stays" if 1 in cut.changes(state.model) else None)(),
        plugin(on_progress=lambda stage, done, total: None, on_search=lambda progress: None)(),
    ],
    ids=["looks on", "keeps a layer", "progress"],
)
def test_right_hooks_pass(control: object) -> None:
    check_hooks(control)


@pytest.mark.mutants
@pytest.mark.parametrize("name", ["billhook:ridge", "billhook:gpt2"])
def test_plugins_that_are_built_in_pass(name: str) -> None:
    check_plugin(name, told={"ridge": {"recovers": None}} if "ridge" in name else None)


def test_a_plugin_with_options_hooks_and_a_recipe_passes() -> None:
    made = plugin(
        register_estimators=lambda register: register("mine", Needy),
        register_recipes=lambda register: register(recipe(name="ls-again")()),
        after_cut=lambda report: None,
    )
    check_plugin(made(), options={"mine": {"strength": 1.0}})


@pytest.mark.mutants
@pytest.mark.parametrize("name", default_registry().recipes())
def test_every_built_in_recipe_passes(name: str) -> None:
    check_recipe(name)
