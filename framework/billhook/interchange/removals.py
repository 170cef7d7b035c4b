"""Removals: which branches go and how wide the others become, as published files tell it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

import attrs

from billhook.cuts.cut import Cut
from billhook.cuts.drop_branch import DropBranch
from billhook.cuts.keep_units import keeping
from billhook.errors import InvalidPlan
from billhook.measures.unit_scores import weight_l1
from billhook.model.branch import Branch
from billhook.model.inserted import without_maps
from billhook.model.writer import weight_rows

if TYPE_CHECKING:
    from billhook.model.view import ModelView

ORDER: tuple[Branch, ...] = ("mlp", "attention")
"""In which widths are applied."""


@attrs.frozen(kw_only=True)
class Removals:
    """What goes from a model, without saying which units of a narrowed branch stay.

    Attributes:
        branches: that go as a whole, in the order of their removal as far as it is known.
        widths: of the others, by branch and layer: columns that the writer keeps, that is channels, or the query
            heads' columns together. A branch that is not listed, or has its full width, stays as it is. The width of
            a branch that goes means nothing.
    """

    branches: tuple[DropBranch, ...] = ()
    widths: Mapping[Branch, Mapping[int, int]] = attrs.field(factory=dict)

    @classmethod
    def of(cls, cuts: Iterable[Cut]) -> Removals:
        """The branches that ``cuts`` remove, whole layers as attention and MLP; narrowed ones are left out.

        Raises:
            InvalidPlan: a kind of cut that removes something else.
        """
        # once each: a layer that has lost a branch before can still be dropped whole
        return cls(branches=tuple(dict.fromkeys(branch for cut in cuts for branch in _branches_of(cut))))

    def drops(self, layer: int, branch: Branch) -> bool:
        """Whether that branch goes as a whole."""
        return DropBranch(layer, branch) in self.branches

    def unit_counts(self, view: ModelView) -> dict[tuple[int, Branch], int]:
        """By layer and branch: how many units stay, where it is not all of them. Looks at shapes alone.

        Args:
            view: the whole model.

        Raises:
            InvalidPlan: a layer that the model does not have, or a width that is too large or splits a group.
        """
        self._refuse_missing_layers(view)
        counts: dict[tuple[int, Branch], int] = {}
        for branch in ORDER:
            for layer, width in sorted(self.widths.get(branch, {}).items()):
                if not self.drops(layer, branch) and width != full_width(view, layer, branch):
                    _refuse_bad_width(view, layer, branch, width)
                    counts[layer, branch] = width // unit_width(view, layer, branch)
        return counts

    def cuts(self, view: ModelView, *, reordered: bool = True) -> tuple[Cut, ...]:
        """The cuts in ``view``, the whole model: branches in their order, then channels, then heads, layer by layer.

        Args:
            view: the whole model.
            reordered: keep the units that :func:`leading_units` names; if False the first ones, as they lie.

        Raises:
            InvalidPlan: see :meth:`unit_counts`; or nothing would go.
        """
        narrowed = [
            keeping((layer, branch), leading_units(view, layer, branch, count, reordered=reordered))
            for (layer, branch), count in self.unit_counts(view).items()
        ]
        if not self.branches and not narrowed:
            raise InvalidPlan("Nothing would go: no branch is dropped, and every width is the full one of this model.")
        return (*self.branches, *narrowed)

    def _refuse_missing_layers(self, view: ModelView) -> None:
        named = {cut.layer for cut in self.branches} | {n for widths in self.widths.values() for n in widths}
        if missing := sorted(named - set(view.numbers)):
            raise InvalidPlan(
                f"The file speaks of layer {missing[0]}; this model has layers {view.numbers[0]} to "
                f"{view.numbers[-1]}. Take the model that the file was made for."
            )


def without(view: ModelView, cuts: Iterable[Cut]) -> ModelView:
    """A copy of ``view`` without what ``cuts`` remove; raises what the first impossible one does."""
    copy = view.copy()
    for cut in cuts:
        cut.check(copy)
        cut.remove_from(copy)
    return copy


def unit_width(view: ModelView, layer: int, branch: Branch) -> int:
    """Columns of the writer that one unit has: 1 for a channel, those of its query heads for a key-value group."""
    return full_width(view, layer, branch) // len(view.units(layer, branch))


def full_width(view: ModelView, layer: int, branch: Branch) -> int:
    """Columns of the writer: the width of a branch that has lost nothing; 0 if ``view`` has no such branch."""
    if not view.has_branch(layer, branch):
        return 0
    return weight_rows(without_maps(view.writer(layer, branch))).shape[0]


def leading_units(
    view: ModelView, layer: int, branch: Branch, count: int, *, reordered: bool = True
) -> tuple[int, ...]:
    """The ``count`` units that stay, by number.

    MultiPruner sorts the units of a branch once, by weight norm (``unit_scores.weight_l1``), largest first, and every
    width keeps the first ones. Ties go to the lower number.

    Args:
        view: the whole model.
        layer: whose units.
        branch: of the layer.
        count: how many.
        reordered: whether they are sorted; if False they are taken as they lie.
    """
    units = view.units(layer, branch)
    if not reordered:
        return units[:count]
    order = weight_l1(view, layer, branch).sort(descending=True, stable=True).indices.tolist()
    return tuple(sorted(units[place] for place in order[:count]))


def _branches_of(cut: Cut) -> Iterator[DropBranch]:
    if not cut.branches and not cut.narrowed:
        raise InvalidPlan(
            f"{cut} cannot be exported: it is of kind {cut.kind!r}, and published formats hold only whole "
            f"branches that go, and branches that get narrower."
        )
    yield from (DropBranch(*place) for place in cut.branches)


def _refuse_bad_width(view: ModelView, layer: int, branch: Branch, width: int) -> None:
    full = full_width(view, layer, branch)
    if width > full:
        raise InvalidPlan(
            f"The file gives the {branch} of layer {layer} {width} channels; in this model it has {full}. "
            f"Take the model that the file was made for."
        )
    if width % (unit := unit_width(view, layer, branch)):
        raise InvalidPlan(
            f"The file gives the {branch} of layer {layer} {width} channels, which are no whole key-value groups: "
            f"in this model a group has {unit}."
        )
