"""What is refused before any work: nobody waits for hours to hear that it was in vain."""

from __future__ import annotations

from typing import cast

from transformers import PreTrainedModel

from billhook.cuts.cut import Cut
from billhook.cuts.drop_branch import DropBranch
from billhook.cuts.drop_layers import DropLayers
from billhook.cuts.uniform import can_be_uniform
from billhook.errors import CannotMerge, InvalidConfig
from billhook.model.acceptance import refuse_changed, refuse_unprunable
from billhook.model.branch import Branch
from billhook.model.view import ModelView
from billhook.plans.budget import Budget
from billhook.pruning.method import Method
from billhook.roles.estimator import Needs
from billhook.roles.selector import Selector


def refuse_no_model(model: object) -> None:
    """Raise for what is no model that can be pruned: a name, a classifier, LoRA layers, a ``forward`` of its own."""
    refuse_unprunable(model)
    refuse_changed(cast(PreTrainedModel, model))


def refuse_unmergeable(view: ModelView, method: Method) -> None:
    """Raise :class:`CannotMerge` before any work if no repair of this model could be merged, or its bias.

    Asked of the last layer: the layers of a model are built alike, so what cannot be merged there cannot anywhere.
    """
    last = view.numbers[-1]
    if method.estimator.needs is Needs.NOTHING or last == 0:
        return
    donors = {branch for kind in method.selector.kinds() for branch in kind.donors}
    cuts: list[Cut] = [DropLayers(last, last + 1)] if "mlp" in donors else []
    if "attention" in donors:
        cuts.append(DropBranch(last, "mlp"))
    for cut in cuts:
        method.merger.check(view, cut)
        site = cut.repair_site(view)
        if site is not None and method.estimator.gives_bias and not method.merger.takes_bias(view, site):
            raise CannotMerge(
                f"The maps of {method.estimator!r} have a bias, but the {site.branch} writers of this model have none "
                f"that {method.merger!r} could put it in. Estimate without bias, or use the merger 'insert'."
            )


def refuse_unweighted(method: Method) -> None:
    """Raise :class:`InvalidConfig` for weights of tokens with an estimator that reads rows and not their weights."""
    heeds = method.estimator.needs is not Needs.ROWS or method.estimator.weighs_rows
    if not heeds and method.repair.weights != "equal":
        raise InvalidConfig(
            f"Repair(weights={method.repair.weights!r}) would do nothing: the estimator {method.estimator!r} reads "
            f"rows, and does not say that it heeds their weights (weighs_rows = True). Leave the weights 'equal' "
            f"(repair.weights=equal), or use an estimator that reads moments, such as 'least-squares' or 'ridge'."
        )


def refuse_other_regressor(method: Method) -> None:
    """Raise :class:`InvalidConfig` where the estimator cannot find the kind of map that the merger puts."""
    asked, known = method.merger.regressor, method.estimator.regressors
    if asked not in known and method.estimator.needs is not Needs.NOTHING:
        raise InvalidConfig(
            f"The maps of the estimator {method.estimator!r} start from {' or '.join(map(repr, known))}, and the "
            f"merger {method.merger!r} asks for one that starts from {asked!r}. Use the merger "
            f"{'fold' if known == ('output',) else 'refit'!r}, or an estimator such as 'ridge'."
        )


def refuse_growing(method: Method) -> None:
    """Raise :class:`InvalidConfig` where every repair adds more than the cut takes away.

    A map behind a branch has ``d_model²`` parameters; of an MLP with three matrices that is what a third of
    ``d_model`` channels have, and cuts that narrow a branch are far smaller than that.
    """
    narrowing = [kind.__name__ for kind in method.selector.kinds() if kind.narrows is not None]
    repairs = method.estimator.needs is not Needs.NOTHING
    if method.merger.adds_parameters and narrowing and repairs and method.selector.meets_budget:
        raise InvalidConfig(
            f"The merger {method.merger!r} adds a map to every branch that it repairs, more parameters than "
            f"{' and '.join(narrowing)} of the selector {method.selector!r} take away, so the model would grow. Use "
            f"the merger 'refit' or 'fold', the estimator 'identity', or a selector of layers or branches."
        )


def refuse_no_budget(budget: object) -> None:
    """Raise :class:`InvalidConfig` for what is no budget, a number for instance."""
    if not isinstance(budget, Budget):
        raise InvalidConfig(f"The budget must be a Budget, for instance Budget(layers=8); got {budget!r}.")


def refuse_layers(selector: object, budget: Budget) -> None:
    """Raise :class:`InvalidConfig` for a budget in layers where the default recipe is to meet it.

    It drops none: whoever asks for layers without saying how means layers, and not as many channels.

    Args:
        selector: the one that was named, or None.
        budget: what was asked for.
    """
    if selector is None and budget.layers is not None:
        raise InvalidConfig(
            "The default recipe makes MLPs narrower and drops no layers. Say how much by a ratio "
            "(Budget(parameters=0.2), --ratio 0.2), or follow a recipe that drops layers "
            "(Pruner.following('replaceme'), --recipe replaceme)."
        )


def refuse_rigid(view: ModelView, selector: Selector) -> None:
    """Raise :class:`InvalidConfig` before any work if branches are to get narrower that cannot, or not uniformly."""
    narrowed: list[Branch] = [kind.narrows for kind in selector.kinds() if kind.narrows is not None]
    for branch in narrowed:
        reason = view.adapter.why_not_narrowable(view.model.config, branch)
        if reason is None and getattr(selector, "uniform", False) and not can_be_uniform(view, branch):
            reason = "the config of its type cannot say how wide they are, so no stock checkpoint could hold them."
        if reason:
            raise InvalidConfig(
                f"The {branch} branches of this model cannot get narrower: {reason} Leave out what narrows them: "
                f"a selector of several dimensions takes a share of 0 for this one, as in selector.shares=[44,52,0], "
                f"or a switch, as in selector.heads=false."
            )
