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


@attrs.frozen
class _Frozen:
    """To know the others by: attrs gives every frozen class the same ``__setattr__``."""


def why_unfit(cls: type[Any]) -> str | None:
    """Why objects of ``cls`` cannot be strategies, with the way out, in a clause; None if nothing is amiss.

    A plan names a strategy by its fields: what is no field would be forgotten, and what changes later, misquoted.
    """
    if "__attrs_attrs__" not in vars(cls):  # attrs.has() would take a parent's
        return (
            f"{cls.__name__} is a plain class, so plans would forget its options. Put @attrs.frozen above it, and "
            f"declare the options as fields (strength: float = 0.25) instead of writing __init__."
        )
    if vars(cls).get("__setattr__") is not vars(_Frozen)["__setattr__"]:
        return (
            f"{cls.__name__} can be changed after it is built, so plans could misquote it. Put @attrs.frozen above it "
            f"instead of what is there."
        )
    return None


ROLES: dict[Role, RoleInfo] = {
    "selector": RoleInfo("billhook_register_selectors", Selector),
    "estimator": RoleInfo("billhook_register_estimators", Estimator),
    "merger": RoleInfo("billhook_register_mergers", Merger),
    "objective": RoleInfo("billhook_register_objectives", Objective),
}
