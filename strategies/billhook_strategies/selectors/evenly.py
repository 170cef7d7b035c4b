"""Evenly: as many units out of every branch, so that all layers stay alike and stock code can load the result."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from loguru import logger

from billhook import Branch, Cut, ModelView, Place, PruningState, can_be_uniform, keeping, refuse_hopeless
from billhook.errors import InvalidConfig

Sizes = Mapping[Place, Mapping[int, int]]
"""Of each branch: by how many units may go, the parameters that would go with them."""


def evenly(
    state: PruningState, target: int, sizes: Sizes, order: Callable[[int], Mapping[Place, Sequence[int]]]
) -> Iterator[Cut]:
    """One cut of each branch, in the order of the stream: the fewest units that meet the budget, as many in each.

    Args:
        state: the model that gets narrower, with what has gone before.
        target: parameters of the dense model that are to be gone afterwards.
        sizes: of the branches, in the order of the stream. What may not go from all of them goes from none.
        order: given how many are to go, of each branch those units by original number, the first to go first. Asked
            once, before the first cut, so all are chosen by the present statistics.

    Raises:
        InvalidConfig: a stock checkpoint could not hold the result, or the branches have too few parameters, both
            before any work; or a hook vetoes a cut, which would leave the layers unlike.
    """
    if state.removed_parameters >= target:
        return
    narrowed: list[Branch] = [branch for _, branch in sizes]
    for branch in dict.fromkeys(narrowed):
        if not can_be_uniform(state.model, branch):
            raise InvalidConfig(
                f"The {branch} branches of a {state.model.model.config.model_type} model cannot get narrower and stay "
                f"stock: its config cannot say so. Leave that stage out (a share of 0), or do without uniform."
            )
    totals = _totals(sizes)
    refuse_hopeless(state, target, max(totals.values(), default=0))
    missing = target - state.removed_parameters
    count = min(count for count, total in totals.items() if total >= missing)
    logger.info("Every branch that gets narrower loses {} units.", count)
    going = order(count)
    cuts = [keeping(place, {*state.model.units(*place)} - {*going[place][:count]}) for place in sizes]
    for cut in cuts:
        yield cut
        if cut in state.vetoed:
            raise InvalidConfig(
                f"All {cut.branch} branches were to get narrower alike, but a hook vetoed {cut}. Do without uniform, "
                f"or without the veto."
            )


def sizes_of(view: ModelView, place: Place, counts: Iterable[int]) -> dict[int, int]:
    """By each of ``counts``, how many parameters go with so many units of a branch; one at least must stay."""
    units = view.units(*place)
    each = keeping(place, units[1:]).parameter_count(view) if len(units) > 1 else 0
    return {count: count * each for count in counts}


def _totals(sizes: Sizes) -> dict[int, int]:
    """The same for all branches together, of the numbers that may go from each."""
    every = [*sizes.values()]
    common = [count for count in (every[0] if every else ()) if all(count in own for own in every)]
    return {count: sum(own[count] for own in every) for count in common}
