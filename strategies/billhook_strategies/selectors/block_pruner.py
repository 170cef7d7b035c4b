"""BlockPruner: drop attention and MLP branches one by one, each time the one that is missed least."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Literal

import attrs
from loguru import logger

from billhook import (
    Branch,
    Budget,
    Cut,
    DropBranch,
    ModelView,
    PruningState,
    Race,
    Search,
    Selector,
    hookimpl,
    refuse_hopeless,
    typed,
)
from billhook.errors import InvalidConfig, InvalidCut

_BRANCHES: dict[str, tuple[Branch, ...]] = {"mix": ("attention", "mlp"), "mha": ("attention",), "mlp": ("mlp",)}


@attrs.frozen(kw_only=True, field_transformer=typed)
class BlockPruner(Selector):
    """Greedy removal of single branches by the state's objective, scored anew after each (arXiv 2406.10594, section 3).

    Attributes:
        branches: which may go: ``mha`` (attention), ``mlp``, or ``mix`` (both).
        first_attention: whether the first layer's attention may go. It is kept unless asked for: the attention of the
            first layer sets up the sink that later layers rely on, and a model without it cannot be decoded by code
            that reads the cache's length from the first layer.
        race: rounds for a faster search that is not exact; None for the exact one.

    Ties go to the lower layer, and to attention before MLP. A layer that loses both branches goes as a whole.
    """

    branches: Literal["mix", "mha", "mlp"] = "mix"
    first_attention: bool = False
    race: Race | None = None

    def __attrs_post_init__(self) -> None:
        if self.branches not in ("mix", "mha", "mlp"):
            raise InvalidConfig(f"The 'branches' of BlockPruner must be 'mix', 'mha' or 'mlp'; got {self.branches!r}.")

    def needs_objective(self) -> bool:
        """True: it searches."""
        return True

    def kinds(self) -> tuple[type[Cut], ...]:
        """Single branches."""
        return (DropBranch,)

    def select(self, state: PruningState, budget: Budget) -> Iterator[Cut]:
        """Branches until the dense model has lost what the budget says, or a little more."""
        if not self.first_attention and self.branches != "mlp":
            logger.info(
                "The first layer's attention is kept: it sets up the sink that later layers rely on. The option "
                "first_attention lets it go."
            )
        target = budget.parameter_count(state.dense)
        search = Search(state, target, race=self.race)
        refuse_hopeless(state, target, removable(state.model, self._candidates(state.model)))
        while not search.done:
            yield search.best(self._candidates(state.model))

    def _candidates(self, view: ModelView) -> list[DropBranch]:
        allowed = _BRANCHES[self.branches]
        cuts = [
            DropBranch(number, branch)
            for number in view.numbers
            for branch in allowed
            if view.has_branch(number, branch)
            and (self.first_attention or (number, branch) != (view.numbers[0], "attention"))
        ]
        return [cut for cut in cuts if possible(cut, view)]


def removable(view: ModelView, cuts: Sequence[DropBranch]) -> int:
    """Parameters of all these branches; of a layer that may lose all its branches, the layer's."""
    most = 0
    for number in view.numbers:
        here = [cut for cut in cuts if cut.layer == number]
        whole = len(here) == sum(view.has_branch(number, branch) for branch in _BRANCHES["mix"])
        layer = sum(parameter.numel() for parameter in view.layer(number).parameters())
        most += layer if whole else sum(cut.parameter_count(view) for cut in here)
    return most


def possible(cut: Cut, view: ModelView) -> bool:
    """Whether ``view`` can lose it now."""
    try:
        cut.check(view)
    except InvalidCut:
        return False
    return True


@hookimpl
def billhook_register_selectors(register: Callable[[str, Callable[..., Selector]], None]) -> None:
    """``block-pruner``."""
    register("block-pruner", BlockPruner)
