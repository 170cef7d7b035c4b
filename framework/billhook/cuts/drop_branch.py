"""DropBranch: the attention or the MLP of one layer goes."""

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


@attrs.frozen
class DropBranch(Cut):
    """The ``attention`` or ``mlp`` branch of one layer goes, with its norm; the stream passes it by.

    A layer that has lost its other branch before goes as a whole.
    """

    kind: ClassVar[str] = "drop-branch"

    layer: int
    branch: Branch

    def __attrs_post_init__(self) -> None:
        if type(self.layer) is not int:
            raise InvalidCut(f"DropBranch takes the number of a layer; got {self.layer!r}.")
        if self.layer < 0:
            raise InvalidCut(f"DropBranch needs a layer of 0 or more; got {self.layer}.")
        if self.branch not in BRANCHES:
            raise InvalidCut(f"The 'branch' of DropBranch must be 'attention' or 'mlp'; got {self.branch!r}.")

    def __str__(self) -> str:
        return f"{self.branch} {self.layer}"

    @property
    def other(self) -> Branch:
        """The branch of that layer which stays."""
        return "mlp" if self.branch == "attention" else "attention"

    @property
    def branches(self) -> tuple[Place, ...]:
        """The branch that goes, alone."""
        return ((self.layer, self.branch),)

    def check(self, view: ModelView) -> None:
        """Raise :class:`InvalidCut` unless the branch is there and another one survives."""
        if not view.has_branch(self.layer, self.branch):
            raise InvalidCut(f"{self} cannot be dropped: it is not there. {view.describe_layer(self.layer)}")
        if len(view.numbers) == 1 and not view.has_branch(self.layer, self.other):
            raise InvalidCut(f"{self} cannot be dropped: it is the last branch of the model. Ask for less.")
        whole = not view.has_branch(self.layer, self.other)
        if self.branch == "attention" or whole:
            view.refuse_without_attention([self.layer], str(self), whole=whole)

    def repair_site(self, view: ModelView) -> RepairSite | None:
        """The nearest surviving branch before it: of an MLP the attention of its layer, of an attention an MLP."""
        return site_before(view, lambda place: place == (self.layer, self.branch))

    def changes(self, view: ModelView) -> Mapping[int, LayerVersion | None]:
        """The layer without the branch, or None when nothing would be left of it."""
        from billhook.model.layer_version import LayerVersion  # not above: plugins load without torch
        from billhook.model.surgery import without_branch

        if not view.has_branch(self.layer, self.other):
            return {self.layer: None}
        version = without_branch(view.layer(self.layer), self.branch, view.adapter.layout(self.branch))
        return {self.layer: LayerVersion(version, {self.branch: ()})}
