"""Allocation: how much each branch is to lose so that the whole loses least."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from typing import Generic, TypeVar

import attrs

K = TypeVar("K", bound=Hashable)


@attrs.frozen
class Offer:
    """What a branch can lose.

    Attributes:
        parameters: how many would go.
        loss: what that would cost, as much as the offers before it included.
    """

    parameters: int
    loss: float


@attrs.frozen
class _Stretch(Generic[K]):
    """From one corner of a branch's hull to the next."""

    owner: K
    offer: int
    slope: float


def allocate(offers: Mapping[K, Sequence[Offer]], missing: int) -> dict[K, int]:
    """Which offer to take of each branch, so that ``missing`` parameters go and the summed loss is least.

    Of each branch only the corners of the lower convex hull count; among those, always the cheapest stretch for what
    it saves goes next. That is optimal for every sum that it passes through; the last stretch is cut short where it
    would overshoot.

    Args:
        offers: of each branch, by rising parameters and loss; taking nothing is always possible.
        missing: more than all offers together: all are taken.

    Returns:
        The place of an offer by branch; branches that lose nothing are left out.
    """
    stretches = [stretch for owner, own in offers.items() for stretch in _hull(owner, own)]
    taken: dict[K, int] = {}
    for stretch in sorted(stretches, key=lambda s: s.slope):  # stable, and slopes rise along each hull
        own = offers[stretch.owner]
        begin = own[taken[stretch.owner]].parameters if stretch.owner in taken else 0
        if missing <= 0:
            break
        first = taken.get(stretch.owner, -1) + 1
        enough = (place for place in range(first, stretch.offer) if own[place].parameters - begin >= missing)
        place = next(enough, stretch.offer)
        taken[stretch.owner] = place
        missing -= own[place].parameters - begin
    return taken


def _hull(owner: K, own: Sequence[Offer]) -> Iterator[_Stretch[K]]:
    """The corners of the lower convex hull from nothing on, by Jarvis' march."""
    at, parameters, loss = -1, 0, 0.0
    while at + 1 < len(own):
        slopes = {
            place: (own[place].loss - loss) / (own[place].parameters - parameters) for place in range(at + 1, len(own))
        }
        at = min(reversed(slopes), key=lambda place: slopes[place])  # of equal ones the furthest
        yield _Stretch(owner, at, slopes[at])
        parameters, loss = own[at].parameters, own[at].loss
