"""Sleb: drop whole layers one by one, each time the one that is missed least."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import attrs

from billhook import Budget, Cut, DropLayers, PruningState, Race, Search, Selector, hookimpl, typed
from billhook.errors import InvalidConfig
from billhook_strategies.selectors.block_pruner import possible


@attrs.frozen(kw_only=True, field_transformer=typed)
class Sleb(Selector):
    """Greedy removal of whole layers by the state's objective, scored anew after each (SLEB, arXiv 2402.09025).

    Attributes:
        protect_first: layers at the beginning that stay.
        protect_last: layers at the end that stay.
        race: rounds for a faster search that is not exact; None for the exact one.

    Ties go to the lower layer.
    """

    protect_first: int = 1
    protect_last: int = 1
    race: Race | None = None

    def __attrs_post_init__(self) -> None:
        if min(self.protect_first, self.protect_last) < 0:
            raise InvalidConfig("The protected layers of Sleb cannot be fewer than 0.")

    def needs_objective(self) -> bool:
        """True: it searches."""
        return True

    def select(self, state: PruningState, budget: Budget) -> Iterator[Cut]:
        """Layers until the dense model has lost what the budget says, or less than one layer more."""
        count = state.dense.original_layer_count
        free = range(self.protect_first, count - self.protect_last)
        search = Search(state, budget.parameter_count(state.dense), race=self.race)
        if not state.cuts and budget.layer_count(state.dense) > len(free):
            raise InvalidConfig(
                f"{budget} means {budget.layer_count(state.dense)} layers, but only {len(free)} are not protected "
                f"(first {self.protect_first}, last {self.protect_last}). Ask for less, or protect fewer."
            )
        while not search.done:
            cuts = [DropLayers(number, number + 1) for number in state.model.numbers if number in free]
            yield search.best([cut for cut in cuts if possible(cut, state.model)])


@hookimpl
def billhook_register_selectors(register: Callable[[str, Callable[..., Selector]], None]) -> None:
    """``sleb``."""
    register("sleb", Sleb)
