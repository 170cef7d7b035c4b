"""Doing a plan again."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, cast

import attrs
import torch

from billhook.budget import Budget
from billhook.calibration import Calibration
from billhook.configuration_billhook import family_of
from billhook.cut import Cut
from billhook.errors import CalibrationError, InvalidPlan
from billhook.estimator import Estimator, Needs
from billhook.merger import Merger
from billhook.model_view import ModelView
from billhook.plan import CalibrationRecord, Plan
from billhook.pruner import Pruner
from billhook.published import Published
from billhook.refusals import refuse_no_model
from billhook.registry import StrategySpec, default_registry
from billhook.removals import without
from billhook.result import PruneResult
from billhook.selector import Selector
from billhook.state import PruningState
from billhook.tokens import Tokens

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

NO_DATA = CalibrationRecord(
    source="none", samples=0, seqlen=0, seed=0, packing="pack", chat_template=False, token_count=0, fingerprint=""
)
"""What a plan remembers of data that nobody needed."""

NO_TOKENS = Tokens(ids=torch.zeros(1, 2, dtype=torch.int64), keep=torch.ones(1, 2, dtype=torch.bool), source="none")
"""Stands for data in a run that reads none: there must be a row, and no layer is ever run on it."""


@attrs.frozen
class Planned(Selector):
    """Yields given cuts in their order; the budget is taken as met by them."""

    cuts: tuple[Cut, ...]

    def select(self, state: PruningState, budget: Budget) -> Iterator[Cut]:
        """The cuts."""
        yield from self.cuts

    def kinds(self) -> tuple[type[Cut], ...]:
        """Those of the cuts."""
        return tuple(dict.fromkeys(type(cut) for cut in self.cuts))


def apply(
    plan: Plan | Published,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase | None = None,
    *,
    calibration: object = None,
    pruner: Pruner | None = None,
    any_calibration: bool = False,
) -> PruneResult:
    """Make the cuts of ``plan`` in ``model``, repaired as the plan says. On the same data: the same weights.

    Args:
        plan: what to do; or somebody else's published result, whose cuts are made and not repaired.
        model: the model it was made for; not changed.
        tokenizer: as for :meth:`Pruner.prune`.
        calibration: the data; if None, what the plan's record names. No data are read where none are needed: the
            estimator asks for none, and there is no objective. Hooks then see one row of two tokens.
        pruner: brings hooks, cache and registry, and strategies that are not registered; its selector is not used,
            nor for a published result its estimator.
        any_calibration: accept other data than the plan was made with. The maps then differ.

    Raises:
        InvalidPlan: the plan belongs to another model, or names strategies that cannot be built from a file.
        CalibrationError: the data are not those of the plan.
    """
    refuse_no_model(model)
    if isinstance(plan, Published):
        return _apply_published(plan, model, tokenizer, calibration, pruner or Pruner())
    refuse_other_model(plan, model)
    base = pruner_for(plan) if pruner is None else pruner
    if calibration is None and not needs_data(base):
        data, record = Calibration(source=NO_TOKENS), plan.calibration
    else:
        data, record = _data_for(plan, model, tokenizer, calibration, any_calibration)
    redone = attrs.evolve(base, selector=Planned(plan.cuts))
    result = redone.prune(model, tokenizer, calibration=data, budget=plan.budget)
    redone_plan = attrs.evolve(result.plan, selector=plan.selector, calibration=record)
    return attrs.evolve(result, plan=redone_plan)


def _data_for(
    plan: Plan,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase | None,
    calibration: object,
    any_calibration: bool,
) -> tuple[Calibration, CalibrationRecord]:
    """The data, tokenised, and what a plan remembers of them."""
    data = calibration_of(plan) if calibration is None else Calibration.of(calibration)
    tokens = data.tokenize(tokenizer, model)
    if not any_calibration and plan.calibration != NO_DATA:
        _refuse_other_data(plan.calibration, tokens.fingerprint)
    return attrs.evolve(data, source=tokens), data.record(tokens)


def _apply_published(
    published: Published,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase | None,
    calibration: object,
    pruner: Pruner,
) -> PruneResult:
    """Make the cuts of ``published``. The budget is what they come to."""
    view = ModelView(model, pruner.registry.adapter_for(family_of(model.config)))
    cuts = published.cuts(view)
    budget = Budget(parameters=1 - without(view, cuts).parameter_count / view.parameter_count)
    unrepaired = attrs.evolve(pruner, selector=Planned(cuts), estimator="billhook:identity")
    idle = calibration is None and not needs_data(unrepaired)
    result = unrepaired.prune(model, tokenizer, calibration=NO_TOKENS if idle else calibration, budget=budget)
    plan = attrs.evolve(result.plan, selector=_spec_of(published))
    return attrs.evolve(result, plan=attrs.evolve(plan, calibration=NO_DATA) if idle else plan)


def _spec_of(published: Published) -> StrategySpec:
    """What the plan of the selector ``published`` would say."""
    options = {
        field.name: getattr(published, field.name)
        for field in attrs.fields(Published)
        if getattr(published, field.name) != field.default
    }
    return StrategySpec(name="billhook:published", options=options)


def needs_data(pruner: Pruner) -> bool:
    """Whether a run of ``pruner`` over given cuts looks at calibration data."""
    estimator = cast(Estimator, pruner.registry.resolve("estimator", pruner.estimator))
    return pruner.objective is not None or estimator.needs is not Needs.NOTHING


def calibration_of(plan: Plan) -> Calibration:
    """The data that the plan names.

    Raises:
        CalibrationError: it was made without any.
    """
    if plan.calibration == NO_DATA:
        raise CalibrationError("This plan was made without calibration data: say which data to take.")
    return Calibration.from_record(plan.calibration)


def pruner_for(plan: Plan) -> Pruner:
    """A pruner with the estimator and merger of ``plan``, built from the registry.

    Raises:
        InvalidPlan: the plan names one that was given as an object and cannot be built from a file.
    """
    registry = default_registry()
    for spec in (plan.estimator, plan.merger):
        if spec.name.startswith("("):
            raise InvalidPlan(
                f"The plan uses {spec.name}, which was given as an object and is not registered: "
                f"hand it over with apply(..., pruner=Pruner(...))."
            )
    return Pruner(
        estimator=cast(Estimator, registry.create("estimator", plan.estimator.name, plan.estimator.options)),
        merger=cast(Merger, registry.create("merger", plan.merger.name, plan.merger.options)),
        repair=plan.repair,
    )


def refuse_other_model(plan: Plan, model: PreTrainedModel) -> None:
    """Raise :class:`InvalidPlan` unless ``model`` (its weights do not matter) is the kind the plan was made for."""
    ours = (family_of(model.config), model.config.num_hidden_layers, sum(p.numel() for p in model.parameters()))
    theirs = (plan.model.model_type, plan.model.layer_count, plan.model.parameter_count)
    if ours != theirs:
        raise InvalidPlan(
            f"This plan is for a {theirs[0]} model with {theirs[1]} layers and {theirs[2]:,} parameters; this one is a "
            f"{ours[0]} with {ours[1]} layers and {ours[2]:,}. Plans use the original model's layer numbers."
        )


def _refuse_other_data(record: CalibrationRecord, fingerprint: str) -> None:
    if fingerprint != record.fingerprint:
        raise CalibrationError(
            f"These are not the tokens the plan was made with (fingerprint {fingerprint[:12]}, the plan has "
            f"{record.fingerprint[:12]}): text, tokenizer or layout differ. Give the same data, or allow other data "
            f"with any_calibration=True (--any-calibration)."
        )
