"""Channels: make MLPs narrower, a group of channels at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import attrs

from billhook import Budget, Cut, KeepChannels, PruningState, Race, Selector, UnitRule, hookimpl, typed
from billhook_strategies.selectors.narrowing import Narrowing, refuse_bad_options


@attrs.frozen(kw_only=True, field_transformer=typed)
class Channels(Selector):
    """The second stage of MultiPruner (arXiv 2501.09949): greedy, scored anew after each group.

    Attributes:
        group: channels in a group; a quarter of the stream's width if None, as published.
        score: which channels of a layer go first: those that are worth least by this rule, see
            :data:`billhook.UnitRule`; ``weight-l1`` as published.
        uniform: take as many groups out of every MLP, without searching, so that stock code can load the result. The
            rule ``obs`` and a repair by ``refit`` then are what ZipLM (arXiv 2302.04089) does to an MLP, at one width.
        race: rounds for a faster search that is not exact; None for the exact one.

    An MLP keeps at least one channel. Ties go to the lower layer.
    """

    group: int | None = None
    score: UnitRule = "weight-l1"
    uniform: bool = False
    race: Race | None = None

    def __attrs_post_init__(self) -> None:
        refuse_bad_options("Channels", self.group, self.score)

    def needs_objective(self) -> bool:
        """Unless it does not search."""
        return not self.uniform

    def kinds(self) -> tuple[type[Cut], ...]:
        """Channels."""
        return (KeepChannels,)

    def select(self, state: PruningState, budget: Budget) -> Iterator[Cut]:
        """Channels until the dense model has lost what the budget says, or less than a group more."""
        group = self.group or max(1, state.dense.d_model // 4)
        narrowing = Narrowing(branch="mlp", group=group, score=self.score, uniform=self.uniform, race=self.race)
        yield from narrowing.select(state, budget.parameter_count(state.dense))


@hookimpl
def billhook_register_selectors(register: Callable[[str, Callable[..., Selector]], None]) -> None:
    """``channels``."""
    register("channels", Channels)
