"""Method: the strategies that a run works with, found by their names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

import attrs

from billhook.plans.repair import Repair
from billhook.plugins.registry import Registry
from billhook.roles.estimator import Estimator
from billhook.roles.merger import Merger
from billhook.roles.objective import Objective
from billhook.roles.role import ROLES, Role, Strategy
from billhook.roles.selector import Selector

# Qualified: a stranger's plugin that reuses one of these names must not break the defaults.
DEFAULT_RECIPE = "billhook:billhook"
"""What is followed where nothing else is said: by a ``Pruner``, and by every command."""

DEFAULT_OBJECTIVE = "billhook:perplexity"
"""What a search minimises where nothing else is said."""


@attrs.frozen(kw_only=True, eq=False)
class Method:
    """A selector, an estimator, a merger and perhaps an objective, as objects; and how they repair.

    Attributes:
        selector: what goes.
        estimator: how each loss is made up for.
        merger: where the repair is put.
        objective: what a search minimises, and what is measured before and after; None for nothing.
        repair: when and how.
    """

    selector: Selector
    estimator: Estimator
    merger: Merger
    objective: Objective | None
    repair: Repair

    @classmethod
    def of(cls, given: Mapping[Role, str | Strategy | None], repair: Repair | None, registry: Registry) -> Method:
        """What is ``given`` by role, as names or objects; the default recipe's where it is None.

        Raises:
            UnknownStrategy, AmbiguousStrategy: a name is not offered, or by two distributions.
            InvalidConfig: an object of another class.
        """
        chosen: dict[Role, Strategy] = {}
        for role, named in given.items():
            if named is not None:
                chosen[role] = registry.resolve(role, named)
        if repair is None or not {"selector", "estimator", "merger"} <= chosen.keys():
            recipe = registry.recipe(DEFAULT_RECIPE)
            for role in ROLES:
                if role not in chosen and (own := recipe.strategy(role)) is not None:
                    chosen[role] = own
            repair = repair or recipe.repair
        if "objective" not in chosen and cast(Selector, chosen["selector"]).needs_objective():
            chosen["objective"] = registry.create("objective", DEFAULT_OBJECTIVE)
        return cls(
            selector=cast(Selector, chosen["selector"]),
            estimator=cast(Estimator, chosen["estimator"]),
            merger=cast(Merger, chosen["merger"]),
            objective=cast("Objective | None", chosen.get("objective")),
            repair=repair,
        )

    def strategy(self, role: Role) -> Strategy | None:
        """The object that plays ``role``; None for no objective."""
        return cast("Strategy | None", getattr(self, role))
