"""Heads: make attention narrower, a key-value group at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import attrs

from billhook import Budget, Cut, KeepHeads, PruningState, Race, Selector, UnitRule, hookimpl, typed
from billhook_strategies.selectors.narrowing import Narrowing, refuse_bad_options


@attrs.frozen(kw_only=True, field_transformer=typed)
class Heads(Selector):
    """The third stage of MultiPruner (arXiv 2501.09949): greedy, scored anew after each group.

    Attributes:
        group: key-value heads in a group, with the query heads that read them; one as published.
        score: which heads of a layer go first: those that are worth least by this rule, see
            :data:`billhook.UnitRule`; ``weight-l1`` as published.
        uniform: take as many groups out of every attention, without searching, so that stock code can load the result.
        race: rounds for a faster search that is not exact; None for the exact one.

    An attention keeps at least one key-value head. Ties go to the lower layer.
    """

    group: int = 1
    score: UnitRule = "weight-l1"
    uniform: bool = False
    race: Race | None = None

    def __attrs_post_init__(self) -> None:
        refuse_bad_options("Heads", self.group, self.score)

    def needs_objective(self) -> bool:
        """Unless it does not search."""
        return not self.uniform

    def kinds(self) -> tuple[type[Cut], ...]:
        """Heads."""
        return (KeepHeads,)

    def select(self, state: PruningState, budget: Budget) -> Iterator[Cut]:
        """Heads until the dense model has lost what the budget says, or less than a group more."""
        narrowing = Narrowing(
            branch="attention", group=self.group, score=self.score, uniform=self.uniform, race=self.race
        )
        yield from narrowing.select(state, budget.parameter_count(state.dense))


@hookimpl
def billhook_register_selectors(register: Callable[[str, Callable[..., Selector]], None]) -> None:
    """``heads``."""
    register("heads", Heads)
