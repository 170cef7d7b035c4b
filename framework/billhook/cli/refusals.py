"""What a model without weights shows cannot be done. Imports torch, so commands import this when they run."""

from __future__ import annotations

from collections.abc import Sequence

from transformers import PreTrainedModel

from billhook.cli.opening import view_of
from billhook.cuts.drop_layers import DropLayers
from billhook.errors import InvalidConfig
from billhook.model.view import ModelView
from billhook.plans.budget import Budget
from billhook.plugins.registry import Registry
from billhook.pruning.method import Method
from billhook.pruning.refusals import refuse_rigid, refuse_unmergeable
from billhook.roles.selector import Selector


def refuse_impossible(
    empty: PreTrainedModel, budget: Budget, spans: Sequence[tuple[int, int]], method: Method, registry: Registry
) -> None:
    """Refuse what ``empty``, a model without weights, shows cannot be done."""
    view = view_of(empty, registry)
    _refuse_too_much(view, budget, method.selector)
    refuse_rigid(view, method.selector)
    refuse_unmergeable(view, method)
    for span in spans:
        DropLayers(*span).check(view)


def _refuse_too_much(view: ModelView, budget: Budget, selector: Selector) -> None:
    """Refuse a budget that no cuts of the selector's kinds can meet."""
    if all(kind.uniform for kind in selector.kinds()):
        budget.layer_count(view)
        return
    wanted, there = budget.parameter_count(view), view.layer_parameter_count
    if wanted >= there:
        raise InvalidConfig(
            f"A budget of {budget} means {wanted:,} parameters, but the layers have only {there:,} and something must "
            f"stay. Ask for less."
        )
