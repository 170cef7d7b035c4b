"""Selector: the role that proposes cuts."""

from __future__ import annotations

import abc
from collections.abc import Iterator
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from billhook.cuts.cut import Cut
    from billhook.plans.budget import Budget
    from billhook.roles.state import PruningState


class Selector(abc.ABC):
    """Proposes what to remove. Reads the state, changes nothing.

    Subclasses are final attrs classes (frozen), so that equality, ``repr`` and JSON come from their options.

    Attributes:
        meets_budget: whether its cuts are to meet the budget; if not, nobody wonders when they do not.
    """

    meets_budget: ClassVar[bool] = True

    @abc.abstractmethod
    def select(self, state: PruningState, budget: Budget) -> Iterator[Cut]:
        """Yield one cut at a time until ``budget`` is met.

        This is a generator: by the time it is resumed, ``state.model`` has lost the yielded cut *and been
        repaired*, unless a hook vetoed it, in which case the cut stands in ``state.vetoed``. A one-shot
        selector ignores that and yields its cuts in a row; a greedy one scores again. Same state, budget and
        options, same cuts; ties go to the lower layer number.

        Raises:
            InvalidConfig: the budget cannot be met with the protected layers; raised before the first cut.
        """

    def kinds(self) -> tuple[type[Cut], ...]:
        """The kinds of cut that it may yield: whole layers unless overridden.

        Asked before any work, to refuse early what cannot be repaired or saved as wished.
        """
        from billhook.cuts.drop_layers import DropLayers

        return (DropLayers,)

    def needs_objective(self) -> bool:
        """Whether it searches, and so needs ``state.objective``; the Pruner then takes perplexity if none was given."""
        return False
