"""What is refused before any work: nobody waits for hours to hear that it was in vain."""

from __future__ import annotations

from transformers import PreTrainedModel

from billhook.budget import Budget
from billhook.cut import Branch
from billhook.drop_branch import DropBranch
from billhook.drop_layers import DropLayers
from billhook.errors import InvalidConfig, UnsupportedArchitecture
from billhook.estimator import Estimator, Needs
from billhook.heterogeneous import can_be_uniform
from billhook.keep_units import KeepChannels, KeepHeads
from billhook.merger import Merger
from billhook.model_view import ModelView
from billhook.selector import Selector


def refuse_no_model(model: object) -> None:
    """Raise :class:`UnsupportedArchitecture` for what is no model at all, a name for instance."""
    if not isinstance(model, PreTrainedModel):
        raise UnsupportedArchitecture(
            f"The model must be a transformers model, as billhook.load(name) gives; got {type(model).__name__}."
        )


def refuse_unmergeable(view: ModelView, selector: Selector, estimator: Estimator, merger: Merger) -> None:
    """Raise :class:`CannotMerge` before any work if no repair of this model could be merged.

    Asked of the last layer: the layers of a model are built alike, so what cannot be merged there cannot anywhere.
    """
    last = view.numbers[-1]
    if estimator.needs is Needs.NOTHING or last == 0:
        return
    donors: set[Branch] = set()  # by the branch that has to carry the map
    for kind in selector.kinds():
        donors |= {"attention", "mlp"} if kind is DropBranch else {getattr(kind, "branch", "mlp")}
    if "mlp" in donors:
        merger.check(view, DropLayers(last, last + 1))
    if "attention" in donors:
        merger.check(view, DropBranch(last, "mlp"))


def refuse_no_budget(budget: object) -> None:
    """Raise :class:`InvalidConfig` for what is no budget, a number for instance."""
    if not isinstance(budget, Budget):
        raise InvalidConfig(f"The budget must be a Budget, for instance Budget(layers=8); got {budget!r}.")


def refuse_rigid(view: ModelView, selector: Selector) -> None:
    """Raise :class:`InvalidConfig` before any work if branches are to get narrower that cannot, or not uniformly."""
    for kind in selector.kinds():
        if not issubclass(kind, KeepChannels | KeepHeads):
            continue
        reason = view.adapter.why_not_narrowable(view.model.config, kind.branch)
        if reason is None and getattr(selector, "uniform", False) and not can_be_uniform(view, kind.branch):
            reason = "the config of its type cannot say how wide they are, so no stock checkpoint could hold them."
        if reason:
            raise InvalidConfig(
                f"The {kind.branch} branches of this model cannot get narrower: {reason} Leave out what narrows them: "
                f"a selector of several dimensions takes a share of 0 for this one, as in selector.shares=[44,52,0], "
                f"or a switch, as in selector.heads=false."
            )
