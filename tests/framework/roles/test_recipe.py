"""Recipe: a value that makes pruners, and how recipes are found by name."""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent
from typing import Any

import attrs
import pytest
from tests.framework.plugins.plugin_files import install

import billhook
from billhook import Budget, CacheBudget, Pruner, Recipe, Registry, default_registry, hookimpl
from billhook.errors import AmbiguousStrategy, InvalidConfig, PluginError, UnknownStrategy
from billhook.roles.role import ROLES
from billhook.testing import tiny_model, tiny_tokens
from billhook_strategies.estimators.identity import Identity
from billhook_strategies.estimators.ridge import Ridge
from billhook_strategies.mergers.fold import Fold
from billhook_strategies.objectives.perplexity import Perplexity
from billhook_strategies.selectors.fixed_windows import FixedWindows

MINE = Recipe(
    name="mine",
    summary="the second layer",
    selector=FixedWindows(spans=((1, 2),)),
    estimator=Identity(),
    merger=Fold(),
)

PLUGIN = """
    import attrs
    from billhook import default_registry, hookimpl

    @hookimpl
    def billhook_register_recipes(register):
        register({offer})
"""
LIKE_SLEB = "attrs.evolve(default_registry().recipe('billhook:sleb'), name={!r})"


def offering(name: str) -> str:
    """A plugin that offers SLEB under another name."""
    return dedent(PLUGIN).format(offer=LIKE_SLEB.format(name))


def registry_of(site: Path, monkeypatch: pytest.MonkeyPatch, **distributions: dict[str, str]) -> Registry:
    monkeypatch.syspath_prepend(site)
    entries = [entry for name, modules in distributions.items() for entry in install(site, name, modules)]
    return Registry.from_entry_points(entries)


# --- the value ---------------------------------------------------------------------------------------------------


def test_a_pruner_has_the_strategies_of_its_recipe() -> None:
    pruner = Pruner.following(MINE)
    assert [getattr(pruner, role) for role in ROLES] == [MINE.selector, MINE.estimator, MINE.merger, None]


def test_a_pruner_takes_all_other_options_as_well() -> None:
    cache = CacheBudget(device=0, host=0)
    pruner = Pruner.following(MINE, cache=cache, tokens_per_batch=24, journal="somewhere")
    assert (pruner.cache, pruner.tokens_per_batch, pruner.journal) == (cache, 24, Path("somewhere"))


def test_a_strategy_that_is_given_takes_the_place_of_the_recipes_own() -> None:
    pruner = Pruner.following(MINE, estimator=Ridge(), objective="perplexity")
    assert (pruner.selector, pruner.estimator, pruner.objective) == (MINE.selector, Ridge(), "perplexity")


def test_a_recipe_prunes() -> None:
    result = Pruner.following(MINE).prune(tiny_model(), calibration=tiny_tokens(), budget=Budget(layers=1))
    assert [str(cut) for cut in result.plan.cuts] == ["layers 1:2"]


def test_recipes_of_the_same_parts_are_equal() -> None:
    assert attrs.evolve(MINE) == MINE
    assert attrs.evolve(MINE, estimator=Ridge()) != MINE


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"selector": "cosine"}, "The selector of the recipe 'mine' must be an object of the class Selector; got 'cos"),
        ({"estimator": Ridge}, "The estimator of the recipe 'mine' must be an object of the class Estimator"),
        ({"merger": None}, "The merger of the recipe 'mine' must be an object of the class Merger; got None"),
        ({"objective": Ridge()}, "The objective of the recipe 'mine' must be an object of the class Objective"),
        ({"arxiv": "https://arxiv.org/abs/2402.09025"}, "The 'arxiv' of a recipe is a number such as 2505.02819"),
    ],
)
def test_a_recipe_of_wrong_parts_is_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidConfig, match=said):
        attrs.evolve(MINE, **changes)


def test_an_objective_may_be_given_or_left_open() -> None:
    assert Pruner.following(attrs.evolve(MINE, objective=Perplexity())).objective == Perplexity()
    assert Pruner.following(MINE).objective is None


# --- by name -----------------------------------------------------------------------------------------------------


def test_a_recipe_is_found_by_its_short_and_its_qualified_name() -> None:
    assert billhook.recipe("sleb") is billhook.recipe("billhook:sleb")
    assert billhook.recipe("sleb").name == "sleb"


def test_recipes_are_listed_by_qualified_name_in_order() -> None:
    recipes = default_registry().recipes()
    assert list(recipes) == sorted(recipes)
    assert all(default_registry().recipe(name) is recipe for name, recipe in recipes.items())
    assert recipes["billhook:uidl"].name == "uidl"


def test_an_unknown_recipe_is_answered_with_the_nearest_and_all_known_ones() -> None:
    with pytest.raises(UnknownStrategy, match=r"'multiprune'. Did you mean 'multipruner'\? Known: billhook, blockp"):
        billhook.recipe("multiprune")
    with pytest.raises(UnknownStrategy, match=r"'bilhook:sleb'. Did you mean 'billhook:sleb'\?"):
        billhook.recipe("bilhook:sleb")


def test_a_strangers_recipe_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    registry = registry_of(tmp_path, monkeypatch, theirs={"a": offering("their-own")})
    assert list(registry.recipes()) == ["theirs:their-own"]
    assert registry.recipe("their-own") is registry.recipe("theirs:their-own")


def test_a_name_offered_twice_is_an_error_that_names_both_and_the_way_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry = registry_of(tmp_path, monkeypatch, one={"a": offering("same")}, two={"b": offering("same")})
    with pytest.raises(AmbiguousStrategy, match=r"recipe name 'same' is offered by one, two\. Write one:same or two"):
        registry.recipe("same")
    assert registry.recipe("two:same").name == "same"


@pytest.mark.parametrize(
    ("offer", "said"),
    [
        ("'sleb'", "theirs offers 'sleb' as a recipe, which is no Recipe instance"),
        (LIKE_SLEB.format("My Recipe"), "theirs offers the recipe 'My Recipe'. Names are lower-case words joined by"),
    ],
)
def test_a_bad_offer_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, offer: str, said: str) -> None:
    registry = registry_of(tmp_path, monkeypatch, theirs={"a": dedent(PLUGIN).format(offer=offer)})
    with pytest.raises(PluginError, match=said):
        registry.recipes()


def test_one_distribution_offering_a_name_twice_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    registry = registry_of(tmp_path, monkeypatch, theirs={"a": offering("same"), "b": offering("same")})
    with pytest.raises(PluginError, match="theirs offers two recipes named 'same'"):
        registry.recipe("same")


def test_an_object_may_offer_recipes_to_one_registry() -> None:
    class Offering:
        @hookimpl
        def billhook_register_recipes(self, register: Any) -> None:
            register(MINE)

    assert default_registry().extended([Offering()]).recipe("mine") is MINE
