"""Proposals: the cuts that a selector yields, and what is no such thing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING

from billhook.cuts.cut import Cut
from billhook.errors import PluginError
from billhook.log import logger

if TYPE_CHECKING:
    from billhook.plans.budget import Budget
    from billhook.roles.selector import Selector
    from billhook.roles.state import PruningState

PATIENCE = 3
"""How often a vetoed cut may be proposed again before anything else was cut. More never ends."""


def proposals(selector: Selector, state: PruningState, budget: Budget) -> Iterator[Cut]:
    """What ``selector`` yields, looked at.

    Raises:
        PluginError: it gives no iterator, yields what is no cut or a cut of a kind that it does not announce, or
            proposes a vetoed cut for ever.
    """
    found = selector.select(state, budget)
    if not isinstance(found, Iterator):
        raise PluginError(
            f"The selector {selector!r} must yield its cuts one by one, so that each is chosen when those before it "
            f"were made; its select gave {type(found).__name__}. Write it with yield."
        )
    kinds = tuple(selector.kinds())
    again: Counter[Cut] = Counter()
    made = 0
    for cut in found:
        if not isinstance(cut, Cut):
            raise PluginError(f"The selector {selector!r} yields {cut!r}, which is no cut.")
        if not isinstance(cut, kinds):
            raise PluginError(
                f"The selector {selector!r} yields {cut}, a {type(cut).__name__}, and announces "
                f"{', '.join(kind.__name__ for kind in kinds) or 'nothing'}: name it in kinds() as well."
            )
        if len(state.cuts) != made:
            made = len(state.cuts)
            again.clear()
        if cut in state.vetoed:
            again[cut] += 1
            _refuse_endless(selector, cut, again[cut])
        yield cut


def tell_nothing_cut(selector: Selector, state: PruningState) -> None:
    """Warn that the model is as it was, and whose doing it is: the selector's, or that of hooks that vetoed all."""
    if state.vetoed:
        vetoed = len(set(state.vetoed))
        logger.warning("Nothing was cut: hooks vetoed all that the selector {!r} proposed ({} cuts).", selector, vetoed)
    else:
        logger.warning("Nothing was cut: the selector {!r} proposed nothing.", selector)


def tell_missed(selector: Selector, state: PruningState, budget: Budget, before_last: int) -> None:
    """Warn where the cuts are too few for the budget, or went on when it was met.

    Args:
        selector: chose them.
        state: with all cuts made.
        budget: that was to be met.
        before_last: parameters that were gone before the last cut.
    """
    wanted, gone = budget.parameter_count(state.dense), state.removed_parameters
    if budget.layers is not None:
        layers = len(state.dense.numbers) - len(state.model.numbers)
        if 0 < layers != budget.layers:
            logger.warning("The selector {!r} dropped {} layers of {} asked for.", selector, layers, budget.layers)
    elif gone < wanted:
        logger.warning(
            "The selector {!r} missed the budget: {:,} parameters are gone, {:,} were to go.", selector, gone, wanted
        )
    elif before_last >= wanted:
        logger.warning(
            "The selector {!r} went on when the budget was met: {:,} parameters are gone, {:,} were to go.",
            selector, gone, wanted,
        )  # fmt: skip


def _refuse_endless(selector: Selector, cut: Cut, times: int) -> None:
    if times > PATIENCE:
        raise PluginError(
            f"The selector {selector!r} proposes {cut} for ever, though it was vetoed: it must pass over what is in "
            f"state.vetoed."
        )
