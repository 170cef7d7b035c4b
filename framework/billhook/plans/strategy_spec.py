"""StrategySpec: a strategy as a plan remembers it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs

from billhook.errors import InvalidPlan


def _plain_dict(options: Mapping[str, Any]) -> dict[str, Any]:
    # dict() would take a list of pairs for an object, and a plan would not come back equal from JSON
    if not isinstance(options, Mapping) or not all(isinstance(name, str) for name in options):
        raise InvalidPlan(f"The options of a strategy are an object of values by name; got {options!r}.")
    return dict(options)  # not dict itself: type checkers see its many signatures


@attrs.frozen(kw_only=True)
class StrategySpec:
    """A strategy as data: its qualified name and all its options with their values.

    ``name`` is ``dist:name`` for a registered class, and ``module.Class`` in parentheses for one that is not, which
    can be printed and compared but not built again from a file.

    Attributes:
        name: as above.
        options: every one, as JSON values, whether somebody set it or not: defaults may change.
        defaults: names of the options that stood at their defaults when this was written. They are left out where a
            spec is printed, and mean nothing otherwise.
    """

    name: str
    options: Mapping[str, Any] = attrs.field(factory=dict, converter=_plain_dict)
    defaults: tuple[str, ...] = attrs.field(default=(), eq=False)

    @property
    def chosen(self) -> dict[str, Any]:
        """The options that did not stand at their defaults."""
        return {name: value for name, value in self.options.items() if name not in self.defaults}

    def to_data(self) -> dict[str, Any]:
        """As JSON values."""
        data: dict[str, Any] = {"name": self.name, "options": dict(self.options)}
        return data | ({"defaults": list(self.defaults)} if self.defaults else {})

    def __str__(self) -> str:
        options = ", ".join(f"{k}={_short(repr(v))}" for k, v in self.chosen.items())
        return f"{self.name.removeprefix('billhook:')}({options})" if options else self.name.removeprefix("billhook:")


def _short(text: str, limit: int = 80) -> str:
    return text if len(text) <= limit else f"{text[: limit - 1]}…"
