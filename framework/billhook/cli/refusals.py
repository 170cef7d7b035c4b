"""What a model without weights shows cannot be done. Imports torch, so commands import this when they run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

from transformers import PreTrainedModel

from billhook.budget import Budget
from billhook.cli.inputs import view_of
from billhook.drop_layers import DropLayers
from billhook.errors import InvalidConfig
from billhook.estimator import Estimator
from billhook.merger import Merger
from billhook.model_view import ModelView
from billhook.refusals import refuse_rigid, refuse_unmergeable
from billhook.roles import Strategy
from billhook.selector import Selector


def refuse_impossible(
    empty: PreTrainedModel, budget: Budget, spans: Sequence[tuple[int, int]], chosen: Mapping[str, Strategy]
) -> None:
    """Refuse what ``empty``, a model without weights, shows cannot be done."""
    view = view_of(empty)
    selector = cast(Selector, chosen["selector"])
    _refuse_too_much(view, budget, selector)
    refuse_rigid(view, selector)
    refuse_unmergeable(view, selector, cast(Estimator, chosen["estimator"]), cast(Merger, chosen["merger"]))
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
