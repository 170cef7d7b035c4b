"""What is not as it was when a plan was made, told before it is applied."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, cast

from billhook.log import logger
from billhook.model.weights import fingerprint
from billhook.plans.plan import Plan
from billhook.plans.strategy_spec import StrategySpec
from billhook.plugins.registry import Registry
from billhook.plugins.versions import version_of
from billhook.pruning.pruner import Pruner
from billhook.roles.estimator import Needs
from billhook.roles.role import Role, Strategy

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def specs_of(plan: Plan) -> dict[Role, StrategySpec | None]:
    """The strategies that are built again when a plan is applied, as it names them."""
    return {"estimator": plan.estimator, "merger": plan.merger, "objective": plan.objective}


def tell_differences(plan: Plan, redone: Pruner, given: Pruner, model: PreTrainedModel) -> None:
    """Warn of all that may make other weights than the plan made, in one line each for versions, model and options.

    Args:
        plan: that is applied.
        redone: the pruner that applies it, strategies as objects.
        given: the one that the user gave: what it has itself is meant to differ.
        model: that it is applied to.
    """
    registry = redone.whole_registry
    if changed := list(_other_versions(plan, registry)):
        logger.warning("The plan was made with other versions: {}. The weights may differ.", ", ".join(changed))
    changed = list(_other_model(plan, model))
    if changed and redone.method().estimator.needs is not Needs.NOTHING:
        logger.warning("The plan was made for a model with {}. The repairs will differ.", " and ".join(changed))
    if unsaid := list(_unsaid(plan, redone, given, registry)):
        logger.warning("The plan does not say all options; those of today are taken: {}.", "; ".join(unsaid))


def _other_versions(plan: Plan, registry: Registry) -> Iterator[str]:
    for name, said in (plan.versions or {"billhook": plan.billhook}).items():
        found = version_of(registry, name)
        if found is None:
            yield f"{name} {said}, which is not installed here"
        elif found != said:
            yield f"{name} {said}, here {found}"


def _other_model(plan: Plan, model: PreTrainedModel) -> Iterator[str]:
    dtype = str(model.dtype).removeprefix("torch.")
    if plan.model.dtype and plan.model.dtype != dtype:
        yield f"weights in {plan.model.dtype}, here {dtype}"
    elif plan.model.weights and plan.model.weights != fingerprint(model):
        yield "other weights"


def _unsaid(plan: Plan, redone: Pruner, given: Pruner, registry: Registry) -> Iterator[str]:
    for role, spec in specs_of(plan).items():
        if spec is None or getattr(given, role) is not None:
            continue
        now = registry.spec(role, cast(Strategy, getattr(redone, role)))
        options = {name: value for name, value in now.options.items() if name not in spec.options}
        if options:
            yield str(StrategySpec(name=now.name, options=options))
