"""The strategies that billhook itself offers, as the tests of the documentation go through them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from billhook import default_registry
from billhook.roles.role import ROLES, Role, Strategy

REQUIRED: dict[str, dict[str, Any]] = {
    "billhook:fixed-windows": {"spans": [[1, 2]]},
    "billhook:sequence": {"stages": [{"selector": "block-pruner"}]},
}
"""Options without a default, of the strategies that have some."""


def strategies() -> Iterator[tuple[Role, str, Strategy]]:
    """Role, short name and an object of each."""
    registry = default_registry()
    for role in ROLES:
        for qualified in registry.qualified_names(role):
            if qualified.startswith("billhook:"):
                strategy = registry.create(role, qualified, REQUIRED.get(qualified))
                yield role, qualified.removeprefix("billhook:"), strategy
