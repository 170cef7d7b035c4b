"""``billhook plugins``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from billhook.cli import options

if TYPE_CHECKING:
    from rich.table import Table

    from billhook.plugins.plugin_info import PluginInfo
    from billhook.plugins.registry import Registry

STYLES = {"loaded": "green", "blocked": "yellow", "failed": "red", "invalid": "red"}


def command(json: options.Json = False, verbose: options.Verbose = 0) -> None:
    """List the installed plugins, what became of each, and the strategies they offer."""
    from billhook.cli import output
    from billhook.plugins.registry import default_registry

    registry = default_registry()
    offers, problem = _offers(registry)
    if json:
        output.print_json(_data(registry, offers, problem))
        return
    output.show(_plugin_table(registry.plugins))
    output.show(
        output.facts([("unusable", problem)] if problem else [(f"{role}s", ", ".join(n)) for role, n in offers.items()])
    )


def _offers(registry: Registry) -> tuple[dict[str, list[str]], str]:
    """Names by role and the model types served, or why none can be looked up."""
    from billhook.errors import PluginError
    from billhook.roles.role import ROLES

    try:
        offers = {str(role): registry.qualified_names(role) for role in ROLES}
        types = [model_type for adapter in registry.adapters() for model_type in adapter.model_types]
    except PluginError as error:  # this command is what one calls to find out
        return {}, str(error)
    ours = "billhook:"
    return {
        **{role: [name.removeprefix(ours) for name in names] for role, names in offers.items()},
        "model type": sorted(types),
    }, ""


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
