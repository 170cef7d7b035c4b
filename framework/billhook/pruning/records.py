"""The papers of a run: which model, what was decided, and the journal that it can go on from."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import Any, cast

import attrs

from billhook.cuts.cut import Cut
from billhook.data.record import CalibrationRecord
from billhook.data.tokens import Tokens
from billhook.model.view import ModelView
from billhook.plans.budget import Budget
from billhook.plans.journal import Journal
from billhook.plans.plan import ModelIdentity, Plan
from billhook.plans.strategy_spec import StrategySpec
from billhook.plugins.registry import Registry
from billhook.plugins.versions import COMPUTING, versions
from billhook.pruning.method import Method
from billhook.roles.recipe import Recipe
from billhook.roles.role import ROLES, Role, Strategy
from billhook.roles.state import PruningState
from billhook.version import __version__


@attrs.frozen(eq=False)
class Records:
    """What a run writes down about itself.

    Made before any work, so that a strategy that no plan can hold is refused then.

    Attributes:
        registry: knows strategies by name.
        method: its strategies.
        dense: the model that it was handed.
        tokens_per_batch: how many tokens go through a layer at a time.
        recipe: that is followed; None for none, or the default one.
        specs: the strategies as data, by role.
    """

    registry: Registry
    method: Method
    dense: ModelView
    tokens_per_batch: int
    recipe: Recipe | None = None
    specs: Mapping[Role, StrategySpec | None] = attrs.field(
        init=False, default=attrs.Factory(lambda self: self.specs_of(), takes_self=True)
    )

    def specs_of(self) -> dict[Role, StrategySpec | None]:
        """What :attr:`specs` are."""
        chosen: dict[Role, Strategy | None] = {role: self.method.strategy(role) for role in ROLES}
        return {role: None if own is None else self.registry.spec(role, own) for role, own in chosen.items()}

    def plan(self, state: PruningState, budget: Budget, calibration: CalibrationRecord) -> Plan:
        """What was decided, and everything needed to do it again."""
        return Plan(
            cuts=tuple(state.cuts),
            model=ModelIdentity.of(self.dense),
            budget=budget,
            selector=cast(StrategySpec, self.specs["selector"]),
            estimator=cast(StrategySpec, self.specs["estimator"]),
            merger=cast(StrategySpec, self.specs["merger"]),
            objective=self.specs["objective"],
            repair=self.method.repair,
            calibration=calibration,
            billhook=__version__,
            tokens_per_batch=self.tokens_per_batch,
            versions=self.versions(state.cuts),
        )

    def versions(self, cuts: Iterable[Cut] = (), *, hooks: bool = True) -> dict[str, str]:
        """Of all distributions that have a part in the run: by strategies, recipe, adapter, hooks and kinds of cut."""
        kinds = {type(cut): cut for cut in cuts}.values()
        parts = [self.method.strategy(role) for role in ROLES]
        return versions(self.registry, [*parts, self.dense.adapter, self.recipe, *kinds], hooks=hooks)

    def journal(self, path: os.PathLike[str] | None, tokens: Tokens, budget: Budget) -> Journal | None:
        """The journal of this very run: all that its decisions depend on is written at its top. None for no path."""
        if path is None:
            return None
        run: dict[str, Any] = {role: None if spec is None else spec.to_data() for role, spec in self.specs.items()}
        run |= {
            "budget": attrs.asdict(budget),
            "repair": attrs.asdict(self.method.repair),
            "data": {"fingerprint": tokens.fingerprint},
            "model": attrs.asdict(ModelIdentity.of(self.dense)),
            "billhook": {"version": __version__},
            # of what decides; not of what computes or listens: an update of torch, or another progress bar, must not
            # end a search of hours
            "versions": {name: found for name, found in self.versions(hooks=False).items() if name not in COMPUTING},
        }
        return Journal(path, run)
