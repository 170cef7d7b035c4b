"""The options of strategies as JSON values. Selectors within selectors go by the names of one registry."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, cast

import cattrs

from billhook.errors import InvalidConfig
from billhook.json_values import strict_converter
from billhook.plans.strategy_spec import StrategySpec
from billhook.roles.role import Strategy
from billhook.roles.selector import Selector


def converter_for(
    spec: Callable[[Selector], StrategySpec], create: Callable[[str, Mapping[str, Any]], Selector]
) -> cattrs.Converter:
    """A strict converter that also knows selectors (a sequence's stages) by name and options.

    Args:
        spec: names a selector.
        create: makes one of a name and options.
    """

    def to_data(selector: Selector) -> dict[str, Any]:
        found = spec(selector)
        return {"name": found.name, "options": dict(found.options)}

    def from_data(data: object) -> Selector:
        named: Mapping[str, Any] = {"name": data} if isinstance(data, str) else cast("Mapping[str, Any]", data)
        if not isinstance(named, Mapping) or "name" not in named or {*named} - {"name", "options"}:
            raise InvalidConfig(
                f"A selector within a selector is a name, or an object of name and options; got {data!r}."
            )
        return create(named["name"], named.get("options", {}))

    converter = strict_converter()
    converter.register_unstructure_hook_func(_is_selector, to_data)
    converter.register_structure_hook_func(lambda cls: cls is Selector, lambda data, _: from_data(data))
    return converter


def options_of(strategy: Strategy, converter: cattrs.Converter) -> dict[str, Any]:
    """The options of an attrs strategy that differ from their defaults, as JSON values; empty for other classes."""
    options: dict[str, Any] = {}
    for field in getattr(type(strategy), "__attrs_attrs__", ()):
        value = getattr(strategy, field.name)
        if field.init and value != field.default:
            plain = converter.unstructure(value)
            options[field.alias or field.name] = list(plain) if isinstance(plain, tuple) else plain
    return options


def _is_selector(cls: object) -> bool:
    return isinstance(cls, type) and issubclass(cls, Selector)
