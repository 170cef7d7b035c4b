"""FixedWindows: drop the layers that the user names."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator

import attrs

from billhook import Budget, Cut, DropLayers, PruningState, Selector, hookimpl, typed
from billhook.errors import InvalidConfig, InvalidCut


@attrs.frozen(kw_only=True, field_transformer=typed)
class FixedWindows(Selector):
    """Spans given beforehand: no data are looked at. The budget is not consulted; the spans are the budget.

    Attributes:
        spans: ``(start, stop)`` pairs, half-open, original layer numbers. Cut in layer order.
    """

    spans: tuple[tuple[int, int], ...]

    def __attrs_post_init__(self) -> None:
        cuts = [DropLayers(start, stop) for start, stop in sorted(self.spans)]
        if not cuts:
            raise InvalidConfig("FixedWindows needs at least one span.")
        for before, after in itertools.pairwise(cuts):
            if after.start < before.stop:
                raise InvalidConfig(f"The windows {before} and {after} overlap.")

    def select(self, state: PruningState, budget: Budget) -> Iterator[Cut]:
        """The spans, all checked before the first is cut."""
        cuts = [DropLayers(start, stop) for start, stop in sorted(self.spans)]
        for cut in cuts:
            cut.check(state.model)
        if sum(map(len, cuts)) >= len(state.model.numbers):
            raise InvalidCut(f"The windows {', '.join(map(str, cuts))} leave no layer.")
        yield from cuts


@hookimpl
def billhook_register_selectors(register: Callable[[str, Callable[..., Selector]], None]) -> None:
    """``fixed-windows``."""
    register("fixed-windows", FixedWindows)
