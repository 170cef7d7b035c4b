"""Method: what is named, and the default recipe's for the rest."""

from __future__ import annotations

from typing import Any

import pytest

from billhook import Budget, Pruner, Registry, Repair, apply, recipe
from billhook.errors import InvalidConfig, UnknownStrategy
from billhook.pruning.method import DEFAULT_RECIPE
from billhook.testing import tiny_model, tiny_tokens
from billhook_strategies.estimators.identity import Identity
from billhook_strategies.estimators.ridge import Ridge
from billhook_strategies.mergers.fold import Fold
from billhook_strategies.objectives.kl_divergence import KLDivergence
from billhook_strategies.objectives.perplexity import Perplexity
from billhook_strategies.selectors.block_pruner import BlockPruner
from billhook_strategies.selectors.curvature import Curvature
from billhook_strategies.selectors.sleb import Sleb
from billhook_strategies.selectors.window_distance import WindowDistance

OWN = recipe(DEFAULT_RECIPE)
PARTS: dict[str, Any] = {"selector": Sleb(), "estimator": Ridge(strength=3.0), "merger": Fold(), "repair": Repair()}


def test_without_a_word_the_default_recipe_is_followed() -> None:
    method = Pruner().method()
    assert (method.selector, method.estimator, method.merger) == (OWN.selector, OWN.estimator, OWN.merger)
    assert method.repair == OWN.repair
    assert method.objective is None


@pytest.mark.parametrize("part", PARTS)
def test_what_is_given_takes_the_place_of_that_part_alone(part: str) -> None:
    method = Pruner(**{part: PARTS[part]}).method()
    for name in PARTS:
        assert getattr(method, name) == (PARTS[part] if name == part else getattr(OWN, name))


def test_following_a_recipe_by_name_or_as_an_object_is_the_same() -> None:
    by_name, by_object = Pruner.following("replaceme", estimator="identity"), Pruner.following(recipe("replaceme"))
    assert by_name.method().selector == by_object.method().selector == WindowDistance(metric="cosine")
    assert by_name.method().estimator == Identity()
    assert by_object.method().repair == recipe("replaceme").repair


def test_an_unknown_recipe_is_refused_with_the_nearest_one() -> None:
    with pytest.raises(UnknownStrategy, match=r"No recipe is named 'replaceme-sl'\. Did you mean 'replaceme-ls'\?"):
        Pruner.following("replaceme-sl")


@pytest.mark.parametrize(("given", "objective"), [(None, Perplexity()), ("kl", KLDivergence())])
def test_a_search_minimises_perplexity_unless_it_is_told(given: str | None, objective: object) -> None:
    assert Pruner(selector=BlockPruner(), objective=given).method().objective == objective


def test_where_all_is_given_no_recipe_is_asked_for() -> None:
    pruner = Pruner(registry=Registry(), objective=Perplexity(), **PARTS)
    assert pruner.method().selector == Sleb()
    with pytest.raises(UnknownStrategy, match="No recipe is named 'billhook:billhook'"):
        Pruner(registry=Registry()).method()


@pytest.mark.parametrize("options", [{}, {"estimator": "identity"}, {"repair": Repair()}])
def test_layers_are_not_asked_of_the_default_recipe(options: dict[str, Any]) -> None:
    with pytest.raises(
        InvalidConfig, match=r"drops no layers\. .*Pruner\.following\('replaceme'\), --recipe replaceme"
    ):
        Pruner(**options).prune(tiny_model(), calibration=tiny_tokens(), budget=Budget(layers=1))


def test_what_a_pruner_was_given_takes_the_place_of_the_plans_and_the_rest_is_the_plans() -> None:
    model, tokens = tiny_model(num_hidden_layers=6), tiny_tokens(8, 24)
    made = Pruner.following("replaceme-ls").prune(model, calibration=tokens, budget=Budget(layers=2))
    for options in ({}, {"estimator": "ridge"}, {"merger": "refit", "estimator": "ridge"}):
        again = apply(made.plan, model, calibration=tokens, pruner=Pruner(**options)).plan  # type: ignore[arg-type]
        assert again.cuts == made.plan.cuts
        assert again.selector == made.plan.selector
        assert again.estimator.name == f"billhook:{options.get('estimator', 'least-squares')}"
        assert again.merger.name == f"billhook:{options.get('merger', 'fold')}"
        assert again.repair == made.plan.repair


def test_the_default_recipe_is_billhooks_own() -> None:
    assert DEFAULT_RECIPE == "billhook:billhook"
    assert isinstance(OWN.selector, Curvature)
