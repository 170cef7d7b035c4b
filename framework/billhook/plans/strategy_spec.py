"""StrategySpec: a strategy as a plan remembers it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs


def _plain_dict(options: Mapping[str, Any]) -> dict[str, Any]:
    return dict(options)  # not dict itself: type checkers see its many signatures


@attrs.frozen(kw_only=True)
class StrategySpec:
    """A strategy as data: its qualified name and the options that differ from the defaults.

    ``name`` is ``dist:name`` for a registered class, and ``module.Class`` in parentheses for one that is not, which
    can be printed and compared but not built again from a file.
    """

    name: str
    options: Mapping[str, Any] = attrs.field(factory=dict, converter=_plain_dict)

    def __str__(self) -> str:
        options = ", ".join(f"{k}={_short(repr(v))}" for k, v in self.options.items())
        return f"{self.name.removeprefix('billhook:')}({options})" if options else self.name.removeprefix("billhook:")


def _short(text: str, limit: int = 80) -> str:
    return text if len(text) <= limit else f"{text[: limit - 1]}…"
