"""Cut: a value that says what goes. Layer numbers are those of the original model, 0-based, spans half-open."""

from __future__ import annotations

import abc
from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar, Literal

import attrs

if TYPE_CHECKING:
    from torch import Tensor

    from billhook.layer_version import LayerVersion
    from billhook.model_view import ModelView

Branch = Literal["attention", "mlp"]


@attrs.frozen
class RepairSite:
    """Where the loss of a cut can be made up for.

    ``branch`` of layer ``layer`` is the *donor*: its output, or what its writer reads, is the regressor. What should
    come out is the dense model's stream at the place where the next surviving branch reads it.

    Attributes:
        layer: of the donor, by original number.
        branch: of the donor.
        target: position of the dense stream: what enters that layer.
        between: the target lies between the branches of layer ``target``: what its MLP reads, attention added.
    """

    layer: int
    branch: Branch
    target: int
    between: bool = False


class Cut(abc.ABC):
    """Something to remove. A new kind of cut is one subclass, named in :data:`billhook.cut_kinds.CUT_KINDS`.

    Attributes:
        kind: its name in plan files.
        uniform: whether layers stay alike, so that a stock checkpoint can hold the result.
    """

    kind: ClassVar[str]
    uniform: ClassVar[bool] = False

    @abc.abstractmethod
    def check(self, view: ModelView) -> None:
        """Raise :class:`InvalidCut` when ``view`` cannot lose this; change nothing."""

    @abc.abstractmethod
    def repair_site(self, view: ModelView) -> RepairSite | None:
        """Where the loss can be repaired, or None when nothing can make up for it."""

    def inner_columns(self, view: ModelView) -> Tensor | None:
        """Of what the donor's writer reads, the columns that are left, ``[columns]`` int64; None for all of them."""
        return None

    @abc.abstractmethod
    def changes(self, view: ModelView) -> Mapping[int, LayerVersion | None]:
        """By original number, the layers as they are without it; None for a layer that goes as a whole.

        New modules that share every tensor that stays. ``view`` is not changed, so a search can try a cut without
        making it. Only for cuts that pass :meth:`check`.
        """

    def remove_from(self, view: ModelView) -> None:
        """Take the structure out of ``view``'s model. Only mergers call this."""
        view.change_layers(self.changes(view))
