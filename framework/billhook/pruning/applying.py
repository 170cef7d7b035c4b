"""Doing a plan again."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, ClassVar

import attrs
import torch

from billhook.cuts.cut import Cut
from billhook.data.calibration import Calibration
from billhook.data.record import NO_DATA, CalibrationRecord
from billhook.data.tokens import Tokens
from billhook.errors import CalibrationError, InvalidPlan
from billhook.log import logger
from billhook.plans.budget import Budget
from billhook.plans.plan import Plan, refuse_other_model
from billhook.plans.strategy_spec import StrategySpec
from billhook.plugins.registry import Registry
from billhook.plugins.versions import version_of
from billhook.pruning.differences import specs_of, tell_differences
from billhook.pruning.pruner import Pruner
from billhook.pruning.refusals import refuse_no_model
from billhook.results.result import PruneResult
from billhook.roles.estimator import Needs
from billhook.roles.objective import Objective
from billhook.roles.role import Role, Strategy
from billhook.roles.selector import Selector
from billhook.roles.state import PruningState
from billhook.value_kinds import refuse_other_kind

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

NO_TOKENS = Tokens(ids=torch.zeros(1, 2, dtype=torch.int64), keep=torch.ones(1, 2, dtype=torch.bool), source="none")
"""Stands for data in a run that reads none: there must be a row, and no layer is ever run on it."""


@attrs.frozen
class Planned(Selector):
    """Yields given cuts in their order; the budget is taken as met by them."""

    meets_budget: ClassVar[bool] = False

    cuts: tuple[Cut, ...]

    def select(self, state: PruningState, budget: Budget) -> Iterator[Cut]:
        """The cuts."""
        yield from self.cuts

    def kinds(self) -> tuple[type[Cut], ...]:
        """Those of the cuts."""
        return tuple(dict.fromkeys(type(cut) for cut in self.cuts))


def apply(
    plan: Plan,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase | None = None,
    *,
    calibration: object = None,
    pruner: Pruner | None = None,
    any_calibration: bool = False,
) -> PruneResult:
    """Make the cuts of ``plan`` in ``model``, repaired as the plan says. On the same data: the same weights.

    What is not as it was when the plan was made (versions, the model's weights and dtype, options that an old plan does
    not hold) is told in a warning.

    Args:
        plan: what to do. (Somebody else's published result becomes one by :meth:`billhook.Published.plan`.)
        model: the model it was made for; not changed.
        tokenizer: as for :meth:`Pruner.prune`.
        calibration: the data; if None, what the plan's record names. No data are read where none are needed: the
            estimator asks for none, and there is no objective. Hooks then see one row of two tokens.
        pruner: brings hooks, cache and registry; an estimator, merger, objective, repair or size of a batch that it was
            given takes the place of the plan's, and nothing else does. Its selector is not used.
        any_calibration: accept other data than the plan was made with. The maps then differ.

    Raises:
        InvalidPlan: no plan; or it belongs to another model, or names strategies that cannot be built from a file.
        CalibrationError: the data are not those of the plan.
    """
    refuse_no_model(model)
    if not isinstance(plan, Plan):
        raise InvalidPlan(
            f"What is applied is a Plan; got {type(plan).__name__}. Read one with Plan.load(path), or make one of a "
            f"published result: published.plan(model)."
        )
    refuse_other_kind(pruner, Pruner | None, "The 'pruner' of apply")
    refuse_other_model(plan, model)
    redone = attrs.evolve(pruner_for(plan, pruner), selector=Planned(plan.cuts), recipe=None)
    tell_differences(plan, redone, Pruner() if pruner is None else pruner, model)
    asked = pruner is not None and pruner.objective is not None
    data, record, measured = _what_it_sees(plan, redone, model, tokenizer, calibration, any_calibration, asked=asked)
    result = attrs.evolve(redone, objective=measured).prune(model, tokenizer, calibration=data, budget=plan.budget)
    own = plan.objective if redone.objective is not None and measured is None else result.plan.objective
    again = attrs.evolve(
        result.plan,
        selector=plan.selector,
        objective=own,
        calibration=attrs.evolve(record, guard=result.plan.calibration.guard or record.guard),
        versions=_versions(plan, result.plan, redone.whole_registry),
    )
    return attrs.evolve(result, plan=again)


def _what_it_sees(
    plan: Plan,
    redone: Pruner,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase | None,
    calibration: object,
    any_calibration: bool,
    *,
    asked: bool,
) -> tuple[Calibration, CalibrationRecord, str | Objective | None]:
    """Data, what a plan remembers of them, and the objective that is measured on them.

    Where the plan's objective alone wants data that are nowhere to be had, it is not measured, and a warning says so;
    one that was ``asked`` for by hand is.
    """
    if calibration is None and not needs_data(redone):
        return Calibration(source=NO_TOKENS), plan.calibration, redone.objective
    try:
        return *_data_for(plan, model, tokenizer, calibration, any_calibration), redone.objective
    except CalibrationError as error:
        if asked or calibration is not None or repairs(redone):
            raise
        logger.warning("The plan's objective is not measured, and nothing else needs data: {}", error)
        return Calibration(source=NO_TOKENS), plan.calibration, None


def _versions(plan: Plan, again: Plan, registry: Registry) -> dict[str, str]:
    """Those of now, and of what had a part in the choice; what is not installed any more, as the plan says."""
    before = {name: version_of(registry, name) or said for name, said in plan.versions.items()}
    return dict(sorted({**before, **again.versions}.items()))


def _data_for(
    plan: Plan,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase | None,
    calibration: object,
    any_calibration: bool,
) -> tuple[Calibration, CalibrationRecord]:
    """The data, tokenised, and what a plan remembers of them."""
    data = calibration_of(plan) if calibration is None else Calibration.of(calibration)
    if data.guard is None and plan.calibration != NO_DATA:
        data = attrs.evolve(data, guard=calibration_of(plan).guard)
    if not any_calibration and plan.calibration != NO_DATA:
        data = attrs.evolve(data, begin=plan.calibration.begin)  # they must be the plan's data, so begin as those did
    tokens = data.tokenize(tokenizer, model)
    if not any_calibration and plan.calibration != NO_DATA:
        _refuse_other_data(plan.calibration, tokens.fingerprint)
    return attrs.evolve(data, source=tokens), data.record(tokens)


def needs_data(pruner: Pruner) -> bool:
    """Whether a run of ``pruner`` over given cuts looks at calibration data."""
    return pruner.method().objective is not None or repairs(pruner)


def repairs(pruner: Pruner) -> bool:
    """Whether a run of ``pruner`` over given cuts learns repairs from data."""
    return pruner.method().estimator.needs is not Needs.NOTHING


def calibration_of(plan: Plan) -> Calibration:
    """The data that the plan names.

    Raises:
        CalibrationError: it was made without any.
    """
    if plan.calibration == NO_DATA:
        raise CalibrationError("This plan was made without calibration data: say which data to take.")
    return Calibration.from_record(plan.calibration)


def pruner_for(plan: Plan, base: Pruner | None = None) -> Pruner:
    """``base`` with what ``plan`` says wherever it was given nothing: strategies, repair, size of a batch.

    Raises:
        InvalidPlan: the plan names one that was given as an object and cannot be built from a file.
    """
    base = Pruner() if base is None else base
    own: dict[str, Any] = {
        role: _built(spec, role, base.whole_registry)
        for role, spec in specs_of(plan).items()
        if spec is not None and getattr(base, role) is None
    }
    return attrs.evolve(
        base,
        **own,
        repair=base.repair or plan.repair,
        tokens_per_batch=base.tokens_per_batch or plan.tokens_per_batch,
    )


def _built(spec: StrategySpec, role: Role, registry: Registry) -> Strategy:
    if spec.name.startswith("("):
        raise InvalidPlan(
            f"The plan uses {spec.name}, which was given as an object and is not registered: "
            f"hand it over with apply(..., pruner=Pruner({role}=...))."
        )
    return registry.create(role, spec.name, spec.options)


def _refuse_other_data(record: CalibrationRecord, fingerprint: str) -> None:
    if fingerprint != record.fingerprint:
        raise CalibrationError(
            f"These are not the tokens the plan was made with (fingerprint {fingerprint[:12]}, the plan has "
            f"{record.fingerprint[:12]}): text, tokenizer or layout differ. Give the same data, or allow other data "
            f"with any_calibration=True (--any-calibration)."
        )
