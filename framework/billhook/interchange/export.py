"""Plans in the shapes that MultiPruner and BlockPruner publish; :class:`billhook.Published` reads them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from billhook.cuts.drop_branch import DropBranch
from billhook.errors import InvalidPlan
from billhook.interchange.published import BRANCH_NAMES, DROPPED, WIDTHS
from billhook.interchange.removals import Removals, full_width, leading_units, without
from billhook.log import logger
from billhook.model.branch import UNITS, Branch, Place
from billhook.plans.plan import Plan, refuse_other_model

if TYPE_CHECKING:
    from billhook.model.view import ModelView


def to_multipruner(plan: Plan, view: ModelView, *, reordered: bool = True) -> dict[str, Any]:
    """The plan as MultiPruner's ``pruning_config.json``: dropped branches by layer, and the width of every branch.

    Args:
        plan: what was cut. Its repairs have no place in the file; a warning says so.
        view: the whole model that the plan is for. Its weights are looked at only if the plan narrows something.
        reordered: whether the reader of the file is to sort the units by weight norm (``--weight_reorder``).

    Raises:
        InvalidPlan: the plan is for another model or cuts nothing; or a narrowed branch keeps other units than the
            reader of the file would keep.
    """
    refuse_other_model(plan, view.model)
    removals = _removals(plan)
    after = without(view, plan.cuts)
    narrowed = [place for place in _narrowed(plan) if not removals.drops(*place)]
    for place in narrowed:
        _refuse_other_units(place, after.units(*place), view, reordered)
    dropped = {key: [cut.layer for cut in removals.branches if cut.branch == branch] for key, branch in DROPPED.items()}
    return dropped | {key: _widths(view, after, branch) for key, branch in WIDTHS.items()}


def to_blockpruner(plan: Plan) -> dict[str, list[list[Any]]]:
    """The plan as BlockPruner's list: for every number of removals the branches that are gone, by layer.

    A whole layer is removed in two steps, attention first.

    Raises:
        InvalidPlan: the plan cuts nothing, or narrows a branch.
    """
    for cut in plan.cuts:
        if cut.narrowed:
            raise InvalidPlan(
                f"{cut} cannot be exported: BlockPruner lists hold whole branches only. Export to multipruner."
            )
    order = _removals(plan).branches
    return {str(steps): _sorted_entries(order[:steps]) for steps in range(1, len(order) + 1)}


def _removals(plan: Plan) -> Removals:
    if not plan.cuts:
        raise InvalidPlan("The plan cuts nothing, so there is nothing to export.")
    if plan.estimator.name != "billhook:identity":
        logger.warning("The plan repairs its cuts ({}); the exported file holds only what goes.", plan.estimator)
    return Removals.of(plan.cuts)


def _narrowed(plan: Plan) -> list[Place]:
    """The branches that some cut makes narrower, once each."""
    return list(dict.fromkeys(place for cut in plan.cuts for place in cut.narrowed))


def _refuse_other_units(place: Place, left: tuple[int, ...], view: ModelView, reordered: bool) -> None:
    if leading_units(view, *place, len(left), reordered=reordered) != left:
        rule = "those of the largest weight norm" if reordered else "the first ones"
        raise InvalidPlan(
            f"The {place[1]} of layer {place[0]} cannot be exported: a MultiPruner file holds only how many "
            f"{UNITS[place[1]]} stay, and its reader would keep {rule}; the plan keeps others."
        )


def _widths(view: ModelView, after: ModelView, branch: Branch) -> dict[str, int]:
    """By layer; a branch that goes keeps its full width, as in the published files."""
    return {
        str(layer): full_width(after, layer, branch) or full_width(view, layer, branch)
        for layer in view.numbers
        if view.has_branch(layer, branch)
    }


def _sorted_entries(order: Sequence[DropBranch]) -> list[list[Any]]:
    names = {branch: name for name, branch in BRANCH_NAMES.items()}
    entries = [[names[cut.branch], cut.layer] for cut in order]
    return sorted(entries, key=lambda entry: (entry[1], entry[0]))  # "mha" comes before "mlp"
