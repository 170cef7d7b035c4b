"""``billhook recipes``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from billhook.cli import options

if TYPE_CHECKING:
    from billhook.plugins.registry import Registry
    from billhook.roles.recipe import Recipe


def command(plugin: options.PluginFiles = None, json: options.Json = False, verbose: options.Verbose = 0) -> None:
    """List the recipes: published methods to prune by, each with its paper. For billhook prune --recipe NAME."""
    from billhook.cli import output
    from billhook.cli.taking_part import registry_with

    registry = registry_with(plugin)
    recipes = registry.recipes()
    if json:
        output.print_json({"recipes": [_data(registry, name, recipe) for name, recipe in recipes.items()]})
        return
    made = output.table("recipe", "what goes, and how", "paper", left=["recipe", "what goes, and how", "paper"])
    for name, recipe in recipes.items():
        paper = f"{recipe.paper} (arXiv {recipe.arxiv})" if recipe.arxiv else recipe.paper
        made.add_row(output.short(name, recipes), recipe.summary, paper or output.NOTHING)
    output.show(made)


def _data(registry: Registry, name: str, recipe: Recipe) -> dict[str, Any]:
    from billhook.roles.role import ROLES

    specs = {}
    for role in ROLES:
        strategy = recipe.strategy(role)
        specs[str(role)] = None if strategy is None else registry.spec(role, strategy).to_data()
    return {
        "name": name,
        "summary": recipe.summary,
        "paper": recipe.paper,
        "arxiv": recipe.arxiv,
        **specs,
    }
