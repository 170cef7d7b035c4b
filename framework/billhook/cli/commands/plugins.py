"""``billhook plugins``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import typer

from billhook.cli import options

if TYPE_CHECKING:
    from rich.table import Table

    from billhook.plugins.plugin_info import PluginInfo
    from billhook.plugins.registry import Registry

STYLES = {"loaded": "green", "blocked": "yellow", "failed": "red", "invalid": "red"}


def command(plugin: options.PluginFiles = None, json: options.Json = False, verbose: options.Verbose = 0) -> None:
    """List the installed plugins, what became of each, and what they offer. Exits with 1 if one is invalid."""
    from billhook.cli import output
    from billhook.cli.taking_part import registry_with

    registry = registry_with(plugin)
    problem = " ".join(registry.check())
    offers = {} if problem else _offers(registry)
    if json:
        output.print_json(_data(registry, offers, problem))
    else:
        output.show(_plugin_table(registry.plugins))
        told = [(f"{role}s", ", ".join(names)) for role, names in offers.items()]
        output.show(output.facts([("unusable", problem)] if problem else told))
    if problem:
        raise typer.Exit(1)


def _offers(registry: Registry) -> dict[str, list[str]]:
    """Names by role, those of recipes, and the model types served. Qualified where the plain name is ambiguous."""
    from billhook.cli import output
    from billhook.roles.role import ROLES

    by_role = {str(role): registry.qualified_names(role) for role in ROLES}
    by_role["recipe"] = list(registry.recipes())
    return {
        **{role: [output.short(name, names) for name in names] for role, names in by_role.items()},
        "model type": sorted({model_type for a in registry.adapters() for model_type in a.model_types}),
    }


def _data(registry: Registry, offers: dict[str, list[str]], problem: str) -> dict[str, Any]:
    import attrs

    return {
        "plugins": [attrs.asdict(info) for info in registry.plugins],
        "offers": {role.replace(" ", "_"): names for role, names in offers.items()},
        "problem": problem,
    }


def _plugin_table(plugins: list[PluginInfo]) -> Table:
    from rich.text import Text

    from billhook.cli import output

    made = output.table(
        "plugin", "from", "version", "status", "offers", left=["plugin", "from", "version", "status", "offers"]
    )
    for info in plugins:
        hooks = ", ".join(hook.removeprefix("billhook_") for hook in info.hooks)
        made.add_row(
            info.name, info.distribution, info.version, Text(info.status, STYLES[info.status]), info.reason or hooks
        )
    return made
