"""DropLayers: whole layers go."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

import attrs

from billhook.cuts.cut import Cut
from billhook.cuts.sites import RepairSite, site_before
from billhook.errors import InvalidCut
from billhook.model.branch import BRANCHES, Branch, Place

if TYPE_CHECKING:
    from billhook.model.layer_version import LayerVersion
    from billhook.model.view import ModelView

MOST_LAYERS = 100_000
"""More than any model has. Spans come from files, too, and what is listed layer by layer must not fill the memory."""


@attrs.frozen
class DropLayers(Cut):
    """Whole layers ``start`` up to, not including, ``stop`` go."""

    kind: ClassVar[str] = "drop-layers"
    uniform: ClassVar[bool] = True
    donors: ClassVar[tuple[Branch, ...]] = ("mlp",)

    start: int
    stop: int

    def __attrs_post_init__(self) -> None:
        if not (type(self.start) is int and type(self.stop) is int):
            raise InvalidCut(f"DropLayers takes whole numbers; got start={self.start!r}, stop={self.stop!r}.")
        if not 0 <= self.start < self.stop:
            raise InvalidCut(f"DropLayers needs 0 <= start < stop; got start={self.start}, stop={self.stop}.")
        if self.stop > MOST_LAYERS:
            raise InvalidCut(f"DropLayers goes up to layer {MOST_LAYERS:,}, no model has more; got stop={self.stop}.")

    def __str__(self) -> str:
        return f"layers {self.start}:{self.stop}"

    def __len__(self) -> int:
        return self.stop - self.start

    @property
    def layers(self) -> range:
        """The original numbers of the layers that go."""
        return range(self.start, self.stop)

    @property
    def branches(self) -> tuple[Place, ...]:
        """Attention and MLP of each layer, in the order of the stream."""
        return tuple((number, branch) for number in self.layers for branch in BRANCHES)

    def check(self, view: ModelView) -> None:
        """Raise :class:`InvalidCut` unless all layers are present and at least one other survives."""
        missing = sorted(set(self.layers) - set(view.numbers))
        if missing:
            more = f" and {len(missing) - 5:,} more" if len(missing) > 5 else ""
            raise InvalidCut(
                f"{self} cannot be dropped: layers {missing[:5]}{more} are not there. The model has layers "
                f"{view.numbers[0]} to {view.numbers[-1]}" + (", some already cut." if view.has_gaps else ".")
            )
        if len(self) == len(view.numbers):
            raise InvalidCut(f"{self} cannot be dropped: no layer would be left. Ask for fewer layers.")
        view.refuse_without_attention(self.layers, str(self), whole=True)

    def repair_site(self, view: ModelView) -> RepairSite | None:
        """The last branch of the nearest survivor before ``start``: the MLP, or the attention if that is gone."""
        return site_before(view, lambda place: place[0] in self.layers)

    def changes(self, view: ModelView) -> Mapping[int, LayerVersion | None]:
        """By original number, None for each layer that goes: nothing stands in its place."""
        return dict.fromkeys(self.layers)
