"""What ``--set`` and the names of strategies ask for. Imports torch, so commands import this when they run."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, cast

import attrs

from billhook.errors import InvalidConfig, did_you_mean, listing
from billhook.foreign_text import shortened
from billhook.json_text import BadJson, parsed
from billhook.json_values import build
from billhook.plans.repair import Repair
from billhook.plugins.registry import Registry
from billhook.roles.recipe import Recipe
from billhook.roles.role import ROLES, Role, Strategy

Settings = dict[str, dict[str, Any]]
"""Options of strategies, by role and option; those of the repair under ``repair``."""


SETTABLE = (*ROLES, "repair")


def strategies_by_role(
    chosen: Mapping[Role, str | None], settings: Settings, recipe: Recipe, registry: Registry
) -> dict[Role, Strategy]:
    """The strategies by role: those named, the recipe's for the rest, with the given options.

    Args:
        chosen: names by role; None for what is not named.
        settings: options by role.
        recipe: what to follow where nothing is named.
        registry: where names are looked up.

    Raises:
        InvalidConfig: options for an objective where there is none, or for a strategy that is offered under no name.
    """
    made: dict[Role, Strategy] = {}
    for role in ROLES:
        name, options = chosen.get(role), settings.get(role, {})
        strategy = registry.create(role, name, options) if name else _of_recipe(recipe, role, options, registry)
        if strategy is not None:
            made[role] = strategy
        elif options:
            raise InvalidConfig(f"There are options for the {role}, but no {role} is named. Add --{role} NAME.")
    return made


def repair_with(settings: Settings, base: Repair) -> Repair:
    """``base`` with the given options."""
    options = {**attrs.asdict(base), **settings.get("repair", {})}
    return cast(Repair, build(cast("Any", Repair), options, "repair"))


def _of_recipe(recipe: Recipe, role: Role, options: Mapping[str, Any], registry: Registry) -> Strategy | None:
    """The recipe's strategy of that role, with ``options`` in the place of its own."""
    strategy = recipe.strategy(role)
    if strategy is None or not options:
        return strategy
    spec = registry.spec(role, strategy)
    if spec.name.startswith("("):
        raise InvalidConfig(
            f"The {role} of the recipe {recipe.name!r} is offered under no name, so --set cannot change it. Name "
            f"another one with --{role}."
        )
    return registry.create(role, spec.name, {**spec.options, **options})


def parse_settings(given: Sequence[str]) -> Settings:
    """``role.option=value`` strings; values are JSON where they can be, plain text otherwise."""
    settings: Settings = {}
    for text in given:
        target, equals, value = text.partition("=")
        role, dot, option = target.partition(".")
        if not (equals and dot and option):
            raise InvalidConfig(f"A setting is ROLE.OPTION=VALUE, for instance selector.windows=2; got {text!r}.")
        if role not in SETTABLE:
            raise InvalidConfig(
                f"There is no role {role!r} to set.{did_you_mean(role, SETTABLE)} Known: {listing(SETTABLE)}."
            )
        settings.setdefault(role, {})[option] = _json_or_text(value)
    return settings


def _json_or_text(value: str) -> Any:
    try:
        return parsed(value)
    except BadJson as error:
        if isinstance(error.__cause__, json.JSONDecodeError):
            return value
        raise InvalidConfig(f"A setting cannot be {shortened(value, 100)!r}: {error}.") from error
