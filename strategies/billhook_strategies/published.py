"""PublishedCuts: what MultiPruner and BlockPruner have published for a model."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import attrs

from billhook import Budget, Cut, DropBranch, KeepChannels, KeepHeads, PruningState, Published, Selector, hookimpl
from billhook.removals import without


@attrs.frozen(kw_only=True)
class PublishedCuts(Selector):
    """The cuts of a published file: no data are looked at. The budget is not consulted; the file is the budget.

    Attributes:
        content: the JSON of the file; see :class:`billhook.Published`.
        steps: of a BlockPruner list, how many removals; None for all.
        reordered: whether a narrowed branch keeps its units of the largest weight norm; if not, the first ones.

    Branches go first, in the published order, then MLPs get narrower, then attentions, layer by layer.
    """

    content: Mapping[str, Any]
    steps: int | None = None
    reordered: bool = True

    def __attrs_post_init__(self) -> None:
        self._published()

    def select(self, state: PruningState, budget: Budget) -> Iterator[Cut]:
        """The cuts, all checked before the first is made."""
        cuts = self._published().cuts(state.dense)
        without(state.model, cuts)
        yield from cuts

    def kinds(self) -> tuple[type[Cut], ...]:
        """Branches, and units of them."""
        return (DropBranch, KeepChannels, KeepHeads)

    def _published(self) -> Published:
        return Published(content=self.content, steps=self.steps, reordered=self.reordered)


@hookimpl
def billhook_register_selectors(register: Callable[[str, Callable[..., Selector]], None]) -> None:
    """``published``."""
    register("published", PublishedCuts)
