"""Doing a plan again."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, cast

import attrs

from billhook.budget import Budget
from billhook.calibration import Calibration
from billhook.configuration_billhook import family_of
from billhook.cut import Cut
from billhook.errors import CalibrationError, InvalidPlan
from billhook.estimator import Estimator
from billhook.merger import Merger
from billhook.plan import CalibrationRecord, Plan
from billhook.pruner import Pruner, refuse_no_model
from billhook.registry import default_registry
from billhook.result import PruneResult
from billhook.selector import Selector
from billhook.state import PruningState

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


@attrs.frozen
class Planned(Selector):
    """Yields given cuts in their order; the budget is taken as met by them."""

    cuts: tuple[Cut, ...]

    def select(self, state: PruningState, budget: Budget) -> Iterator[Cut]:
        """The cuts."""
        yield from self.cuts


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

    Args:
        plan: what to do.
        model: the model it was made for; not changed.
        tokenizer: as for :meth:`Pruner.prune`.
        calibration: the data; if None, what the plan's record names.
        pruner: brings hooks, cache and registry, and strategies that are not registered; its selector is not used.
        any_calibration: accept other data than the plan was made with. The maps then differ.

    Raises:
        InvalidPlan: the plan belongs to another model, or names strategies that cannot be built from a file.
        CalibrationError: the data are not those of the plan.
    """
    refuse_no_model(model)
    refuse_other_model(plan, model)
    data = Calibration.from_record(plan.calibration) if calibration is None else Calibration.of(calibration)
    tokens = data.tokenize(tokenizer)
    if not any_calibration:
        _refuse_other_data(plan.calibration, tokens.fingerprint)
    base = pruner_for(plan) if pruner is None else pruner
    redone = attrs.evolve(base, selector=Planned(plan.cuts))
    result = redone.prune(model, tokenizer, calibration=attrs.evolve(data, source=tokens), budget=plan.budget)
    redone_plan = attrs.evolve(result.plan, selector=plan.selector, calibration=data.record(tokens))
    return attrs.evolve(result, plan=redone_plan)


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
