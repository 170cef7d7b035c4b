"""The strategy roles: their abstract classes, and the hooks that offer implementations."""

from __future__ import annotations

from typing import Any, Literal

import attrs

from billhook.roles.estimator import Estimator
from billhook.roles.merger import Merger
from billhook.roles.objective import Objective
from billhook.roles.selector import Selector

Role = Literal["selector", "estimator", "merger", "objective"]
"""What a strategy does: choose what goes, solve for what makes up for it, put that in, or say how good a model is."""

Strategy = Selector | Estimator | Merger | Objective
"""An object that plays one of the roles."""


@attrs.frozen
class RoleInfo:
    """A role's abstract class, and the hook that offers implementations of it."""

    hook: str
    base: type[Any]


ROLES: dict[Role, RoleInfo] = {
    "selector": RoleInfo("billhook_register_selectors", Selector),
    "estimator": RoleInfo("billhook_register_estimators", Estimator),
    "merger": RoleInfo("billhook_register_mergers", Merger),
    "objective": RoleInfo("billhook_register_objectives", Objective),
}
