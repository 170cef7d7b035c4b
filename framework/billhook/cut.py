"""Cuts: values that say what goes. Layer numbers are those of the original model, 0-based, spans half-open."""

from __future__ import annotations

import abc
from typing import TYPE_CHECKING, ClassVar, Literal

import attrs

from billhook.errors import InvalidCut

if TYPE_CHECKING:
    from billhook.model_view import ModelView

Branch = Literal["attention", "mlp"]


@attrs.frozen
class RepairSite:
    """Where the loss of a cut can be made up for.

    The output of ``branch`` of layer ``layer`` (the *donor*, the nearest survivor before the cut) is the
    regressor; the dense model's stream entering layer ``target`` is what should come out.
    """

    layer: int
    branch: Branch
    target: int


class Cut(abc.ABC):
    """Something to remove. A new kind of cut is one subclass, named in :data:`CUT_KINDS`."""

    kind: ClassVar[str]

    @abc.abstractmethod
    def check(self, view: ModelView) -> None:
        """Raise :class:`InvalidCut` when ``view`` cannot lose this; change nothing."""

    @abc.abstractmethod
    def repair_site(self, view: ModelView) -> RepairSite | None:
        """Where the loss can be repaired, or None when nothing survives before the cut."""

    @abc.abstractmethod
    def remove_from(self, view: ModelView) -> None:
        """Take the structure out of ``view``'s model. Only mergers call this."""


@attrs.frozen
class DropLayers(Cut):
    """Whole layers ``start`` up to, not including, ``stop`` go."""

    kind: ClassVar[str] = "drop-layers"

    start: int
    stop: int

    def __attrs_post_init__(self) -> None:
        if not 0 <= self.start < self.stop:
            raise InvalidCut(f"DropLayers needs 0 <= start < stop; got start={self.start}, stop={self.stop}.")

    def __str__(self) -> str:
        return f"layers {self.start}:{self.stop}"

    def __len__(self) -> int:
        return self.stop - self.start

    @property
    def layers(self) -> range:
        """The numbers that go."""
        return range(self.start, self.stop)

    def check(self, view: ModelView) -> None:
        """Raise :class:`InvalidCut` unless all layers are present and at least one other survives."""
        missing = [n for n in self.layers if n not in view.numbers]
        if missing:
            raise InvalidCut(
                f"{self} cannot be dropped: layers {missing} are not there. The model has layers "
                f"{view.numbers[0]} to {view.numbers[-1]}" + (", some already cut." if view.has_gaps else ".")
            )
        if len(self) == len(view.numbers):
            raise InvalidCut(f"{self} cannot be dropped: no layer would be left. Ask for fewer layers.")

    def repair_site(self, view: ModelView) -> RepairSite | None:
        """The MLP of the nearest surviving layer before ``start``; the target is what the next survivor is to read."""
        before = [n for n in view.numbers if n < self.start]
        # not always `stop`: the layers from there on may be gone already
        target = next((n for n in view.numbers if n >= self.stop), view.original_layer_count)
        return RepairSite(layer=before[-1], branch="mlp", target=target) if before else None

    def remove_from(self, view: ModelView) -> None:
        """Drop the layers, renumber the survivors and their cache slots, shorten the config."""
        view.drop_layers(self.layers)


CUT_KINDS: dict[str, type[Cut]] = {cls.kind: cls for cls in (DropLayers,)}
"""Kinds of cut by the name that stands in plan files."""
