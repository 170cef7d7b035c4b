"""``billhook recipes``."""

from __future__ import annotations

import attrs
from tests.framework.cli.conftest import Installer, Run

from billhook import default_registry
from billhook_strategies.selectors.window_distance import WindowDistance

THEIRS = """
    import attrs
    from billhook import Recipe, Selector, hookimpl
    from billhook_strategies.mergers.fold import Fold
    from billhook_strategies.estimators.identity import Identity

    @attrs.frozen(kw_only=True)
    class Unnamed(Selector):
        patience: int = 1

        def select(self, state, budget):
            yield from ()

    @hookimpl
    def billhook_register_recipes(register):
        register(Recipe(name="my-own", summary="nothing", selector=Unnamed(), estimator=Identity(), merger=Fold()))
"""


def test_every_recipe_is_listed_with_what_it_does_and_its_paper(run: Run) -> None:
    out = " ".join(run("recipes").out.split())
    for recipe in default_registry().recipes().values():
        assert recipe.name in out
        assert recipe.arxiv in out
    assert "BlockPruner: Fine-grained Pruning" in out


def test_json_tells_the_strategies_and_their_options(run: Run) -> None:
    done = run("recipes", "--json")
    recipes = {recipe["name"]: recipe for recipe in done.data["recipes"]}
    assert list(recipes) == list(default_registry().recipes())
    uidl = recipes["billhook:uidl"]
    assert uidl["selector"].pop("options") == attrs.asdict(WindowDistance(metric="angular", tokens="last"))
    assert {"metric", "tokens"}.isdisjoint(uidl["selector"].pop("defaults"))
    assert uidl == {
        "name": "billhook:uidl",
        "summary": default_registry().recipe("uidl").summary,
        "paper": "The Unreasonable Ineffectiveness of the Deeper Layers",
        "arxiv": "2403.17887",
        "selector": {"name": "billhook:window-distance"},
        "estimator": {"name": "billhook:identity", "options": {}},
        "merger": {"name": "billhook:fold", "options": {}},
        "objective": None,
    }
    assert recipes["billhook:sleb"]["objective"] == {"name": "billhook:perplexity", "options": {}}


def test_a_strangers_recipe_is_listed_with_its_origin_and_without_a_paper(run: Run, installed: Installer) -> None:
    installed("stranger", recipes=THEIRS)
    (line,) = (line for line in run("recipes").out.splitlines() if "my-own" in line)
    assert line.split() == ["stranger:my-own", "nothing", "–"]


def test_options_of_a_strategy_without_a_name_cannot_be_set(run: Run, installed: Installer) -> None:
    installed("stranger", recipes=THEIRS)
    done = run("prune", "model", "--dry-run", "--layers", 1, "--recipe", "my-own", "--set", "selector.patience=2")
    assert done.code == 1
    assert "The selector of the recipe 'my-own' is offered under no name, so --set cannot change it" in done.err
