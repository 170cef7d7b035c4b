"""Where cuts are repaired: which surviving writer makes up for a loss, and what it is to bring about."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import attrs

from billhook.model.branch import Branch, Place

if TYPE_CHECKING:
    from billhook.model.view import ModelView


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


def site_before(view: ModelView, goes: Callable[[Place], bool]) -> RepairSite | None:
    """For cuts that drop branches: the donor is the nearest survivor before the first of those that go.

    Args:
        view: before the cut.
        goes: whether a branch goes; those that do are neighbours.

    Returns:
        None when nothing survives before the cut.
    """
    places = view.branches()
    gone = [index for index, place in enumerate(places) if goes(place)]
    if not gone or gone[0] == 0:
        return None
    return _site(view, places[gone[0] - 1], places[gone[-1] + 1 :])


def site_within(view: ModelView, place: Place) -> RepairSite:
    """For cuts that leave a part of a branch: its own writer makes up for the rest.

    Args:
        view: before the cut.
        place: the branch, which must be there; ``ValueError`` if it is not.
    """
    places = view.branches()
    return _site(view, place, places[places.index(place) + 1 :])


def _site(view: ModelView, donor: Place, after: list[Place]) -> RepairSite:
    """The target is what the next surviving branch reads: whatever else stood before it is gone, and made up for."""
    number, branch = after[0] if after else (view.original_layer_count, "attention")
    return RepairSite(layer=donor[0], branch=donor[1], target=number, between=branch == "mlp")
