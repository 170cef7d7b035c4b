"""The options of strategies as JSON values. Selectors within selectors go by the names of one registry."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, cast

import attrs
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
        return spec(selector).to_data()

    def from_data(data: object) -> Selector:
        named: Mapping[str, Any] = {"name": data} if isinstance(data, str) else cast("Mapping[str, Any]", data)
        if not isinstance(named, Mapping) or "name" not in named or {*named} - {"name", "options", "defaults"}:
            raise InvalidConfig(
                f"A selector within a selector is a name, or an object of name and options; got {data!r}."
            )
        return create(named["name"], named.get("options", {}))

    converter = strict_converter()
    converter.register_unstructure_hook_func(_is_selector, to_data)
    converter.register_structure_hook_func(lambda cls: cls is Selector, lambda data, _: from_data(data))
    return converter


def options_of(strategy: Strategy, converter: cattrs.Converter) -> dict[str, Any]:
    """All options of an attrs strategy as JSON values.

    Floats that JSON has no word for become ``"inf"``, ``"-inf"`` and ``"nan"``, which a strict converter reads back.

    Raises:
        InvalidConfig: one has a value that no JSON can hold.
    """
    return {
        field.alias or field.name: _plain(converter.unstructure(getattr(strategy, field.name)), strategy, field.name)
        for field in _options(strategy)
    }


def defaults_of(strategy: Strategy) -> tuple[str, ...]:
    """The names of the options of an attrs strategy that stand at their defaults."""
    return tuple(field.alias or field.name for field in _options(strategy) if _is_default(strategy, field))


def _options(strategy: Strategy) -> list[attrs.Attribute[Any]]:
    return [field for field in getattr(type(strategy), "__attrs_attrs__", ()) if field.init]


def _is_default(strategy: Strategy, field: attrs.Attribute[Any]) -> bool:
    default: Any = field.default
    if isinstance(default, attrs.Factory):  # type: ignore[arg-type] # a class, whatever its stub says
        if default.takes_self:
            return False
        default = default.factory()
    try:
        return bool(getattr(strategy, field.name) == default)
    except (RuntimeError, ValueError, TypeError):  # arrays compare entry by entry
        return False


def _plain(value: Any, strategy: Strategy, option: str) -> Any:
    """``value`` as JSON will give it back."""
    if isinstance(value, Mapping) and all(isinstance(name, str) for name in value):
        return {name: _plain(entry, strategy, option) for name, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(entry, strategy, option) for entry in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if value is None or isinstance(value, str | bool | int | float):
        return value
    raise InvalidConfig(
        f"The option {option!r} of {type(strategy).__name__} is a {type(value).__name__}, which no plan can hold. "
        f"Options are numbers, texts, switches, and lists, mappings and attrs classes of these."
    )


def _is_selector(cls: object) -> bool:
    return isinstance(cls, type) and issubclass(cls, Selector)
