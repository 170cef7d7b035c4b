"""Recipe: a published method as a selector, an estimator and a merger that go together."""

from __future__ import annotations

import re
from typing import cast

import attrs

from billhook.errors import InvalidConfig
from billhook.plans.repair import Repair
from billhook.roles.estimator import Estimator
from billhook.roles.merger import Merger
from billhook.roles.objective import Objective
from billhook.roles.role import ROLES, Role, Strategy, why_unfit
from billhook.roles.selector import Selector

_ARXIV = re.compile(r"\d{4}\.\d{4,5}")


@attrs.frozen(kw_only=True)
class Recipe:
    """What a method is made of, as plain objects to read, compare, and build on.

    Attributes:
        name: that users ask for: lower-case words joined by ``-``.
        summary: what it does, in one line.
        paper: title of the paper that it comes from; empty if there is none.
        arxiv: the paper's number there, such as ``2505.02819``; empty if there is none.
        selector: what goes.
        estimator: how each loss is made up for.
        merger: where the repair is put.
        objective: measured before and after, and what a searching selector minimises; None for the Pruner's own.
        repair: when and how cuts are repaired.

    Raises:
        InvalidConfig: a strategy is not an object of its role, or the number is none of arXiv.
    """

    name: str
    summary: str
    paper: str = ""
    arxiv: str = ""
    selector: Selector
    estimator: Estimator
    merger: Merger
    objective: Objective | None = None
    repair: Repair = attrs.field(factory=Repair, validator=attrs.validators.instance_of(Repair))

    def __attrs_post_init__(self) -> None:
        for role, info in ROLES.items():
            given = self.strategy(role)
            if not isinstance(given, info.base) and (given is not None or role != "objective"):
                raise InvalidConfig(
                    f"The {role} of the recipe {self.name!r} must be an object of the class {role.capitalize()}; got "
                    f"{given!r}."
                )
            if given is not None and (reason := why_unfit(type(given))):
                raise InvalidConfig(f"The {role} of the recipe {self.name!r} does not fit: {reason}")
        if self.arxiv and not _ARXIV.fullmatch(self.arxiv):
            raise InvalidConfig(f"The 'arxiv' of a recipe is a number such as 2505.02819; got {self.arxiv!r}.")

    def strategy(self, role: Role) -> Strategy | None:
        """The object that plays ``role``; None for an objective that it leaves open."""
        return cast("Strategy | None", getattr(self, role))
