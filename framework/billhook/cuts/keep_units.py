"""KeepChannels and KeepHeads: a branch gets narrower."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, cast

import attrs

from billhook.cuts.cut import AnyCut, Cut
from billhook.cuts.runs import from_runs, to_runs
from billhook.cuts.sites import RepairSite, site_within
from billhook.errors import InvalidCut
from billhook.model.branch import Branch, Place

if TYPE_CHECKING:
    from torch import Tensor

    from billhook.model.layer_version import LayerVersion
    from billhook.model.view import ModelView


class _KeepUnits(Cut):
    """What the two have in common: some of a branch's units stay, the others go."""

    branch: ClassVar[Branch]
    noun: ClassVar[str]
    layer: int
    kept: tuple[int, ...]

    def __attrs_post_init__(self) -> None:
        name = type(self).__name__
        whole = isinstance(self.kept, tuple) and all(type(unit) is int for unit in (self.layer, *self.kept))
        if not whole:
            raise InvalidCut(f"{name} takes a layer and a tuple of whole numbers, as (0, 1, 5); got {self.kept!r}.")
        if self.layer < 0:
            raise InvalidCut(f"{name} needs a layer of 0 or more; got {self.layer}.")
        if not self.kept:
            raise InvalidCut(f"{name} must keep at least one. To drop the whole branch, use DropBranch.")
        if self.kept[0] < 0 or any(a >= b for a, b in itertools.pairwise(self.kept)):
            raise InvalidCut(f"The 'kept' of {name} must be original numbers of 0 or more, ascending, each once.")

    def __str__(self) -> str:
        return f"{self.branch} {self.layer} to {len(self.kept)} {self.noun}"

    @property
    def narrowed(self) -> Mapping[Place, tuple[int, ...]]:
        """The branch that gets narrower, and the units that it keeps."""
        return {(self.layer, self.branch): self.kept}

    def check(self, view: ModelView) -> None:
        """Raise :class:`InvalidCut` unless all of ``kept`` are there, some others too, and the family allows it."""
        present = view.units(self.layer, self.branch)
        if missing := sorted(set(self.kept) - set(present)):
            raise InvalidCut(
                f"{self} is not possible: {self.noun} {missing[:5]} are not there. {view.describe_layer(self.layer)}"
            )
        if len(self.kept) == len(present):
            raise InvalidCut(f"{self} is not possible: nothing would go. {view.describe_layer(self.layer)}")
        if reason := view.adapter.why_not_narrowable(view.model.config, self.branch):
            raise InvalidCut(f"{self} is not possible: {reason} Drop whole branches or layers instead.")

    def repair_site(self, view: ModelView) -> RepairSite | None:
        """The branch itself: what is left of its writer makes up for the rest."""
        return site_within(view, (self.layer, self.branch))

    def inner_columns(self, view: ModelView) -> Tensor:
        """Of what the branch's writer reads, the columns of the units that stay, ``[columns]`` int64 on the CPU."""
        from billhook.model.surgery import entries_of
        from billhook.model.writer import weight_rows

        width = weight_rows(view.writer(self.layer, self.branch)).shape[0]
        return entries_of(self._places(view), len(view.units(self.layer, self.branch)), [1], width)

    def changes(self, view: ModelView) -> Mapping[int, LayerVersion | None]:
        """The layer with the branch made narrower."""
        from billhook.model.layer_version import LayerVersion
        from billhook.model.surgery import narrowed

        present, places = view.units(self.layer, self.branch), self._places(view)
        sizes = view.adapter.sizes(view.model.config, self.branch, len(self.kept))
        layout = view.adapter.layout(self.branch)
        version = narrowed(view.layer(self.layer), layout, places, len(present), sizes)
        return {self.layer: LayerVersion(version, {self.branch: self.kept})}

    def to_data(self) -> dict[str, Any]:
        """The layer, and the kept units as runs: ``0:5 7 9:12`` for 0 to 4, 7, and 9 to 11."""
        return {"layer": self.layer, "kept": to_runs(self.kept)}

    @classmethod
    def from_data(cls: type[AnyCut], fields: Mapping[str, Any]) -> AnyCut:
        """The inverse of :meth:`to_data`; takes a plain list of units as well.

        Raises:
            InvalidPlan: a text that holds no runs.
            InvalidCut: units that are not ascending, or none.
        """
        kept = fields.get("kept")
        if not isinstance(kept, str):
            return super().from_data(fields)
        few = super().from_data({**fields, "kept": [0]})
        made: AnyCut = attrs.evolve(cast("Any", few), kept=from_runs(kept))  # not one by one: millions may be kept
        return made

    def _places(self, view: ModelView) -> list[int]:
        """Of the units that stay, among those there."""
        position = {unit: place for place, unit in enumerate(view.units(self.layer, self.branch))}
        return [position[unit] for unit in self.kept]


@attrs.frozen
class KeepChannels(_KeepUnits):
    """The MLP of ``layer`` keeps only the channels ``kept`` (original numbers, ascending)."""

    kind: ClassVar[str] = "keep-channels"
    branch: ClassVar[Branch] = "mlp"
    narrows: ClassVar[Branch | None] = "mlp"
    donors: ClassVar[tuple[Branch, ...]] = ("mlp",)
    noun: ClassVar[str] = "channels"

    layer: int
    kept: tuple[int, ...]


@attrs.frozen
class KeepHeads(_KeepUnits):
    """The attention of ``layer`` keeps only the key-value groups ``kept`` (original numbers, ascending).

    A group is one key-value head and the query heads that read it: a single head under multi-head attention.
    """

    kind: ClassVar[str] = "keep-heads"
    branch: ClassVar[Branch] = "attention"
    narrows: ClassVar[Branch | None] = "attention"
    donors: ClassVar[tuple[Branch, ...]] = ("attention",)
    noun: ClassVar[str] = "key-value groups"

    layer: int
    kept: tuple[int, ...]


KEEPING: Mapping[Branch, type[KeepChannels] | type[KeepHeads]] = {"mlp": KeepChannels, "attention": KeepHeads}
"""The cut that makes a branch narrower."""


def keeping(place: Place, kept: Iterable[int]) -> KeepChannels | KeepHeads:
    """The cut that leaves a branch only the units ``kept``, by original numbers in any order."""
    number, branch = place
    return KEEPING[branch](number, tuple(sorted(kept)))
