"""Plans in the shapes that MultiPruner and BlockPruner publish; :class:`billhook.Published` reads them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from loguru import logger

from billhook.cut import Branch, Cut
from billhook.drop_branch import DropBranch
from billhook.errors import InvalidPlan
from billhook.keep_units import KeepChannels, KeepHeads
from billhook.published import BRANCH_NAMES, DROPPED, WIDTHS
from billhook.removals import Removals, full_width, leading_units, unit_width

if TYPE_CHECKING:
    from billhook.model_view import ModelView
    from billhook.plan import Plan

Narrowing = KeepChannels | KeepHeads


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
    from billhook.applying import refuse_other_model

    refuse_other_model(plan, view.model)
    removals = _removals(plan)
    kept = _narrowed(plan.cuts, removals)
    for cut in kept.values():
        _refuse_other_units(cut, view, reordered)
    dropped = {key: [cut.layer for cut in removals.branches if cut.branch == branch] for key, branch in DROPPED.items()}
    return dropped | {key: _widths(view, branch, kept) for key, branch in WIDTHS.items()}


def to_blockpruner(plan: Plan) -> dict[str, list[list[Any]]]:
    """The plan as BlockPruner's list: for every number of removals the branches that are gone, by layer.

    A whole layer is removed in two steps, attention first.

    Raises:
        InvalidPlan: the plan cuts nothing, or narrows a branch.
    """
    for cut in plan.cuts:
        if isinstance(cut, Narrowing):
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


def _narrowed(cuts: Sequence[Cut], removals: Removals) -> dict[tuple[int, Branch], Narrowing]:
    """The last narrowing of each branch that stays."""
    last: dict[tuple[int, Branch], Narrowing] = {
        (cut.layer, cut.branch): cut for cut in cuts if isinstance(cut, Narrowing)
    }
    return {key: cut for key, cut in last.items() if not removals.drops(*key)}


def _refuse_other_units(cut: Narrowing, view: ModelView, reordered: bool) -> None:
    kept = leading_units(view, cut.layer, cut.branch, len(cut.kept), reordered=reordered)
    if kept != cut.kept:
        rule = "those of the largest weight norm" if reordered else "the first ones"
        raise InvalidPlan(
            f"{cut} cannot be exported: a MultiPruner file holds only how many {cut.noun} stay, and its reader would "
            f"keep {rule}; the plan keeps others."
        )


def _widths(view: ModelView, branch: Branch, narrowed: Mapping[tuple[int, Branch], Narrowing]) -> dict[str, int]:
    """By layer; a branch that goes keeps its full width, as in the published files."""
    widths = {str(layer): full_width(view, layer, branch) for layer in view.numbers if view.has_branch(layer, branch)}
    return widths | {
        str(layer): len(cut.kept) * unit_width(view, layer, branch)
        for (layer, of), cut in narrowed.items()
        if of == branch
    }


def _sorted_entries(order: Sequence[DropBranch]) -> list[list[Any]]:
    names = {branch: name for name, branch in BRANCH_NAMES.items()}
    entries = [[names[cut.branch], cut.layer] for cut in order]
    return sorted(entries, key=lambda entry: (entry[1], entry[0]))  # "mha" comes before "mlp"
