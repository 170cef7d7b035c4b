"""The papers of a run: which model, what was decided, and the journal that it can go on from."""

from __future__ import annotations

import os
from typing import Any

import attrs

from billhook.data.record import CalibrationRecord
from billhook.data.tokens import Tokens
from billhook.model.view import ModelView
from billhook.model.weights import fingerprint
from billhook.plans.budget import Budget
from billhook.plans.journal import Journal
from billhook.plans.plan import ModelIdentity, Plan
from billhook.plugins.registry import Registry
from billhook.pruning.method import Method
from billhook.roles.role import ROLES, Role
from billhook.roles.state import PruningState
from billhook.version import __version__


@attrs.frozen(eq=False)
class Records:
    """What a run writes down about itself.

    Attributes:
        registry: knows strategies by name.
        method: its strategies.
        dense: the model that it was handed.
    """

    registry: Registry
    method: Method
    dense: ModelView

    def plan(self, state: PruningState, budget: Budget, calibration: CalibrationRecord) -> Plan:
        """What was decided, and everything needed to do it again."""
        method, spec = self.method, self.registry.spec
        return Plan(
            cuts=tuple(state.cuts),
            model=ModelIdentity.of(self.dense),
            budget=budget,
            selector=spec("selector", method.selector),
            estimator=spec("estimator", method.estimator),
            merger=spec("merger", method.merger),
            objective=None if method.objective is None else spec("objective", method.objective),
            repair=method.repair,
            calibration=calibration,
            billhook=__version__,
        )

    def journal(self, path: os.PathLike[str] | None, tokens: Tokens, budget: Budget) -> Journal | None:
        """The journal of this very run: all that its decisions depend on is written at its top. None for no path."""
        if path is None:
            return None
        run: dict[str, Any] = {role: self._told(role) for role in ROLES}
        run |= {
            "budget": attrs.asdict(budget),
            "repair": attrs.asdict(self.method.repair),
            "data": {"fingerprint": tokens.fingerprint},
            "model": attrs.asdict(ModelIdentity.of(self.dense)) | {"weights": fingerprint(self.dense.model)},
            "billhook": {"version": __version__},
        }
        return Journal(path, run)

    def _told(self, role: Role) -> dict[str, Any] | None:
        """Name and options as JSON values; those of a class that is not registered in words."""
        strategy = self.method.strategy(role)
        if strategy is None:
            return None
        spec = self.registry.spec(role, strategy)
        if spec.name.startswith("("):
            options = {name: repr(value) for name, value in self.registry.options_of(strategy).items()}
            spec = attrs.evolve(spec, options=options)
        return attrs.asdict(spec)
